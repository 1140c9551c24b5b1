//! The end of keys: what goes when a deletion is due, what stays, and what a crash in between leaves.

use std::{thread, time::Duration};

use futures_executor::block_on;
use kms_core::{
    DueEntry, Error, Phase, Verdict,
    grant::Principal,
    identity::UserId,
    key::{KeyId, KeyState},
    operation::OperationName,
    ops::{
        CancelKeyDeletion, CreateGrant, DecryptDataKey, DescribeKey, KeySelector, PendingDays, Rewrap,
        RotateKeyOnDemand, ScheduleKeyDeletion, StartCampaign,
    },
    ports::{KeyStore as _, StoreError},
};

use crate::support::{
    World, alias, caller, context, create, finish, generate, grant, key_path, now, owner, poll,
};

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A key whose deletion falls due in a week.
fn doomed(world: &World, name: &str) -> KeyId {
    let key_id = world.key(&owner(), name).id;
    doom(world, key_id);
    key_id
}

fn doom(world: &World, key_id: KeyId) {
    let pending = PendingDays::parse(7).expect("a waiting time");
    world
        .run(&owner(), ScheduleKeyDeletion { key: key_id.into(), pending })
        .expect("it waits for nothing yet");
}

fn due(world: &World) -> Vec<DueEntry> {
    let page = block_on(world.service.due(None, 100)).expect("the store works");
    assert!(page.unreadable.is_empty() && page.next.is_none());
    page.entries
}

fn carry_out(world: &World) -> Vec<Result<(), Error>> {
    let done = |entry| block_on(world.service.carry_out(entry)).map_err(|refused| refused.error().clone());
    due(world).into_iter().map(done).collect()
}

/// Where anything of a key is left besides its tombstone and the counts of its uses.
fn traces(world: &World, key_id: KeyId) -> Vec<Vec<u8>> {
    let id = key_id.as_bytes();
    let entries = world.store.dump().into_iter().filter(|(path, value)| {
        let names = |bytes: &[u8]| bytes.windows(id.len()).any(|window| window == id);
        ![b"x/", b"k/", b"u/"].iter().any(|kept| path.starts_with(*kept)) && (names(path) || names(value))
    });
    entries.map(|(path, _)| path).collect()
}

fn is_destroyed(world: &World, key_id: KeyId) -> bool {
    let listed = [b"x/", &key_id.as_bytes()[..]].concat();
    world.store.dump().contains_key(&listed)
}

#[test]
fn what_is_due_for_a_key_that_is_not_there_is_forgotten() {
    let world = World::new();
    let key_id = doomed(&world, "key");
    let other = doomed(&world, "other");
    world.clock.advance(WEEK);
    world.store.delete(&key_path(key_id)); // a restore left it out
    let (done, records) = world.records_of(|| carry_out(&world));
    assert_eq!(done, [Ok(()), Ok(())]);
    let forgotten: Vec<_> = records.iter().filter(|record| record.key_id == Some(key_id)).collect();
    let [intent, outcome] = forgotten[..] else { panic!("{forgotten:?}") };
    assert_eq!((intent.phase, outcome.phase), (Phase::Intent, Phase::Outcome));
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Succeeded, Some("OVERTAKEN")));
    assert!(due(&world).is_empty() && is_destroyed(&world, other) && !is_destroyed(&world, key_id));
}

