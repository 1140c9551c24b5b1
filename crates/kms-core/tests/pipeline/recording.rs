//! No answer without its record, and what the records say.

use std::collections::BTreeMap;

use futures_executor::block_on;
use kms_core::{
    Call, Error, MadeKey, Phase, Record, Refused, Verdict,
    access::Operations,
    error::{Throttled, Unauthenticated, Window},
    identity::{Caller, Credential, Origin, Stranger},
    key::{KeyId, KeyOrigin, KeySpec},
    operation::{Action, OperationClass, OperationName, Permissions},
    ops::{DescribeKey, GenerateRandom, KeySelector},
    ports::HsmError,
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::support::{
    Attempt, PATIENCE, World, finish, generate, key_path, obs, owner, poll, wait_until, with,
};

#[test]
fn a_data_key_waits_for_its_record_although_the_hsm_is_done() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.audit.hold();
    let mut running = world.begin(&owner(), generate(KeySelector::Id(key)));
    assert!(poll(&mut running).is_pending());
    wait_until("the HSM is done", || world.audit.held() == 1);
    assert!(poll(&mut running).is_pending(), "answered before the record was durable");
    let durable = world.audit.records().len();
    world.audit.release();
    let recorded = block_on(running).expect("it is recorded now");
    assert_eq!(recorded.receipt().sequence(), durable as u64, "the receipt is of this record");
    assert_eq!(recorded.into_inner().plaintext.len(), 32);
}

#[test]
fn a_call_that_the_hsm_does_not_answer_in_time_fails_with_one_record() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.hsm.hold();
    let mut running = world.begin(&owner(), generate(KeySelector::Id(key)));
    assert!(poll(&mut running).is_pending());
    let nearly = PATIENCE.saturating_sub(std::time::Duration::from_millis(1));
    world.clock.advance(nearly);
    assert!(poll(&mut running).is_pending(), "answered before its time");
    world.clock.advance(std::time::Duration::from_millis(1));
    let (result, records) = world.records_of(|| finish(running));
    assert_eq!(result.map(drop), Err(Error::HsmUnavailable(HsmError::TimedOut)));
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!((record.verdict, record.reason), (Verdict::Failed, Some("HSM_UNAVAILABLE")));
    assert_eq!((record.key_id, record.latency), (Some(key), PATIENCE));
    assert!(!record.context.is_empty());
    let random = world.hsm.calls().random;
    world.hsm.release();
    world.run(&owner(), generate(KeySelector::Id(key))).expect("the HSM is back");
    assert_eq!(world.hsm.calls().random, random + 2, "the overdue call made a data key for nobody");
    assert_eq!(world.audit.records().len(), 2 + records.len() + 1, "the overdue call was recorded twice");
}

#[test]
fn a_call_whose_job_is_lost_leaves_a_record_too() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.hsm.lose_next();
    let (result, records) =
        world.records_of(|| world.run(&owner(), generate(KeySelector::Id(key))).map(drop));
    assert!(matches!(result, Err(Error::Internal { .. })), "{result:?}");
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!(
        (record.verdict, record.reason, record.key_id),
        (Verdict::Failed, Some("INTERNAL"), Some(key))
    );
}

#[test]
fn a_change_that_the_hsm_does_not_answer_in_time_changes_nothing() {
    let world = World::new();
    world.hsm.hold();
    let mut running = world.begin(&owner(), crate::support::create("second"));
    assert!(poll(&mut running).is_pending());
    world.clock.advance(PATIENCE);
    let error = finish(running).expect_err("the HSM is held");
    assert_eq!(error, Error::HsmUnavailable(HsmError::TimedOut));
    world.hsm.release();
    world.key(&owner(), "second");
    assert!(world.open_intents().is_empty());
}

#[test]
fn reads_and_denials_wait_for_their_records_too() {
    let world = World::new();
    let key = KeySelector::Id(world.key(&owner(), "key").id);
    for (caller, verdict) in [(owner(), Verdict::Succeeded), (with(Permissions::NONE), Verdict::Denied)] {
        world.audit.hold();
        let mut running = world.begin(&caller, DescribeKey { key: key.clone() });
        assert!(poll(&mut running).is_pending(), "answered before the record was durable");
        world.audit.release();
        assert_eq!(finish(running).is_ok(), verdict == Verdict::Succeeded);
        assert_eq!(world.audit.records().last().expect("a record").verdict, verdict);
    }
}

