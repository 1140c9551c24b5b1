//! Proofs by trace: what the service asks of the kernel and of the token, seen from outside.

use std::{fs, path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dewpoint_tests::{Dev, DevOptions, Module, by_id, reason};
use kms_proto::v1::{CreateKeyRequest, GenerateDataKeyRequest, GenerateDataKeyResponse};
use tonic::Code;

fn require(tool: &str, package: &str) {
    let found = Command::new("which").arg(tool).output().expect("which runs").status.success();
    assert!(found, "{tool} is missing: apt-get install {package}");
}

fn options(through: &[&str]) -> DevOptions {
    require("strace", "strace");
    DevOptions {
        module: Module::SoftHsm2, // the traces are read as its calls look
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
        module: Module::SoftHsm2,
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
    let all = spied(&text[..warm]);
    let creation = all.iter().rposition(|call| call.name == "C_GenerateKey");
    check_creation(&all[creation.expect("the key was made in the token")..]);
    check_attributes(&spied(&text));
    let derivations = spied(&text[warm..]).iter().filter(|call| call.name == "C_Sign").count();
    assert!(derivations >= 10, "every data key is one derivation in the token");
    for call in ["C_FindObjects", "C_GetAttributeValue", "C_UnwrapKey", "C_WrapKey", "C_CreateObject"] {
        assert!(!text[warm..].contains(call), "{call} on the path of a warm key");
    }
    let pin = fs::read_to_string(dev.directory().join("token/pin")).expect("a PIN");
    nothing_secret(&dev, pin.trim(), &made);
}

/// One call that the tracer saw: its name and the lines about it.
struct Spied<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
}

impl<'a> Spied<'a> {
    /// What the call says of an attribute or an argument.
    fn value(&self, name: &str) -> Option<&'a str> {
        let line = self.lines.iter().find(|line| line.split_whitespace().any(|word| word == name))?;
        line.split_whitespace().last()
    }
}

/// The calls of a trace, each begun by a line as `12: C_Sign`.
fn spied(text: &str) -> Vec<Spied<'_>> {
    let mut calls: Vec<Spied<'_>> = Vec::new();
    for line in text.lines() {
        let begun = line.split_once(": ").filter(|(number, name)| {
            number.bytes().all(|byte| byte.is_ascii_digit()) && name.starts_with("C_")
        });
        match (begun, calls.last_mut()) {
            (Some((_, name)), _) => calls.push(Spied { name, lines: Vec::new() }),
            (None, Some(call)) => call.lines.push(line),
            (None, None) => {}
        }
    }
    calls
}

/// The master key is made in the token, leaves it wrapped, and comes back as an object that cannot
/// leave it, which is what signs.
fn check_creation(calls: &[Spied<'_>]) {
    let find =
        |name: &str| calls.iter().find(|call| call.name == name).unwrap_or_else(|| panic!("no {name}"));
    let (made, wrapped, loaded) = (find("C_GenerateKey"), find("C_WrapKey"), find("C_UnwrapKey"));
    let generation = "pMechanism->type = CKM_GENERIC_SECRET_KEY_GEN";
    assert!(made.lines.iter().any(|line| line.contains(generation)), "{:?}", made.lines);
    assert_eq!(made.value("CKA_SENSITIVE"), Some("True"));
    assert_eq!(made.value("CKA_PRIVATE"), Some("True"));
    let extractable = made.value("hKey").expect("a handle");
    assert_eq!(wrapped.value("hKey"), Some(extractable));
    assert_eq!(loaded.value("CKA_EXTRACTABLE"), Some("False"));
    assert_eq!(loaded.value("CKA_SENSITIVE"), Some("True"));
    assert_eq!(loaded.value("CKA_PRIVATE"), Some("True"));
    let destroyed =
        |call: &Spied<'_>| call.name == "C_DestroyObject" && call.value("hObject") == Some(extractable);
    assert!(calls.iter().any(destroyed), "the form that can be wrapped is destroyed at once");
    let in_use = calls.iter().rfind(|call| call.name == "C_UnwrapKey").and_then(|call| call.value("hKey"));
    let signs = |call: &Spied<'_>| call.name == "C_SignInit" && call.value("hKey") == in_use;
    assert!(calls.iter().any(signs), "what was unwrapped last is what derives");
}

/// No key enters the token in the clear, none can be read from it, and what lasts cannot leave it.
fn check_attributes(calls: &[Spied<'_>]) {
    for call in calls {
        assert_ne!(call.name, "C_CreateObject");
        assert!(call.value("CKA_VALUE").is_none(), "{}: {:?}", call.name, call.lines);
        let lasting = call.name == "C_GenerateKey" && call.value("CKA_TOKEN") == Some("True");
        if lasting || call.name == "C_UnwrapKey" {
            assert_eq!(call.value("CKA_EXTRACTABLE"), Some("False"), "{}: {:?}", call.name, call.lines);
        }
    }
    assert!(calls.iter().any(|call| call.name == "C_GetAttributeValue"), "the tracer shows such calls");
}

/// Neither data keys nor the PIN stand in the log, in the records or in the store, in any form.
fn nothing_secret(dev: &Dev, pin: &str, made: &[GenerateDataKeyResponse]) {
    let mut written = dev.log().into_bytes();
    let mut unread = vec![dev.directory().join("audit"), dev.directory().join("store")];
    while let Some(path) = unread.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(path).expect("a directory");
            unread.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else {
            written.extend(fs::read(path).unwrap_or_default()); // a partial tile may have given way to the next
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