#[test]
fn of_a_destroyed_key_a_tombstone_is_left_and_nothing_else() {
    let world = World::new();
    let data_key = world.key(&owner(), "name");
    let sealed = world.run(&owner(), generate(alias("name"))).expect("enabled").sealed;
    let record_with_material = world.store.value(&key_path(data_key.id)).len();
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: (data_key.id).into(), pending }).expect("enabled");
    world.clock.advance(WEEK.saturating_sub(Duration::from_micros(1)));
    assert!(due(&world).is_empty());
    world.clock.advance(Duration::from_micros(1));
    assert!(!traces(&world, data_key.id).is_empty());

    let evicted = world.hsm.calls().evict;
    let (done, records) = world.records_of(|| carry_out(&world));
    assert_eq!(done, [Ok(())]);
    assert!(due(&world).is_empty() && is_destroyed(&world, data_key.id));
    assert_eq!(traces(&world, data_key.id), Vec::<Vec<u8>>::new());
    assert_eq!(world.hsm.calls().evict, evicted + 1);
    assert!(
        world.store.value(&key_path(data_key.id)).len() < record_with_material - 30,
        "no wrapped material"
    );
    let [intent, outcome] = &records[..] else { panic!("two records, not {}", records.len()) };
    assert_eq!((intent.phase, outcome.phase), (Phase::Intent, Phase::Outcome));
    for record in [intent, outcome] {
        assert_eq!((record.operation, record.key_id), (OperationName::DestroyKey, Some(data_key.id)));
        assert!(record.caller.is_none(), "the service does it by itself");
    }
    assert!(outcome.state_digest.is_some());

    // The name is free, and a new key of that name is another key.
    let heir = world.run(&owner(), create("name")).expect("the alias is free");
    let describe = DescribeKey { key: KeySelector::Id(data_key.id) };
    assert_eq!(world.run(&owner(), describe), Err(Error::KeyNotFound));
    let found = world.run(&owner(), DescribeKey { key: alias("name") }).expect("the heir");
    assert_eq!((found.id, found.state), (heir.id, KeyState::Enabled));
    let open = DecryptDataKey::new(&sealed.ciphertext, None, context()).expect("a ciphertext");
    assert_eq!(world.run(&owner(), open).expect_err("gone"), Error::KeyNotFound);
}

/// A key with two versions and a campaign, of which `world` has moved one ciphertext that it has not written yet.
fn with_campaign(world: &World) -> KeyId {
    let key_id = world.key(&owner(), "campaigned").id;
    let sealed = world.run(&owner(), generate(alias("campaigned"))).expect("enabled").sealed.ciphertext;
    world.run(&owner(), RotateKeyOnDemand { key: key_id.into(), from_version: None }).expect("enabled");
    world.run(&owner(), StartCampaign { key: key_id.into() }).expect("enabled");
    world.run(&owner(), Rewrap::new(&sealed, None, context()).expect("a ciphertext")).expect("enabled");
    key_id
}

fn flush(world: &World) -> Result<(), Error> {
    block_on(world.service.flush_usage())
}

/// Does what blocks in the midst of what blocks.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().expect("it does not panic"))
}

fn has_lists(world: &World) -> bool {
    [b"w/", b"c/"].iter().any(|prefix| !world.store.under(*prefix).is_empty())
}

#[test]
fn counts_of_uses_outlive_a_key_and_its_campaigns_and_lists_do_not() {
    let world = World::new();
    let key_id = with_campaign(&world);
    flush(&world).expect("the store works");
    assert_eq!((world.store.under(b"w/").len(), world.store.under(b"c/").len()), (1, 1));
    let counts = world.store.under(b"u/");
    assert_eq!(counts.len(), 1);
    let kept = with_campaign_of_another(&world);
    doom(&world, key_id);
    world.clock.advance(WEEK);
    let (done, records) = world.records_of(|| carry_out(&world));
    assert_eq!(done, [Ok(())]);
    assert!(is_destroyed(&world, key_id) && traces(&world, key_id).is_empty());
    assert!(world.store.under(b"u/").contains(&counts[0]), "they stay as they are");
    assert_eq!(world.store.under(b"c/").len(), 1, "{kept}: another key's campaign stays");
    let reasons: Vec<_> = records.iter().filter_map(|record| record.reason).collect();
    assert_eq!(reasons, ["CAMPAIGNS_DELETED"; 4], "a step for each kind, with an intent and an outcome");
}

fn with_campaign_of_another(world: &World) -> KeyId {
    let key_id = world.key(&owner(), "other").id;
    world.run(&owner(), StartCampaign { key: key_id.into() }).expect("enabled");
    key_id
}

#[test]
fn what_was_moved_and_not_written_before_the_end_of_a_key_is_not_listed_after_it() {
    let world = World::new();
    let key_id = with_campaign(&world);
    doom(&world, key_id);
    world.clock.advance(WEEK);
    assert_eq!(carry_out(&world), [Ok(())]);
    flush(&world).expect("the store works");
    assert!(is_destroyed(&world, key_id) && !has_lists(&world));
    assert_eq!(world.store.under(b"u/").len(), 1, "what it had done is counted");
}

#[test]
fn a_list_that_is_written_during_the_last_step_goes_as_well() {
    let world = World::new();
    let key_id = with_campaign(&world);
    doom(&world, key_id);
    let late = world.sibling();
    late.clock.advance(WEEK);
    let [entry] = due(&late)[..] else { panic!("one entry") };
    let store = world.store.clone();
    // The first step deletes the campaign, the second one makes the tombstone.
    store.instead_of_commit(|store, transaction| now(store.transact(transaction)));
    store.instead_of_commit(move |store, transaction| {
        aside(|| flush(&world)).expect("the store works");
        assert!(has_lists(&world));
        now(store.transact(transaction))
    });
    block_on(late.service.carry_out(entry)).expect("it tries again");
    assert!(is_destroyed(&late, key_id) && !has_lists(&late));
}

