//! Keys move from a token of one module to a token of the other, and compute there what they computed.

use std::path::{Path, PathBuf};

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, ObjectClass},
};
use dewpoint_test_tokens::{Module, alone, assert_passed};
use kms_core::{
    key::{BackingKey, BackingKind, MaterialId},
    ports::{Hsm as _, HsmError, HsmSession},
    testing::hsm::on_session,
};
use kms_hsm::{Pkcs11Hsm, TransferKey};

use crate::support::{LABEL, Token, new_key, new_material};

on_each_module!(
    with_token:
    a_transfer_key_is_made_once_and_stays_inside,
    a_transfer_key_that_is_half_made_or_may_do_more_is_none,
);

/// Set in the process that runs a move: the directory of both tokens.
const DIRECTORY: &str = "DEWPOINT_MOVE_DIRECTORY";
const MODULES: [&str; 2] = ["DEWPOINT_MOVE_FROM", "DEWPOINT_MOVE_TO"];

#[test]
fn keys_move_from_softhsm2_to_kryoptic() {
    with_two_tokens([Module::SoftHsm2, Module::Kryoptic], "keys_move_from_softhsm2_to_kryoptic");
}

#[test]
fn keys_move_from_kryoptic_to_softhsm2() {
    with_two_tokens([Module::Kryoptic, Module::SoftHsm2], "keys_move_from_kryoptic_to_softhsm2");
}

fn with_two_tokens(modules: [Module; 2], test: &str) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let directory = PathBuf::from(directory);
        let [from, to] = MODULES.map(|module| std::env::var_os(module).expect("set together").into());
        return keys_move(&token(&directory, "from", from), &token(&directory, "to", to));
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut child = alone(&format!("{}::{test}", module_path!()));
    child.env(DIRECTORY, directory.path());
    for ((module, variable), side) in modules.into_iter().zip(MODULES).zip(["from", "to"]) {
        let made = module.token(&directory.path().join(side), LABEL);
        child.env(variable, made.module).envs(made.environment);
    }
    assert_passed(child.output().expect("this program runs again"));
}

fn token(directory: &Path, side: &str, module: PathBuf) -> Token {
    Token { directory: directory.join(side), module }
}

fn keys_move(from: &Token, to: &Token) {
    let (source, target) = (from.open_new(), to.open_new());
    let transfer_key = target.transfer().expect("it takes keys over").make_key().expect("a key pair");
    let kinds = [
        BackingKind::Mac,
        BackingKind::Aes256,
        BackingKind::HmacSha512,
        BackingKind::Rsa2048,
        BackingKind::EcP256,
        BackingKind::EcP384,
    ];
    let mut keys: Vec<_> = kinds.map(|kind| new_key_of(&source, kind)).into_iter().collect();
    on_session(&source, |session| session.create_root_key()).expect("a second root key");
    keys.push(new_key_of(&source, BackingKind::Mac));
    assert_eq!([keys.first(), keys.last()].map(|key| key.expect("keys").wrapped.root_generation), [1, 2]);
    let (leaving, transport) =
        source.transfer().expect("it hands keys over").depart(&transfer_key).expect("a transport key");
    let arriving = target.transfer().expect("a token").arrive(&transport).expect("it is for this token");
    assert_eq!(leaving.seal(b"backup").expect("a seal"), arriving.seal(b"backup").expect("a seal"));
    for key in &keys {
        let moved = leaving.hand_over(key).expect("it leaves");
        let wrapped = arriving.take_over(key.kind, &moved).expect("it arrives");
        assert_eq!(wrapped.root_generation, 1, "the target's newest");
        let arrived = BackingKey { wrapped, ..key.clone() };
        assert_same(&source, key, &target, &arrived);

        // Under its transport key, a key is for the other token only, and what is altered is refused.
        let on_the_way = BackingKey {
            wrapped: kms_core::key::WrappedKey { root_generation: 1, blob: moved.blob.clone() },
            ..key.clone()
        };
        assert!(matches!(use_of(&target, &on_the_way), Err(HsmError::WrappedKeyRefused { .. })));
        for place in [1, moved.blob.len() / 2, moved.blob.len() - 1] {
            let mut altered = moved.clone();
            altered.blob[place] ^= 1;
            let refused = arriving.take_over(key.kind, &altered).expect_err("altered bytes");
            assert!(matches!(refused, HsmError::WrappedKeyRefused { .. }), "{refused:?}");
        }
        let mut another = moved.clone();
        another.proof[0] ^= 1;
        let refused = arriving.take_over(key.kind, &another).expect_err("another key's proof");
        assert!(matches!(refused, HsmError::WrappedKeyRefused { .. }), "{refused:?}");
    }
    assert_eq!(
        arriving.takes(BackingKind::Sm4).map_err(|error| error.to_string()),
        Err("the token does not offer SM4 inside the HSM".to_owned())
    );
    drop((leaving, arriving));
    for side in [from, to] {
        let briefly = [Attribute::Token(false), Attribute::Extractable(true)];
        assert_eq!(side.session().find_objects(&briefly).expect("a search"), [], "a key of the move stays");
    }
    what_was_made_for_another_key_is_refused(&source, &target, &transport);
}

