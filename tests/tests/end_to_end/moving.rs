//! A store moves from a token of one module to a token of the other, and on to a third one.

use std::{
    collections::HashMap,
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use dewpoint_tests::{
    ADMIN, Clients, Context, Identity, Module, Serve, by_alias, by_id, by_service, check_log, context,
    eventually, reason, records, refusal, valid,
};
use kms_proto::v1::{
    CreateKeyRequest, DeleteImportedKeyMaterialRequest, DisableKeyRequest, EnableKeyRequest,
    GenerateDataKeyResponse, Key, KeySpec, ListKeysRequest, ScheduleKeyDeletionRequest,
    UpdateKeyAliasRequest,
};
use sha2::{Digest as _, Sha256};

use crate::import::{create, import, importer};

/// AES keys that are made from now on seal inside of the HSM, for so few uses that new versions follow.
const IN_HSM: &str = "workers = 1\n[hsm.cipher]\naes_256 = \"hsm\"\nbudget = 20\n";

/// A deployment without a store on a new token, which has its root key.
fn target(module: Module) -> Serve {
    let mut serve = Serve::prepare_on(module);
    serve.configure(IN_HSM);
    assert_done(&serve.run("init"));
    serve
}

async fn admin(serve: &Serve) -> Clients {
    let files = Some(serve.authority.client("admin", &[ADMIN], valid()));
    serve.connect(Identity { files, ..Identity::default() }).await
}

fn data(serve: &Serve) -> PathBuf {
    serve.directory().join("data")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_done(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
}

/// It failed, and said why in one line.
fn assert_refused(output: &Output, why: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = said.lines().rfind(|line| line.starts_with("dewpoint: ")).unwrap_or_default();
    assert!(line.contains(why), "{said}");
    assert!(output.stdout.is_empty(), "no result");
}

/// The one word on standard output.
fn printed(output: &Output) -> String {
    assert_done(output);
    let text = String::from_utf8(output.stdout.clone()).expect("a text");
    text.strip_suffix('\n').expect("a line").to_owned()
}

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).expect("a file")))
}

/// A public key on its way to the source, and its fingerprint.
fn transfer_key(target: &Serve) -> (PathBuf, String) {
    let file = target.directory().join("transfer-key.json");
    let fingerprint =
        printed(&target.command("transfer-key").arg("--out").arg(&file).output().expect("runs"));
    assert_eq!(fingerprint, sha256(&file));
    (file, fingerprint)
}

fn backup_command(source: &Serve, (file, fingerprint): &(PathBuf, String), out: &Path) -> Command {
    let mut command = source.command("backup");
    command.arg("--for").arg(file).args(["--fingerprint", fingerprint]).arg("--out").arg(out);
    command
}

/// A backup of `source` for `target`, and its digest.
fn backup(source: &Serve, target: &Serve) -> (PathBuf, String) {
    let file = source.directory().join("backup");
    let output = backup_command(source, &transfer_key(target), &file).output().expect("runs");
    let digest = printed(&output);
    assert_eq!(digest, sha256(&file));
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    (file, digest)
}

fn restore_command(target: &Serve, file: &Path, digest: &str) -> Command {
    let mut command = target.command("restore");
    command.arg("--from").arg(file).args(["--digest", digest]);
    command
}

fn restore(target: &Serve, file: &Path, digest: &str) -> Output {
    restore_command(target, file, digest).output().expect("runs")
}

/// What must be the same on every token.
struct Content {
    keys: Vec<Key>,
    sealed: Vec<(GenerateDataKeyResponse, Context)>,
    disabled: String,
    doomed: String,
}

