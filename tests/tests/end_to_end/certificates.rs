//! Who is let in: by certificate, by metadata, and nobody else.

use std::{io::Read as _, net::TcpStream, sync::Arc};

use dewpoint_tests::{
    ACCOUNT, ADMIN, Authority, Identity, Rpc, Serve, Subject, expired, reason, reflected, valid,
};
use kms_proto::v1::{GenerateRandomRequest, ListKeysRequest};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, Stream,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

type Files = (std::path::PathBuf, std::path::PathBuf);

async fn list(serve: &Serve, files: Option<Files>, metadata: &[(&'static str, &str)]) -> Result<(), Status> {
    let metadata = metadata.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let mut clients = serve.connect(Identity { files, metadata }).await;
    clients.keys.list_keys(ListKeysRequest::default()).await.map(|_| ())
}

fn refused(answer: Result<(), Status>) -> String {
    let status = answer.expect_err("must be refused");
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    reason(&status)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_only_health_and_reflection_answer() {
    let serve = Serve::start_new().await;
    let mut nobody = serve.connect(Identity::default()).await;
    let subject = Subject { key_id: "x".into(), alias: "a".into(), ciphertext: vec![1] };
    for rpc in Rpc::ALL {
        let status = rpc.call(&mut nobody, &subject).await.expect_err("no certificate");
        assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "NO_CERTIFICATE"), "{rpc:?}");
    }
    let records = dewpoint_tests::records(&serve.directory().join("data"));
    assert_eq!(records.len(), Rpc::ALL.len(), "each refusal is recorded");
    assert!(
        records.iter().all(|record| record["source"].is_string() && record["reason"] == "NO_CERTIFICATE")
    );
    let checked = HealthClient::new(nobody.channel.clone()).check(HealthCheckRequest::default()).await;
    assert_eq!(checked.expect("answers").into_inner().status(), ServingStatus::Serving);
    let services = reflected(&nobody).await;
    for service in
        ["kms.v1.KeyService", "kms.v1.DataKeyService", "kms.v1.OperatorService", "grpc.health.v1.Health"]
    {
        assert!(services.iter().any(|name| name == service), "{service} is not in {services:?}");
    }
}

/// What the service says in a handshake with this certificate: nothing, or an alert.
fn handshake_alert(serve: &Serve, (certificate, key): Files) -> Option<String> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(serve.authority.certificate()).expect("a certificate");
    roots.add(authority).expect("an authority");
    let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = "localhost".try_into().expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut socket = TcpStream::connect(("127.0.0.1", serve.port())).expect("it listens");
    // In TLS 1.3 a client's certificate is judged after the client is done: at its first read.
    match Stream::new(&mut connection, &mut socket).read(&mut [0; 1]) {
        Ok(count) => (count == 0).then(|| "closed".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_the_authority_does_not_vouch_for_fail_the_handshake() {
    let serve = Serve::start_new().await;
    let foreign = Authority::new(serve.directory(), "foreign");
    let authority = &serve.authority;
    list(&serve, Some(authority.client("right", &[ADMIN], valid())), &[])
        .await
        .expect("the right one is let in");
    assert_eq!(handshake_alert(&serve, authority.client("again", &[ADMIN], valid())), None);
    for (files, alert) in [
        (authority.client("expired", &[ADMIN], expired()), "CertificateExpired"),
        (authority.self_signed_client("self", &[ADMIN]), "received fatal alert"),
        (foreign.client("foreign", &[ADMIN], valid()), "received fatal alert"),
    ] {
        let said = handshake_alert(&serve, files.clone()).expect("the handshake fails");
        assert!(said.contains(alert), "{files:?}: {said}");
        let status = list(&serve, Some(files.clone()), &[]).await.expect_err("no handshake");
        assert!(status.details().is_empty(), "{files:?} came as far as the service: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_name_nobody_are_refused() {
    let serve = Serve::start_new().await;
    let other_account = format!("dewpoint://{ACCOUNT}/other");
    for (stem, uris) in [
        ("none", &[][..]),
        ("unknown", &["dewpoint://d1/stranger"][..]),
        ("two", &[ADMIN, "dewpoint://d2/other"][..]),
        ("twice", &[ADMIN, ADMIN][..]),
        ("cross", &[&*other_account][..]),
        ("scheme", &["https://d1/admin"][..]),
        ("service", &["dewpoint://service/evs"][..]),
    ] {
        let files = serve.authority.client(stem, uris, valid());
        assert_eq!(refused(list(&serve, Some(files), &[]).await), "UNKNOWN_IDENTITY", "{stem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_can_only_say_what_the_identity_file_allows() {
    let serve = Serve::start_new().await;
    let admin = serve.authority.client("admin", &[ADMIN], valid());
    let obs = serve.authority.client("obs", &["dewpoint://service/obs"], valid());
    list(&serve, Some(admin.clone()), &[("x-project-id", "p1")]).await.expect("its own project");
    list(&serve, Some(obs.clone()), &[("x-acting-for", "admin")]).await.expect("a user that it serves");
    let long = "p".repeat(65);
    for (files, metadata, expected) in [
        (&admin, vec![("x-project-id", "p2")], "UNKNOWN_PROJECT"),
        (&admin, vec![("x-project-id", "p9")], "UNKNOWN_PROJECT"),
        (&admin, vec![("x-project-id", "")], "INVALID_METADATA"),
        (&admin, vec![("x-project-id", &*long)], "INVALID_METADATA"),
        (&admin, vec![("x-project-id", "p1"), ("x-project-id", "p1")], "INVALID_METADATA"),
        (&admin, vec![("x-acting-for", "admin")], "ACTING_FOR_NOT_ALLOWED"),
        (&obs, vec![], "ACTING_FOR_REQUIRED"),
        (&obs, vec![("x-acting-for", "stranger")], "ACTING_FOR_NOT_ALLOWED"),
        (&obs, vec![("x-acting-for", "other")], "ACTING_FOR_NOT_ALLOWED"),
        (&obs, vec![("x-acting-for", "admin"), ("x-acting-for", "other")], "INVALID_METADATA"),
    ] {
        assert_eq!(refused(list(&serve, Some(files.clone()), &metadata).await), expected, "{metadata:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_names_the_user_the_service_and_the_call() {
    let serve = Serve::start_new().await;
    let obs = serve.authority.client("obs", &["dewpoint://service/obs"], valid());
    let metadata = vec![("x-acting-for", "admin".to_owned())];
    let mut clients = serve.connect(Identity { files: Some(obs), metadata }).await;
    let answer = clients.data.generate_random(GenerateRandomRequest { length: 8 }).await.expect("answers");
    let records =
        dewpoint_tests::records_of(&serve.directory().join("data"), &dewpoint_tests::request_id(&answer));
    let [record] = &records[..] else { panic!("one record, not {records:?}") };
    assert_eq!(record["account"], ACCOUNT);
    assert_eq!(record["user"], "admin");
    assert_eq!(record["acting_service"], "obs");
    assert_eq!((&record["operation"], &record["verdict"]), (&"GenerateRandom".into(), &"succeeded".into()));
    assert!(record["source"].as_str().is_some_and(|source| source.starts_with("127.0.0.1:")), "{record}");
    assert_eq!(record["certificate"].as_str().map(str::len), Some(64));
}