#[test]
fn what_cannot_be_recorded_is_not_answered() {
    let world = World::new();
    let (_, attempts) = world.key_with_attempts(&owner());
    for caller in [owner(), with(Permissions::NONE)] {
        for attempt in &attempts {
            let before = world.store.dump();
            world.audit.fail_next(1);
            let error = attempt.run(&world, &caller).expect_err("nothing of it is recorded");
            assert_eq!(error.code(), "AUDIT_UNAVAILABLE", "{:?}", attempt.name);
            assert_eq!(world.store.dump(), before, "{:?} changed something", attempt.name);
        }
    }
}

#[test]
fn every_operation_leaves_its_records() {
    let world = World::new();
    let (key, attempts) = world.key_with_attempts(&owner());
    for attempt in &attempts {
        let (result, mut records) = world.records_of(|| attempt.run(&world, &owner()));
        // Those of the calls that this one stands for have a test of their own.
        records.retain(|record| record.operation == attempt.name);
        result.unwrap_or_else(|error| panic!("{:?}: {error:?}", attempt.name));
        check_records(&world, attempt, key, &records);
    }
}

fn check_records(world: &World, attempt: &Attempt, key: KeyId, records: &[Record]) {
    let name = attempt.name;
    let changes = name.info().class == OperationClass::Change;
    let phases: Vec<_> = records.iter().map(|record| (record.phase, record.verdict)).collect();
    let expected: &[_] = if changes {
        &[(Phase::Intent, Verdict::Pending), (Phase::Outcome, Verdict::Succeeded)]
    } else {
        &[(Phase::Complete, Verdict::Succeeded)]
    };
    assert_eq!(phases, expected, "{name:?}");
    let version = match name {
        OperationName::RotateKeyOnDemand | OperationName::Rewrap => Some(2),
        OperationName::GenerateDataKeys => None,
        _ => attempt.uses_key().then_some(1),
    };
    for record in records {
        assert_eq!(record.operation, name);
        assert_eq!(record.request_id, records[0].request_id, "{name:?}");
        assert_eq!(record.key_version, version, "{name:?}");
        assert_eq!((record.reason, record.missing_action, record.count), (None, None, 1), "{name:?}");
        let makes = matches!(name, OperationName::CreateKey | OperationName::ReplicateKey);
        let kind = MadeKey { spec: KeySpec::Aes256, origin: KeyOrigin::Kms };
        assert_eq!(record.made, makes.then_some(kind), "{name:?}");
        assert_eq!(record.context.len(), if attempt.uses_key() { 2 } else { 0 }, "{name:?}");
        check_caller(record);
        if attempt.needs_key() {
            // The record of a replica is under the replica's own id.
            let named =
                if name == OperationName::ReplicateKey { record.source_key_id } else { record.key_id };
            assert_eq!(named, Some(key), "{name:?}");
        }
    }
    let digest = records.last().expect("a record").state_digest;
    let path = |id: KeyId| match name {
        OperationName::StartCampaign => [b"c/", &id.as_bytes()[..], &[0, 0, 0, 1]].concat(),
        _ => key_path(id),
    };
    let digest_of = |value: &[u8]| <[u8; 32]>::from(Sha256::digest(value));
    let of_grant = {
        use OperationName::{CreateGrant, RetireGrant, RevokeGrant};
        matches!(name, CreateGrant | RetireGrant | RevokeGrant)
    };
    let Some(id) = records[0].key_id.filter(|_| changes && !of_grant) else {
        // What is no key lies there, too, or is gone.
        let values = world.store.dump().into_values().chain([Vec::new()]);
        let known = digest.is_some_and(|digest| values.map(|value| digest_of(&value)).any(|of| of == digest));
        assert_eq!(known, changes, "{name:?}: the digest of what lies in the store");
        return;
    };
    assert_eq!(digest, Some(digest_of(&world.store.value(&path(id)))), "{name:?}: the key's digest");
}

fn check_caller(record: &Record) {
    let (caller, owner) = (record.caller.as_ref().expect("a caller"), owner());
    assert_eq!(
        (&caller.account, &caller.user, &caller.project),
        (&owner.account, &owner.user, &owner.project)
    );
    assert_eq!((&caller.credential, caller.source), (&owner.credential, owner.source));
}

