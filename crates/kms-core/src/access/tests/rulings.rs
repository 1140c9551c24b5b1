//! Policies and grants together.

use super::{KEY, OTHER_KEY, World, facts, key_id, policies, statement};
use crate::{
    Timestamp,
    access::{
        AccessRequest, Asker, KeyFacts, Operations, Policies, Ruling, StatementName, could_allow, decide,
    },
    grant::{Grant, GrantId, GrantName, GrantOperation, GrantOperations, Principal},
    identity::{AccountId, OPERATOR_ACCOUNT, Region, UserId},
    operation::OperationName as O,
};

fn account(name: &str) -> AccountId {
    AccountId::parse(name).expect("a name")
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}

/// A grant of the key; `number` tells it from others.
fn grant(number: u8, grantee: Principal, operations: &[GrantOperation]) -> Grant {
    Grant {
        id: GrantId::derive(key_id(KEY), &[number]),
        key_id: key_id(KEY),
        region: Region::parse("cn-north-4").expect("a name"),
        issuing_account: account("acme"),
        issuer: user("owner"),
        grantee,
        operations: GrantOperations::parse(operations.iter().copied()).expect("operations"),
        name: GrantName::default(),
        retiring_principal: None,
        created: Timestamp::from_micros(0),
    }
}

fn to_user(number: u8, operation: GrantOperation) -> Grant {
    grant(number, Principal::User(user("bob")), &[operation])
}

/// What bob of an account is ruled.
fn rule(of: &str, policies: &Policies, request: &AccessRequest<'_>, grants: &[Grant]) -> Ruling {
    decide(&Asker { account: &account(of), user: &user("bob"), policies }, request, grants)
}

fn nothing(statements: usize, grants: usize) -> Ruling {
    Ruling::NotAllowed { statements, grants }
}

#[test]
fn in_ones_own_account_a_policy_or_a_grant_suffices() {
    let world = World::new();
    let request = world.on_key(O::DecryptDataKey);
    let grants = [to_user(1, GrantOperation::DecryptDatakey)];
    let by_policy = Ruling::AllowedByPolicy(StatementName { policy: "permissions".into(), statement: 1 });
    assert_eq!(rule("acme", &Policies::all(), &request, &[]), by_policy);
    assert_eq!(rule("acme", &Policies::all(), &request, &grants), by_policy);
    assert_eq!(rule("acme", &Policies::NONE, &request, &grants), Ruling::AllowedByGrant(grants[0].id));
    assert_eq!(rule("acme", &Policies::NONE, &request, &[]), nothing(0, 0));
    assert!(by_policy.is_allowed() && Ruling::AllowedByGrant(grants[0].id).is_allowed());
    assert!(!nothing(0, 0).is_allowed());
}

#[test]
fn a_key_of_another_account_is_used_by_grants_only() {
    let world = World::new();
    let request = world.on_key(O::DecryptDataKey);
    let grants = [to_user(1, GrantOperation::DecryptDatakey)];
    assert_eq!(rule("other", &Policies::all(), &request, &[]), nothing(1, 0));
    for policies in [Policies::all(), Policies::NONE] {
        assert_eq!(rule("other", &policies, &request, &grants), Ruling::AllowedByGrant(grants[0].id));
    }
    assert_eq!(rule("other", &Policies::all(), &world.keyless(O::ListKeys), &grants), nothing(1, 0));
}

