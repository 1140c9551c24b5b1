//! The life cycle of keys, through every operation.

use std::{collections::HashSet, time::Duration};

use kms_core::{
    Error,
    key::{KeyId, KeyOrigin, KeyState},
    operation::OperationName,
    ops::{
        CancelKeyDeletion, CreateKey, DecryptDataKey, DescribeKey, DisableKey, KeySelector, ListKeys,
        PageSize, PendingDays, ScheduleKeyDeletion,
    },
    states::{self, Effect, STATES},
};

use crate::support::{
    Attempt, NO_CALLS_OF_USERS, OTHER_KINDS, Sealed, VAULT, World, alias, attempts, bucket_key, caller,
    context, create, create_keystore, encrypt_data, external_attempts, generate, obs, other_attempts,
    other_key, owner,
};

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn schedule(world: &World, key_id: KeyId) {
    let pending = PendingDays::parse(7).expect("a waiting time");
    world
        .run(&owner(), ScheduleKeyDeletion { key: key_id.into(), pending })
        .expect("it waits for nothing yet");
}

fn list(world: &World) -> Vec<KeyId> {
    let size = PageSize::parse(0).expect("a size");
    let page = world.run(&owner(), ListKeys { size, token: None, state: None, spec: None });
    page.expect("listed").keys.into_iter().map(|key| key.id).collect()
}

/// A key in this state, and the operation of this number on it; `None`: there are no more.
fn key_in(world: &World, state: KeyState, number: usize) -> Option<(KeyId, Attempt)> {
    if state == KeyState::PendingImport {
        let key_id = world.run(&owner(), external("key")).expect("nothing is in the way").id;
        let ciphertext = as_if_sealed_by(world, key_id);
        world.run(&owner(), create_keystore(VAULT)).expect("the token is free");
        let attempt = attempts(key_id, &Sealed::forged(ciphertext)).into_iter().nth(number)?;
        let refused = matches!(states::effect(attempt.name, state), Some(Effect::Refused(_)));
        if !refused && !removes_grant(attempt.name) {
            attempt.prepare(world, &owner());
        }
        return Some((key_id, attempt));
    }
    let (key_id, attempts) = world.key_with_attempts(&owner());
    let attempt = attempts.into_iter().nth(number)?;
    // A key with replicas cannot wait for its deletion.
    if !(state == KeyState::PendingDeletion && attempt.name == OperationName::UpdatePrimaryRegion) {
        attempt.prepare(world, &owner());
    }
    bring(world, key_id, state);
    Some((key_id, attempt))
}

fn removes_grant(name: OperationName) -> bool {
    matches!(name, OperationName::RetireGrant | OperationName::RevokeGrant)
}

/// A ciphertext that names a key which did not seal it.
pub(crate) fn as_if_sealed_by(world: &World, key_id: KeyId) -> Vec<u8> {
    let other = world.key(&owner(), "other").id;
    let sealed = world.run(&owner(), generate(KeySelector::Id(other))).expect("enabled").sealed;
    let mut ciphertext = sealed.ciphertext;
    let named =
        ciphertext.windows(16).position(|window| window == other.as_bytes()).expect("it names its key");
    ciphertext[named..named + 16].copy_from_slice(key_id.as_bytes());
    ciphertext
}

fn external(alias: &str) -> CreateKey {
    CreateKey { origin: KeyOrigin::External, ..create(alias) }
}

fn state_of(world: &World, key_id: KeyId) -> KeyState {
    world.run(&owner(), DescribeKey { key: KeySelector::Id(key_id) }).expect("it exists").state
}

/// Brings an enabled key there.
fn bring(world: &World, key_id: KeyId, state: KeyState) {
    match state {
        KeyState::Enabled | KeyState::PendingImport => {}
        KeyState::Disabled => {
            drop(world.run(&owner(), DisableKey { key: key_id.into() }).expect("enabled before"));
        }
        KeyState::PendingDeletion => schedule(world, key_id),
    }
}

/// A key of another kind in this state, and the operation of this number on it; `None`: there are no more.
fn other_key_in(world: &World, state: KeyState, number: usize) -> Option<(KeyId, Attempt)> {
    let (mut number, waits) = (number, state == KeyState::PendingImport);
    for kind in OTHER_KINDS {
        let origin = if waits { KeyOrigin::External } else { KeyOrigin::Kms };
        let key_id = other_key(world, kind, origin, kind.1.name());
        let attempts = other_attempts(world, key_id, kind.1);
        if number < attempts.len() {
            bring(world, key_id, state);
            return attempts.into_iter().nth(number).map(|attempt| (key_id, attempt));
        }
        number -= attempts.len();
    }
    let (key_id, attempts) = external_attempts(world, !waits);
    bring(world, key_id, state);
    attempts.into_iter().nth(number).map(|attempt| (key_id, attempt))
}

