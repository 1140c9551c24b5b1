//! What grants allow, to whom, and what whoever is refused learns.

use kms_core::{
    Error, SecretBytes,
    error::Denial,
    grant::{GrantOperation, Principal},
    identity::Caller,
    key::KeyId,
    operation::{Action, Permissions},
    ops::{
        DecryptDataKey, DescribeKey, DisableKey, EncryptDataKey, GenerateDataKeyWithoutPlaintext, ListKeys,
        PageSize, PendingDays, RetireGrant, RevokeGrant, ScheduleKeyDeletion,
    },
};

use super::support::{
    REGION, denied, foreign_owner, give, open, seal, sorted, stranger, to_user, user, world,
};
use crate::{
    rotation::support::operator,
    support::{World, caller, context, create, decrypt_data, encrypt_data, generate, obs, owner},
};

/// The caller has grants of the key, for something else.
fn not_granted(missing: Action) -> Error {
    Error::PermissionDenied { missing, denial: Denial::NotGranted }
}

/// Every operation that a grant can allow, on this key.
fn tries(world: &World, by: &Caller, key: KeyId, sealed: &(Vec<u8>, Vec<u8>)) -> Vec<GrantOperation> {
    use GrantOperation as G;
    let (data_key, small_data) = sealed;
    let without = GenerateDataKeyWithoutPlaintext(generate(key.into()));
    let seal_given = EncryptDataKey::new(key.into(), SecretBytes::new(vec![7; 32]), context());
    let opens = decrypt_data(small_data, context());
    let passed_on = give(world, by, key, Principal::User(user("someone")), &[G::DescribeKey]);
    let results = [
        (G::CreateDatakey, seal(world, by, key).err()),
        (G::CreateDatakeyWithoutPlaintext, world.run(by, without).err()),
        (G::EncryptDatakey, world.run(by, seal_given.expect("32 bytes")).err()),
        (G::DecryptDatakey, open(world, by, data_key).err()),
        (G::DescribeKey, world.run(by, DescribeKey { key: key.into() }).err()),
        (G::CreateGrant, passed_on.err()),
        (G::EncryptData, world.run(by, encrypt_data(key.into())).err()),
        (G::DecryptData, world.run(by, opens.expect("a ciphertext")).err()),
    ];
    let allowed = results.into_iter().filter_map(|(operation, error)| match error {
        None => Some(operation),
        Some(Error::PermissionDenied { .. } | Error::KeyNotFound) => None,
        Some(error) => panic!("{operation:?}: {error:?}"),
    });
    allowed.collect()
}

#[test]
fn each_operation_of_a_grant_allows_what_it_names_and_no_more() {
    use GrantOperation as G;
    for operation in G::ALL.iter().copied().filter(|operation| *operation != G::RetireGrant) {
        for grantee in [stranger(), foreign_owner(), with_nothing()] {
            let (world, key, sealed) = world();
            assert_eq!(tries(&world, &grantee, key, &sealed), []);
            // Create-grant comes with something to pass on.
            let granted =
                if operation == G::CreateGrant { vec![operation, G::DescribeKey] } else { vec![operation] };
            give(&world, &owner(), key, to_user(&grantee), &granted).expect("its owner");
            assert_eq!(sorted(tries(&world, &grantee, key, &sealed)), sorted(granted), "{operation:?}");
        }
    }
}

/// A user of the key's own account whom nothing is permitted.
fn with_nothing() -> Caller {
    Caller { user: user("acme-nobody"), permissions: Permissions::NONE, ..owner() }
}

#[test]
fn several_grants_of_a_key_add_up_and_end_one_by_one() {
    use GrantOperation as G;
    let (world, key, (data_key, _)) = world();
    let grantee = stranger();
    let create = give(&world, &owner(), key, to_user(&grantee), &[G::CreateDatakey]).expect("its owner");
    let account = Principal::Account(grantee.account.clone());
    let decrypt = give(&world, &owner(), key, account, &[G::DecryptDatakey]).expect("its owner");
    assert!(seal(&world, &grantee, key).is_ok() && open(&world, &grantee, &data_key).is_ok());
    world.run(&owner(), RevokeGrant { key: key.into(), grant_id: decrypt }).expect("its owner");
    assert_eq!(open(&world, &grantee, &data_key), Err(not_granted(Action::DekCrypto)));
    assert!(seal(&world, &grantee, key).is_ok());
    world.run(&owner(), RetireGrant { key: key.into(), grant_id: create }).expect("who made it");
    assert_eq!(seal(&world, &grantee, key), Err(denied(Action::DekCreate)));
}

