//! The door of DEW's REST protocol: what clients may do to a connection, and what becomes of them when the service ends.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use dewpoint_tests::{Dev, DevOptions, Rest, RestAnswer, RestRequest, Signer, eventually, records};
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Far beyond what an end takes that waits for nobody, and far less than the 30 seconds that it waits for calls.
const SOON: Duration = Duration::from_secs(15);

/// A deployment in plain HTTP, so that a client needs nothing but a socket.
fn in_plain() -> (Dev, Rest) {
    let arguments = ["--insecure-plain-http", "--traffic-control=off", "--admin-port=0"];
    let arguments = arguments.map(str::to_owned).to_vec();
    let environment = vec![("DEWPOINT_LOG".to_owned(), "info,kms_server=debug".to_owned())];
    let dev = Dev::start_with(DevOptions { arguments, environment, ..DevOptions::default() });
    let rest = Rest::of(&dev.description);
    (dev, rest)
}

fn connect(dev: &Dev, sent: &str) -> TcpStream {
    let endpoint = dev.description.dew_endpoint();
    let address = endpoint.strip_prefix("http://").expect("in plain");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(sent.as_bytes()).expect("it is taken");
    stream
}

fn request(dev: &Dev, operation: &str, body: &Value) -> RestRequest {
    let account = dev.description.account(0);
    let path = format!("/v1.0/{}/kms/{operation}", account.projects[0].0);
    RestRequest::new(Method::POST, &path, body).signed(Signer::of(&account.user("admin").access_key))
}

fn random(dev: &Dev) -> RestRequest {
    request(dev, "gen-random", &json!({"random_data_length": "512"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_for_connections_without_a_whole_request() {
    let (mut dev, rest) = in_plain();
    let path = random(&dev).path;
    let strangers = [
        String::new(),
        "G".to_owned(),
        "GET / HTTP/1.1\r\nhost: localhost\r\n".to_owned(),
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{{"),
    ];
    let _held: Vec<_> = strangers.iter().map(|sent| connect(&dev, sent)).collect();
    // They came before this one, which is served and stays.
    let mut idle = rest.connect().await;
    assert_eq!(idle.send(&random(&dev)).await.status, 200);
    let told = Instant::now();
    assert!(dev.stop().success());
    assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_waits_for_what_has_come_in_whole() {
    let (mut dev, rest) = in_plain();
    let slow = request(&dev, "create-key", &json!({"key_alias": "slow", "key_spec": "RSA_4096"}));
    let calling = tokio::spawn(async move { rest.send(&slow).await });
    eventually("the call's intent", async || {
        let began = |record: &Value| record["operation"] == "CreateKey";
        records(dev.directory()).iter().any(began).then_some(())
    })
    .await;
    assert!(dev.stop().success());
    assert_eq!(calling.await.expect("it was answered").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_answered_to_who_sends_it_first() {
    const MEGABYTE: usize = 1 << 20;
    let (dev, rest) = in_plain();
    let body = vec![b'x'; MEGABYTE];
    let chunked = [format!("{MEGABYTE:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    let whole = RestRequest { body: Vec::new(), ..random(&dev) };
    for (header, body) in
        [(format!("content-length: {MEGABYTE}"), &body), ("transfer-encoding: chunked".to_owned(), &chunked)]
    {
        for _ in 0..5 {
            let answer = rest.send_part(&whole, &format!("{header}\r\nconnection: close"), body).await;
            assert_eq!(answer.told(), (400, "KMS.0203"), "{answer:?}");
        }
    }
    // Also on a connection that is kept.
    let mut kept = rest.connect().await;
    for _ in 0..3 {
        let answer = kept.send(&RestRequest { body: body.clone(), ..random(&dev) }).await;
        assert_eq!(answer.told(), (400, "KMS.0203"), "{answer:?}");
        assert_eq!(kept.send(&random(&dev)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_headers_than_there_may_be_are_refused_in_dews_form() {
    let (dev, rest) = in_plain();
    let with =
        |count: usize| (0..count).fold(random(&dev), |one, number| one.with(&format!("x-{number}"), "1"));
    let own = random(&dev).headers.len() + 1; // and the length of the body
    assert_eq!(rest.send(&with(64 - own)).await.status, 200);
    for count in [65 - own, 200] {
        let answer = rest.send(&with(count)).await;
        assert_eq!((answer.told(), answer.request_id().len()), ((400, "KMS.0214"), 36), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_is_told_in_the_log_and_counted() {
    let (dev, rest) = in_plain();
    let nowhere = RestRequest { path: "/v9/nothing".to_owned(), ..random(&dev) };
    let other = RestRequest { method: Method::PUT, ..random(&dev) };
    let answers = [rest.send(&nowhere).await, rest.send(&nowhere).await, rest.send(&other).await];
    let told = answers.each_ref().map(RestAnswer::told);
    assert_eq!(told, [(404, "APIGW.0101"), (404, "APIGW.0101"), (405, "KMS.0215")]);
    let log = dev.log();
    for answer in &answers {
        let line = log.lines().find(|line| line.contains(answer.request_id()));
        let line: Value = serde_json::from_str(line.expect("its id is in the log")).expect("JSON");
        assert_eq!(line["code"], answer.code());
        assert!(line["source"].as_str().is_some_and(|source| source.starts_with("127.0.0.1:")), "{line}");
    }
    let metrics = dev.metrics();
    for (code, count) in [("APIGW.0101", 2), ("KMS.0215", 1)] {
        let line = format!("dewpoint_dew_no_calls_total{{code=\"{code}\"}} {count}");
        assert!(metrics.lines().any(|known| known == line), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_let_go() {
    let (dev, rest) = in_plain();
    for junk in ["\0\0\0\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /\r\nhost\r\n\r\n"] {
        let mut answer = String::new();
        drop(connect(&dev, junk).read_to_string(&mut answer)); // it may be reset
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(rest.send(&random(&dev)).await.status, 200);
}
