//! What is lost comes back by itself, and what is not there is answered with an error at once.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags},
    object::Attribute,
};
use kms_core::{
    key::BackingKey,
    ports::{HsmError, Mac},
};
use kms_hsm::{Pkcs11Config, Pkcs11Hsm};

use crate::support::{LABEL, Token, ask, mac, new_key};

on_each_module!(
    with_token:
    a_module_that_was_initialised_anew_is_opened_anew,
    a_module_that_somebody_finalised_is_initialised_again,
    a_logout_by_somebody_else_is_followed_by_a_login,
    an_object_that_somebody_destroyed_is_loaded_again_unnoticed,
    a_module_that_leaks_is_renewed_without_a_failed_call,
);
// These move and replace the files of SoftHSM2's tokens.
on_module!(
    softhsm2_files, SoftHsm2, with_token:
    a_token_whose_files_are_gone_is_lost_and_comes_back_with_them,
    a_token_that_was_initialised_anew_is_refused_until_the_right_one_is_back,
);

fn one_worker(token: &Token) -> Pkcs11Hsm {
    Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    Pkcs11Hsm::open(&Pkcs11Config { workers: 1, ..token.config() }).expect("a token")
}

/// The answer of `ask` once it succeeds; every error before that must be a typed one. Without any limit on
/// time but a very long one.
#[allow(
    clippy::disallowed_methods,
    reason = "a test that gives up after minutes asks the machine for the time"
)]
pub(crate) fn healed<T>(mut ask: impl FnMut() -> Result<T, HsmError>) -> T {
    let begun = Instant::now();
    loop {
        let error = match ask() {
            Ok(value) => return value,
            Err(error @ HsmError::Unavailable { .. }) => error,
            Err(other) => panic!("{other}"),
        };
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not heal: {error}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the token works, by its own test.
pub(crate) fn self_test(hsm: &Pkcs11Hsm) -> Result<(), HsmError> {
    ask(hsm, |session| session.self_test())
}

fn assert_same_after(hsm: &Pkcs11Hsm, key: &BackingKey, expected: &Mac) {
    healed(|| self_test(hsm));
    assert_eq!(&mac(hsm, key).expect("a mac"), expected);
    mac(hsm, &new_key(hsm)).expect("new keys can be made");
    self_test(hsm).expect("the token works");
}

fn a_module_that_was_initialised_anew_is_opened_anew(token: &Token) {
    let hsm = one_worker(token);
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    // Every session of the process and its login are lost by this.
    token.module().finalize().expect("the worker is idle");
    let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    token.module().initialize(arguments).expect("the module starts");
    assert_same_after(&hsm, &key, &expected);
    assert!(hsm.statistics().heals >= 1);
}

fn a_module_that_somebody_finalised_is_initialised_again(token: &Token) {
    let hsm = one_worker(token);
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    token.module().finalize().expect("the worker is idle");
    assert_same_after(&hsm, &key, &expected);
}

fn a_logout_by_somebody_else_is_followed_by_a_login(token: &Token) {
    let hsm = one_worker(token);
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    let session = token.session();
    session.logout().expect("the process is logged in");
    drop(session);
    assert_same_after(&hsm, &key, &expected);
}

fn an_object_that_somebody_destroyed_is_loaded_again_unnoticed(token: &Token) {
    let hsm = one_worker(token);
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    let session = token.session();
    for object in session.find_objects(&[Attribute::Token(false)]).expect("a search") {
        session.destroy_object(object).expect("it exists");
    }
    assert_eq!(mac(&hsm, &key).expect("no caller notices"), expected);
    assert_eq!((hsm.statistics().loads, hsm.statistics().heals), (2, 0));
}

fn a_token_whose_files_are_gone_is_lost_and_comes_back_with_them(token: &Token) {
    let hsm = one_worker(token);
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    let (tokens, elsewhere) = (token.directory.join("tokens"), token.directory.join("elsewhere"));
    fs::rename(&tokens, &elsewhere).expect("the directory is ours");
    fs::create_dir(&tokens).expect("the directory is ours");
    // What needs the token's own keys notices; a key that is loaded goes on until then.
    let refused = self_test(&hsm);
    assert!(matches!(refused, Err(HsmError::Unavailable { .. })), "{refused:?}");
    while hsm.loss().is_none_or(|loss| !loss.to_string().contains("no token has the label")) {
        thread::sleep(Duration::from_millis(10));
    }
    let refused = self_test(&hsm).expect_err("there is no token");
    assert!(refused.to_string().contains(LABEL), "{refused}");
    fs::remove_dir(&tokens).expect("it is empty");
    fs::rename(&elsewhere, &tokens).expect("the directory is ours");
    assert_same_after(&hsm, &key, &expected);
}

fn a_token_that_was_initialised_anew_is_refused_until_the_right_one_is_back(token: &Token) {
    let hsm = one_worker(token);
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key).expect("a mac");
    let (tokens, elsewhere) = (token.directory.join("tokens"), token.directory.join("elsewhere"));
    let copied = Command::new("cp").arg("-a").arg(&tokens).arg(&elsewhere).status().expect("cp runs");
    assert!(copied.success());
    let so_pin = fs::read_to_string(token.directory.join("so-pin")).expect("the token's SO PIN");
    let mut again = Command::new("softhsm2-util");
    again.args([
        "--init-token",
        "--token",
        LABEL,
        "--label",
        LABEL,
        "--so-pin",
        &so_pin,
        "--pin",
        "another-pin",
    ]);
    let output = again.output().expect("softhsm2-util runs");
    assert!(output.status.success(), "{output:?}");
    let refused = self_test(&hsm);
    assert!(matches!(refused, Err(HsmError::Unavailable { .. })), "{refused:?}");
    while hsm.loss().is_none_or(|loss| !loss.to_string().contains("the PIN")) {
        thread::sleep(Duration::from_millis(10));
    }
    // The wrong PIN is not tried again and again.
    let logins = |hsm: &Pkcs11Hsm| {
        let statistics = hsm.statistics();
        statistics.calls.iter().find(|count| count.function == "C_Login").map(|count| count.errors)
    };
    let before = logins(&hsm);
    thread::sleep(Duration::from_secs(2));
    assert_eq!((before, logins(&hsm)), (Some(1), Some(1)));
    fs::remove_dir_all(&tokens).expect("the directory is ours");
    fs::rename(&elsewhere, &tokens).expect("the directory is ours");
    assert_same_after(&hsm, &key, &expected);
}

fn a_module_that_leaks_is_renewed_without_a_failed_call(token: &Token) {
    Pkcs11Hsm::create_root_keys(&token.config()).expect("a fresh token");
    let config = Pkcs11Config { renew_after: 50, loaded_keys: 3, ..token.config() };
    let hsm = Pkcs11Hsm::open(&config).expect("a token");
    let keys = [(); 12].map(|()| new_key(&hsm));
    let expected = keys.each_ref().map(|key| mac(&hsm, key).expect("a mac"));
    thread::scope(|scope| {
        for start in 0..4 {
            let (hsm, keys, expected) = (&hsm, &keys, &expected);
            scope.spawn(move || {
                for place in (0..400).map(|step| (start * 3 + step * 5) % keys.len()) {
                    assert_eq!(mac(hsm, &keys[place]).as_ref(), Ok(&expected[place]));
                }
            });
        }
    });
    let statistics = hsm.statistics();
    assert!(statistics.renewals >= 3, "{statistics:?}");
    assert_eq!(statistics.heals, 0);
}
