//! The floor: a bare tonic server that answers at once, as a process of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use dewpoint_tests::Description;
use kms_proto::v1::{
    self,
    data_key_service_server::{DataKeyService, DataKeyServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

/// Makes this program the echo server; the directory of the certificates follows.
pub(crate) const ARGUMENT: &str = "--echo";

/// A running echo server.
pub(crate) struct Echo {
    child: Child,
    /// A deployment whose endpoint is the echo server's.
    pub(crate) description: Description,
}

impl Echo {
    /// Starts it with the certificates of a deployment.
    pub(crate) fn start(description: &Description) -> Self {
        let tls = description.ca().parent().expect("a directory").to_owned();
        let own = std::env::current_exe().expect("a path");
        let mut child = Command::new(own)
            .arg(ARGUMENT)
            .arg(tls)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the echo server starts");
        let mut port = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut port).expect("a port");
        let mut description = description.clone();
        description.json["grpc"]["endpoint"] = format!("https://127.0.0.1:{}", port.trim()).into();
        Self { child, description }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

struct Bare;

/// Serves until it is killed.
pub(crate) async fn serve() {
    let directory = std::env::args().nth(2).expect("the directory of the certificates");
    let read = |name: &str| fs::read(Path::new(&directory).join(name)).expect("a PEM file");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("server.pem"), read("server.key")))
        .client_ca_root(Certificate::from_pem(read("ca.pem")))
        .client_auth_optional(true);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr().expect("an address").port()).expect("a reader");
    out.flush().expect("a reader");
    let mut server = Server::builder().tcp_nodelay(true).tls_config(tls).expect("TLS settings");
    let served = server
        .add_service(DataKeyServiceServer::new(Bare))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await;
    served.expect("it serves");
}

const KEY_ID: &str = "0193a000-0000-7000-8000-000000000000";

#[tonic::async_trait]
impl DataKeyService for Bare {
    async fn generate_data_key(
        &self,
        _: Request<v1::GenerateDataKeyRequest>,
    ) -> Result<Response<v1::GenerateDataKeyResponse>, Status> {
        Ok(Response::new(v1::GenerateDataKeyResponse {
            key_id: KEY_ID.to_owned(),
            key_version: 1,
            plaintext: vec![7; 32].into(),
            ciphertext_blob: vec![7; 100].into(),
        }))
    }

    async fn decrypt_data_key(
        &self,
        _: Request<v1::DecryptDataKeyRequest>,
    ) -> Result<Response<v1::DecryptDataKeyResponse>, Status> {
        Ok(Response::new(v1::DecryptDataKeyResponse {
            key_id: KEY_ID.to_owned(),
            key_version: 1,
            plaintext: vec![7; 32].into(),
        }))
    }

    async fn generate_data_key_without_plaintext(
        &self,
        _: Request<v1::GenerateDataKeyWithoutPlaintextRequest>,
    ) -> Result<Response<v1::GenerateDataKeyWithoutPlaintextResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn encrypt_data_key(
        &self,
        _: Request<v1::EncryptDataKeyRequest>,
    ) -> Result<Response<v1::EncryptDataKeyResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn generate_random(
        &self,
        _: Request<v1::GenerateRandomRequest>,
    ) -> Result<Response<v1::GenerateRandomResponse>, Status> {
        Err(Status::unimplemented("not measured"))
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
