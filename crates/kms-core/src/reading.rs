//! Reading the log: what a reader looks for, and what of it the reader may see.
//!
//! Operators see every record. A user sees those of its account: of calls that its account made. If it looks for a key
//! of its account, it sees every record of that key, whoever called: users of other accounts by a grant, or the service
//! by itself.

use std::collections::BTreeMap;

use crate::{
    Timestamp,
    context::EncryptionContext,
    draft::{ContextHash, Draft},
    error::Error,
    identity::{AccountId, UserId},
    key::KeyId,
    operation::OperationName,
    record::{RequestId, Verdict},
    service::Scope,
};

/// What a reader looks for: records that have all that is given.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// The first moment at which the call may have arrived.
    pub from: Option<Timestamp>,
    /// The first moment at which it may not any more.
    pub until: Option<Timestamp>,
    /// The key, also that which opened what another sealed anew.
    pub key_id: Option<KeyId>,
    /// The caller's account.
    pub account: Option<AccountId>,
    /// The caller.
    pub user: Option<UserId>,
    /// The operation.
    pub operation: Option<OperationName>,
    /// How it ended.
    pub verdict: Option<Verdict>,
    /// The reason of a refusal or failure.
    pub reason: Option<String>,
    /// The call.
    pub request_id: Option<RequestId>,
    /// What the context of the call holds, values in clear; also the context of what it opened to seal it anew.
    pub context: Option<EncryptionContext>,
}

/// Records that a reader looks for and may see. Only an operation makes one, after it was admitted.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Without the context.
    filter: RecordFilter,
    /// The context as the log keeps it.
    context: BTreeMap<String, String>,
    sight: Sight,
}

/// What a reader may see.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sight {
    /// All records: of an operator.
    All,
    /// Those of an account's calls.
    CallsOf(AccountId),
    /// Those of the key that is looked for.
    Key,
}

/// What a selection looks at in a record.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the members of a record that have these names")]
pub struct RecordFacts<'a> {
    pub time: Timestamp,
    pub account: Option<&'a str>,
    pub user: Option<&'a str>,
    pub key_id: Option<KeyId>,
    pub source_key_id: Option<KeyId>,
    pub operation: OperationName,
    pub verdict: Verdict,
    pub reason: Option<&'a str>,
    pub request_id: RequestId,
    pub context: &'a BTreeMap<String, String>,
    pub source_context: &'a BTreeMap<String, String>,
}

impl Selection {
    fn new(filter: RecordFilter, hash: &ContextHash, sight: Sight) -> Self {
        let context = filter.context.as_ref().map(|context| hash.hash_all(context)).unwrap_or_default();
        Self { filter: RecordFilter { context: None, ..filter }, context, sight }
    }

    /// Whether this record is one of them.
    pub fn admits(&self, record: &RecordFacts<'_>) -> bool {
        self.shows(record) && self.fits(record)
    }

    fn shows(&self, record: &RecordFacts<'_>) -> bool {
        match &self.sight {
            Sight::All => true,
            Sight::CallsOf(account) => record.account == Some(account.as_str()),
            // A key that is looked for is named by the filter, too: this does not rely on that.
            Sight::Key => self.filter.key_id.is_some_and(|key| names(record, key)),
        }
    }

    fn fits(&self, record: &RecordFacts<'_>) -> bool {
        let RecordFilter {
            from, until, key_id, account, user, operation, verdict, reason, request_id, ..
        } = &self.filter;
        from.is_none_or(|from| record.time >= from)
            && until.is_none_or(|until| record.time < until)
            && key_id.is_none_or(|key| names(record, key))
            && account.as_ref().is_none_or(|account| record.account == Some(account.as_str()))
            && user.as_ref().is_none_or(|user| record.user == Some(user.as_str()))
            && operation.is_none_or(|operation| record.operation == operation)
            && verdict.is_none_or(|verdict| record.verdict == verdict)
            && reason.as_ref().is_none_or(|reason| record.reason == Some(reason.as_str()))
            && request_id.is_none_or(|request| record.request_id == request)
            && (holds(record.context, &self.context) || holds(record.source_context, &self.context))
    }
}

fn names(record: &RecordFacts<'_>, key: KeyId) -> bool {
    record.key_id == Some(key) || record.source_key_id == Some(key)
}

fn holds(context: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, hash)| context.get(key) == Some(hash))
}

impl Scope<'_> {
    /// What of `filter` the caller may see. A key that exists for the caller is named in the record of the reading.
    pub(crate) async fn select(&self, filter: &RecordFilter, draft: &mut Draft) -> Result<Selection, Error> {
        let caller = self.caller();
        let key = match filter.key_id {
            Some(id) => self.directory().key(id).await?.map(|stored| stored.value),
            None => None,
        };
        // Destroyed keys, too: their records are still there.
        let own = key.filter(|key| caller.is_operator() || key.account == caller.account);
        let sight = match &own {
            _ if caller.is_operator() => Sight::All,
            Some(_) => Sight::Key,
            None => Sight::CallsOf(caller.account.clone()),
        };
        if let Some(key) = own {
            draft.key(key.id, None);
        }
        Ok(Selection::new(filter.clone(), self.service.context_hash(), sight))
    }
}