/// Checks what the operation does to the key by what the table says, and that a refusal does nothing at all.
fn check(world: &World, state: KeyState, key_id: KeyId, attempt: &Attempt) {
    assert_eq!(state_of(world, key_id), state);
    let name = attempt.name;
    let (before, calls) = (world.store.dump(), world.hsm.calls());
    let actual = attempt.run(world, &owner()).map_err(|error| error.code());
    match states::effect(name, state) {
        Some(Effect::Refused(refusal)) => {
            assert_eq!(actual, Err(refusal.error().code()), "{name:?} in {state:?}");
            assert_eq!(world.store.dump(), before, "{name:?} in {state:?} changed something");
            assert_eq!(world.hsm.calls(), calls, "{name:?} in {state:?} reached the HSM");
        }
        Some(Effect::Becomes(next)) => {
            assert_eq!((actual, state_of(world, key_id)), (Ok(()), next), "{name:?} in {state:?}");
        }
        // A key that never had material was never granted: nothing but that is in the way.
        Some(Effect::Stays) if state == KeyState::PendingImport && removes_grant(name) => {
            assert_eq!(actual, Err("GRANT_NOT_FOUND"), "{name:?} in {state:?}");
        }
        Some(Effect::Stays) | None => {
            assert_eq!((actual, state_of(world, key_id)), (Ok(()), state), "{name:?} in {state:?}");
        }
        Some(Effect::Ends) => panic!("no call destroys a key: {name:?}"),
    }
}

/// The table of states holds for what the service does: each operation that a user can call in each state, on a key that
/// can have it, each in a world of its own. No cell is left out.
#[test]
fn every_operation_in_every_state_does_what_the_table_says() {
    let mut held = HashSet::new();
    for state in STATES {
        for key_in in [key_in, other_key_in] {
            for number in 0.. {
                let world = World::new();
                let Some((key_id, attempt)) = key_in(&world, state, number) else { break };
                check(&world, state, key_id, &attempt);
                held.insert((attempt.name, state));
            }
        }
    }
    for name in OperationName::ALL.iter().filter(|name| states::row(**name).is_some()) {
        if NO_CALLS_OF_USERS.contains(name) {
            assert!(OWN_OPERATIONS.contains(name), "{name:?} is not driven");
        } else {
            for state in STATES {
                assert!(held.contains(&(*name, state)), "{name:?} in {state:?} is not driven");
            }
        }
    }
}

/// Operations of the table that no user calls: `src/upkeep/tests/states.rs` drives each of them in each state.
const OWN_OPERATIONS: [OperationName; 5] = [
    OperationName::DestroyKey,
    OperationName::ExpireKeyMaterial,
    OperationName::RewrapKey,
    OperationName::RotateKey,
    OperationName::ReserveKeyUses,
];

#[test]
fn a_key_that_never_had_material_waits_for_it_again_when_its_deletion_is_cancelled() {
    let world = World::new();
    let key_id = world.run(&owner(), external("key")).expect("nothing is in the way").id;
    schedule(&world, key_id);
    let key = world.run(&owner(), CancelKeyDeletion { key: key_id.into() }).expect("it waits");
    assert_eq!((key.state, key.deletion_due), (KeyState::PendingImport, None));
}

#[test]
fn default_keys_serve_and_cannot_be_managed() {
    let world = World::new();
    let sealed = world.run(&owner(), generate(obs())).expect("made on first use").sealed;
    world.run(&owner(), create_keystore(VAULT)).expect("the token is free");
    let small_data = world.run(&owner(), encrypt_data(obs())).expect("it is enabled").ciphertext;
    let bucket_key = world.run(&owner(), bucket_key(obs())).expect("it is enabled").sealed.ciphertext;
    let all = Sealed { data_key: sealed.ciphertext, small_data, bucket_key };
    for attempt in attempts(sealed.key_id, &all) {
        use OperationName as Name;
        let managed = matches!(
            attempt.name,
            Name::EnableKey
                | Name::DisableKey
                | Name::ScheduleKeyDeletion
                | Name::CancelKeyDeletion
                | Name::UpdateKeyAlias
                | Name::UpdateKeyDescription
                | Name::CreateAlias
                | Name::AssociateAlias
                | Name::DeleteAlias
                | Name::CreateTag
                | Name::DeleteTag
                | Name::BatchCreateTags
                | Name::BatchDeleteTags
                | Name::EnableKeyRotation
                | Name::UpdateRotationInterval
                | Name::RotateKeyOnDemand
                | Name::DisableKeyRotation
                | Name::CreateGrant
                | Name::RetireGrant
                | Name::RevokeGrant
                | Name::ReplicateKey
                | Name::UpdatePrimaryRegion
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
    let key = world.run(&owner(), CancelKeyDeletion { key: key_id.into() }).expect("it waits");
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