#[test]
fn a_whole_account_holds_what_was_granted_to_it() {
    let (world, key, (data_key, _)) = world();
    let account = Principal::Account(stranger().account);
    give(&world, &owner(), key, account, &[GrantOperation::DecryptDatakey]).expect("its owner");
    for name in ["zeta-admin", "zeta-nobody", "anyone"] {
        assert!(open(&world, &Caller { user: user(name), ..stranger() }, &data_key).is_ok());
    }
    let other = Caller { permissions: Permissions::NONE, ..caller("other", REGION) };
    assert_eq!(open(&world, &other, &data_key), Err(denied(Action::DekCrypto)));
}

#[test]
fn without_a_grant_a_foreign_key_looks_as_if_there_were_none() {
    let (world, key, _) = world();
    let unknown = KeyId::from_uuid(uuid::Uuid::from_u128(1));
    for id in [key, unknown] {
        assert_eq!(seal(&world, &foreign_owner(), id), Err(Error::KeyNotFound));
        assert_eq!(seal(&world, &stranger(), id), Err(denied(Action::DekCreate)));
    }
    // With a grant of one key, a stranger learns nothing of all others.
    give(&world, &owner(), key, to_user(&stranger()), &[GrantOperation::DescribeKey]).expect("its owner");
    let other = world.key(&owner(), "other").id;
    for id in [other, unknown] {
        assert_eq!(seal(&world, &foreign_owner(), id), Err(Error::KeyNotFound));
        let described = |by: &Caller| world.run(by, DescribeKey { key: id.into() }).err();
        assert_eq!(described(&stranger()), Some(denied(Action::CmkGet)));
    }
    // What is granted, but not for this, is known and refused.
    assert_eq!(seal(&world, &stranger(), key), Err(not_granted(Action::DekCreate)));
}

#[test]
fn nothing_but_what_is_granted_can_be_done_to_a_foreign_key() {
    let (world, key, _) = world();
    let all: Vec<_> = GrantOperation::ALL.to_vec();
    give(&world, &owner(), key, to_user(&foreign_owner()), &all).expect("its owner");
    let by = foreign_owner();
    let pending = PendingDays::parse(7).expect("a waiting time");
    let refused = [
        world.run(&by, DisableKey { key: key.into() }).err(),
        world.run(&by, ScheduleKeyDeletion { key: key.into(), pending }).err(),
    ];
    assert_eq!(refused, [Some(not_granted(Action::CmkDisable)), Some(not_granted(Action::CmkUpdate))]);
    let list = ListKeys { size: PageSize::parse(0).expect("a size"), token: None, state: None, spec: None };
    assert!(world.run(&by, list).expect("its own").keys.is_empty());
}

#[test]
fn grants_hold_in_the_keys_region_and_state_only() {
    let (world, key, (data_key, _)) = world();
    let grantee = stranger();
    give(&world, &owner(), key, to_user(&grantee), &[GrantOperation::DecryptDatakey]).expect("its owner");
    let elsewhere = Caller { permissions: Permissions::NONE, ..caller("zeta", "cn-east-3") };
    assert_eq!(open(&world, &elsewhere, &data_key), Err(denied(Action::DekCrypto)));
    world.run(&owner(), DisableKey { key: key.into() }).expect("its owner");
    assert_eq!(open(&world, &grantee, &data_key), Err(Error::KeyDisabled));
    let more = give(&world, &owner(), key, to_user(&grantee), &[GrantOperation::DescribeKey]);
    assert_eq!(more, Err(Error::KeyDisabled));
}

#[test]
fn default_keys_are_never_granted() {
    let world = World::new();
    let made = world.run(&owner(), generate(obs())).expect("made on first use").sealed;
    let refused =
        give(&world, &owner(), made.key_id, to_user(&stranger()), &[GrantOperation::DecryptDatakey]);
    assert_eq!(refused, Err(Error::DefaultKeyImmutable));
    assert_eq!(open(&world, &foreign_owner(), &made.ciphertext), Err(Error::KeyNotFound));
}

