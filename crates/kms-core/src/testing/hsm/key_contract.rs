//! What every [`Hsm`] has to keep to with key pairs, HMAC keys and keys that are brought to it: each answer is
//! checked by software that has only the public key or the material.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use p256::elliptic_curve::{point::AffineCoordinates as _, sec1::ToSec1Point as _};
use rsa::{
    BoxedUint, PublicKey,
    pkcs8::DecodePublicKey as _,
    signature::{Verifier as _, hazmat::PrehashVerifier as _},
    traits::PublicKeyParts as _,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::{
    contract::{new_material, on_session, rewrap},
    fake::hmac,
    software::{self, on_curve},
};
use crate::{
    key::{BackingKey, BackingKind, WrappedKey},
    ports::{DigestAlgorithm, Hsm, HsmError, HsmSession, KeyPair, SigningMechanism},
    secret::SecretBytes,
};

const DIGESTS: [DigestAlgorithm; 3] =
    [DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512];
const MESSAGE: &[u8] = b"what is signed";

/// Checks every promise about key pairs of `kind`, and answers whether the HSM offers them: if not, everything
/// that would make one must say so.
///
/// Each call makes two pairs in the HSM.
///
/// # Panics
/// At the first promise that `hsm` breaks.
pub fn key_pair_contract(hsm: &dyn Hsm, kind: BackingKind) -> bool {
    let offered = on_session(hsm, move |session| session.offers(kind)).expect("an answer");
    if !offered {
        nothing_is_made(hsm, kind);
        return false;
    }
    let pair = on_session(hsm, move |session| session.generate_key_pair(kind)).expect("a key pair");
    let key = named(kind, &pair);
    it_signs(hsm, &key, &pair.public_key);
    it_decrypts(hsm, &key, &pair.public_key);
    it_agrees(hsm, &key, &pair.public_key);
    it_moves_and_loads_again(hsm, &key, &pair.public_key);
    what_is_altered_is_refused(hsm, &key);
    what_is_no_pair_is_refused(hsm, &key);
    what_is_given_out_can_be_brought_back(hsm, kind, &pair.public_key);
    true
}

fn named(kind: BackingKind, pair: &KeyPair) -> BackingKey {
    BackingKey { material: new_material(), version: 1, kind, wrapped: pair.wrapped.clone() }
}

/// Asks with a key on a session.
fn ask<T: Send + 'static>(
    hsm: &dyn Hsm,
    key: &BackingKey,
    call: impl FnOnce(&mut dyn HsmSession, &BackingKey) -> Result<T, HsmError> + Send + 'static,
) -> Result<T, HsmError> {
    let key = key.clone();
    on_session(hsm, move |session| call(session, &key))
}

fn nothing_is_made(hsm: &dyn Hsm, kind: BackingKind) {
    let refusals = on_session(hsm, move |session| {
        let material = software::generate(kind).unwrap_or_else(|| SecretBytes::zeroed(32));
        [
            session.generate_key_pair(kind).map(drop),
            session.generate_data_key_pair(kind).map(drop),
            session.import_key_pair(kind, &material).map(drop),
        ]
    });
    for refusal in refusals {
        assert!(matches!(refusal, Err(HsmError::NotOffered { .. })), "{kind:?}: {refusal:?}");
    }
}

/// The ways in which keys of a kind sign.
fn mechanisms(kind: BackingKind) -> Vec<SigningMechanism> {
    if software::modulus_bits(kind).is_some() {
        let ways = [SigningMechanism::RsaPkcs1, SigningMechanism::RsaPss];
        return DIGESTS.into_iter().flat_map(|digest| ways.map(|way| way(digest))).collect();
    }
    vec![if kind == BackingKind::Ed25519 { SigningMechanism::EdDsa } else { SigningMechanism::Ecdsa }]
}

fn it_signs(hsm: &dyn Hsm, key: &BackingKey, public_key: &[u8]) {
    for mechanism in mechanisms(key.kind) {
        for input in inputs(mechanism) {
            let signature = sign(hsm, key, mechanism, &input).expect("a signature");
            assert!(verifies(key.kind, public_key, mechanism, &input, &signature), "{mechanism:?}");
            let mut other = input.clone();
            other[0] ^= 1;
            assert!(!verifies(key.kind, public_key, mechanism, &other, &signature), "{mechanism:?}");
        }
    }
    let every = [SigningMechanism::Ecdsa, SigningMechanism::EdDsa, SigningMechanism::RsaPss(DIGESTS[0])];
    for mechanism in every.into_iter().filter(|mechanism| !mechanisms(key.kind).contains(mechanism)) {
        let refusal = sign(hsm, key, mechanism, &[7; 32]);
        assert!(matches!(refusal, Err(HsmError::NotOffered { .. })), "{mechanism:?}: {refusal:?}");
    }
}

