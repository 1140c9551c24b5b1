//! What grants allow, to whom, and what whoever is refused learns.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kms_core::{
    Error, SecretBytes, Settings,
    access::{Policies, Policy},
    context::EncryptionContext,
    error::{Denial, Field},
    grant::{GrantId, GrantName, GrantOperation, GrantOperations, Principal},
    identity::{Caller, UserId},
    key::{KeyId, KeySpec, Scheme},
    operation::{Action, OperationName, Permissions},
    ops::{
        BatchCreateTags, BatchSize, CreateAlias, CreateGrant, CreateKey, DecryptDataKey, DescribeKey,
        DisableKey, EncryptDataKey, ExplainAccess, FurtherAlias, GenerateDataKeyWithoutPlaintext,
        GenerateDataKeys, Identity, IdentityLister, KeySelector, ListAliases, ListKeys, ListKeysByTags,
        ListProjectTags, PageSize, PageToken, PendingDays, ReEncrypt, ReplicateKey, RetireGrant, RevokeGrant,
        ScheduleKeyDeletion, TagFilter, TagKey, Tags, UpdatePrimaryRegion, UserAccess,
    },
};

use crate::{
    rotation::support::operator,
    support::{
        World, caller, context, create, decrypt_data, encrypt_data, generate, obs, owner, region_named,
        replicate,
    },
};

const REGION: &str = "cn-north-4";

/// A user of another account who may do nothing by himself.
fn stranger() -> Caller {
    Caller { permissions: Permissions::NONE, ..caller("zeta", REGION) }
}

/// One of another account who may do everything with his own keys.
fn foreign_owner() -> Caller {
    caller("zeta", REGION)
}

fn to_user(caller: &Caller) -> Principal {
    Principal::User(caller.user.clone())
}

fn give(
    world: &World,
    by: &Caller,
    key: KeyId,
    grantee: Principal,
    operations: &[GrantOperation],
) -> Result<GrantId, Error> {
    let request = CreateGrant {
        key: key.into(),
        grantee,
        operations: GrantOperations::parse(operations.iter().copied())?,
        name: GrantName::default(),
        retiring_principal: None,
        idempotency_token: None,
    };
    world.run(by, request).map(|grant| grant.id)
}

fn open(world: &World, by: &Caller, ciphertext: &[u8]) -> Result<Vec<u8>, Error> {
    let operation = DecryptDataKey::new(ciphertext, None, context()).expect("a ciphertext");
    world.run(by, operation).map(|opened| opened.plaintext.expose_secret().to_vec())
}

fn seal(world: &World, by: &Caller, key: KeyId) -> Result<Vec<u8>, Error> {
    world.run(by, generate(KeySelector::Id(key))).map(|made| made.sealed.ciphertext)
}

fn denied(missing: Action) -> Error {
    Error::denied(missing)
}

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

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}

