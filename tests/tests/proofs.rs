//! Proofs by trace: what the service asks of the kernel and of the token, seen from outside.

use std::{fs, path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dewpoint_tests::{Dev, DevOptions, by_id, reason};
use kms_proto::v1::{CreateKeyRequest, GenerateDataKeyRequest, GenerateDataKeyResponse};
use tonic::Code;

fn require(tool: &str, package: &str) {
    let found = Command::new("which").arg(tool).output().expect("which runs").status.success();
    assert!(found, "{tool} is missing: apt-get install {package}");
}

fn options(through: &[&str]) -> DevOptions {
    require("strace", "strace");
    DevOptions {
        arguments: vec!["--traffic-control=off".into()],
        through: through.iter().map(|word| (*word).to_owned()).collect(),
        ..DevOptions::default()
    }
}

async fn key(dev: &Dev) -> String {
    let request = CreateKeyRequest { alias: "k".into(), ..CreateKeyRequest::default() };
    let made = dev.user(0, "admin").await.keys.create_key(request).await.expect("created");
    made.into_inner().key.expect("a key").key_id
}

fn generate(key_id: &str) -> GenerateDataKeyRequest {
    GenerateDataKeyRequest { key: by_id(key_id), ..GenerateDataKeyRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_fdatasync_gives_no_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let switch = "inject=fdatasync:error=EIO:when=40+";
    let dev = Dev::start_in(
        directory.path().to_owned(),
        options(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", switch]),
        None,
    );
    let key_id = key(&dev).await;
    let mut admin = dev.user(0, "admin").await;
    let mut made = 0;
    let refused = loop {
        match admin.data.generate_data_key(generate(&key_id)).await {
            Ok(_) => made += 1,
            Err(refused) => break refused,
        }
        assert!(made < 200, "fdatasync never failed");
    };
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "AUDIT_UNAVAILABLE"));
    assert!(made > 0, "the log worked at first");
    let again = admin.data.generate_data_key(generate(&key_id)).await.expect_err("the disk stays broken");
    assert_eq!(reason(&again), "AUDIT_UNAVAILABLE");
}

/// How many calls are traced.
const CALLS: usize = 50;

/// One line of the trace: the call and, for a descriptor, what it stands for.
#[derive(Debug, PartialEq)]
enum Event {
    /// A record was made durable.
    Synced,
    /// Bytes left through a TCP socket.
    Answered,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_leaves_after_the_fdatasync_of_its_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let path = trace.to_str().expect("text");
    let calls = "trace=fdatasync,write,writev,sendto,sendmsg";
    let command = ["strace", "-f", "-y", "-qq", "-s", "0", "-o", path, "-e", calls];
    let mut dev = Dev::start_in(directory.path().join("dev"), options(&command), None);
    let key_id = key(&dev).await;
    let mut admin = dev.user(0, "admin").await;
    admin.data.generate_data_key(generate(&key_id)).await.expect("connected");
    let before = fs::read_to_string(&trace).expect("a trace").lines().count();
    for _ in 0..CALLS {
        admin.data.generate_data_key(generate(&key_id)).await.expect("made");
    }
    dev.stop();
    let text = fs::read_to_string(&trace).expect("a trace");
    let events: Vec<Event> = text.lines().skip(before).filter_map(event).collect();
    // One call at a time: between two fdatasyncs at most one call is answered. An answer may take
    // several writes, and HTTP/2 may add a window update of its own before the record is durable, so
    // what is counted is how many syncs precede the last write of each call.
    let synced = events.iter().filter(|event| **event == Event::Synced).count();
    assert!(synced >= CALLS, "{synced} fdatasyncs for {CALLS} answers");
    let first_answer = events.iter().position(|event| *event == Event::Answered).expect("answers");
    let runs =
        events[first_answer..].split(|event| *event == Event::Synced).filter(|run| !run.is_empty()).count();
    assert!(runs >= CALLS, "{runs} bursts of answers between fdatasyncs, for {CALLS} calls: some shared one");
}

fn event(line: &str) -> Option<Event> {
    // A call that other threads interrupted ends in a line `<... fdatasync resumed>) = 0`.
    let ended = line.trim_end().ends_with("= 0");
    if line.contains("fdatasync") && ended && (line.contains("resumed") || line.contains("/audit/")) {
        return Some(Event::Synced);
    }
    let sends = ["write(", "writev(", "sendto(", "sendmsg("].iter().any(|call| line.contains(call));
    (sends && line.contains("<socket:")).then_some(Event::Answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cmk_is_used_inside_the_token_and_nothing_secret_is_written_anywhere() {
    let spy = ["/usr/lib/x86_64-linux-gnu/pkcs11-spy.so", "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("pkcs11-spy.so is missing: apt-get install opensc-pkcs11");
    let module = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("libsofthsm2.so is missing: apt-get install softhsm2");
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let options = DevOptions {
        arguments: vec!["--traffic-control=off".into(), format!("--module={spy}")],
        environment: vec![
            ("PKCS11SPY".into(), module.into()),
            ("PKCS11SPY_OUTPUT".into(), trace.to_str().expect("text").into()),
            ("DEWPOINT_LOG".into(), "debug".into()),
        ],
        ..DevOptions::default()
    };
    let mut dev = Dev::start_in(directory.path().join("dev"), options, None);
    let key_id = key(&dev).await;
    let mut admin = dev.user(0, "admin").await;
    admin.data.generate_data_key(generate(&key_id)).await.expect("the key is loaded");
    let warm = fs::read_to_string(&trace).expect("a trace").len();
    let mut made = Vec::new();
    for _ in 0..10 {
        made.push(admin.data.generate_data_key(generate(&key_id)).await.expect("made").into_inner());
    }
    assert!(dev.stop().success());
    let text = fs::read_to_string(&trace).expect("a trace");
    let unwrap = text.split("C_UnwrapKey").nth(1).expect("the key was unwrapped on the token");
    for attribute in ["CKA_SENSITIVE", "CKA_EXTRACTABLE", "CKA_SIGN"] {
        assert!(unwrap.contains(attribute), "{attribute} is not set");
    }
    assert!(text[warm..].matches("C_Sign\n").count() >= 10, "every data key is one derivation in the token");
    for call in ["C_FindObjects", "C_GetAttributeValue", "C_UnwrapKey", "C_WrapKey", "C_CreateObject"] {
        assert!(!text[warm..].contains(call), "{call} on the path of a warm key");
    }
    assert!(!text.contains("CKA_VALUE  "), "a key's value was read or set");
    let pin = fs::read_to_string(dev.directory().join("token/pin")).expect("a PIN");
    nothing_secret(&dev, pin.trim(), &made);
}

/// Neither data keys nor the PIN stand in the log, in the records or in the store, in any form.
fn nothing_secret(dev: &Dev, pin: &str, made: &[GenerateDataKeyResponse]) {
    let mut written = dev.log().into_bytes();
    for part in ["audit", "store"] {
        for entry in fs::read_dir(dev.directory().join(part)).expect("a directory") {
            written.extend(fs::read(entry.expect("an entry").path()).expect("a file"));
        }
    }
    let mut secrets = vec![pin.as_bytes().to_vec()];
    for key in made {
        let plain = key.plaintext.to_vec();
        secrets.push(hex::encode(&plain).into_bytes());
        secrets.push(STANDARD.encode(&plain).into_bytes());
        secrets.push(format!("{plain:?}").into_bytes());
        secrets.push(plain);
    }
    assert!(
        written.windows(key_id_length(made)).any(|window| window == made[0].key_id.as_bytes()),
        "the search works"
    );
    for secret in secrets {
        assert!(!written.windows(secret.len()).any(|window| window == secret), "a secret was written");
    }
}

fn key_id_length(made: &[GenerateDataKeyResponse]) -> usize {
    made[0].key_id.len()
}
