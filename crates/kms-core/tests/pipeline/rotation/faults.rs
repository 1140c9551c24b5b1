//! Kills and faults at every step of a rotation; tokens and stores that do not fit.

use futures_executor::block_on;
use kms_core::{
    Error, StartError, Verdict,
    operation::OperationName,
    ops::RotateRoot,
    ports::{HsmError, KeyStore as _, StoreError},
    root::RootRecord,
    testing::hsm::on_session,
};

use super::support::{Keys, carry_out, generations, old_keys, operator, rewrap, root, start, step};
use crate::support::{World, finish, key_path, now, owner, poll};

/// What happens to the next change.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The HSM does not do its work.
    Hsm,
    /// The HSM has done its work, the store does not commit.
    Store,
    /// The store commits, but nobody hears of it.
    Line,
    /// The intent cannot be recorded.
    Intent,
    /// The change is committed, its outcome is not recorded.
    Outcome,
    /// The process dies before the intent is durable.
    DeadBeforeIntent,
}

const FAULTS: [Fault; 6] =
    [Fault::Hsm, Fault::Store, Fault::Line, Fault::Intent, Fault::Outcome, Fault::DeadBeforeIntent];

fn inject(world: &World, fault: Fault) {
    let unavailable = || StoreError::Unavailable { detail: "gone".to_owned() };
    match fault {
        Fault::Hsm => {
            world.hsm.fail_next(HsmError::Unavailable { function: "C_WrapKey", detail: "gone".to_owned() });
        }
        Fault::Store => world.store.instead_of_commit(move |_, _| Err(unavailable())),
        Fault::Line => world.store.instead_of_commit(move |store, transaction| {
            now(store.transact(transaction)).expect("it commits");
            store.fail_next(unavailable());
            Err(StoreError::Unknown { detail: "time-out".to_owned() })
        }),
        Fault::Intent => world.audit.fail_next(1),
        Fault::Outcome => {
            let audit = world.audit.clone();
            world.store.instead_of_commit(move |store, transaction| {
                let committed = now(store.transact(transaction));
                audit.fail_next(1);
                committed
            });
        }
        Fault::DeadBeforeIntent => world.audit.hold(),
    }
}

/// The next step of the rotation, of which the first is its start.
fn next(world: &World) -> Option<Result<(), Error>> {
    if root(world).generation == 1 {
        return Some(world.run(&operator(), RotateRoot { keep_old_root: false }).map(drop));
    }
    step(world)
}

/// The same, but the process dies as soon as it waits for the log.
fn die_in_next(world: &World) {
    let root = root(world);
    if root.generation == 1 {
        let _ = poll(&mut world.begin(&operator(), RotateRoot { keep_old_root: false }));
    } else if root.all_moved() {
        let _ = poll(&mut Box::pin(world.service.destroy_roots()));
    } else if let Some(key) = old_keys(world).first() {
        let _ = poll(&mut Box::pin(world.service.rewrap_key(*key)));
    } else {
        let mut forgetting = Box::pin(world.service.forget_roots());
        // The pass gives way once; then it waits for the log.
        let _ = (poll(&mut forgetting), poll(&mut forgetting), poll(&mut forgetting));
    }
}

#[test]
fn a_rotation_that_is_cut_off_at_any_step_goes_on_after_a_restart() {
    for fault in FAULTS {
        for at in 0.. {
            let world = World::new();
            let keys = Keys::make(&world);
            let reached = (0..at).all(|_| matches!(next(&world), Some(Ok(()))));
            if !reached || (at > 0 && root(&world).rotation.is_none()) {
                assert_eq!(at, keys.ids().len() + 3, "all steps were cut off once");
                break;
            }
            let in_store_only = !root(&world).all_moved() && old_keys(&world).is_empty();
            if in_store_only && matches!(fault, Fault::Hsm) {
                continue; // the token has no part in this step
            }
            inject(&world, fault);
            if matches!(fault, Fault::DeadBeforeIntent) {
                die_in_next(&world);
            } else {
                let failed = next(&world);
                assert!(matches!(failed, Some(Err(_))), "{fault:?} at step {at}: {failed:?}");
            }
            resume(&world, &keys, fault, at);
        }
    }
}

