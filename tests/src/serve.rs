//! A `dewpoint serve` process of one's own: token, configuration and authority made by the test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use dewpoint_test_tokens::{Module, Token};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Authority, Clients, Identity, binary, calls::Endpoint, eventually, process, spy, supervised::send, valid,
};

/// The account, the project and the users of the identity file.
pub const ACCOUNT: &str = "d1";
/// Who may do everything.
pub const ADMIN: &str = "dewpoint://d1/admin";

const IDENTITY: &str = r#"
[[accounts]]
domain_id = "d1"
name = "one"
projects = [{ project_id = "p1", region = "r1" }]
[[accounts.users]]
user_id = "admin"
name = "admin"
permissions = ["kms:*:*"]

[[accounts]]
domain_id = "d2"
name = "two"
projects = [{ project_id = "p2", region = "r1" }]
[[accounts.users]]
user_id = "other"
name = "other"
permissions = ["kms:*:*"]

[[services]]
name = "obs"
accounts = ["d1"]

[[operators]]
name = "ops"
"#;

/// A deployment, and its process while it runs; killed when dropped.
#[derive(Debug)]
pub struct Serve {
    child: Option<Child>,
    directory: PathBuf,
    /// Removes the directory in the end, if it is not kept.
    owned: Option<TempDir>,
    /// Whom its clients' certificates come from.
    pub authority: Authority,
    token: Token,
    /// Where it listens; made known by [`start`](Self::start).
    endpoint: String,
}

impl Serve {
    /// Makes token, certificates and configuration; neither root key nor process yet.
    ///
    /// # Panics
    /// If they cannot be made.
    pub fn prepare() -> Self {
        Self::prepare_on(Module::chosen())
    }

