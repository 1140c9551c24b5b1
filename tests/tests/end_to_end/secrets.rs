//! No secret in what is kept in plain: the audit log, the service's log at its most talkative, its metrics and what dev mode
//! tells of itself, searched for every secret of a whole life in every form that a program prints bytes in.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    path::Path,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use dewpoint_tests::{
    Account, Clients, Context, Dev, DevOptions, Openssl, Rest, RestRequest, Signer, by_id, context, reason,
    records,
};
use hyper::Method;
use kms_proto::v1::{
    CreateGrantRequest, CreateKeyRequest, DecryptDataKeyRequest, DecryptDataRequest,
    DeriveSharedSecretRequest, EncryptDataKeyRequest, EncryptDataRequest, GenerateDataKeyPairRequest,
    GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest, GenerateDataKeysRequest,
    GenerateMacRequest, GenerateRandomRequest, GetParametersForImportRequest, GrantOperation, Grantee,
    ImportKeyMaterialRequest, KeyOrigin, KeySpec, KeyUsage, MacAlgorithm, MessageType, ReEncryptRequest,
    SignRequest, SigningAlgorithm, VerifyMacRequest, VerifyRequest,
    encryption_service_client::EncryptionServiceClient, grant_service_client::GrantServiceClient, grantee,
    import_service_client::ImportServiceClient,
};
use serde_json::json;

/// Each secret is searched for in pieces of this many bytes, for a part of one must not lie there either.
const PIECE: usize = 16;

/// How many bytes a search begins with: no form of a piece is shorter.
const BEGINNING: usize = 8;

/// What must not be found.
#[derive(Default)]
struct Secrets {
    /// What each is, and its bytes.
    all: Vec<(&'static str, Vec<u8>)>,
    /// The forms of all pieces by their beginnings, each with the place of its secret in `all`.
    forms: HashMap<[u8; BEGINNING], Vec<(usize, Vec<u8>)>>,
}

impl Secrets {
    fn add(&mut self, name: &'static str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        assert!(bytes.len() >= PIECE, "{name}: so short a text is found by chance");
        for form in bytes.chunks_exact(PIECE).flat_map(forms) {
            let beginning = form.first_chunk().expect("a form is longer");
            self.forms.entry(*beginning).or_default().push((self.all.len(), form));
        }
        self.all.push((name, bytes.to_owned()));
    }

    /// Which of them a text holds.
    fn found_in(&self, text: &[u8]) -> Vec<&'static str> {
        let mut found = BTreeSet::new();
        for place in 0..text.len() {
            let Some(beginning) = text[place..].first_chunk() else { break };
            let forms = self.forms.get(beginning).into_iter().flatten();
            found
                .extend(forms.filter(|(_, form)| text[place..].starts_with(form)).map(|(secret, _)| *secret));
        }
        found.into_iter().map(|secret| self.all[secret].0).collect()
    }
}

/// All forms that bytes are written in, without what depends on the bytes around them.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let decimal: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let mut forms = vec![hex::encode(bytes), hex::encode_upper(bytes), decimal.join(","), decimal.join(", ")];
    for before in 0..3 {
        let shifted = [&[0; 2][..before], bytes].concat();
        // Of the characters, 6 bits each, those that hold bits of these bytes alone.
        let whole = (8 * before).div_ceil(6)..8 * shifted.len() / 6;
        forms.push(STANDARD_NO_PAD.encode(&shifted)[whole.clone()].to_owned());
        forms.push(URL_SAFE_NO_PAD.encode(&shifted)[whole].to_owned());
    }
    forms.into_iter().map(String::into_bytes).chain([bytes.to_owned()]).collect()
}

