//! Key material that openssl makes and wraps, as a user would: imported, used, deleted, and imported again.

use std::time::{Duration, SystemTime};

use dewpoint_tests::{
    Clients, Context, Dev, DevOptions, Openssl, by_id, check_log, eventually, malformed_field, reason,
};
use kms_proto::v1::{
    AdvanceRequest, CreateKeyRequest, DecryptDataKeyRequest, DecryptDataRequest,
    DeleteImportedKeyMaterialRequest, EncryptDataRequest, EncryptionAlgorithm, GetParametersForImportRequest,
    GetParametersForImportResponse, GetPublicKeyRequest, ImportKeyMaterialRequest, Key, KeyOrigin, KeySpec,
    KeyState, KeyUsage, MessageType, NowRequest, SignRequest, SigningAlgorithm,
    encryption_service_client::EncryptionServiceClient, import_service_client::ImportServiceClient,
};
use tonic::{Status, transport::Channel};

const MESSAGE: &[u8] = b"from outside";
const OAEP_SHA_256: &str = "RSAES_OAEP_SHA_256";
const OAEP: &str = "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 ";
const TEMPORARY: [u8; 32] = [0x3c; 32];

pub(crate) fn importer(clients: &Clients) -> ImportServiceClient<Channel> {
    ImportServiceClient::new(clients.channel.clone())
}

pub(crate) async fn create(clients: &mut Clients, alias: &str, spec: KeySpec) -> String {
    create_for(clients, alias, spec, KeyUsage::Unspecified).await
}

async fn create_for(clients: &mut Clients, alias: &str, spec: KeySpec, usage: KeyUsage) -> String {
    let request = CreateKeyRequest {
        alias: alias.to_owned(),
        key_spec: spec.into(),
        key_usage: usage.into(),
        origin: KeyOrigin::External.into(),
        ..CreateKeyRequest::default()
    };
    let key = clients.keys.create_key(request).await.expect("made").into_inner().key.expect("a key");
    assert_eq!(key.state(), KeyState::PendingImport);
    key.key_id
}

async fn parameters(clients: &Clients, key_id: &str, wrapping: &str) -> GetParametersForImportResponse {
    let (key_id, wrapping_algorithm) = (key_id.to_owned(), wrapping.to_owned());
    let request = GetParametersForImportRequest { key_id, wrapping_algorithm };
    importer(clients).get_parameters_for_import(request).await.expect("it waits").into_inner()
}

/// The options of openssl for a way of wrapping.
fn options(wrapping: &str) -> String {
    match wrapping {
        "SM2_ENCRYPT" => String::new(),
        oaep => {
            let hash = if oaep == OAEP_SHA_256 { "sha256" } else { "sha1" };
            format!("-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:{hash} -pkeyopt rsa_mgf1_md:{hash} ")
        }
    }
}

fn wrap(public_key: &[u8], material: &[u8], wrapping: &str) -> Vec<u8> {
    let openssl = Openssl::default();
    openssl.write("public.der", public_key);
    openssl.write("material", material);
    let options = options(wrapping);
    openssl.run(&format!("pkeyutl -encrypt -pubin -keyform DER {options}-inkey public.der -in material"))
}

/// A private key, wrapped by AES key wrap with padding.
fn wrap_private_key(temporary: &[u8], private_key: &[u8]) -> Vec<u8> {
    let openssl = Openssl::default();
    openssl.write("private.der", private_key);
    let (bits, key) = (8 * temporary.len(), hex::encode(temporary));
    openssl.run(&format!("enc -id-aes{bits}-wrap-pad -K {key} -iv A65959A6 -in private.der"))
}

/// What is sent as the material of a key.
#[derive(Clone)]
struct Material {
    expires_at: Option<SystemTime>,
    wrapping: &'static str,
    bare: Vec<u8>,
    wrapped_private_key: Vec<u8>,
}

impl Material {
    fn secret(bare: &[u8]) -> Self {
        let (bare, wrapped_private_key) = (bare.to_vec(), Vec::new());
        Self { expires_at: None, wrapping: OAEP_SHA_256, bare, wrapped_private_key }
    }

