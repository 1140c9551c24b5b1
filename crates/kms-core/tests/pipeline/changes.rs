//! Changes: nothing without an intent, idempotency, and what a change leaves in the store.

use kms_core::{
    Error, Phase, Verdict,
    key::{KeyId, KeyState},
    operation::{OperationClass, Permissions},
    ops::{CreateKey, DisableKey, EnableKey, IdempotencyToken, UpdateKeyAlias},
    ports::HsmError,
};

use crate::support::{World, alias, caller, create, finish, generate, obs, owner, poll, wait_until, with};

fn with_token(request: CreateKey, token: &str) -> CreateKey {
    CreateKey { idempotency_token: Some(IdempotencyToken::parse(token).expect("a token")), ..request }
}

#[test]
fn a_change_that_cannot_be_announced_does_not_happen() {
    let world = World::new();
    let (_, attempts) = world.key_with_attempts(&owner());
    for attempt in attempts.iter().filter(|attempt| attempt.name.info().class == OperationClass::Change) {
        let (before, calls, commits) = (world.store.dump(), world.hsm.calls(), world.store.commits());
        world.audit.fail_next(1);
        attempt.run(&world, &owner()).expect_err("no intent");
        assert_eq!(world.store.dump(), before, "{:?}", attempt.name);
        assert_eq!(world.store.commits(), commits, "{:?}", attempt.name);
        assert_eq!(world.hsm.calls().generate, calls.generate, "{:?}", attempt.name);
        attempt.run(&world, &owner()).expect("the log works again");
    }
}

#[test]
fn a_default_key_that_cannot_be_announced_is_not_made() {
    let world = World::new();
    world.audit.fail_next(2); // the intent of the key, and the record of its use
    let error = world.run(&owner(), generate(obs())).expect_err("no intent");
    assert_eq!(error.code(), "AUDIT_UNAVAILABLE");
    assert!(world.store.under(b"k/").is_empty());
}

#[test]
fn a_change_that_the_hsm_fails_before_its_intent_is_one_failure() {
    let world = World::new();
    world.hsm.fail_next(failed("C_GenerateRandom"));
    let (result, records) = world.records_of(|| world.run(&owner(), create("key")));
    assert_eq!(result.expect_err("the HSM failed").code(), "HSM_UNAVAILABLE");
    let told: Vec<_> = records.iter().map(|record| (record.phase, record.verdict)).collect();
    assert_eq!(told, [(Phase::Complete, Verdict::Failed)]);
}

#[test]
fn a_change_that_the_hsm_fails_after_its_intent_has_a_failed_outcome() {
    let world = World::new();
    let before = world.store.dump();
    world.audit.hold();
    let mut running = world.begin(&owner(), create("key"));
    wait_until("the intent is announced", || {
        assert!(poll(&mut running).is_pending());
        world.audit.held() == 1
    });
    world.hsm.fail_next(failed("C_GenerateKey"));
    world.audit.release();
    assert_eq!(finish(running).expect_err("the HSM failed").code(), "HSM_UNAVAILABLE");
    let records = world.audit.records();
    let told: Vec<_> = records.iter().map(|record| (record.phase, record.verdict)).collect();
    assert_eq!(told, [(Phase::Intent, Verdict::Pending), (Phase::Outcome, Verdict::Failed)]);
    assert_eq!((records[0].key_id, world.store.dump()), (records[1].key_id, before));
}

fn failed(function: &'static str) -> HsmError {
    HsmError::Unavailable { function, detail: "CKR_DEVICE_ERROR".to_owned() }
}

#[test]
fn a_retry_with_its_token_answers_the_first_result() {
    let world = World::new();
    let request = with_token(create("key"), "token");
    let first = world.run(&owner(), request.clone()).expect("made");
    let (again, records) = world.records_of(|| world.run(&owner(), request.clone()));
    assert_eq!(again.expect("the same"), first);
    let told: Vec<_> = records.iter().map(|record| (record.phase, record.key_id, record.reason)).collect();
    assert_eq!(told, [(Phase::Complete, Some(first.id), Some("EXISTED_ALREADY"))]);
    assert_eq!(world.store.under(b"k/").len(), 1);
    let other = CreateKey { alias: create("other").alias, ..request.clone() };
    assert_eq!(world.run(&owner(), other), Err(Error::IdempotencyTokenReused));
    for stranger in [caller("zeta", "cn-north-4"), caller("acme", "cn-east-3")] {
        let made = world.run(&stranger, request.clone()).expect("another list's token is another token");
        assert_ne!(made.id, first.id);
    }
    let denied = world.run(&with(Permissions::NONE), request).expect_err("the token is no permission");
    assert_eq!(denied.code(), "PERMISSION_DENIED");
}

#[test]
fn an_alias_belongs_to_one_key_until_it_is_given_up() {
    let world = World::new();
    let first = world.key(&owner(), "first").id;
    let second = world.key(&owner(), "second").id;
    assert_eq!(world.run(&owner(), create("first")), Err(Error::AliasExists));
    let rename = |key_id: KeyId, text| UpdateKeyAlias { key: key_id.into(), alias: create(text).alias };
    assert_eq!(world.run(&owner(), rename(second, "first")), Err(Error::AliasExists));
    assert_eq!(world.run(&owner(), rename(first, "first")).expect("its own name").alias, "first");
    world.run(&owner(), rename(first, "moved")).expect("a free name");
    assert_eq!(world.run(&owner(), generate(alias("first"))).expect_err("given up"), Error::KeyNotFound);
    let sealed = world.run(&owner(), generate(alias("moved"))).expect("its new name").sealed;
    assert_eq!(sealed.key_id, first);
    world.run(&owner(), rename(second, "first")).expect("free again");
}

#[test]
fn a_key_that_may_not_be_used_any_more_is_evicted() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    world.run(&owner(), DisableKey { key: key_id.into() }).expect("enabled before");
    assert_eq!(world.hsm.calls().evict, 1);
    let enabled = world.run(&owner(), EnableKey { key: key_id.into() }).expect("disabled before");
    assert_eq!((enabled.state, world.hsm.calls().evict), (KeyState::Enabled, 1));
}

#[test]
fn a_change_clears_the_trace_of_the_one_before() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    for _ in 0..3 {
        world.run(&owner(), DisableKey { key: key_id.into() }).expect("enabled before");
        world.run(&owner(), EnableKey { key: key_id.into() }).expect("disabled before");
        assert_eq!(world.store.under(b"o/").len(), 1);
    }
}