#[test]
fn a_deny_of_the_caller_wins_over_grants_and_one_that_does_not_apply_does_not() {
    let world = World::new();
    let request = world.on_key(O::DecryptDataKey);
    let grants = [to_user(1, GrantOperation::DecryptDatakey)];
    let deny = policies(&statement("Deny", "kms:dek:crypto", ""));
    let denied = Ruling::Denied(StatementName { policy: "p".into(), statement: 1 });
    let elsewhere = format!(r#", "Resource": "KMS:*:*:KeyId:{OTHER_KEY}""#);
    let elsewhere = policies(&statement("Deny", "kms:dek:crypto", &elsewhere));
    for of in ["acme", "other"] {
        assert_eq!(rule(of, &deny, &request, &grants), denied);
        assert_eq!(rule(of, &elsewhere, &request, &grants), Ruling::AllowedByGrant(grants[0].id));
    }
    assert!(!denied.is_allowed());
}

#[test]
fn a_grant_allows_its_operations_and_grants_add_up() {
    let world = World::new();
    for operation in GrantOperation::ALL.iter().filter(|one| **one != GrantOperation::CreateGrant) {
        let grants = [to_user(1, *operation)];
        for asked in O::ALL {
            let expected = operation.operations().contains(asked);
            let ruling = rule("other", &Policies::NONE, &world.on_key(*asked), &grants);
            assert_eq!(ruling.is_allowed(), expected, "{operation:?} {asked:?}");
            assert!(expected || ruling == nothing(0, 1));
        }
    }
    let grants = [
        to_user(1, GrantOperation::EncryptData),
        grant(
            2,
            Principal::Account(account("other")),
            &[GrantOperation::CreateGrant, GrantOperation::DecryptData],
        ),
    ];
    for (asked, index) in [(O::EncryptData, 0), (O::DecryptData, 1), (O::CreateGrant, 1)] {
        let ruling = rule("other", &Policies::NONE, &world.on_key(asked), &grants);
        assert_eq!(ruling, Ruling::AllowedByGrant(grants[index].id));
    }
    assert_eq!(rule("other", &Policies::NONE, &world.on_key(O::DescribeKey), &grants), nothing(0, 2));
}

#[test]
fn a_grant_is_for_its_grantee_its_key_and_its_region() {
    let world = World::new();
    let request = world.on_key(O::DecryptDataKey);
    let one = to_user(1, GrantOperation::DecryptDatakey);
    let decrypt = [GrantOperation::DecryptDatakey];
    let other_region = Region::parse("cn-north-5").expect("a name");
    for (grant, allows) in [
        (one.clone(), true),
        (grant(1, Principal::Account(account("other")), &decrypt), true),
        (grant(1, Principal::Account(account("acme")), &decrypt), false),
        // An account is not a user of the same name.
        (grant(1, Principal::Account(account("bob")), &decrypt), false),
        (grant(1, Principal::User(user("other")), &decrypt), false),
        (Grant { key_id: key_id(OTHER_KEY), ..one.clone() }, false),
        (Grant { region: other_region, ..one.clone() }, false),
    ] {
        let ruling = rule("other", &Policies::NONE, &request, std::slice::from_ref(&grant));
        assert_eq!(ruling.is_allowed(), allows, "{grant:?}");
    }
    // An operator may be named as a user is.
    assert!(!rule(OPERATOR_ACCOUNT, &Policies::operator(), &request, &[one]).is_allowed());
}

#[test]
fn default_keys_are_never_granted() {
    let world = World::new();
    let grants = [to_user(1, GrantOperation::DecryptDatakey)];
    let default = KeyFacts { is_default: true, ..facts(KEY) };
    let request = AccessRequest { key: Some(default), ..world.on_key(O::DecryptDataKey) };
    for of in ["acme", "other"] {
        assert_eq!(rule(of, &Policies::NONE, &request, &grants), nothing(0, 0));
    }
    assert!(rule("acme", &Policies::all(), &request, &[]).is_allowed());
    assert!(!rule("other", &Policies::all(), &request, &grants).is_allowed());
}

#[test]
fn what_could_be_allowed_is_what_policies_or_grants_can_allow() {
    let deny = policies(&statement("Deny", "kms:cmk:decryptData", ""));
    for operation in O::ALL {
        let by_grant = Operations::OF_GRANTS.contains(*operation);
        assert_eq!(could_allow(&Policies::NONE, *operation), by_grant, "{operation:?}");
        assert_eq!(could_allow(&deny, *operation), by_grant && *operation != O::DecryptData);
        assert_eq!(could_allow(&Policies::all(), *operation), Operations::OF_USERS.contains(*operation));
    }
}
