//! Closed segments of the log go to an archive, and then from the log: both verify, and nothing else changes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use dewpoint_tests::{ADMIN, Clients, Identity, Serve, by_id, eventually, valid};
use kms_audit::{Expected, Summary, VerifierKey, VerifyError, verify_against};
use kms_proto::v1::{DescribeKeyUsageRequest, GenerateDataKeyRequest};

/// Enough uses of a key for several segments.
const USES: usize = 500;

async fn admin(serve: &Serve) -> Clients {
    let files = serve.authority.client("admin", &[ADMIN], valid());
    serve.connect(Identity { files: Some(files), ..Identity::default() }).await
}

async fn use_key(serve: &Serve, key_id: &str) {
    let mut admin = admin(serve).await;
    for _ in 0..USES {
        let request = GenerateDataKeyRequest { key: by_id(key_id), ..GenerateDataKeyRequest::default() };
        admin.data.generate_data_key(request).await.expect("made");
    }
}

/// How often the key has sealed, and whether all of it is known.
async fn uses(serve: &Serve, key_id: &str) -> (u64, bool) {
    let mut admin = admin(serve).await;
    let read = admin.keys.describe_key_usage(DescribeKeyUsageRequest { key: by_id(key_id) });
    let usage = read.await.expect("read").into_inner().usage.expect("there");
    (usage.versions.iter().map(|version| version.data_keys).sum(), usage.unknown_before.is_none())
}

/// The segments of a log, by the places of their headers.
fn segments(directory: &Path) -> Vec<u64> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let segments = paths.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let mut all: Vec<u64> = segments
        .map(|path| path.file_stem().and_then(|name| name.to_str()).expect("text").parse().expect("a place"))
        .collect();
    all.sort_unstable();
    all
}

fn verify(directory: &Path, key: &VerifierKey, checkpoints: &[String]) -> Result<Summary, VerifyError> {
    let expected =
        Expected { key: Some(key.clone()), checkpoints: checkpoints.to_vec(), ..Expected::default() };
    verify_against(directory, &expected, |_| ())
}

/// What the Go program says of the log in `directory`, which need not have the service's name for it.
fn check_independently(directory: &Path) {
    let named = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(directory, named.path().join("audit")).expect("linked");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/independent-checks.sh");
    let told = Command::new(script).arg("verify-log").arg(named.path()).output().expect("bash is there");
    assert!(told.status.success(), "{told:?}");
}

struct Site {
    serve: Serve,
    place: PathBuf,
    audit: PathBuf,
}

impl Site {
    /// A service that archives into a directory which is not there yet.
    async fn start() -> Self {
        let mut serve = Serve::prepare();
        let place = serve.directory().join("archive");
        serve.add_configuration(&format!(
            "[audit]\nsegment_bytes = 65536\n[audit.archive]\ndirectory = \"{}\"\nkeep_segments = 1\n",
            place.display()
        ));
        assert!(serve.run("init").status.success());
        serve.start().await;
        let audit = serve.directory().join("data/audit");
        Self { serve, place, audit }
    }

    fn key(&self) -> VerifierKey {
        VerifierKey::parse(&fs::read_to_string(self.audit.join("log-key")).expect("a key")).expect("a key")
    }

    fn archive(&self) -> PathBuf {
        self.place.join(self.key().name().replace('/', "_"))
    }

    async fn shrinks(&self) -> Vec<u64> {
        eventually("all segments but the last two are gone", async || {
            Some(segments(&self.audit)).filter(|segments| segments.len() == 2)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_archived_goes_and_both_parts_verify() {
    let mut site = Site::start().await;
    let key_id = admin(&site.serve).await.create("used").await.key_id;
    use_key(&site.serve, &key_id).await;
    let told = site.serve.directory().join("stderr.log");
    eventually("the missing place is told of", async || {
        fs::read_to_string(&told).expect("text").contains("is not archived").then_some(())
    })
    .await;
    assert_eq!(segments(&site.audit)[0], 0, "nothing is removed");
    let early = fs::read_to_string(site.audit.join("checkpoint")).expect("a checkpoint");
    fs::create_dir(&site.place).expect("a directory");
    let left = site.shrinks().await;
    assert_eq!(segments(&site.archive()).last(), Some(&left[0]), "the newest closed one is in both");

    // A crash, and the log goes on; the counts of uses are exact.
    site.serve.kill();
    site.serve.start().await;
    assert_eq!(uses(&site.serve, &key_id).await, (USES as u64, true));
    use_key(&site.serve, &key_id).await;
    eventually("more is removed", async || (segments(&site.audit)[0] > left[1]).then_some(())).await;
    let left = site.shrinks().await;
    assert!(site.serve.stop().success());

    let key = site.key();
    let summary = verify(&site.audit, &key, std::slice::from_ref(&early)).expect("sound");
    assert_eq!((summary.archived, summary.covered), (left[0], summary.lines));
    let archived = verify(&site.archive(), &key, &[early]).expect("sound by itself");
    assert_eq!((archived.archived, archived.lines, archived.covered), (0, left[1], left[1]));
    check_independently(&site.audit);
    check_independently(&site.archive());

    // It starts again, on what is left.
    site.serve.start().await;
    assert_eq!(uses(&site.serve, &key_id).await, (2 * USES as u64, true));
    assert!(site.serve.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_beside_the_whole_log_only() {
    let mut site = Site::start().await;
    fs::create_dir(&site.place).expect("a directory");
    let key_id = admin(&site.serve).await.create("used").await.key_id;
    let backup = site.serve.directory().join("backup");
    let made = site.serve.dewctl(&["backup", "--out", backup.to_str().expect("text")]).output();
    assert!(made.expect("it runs").status.success());
    use_key(&site.serve, &key_id).await;
    site.shrinks().await;
    assert!(site.serve.stop().success());
    fs::remove_dir_all(site.serve.directory().join("data/store")).expect("removed");

    let restore = || site.serve.command("restore").arg("--from").arg(&backup).output().expect("it runs");
    let refused = restore();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("the audit log begins with line"), "{told}");
    for segment in segments(&site.archive()) {
        let name = format!("{segment:020}.jsonl");
        fs::copy(site.archive().join(&name), site.audit.join(&name)).expect("copied");
    }
    let restored = restore();
    assert!(restored.status.success(), "{restored:?}");
    let summary = verify(&site.audit, &site.key(), &[]).expect("sound");
    assert_eq!((summary.archived, summary.covered), (0, summary.lines));
}
