//! Operations of keys that do not seal, and of keys whose material is imported: each in a form that tables can hold.

use std::convert::Infallible;

use kms_core::{
    crypto::{AgreementAlgorithm, MacAlgorithm, MessageType, SigningAlgorithm},
    key::{KeyId, KeyOrigin, KeySpec, KeyUsage},
    ops::{
        CreateKey, DeleteImportedKeyMaterial, DeriveSharedSecret, GenerateMac, GetParametersForImport,
        GetPublicKey, ImportKeyMaterial, ImportParameters, KeySelector, Sign, Verify, VerifyMac,
        WrappingAlgorithm,
    },
    ports::DigestAlgorithm,
};
use rsa::{
    Oaep, PublicKey,
    pkcs8::DecodePublicKey as _,
    rand_core::{TryCryptoRng, TryRng},
    sha2::Sha256,
};

use super::{Attempt, World, create, owner};

/// The kinds of keys that have the operations of [`other_attempts`].
pub(crate) const OTHER_KINDS: [(KeySpec, KeyUsage); 3] = [
    (KeySpec::EcP256, KeyUsage::SignVerify),
    (KeySpec::EcP256, KeyUsage::KeyAgreement),
    (KeySpec::Hmac256, KeyUsage::GenerateVerifyMac),
];

/// What is imported.
const MATERIAL: [u8; 32] = [0x17; 32];

/// A key of such a kind.
pub(crate) fn other_key(
    world: &World,
    (spec, usage): (KeySpec, KeyUsage),
    origin: KeyOrigin,
    alias: &str,
) -> KeyId {
    let key = CreateKey { spec, usage: Some(usage), origin, ..create(alias) };
    world.run(&owner(), key).expect("nothing is in the way").id
}

/// The operations of a key for this usage, in a form in which its owner succeeds with each while it is enabled.
pub(crate) fn other_attempts(world: &World, key_id: KeyId, usage: KeyUsage) -> Vec<Attempt> {
    let (key, message) = (KeySelector::Id(key_id), b"a message".to_vec());
    match usage {
        KeyUsage::SignVerify => {
            let (algorithm, raw) = (SigningAlgorithm::Ecdsa(DigestAlgorithm::Sha256), MessageType::Raw);
            let sign = Sign::new(key.clone(), algorithm, raw, message.clone()).expect("well-formed");
            let verify = Verify::new(key.clone(), algorithm, raw, message, vec![1; 70]).expect("well-formed");
            vec![Attempt::of(sign), Attempt::of(verify), Attempt::of(GetPublicKey { key })]
        }
        KeyUsage::KeyAgreement => {
            let peer =
                CreateKey { spec: KeySpec::EcP256, usage: Some(KeyUsage::KeyAgreement), ..create("peer") };
            let peer = KeySelector::Id(world.run(&owner(), peer).expect("nothing is in the way").id);
            let public_key = world.run(&owner(), GetPublicKey { key: peer }).expect("a key pair").der;
            vec![Attempt::of(DeriveSharedSecret { key, algorithm: AgreementAlgorithm::Ecdh, public_key })]
        }
        KeyUsage::GenerateVerifyMac => {
            let algorithm = MacAlgorithm::HmacSha256;
            let generate = GenerateMac::new(key.clone(), algorithm, message.clone()).expect("well-formed");
            let verify = VerifyMac::new(key, algorithm, message, vec![1; 32]).expect("well-formed");
            vec![Attempt::of(generate), Attempt::of(verify)]
        }
        KeyUsage::EncryptDecrypt => Vec::new(),
    }
}

fn import_parameters(world: &World, key_id: KeyId) -> ImportParameters {
    let asked = GetParametersForImport { key: key_id.into(), algorithm: WrappingAlgorithm::RsaesOaepSha256 };
    world.run(&owner(), asked).expect("it waits for material")
}

/// An import of 32 bytes, always the same, as the party that has them does it.
pub(crate) fn import_of(world: &World, key_id: KeyId) -> ImportKeyMaterial {
    import_of_material(world, key_id, &MATERIAL)
}

/// The same of other bytes.
pub(crate) fn import_of_material(world: &World, key_id: KeyId, material: &[u8]) -> ImportKeyMaterial {
    let given = import_parameters(world, key_id);
    let wrapped_material = wrap(&given, material);
    ImportKeyMaterial {
        key: key_id.into(),
        token: given.token,
        wrapped_material,
        wrapped_private_key: None,
        expires: None,
    }
}

/// 32 bytes of material, always the same, for this import.
pub(crate) fn wrapped_material(given: &ImportParameters) -> Vec<u8> {
    wrap(given, &MATERIAL)
}

fn wrap(given: &ImportParameters, material: &[u8]) -> Vec<u8> {
    let wrapping = PublicKey::from_public_key_der(&given.public_key).expect("an RSA key");
    wrapping.encrypt(&mut Seed, Oaep::<Sha256>::new(), material).expect("short")
}

/// A key whose material is imported, with or without it, and the operations that only such keys have.
pub(crate) fn external_attempts(world: &World, has_material: bool) -> (KeyId, Vec<Attempt>) {
    let key = CreateKey { origin: KeyOrigin::External, ..create("external") };
    let key_id = world.run(&owner(), key).expect("nothing is in the way").id;
    let import = import_of(world, key_id);
    if has_material {
        world.run(&owner(), import.clone()).expect("it waits for material");
    }
    (key_id, import_attempts(key_id, import))
}

/// Operations that only keys have whose material is imported.
pub(crate) fn import_attempts(key_id: KeyId, import: ImportKeyMaterial) -> Vec<Attempt> {
    let parameters =
        GetParametersForImport { key: key_id.into(), algorithm: WrappingAlgorithm::RsaesOaepSha256 };
    let delete = DeleteImportedKeyMaterial { key: key_id.into() };
    vec![Attempt::of(parameters), Attempt::of(import), Attempt::of(delete)]
}

/// The seed of OAEP: any will do.
struct Seed;

impl TryRng for Seed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0x5a5a_5a5a)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(0x5a5a_5a5a_5a5a_5a5a)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(0x5a);
        Ok(())
    }
}

impl TryCryptoRng for Seed {}