/// What can be signed in this way: a digest, for ECDSA of any hash; or a message, also of the longest that is
/// allowed.
fn inputs(mechanism: SigningMechanism) -> Vec<Vec<u8>> {
    match mechanism {
        SigningMechanism::RsaPkcs1(digest) | SigningMechanism::RsaPss(digest) => vec![hashed(digest)],
        SigningMechanism::Ecdsa => DIGESTS.map(hashed).into(),
        SigningMechanism::EdDsa => vec![MESSAGE.to_vec(), vec![0x5a; 4096]],
    }
}

fn hashed(digest: DigestAlgorithm) -> Vec<u8> {
    match digest {
        DigestAlgorithm::Sha256 => Sha256::digest(MESSAGE).to_vec(),
        DigestAlgorithm::Sha384 => Sha384::digest(MESSAGE).to_vec(),
        DigestAlgorithm::Sha512 => Sha512::digest(MESSAGE).to_vec(),
    }
}

fn sign(
    hsm: &dyn Hsm,
    key: &BackingKey,
    mechanism: SigningMechanism,
    input: &[u8],
) -> Result<Vec<u8>, HsmError> {
    let input = input.to_vec();
    ask(hsm, key, move |session, key| session.sign(key, mechanism, &input))
}

/// Whether a signature is good, as someone sees it who has the public key only.
fn verifies(
    kind: BackingKind,
    public_key: &[u8],
    mechanism: SigningMechanism,
    input: &[u8],
    signature: &[u8],
) -> bool {
    let verified = match mechanism {
        SigningMechanism::RsaPkcs1(digest) => verify_pkcs1(kind, public_key, digest, input, signature),
        SigningMechanism::RsaPss(digest) => verify_pss(kind, public_key, digest, input, signature),
        SigningMechanism::EdDsa => {
            let key = ed25519_dalek::VerifyingKey::from_public_key_der(public_key).expect("a public key");
            let signature = ed25519_dalek::Signature::try_from(signature).expect("64 bytes");
            key.verify(input, &signature).ok()
        }
        SigningMechanism::Ecdsa => on_curve!(kind, curve => {
            let key = curve::ecdsa::VerifyingKey::from_public_key_der(public_key).expect("a public key");
            let signature = curve::ecdsa::Signature::from_slice(signature).expect("r and s");
            key.verify_prehash(input, &signature.normalize_s()).ok()
        }),
    };
    verified.is_some()
}

fn rsa_key(kind: BackingKind, public_key: &[u8]) -> PublicKey {
    let key = PublicKey::from_public_key_der(public_key).expect("a public key");
    assert_eq!(Some(8 * key.size()), software::modulus_bits(kind));
    key
}

fn verify_pkcs1(
    kind: BackingKind,
    public_key: &[u8],
    digest: DigestAlgorithm,
    input: &[u8],
    signature: &[u8],
) -> Option<()> {
    use rsa::pkcs1v15::{Signature, VerifyingKey};
    let key = rsa_key(kind, public_key);
    assert_eq!(signature.len(), key.size(), "a signature is as long as the modulus");
    let signature = Signature::try_from(signature).expect("a signature");
    let verified = match digest {
        DigestAlgorithm::Sha256 => VerifyingKey::<Sha256>::new(key).verify_prehash(input, &signature),
        DigestAlgorithm::Sha384 => VerifyingKey::<Sha384>::new(key).verify_prehash(input, &signature),
        DigestAlgorithm::Sha512 => VerifyingKey::<Sha512>::new(key).verify_prehash(input, &signature),
    };
    verified.ok()
}

fn verify_pss(
    kind: BackingKind,
    public_key: &[u8],
    digest: DigestAlgorithm,
    input: &[u8],
    signature: &[u8],
) -> Option<()> {
    use rsa::pss::{Signature, VerifyingKey};
    let key = rsa_key(kind, public_key);
    assert_eq!(signature.len(), key.size(), "a signature is as long as the modulus");
    let signature = Signature::try_from(signature).expect("a signature");
    let verified = match digest {
        DigestAlgorithm::Sha256 => VerifyingKey::<Sha256>::new(key).verify_prehash(input, &signature),
        DigestAlgorithm::Sha384 => VerifyingKey::<Sha384>::new(key).verify_prehash(input, &signature),
        DigestAlgorithm::Sha512 => VerifyingKey::<Sha512>::new(key).verify_prehash(input, &signature),
    };
    verified.ok()
}

