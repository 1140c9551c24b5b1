//! A server on loopback with mutual TLS that answers as its script says.

use std::{
    collections::{HashMap, VecDeque},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use kms_client::{Client, ClientConfig, SecretBytes};
use kms_proto::v1::{
    self,
    data_key_service_server::{DataKeyService, DataKeyServiceServer},
    key_service_server::{KeyService, KeyServiceServer},
};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use tokio::{runtime::Runtime, sync::Notify};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataMap,
    transport::{Identity, ServerTlsConfig},
};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What the server does with a call. Without a script it answers.
pub(crate) enum Reply {
    Answer,
    /// Answers without the key.
    Empty,
    Refuse(Status),
    /// Never answers.
    Hang,
}

/// A call that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: &'static str,
    pub(crate) metadata: MetadataMap,
    /// Of CreateKey only.
    pub(crate) idempotency_token: String,
}

type DataKeys = HashMap<Bytes, (Bytes, HashMap<String, String>)>;

/// Both services, on one script.
#[derive(Clone, Default)]
pub(crate) struct Service {
    script: Arc<Mutex<VecDeque<Reply>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    arrived: Arc<Notify>,
    data_keys: Arc<Mutex<DataKeys>>,
}

impl Service {
    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().expect("no test panics with it").extend(replies);
    }

    /// The calls that arrived since this was last asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().expect("no test panics with it"))
    }

    /// Waits until a call has arrived.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Answers whether the answer holds what it should.
    async fn reply(
        &self,
        method: &'static str,
        metadata: &MetadataMap,
        token: Option<&str>,
    ) -> Result<bool, Status> {
        let seen = Seen {
            method,
            metadata: metadata.clone(),
            idempotency_token: token.unwrap_or_default().to_owned(),
        };
        self.seen.lock().expect("no test panics with it").push(seen);
        self.arrived.notify_one();
        let reply = self.script.lock().expect("no test panics with it").pop_front();
        match reply {
            None | Some(Reply::Answer) => Ok(true),
            Some(Reply::Empty) => Ok(false),
            Some(Reply::Refuse(status)) => Err(status),
            Some(Reply::Hang) => std::future::pending().await,
        }
    }

    /// A data key whose bytes are its number, and what stands for it.
    fn new_data_key(&self, length: u32, context: HashMap<String, String>) -> (Bytes, Bytes) {
        let mut data_keys = self.data_keys.lock().expect("no test panics with it");
        let number = u8::try_from(data_keys.len() + 1).expect("few data keys");
        let plaintext = Bytes::from(vec![number; usize::try_from(length).expect("a short data key")]);
        let sealed = Bytes::from(format!("sealed {number}"));
        data_keys.insert(sealed.clone(), (plaintext.clone(), context));
        (plaintext, sealed)
    }
}

