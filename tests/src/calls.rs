//! Generated clients with an identity, and what an error says.

use std::{fs, path::PathBuf, time::Duration};

use kms_proto::v1::{
    KeyReference, data_key_service_client::DataKeyServiceClient, dev_service_client::DevServiceClient,
    key_reference::Reference, key_service_client::KeyServiceClient,
    operator_service_client::OperatorServiceClient, signing_service_client::SigningServiceClient,
};
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{self, Certificate, Channel, ClientTlsConfig, Identity as TlsIdentity},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;

use crate::Description;

/// As whom to call.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Certificate and key; `None`: no certificate.
    pub files: Option<(PathBuf, PathBuf)>,
    /// Metadata to send with every call.
    pub metadata: Vec<(&'static str, String)>,
}

/// Where a service is, and who vouches for it.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) ca: PathBuf,
}

/// Adds an identity's metadata to calls.
#[derive(Debug, Clone)]
pub struct Claims(Vec<(&'static str, String)>);

impl Interceptor for Claims {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            let value = MetadataValue::try_from(value.as_str()).expect("a metadata value");
            request.metadata_mut().append(*name, value);
        }
        Ok(request)
    }
}

/// Clients for all services of the contract, on one connection.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Keys and their life cycle.
    pub keys: KeyServiceClient<InterceptedService<Channel, Claims>>,
    /// Data keys.
    pub data: DataKeyServiceClient<InterceptedService<Channel, Claims>>,
    /// Signatures, HMACs and shared secrets.
    pub signing: SigningServiceClient<InterceptedService<Channel, Claims>>,
    /// Root keys.
    pub roots: OperatorServiceClient<InterceptedService<Channel, Claims>>,
    /// The clock that testers advance.
    pub dev: DevServiceClient<InterceptedService<Channel, Claims>>,
    /// The connection.
    pub channel: Channel,
}

impl Clients {
    /// Connects at the first call.
    ///
    /// # Panics
    /// If files cannot be read.
    pub async fn connect(description: &Description, identity: Identity) -> Self {
        let endpoint = Endpoint { url: description.endpoint(), ca: description.ca() };
        Self::connect_to(&endpoint, identity).await
    }

    #[allow(clippy::unused_async, reason = "a channel has to be made inside of a runtime")]
    pub(crate) async fn connect_to(endpoint: &Endpoint, identity: Identity) -> Self {
        let read = |path: &PathBuf| fs::read(path).expect("a PEM file");
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&endpoint.ca)))
            .domain_name("localhost");
        if let Some((certificate, key)) = &identity.files {
            tls = tls.identity(TlsIdentity::from_pem(read(certificate), read(key)));
        }
        let endpoint = transport::Endpoint::from_shared(endpoint.url.clone()).expect("an endpoint");
        let endpoint =
            endpoint.connect_timeout(Duration::from_secs(10)).tls_config(tls).expect("TLS settings");
        let channel = endpoint.connect_lazy();
        let claims = Claims(identity.metadata);
        Self {
            keys: KeyServiceClient::with_interceptor(channel.clone(), claims.clone()),
            data: DataKeyServiceClient::with_interceptor(channel.clone(), claims.clone()),
            signing: SigningServiceClient::with_interceptor(channel.clone(), claims.clone()),
            roots: OperatorServiceClient::with_interceptor(channel.clone(), claims.clone()),
            dev: DevServiceClient::with_interceptor(channel.clone(), claims),
            channel,
        }
    }
}

/// The services that reflection names.
///
/// # Panics
/// If it does not answer.
pub async fn reflected(clients: &Clients) -> Vec<String> {
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let mut client = ServerReflectionClient::new(clients.channel.clone());
    let answered = client.server_reflection_info(Request::new(tokio_stream::iter([request]))).await;
    let answer = answered.expect("answers").into_inner().message().await.expect("a message").expect("one");
    match answer.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|one| one.name).collect()
        }
        other => panic!("no list of services: {other:?}"),
    }
}

/// Names a key by its id.
#[allow(clippy::unnecessary_wraps, reason = "the form of the requests' field")]
pub fn by_id(id: &str) -> Option<KeyReference> {
    Some(KeyReference { reference: Some(Reference::KeyId(id.to_owned())) })
}

/// Names a key by an alias.
#[allow(clippy::unnecessary_wraps, reason = "the form of the requests' field")]
pub fn by_alias(alias: &str) -> Option<KeyReference> {
    Some(KeyReference { reference: Some(Reference::Alias(alias.to_owned())) })
}

/// Names the default key of a service.
#[allow(clippy::unnecessary_wraps, reason = "the form of the requests' field")]
pub fn by_service(service: &str) -> Option<KeyReference> {
    Some(KeyReference { reference: Some(Reference::Service(service.to_owned())) })
}

/// The stable reason of an error.
///
/// # Panics
/// If it has none.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "kms.dewpoint");
    info.reason.clone()
}
