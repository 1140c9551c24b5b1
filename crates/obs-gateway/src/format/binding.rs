//! What a stream is bound to.

/// The place of a stream. A stream that is read as that of another place does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The object's key in the bucket.
    pub object: &'a str,
    /// The multipart upload; empty for an object that came in one piece.
    pub upload_id: &'a str,
    /// The number of the part, from 1; 0 for an object that came in one piece.
    pub part_number: u32,
}

impl Binding<'_> {
    /// Appends the place, each text after its length, so that no two places have the same bytes.
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>) {
        for text in [self.bucket, self.object, self.upload_id] {
            append_text(bytes, text);
        }
        bytes.extend_from_slice(&self.part_number.to_be_bytes());
    }
}

/// A text after its length in eight bytes.
pub(super) fn append_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}
