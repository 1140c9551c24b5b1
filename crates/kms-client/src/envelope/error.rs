//! What can go wrong with an envelope, as data.

use std::io;

use super::Suite;

/// Why an envelope was not made or not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not begin as an envelope does.
    #[error("this is not an envelope")]
    NotAnEnvelope,
    /// An envelope of a format version that this crate does not know.
    #[error("envelope format version {0} is unknown")]
    UnknownVersion(u8),
    /// An envelope of a suite that this crate does not know.
    #[error("envelope suite {0} is unknown")]
    UnknownSuite(u8),
    /// A segment size exponent outside of 10..=24.
    #[error("a segment size of 2^{0} bytes is not allowed")]
    SegmentSize(u8),
    /// A sealed data key must have 1 to 65535 bytes.
    #[error("a sealed data key of {0} bytes is not allowed")]
    SealedKeyLength(usize),
    /// It ends too early.
    #[error("the envelope is truncated")]
    Truncated,
    /// A changed, missing, moved or added byte, or the wrong data key.
    #[error("the envelope cannot be opened: it is not authentic")]
    NotAuthentic,
    /// More than 2^32 segments.
    #[error("an envelope has at most 2^32 segments")]
    TooManySegments,
    /// The range ends beyond the plaintext.
    #[error("the range ends beyond the plaintext of {length} bytes")]
    RangeBeyondEnd {
        /// Bytes of the plaintext.
        length: u64,
    },
    /// A data key that does not fit the suite.
    #[error("the suite {suite:?} takes a data key of {} bytes, not {actual}", suite.key_length())]
    DataKeyLength {
        /// The suite of the envelope.
        suite: Suite,
        /// Bytes of the data key.
        actual: usize,
    },
    /// The caller of [`super::Sealer`] gave a segment of a wrong length: every one but the last is full, and the last
    /// one is empty only if it is the first.
    #[error("a segment of {0} bytes cannot be sealed here")]
    SegmentLength(usize),
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Randomness,
    /// The reader or the writer failed.
    #[error("input or output failed")]
    Io(#[from] io::Error),
    /// The service did not make or open the data key.
    #[error(transparent)]
    Service(#[from] crate::Error),
}
