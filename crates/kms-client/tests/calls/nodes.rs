//! Several addresses of one service: nodes that are slow, and nodes that are away.

use std::time::Duration;

use kms_client::{Client, Error};
use tokio::time::Instant;

use crate::{
    context, obs,
    support::{Reply, Server},
};

const AT_ONCE: Duration = Duration::from_millis(1);
/// Where nobody listens.
const AWAY: &str = "https://127.0.0.1:1";

#[tokio::test]
async fn a_read_asks_a_second_node_when_the_first_is_slow() {
    let slow = Server::start();
    let quick = slow.another();
    let config = slow.config().also_at(quick.endpoint()).hedge_after(AT_ONCE);
    let client = Client::connect(config).await.expect("both are there");
    slow.service.script([Reply::Hang]);
    client.describe_key(&obs()).await.expect("the second's answer");
    assert_eq!(quick.service.seen().iter().map(|seen| seen.method).collect::<Vec<_>>(), ["describe_key"]);
}

#[tokio::test]
async fn what_gives_out_something_new_is_sent_to_one_node_after_the_other() {
    let hung = Server::start();
    let quick = hung.another();
    let config = hung.config().also_at(quick.endpoint()).hedge_after(AT_ONCE);
    let client = Client::connect(config).await.expect("both are there");
    let deadline = Duration::from_secs(6);
    let hasty = client.with_deadline(deadline).expect("in range");
    hung.service.script([Reply::Hang, Reply::Hang]);
    let begun = Instant::now();
    hasty.generate_data_key(&obs(), 32, &context()).await.expect("the second's answer");
    assert!(begun.elapsed() >= deadline / 2, "not before the first is given up");
    // The next call begins where this one was answered.
    hasty.generate_random(1).await.expect("an answer");
    assert_eq!((hung.service.seen().len(), quick.service.seen().len()), (1, 2));
}

#[tokio::test]
async fn what_must_not_be_done_twice_has_all_its_time_at_one_node() {
    let hung = Server::start();
    let quick = hung.another();
    let config = hung.config().also_at(quick.endpoint()).hedge_after(AT_ONCE);
    let client = Client::connect(config).await.expect("both are there");
    let hasty = client.with_deadline(Duration::from_millis(200)).expect("in range");
    hung.service.script([Reply::Hang]);
    let error = hasty.enable_key("id").await.expect_err("nobody answers");
    assert!(matches!(error, Error::Deadline), "{error:?}");
    assert!(quick.service.seen().is_empty());
}

#[tokio::test]
async fn a_node_that_is_away_is_passed_over() {
    let server = Server::start();
    let there = server.config().also_at(AWAY);
    let away_first = server.config_at(AWAY).also_at(server.endpoint());
    for config in [there, away_first] {
        let client = Client::connect(config).await.expect("one is there");
        for _ in 0..3 {
            client.generate_random(1).await.expect("an answer");
        }
    }
    assert_eq!(server.service.seen().len(), 6);
    let error = Client::connect(server.config_at(AWAY)).await.expect_err("nobody is there");
    assert!(matches!(error, Error::Transport { not_sent: true, .. }), "{error:?}");
}

#[tokio::test]
async fn a_broken_node_leaves_a_call_to_the_next() {
    let mut first = Server::start();
    let second = first.another();
    let client = Client::connect(first.config().also_at(second.endpoint())).await.expect("both are there");
    client.generate_random(1).await.expect("an answer");
    assert_eq!((first.service.seen().len(), second.service.seen().len()), (1, 0));
    first.kill();
    // Its listener still takes connections, which nobody serves.
    client.describe_key(&obs()).await.expect("the second's answer");
    assert_eq!(second.service.seen().len(), 1);
}

#[tokio::test]
async fn a_call_may_have_a_deadline_of_its_own() {
    let server = Server::start();
    let client = server.client().await;
    let hasty = client.with_deadline(Duration::from_millis(50)).expect("in range");
    server.service.script([Reply::Hang]);
    let error = hasty.describe_key(&obs()).await.expect_err("nobody answers");
    assert!(matches!(error, Error::Deadline), "{error:?}");
    client.describe_key(&obs()).await.expect("the connection is as it was");
    for wrong in [Duration::ZERO, Duration::MAX] {
        assert!(matches!(client.with_deadline(wrong), Err(Error::InvalidConfig(_))), "{wrong:?}");
    }
}
