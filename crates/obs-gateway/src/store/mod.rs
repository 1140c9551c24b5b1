//! Buckets and objects on a directory.
//!
//! ```text
//! DIR/lock                                  held while a gateway runs
//! DIR/buckets/NAME/bucket.json              owner, encryption, policy
//! DIR/buckets/NAME/objects/HASH.json        an object's record; HASH is the SHA-256 of its key
//! DIR/buckets/NAME/data/ID                  a stream, written once, named by records only
//! DIR/buckets/NAME/uploads/ID/upload.json   a multipart upload, with NUMBER.json for each part that came
//! DIR/staging/                              buckets that are being made or removed
//! ```
//!
//! A stream is on the disk, and its directory entry too, before a record names it; the record is renamed into its
//! place. So an object is there as a whole or not at all, whenever the machine stops. What no record names is removed
//! at the start. Records are read once, at the start, and kept in memory: some hundred bytes for each object.
//!
//! All of this blocks: callers have threads for it.

mod bucket;
mod error;
mod files;
mod listing;
mod object;
mod reader;
mod root;
#[cfg(test)]
mod tests;
mod upload;
mod writer;

pub use bucket::{Bucket, BucketEncryption, BucketSettings};
pub use error::Error;
pub use listing::{Listing, Selection};
pub use object::{Encryption, Object, ObjectRecord, Part};
pub use reader::ObjectReader;
pub use root::Store;
pub use upload::{FinishedPart, Upload, UploadRecord};
pub use writer::{Stored, StreamPlace, StreamWriter};