#[test]
fn an_operator_of_a_grantees_name_holds_nothing() {
    let (world, key, (data_key, _)) = world();
    let grantee = Principal::User(operator().user);
    let all: Vec<_> = GrantOperation::ALL.to_vec();
    let id = give(&world, &owner(), key, grantee, &all).expect("its owner");
    assert_eq!(open(&world, &operator(), &data_key), Err(denied(Action::DekCrypto)));
    let retired = world.run(&operator(), RetireGrant { key: key.into(), grant_id: id });
    assert_eq!(retired, Err(denied(Action::GrantRetire)));
}

#[test]
fn a_grantee_passes_on_no_more_than_it_holds_and_that_stays_when_its_own_ends() {
    use GrantOperation as G;
    let (world, key, (data_key, _)) = world();
    let (first, second) = (stranger(), Caller { permissions: Permissions::NONE, ..caller("other", REGION) });
    let pass_on = |operations: &[G]| give(&world, &first, key, to_user(&second), operations);
    assert_eq!(pass_on(&[G::DecryptDatakey]), Err(denied(Action::GrantCreate)));
    let own = give(&world, &owner(), key, to_user(&first), &[G::CreateGrant, G::DecryptDatakey]);
    let exceeded = Error::PermissionDenied { missing: Action::GrantCreate, denial: Denial::GrantExceeded };
    assert_eq!(pass_on(&[G::DecryptDatakey, G::CreateDatakey]), Err(exceeded));
    let account = Principal::Account(first.account.clone());
    give(&world, &owner(), key, account, &[G::CreateDatakey]).expect("its owner");
    let passed = pass_on(&[G::DecryptDatakey, G::CreateDatakey]).expect("both are held");
    let retire = RetireGrant { key: key.into(), grant_id: own.expect("its owner") };
    world.run(&owner(), retire).expect("who made it");
    assert_eq!(pass_on(&[G::DecryptDatakey]), Err(not_granted(Action::GrantCreate)));
    assert!(open(&world, &second, &data_key).is_ok());
    // Who made it may give it up; the owner of the key may take it away.
    world.run(&first, RetireGrant { key: key.into(), grant_id: passed }).expect("who made it");
    assert_eq!(open(&world, &second, &data_key), Err(denied(Action::DekCrypto)));
}

#[test]
fn the_record_names_the_grant_and_a_denied_call_costs_nothing() {
    let (world, key, (data_key, _)) = world();
    let grantee = stranger();
    let id = give(&world, &owner(), key, to_user(&grantee), &[GrantOperation::DecryptDatakey]);
    let (opened, records) = world.records_of(|| open(&world, &grantee, &data_key));
    assert!(opened.is_ok());
    assert_eq!((records[0].grant_id, records[0].key_id), (Some(id.expect("its owner")), Some(key)));
    let (_, records) = world.records_of(|| open(&world, &owner(), &data_key));
    assert_eq!(records[0].grant_id, None, "its own permissions suffice");
    let before = (world.hsm.calls(), world.store.dump());
    let (refused, records) = world.records_of(|| seal(&world, &grantee, key));
    assert_eq!(refused, Err(not_granted(Action::DekCreate)));
    assert_eq!((world.hsm.calls(), world.store.dump()), before);
    assert_eq!((records.len(), records[0].reason), (1, Some("PERMISSION_DENIED")));
}

#[test]
fn a_dry_run_says_what_would_happen_and_does_nothing() {
    let (world, key, (data_key, _)) = world();
    let (before, calls) = (world.store.dump(), world.hsm.calls());
    let opening = DecryptDataKey::new(&data_key, None, context()).expect("a ciphertext");
    assert_eq!(world.try_out(&owner(), opening), Error::DryRun);
    assert_eq!(world.try_out(&owner(), DisableKey { key: key.into() }), Error::DryRun);
    assert_eq!(world.try_out(&owner(), generate(obs())), Error::DryRun, "a default key would be made");
    assert_eq!(world.try_out(&stranger(), DisableKey { key: key.into() }), denied(Action::CmkDisable));
    assert_eq!(world.try_out(&foreign_owner(), DisableKey { key: key.into() }), Error::KeyNotFound);
    assert_eq!(world.try_out(&owner(), create("key")), Error::AliasExists);
    assert_eq!((world.store.dump(), world.hsm.calls()), (before, calls));
    let (_, records) = world.records_of(|| world.try_out(&owner(), DescribeKey { key: key.into() }));
    assert_eq!((records.len(), records[0].reason), (1, Some("DRY_RUN")));
    world.run(&owner(), DisableKey { key: key.into() }).expect("it was not disabled");
}
