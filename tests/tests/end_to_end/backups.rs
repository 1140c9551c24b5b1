//! Backups of a running service, drills, and restores elsewhere on a copy of the token.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use dewpoint_tests::{
    ADMIN, Clients, Context, Dev, DevOptions, Identity, Module, Serve, binary, by_alias, by_id, by_service,
    check_log, eventually, records, refusal, valid,
};
use kms_proto::v1::{
    AdvanceRequest, BackUpRequest, DisableKeyRequest, GenerateDataKeyResponse, Key, KeySpec,
    ListDestroyedKeysRequest, ListKeysRequest, RotateRootRequest, ScheduleKeyDeletionRequest,
};
use sha2::{Digest as _, Sha256};
use tonic::Code;

/// New AES keys seal inside of the HSM.
const IN_HSM: &str = "workers = 1\n[hsm.cipher]\naes_256 = \"hsm\"\n";

async fn service(engine: &str) -> Serve {
    let mut serve = Serve::prepare_on(Module::SoftHsm2);
    serve.configure(IN_HSM);
    serve.choose_store(engine);
    done(&serve.run("init"));
    serve.start().await;
    serve
}

async fn admin(serve: &Serve) -> Clients {
    let files = Some(serve.authority.client("admin", &[ADMIN], valid()));
    serve.connect(Identity { files, ..Identity::default() }).await
}

fn data(serve: &Serve) -> PathBuf {
    serve.directory().join("data")
}

fn done(output: &Output) -> String {
    let (said, told) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}: {told}{said}", output.status);
    told.trim_end().to_owned()
}

/// It failed, and its last line says why.
fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().any(|line| line.starts_with("dewpoint: ") && line.contains(why)), "{said}");
}

/// A backup of the running service, and its digest.
fn back_up(serve: &Serve, name: &str) -> (PathBuf, String) {
    let file = serve.directory().join(name);
    let out = file.to_str().expect("a text");
    let digest = done(&serve.dewctl(&["backup", "--out", out]).output().expect("runs"));
    assert_eq!(digest, hex::encode(Sha256::digest(fs::read(&file).expect("a file"))));
    (file, digest)
}

/// A deployment without a store, on a copy of the token.
fn on_a_copy_of_the_token(source: &Serve, directory: &Path, engine: &str) -> Serve {
    copy(&source.directory().join("token"), &directory.join("token"));
    let (from, to) = (source.directory().to_str().expect("a text"), directory.to_str().expect("a text"));
    for entry in fs::read_dir(directory.join("token")).expect("copied").flatten() {
        if let Ok(text) = fs::read_to_string(entry.path()) {
            fs::write(entry.path(), text.replace(from, to)).expect("writable");
        }
    }
    let serve = Serve::prepare_in_on(Module::SoftHsm2, directory.to_owned(), IN_HSM);
    serve.choose_store(engine);
    serve
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, &copied).expect("copied");
        }
    }
}

fn restore(serve: &Serve, file: &Path, more: &[&str]) -> Command {
    let mut command = serve.command("restore");
    command.arg("--from").arg(file).args(more);
    command
}

/// A drill that succeeds or not, and leaves nothing.
fn drill(serve: &Serve, file: &Path) -> Output {
    let passing = serve.directory().join("passing");
    fs::create_dir_all(&passing).expect("a directory");
    let before = lasting(serve);
    let output = restore(serve, file, &["--drill"]).env("TMPDIR", &passing).output().expect("runs");
    assert!(tree(&passing).is_empty(), "nothing is left behind");
    assert_eq!(lasting(serve), before, "store and log are as they were");
    output
}

/// Store and log; not what the service signs meanwhile.
fn lasting(serve: &Serve) -> Vec<PathBuf> {
    let audit = data(serve).join("audit");
    let signed = [audit.join("checkpoint"), audit.join("checkpoint.tmp"), audit.join("checkpoints.log")];
    let tiles = audit.join("tile");
    let mut files = tree(&data(serve));
    files.retain(|path| !signed.contains(path) && !path.starts_with(&tiles));
    files
}