    fn pair(private_key: &[u8]) -> Self {
        Self { wrapped_private_key: wrap_private_key(&TEMPORARY, private_key), ..Self::secret(&TEMPORARY) }
    }

    /// The whole ceremony.
    async fn import(&self, clients: &Clients, key_id: &str) -> Result<Key, Status> {
        let given = parameters(clients, key_id, self.wrapping).await;
        let request = ImportKeyMaterialRequest {
            key_id: key_id.to_owned(),
            import_token: given.import_token,
            wrapped_material: wrap(&given.public_key, &self.bare, self.wrapping).into(),
            wrapped_private_key: self.wrapped_private_key.clone().into(),
            expires_at: self.expires_at.map(Into::into),
        };
        Ok(importer(clients).import_key_material(request).await?.into_inner().key.expect("a key"))
    }

    async fn refusal(&self, clients: &Clients, key_id: &str) -> String {
        reason(&self.import(clients, key_id).await.expect_err("no such material"))
    }
}

pub(crate) async fn import(clients: &Clients, key_id: &str, material: &[u8]) -> Result<Key, Status> {
    Material::secret(material).import(clients, key_id).await
}

async fn opens(clients: &mut Clients, ciphertext_blob: &[u8]) -> Result<Vec<u8>, Status> {
    let ciphertext_blob = ciphertext_blob.to_vec().into();
    let request = DecryptDataKeyRequest { ciphertext_blob, ..DecryptDataKeyRequest::default() };
    Ok(clients.data.decrypt_data_key(request).await?.into_inner().plaintext.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn material_from_outside_is_used_deleted_and_recognised() {
    let mut dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    for (alias, spec, length) in [("aes", KeySpec::Aes256, 32), ("sm4", KeySpec::Sm4, 16)] {
        let key_id = create(&mut admin, alias, spec).await;
        let material = vec![0xa7; length];
        let key = import(&admin, &key_id, &material).await.expect("it fits");
        assert_eq!((key.state(), key.current_version), (KeyState::Enabled, 1));
        let sealed = admin.generate(by_id(&key_id), Context::new()).await.expect("enabled");
        assert_eq!(opens(&mut admin, &sealed.ciphertext_blob).await.expect("its own"), sealed.plaintext);

        let delete = DeleteImportedKeyMaterialRequest { key_id: key_id.clone() };
        let gone = importer(&admin).delete_imported_key_material(delete).await.expect("imported");
        assert_eq!(gone.into_inner().key.expect("a key").state(), KeyState::PendingImport);
        let refused = opens(&mut admin, &sealed.ciphertext_blob).await.expect_err("no material");
        assert_eq!(reason(&refused), "KEY_PENDING_IMPORT");
        let other = import(&admin, &key_id, &vec![0xa8; length]).await.expect_err("another");
        assert_eq!(reason(&other), "MATERIAL_MISMATCH");

        dev.restart();
        admin = dev.user(0, "admin").await;
        import(&admin, &key_id, &material).await.expect("the same");
        assert_eq!(opens(&mut admin, &sealed.ciphertext_blob).await.expect("again"), sealed.plaintext);
    }
    assert!(dev.stop().success());
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn material_comes_in_by_every_way_of_wrapping() {
    let mut dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let bare = [0x42; 32];
    for wrapping in [OAEP_SHA_256, "RSAES_OAEP_SHA_1", "SM2_ENCRYPT"] {
        let key_id = create(&mut admin, wrapping, KeySpec::Aes256).await;
        let given = parameters(&admin, &key_id, wrapping).await;
        dev.restart(); // the wrapping key lives in the token alone
        admin = dev.user(0, "admin").await;
        let wrapped = wrap(&given.public_key, &bare, wrapping);
        let send = async |wrapped: &[u8]| {
            let request = ImportKeyMaterialRequest {
                key_id: key_id.clone(),
                import_token: given.import_token.clone(),
                wrapped_material: wrapped.to_vec().into(),
                ..ImportKeyMaterialRequest::default()
            };
            importer(&admin).import_key_material(request).await
        };
        let mut altered = wrapped.clone();
        *altered.last_mut().expect("not empty") ^= 1;
        let long = [&wrapped[..], &[0; 1024]].concat();
        for faulty in [&altered, &wrapped[1..], &wrapped[..wrapped.len() - 1], &long, b""] {
            let refused = send(faulty).await.expect_err("it does not open");
            assert_eq!(reason(&refused), "MATERIAL_INVALID", "{wrapping}");
        }
        send(&wrapped).await.expect("it opens");
    }
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_or_fit_is_refused_with_one_error() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let key_id = create(&mut admin, "k", KeySpec::Aes256).await;
    for length in [31, 33, 16] {
        assert_eq!(Material::secret(&vec![1; length]).refusal(&admin, &key_id).await, "MATERIAL_INVALID");
    }
    let given = parameters(&admin, &key_id, OAEP_SHA_256).await;
    let of_another_hash = wrap(&given.public_key, &[1; 32], "RSAES_OAEP_SHA_1");
    let faulty = [Vec::new(), vec![0; 255], vec![0xff; 256], vec![0; 256], vec![1; 257], of_another_hash];
    for wrapped_material in faulty {
        let request = ImportKeyMaterialRequest {
            key_id: key_id.clone(),
            import_token: given.import_token.clone(),
            wrapped_material: wrapped_material.into(),
            ..ImportKeyMaterialRequest::default()
        };
        let refused = importer(&admin).import_key_material(request).await.expect_err("no such material");
        assert_eq!(reason(&refused), "MATERIAL_INVALID");
    }
    import(&admin, &key_id, &[9; 32]).await.expect("it still waits");
}

/// A key pair of openssl's, in its directory as `private.pem`, `private.der` (PKCS#8) and `public.pem`.
struct Theirs(Openssl);

impl Theirs {
    fn new(spec: KeySpec) -> Self {
        let kind = match spec {
            KeySpec::Rsa2048 => "RSA -pkeyopt rsa_keygen_bits:2048",
            KeySpec::Rsa3072 => "RSA -pkeyopt rsa_keygen_bits:3072",
            KeySpec::Rsa4096 => "RSA -pkeyopt rsa_keygen_bits:4096",
            KeySpec::EcP256 => "EC -pkeyopt ec_paramgen_curve:prime256v1",
            KeySpec::EcP384 => "EC -pkeyopt ec_paramgen_curve:secp384r1",
            KeySpec::Secp256k1 => "EC -pkeyopt ec_paramgen_curve:secp256k1",
            KeySpec::Sm2 => "SM2",
            _ => "ED25519",
        };
        let openssl = Openssl::default();
        openssl.run(&format!("genpkey -algorithm {kind} -out private.pem"));
        openssl.run("pkcs8 -topk8 -nocrypt -in private.pem -outform DER -out private.der");
        openssl.run("pkey -in private.pem -pubout -out public.pem");
        Self(openssl)
    }

    fn private_key(&self) -> Vec<u8> {
        self.0.read("private.der")
    }

    /// A key for `usage` that this pair was imported as.
    async fn imported(&self, clients: &mut Clients, spec: KeySpec, usage: KeyUsage) -> String {
        let alias = format!("{}-{}", spec.as_str_name(), usage.as_str_name());
        let key_id = create_for(clients, &alias, spec, usage).await;
        let key = Material::pair(&self.private_key()).import(clients, &key_id).await.expect("it fits");
        assert_eq!((key.state(), key.current_version), (KeyState::Enabled, 1), "{spec:?}");
        let request = GetPublicKeyRequest { key: by_id(&key_id) };
        let public = clients.signing.get_public_key(request).await.expect("a key pair").into_inner();
        self.0.write("ours.pem", public.public_key_pem);
        let ours = self.0.run("pkey -pubin -in ours.pem -outform DER");
        assert_eq!(ours, self.0.run("pkey -pubin -in public.pem -outform DER"), "{spec:?}");
        key_id
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_of_openssl_sign_what_openssl_verifies() {
    let mut dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let rsa = (SigningAlgorithm::RsassaPkcs1V15Sha256, "dgst -sha256 -verify public.pem");
    let ecdsa = (SigningAlgorithm::EcdsaSha256, "dgst -sha256 -verify public.pem");
    let sm2 = "dgst -sm3 -verify public.pem -sigopt distid:1234567812345678";
    let edwards = "pkeyutl -verify -pubin -inkey public.pem -rawin";
    let mut imported = Vec::new();
    for (spec, (algorithm, verify)) in [
        (KeySpec::Rsa2048, rsa),
        (KeySpec::Rsa3072, rsa),
        (KeySpec::Rsa4096, rsa),
        (KeySpec::EcP256, ecdsa),
        (KeySpec::EcP384, ecdsa),
        (KeySpec::Secp256k1, ecdsa),
        (KeySpec::Sm2, (SigningAlgorithm::Sm2dsaSm3, sm2)),
        (KeySpec::Ed25519, (SigningAlgorithm::Ed25519Sha512, edwards)),
    ] {
        let theirs = Theirs::new(spec);
        let key_id = theirs.imported(&mut admin, spec, KeyUsage::SignVerify).await;
        imported.push((spec, algorithm, verify, theirs, key_id));
    }
    dev.restart(); // they are stored, not merely loaded
    let mut admin = dev.user(0, "admin").await;
    for (spec, algorithm, verify, Theirs(openssl), key_id) in imported {
        let request = SignRequest {
            key: by_id(&key_id),
            algorithm: algorithm.into(),
            message_type: MessageType::Raw.into(),
            message: MESSAGE.into(),
        };
        let signed = admin.signing.sign(request).await.expect("signs").into_inner();
        openssl.write("signature", signed.signature);
        openssl.write("signed", MESSAGE);
        let signed = if spec == KeySpec::Ed25519 {
            "-in signed -sigfile signature"
        } else {
            "-signature signature signed"
        };
        assert!(openssl.verifies(&format!("{verify} {signed}")), "{spec:?}");
    }
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_of_openssl_decrypt_as_openssl_does() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    for (spec, algorithm, options) in [
        (KeySpec::Rsa2048, EncryptionAlgorithm::RsaesOaepSha256, OAEP),
        (KeySpec::Sm2, EncryptionAlgorithm::Sm2Encrypt, ""),
    ] {
        let theirs = Theirs::new(spec);
        let key_id = theirs.imported(&mut admin, spec, KeyUsage::EncryptDecrypt).await;
        let (openssl, algorithm) = (&theirs.0, algorithm.into());
        let mut service = EncryptionServiceClient::new(admin.channel.clone());
        openssl.write("message", MESSAGE);
        let sealed =
            openssl.run(&format!("pkeyutl -encrypt -pubin -inkey public.pem {options}-in message")).into();
        let (key, ciphertext_blob) = (by_id(&key_id), sealed);
        let request = DecryptDataRequest { key, ciphertext_blob, algorithm, ..Default::default() };
        let opened = service.decrypt_data(request).await.expect("opens").into_inner();
        assert_eq!(opened.plaintext, MESSAGE, "{spec:?}");

        let (key, plaintext) = (by_id(&key_id), MESSAGE.into());
        let request = EncryptDataRequest { key, plaintext, algorithm, ..Default::default() };
        let sealed = service.encrypt_data(request).await.expect("seals").into_inner();
        openssl.write("sealed", sealed.ciphertext_blob);
        let opened = openssl.run(&format!("pkeyutl -decrypt -inkey private.pem {options}-in sealed"));
        assert_eq!(opened, MESSAGE, "{spec:?}");
    }
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn private_keys_that_do_not_open_or_fit_are_refused_with_one_error() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let key_id = create(&mut admin, "p256", KeySpec::EcP256).await;
    let [own, other] = [KeySpec::EcP256; 2].map(|spec| Theirs::new(spec).private_key());
    // A PKCS#8 of this kind ends with the point.
    let (head, point) = (&own[..own.len() - 64], &other[other.len() - 64..]);
    let foreign = [KeySpec::Secp256k1, KeySpec::EcP384, KeySpec::Sm2, KeySpec::Ed25519, KeySpec::Rsa2048];
    let foreign = foreign.map(|spec| Theirs::new(spec).private_key());
    let mut faulty = vec![own[..own.len() - 1].to_vec(), [&own[..], &[0]].concat(), vec![0x30; 138]];
    faulty.push([head, point].concat());
    faulty.extend(foreign);
    for private_key in faulty {
        assert_eq!(Material::pair(&private_key).refusal(&admin, &key_id).await, "MATERIAL_INVALID");
    }

    let good = Material::pair(&own);
    let wrapped = &good.wrapped_private_key;
    let mut altered = wrapped.clone();
    altered[20] ^= 1;
    let faulty = [altered, wrapped[..wrapped.len() - 1].to_vec(), wrapped[..wrapped.len() - 8].to_vec()];
    for wrapped_private_key in faulty.into_iter().chain([vec![7; 8], vec![7; 16], vec![7; 50_000]]) {
        let material = Material { wrapped_private_key, ..good.clone() };
        assert_eq!(material.refusal(&admin, &key_id).await, "MATERIAL_INVALID");
    }
    let other_temporary = Material { bare: vec![1; 32], ..good.clone() };
    let short = Material { bare: TEMPORARY[..31].to_vec(), ..good.clone() };
    let of_24_bytes = Material {
        bare: TEMPORARY[..24].to_vec(),
        wrapped_private_key: wrap_private_key(&TEMPORARY[..24], &own),
        ..good.clone()
    };
    for material in [other_temporary, short, of_24_bytes] {
        assert_eq!(material.refusal(&admin, &key_id).await, "MATERIAL_INVALID");
    }

    let missing = Material { wrapped_private_key: Vec::new(), ..good.clone() };
    assert_eq!(malformed_field(missing.import(&admin, &key_id).await), "wrapped_private_key");
    let symmetric = create(&mut admin, "aes", KeySpec::Aes256).await;
    assert_eq!(malformed_field(good.import(&admin, &symmetric).await), "wrapped_private_key");

    let rsa = create(&mut admin, "rsa", KeySpec::Rsa3072).await;
    let smaller = Material::pair(&Theirs::new(KeySpec::Rsa2048).private_key());
    assert_eq!(smaller.refusal(&admin, &rsa).await, "MATERIAL_INVALID");

    let of_16_bytes = Material {
        bare: TEMPORARY[..16].to_vec(),
        wrapped_private_key: wrap_private_key(&TEMPORARY[..16], &own),
        ..good
    };
    of_16_bytes.import(&admin, &key_id).await.expect("it still waits, and a temporary key may be as short");
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_pair_waits_for_the_same_pair() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let arguments = vec!["--traffic-control=off".into(), "--clock=manual".into()];
    let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let (mut operator, mut admin) = (dev.operator().await, dev.user(0, "admin").await);
    let now = operator.dev.now(NowRequest {}).await.expect("an operator").into_inner().now.expect("a time");
    let expires_at = Some(SystemTime::try_from(now).expect("a time") + DAY);
    let [own, other] = [KeySpec::Sm2; 2].map(Theirs::new);
    let key_id = create(&mut admin, "sm2", KeySpec::Sm2).await;
    let material = Material::pair(&own.private_key());
    Material { expires_at, ..material.clone() }.import(&admin, &key_id).await.expect("it fits");
    let delete = DeleteImportedKeyMaterialRequest { key_id: key_id.clone() };
    let kept = importer(&admin).delete_imported_key_material(delete).await.expect_err("a key pair");
    assert_eq!(reason(&kept), "MATERIAL_NOT_DELETABLE");

    let by = Some(DAY.try_into().expect("a duration"));
    operator.dev.advance(AdvanceRequest { by }).await.expect("an operator");
    eventually("the material is gone", async || {
        let key = admin.describe(by_id(&key_id)).await.expect("it exists");
        (key.state() == KeyState::PendingImport).then_some(())
    })
    .await;
    assert_eq!(Material::pair(&other.private_key()).refusal(&admin, &key_id).await, "MATERIAL_MISMATCH");
    // The same pair in another encoding: its public half is left out.
    let bare = own.private_key();
    own.0.run("pkey -in private.pem -outform DER -out traditional.der");
    own.0.run("ec -inform DER -in traditional.der -no_public -outform DER -out bare.der");
    own.0.run("pkcs8 -topk8 -nocrypt -inform DER -in bare.der -outform DER -out bare.p8");
    let without_public = own.0.read("bare.p8");
    assert!(without_public.len() < bare.len());
    let key = Material::pair(&without_public).import(&admin, &key_id).await.expect("the same");
    assert_eq!(key.state(), KeyState::Enabled);
    check_log(dev.directory());
}
