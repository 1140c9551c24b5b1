//! Encrypted objects against plain ones: put to the same gateway and got from it in turns, by a client over TLS.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dewpoint_tests::{Dev, ObjectStore};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, macros::format_description};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::rows::{Bound, ROUNDS, Table, own_directory};

const LENGTH: usize = 64 << 20;
const KMS: (&str, &str) = ("x-amz-server-side-encryption", "aws:kms");
const SM4: (&str, &str) = ("x-amz-server-side-data-encryption", "SM4");
/// What an answer names the algorithm in.
const ALGORITHM: &str = "x-obs-server-side-data-encryption";
const SUITES: [Suite; 2] = [
    Suite { name: "AES256", headers: &[KMS], goal: ">= 0.7", floor: 0.7 },
    Suite { name: "SM4", headers: &[KMS, SM4], goal: ">= 0.5", floor: 0.2 },
];

/// What seals an object, as answers name it, the headers that ask for it, and the bounds of its ratio to plain objects.
struct Suite {
    name: &'static str,
    headers: &'static [(&'static str, &'static str)],
    goal: &'static str,
    floor: f64,
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
pub(crate) async fn rows(table: &mut Table) {
    let dev = Dev::start();
    let mut store = ObjectStore::start_in(&dev, &own_directory()).await;
    let mut client = Client::connect(&dev, &store).await;
    client.send(Method::PUT, "/bench", &[], Bytes::new()).await;
    let content: Vec<u8> =
        (0..LENGTH).map(|index| index.wrapping_mul(0x9e37_79b9).to_be_bytes()[5]).collect();
    let content = Bytes::from(content);
    for Suite { name: suite, headers, goal, floor } in SUITES {
        // The first use of a key makes it.
        client.put_and_get(headers, &content, Some(suite)).await;
        let (mut ratios, mut last) = ([Vec::new(), Vec::new()], [String::new(), String::new()]);
        for _ in 0..ROUNDS {
            let plain = client.put_and_get(&[], &content, None).await;
            let sealed = client.put_and_get(headers, &content, Some(suite)).await;
            for (index, (plain, sealed)) in plain.into_iter().zip(sealed).enumerate() {
                ratios[index].push(plain.as_secs_f64() / sealed.as_secs_f64());
                let rate = |time: Duration| LENGTH as f64 / 1e6 / time.as_secs_f64();
                last[index] = format!("{:.0} MB/s of {:.0} MB/s", rate(sealed), rate(plain));
            }
        }
        for (what, (ratios, last)) in ["put", "get"].into_iter().zip(ratios.into_iter().zip(last)) {
            let name = format!("objects {what} 64 MiB, {suite} / plain");
            table.row(&name, &last, ratios, goal, Bound::AtLeast(floor));
        }
    }
    let most = store.most_memory();
    table.row("objects: memory of the gateway, MiB", "", vec![most], "<= 64", Bound::AtMost(64.0));
    store.stop();
}

/// One connection to the gateway, with a permanent access key.
struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
    region: String,
    access_key: (String, String),
}

impl Client {
    async fn connect(dev: &Dev, store: &ObjectStore) -> Self {
        let described = fs::read(store.description()).expect("a file");
        let described: Value = serde_json::from_slice(&described).expect("JSON");
        let host = described["https"].as_str().and_then(|url| url.strip_prefix("https://")).expect("a URL");
        let mut roots = RootCertStore::empty();
        let authority = described["ca_cert"].as_str().expect("a file");
        let authority = CertificateDer::from_pem_file(authority).expect("a certificate");
        roots.add(authority).expect("an authority");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(host).await.expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        Self {
            sender,
            host: host.to_owned(),
            region: described["region"].as_str().expect("a region").to_owned(),
            access_key: dev.description.account(0).user("admin").access_key.clone(),
        }
    }

    /// How long it takes to put an object, and then to get it; it must have been sealed by the suite, or be plain.
    #[allow(clippy::disallowed_methods, reason = "measures real time")]
    async fn put_and_get(
        &mut self,
        headers: &[(&str, &str)],
        content: &Bytes,
        suite: Option<&str>,
    ) -> [Duration; 2] {
        let started = Instant::now();
        self.send(Method::PUT, "/bench/object", headers, content.clone()).await;
        let put = started.elapsed();
        let started = Instant::now();
        let (answered, length) = self.send(Method::GET, "/bench/object", &[], Bytes::new()).await;
        let got = started.elapsed();
        assert_eq!(length, content.len(), "the object is whole");
        let value = |name: &str| answered.get(name).and_then(|value| value.to_str().ok());
        assert_eq!([value(KMS.0), value(ALGORITHM)], [suite.map(|_| KMS.1), suite], "what sealed the object");
        [put, got]
    }

    /// Sends a request; the headers that came back, and how many bytes.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        content: Bytes,
    ) -> (HeaderMap, usize) {
        let request = self.signed(&method, path, headers, content);
        self.sender.ready().await.expect("the connection stays");
        let mut answer = self.sender.send_request(request).await.expect("an answer");
        let (status, answered, mut length) = (answer.status(), answer.headers().clone(), 0);
        while let Some(frame) = answer.frame().await {
            let frame = frame.expect("it goes on");
            length += frame.data_ref().map_or(0, Bytes::len);
        }
        assert_eq!(status, StatusCode::OK, "{method} {path}");
        (answered, length)
    }

    /// By S3's signature of version 4, which leaves the content to TLS.
    #[allow(clippy::disallowed_methods, reason = "the gateway compares with the machine's clock")]
    fn signed(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        content: Bytes,
    ) -> Request<Full<Bytes>> {
        const CONTENT: &str = "UNSIGNED-PAYLOAD";
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let date = OffsetDateTime::now_utc().format(format).expect("a time");
        let (id, secret) = &self.access_key;
        let mut headers = headers.to_vec();
        headers.extend([("host", &*self.host), ("x-amz-content-sha256", CONTENT), ("x-amz-date", &*date)]);
        headers.sort_unstable();
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{method}\n{path}\n\n{}\n{names}\n{CONTENT}", lines.concat());
        let scope = [&date[..8], &*self.region, "s3", "aws4_request"];
        let hash = hex::encode(Sha256::digest(canonical));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{}\n{hash}", scope.join("/"));
        let key = scope.iter().fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part));
        let signature = hex::encode(mac(&key, &text));
        let scope = scope.join("/");
        let mut request = Request::builder().method(method).uri(path).header(
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"),
        );
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.body(Full::new(content)).expect("a request")
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
