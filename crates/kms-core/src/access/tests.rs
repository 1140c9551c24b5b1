//! Every rule of the documents, of conditions, of evaluation and of grants.

mod conditions;
mod documents;
mod evaluation;
mod rulings;

use std::{collections::BTreeMap, sync::Arc};

use super::{AccessRequest, Decision, KeyFacts, Policies, Policy};
use crate::{
    context::EncryptionContext,
    identity::{AccountId, Region},
    key::{KeyId, KeyOrigin, KeySpec, KeyUsage},
    operation::OperationName,
};

const KEY: &str = "0193a000-0000-7000-8000-00000000000a";
const OTHER_KEY: &str = "0193b000-0000-7000-8000-00000000000b";

fn policy(name: &str, json: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(name, json).unwrap_or_else(|error| panic!("{error} of {json}")))
}

/// Policies of one document of these statements.
fn policies(statements: &str) -> Policies {
    Policies::new([policy("p", &format!(r#"{{"Version": "1.1", "Statement": [{statements}]}}"#))])
}

/// A statement with this effect, action, and further members.
fn statement(effect: &str, action: &str, more: &str) -> String {
    format!(r#"{{"Effect": "{effect}", "Action": "{action}"{more}}}"#)
}

/// A world to make requests in.
struct World {
    account: AccountId,
    region: Region,
    key: KeyFacts,
    context: EncryptionContext,
}

impl World {
    fn new() -> Self {
        Self {
            account: AccountId::parse("acme").expect("a name"),
            region: Region::parse("cn-north-4").expect("a name"),
            key: facts(KEY),
            context: context(&[("bucket", "Photos"), ("empty", "")]),
        }
    }

    /// A request on the key.
    fn on_key(&self, operation: OperationName) -> AccessRequest<'_> {
        AccessRequest { key: Some(self.key), context: Some(&self.context), ..self.keyless(operation) }
    }

    fn keyless(&self, operation: OperationName) -> AccessRequest<'_> {
        let (account, region) = (&self.account, &self.region);
        AccessRequest { operation, account, region, key: None, context: None, alias: None }
    }
}

fn facts(id: &str) -> KeyFacts {
    KeyFacts {
        id: Some(key_id(id)),
        spec: KeySpec::Aes256,
        usage: KeyUsage::EncryptDecrypt,
        origin: KeyOrigin::Kms,
        is_default: false,
    }
}

fn key_id(id: &str) -> KeyId {
    id.parse().expect("an id")
}

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    let pairs: BTreeMap<_, _> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    EncryptionContext::new(pairs).expect("short enough")
}

fn allowed(policies: &Policies, request: &AccessRequest<'_>) -> bool {
    matches!(policies.decide(request), Decision::Allowed(_))
}
