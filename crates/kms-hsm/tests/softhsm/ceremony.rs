//! Root keys are made once, and what an interruption leaves is never used.

use std::{fs, path::PathBuf, process::Command};

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass},
    session::Session,
};
use kms_core::{key::BackingKey, ports::Mac, testing::hsm::on_session};
use kms_hsm::{OpenError, Pkcs11Hsm};

use crate::support::{LABEL, Token, init_token, mac, new_key, with_token};

/// An object that is not a key at all, with a label of the caller's choice.
fn put_data(session: &Session, label: &str) {
    let template = [
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(label.into()),
    ];
    session.create_object(&template).expect("a data object");
}

/// A root key that may also encrypt if `encrypt` says so.
fn put_root(session: &Session, label: &str, generation: u8, encrypt: bool) {
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(32.into()),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Label(label.into()),
        Attribute::Id(vec![0, 0, 0, generation]),
        Attribute::Encrypt(encrypt),
    ];
    template.extend([Attribute::Wrap(true), Attribute::Unwrap(true)]);
    template.extend([Attribute::Decrypt(false), Attribute::Sign(false), Attribute::Verify(false)]);
    template.push(Attribute::Derive(false));
    session.generate_key(&Mechanism::AesKeyGen, &template).expect("an AES key");
}

fn open_error(token: &Token) -> OpenError {
    Pkcs11Hsm::open(&token.config()).expect_err("this token must be refused")
}

#[test]
fn root_keys_are_made_once() {
    with_token(|token| {
        let made = Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
        assert_eq!((made.generation, made.root_label.as_str()), (1, "root-1"));
        let again = Pkcs11Hsm::create_root_keys(&token.config()).expect_err("they exist");
        assert_eq!(again, OpenError::RootKeysExist { label: "root-1".to_owned() });
        let hsm = Pkcs11Hsm::open(&token.config()).expect("a token with root keys");
        assert_eq!((hsm.root_generation(), hsm.strangers()), (1, &[][..]));
    });
}

#[test]
fn what_an_interrupted_ceremony_left_is_a_stranger() {
    with_token(|token| {
        token.with_raw_session(|session| put_data(session, "root-1"));
        assert!(matches!(open_error(token), OpenError::RootKeyHalfMade { label, .. } if label == "root-1"));
        Pkcs11Hsm::create_root_keys(&token.config()).expect("nothing was ever wrapped under half a key");
        token.with_raw_session(|session| put_data(session, "something else"));
        let hsm = Pkcs11Hsm::open(&token.config()).expect("one sound root key");
        let mut strangers = hsm.strangers().to_vec();
        strangers.sort();
        assert_eq!(strangers, ["root-1", "something else"]);
        mac(&hsm, &new_key(&hsm)).expect("a mac");
    });
}

#[test]
fn a_root_key_that_may_do_more_is_refused() {
    with_token(|token| {
        token.with_raw_session(|session| put_root(session, "root-1", 1, true));
        let wrong =
            OpenError::RootKeyAttributes { label: "root-1".to_owned(), wrong: "CKA_ENCRYPT".to_owned() };
        assert_eq!(open_error(token), wrong);
        assert_eq!(Pkcs11Hsm::create_root_keys(&token.config()), Err(wrong));
    });
}

#[test]
fn two_root_keys_of_one_generation_are_refused() {
    with_token(|token| {
        Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
        token.with_raw_session(|session| put_root(session, "root-1", 1, false));
        assert_eq!(open_error(token), OpenError::RootKeyDuplicated { label: "root-1".to_owned() });
    });
}

#[test]
fn the_newest_generation_wraps_and_each_unwraps_its_own() {
    with_token(|token| {
        let hsm = token.open_new();
        let old = new_key(&hsm);
        let expected = mac(&hsm, &old).expect("a mac");
        drop(hsm);
        token.with_raw_session(|session| put_root(session, "root-2", 2, false));
        let hsm = Pkcs11Hsm::open(&token.config()).expect("two generations");
        assert_eq!(hsm.root_generation(), 2);
        let new = new_key(&hsm);
        assert_eq!((old.wrapped.root_generation, new.wrapped.root_generation), (1, 2));
        mac(&hsm, &new).expect("a mac");
        assert_eq!(mac(&hsm, &old).expect("a mac"), expected);
    });
}

