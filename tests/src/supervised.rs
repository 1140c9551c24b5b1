//! A `dewpoint serve --supervise` of one's own: a supervisor, and the worker that it started last.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use kms_client::{Client, ClientConfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{ADMIN, Clients, Identity, Serve, calls::Endpoint, eventually, valid};

/// Beyond what any restart takes on any machine: a call that runs into it was lost.
const DEADLINE: Duration = Duration::from_secs(60);

/// A deployment, and its processes while they run; killed when dropped.
#[derive(Debug)]
pub struct Supervised {
    /// The deployment; it has no process of its own.
    pub serve: Serve,
    child: Option<Child>,
    certificate: (PathBuf, PathBuf),
}

impl Supervised {
    /// A running service on a new token.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start_new() -> Self {
        let mut supervised = Self::prepare();
        let command = supervised.command();
        supervised.start(command).await;
        supervised
    }

    /// A deployment with its root key, and no process yet.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn prepare() -> Self {
        Self::prepare_of(Serve::prepare())
    }

    /// The same of a deployment that has no root key yet.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn prepare_of(serve: Serve) -> Self {
        let made = serve.run("init");
        assert!(made.status.success(), "{made:?}");
        let certificate = serve.authority.client("admin", &[ADMIN], valid());
        Self { serve, child: None, certificate }
    }

    /// `dewpoint serve --supervise` with the configuration and the token.
    pub fn command(&self) -> Command {
        let mut command = self.serve.command("serve");
        command.arg("--supervise");
        command
    }

    /// Starts the service with this command.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start(&mut self, command: Command) {
        self.spawn(command);
        self.ready(1).await;
    }

    /// The same, without waiting for anything.
    ///
    /// # Panics
    /// If the command cannot be started.
    pub fn spawn(&mut self, mut command: Command) {
        let file = File::create(self.log_file()).expect("a file");
        self.child = Some(command.stdout(Stdio::null()).stderr(file).spawn().expect("it starts"));
    }

    /// Changes the configuration of the next start.
    ///
    /// # Panics
    /// If that changes nothing.
    pub fn configure(&self, old: &str, new: &str) {
        let file = self.serve.directory().join("dewpoint.toml");
        let text = fs::read_to_string(&file).expect("a configuration");
        assert!(text.contains(old), "{text}");
        fs::write(&file, text.replace(old, new)).expect("a configuration");
    }

    /// Where store and log are.
    pub fn data_dir(&self) -> PathBuf {
        self.serve.directory().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.serve.directory().join("stderr.log")
    }

    /// What supervisor and workers wrote to stderr.
    ///
    /// # Panics
    /// If it was never started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).expect("the log can be read")
    }

    /// The lines of the log with this message.
    pub fn said(&self, message: &str) -> Vec<Value> {
        let lines = self.log();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == message).collect()
    }

    /// Waits until this many workers have been ready; answers the address of the last one.
    ///
    /// # Panics
    /// If that never comes.
    pub async fn ready(&mut self, workers: usize) -> String {
        eventually("ready", async || {
            let ended = self.child.as_mut().expect("it was started").try_wait().expect("it can be asked");
            assert!(ended.is_none(), "the supervisor ended with {ended:?}: {}", self.log());
            let ready = self.said("ready");
            let last = ready.get(workers - 1)?;
            last["grpc"].as_str().map(str::to_owned)
        })
        .await
    }

    /// The process id of the supervisor.
    ///
    /// # Panics
    /// If it does not run.
    pub fn supervisor(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// The process id of the worker.
    ///
    /// # Panics
    /// If there is none at the moment.
    pub fn worker(&self) -> Pid {
        self.worker_now().unwrap_or_else(|| panic!("no worker: {}", self.log()))
    }

    /// The process id of the worker, if there is one at the moment.
    ///
    /// # Panics
    /// If the supervisor does not run.
    pub fn worker_now(&self) -> Option<Pid> {
        let supervisor = self.supervisor().as_raw_pid();
        let tasks = fs::read_dir(format!("/proc/{supervisor}/task")).expect("its threads");
        let children = tasks.map(|task| {
            fs::read_to_string(task.expect("a thread").path().join("children")).unwrap_or_default()
        });
        let children: String = children.collect();
        children.split_whitespace().next().and_then(|id| Pid::from_raw(id.parse().ok()?))
    }

    /// A client that may do everything, with the default retry.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn client(&mut self) -> Client {
        let config = self.client_config().await.deadline(DEADLINE).connect_timeout(DEADLINE);
        Client::connect(config).await.expect("the service is there")
    }

    /// What such a client connects with, and the client's own defaults.
    ///
    /// # Panics
    /// If there is no service.
    pub async fn client_config(&mut self) -> ClientConfig {
        let endpoint = self.endpoint().await;
        let ((certificate, key), ca) = (&self.certificate, self.serve.authority.certificate());
        ClientConfig::from_files(endpoint, ca, certificate, key).expect("certificates")
    }

    /// Generated clients of who may do everything: without any retry, and with all that an answer says.
    ///
    /// # Panics
    /// If there is no service.
    pub async fn clients(&mut self) -> Clients {
        let endpoint = Endpoint { url: self.endpoint().await, ca: self.serve.authority.certificate() };
        let files = Some(self.certificate.clone());
        Clients::connect_to(&endpoint, Identity { files, ..Identity::default() }).await
    }

    async fn endpoint(&mut self) -> String {
        let address = self.ready(1).await;
        let (_, port) = address.rsplit_once(':').expect("a port");
        format!("https://localhost:{port}")
    }

    /// Tells the supervisor to end, and waits until it has.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop(&mut self) -> ExitStatus {
        send(self.supervisor(), Signal::TERM);
        self.wait()
    }

    /// Waits for the supervisor's end.
    ///
    /// # Panics
    /// If it does not run.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.take().expect("it runs").wait().expect("it ends")
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The worker notices, and ends.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Sends a signal to a process, if it has not ended.
pub fn send(process: Pid, signal: Signal) {
    let _ = kill_process(process, signal); // it may have ended by itself
}

/// Whether a process has ended, also if nobody has asked for its exit status yet.
pub fn has_ended(process: Pid) -> bool {
    let file = format!("/proc/{}/stat", process.as_raw_pid());
    let text = fs::read_to_string(Path::new(&file)).unwrap_or_default();
    // proc(5): the state follows the name, which ends with the last bracket.
    let state = text.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}
