//! `dewpoint dev --with-obs`: the object gateway comes with the service, and goes with it, however that ends.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output},
};

use dewpoint_tests::{Dev, DevOptions, binary, eventually, has_ended, send};
use rustix::process::Signal;
use tempfile::TempDir;

fn with_obs() -> Dev {
    let arguments = ["--with-obs", "--obs-port=0", "--traffic-control=off"];
    Dev::start_with(DevOptions { arguments: arguments.map(str::to_owned).into(), ..DevOptions::default() })
}

/// What boto3 and the SDK of OBS do with what `dev.json` says.
fn clients(dev: &Dev, what: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut client = Command::new(root.join(".tools/venv/bin/python"));
    client.arg("-B").arg(root.join("tests/clients/dev_obs.py")).env("PYTHONWARNINGS", "ignore");
    let ended = client.arg(dev.directory().join("dev.json")).arg(what).output();
    let ended = ended.expect("it is there, or scripts/setup.sh test was not run");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// Whether something listens where the gateway did.
fn listens(endpoint: &str) -> bool {
    TcpStream::connect(endpoint.strip_prefix("https://").expect("an endpoint")).is_ok()
}

#[test]
fn without_it_nothing_is_started() {
    let dev = Dev::start();
    assert!(dev.description.json.get("obs").is_none() && !dev.directory().join("obs").exists());
}

#[test]
fn the_sdks_use_it_and_its_buckets_are_kept() {
    let mut dev = with_obs();
    clients(&dev, "use");
    let (gateway, endpoint) = (dev.gateway(), dev.description.obs_endpoint());
    assert_eq!(dev.description.json["obs"].as_object().expect("an object").len(), 1);
    let status = dev.stop();
    assert!(status.success() && has_ended(gateway) && !listens(&endpoint), "{status}: {}", dev.log());
    dev.start_again();
    clients(&dev, "again");
    for file in ["gateway.toml", "credentials.toml"] {
        let metadata = fs::metadata(dev.directory().join("obs").join(file)).expect("written");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn it_ends_with_a_service_that_is_killed() {
    let mut dev = with_obs();
    clients(&dev, "use");
    let (gateway, endpoint) = (dev.gateway(), dev.description.obs_endpoint());
    dev.kill();
    eventually("the gateway's end", async || has_ended(gateway).then_some(())).await;
    assert!(!listens(&endpoint));
    dev.start_again();
    clients(&dev, "again");
}

#[tokio::test]
async fn when_it_dies_the_deployment_ends_and_says_so() {
    let mut dev = with_obs();
    send(dev.gateway(), Signal::KILL);
    let status = dev.ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(dev.log().contains("the object gateway died (signal: 9 (SIGKILL))"), "{}", dev.log());
    dev.start_again();
    assert!(listens(&dev.description.obs_endpoint()));
}

/// `dewpoint dev --with-obs` in a directory of its own, beside this program in the place of the gateway.
fn beside(gateway: Option<&Path>, port: u16) -> (TempDir, Output) {
    let own = tempfile::tempdir_in(binary().parent().expect("a directory")).expect("a directory");
    let program = own.path().join("dewpoint");
    fs::hard_link(binary(), &program).expect("the same file system");
    if let Some(gateway) = gateway {
        symlink(gateway, own.path().join("obs-gateway")).expect("a link");
    }
    let mut command = Command::new(program);
    command.args(["dev", "--grpc-port=0", "--dew-port=0", "--with-obs"]).arg(format!("--obs-port={port}"));
    let ended = command.arg("--data-dir").arg(own.path().join("data")).output().expect("it starts");
    (own, ended)
}

/// That it ended with an error that says this, and was never ready.
fn failed((own, ended): &(TempDir, Output), told: &str) {
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && said.contains(told), "{}: {said}", ended.status);
    assert!(ended.stdout.is_empty() && !own.path().join("data/dev.json").exists());
}

#[test]
fn a_program_that_is_missing_or_does_not_start_is_an_error_that_says_what_to_do() {
    failed(&beside(None, 0), "cargo build --release -p obs-gateway");
    let ended = beside(Some(Path::new("/bin/false")), 0);
    failed(&ended, "the object gateway could not start (exit status: 1)");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let gateway = binary().with_file_name("obs-gateway");
    let ended = beside(Some(&gateway), taken.local_addr().expect("an address").port());
    failed(&ended, "Address already in use");
    failed(&ended, "the object gateway could not start (exit status: 1)");
}

#[test]
fn its_port_alone_is_refused() {
    let ended = Command::new(binary()).args(["dev", "--data-dir=/nowhere", "--obs-port=0"]).output();
    let ended = ended.expect("it starts");
    assert!(!ended.status.success() && String::from_utf8_lossy(&ended.stderr).contains("--with-obs"));
}
