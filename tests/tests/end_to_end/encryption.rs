//! Small data to and from key pairs: openssl encrypts what the service opens, and nothing else opens.

use dewpoint_tests::{Clients, Dev, Openssl, by_id, check_log, malformed_field, reason};
use kms_proto::v1::{
    CreateKeyRequest, DecryptDataRequest, EncryptDataRequest,
    EncryptionAlgorithm::{self, RsaesOaepSha1, RsaesOaepSha256, Sm2Encrypt, SymmetricDefault},
    GetPublicKeyRequest, KeyReference, KeySpec, KeyUsage,
    encryption_service_client::EncryptionServiceClient,
};
use tonic::{Status, transport::Channel};

const MESSAGE: &[u8] = b"between us";

fn service(clients: &Clients) -> EncryptionServiceClient<Channel> {
    EncryptionServiceClient::new(clients.channel.clone())
}

/// A key that decrypts, and openssl with its public half as `key.pem`.
async fn create(clients: &mut Clients, spec: KeySpec) -> (String, Openssl) {
    let (alias, key_spec) = (spec.as_str_name().to_owned(), spec.into());
    let key_usage = KeyUsage::EncryptDecrypt.into();
    let request = CreateKeyRequest { alias, key_spec, key_usage, ..CreateKeyRequest::default() };
    let key = clients.keys.create_key(request).await.expect("made").into_inner().key.expect("a key");
    let request = GetPublicKeyRequest { key: by_id(&key.key_id) };
    let public = clients.signing.get_public_key(request).await.expect("a key pair").into_inner();
    let openssl = Openssl::default();
    openssl.write("key.pem", public.public_key_pem);
    (key.key_id, openssl)
}

async fn encrypt(
    clients: &Clients,
    key_id: &str,
    algorithm: EncryptionAlgorithm,
    plaintext: &[u8],
) -> Result<Vec<u8>, Status> {
    let (key, plaintext) = (by_id(key_id), plaintext.to_vec().into());
    let request = EncryptDataRequest { key, plaintext, algorithm: algorithm.into(), ..Default::default() };
    Ok(service(clients).encrypt_data(request).await?.into_inner().ciphertext_blob.into())
}

async fn decrypt(
    clients: &Clients,
    key: Option<KeyReference>,
    algorithm: EncryptionAlgorithm,
    ciphertext: &[u8],
) -> Result<Vec<u8>, Status> {
    let ciphertext_blob = ciphertext.to_vec().into();
    let request =
        DecryptDataRequest { key, ciphertext_blob, algorithm: algorithm.into(), ..Default::default() };
    Ok(service(clients).decrypt_data(request).await?.into_inner().plaintext.into())
}

/// Checks that what openssl's command encrypts opens, also the service's own, and nothing that is altered.
async fn prove(
    clients: &Clients,
    (key_id, openssl): &(String, Openssl),
    algorithm: EncryptionAlgorithm,
    command: &str,
    message: &[u8],
) {
    openssl.write("message", message);
    let theirs = openssl.run(&format!("pkeyutl -encrypt -pubin -inkey key.pem -in message{command}"));
    let ours = match algorithm {
        RsaesOaepSha1 => theirs.clone(),
        _ => encrypt(clients, key_id, algorithm, message).await.expect("short enough"),
    };
    for ciphertext in [ours, theirs] {
        let opened = decrypt(clients, by_id(key_id), algorithm, &ciphertext).await.expect("opens");
        assert_eq!(opened, message, "{algorithm:?}");
        for place in [0, ciphertext.len() / 2, ciphertext.len() - 1] {
            let mut altered = ciphertext.clone();
            altered[place] ^= 1;
            let refused = decrypt(clients, by_id(key_id), algorithm, &altered).await.expect_err("altered");
            assert_eq!(reason(&refused), "CANNOT_DECRYPT", "{algorithm:?}, byte {place}");
        }
        let cut = decrypt(clients, by_id(key_id), algorithm, &ciphertext[1..]).await.expect_err("cut");
        assert_eq!(reason(&cut), "CANNOT_DECRYPT");
        let nameless = decrypt(clients, None, algorithm, &ciphertext).await;
        assert_eq!(malformed_field(nameless), "key");
        let other = decrypt(clients, by_id(key_id), SymmetricDefault, &[9; 256]).await;
        assert_eq!(malformed_field(other), "ciphertext_blob");
    }
}

/// A new key of this kind opens what openssl encrypts with OAEP: up to `longest` bytes, and nothing else.
async fn prove_oaep(admin: &mut Clients, spec: KeySpec, longest: usize) {
    const OAEP: &str = " -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:";
    let key = create(admin, spec).await;
    for message in [&MESSAGE[..1], MESSAGE, &vec![7; longest]] {
        prove(admin, &key, RsaesOaepSha256, &format!("{OAEP}sha256"), message).await;
    }
    prove(admin, &key, RsaesOaepSha1, &format!("{OAEP}sha1"), MESSAGE).await;
    // Another hash's padding, or none of OAEP at all.
    key.1.write("message", MESSAGE);
    for options in [&format!("{OAEP}sha1")[..], " -pkeyopt rsa_padding_mode:pkcs1"] {
        let foreign = key.1.run(&format!("pkeyutl -encrypt -pubin -inkey key.pem -in message{options}"));
        let refused = decrypt(admin, by_id(&key.0), RsaesOaepSha256, &foreign).await.expect_err("foreign");
        assert_eq!(reason(&refused), "CANNOT_DECRYPT");
    }
    for (algorithm, length, field) in
        [(RsaesOaepSha256, longest + 1, "plaintext"), (RsaesOaepSha1, 1, "algorithm")]
    {
        assert_eq!(malformed_field(encrypt(admin, &key.0, algorithm, &vec![7; length]).await), field);
    }
    let other = encrypt(admin, &key.0, Sm2Encrypt, MESSAGE).await.expect_err("an RSA key");
    assert_eq!(reason(&other), "ALGORITHM_MISMATCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_oaep_is_openssls() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    // RFC 8017 §7.1.1: the padding takes two digests and two bytes.
    for (spec, longest) in [(KeySpec::Rsa2048, 190), (KeySpec::Rsa3072, 318), (KeySpec::Rsa4096, 446)] {
        prove_oaep(&mut admin, spec, longest).await;
    }
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn sm2_encryption_is_openssls() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let key = create(&mut admin, KeySpec::Sm2).await;
    for message in [&MESSAGE[..1], MESSAGE, &[7; 4096]] {
        prove(&admin, &key, Sm2Encrypt, "", message).await;
    }
    check_log(dev.directory());
}
