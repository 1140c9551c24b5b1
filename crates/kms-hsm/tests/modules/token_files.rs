//! SoftHSM2 keeps a token in files, one for each object, and writes some again at a login. Other modules
//! have no such files, so this is about SoftHSM2 alone, and about the script that makes its tokens.

use std::{fs, path::PathBuf, process::Command};

use dewpoint_test_tokens::Module;
use kms_core::{
    key::BackingKey,
    ports::{LogKey, Mac},
    testing::hsm::on_session,
};
use kms_hsm::{OpenError, Pkcs11Hsm};

use crate::support::{LABEL, Token, mac, new_key, open_error};

on_module!(
    softhsm2, SoftHsm2, with_token:
    a_key_file_that_is_cut_anywhere_never_becomes_another_key,
    a_process_that_is_killed_at_its_login_loses_no_key,
);

fn a_key_file_that_is_cut_anywhere_never_becomes_another_key(token: &Token) {
    let hsm = token.open_new();
    let key = new_key(&hsm);
    let (before, log_before) = (answers(&hsm, &key), log_key(&hsm).expect("the log's key"));
    drop(hsm);
    for file in key_files(token) {
        let whole = fs::read(&file).expect("the token is ours");
        for length in (0..whole.len()).step_by(23) {
            fs::write(&file, &whole[..length]).expect("the token is ours");
            match Pkcs11Hsm::open(&token.config()) {
                // Only attributes that do not matter were cut off.
                Ok(hsm) => {
                    assert_eq!(answers(&hsm, &key), before, "cut at {length}");
                    // The log's key may be gone, but it is never another one.
                    let log_key = log_key(&hsm);
                    assert!(log_key.is_none_or(|log_key| log_key == log_before), "cut at {length}");
                }
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
    assert_eq!((answers(&hsm, &key), log_key(&hsm)), (before, Some(log_before)));
}

fn log_key(hsm: &Pkcs11Hsm) -> Option<LogKey> {
    on_session(hsm, |session| session.log_key()).expect("an answer")
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
    assert_eq!(files.len(), 4); // the log's key pair has two
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
    Module::SoftHsm2.token(&path, LABEL);
    let pin = fs::read(path.join("pin")).expect("a PIN");
    Module::SoftHsm2.token(&path, LABEL);
    assert_eq!(fs::read(path.join("pin")).expect("a PIN"), pin, "a finished token is left alone");
    // A process that was killed leaves its working directory, and no `tokens` directory.
    fs::rename(path.join("tokens"), path.join("making")).expect("the directory is ours");
    Module::SoftHsm2.token(&path, LABEL);
    assert_ne!(fs::read(path.join("pin")).expect("a PIN"), pin, "a half-made token is made anew");
    assert!(!path.join("making").exists());
}

fn a_process_that_is_killed_at_its_login_loses_no_key(token: &Token) {
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
    Module::SoftHsm2.token(&token.directory, LABEL);
    assert_eq!(content(), whole);
    let hsm = Pkcs11Hsm::open(&token.config()).expect("the token is back");
    assert_eq!(answers(&hsm, &key), before);
}

#[test]
fn a_made_token_is_private_and_its_configuration_is_the_sample() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    Module::SoftHsm2.token(directory.path(), LABEL);
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
