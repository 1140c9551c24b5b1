//! SDK-HMAC-SHA256: whether a request was signed with the secret of the access key that it names.
//!
//! Pure: reads no clock, no file and no connection. What is signed is the request as it came: its method, path, query,
//! the headers that it names, and its whole body. Nothing else of it may be believed, and what is read out of path and
//! query has to be read as here ([`parameters`]), or something else could be served than was signed.
//!
//! The same signature is taken again and again until its time is over: SDKs repeat a request with the signature that
//! it has. Whoever can record a request can repeat it for as long, and nothing else; TLS is what keeps it from that.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use kms_core::{Timestamp, error::Unauthenticated, identity::AccessKeyId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::{PrimitiveDateTime, macros::format_description};

/// How far the time of a signature may be from now, before it and after it.
// DEW: 15 minutes, by API Gateway's guide to signing; the pages of KMS name no number.
pub(crate) const LONGEST_SKEW: Duration = Duration::from_secs(15 * 60);

/// The one algorithm that is taken.
const ALGORITHM: &str = "SDK-HMAC-SHA256";
const DATE: &str = "x-sdk-date";
const BODY_HASH: &str = "x-sdk-content-sha256";
const SECURITY_TOKEN: &str = "x-security-token";
/// The header that names a project.
pub(super) const PROJECT: &str = "x-project-id";
/// What [`BODY_HASH`] says of a body that is not signed.
const UNSIGNED_BODY: &str = "UNSIGNED-PAYLOAD";

/// All but the unreserved characters of RFC 3986 §2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A request as it came, with nothing decoded.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// In upper case.
    pub method: &'a str,
    /// From the first `/`, without the query.
    pub path: &'a str,
    /// Without its question mark; empty if there is none.
    pub query: &'a str,
    /// All of them, `Host` among them.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// What an access key signs with.
#[derive(Clone, Copy)]
pub(crate) struct Secrets<'a> {
    /// The secret half.
    pub secret: &'a [u8],
    /// What a temporary access key has to send, too.
    pub security_token: Option<&'a [u8]>,
}

/// Why a signature is not taken, and whose it claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The access key that the request names, if it names one.
    pub access_key_id: Option<AccessKeyId>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a signature. None of its texts holds anything that only the service knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// There is no signature.
    #[error("there is no Authorization header")]
    Absent,
    /// The header has another form.
    #[error("the Authorization header is not `SDK-HMAC-SHA256 Access=…, SignedHeaders=…, Signature=…`")]
    Malformed,
    /// A header is twice there of which there can be one only.
    #[error("the header {0} is not there once, as text")]
    NotOnce(String),
    /// A header that has to be signed is not.
    #[error("the header {0} is not signed")]
    NotSigned(&'static str),
    /// The time of the signature has another form.
    #[error("X-Sdk-Date is not a time as 20260131T235959Z")]
    DateMalformed,
    /// It is too far from now.
    #[error("signature expired, signature time:{},server time:{}", compact(*signed), compact(*now))]
    Skewed {
        /// When the request says that it was signed.
        signed: Timestamp,
        /// What the service takes the time to be.
        now: Timestamp,
    },
    /// There is no such access key, or it cannot be used now.
    #[error("{0}")]
    AccessKey(Unauthenticated),
    /// The security token is missing, is another one, or is that of a key that has none.
    #[error("the security token does not belong to the access key")]
    SecurityToken,
    /// The body is expressly not signed.
    #[error("the body has to be signed")]
    BodyNotSigned,
    /// The body is not the one whose hash the request names.
    #[error("the body does not have the hash of X-Sdk-Content-Sha256")]
    BodyMismatch,
    /// The signature is not that of this request under this key.
    #[error("the signature does not match the request")]
    Mismatch,
}

impl Fault {
    /// The reason for the log.
    pub(crate) fn why(&self) -> Unauthenticated {
        match self {
            Self::Absent => Unauthenticated::NoCredential,
            Self::Malformed
            | Self::NotOnce(_)
            | Self::NotSigned(_)
            | Self::DateMalformed
            | Self::BodyNotSigned => Unauthenticated::CredentialMalformed,
            Self::Skewed { .. } => Unauthenticated::SignatureSkewed,
            Self::AccessKey(why) => *why,
            Self::SecurityToken => Unauthenticated::SecurityTokenMismatch,
            Self::BodyMismatch | Self::Mismatch => Unauthenticated::SignatureMismatch,
        }
    }
}

