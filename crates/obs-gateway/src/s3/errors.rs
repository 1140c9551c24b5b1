//! What the face answers when the gateway refuses: one mapping for all operations.

use std::io::ErrorKind;

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode, s3_error};

use crate::{
    gateway::Error,
    sse::{KeyError, Rejection},
    store,
};

/// A refusal in the words of S3.
pub(super) fn s3(error: impl Into<Error>) -> S3Error {
    match error.into() {
        Error::Store(error) => of_store(&error),
        Error::Key(error) => of_key(&error),
        Error::Denied => s3_error!(AccessDenied, "Access Denied"),
        error @ Error::Policy => internal(&error),
    }
}

fn of_store(error: &store::Error) -> S3Error {
    use store::Error as Of;
    match error {
        Of::NoSuchBucket => s3_error!(NoSuchBucket, "{error}"),
        Of::BucketExists => s3_error!(BucketAlreadyExists, "{error}"),
        Of::BucketNotEmpty => s3_error!(BucketNotEmpty, "{error}"),
        Of::BucketName => s3_error!(InvalidBucketName, "{error}"),
        Of::NoSuchObject => s3_error!(NoSuchKey, "{error}"),
        Of::ObjectName => s3_error!(KeyTooLongError, "{error}"),
        Of::NoSuchUpload => s3_error!(NoSuchUpload, "{error}"),
        Of::PartNumber => s3_error!(InvalidArgument, "{error}"),
        Of::InvalidPart(_) => s3_error!(InvalidPart, "{error}"),
        Of::PartOrder => s3_error!(InvalidPartOrder, "{error}"),
        Of::PartTooSmall(_) => s3_error!(EntityTooSmall, "{error}"),
        Of::TooLarge => s3_error!(EntityTooLarge, "{error}"),
        Of::Io(cause) if matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            full(error)
        }
        Of::Damaged(_) | Of::DamagedRecord { .. } | Of::InUse | Of::Randomness | Of::Io(_) => internal(error),
    }
}

/// Not 503, which clients try again at once: only the operator makes room.
// RFC 4918, section 11.5.
fn full(error: &store::Error) -> S3Error {
    tracing::error!(%error, "there is no room left");
    let code = S3ErrorCode::from_bytes(b"InsufficientStorage").unwrap_or(S3ErrorCode::InternalError);
    let mut answer = S3Error::with_message(code, "the store's disk is full: nothing was changed");
    answer.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
    answer
}

// S3: the codes that AWS answers for keys that cannot be used.
// OBS: the API's table of error codes (obs_04_0115) has the same for keys that are disabled or unknown.
fn of_key(error: &KeyError) -> S3Error {
    match error {
        KeyError::Rejected(rejection) => of_rule(rejection),
        KeyError::Denied(_) | KeyError::DeniedForAll(_) | KeyError::NotServed => {
            s3_error!(AccessDenied, "{error}")
        }
        KeyError::NotFound => of_kms("KMS.NotFoundException", error),
        KeyError::Disabled => of_kms("KMS.DisabledException", error),
        KeyError::State => of_kms("KMS.KMSInvalidStateException", error),
        KeyError::NotAuthentic => internal(error),
        KeyError::Throttled => s3_error!(SlowDown, "{error}"),
        KeyError::Unavailable(_) => {
            tracing::warn!(%error, "a data key was not to be had");
            s3_error!(ServiceUnavailable, "the key service is not available")
        }
    }
}

fn of_rule(rejection: &Rejection) -> S3Error {
    match rejection {
        Rejection::Value(_)
        | Rejection::NeedsMode(_)
        | Rejection::NeedsKeyId
        | Rejection::ContextUnderBucketKey
        | Rejection::ContextTooLong
        | Rejection::NotTaken
        | Rejection::KeyId
        | Rejection::KeySpec => {
            s3_error!(InvalidArgument, "{rejection}")
        }
        Rejection::NotOffered(_) => s3_error!(NotImplemented, "{rejection}"),
        Rejection::NotHere => of_kms("KMS.NotFoundException", rejection),
        Rejection::DefaultAcrossAccounts | Rejection::OtherService(_) | Rejection::NeedsHttps => {
            s3_error!(AccessDenied, "{rejection}")
        }
    }
}

fn of_kms(code: &str, error: &impl std::fmt::Display) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InvalidRequest);
    let mut answer = S3Error::with_message(code, error.to_string());
    answer.set_status_code(StatusCode::BAD_REQUEST);
    answer
}

/// What only the operator is told.
pub(super) fn internal(error: &impl std::fmt::Display) -> S3Error {
    tracing::error!(%error, "a request failed");
    s3_error!(InternalError, "what was stored cannot be answered")
}

/// What this gateway does not offer.
pub(super) fn not_offered(what: &str) -> S3Error {
    s3_error!(NotImplemented, "{what} is not offered")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let answered = |kind: ErrorKind| {
            let answer = s3(store::Error::Io(io::Error::from(kind)));
            (answer.code().as_str().to_owned(), answer.status_code().map(|status| status.as_u16()))
        };
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            assert_eq!(answered(kind), ("InsufficientStorage".to_owned(), Some(507)));
        }
        assert_eq!(answered(ErrorKind::Other), ("InternalError".to_owned(), Some(500)));
    }
}