/// A key of the owner's, with what it sealed.
fn world() -> (World, KeyId, (Vec<u8>, Vec<u8>)) {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let data_key = seal(&world, &owner(), key).expect("its owner");
    let small_data = world.run(&owner(), encrypt_data(key.into())).expect("its owner").ciphertext;
    (world, key, (data_key, small_data))
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

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
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

/// What these policies say, in DEW's form.
fn policies(documents: &[&str]) -> Permissions {
    let policy = |document: &&str| Arc::new(Policy::parse("test", document).expect("a policy"));
    Permissions::Of(Arc::new(Policies::new(documents.iter().map(policy))))
}

fn allow(actions: &str, more: &str) -> String {
    statement("Allow", actions, more)
}

fn statement(effect: &str, actions: &str, more: &str) -> String {
    format!(r#"{{"Version":"1.1","Statement":[{{"Effect":"{effect}","Action":["{actions}"]{more}}}]}}"#)
}

#[test]
fn a_policy_for_one_key_is_none_for_another_and_shows_no_other() {
    let (world, key, (data_key, _)) = world();
    let other = world.key(&owner(), "other").id;
    let only = |id: KeyId| format!(r#","Resource":["KMS:*:*:KeyId:{id}"]"#);
    let permissions =
        policies(&[&allow("kms:cmk:list", ""), &allow(r#"kms:cmk:get","kms:dek:*"#, &only(key))]);
    let caller = Caller { permissions, ..owner() };
    assert!(open(&world, &caller, &data_key).is_ok() && seal(&world, &caller, key).is_ok());
    let not_on_it = Error::denied_on_key(Action::DekCreate);
    assert_eq!(seal(&world, &caller, other), Err(not_on_it.clone()));
    let unknown = KeyId::from_uuid(uuid::Uuid::from_u128(1));
    assert_eq!(seal(&world, &caller, unknown), Err(not_on_it));
    let list = ListKeys { size: PageSize::parse(0).expect("a size"), token: None, state: None, spec: None };
    let seen: Vec<_> = world.run(&caller, list).expect("it may list").keys.iter().map(|key| key.id).collect();
    assert_eq!(seen, [key]);
    // What is about no key is not covered by a statement for some.
    let creating = Caller { permissions: policies(&[&allow("kms:cmk:*", &only(key))]), ..owner() };
    assert_eq!(world.run(&creating, create("new")).err(), Some(denied(Action::CmkCreate)));
}

#[test]
fn whoever_may_use_some_keys_only_is_told_the_same_of_every_other_and_of_none() {
    let (world, key, _) = world();
    let (other, foreign) = (world.key(&owner(), "other").id, world.key(&foreign_owner(), "theirs").id);
    let unknown = KeyId::from_uuid(uuid::Uuid::from_u128(1));
    let actions = r#"kms:dek:*","kms:cmk:get"#;
    let of = |id: KeyId| format!(r#","Resource":["KMS:*:*:KeyId:{id}"]"#);
    let of_context = r#","Condition":{"StringEquals":{"kms:EncryptionContext/bucket":["photos"]}}"#;
    let allowed = allow(actions, &of(key));
    let refused = |missing, denial| Some(Error::PermissionDenied { missing, denial });
    for (documents, denial) in [
        (vec![allowed.clone()], Denial::KeyNotAllowed),
        (vec![allowed.clone(), statement("Deny", actions, &of(other))], Denial::KeyNotAllowed),
        (vec![allowed.clone(), statement("Deny", actions, of_context)], Denial::PolicyDenies),
    ] {
        let documents: Vec<_> = documents.iter().map(String::as_str).collect();
        let caller = Caller { permissions: policies(&documents), ..owner() };
        let ids = [other, foreign, unknown].map(KeySelector::Id);
        let names = ["other", "theirs", "unknown"].map(|name| KeySelector::alias(name).expect("a name"));
        for selector in ids.into_iter().chain(names) {
            let sealed = world.run(&caller, generate(selector.clone())).err();
            assert_eq!(sealed, refused(Action::DekCreate, denial), "{selector:?}");
            assert_eq!(Some(world.try_out(&caller, generate(selector.clone()))), sealed, "{selector:?}");
            let described = world.run(&caller, DescribeKey { key: selector.clone() }).err();
            assert_eq!(described, refused(Action::CmkGet, Denial::KeyNotAllowed), "{selector:?}");
        }
    }
}

#[test]
fn a_source_that_the_context_forbids_is_not_told_from_one_that_does_not_exist() {
    let (world, key, (data_key, _)) = world();
    let films = r#","Condition":{"StringEquals":{"kms:EncryptionContext/bucket":["films"]}}"#;
    let caller = Caller { permissions: policies(&[&allow("kms:dek:*", films)]), ..owner() };
    let films = BTreeMap::from([("bucket".to_owned(), "films".to_owned())]);
    let films = EncryptionContext::new(films).expect("short enough");
    for source in [key, KeyId::from_uuid(uuid::Uuid::from_u128(1))] {
        let moved = |context| {
            let request = ReEncrypt::new(&data_key, Some(source.into()), context, key.into(), films.clone());
            world.run(&caller, request.expect("a ciphertext")).err()
        };
        assert_eq!(moved(context()), Some(Error::denied_on_key(Action::DekCrypto)), "{source:?}");
        assert_ne!(moved(films.clone()), Some(Error::denied_on_key(Action::DekCrypto)), "{source:?}");
    }
}

#[test]
fn a_fine_action_name_gives_no_more_than_it_says() {
    let (world, key, _) = world();
    let permissions = policies(&[&allow("kms:cmk:createDataKeyWithoutPlaintext", "")]);
    let caller = Caller { permissions, ..owner() };
    assert!(world.run(&caller, GenerateDataKeyWithoutPlaintext(generate(key.into()))).is_ok());
    assert_eq!(seal(&world, &caller, key), Err(denied(Action::DekCreate)));
}

#[test]
fn a_deny_wins_over_permissions_and_grants_and_the_log_names_it() {
    let (world, key, (data_key, _)) = world();
    let everything = allow("*", "");
    let deny = |more: &str| statement("Deny", "kms:dek:crypto", more);
    let context = r#","Condition":{"StringEquals":{"kms:EncryptionContext/bucket":["photos"]}}"#;
    for deny in [deny(""), deny(context)] {
        let own = Caller { permissions: policies(&[&everything, &deny]), ..owner() };
        let (refused, records) = world.records_of(|| open(&world, &own, &data_key));
        assert_eq!(refused, Err(policy_denies(Action::DekCrypto)));
        assert_eq!(records[0].ruling.as_deref(), Some("denied by statement 1 of test"));
        let foreign = Caller { permissions: policies(&[&deny]), ..caller("zeta", REGION) };
        let id = give(&world, &owner(), key, to_user(&foreign), &[GrantOperation::DecryptDatakey]);
        let refused = open(&world, &foreign, &data_key).expect_err("denied");
        assert!(is_denied_by_policy(&refused), "{refused:?}");
        let revoke = RevokeGrant { key: key.into(), grant_id: id.expect("its owner") };
        world.run(&owner(), revoke).expect("its owner");
    }
    // Another bucket's context is not denied.
    let elsewhere = context.replace("photos", "films");
    let own = Caller { permissions: policies(&[&everything, &deny(&elsewhere)]), ..owner() };
    assert!(open(&world, &own, &data_key).is_ok());
    // A condition on the key's kind is decided when the key is known, and said in the log.
    let by_kind =
        statement("Deny", "kms:dek:*", r#","Condition":{"StringEquals":{"kms:KeySpec":["AES_256"]}}"#);
    let caller = Caller { permissions: policies(&[&everything, &by_kind]), ..owner() };
    let (refused, records) = world.records_of(|| open(&world, &caller, &data_key));
    assert_eq!(refused, Err(policy_denies_key(Action::DekCrypto)));
    assert_eq!(records[0].ruling.as_deref(), Some("denied by statement 1 of test"));
}

#[test]
fn conditions_on_what_is_made_hold_before_it_is() {
    let world = World::new();
    let only_sm4 = allow("kms:cmk:create", r#","Condition":{"StringEquals":{"kms:KeySpec":["SM4"]}}"#);
    let caller = Caller { permissions: policies(&[&only_sm4]), ..owner() };
    assert_eq!(world.run(&caller, create("aes")).err(), Some(denied(Action::CmkCreate)));
    let sm4 = CreateKey { spec: KeySpec::Sm4, ..create("sm4") };
    assert_eq!(world.run(&caller, sm4).expect("its kind").spec, KeySpec::Sm4);
}

#[test]
fn what_is_denied_by_one_name_is_not_to_be_had_by_another() {
    let (world, key, (data_key, _)) = world();
    let other = world.key(&owner(), "other").id;
    let denied = |action: &str| {
        let documents = [allow("*", ""), statement("Deny", action, "")];
        Caller { permissions: policies(&[&documents[0], &documents[1]]), ..owner() }
    };
    let refused = |missing| Some(policy_denies_key(missing));
    let moved = |caller: &Caller| {
        let request = ReEncrypt::new(&data_key, None, context(), other.into(), context());
        world.run(caller, request.expect("a ciphertext")).err()
    };
    assert_eq!(moved(&denied("kms:cmk:decryptDataKey")), refused(Action::DekCrypto));
    assert_eq!(moved(&denied("kms:cmk:encryptDataKey")), refused(Action::DekCrypto));
    assert_eq!(moved(&denied("kms:cmk:sign")), None);
    let batch = |caller: &Caller, with_plaintext| {
        let each = generate(key.into());
        let count = BatchSize::parse(2).expect("a size");
        world.run(caller, GenerateDataKeys { each, count, with_plaintext }).err()
    };
    let without = denied("kms:cmk:createDataKeyWithoutPlaintext");
    assert_eq!((batch(&without, false), batch(&without, true)), (refused(Action::DekCreate), None));
}

/// Everything but what this statement denies.
fn all_but(actions: &str, more: &str) -> Caller {
    let (everything, deny) = (allow("*", ""), statement("Deny", actions, more));
    Caller { permissions: policies(&[&everything, &deny]), ..owner() }
}

fn policy_denies(missing: Action) -> Error {
    Error::PermissionDenied { missing, denial: Denial::PolicyDenies }
}

fn policy_denies_key(missing: Action) -> Error {
    Error::PermissionDenied { missing, denial: Denial::PolicyDeniesKey }
}

fn is_denied_by_policy(error: &Error) -> bool {
    let Error::PermissionDenied { denial, .. } = error else { return false };
    matches!(denial, Denial::PolicyDenies | Denial::PolicyDeniesKey)
}

#[test]
fn a_default_key_is_not_made_for_a_call_that_is_denied() {
    let (world, key, _) = world();
    let holder = Caller { permissions: policies(&[&allow("kms:cmk:create", "")]), ..owner() };
    give(&world, &owner(), key, to_user(&holder), &[GrantOperation::DescribeKey]).expect("its owner");
    let aes = r#","Condition":{"StringEquals":{"kms:KeySpec":["AES_256"]}}"#;
    let of_one = allow("kms:dek:create", &format!(r#","Resource":["KMS:*:*:KeyId:{key}"]"#));
    let limited = Caller {
        permissions: policies(&[&allow("kms:cmk:create", ""), &of_one]),
        user: user("limited"),
        ..owner()
    };
    let (before, calls) = (world.store.dump(), world.hsm.calls());
    for caller in [holder, limited, all_but("kms:dek:create", aes), all_but("kms:cmk:create", aes)] {
        let refused = world.run(&caller, generate(obs())).expect_err("not allowed");
        assert_eq!(refused.code(), "PERMISSION_DENIED");
        let batch = GenerateDataKeys {
            each: generate(obs()),
            count: BatchSize::parse(2).expect("a size"),
            with_plaintext: false,
        };
        assert_eq!(world.run(&caller, batch).expect_err("not allowed").code(), "PERMISSION_DENIED");
    }
    let part = all_but("kms:cmk:createDataKeyWithoutPlaintext", "");
    let batch = GenerateDataKeys {
        each: generate(obs()),
        count: BatchSize::parse(2).expect("a size"),
        with_plaintext: false,
    };
    assert_eq!(world.run(&part, batch).err(), Some(policy_denies_key(Action::DekCreate)));
    assert_eq!((world.store.dump(), world.hsm.calls()), (before, calls), "nothing was made");
}

#[test]
fn a_default_key_is_not_made_for_a_call_that_a_denial_by_id_covers() {
    let world = World::new();
    let batch = || GenerateDataKeys {
        each: generate(obs()),
        count: BatchSize::parse(2).expect("a size"),
        with_plaintext: false,
    };
    let denials = [
        ("kms:dek:create", r#","Resource":["KMS:*:*:KeyId:*"]"#),
        ("kms:dek:create", r#","Resource":["KMS:*:acme:KeyId:0*","KMS:*:zeta:KeyId:*"]"#),
        ("kms:cmk:create", r#","Resource":["KMS:cn-north-4:*:KeyId:*-7*"]"#),
    ];
    let (before, calls) = (world.store.dump(), world.hsm.calls());
    for (action, resource) in denials {
        let caller = all_but(action, resource);
        let refused = world.run(&caller, generate(obs())).expect_err("denied");
        assert!(
            matches!(refused, Error::PermissionDenied { denial: Denial::PolicyDeniesKey, .. }),
            "{resource}"
        );
        assert_eq!(world.try_out(&caller, generate(obs())), refused);
    }
    let part = all_but("kms:cmk:createDataKeyWithoutPlaintext", r#","Resource":["KMS:*:*:KeyId:*"]"#);
    assert_eq!(world.run(&part, batch()).err(), Some(policy_denies_key(Action::DekCreate)));
    assert_eq!((world.store.dump(), world.hsm.calls()), (before, calls), "nothing was made");
    // Denials of other keys, accounts and regions are none of this one.
    let id = "0193a000-0000-7000-8000-00000000000a";
    let elsewhere =
        [&format!("KMS:*:*:KeyId:{id}"), "KMS:*:zeta:KeyId:*", "KMS:cn-east-3:*:KeyId:*", "KMS:*:*:KeyId:f*"]
            .map(|resource| format!(r#""{resource}""#));
    let caller = all_but("*", &format!(r#","Resource":[{}]"#, elsewhere.join(",")));
    let made = world.run(&caller, generate(obs())).expect("none of them").sealed.key_id;
    assert_eq!(world.run(&caller, generate(obs())).expect("it is there").sealed.key_id, made);
}

#[test]
fn a_permission_for_all_keys_holds_for_a_default_key_that_is_yet_to_be_made() {
    let world = World::new();
    let uses = allow("kms:dek:create", r#","Resource":["KMS:*:*:KeyId:*"]"#);
    let makes = allow("kms:cmk:create", "");
    let caller = |documents: &[&str]| Caller { permissions: policies(documents), ..owner() };
    let refused = world.run(&caller(&[&uses]), generate(obs())).expect_err("it may make none");
    assert_eq!(refused, denied(Action::CmkCreate));
    world.run(&caller(&[&uses, &makes]), generate(obs())).expect("it may");
}

#[test]
fn a_default_key_has_its_alias_in_conditions() {
    let world = World::new();
    let named =
        |alias: &str| format!(r#","Condition":{{"StringEquals":{{"kms:RequestAlias":["{alias}"]}}}}"#);
    let evs = || KeySelector::service("evs").expect("a known service");
    let only_obs =
        [allow("kms:dek:*", &named("obs/default")), allow("kms:cmk:create", &named("obs/default"))];
    let caller = Caller { permissions: policies(&only_obs.each_ref().map(String::as_str)), ..owner() };
    for _ in 0..2 {
        world.run(&caller, generate(obs())).expect("it is named so"); // made, and found
        assert_eq!(world.run(&caller, generate(evs())).err(), Some(Error::denied_on_key(Action::DekCreate)));
    }
    world.run(&owner(), generate(evs())).expect("its owner");
    assert_eq!(world.run(&caller, generate(evs())).err(), Some(Error::denied_on_key(Action::DekCreate)));
    let denied = all_but("kms:dek:create", &named("evs/default"));
    assert_eq!(world.run(&denied, generate(evs())).err(), Some(policy_denies_key(Action::DekCreate)));
    world.run(&denied, generate(obs())).expect("of another name");
}

#[test]
fn no_key_is_made_with_an_alias_or_tags_that_are_denied() {
    let (world, key, _) = world();
    let tags = || Tags::parse([("team", "red")]).expect("tags");
    let of_alias = r#","Condition":{"StringStartWith":{"kms:RequestAlias":["prod-"]}}"#;
    let (before, calls) = (world.store.dump(), world.hsm.calls());
    let refuses = |caller: &Caller, alias: &str, tags: &Tags, missing| {
        let made = world.run(caller, CreateKey { tags: tags.clone(), ..create(alias) });
        assert_eq!(made.err(), Some(policy_denies(missing)));
        let copy = ReplicateKey { tags: tags.clone(), ..replicate(key, "cn-east-3", alias) };
        assert_eq!(world.run(caller, copy).err(), Some(policy_denies(missing)));
    };
    refuses(&all_but("kms:cmkTag:create", ""), "new", &tags(), Action::TagCreate);
    refuses(&all_but("kms:alias:create", of_alias), "prod-a", &Tags::default(), Action::AliasCreate);
    refuses(&all_but("kms:alias:create", ""), "new", &Tags::default(), Action::AliasCreate);
    let there = r#","Condition":{"StringEquals":{"g:RequestedRegion":["cn-east-3"]}}"#;
    let copy = ReplicateKey { tags: tags(), ..replicate(key, "cn-east-3", "r") };
    let refused = world.run(&all_but("kms:cmkTag:create", there), copy.clone());
    assert_eq!(refused.err(), Some(policy_denies(Action::TagCreate)));
    assert_eq!((world.store.dump(), world.hsm.calls()), (before, calls), "nothing was made");
    // What is not denied is made: without tags, under another name, in another region.
    world.run(&all_but("kms:cmkTag:create", ""), create("new")).expect("without tags");
    world.run(&all_but("kms:alias:create", of_alias), create("dev-a")).expect("of another name");
    let here = CreateKey { tags: tags(), ..create("here") };
    world.run(&all_but("kms:cmkTag:create", there), here).expect("in another region");
    // No permission is needed for them, as before.
    let makes = Caller { permissions: policies(&[&allow("kms:cmk:create", "")]), ..owner() };
    world.run(&makes, CreateKey { tags: tags(), ..create("tagged") }).expect("it may make keys");
}

/// Who may do this with the key, each by what, as an operator is told.
fn explained(
    world: &World,
    key: KeyId,
    everyone: &[Caller],
    operation: OperationName,
) -> Vec<(UserId, String)> {
    let identity = |caller: &Caller| Identity {
        account: caller.account.clone(),
        user: caller.user.clone(),
        permissions: caller.permissions.clone(),
    };
    let everyone: Vec<_> = everyone.iter().map(identity).collect();
    let identities: IdentityLister = Arc::new(move |_| everyone.clone());
    let request = ExplainAccess { key_id: key, user: None, identities };
    let users = world.run(&operator(), request).expect("an operator may").users;
    let by = |user: UserAccess| {
        let told = user.allowed.into_iter().filter(|(_, operations)| operations.contains(&operation));
        told.map(|(by, _)| (user.user.clone(), by)).collect::<Vec<_>>()
    };
    users.into_iter().flat_map(by).collect()
}

#[test]
fn an_explanation_of_retirement_names_the_grants_that_each_may_give_up() {
    let (world, key, _) = world();
    let named = |name: &str, permissions| Caller { user: user(name), permissions, ..caller("zeta", REGION) };
    let [grantee, retirer, other] =
        ["grantee", "retirer", "other"].map(|name| named(name, Permissions::NONE));
    let barred = named("barred", policies(&[&statement("Deny", "kms:grant:retire", "")]));
    let make = |grantee: &Caller, retirer: &Caller, operations: &[GrantOperation]| {
        let request = CreateGrant {
            key: key.into(),
            grantee: to_user(grantee),
            operations: GrantOperations::parse(operations.iter().copied()).expect("operations"),
            name: GrantName::default(),
            retiring_principal: Some(retirer.user.clone()),
            idempotency_token: None,
        };
        world.run(&owner(), request).expect("its owner").id
    };
    let first = make(&grantee, &retirer, &[GrantOperation::DescribeKey, GrantOperation::RetireGrant]);
    let second = make(&grantee, &barred, &[GrantOperation::DescribeKey]);
    let everyone = [owner(), grantee, retirer, other, barred];
    let told = explained(&world, key, &everyone, OperationName::RetireGrant);
    let by = |caller: &Caller, id: GrantId| (caller.user.clone(), format!("grant {id}"));
    let [owner, grantee, retirer, ..] = &everyone;
    let expected = vec![by(owner, first), by(owner, second), by(grantee, first), by(retirer, first)];
    assert_eq!(sorted(told.clone()), sorted(expected));
    // It is as it says.
    for caller in &everyone {
        for id in [first, second] {
            let answer = world.try_out(caller, RetireGrant { key: key.into(), grant_id: id });
            assert_eq!(
                answer == Error::DryRun,
                told.contains(&by(caller, id)),
                "{}: {answer:?}",
                caller.user
            );
        }
    }
}

#[test]
fn nobody_is_looked_up_for_who_may_not_ask_who_may_do_what() {
    let (world, key, _) = world();
    let asked = Arc::new(AtomicBool::new(false));
    let lister = |asked: Arc<AtomicBool>| -> IdentityLister {
        Arc::new(move |_| {
            asked.store(true, Ordering::SeqCst);
            Vec::new()
        })
    };
    let request =
        || ExplainAccess { key_id: key, user: Some(user("bob")), identities: lister(asked.clone()) };
    assert_eq!(world.run(&owner(), request()).err(), Some(denied(Action::RootManage)));
    assert!(!asked.load(Ordering::SeqCst));
    let unknown = world.run(&operator(), request()).expect_err("there is no such user");
    assert!(matches!(unknown, Error::InvalidField { field: Field::UserId, .. }));
    assert!(asked.load(Ordering::SeqCst));
}

#[test]
fn a_grant_is_not_given_up_against_a_denial() {
    let (world, key, _) = world();
    let resource = format!(r#","Resource":["KMS:*:*:KeyId:{key}"]"#);
    let denied = all_but("kms:grant:retire", &resource);
    let id = give(&world, &denied, key, to_user(&stranger()), &[GrantOperation::DescribeKey]);
    let retire = RetireGrant { key: key.into(), grant_id: id.expect("it may grant") };
    assert_eq!(world.run(&denied, retire.clone()), Err(policy_denies_key(Action::GrantRetire)));
    assert_eq!(world.run(&owner(), retire), Ok(()));
}

#[test]
fn a_key_of_another_region_is_not_made_or_changed_against_a_denial() {
    let (world, key, _) = world();
    let there = r#","Condition":{"StringEquals":{"g:RequestedRegion":["cn-east-3"]}}"#;
    for (actions, missing) in [("kms:cmk:create", Action::CmkCreate), ("*", Action::CmkReplicate)] {
        let refused = world.run(&all_but(actions, there), replicate(key, "cn-east-3", "r"));
        assert_eq!(refused.err(), Some(policy_denies(missing)), "{actions}");
    }
    world.run(&owner(), replicate(key, "cn-east-3", "r")).expect("its owner");
    let promote = UpdatePrimaryRegion { key: key.into(), region: region_named("cn-east-3") };
    let refused = world.run(&all_but("*", there), promote);
    assert_eq!(refused.err(), Some(policy_denies_key(Action::CmkUpdatePrimaryRegion)));
}

#[test]
fn a_permission_by_alias_holds_however_often_it_is_asked() {
    let settings = Settings { aes_256: Scheme::InHsm, in_hsm_budget: 2, ..Settings::default() };
    let world = World::with(settings);
    world.key(&owner(), "app");
    let by_alias = r#","Condition":{"StringEquals":{"kms:RequestAlias":["app"]}}"#;
    let caller = Caller { permissions: policies(&[&allow("kms:dek:*", by_alias)]), ..owner() };
    for _ in 0..5 {
        world.run(&caller, generate(crate::support::alias("app"))).expect("named so");
    }
    let other = all_but("kms:dek:*", r#","Condition":{"StringNotEquals":{"kms:RequestAlias":["app"]}}"#);
    let batch = |key: KeySelector| GenerateDataKeys {
        each: generate(key),
        count: BatchSize::parse(2).expect("a size"),
        with_plaintext: true,
    };
    assert!(world.run(&other, batch(crate::support::alias("app"))).is_ok());
}

#[test]
fn listings_tell_nothing_of_what_may_not_be_described() {
    let (world, key, _) = world();
    let hidden = world.key(&owner(), "hidden").id;
    let tag = |key: KeyId, name: &str| {
        let tags = Tags::parse([(name, "v")]).expect("tags");
        world.run(&owner(), BatchCreateTags::new(key.into(), tags).expect("tags")).expect("its owner");
    };
    tag(key, "seen");
    tag(hidden, "secret");
    let only = format!(r#","Resource":["KMS:*:*:KeyId:{key}"]"#);
    let lists = allow(r#"kms:cmkTag:listInstance","kms:cmkTag:list"#, "");
    let caller = Caller { permissions: policies(&[&lists, &allow("kms:cmk:get", &only)]), ..owner() };
    let size = PageSize::parse(0).expect("a size");
    let tags = world.run(&caller, ListProjectTags { size, token: None }).expect("it may list").tags;
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["seen"]);
    let count = |name: &str| {
        let filter = TagFilter { key: TagKey::parse(name).expect("a key"), values: Vec::new() };
        let search = ListKeysByTags::new(vec![filter], String::new(), None).expect("a search");
        world.run(&caller, search).expect("it may list").total
    };
    assert_eq!((count("seen"), count("secret")), (1, 0));
}

#[test]
fn page_tokens_tell_nothing_of_what_may_not_be_described() {
    let world = World::new();
    let names = ["alias/a", "alias/hidden-behind-a-long-name", "alias/c"];
    let keys: Vec<KeyId> = names.iter().map(|name| named_and_tagged(&world, name)).collect();
    let shown: String = [keys[0], keys[2]].map(|id| format!(r#""KMS:*:*:KeyId:{id}""#)).join(",");
    let lists = allow(r#"kms:cmk:list","kms:alias:list","kms:cmkTag:listInstance","kms:cmkTag:list"#, "");
    let describes = allow("kms:cmk:get", &format!(r#","Resource":[{shown}]"#));
    let caller = Caller { permissions: policies(&[&lists, &describes]), ..owner() };
    let size = PageSize::parse(1).expect("a size");
    let mut tokens = Vec::new();
    // Each listing shows all but what is hidden, in as many pages as there are entries.
    let ids = pages(&mut tokens, |token| {
        let page =
            world.run(&caller, ListKeys { size, token, state: None, spec: None }).expect("it may list");
        (page.keys.into_iter().map(|key| key.id).collect(), page.next)
    });
    assert_eq!(sorted(ids), sorted(vec![keys[0], keys[2]]));
    let aliases = pages(&mut tokens, |token| {
        let page = world.run(&caller, ListAliases { key: None, size, token }).expect("it may list");
        (page.aliases.into_iter().map(|entry| entry.alias).collect(), page.next)
    });
    assert_eq!(aliases, ["alias/a", "alias/c"]);
    let tags = pages(&mut tokens, |token| {
        let page = world.run(&caller, ListProjectTags { size, token }).expect("it may list");
        (page.tags.into_keys().collect(), page.next)
    });
    assert_eq!(tags.len(), 2);
    assert_eq!(tokens.len(), 6);
    assert!(tokens.iter().all(|token| token.len() == tokens[0].len()), "of one length");
    for token in &tokens {
        let tells = |what: &[u8]| token.windows(what.len()).any(|part| part == what);
        assert!(!tells(keys[1].as_bytes()) && !tells(b"hidden"));
    }
}

/// A key with this further alias, and with a tag of the alias' name.
fn named_and_tagged(world: &World, name: &str) -> KeyId {
    let key = world.key(&owner(), &name.replace('/', "-")).id;
    let alias = FurtherAlias::parse(name).expect("an alias");
    world.run(&owner(), CreateAlias { key: key.into(), alias }).expect("it is free");
    let tags = Tags::parse([(&name[6..], "v")]).expect("tags");
    world.run(&owner(), BatchCreateTags::new(key.into(), tags).expect("tags")).expect("its owner");
    key
}

/// What all pages of a listing have; its tokens, decoded, go to `tokens`.
fn pages<T>(
    tokens: &mut Vec<Vec<u8>>,
    mut read: impl FnMut(Option<PageToken>) -> (Vec<T>, Option<PageToken>),
) -> Vec<T> {
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let (page, next) = read(token);
        all.extend(page);
        let Some(next) = next else { return all };
        tokens.push(URL_SAFE_NO_PAD.decode(next.encode()).expect("it is base64"));
        assert!(tokens.len() < 10, "the pages do not end");
        token = PageToken::parse(&next.encode()).expect("its own");
    }
}

#[test]
fn a_dry_run_asks_nothing_of_the_hsm_and_spends_nothing() {
    let settings = Settings { aes_256: Scheme::InHsm, in_hsm_budget: 100, ..Settings::default() };
    let world = World::with(settings);
    let key = world.key(&owner(), "key").id;
    seal(&world, &owner(), key).expect("its owner");
    let calls = world.hsm.calls();
    assert_eq!(world.try_out(&owner(), create("new")), Error::DryRun);
    assert_eq!(world.try_out(&owner(), replicate(key, "cn-east-3", "r")), Error::DryRun);
    for _ in 0..200 {
        assert_eq!(world.try_out(&owner(), generate(key.into())), Error::DryRun);
    }
    assert_eq!(world.hsm.calls(), calls);
    seal(&world, &owner(), key).expect("its budget is not spent");
    let version = world.run(&owner(), DescribeKey { key: key.into() }).expect("its own").versions.len();
    assert_eq!(version, 1);
}