#[test]
fn context_values_are_hidden_but_can_be_searched_for() {
    let contexts = |world: &World| -> Vec<BTreeMap<String, String>> {
        let key = KeySelector::Id(world.key(&owner(), "key").id);
        let records = [(); 2].map(|()| {
            world.run(&owner(), generate(key.clone())).expect("the key is enabled");
            world.audit.records().pop().expect("a record")
        });
        records.into_iter().map(|record| record.context).collect()
    };
    let (here, elsewhere) = (contexts(&World::new()), contexts(&World::new()));
    assert_eq!(here[0].keys().collect::<Vec<_>>(), ["bucket", "object"]);
    let digits = |hidden: &String| hidden.len() == 32 && hidden.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(here[0].values().all(digits), "{:?}", here[0]);
    assert_eq!(here[0], here[1], "the same value is hidden alike");
    assert_ne!(here[0], elsewhere[0], "another token hides it otherwise");

    let world = World::new();
    let key = KeySelector::Id(world.key(&owner(), "key").id);
    let of = |caller: &Caller| {
        let ended = world.run(caller, generate(key.clone())).map(drop);
        (ended.is_ok(), world.audit.records().pop().expect("a record").context)
    };
    let ((allowed, context), (denied, tried)) = (of(&owner()), of(&with(Permissions::NONE)));
    assert!(allowed && !denied);
    assert_eq!(context, tried, "what was tried is found like what was done");
}

#[test]
fn a_denied_call_reads_at_most_whether_it_holds_grants_and_spends_no_hsm_call() {
    let world = World::new();
    let (_, attempts) = world.key_with_attempts(&owner());
    for attempt in &attempts {
        let missing = attempt.name.info().action;
        let nearly = with(Action::ALL.iter().copied().filter(|action| *action != missing).collect());
        for caller in [with(Permissions::NONE), nearly] {
            let before = (world.hsm.calls(), world.store.reads(), world.store.commits());
            let (result, records) = world.records_of(|| attempt.run(&world, &caller));
            assert_eq!(result, Err(Error::denied(missing)), "{:?}", attempt.name);
            // Of the user, and of its account: one value each.
            let reads = if Operations::OF_GRANTS.contains(attempt.name) { 2 } else { 0 };
            let (calls, read, commits) = before;
            assert_eq!(
                (world.hsm.calls(), world.store.reads(), world.store.commits()),
                (calls, read + reads, commits)
            );
            let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
            assert_eq!((record.phase, record.verdict), (Phase::Complete, Verdict::Denied));
            assert_eq!(record.reason, Some("PERMISSION_DENIED"));
            assert_eq!((record.missing_action, record.key_id), (Some(missing), None));
            assert_eq!(record.context.len(), if attempt.uses_key() { 2 } else { 0 }, "{:?}", attempt.name);
            check_caller(record);
        }
    }
}

#[test]
fn the_one_permission_of_an_operation_suffices() {
    let world = World::new();
    let (_, attempts) = world.key_with_attempts(&owner());
    for attempt in &attempts {
        let caller = with([attempt.name.info().action].into_iter().collect());
        attempt.run(&world, &caller).unwrap_or_else(|error| panic!("{:?}: {error:?}", attempt.name));
    }
}

#[test]
fn a_malformed_request_is_refused_after_the_permission_check() {
    let world = World::new();
    let run = |caller: Caller| {
        let call = Call { request_id: Uuid::new_v4(), caller, patience: PATIENCE, dry_run: false };
        let refused = block_on(world.service.run(call, GenerateRandom::new(0))).expect_err("malformed");
        (refused.error().code(), world.audit.records().pop().expect("a record"))
    };
    let (code, record) = run(owner());
    assert_eq!(
        (code, record.verdict, record.reason),
        ("INVALID_FIELD", Verdict::Failed, Some("INVALID_FIELD"))
    );
    let (code, record) = run(with(Permissions::NONE));
    assert_eq!((code, record.verdict), ("PERMISSION_DENIED", Verdict::Denied));
    assert_eq!(world.hsm.calls().random, 0);
}