#[test]
fn a_list_is_not_written_for_a_key_that_is_destroyed_meanwhile() {
    let world = World::new();
    let key_id = with_campaign(&world);
    doom(&world, key_id);
    let late = world.sibling();
    late.clock.advance(WEEK);
    let again = world.sibling();
    world.store.instead_of_commit(move |store, transaction| {
        assert_eq!(aside(|| carry_out(&late)), [Ok(())]);
        now(store.transact(transaction))
    });
    assert_eq!(flush(&world), Err(Error::Contention));
    flush(&world).expect("the next one");
    assert!(is_destroyed(&again, key_id) && !has_lists(&again));
    assert_eq!(world.store.under(b"u/").len(), 1);
}

#[test]
fn a_deletion_that_was_cancelled_at_the_last_moment_is_not_carried_out() {
    let world = World::new();
    let key_id = doomed(&world, "key");
    let late = world.sibling();
    late.clock.advance(WEEK); // its clock is ahead of the one that takes the cancellation
    let [entry] = due(&late)[..] else { panic!("one entry") };
    world.run(&owner(), CancelKeyDeletion { key: key_id.into() }).expect("not due by this clock");
    let (done, records) = late.records_of(|| block_on(late.service.carry_out(entry)));
    done.expect("nothing is in the way");
    assert!(records.iter().any(|record| record.reason == Some("OVERTAKEN")), "{records:?}");
    let key = world.run(&owner(), DescribeKey { key: KeySelector::Id(key_id) }).expect("it stays");
    assert_eq!((key.state, key.versions.len()), (KeyState::Disabled, 1));
    assert!(world.store.under(b"x/").is_empty());
}

#[test]
fn a_cancellation_and_a_destruction_at_once_do_one_of_both() {
    let world = World::new();
    let key_id = doomed(&world, "key");
    let late = world.sibling();
    late.clock.advance(WEEK);
    let [entry] = due(&late)[..] else { panic!("one entry") };
    let (store, other) = (world.store.clone(), world.sibling());
    store.instead_of_commit(move |_, _| {
        let cancelled = now(other.begin(&owner(), CancelKeyDeletion { key: key_id.into() }));
        cancelled.expect("not due by this clock");
        Err(StoreError::Conflict { index: 0 })
    });
    block_on(late.service.carry_out(entry)).expect("nothing is in the way");
    assert!(!is_destroyed(&world, key_id));
    let key = world.run(&owner(), DescribeKey { key: KeySelector::Id(key_id) }).expect("it stays");
    assert_eq!(key.state, KeyState::Disabled);
}

#[test]
fn an_entry_that_was_never_true_destroys_nothing() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    let before = world.store.value(&key_path(key_id));
    for kind in [1, 3] {
        let entry = [b"s/", &[0; 8][..], &[kind], key_id.as_bytes()].concat();
        world.store.overwrite(&entry, vec![1]);
    }
    assert_eq!(carry_out(&world), [Ok(()), Ok(())]);
    assert_eq!(world.store.value(&key_path(key_id)), before);
    assert!(world.store.under(b"s/").is_empty(), "they are found no more");
    world.run(&owner(), generate(alias("key"))).expect("still enabled");

    world.store.overwrite(&[b"s/", &[0; 8][..], b"?"].concat(), vec![1]);
    let page = block_on(world.service.due(None, 100)).expect("the store works");
    assert!(matches!(page.unreadable[..], [Error::RecordTampered { .. }]), "{page:?}");
}

