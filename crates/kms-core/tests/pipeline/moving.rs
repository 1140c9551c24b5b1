//! A store leaves one token and arrives at another: what goes along, and under whose authentication.

use std::time::Duration;

use futures_executor::block_on;
use kms_core::{
    Carried, CheckKey, Error, Phase, StartError, Verdict,
    key::{KeyId, KeyOrigin, WrappedKey},
    operation::{OperationName, Permissions},
    ops::{
        CreateKey, DeleteImportedKeyMaterial, IdempotencyToken, ListDestroyedKeys, PageSize, PendingDays,
        ScheduleKeyDeletion,
    },
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::support::{
    World, alias, caller, create, generate, import_of, import_of_material, key_path, obs, owner, with,
};

/// All that goes along, by pages of `limit` stored values.
fn carried(world: &World, limit: usize) -> Vec<Carried> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = block_on(world.service.carried(after.as_deref(), limit)).expect("authentic");
        all.extend(page);
        if next.is_none() {
            return all;
        }
        after = next;
    }
}

/// A deployment with keys of two accounts, an idempotency token and a default key.
fn source() -> World {
    let world = World::new();
    let mut once = create("one");
    once.idempotency_token = Some(IdempotencyToken::parse("once").expect("a token"));
    world.run(&owner(), once).expect("made");
    world.key(&caller("other", "cn-east-3"), "two");
    world.run(&owner(), generate(obs())).expect("the default key is made");
    world
}

#[test]
fn everything_but_the_deployments_own_goes_along_once_whatever_the_pages() {
    let world = source();
    let whole = carried(&world, 1000);
    let prefixes: Vec<_> = whole.iter().map(|value| char::from(value.path()[0])).collect();
    assert_eq!(prefixes.iter().collect::<String>(), "aadiikkkt");
    for limit in [1, 2, 7] {
        assert_eq!(carried(&world, limit), whole);
    }
    let own: Vec<_> = world.store.dump().into_keys().map(|path| path[0]).collect();
    assert!(own.contains(&b'm') && own.contains(&b'o'), "there is something to leave behind");
}

#[test]
fn what_arrives_is_authenticated_anew_and_says_where_it_came_from() {
    let (from, to) = (source(), World::new());
    let mut values = carried(&from, 1000);
    for value in &mut values {
        let same = |key: &kms_core::key::BackingKey| Ok::<_, ()>(key.wrapped.clone());
        value.rewrap(same).expect("it cannot fail");
        let payload = value.payload().expect("it encodes");
        let parsed = Carried::parse(value.path().to_vec(), payload).expect("a value");
        assert_eq!(parsed, *value);
    }
    let (request, backup) = (Uuid::new_v4(), [9; 32]);
    let operation = OperationName::RestoreBackup;
    block_on(to.service.record_begin_of_move(operation, request, Some(backup))).expect("recorded");
    block_on(to.service.take_in(&values)).expect("taken in");
    let deployment = block_on(from.service.deployment()).expect("it has a name");
    block_on(to.service.seal_arrival(request, deployment, backup, None)).expect("sealed");
    assert_eq!(carried(&to, 1000), values);
    let mut listed = create("one");
    listed.idempotency_token = Some(IdempotencyToken::parse("once").expect("a token"));
    let before = to.store.dump();
    to.run(&owner(), listed).expect("the same key again");
    assert_eq!(to.store.dump(), before);

    // The outcome is lost: the next start knows it from the trace.
    let sibling = to.sibling();
    block_on(sibling.service.reconcile(&to.open_intents())).expect("settled");
    let record = sibling.audit.records().pop().expect("a record");
    assert_eq!((record.operation, record.phase), (operation, Phase::Recovery));
    assert_eq!((record.verdict, record.state_digest), (Verdict::Succeeded, Some(backup)));
    // A store that was only copied is refused.
    let refused = World::on(std::sync::Arc::default(), from.store.clone()).map(drop);
    assert_eq!(refused, Err(StartError::ForeignStore));
}

fn external(world: &World, alias: &str) -> KeyId {
    let key = CreateKey { origin: KeyOrigin::External, ..create(alias) };
    world.run(&owner(), key).expect("nothing is in the way").id
}

fn delete_material(world: &World, key_id: KeyId) {
    world.run(&owner(), DeleteImportedKeyMaterial { key: key_id.into() }).expect("it has material");
}

#[test]
fn imported_material_is_bound_to_its_key_on_the_other_token_too() {
    let (from, to) = (World::new(), World::new());
    let [with, without, never] = ["with", "without", "never"].map(|alias| external(&from, alias));
    for key_id in [with, without] {
        from.run(&owner(), import_of(&from, key_id)).expect("it waits for material");
    }
    delete_material(&from, without);

    let [source, target] = [&from, &to].map(|world| block_on(world.service.check_key()).expect("derived"));
    let passage = CheckKey::new(&Zeroizing::new([7; 32]));
    let mut values = carried(&from, 1000);
    for value in &mut values {
        assert!(value.rewrap_check(&source, &passage));
        assert!(value.rewrap_check(&passage, &target));
    }
    block_on(to.service.take_in(&values)).expect("taken in");

    delete_material(&to, with);
    for key_id in [with, without] {
        let other = import_of_material(&to, key_id, &[0x18; 32]);
        assert_eq!(to.run(&owner(), other).err(), Some(Error::MaterialMismatch));
        to.run(&owner(), import_of(&to, key_id)).expect("the material that it had");
    }
    to.run(&owner(), import_of_material(&to, never, &[0x18; 32])).expect("it never had any");
}

