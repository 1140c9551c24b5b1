//! Policies: the first bytes say what is asked for, the others are the document.
//!
//! It is refused with a line that it has, or understood; what was understood decides every time alike, and as its
//! shortcuts say.
#![no_main]

use std::{collections::BTreeMap, sync::Arc};

use kms_core::{
    access::{AccessRequest, Asker, KeyFacts, Policies, Policy, Ruling, decide},
    context::EncryptionContext,
    identity::{AccountId, Region, UserId},
    key::{KeyId, KeyOrigin, KeySpec, KeyUsage},
    operation::OperationName,
};
use libfuzzer_sys::fuzz_target;

/// The ids of the keys that are asked about.
const KEYS: [&str; 2] = ["0193a000-0000-7000-8000-00000000000a", "0193b000-0000-7000-8000-00000000000b"];
/// What calls name them by; the last one stands for none.
const ALIASES: [&str; 3] = ["alias/photos", "obs/default", ""];

fuzz_target!(|input: &[u8]| {
    let Some((&[operation, key, facts, other], document)) = input.split_first_chunk() else { return };
    let Ok(document) = std::str::from_utf8(document) else { return };
    let policy = match Policy::parse("fuzz", document) {
        Ok(policy) => policy,
        Err(error) => {
            let lines = document.split('\n').count();
            assert!((1..=lines).contains(&error.line), "{error} of {lines} lines");
            return;
        }
    };
    assert_eq!(Policy::parse("fuzz", document).as_ref(), Ok(&policy));
    let operation = OperationName::ALL[usize::from(operation) % OperationName::ALL.len()];
    let (account, region) = (AccountId::parse("acme").expect("a name"), region(other));
    let context = context(other);
    let request = AccessRequest {
        operation,
        account: &account,
        region: &region,
        key: (key & 3 != 3).then(|| key_facts(key, facts)),
        context: (other & 4 == 0).then_some(&context),
        alias: Some(ALIASES[usize::from(other >> 4) % ALIASES.len()]).filter(|alias| !alias.is_empty()),
    };
    let policy = Arc::new(policy);
    let (once, twice) = (Policies::new([policy.clone()]), Policies::new([policy.clone(), policy]));
    let user = UserId::parse("someone").expect("a name");
    let ruled = |policies, account| decide(&Asker { account, user: &user, policies }, &request, []);
    let ruling = ruled(&once, &account);
    assert_eq!(ruled(&once, &account), ruling);
    // The same statements once more say nothing new.
    match (&ruling, ruled(&twice, &account)) {
        (Ruling::NotAllowed { statements, .. }, Ruling::NotAllowed { statements: doubled, .. }) => {
            assert_eq!(2 * statements, doubled);
        }
        (ruling, again) => assert_eq!(*ruling, again),
    }
    let is_denied = matches!(ruling, Ruling::Denied(_));
    assert!(is_denied || !once.always_deny(operation));
    assert!(ruling.is_allowed() || !once.always_allow(operation));
    assert!(!ruling.is_allowed() || once.could_allow(operation));
    // In another account they deny as they do in their own, and allow nothing.
    let foreign = ruled(&once, &AccountId::parse("zeta").expect("a name"));
    assert!(!foreign.is_allowed());
    assert_eq!(matches!(foreign, Ruling::Denied(_)), is_denied);
});

fn region(byte: u8) -> Region {
    Region::parse(if byte & 1 == 0 { "cn-north-4" } else { "cn-east-3" }).expect("a name")
}

fn key_facts(key: u8, facts: u8) -> KeyFacts {
    let (spec, usage) = (
        KeySpec::ALL[usize::from(facts >> 4) % KeySpec::ALL.len()],
        KeyUsage::ALL[usize::from(facts >> 2) % KeyUsage::ALL.len()],
    );
    let id: Option<KeyId> = KEYS.get(usize::from(key & 3)).map(|id| id.parse().expect("an id"));
    let origin = if facts & 1 == 0 { KeyOrigin::Kms } else { KeyOrigin::External };
    KeyFacts { id, spec, usage, origin, is_default: facts & 2 != 0 }
}

fn context(byte: u8) -> EncryptionContext {
    let bucket = if byte & 2 == 0 { "photos" } else { "" };
    EncryptionContext::new(BTreeMap::from([("bucket".to_owned(), bucket.to_owned())])).expect("it is short")
}
