//! Every way in which opening can fail has an error of its own, and none tells the PIN.

use std::{fs, os::unix::fs::PermissionsExt};

use kms_hsm::{OpenError, Pkcs11Config, Pkcs11Hsm};

use crate::support::{LABEL, Token};

on_each_module!(
    with_token:
    a_wrong_pin_is_refused_after_one_try,
    a_pin_file_that_is_missing_or_exposed_is_refused,
    a_module_that_is_missing_or_none_is_named,
    an_unknown_label_is_answered_with_the_labels_that_exist,
    a_token_without_root_keys_is_refused,
    a_module_is_opened_once_at_a_time,
    a_pool_without_workers_or_room_is_refused,
    the_pool_says_nothing_of_the_pin,
);

/// The error of opening with `config`; it must not tell any of the `secrets`.
fn error(config: &Pkcs11Config, secrets: &[&str]) -> OpenError {
    let error = Pkcs11Hsm::open(config).expect_err("this must fail");
    let text = format!("{error} {error:?} {config:?}");
    assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
    assert!(!error.to_string().contains('\n'), "one line: {error}");
    error
}

fn with_keys(token: &Token) -> Pkcs11Config {
    Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    token.config()
}

fn write_pin(token: &Token, name: &str, pin: &str) -> std::path::PathBuf {
    let path = token.directory.join(name);
    fs::write(&path, pin).expect("the directory is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    path
}

fn a_wrong_pin_is_refused_after_one_try(token: &Token) {
    let config = with_keys(token);
    let wrong = Pkcs11Config { pin_file: write_pin(token, "wrong", "wrong-pin-1234"), ..config.clone() };
    let refusal = error(&wrong, &["wrong-pin-1234", &token.pin()]);
    let expected = OpenError::PinRefused { label: LABEL.to_owned(), detail: "CKR_PIN_INCORRECT".to_owned() };
    assert_eq!(refusal, expected);
    assert!(matches!(Pkcs11Hsm::create_root_keys(&wrong), Err(OpenError::PinRefused { .. })));
    let newline = write_pin(token, "newline", &format!("{}\n", token.pin()));
    Pkcs11Hsm::open(&Pkcs11Config { pin_file: newline, ..config }).expect("a newline is no part of a PIN");
}

fn a_pin_file_that_is_missing_or_exposed_is_refused(token: &Token) {
    let config = with_keys(token);
    let missing = Pkcs11Config { pin_file: token.directory.join("nowhere"), ..config.clone() };
    assert!(matches!(error(&missing, &[]), OpenError::PinFileUnreadable { .. }));
    let exposed = write_pin(token, "exposed", &token.pin());
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    let exposed = Pkcs11Config { pin_file: exposed, ..config };
    assert!(matches!(error(&exposed, &[&token.pin()]), OpenError::PinFileExposed { mode: 0o644, .. }));
}

fn a_module_that_is_missing_or_none_is_named(token: &Token) {
    for module in ["/nonexistent/module.so", "/etc/passwd", "libc.so.6"] {
        let error = error(&Pkcs11Config { module: module.into(), ..token.config() }, &[&token.pin()]);
        assert!(matches!(error, OpenError::ModuleNotLoadable { .. }), "{error}");
        assert!(error.to_string().contains(module));
    }
}

fn an_unknown_label_is_answered_with_the_labels_that_exist(token: &Token) {
    let config = Pkcs11Config { token_label: "another".to_owned(), ..with_keys(token) };
    let expected = OpenError::TokenNotFound { label: "another".to_owned(), found: vec![LABEL.to_owned()] };
    assert_eq!(error(&config, &[&token.pin()]), expected);
}

fn a_token_without_root_keys_is_refused(token: &Token) {
    let missing = OpenError::RootKeysMissing { label: "root-1".to_owned() };
    assert_eq!(error(&token.config(), &[&token.pin()]), missing);
    let config = with_keys(token);
    let other = Pkcs11Config { root_label: "other".to_owned(), ..config };
    assert_eq!(error(&other, &[]), OpenError::RootKeysMissing { label: "other-1".to_owned() });
}

fn a_module_is_opened_once_at_a_time(token: &Token) {
    let hsm = token.open_new();
    assert_eq!(error(&token.config(), &[]), OpenError::ModuleInUse);
    drop(hsm);
    Pkcs11Hsm::open(&token.config()).expect("the other one is gone");
}

fn a_pool_without_workers_or_room_is_refused(token: &Token) {
    let config = with_keys(token);
    for config in [Pkcs11Config { workers: 0, ..config.clone() }, Pkcs11Config { loaded_keys: 0, ..config }] {
        assert!(matches!(error(&config, &[]), OpenError::ZeroCapacity(_)));
    }
}

fn the_pool_says_nothing_of_the_pin(token: &Token) {
    let hsm = token.open_new();
    assert!(!format!("{hsm:?}").contains(&token.pin()));
}