fn decrypt(hsm: &dyn Hsm, key: &BackingKey, ciphertext: &[u8]) -> Result<SecretBytes, HsmError> {
    let ciphertext = ciphertext.to_vec();
    ask(hsm, key, move |session, key| session.decrypt_rsa(key, &ciphertext))
}

fn it_decrypts(hsm: &dyn Hsm, key: &BackingKey, public_key: &[u8]) {
    if software::modulus_bits(key.kind).is_none() {
        let refusal = decrypt(hsm, key, &[1; 256]).map(drop);
        assert!(matches!(refusal, Err(HsmError::NotOffered { .. })), "{refusal:?}");
        return;
    }
    let public_key = rsa_key(key.kind, public_key);
    let length = public_key.size();
    for zeros in [1, 2, 17] {
        let block = [&vec![0; zeros][..], &vec![0xa5; length - zeros]].concat();
        let number = BoxedUint::from_be_slice(&block, public_key.n_bits_precision()).expect("a number");
        let number = rsa::hazmat::rsa_encrypt(&public_key, &number).expect("less than the modulus");
        let ciphertext = number.to_be_bytes();
        let opened = decrypt(hsm, key, &ciphertext).expect("the block");
        assert_eq!(opened.expose_secret(), block, "the whole block, with its zeros");
    }
    let modulus = public_key.n_bytes();
    for foreign in [&modulus[..], &vec![0xff; length], &modulus[1..], &[], &vec![1; length + 1]] {
        let refusal = decrypt(hsm, key, foreign).map(drop);
        assert_eq!(refusal, Err(HsmError::NotAuthentic), "{} bytes", foreign.len());
        sign(hsm, key, SigningMechanism::RsaPkcs1(DIGESTS[0]), &[7; 32]).expect("the session still works");
    }
}

fn agree(hsm: &dyn Hsm, key: &BackingKey, peer: &[u8]) -> Result<SecretBytes, HsmError> {
    let peer = peer.to_vec();
    ask(hsm, key, move |session, key| session.agree(key, &peer))
}

fn it_agrees(hsm: &dyn Hsm, key: &BackingKey, public_key: &[u8]) {
    let Some((peers, bad_points)) = agreements(key.kind, public_key) else {
        let refusal = agree(hsm, key, &[4; 65]).map(drop);
        assert!(matches!(refusal, Err(HsmError::NotOffered { .. })), "{refusal:?}");
        return;
    };
    for (peer, expected) in peers {
        let agreed = agree(hsm, key, &peer).expect("a shared secret");
        assert_eq!(agreed.expose_secret(), expected, "the x coordinate, with its zeros");
    }
    for point in bad_points {
        let refusal = agree(hsm, key, &point).map(drop);
        assert!(matches!(refusal, Err(HsmError::InvalidMaterial { .. })), "{refusal:?}");
    }
}

/// A peer's point and what it agrees on with the owner of a public key, as the peer finds it.
type Agreement = (Vec<u8>, Vec<u8>);

/// Peers of a key on a curve; and points that are none.
fn agreements(kind: BackingKind, public_key: &[u8]) -> Option<(Vec<Agreement>, Vec<Vec<u8>>)> {
    on_curve!(kind, curve => {
        let owner = curve::PublicKey::from_public_key_der(public_key).expect("a public key");
        let peers = [1_u8, 2, 3, 0xa5].map(|byte| {
            let width = if kind == BackingKind::EcP384 { 48 } else { 32 };
            let peer = curve::SecretKey::from_slice(&vec![byte; width]).expect("a scalar");
            let shared = (owner.to_projective() * *peer.to_nonzero_scalar()).to_affine();
            let point = peer.public_key().to_sec1_point(false);
            (point.as_bytes().to_vec(), shared.x().to_vec())
        });
        let point = &peers[0].0;
        let mut elsewhere = point.clone();
        elsewhere[1] ^= 1;
        let compressed = owner.to_sec1_point(true).as_bytes().to_vec();
        let bad = vec![elsewhere, compressed, point[..point.len() - 1].to_vec(), vec![0], Vec::new(), vec![4]];
        Some((peers.into(), bad))
    })
}

fn assert_signs(hsm: &dyn Hsm, key: &BackingKey, public_key: &[u8]) {
    let mechanism = mechanisms(key.kind)[0];
    let input = &inputs(mechanism)[0];
    let signature = sign(hsm, key, mechanism, input).expect("a signature");
    assert!(verifies(key.kind, public_key, mechanism, input, &signature), "it is another key");
}