#[test]
fn a_secret_is_found_in_every_form_and_at_every_place() {
    let mut secrets = Secrets::default();
    secrets.add("the secret", (0..40).map(|number| 255 - 5 * number).collect::<Vec<u8>>());
    let bytes = secrets.all[0].1.clone();
    assert!(secrets.found_in(&bytes[1..][..PIECE]).is_empty(), "of another piece");
    for around in 0..4 {
        let shifted = [&b"abc"[..around], &bytes, &b"xyz"[..around]].concat();
        let debug = format!("{shifted:?}");
        let json = serde_json::to_string(&shifted).expect("JSON");
        let mut planted = vec![
            hex::encode(&shifted),
            hex::encode_upper(&shifted),
            debug,
            json,
            STANDARD_NO_PAD.encode(&shifted),
        ];
        planted.push(URL_SAFE_NO_PAD.encode(&shifted));
        for text in planted {
            let text = format!("{{\"field\":\"{text}\"}}\n");
            assert_eq!(secrets.found_in(text.as_bytes()), ["the secret"], "{text}");
        }
        assert_eq!(secrets.found_in(&shifted), ["the secret"]);
    }
}

/// A context whose values nobody else knows.
fn secret_context(secrets: &mut Secrets, number: u8) -> Context {
    let (bucket, object) =
        (format!("bucket-of-the-merger-{number}"), format!("annual/report-unpublished-{number}"));
    secrets.add("a value of a context", &bucket);
    secrets.add("a value of a context", &object);
    context(&[("bucket", &bucket), ("object", &object)])
}

/// Makes a key, with material of its own unless it waits for some.
async fn create(clients: &mut Clients, spec: KeySpec, usage: KeyUsage, origin: KeyOrigin) -> String {
    let alias = format!("{}-{}-{}", spec.as_str_name(), usage.as_str_name(), origin.as_str_name());
    let (key_spec, key_usage, origin) = (spec.into(), usage.into(), origin.into());
    let request = CreateKeyRequest { alias, key_spec, key_usage, origin, ..CreateKeyRequest::default() };
    clients.keys.create_key(request).await.expect("made").into_inner().key.expect("a key").key_id
}

async fn data_keys(admin: &mut Clients, key_id: &str, secrets: &mut Secrets) {
    let key = by_id(key_id);
    let made = admin.generate(key.clone(), secret_context(secrets, 1)).await.expect("made");
    secrets.add("a data key", &made.plaintext);
    secrets.add("a ciphertext", &made.ciphertext_blob[..]);
    let authenticated = b"authenticated, and nobody's business".to_vec();
    secrets.add("authenticated data", &authenticated);
    let request = GenerateDataKeyWithoutPlaintextRequest {
        key: key.clone(),
        additional_authenticated_data: authenticated.into(),
        ..Default::default()
    };
    let sealed = admin.data.generate_data_key_without_plaintext(request).await.expect("made").into_inner();
    secrets.add("a ciphertext", &sealed.ciphertext_blob[..]);
    let request = GenerateDataKeysRequest {
        key: key.clone(),
        count: 3,
        with_plaintext: true,
        encryption_context: secret_context(secrets, 5),
        ..Default::default()
    };
    for made in admin.data.generate_data_keys(request).await.expect("made").into_inner().data_keys {
        secrets.add("a data key of a batch", &made.plaintext);
        secrets.add("a ciphertext", &made.ciphertext_blob[..]);
    }
    let request = GenerateDataKeyPairRequest {
        key,
        key_pair_spec: KeySpec::Rsa2048.into(),
        with_plaintext: true,
        encryption_context: secret_context(secrets, 6),
        ..Default::default()
    };
    let pair = admin.data.generate_data_key_pair(request).await.expect("made").into_inner();
    secrets.add("a private key", &pair.private_key_plaintext);
    secrets.add("a ciphertext", &pair.private_key_ciphertext_blob[..]);
    let request = GenerateRandomRequest { length: 64 };
    let random = admin.data.generate_random(request).await.expect("made").into_inner();
    secrets.add("random bytes", &random.random);
}

