//! Refusals, retry over the wire, deadlines, and a server that dies.

use std::time::{Duration, Instant};

use kms_client::{Client, Code, CreateKeyRequest, Error, FieldViolation, RetryPolicy};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    obs,
    support::{Reply, Server, refusal},
};

/// A client that does not wait long where nobody will answer.
async fn hasty(server: &Server) -> Client {
    let policy = RetryPolicy { longest_backoff: Duration::from_millis(1), ..RetryPolicy::default() };
    Client::connect(server.config().retry(policy)).await.expect("the server is there")
}

fn refuse(code: Code, reason: &str) -> Reply {
    Reply::Refuse(refusal(code, reason, None))
}

#[tokio::test]
async fn a_refusal_is_typed() {
    let server = Server::start();
    let metadata = [("missing_action".to_owned(), "kms:cmk:get".to_owned())];
    let mut details = ErrorDetails::with_error_info("PERMISSION_DENIED", "kms.dewpoint", metadata.clone());
    details.add_bad_request_violation("key_id", "not a UUID").set_retry_info(Some(Duration::from_secs(9)));
    let mut status = Status::with_error_details(Code::PermissionDenied, "may not", details);
    status.metadata_mut().insert("x-request-id", "r-1".parse().expect("printable"));
    server.service.script([Reply::Refuse(status)]);

    let error = server.client().await.describe_key(&obs()).await.expect_err("it is refused");
    assert_eq!(error.to_string(), "PermissionDenied PERMISSION_DENIED: may not");
    assert_eq!(error.reason(), Some("PERMISSION_DENIED"));
    let refusal = error.refusal().expect("the server's word");
    assert_eq!((refusal.code, refusal.message.as_str()), (Code::PermissionDenied, "may not"));
    assert_eq!(refusal.metadata, metadata.into());
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(9)));
    assert_eq!(refusal.request_id.as_deref(), Some("r-1"));
    let violation = FieldViolation { field: "key_id".to_owned(), description: "not a UUID".to_owned() };
    assert_eq!(refusal.field_violations, [violation]);
}

