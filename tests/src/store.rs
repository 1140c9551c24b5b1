//! An `obs-gateway` process of one's own, before a service in dev mode.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Account, Authority, Dev, binary, eventually,
    process::{kill, most_memory, show_log_of_failure, terminate},
};

/// The names under which buckets have names of their own. Some libraries look for a name that begins with `obs`, and
/// refuse certificates for all names under one of a single word.
const DOMAINS: [&str; 2] = ["localhost", "obs.localhost"];
/// The names that the gateway has a certificate for.
const NAMES: [&str; 4] = ["localhost", "*.localhost", "obs.localhost", "*.obs.localhost"];

/// A running gateway; killed when dropped.
#[derive(Debug)]
pub struct ObjectStore {
    child: Option<Child>,
    directory: TempDir,
}

impl ObjectStore {
    /// A gateway on an empty directory, for the first region of this deployment.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start(dev: &Dev) -> Self {
        Self::start_at(&std::env::temp_dir(), dev, &dev.description.endpoint(), "").await
    }

    /// The same on an empty directory of its own within this one: the one for temporary files may be in memory.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start_in(dev: &Dev, parent: &Path) -> Self {
        Self::start_at(parent, dev, &dev.description.endpoint(), "").await
    }

    /// The same, whose key service is reached there, with more in its configuration.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start_with(dev: &Dev, endpoint: &str, more: &str) -> Self {
        Self::start_at(&std::env::temp_dir(), dev, endpoint, more).await
    }

    async fn start_at(parent: &Path, dev: &Dev, endpoint: &str, more: &str) -> Self {
        let directory = tempfile::tempdir_in(parent).expect("a directory");
        let path = directory.path();
        let accounts = [0, 1].map(|index| dev.description.account(index));
        fs::write(path.join("credentials.toml"), credentials(&accounts)).expect("a file");
        let certificate = Authority::new(path, "gateway").server_of(&NAMES);
        let configuration = configuration(dev, &accounts[0], endpoint, &certificate);
        fs::write(path.join("gateway.toml"), configuration + more).expect("a file");
        let mut store = Self { child: None, directory };
        store.start_again(dev).await;
        store
    }

    /// Starts it again in the same directory, and describes it to clients.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start_again(&mut self, dev: &Dev) {
        let path = self.directory.path();
        let program = binary().with_file_name("obs-gateway");
        assert!(program.exists(), "{} is missing: cargo build --workspace --bins", program.display());
        let addresses = path.join("addresses.json");
        let _ = fs::remove_file(&addresses); // there is none at the first start
        let log = File::create(path.join("stderr.log")).expect("a file");
        let mut command = Command::new(program);
        command.arg("--config").arg(path.join("gateway.toml")).env("NO_COLOR", "1");
        self.child = Some(command.stdin(Stdio::null()).stderr(log).spawn().expect("it starts"));
        let written = eventually("the gateway listens", async || fs::read(&addresses).ok()).await;
        let addresses: Value = serde_json::from_slice(&written).expect("JSON");
        fs::write(self.description(), describe(dev, path, &addresses).to_string()).expect("a file");
    }

    /// Where the buckets lie.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// What tells clients where everything is.
    pub fn description(&self) -> PathBuf {
        self.directory.path().join("store.json")
    }

    /// What it logged since it was started last.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr.log")).unwrap_or_default()
    }

    /// The most memory that it had at once since it was started last, in MiB.
    ///
    /// # Panics
    /// If it does not run.
    pub fn most_memory(&self) -> f64 {
        most_memory(self.child.as_ref().expect("it runs").id()).expect("it has not ended")
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        kill(self.child.take().expect("it runs"));
    }

    /// Ends it orderly.
    ///
    /// # Panics
    /// If it does not run, or does not end well.
    pub fn stop(&mut self) {
        let status = terminate(self.child.take().expect("it runs"));
        assert!(status.success(), "the gateway ended with {status}");
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            kill(child);
        }
        show_log_of_failure(self.directory.path());
    }
}

/// Dev mode's users, who may do all with buckets and objects; a reader, who may do all with keys; temporary keys; and
/// a stranger, whom the key service does not know.
fn credentials(accounts: &[Account]) -> String {
    let mut text = String::new();
    for account in accounts {
        let (project, _) = &account.projects[0];
        writeln!(text, "[[accounts]]\ndomain_id = {:?}\nproject_id = {project:?}", account.domain_id)
            .expect("a text");
        for user in &account.users {
            let (ak, sk) = &user.access_key;
            user_of(
                &mut text,
                &user.user_id,
                "*",
                &format!("access_key_id = {ak:?}, secret_access_key = {sk:?}"),
            );
        }
        let admin = &account.user("admin").user_id;
        let key = |name: &str, more: &str| {
            let id = format!("{name}-{}", account.name);
            format!("access_key_id = {id:?}, secret_access_key = \"secret of {id}\"{more}")
        };
        user_of(&mut text, admin, "GetObject", &key("reader", ""));
        user_of(&mut text, &format!("stranger-{}", account.name), "*", &key("stranger", ""));
        let until = |time: &str| format!(", security_token = \"a token\", expires_at = {time:?}");
        user_of(&mut text, admin, "*", &key("temporary", &until("2999-01-01T00:00:00Z")));
        user_of(&mut text, admin, "*", &key("expired", &until("2001-01-01T00:00:00Z")));
    }
    text
}

fn user_of(text: &mut String, user_id: &str, permission: &str, access_key: &str) {
    writeln!(
        text,
        "[[accounts.users]]\nuser_id = {user_id:?}\npermissions = [{permission:?}]\naccess_keys = [{{ {access_key} }}]"
    )
    .expect("a text");
}

fn configuration(
    dev: &Dev,
    account: &Account,
    endpoint: &str,
    (server, server_key): &(PathBuf, PathBuf),
) -> String {
    let (_, region) = &account.projects[0];
    let (certificate, key) = dev.description.service("obs");
    format!(
        "region = {region:?}\ndata_dir = \"data\"\ncredentials_file = \"credentials.toml\"\n\
         [listen]\nhttps = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\ncertificate = {server:?}\n\
         private_key = {server_key:?}\ndomains = {DOMAINS:?}\naddresses_file = \"addresses.json\"\n\
         [kms]\nendpoint = {endpoint:?}\nca_certificate = {ca:?}\nclient_certificate = {certificate:?}\n\
         client_key = {key:?}\n",
        ca = dev.description.ca(),
    )
}

fn describe(dev: &Dev, path: &Path, addresses: &Value) -> Value {
    let account = dev.description.account(0);
    let port = |kind: &str| {
        let address = addresses[kind].as_str().expect("an address");
        address.rsplit(':').next().expect("a port").to_owned()
    };
    let credential = |name: &str, token: Option<&str>| {
        let id = format!("{name}-{}", account.name);
        json!({ "ak": id, "sk": format!("secret of {id}"), "token": token })
    };
    json!({
        "dev": dev.directory().join("dev.json"),
        "https": format!("https://localhost:{}", port("https")),
        "http": format!("http://localhost:{}", port("http")),
        "obs": format!("https://obs.localhost:{}", port("https")),
        "ca_cert": path.join("gateway-ca.pem"),
        "region": account.projects[0].1,
        "project": account.projects[0].0,
        "data_dir": path.join("data"),
        "credentials": {
            "reader": credential("reader", None),
            "stranger": credential("stranger", None),
            "temporary": credential("temporary", Some("a token")),
            "expired": credential("expired", Some("a token")),
        },
    })
}
