//! Which statement decides.

use super::{KEY, OTHER_KEY, World, allowed, facts, policies, policy, statement};
use crate::{
    access::{Decision, Operations, Policies, StatementName},
    operation::{Action, OperationName},
};

fn name(policy: &str, statement: usize) -> StatementName {
    StatementName { policy: policy.into(), statement }
}

#[test]
fn nothing_is_allowed_that_no_statement_allows() {
    let world = World::new();
    for operation in OperationName::ALL {
        let nothing = Decision::NotAllowed { considered: 0 };
        assert_eq!(Policies::NONE.decide(&world.on_key(*operation)), nothing);
        assert!(!Policies::NONE.could_allow(*operation));
    }
    let elsewhere = policies(&statement("Allow", "kms:cmk:*", ""));
    let request = world.on_key(OperationName::GenerateDataKeyPair);
    assert_eq!(elsewhere.decide(&request), Decision::NotAllowed { considered: 0 });
}

#[test]
fn a_deny_wins_wherever_it_stands() {
    let world = World::new();
    let (allow, deny) = (statement("Allow", "kms:*", ""), statement("Deny", "kms:cmk:decryptDataKey", ""));
    let denied = |number| Decision::Denied(name("p", number));
    let (sign, decrypt) = (OperationName::Sign, OperationName::DecryptDataKey);
    for (statements, number) in [(format!("{allow}, {deny}"), 2), (format!("{deny}, {allow}"), 1)] {
        let both = policies(&statements);
        assert_eq!(both.decide(&world.on_key(decrypt)), denied(number));
        assert_eq!(both.decide(&world.on_key(sign)), Decision::Allowed(name("p", 3 - number)));
        assert!(!both.could_allow(decrypt) && both.always_deny(decrypt) && both.could_allow(sign));
    }
    // Also a deny of another policy, and by an old name what a new name allows.
    let document = |statement: &str| format!(r#"{{"Version": "1.1", "Statement": [{statement}]}}"#);
    let fine = policy("fine", &document(&statement("Allow", "kms:cmk:decryptDataKey", "")));
    let old = policy("old", &document(&statement("Deny", "kms:dek:crypto", "")));
    let both = Policies::new([fine, old]);
    assert_eq!(both.decide(&world.on_key(decrypt)), Decision::Denied(name("old", 1)));
}

#[test]
fn a_deny_with_a_condition_leaves_the_rest_allowed() {
    let world = World::new();
    let condition = r#", "Condition": {"StringNotEquals": {"kms:EncryptionContext/bucket": "Photos"}}"#;
    let statements = format!("{}, {}", statement("Allow", "*", ""), statement("Deny", "*", condition));
    let both = policies(&statements);
    let operation = OperationName::DecryptDataKey;
    assert!(both.could_allow(operation) && !both.always_deny(operation));
    assert!(allowed(&both, &world.on_key(operation)));
    // Without the pair, or without any context, the negated operator holds and so denies.
    assert_eq!(both.decide(&world.keyless(operation)), Decision::Denied(name("p", 2)));
}

#[test]
fn the_first_statement_that_applies_is_named_and_those_that_do_not_are_counted() {
    let world = World::new();
    let other = format!(r#", "Resource": "KMS:*:*:KeyId:{OTHER_KEY}""#);
    let key = format!(r#", "Resource": "KMS:*:*:KeyId:{KEY}""#);
    let get = |more: &str| statement("Allow", "kms:cmk:get", more);
    let list = statement("Allow", "kms:cmk:list", "");
    let all = policies(&[list.clone(), get(&other), get(&key), get("")].join(", "));
    let request = world.on_key(OperationName::DescribeKey);
    assert_eq!(all.decide(&request), Decision::Allowed(name("p", 3)));
    let none = policies(&[list, get(&other), statement("Deny", "kms:*", &other), get(&other)].join(", "));
    assert_eq!(none.decide(&request), Decision::NotAllowed { considered: 3 });
    assert_eq!(name("p", 3).to_string(), "statement 3 of p");
}

#[test]
fn resources_are_keys_of_a_region_and_an_account() {
    let world = World::new();
    let request = world.on_key(OperationName::DescribeKey);
    for (resource, covers) in [
        (format!("KMS:*:*:KeyId:{KEY}"), true),
        (format!("kMs:*:*:KeyId:{KEY}"), true),
        (format!("KMS:cn-north-4:acme:KeyId:{KEY}"), true),
        (format!("KMS:cn-north-5:acme:KeyId:{KEY}"), false),
        (format!("KMS:cn-north-4:other:KeyId:{KEY}"), false),
        (format!("KMS:CN-NORTH-4:*:KeyId:{KEY}"), false),
        (format!("KMS:*:*:KeyId:{OTHER_KEY}"), false),
        ("KMS:*:*:KeyId:*".to_owned(), true),
        ("KMS:*:*:KeyId:0193a*".to_owned(), true),
        ("KMS:*:*:KeyId:*a".to_owned(), true),
        ("KMS:*:*:KeyId:*-7000-*0a".to_owned(), true),
        ("KMS:*:*:KeyId:0193b*".to_owned(), false),
        ("KMS:*:*:KeyId:*b".to_owned(), false),
        ("*".to_owned(), true),
    ] {
        let one = policies(&statement("Allow", "*", &format!(r#", "Resource": "{resource}""#)));
        assert_eq!(allowed(&one, &request), covers, "{resource}");
        let two = format!(r#", "Resource": ["KMS:*:*:KeyId:{OTHER_KEY}", "{resource}"]"#);
        assert_eq!(allowed(&policies(&statement("Allow", "*", &two)), &request), covers, "{resource}");
        let deny = format!("{}, {}", statement("Allow", "*", ""), statement("Deny", "*", &two));
        assert_eq!(!allowed(&policies(&deny), &request), covers, "{resource}");
    }
}

#[test]
fn an_operation_without_a_key_is_covered_by_all_resources_only() {
    let world = World::new();
    let to_make = super::KeyFacts { id: None, ..facts(KEY) };
    for (resource, covers) in [("KMS:*:*:KeyId:*", false), ("*", true)] {
        let more = format!(r#", "Resource": ["{resource}"]"#);
        let one = policies(&statement("Allow", "kms:cmk:*", &more));
        assert!(one.could_allow(OperationName::CreateKey));
        let keyless = world.keyless(OperationName::ListKeys);
        assert_eq!(allowed(&one, &keyless), covers, "{resource}");
        let creation =
            crate::access::AccessRequest { key: Some(to_make), ..world.keyless(OperationName::CreateKey) };
        assert_eq!(allowed(&one, &creation), covers, "{resource}");
        let deny = format!("{}, {}", statement("Allow", "*", ""), statement("Deny", "*", &more));
        assert_eq!(allowed(&policies(&deny), &keyless), !covers, "{resource}");
    }
}

#[test]
fn a_list_of_actions_allows_what_needs_them() {
    let world = World::new();
    let some = Policies::of([Action::CmkGet, Action::DekCreate]);
    let expected = Operations::of(Action::CmkGet).union(Operations::of(Action::DekCreate));
    for operation in OperationName::ALL {
        let is_expected = expected.contains(*operation);
        assert_eq!(some.could_allow(*operation), is_expected, "{operation:?}");
        assert_eq!(allowed(&some, &world.keyless(*operation)), is_expected, "{operation:?}");
        let action = operation.info().action;
        let (of_users, of_both) = (Action::ALL.contains(&action), action == Action::AuditRead);
        assert_eq!(allowed(&Policies::all(), &world.on_key(*operation)), of_users, "{operation:?}");
        let of_operators = action == Action::RootManage || of_both;
        assert_eq!(allowed(&Policies::operator(), &world.on_key(*operation)), of_operators, "{operation:?}");
    }
    assert!(!allowed(&Policies::of([]), &world.on_key(OperationName::Sign)));
}