/// One that the caller chose: sealed, opened, sealed anew, and not opened.
async fn chosen_data_key(admin: &mut Clients, key_id: &str, secrets: &mut Secrets) {
    let key = by_id(key_id);
    let plaintext = *b"a data key that the caller chose";
    secrets.add("a chosen data key", plaintext);
    let encryption_context = secret_context(secrets, 2);
    let request = EncryptDataKeyRequest {
        key: key.clone(),
        plaintext: plaintext.to_vec().into(),
        encryption_context: encryption_context.clone(),
        ..Default::default()
    };
    let sealed = admin.data.encrypt_data_key(request).await.expect("sealed").into_inner();
    secrets.add("a ciphertext", &sealed.ciphertext_blob[..]);
    let ciphertext_blob = sealed.ciphertext_blob;
    let mut request =
        DecryptDataKeyRequest { ciphertext_blob, encryption_context, ..DecryptDataKeyRequest::default() };
    let opened = admin.data.decrypt_data_key(request.clone()).await.expect("its own").into_inner();
    assert_eq!(&opened.plaintext[..], plaintext);
    let request_to_move = ReEncryptRequest {
        ciphertext_blob: request.ciphertext_blob.clone(),
        source_encryption_context: request.encryption_context.clone(),
        destination_key: key,
        destination_encryption_context: secret_context(secrets, 3),
        ..Default::default()
    };
    let moved = admin.data.re_encrypt(request_to_move).await.expect("moved").into_inner();
    secrets.add("a ciphertext", &moved.ciphertext_blob[..]);
    request.encryption_context = secret_context(secrets, 4);
    let refused = admin.data.decrypt_data_key(request).await.expect_err("another context");
    assert_eq!(reason(&refused), "CANNOT_DECRYPT");
}

async fn small_data(admin: &Clients, key_id: &str, secrets: &mut Secrets) {
    let mut client = EncryptionServiceClient::new(admin.channel.clone());
    let plaintext = b"card 4111 1111 1111 1111, valid until 11/29".to_vec();
    secrets.add("small data", &plaintext);
    let encryption_context = secret_context(secrets, 7);
    let request = EncryptDataRequest {
        key: by_id(key_id),
        plaintext: plaintext.clone().into(),
        encryption_context: encryption_context.clone(),
        ..Default::default()
    };
    let sealed = client.encrypt_data(request).await.expect("sealed").into_inner();
    secrets.add("a ciphertext", &sealed.ciphertext_blob[..]);
    let ciphertext_blob = sealed.ciphertext_blob;
    let request = DecryptDataRequest { ciphertext_blob, encryption_context, ..Default::default() };
    let opened = client.decrypt_data(request).await.expect("its own").into_inner();
    assert_eq!(opened.plaintext, plaintext);
    let too_long = b"a text that is longer than a call may take. ".repeat(200);
    secrets.add("what was too long", &too_long);
    let request = EncryptDataRequest { key: by_id(key_id), plaintext: too_long.into(), ..Default::default() };
    client.encrypt_data(request).await.expect_err("too long");
}

async fn imported_material(admin: &mut Clients, secrets: &mut Secrets) {
    let key_id = create(admin, KeySpec::Aes256, KeyUsage::Unspecified, KeyOrigin::External).await;
    let mut client = ImportServiceClient::new(admin.channel.clone());
    let wrapping_algorithm = "RSAES_OAEP_SHA_256".to_owned();
    let request = GetParametersForImportRequest { key_id: key_id.clone(), wrapping_algorithm };
    let given = client.get_parameters_for_import(request).await.expect("it waits").into_inner();
    let material = *b"32 bytes of material of our own.";
    secrets.add("imported material", material);
    let openssl = Openssl::default();
    openssl.write("public.der", &given.public_key);
    openssl.write("material", material);
    let wrapped_material = openssl.run(
        "pkeyutl -encrypt -pubin -keyform DER -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 \
         -inkey public.der -in material",
    );
    secrets.add("wrapped material", &wrapped_material);
    let import_token = given.import_token;
    secrets.add("an import token", &import_token);
    let wrapped_material = wrapped_material.into();
    let request = ImportKeyMaterialRequest { key_id, import_token, wrapped_material, ..Default::default() };
    client.import_key_material(request).await.expect("it fits");
}

