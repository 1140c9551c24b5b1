//! Signatures, MACs and shared secrets over gRPC, each proved against openssl.

use dewpoint_tests::{Clients, Dev, Module, Openssl, by_id, check_log};
use kms_proto::v1::{
    CipherPlace, CreateKeyRequest, DeriveSharedSecretRequest, GenerateMacRequest,
    GetParametersForImportRequest, GetPublicKeyRequest, GetPublicKeyResponse, ImportKeyMaterialRequest, Key,
    KeyOrigin, KeySpec, KeyUsage, MacAlgorithm, MessageType, SignRequest,
    SigningAlgorithm::{self, *},
    VerifyMacRequest, VerifyRequest,
    import_service_client::ImportServiceClient,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

const MESSAGE: &[u8] = b"what was agreed on";
const DIGEST_OF_SM2: [u8; 32] = [0x5d; 32];

async fn create(clients: &mut Clients, spec: KeySpec, usage: KeyUsage) -> Key {
    let alias = format!("{}-{}", spec.as_str_name(), usage.as_str_name());
    let (key_spec, key_usage) = (spec.into(), usage.into());
    let request = CreateKeyRequest { alias, key_spec, key_usage, ..CreateKeyRequest::default() };
    clients.keys.create_key(request).await.expect("made").into_inner().key.expect("a key")
}

async fn public_key(clients: &mut Clients, key_id: &str) -> GetPublicKeyResponse {
    let request = GetPublicKeyRequest { key: by_id(key_id) };
    clients.signing.get_public_key(request).await.expect("a key pair").into_inner()
}

/// A key that signs, and openssl with its public half as `key.pem`.
struct Signer {
    clients: Clients,
    key_id: String,
    openssl: Openssl,
}

impl Signer {
    async fn new(clients: &mut Clients, spec: KeySpec, place: CipherPlace) -> Self {
        let key_id = create(clients, spec, KeyUsage::SignVerify).await.key_id;
        let described = clients.describe(by_id(&key_id)).await.expect("it exists");
        assert_eq!(described.protection.expect("it has material").cipher(), place, "{spec:?}");
        let (mut clients, openssl) = (clients.clone(), Openssl::default());
        let public = public_key(&mut clients, &key_id).await;
        openssl.write("key.pem", public.public_key_pem);
        openssl.run("pkey -pubin -in key.pem -outform DER -out key.der");
        assert_eq!(openssl.read("key.der"), public.public_key_der, "{spec:?}");
        Self { clients, key_id, openssl }
    }

    async fn sign(&mut self, algorithm: SigningAlgorithm, kind: MessageType, message: &[u8]) -> Vec<u8> {
        let (key, message) = (by_id(&self.key_id), message.to_vec().into());
        let request = SignRequest { key, algorithm: algorithm.into(), message_type: kind.into(), message };
        self.clients.signing.sign(request).await.expect("signs").into_inner().signature.to_vec()
    }

    async fn valid(
        &mut self,
        algorithm: SigningAlgorithm,
        kind: MessageType,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let request = VerifyRequest {
            key: by_id(&self.key_id),
            algorithm: algorithm.into(),
            message_type: kind.into(),
            message: message.to_vec().into(),
            signature: signature.to_vec().into(),
        };
        self.clients.signing.verify(request).await.expect("an answer").into_inner().valid
    }

    /// Signs `message`; the service and openssl's `command` have to agree on that signature, on an altered one, and
    /// on another message. The command finds the key, the signature and what was signed in its directory.
    async fn prove(&mut self, algorithm: SigningAlgorithm, kind: MessageType, message: &[u8], command: &str) {
        let signature = self.sign(algorithm, kind, message).await;
        let mut altered = signature.clone();
        *altered.last_mut().expect("not empty") ^= 1;
        let mut other = message.to_vec();
        other[0] ^= 1;
        for (message, signature, valid) in
            [(message, &signature, true), (message, &altered, false), (&other[..], &signature, false)]
        {
            assert_eq!(self.valid(algorithm, kind, message, signature).await, valid, "{algorithm:?}");
            self.openssl.write("signature", signature);
            self.openssl.write("signed", message);
            assert_eq!(self.openssl.verifies(command), valid, "{algorithm:?}, {kind:?}: {command}");
        }
    }
}

/// Signs the message and its digest: openssl has to verify both as signatures of the message.
async fn prove_digests(signer: &mut Signer, algorithms: [SigningAlgorithm; 3], options: &str) {
    for (algorithm, hash) in algorithms.into_iter().zip(["sha256", "sha384", "sha512"]) {
        let command = format!("dgst -{hash} -verify key.pem {options}-signature signature signed");
        signer.prove(algorithm, MessageType::Raw, MESSAGE, &command).await;
        let digest = match hash {
            "sha256" => Sha256::digest(MESSAGE).to_vec(),
            "sha384" => Sha384::digest(MESSAGE).to_vec(),
            _ => Sha512::digest(MESSAGE).to_vec(),
        };
        let signature = signer.sign(algorithm, MessageType::Digest, &digest).await;
        assert!(signer.valid(algorithm, MessageType::Raw, MESSAGE, &signature).await, "{algorithm:?}");
        signer.openssl.write("signature", &signature);
        signer.openssl.write("signed", MESSAGE);
        assert!(signer.openssl.verifies(&command), "{algorithm:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_signatures_are_openssls() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    for spec in [KeySpec::Rsa2048, KeySpec::Rsa3072, KeySpec::Rsa4096] {
        let mut signer = Signer::new(&mut admin, spec, CipherPlace::Hsm).await;
        let pkcs1 = [RsassaPkcs1V15Sha256, RsassaPkcs1V15Sha384, RsassaPkcs1V15Sha512];
        prove_digests(&mut signer, pkcs1, "").await;
        let options = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest ";
        prove_digests(&mut signer, [RsassaPssSha256, RsassaPssSha384, RsassaPssSha512], options).await;
    }
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn ecdsa_signatures_are_openssls() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    for spec in [KeySpec::EcP256, KeySpec::EcP384, KeySpec::Secp256k1] {
        // Kryoptic does not know secp256k1 (docs/hsm.md).
        let place = match (Module::chosen(), spec) {
            (Module::Kryoptic, KeySpec::Secp256k1) => CipherPlace::ServiceOpened,
            _ => CipherPlace::Hsm,
        };
        let mut signer = Signer::new(&mut admin, spec, place).await;
        prove_digests(&mut signer, [EcdsaSha256, EcdsaSha384, EcdsaSha512], "").await;
    }
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn sm2_and_ed25519_signatures_are_openssls() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let mut sm2 = Signer::new(&mut admin, KeySpec::Sm2, CipherPlace::ServiceOpened).await;
    let command = "dgst -sm3 -verify key.pem -sigopt distid:1234567812345678 -signature signature signed";
    sm2.prove(Sm2dsaSm3, MessageType::Raw, MESSAGE, command).await;
    // Without a digest, openssl takes what is signed for SM3(Z || M).
    let command = "pkeyutl -verify -pubin -inkey key.pem -in signed -sigfile signature";
    sm2.prove(Sm2dsaSm3, MessageType::Digest, &DIGEST_OF_SM2, command).await;

    let mut edwards = Signer::new(&mut admin, KeySpec::Ed25519, CipherPlace::ServiceOpened).await;
    let command = "pkeyutl -verify -pubin -inkey key.pem -rawin -in signed -sigfile signature";
    edwards.prove(Ed25519Sha512, MessageType::Raw, MESSAGE, command).await;
    // This openssl has no Ed25519ph; that it is that of RFC 8032 is a vector's to prove.
    let digest = Sha512::digest(MESSAGE);
    let signature = edwards.sign(Ed25519PhSha512, MessageType::Digest, &digest).await;
    assert!(edwards.valid(Ed25519PhSha512, MessageType::Raw, MESSAGE, &signature).await);
    assert!(!edwards.valid(Ed25519Sha512, MessageType::Raw, MESSAGE, &signature).await);
    check_log(dev.directory());
}

async fn derive(clients: &mut Clients, key_id: &str, peer: Vec<u8>) -> Vec<u8> {
    let request =
        DeriveSharedSecretRequest { key: by_id(key_id), public_key: peer.into(), ..Default::default() };
    let answer = clients.signing.derive_shared_secret(request).await.expect("agrees");
    answer.into_inner().shared_secret.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_secrets_are_openssls() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    for (spec, curve) in
        [(KeySpec::EcP256, "prime256v1"), (KeySpec::EcP384, "secp384r1"), (KeySpec::Secp256k1, "secp256k1")]
    {
        let key_id = create(&mut admin, spec, KeyUsage::KeyAgreement).await.key_id;
        let openssl = Openssl::default();
        openssl.write("ours.pem", public_key(&mut admin, &key_id).await.public_key_pem);
        openssl.run(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out theirs.pem"));
        let theirs = openssl.run("pkey -in theirs.pem -pubout -outform DER");
        let expected = openssl.run("pkeyutl -derive -inkey theirs.pem -peerkey ours.pem");
        assert_eq!(derive(&mut admin, &key_id, theirs).await, expected, "{spec:?}");
    }
    // openssl agrees with no SM2 key. With a peer whose private key is 1, ours is multiplied with the generator: the
    // secret is the x coordinate of our own public key.
    let key_id = create(&mut admin, KeySpec::Sm2, KeyUsage::KeyAgreement).await.key_id;
    let ours = public_key(&mut admin, &key_id).await.public_key_der;
    let (head, point) = ours.split_at(ours.len() - 64);
    let generator = Openssl::default().run("ecparam -name SM2 -param_enc explicit -outform DER");
    // The generator is the only value of 65 bytes.
    let at = generator.windows(3).position(|header| header == [0x04, 0x41, 0x04]).expect("a point") + 3;
    let peer = [head, &generator[at..at + 64]].concat();
    assert_eq!(derive(&mut admin, &key_id, peer).await, point[..32]);
    check_log(dev.directory());
}

/// Gives a key that waits for it this material, wrapped by openssl.
async fn import(clients: &Clients, key_id: &str, material: &[u8]) {
    let mut importer = ImportServiceClient::new(clients.channel.clone());
    let (key_id, wrapping_algorithm) = (key_id.to_owned(), "RSAES_OAEP_SHA_256".to_owned());
    let request = GetParametersForImportRequest { key_id: key_id.clone(), wrapping_algorithm };
    let given = importer.get_parameters_for_import(request).await.expect("it waits").into_inner();
    let openssl = Openssl::default();
    openssl.write("key.der", given.public_key);
    openssl.write("material", material);
    let command = "pkeyutl -encrypt -pubin -keyform DER -inkey key.der -in material \
        -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256";
    let wrapped_material = openssl.run(command).into();
    let import_token = given.import_token;
    let request = ImportKeyMaterialRequest { key_id, import_token, wrapped_material, ..Default::default() };
    importer.import_key_material(request).await.expect("it fits");
}

async fn mac_is_valid(clients: &mut Clients, key_id: &str, algorithm: MacAlgorithm, mac: &[u8]) -> bool {
    let request = VerifyMacRequest {
        key: by_id(key_id),
        algorithm: algorithm.into(),
        message: MESSAGE.into(),
        mac: mac.to_vec().into(),
    };
    clients.signing.verify_mac(request).await.expect("an answer").into_inner().valid
}

/// The MAC of the message; the service has to recognise it, and no altered one.
async fn mac(clients: &mut Clients, key_id: &str, algorithm: MacAlgorithm) -> Vec<u8> {
    let (key, message) = (by_id(key_id), MESSAGE.into());
    let request = GenerateMacRequest { key, algorithm: algorithm.into(), message };
    let made = clients.signing.generate_mac(request).await.expect("a MAC").into_inner().mac.to_vec();
    assert!(mac_is_valid(clients, key_id, algorithm, &made).await, "{algorithm:?}");
    let mut altered = made.clone();
    altered[0] ^= 1;
    for wrong in [&altered, &made[1..]] {
        assert!(!mac_is_valid(clients, key_id, algorithm, wrong).await, "{algorithm:?}");
    }
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn macs_are_openssls() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    for (spec, algorithm, hash, length, place) in [
        (KeySpec::Hmac256, MacAlgorithm::HmacSha256, "sha256", 32, CipherPlace::Hsm),
        (KeySpec::Hmac384, MacAlgorithm::HmacSha384, "sha384", 48, CipherPlace::Hsm),
        (KeySpec::Hmac512, MacAlgorithm::HmacSha512, "sha512", 64, CipherPlace::Hsm),
        (KeySpec::HmacSm3, MacAlgorithm::HmacSm3, "sm3", 32, CipherPlace::ServiceOpened),
    ] {
        let own = create(&mut admin, spec, KeyUsage::GenerateVerifyMac).await;
        assert_eq!(own.protection.expect("it has material").cipher(), place, "{spec:?}");
        assert_eq!(mac(&mut admin, &own.key_id, algorithm).await.len(), length);
        // Of a key from outside, openssl can make the MAC, too.
        let request = CreateKeyRequest {
            alias: hash.to_owned(),
            key_spec: spec.into(),
            key_usage: KeyUsage::GenerateVerifyMac.into(),
            origin: KeyOrigin::External.into(),
            ..CreateKeyRequest::default()
        };
        let known =
            admin.keys.create_key(request).await.expect("made").into_inner().key.expect("a key").key_id;
        let material = vec![0xa7; length];
        import(&admin, &known, &material).await;
        let openssl = Openssl::default();
        openssl.write("message", MESSAGE);
        let material = hex::encode(material);
        let command = format!("dgst -{hash} -mac HMAC -macopt hexkey:{material} -binary message");
        assert_eq!(mac(&mut admin, &known, algorithm).await, openssl.run(&command), "{spec:?}");
    }
    check_log(dev.directory());
}
