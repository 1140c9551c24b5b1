//! A `dewpoint dev` process of one's own.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
};

use dewpoint_test_tokens::{Module, Token};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Clients, Description, Identity, eventually};

/// The file of the faults that the stand-in injects, in the data directory.
const FAULTS: &str = "faults";

/// How to start it.
#[derive(Debug)]
pub struct DevOptions {
    /// The module that has its token; by default the one that the environment chooses.
    pub module: Module,
    /// Whether the stand-in stands before it: then [`Dev::inject`] works.
    pub stand_in: bool,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Further environment variables.
    pub environment: Vec<(String, String)>,
    /// A command to start it through, as `strace -D -f -o FILE`; it must keep the process id.
    pub through: Vec<String>,
}

impl Default for DevOptions {
    fn default() -> Self {
        let module = Module::chosen();
        Self { module, stand_in: false, arguments: Vec::new(), environment: Vec::new(), through: Vec::new() }
    }
}

/// A running `dewpoint dev`; killed when dropped.
#[derive(Debug)]
pub struct Dev {
    child: Option<Child>,
    directory: PathBuf,
    options: DevOptions,
    _owned: Option<TempDir>,
    /// What `dev.json` says.
    pub description: Description,
}

/// The `dewpoint` program beside the program that asks.
///
/// `cargo test --workspace` builds it before it runs any test, for the tests of `kms-server` need it
/// too; a test of this package alone runs with what was built last.
///
/// # Panics
/// If there is none.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let own = std::env::current_exe().expect("a path");
        let mut directory = own.parent().expect("a directory").to_owned();
        if directory.ends_with("deps") {
            directory.pop();
        }
        let binary = directory.join("dewpoint");
        assert!(binary.exists(), "{} is missing: cargo build --workspace --bins", binary.display());
        binary
    })
}

impl Dev {
    /// A new deployment in a directory of its own, without traffic limits.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start() -> Self {
        Self::start_with(DevOptions {
            arguments: vec!["--traffic-control=off".into()],
            ..DevOptions::default()
        })
    }

    /// A new deployment in a directory of its own.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_with(options: DevOptions) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_owned();
        Self::start_in(path, options, Some(directory))
    }

    /// A deployment in this directory, new or kept.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_in(directory: PathBuf, options: DevOptions, owned: Option<TempDir>) -> Self {
        let child = spawn(&directory, command(&directory, &options));
        let description = Description::read(&directory.join("dev.json"));
        Self { child: Some(child), directory, options, _owned: owned, description }
    }

    /// Its data directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Replaces the faults that its calls of the module meet; needs the stand-in.
    ///
    /// # Panics
    /// If it has none.
    pub fn inject(&self, faults: &str) {
        assert!(self.options.stand_in, "faults need the stand-in");
        dewpoint_test_tokens::inject(&self.directory.join(FAULTS), faults);
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// The process id of the object gateway that it started.
    ///
    /// # Panics
    /// If it has none.
    pub fn gateway(&self) -> Pid {
        let is_gateway = |id: &u32| name_of(*id).as_deref() == Some("obs-gateway");
        let found = children(self.id()).into_iter().find(is_gateway);
        found.and_then(|id| Pid::from_raw(id.try_into().ok()?)).expect("a gateway")
    }

    /// Waits until it ends by itself, and tells how it ended.
    ///
    /// # Panics
    /// If it does not run, or does not end.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = eventually("its end", async || child.try_wait().expect("it can be asked")).await;
        self.child = None;
        status
    }

    /// Ends it orderly and tells how it ended.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop(&mut self) -> ExitStatus {
        terminate(self.child.take().expect("it runs"))
    }

    /// Tells it to end, and does not wait for that.
    ///
    /// # Panics
    /// If it does not run.
    pub fn tell_to_stop(&self) {
        signal(self.child.as_ref().expect("it runs"), Signal::TERM);
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        kill(self.child.take().expect("it runs"));
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// If it was stopped or killed.
    pub fn runs(&mut self) -> bool {
        let child = self.child.as_mut().expect("it was not stopped");
        child.try_wait().expect("it can be asked").is_none()
    }

    /// Starts it again in the same directory.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_again(&mut self) {
        self.child = Some(spawn(&self.directory, self.command()));
        self.description = Description::read(&self.directory.join("dev.json"));
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        command(&self.directory, &self.options)
    }

    /// Stops it, and starts it again in the same directory.
    ///
    /// # Panics
    /// If it does not end well or does not become ready.
    pub fn restart(&mut self) {
        let status = self.stop();
        assert!(status.success(), "dewpoint ended with {status}: {}", self.log());
        self.start_again();
    }

    /// What it wrote to stderr since it was started last.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("stderr.log")).unwrap_or_default()
    }

    /// The text of its metrics; needs `--admin-port`.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn metrics(&self) -> String {
        let answer = self.admin("/metrics");
        assert!(answer.contains(" 200 OK\r\n"), "{answer}");
        answer
    }

    /// The answer to a request for this path of its metrics and health; needs `--admin-port`.
    ///
    /// # Panics
    /// If there is none.
    pub fn admin(&self, path: &str) -> String {
        let endpoint = self.description.admin_endpoint();
        get(endpoint.strip_prefix("http://").expect("in plain"), path)
    }

    /// Its token.
    pub fn token(&self) -> Token {
        self.options.module.token(&self.directory.join("token"), "dewpoint")
    }

    /// `dewctl` with these arguments, as the deployment's operator.
    ///
    /// # Panics
    /// If there is none beside `dewpoint`.
    pub fn dewctl(&self, arguments: &[&str]) -> Command {
        let program = binary().with_file_name("dewctl");
        assert!(program.exists(), "{} is missing: cargo build --workspace --bins", program.display());
        let mut command = Command::new(program);
        command.arg("--dev-json").arg(self.directory.join("dev.json")).args(arguments);
        command
    }

    /// Clients for the operator.
    pub async fn operator(&self) -> Clients {
        let files = Some(self.description.operator());
        self.connect(Identity { files, ..Identity::default() }).await
    }

    /// Clients for a user of the account with this index.
    pub async fn user(&self, account: usize, name: &str) -> Clients {
        let user = self.description.account(account).user(name).clone();
        self.connect(Identity { files: Some(user.files), ..Identity::default() }).await
    }

    /// Clients for any identity.
    pub async fn connect(&self, identity: Identity) -> Clients {
        Clients::connect(&self.description, identity).await
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            kill(child);
        }
        show_log_of_failure(&self.directory);
    }
}