async fn signatures(admin: &mut Clients, secrets: &mut Secrets) {
    let message = b"what the chairman will sign on Friday".to_vec();
    secrets.add("a message", &message);
    let key_id = create(admin, KeySpec::EcP256, KeyUsage::SignVerify, KeyOrigin::Unspecified).await;
    let (key, algorithm) = (by_id(&key_id), SigningAlgorithm::EcdsaSha256.into());
    let message_type = MessageType::Raw.into();
    let request = SignRequest { key: key.clone(), algorithm, message: message.clone().into(), message_type };
    let signature = admin.signing.sign(request).await.expect("signs").into_inner().signature;
    secrets.add("a signature", &signature);
    let message_again = message.clone().into();
    let request = VerifyRequest { key, algorithm, message_type, message: message_again, signature };
    assert!(admin.signing.verify(request).await.expect("verifies").into_inner().valid);

    let key_id = create(admin, KeySpec::Hmac256, KeyUsage::GenerateVerifyMac, KeyOrigin::Unspecified).await;
    let (key, algorithm) = (by_id(&key_id), MacAlgorithm::HmacSha256.into());
    let request = GenerateMacRequest { key: key.clone(), algorithm, message: message.clone().into() };
    let mac = admin.signing.generate_mac(request).await.expect("computes").into_inner().mac;
    secrets.add("a MAC", &mac);
    let request = VerifyMacRequest { key, algorithm, message: message.into(), mac };
    assert!(admin.signing.verify_mac(request).await.expect("verifies").into_inner().valid);

    let key_id = create(admin, KeySpec::EcP256, KeyUsage::KeyAgreement, KeyOrigin::Unspecified).await;
    let openssl = Openssl::default();
    openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out own.pem");
    openssl.run("pkey -in own.pem -pubout -outform DER -out own.der");
    let (key, public_key) = (by_id(&key_id), openssl.read("own.der").into());
    let request = DeriveSharedSecretRequest { key, public_key, ..Default::default() };
    let agreed = admin.signing.derive_shared_secret(request).await.expect("agrees").into_inner();
    secrets.add("a shared secret", &agreed.shared_secret);
}

/// What a grant lets a user do who may do nothing else, and what it does not.
async fn granted(dev: &Dev, admin: &Clients, key_id: &str, secrets: &mut Secrets) {
    let user = dev.description.account(0).user("nobody").user_id.clone();
    let request = CreateGrantRequest {
        key_id: key_id.to_owned(),
        grantee: Some(Grantee { principal: Some(grantee::Principal::UserId(user)) }),
        operations: vec![GrantOperation::CreateDatakey.into()],
        ..Default::default()
    };
    GrantServiceClient::new(admin.channel.clone()).create_grant(request).await.expect("made");
    let mut nobody = dev.user(0, "nobody").await;
    let made = nobody.generate(by_id(key_id), secret_context(secrets, 8)).await.expect("granted");
    secrets.add("a data key by a grant", &made.plaintext);
    secrets.add("a ciphertext", &made.ciphertext_blob[..]);
    let request = EncryptDataKeyRequest {
        key: by_id(key_id),
        plaintext: made.plaintext,
        encryption_context: secret_context(secrets, 9),
        ..Default::default()
    };
    nobody.data.encrypt_data_key(request).await.expect_err("not granted");
    let dry_run = dev.description.account(0).user("uploader").files.clone();
    let metadata = vec![("x-dry-run", "true".to_owned())];
    let identity = dewpoint_tests::Identity { files: Some(dry_run), metadata };
    let request = GenerateDataKeyRequest {
        key: by_id(key_id),
        encryption_context: secret_context(secrets, 10),
        ..Default::default()
    };
    let mut trying = dev.connect(identity).await;
    trying.data.generate_data_key(request).await.expect_err("only tried");
}

/// A temporary access key for the first user of the file of identities.
const TEMPORARY: &str = r#"
[[accounts.users.access_keys]]
access_key_id = "TEMPORARY"
secret_access_key = "the-secret-of-a-temporary-access-key"
security_token = "the-security-token-of-a-temporary-access-key"
expires_at = "2999-01-01T00:00:00Z"

[[accounts.users]]"#;

