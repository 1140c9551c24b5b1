//! Who is at the other end of a connection, as far as TLS tells.

use std::net::SocketAddr;

use kms_core::{
    Timestamp,
    identity::{AccountId, OPERATOR_ACCOUNT, SERVICE_ACCOUNT, ServiceName, UserId},
};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The other end of a connection; worked out once for all its calls.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its address.
    pub source: SocketAddr,
    /// Its certificate, if it gave one; verified by the handshake.
    pub certificate: Option<ClientCertificate>,
}

/// What a verified client certificate says.
#[derive(Debug, Clone)]
pub(crate) struct ClientCertificate {
    /// Whom its URI SAN names; `None` if that is nobody this service could know.
    pub subject: Option<Subject>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// When it runs out.
    pub not_after: Timestamp,
}

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `dewpoint://<domain_id>/<user_id>`
    User {
        /// The user's account.
        account: AccountId,
        /// The user.
        user: UserId,
    },
    /// `dewpoint://service/<name>`
    Service(ServiceName),
    /// `dewpoint://operator/<name>`
    Operator(UserId),
}

impl Subject {
    /// Reads a URI SAN.
    pub(crate) fn parse(uri: &str) -> Option<Self> {
        let (authority, path) = uri.strip_prefix("dewpoint://")?.split_once('/')?;
        match authority {
            SERVICE_ACCOUNT => ServiceName::parse(path).map(Self::Service),
            OPERATOR_ACCOUNT => UserId::parse(path).map(Self::Operator),
            account => Some(Self::User { account: AccountId::parse(account)?, user: UserId::parse(path)? }),
        }
    }
}

impl ClientCertificate {
    /// Reads a certificate that the handshake has verified.
    pub(crate) fn parse(der: &[u8]) -> Self {
        let fingerprint = Sha256::digest(der).into();
        let nobody = Self { subject: None, fingerprint, not_after: Timestamp::from_micros(i64::MAX) };
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return nobody };
        let not_after =
            Timestamp::from_micros(certificate.validity().not_after.timestamp().saturating_mul(1_000_000));
        Self { subject: subject(&certificate), not_after, ..nobody }
    }
}

/// The one name with our scheme; a certificate with two such names says nothing.
fn subject(certificate: &X509Certificate<'_>) -> Option<Subject> {
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let mut subjects = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with("dewpoint:") => Some(Subject::parse(uri)),
        _ => None,
    });
    match (subjects.next(), subjects.next()) {
        (Some(subject), None) => subject,
        _ => None,
    }
}