impl Content {
    async fn make(admin: &mut Clients) -> Self {
        let mut sealed = Vec::new();
        let contexts = [Context::new(), context(&[("bucket", "photos"), ("object", "harbour.jpg")])];
        for (alias, spec) in [("aes", KeySpec::Aes256), ("sm4", KeySpec::Sm4)] {
            admin.create_of(alias, spec).await;
        }
        let request = creation("made-once");
        admin.keys.create_key(request).await.expect("made");
        let renamed = admin.create("before").await.key_id;
        let request = UpdateKeyAliasRequest { key_id: renamed, alias: "a/slash".into() };
        admin.keys.update_key_alias(request).await.expect("renamed");
        let disabled = admin.create("disabled").await.key_id;
        let doomed = admin.create("doomed").await.key_id;
        let keys = ["aes", "sm4", "made-once", "a/slash", "disabled", "doomed"].map(by_alias);
        for key in keys.into_iter().chain([by_service("obs")]) {
            for context in &contexts {
                let made = admin.generate(key.clone(), context.clone()).await.expect("a data key");
                sealed.push((made, context.clone()));
            }
        }
        let request = DisableKeyRequest { key_id: disabled.clone() };
        admin.keys.disable_key(request).await.expect("disabled");
        let request = ScheduleKeyDeletionRequest { key_id: doomed.clone(), pending_days: 7 };
        admin.keys.schedule_key_deletion(request).await.expect("scheduled");
        let keys = admin.list(ListKeysRequest::default()).await;
        Self { keys, sealed, disabled, doomed }
    }

    /// Adds a key with several versions that seal inside of the HSM.
    async fn add_in_hsm(&mut self, admin: &mut Clients) {
        let key = admin.create("inside").await;
        for _ in 0..45 {
            let made = admin.generate(by_id(&key.key_id), Context::new()).await.expect("a data key");
            self.sealed.push((made, Context::new()));
        }
        let made = admin.describe(by_id(&key.key_id)).await.expect("described");
        assert_eq!(made.current_version, 3);
        self.keys = admin.list(ListKeysRequest::default()).await;
    }

    /// It is all there, and works; a new data key is added.
    async fn check(&mut self, admin: &mut Clients) {
        let mut expected = self.keys.clone();
        for protection in expected.iter_mut().filter_map(|key| key.protection.as_mut()) {
            if protection.budget > 0 {
                protection.reserved_uses = u64::from(u32::MAX); // nobody knows what other copies used
            }
        }
        assert_eq!(admin.list(ListKeysRequest::default()).await, expected);
        let reasons = HashMap::from([
            (self.disabled.as_str(), "KEY_DISABLED"),
            (self.doomed.as_str(), "KEY_PENDING_DELETION"),
        ]);
        for (made, context) in &self.sealed {
            let opened = admin.decrypt(&made.ciphertext_blob, None, context.clone()).await;
            match reasons.get(made.key_id.as_str()) {
                Some(reason) => assert_eq!(refusal(opened).1, *reason),
                None => assert_eq!(opened.expect("it opens").plaintext, made.plaintext),
            }
        }
        for alias in ["aes", "sm4", "a/slash", "inside", "obs/default"] {
            let before = expected.iter().find(|key| key.alias == alias).expect("listed");
            let made = admin.generate(by_alias(alias), Context::new()).await.expect("a data key");
            let new_versions = u32::from(before.protection.is_some_and(|protection| protection.budget > 0));
            assert_eq!(made.key_version, before.current_version + new_versions, "{alias}");
            self.sealed.push((made, Context::new()));
        }
        self.keys = admin.list(ListKeysRequest::default()).await; // uses of budgets are counted
        // A creation that is tried again makes no second key.
        let again = admin.keys.create_key(creation("made-once")).await.expect("the same").into_inner().key;
        let first = admin.describe(by_alias("made-once")).await.expect("described");
        assert_eq!(again, Some(first));
    }

    /// What was disabled opens again once it is enabled.
    async fn check_disabled(&self, admin: &mut Clients) {
        let key_id = self.disabled.clone();
        admin.keys.enable_key(EnableKeyRequest { key_id }).await.expect("enabled");
        for (made, context) in self.sealed.iter().filter(|(made, _)| made.key_id == self.disabled) {
            let opened = admin.decrypt(&made.ciphertext_blob, by_id(&self.disabled), context.clone()).await;
            assert_eq!(opened.expect("it opens").plaintext, made.plaintext);
        }
    }
}