/// The calls of the key service, all of which answer a key, named for the method.
macro_rules! key_service {
    ($($method:ident($request:ident) -> $answer:ident, $token:expr;)*) => {
        #[tonic::async_trait]
        impl KeyService for Service {
            $(async fn $method(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::$answer>, Status> {
                let token: fn(&v1::$request) -> Option<&str> = $token;
                let token = token(request.get_ref());
                let whole = self.reply(stringify!($method), request.metadata(), token).await?;
                let key = v1::Key { alias: stringify!($method).to_owned(), ..v1::Key::default() };
                Ok(Response::new(v1::$answer { key: whole.then_some(key) }))
            })*

            async fn schedule_key_deletion(
                &self,
                request: Request<v1::ScheduleKeyDeletionRequest>,
            ) -> Result<Response<v1::ScheduleKeyDeletionResponse>, Status> {
                let whole = self.reply("schedule_key_deletion", request.metadata(), None).await?;
                let key = v1::Key { alias: "schedule_key_deletion".to_owned(), ..v1::Key::default() };
                let usage = v1::KeyUse::default();
                Ok(Response::new(v1::ScheduleKeyDeletionResponse {
                    key: whole.then_some(key),
                    usage: whole.then_some(usage),
                }))
            }

            async fn describe_key_usage(
                &self,
                request: Request<v1::DescribeKeyUsageRequest>,
            ) -> Result<Response<v1::DescribeKeyUsageResponse>, Status> {
                let whole = self.reply("describe_key_usage", request.metadata(), None).await?;
                let usage = v1::KeyUse::default();
                Ok(Response::new(v1::DescribeKeyUsageResponse { usage: whole.then_some(usage) }))
            }

            async fn list_keys(
                &self,
                request: Request<v1::ListKeysRequest>,
            ) -> Result<Response<v1::ListKeysResponse>, Status> {
                self.reply("list_keys", request.metadata(), None).await?;
                Ok(Response::new(v1::ListKeysResponse { keys: Vec::new(), next_page_token: "next".to_owned() }))
            }
        }
    };
}

key_service! {
    create_key(CreateKeyRequest) -> CreateKeyResponse, |request| Some(&request.idempotency_token);
    describe_key(DescribeKeyRequest) -> DescribeKeyResponse, |_| None;
    enable_key(EnableKeyRequest) -> EnableKeyResponse, |_| None;
    disable_key(DisableKeyRequest) -> DisableKeyResponse, |_| None;
    cancel_key_deletion(CancelKeyDeletionRequest) -> CancelKeyDeletionResponse, |_| None;
    update_key_alias(UpdateKeyAliasRequest) -> UpdateKeyAliasResponse, |_| None;
    update_key_description(UpdateKeyDescriptionRequest) -> UpdateKeyDescriptionResponse, |_| None;
}

const KEY_ID: &str = "11111111-2222-3333-4444-555555555555";

#[tonic::async_trait]
impl DataKeyService for Service {
    async fn generate_data_key(
        &self,
        request: Request<v1::GenerateDataKeyRequest>,
    ) -> Result<Response<v1::GenerateDataKeyResponse>, Status> {
        self.reply("generate_data_key", request.metadata(), None).await?;
        let request = request.into_inner();
        let (plaintext, ciphertext_blob) = self.new_data_key(request.length, request.encryption_context);
        let key_id = KEY_ID.to_owned();
        Ok(Response::new(v1::GenerateDataKeyResponse { key_id, key_version: 3, plaintext, ciphertext_blob }))
    }

    async fn generate_data_key_without_plaintext(
        &self,
        request: Request<v1::GenerateDataKeyWithoutPlaintextRequest>,
    ) -> Result<Response<v1::GenerateDataKeyWithoutPlaintextResponse>, Status> {
        self.reply("generate_data_key_without_plaintext", request.metadata(), None).await?;
        let request = request.into_inner();
        let (_, ciphertext_blob) = self.new_data_key(request.length, request.encryption_context);
        Ok(Response::new(v1::GenerateDataKeyWithoutPlaintextResponse {
            key_id: KEY_ID.to_owned(),
            key_version: 3,
            ciphertext_blob,
        }))
    }

    async fn encrypt_data_key(
        &self,
        request: Request<v1::EncryptDataKeyRequest>,
    ) -> Result<Response<v1::EncryptDataKeyResponse>, Status> {
        self.reply("encrypt_data_key", request.metadata(), None).await?;
        let request = request.into_inner();
        let sealed = Bytes::from_static(b"sealed by hand");
        let entry = (request.plaintext, request.encryption_context);
        self.data_keys.lock().expect("no test panics with it").insert(sealed.clone(), entry);
        Ok(Response::new(v1::EncryptDataKeyResponse {
            key_id: KEY_ID.to_owned(),
            key_version: 3,
            ciphertext_blob: sealed,
        }))
    }

    async fn decrypt_data_key(
        &self,
        request: Request<v1::DecryptDataKeyRequest>,
    ) -> Result<Response<v1::DecryptDataKeyResponse>, Status> {
        self.reply("decrypt_data_key", request.metadata(), None).await?;
        let request = request.into_inner();
        let data_keys = self.data_keys.lock().expect("no test panics with it");
        match data_keys.get(&request.ciphertext_blob) {
            Some((plaintext, context)) if *context == request.encryption_context => {
                let plaintext = plaintext.clone();
                let key_id = KEY_ID.to_owned();
                Ok(Response::new(v1::DecryptDataKeyResponse { key_id, key_version: 3, plaintext }))
            }
            _ => Err(refusal(Code::InvalidArgument, "CANNOT_DECRYPT", None)),
        }
    }

    async fn generate_random(
        &self,
        request: Request<v1::GenerateRandomRequest>,
    ) -> Result<Response<v1::GenerateRandomResponse>, Status> {
        self.reply("generate_random", request.metadata(), None).await?;
        let length = usize::try_from(request.get_ref().length).expect("short");
        Ok(Response::new(v1::GenerateRandomResponse { random: vec![9; length].into() }))
    }

    async fn generate_data_keys(
        &self,
        _: Request<v1::GenerateDataKeysRequest>,
    ) -> Result<Response<v1::GenerateDataKeysResponse>, Status> {
        Err(Status::unimplemented("not part of this stand-in"))
    }

    async fn generate_data_key_pair(
        &self,
        _: Request<v1::GenerateDataKeyPairRequest>,
    ) -> Result<Response<v1::GenerateDataKeyPairResponse>, Status> {
        Err(Status::unimplemented("not part of this stand-in"))
    }

    async fn re_encrypt(
        &self,
        _: Request<v1::ReEncryptRequest>,
    ) -> Result<Response<v1::ReEncryptResponse>, Status> {
        Err(Status::unimplemented("not part of this stand-in"))
    }
}

/// A refusal as the service makes them.
pub(crate) fn refusal(code: Code, reason: &str, retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, "kms.dewpoint", HashMap::new());
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, "refused", details)
}

