//! How an encrypted object lies on the disk: streams of sealed segments, bound to their place, and the tag that binds
//! the streams of an object together. `docs/object-format.md` describes the bytes.
//!
//! A stream is what one upload request brought: a whole object, or one part of a multipart upload. Each has a salt of
//! its own, so a part that is uploaded again never meets the key and nonces of the first time.

mod binding;
mod header;
mod layout;
mod manifest;
mod stream;
mod suite;
#[cfg(test)]
mod tests;

pub use binding::Binding;
pub use header::{HEADER_LENGTH, Header};
pub use layout::Layout;
pub use manifest::{Manifest, ManifestPart, ManifestTag};
pub use stream::StreamCipher;
pub use suite::{ObjectKey, Suite, TAG_LENGTH};

/// Bytes of plaintext in every segment but the last of a stream.
pub const SEGMENT_LENGTH: usize = 1 << SEGMENT_EXPONENT;
const SEGMENT_EXPONENT: u8 = 16;

/// Why a stream was not sealed or not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin as a stream does, or in a version that this program does not know.
    #[error("this is not an encrypted stream of a known version")]
    UnknownFormat,
    /// It is shorter or longer than it was when it was stored.
    #[error("the stream has another length than it was stored with")]
    Length,
    /// A changed, missing, moved or added byte, or the key of something else.
    #[error("the stream is not authentic")]
    NotAuthentic,
    /// More than 2^32 segments: 256 TiB.
    #[error("a stream has at most 2^32 segments")]
    TooLong,
    /// The data key has not the length that the suite asks for.
    #[error("the data key has the wrong length")]
    KeyLength,
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Randomness,
}
