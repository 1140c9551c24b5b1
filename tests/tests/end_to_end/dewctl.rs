//! `dewctl` with keys and data keys, for people and for programs.

use std::fs;

use dewpoint_tests::Dev;

#[test]
fn keys_live_their_life_by_commands() {
    let dev = Dev::start();
    let made =
        dev.ctl(&["--json", "key", "create", "orders", "--spec", "SM4", "--description", "all orders"]);
    let key = made.json();
    assert_eq!((&key["state"], &key["key_spec"]), (&"ENABLED".into(), &"SM4".into()));
    let id = key["key_id"].as_str().expect("an id");

    let table = dev.ctl(&["key", "list"]).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("KEY ID"), "{table}");
    assert!(lines[1].starts_with(id) && lines[1].contains("orders") && lines[1].contains("SM4"), "{table}");
    assert_eq!(dev.ctl(&["--json", "key", "list", "--spec", "AES_256"]).json(), serde_json::json!([]));
    assert_eq!(dev.ctl(&["--json", "key", "describe", "orders"]).json()["key_id"], id);

    for (command, state) in [
        (vec!["disable", id], "DISABLED"),
        (vec!["enable", id], "ENABLED"),
        (vec!["schedule-deletion", id, "--days", "7"], "PENDING_DELETION"),
        (vec!["cancel-deletion", id], "DISABLED"),
    ] {
        let arguments = [vec!["--json", "key"], command].concat();
        assert_eq!(dev.ctl(&arguments).json()["state"], state, "{arguments:?}");
    }
    assert_eq!(dev.ctl(&["--json", "key", "set-alias", id, "purchases"]).json()["alias"], "purchases");
    let described = dev.ctl(&["key", "set-description", id, "bought"]).stdout;
    assert!(described.lines().any(|line| line == "description       bought"), "{described}");
}

#[test]
fn data_keys_come_back_as_they_went() {
    let dev = Dev::start();
    let made = dev.ctl(&["--json", "data-key", "generate", "obs/default", "--context", "object=a/b"]).json();
    let (sealed, plaintext) = (made["ciphertext"].as_str().expect("text"), &made["plaintext"]);
    let open = ["--json", "data-key", "decrypt", "--base64", sealed];
    assert_eq!(&dev.ctl(&[&open[..], &["--context", "object=a/b"]].concat()).json()["plaintext"], plaintext);
    let refused = dev.ctl(&open);
    assert_eq!(refused.refusal(), "CANNOT_DECRYPT");

    // Secrets go through files, which only their owner can read and nobody overwrites.
    let file = dev.directory().join("secret");
    let path = file.to_str().expect("text");
    assert_eq!(dev.ctl(&["random", "32", "--out", path]).stdout, "\n");
    assert_eq!(fs::read(&file).expect("written").len(), 32);
    assert_eq!(dev.ctl(&["random", "32", "--out", path]).code, Some(2));
    let sealed = dev.ctl(&["--json", "data-key", "encrypt", "obs/default", "--in", path]).json();
    let sealed = sealed["ciphertext"].as_str().expect("text");
    let back = file.with_extension("back");
    let to = back.to_str().expect("text");
    let opened = dev.ctl(&["data-key", "decrypt", "--base64", sealed, "--plaintext-out", to]);
    assert_eq!(opened.code, Some(0), "{opened:?}");
    assert_eq!(fs::read(&back).expect("written"), fs::read(&file).expect("written"));
}

#[test]
fn refusals_say_what_to_do() {
    let dev = Dev::start();
    let refused = dev.ctl(&["key", "describe", "nothing"]);
    assert_eq!(refused.refusal(), "KEY_NOT_FOUND");
    assert!(refused.stderr.contains("dewctl key list") && refused.stdout.is_empty(), "{refused:?}");
    let refused = dev.ctl(&["--user", "nobody", "key", "list"]);
    assert_eq!(refused.refusal(), "PERMISSION_DENIED");
    let unknown = dev.ctl(&["--user", "somebody", "key", "list"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("names no user somebody"), "{unknown:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = dev.ctl(&["completions", shell]);
        assert!(script.code == Some(0) && script.stdout.contains("schedule-deletion"), "{shell}");
    }
}

#[test]
fn keys_sign_and_authenticate_by_commands() {
    let dev = Dev::start();
    dev.ctl(&["key", "create", "signer", "--spec", "EC_P256"]);
    let message = ["--algorithm", "ECDSA_SHA_256", "--base64", "bWVzc2FnZQ=="];
    let signed = dev.ctl(&[&["--json", "sign", "signer"], &message[..]].concat()).json();
    let signature = signed["signature"].as_str().expect("text");
    let verify = |algorithm: &[&str]| {
        let given = ["--json", "verify", "signer", "--signature", signature];
        dev.ctl(&[&given[..], algorithm].concat()).json()["valid"].clone()
    };
    assert_eq!(verify(&message), true);
    assert_eq!(verify(&["--algorithm", "ECDSA_SHA_256", "--base64", "YW5vdGhlcg=="]), false);
    let public = dev.ctl(&["--json", "public-key", "signer"]).json();
    assert!(public["public_key"].as_str().is_some_and(|pem| pem.starts_with("-----BEGIN PUBLIC KEY-----")));

    dev.ctl(&["key", "create", "mac", "--spec", "HMAC_256"]);
    let message = ["mac", "--algorithm", "HMAC_SHA_256", "--base64", "bWVzc2FnZQ=="];
    let mac = dev.ctl(&[&["--json", "mac"], &message[..]].concat()).json();
    let mac = mac["mac"].as_str().expect("text");
    let checked = dev.ctl(&[&["--json", "verify-mac", "--mac", mac], &message[..]].concat()).json();
    assert_eq!(checked["valid"], true);
    assert_eq!(
        dev.ctl(&[&["sign", "mac"], &["--algorithm", "ECDSA_SHA_256", "--base64", "AA=="][..]].concat()).code,
        Some(1)
    );
    let quotas = dev.ctl(&["--json", "quotas"]).json();
    assert_eq!((&quotas[0]["quota"], &quotas[0]["used"]), (&"CUSTOM_KEYS".into(), &2.into()));
    assert_eq!(dev.ctl(&["--json", "count-keys"]).json()["custom_keys"], 2);
    let versions = dev.ctl(&["--json", "versions"]).json();
    assert_eq!(versions[0], dev.ctl(&["--json", "versions", "v1"]).json());
    assert_eq!((&versions[0]["id"], &versions[0]["package"]), (&"v1".into(), &"kms.v1".into()));
    assert_eq!(dev.ctl(&["versions", "v2"]).code, Some(1));
}