/// All files under a directory.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        paths.extend(if path.is_dir() { tree(&path) } else { Vec::new() });
        paths.push(path);
    }
    paths.sort();
    paths
}

/// Data keys of keys of all kinds and states, and what there is.
struct Content {
    keys: Vec<Key>,
    sealed: Vec<GenerateDataKeyResponse>,
}

impl Content {
    async fn make(admin: &mut Clients) -> Self {
        let mut sealed = Vec::new();
        for (alias, spec) in [("aes", KeySpec::Aes256), ("sm4", KeySpec::Sm4), ("off", KeySpec::Aes256)] {
            admin.create_of(alias, spec).await;
        }
        let doomed = admin.create("doomed").await.key_id;
        for key in [by_alias("aes"), by_alias("sm4"), by_alias("off"), by_alias("doomed"), by_service("obs")]
        {
            sealed.push(admin.generate(key, Context::new()).await.expect("a data key"));
        }
        let request = ScheduleKeyDeletionRequest { key_id: doomed, pending_days: 7 };
        admin.keys.schedule_key_deletion(request).await.expect("scheduled");
        let key_id = sealed[2].key_id.clone();
        admin.keys.disable_key(DisableKeyRequest { key_id }).await.expect("disabled");
        Self { keys: admin.list(ListKeysRequest::default()).await, sealed }
    }

    /// All of it is there, but budgets are spent.
    async fn check(&self, admin: &mut Clients) {
        let found = admin.list(ListKeysRequest::default()).await;
        for key in &self.keys {
            let mut expected = key.clone();
            if let Some(protection) = expected.protection.as_mut().filter(|protection| protection.budget > 0)
            {
                protection.reserved_uses = u64::from(u32::MAX);
            }
            assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
        }
        for (index, made) in self.sealed.iter().enumerate() {
            let opened = admin.decrypt(&made.ciphertext_blob, None, Context::new()).await;
            match index {
                2 => assert_eq!(refusal(opened).1, "KEY_DISABLED"),
                3 => assert_eq!(refusal(opened).1, "KEY_PENDING_DELETION"),
                _ => assert_eq!(opened.expect("it opens").plaintext, made.plaintext),
            }
        }
    }
}

/// Makes keys until it is told to stop; answers how many, each with a data key.
async fn load(mut admin: Clients, name: String, stop: Arc<AtomicBool>) -> Vec<GenerateDataKeyResponse> {
    let mut made = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let key = admin.create(&format!("{name}-{}", made.len())).await;
        made.push(admin.generate(by_id(&key.key_id), Context::new()).await.expect("a data key"));
    }
    made
}

async fn a_backup_under_load_is_restored(engine: &str, engine_there: &str) {
    let mut source = service(engine).await;
    let content = Content::make(&mut admin(&source).await).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut loads = Vec::new();
    for worker in 0..4 {
        loads.push(tokio::spawn(load(admin(&source).await, format!("load-{worker}"), stop.clone())));
    }
    let count = async || admin(&source).await.list(ListKeysRequest::default()).await.len();
    eventually("some keys under load", async || (count().await > 20).then_some(())).await;
    let before = count().await;
    let (file, digest) = tokio::task::block_in_place(|| back_up(&source, "backup"));
    stop.store(true, Ordering::SeqCst);
    let mut under_load = Vec::new();
    for load in loads {
        under_load.extend(load.await.expect("no panic"));
    }
    told_by_the_log(&source, "CreateBackup", &digest, Some("ops"));

    let directory = tempfile::tempdir().expect("a directory");
    let mut there = on_a_copy_of_the_token(&source, &directory.path().join("there"), engine_there);
    let said = done(&drill(&there, &file));
    assert!(said.starts_with("drill: ") && said.ends_with("unreadable: 0"), "{said}");
    // The service itself may run meanwhile.
    done(&restore(&source, &file, &["--drill"]).output().expect("runs"));
    let said = done(&restore(&there, &file, &["--digest", &digest]).output().expect("runs"));
    assert!(said.starts_with("restored: ") && said.contains("tombstones: 0\ngrants: 0\n"), "{said}");
    told_by_the_log(&there, "RestoreBackup", &digest, None);
    refused(&restore(&there, &file, &[]).output().expect("runs"), "there is a key store already");

    there.start().await;
    let mut admin = admin(&there).await;
    content.check(&mut admin).await;
    let restored = admin.list(ListKeysRequest::default()).await;
    assert!(restored.len() >= before, "all that was there before is restored");
    let mut of_load = 0;
    for made in &under_load {
        if restored.iter().any(|key| key.key_id == made.key_id) {
            let opened = admin.decrypt(&made.ciphertext_blob, None, Context::new()).await;
            assert_eq!(opened.expect("it opens").plaintext, made.plaintext);
            of_load += 1;
        }
    }
    assert!(of_load > 10, "keys of the load are in it");
    // Nothing is half there: a key is listed, has its name, and works.
    for key in restored.iter().filter(|key| key.alias.starts_with("load")) {
        let made = admin.generate(by_alias(&key.alias), Context::new()).await.expect("a data key");
        assert_eq!(made.key_id, key.key_id);
    }
    assert!(there.stop().success());
    check_log(&data(&there));
    assert!(source.stop().success());
}

