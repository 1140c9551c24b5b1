//! Who may have a checkpoint cosigned, and what the log keeps of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use ed25519_dalek::{Signature, VerifyingKey};
use futures_executor::block_on;
use kms_core::{
    Call, Error, Phase, Verdict,
    error::CheckpointRefusal,
    identity::{Caller, Permissions},
    operation::{Action, OperationName},
    ops::{AcceptedCheckpoint, CosignCheckpoint, DescribeRoot},
    testing::hsm::on_session,
};
use uuid::Uuid;

use crate::{
    rotation::support::operator,
    support::{PATIENCE, World, owner},
};

fn accepted() -> AcceptedCheckpoint {
    AcceptedCheckpoint { digest: [5; 32], time: 7, message: b"cosignature/v1".to_vec() }
}

fn cosign(
    accept: impl Fn() -> Result<AcceptedCheckpoint, Error> + Send + Sync + 'static,
) -> CosignCheckpoint {
    CosignCheckpoint(Arc::new(move || {
        let decided = accept();
        Box::pin(async { decided })
    }))
}

#[test]
fn what_the_disk_takes_long_for_occupies_no_worker_of_the_hsm() {
    let world = World::new();
    on_session(&*world.hsm, |session| session.create_log_key()).expect("made");
    let jobs = world.hsm.calls().jobs;
    let (hsm, asked) = (world.hsm.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    let accept = cosign(move || {
        assert_eq!(hsm.calls().jobs, jobs, "it is decided before the HSM is asked");
        counted.fetch_add(1, Relaxed);
        Ok(accepted())
    });
    let call = Call { request_id: Uuid::new_v4(), caller: operator(), patience: PATIENCE, dry_run: false };
    let begun = block_on(world.service.run_droppable(call, Ok(accept)));
    let Err((call, accept)) = begun else { panic!("nobody drives it to its record") };
    assert_eq!(asked.load(Relaxed), 0);
    let dry = Call { dry_run: true, ..call.clone() };
    let dry = block_on(world.service.run(dry, accept.clone()));
    assert_eq!((dry.expect_err("does nothing").error(), asked.load(Relaxed)), (&Error::DryRun, 0));
    block_on(world.service.run(call, accept)).expect("driven");
    assert_eq!((asked.load(Relaxed), world.hsm.calls().jobs), (1, jobs + 1));
}

#[test]
fn an_accepted_checkpoint_is_cosigned_by_the_key_of_the_own_log() {
    let world = World::new();
    let key = on_session(&*world.hsm, |session| session.create_log_key()).expect("made");
    let (made, records) = world.records_of(|| world.run(&operator(), cosign(|| Ok(accepted()))));
    let made = made.expect("cosigned");
    let key = VerifyingKey::from_bytes(&key.public_key).expect("a key");
    key.verify_strict(&accepted().message, &Signature::from_bytes(&made.signature)).expect("its signature");
    assert_eq!(made.time, 7);
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!((record.operation, record.phase), (OperationName::CosignCheckpoint, Phase::Complete));
    assert_eq!((record.verdict, record.state_digest), (Verdict::Succeeded, Some([5; 32])));
}

#[test]
fn a_refused_checkpoint_is_recorded_with_its_reason() {
    let world = World::new();
    for why in [
        CheckpointRefusal::NotWitnessed,
        CheckpointRefusal::OtherSize { known: 9 },
        CheckpointRefusal::Inconsistent,
    ] {
        let refused = cosign(move || Err(Error::CheckpointRefused(why)));
        let (refused, records) = world.records_of(|| world.run(&operator(), refused));
        assert_eq!(refused, Err(Error::CheckpointRefused(why)));
        let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
        assert_eq!((record.verdict, record.reason), (Verdict::Failed, Some(why.code())));
        assert_eq!(record.state_digest, None);
    }
}

#[test]
fn nobody_but_operators_reaches_what_the_witness_remembers() {
    let (world, asked) = (World::new(), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    let counting = cosign(move || {
        counted.fetch_add(1, Relaxed);
        Ok(accepted())
    });
    assert_eq!(world.run(&owner(), counting), Err(Error::denied(Action::RootManage)));
    assert_eq!(asked.load(Relaxed), 0);
}

#[test]
fn whoever_may_only_have_checkpoints_cosigned_may_do_nothing_else() {
    let world = World::new();
    on_session(&*world.hsm, |session| session.create_log_key()).expect("made");
    let limited = Caller { permissions: Permissions::Cosign, ..operator() };
    world.run(&limited, cosign(|| Ok(accepted()))).expect("may");
    let allowed = limited.permissions.policies();
    for operation in OperationName::ALL.iter().copied() {
        let expected = operation == OperationName::CosignCheckpoint;
        assert_eq!(allowed.could_allow(operation), expected, "{operation:?}");
    }
    assert_eq!(world.run(&limited, DescribeRoot).err(), Some(Error::denied(Action::RootManage)));
    assert!(!limited.permissions.allow(Action::RootManage));
}
