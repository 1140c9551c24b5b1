//! What is not offered is refused as an operation is, to those who may ask.

use dewpoint_tests::{ADMIN, Clients, Identity, Serve, reason, records, valid};
use kms_proto::v1::{CreatePinRequest, trusted_execution_service_client::TrustedExecutionServiceClient};
use tonic::{Code, Status};

async fn create_pin(clients: &Clients) -> Status {
    let mut service = TrustedExecutionServiceClient::new(clients.channel.clone());
    service.create_pin(CreatePinRequest::default()).await.expect_err("nobody gets one")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_can_use_is_identified_and_recorded_before_it_is_refused() {
    let serve = Serve::start_new().await;
    let nobody = serve.connect(Identity::default()).await;
    let refused = create_pin(&nobody).await;
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unauthenticated, "NO_CERTIFICATE"));

    let files = serve.authority.client("admin", &[ADMIN], valid());
    let admin = serve.connect(Identity { files: Some(files), ..Identity::default() }).await;
    let refused = create_pin(&admin).await;
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unimplemented, "NOT_OFFERED"));
    let instead = "a PIN for a data key (an encryption context binds a data key to what it is for)";
    assert_eq!(refused.message(), format!("{instead} is not offered here"));

    let recorded = records(&serve.directory().join("data"));
    let told: Vec<_> = recorded.iter().map(|record| (&record["operation"], &record["reason"])).collect();
    let pin = "CreatePin".into();
    assert_eq!(told, [(&pin, &"NO_CERTIFICATE".into()), (&pin, &"NOT_OFFERED".into())]);
}