#[test]
fn refusals_before_the_pipeline_are_recorded() {
    let world = World::new();
    let unknown = Error::Unauthenticated(Unauthenticated::NoCertificate);
    let retry_after = std::time::Duration::from_millis(20);
    let throttled = Error::Throttled(Throttled {
        subject: "global".to_owned(),
        group: "data-keys".into(),
        limit: 5,
        window: Window::Second,
        retry_after,
    });
    let credential = Some(Credential::Certificate([3; 32]));
    let stranger = Stranger { source: ([192, 0, 2, 1], 4711).into(), credential };
    let origins = [Origin::Stranger(stranger.clone()), Origin::Caller(owner())];
    for (origin, error) in origins.into_iter().zip([unknown, throttled]) {
        let named = matches!(origin, Origin::Caller(_));
        let refuse =
            || block_on(world.service.refuse(OperationName::ListKeys, Uuid::nil(), origin, error.clone()));
        let (refused, records): (Refused, _) = world.records_of(refuse);
        assert_eq!(refused.error(), &error);
        let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
        assert_eq!((record.verdict, record.reason), (Verdict::Denied, Some(error.code())));
        assert_eq!((record.operation, record.caller.is_some()), (OperationName::ListKeys, named));
        assert_eq!(record.stranger, (!named).then(|| stranger.clone()));
    }
    world.audit.fail_next(1);
    let refused = block_on(world.service.refuse(
        OperationName::ListKeys,
        Uuid::nil(),
        Origin::Stranger(stranger),
        Error::KeyNotFound,
    ));
    assert_eq!(refused.error().code(), "AUDIT_UNAVAILABLE");
}

#[test]
fn a_caller_that_hangs_up_leaves_a_whole_record() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let before = world.audit.records().len();
    world.audit.hold();
    let mut running = world.begin(&owner(), generate(KeySelector::Id(key)));
    assert!(poll(&mut running).is_pending());
    wait_until("the HSM is done", || world.audit.held() == 1);
    drop(running);
    world.audit.release();
    wait_until("the record is there", || world.audit.records().len() > before);
    let record = world.audit.records().pop().expect("a record");
    assert_eq!(
        (record.phase, record.verdict, record.key_id),
        (Phase::Complete, Verdict::Succeeded, Some(key))
    );
}

#[test]
fn a_caller_that_hangs_up_before_the_hsm_begins_costs_it_nothing() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.hsm.hold();
    let mut running = world.begin(&owner(), generate(KeySelector::Id(key)));
    assert!(poll(&mut running).is_pending());
    let (before, records) = (world.hsm.calls(), world.audit.records().len());
    drop(running);
    world.hsm.release();
    wait_until("the job is over", || world.hsm.queued() == 0);
    world.run(&owner(), generate(KeySelector::Id(key))).expect("as ever");
    assert_eq!(world.hsm.calls().random, before.random + 2, "a data key was made for nobody");
    assert_eq!(world.audit.records().len(), records + 1, "nothing was used, so nothing is recorded");
}

#[test]
fn a_fault_of_the_hsm_is_recorded_and_told_to_the_operator_only() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world
        .hsm
        .fail_next(HsmError::Unavailable { function: "C_Sign", detail: "CKR_DEVICE_REMOVED".to_owned() });
    let error = world.run(&owner(), generate(KeySelector::Id(key))).expect_err("the HSM failed");
    assert_eq!((error.code(), error.to_string()), ("HSM_UNAVAILABLE", "the HSM is unavailable".to_owned()));
    assert!(error.operator_detail().expect("for the operator").contains("C_Sign"));
    let record = world.audit.records().pop().expect("a record");
    assert_eq!((record.verdict, record.reason), (Verdict::Failed, Some("HSM_UNAVAILABLE")));
    assert_eq!((record.phase, record.key_id), (Phase::Complete, Some(key)));
}

#[test]
fn a_default_key_is_made_by_an_operation_of_its_own() {
    let world = World::new();
    let may_use = with([Action::DekCreate].into_iter().collect());
    let (refused, records) = world.records_of(|| world.run(&may_use, generate(obs())));
    assert_eq!(refused.expect_err("may not create"), Error::denied(Action::CmkCreate));
    let told: Vec<_> = records.iter().map(|record| (record.operation, record.missing_action)).collect();
    assert_eq!(told, [(OperationName::GenerateDataKey, Some(Action::CmkCreate))]);
    let (made, records) = world.records_of(|| world.run(&owner(), generate(obs())));
    let key = made.expect("made on first use").sealed.key_id;
    let told: Vec<_> = records.iter().map(|record| (record.operation, record.phase, record.key_id)).collect();
    let expected = [
        (OperationName::CreateDefaultKey, Phase::Intent, Some(key)),
        (OperationName::CreateDefaultKey, Phase::Outcome, Some(key)),
        (OperationName::GenerateDataKey, Phase::Complete, Some(key)),
    ];
    assert_eq!(told, expected);
    assert_eq!(world.run(&may_use, generate(obs())).expect("it exists now").sealed.key_id, key);
}