impl Refusal {
    /// What the caller is told: the text of APIGW.0301, for the answer with status 401. A key that is unknown, switched
    /// off or expired is always the same one to it: it does not exist.
    // DEW: API Gateway's guide to signing, and errors that SDKs report. Its canonical request is left out of the last
    // text: it holds the security token.
    pub(crate) fn told(&self) -> String {
        let claimed = self.access_key_id.as_ref().map_or("", AccessKeyId::as_str);
        let text = match &self.fault {
            Fault::Absent => "x-auth-token not found".to_owned(),
            Fault::AccessKey(_) => format!("Get secretKey failed,ak:{claimed},err:ak not exist"),
            Fault::SecurityToken | Fault::BodyMismatch | Fault::Mismatch => {
                "verify aksk signature fail".to_owned()
            }
            other => format!("calc aksk signature fail:{other}"),
        };
        format!("Incorrect IAM authentication information: {text}")
    }
}

/// The access key that signed the request, if one did: at about this time, all of it, and with its secret. Whoever asks
/// finds out by `secrets_of` what an access key that exists and may be used now signs with.
pub(crate) fn verify<'a>(
    request: Request<'_>,
    now: Timestamp,
    secrets_of: impl FnOnce(&AccessKeyId) -> Result<Secrets<'a>, Unauthenticated>,
) -> Result<AccessKeyId, Refusal> {
    let unnamed = |fault| Refusal { access_key_id: None, fault };
    let header = single(request.headers, AUTHORIZATION.as_str()).map_err(unnamed)?;
    let header = header.ok_or_else(|| unnamed(Fault::Absent))?;
    let claim = Claim::parse(header).ok_or_else(|| unnamed(Fault::Malformed))?;
    let named = |fault| Refusal { access_key_id: Some(claim.access_key_id.clone()), fault };
    claim.check(request, now, secrets_of).map_err(named)?;
    Ok(claim.access_key_id)
}

/// The names and values of a query, decoded, in the order in which they came. A plus sign is a plus sign.
pub(crate) fn parameters(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decoded = |text| percent_decode_str(text).collect();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// What an Authorization header says.
struct Claim<'a> {
    access_key_id: AccessKeyId,
    /// Names in lower case, in ascending order, each once, joined by semicolons.
    signed_headers: &'a str,
    signature: [u8; 32],
}

