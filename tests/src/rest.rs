//! DEW's REST protocol as a client speaks it, with a signer of a few lines that shares nothing with the service.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method,
    client::conn::http1,
    header::{AUTHORIZATION, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime, macros::format_description};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::Description;

/// Where DEW's protocol is spoken.
#[derive(Debug, Clone)]
pub struct Rest {
    address: SocketAddr,
    /// `None`: in plain.
    tls: Option<Arc<ClientConfig>>,
}

/// A connection that is kept for several requests.
#[derive(Debug)]
pub struct RestConnection {
    sender: http1::SendRequest<Full<Bytes>>,
    carrying: JoinHandle<hyper::Result<()>>,
}

/// A request, of which everything may be changed after it was signed.
#[derive(Debug, Clone)]
pub struct RestRequest {
    /// As `POST`.
    pub method: Method,
    /// Without the query.
    pub path: String,
    /// Without its question mark.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

/// What was answered.
#[derive(Debug)]
pub struct RestAnswer {
    /// The status of HTTP.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// Null, if there is no body.
    pub body: Value,
}

/// Something to sign requests with.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// The public half.
    pub access_key_id: &'a str,
    /// The secret half.
    pub secret: &'a str,
    /// What a temporary access key sends besides.
    pub security_token: Option<&'a str>,
    /// From now, when it says that it signs.
    pub skew: Duration,
}

impl<'a> Signer<'a> {
    /// With a permanent access key, now.
    pub fn of((access_key_id, secret): &'a (String, String)) -> Self {
        Self { access_key_id, secret, security_token: None, skew: Duration::ZERO }
    }
}

impl RestRequest {
    /// One to the service's address; `target` may have a query.
    pub fn new(method: Method, target: &str, body: &Value) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = vec![("host".to_owned(), "127.0.0.1".to_owned())];
        Self { method, path: path.to_owned(), query: query.to_owned(), headers, body }
    }

    /// With this header, in the place of one of its name.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without this header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// The same, signed, with every header that it has by now. Its path has to be plain, and its query in order.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the service compares with the machine's clock")]
    pub fn signed(self, signer: Signer<'_>) -> Self {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let date = (OffsetDateTime::now_utc() + signer.skew).format(format).expect("a time");
        let mut request = self.with("x-sdk-date", &date);
        if let Some(token) = signer.security_token {
            request = request.with("x-security-token", token);
        }
        request.headers.sort();
        let names: Vec<_> = request.headers.iter().map(|(name, _)| &**name).collect();
        let names = names.join(";");
        let headers: Vec<_> =
            request.headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let headers = headers.concat();
        let RestRequest { method, path, query, body, .. } = &request;
        let hash = hex::encode(Sha256::digest(body));
        let end = if path.ends_with('/') { "" } else { "/" };
        let canonical = format!("{method}\n{path}{end}\n{query}\n{headers}\n{names}\n{hash}");
        let text = format!("SDK-HMAC-SHA256\n{date}\n{}", hex::encode(Sha256::digest(canonical)));
        let mut mac = Hmac::<Sha256>::new_from_slice(signer.secret.as_bytes()).expect("any length");
        mac.update(text.as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        let id = signer.access_key_id;
        let header = format!("SDK-HMAC-SHA256 Access={id}, SignedHeaders={names}, Signature={signature}");
        request.with(AUTHORIZATION.as_str(), &header)
    }
}

impl RestAnswer {
    /// The error's code, wherever the form has it; empty: there is none.
    pub fn code(&self) -> &str {
        let flat = self.body["error_code"].as_str();
        flat.or(self.body["error"]["error_code"].as_str()).unwrap_or_default()
    }

    /// Status and code.
    pub fn told(&self) -> (u16, &str) {
        (self.status, self.code())
    }

    /// The text of a header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    /// The call's id.
    pub fn request_id(&self) -> &str {
        self.header("x-request-id")
    }
}

impl Rest {
    /// That of a deployment of dev mode.
    pub fn of(description: &Description) -> Self {
        let endpoint = description.dew_endpoint();
        let (scheme, address) = endpoint.split_once("://").expect("an endpoint");
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(description.ca()).expect("a certificate");
        roots.add(authority).expect("an authority");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let tls = (scheme == "https").then(|| Arc::new(config));
        Self { address: address.parse().expect("an address"), tls }
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, request: &RestRequest) -> RestAnswer {
        self.connect().await.send(request).await
    }

    /// A connection for requests one after the other.
    pub async fn connect(&self) -> RestConnection {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        match &self.tls {
            None => RestConnection::on(stream).await,
            Some(config) => RestConnection::on(self.secure(config, stream).await).await,
        }
    }

    /// Sends the head of a request with one more header, then these bytes in the place of its body, and no more.
    pub async fn send_part(&self, request: &RestRequest, header: &str, part: &[u8]) -> RestAnswer {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        match &self.tls {
            None => send_part(stream, request, header, part).await,
            Some(config) => send_part(self.secure(config, stream).await, request, header, part).await,
        }
    }

    async fn secure(&self, config: &Arc<ClientConfig>, stream: TcpStream) -> TlsStream<TcpStream> {
        let name = ServerName::IpAddress(self.address.ip().into());
        TlsConnector::from(config.clone()).connect(name, stream).await.expect("TLS")
    }
}

async fn send_part<S>(mut stream: S, request: &RestRequest, header: &str, part: &[u8]) -> RestAnswer
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let RestRequest { method, path, headers, .. } = request;
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\n{}{header}\r\n\r\n", lines.concat());
    stream.write_all(&[head.as_bytes(), part].concat()).await.expect("it reads");
    let mut answer = Vec::new();
    // A client that cannot say where its request ends is let go without a farewell.
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
    });
    RestAnswer { status, headers: headers.collect(), body: serde_json::from_str(body).expect("JSON") }
}

impl RestConnection {
    async fn on<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        Self { sender, carrying: tokio::spawn(connection) }
    }

    /// Sends one request.
    pub async fn send(&mut self, request: &RestRequest) -> RestAnswer {
        let RestRequest { method, path, query, headers, body } = request;
        let target = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let mut sent = hyper::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            sent = sent.header(name, value);
        }
        if !headers.iter().any(|(name, _)| *name == HOST.as_str()) {
            sent = sent.header(HOST, "127.0.0.1");
        }
        let sent = sent.body(Full::new(Bytes::from(body.clone()))).expect("a request");
        self.sender.ready().await.expect("it is kept");
        let (parts, body) = self.sender.send_request(sent).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("all of it").to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
        RestAnswer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

impl Drop for RestConnection {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}
