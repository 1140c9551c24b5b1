//! Two real services: one cosigns the checkpoints of the other's log, and of that log one history only.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use dewpoint_tests::{ADMIN, Identity, Serve, eventually, records, valid};
use kms_audit::{CosignerKey, Expected, SignedCheckpoint, VerifierKey, verify_against};
use kms_proto::v1::{AddCheckpointRequest, CreateKeyRequest, witness_service_client::WitnessServiceClient};
use tonic::Code;
use tonic_types::StatusExt as _;

fn key(serve: &Serve) -> VerifierKey {
    let text = fs::read_to_string(audit(serve).join("log-key")).expect("the log has a key");
    VerifierKey::parse(&text).expect("a verifier key")
}

fn audit(serve: &Serve) -> PathBuf {
    serve.directory().join("data/audit")
}

fn note(serve: &Serve) -> String {
    fs::read_to_string(audit(serve).join("checkpoint")).expect("a checkpoint")
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp is there").success());
}

/// A log and its witness.
struct Pair {
    log: Serve,
    witness: Serve,
}

impl Pair {
    /// Neither runs.
    async fn new() -> Self {
        let mut pair = Self { log: Serve::start_new().await, witness: Serve::prepare() };
        assert!(pair.log.stop().success());
        let witnessed = format!("[[audit.witness.logs]]\nkey = \"{}\"\n", key(&pair.log));
        pair.witness.add_configuration(&witnessed);
        let identities = pair.witness.directory().join("identity.toml");
        let named = fs::read_to_string(&identities).expect("it is there");
        let named = format!("{named}[[operators]]\nname = \"the-log\"\nonly_cosign = true\n");
        fs::write(identities, named).expect("written");
        assert!(pair.witness.run("init").status.success());
        pair
    }

    /// The witness runs, and the log knows where.
    async fn start_witness(&mut self) {
        self.witness.start().await;
        let endpoint = format!("https://localhost:{}", self.witness.port());
        let authority = &self.witness.authority;
        let (certificate, private_key) =
            authority.client("the-log", &["dewpoint://operator/the-log"], valid());
        self.log.configure("workers = 1\n");
        self.log.add_configuration(&format!(
            "[audit.checkpoints]\ndirectory = \"{kept}\"\n[audit.checkpoints.witness]\nendpoint = \"{endpoint}\"\nca_cert = \"{ca}\"\n\
             certificate = \"{certificate}\"\nprivate_key = \"{private_key}\"\nkey = \"{key}\"\n",
            kept = self.log.directory().join("kept").display(),
            ca = authority.certificate().display(),
            certificate = certificate.display(),
            private_key = private_key.display(),
            key = self.cosigner(),
        ));
    }

    fn cosigner(&self) -> CosignerKey {
        let text = fs::read_to_string(self.witness.directory().join("data/witness/key"));
        CosignerKey::parse(&text.expect("the witness tells its key")).expect("a key")
    }

    /// So many keys are made at the log.
    async fn make_keys(&self, name: &str, count: usize) {
        let files = Some(self.log.authority.client("admin", &[ADMIN], valid()));
        let mut admin = self.log.connect(Identity { files, ..Identity::default() }).await;
        for number in 0..count {
            let request =
                CreateKeyRequest { alias: format!("{name}-{number}"), ..CreateKeyRequest::default() };
            admin.keys.create_key(request).await.expect("made");
        }
    }

    /// The size of the log's newest checkpoint, if it is cosigned.
    fn cosigned(&self) -> Option<u64> {
        let note = note(&self.log);
        self.cosigner().check(&note).ok()?;
        Some(SignedCheckpoint::open(&note, &key(&self.log)).expect("signed").checkpoint.size)
    }

    /// The newest checkpoint that is kept in the directory for it.
    fn kept(&self) -> String {
        let own =
            SignedCheckpoint::open(&note(&self.log), &key(&self.log)).expect("signed").checkpoint.origin;
        let own = self.log.directory().join("kept").join(own.replace('/', "_"));
        fs::read_to_string(own.join("checkpoint")).expect("a checkpoint")
    }

    /// Waits until the newest checkpoint is cosigned and larger than `size`.
    async fn cosigned_beyond(&self, size: u64) -> u64 {
        eventually("cosigned", async || self.cosigned().filter(|cosigned| *cosigned > size)).await
    }