fn what_was_made_for_another_key_is_refused(
    source: &Pkcs11Hsm,
    target: &Pkcs11Hsm,
    transport: &kms_hsm::Transport,
) {
    let new = target.transfer().expect("a token").make_key().expect("another key pair");
    let refused = target.transfer().expect("a token").arrive(transport).map(drop).expect_err("another key's");
    assert!(matches!(refused, HsmError::WrappedKeyRefused { .. }), "{refused:?}");
    let stranger = TransferKey { wraps: vec!["CKM_OTHER".to_owned()], ..new };
    let refused =
        source.transfer().expect("a token").depart(&stranger).map(drop).expect_err("no common wrap");
    assert!(matches!(refused, HsmError::NotOffered { .. }), "{refused:?}");
    target.transfer().expect("a token").destroy_key().expect("destroyed");
    let refused = target.transfer().expect("a token").arrive(transport).map(drop).expect_err("no key at all");
    assert_eq!(refused, HsmError::NotOffered { feature: "a transfer key" });
}

fn new_key_of(hsm: &Pkcs11Hsm, kind: BackingKind) -> BackingKey {
    let wrapped = on_session(hsm, move |session| match kind {
        BackingKind::Rsa2048 | BackingKind::EcP256 | BackingKind::EcP384 => {
            session.generate_key_pair(kind).map(|pair| pair.wrapped)
        }
        _ => session.generate_backing_key(kind),
    });
    let wrapped = wrapped.expect("a backing key");
    BackingKey { material: new_material(), version: 1, kind, wrapped }
}

/// What the key computes of a fixed input; the handle goes at once, so that the next use loads the key.
fn use_of(hsm: &Pkcs11Hsm, key: &BackingKey) -> Result<Vec<u8>, HsmError> {
    hsm.evict(key.material);
    let key = BackingKey { material: MaterialId::of(new_material().key_id()), ..key.clone() };
    on_session(hsm, move |session| match key.kind {
        BackingKind::Mac => session.mac(&key, b"input").map(|mac| mac.to_vec()),
        BackingKind::HmacSha512 => session.keyed_hash(&key, b"input"),
        BackingKind::Rsa2048 => {
            session.decrypt_rsa(&key, &[1; 256]).map(|block| block.expose_secret().to_vec())
        }
        BackingKind::EcP256 => agree(session, &key, P256_BASE),
        BackingKind::EcP384 => agree(session, &key, P384_BASE),
        _ => session.seal(&key, &[7; 12], b"context", b"plaintext"),
    })
}

/// The base points of the curves: points that everyone knows. SEC 2 §2.4.2, §2.5.1.
const P256_BASE: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
const P384_BASE: &str = "04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab73617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f";

fn agree(session: &mut dyn HsmSession, key: &BackingKey, peer: &str) -> Result<Vec<u8>, HsmError> {
    let digits = |place| u8::from_str_radix(&peer[place..place + 2], 16).expect("hexadecimal digits");
    let peer: Vec<_> = (0..peer.len()).step_by(2).map(digits).collect();
    Ok(session.agree(key, &peer)?.expose_secret().to_vec())
}

fn assert_same(source: &Pkcs11Hsm, key: &BackingKey, target: &Pkcs11Hsm, arrived: &BackingKey) {
    assert_ne!(key.wrapped, arrived.wrapped);
    assert_eq!(use_of(source, key).expect("it works"), use_of(target, arrived).expect("it works"));
}

fn a_transfer_key_is_made_once_and_stays_inside(token: &Token) {
    let hsm = token.open_new();
    assert_eq!(hsm.transfer().expect("a token").key(), Ok(None));
    let made = hsm.transfer().expect("a token").make_key().expect("a key pair");
    assert!(made.is_of_expected_kind());
    assert_eq!(hsm.transfer().expect("a token").key(), Ok(Some(made.clone())));
    let replaced = hsm.transfer().expect("a token").make_key().expect("another key pair");
    assert_ne!(made.modulus, replaced.modulus);
    drop(hsm);
    let hsm = Pkcs11Hsm::open(&token.config()).expect("it opens");
    assert_eq!((hsm.root_generation(), hsm.strangers()), (1, &[][..]));
    assert_eq!(hsm.transfer().expect("a token").key(), Ok(Some(replaced)));
    let session = token.session();
    let label = Attribute::Label(b"root-transfer".to_vec());
    let objects = session.find_objects(&[Attribute::Token(true), label]).expect("a search");
    let [private] = objects[..] else { panic!("{objects:?}") };
    session.decrypt(&Mechanism::RsaPkcs, private, &[1; 384]).expect_err("it only unwraps");
    session.sign(&Mechanism::RsaPkcs, private, &[1; 32]).expect_err("it only unwraps");
    let root = [Attribute::Token(true), Attribute::Label(b"root-1".to_vec())];
    let root = session.find_objects(&root).expect("a search")[0];
    session.wrap_key(&Mechanism::AesKeyWrap, root, private).expect_err("it stays inside");
}

fn a_transfer_key_that_is_half_made_or_may_do_more_is_none(token: &Token) {
    let hsm = token.open_new();
    token
        .session()
        .create_object(&[
            Attribute::Class(ObjectClass::DATA),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Label(b"root-transfer".to_vec()),
        ])
        .expect("a data object");
    assert_eq!(hsm.transfer().expect("a token").key(), Ok(None));
    let made = hsm.transfer().expect("a token").make_key().expect("a key pair");
    assert_eq!(hsm.transfer().expect("a token").key(), Ok(Some(made)));
    let key = new_key(&hsm);
    crate::support::mac(&hsm, &key).expect("the token works on");
}
