//! The one mapping from the domain's errors to gRPC status and google.rpc details.

use std::{collections::HashMap, time::Duration};

use kms_core::{
    Error, Refused, RequestId,
    error::{CheckpointRefusal, Throttled},
};
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::traffic::told;

/// The domain of all ErrorInfo details.
const DOMAIN: &str = "kms.dewpoint";
/// When to try again after a fault of a part that heals or is repaired.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(1);

/// The status of a refusal, with its details and the call's id.
pub(crate) fn of(refused: &Refused, request_id: RequestId) -> Status {
    of_error(refused.error(), request_id)
}

/// The same of what ends a call that was recorded and begun.
pub(crate) fn of_error(error: &Error, request_id: RequestId) -> Status {
    let mut info = HashMap::from([("request_id".to_owned(), request_id.to_string())]);
    if let Error::PermissionDenied { missing, denial } = error {
        info.insert("missing_action".to_owned(), missing.name().to_owned());
        info.insert("denial".to_owned(), denial.code().to_owned());
    }
    if let Error::CheckpointRefused(CheckpointRefusal::OtherSize { known }) = error {
        info.insert("known_size".to_owned(), known.to_string());
    }
    if let Error::Throttled(throttled) = error {
        let Throttled { subject, group, limit, window, .. } = throttled;
        info.insert("subject".to_owned(), subject.clone());
        info.insert("group".to_owned(), (**group).to_owned());
        info.insert("limit".to_owned(), limit.to_string());
        info.insert("window".to_owned(), window.name().to_owned());
    }
    let mut details = ErrorDetails::with_error_info(error.code(), DOMAIN, info);
    match error {
        Error::InvalidField { field, problem } => {
            details.add_bad_request_violation(field.name(), *problem);
        }
        Error::Throttled(throttled) => {
            let Throttled { subject, group, limit, window, retry_after } = throttled;
            details.set_retry_info(Some(*retry_after));
            let described = format!("{limit} calls per {}, {group}", window.name());
            details.add_quota_failure_violation(subject.clone(), described);
        }
        // No RetryInfo: waiting does not help.
        Error::QuotaExceeded(quota) => {
            details.add_quota_failure_violation(quota.what.to_string(), error.to_string());
        }
        Error::AuditUnavailable(_) | Error::HsmUnavailable(_) | Error::StoreUnavailable(_) => {
            details.set_retry_info(Some(RETRY_AFTER_FAULT));
        }
        _ => {}
    }
    let mut status = Status::with_error_details(code(error), error.to_string(), details);
    name_request(status.metadata_mut(), request_id);
    if let Error::Throttled(throttled) = error {
        told::refusal(status.metadata_mut().as_mut(), throttled);
    }
    status
}

/// The answer of a clock that could not go on; for operators only. `metadata` names the request.
pub(crate) fn due_work_failed(problem: String, metadata: MetadataMap) -> Status {
    let details = ErrorDetails::with_error_info("DUE_WORK_FAILED", DOMAIN, HashMap::new());
    let mut status = Status::with_error_details(Code::Unavailable, problem, details);
    *status.metadata_mut() = metadata;
    status
}

/// Tells the caller under which id the log keeps the call.
pub(crate) fn name_request(metadata: &mut MetadataMap, request_id: RequestId) {
    told::request(metadata.as_mut(), request_id);
}

#[allow(clippy::too_many_lines, reason = "one line for each error")]
fn code(error: &Error) -> Code {
    match error {
        Error::InvalidField { .. }
        | Error::CannotDecrypt
        | Error::DataKeyDigestMismatch
        | Error::IdempotencyTokenReused
        | Error::AlgorithmMismatch(_)
        | Error::ImportTokenExpired
        | Error::ImportTokenInvalid
        | Error::ImportTokenMismatch
        | Error::MaterialMismatch
        | Error::MaterialInvalid
        | Error::GrantMismatch
        | Error::CheckpointRefused(CheckpointRefusal::NotWitnessed) => Code::InvalidArgument,
        Error::Unauthenticated(_) => Code::Unauthenticated,
        Error::PermissionDenied { .. } => Code::PermissionDenied,
        Error::Throttled(_) | Error::QuotaExceeded(_) => Code::ResourceExhausted,
        Error::NotOffered { .. } => Code::Unimplemented,
        Error::KeyNotFound
        | Error::GrantNotFound
        | Error::AliasNotFound
        | Error::CampaignNotFound
        | Error::TagNotFound
        | Error::VersionNotFound
        | Error::KeystoreNotFound => Code::NotFound,
        Error::AliasExists | Error::KeystoreExists | Error::ReplicaExists => Code::AlreadyExists,
        Error::KeyDisabled
        | Error::KeyPendingDeletion
        | Error::KeyPendingImport
        | Error::KeyNotDisabled
        | Error::KeyNotEnabled
        | Error::KeyAlreadyPendingDeletion
        | Error::KeyNotPendingDeletion
        | Error::DefaultKeyImmutable
        | Error::KeyNotPendingImport
        | Error::KeyUsageMismatch(_)
        | Error::KeyKindUnsupported(_)
        | Error::RotationNotEnabled
        | Error::RotationAlreadyEnabled
        | Error::ExternalKeyRequired
        | Error::ExternalKeyUnsupported
        | Error::MaterialNotDeletable
        | Error::KeystoreDisabled
        | Error::KeystoreNotDisabled
        | Error::KeystoreNotEmpty
        | Error::KeystoreUnsupported
        | Error::DryRun
        | Error::IdentitiesInvalid { .. }
        | Error::ProfileInvalid { .. }
        | Error::ReplicaReadOnly
        | Error::ReplicasRemain
        | Error::RootStillNeeded { .. }
        | Error::CheckpointRefused(CheckpointRefusal::OtherSize { .. } | CheckpointRefusal::Inconsistent) => {
            Code::FailedPrecondition
        }
        Error::Contention => Code::Aborted,
        Error::OutcomeUnknown { .. }
        | Error::AuditUnavailable(_)
        | Error::HsmUnavailable(_)
        | Error::StoreUnavailable(_) => Code::Unavailable,
        Error::RecordTampered { .. } => Code::DataLoss,
        Error::Internal { .. } => Code::Internal,
    }
}
