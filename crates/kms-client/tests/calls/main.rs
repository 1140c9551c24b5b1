//! The client against a real server on loopback with mutual TLS.

mod envelopes;
mod failures;
mod nodes;
mod support;

use std::{collections::HashMap, time::Duration};

use kms_client::{Client, ClientConfig, CreateKeyRequest, Error, KeyReference, ListKeysRequest, SecretBytes};
use support::{Certificates, Server};

fn context() -> HashMap<String, String> {
    HashMap::from([("object".to_owned(), "bucket/path".to_owned())])
}

fn obs() -> KeyReference {
    KeyReference::Service("obs".to_owned())
}

#[tokio::test]
async fn every_call_of_the_key_service_arrives() {
    let server = Server::start();
    let client = server.client().await;
    let answered = [
        client.create_key(CreateKeyRequest::default()).await,
        client.describe_key(&obs()).await,
        client.enable_key("id").await,
        client.disable_key("id").await,
        client.schedule_key_deletion("id", 7).await,
        client.cancel_key_deletion("id").await,
        client.update_key_alias("id", "alias").await,
        client.update_key_description("id", "description").await,
    ];
    let names: Vec<String> = answered.into_iter().map(|key| key.expect("an answer").alias).collect();
    let seen: Vec<&str> = server.service.seen().iter().map(|seen| seen.method).collect();
    assert_eq!(names, seen);
    let page = client.list_keys(ListKeysRequest::default()).await.expect("an answer");
    assert_eq!(page.next_page_token, "next");
}

#[tokio::test]
async fn every_call_of_the_data_key_service_arrives() {
    let server = Server::start();
    let client = server.client().await;
    let made = client.generate_data_key(&obs(), 32, &context()).await.expect("a data key");
    let opened = client.decrypt_data_key(&made.ciphertext, None, &context()).await.expect("it opens");
    assert_eq!(opened.plaintext.expose(), [1; 32]);
    assert_eq!(made.plaintext.expose(), opened.plaintext.expose());
    assert_eq!((opened.key_id, opened.key_version), (made.key_id, made.key_version));

    let sealed =
        client.generate_data_key_without_plaintext(&obs(), 16, &context()).await.expect("a data key");
    let opened =
        client.decrypt_data_key(&sealed.ciphertext, Some(&obs()), &context()).await.expect("it opens");
    assert_eq!(opened.plaintext.expose(), [2; 16]);

    let own = SecretBytes::from(vec![5; 20]);
    let sealed = client.encrypt_data_key(&obs(), own, &context()).await.expect("a sealed data key");
    let opened = client.decrypt_data_key(&sealed.ciphertext, None, &context()).await.expect("it opens");
    assert_eq!(opened.plaintext.expose(), [5; 20]);
    let refused = client.decrypt_data_key(&sealed.ciphertext, None, &HashMap::new()).await;
    assert_eq!(refused.expect_err("another context").reason(), Some("CANNOT_DECRYPT"));

    assert_eq!(client.generate_random(24).await.expect("random bytes").expose(), [9; 24]);
}

#[tokio::test]
async fn metadata_and_deadline_go_with_every_call() {
    let server = Server::start();
    let config = server.config().project_id("p1").acting_for("u1").deadline(Duration::from_secs(90));
    let client = Client::connect(config).await.expect("the server is there");
    client.describe_key(&obs()).await.expect("an answer");
    let other = client.in_project("p2").and_then(|client| client.acting_for("u2")).expect("printable");
    other.generate_random(1).await.expect("an answer");
    client.generate_random(1).await.expect("an answer");

    let seen = server.service.seen();
    let of = |name: &str| -> Vec<String> {
        let values = seen.iter().map(|seen| seen.metadata.get(name).expect(name).to_str().expect(name));
        values.map(str::to_owned).collect()
    };
    assert_eq!(of("x-project-id"), ["p1", "p2", "p1"]);
    assert_eq!(of("x-acting-for"), ["u1", "u2", "u1"]);
    for timeout in of("grpc-timeout") {
        let microseconds: u64 = timeout.strip_suffix('u').expect("microseconds").parse().expect("a number");
        assert!((1..=90_000_000).contains(&microseconds), "{timeout}");
    }
}

#[tokio::test]
async fn without_project_and_user_no_such_metadata_is_sent() {
    let server = Server::start();
    server.client().await.generate_random(1).await.expect("an answer");
    let seen = server.service.seen();
    assert!(seen[0].metadata.get("x-project-id").is_none() && seen[0].metadata.get("x-acting-for").is_none());
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_before_anything_is_sent() {
    let server = Server::start();
    let (certificates, _) = Certificates::new();
    let plain = ClientConfig::new(
        "http://127.0.0.1:1",
        certificates.ca.as_str(),
        certificates.client.as_str(),
        SecretBytes::from(certificates.client_key.into_bytes()),
    );
    let no_key = ClientConfig::new(
        "https://127.0.0.1:1",
        certificates.ca.as_str(),
        certificates.client.as_str(),
        SecretBytes::from(b"not a key".to_vec()),
    );
    let unusable = [
        plain,
        no_key,
        server.config().project_id("line\nbreak"),
        server.config().acting_for("\u{fc}"),
        server.config().deadline(Duration::ZERO),
        server.config().deadline(Duration::MAX),
    ];
    for config in unusable {
        let shown = format!("{config:?}");
        assert!(!shown.contains("PRIVATE"), "a configuration shows no key");
        let error = Client::connect(config).await.expect_err(&shown);
        assert!(matches!(error, Error::InvalidConfig(_)), "{error:?}");
    }
    let client = server.client().await;
    assert!(matches!(client.in_project("\u{0}"), Err(Error::InvalidConfig(_))));
}

#[tokio::test]
async fn certificates_are_read_from_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let [ca, certificate, key] = ["ca.pem", "me.pem", "me.key"].map(|name| directory.path().join(name));
    let missing = ClientConfig::from_files("https://127.0.0.1:1", &ca, &certificate, &key);
    let message = missing.expect_err("there is no file").to_string();
    assert!(message.contains("me.key"), "{message}");

    let (certificates, _) = Certificates::new();
    for (path, content) in
        [(&ca, &certificates.ca), (&certificate, &certificates.client), (&key, &certificates.client_key)]
    {
        std::fs::write(path, content).expect("a file");
    }
    ClientConfig::from_files("https://127.0.0.1:1", &ca, &certificate, &key).expect("the files are there");
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_spoken_to() {
    let server = Server::start();
    let endpoint = format!("https://{}", server.address());
    let (certificates, _) = Certificates::new();
    let key = SecretBytes::from(certificates.client_key.into_bytes());
    let config = ClientConfig::new(endpoint, certificates.ca.as_str(), certificates.client.as_str(), key);
    let error = Client::connect(config).await.expect_err("another CA");
    assert!(matches!(error, Error::Transport { not_sent: true, .. }), "{error:?}");
    assert!(server.service.seen().is_empty());
}
