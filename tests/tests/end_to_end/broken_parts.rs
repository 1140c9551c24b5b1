//! A full disk, a token that is gone: typed errors, nothing lost, and back to work when the cause is gone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use dewpoint_tests::{Clients, Context, Dev, DevOptions, Module, by_alias, by_id, eventually, reason};
use kms_proto::v1::{CreateKeyRequest, DecryptDataKeyRequest, GenerateDataKeyRequest};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// A file system of a few MiB of its own; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Self {
        fs::create_dir_all(path).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(path);
        let mounted = mount.status().expect("mount runs");
        assert!(mounted.success(), "this test mounts a tmpfs: it has to run as root with CAP_SYS_ADMIN");
        Self(path.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn options() -> DevOptions {
    DevOptions { arguments: vec!["--traffic-control=off".into()], ..DevOptions::default() }
}

async fn key(clients: &mut Clients) -> String {
    let request = CreateKeyRequest { alias: "k".into(), ..CreateKeyRequest::default() };
    clients.keys.create_key(request).await.expect("created").into_inner().key.expect("a key").key_id
}

fn generate(key_id: &str) -> GenerateDataKeyRequest {
    GenerateDataKeyRequest { key: by_id(key_id), ..GenerateDataKeyRequest::default() }
}

/// Takes all the space that is left.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).expect("a file");
    for size in [1 << 16, 1 << 10, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_an_emptied_one_works_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = SmallDisk::mount(&directory.path().join("disk"));
    let mut dev = Dev::start_in(disk.0.join("dev"), options(), None);
    let mut admin = dev.user(0, "admin").await;
    let key_id = key(&mut admin).await;
    let first = admin.data.generate_data_key(generate(&key_id)).await.expect("made").into_inner();
    let ballast = disk.0.join("ballast");
    fill(&ballast);
    let refused = loop {
        // The log has some space laid out already; a key takes space in the store, too.
        let context = [("filler".to_owned(), "x".repeat(4000))].into();
        let request = GenerateDataKeyRequest { encryption_context: context, ..generate(&key_id) };
        if let Err(refused) = admin.data.generate_data_key(request).await {
            break refused;
        }
    };
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "AUDIT_UNAVAILABLE"));
    let request = CreateKeyRequest { alias: "full".into(), ..CreateKeyRequest::default() };
    let refused = admin.keys.create_key(request.clone()).await.expect_err("no space");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    fs::remove_file(&ballast).expect("removed");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while admin.data.generate_data_key(generate(&key_id)).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "it did not heal: {}", dev.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    admin.keys.create_key(request).await.expect("there is space again");
    let request =
        DecryptDataKeyRequest { ciphertext_blob: first.ciphertext_blob, ..DecryptDataKeyRequest::default() };
    assert_eq!(
        admin.data.decrypt_data_key(request).await.expect("opens").into_inner().plaintext,
        first.plaintext
    );
    assert!(dev.stop().success());
    kms_audit::verify(&dev.directory().join("audit")).expect("the log is whole");
}

