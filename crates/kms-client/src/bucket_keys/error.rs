//! What can go wrong with the key of an object, as data.

use std::sync::Arc;

/// Why there is no key for an object.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service did not make or open the bucket key. Shared, because all who waited for the same call get it.
    #[error(transparent)]
    Service(#[from] Arc<crate::Error>),
    /// The sealed key is none of an object under a bucket key, or of a form that this crate does not know.
    #[error("this is no sealed key of an object under a bucket key")]
    Malformed,
    /// The sealed key says another suite than its bucket key is for.
    #[error("the key of the object does not fit its bucket key")]
    SuiteMismatch,
    /// The calls of the service took longer than a bucket key is valid.
    #[error("a bucket key was over before it could be used")]
    Outlasted,
    /// The task that asked the service for the bucket key ended without an answer: the runtime is going down.
    #[error("nobody waits for the service any more")]
    Interrupted,
    /// The bucket keys were [closed](super::BucketKeys::close).
    #[error("the bucket keys are closed")]
    Closed,
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Randomness,
}

impl Error {
    /// The stable reason that the service gave for a refusal, such as `KEY_DISABLED`.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Service(error) => error.reason(),
            _ => None,
        }
    }
}
