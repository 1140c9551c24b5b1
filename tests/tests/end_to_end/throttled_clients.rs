//! The published client under traffic control that is enforced: it waits as it is told, and gets through.

use std::time::Duration;

use dewpoint_tests::{Dev, DevOptions, records};
use kms_client::{
    Client, ClientConfig, Code, Error, Repeat, RetryPolicy,
    proto::{DisableKeyRequest, key_service_client::KeyServiceClient},
};
use tokio::task::JoinSet;

/// More than the budget of life cycle operations holds at once: 20 a second for each user.
const CALLS: usize = 60;
/// After so many bursts none was fast enough to be throttled.
const MOST_BURSTS: usize = 50;

fn dev() -> Dev {
    let arguments = vec!["--traffic-control=enforce".to_owned()];
    Dev::start_with(DevOptions { arguments, ..DevOptions::default() })
}

async fn client(dev: &Dev, policy: RetryPolicy) -> Client {
    let account = dev.description.account(0);
    let (certificate, key) = account.user("admin").files.clone();
    let config = ClientConfig::from_files(dev.description.endpoint(), dev.description.ca(), certificate, key);
    let config = config.expect("files").retry(policy).deadline(Duration::from_secs(120));
    Client::connect(config).await.expect("it listens")
}

/// Sends all calls at once; each changes a key that does not exist, so that what got through is told from the rest.
async fn burst(client: &Client) -> Vec<Error> {
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let client = client.clone();
        let request = DisableKeyRequest { key_id: "0193a000-0000-7000-8000-000000000000".to_owned() };
        calls.spawn(async move {
            let sent = client.call(Repeat::OnlyIfUndone, request, |channel, request| async move {
                KeyServiceClient::new(channel).disable_key(request).await
            });
            sent.await.expect_err("there is no such key")
        });
    }
    calls.join_all().await
}

fn throttled(errors: &[Error]) -> impl Iterator<Item = &kms_client::Refusal> {
    errors.iter().filter_map(Error::refusal).filter(|refusal| refusal.code == Code::ResourceExhausted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_gets_through_although_the_service_throttles_it() {
    let mut dev = dev();
    // More tries than a crowd of this size needs.
    let client = client(&dev, RetryPolicy { max_tries: 20, ..RetryPolicy::default() }).await;
    let throttled = |dev: &Dev| count(dev, "THROTTLED") > 0;
    let mut bursts = 0;
    // Until a burst is faster than the budget, whatever else the machine does.
    while bursts < MOST_BURSTS && !throttled(&dev) {
        bursts += 1;
        for error in burst(&client).await {
            assert_eq!(error.reason(), Some("KEY_NOT_FOUND"), "{error:?}");
        }
    }
    assert!(throttled(&dev), "no burst was throttled");
    assert!(dev.stop().success());
    assert_eq!(count(&dev, "KEY_NOT_FOUND"), bursts * CALLS, "each call was let in once");
}

/// How many records have this reason.
fn count(dev: &Dev, reason: &str) -> usize {
    records(dev.directory()).iter().filter(|record| record["reason"] == reason).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_may_try_once_is_told_when_to_come_back() {
    let dev = dev();
    let client = client(&dev, RetryPolicy { max_tries: 1, ..RetryPolicy::default() }).await;
    for _ in 0..MOST_BURSTS {
        let errors = burst(&client).await;
        if let Some(refusal) = throttled(&errors).next() {
            assert_eq!(refusal.reason, "THROTTLED");
            assert!(refusal.retry_after.is_some_and(|after| after > Duration::ZERO), "{refusal:?}");
            return;
        }
    }
    panic!("no burst was throttled");
}