fn it_moves_and_loads_again(hsm: &dyn Hsm, key: &BackingKey, public_key: &[u8]) {
    let again = BackingKey { wrapped: rewrap(hsm, key).expect("a wrapped key"), ..key.clone() };
    for key in [&again, key, &again] {
        assert_signs(hsm, key, public_key);
        hsm.evict(key.material);
        assert_signs(hsm, key, public_key);
    }
}

fn what_is_altered_is_refused(hsm: &dyn Hsm, key: &BackingKey) {
    let blob = &key.wrapped.blob;
    let mechanism = mechanisms(key.kind)[0];
    let input = inputs(mechanism).remove(0);
    let flipped = (0..blob.len()).step_by(blob.len() / 7).map(|place| {
        let mut altered = blob.clone();
        altered[place] ^= 0x01;
        altered
    });
    let cut = [blob[..blob.len() - 8].to_vec(), blob[..1].to_vec(), Vec::new()];
    for altered in flipped.chain(cut) {
        let wrapped = WrappedKey { blob: altered, ..key.wrapped };
        let altered = BackingKey { wrapped, ..key.clone() };
        let refusal = sign(hsm, &altered, mechanism, &input);
        assert!(matches!(refusal, Err(HsmError::WrappedKeyRefused { .. })), "{refusal:?}");
        let refusal = rewrap(hsm, &altered);
        assert!(matches!(refusal, Err(HsmError::WrappedKeyRefused { .. })), "{refusal:?}");
        sign(hsm, key, mechanism, &input).expect("the session still works");
    }
}

fn what_is_no_pair_is_refused(hsm: &dyn Hsm, key: &BackingKey) {
    let kind = key.kind;
    let secret = on_session(hsm, |session| session.generate_backing_key(BackingKind::Mac)).expect("a key");
    let as_pair = BackingKey { wrapped: secret.clone(), material: new_material(), ..key.clone() };
    let mechanism = mechanisms(kind)[0];
    let input = inputs(mechanism).remove(0);
    let refusal = sign(hsm, &as_pair, mechanism, &input);
    assert!(matches!(refusal, Err(HsmError::WrappedKeyRefused { .. })), "{refusal:?}");
    let as_secret = BackingKey { kind: BackingKind::Mac, wrapped: secret, ..as_pair };
    let refusal = sign(hsm, &as_secret, mechanism, &input);
    assert!(matches!(refusal, Err(HsmError::NotOffered { .. })), "{refusal:?}");
    let refusal = ask(hsm, key, |session, key| session.keyed_hash(key, b"input"));
    assert!(matches!(refusal, Err(HsmError::NotOffered { .. })), "{refusal:?}");
    let refusals = on_session(hsm, move |session| {
        let material = SecretBytes::zeroed(32);
        [session.generate_backing_key(kind), session.import_backing_key(kind, &material)]
    });
    for refusal in refusals {
        assert!(matches!(refusal, Err(HsmError::NotOffered { .. })), "{refusal:?}");
    }
}

fn import(hsm: &dyn Hsm, kind: BackingKind, private_key: &[u8]) -> Result<KeyPair, HsmError> {
    let private_key = SecretBytes::new(private_key.to_vec());
    on_session(hsm, move |session| session.import_key_pair(kind, &private_key))
}

fn what_is_given_out_can_be_brought_back(hsm: &dyn Hsm, kind: BackingKind, other: &[u8]) {
    let (private_key, public_key) =
        on_session(hsm, move |session| session.generate_data_key_pair(kind)).expect("a data key pair");
    let private_key = private_key.expose_secret();
    assert_eq!(software::public_key(kind, private_key).as_ref(), Some(&public_key), "its halves belong");
    if software::modulus_bits(kind).is_none() {
        assert_ne!(public_key, other, "two pairs are the same");
    }
    let pair = import(hsm, kind, private_key).expect("a key pair");
    assert_eq!(pair.public_key, public_key);
    assert_signs(hsm, &named(kind, &pair), &public_key);
    let foreign = software::generate(another(kind)).expect("a key pair");
    let mut malformed = private_key.to_vec();
    malformed[1] ^= 1;
    let cut = &private_key[..private_key.len() / 2];
    for refused in [foreign.expose_secret(), &malformed, cut, b"", &[0x30; 64]] {
        let refusal = import(hsm, kind, refused);
        assert!(matches!(refusal, Err(HsmError::InvalidMaterial { .. })), "{refusal:?}");
    }
    assert_signs(hsm, &named(kind, &pair), &public_key);
}