/// The log's last outcome of `operation` is a success with this digest.
fn told_by_the_log(serve: &Serve, operation: &str, digest: &str, by: Option<&str>) {
    let records = records(&data(serve));
    let mut of_it = records.iter().rev().filter(|record| record["operation"] == operation);
    let (outcome, intent) = (of_it.next().expect("an outcome"), of_it.next().expect("an intent"));
    assert_eq!((&outcome["phase"], &intent["phase"]), (&"outcome".into(), &"intent".into()));
    assert_eq!((&outcome["verdict"], &outcome["state_digest"]), (&"succeeded".into(), &digest.into()));
    assert_eq!(outcome["request_id"], intent["request_id"]);
    if let Some(by) = by {
        assert!(outcome.to_string().contains(&format!("\"{by}\"")), "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_redb_under_load_is_restored_on_sled() {
    a_backup_under_load_is_restored("redb", "sled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_sled_under_load_is_restored_on_redb() {
    a_backup_under_load_is_restored("sled", "redb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_or_cut_backup_is_refused_and_leaves_no_store() {
    let source = service("redb").await;
    Content::make(&mut admin(&source).await).await;
    let (file, digest) = back_up(&source, "backup");
    let directory = tempfile::tempdir().expect("a directory");
    let there = on_a_copy_of_the_token(&source, &directory.path().join("there"), "redb");
    let whole = fs::read(&file).expect("a file");
    let damaged = there.directory().join("damaged");
    let refuse = |bytes: &[u8], what: &str| {
        fs::write(&damaged, bytes).expect("a file");
        for more in [&[][..], &["--leave-out-faulty"], &["--drill"]] {
            let output = restore(&there, &damaged, more).output().expect("runs");
            assert_eq!(output.status.code(), Some(1), "{what}: {output:?}");
            let left =
                tree(&data(&there)).into_iter().filter(|path| !path.starts_with(data(&there).join("audit")));
            assert_eq!(left.count(), 0, "{what}");
        }
    };
    for place in (0..whole.len()).step_by(whole.len() / 16).chain([whole.len() - 1]) {
        let mut altered = whole.clone();
        altered[place] ^= 1;
        refuse(&altered, &format!("byte {place} of {} altered", whole.len()));
    }
    for length in [0, 5, 16, whole.len() / 2, whole.len() - 37, whole.len() - 1] {
        refuse(&whole[..length], &format!("cut to {length}"));
    }
    refuse(&[&whole[..], &[0]].concat(), "a byte more");
    let without_one = without_a_value(&whole);
    refuse(&without_one, "a value left out, all others whole");
    let said = restore(&there, &file, &["--digest", &"00".repeat(32)]).output().expect("runs");
    refused(&said, "has the digest");

    let mut other = Serve::prepare_on(Module::SoftHsm2);
    done(&other.run("init"));
    refused(&restore(&other, &file, &[]).output().expect("runs"), "on another token");
    assert!(tree(&data(&other).join("store")).is_empty());
    other.start().await; // it begins as if nothing had been

    done(&restore(&there, &file, &["--digest", &digest]).output().expect("runs"));
}

/// The same file without its second value: frames are a kind, a length and a body.
fn without_a_value(whole: &[u8]) -> Vec<u8> {
    let start = whole.iter().position(|byte| *byte == b'\n').expect("a name") + 1;
    let end_of = |frame: usize| {
        let length: [u8; 4] = whole[frame + 1..frame + 5].try_into().expect("four bytes");
        frame + 5 + usize::try_from(u32::from_be_bytes(length)).expect("it fits")
    };
    let second = end_of(end_of(start));
    [&whole[..second], &whole[end_of(second)..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_root_key_is_gone_is_refused() {
    let mut source = service("redb").await;
    Content::make(&mut admin(&source).await).await;
    let (file, _) = back_up(&source, "backup");
    let mut operator = source.operator().await;
    operator.roots.rotate_root(RotateRootRequest { keep_old_root: true }).await.expect("rotated");
    done(&drill(&source, &file));
    operator.roots.retire_root(kms_proto::v1::RetireRootRequest {}).await.expect("retired");
    eventually("the old root is gone", async || {
        let status = operator.roots.describe_root(kms_proto::v1::DescribeRootRequest {}).await;
        (status.expect("described").into_inner().token_generations == [2]).then_some(())
    })
    .await;
    let output = drill(&source, &file);
    refused(&output, "no root key of generation 1");
    let (file, _) = back_up(&source, "after");
    done(&drill(&source, &file));
    assert!(source.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_unwraps_every_version_of_every_key() {
    const KEYS: usize = 40;
    let mut source = service("redb").await;
    let mut admin = admin(&source).await;
    for number in 0..KEYS {
        admin.create(&format!("key-{number}")).await;
    }
    let (file, _) = back_up(&source, "backup");
    assert!(source.stop().success());
    let trace = source.directory().join("trace");
    source.spy(&trace, IN_HSM);
    done(&drill(&source, &file));
    let text = fs::read_to_string(&trace).expect("a trace");
    let unwrapped = text.matches("C_UnwrapKey").count();
    assert!(unwrapped >= KEYS, "{unwrapped} keys were unwrapped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_destroyed_after_the_backup_is_so_again() {
    let arguments = vec!["--traffic-control=off".into(), "--clock=manual".into()];
    let mut dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let mut admin = dev.user(0, "admin").await;
    let (doomed, kept) = (admin.create("doomed").await.key_id, admin.create("kept").await.key_id);
    let of_doomed = admin.generate(by_id(&doomed), Context::new()).await.expect("a data key");
    let of_kept = admin.generate(by_id(&kept), Context::new()).await.expect("a data key");
    let file = dev.directory().join("backup");
    done(&dev.dewctl(&["backup", "--out", file.to_str().expect("a text")]).output().expect("runs"));

    let request = ScheduleKeyDeletionRequest { key_id: doomed.clone(), pending_days: 7 };
    admin.keys.schedule_key_deletion(request).await.expect("scheduled");
    let by = std::time::Duration::from_secs(8 * 24 * 60 * 60).try_into().ok();
    dev.operator().await.dev.advance(AdvanceRequest { by }).await.expect("advanced");
    let destroyed = async |dev: &Dev| {
        let mut operator = dev.operator().await;
        let listed = operator.roots.list_destroyed_keys(ListDestroyedKeysRequest::default()).await;
        let keys = listed.expect("listed").into_inner().keys;
        (keys.len() == 1 && keys[0].key_id == doomed).then_some(())
    };
    eventually("it is destroyed", async || destroyed(&dev).await).await;
    assert!(dev.stop().success());

    fs::rename(dev.directory().join("store"), dev.directory().join("lost")).expect("renamed");
    fs::create_dir(dev.directory().join("store")).expect("a directory");
    fs::write(dev.directory().join("store/notes"), "").expect("a file");
    refused(&restore_dev(&dev, &file), "move it away");
    fs::remove_file(dev.directory().join("store/notes")).expect("removed"); // an empty place is in nobody's way
    let output = restore_dev(&dev, &file);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    done(&output);
    assert!(said.contains(&format!("key {doomed} was destroyed after the backup was made")), "{said}");

    dev.start_again();
    let mut admin = dev.user(0, "admin").await;
    let opened = admin.decrypt(&of_doomed.ciphertext_blob, None, Context::new()).await;
    assert_eq!(refusal(opened).0, Code::NotFound);
    let opened = admin.decrypt(&of_kept.ciphertext_blob, None, Context::new()).await;
    assert_eq!(opened.expect("it opens").plaintext, of_kept.plaintext);
    eventually("it is destroyed again", async || destroyed(&dev).await).await;
    admin.create("doomed").await; // its name is free
    assert!(dev.stop().success());
    check_log(dev.directory());
}

/// `dewpoint restore` into the directory of dev mode.
fn restore_dev(dev: &Dev, file: &Path) -> Output {
    let (directory, token) = (dev.directory(), dev.token());
    let unused = directory.join("unused");
    let config = format!(
        "data_dir = {directory:?}\nidentity_file = {unused:?}\n[grpc]\nlisten = \"127.0.0.1:0\"\n\
         certificate = {unused:?}\nprivate_key = {unused:?}\nclient_ca = {unused:?}\n[hsm]\n\
         module = {module:?}\ntoken_label = \"dewpoint\"\npin_file = {pin:?}\n",
        directory = text(directory),
        unused = text(&unused),
        module = text(&token.module),
        pin = text(&token.pin_file),
    );
    let path = directory.join("dewpoint.toml");
    fs::write(&path, config).expect("a file");
    let mut command = Command::new(binary());
    command.args(["restore", "--config"]).arg(path).arg("--from").arg(file).envs(token.environment);
    command.output().expect("runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a text")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_makes_a_backup_and_not_over_a_file() {
    let source = service("redb").await;
    let answer = admin(&source).await.roots.back_up(BackUpRequest {}).await;
    assert_eq!(refusal(answer), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
    let last = records(&data(&source)).pop().expect("a record");
    assert_eq!((&last["operation"], &last["verdict"]), (&"CreateBackup".into(), &"denied".into()));

    let file = source.directory().join("backup");
    fs::write(&file, "something").expect("a file");
    let output = source.dewctl(&["backup", "--out", file.to_str().expect("a text")]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read(&file).expect("it is there"), b"something");
}

/// So many that a backup does not fit into what lies between the service and a client that does not read.
const MANY_KEYS: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_a_kill_or_its_client_ends_is_recorded_as_failed() {
    let mut source = Serve::prepare_on(Module::SoftHsm2);
    done(&source.run("init"));
    source.start().await;
    assert!(source.stop().success());
    source.seed(MANY_KEYS);
    source.start().await;

    let mut abandoned =
        source.operator().await.roots.back_up(BackUpRequest {}).await.expect("begun").into_inner();
    assert!(abandoned.message().await.expect("a part").is_some_and(|part| part.digest.is_empty()));
    drop(abandoned);
    let reason = |verdict: &str| {
        let ended = records(&data(&source)).pop().filter(|last| last["operation"] == "CreateBackup");
        ended.filter(|last| last["verdict"] == verdict).map(|last| last["reason"].clone())
    };
    assert_eq!(eventually("an end", async || reason("failed")).await, "ABANDONED");

    let mut killed =
        source.operator().await.roots.back_up(BackUpRequest {}).await.expect("begun").into_inner();
    assert!(killed.message().await.expect("a part").is_some());
    source.kill();
    while let Ok(Some(part)) = killed.message().await {
        assert!(part.digest.is_empty(), "it is not whole");
    }
    source.start().await;
    let records = records(&data(&source));
    let ended = records.iter().rfind(|record| record["operation"] == "CreateBackup").expect("a record");
    assert_eq!((&ended["phase"], &ended["reason"]), (&"recovery".into(), &"NOT_COMMITTED".into()));

    let (file, digest) = back_up(&source, "backup");
    told_by_the_log(&source, "CreateBackup", &digest, Some("ops"));
    let said = done(&drill(&source, &file));
    assert!(said.contains(&format!("keys: {MANY_KEYS} with")), "{said}");
}