#[test]
fn the_grants_of_a_key_go_before_it_in_steps_that_the_store_bears() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    let other = world.key(&owner(), "other").id;
    for number in 0..100 {
        // Three may retire each: its creator, its own retiring principal, and its own grantee.
        let grantee = Principal::user(&format!("grantee-{number}")).expect("a name");
        let retiring_principal = UserId::parse(&format!("retirer-{number}"));
        let granted = CreateGrant { grantee, retiring_principal, ..grant(key_id) };
        world.run(&owner(), granted).expect("there is room for a hundred");
    }
    let kept = world.run(&owner(), grant(other)).expect("it is enabled");
    doom(&world, key_id);
    world.clock.advance(WEEK);
    let commits = world.store.commits();
    assert_eq!(carry_out(&world), [Ok(())]);
    assert_eq!(world.store.commits() - commits, 100_usize.div_ceil(12) + 1);
    assert!(is_destroyed(&world, key_id) && traces(&world, key_id).is_empty());
    assert_eq!(world.grants_of(other), [kept.id], "another key's grant stays");
    let entries = [("g/", 2), ("n/", 1), ("p/", 3)]; // each with a count
    for (prefix, left) in entries {
        assert_eq!(world.store.under(prefix.as_bytes()).len(), left, "{prefix}");
    }
}

#[test]
fn a_grant_that_is_not_authentic_does_not_keep_its_key_from_the_end() {
    let world = World::new();
    let key_id = doomed(&world, "key");
    world.store.overwrite(&[b"g/", &key_id.as_bytes()[..], b"/?"].concat(), vec![1]);
    world.clock.advance(WEEK);
    assert_eq!(carry_out(&world), [Ok(())]);
    assert!(is_destroyed(&world, key_id) && traces(&world, key_id).is_empty());
}

#[test]
fn a_crash_at_any_step_leaves_what_the_next_start_finishes() {
    for crash_before in 0..4 {
        let world = World::new();
        let key_id = world.key(&owner(), "key").id;
        for _ in 0..20 {
            world.run(&owner(), grant(key_id)).expect("it is enabled");
        }
        doom(&world, key_id);
        world.clock.advance(WEEK);
        let mut dying = Box::pin(world.service.carry_out(due(&world)[0]));
        // Three steps: each has an intent and an outcome in the log. It dies when one of these is held.
        world.audit.hold();
        for _ in 0..crash_before {
            assert!(poll(&mut dying).is_pending());
            world.audit.release();
            world.audit.hold();
        }
        assert!(poll(&mut dying).is_pending());
        drop(dying);
        world.audit.release();

        let (open, next) = (world.open_intents(), world.sibling());
        next.clock.advance(WEEK);
        block_on(next.service.reconcile(&open)).expect("the log works");
        for record in next.audit.records() {
            assert_eq!((record.phase, record.operation), (Phase::Recovery, OperationName::DestroyKey));
            assert!(matches!(record.verdict, Verdict::Succeeded | Verdict::Failed));
        }
        let missing = next.run(&owner(), DescribeKey { key: KeySelector::Id(key_id) });
        assert_eq!(missing, Err(Error::KeyNotFound), "it never comes back");
        assert!(carry_out(&next).into_iter().all(|done| done.is_ok()));
        assert!(is_destroyed(&next, key_id) && traces(&next, key_id).is_empty(), "{crash_before}");
    }
}

#[test]
fn a_committed_destruction_without_an_outcome_is_settled_and_not_repeated() {
    let world = World::new();
    let key_id = doomed(&world, "key");
    world.clock.advance(WEEK);
    world.audit.hold();
    let mut dying = Box::pin(world.service.carry_out(due(&world)[0]));
    assert!(poll(&mut dying).is_pending());
    world.audit.release(); // the intent
    world.audit.fail_next(1); // the outcome
    assert_eq!(block_on(dying).expect_err("no outcome").error().code(), "OUTCOME_UNKNOWN");
    let (open, next) = (world.open_intents(), world.sibling());
    next.clock.advance(WEEK);
    block_on(next.service.reconcile(&open)).expect("the log works");
    let records = next.audit.records();
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!((record.verdict, record.key_id), (Verdict::Succeeded, Some(key_id)));
    assert!(due(&next).is_empty() && is_destroyed(&next, key_id));
}

#[test]
fn a_key_of_another_account_with_the_same_name_stays() {
    let world = World::new();
    let zeta = caller("zeta", "cn-north-4");
    let key_id = doomed(&world, "name");
    let others = world.run(&zeta, create("name")).expect("another account's name").id;
    world.clock.advance(WEEK);
    assert_eq!(carry_out(&world), [Ok(())]);
    assert!(is_destroyed(&world, key_id));
    let found = world.run(&zeta, DescribeKey { key: alias("name") }).expect("it stays");
    assert_eq!(found.id, others);
    finish(world.service.run(
        kms_core::Call { request_id: uuid::Uuid::new_v4(), caller: zeta, patience: WEEK, dry_run: false },
        Ok(generate(alias("name"))),
    ))
    .expect("enabled");
}