    /// The same on a token of this module.
    ///
    /// # Panics
    /// If they cannot be made.
    pub fn prepare_on(module: Module) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_owned();
        let mut serve = Self::prepare_in_on(module, path, "workers = 1\n");
        serve.owned = Some(directory);
        serve
    }

    /// The same in a directory that is kept, with a token and data that are kept; `hsm` holds lines of the
    /// configuration's part of that name.
    ///
    /// # Panics
    /// If they cannot be made.
    pub fn prepare_in(path: PathBuf, hsm: &str) -> Self {
        Self::prepare_in_on(Module::chosen(), path, hsm)
    }

    /// The same on a token of this module.
    ///
    /// # Panics
    /// If they cannot be made.
    pub fn prepare_in_on(module: Module, path: PathBuf, hsm: &str) -> Self {
        fs::create_dir_all(path.join("data")).expect("a directory");
        let authority = Authority::new(&path, "test");
        let token = module.token(&path.join("token"), "dewpoint");
        fs::write(path.join("identity.toml"), IDENTITY).expect("a file");
        let mut serve =
            Self { child: None, directory: path, owned: None, authority, token, endpoint: String::new() };
        serve.configure(hsm);
        serve
    }

    /// From the next start on, every call to the token is written into `trace`.
    pub fn spy(&mut self, trace: &Path, hsm: &str) {
        self.token = spy::spied(&self.token, trace);
        self.configure(hsm);
    }

    /// From the next start on, the stand-in stands before the token, with its faults in this file.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn stand_in(&mut self, faults: &Path, hsm: &str) {
        self.token = self.token.clone().behind_stand_in(faults);
        self.configure(hsm);
    }

    /// A keystore on a token of this module, from the next start on; `hsm` as for
    /// [`configure`](Self::configure).
    ///
    /// # Panics
    /// If the token cannot be made.
    pub fn keystore(&mut self, name: &str, module: Module, hsm: &str) {
        let token = module.token(&self.directory.join(name), name);
        let (file, pin) = (&token.module, &token.pin_file);
        let keystore = format!(
            "{hsm}[[keystores]]\nname = {name:?}\nmodule = {file:?}\ntoken_label = {name:?}\npin_file = {pin:?}\n"
        );
        self.configure(&keystore);
        self.token.environment.extend(token.environment);
    }

    /// Writes the configuration; `hsm` holds lines of its part of that name.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure(&mut self, hsm: &str) {
        let (path, authority, token) = (&self.directory, &self.authority, &self.token);
        let (certificate, private_key) = authority.server();
        let config = format!(
            "data_dir = {data:?}\nidentity_file = {identity:?}\n\
             [grpc]\nlisten = \"127.0.0.1:0\"\ncertificate = {certificate:?}\nprivate_key = {private_key:?}\n\
             client_ca = {ca:?}\n[hsm]\nmodule = {module:?}\ntoken_label = \"dewpoint\"\npin_file = {pin:?}\n\
             {hsm}[traffic_control]\nmode = \"off\"\nprofile = {profile:?}\n",
            data = path.join("data"),
            identity = path.join("identity.toml"),
            ca = authority.certificate(),
            module = token.module,
            pin = token.pin_file,
            profile = path.join("profile.toml"),
        );
        let profile = include_str!("../../crates/kms-server/src/traffic/dew.toml")
            .replace("custom_keys = 100\n", "custom_keys = 10000000\n");
        fs::write(path.join("profile.toml"), profile).expect("a file");
        fs::write(path.join("dewpoint.toml"), config).expect("a file");
    }

    /// A running service on a new token.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start_new() -> Self {
        let mut serve = Self::prepare();
        let made = serve.run("init");
        assert!(made.status.success(), "{made:?}");
        serve.start().await;
        serve
    }

    /// Makes keys: through the pipeline, in a process of its own, while the service does not run.
    ///
    /// Their ids are answered, in the order in which they were made.
    ///
    /// # Panics
    /// If they cannot be made.
    pub fn seed(&self, count: usize) -> Vec<String> {
        let ids = self.directory().join("seeded");
        let status = Command::new(binary().with_file_name("seed"))
            .arg(self.directory().join("data"))
            .args([&self.token.module, &self.token.pin_file])
            .arg(count.to_string())
            .envs(self.token.environment.iter().cloned())
            .stdout(File::create(&ids).expect("a file"))
            .status();
        assert!(status.expect("the program is built beside dewpoint").success(), "the keys cannot be made");
        fs::read_to_string(ids).expect("the file is ours").lines().map(str::to_owned).collect()
    }

    /// The directory of everything: `dewpoint.toml`, `identity.toml`, `data/`, `token/`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs `serve` or `init` to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(&self, command: &str) -> Output {
        self.command(command).output().expect("dewpoint starts")
    }

    /// Another program of the workspace, on the same token.
    pub fn beside(&self, program: &str) -> Command {
        let mut command = Command::new(binary().with_file_name(program));
        command.envs(self.token.environment.iter().cloned());
        command
    }

    /// `dewpoint serve` or `init` with the configuration and the token.
    pub fn command(&self, command: &str) -> Command {
        let path = self.directory();
        let mut dewpoint = Command::new(binary());
        dewpoint.args([command, "--config"]).arg(path.join("dewpoint.toml"));
        dewpoint.envs(self.token.environment.iter().cloned());
        dewpoint
    }

    /// Starts the service.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start(&mut self) {
        let log = self.directory().join("stderr.log");
        let file = File::create(&log).expect("a file");
        let mut child = self.command("serve").stdout(Stdio::null()).stderr(file).spawn().expect("it starts");
        let address = eventually("ready", async || {
            let text = fs::read_to_string(&log).expect("the log can be read");
            let ended = child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "dewpoint serve ended with {ended:?}: {text}");
            text.lines().find_map(|line| ready_address(line, "grpc"))
        })
        .await;
        self.endpoint = format!("https://{address}");
        self.child = Some(child);
    }

    /// Ends it orderly and tells how it ended.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop(&mut self) -> ExitStatus {
        process::terminate(self.child.take().expect("it runs"))
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        process::kill(self.child.take().expect("it runs"));
    }

    /// SIGHUP to the process; waits until its log has `line` `times` times.
    ///
    /// # Panics
    /// If it does not run, or that never comes.
    pub async fn hang_up(&self, line: &str, times: usize) {
        let process = i32::try_from(self.id()).ok().and_then(Pid::from_raw).expect("a process");
        send(process, Signal::HUP);
        let log = self.directory.join("stderr.log");
        eventually(line, async || {
            let text = fs::read_to_string(&log).expect("the log can be read");
            (text.lines().filter(|told| told.contains(line)).count() == times).then_some(())
        })
        .await;
    }

    /// Where its metrics and health are, if `[admin]` is configured.
    pub fn admin(&self) -> Option<String> {
        let text = fs::read_to_string(self.directory().join("stderr.log")).ok()?;
        text.lines().find_map(|line| ready_address(line, "admin"))
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Its token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// `dewctl` with these arguments, as an operator.
    ///
    /// # Panics
    /// If the service was never started.
    pub fn dewctl(&self, arguments: &[&str]) -> Command {
        let (certificate, key) = self.authority.client("ops", &["dewpoint://operator/ops"], valid());
        let mut command = Command::new(binary().with_file_name("dewctl"));
        let endpoint = format!("https://localhost:{}", self.port()); // the name in its certificate
        command.args(["--endpoint", &endpoint, "--ca"]).arg(self.authority.certificate());
        command.arg("--cert").arg(certificate).arg("--key").arg(key).args(arguments);
        command
    }

    /// Clients for an operator.
    pub async fn operator(&self) -> Clients {
        let files = Some(self.authority.client("ops", &["dewpoint://operator/ops"], valid()));
        self.connect(Identity { files, ..Identity::default() }).await
    }

    /// Names the database of the key store.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn choose_store(&self, engine: &str) {
        let file = self.directory.join("dewpoint.toml");
        let config = fs::read_to_string(&file).expect("it is there");
        fs::write(file, format!("store = \"{engine}\"\n{config}")).expect("a file");
    }

    /// Adds tables to the configuration.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn add_configuration(&self, tables: &str) {
        let file = self.directory.join("dewpoint.toml");
        let config = fs::read_to_string(&file).expect("it is there");
        fs::write(file, format!("{config}{tables}")).expect("a file");
    }

    /// Clients for any identity.
    pub async fn connect(&self, identity: Identity) -> Clients {
        let endpoint = Endpoint { url: self.endpoint.clone(), ca: self.authority.certificate() };
        Clients::connect_to(&endpoint, identity).await
    }

    /// The port that it listens on.
    ///
    /// # Panics
    /// If it was never started.
    pub fn port(&self) -> u16 {
        let (_, port) = self.endpoint.rsplit_once(':').expect("it was started");
        port.parse().expect("a port")
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            process::kill(child);
        }
        process::show_log_of_failure(&self.directory);
    }
}

/// Where the listener of this name is, if the line says that the service is ready.
fn ready_address(line: &str, listener: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "ready").then(|| line[listener].as_str().map(str::to_owned)).flatten()
}