/// The server, in threads of its own, so that it can die.
pub(crate) struct Server {
    pub(crate) service: Service,
    runtime: Option<Runtime>,
    listener: TcpListener,
    identity: Identity,
    certificates: Certificates,
}

impl Server {
    pub(crate) fn start() -> Self {
        let (certificates, identity) = Certificates::new();
        Self::with(certificates, identity)
    }

    /// Another one under the same authority.
    pub(crate) fn another(&self) -> Self {
        Self::with(self.certificates.clone(), self.identity.clone())
    }

    fn with(certificates: Certificates, identity: Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let service = Service::default();
        let mut server = Self { service, runtime: None, listener, identity, certificates };
        server.restart();
        server
    }

    /// Serves on the same address. Connections that were made in between wait in the listener's queue.
    pub(crate) fn restart(&mut self) {
        let runtime = Runtime::new().expect("a runtime");
        let listener = self.listener.try_clone().expect("a socket can be cloned");
        let tls = ServerTlsConfig::new()
            .identity(self.identity.clone())
            .client_ca_root(tonic::transport::Certificate::from_pem(&self.certificates.ca));
        let service = self.service.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("it is non-blocking");
            tonic::transport::Server::builder()
                .tls_config(tls)
                .expect("the certificates are right")
                .add_service(KeyServiceServer::new(service.clone()))
                .add_service(DataKeyServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
        });
        self.runtime = Some(runtime);
    }

    /// Breaks all connections, as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let stopping = std::thread::spawn(|| runtime.shutdown_timeout(Duration::from_secs(60)));
            stopping.join().expect("a runtime can be stopped");
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("https://{}", self.address())
    }

    pub(crate) fn config(&self) -> ClientConfig {
        self.config_at(&self.endpoint())
    }

    /// What a client of this server would use elsewhere.
    pub(crate) fn config_at(&self, endpoint: &str) -> ClientConfig {
        let Certificates { ca, client, client_key } = &self.certificates;
        let key = SecretBytes::from(client_key.clone().into_bytes());
        // Long enough for any machine: only the tests of the deadline wait for it.
        ClientConfig::new(endpoint, ca.as_str(), client.as_str(), key)
            .deadline(Duration::from_secs(120))
            .connect_timeout(Duration::from_secs(60))
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.config()).await.expect("the server is there")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a client needs, as PEM.
#[derive(Clone)]
pub(crate) struct Certificates {
    pub(crate) ca: String,
    pub(crate) client: String,
    pub(crate) client_key: String,
}

impl Certificates {
    /// With the server's identity, all under a new CA.
    pub(crate) fn new() -> (Self, Identity) {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key"));
        let ca = ca.expect("a CA");
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        let (server, server_key) = issued(&ca, address, ExtendedKeyUsagePurpose::ServerAuth);
        let user = "dewpoint://account/user".try_into().expect("an ASCII address");
        let (client, client_key) = issued(&ca, SanType::URI(user), ExtendedKeyUsagePurpose::ClientAuth);
        (Self { ca: ca.pem(), client, client_key }, Identity::from_pem(server, server_key))
    }
}

fn issued(
    ca: &CertifiedIssuer<'_, KeyPair>,
    name: SanType,
    usage: ExtendedKeyUsagePurpose,
) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![name];
    parameters.extended_key_usages = vec![usage];
    (parameters.signed_by(&key, ca).expect("a certificate").pem(), key.serialize_pem())
}