#[test]
fn a_key_file_that_is_cut_anywhere_never_becomes_another_key() {
    with_token(|token| {
        let hsm = token.open_new();
        let key = new_key(&hsm);
        let before = answers(&hsm, &key);
        drop(hsm);
        for file in key_files(token) {
            let whole = fs::read(&file).expect("the token is ours");
            for length in (0..whole.len()).step_by(23) {
                fs::write(&file, &whole[..length]).expect("the token is ours");
                match Pkcs11Hsm::open(&token.config()) {
                    // Only attributes that do not matter were cut off.
                    Ok(hsm) => assert_eq!(answers(&hsm, &key), before, "cut at {length}"),
                    Err(
                        OpenError::RootKeysMissing { .. }
                        | OpenError::RootKeyHalfMade { .. }
                        | OpenError::RootKeyAttributes { .. },
                    ) => {}
                    Err(other) => panic!("cut at {length}: {other}"),
                }
            }
            fs::write(&file, &whole).expect("the token is ours");
        }
        let hsm = Pkcs11Hsm::open(&token.config()).expect("the files are whole again");
        assert_eq!(answers(&hsm, &key), before);
    });
}

/// What both keys of the ceremony compute: the root key by unwrapping `key`.
fn answers(hsm: &Pkcs11Hsm, key: &BackingKey) -> [Mac; 2] {
    let authentication = on_session(hsm, |session| session.authentication_mac(b"input"));
    [mac(hsm, key).expect("a mac"), authentication.expect("a mac")]
}

/// The files of the token's objects; the token's own data is in `token.object`.
fn key_files(token: &Token) -> Vec<PathBuf> {
    let files = fs::read_dir(store_directory(token)).expect("a token");
    let files = files.filter_map(Result::ok).map(|entry| entry.path());
    let is_key = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "object") && !path.ends_with("token.object")
    };
    let files: Vec<_> = files.filter(is_key).collect();
    assert_eq!(files.len(), 2);
    files
}

/// Where SoftHSM2 keeps the only token.
fn store_directory(token: &Token) -> PathBuf {
    let mut tokens = fs::read_dir(token.directory.join("tokens")).expect("the token store");
    tokens.next().expect("one token").expect("the directory is ours").path()
}

#[test]
fn a_token_is_made_once_and_made_anew_when_half_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a token's directory");
    init_token(&path);
    let pin = fs::read(path.join("pin")).expect("a PIN");
    init_token(&path);
    assert_eq!(fs::read(path.join("pin")).expect("a PIN"), pin, "a finished token is left alone");
    // A process that was killed leaves its working directory, and no `tokens` directory.
    fs::rename(path.join("tokens"), path.join("making")).expect("the directory is ours");
    init_token(&path);
    assert_ne!(fs::read(path.join("pin")).expect("a PIN"), pin, "a half-made token is made anew");
    assert!(!path.join("making").exists());
}

#[test]
fn a_process_that_is_killed_at_its_login_loses_no_key() {
    with_token(|token| {
        let hsm = token.open_new();
        let key = new_key(&hsm);
        let before = answers(&hsm, &key);
        drop(hsm);
        let lost = store_directory(token).join("token.object");
        // The first eight bytes count how often the file was written.
        let content = || fs::read(&lost).expect("the token's own data").split_off(8);
        let whole = content();
        fs::write(&lost, b"").expect("the token is ours");
        assert!(matches!(open_error(token), OpenError::TokenNotFound { .. }));
        init_token(&token.directory);
        assert_eq!(content(), whole);
        let hsm = Pkcs11Hsm::open(&token.config()).expect("the token is back");
        assert_eq!(answers(&hsm, &key), before);
    });
}

#[test]
fn a_made_token_is_private_and_its_configuration_is_the_sample() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    init_token(directory.path());
    for (name, mode) in [("", 0o700), ("tokens", 0o700), ("pin", 0o600), ("so-pin", 0o600)] {
        let metadata = fs::metadata(directory.path().join(name)).expect("the script makes it");
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
    let sample = include_str!("../../../../softhsm-config/softhsm2.conf");
    let path = directory.path().canonicalize().expect("it exists");
    let made = fs::read_to_string(path.join("softhsm2.conf")).expect("the script makes it");
    assert_eq!(made, sample.replace("/var/lib/dewpoint/token", path.to_str().expect("plain text")));
}

#[test]
fn the_script_says_what_is_wrong() {
    let script = include_bytes!("../../../../softhsm-config/init-token.sh");
    let run = |arguments: &[&str]| {
        use std::io::Write;
        let mut child = Command::new("sh")
            .args(["-s", "--"])
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("sh runs");
        child.stdin.take().expect("a pipe").write_all(script).expect("sh reads");
        child.wait_with_output().expect("sh ends")
    };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("plain text");
    for arguments in [&[path][..], &[path, ""], &[path, &"x".repeat(33)], &[]] {
        let output = run(arguments);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("init-token: "));
    }
    let output = run(&[path, LABEL]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
