//! `dewpoint dev --seed-file`: keys that are there when the service says that it is ready.

use std::{fs, path::Path};

use dewpoint_tests::{Dev, DevOptions, binary};
use serde_json::Value;

/// The id of its first key.
const ORDERS: &str = "0a0a0a0a-1111-4222-8333-0123456789ab";

/// The grants of a key.
fn grants(dev: &Dev, key_id: &str) -> Vec<Value> {
    let listed = dev.ctl(&["--json", "grant", "list", key_id]).json();
    listed.as_array().expect("an array").clone()
}

/// The names of them, sorted.
fn names(dev: &Dev) -> Vec<String> {
    let grants = grants(dev, ORDERS).into_iter();
    let mut names: Vec<_> = grants.map(|grant| grant["name"].as_str().expect("text").to_owned()).collect();
    names.sort();
    names
}

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
    let sealed = dev.ctl(&["--json", "data-key", "generate", "alias/orders-current"]).json();
    let granted = grants(&dev, ORDERS);
    let [grant] = &granted[..] else { panic!("one grant: {granted:?}") };
    assert_eq!((&grant["name"], &grant["operations"][0]), (&"archive-job".into(), &"decrypt-datakey".into()));
    let user = |account, name| dev.description.account(account).user(name).user_id.clone();
    assert_eq!(grant["grantee"]["user_id"], user(1, "downloader"));
    assert_eq!(grant["retiring_principal"], user(0, "admin"));

    dev.ctl(&["--json", "key", "disable", ORDERS]).json();
    dev.restart();
    assert_eq!(dev.ctl(&["--json", "key", "describe", "orders"]).json()["state"], "DISABLED");
    assert_eq!(grants(&dev, ORDERS), granted, "made once");
    dev.ctl(&["--json", "key", "enable", ORDERS]).json();
    let ciphertext = sealed["ciphertext"].as_str().expect("text");
    let opened = dev.ctl(&["--json", "data-key", "decrypt", "--base64", ciphertext]).json();
    assert_eq!(opened["plaintext"], sealed["plaintext"]);
}

#[allow(clippy::too_many_lines, reason = "a list of files, and what each leads to")]
#[test]
fn a_changed_file_adds_what_a_key_never_had_and_says_what_stays_or_cannot_be() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("seeds.toml");
    let grant = |name: &str, operation: &str| {
        let grantee = "{ account = \"beta\" }";
        format!("[[keys.grants]]\nname = \"{name}\"\ngrantee = {grantee}\noperations = [\"{operation}\"]\n")
    };
    let key = |more: &str, grants: &[String]| {
        format!("[[keys]]\nkey_id = \"{ORDERS}\"\nalias = \"a\"\n{more}\n{}", grants.concat())
    };
    let (first, second) = (grant("first", "encrypt-data"), grant("second", "decrypt-data"));
    fs::write(&file, key("aliases = [\"alias/one\"]", std::slice::from_ref(&first))).expect("written");
    let arguments = vec![format!("--seed-file={}", file.display())];
    let mut dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    assert_eq!(names(&dev), ["first"]);
    assert!(!dev.log().contains("seeded key"), "{}", dev.log());

    // What is new is made; what a test may have changed is told.
    let more = "aliases = [\"alias/one\", \"alias/two\"]\ndescription = \"new\"\ntags = { team = \"x\" }";
    fs::write(&file, key(more, &[first.clone(), second.clone()])).expect("written");
    dev.restart();
    assert_eq!(names(&dev), ["first", "second"]);
    for alias in ["a", "alias/one", "alias/two"] {
        let found = dev.ctl(&["--json", "key", "describe", alias]).json();
        assert_eq!((&found["key_id"], &found["description"]), (&ORDERS.into(), &"".into()), "{alias}");
    }
    let said = dev.log();
    assert!(said.contains("stays as it is") && said.contains("description, tags"), "{said}");

    // What was taken away stays away, and what another key has now does not keep the service from starting.
    let of_first = grants(&dev, ORDERS).into_iter().find(|grant| grant["name"] == "first").expect("made");
    let id = of_first["grant_id"].as_str().expect("text");
    dev.ctl(&["--json", "grant", "revoke", ORDERS, id]).json();
    let other = dev.ctl(&["--json", "key", "create", "other"]).json()["key_id"].as_str().map(str::to_owned);
    dev.ctl(&["--json", "alias", "associate", "alias/two", &other.expect("made")]).json();
    dev.restart();
    assert_eq!(names(&dev), ["second"]);
    assert!(dev.log().contains("another key has this alias"), "{}", dev.log());

    // What cannot be is an error, with its line.
    dev.stop();
    let changed = [first, grant("second", "encrypt-data")];
    let cases = [
        (key("", &changed), "line 9: the key a: the grant second: was made otherwise by an earlier start"),
        (
            key("key_spec = \"SM4\"", &[]),
            "line 1: the key a: key_spec: exists already, as a key of kind AES_256",
        ),
        (
            key("material = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"", &[]),
            "line 1: the key a: material: exists already, as a key of material of the service's own",
        ),
        (key("account = \"beta\"", &[]), "another account or region has a key with this id"),
    ];
    for (text, says) in cases {
        fs::write(&file, text).expect("written");
        let ended = dev.command().output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && said.contains(says), "{says}: {said}");
    }
}

#[allow(clippy::too_many_lines, reason = "a list of files, and what each leads to")]
#[test]
fn a_file_that_cannot_be_sown_is_told_of_and_starts_nothing() {
    let key = |more: &str| {
        format!("[[keys]]\nkey_id = \"0a0a0a0a-1111-4222-8333-0123456789ab\"\nalias = \"a\"\n{more}\n")
    };
    let grant = |name: &str, grantee: &str, operation: &str| {
        format!(
            "[[keys.grants]]\nname = \"{name}\"\ngrantee = {{ {grantee} }}\noperations = [\"{operation}\"]\n"
        )
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
        (
            key("aliases = [\n\"alias/x\",\n\"x\"]"),
            "line 6: the key a: aliases: x: alias: must be a name behind alias/",
        ),
        (key("aliases = [\"alias/x\", \"alias/x\"]"), "aliases: alias/x: is given twice"),
        (
            key(&grant("g", "user = \"beta/ghost\"", "decrypt-data")),
            "line 4: the key a: the grant g: grantee: there is no user beta/ghost",
        ),
        (key(&grant("g", "account = \"operator\"", "decrypt-data")), "must be the id of an account of users"),
        (key(&grant("g", "team = \"x\"", "decrypt-data")), "unknown variant `team`"),
        (
            key(&grant("g", "account = \"beta\"", "sign")),
            "operations: sign is nothing that a grant can allow",
        ),
        (
            key(&grant("g", "account = \"beta\"", "create-grant")),
            "must hold at least one operation besides create-grant",
        ),
        (key(&grant("", "account = \"beta\"", "decrypt-data")), "name: must not be empty here"),
        (
            key(&[
                grant("g", "account = \"beta\"", "decrypt-data"),
                grant("g", "account = \"alpha\"", "decrypt-data"),
            ]
            .concat()),
            "line 8: the key a: the grant g: its name is given twice",
        ),
    ];
    for (text, says) in cases {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("seeds.toml");
        fs::write(&file, text).expect("written");
        let mut command = std::process::Command::new(binary());
        command
            .args(["dev", "--grpc-port=0", "--dew-port=0", "--data-dir"])
            .arg(directory.path().join("data"));
        let ended = command.arg("--seed-file").arg(&file).output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && said.contains(says), "{says}: {said}");
        assert!(!directory.path().join("data/dev.json").exists(), "{says}");
    }
}
