//! Which refusals are of one kind: what their sum says holds for each of them.

use std::{collections::BTreeMap, net::IpAddr};

use kms_core::{
    Phase, Record, Verdict,
    grant::GrantId,
    identity::{AccountId, Credential, ProjectId, ServiceName, UserId},
    key::KeyId,
    operation::{Action, OperationName},
};

/// What `ruling` says of a sum over several kinds.
const SEVERAL: &str = "several kinds";

/// The user who was refused, or `None`: a stranger. An identity file bounds how many there are.
pub(super) type Origin = Option<(AccountId, UserId)>;

/// What refusals of one origin have in common that are summed up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    operation: OperationName,
    reason: Option<&'static str>,
    project: Option<ProjectId>,
    acting_service: Option<ServiceName>,
    /// What a caller varies at will. `None`: several.
    details: Option<Details>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Details {
    source: IpAddr,
    credential: Option<Credential>,
    key_id: Option<KeyId>,
    key_version: Option<u32>,
    missing_action: Option<Action>,
    grant_id: Option<GrantId>,
    ruling: Option<String>,
    context: BTreeMap<String, String>,
    source_key_id: Option<KeyId>,
    source_key_version: Option<u32>,
    source_context: BTreeMap<String, String>,
}

/// Of which kind a record is. `None`: it is no refusal that may be summed up.
pub(super) fn of(record: &Record) -> Option<(Origin, Kind)> {
    if record.verdict != Verdict::Denied || record.phase != Phase::Complete {
        return None;
    }
    let caller = record.caller.as_ref();
    let kind = Kind {
        operation: record.operation,
        reason: record.reason,
        project: caller.map(|caller| caller.project.clone()),
        acting_service: caller.and_then(|caller| caller.acting_service.clone()),
        details: Some(Details::of(record)?),
    };
    Some((caller.map(|caller| (caller.account.clone(), caller.user.clone())), kind))
}

impl Details {
    fn of(record: &Record) -> Option<Self> {
        // Every member is named, so that a new one is not forgotten.
        let Record {
            // Those may differ within a sum.
            time: _,
            request_id: _,
            latency: _,
            count: _,
            // Those are the same in all of a kind.
            operation: _,
            phase: _,
            verdict: _,
            reason: _,
            caller,
            stranger,
            key_id,
            key_version,
            moved,
            bucket_key,
            missing_action,
            grant_id,
            ruling,
            context,
            source_key_id,
            source_key_version,
            source_context,
            state_digest,
            archived_lines,
            made,
        } = record;
        let of_success = moved.is_some() || bucket_key.is_some() || made.is_some();
        if of_success || state_digest.is_some() || archived_lines.is_some() {
            return None;
        }
        let (source, credential) = match (caller, stranger) {
            (Some(caller), _) => (caller.source, Some(caller.credential.clone())),
            (None, Some(stranger)) => (stranger.source, stranger.credential.clone()),
            (None, None) => return None,
        };
        Some(Self {
            source: source.ip(),
            credential,
            key_id: *key_id,
            key_version: *key_version,
            missing_action: *missing_action,
            grant_id: *grant_id,
            ruling: ruling.clone(),
            context: context.clone(),
            source_key_id: *source_key_id,
            source_key_version: *source_key_version,
            source_context: source_context.clone(),
        })
    }
}

impl Kind {
    /// Makes it the kind of all that differ only in what a caller varies at will.
    pub(super) fn coarsen(&mut self) {
        self.details = None;
    }

    /// What a sum of this kind says when `first` is the first refusal that it counts.
    pub(super) fn outline(&self, first: &Record) -> Record {
        let first = first.clone();
        if self.details.is_some() {
            return first;
        }
        Record {
            key_id: None,
            key_version: None,
            missing_action: None,
            grant_id: None,
            ruling: Some(SEVERAL.to_owned()),
            context: BTreeMap::new(),
            source_key_id: None,
            source_key_version: None,
            source_context: BTreeMap::new(),
            ..first
        }
    }
}