#[tokio::test]
async fn a_refusal_without_details_has_no_reason() {
    let server = Server::start();
    server.service.script([Reply::Refuse(Status::internal("something else answered"))]);
    let error = server.client().await.describe_key(&obs()).await.expect_err("it is refused");
    assert_eq!(error.reason(), None);
    assert_eq!(error.refusal().map(|refusal| refusal.code), Some(Code::Internal));
    assert_eq!(server.service.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_without_its_key_breaks_the_contract() {
    let server = Server::start();
    server.service.script([Reply::Empty]);
    let error = server.client().await.describe_key(&obs()).await.expect_err("there is no key");
    assert!(matches!(error, Error::InvalidAnswer(_)), "{error:?}");
}

#[tokio::test]
async fn throttled_calls_wait_as_long_as_they_are_told() {
    let server = Server::start();
    let asked = Duration::from_millis(30);
    let throttled = || Reply::Refuse(refusal(Code::ResourceExhausted, "THROTTLED", Some(asked)));
    server.service.script([throttled(), throttled(), Reply::Answer]);
    let client = server.client().await;
    #[expect(clippy::disallowed_methods, reason = "the client waits for real here")]
    let begin = Instant::now();
    client.disable_key("id").await.expect("the third try is answered");
    assert!(begin.elapsed() >= 2 * asked);
    assert_eq!(server.service.seen().len(), 3);
}

#[tokio::test]
async fn creation_is_retried_with_one_token() {
    let server = Server::start();
    let client = server.client().await;
    let unknown = || refuse(Code::Unavailable, "OUTCOME_UNKNOWN");
    for given in ["", "mine"] {
        server.service.script([unknown(), unknown(), Reply::Answer]);
        let request = CreateKeyRequest { idempotency_token: given.to_owned(), ..CreateKeyRequest::default() };
        client.create_key(request).await.expect("the third try is answered");
        let tokens: Vec<String> =
            server.service.seen().into_iter().map(|seen| seen.idempotency_token).collect();
        let expected = if given.is_empty() { tokens[0].clone() } else { given.to_owned() };
        assert_eq!(tokens, vec![expected; 3]);
        assert!(!tokens[0].is_empty());
    }
    client.create_key(CreateKeyRequest::default()).await.expect("an answer");
    client.create_key(CreateKeyRequest::default()).await.expect("an answer");
    let seen = server.service.seen();
    assert_ne!(seen[0].idempotency_token, seen[1].idempotency_token, "every creation has its own");
}

#[tokio::test]
async fn changes_are_retried_only_if_nothing_was_done() {
    let server = Server::start();
    let client = server.client().await;
    server.service.script([refuse(Code::Unavailable, "HSM_UNAVAILABLE"), Reply::Answer]);
    client.enable_key("id").await.expect("the second try is answered");
    assert_eq!(server.service.seen().len(), 2);

    server.service.script([refuse(Code::Unavailable, "OUTCOME_UNKNOWN")]);
    let error = client.enable_key("id").await.expect_err("it must not be repeated");
    assert_eq!(error.reason(), Some("OUTCOME_UNKNOWN"));
    assert_eq!(server.service.seen().len(), 1);
}

#[tokio::test]
async fn a_service_that_stays_unavailable_is_given_up() {
    let server = Server::start();
    server.service.script((0..9).map(|_| refuse(Code::Unavailable, "STORE_UNAVAILABLE")));
    let client = hasty(&server).await;
    let error = client.describe_key(&obs()).await.expect_err("it stays unavailable");
    assert_eq!(error.reason(), Some("STORE_UNAVAILABLE"));
    assert_eq!(server.service.seen().len(), 8);
}

#[tokio::test]
async fn a_server_that_does_not_answer_runs_into_the_deadline() {
    let server = Server::start();
    let config = server.config().deadline(Duration::from_millis(50));
    let client = Client::connect(config).await.expect("the server is there");
    server.service.script([Reply::Hang]);
    let error = client.generate_random(1).await.expect_err("no answer comes");
    assert!(matches!(error, Error::Deadline), "{error:?}");
}

#[tokio::test]
async fn a_deadline_that_the_server_notices_is_the_same_error() {
    let server = Server::start();
    let client = server.client().await;
    for status in [Status::deadline_exceeded("too late"), Status::cancelled("Timeout expired")] {
        server.service.script([Reply::Refuse(status)]);
        let error = client.generate_random(1).await.expect_err("it is too late");
        assert!(matches!(error, Error::Deadline), "{error:?}");
        assert_eq!(server.service.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_change_is_not_repeated_when_the_server_dies() {
    let mut server = Server::start();
    let client = server.client().await;
    server.service.script([Reply::Hang]);
    let call = tokio::spawn(async move { client.disable_key("id").await });
    server.service.arrived().await;
    server.kill();
    server.restart();
    let error = call.await.expect("no panic").expect_err("nobody knows what happened");
    assert!(matches!(error, Error::Transport { not_sent: false, .. }), "{error:?}");
    assert_eq!(server.service.seen().len(), 1);
}

#[tokio::test]
async fn a_creation_survives_the_death_of_the_server() {
    let mut server = Server::start();
    let client = server.client().await;
    server.service.script([Reply::Hang]);
    let call = tokio::spawn(async move { client.create_key(CreateKeyRequest::default()).await });
    server.service.arrived().await;
    server.kill();
    server.restart();
    call.await.expect("no panic").expect("the new server answers");
    let seen = server.service.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].idempotency_token, seen[1].idempotency_token);
}

#[tokio::test]
async fn a_server_that_is_gone_has_seen_nothing() {
    let server = Server::start();
    let client = hasty(&server).await;
    let service = server.service.clone();
    drop(server);
    // The first try may still find the old connection; the last one finds nobody.
    client.describe_key(&obs()).await.expect_err("the server is gone");
    let error = client.enable_key("id").await.expect_err("the server is gone");
    assert!(matches!(error, Error::Transport { not_sent: true, .. }), "{error:?}");
    assert!(service.seen().is_empty());
}