impl<'a> Claim<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let rest = header.strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let mut parts = rest.split(',').map(str::trim);
        let mut part = |name| parts.next()?.strip_prefix(name)?.strip_prefix('=');
        let access_key_id = AccessKeyId::parse(part("Access")?)?;
        let signed_headers = part("SignedHeaders")?;
        let mut signature = [0; 32];
        hex::decode_to_slice(part("Signature")?, &mut signature).ok()?;
        let names: Vec<_> = signed_headers.split(';').collect();
        let is_name = |name: &&str| HeaderName::from_lowercase(name.as_bytes()).is_ok();
        let is_sound =
            parts.next().is_none() && names.iter().all(is_name) && names.is_sorted_by(|one, next| one < next);
        is_sound.then_some(Self { access_key_id, signed_headers, signature })
    }

    fn check<'s>(
        &self,
        request: Request<'_>,
        now: Timestamp,
        secrets_of: impl FnOnce(&AccessKeyId) -> Result<Secrets<'s>, Unauthenticated>,
    ) -> Result<(), Fault> {
        for name in ["host", DATE] {
            self.demand(name)?;
        }
        // It chooses the project where the path names none. Every SDK signs it.
        if request.headers.contains_key(PROJECT) {
            self.demand(PROJECT)?;
        }
        let date = required(request.headers, DATE)?;
        let signed = moment(date).ok_or(Fault::DateMalformed)?;
        if now.as_micros().abs_diff(signed.as_micros()) > micros(LONGEST_SKEW) {
            return Err(Fault::Skewed { signed, now });
        }
        let body_hash = body_hash(request)?;
        let canonical = self.canonical_request(request, &body_hash)?;
        let secrets = secrets_of(&self.access_key_id).map_err(Fault::AccessKey)?;
        self.check_security_token(request.headers, secrets.security_token)?;
        let text = format!("{ALGORITHM}\n{date}\n{}", hex::encode(Sha256::digest(canonical)));
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(secrets.secret).map_err(|_| Fault::Mismatch)?;
        mac.update(text.as_bytes());
        mac.verify_slice(&self.signature).map_err(|_| Fault::Mismatch) // in constant time
    }

    fn demand(&self, name: &'static str) -> Result<(), Fault> {
        let is_signed = self.signed_headers.split(';').any(|signed| signed == name);
        is_signed.then_some(()).ok_or(Fault::NotSigned(name))
    }

    /// A temporary key is nothing without its token, and no other key has one.
    fn check_security_token(&self, headers: &HeaderMap, expected: Option<&[u8]>) -> Result<(), Fault> {
        match (single(headers, SECURITY_TOKEN)?, expected) {
            (None, None) => Ok(()),
            (Some(given), Some(expected)) => {
                self.demand(SECURITY_TOKEN)?;
                bool::from(given.as_bytes().ct_eq(expected)).then_some(()).ok_or(Fault::SecurityToken)
            }
            _ => Err(Fault::SecurityToken),
        }
    }

    // DEW: §1.2, canonical request.
    fn canonical_request(&self, request: Request<'_>, body_hash: &str) -> Result<Vec<u8>, Fault> {
        let mut text = Vec::new();
        for line in [request.method, &canonical_path(request.path), &canonical_query(request.query)] {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        for name in self.signed_headers.split(';') {
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            text.extend_from_slice(once(request.headers, name)?.trim_ascii());
            text.push(b'\n');
        }
        for line in ["\n", self.signed_headers, "\n", body_hash] {
            text.extend_from_slice(line.as_bytes());
        }
        Ok(text)
    }
}

/// The path decoded, and each of its segments encoded anew. So a slash in a segment signs like one between two.
fn canonical_path(path: &str) -> String {
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    let segments: Vec<_> = decoded.split(|byte| *byte == b'/').map(encoded).collect();
    let path = segments.join("/");
    if path.ends_with('/') { path } else { path + "/" }
}

/// The query by names, then values, each decoded and encoded anew.
fn canonical_query(query: &str) -> String {
    let mut parameters = parameters(query);
    parameters.sort();
    let pairs = parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn encoded(text: &[u8]) -> String {
    percent_encode(text, RESERVED).to_string()
}

/// The hash of the body, in hexadecimal digits; refused if the request says another one, or wants none.
// DEW: §1.2; a body that is not signed is what SDKs send for media types that KMS does not have.
fn body_hash(request: Request<'_>) -> Result<String, Fault> {
    let hash = hex::encode(Sha256::digest(request.body));
    match single(request.headers, BODY_HASH)? {
        Some(_) if request.body.is_empty() => Ok(hash), // DEW: the header counts only where there is a body
        Some(UNSIGNED_BODY) => Err(Fault::BodyNotSigned),
        Some(named) if named != hash => Err(Fault::BodyMismatch),
        _ => Ok(hash),
    }
}

/// The header's value, if it is there once and is text. `None`: it is not there at all.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Fault> {
    if headers.contains_key(name) { required(headers, name).map(Some) } else { Ok(None) }
}

fn required<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Fault> {
    let text = str::from_utf8(once(headers, name)?).map_err(|_| Fault::NotOnce(name.to_owned()))?;
    Ok(text.trim())
}

/// The header's value, if it is there exactly once: of two, it would not be known which one was signed.
fn once<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a [u8], Fault> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes()),
        _ => Err(Fault::NotOnce(name.to_owned())),
    }
}

/// A time as X-Sdk-Date has it.
fn moment(text: &str) -> Option<Timestamp> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let seconds = PrimitiveDateTime::parse(text, &format).ok()?.assume_utc().unix_timestamp();
    seconds.checked_mul(1_000_000).map(Timestamp::from_micros)
}

/// The same time as text, for the caller.
fn compact(moment: Timestamp) -> String {
    let text = moment.to_string();
    let seconds = text.split_once('.').map_or(&*text, |(seconds, _)| seconds);
    seconds.replace(['-', ':'], "") + "Z"
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
