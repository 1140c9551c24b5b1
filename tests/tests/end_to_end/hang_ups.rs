//! Clients that leave in the middle of a call, and a service that is told to end under load.

use std::time::Duration;

use dewpoint_tests::{Dev, all_changes_ended, by_alias, by_id, check_log, reason};
use kms_proto::v1::{CreateKeyRequest, DecryptDataKeyRequest, DescribeKeyRequest, GenerateDataKeyRequest};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_whole_keys_and_whole_records() {
    let mut dev = Dev::start();
    let mut calls = Vec::new();
    for number in 0..60_u64 {
        let mut clients = dev.user(0, "admin").await;
        calls.push(tokio::spawn(async move {
            let request = CreateKeyRequest { alias: format!("k{number}"), ..CreateKeyRequest::default() };
            // Some leave before the call arrives, some in the middle, some after.
            let patience =
                if number < 50 { Duration::from_micros(500 * number) } else { Duration::from_secs(60) };
            tokio::time::timeout(patience, clients.keys.create_key(request))
                .await
                .is_ok_and(|made| made.is_ok())
        }));
    }
    let mut answered = Vec::new();
    for call in calls {
        answered.push(call.await.expect("no panic"));
    }
    all_changes_ended(dev.directory()).await;
    let mut admin = dev.user(0, "admin").await;
    let mut made = 0;
    for (number, answered) in answered.into_iter().enumerate() {
        let key = by_alias(&format!("k{number}"));
        match admin.keys.describe_key(DescribeKeyRequest { key: key.clone() }).await {
            Ok(_) => {
                made += 1;
                let request = GenerateDataKeyRequest { key, ..GenerateDataKeyRequest::default() };
                admin.data.generate_data_key(request).await.expect("a key that exists works");
            }
            Err(refused) => {
                assert_eq!(reason(&refused), "KEY_NOT_FOUND");
                assert!(!answered, "k{number} was acknowledged");
            }
        }
    }
    assert!(made > 0, "nobody waited long enough");
    assert!(dev.stop().success());
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_under_load_it_finishes_what_it_has_begun_and_exits_well() {
    let mut dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let request = CreateKeyRequest { alias: "k".into(), ..CreateKeyRequest::default() };
    let key_id =
        admin.keys.create_key(request).await.expect("created").into_inner().key.expect("a key").key_id;
    let mut workers = Vec::new();
    for _ in 0..16 {
        let (mut clients, key_id) = (dev.user(0, "admin").await, key_id.clone());
        workers.push(tokio::spawn(async move {
            let mut made = Vec::new();
            let request = GenerateDataKeyRequest { key: by_id(&key_id), ..GenerateDataKeyRequest::default() };
            while let Ok(answer) = clients.data.generate_data_key(request.clone()).await {
                made.push(answer.into_inner());
            }
            made
        }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await; // they are busy; the moment does not matter
    let status = tokio::task::block_in_place(|| dev.stop());
    assert!(status.success(), "{status}: {}", dev.log());
    let mut acknowledged = Vec::new();
    for worker in workers {
        acknowledged.extend(worker.await.expect("no panic"));
    }
    assert!(!acknowledged.is_empty());
    check_log(dev.directory());
    dev.start_again();
    let mut admin = dev.user(0, "admin").await;
    for made in acknowledged.into_iter().take(500) {
        let ciphertext_blob = made.ciphertext_blob;
        let request = DecryptDataKeyRequest { ciphertext_blob, ..DecryptDataKeyRequest::default() };
        let opened = admin.data.decrypt_data_key(request).await.expect("opens").into_inner();
        assert_eq!(opened.plaintext, made.plaintext);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_health_does_not_hold_up_the_end() {
    let mut dev = Dev::start();
    let admin = dev.user(0, "admin").await;
    let watching = HealthClient::new(admin.channel.clone()).watch(HealthCheckRequest::default()).await;
    let mut watching = watching.expect("watched").into_inner();
    watching.message().await.expect("a status").expect("a status");
    let ended = tokio::task::block_in_place(|| dev.stop());
    assert!(ended.success(), "{ended}: {}", dev.log());
    // What is said when the wait for connections has run out.
    assert!(!dev.log().contains("still in flight"), "{}", dev.log());
}
