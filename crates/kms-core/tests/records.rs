//! No answer without its record, and what the records say.

#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

use std::{
    future::Future as _,
    pin::pin,
    task::{Context, Poll, Waker},
};

use futures_executor::block_on;
use kms_core::{
    Call, Error, Phase, Verdict,
    error::Unauthenticated,
    operation::{Action, OperationName},
    ops::{DecryptDataKey, DisableKey, KeySelector},
    ports::HsmError,
};
use support::{World, admin, by_id, context, creation, generate, only};
use uuid::Uuid;

#[test]
fn a_data_key_waits_for_its_record() {
    let world = World::new();
    let key = world.create(&admin(), "k").expect("created");
    world.audit.hold();
    let call = Call { request_id: Uuid::new_v4(), caller: admin() };
    let mut answer = pin!(world.service.run(call, Ok(generate(by_id(key.id)))));
    let mut context = Context::from_waker(Waker::noop());
    assert!(answer.as_mut().poll(&mut context).is_pending());
    while world.audit.held() == 0 {
        std::thread::yield_now(); // the HSM worker has the job
    }
    assert!(answer.as_mut().poll(&mut context).is_pending(), "answered before the record was durable");
    world.audit.release();
    let Poll::Ready(answer) = answer.as_mut().poll(&mut context) else { panic!("the record is durable") };
    assert_eq!(answer.expect("made").into_inner().plaintext.len(), 32);
}

#[test]
fn without_a_record_there_is_no_key_and_no_refusal_either() {
    let world = World::new();
    let key = world.create(&admin(), "k").expect("created");
    world.audit.fail_next(1);
    let error = world.run(&admin(), generate(by_id(key.id))).expect_err("not recorded");
    assert_eq!(error.code(), "AUDIT_UNAVAILABLE");
    world.audit.fail_next(1);
    let error = world.run(&only(&[]), generate(by_id(key.id))).expect_err("not recorded");
    assert_eq!(error.code(), "AUDIT_UNAVAILABLE");
    world.run(&admin(), generate(by_id(key.id))).expect("the log works again");
}

#[test]
fn a_use_leaves_one_record_that_says_who_what_and_on_which_key() {
    let world = World::new();
    let key = world.create(&admin(), "k").expect("created");
    let before = world.audit.records().len();
    world.run(&admin(), generate(by_id(key.id))).expect("made");
    let records = world.audit.records().split_off(before);
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!((record.phase, record.verdict), (Phase::Complete, Verdict::Succeeded));
    assert_eq!(record.operation, OperationName::GenerateDataKey);
    assert_eq!((record.key_id, record.key_version), (Some(key.id), Some(1)));
    assert_eq!(record.caller.as_ref().expect("a caller").user.as_str(), "user");
    let hidden = &record.context["bucket"];
    assert_eq!(hidden.len(), 32);
    assert!(!hidden.contains("photos") && !hidden.contains(&hex::encode("photos")));
    world.run(&admin(), generate(by_id(key.id))).expect("made");
    assert_eq!(&world.last().context["bucket"], hidden, "a known value can be searched for");
}

#[test]
fn a_change_leaves_an_intent_and_an_outcome() {
    let world = World::new();
    let key = world.create(&admin(), "k").expect("created");
    world.run(&admin(), DisableKey { key_id: key.id }).expect("disabled");
    let records = world.audit.records();
    let phases: Vec<_> = records.iter().map(|record| (record.phase, record.verdict)).collect();
    let change = [(Phase::Intent, Verdict::Pending), (Phase::Outcome, Verdict::Succeeded)];
    assert_eq!(phases, [change, change].concat());
    assert!(records.iter().all(|record| record.key_id == Some(key.id)));
    assert!(records[1].state_digest.is_some() && records[3].state_digest.is_some());
    assert_ne!(records[1].state_digest, records[3].state_digest);
}

