//! The life cycle of keys, through every operation.

use std::time::Duration;

use kms_core::{
    Error,
    key::{KeyId, KeyState},
    operation::OperationName,
    ops::{
        CancelKeyDeletion, DecryptDataKey, DescribeKey, DisableKey, KeySelector, ListKeys, PageSize,
        PendingDays, ScheduleKeyDeletion,
    },
};

use crate::support::{World, alias, attempts, caller, context, create, generate, obs, owner};

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn schedule(world: &World, key_id: KeyId) {
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key_id, pending }).expect("it waits for nothing yet");
}

fn list(world: &World) -> Vec<KeyId> {
    let size = PageSize::parse(0).expect("a size");
    let page = world.run(&owner(), ListKeys { size, token: None, state: None, spec: None });
    page.expect("listed").keys.into_iter().map(|key| key.id).collect()
}

/// What an operation answers in a state; `None`: it succeeds.
fn refusal(name: OperationName, state: KeyState) -> Option<&'static str> {
    use KeyState::{Disabled, Enabled, PendingDeletion};
    use OperationName as Name;
    match (name, state) {
        (Name::EnableKey, Enabled | PendingDeletion) => Some("KEY_NOT_DISABLED"),
        (Name::DisableKey, Disabled | PendingDeletion) => Some("KEY_NOT_ENABLED"),
        (Name::ScheduleKeyDeletion, PendingDeletion) => Some("KEY_ALREADY_PENDING_DELETION"),
        (Name::CancelKeyDeletion, Enabled | Disabled) => Some("KEY_NOT_PENDING_DELETION"),
        (Name::UpdateKeyAlias | Name::UpdateKeyDescription, PendingDeletion) => Some("KEY_PENDING_DELETION"),
        (
            Name::GenerateDataKey
            | Name::GenerateDataKeyWithoutPlaintext
            | Name::EncryptDataKey
            | Name::DecryptDataKey
            | Name::EnableKeyRotation
            | Name::UpdateRotationInterval
            | Name::RotateKeyOnDemand
            | Name::DisableKeyRotation,
            state,
        ) => match state {
            Disabled => Some("KEY_DISABLED"),
            PendingDeletion => Some("KEY_PENDING_DELETION"),
            // It was not enabled before.
            _ if matches!(name, Name::DisableKeyRotation | Name::UpdateRotationInterval) => {
                Some("ROTATION_NOT_ENABLED")
            }
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn every_operation_in_every_state() {
    let count = World::new().key_with_attempts(&owner()).1.len();
    for state in [KeyState::Enabled, KeyState::Disabled, KeyState::PendingDeletion] {
        for index in 0..count {
            let world = World::new();
            let (key_id, attempts) = world.key_with_attempts(&owner());
            match state {
                KeyState::Disabled => {
                    world.run(&owner(), DisableKey { key_id }).expect("enabled before");
                }
                KeyState::PendingDeletion => schedule(&world, key_id),
                _ => {}
            }
            let (before, calls, attempt) = (world.store.dump(), world.hsm.calls(), &attempts[index]);
            let expected = refusal(attempt.name, state);
            let actual = attempt.run(&world, &owner()).err();
            assert_eq!(actual.map(|error| error.code()), expected, "{:?} in {state:?}", attempt.name);
            if expected.is_some() {
                assert_eq!(world.store.dump(), before, "{:?} in {state:?} changed something", attempt.name);
                assert_eq!(world.hsm.calls(), calls, "{:?} in {state:?} reached the HSM", attempt.name);
            }
        }
    }
}

#[test]
fn default_keys_serve_and_cannot_be_managed() {
    let world = World::new();
    let sealed = world.run(&owner(), generate(obs())).expect("made on first use").sealed;
    for attempt in attempts(sealed.key_id, &sealed.ciphertext) {
        use OperationName as Name;
        let managed = matches!(
            attempt.name,
            Name::EnableKey
                | Name::DisableKey
                | Name::ScheduleKeyDeletion
                | Name::CancelKeyDeletion
                | Name::UpdateKeyAlias
                | Name::UpdateKeyDescription
                | Name::EnableKeyRotation
                | Name::UpdateRotationInterval
                | Name::RotateKeyOnDemand
                | Name::DisableKeyRotation
        );
        let expected = managed.then_some(Error::DefaultKeyImmutable);
        assert_eq!(attempt.run(&world, &owner()).err(), expected, "{:?}", attempt.name);
    }
    let described = world.run(&owner(), DescribeKey { key: alias("obs/default") }).expect("it has an alias");
    assert_eq!((described.id, described.alias.as_str()), (sealed.key_id, "obs/default"));
}

#[test]
fn only_sealing_makes_a_default_key() {
    let world = World::new();
    world.key(&owner(), "key");
    assert_eq!(world.run(&owner(), DescribeKey { key: obs() }), Err(Error::KeyNotFound));
    let ciphertext = world.run(&owner(), generate(alias("key"))).expect("enabled").sealed.ciphertext;
    let open = DecryptDataKey::new(&ciphertext, Some(obs()), context()).expect("a ciphertext");
    assert_eq!(world.run(&owner(), open).expect_err("not made yet"), Error::KeyNotFound);
    assert!(world.store.under(b"d/").is_empty());
    // By its alias a default key is used and made as by its service.
    world.run(&owner(), generate(alias("obs/default"))).expect("made on first use");
}

#[test]
fn a_key_whose_deletion_is_due_does_not_exist() {
    let world = World::new();
    let (key_id, attempts) = world.key_with_attempts(&owner());
    schedule(&world, key_id);
    world.clock.advance(WEEK.saturating_sub(Duration::from_micros(1)));
    assert_eq!(list(&world), [key_id]);
    let key = world.run(&owner(), DescribeKey { key: KeySelector::Id(key_id) }).expect("not due yet");
    assert_eq!(key.state, KeyState::PendingDeletion);

    world.clock.advance(Duration::from_micros(1));
    assert!(list(&world).is_empty());
    assert_eq!(world.run(&owner(), generate(alias("key"))).expect_err("due"), Error::KeyNotFound);
    for attempt in attempts.iter().filter(|attempt| attempt.needs_key()) {
        assert_eq!(attempt.run(&world, &owner()), Err(Error::KeyNotFound), "{:?}", attempt.name);
    }
}

#[test]
fn a_cancelled_deletion_is_forgotten() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    schedule(&world, key_id);
    let key = world.run(&owner(), CancelKeyDeletion { key_id }).expect("it waits");
    assert_eq!((key.state, key.deletion_due), (KeyState::Disabled, None));
    world.clock.advance(2 * WEEK);
    assert_eq!(list(&world), [key_id]);
}

#[test]
fn keys_list_in_the_order_of_creation_with_default_keys_first() {
    let world = World::new();
    let mut made = Vec::new();
    for text in ["z", "m", "a"] {
        made.push(world.key(&owner(), text).id);
        world.clock.advance(Duration::from_millis(1));
    }
    let default = world.run(&owner(), generate(obs())).expect("made on first use").sealed.key_id;
    made.insert(0, default);
    assert_eq!(list(&world), made);
    world.run(&caller("zeta", "cn-north-4"), create("z")).expect("another account's name");
    assert_eq!(list(&world), made);
}
