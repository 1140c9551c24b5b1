//! A certificate authority of a test's own, whose key the test keeps.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use time::{Duration, OffsetDateTime};

/// Signs certificates and writes them into a directory.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

/// From when until when a certificate is valid.
pub type Validity = (OffsetDateTime, OffsetDateTime);

/// From yesterday until tomorrow.
#[allow(clippy::disallowed_methods, reason = "the peer checks certificates against the machine's clock")]
pub fn valid() -> Validity {
    let now = OffsetDateTime::now_utc();
    (now - Duration::days(1), now + Duration::days(1))
}

/// Until an hour ago.
pub fn expired() -> Validity {
    let (start, end) = valid();
    (start - Duration::days(1), end - Duration::days(1) - Duration::hours(1))
}

impl Authority {
    /// An authority whose files begin with `name`.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        // All have one name, so that only their keys tell them apart.
        parameters.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key pair");
        let pem = parameters.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(parameters, key);
        let authority = Self { directory: directory.to_owned(), name: name.to_owned(), issuer };
        fs::write(authority.certificate(), pem).expect("a certificate is written");
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join(format!("{}-ca.pem", self.name))
    }

    /// A certificate for `localhost`, and its key.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn server(&self) -> (PathBuf, PathBuf) {
        self.server_of(&["localhost"])
    }

    /// A certificate for these names, and its key.
    ///
    /// # Panics
    /// If a name is none or a file cannot be written.
    pub fn server_of(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let parameters = CertificateParams::new(names).expect("DNS names");
        self.sign(parameters, "server", valid())
    }

    /// A client certificate with these URIs, and its key.
    ///
    /// # Panics
    /// If a URI is none or a file cannot be written.
    pub fn client(&self, stem: &str, uris: &[&str], validity: Validity) -> (PathBuf, PathBuf) {
        self.sign(client_parameters(uris), stem, validity)
    }

    /// A client certificate that signs itself, and its key.
    ///
    /// # Panics
    /// If a URI is none or a file cannot be written.
    pub fn self_signed_client(&self, stem: &str, uris: &[&str]) -> (PathBuf, PathBuf) {
        let mut parameters = client_parameters(uris);
        (parameters.not_before, parameters.not_after) = valid();
        let key = KeyPair::generate().expect("a key pair");
        let pem = parameters.self_signed(&key).expect("a certificate").pem();
        self.write(stem, &pem, &key)
    }

    fn sign(&self, mut parameters: CertificateParams, stem: &str, validity: Validity) -> (PathBuf, PathBuf) {
        (parameters.not_before, parameters.not_after) = validity;
        let key = KeyPair::generate().expect("a key pair");
        let pem = parameters.signed_by(&key, &self.issuer).expect("a certificate").pem();
        self.write(stem, &pem, &key)
    }

    fn write(&self, stem: &str, pem: &str, key: &KeyPair) -> (PathBuf, PathBuf) {
        let path = |ending| self.directory.join(format!("{}-{stem}.{ending}", self.name));
        fs::write(path("pem"), pem).expect("a certificate is written");
        fs::write(path("key"), key.serialize_pem()).expect("a key is written");
        (path("pem"), path("key"))
    }
}

fn client_parameters(uris: &[&str]) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let name = |uri: &&str| SanType::URI((*uri).try_into().expect("a URI"));
    parameters.subject_alt_names = uris.iter().map(name).collect();
    parameters.distinguished_name.push(DnType::CommonName, "client of a test");
    parameters
}