fn creation(alias: &str) -> CreateKeyRequest {
    let idempotency_token = "once".to_owned();
    CreateKeyRequest { alias: alias.to_owned(), idempotency_token, ..CreateKeyRequest::default() }
}

/// A stopped deployment with content.
async fn source(module: Module) -> (Serve, Content) {
    let mut source = target(module);
    source.configure("workers = 1\n");
    source.start().await;
    let mut content = Content::make(&mut admin(&source).await).await;
    assert!(source.stop().success());
    source.configure(IN_HSM);
    source.start().await;
    content.add_in_hsm(&mut admin(&source).await).await;
    assert!(source.stop().success());
    (source, content)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_from_softhsm2_to_kryoptic_and_on_to_softhsm2() {
    let (mut from, mut content) = source(Module::SoftHsm2).await;
    for module in [Module::Kryoptic, Module::SoftHsm2] {
        let mut to = target(module);
        let (file, digest) = backup(&from, &to);
        assert_done(&restore(&to, &file, &digest));
        assert_moved_in_the_logs(&from, &to, &digest);
        to.start().await;
        content.check(&mut admin(&to).await).await;
        assert!(to.stop().success());
        check_log(&data(&to));
        // The key pair is gone: the backup opens once.
        fs::rename(data(&to).join("store"), to.directory().join("kept")).expect("renamed");
        fs::rename(data(&to).join("audit"), to.directory().join("audit")).expect("renamed");
        assert_refused(&restore(&to, &file, &digest), "no transfer key");
        fs::rename(to.directory().join("audit"), data(&to).join("audit")).expect("renamed");
        fs::rename(to.directory().join("kept"), data(&to).join("store")).expect("renamed");
        from = to;
    }
    from.start().await;
    content.check_disabled(&mut admin(&from).await).await;
}

async fn delete_material(admin: &Clients, key_id: &str) {
    let request = DeleteImportedKeyMaterialRequest { key_id: key_id.to_owned() };
    importer(admin).delete_imported_key_material(request).await.expect("it has material");
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_material_is_taken_for_the_same_on_every_token_and_no_other_is() {
    const MATERIAL: [u8; 32] = [0x5b; 32];
    let mut from = target(Module::SoftHsm2);
    from.start().await;
    let mut clients = admin(&from).await;
    let with = create(&mut clients, "with", KeySpec::Aes256).await;
    let without = create(&mut clients, "without", KeySpec::Aes256).await;
    let mut sealed = Vec::new();
    for key_id in [&with, &without] {
        import(&clients, key_id, &MATERIAL).await.expect("it waits for material");
        sealed.push(clients.generate(by_id(key_id), Context::new()).await.expect("a data key"));
    }
    delete_material(&clients, &without).await;
    assert!(from.stop().success());
    for module in [Module::Kryoptic, Module::SoftHsm2] {
        let mut to = target(module);
        let (file, digest) = backup(&from, &to);
        assert_done(&restore(&to, &file, &digest));
        to.start().await;
        let mut clients = admin(&to).await;
        delete_material(&clients, &with).await;
        for key_id in [&with, &without] {
            let refused = import(&clients, key_id, &[0x5c; 32]).await.expect_err("other material");
            assert_eq!(reason(&refused), "MATERIAL_MISMATCH");
            import(&clients, key_id, &MATERIAL).await.expect("the same material");
        }
        for made in &sealed {
            let opened = clients.decrypt(&made.ciphertext_blob, None, Context::new()).await;
            assert_eq!(opened.expect("it opens").plaintext, made.plaintext);
        }
        delete_material(&clients, &without).await;
        assert!(to.stop().success());
        from = to;
    }
}

/// Both logs tell of the move, each with the digest of the backup.
fn assert_moved_in_the_logs(from: &Serve, to: &Serve, digest: &str) {
    let told = |serve: &Serve, operation: &str| {
        check_log(&data(serve));
        let records = records(&data(serve)).into_iter();
        let ended = records.filter(|record| record["operation"] == operation && record["phase"] == "outcome");
        ended.map(|record| (record["verdict"].clone(), record["state_digest"].clone())).next_back()
    };
    let expected = Some(("succeeded".into(), digest.into()));
    assert_eq!(told(from, "CreateBackup"), expected);
    assert_eq!(told(to, "RestoreBackup"), expected);
    let first = &records(&data(to))[0];
    assert_eq!((&first["operation"], &first["phase"]), (&"RestoreBackup".into(), &"intent".into()));
    assert_eq!(first["state_digest"], digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_whole_and_leaves_nothing() {
    let (source, _) = source(Module::SoftHsm2).await;
    let target = target(Module::SoftHsm2);
    let (file, digest) = backup(&source, &target);
    let whole = fs::read(&file).expect("a file");
    let before = entries(&data(&target));
    let damaged = target.directory().join("damaged");
    let refuse = |bytes: &[u8], what: &str| {
        fs::write(&damaged, bytes).expect("a file");
        // Whoever damages it may also tell another digest.
        let output = restore(&target, &damaged, &sha256(&damaged));
        assert_eq!(output.status.code(), Some(1), "{what}: {}", stderr(&output));
        assert_eq!(entries(&data(&target)), before, "{what}");
    };
    let step = whole.len() / 24;
    for place in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
        let mut altered = whole.clone();
        altered[place] ^= 1;
        refuse(&altered, &format!("byte {place} of {} altered", whole.len()));
    }
    for length in [0, 5, 18, 1000, whole.len() / 2, whole.len() - 37, whole.len() - 1] {
        refuse(&whole[..length], &format!("cut to {length}"));
    }
    refuse(&[&whole[..], &[0]].concat(), "a byte more");

    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    fs::write(&damaged, altered).expect("a file");
    assert_refused(&restore(&target, &damaged, &digest), "");
    assert_refused(&restore(&target, &file, &"00".repeat(32)), "has the digest");
    assert_eq!(restore(&target, &file, "00").status.code(), Some(2), "no digest at all");
    assert_done(&restore(&target, &file, &digest));
    assert_refused(&restore(&target, &file, &digest), "there is a key store already");
}

/// The names in a directory, in order.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_needs_the_right_key_a_stopped_service_and_a_new_file() {
    let (mut source, _) = source(Module::SoftHsm2).await;
    let target = target(Module::SoftHsm2);
    let (key, fingerprint) = transfer_key(&target);
    assert_eq!(transfer_key(&target), (key.clone(), fingerprint.clone()), "the same key again");
    let out = source.directory().join("backup");

    let wrong = (key.clone(), "00".repeat(32));
    assert_refused(&backup_command(&source, &wrong, &out).output().expect("runs"), "has the fingerprint");
    let mut text = fs::read_to_string(&key).expect("a text");
    text = text.replace("\"token_label\"", " \"token_label\"");
    let other = source.directory().join("other.json");
    fs::write(&other, text).expect("a file");
    let given = (other, fingerprint.clone());
    assert_refused(&backup_command(&source, &given, &out).output().expect("runs"), "has the fingerprint");

    let right = (key, fingerprint);
    source.start().await;
    let refused = backup_command(&source, &right, &out).output().expect("runs");
    assert_refused(&refused, "the service runs on this deployment");
    assert!(source.stop().success());
    fs::write(&out, "something").expect("a file");
    assert_refused(&backup_command(&source, &right, &out).output().expect("runs"), "exists");
    fs::remove_file(&out).expect("removed");
    assert!(!out.exists());
    let nothing = backup_command(&target, &right, &out).output().expect("runs");
    assert_refused(&nothing, "no key store to back up");
    let refused = source.command("transfer-key").arg("--out").arg(&out).output().expect("runs");
    assert_refused(&refused, "there is a key store already");

    // A backup for a key that was replaced since is for nobody.
    let digest = printed(&backup_command(&source, &right, &out).output().expect("runs"));
    let replaced = target.directory().join("replaced.json");
    let made = target.command("transfer-key").arg("--replace").arg("--out").arg(&replaced).output();
    assert_ne!(printed(&made.expect("runs")), right.1);
    assert_refused(&restore(&target, &out, &digest), "made for another transfer key");
    assert_done(&target.command("transfer-key").arg("--destroy").output().expect("runs"));
    assert_refused(&restore(&target, &out, &digest), "no transfer key");
    assert_eq!(entries(&data(&target)), Vec::<PathBuf>::new());
}

/// `restore` under strace, which injects `what` into the call that gives the store its name.
fn restore_with_fault(target: &Serve, file: &Path, digest: &str, what: &str) -> Command {
    let restore = restore_command(target, file, digest);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(data(target).join("store.restoring"));
    command.args(["-e", "trace=rename,renameat,renameat2", "-e"]);
    command.arg(format!("inject=rename,renameat,renameat2:{what}"));
    command.arg(restore.get_program()).args(restore.get_args());
    command.envs(restore.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_before_its_end_can_be_run_again() {
    let (source, mut content) = source(Module::SoftHsm2).await;
    let mut target = target(Module::SoftHsm2);
    let (file, digest) = backup(&source, &target);
    let killed = restore_with_fault(&target, &file, &digest, "error=EIO:signal=KILL").output();
    let killed = killed.expect("strace is missing: apt-get install strace");
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
    assert!(data(&target).join("store.restoring").exists() && !data(&target).join("store").exists());
    assert_refused(&target.run("serve"), "a restore was interrupted");
    assert_done(&restore(&target, &file, &digest));
    assert!(!data(&target).join("store.restoring").exists());
    check_log(&data(&target));
    target.start().await;
    content.check(&mut admin(&target).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_at_its_end_is_recorded_at_the_next_start() {
    let (source, mut content) = source(Module::SoftHsm2).await;
    let mut target = target(Module::SoftHsm2);
    let (file, digest) = backup(&source, &target);
    let mut running =
        restore_with_fault(&target, &file, &digest, "delay_exit=600000000").spawn().expect("strace starts");
    let store = data(&target).join("store");
    eventually("the store has its name", async || store.exists().then_some(())).await;
    // strace lets go of what it traces when it ends; so what it traces ends first.
    let children = format!("/proc/{0}/task/{0}/children", running.id());
    let restore: i32 = fs::read_to_string(children)
        .expect("it runs")
        .split_whitespace()
        .next()
        .and_then(|id| id.parse().ok())
        .expect("strace has a child");
    let restore = rustix::process::Pid::from_raw(restore).expect("a process id");
    rustix::process::kill_process(restore, rustix::process::Signal::KILL).expect("it runs");
    running.kill().expect("strace waits still");
    running.wait().expect("it ends");
    target.start().await;
    content.check(&mut admin(&target).await).await;
    assert!(target.stop().success());
    let records = records(&data(&target));
    let recovered = records.iter().find(|record| record["phase"] == "recovery").expect("a recovery");
    assert_eq!(recovered["operation"], "RestoreBackup");
    assert_eq!((&recovered["verdict"], &recovered["state_digest"]), (&"succeeded".into(), &digest.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_killed_can_be_made_again() {
    let (source, _) = source(Module::SoftHsm2).await;
    let target = target(Module::SoftHsm2);
    let key = transfer_key(&target);
    let out = source.directory().join("backup");
    let backup = backup_command(&source, &key, &out);
    let mut command = Command::new("strace");
    let unfinished = source.directory().join("backup.unfinished");
    command.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(&unfinished);
    command.args(["-e", "trace=fsync", "-e", "inject=fsync:error=EIO:signal=KILL"]);
    command.arg(backup.get_program()).args(backup.get_args());
    command.envs(backup.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let killed = command.output().expect("strace is missing: apt-get install strace");
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
    assert!(unfinished.exists() && !out.exists());
    let digest = printed(&backup_command(&source, &key, &out).output().expect("runs"));
    assert!(!unfinished.exists());
    check_log(&data(&source));
    assert_done(&restore(&target, &out, &digest));
}
