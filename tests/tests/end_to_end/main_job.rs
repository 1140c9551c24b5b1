//! The main job: data keys made and opened through the service, as users and as a service.

use std::collections::HashMap;

use dewpoint_tests::{Dev, Identity, by_alias, by_id, by_service, reason};
use kms_proto::v1::{
    CreateKeyRequest, DecryptDataKeyRequest, DescribeKeyRequest, DisableKeyRequest, GenerateDataKeyRequest,
    KeySpec,
};
use tonic::Code;

fn context() -> HashMap<String, String> {
    HashMap::from([("bucket".to_owned(), "photos".to_owned())])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_opens_again_after_a_restart_for_every_kind_of_key() {
    let mut dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let mut sealed = Vec::new();
    for (alias, spec) in [("aes", KeySpec::Aes256), ("sm4", KeySpec::Sm4)] {
        let request =
            CreateKeyRequest { alias: alias.into(), key_spec: spec.into(), ..CreateKeyRequest::default() };
        admin.keys.create_key(request).await.expect("created");
    }
    for key in [by_alias("aes"), by_alias("sm4"), by_service("obs"), by_alias("obs/default")] {
        let request = GenerateDataKeyRequest {
            key: key.clone(),
            length: 0,
            encryption_context: context(),
            ..Default::default()
        };
        let made = admin.data.generate_data_key(request).await.expect("made").into_inner();
        let expected = if key == by_alias("sm4") { 16 } else { 32 };
        assert_eq!(made.plaintext.len(), expected);
        sealed.push(made);
    }
    dev.restart();
    let mut downloader = dev.user(0, "downloader").await;
    for made in sealed {
        let request = DecryptDataKeyRequest {
            ciphertext_blob: made.ciphertext_blob,
            key: by_id(&made.key_id),
            encryption_context: context(),
            ..Default::default()
        };
        let opened = downloader.data.decrypt_data_key(request).await.expect("opened").into_inner();
        assert_eq!(opened.plaintext, made.plaintext);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_acts_for_a_user_and_both_are_refused_what_the_user_lacks() {
    let dev = Dev::start();
    let uploader = dev.description.account(0).user("uploader").user_id.clone();
    let identity =
        Identity { files: Some(dev.description.service("obs")), metadata: vec![("x-acting-for", uploader)] };
    let mut obs = dev.connect(identity).await;
    let request = GenerateDataKeyRequest { key: by_service("obs"), ..GenerateDataKeyRequest::default() };
    let made = obs.data.generate_data_key(request).await.expect("made").into_inner();
    let request =
        DecryptDataKeyRequest { ciphertext_blob: made.ciphertext_blob, ..DecryptDataKeyRequest::default() };
    let refused = obs.data.decrypt_data_key(request).await.expect_err("uploaders cannot decrypt");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::PermissionDenied, "PERMISSION_DENIED"));
    assert!(refused.message().contains("kms:dek:crypto"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_and_another_account_are_refused_each_with_its_reason() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let request = CreateKeyRequest { alias: "k".into(), ..CreateKeyRequest::default() };
    let key = admin.keys.create_key(request).await.expect("created").into_inner().key.expect("a key");
    let generate = GenerateDataKeyRequest { key: by_id(&key.key_id), ..GenerateDataKeyRequest::default() };
    let mut stranger = dev.user(1, "admin").await;
    let refused = stranger.data.generate_data_key(generate.clone()).await.expect_err("another account's key");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::NotFound, "KEY_NOT_FOUND"));
    admin.keys.disable_key(DisableKeyRequest { key_id: key.key_id.clone() }).await.expect("disabled");
    let refused = admin.data.generate_data_key(generate).await.expect_err("a disabled key");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "KEY_DISABLED"));
    admin.keys.describe_key(DescribeKeyRequest { key: by_id(&key.key_id) }).await.expect("still described");
}