const TEMPORARY_SECRET: &str = "the-secret-of-a-temporary-access-key";
const WRONG: &str = "a password that somebody mistyped";
const SECURITY_TOKEN: &str = "the-security-token-of-a-temporary-access-key";

fn add_temporary_key(dev: &Dev) {
    let file = dev.directory().join("identity.toml");
    let whole = fs::read_to_string(&file).expect("it is there");
    // Before the second user.
    let (first, others) = whole.split_once("[[accounts.users]]").expect("a user");
    let changed = format!("{first}[[accounts.users]]{}", others.replacen("[[accounts.users]]", TEMPORARY, 1));
    fs::write(&file, changed).expect("it can be written");
    assert_eq!(dev.ctl(&["identities", "reload"]).code, Some(0));
}

fn create_data_key(project: &str, key_id: &str) -> RestRequest {
    let body = json!({"key_id": key_id, "datakey_length": "512"});
    RestRequest::new(Method::POST, &format!("/v1.0/{project}/kms/create-datakey"), &body)
}

fn log_in(account: &Account, user: &str, password: &str) -> RestRequest {
    let user = json!({"name": user, "password": password, "domain": {"name": account.name}});
    let identity = json!({"methods": ["password"], "password": {"user": user}});
    RestRequest::new(Method::POST, "/v3/auth/tokens", &json!({"auth": {"identity": identity}}))
}

/// Each refused for another reason.
fn refused_calls(
    [create, foreign, mistyped]: [RestRequest; 3],
    token: &str,
    [signer, temporary]: [Signer<'_>; 2],
) -> Vec<RestRequest> {
    vec![
        RestRequest { body: mistyped.body[1..].to_vec(), ..mistyped.clone() },
        mistyped,
        foreign.clone().with("x-auth-token", token),
        foreign.signed(temporary),
        create.clone().with("x-auth-token", &format!("{token}x")),
        create.clone().signed(Signer { secret: WRONG, ..temporary }),
        create.clone().signed(temporary).with("host", "another"),
        create.clone().with("x-security-token", SECURITY_TOKEN).signed(signer),
        create.signed(temporary).without("x-security-token"),
    ]
}

/// Calls of DEW's protocol: what they answer goes to `secrets`, what shows who makes them to `shown`. Tells all errors.
async fn rest_calls(dev: &Dev, key_id: &str, secrets: &mut Secrets, shown: &mut Secrets) -> Vec<u8> {
    add_temporary_key(dev);
    let rest = Rest::of(&dev.description);
    let account = dev.description.account(0);
    let admin = account.user("admin");
    for user in &account.users {
        shown.add("the secret of an access key", &user.access_key.1);
        shown.add("a password", &user.password);
    }
    shown.add("the secret of an access key", TEMPORARY_SECRET);
    shown.add("a security token", SECURITY_TOKEN);
    let signer = Signer::of(&admin.access_key);
    let temporary = Signer {
        access_key_id: "TEMPORARY",
        secret: TEMPORARY_SECRET,
        security_token: Some(SECURITY_TOKEN),
        ..signer
    };
    let issued = rest.send(&log_in(&account, &admin.name, &admin.password)).await;
    let token = issued.header("x-subject-token").to_owned();
    shown.add("a token", &token);
    let create = create_data_key(&account.projects[0].0, key_id);
    for served in [
        create.clone().signed(signer),
        create.clone().signed(temporary),
        create.clone().with("x-auth-token", &token),
    ] {
        let answer = rest.send(&served).await;
        let bytes = |name: &str| hex::decode(answer.body[name].as_str().expect("a text")).expect("hex");
        secrets.add("a data key of REST", bytes("plain_text"));
        secrets.add("a ciphertext of REST", bytes("cipher_text"));
    }

    shown.add("a wrong password", WRONG);
    let mistyped = log_in(&account, &admin.name, WRONG);
    let foreign = create_data_key(&dev.description.account(1).projects[0].0, key_id);
    let mut errors = Vec::new();
    // The secret in the place of the id: its caller is told what it sent, and nobody else.
    let swapped = create.clone().signed(Signer { access_key_id: signer.secret, ..signer });
    assert_eq!(rest.send(&swapped).await.status, 401);
    for refused in refused_calls([create, foreign, mistyped], &token, [signer, temporary]) {
        let answer = rest.send(&refused).await;
        assert!(answer.status >= 400, "{refused:?}");
        errors.extend(answer.body.to_string().bytes());
        errors.extend(format!("{:?}", answer.headers).bytes());
    }
    errors
}

/// All that is kept in plain: each file's name and content, and the metrics.
fn plain_texts(directory: &Path, metrics: String) -> Vec<(String, Vec<u8>)> {
    let mut texts = vec![("metrics".to_owned(), metrics.into_bytes())];
    for directory in [directory.to_owned(), directory.join("audit")] {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                texts.push((path.display().to_string(), fs::read(path).expect("a file")));
            }
        }
    }
    texts
}