#[test]
fn a_denied_call_reads_nothing_and_spends_no_hsm_call() {
    let world = World::new();
    let before = world.hsm.calls();
    let unknown = by_id("0193a000-0000-7000-8000-000000000000".parse().expect("an id"));
    let error = world.run(&only(&[Action::CmkGet]), generate(unknown)).expect_err("denied");
    assert_eq!(error, Error::PermissionDenied { missing: Action::DekCreate });
    assert_eq!(world.hsm.calls(), before);
    let record = world.last();
    assert_eq!((record.verdict, record.reason), (Verdict::Denied, Some("PERMISSION_DENIED")));
    assert_eq!((record.missing_action, record.key_id), (Some(Action::DekCreate), None));
}

#[test]
fn malformed_requests_and_refusals_before_the_pipeline_are_recorded_too() {
    let world = World::new();
    let call = Call { request_id: Uuid::new_v4(), caller: admin() };
    let malformed: Result<DecryptDataKey, Error> = DecryptDataKey::new(&[1, 2, 3], None, context("a"));
    let refused = block_on(world.service.run(call, malformed)).expect_err("malformed");
    assert_eq!(refused.error().code(), "INVALID_FIELD");
    assert_eq!((world.last().verdict, world.last().reason), (Verdict::Failed, Some("INVALID_FIELD")));
    let why = Error::Unauthenticated(Unauthenticated::NoCertificate);
    let refusal = world.service.refuse(OperationName::ListKeys, Uuid::new_v4(), None, why.clone());
    assert_eq!(block_on(refusal).error(), &why);
    assert_eq!((world.last().verdict, world.last().reason), (Verdict::Denied, Some("NO_CERTIFICATE")));
    assert!(world.last().caller.is_none());
}

#[test]
fn a_caller_that_hangs_up_leaves_a_whole_record() {
    let world = World::new();
    let key = world.create(&admin(), "k").expect("created");
    let before = world.audit.records().len();
    world.hsm.hold();
    {
        let call = Call { request_id: Uuid::new_v4(), caller: admin() };
        let mut answer = pin!(world.service.run(call, Ok(generate(by_id(key.id)))));
        assert!(answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    world.hsm.release();
    while world.audit.records().len() == before {
        std::thread::yield_now();
    }
    assert_eq!(world.last().verdict, Verdict::Succeeded);
}

#[test]
fn a_fault_of_the_hsm_is_an_answer_and_a_record() {
    let world = World::new();
    let key = world.create(&admin(), "k").expect("created");
    let fault = HsmError::Unavailable { function: "C_Sign", detail: "CKR_DEVICE_REMOVED".to_owned() };
    world.hsm.fail_next(fault);
    let error = world.run(&admin(), generate(by_id(key.id))).expect_err("the HSM failed");
    assert_eq!((error.code(), error.to_string()), ("HSM_UNAVAILABLE", "the HSM is unavailable".to_owned()));
    assert!(error.operator_detail().expect("for the operator").contains("C_Sign"));
    assert_eq!((world.last().verdict, world.last().reason), (Verdict::Failed, Some("HSM_UNAVAILABLE")));
}

#[test]
fn the_first_use_of_a_default_key_needs_the_permission_to_create_and_is_an_operation_of_its_own() {
    let world = World::new();
    let service = KeySelector::service("obs").expect("known");
    let error =
        world.run(&only(&[Action::DekCreate]), generate(service.clone())).expect_err("may not create");
    assert_eq!(error, Error::PermissionDenied { missing: Action::CmkCreate });
    world.run(&admin(), generate(service.clone())).expect("made");
    let names: Vec<_> =
        world.audit.records().iter().skip(1).map(|record| (record.operation, record.phase)).collect();
    assert_eq!(
        names,
        [
            (OperationName::CreateDefaultKey, Phase::Intent),
            (OperationName::CreateDefaultKey, Phase::Outcome),
            (OperationName::GenerateDataKey, Phase::Complete)
        ]
    );
    world.run(&only(&[Action::DekCreate]), generate(service)).expect("it exists now");
    assert_eq!(world.create(&admin(), "k").map(|key| key.alias), Ok("k".to_owned()));
    assert_eq!(world.run(&admin(), creation("k")).expect_err("taken"), Error::AliasExists);
}