#[test]
fn what_recognises_material_and_does_not_open_stays_and_recognises_none() {
    let (from, to) = (World::new(), World::new());
    let key_id = external(&from, "key");
    from.run(&owner(), import_of(&from, key_id)).expect("it waits for material");
    let [wrong, target] = [[7; 32], [8; 32]].map(|key| CheckKey::new(&Zeroizing::new(key)));
    let mut values = carried(&from, 1000);
    let before = values.clone();
    let opened = values.iter_mut().filter(|value| value.key().is_some());
    assert!(opened.map(|value| value.rewrap_check(&wrong, &target)).all(|opened| !opened));
    assert_eq!(values, before);
    block_on(to.service.take_in(&values)).expect("taken in");
    delete_material(&to, key_id);
    assert_eq!(to.run(&owner(), import_of(&to, key_id)).err(), Some(Error::MaterialMismatch));
}

/// Lets a key be destroyed.
fn destroy(world: &World, key_id: KeyId) {
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: key_id.into(), pending }).expect("nothing is in the way");
    world.clock.advance(Duration::from_secs(7 * 24 * 60 * 60));
    let page = block_on(world.service.due(None, 100)).expect("the store works");
    page.entries.into_iter().for_each(|entry| block_on(world.service.carry_out(entry)).expect("destroyed"));
}

/// Which root key's end makes the destruction of this key final.
fn wrapped_by(world: &World, key_id: KeyId) -> u32 {
    let asked = ListDestroyedKeys { size: PageSize::parse(0).expect("a size"), after: None };
    let keys = world.run(&with(Permissions::OPERATOR), asked).expect("listed").keys;
    let key = keys.into_iter().find(|key| key.record.id == key_id).expect("destroyed");
    assert!(!key.is_final || key.record.destroyed.as_ref().is_some_and(|tomb| tomb.root_generation == 0));
    key.record.destroyed.expect("destroyed").root_generation
}

#[test]
fn no_destruction_of_a_key_that_moved_is_final_here_unless_it_never_had_material() {
    let (from, to) = (World::new(), World::new());
    let [before, after] = ["before", "after"].map(|alias| from.key(&owner(), alias).id);
    let [imported, empty, never] = ["imported", "empty", "never"].map(|alias| external(&from, alias));
    from.run(&owner(), import_of(&from, imported)).expect("it waits for material");
    delete_material(&from, imported);
    destroy(&from, before);
    destroy(&from, empty);
    assert_eq!((wrapped_by(&from, before), wrapped_by(&from, empty)), (1, 0));
    let mut values = carried(&from, 1000);
    values.iter_mut().for_each(Carried::never_final);
    block_on(to.service.take_in(&values)).expect("taken in");
    let moved_until = values.iter().filter_map(Carried::newest).max();
    block_on(to.service.seal_arrival(Uuid::new_v4(), Uuid::nil(), [9; 32], moved_until)).expect("sealed");
    assert_eq!((wrapped_by(&to, before), wrapped_by(&to, empty)), (u32::MAX, 0));

    to.clock.advance(Duration::from_micros(1));
    let new = to.key(&owner(), "new").id;
    for key_id in [after, imported, never, new] {
        destroy(&to, key_id);
    }
    assert_eq!([after, imported].map(|key_id| wrapped_by(&to, key_id)), [u32::MAX; 2]);
    assert_eq!([never, new].map(|key_id| wrapped_by(&to, key_id)), [0, 1]);
}

#[test]
fn each_version_is_rewrapped_and_nothing_else_changes() {
    let world = source();
    for mut value in carried(&world, 1000) {
        let before = value.clone();
        let mut seen = 0;
        let moved = WrappedKey { root_generation: 0, blob: vec![1, 2, 3] };
        let rewrapped = value.rewrap(|_| {
            seen += 1;
            Ok::<_, ()>(moved.clone())
        });
        rewrapped.expect("it cannot fail");
        match (before.key().cloned(), value.key()) {
            (Some(mut record), Some(after)) => {
                assert_eq!(seen, record.versions.len());
                record.versions.iter_mut().for_each(|version| version.wrapped = moved.clone());
                assert_eq!(record, *after);
            }
            (None, None) => assert_eq!((seen, &value), (0, &before)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_move_that_fails_is_recorded_as_one() {
    let world = World::new();
    let (request, operation) = (Uuid::new_v4(), OperationName::CreateBackup);
    block_on(world.service.record_begin_of_move(operation, request, None)).expect("recorded");
    block_on(world.service.record_end_of_move(operation, request, None)).expect("recorded");
    let records = world.audit.records();
    let [intent, outcome] = &records[..] else { panic!("{records:?}") };
    assert_eq!((intent.phase, intent.verdict), (Phase::Intent, Verdict::Pending));
    assert_eq!((outcome.phase, outcome.verdict), (Phase::Outcome, Verdict::Failed));
}

#[test]
fn an_altered_value_or_one_of_an_unknown_kind_does_not_leave() {
    let world = source();
    let id = world.run(&owner(), kms_core::ops::DescribeKey { key: alias("one") }).expect("a key").id;
    let payload = carried(&world, 1000).iter().find_map(|value| value.key().map(|_| value.payload()));
    let payload = payload.expect("a key record").expect("it encodes");
    for path in [b"z/1".to_vec(), b"m/deployment".to_vec(), b"o/1".to_vec(), b"k/1".to_vec()] {
        Carried::parse(path, payload.clone()).expect_err("no place for this value");
    }
    let mut altered = world.store.value(&key_path(id));
    altered[5] ^= 1;
    world.store.overwrite(&key_path(id), altered);
    let refused = block_on(world.service.carried(None, 1000)).expect_err("altered");
    assert_eq!(refused.code(), "RECORD_TAMPERED");
}