/// Shows the end of what the service logged, if the test that ran it fails: its directory goes away with it.
pub(crate) fn show_log_of_failure(directory: &Path) {
    const LINES: usize = 40;
    if std::thread::panicking() {
        let log = fs::read_to_string(directory.join("stderr.log")).unwrap_or_default();
        let lines = log.lines().collect::<Vec<_>>();
        eprintln!("the service's log ends with:\n{}", lines[lines.len().saturating_sub(LINES)..].join("\n"));
    }
}

/// Ends a process orderly.
pub(crate) fn terminate(mut child: Child) -> ExitStatus {
    signal(&child, Signal::TERM);
    child.wait().expect("it ends")
}

/// `kill -9`.
pub(crate) fn kill(mut child: Child) {
    signal(&child, Signal::KILL);
    child.wait().expect("it ends");
}

fn command(directory: &Path, options: &DevOptions) -> Command {
    let mut words = options.through.iter().map(String::as_str).map(OsStr::new).collect::<Vec<_>>();
    words.push(binary().as_os_str());
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(["dev", "--grpc-port=0", "--dew-port=0", "--data-dir"]).arg(directory);
    if options.stand_in || options.module != Module::SoftHsm2 {
        let token = options.module.token(&directory.join("token"), "dewpoint");
        let faults = directory.join(FAULTS);
        name_token(&mut command, if options.stand_in { token.behind_stand_in(&faults) } else { token });
    }
    command.args(&options.arguments);
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Names a token to dev mode, which makes one of SoftHSM2 by itself.
fn name_token(command: &mut Command, token: Token) {
    command.arg("--module").arg(token.module).arg("--token-label=dewpoint");
    command.arg("--pin-file").arg(token.pin_file).envs(token.environment);
}

fn spawn(directory: &Path, mut command: Command) -> Child {
    fs::create_dir_all(directory).expect("a directory");
    let log = File::create(directory.join("stderr.log")).expect("a file");
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("dewpoint starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    if !line.starts_with("ready") {
        let status = child.wait().expect("it ends");
        let log = fs::read_to_string(directory.join("stderr.log")).unwrap_or_default();
        panic!("dewpoint did not become ready ({status}): {log}");
    }
    child
}

/// Signals the service itself, also if it was started through another program: that one ends with it. What the service
/// started is not meant.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let id = child.id();
    let is_service = name_of(id).is_some_and(|name| binary().ends_with(name));
    let service = if is_service { Some(id) } else { children(id).first().copied() };
    let service = i32::try_from(service.unwrap_or(id)).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(service, signal); // it may have ended by itself
}

/// The processes that this one has started and that still run.
fn children(id: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let ids = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    ids.flat_map(|ids| ids.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The name of the program that this process runs: 15 letters of it at most.
fn name_of(id: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{id}/comm")).ok().map(|name| name.trim_end().to_owned())
}

/// The most resident memory that a process ever had, in MiB; nothing if it has ended.
///
/// # Panics
/// If the system tells no number.
pub fn most_memory(id: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u32 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    Some(f64::from(kib) / 1024.0)
}

/// The answer of a listener in plain HTTP to a request for this path.
///
/// # Panics
/// If there is none.
pub fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).expect("it listens");
    connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("it listens");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer
}
