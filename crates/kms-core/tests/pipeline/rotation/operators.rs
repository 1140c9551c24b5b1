//! Operators and users: neither can do what the other may.

use kms_core::{
    Error, Phase, Verdict,
    operation::{Action, Permissions},
    ops::{DescribeRoot, Operation, RetireRoot, RotateRoot},
};

use super::support::{generations, operator};
use crate::support::{World, owner};

#[test]
fn users_cannot_be_given_the_operators_permission() {
    assert!(!Permissions::all().allow(Action::RootManage));
    assert_eq!(Action::parse(Action::RootManage.name()), None);
    let theirs = Action::ALL.iter().filter(|action| Permissions::OPERATOR.allow(**action));
    assert_eq!(theirs.collect::<Vec<_>>(), [&Action::AuditRead]);
}

fn assert_denied<O: Operation>(world: &World, operation: O) {
    let before = (world.hsm.calls(), world.store.reads(), world.store.commits());
    let (result, records) = world.records_of(|| world.run(&owner(), operation).map(drop));
    assert_eq!(result, Err(Error::denied(Action::RootManage)));
    assert_eq!((world.hsm.calls(), world.store.reads(), world.store.commits()), before);
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!((record.phase, record.verdict), (Phase::Complete, Verdict::Denied));
    assert_eq!(record.missing_action, Some(Action::RootManage));
}

#[test]
fn a_user_who_may_do_everything_cannot_touch_the_root() {
    let world = World::new();
    assert_denied(&world, RotateRoot { keep_old_root: false });
    assert_denied(&world, RetireRoot);
    assert_denied(&world, DescribeRoot);
    assert_eq!(generations(&world.hsm), [1]);
}

#[test]
fn an_operator_can_do_nothing_with_keys() {
    let world = World::new();
    let (_, attempts) = world.key_with_attempts(&owner());
    let stored = world.store.dump();
    // What they may besides: read the log.
    for attempt in attempts.iter().filter(|attempt| attempt.name.info().action != Action::AuditRead) {
        let missing = attempt.name.info().action;
        assert_eq!(attempt.run(&world, &operator()), Err(Error::denied(missing)));
    }
    assert_eq!(world.store.dump(), stored);
}