fn resume(world: &World, keys: &Keys, fault: Fault, at: usize) {
    let open = world.open_intents();
    let restarted = World::on(world.hsm.clone(), world.store.clone())
        .unwrap_or_else(|error| panic!("{fault:?} at step {at}: {error}"));
    block_on(restarted.service.reconcile(&open)).expect("the log works");
    for recovery in restarted.audit.records() {
        let committed = matches!(fault, Fault::Line | Fault::Outcome);
        assert_eq!(recovery.verdict == Verdict::Succeeded, committed, "{fault:?} at step {at}");
    }
    while let Some(done) = next(&restarted) {
        done.unwrap_or_else(|error| panic!("{fault:?} at step {at}: {error}"));
    }
    assert_eq!(generations(&world.hsm), [2], "{fault:?} at step {at}");
    assert_eq!(root(&restarted), RootRecord { generation: 2, oldest: 2, rotation: None });
    keys.assert_moved(&restarted, 2);
    keys.assert_usable(&restarted);
}

#[test]
fn a_root_key_that_a_crash_left_behind_is_taken_over() {
    let world = World::new();
    inject(&world, Fault::Store);
    world.run(&operator(), RotateRoot { keep_old_root: false }).expect_err("not committed");
    assert_eq!((generations(&world.hsm), root(&world).generation), (vec![1, 2], 1));
    let between = world.sibling().key(&owner(), "between");
    assert_eq!(between.versions[0].wrapped.root_generation, 2, "the token wraps with its newest");
    assert_eq!(start(&world).generation, 2);
    carry_out(&world);
    assert_eq!(generations(&world.hsm), [2]);
}

#[test]
fn a_record_that_was_altered_keeps_the_old_root_key() {
    let world = World::new();
    let (good, bad) = (world.key(&owner(), "good").id, world.key(&owner(), "bad").id);
    let sound = world.store.value(&key_path(bad));
    let mut altered = sound.clone();
    altered[20] ^= 1;
    world.store.overwrite(&key_path(bad), altered);
    start(&world);
    let page = block_on(world.service.keys_under_old_roots(None, 10)).expect("the store works");
    assert_eq!((page.keys, page.next), (vec![good], None));
    assert_eq!(page.unreadable.len(), 1, "it is told");
    rewrap(&world, good).expect("it is sound");
    assert_eq!(rewrap(&world, bad).expect_err("altered").code(), "RECORD_TAMPERED");
    let record = world.audit.records().pop().expect("a record");
    assert_eq!((record.operation, record.verdict), (OperationName::RewrapKey, Verdict::Failed));
    let refused = finish(world.service.forget_roots()).expect_err("nobody knows what it needs");
    assert_eq!(refused.code(), "RECORD_TAMPERED");
    assert_eq!(generations(&world.hsm), [1, 2]);
    world.store.overwrite(&key_path(bad), sound);
    carry_out(&world);
    assert_eq!(generations(&world.hsm), [2]);
}

#[test]
fn a_key_that_the_token_refuses_keeps_the_old_root_key() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    start(&world);
    world.hsm.fail_next(HsmError::WrappedKeyRefused { function: "C_UnwrapKey", detail: "bad".to_owned() });
    let stored = world.store.value(&key_path(key));
    assert_eq!(rewrap(&world, key).expect_err("refused").code(), "HSM_UNAVAILABLE");
    assert_eq!(world.store.value(&key_path(key)), stored);
    assert_eq!(finish(world.service.forget_roots()), Err(Error::RootStillNeeded { generation: 2 }));
}

#[test]
fn a_token_without_a_root_key_that_the_store_needs_is_refused() {
    let world = World::new();
    world.key(&owner(), "key");
    start(&world);
    on_session(&*world.hsm, |session| session.retire_root_key(1)).expect("not the newest");
    let restarted = World::on(world.hsm.clone(), world.store.clone()).map(drop);
    assert_eq!(restarted, Err(StartError::RootMissing { generation: 1 }));
}

#[test]
fn a_store_without_its_record_of_the_root_keys_is_refused() {
    let world = World::new();
    world.store.delete(b"m/root");
    assert_eq!(World::on(world.hsm.clone(), world.store.clone()).map(drop), Err(StartError::HeadlessStore));
}
