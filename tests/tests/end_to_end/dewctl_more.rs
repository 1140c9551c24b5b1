//! `dewctl` with pairs, small data, keystores and imported material.

use std::fs;

use dewpoint_tests::{Dev, DevOptions, Module, Openssl, check_log};
use serde_json::Value;

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().expect("text")
}

#[test]
fn data_keys_are_made_at_once_and_moved() {
    let dev = Dev::start();
    let bound = ["--context", "object=a"];
    let many = [&["--json", "data-key", "generate-many", "obs/default", "3"][..], &bound].concat();
    let made = dev.ctl(&many).json();
    let made = made.as_array().expect("several");
    assert_eq!(made.len(), 3);
    assert_ne!(made[0]["plaintext"], made[1]["plaintext"]);
    let sealed = [&many[..], &["--without-plaintext"]].concat();
    assert_eq!(dev.ctl(&sealed).json()[2]["plaintext"], Value::Null);

    dev.ctl(&["--json", "key", "create", "orders"]).json();
    let old = text(&made[0], "ciphertext");
    let re_encrypt = ["--json", "data-key", "re-encrypt", "orders", "--base64", old];
    assert_eq!(dev.ctl(&[&re_encrypt[..], &["--aad", "AAEC"]].concat()).refusal(), "CANNOT_DECRYPT");
    let target = ["--to-aad", "AwQ="];
    let moved = dev.ctl(&[&re_encrypt[..], &bound, &target].concat()).json();
    assert_eq!(text(&moved, "source_key_id"), text(&made[0], "key_id"));
    let open = ["--json", "data-key", "decrypt", "--base64", text(&moved, "ciphertext")];
    let opened = dev.ctl(&[&open[..], &["--aad", "AwQ="]].concat()).json();
    assert_eq!(opened["plaintext"], made[0]["plaintext"]);
    assert_eq!(dev.ctl(&[&open[..], &bound].concat()).refusal(), "CANNOT_DECRYPT");

    let path = dev.directory().join("private.der");
    let file = path.to_str().expect("text");
    let pair = ["--json", "data-key", "pair", "orders", "--spec", "EC_P256"];
    let pair = dev.ctl(&[&pair[..], &["--plaintext-out", file]].concat()).json();
    assert!(text(&pair, "public_key").starts_with("MFkwEwYHKoZIzj0C"), "{pair}");
    let opened = ["--json", "data-key", "decrypt", "--base64", text(&pair, "ciphertext")];
    let again = dev.directory().join("again.der");
    let to = again.to_str().expect("text");
    dev.ctl(&[&opened[..], &["--plaintext-out", to]].concat()).json();
    assert_eq!(fs::read(&path).expect("written"), fs::read(&again).expect("written"));
}

#[test]
fn small_data_comes_back() {
    let dev = Dev::start();
    dev.ctl(&["--json", "key", "create", "orders"]).json();
    let encrypt = ["--json", "encrypt", "orders", "--base64", "aGVsbG8="];
    let bound = ["--context", "object=a", "--algorithm", "SYMMETRIC_DEFAULT"];
    let sealed = dev.ctl(&[&encrypt[..], &bound].concat()).json();
    let decrypt = ["--json", "decrypt", "--base64", text(&sealed, "ciphertext")];
    assert_eq!(text(&dev.ctl(&[&decrypt[..], &bound].concat()).json(), "plaintext"), "aGVsbG8=");
    assert_eq!(dev.ctl(&decrypt).refusal(), "CANNOT_DECRYPT");
    let wrong = dev.ctl(&[&encrypt[..], &["--algorithm", "ROT13"]].concat());
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
}

#[test]
fn material_is_imported_by_one_command() {
    let dev = Dev::start();
    let key = dev.ctl(&["--json", "key", "create", "mine", "--external"]).json();
    let id = text(&key, "key_id");
    assert_eq!(text(&key, "state"), "PENDING_IMPORT");
    let given = dev.ctl(&["--json", "import", "parameters", id]).json();
    assert!(!text(&given, "import_token").is_empty() && !text(&given, "public_key").is_empty(), "{given}");

    let path = dev.directory().join("material");
    let file = path.to_str().expect("text");
    fs::write(&path, [7; 32]).expect("written");
    let import = ["--json", "import", "material", id, "--in", file];
    let key = dev.ctl(&[&import[..], &["--expires", "2099-01-31T00:00:00Z"]].concat()).json();
    assert_eq!((text(&key, "state"), text(&key, "origin")), ("ENABLED", "EXTERNAL"));
    assert_eq!(text(&key, "material_expires_at"), "2099-01-31T00:00:00Z");
    let sealed = dev.ctl(&["--json", "encrypt", id, "--base64", "aGVsbG8="]).json();

    assert_eq!(text(&dev.ctl(&["--json", "import", "delete", id]).json(), "state"), "PENDING_IMPORT");
    let decrypt = ["--json", "decrypt", "--base64", text(&sealed, "ciphertext")];
    assert_eq!(dev.ctl(&decrypt).refusal(), "KEY_PENDING_IMPORT");
    assert_eq!(text(&dev.ctl(&import).json(), "state"), "ENABLED");
    assert_eq!(text(&dev.ctl(&decrypt).json(), "plaintext"), "aGVsbG8=");
}