    /// Whether the log is sound and cosigned: what both verifiers say, which share no code.
    fn verifies_with_witness(&self) -> bool {
        let expected =
            Expected { key: Some(key(&self.log)), witnesses: vec![self.cosigner()], ..Expected::default() };
        let verified = verify_against(&audit(&self.log), &expected, |_| ());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/independent-checks.sh");
        let mut other = Command::new(script);
        other.arg("verify-log").arg(self.log.directory().join("data"));
        let told = other.args(["--witness", &self.cosigner().to_string()]).output().expect("bash is there");
        assert_eq!(told.status.code(), Some(i32::from(verified.is_err())), "{verified:?}, but {told:?}");
        verified.is_ok()
    }

    /// What the witness says that it cosigned last of the log that made this note.
    async fn known(&self, note: &str) -> u64 {
        let request =
            AddCheckpointRequest { old_size: u64::MAX, proof: Vec::new(), checkpoint: note.to_owned() };
        let channel = self.witness.operator().await.channel;
        let refused = WitnessServiceClient::new(channel).add_checkpoint(request).await.expect_err("refused");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        let info = refused.get_details_error_info().expect("its reason");
        assert_eq!(info.reason, "CHECKPOINT_OTHER_SIZE");
        info.metadata["known_size"].parse().expect("a number")
    }

    /// Waits until the log's process says why a checkpoint is not cosigned.
    async fn complains(&self, of: &str) {
        let log = self.log.directory().join("stderr.log");
        eventually(of, async || {
            let text = fs::read_to_string(&log).expect("its log");
            let mut failed =
                text.lines().filter(|line| line.contains("a checkpoint does not leave the machine"));
            failed.any(|line| line.contains("\"witness\"") && line.contains(of)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_put_back_is_not_cosigned_again() {
    let mut pair = Pair::new().await;
    pair.start_witness().await;
    pair.log.start().await;
    pair.make_keys("first", 3).await;
    assert!(pair.log.stop().success());
    assert!(pair.verifies_with_witness(), "also the last checkpoint of a log that ends is cosigned");
    let first = note(&pair.log);
    assert_eq!(pair.kept(), first, "and so it is in the other places");
    let witnessed = records(&pair.witness.directory().join("data"));
    assert!(witnessed.iter().any(|record| record["operation"] == "CosignCheckpoint"
        && record["verdict"] != "failed"
        && record["state_digest"].is_string()));

    // It goes on, and the witness with it; then everything is as it was before.
    let data = pair.log.directory().join("data");
    let older = pair.log.directory().join("older");
    copy(&data, &older);
    pair.log.start().await;
    pair.make_keys("second", 3).await;
    assert!(pair.log.stop().success());
    assert!(pair.verifies_with_witness());
    let (second, size) = (note(&pair.log), pair.cosigned().expect("cosigned"));
    assert_eq!(pair.known(&first).await, size);
    fs::remove_dir_all(&data).expect("removed");
    copy(&older, &data);

    pair.log.start().await;
    pair.make_keys("third", 1).await;
    pair.complains(&format!("the witness has cosigned {size} lines")).await;
    assert_eq!(pair.cosigned(), None);
    // As soon as it has grown beyond that, the proof shows another history.
    pair.make_keys("fourth", 8).await;
    pair.complains("it is not proved to continue").await;
    assert!(pair.log.stop().success());
    assert!(!pair.verifies_with_witness());
    assert_eq!(pair.known(&second).await, size, "what was cosigned stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_is_killed_or_restarted_knows_what_it_cosigned() {
    let mut pair = Pair::new().await;
    let mut size = 0;
    for round in 0..4 {
        pair.start_witness().await;
        pair.log.start().await;
        pair.make_keys(&format!("round-{round}"), 2).await;
        size = pair.cosigned_beyond(size).await;
        if round % 2 == 0 {
            // While the log still goes on, and with it the calls of its carrier.
            pair.make_keys(&format!("more-{round}"), 2).await;
            pair.witness.kill();
        } else {
            assert!(pair.witness.stop().success());
        }
        let cosigned = pair.cosigned().map_or(size, |newest| newest.max(size));
        pair.log.kill();
        pair.witness.start().await;
        assert!(pair.known(&note(&pair.log)).await >= cosigned, "round {round}");
        pair.witness.kill();
    }
    pair.start_witness().await;
    pair.log.start().await;
    pair.make_keys("last", 1).await;
    pair.cosigned_beyond(size).await;
    assert!(pair.log.stop().success());
    assert!(pair.verifies_with_witness());
}
