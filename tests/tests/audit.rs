//! The audit log of a real service: signed by its token, and proved without it.

use std::{fs, path::Path};

use dewpoint_tests::{Dev, check_log};
use kms_audit::{Expected, Problem, SignedCheckpoint, Summary, VerifierKey, VerifyError, verify_against};
use kms_proto::v1::CreateKeyRequest;

fn key(audit: &Path) -> VerifierKey {
    let text = fs::read_to_string(audit.join("log-key")).expect("the log has a key");
    VerifierKey::parse(&text).expect("a verifier key")
}

fn verify(audit: &Path, key: VerifierKey, checkpoints: &[String]) -> Result<Summary, VerifyError> {
    let expected = Expected { key: Some(key), checkpoints: checkpoints.to_vec(), archived: false };
    verify_against(audit, &expected, |_| ())
}

async fn make_keys(dev: &Dev, names: std::ops::Range<u32>) {
    let mut admin = dev.user(0, "admin").await;
    for name in names {
        let request = CreateKeyRequest { alias: format!("key-{name}"), ..CreateKeyRequest::default() };
        admin.keys.create_key(request).await.expect("made");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_under_a_checkpoint_of_the_token_when_the_service_has_ended() {
    let mut dev = Dev::start();
    make_keys(&dev, 0..5).await;
    dev.stop();
    let audit = dev.directory().join("audit");
    let (key, first) = (key(&audit), fs::read_to_string(audit.join("checkpoint")).expect("a checkpoint"));
    let summary = verify(&audit, key.clone(), &[]).expect("sound");
    assert_eq!((summary.covered, summary.checkpoints), (summary.lines, 1));

    // The same token goes on with the same key, and the later tree continues the earlier one.
    dev.start_again();
    make_keys(&dev, 5..8).await;
    dev.stop();
    let later = verify(&audit, key.clone(), std::slice::from_ref(&first)).expect("sound");
    assert!(later.covered == later.lines && later.lines > summary.lines);

    // One record exchanged for another valid one.
    let segment = audit.join("00000000000000000000.jsonl");
    let sound = fs::read_to_string(&segment).expect("text");
    let line = sound.lines().position(|line| line.contains("\"CreateKey\"")).expect("a record");
    let forged = sound.replacen("\"CreateKey\"", "\"EnableKey\"", 1);
    fs::write(&segment, forged).expect("written");
    match verify(&audit, key, &[first]) {
        Err(VerifyError::Fault(fault)) => {
            assert!(matches!(fault.problem, Problem::Altered { .. }), "{fault}");
            assert_eq!(fault.sequence, line as u64, "{fault}");
        }
        other => panic!("not found: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_goes_on_from_its_checkpoint() {
    let mut dev = Dev::start();
    for round in 0..5 {
        make_keys(&dev, round * 10..round * 10 + 3).await;
        dev.kill();
        dev.start_again();
    }
    dev.stop();
    let audit = dev.directory().join("audit");
    let summary = verify(&audit, key(&audit), &[]).expect("sound");
    assert_eq!(summary.covered, summary.lines);
    let note = fs::read_to_string(audit.join("checkpoint")).expect("a checkpoint");
    let signed = SignedCheckpoint::open(&note, &key(&audit)).expect("signed");
    assert_eq!(signed.checkpoint.size, summary.lines);
    check_log(dev.directory());
}
