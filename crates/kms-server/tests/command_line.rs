//! The `dewpoint` command: its help, and one clear line for everything that stops a start.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const SAMPLE: &str = include_str!("../../../docs/examples/dewpoint.toml");
const IDENTITY: &str = include_str!("../../../docs/examples/identity.toml");

fn dewpoint() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dewpoint"))
}

/// A deployment for `serve`, as an operator would make it, in a directory of its own.
struct Site {
    directory: tempfile::TempDir,
    config: String,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let made = Command::new("sh")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../softhsm-config/init-token.sh"))
            .arg(path.join("token"))
            .arg("dewpoint")
            .output()
            .expect("sh runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let module = String::from_utf8(made.stdout).expect("a path");
        fs::create_dir(path.join("data")).expect("made");
        fs::write(path.join("identity.toml"), IDENTITY).expect("written");
        certificates(path);
        let place = |name: &str| path.join(name).display().to_string();
        let config = SAMPLE
            .replace("/usr/lib/softhsm/libsofthsm2.so", module.trim())
            .replace("/var/lib/dewpoint", &place("data"))
            .replace("/etc/dewpoint/identity.toml", &place("identity.toml"))
            .replace("/etc/dewpoint/tls", &path.display().to_string())
            .replace("/etc/dewpoint/pin", &place("token/pin"))
            .replace("0.0.0.0:7443", "127.0.0.1:0")
            .replace("127.0.0.1:9443", "127.0.0.1:0");
        Self { directory, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, command: &str, config: &str) -> Output {
        self.run_with(&[command], config)
    }

    fn run_with(&self, arguments: &[&str], config: &str) -> Output {
        fs::write(self.path("dewpoint.toml"), config).expect("written");
        dewpoint()
            .args(arguments)
            .arg("--config")
            .arg(self.path("dewpoint.toml"))
            .env("SOFTHSM2_CONF", self.path("token/softhsm2.conf"))
            .output()
            .expect("it runs")
    }

    /// Asserts that `serve` ends with one line that says `cause`.
    fn refuses(&self, config: &str, cause: &str) {
        assert_refusal(&self.run("serve", config), cause);
    }
}

fn certificates(directory: &Path) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("parameters");
    let certificate = parameters.self_signed(&key).expect("a certificate").pem();
    for (name, content) in
        [("server.pem", &certificate), ("ca.pem", &certificate), ("server.key", &key.serialize_pem())]
    {
        fs::write(directory.join(name), content).expect("written");
    }
}

fn assert_refusal(ended: &Output, cause: &str) {
    let said = String::from_utf8_lossy(&ended.stderr);
    // Who starts the process again has to know a refused PIN from everything else.
    let code = if cause.contains("CKR_PIN_INCORRECT") || cause.contains("refused the PIN") { 77 } else { 1 };
    assert_eq!(ended.status.code(), Some(code), "{said}");
    assert!(ended.stdout.is_empty(), "stdout is for results");
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with('{')).collect();
    let [line] = lines[..] else { panic!("one line, not: {said}") };
    assert!(line.starts_with("dewpoint: ") && line.contains(cause), "{line:?} does not say {cause:?}");
}

#[test]
fn help_teaches_every_command() {
    for (arguments, expected) in [
        (&["--help"][..], &["dev", "serve", "init", "DEWPOINT_LOG"][..]),
        (
            &["dev", "--help"],
            &[
                "--data-dir",
                "--grpc-port",
                "7443",
                "enforce",
                "ready",
                "--in-hsm",
                "aes_256",
                "sm4",
                "2147483648",
            ],
        ),
        (
            &["serve", "--help"],
            &[
                "--config",
                "docs/examples/dewpoint.toml",
                "--supervise",
                "SIGHUP",
                "dewctl identities reload",
                "30 s",
                "systemd",
            ],
        ),
        (&["init", "--help"], &["--config", "once"]),
    ] {
        let shown = dewpoint().args(arguments).output().expect("it runs");
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.status.success());
        for word in expected {
            assert!(text.contains(word), "{arguments:?} does not mention {word}: {text}");
        }
    }
}

#[test]
fn a_broken_configuration_is_refused_with_its_file_and_line() {
    let site = Site::new();
    site.refuses(&site.config.replace("workers = 2", "wrokers = 2"), "unknown field `wrokers`");
    site.refuses(&site.config.replace("workers = 2", "workers = 0"), "hsm.workers");
    for budget in ["0", "4294967296"] {
        let config = site.config.replace("budget = 2147483648", &format!("budget = {budget}"));
        site.refuses(&config, "hsm.cipher.budget: must be 1 to 4294967295");
    }
    site.refuses(&site.config.replace("sm4 = \"service\"", "sm4 = \"hms\""), "unknown variant `hms`");
    site.refuses(&site.config.replace("mode = \"enforce\"", "mode = \"maybe\""), "line ");
    let missing = dewpoint().args(["serve", "--config", "/nonexistent/x.toml"]).output().expect("it runs");
    assert_refusal(&missing, "/nonexistent/x.toml");
    fs::write(site.path("identity.toml"), IDENTITY.replace("kms:dek:crypto", "kms:dek:all"))
        .expect("written");
    site.refuses(&site.config, "unknown permission kms:dek:all");
}