fn leaks(texts: &[(String, Vec<u8>)], secrets: &Secrets) -> String {
    let mut found = String::new();
    for (name, text) in texts {
        for secret in secrets.found_in(text) {
            writeln!(found, "{name} holds {secret}").expect("a string takes all");
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_lies_in_the_audit_log_the_log_the_metrics_or_dev_json() {
    let environment = vec![("DEWPOINT_LOG".to_owned(), "debug".to_owned())];
    let arguments = vec!["--traffic-control=off".to_owned(), "--admin-port=0".to_owned()];
    let mut dev = Dev::start_with(DevOptions { arguments, environment, ..DevOptions::default() });
    let mut admin = dev.user(0, "admin").await;
    let mut secrets = Secrets::default();
    let pin = fs::read_to_string(dev.token().pin_file).expect("a file");
    secrets.add("the token's PIN", pin.trim());
    for spec in [KeySpec::Aes256, KeySpec::Sm4] {
        let key_id = create(&mut admin, spec, KeyUsage::Unspecified, KeyOrigin::Unspecified).await;
        data_keys(&mut admin, &key_id, &mut secrets).await;
        chosen_data_key(&mut admin, &key_id, &mut secrets).await;
        small_data(&admin, &key_id, &mut secrets).await;
        granted(&dev, &admin, &key_id, &mut secrets).await;
    }
    let mut shown = Secrets::default();
    let key_id = create(&mut admin, KeySpec::Aes256, KeyUsage::EncryptDecrypt, KeyOrigin::Kms).await;
    let errors = rest_calls(&dev, &key_id, &mut secrets, &mut shown).await;
    imported_material(&mut admin, &mut secrets).await;
    signatures(&mut admin, &mut secrets).await;
    let metrics = dev.metrics();
    assert!(dev.stop().success(), "{}", dev.log());

    let mut texts = plain_texts(dev.directory(), metrics);
    texts.push(("errors".to_owned(), errors));
    for needed in ["metrics", "stderr.log", "dev.json", "00000000000000000000.jsonl"] {
        assert!(texts.iter().any(|(name, text)| name.ends_with(needed) && !text.is_empty()), "{needed}");
    }
    assert!(records(dev.directory()).len() > 40 && dev.log().contains("\"DEBUG\""), "{}", dev.log());
    assert_eq!(leaks(&texts, &secrets), "");
    // Where dev mode keeps what its users show, and tells them.
    let (own, others): (Vec<_>, Vec<_>) = texts.clone().into_iter().partition(|(name, _)| {
        ["dev.json", "access-keys.json", "identity.toml"].iter().any(|own| name.ends_with(own))
    });
    assert_eq!((own.len(), leaks(&others, &shown)), (3, String::new()));
    assert!(leaks(&own, &shown).contains("dev.json holds a password"));
    // And each of them would have been found in each of the texts.
    for (_, text) in &mut texts {
        for (_, bytes) in &secrets.all {
            text.extend(b"\n");
            text.extend(hex::encode(bytes).bytes());
        }
    }
    assert_eq!(leaks(&texts, &secrets).lines().count(), texts.len() * secrets.all.len());
}
