//! The permission table of SSE-KMS, row by row, over every call; and traffic control.

use std::collections::HashSet;

use dewpoint_tests::{Context, Dev, DevOptions, Rpc, Subject, by_id, eventually, reason, records_of};
use kms_proto::v1::{CreateKeyRequest, DisableKeyRequest};
use tonic::Code;
use tonic_types::StatusExt as _;

/// The permission that a call needs.
fn needed(rpc: Rpc) -> &'static str {
    match rpc {
        Rpc::CreateKey => "kms:cmk:create",
        Rpc::DescribeKey => "kms:cmk:get",
        Rpc::ListKeys => "kms:cmk:list",
        Rpc::EnableKey => "kms:cmk:enable",
        Rpc::DisableKey => "kms:cmk:disable",
        Rpc::ScheduleKeyDeletion
        | Rpc::CancelKeyDeletion
        | Rpc::UpdateKeyAlias
        | Rpc::UpdateKeyDescription => "kms:cmk:update",
        Rpc::GenerateDataKey | Rpc::GenerateDataKeyWithoutPlaintext => "kms:dek:create",
        Rpc::EncryptDataKey | Rpc::DecryptDataKey => "kms:dek:crypto",
        Rpc::GenerateRandom => "kms:cmk:generate",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_may_do_what_sse_kms_names_and_nothing_else() {
    let upload = ["kms:cmk:get", "kms:cmk:list", "kms:cmk:create", "kms:dek:create"];
    let download = ["kms:cmk:get", "kms:cmk:list", "kms:cmk:create", "kms:dek:create", "kms:dek:crypto"];
    let dev = Dev::start();
    for (name, allowed) in [
        ("uploader", Some(&upload[..])),
        ("downloader", Some(&download)),
        ("nobody", Some(&[])),
        ("admin", None),
    ] {
        let mut admin = dev.user(0, "admin").await;
        let request = CreateKeyRequest { alias: name.into(), ..CreateKeyRequest::default() };
        let key = admin.keys.create_key(request).await.expect("created").into_inner().key.expect("a key");
        let sealed = admin.generate(by_id(&key.key_id), Context::new()).await.expect("made");
        let ciphertext = sealed.ciphertext_blob.to_vec();
        let subject = Subject { key_id: key.key_id, alias: format!("{name}-2"), ciphertext };
        let mut user = dev.user(0, name).await;
        for rpc in Rpc::ALL {
            let needed = needed(rpc);
            let may = allowed.is_none_or(|allowed| allowed.contains(&needed));
            match (rpc.call(&mut user, &subject).await, may) {
                (Ok(_), true) => {}
                (Err(status), false) => {
                    assert_eq!(
                        (status.code(), &*reason(&status)),
                        (Code::PermissionDenied, "PERMISSION_DENIED")
                    );
                    let details = status.get_error_details();
                    let info = details.error_info().expect("ErrorInfo");
                    assert_eq!(info.metadata["missing_action"], needed, "{name}: {rpc:?}");
                }
                (answer, _) => panic!("{name}: {rpc:?}: {answer:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_nothing_about_keys_whatever_it_names() {
    let dev = Dev::start();
    let known = dev.user(0, "admin").await.create("k").await.key_id;
    let mut nobody = dev.user(0, "nobody").await;
    for rpc in Rpc::ALL {
        let mut messages = HashSet::new();
        for key_id in [&known, "0193a000-0000-7000-8000-000000000000", "no id"] {
            let ciphertext = b"short".to_vec();
            let subject = Subject { key_id: key_id.to_owned(), alias: "k".into(), ciphertext };
            let status = rpc.call(&mut nobody, &subject).await.expect_err("denied");
            assert_eq!(status.code(), Code::PermissionDenied, "{rpc:?} of {key_id}");
            messages.insert(status.message().to_owned());
        }
        assert_eq!(messages.len(), 1, "{rpc:?}: {messages:?}");
    }
}

/// A hundred changes in a row: each takes a few milliseconds, and twenty a second are allowed.
async fn burst(mode: &str) -> Option<tonic::Status> {
    let arguments = vec![format!("--traffic-control={mode}")];
    let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let mut admin = dev.user(0, "admin").await;
    for _ in 0..100 {
        let request = DisableKeyRequest { key_id: "0193a000-0000-7000-8000-000000000000".into() };
        let status = admin.keys.disable_key(request).await.expect_err("no such key");
        if status.code() != Code::NotFound {
            return Some(status);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_throttled_only_where_limits_are_enforced() {
    let status = burst("enforce").await.expect("over 20 a second");
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "THROTTLED"));
    let details = status.get_error_details();
    assert!(details.retry_info().and_then(|retry| retry.retry_delay).is_some(), "{details:?}");
    let violation = &details.quota_failure().expect("QuotaFailure").violations[0];
    assert!(violation.subject.starts_with("user:"), "{violation:?}");
    assert_eq!(violation.description, "20 calls per second, life-cycle");
    for mode in ["report", "off"] {
        assert!(burst(mode).await.is_none(), "{mode} refuses nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_and_each_group_has_a_budget_of_its_own_that_denied_calls_spend_too() {
    let dev = Dev::start_with(DevOptions::default());
    let mut admin = dev.user(0, "admin").await;
    let key_id = admin.create("k").await.key_id;
    let subject = Subject { key_id, alias: "renamed".into(), ciphertext: Vec::new() };
    let mut nobody = dev.user(0, "nobody").await;
    let mut denied = 0;
    let throttled = loop {
        let status = Rpc::DisableKey.call(&mut nobody, &subject).await.expect_err("nobody may do nothing");
        if status.code() != Code::PermissionDenied {
            break status;
        }
        denied += 1;
        assert!(denied < 400, "denied calls spend nothing");
    };
    assert_eq!((throttled.code(), &*reason(&throttled)), (Code::ResourceExhausted, "THROTTLED"));
    let user = dev.description.account(0).user("nobody").user_id.clone();
    let details = throttled.get_error_details();
    assert_eq!(details.quota_failure().expect("QuotaFailure").violations[0].subject, format!("user:{user}"));
    let id = throttled.metadata().get("x-request-id").expect("an id").to_str().expect("a text");
    let found = records_of(dev.directory(), id);
    assert_eq!(found.iter().map(|record| &record["reason"]).collect::<Vec<_>>(), ["THROTTLED"]);
    // Another group, a call without limit, another user.
    let status = Rpc::GenerateRandom.call(&mut nobody, &subject).await.expect_err("nobody may do nothing");
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = Rpc::ListKeys.call(&mut nobody, &subject).await.expect_err("nobody may do nothing");
    assert_eq!(status.code(), Code::PermissionDenied);
    Rpc::UpdateKeyDescription.call(&mut admin, &subject).await.expect("its own budget");
    eventually("a fresh budget", async || {
        let status = Rpc::DisableKey.call(&mut nobody, &subject).await.expect_err("nobody may do nothing");
        (status.code() == Code::PermissionDenied).then_some(())
    })
    .await;
}
