//! What can go wrong in the store, as data.

use std::{io, path::PathBuf};

use crate::format;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No bucket has this name.
    #[error("the bucket does not exist")]
    NoSuchBucket,
    /// A bucket has this name already.
    #[error("the bucket exists")]
    BucketExists,
    /// The bucket holds objects or parts of uploads.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// Not 3 to 63 lower-case letters, digits, hyphens and dots, beginning and ending with a letter or digit.
    #[error("this is not a bucket's name")]
    BucketName,
    /// No object has this key.
    #[error("the object does not exist")]
    NoSuchObject,
    /// Not 1 to 1024 bytes.
    #[error("an object's key has 1 to 1024 bytes")]
    ObjectName,
    /// No upload under way has this id for this object.
    #[error("the upload does not exist")]
    NoSuchUpload,
    /// Not 1 to 10000.
    #[error("a part's number is 1 to 10000")]
    PartNumber,
    /// A part that is named did not come, or has another ETag.
    #[error("part {0} is not as named")]
    InvalidPart(u32),
    /// The parts are not named in ascending order, or none is.
    #[error("the parts are not in ascending order")]
    PartOrder,
    /// A part other than the last is smaller than [`super::Upload::SMALLEST_PART`].
    #[error("part {0} is too small")]
    PartTooSmall(u32),
    /// More bytes than a stream can have.
    #[error("the object is too large")]
    TooLarge,
    /// What was stored is not whole or not authentic; nothing of it was answered.
    #[error("what was stored is damaged: {0}")]
    Damaged(format::Error),
    /// A record on the disk cannot be read; somebody has to look at it before the store is opened.
    #[error("the record {path} is damaged: {reason}")]
    DamagedRecord {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another gateway has opened the directory.
    #[error("the directory is in use by another gateway")]
    InUse,
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Randomness,
    /// The disk failed.
    #[error("the disk failed: {0}")]
    Io(#[from] io::Error),
}

impl From<format::Error> for Error {
    fn from(error: format::Error) -> Self {
        match error {
            format::Error::TooLong => Self::TooLarge,
            format::Error::Randomness => Self::Randomness,
            damage => Self::Damaged(damage),
        }
    }
}