/// Whether health checking and `/readyz` tell that calls can be answered, once both tell the same.
async fn is_ready(dev: &Dev, clients: &Clients) -> bool {
    eventually("one answer of both", async || {
        let checked = HealthClient::new(clients.channel.clone()).check(HealthCheckRequest::default()).await;
        let serving = checked.expect("it answers").into_inner().status() == ServingStatus::Serving;
        (serving == dev.admin("/readyz").contains(" 200 ")).then_some(serving)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_taken_away_stops_the_service_until_it_is_back() {
    let arguments = vec!["--traffic-control=off".into(), "--admin-port=0".into()];
    let mut dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let mut admin = dev.user(0, "admin").await;
    let key_id = key(&mut admin).await;
    assert!(is_ready(&dev, &admin).await);
    let (audit, aside) = (dev.directory().join("audit"), dev.directory().join("aside"));
    let segment = audit.join("00000000000000000000.jsonl");
    fs::rename(&segment, &aside).expect("moved");
    let refused = admin.data.generate_data_key(generate(&key_id)).await.expect_err("no record, no answer");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "AUDIT_UNAVAILABLE"));
    eventually("not ready", async || (!is_ready(&dev, &admin).await).then_some(())).await;
    // An older state of it under its name is none.
    let whole = fs::read(&aside).expect("readable");
    let end = whole.iter().rposition(|byte| *byte == b'\n').expect("a line");
    fs::write(&segment, [&whole[..end], &vec![0; whole.len() - end]].concat()).expect("written");
    let refused = admin.data.generate_data_key(generate(&key_id)).await.expect_err("not the log");
    assert_eq!(&*reason(&refused), "AUDIT_UNAVAILABLE");
    fs::rename(&aside, &segment).expect("moved back");
    eventually("ready again", async || is_ready(&dev, &admin).await.then_some(())).await;
    admin.data.generate_data_key(generate(&key_id)).await.expect("made");
    assert!(dev.stop().success());
    kms_audit::verify(&audit).expect("the log is whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_gone_is_an_error_and_not_a_hang() {
    // It takes away the files in which SoftHSM2 keeps its token.
    let mut dev = Dev::start_with(DevOptions { module: Module::SoftHsm2, ..options() });
    let mut admin = dev.user(0, "admin").await;
    let key_id = key(&mut admin).await;
    admin.data.generate_data_key(generate(&key_id)).await.expect("made");
    let (tokens, away) = (dev.directory().join("token/tokens"), dev.directory().join("token/away"));
    fs::rename(&tokens, &away).expect("moved");
    // A loaded key may go on; a new one needs the root key.
    let call = async {
        if let Err(refused) = admin.data.generate_data_key(generate(&key_id)).await {
            assert_eq!(reason(&refused), "HSM_UNAVAILABLE");
        }
        let request = CreateKeyRequest { alias: "new".into(), ..CreateKeyRequest::default() };
        admin.keys.create_key(request).await
    };
    let answered = tokio::time::timeout(Duration::from_secs(30), call).await.expect("no hang");
    if let Err(refused) = answered {
        assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "HSM_UNAVAILABLE"));
    }
    fs::rename(&away, &tokens).expect("moved back");
    dev.restart();
    let mut admin = dev.user(0, "admin").await;
    admin.data.generate_data_key(generate(&key_id)).await.expect("everything is there again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_its_token_refuses_to_start() {
    let mut dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    key(&mut admin).await;
    assert!(dev.stop().success());
    fs::remove_dir_all(dev.directory().join("token")).expect("removed");
    let ended = dev.command().output().expect("it runs");
    assert!(!ended.status.success() && ended.stdout.is_empty());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("dewpoint: the key store exists, but the token has no root key"), "{said}");
    assert!(!dev.directory().join("dev.json").exists(), "a stale dev.json is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_beside_another_token_refuses_to_start() {
    let (mut owner, mut other) = (Dev::start(), Dev::start());
    let mut admin = owner.user(0, "admin").await;
    key(&mut admin).await;
    assert!(owner.stop().success() && other.stop().success());
    let store = |dev: &Dev| dev.directory().join("store");
    fs::remove_dir_all(store(&other)).expect("removed");
    fs::rename(store(&owner), store(&other)).expect("moved");
    let ended = other.command().output().expect("it runs");
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0));
    let said = String::from_utf8_lossy(&ended.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with('{')).collect();
    let [line] = lines[..] else { panic!("one line, not: {said}") };
    assert!(line.starts_with("dewpoint: the key store does not belong to this token"), "{line}");
    fs::rename(store(&other), store(&owner)).expect("moved back");
    owner.start_again();
    let mut admin = owner.user(0, "admin").await;
    admin.generate(by_alias("k"), Context::new()).await.expect("with its own token all is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_store_refuses_to_start_unless_it_tells_of_nothing() {
    let mut dev = Dev::start();
    assert!(dev.stop().success());
    let (store, away) = (dev.directory().join("store"), dev.directory().join("away"));
    fs::remove_dir_all(&store).expect("removed"); // as if its first start had been cut off
    dev.start_again();
    let mut admin = dev.user(0, "admin").await;
    key(&mut admin).await;
    assert!(dev.stop().success());
    fs::rename(&store, &away).expect("moved");
    for empty_place in [false, true] {
        if empty_place {
            fs::create_dir(&store).expect("a directory"); // where a volume is to be mounted
        }
        let ended = dev.command().output().expect("it runs");
        assert!(!ended.status.success() && ended.stdout.is_empty());
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("the key store is missing") && said.contains("dewpoint restore"), "{said}");
        assert!(fs::read_dir(&store).map_or(true, |mut entries| entries.next().is_none()), "no new store");
    }
    fs::remove_dir(&store).expect("empty");
    fs::rename(&away, &store).expect("moved back");
    dev.start_again();
    let mut admin = dev.user(0, "admin").await;
    admin.generate(by_alias("k"), Context::new()).await.expect("all is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_its_log_refuses_to_start() {
    let mut dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    key(&mut admin).await;
    assert!(dev.stop().success());
    let (log, away) = (dev.directory().join("audit"), dev.directory().join("away"));
    fs::rename(&log, &away).expect("moved");
    let ended = dev.command().output().expect("it runs");
    assert!(!ended.status.success() && ended.stdout.is_empty());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("the audit log is missing"), "{said}");
    assert!(!log.exists(), "no new log hides the loss");
    fs::rename(&away, &log).expect("moved back");
    dev.start_again();
}