#[test]
fn a_private_key_is_imported_by_one_command() {
    let dev = Dev::start();
    let openssl = Openssl::default();
    openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out key.pem");
    openssl.run("pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.der");
    openssl.run("pkey -in key.pem -outform DER -out traditional.der");
    let public_key = openssl.run("pkey -in key.pem -pubout");
    let import = |id: &str, file: &str| {
        let path = openssl.directory().join(file);
        dev.ctl(&["--json", "import", "private-key", id, "--in", path.to_str().expect("text")])
    };
    for form in ["pem", "der"] {
        let create = ["--json", "key", "create", form, "--external", "--spec", "EC_P256"];
        let key = dev.ctl(&create).json();
        let id = text(&key, "key_id");
        assert_eq!(import(id, "traditional.der").code, Some(2), "no PKCS#8");
        assert_eq!(text(&import(id, &format!("key.{form}")).json(), "state"), "ENABLED");
        let told = dev.ctl(&["--json", "public-key", form]).json();
        assert_eq!(text(&told, "public_key").as_bytes(), public_key, "{form}");
    }
    let key = dev.ctl(&["--json", "key", "create", "other", "--external", "--spec", "SECP256K1"]).json();
    assert_eq!(import(text(&key, "key_id"), "key.pem").refusal(), "MATERIAL_INVALID");
}

#[test]
fn keystores_are_taken_and_given_up() {
    if Module::chosen() != Module::SoftHsm2 {
        return; // dev mode makes tokens of SoftHSM2 only
    }
    let arguments = ["--keystore", "vault"].map(str::to_owned).to_vec();
    let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let state = |arguments: &[&str]| {
        let keystore = dev.ctl(&[&["--json", "keystore"], arguments].concat()).json();
        text(&keystore, "state").to_owned()
    };
    assert_eq!(state(&["create", "vault", "the-vault"]), "DISABLED");
    assert_eq!(state(&["enable", "vault"]), "ENABLED");
    assert_eq!(state(&["describe", "vault"]), "ENABLED");
    let listed = dev.ctl(&["--json", "keystore", "list"]).json();
    assert_eq!((listed.as_array().map(Vec::len), text(&listed[0], "alias")), (Some(1), "the-vault"));
    assert_eq!(state(&["disable", "vault"]), "DISABLED");
    assert_eq!(dev.ctl(&["--json", "keystore", "delete", "vault"]).json()["deleted"], "vault");
    assert_eq!(dev.ctl(&["--json", "keystore", "describe", "vault"]).refusal(), "KEYSTORE_NOT_FOUND");
}

/// What `dewctl usage` shows an operator, of the keys of these aliases.
fn used(dev: &Dev, arguments: &[&str], aliases: &[&str]) -> Vec<Value> {
    let output = dev.dewctl(&[&["--json", "usage"], arguments].concat()).output().expect("dewctl starts");
    assert!(output.status.success(), "{output:?}");
    let shown: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    shown.into_iter().filter(|key| aliases.contains(&text(key, "alias"))).collect()
}

#[test]
fn an_operator_sees_how_keys_were_used_also_when_a_kill_has_left_it_to_the_log() {
    let mut dev = Dev::start();
    let aliases = ["orders", "archive"];
    for alias in aliases {
        dev.ctl(&["--json", "key", "create", alias]).json();
    }
    let bound = ["--context", "object=a"];
    let many =
        dev.ctl(&[&["--json", "data-key", "generate-many", "orders", "3"][..], &bound].concat()).json();
    let move_first =
        ["--json", "data-key", "re-encrypt", "archive", "--base64", text(&many[0], "ciphertext")];
    dev.ctl(&[&move_first[..], &bound].concat()).json();
    for is_killed in [false, true] {
        if is_killed {
            dev.kill();
            dev.start_again();
        }
        let keys = used(&dev, &[], &aliases);
        let [orders, archive] = &keys[..] else { panic!("two keys: {keys:?}") };
        let counts = |key: &Value| {
            let version = &key["versions"][0];
            (version["data_keys"].as_u64(), version["decryptions"].as_u64(), key["uses"].as_u64())
        };
        assert_eq!(counts(orders), (Some(3), Some(1), Some(4)), "killed: {is_killed}");
        assert_eq!(counts(archive), (Some(1), Some(0), Some(1)), "killed: {is_killed}");
        assert!(archive["last_used_at"].is_string(), "{archive}");
    }
    assert_eq!(used(&dev, &["--pending-deletion"], &aliases), Vec::<Value>::new());
    dev.ctl(&["--json", "key", "schedule-deletion", "orders"]).json();
    let pending = used(&dev, &["--pending-deletion"], &aliases);
    let [orders] = &pending[..] else { panic!("one key: {pending:?}") };
    assert_eq!((text(orders, "alias"), text(orders, "state")), ("orders", "PENDING_DELETION"));
    assert!(orders["deletion_due_at"].is_string(), "{orders}");
    assert!(dev.stop().success());
    check_log(dev.directory());
}