/// A kind that is easily taken for this one.
fn another(kind: BackingKind) -> BackingKind {
    match kind {
        BackingKind::EcP256 => BackingKind::EcSecp256k1,
        _ => BackingKind::EcP256,
    }
}

/// Checks that HMAC keys of `kind` compute what software computes, made or brought.
///
/// # Panics
/// At the first promise that `hsm` breaks.
pub fn keyed_hash_contract(hsm: &dyn Hsm, kind: BackingKind) {
    let hash: fn(&[u8], &[u8]) -> Vec<u8> = match kind {
        BackingKind::HmacSha256 => hmac::<Sha256>,
        BackingKind::HmacSha384 => hmac::<Sha384>,
        _ => hmac::<Sha512>,
    };
    let length = hash(b"", b"").len();
    assert_eq!(on_session(hsm, move |session| session.offers(kind)), Ok(true));
    let material: Vec<u8> = (1..).take(length).collect();
    let brought = import_secret(hsm, kind, &material).expect("a key");
    for input in [&b""[..], b"input", &[0x5a; 4096]] {
        assert_eq!(keyed_hash(hsm, &brought, input).expect("an HMAC"), hash(&material, input));
    }
    let moved = BackingKey { wrapped: rewrap(hsm, &brought).expect("a wrapped key"), ..brought.clone() };
    assert_eq!(keyed_hash(hsm, &moved, b"input").expect("an HMAC"), hash(&material, b"input"));
    let made = new_secret(hsm, kind);
    let computed = keyed_hash(hsm, &made, b"input").expect("an HMAC");
    assert_eq!(computed.len(), length);
    assert_ne!(computed, keyed_hash(hsm, &new_secret(hsm, kind), b"input").expect("an HMAC"));
    for kind in [BackingKind::Mac, BackingKind::Aes256] {
        let refusal = keyed_hash(hsm, &new_secret(hsm, kind), b"input");
        assert!(matches!(refusal, Err(HsmError::NotOffered { .. })), "{refusal:?}");
    }
    wrong_lengths_are_refused(hsm, kind, length);
}

fn new_secret(hsm: &dyn Hsm, kind: BackingKind) -> BackingKey {
    let wrapped = on_session(hsm, move |session| session.generate_backing_key(kind)).expect("a key");
    BackingKey { material: new_material(), version: 1, kind, wrapped }
}

fn import_secret(hsm: &dyn Hsm, kind: BackingKind, material: &[u8]) -> Result<BackingKey, HsmError> {
    let material = SecretBytes::new(material.to_vec());
    let wrapped = on_session(hsm, move |session| session.import_backing_key(kind, &material))?;
    Ok(BackingKey { material: new_material(), version: 1, kind, wrapped })
}

fn keyed_hash(hsm: &dyn Hsm, key: &BackingKey, input: &[u8]) -> Result<Vec<u8>, HsmError> {
    let input = input.to_vec();
    ask(hsm, key, move |session, key| session.keyed_hash(key, &input))
}

fn wrong_lengths_are_refused(hsm: &dyn Hsm, kind: BackingKind, length: usize) {
    for wrong in [0, 1, length - 1, length + 1, 2 * length] {
        let refusal = import_secret(hsm, kind, &vec![7; wrong]).map(drop);
        assert!(matches!(refusal, Err(HsmError::InvalidMaterial { .. })), "{wrong} bytes: {refusal:?}");
    }
}

/// Checks that AES-256 keys that are brought seal as software seals with them, and that the others that derive
/// compute what software computes.
///
/// # Panics
/// At the first promise that `hsm` breaks.
pub fn import_contract(hsm: &dyn Hsm) {
    let material = [0x3c; 32];
    let key = import_secret(hsm, BackingKind::Aes256, &material).expect("a key");
    let payload = Payload { msg: b"plaintext", aad: b"context" };
    let expected = Aes256Gcm::new((&material).into()).encrypt(&[3; 12].into(), payload).expect("sealed");
    let sealed = ask(hsm, &key, |session, key| session.seal(key, &[3; 12], b"context", b"plaintext"));
    assert_eq!(sealed, Ok(expected));
    wrong_lengths_are_refused(hsm, BackingKind::Aes256, material.len());
    let key = import_secret(hsm, BackingKind::Mac, &material).expect("a key");
    let mac = ask(hsm, &key, |session, key| session.mac(key, b"input")).expect("a MAC");
    assert_eq!(mac.to_vec(), hmac::<Sha256>(&material, b"input"));
    wrong_lengths_are_refused(hsm, BackingKind::Mac, material.len());
}
