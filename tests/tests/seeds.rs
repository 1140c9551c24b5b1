//! `dewpoint dev --seed-file`: keys that are there when the service says that it is ready.

use std::{fs, path::Path};

use dewpoint_tests::{Dev, DevOptions, binary};

/// The id of its first key.
const ORDERS: &str = "0a0a0a0a-1111-4222-8333-0123456789ab";

/// The example that the documents show.
fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/seeds.toml");
    path.to_str().expect("text").to_owned()
}

#[test]
fn seeded_keys_are_there_at_once_and_stay_what_tests_made_of_them() {
    let arguments = vec![format!("--seed-file={}", example())];
    let mut dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let orders = dev.ctl(&["--json", "key", "describe", "orders"]).json();
    assert_eq!(orders["key_id"], ORDERS);
    assert_eq!((&orders["tags"]["team"], &orders["region"]), (&"shop".into(), &"cn-north-4".into()));
    let archive = dev.ctl(&["--json", "key", "describe", "archive"]).json();
    assert_eq!((&archive["state"], &archive["key_spec"]), (&"DISABLED".into(), &"SM4".into()));
    let known = dev.ctl(&["--json", "key", "describe", "known"]).json();
    assert_eq!((&known["state"], &known["origin"]), (&"ENABLED".into(), &"EXTERNAL".into()));
    let sealed = dev.ctl(&["--json", "data-key", "generate", "orders"]).json();

    dev.ctl(&["--json", "key", "disable", ORDERS]).json();
    dev.restart();
    assert_eq!(dev.ctl(&["--json", "key", "describe", "orders"]).json()["state"], "DISABLED");
    dev.ctl(&["--json", "key", "enable", ORDERS]).json();
    let ciphertext = sealed["ciphertext"].as_str().expect("text");
    let opened = dev.ctl(&["--json", "data-key", "decrypt", "--base64", ciphertext]).json();
    assert_eq!(opened["plaintext"], sealed["plaintext"]);
}

#[test]
fn a_file_that_cannot_be_sown_is_told_of_and_starts_nothing() {
    let key = |more: &str| {
        format!("[[keys]]\nkey_id = \"0a0a0a0a-1111-4222-8333-0123456789ab\"\nalias = \"a\"\n{more}\n")
    };
    let cases = [
        (key("colour = 1"), "unknown field `colour`"),
        (key("key_spec = \"AES_512\""), "key_spec: AES_512 is no kind of key"),
        (key("account = \"gamma\""), "account: there is no gamma"),
        (key("region = \"mars\""), "region: the account has no project there"),
        (key("").replace("0a0a0a0a", "0A0A0A0A"), "must be a lower-case UUID"),
        (key("").replace("\"a\"", "\"a/default\""), "must not end in /default"),
        ([key(""), key("")].concat(), "is given twice"),
        (key("material = \"AAAA\""), "the key material cannot be used"),
        (key("material = \"*\""), "material must be base64"),
    ];
    for (text, says) in cases {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("seeds.toml");
        fs::write(&file, text).expect("written");
        let mut command = std::process::Command::new(binary());
        command.args(["dev", "--grpc-port=0", "--data-dir"]).arg(directory.path().join("data"));
        let ended = command.arg("--seed-file").arg(&file).output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && said.contains(says), "{says}: {said}");
        assert!(!directory.path().join("data/dev.json").exists(), "{says}");
    }
}