#[test]
fn everything_that_a_token_can_lack_has_its_own_line() {
    let site = Site::new();
    site.refuses(&site.config, "dewpoint init");
    assert!(site.run("init", &site.config).status.success());
    site.refuses(&site.config.replace("libsofthsm2.so", "libnothing.so"), "libnothing.so");
    site.refuses(&site.config.replace("token_label = \"dewpoint\"", "token_label = \"other\""), "\"other\"");
    let pin = site.path("token/pin");
    let right = fs::read(&pin).expect("a PIN");
    fs::write(&pin, "000000").expect("written");
    site.refuses(&site.config, "refused the PIN");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).expect("changed");
    site.refuses(&site.config, "others can reach it");
    fs::remove_file(&pin).expect("removed");
    site.refuses(&site.config, "PIN file");
    fs::write(&pin, right).expect("written");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).expect("changed");
    let again = site.run("init", &site.config);
    assert!(again.status.success(), "init may be repeated");
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"));
}

#[test]
fn directories_ports_and_certificates_that_cannot_be_used_are_named() {
    let site = Site::new();
    assert!(site.run("init", &site.config).status.success());
    let data = site.path("data").display().to_string();
    site.refuses(&site.config.replace(&data, "/nonexistent/data"), "/nonexistent/data");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let busy = site.config.replacen("127.0.0.1:0", &address, 1);
    site.refuses(&busy, &format!("cannot listen on {address}"));
    fs::write(site.path("ca.pem"), "nothing").expect("written");
    site.refuses(&site.config, "ca.pem");
}

#[test]
fn a_token_of_ones_own_needs_module_label_and_pin() {
    let directory = tempfile::tempdir().expect("a directory");
    let (module, label, pin) = ("--module=/nonexistent/module.so", "--token-label=own", "--pin-file=/pin");
    for incomplete in [&[label][..], &[pin], &[module, label], &[module, pin], &[label, pin]] {
        let mut command = dewpoint();
        command
            .args(["dev", "--grpc-port=0", "--dew-port=0", "--data-dir"])
            .arg(directory.path())
            .args(incomplete);
        let ended = command.output().expect("it runs");
        assert_eq!(ended.status.code(), Some(2), "{incomplete:?} is a wrong command line");
    }
    let mut command = dewpoint();
    command
        .args(["dev", "--grpc-port=0", "--dew-port=0", "--data-dir"])
        .arg(directory.path())
        .args([module, label, pin]);
    assert_refusal(&command.output().expect("it runs"), "/nonexistent/module.so");
    assert!(!directory.path().join("token").exists(), "no token was made beside the one that was named");
}

#[test]
fn a_supervisor_whose_first_worker_cannot_start_ends_as_serve_does() {
    let site = Site::new();
    let refuses = |config: &str, cause: &str| {
        assert_refusal(&site.run_with(&["serve", "--supervise"], config), cause);
    };
    refuses(&site.config, "dewpoint init");
    refuses(&site.config.replace("workers = 2", "workers = 0"), "hsm.workers");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    refuses(&site.config.replacen("127.0.0.1:0", &address, 1), &format!("cannot listen on {address}"));
    fs::remove_file(site.path("identity.toml")).expect("removed");
    refuses(&site.config, "identity.toml");
}

#[test]
fn a_worker_without_a_supervisor_refuses_to_start() {
    let site = Site::new();
    assert_refusal(&site.run_with(&["serve", "--worker"], &site.config), "supervision failed");
}

#[test]
fn a_second_dev_on_one_directory_is_refused() {
    use std::io::{BufRead as _, BufReader};
    let directory = tempfile::tempdir().expect("a directory");
    let start = || {
        let mut command = dewpoint();
        command.args(["dev", "--grpc-port=0", "--dew-port=0", "--data-dir"]).arg(directory.path());
        command
    };
    let mut first = start()
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(first.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("ready"), "{line}");
    let second = start().output().expect("it runs");
    assert_refusal(&second, "in use by another `dewpoint dev`");
    assert!(directory.path().join("dev.json").exists(), "the first one's dev.json stays");
    drop(first.kill());
    drop(first.wait());
}
