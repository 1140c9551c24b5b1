//! Bucket keys for gateways: many objects of a bucket for one call of the service.
//!
//! [`BucketKeys`] keeps a bucket key for each requester, bucket, master key and suite for some minutes, and derives the
//! data key of every object from it with a fresh salt. What it gives for an object is used as a data key is: seal the
//! object under [`ObjectKey::plaintext`] and keep [`ObjectKey::sealed`] with it, for instance as the sealed data key of an
//! [`envelope`](crate::envelope). `docs/bucket-keys.md` says what lies in those bytes and how the key is derived.
//!
//! What must hold, and does:
//!
//! - Every requester gets bucket keys of its own, because the service decides for each whether it may have one. So one
//!   whose permissions are others is another [`Requester`].
//! - A bucket key is used for no longer than its validity, counted from before it was asked for: the configured one, or
//!   what the service allows if that is less. For so long, and no longer, a key that was disabled or a grant that was
//!   revoked is still used. [`BucketKeys::invalidate_key`] and its like end it at once.
//! - A bucket key that is for writing reads nothing: who may make data keys need not be one who may open them.
//! - As many bucket keys are kept as was said, and no more; one that goes is wiped, and the service is told how many
//!   objects were put under it.
//! - Many who need the same bucket key at once make one call.
//!
//! The encryption context of a bucket key is `{"bucket": NAME}`. What policies and grants say of other pairs is not asked
//! for each object: who needs that makes a data key for each object.

mod cache;
mod calls;
mod clock;
mod counters;
mod error;
mod keep;
mod object_key;
mod reports;
mod source;
#[cfg(test)]
mod tests;

pub use cache::{BucketKeys, BucketKeysConfig, MOST_CAPACITY, MOST_VALIDITY};
pub use calls::{BucketKey, OpenedBucketKey};
pub use clock::{Clock, ManualClock, SystemClock};
pub use counters::{Counters, KeptCounters};
pub use error::Error;
pub use object_key::{ObjectKey, ObjectName, OpenedObjectKey};
pub use source::{BoxFuture, KeySource, Requester};
