//! The certificates of dev mode: an authority, the server, every user, service and operator.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use super::{DevError, deployment::Deployment, write_private};
use crate::server::now;

/// How long certificates are valid, and how long before their end they are made anew.
const VALID_DAYS: i64 = 365;
const RENEW_DAYS: i64 = 30;
/// Names the end of the certificates' validity, as seconds since 1970; written last.
const STAMP: &str = "valid-until";

/// Where the certificates lie.
pub(crate) struct Files {
    directory: PathBuf,
    pub(crate) ca_certificate: PathBuf,
    pub(crate) server_certificate: PathBuf,
    pub(crate) server_key: PathBuf,
}

impl Files {
    fn within(directory: &Path) -> Self {
        let path = |name| directory.join(name);
        Self {
            directory: directory.to_owned(),
            ca_certificate: path("ca.pem"),
            server_certificate: path("server.pem"),
            server_key: path("server.key"),
        }
    }

    /// The certificate and the key of a user, service or operator.
    pub(crate) fn client(&self, stem: &str) -> (PathBuf, PathBuf) {
        (self.directory.join(format!("{stem}.pem")), self.directory.join(format!("{stem}.key")))
    }
}

/// Makes all certificates, unless they exist and stay valid for a while.
pub(crate) fn ensure(directory: &Path, deployment: &Deployment) -> Result<Files, DevError> {
    let files = Files::within(directory);
    let today = OffsetDateTime::from_unix_timestamp(now().as_millis() / 1000)
        .map_err(|error| DevError::Certificates(error.to_string()))?;
    if valid_until(directory).is_none_or(|end| end - Duration::days(RENEW_DAYS) <= today) {
        super::made_directory(directory)?;
        make(&files, deployment, today)?;
    }
    Ok(files)
}

fn valid_until(directory: &Path) -> Option<OffsetDateTime> {
    let text = fs::read_to_string(directory.join(STAMP)).ok()?;
    OffsetDateTime::from_unix_timestamp(text.trim().parse().ok()?).ok()
}

fn make(files: &Files, deployment: &Deployment, today: OffsetDateTime) -> Result<(), DevError> {
    let end = today + Duration::days(VALID_DAYS);
    let validity = (today - Duration::days(1), end); // a clock that is a little behind shall not refuse them
    let authority = Authority::new(validity).map_err(certificate_error)?;
    write_private(&files.ca_certificate, authority.pem.as_bytes())?;
    // The certificates name localhost, any name below it, and 127.0.0.1.
    let names = ["localhost", "*.localhost", "127.0.0.1"].map(str::to_owned);
    let server = CertificateParams::new(names).map_err(certificate_error)?;
    let server = authority.issue(server, "dewpoint dev server", ExtendedKeyUsagePurpose::ServerAuth);
    write_pair((&files.server_certificate, &files.server_key), server)?;
    for account in &deployment.accounts {
        for user in &account.users {
            let uri = format!("dewpoint://{}/{}", account.domain_id, user.user_id);
            client(files, &authority, &user.file_stem(account), &uri)?;
        }
    }
    for service in &deployment.services {
        client(files, &authority, &service.file_stem(), &format!("dewpoint://service/{}", service.name))?;
    }
    for operator in &deployment.operators {
        client(files, &authority, &operator.file_stem(), &format!("dewpoint://operator/{}", operator.name))?;
    }
    write_private(&files.directory.join(STAMP), end.unix_timestamp().to_string().as_bytes())
}

fn client(files: &Files, authority: &Authority, stem: &str, uri: &str) -> Result<(), DevError> {
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(certificate_error)?)];
    let (certificate, key) = files.client(stem);
    write_pair((&certificate, &key), authority.issue(parameters, stem, ExtendedKeyUsagePurpose::ClientAuth))
}

/// The dev authority. Its key is not kept: what it signs is made in one go.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    validity: (OffsetDateTime, OffsetDateTime),
}

impl Authority {
    fn new(validity: (OffsetDateTime, OffsetDateTime)) -> Result<Self, rcgen::Error> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        parameters.distinguished_name.push(DnType::CommonName, "dewpoint dev authority");
        (parameters.not_before, parameters.not_after) = validity;
        let key = KeyPair::generate()?;
        let pem = parameters.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(parameters, key), pem, validity })
    }

    /// A certificate and its key, both PEM.
    fn issue(
        &self,
        mut parameters: CertificateParams,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<(String, String), rcgen::Error> {
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![usage];
        (parameters.not_before, parameters.not_after) = self.validity;
        let key = KeyPair::generate()?;
        Ok((parameters.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

fn write_pair(paths: (&Path, &Path), issued: Result<(String, String), rcgen::Error>) -> Result<(), DevError> {
    let (certificate, key) = issued.map_err(certificate_error)?;
    write_private(paths.0, certificate.as_bytes())?;
    write_private(paths.1, key.as_bytes())
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn certificate_error(error: rcgen::Error) -> DevError {
    DevError::Certificates(error.to_string())
}
