//! Fields that are empty, too long, out of range or in the wrong form: each refusal names its field.

use dewpoint_tests::{Clients, Context, Dev, by_alias, by_id, by_service, context, malformed_field, refusal};
use kms_proto::v1::{
    CreateKeyRequest, DescribeKeyRequest, DisableKeyRequest, GenerateDataKeyRequest,
    GenerateDataKeyWithoutPlaintextRequest, GenerateRandomRequest, Key, KeyReference, KeySpec,
    ListKeysRequest, ScheduleKeyDeletionRequest, UpdateKeyAliasRequest, UpdateKeyDescriptionRequest,
};
use tonic::{Code, Response, Status};

const UNKNOWN: &str = "01890000-0000-7000-8000-000000000000";

async fn create(admin: &mut Clients, request: CreateKeyRequest) -> Result<Key, Status> {
    admin.keys.create_key(request).await.map(|answer| answer.into_inner().key.expect("a key"))
}

async fn random(admin: &mut Clients, length: u32) -> Result<usize, Status> {
    let answer = admin.data.generate_random(GenerateRandomRequest { length }).await;
    answer.map(|answer| answer.into_inner().random.len())
}

async fn without_plaintext(admin: &mut Clients, key_id: &str, length: u32) -> Result<Vec<u8>, Status> {
    let encryption_context = Context::new();
    let request = GenerateDataKeyWithoutPlaintextRequest {
        key: by_id(key_id),
        length,
        encryption_context,
        ..Default::default()
    };
    let answer = admin.data.generate_data_key_without_plaintext(request).await;
    answer.map(|answer| answer.into_inner().ciphertext_blob.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn data_keys_and_random_bytes_have_1_to_1024_bytes() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    for (alias, spec, natural) in [("aes", KeySpec::Aes256, 32), ("sm4", KeySpec::Sm4, 16)] {
        let key = admin.create_of(alias, spec).await.key_id;
        for (length, expected) in [(0, natural), (1, 1), (1024, 1024)] {
            let made = admin.generate_bytes(by_id(&key), length, Context::new()).await.expect("made");
            assert_eq!(made.plaintext.len(), expected);
            admin.check_opens(&made).await;
            let sealed = without_plaintext(&mut admin, &key, length).await.expect("made");
            let opened = admin.decrypt(&sealed, by_id(&key), Context::new()).await.expect("opens");
            assert_eq!(opened.plaintext.len(), expected);
        }
        for length in [1, 1024] {
            let sealed = admin.encrypt(by_id(&key), vec![9; length], Context::new()).await.expect("sealed");
            let opened = admin.decrypt(&sealed, None, Context::new()).await.expect("opens");
            assert_eq!(opened.plaintext, vec![9; length]);
        }
        for length in [1025, u32::MAX] {
            let refused = admin.generate_bytes(by_id(&key), length, Context::new()).await;
            assert_eq!(malformed_field(refused), "length");
            assert_eq!(malformed_field(without_plaintext(&mut admin, &key, length).await), "length");
        }
        for length in [0, 1025] {
            let refused = admin.encrypt(by_id(&key), vec![9; length], Context::new()).await;
            assert_eq!(malformed_field(refused), "plaintext");
        }
    }
    for length in [1, 1024] {
        assert_eq!(random(&mut admin, length).await.expect("made"), length as usize);
    }
    for length in [0, 1025, u32::MAX] {
        assert_eq!(malformed_field(random(&mut admin, length).await), "length");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_has_8192_canonical_bytes_and_a_request_64_kib() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let key = admin.create("k").await.key_id;
    // Kind and count take 5 bytes, the lengths of the two texts 8.
    let longest = context(&[("key", &"x".repeat(8192 - 5 - 8 - 3))]);
    let made = admin.generate(by_id(&key), longest.clone()).await.expect("made");
    admin.decrypt(&made.ciphertext_blob, None, longest).await.expect("opens");
    let blob = &made.ciphertext_blob;
    for too_long in [context(&[("key", &"x".repeat(8192 - 5 - 8 - 2))]), context(&[(&"x".repeat(8180), "")])]
    {
        let field = "encryption_context";
        assert_eq!(malformed_field(admin.generate(by_id(&key), too_long.clone()).await), field);
        assert_eq!(malformed_field(admin.encrypt(by_id(&key), vec![1], too_long.clone()).await), field);
        assert_eq!(malformed_field(admin.decrypt(blob, None, too_long).await), field);
    }
    let many: Context = (0..1000).map(|number| (number.to_string(), String::new())).collect();
    assert_eq!(malformed_field(admin.generate(by_id(&key), many).await), "encryption_context");
    let oversized = context(&[("key", &"x".repeat(64 * 1024))]);
    let Err(refused) = admin.generate(by_id(&key), oversized).await else { panic!("it is too long") };
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
    admin.generate(by_id(&key), Context::new()).await.expect("the connection still works");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_have_one_form_and_unknown_ones_do_not_exist() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let key = admin.create("k").await.key_id;
    for wrong in [
        "",
        "k",
        &key.to_uppercase(),
        &key.replace('-', ""),
        &key[..35],
        &format!("{key}0"),
        &format!("{{{key}}}"),
        &format!("urn:uuid:{key}"),
        &key.replacen('-', "_", 1),
        &"é".repeat(18),
    ] {
        assert_eq!(malformed_field(admin.describe(by_id(wrong)).await), "key_id", "{wrong}");
        assert_eq!(malformed_field(admin.generate(by_id(wrong), Context::new()).await), "key_id", "{wrong}");
    }
    // Where a `key_id` may be an alias, too, what has the form of an id is one.
    for wrong in ["", &key.to_uppercase(), &key.replace('-', ""), &format!("{{{key}}}"), &"é".repeat(18)] {
        let request = DisableKeyRequest { key_id: wrong.to_owned() };
        assert_eq!(malformed_field(admin.keys.disable_key(request).await), "key_id", "{wrong}");
    }
    let missing = (Code::NotFound, "KEY_NOT_FOUND".to_owned());
    for alias in ["unknown", &key[..35], &format!("{key}0"), "kms:cn-east-3:d:alias:k"] {
        let request = DisableKeyRequest { key_id: alias.to_owned() };
        assert_eq!(refusal(admin.keys.disable_key(request).await), missing, "{alias}");
    }
    assert_eq!(refusal(admin.describe(by_id(UNKNOWN)).await), missing);
    assert_eq!(refusal(admin.describe(by_alias("unknown")).await), missing);
    assert_eq!(refusal(admin.describe(by_service("obs")).await), missing, "not used yet");
    assert_eq!(refusal(admin.generate(by_id(UNKNOWN), Context::new()).await), missing);
    assert_eq!(refusal(admin.keys.disable_key(DisableKeyRequest { key_id: UNKNOWN.into() }).await), missing);
    for none in [None, Some(KeyReference { reference: None })] {
        assert_eq!(malformed_field(admin.describe(none.clone()).await), "key");
        assert_eq!(malformed_field(admin.generate(none.clone(), Context::new()).await), "key");
        assert_eq!(malformed_field(admin.encrypt(none, vec![1], Context::new()).await), "key");
    }
    for unknown in ["", "s3", "OBS", "obs/default"] {
        assert_eq!(malformed_field(admin.describe(by_service(unknown)).await), "service", "{unknown}");
    }
    for wrong in ["", "/default", "s3/default", "OBS/default", "a b"] {
        assert_eq!(malformed_field(admin.describe(by_alias(wrong)).await), "alias", "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_and_descriptions_keep_to_their_rules_at_creation_and_at_change() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let key_id = admin.create("first").await.key_id;
    let long = "a".repeat(256);
    for alias in ["", &long, "a b", "a.b", "ä", "a\n", "obs/default", "/default", "my/default"] {
        let alias = alias.to_owned();
        let request = CreateKeyRequest { alias: alias.clone(), ..CreateKeyRequest::default() };
        assert_eq!(malformed_field(create(&mut admin, request).await), "alias", "{alias}");
        let request = UpdateKeyAliasRequest { key_id: key_id.clone(), alias };
        assert_eq!(malformed_field(admin.keys.update_key_alias(request).await), "alias");
    }
    for alias in ["a", &long[1..], "A:b_c/d-9", "obs/default/x", "default"] {
        assert_eq!(admin.create(alias).await.alias, alias);
    }
    let taken = (Code::AlreadyExists, "ALIAS_EXISTS".to_owned());
    assert_eq!(refusal(admin.try_create("first", KeySpec::Sm4).await), taken);
    let (fits, too_long) = ("é".repeat(255), "x".repeat(256));
    let described = |alias: &str, description: &str| CreateKeyRequest {
        alias: alias.to_owned(),
        description: description.to_owned(),
        ..CreateKeyRequest::default()
    };
    let made = create(&mut admin, described("described", &fits)).await.expect("255 characters");
    assert_eq!(admin.describe(by_id(&made.key_id)).await.expect("described").description, fits);
    assert_eq!(malformed_field(create(&mut admin, described("no", &too_long)).await), "description");
    for (description, accepted) in [("", true), (&*fits, true), (&*too_long, false)] {
        let description = description.to_owned();
        let request =
            UpdateKeyDescriptionRequest { key_id: made.key_id.clone(), description: description.clone() };
        let answer = admin.keys.update_key_description(request).await.map(Response::into_inner);
        match (answer, accepted) {
            (Ok(answer), true) => assert_eq!(answer.key.expect("a key").description, description),
            (answer, _) => assert_eq!(malformed_field(answer), "description"),
        }
    }
    let missing = (Code::NotFound, "KEY_NOT_FOUND".to_owned());
    assert_eq!(refusal(admin.describe(by_alias("no")).await), missing, "a refused creation makes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_tokens_and_enumerations_out_of_range_are_named() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let key_id = admin.create("k").await.key_id;
    for pending_days in [0, 6, 1097, u32::MAX] {
        let request = ScheduleKeyDeletionRequest { key_id: key_id.clone(), pending_days };
        assert_eq!(malformed_field(admin.keys.schedule_key_deletion(request).await), "pending_days");
    }
    for (alias, pending_days) in [("shortest", 7u32), ("longest", 1096)] {
        let key_id = admin.create(alias).await.key_id;
        let request = ScheduleKeyDeletionRequest { key_id, pending_days };
        let answer = admin.keys.schedule_key_deletion(request).await.expect("scheduled").into_inner();
        let key = answer.key.expect("a key");
        let (due, created) = (key.deletion_due_at.expect("a time"), key.created_at.expect("a time"));
        let days = (due.seconds - created.seconds) / 86_400;
        assert_eq!(days, i64::from(pending_days));
    }
    let list = |page_size, page_token: &str, state, key_spec| ListKeysRequest {
        page_size,
        page_token: page_token.to_owned(),
        state,
        key_spec,
    };
    let long = "A".repeat(129);
    for (request, field) in [
        (list(1001, "", 0, 0), "page_size"),
        (list(u32::MAX, "", 0, 0), "page_size"),
        (list(1, "!!", 0, 0), "page_token"),
        (list(1, "zzzz", 0, 0), "page_token"),
        (list(1, "AB=", 0, 0), "page_token"),
        (list(1, &long, 0, 0), "page_token"),
        (list(1, "", 1, 0), "state"),
        (list(1, "", 6, 0), "state"),
        (list(1, "", -1, 0), "state"),
        (list(1, "", 0, 99), "key_spec"),
    ] {
        assert_eq!(malformed_field(admin.keys.list_keys(request.clone()).await), field, "{request:?}");
    }
    let request = CreateKeyRequest { alias: "no".into(), key_spec: 99, ..CreateKeyRequest::default() };
    assert_eq!(malformed_field(create(&mut admin, request).await), "key_spec");
    for token in ["x".repeat(65), "é".into(), "a\tb".into()] {
        let request =
            CreateKeyRequest { alias: "no".into(), idempotency_token: token, ..CreateKeyRequest::default() };
        assert_eq!(malformed_field(create(&mut admin, request).await), "idempotency_token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_opens_for_its_own_account_only() {
    let dev = Dev::start();
    let (mut owner, mut stranger) = (dev.user(0, "admin").await, dev.user(1, "admin").await);
    for alias in ["a", "b", "c"] {
        owner.create(alias).await;
        stranger.create(alias).await;
    }
    owner.generate(by_service("obs"), Context::new()).await.expect("the default key is made");
    let mut request = ListKeysRequest { page_size: 1, ..ListKeysRequest::default() };
    loop {
        let page = owner.keys.list_keys(request.clone()).await.expect("a page").into_inner();
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
        let refused = stranger.keys.list_keys(request.clone()).await;
        assert_eq!(malformed_field(refused), "page_token");
    }
    for made_up in ["AA", "AQ", "AP____8", "Af____8"] {
        let request = ListKeysRequest { page_token: made_up.to_owned(), ..ListKeysRequest::default() };
        assert_eq!(malformed_field(stranger.keys.list_keys(request).await), "page_token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permission_is_checked_before_the_form_of_the_fields() {
    let dev = Dev::start();
    let mut nobody = dev.user(0, "nobody").await;
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    let request = GenerateDataKeyRequest {
        key: None,
        length: 9999,
        encryption_context: Context::new(),
        ..Default::default()
    };
    assert_eq!(refusal(nobody.data.generate_data_key(request).await), denied);
    assert_eq!(refusal(nobody.keys.describe_key(DescribeKeyRequest { key: by_id(UNKNOWN) }).await), denied);
    let request = CreateKeyRequest { alias: "not valid".into(), ..CreateKeyRequest::default() };
    assert_eq!(refusal(nobody.keys.create_key(request).await), denied);
}
