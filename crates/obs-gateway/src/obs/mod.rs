//! The OBS face: requests in the words of OBS, and S3's older signatures, are checked here and go on in the words of
//! the S3 face, and the answers back.

mod reply;
mod signature;
mod words;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Uri, header::CONTENT_LENGTH, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::percent_decode_str;
use s3s::{Body, S3Result, s3_error};
use time::{
    OffsetDateTime, PrimitiveDateTime, format_description::well_known::Rfc2822, macros::format_description,
};

use self::signature::Claim;
pub(crate) use self::{
    reply::{Replies, refusal},
    signature::{Dialect, has_query, is_bucket as is_bucket_path, pairs, query},
};
use crate::{
    chunks::{self, Chunks},
    clock,
    credentials::User,
    gateway::Gateway,
    lingering::Lingering,
    offered::Place,
    s3::{Checked, Hosts},
};

/// How far a request's date may be from now, in milliseconds.
// OBS: 15 minutes.
const MOST_SKEW: i64 = 15 * 60 * 1000;

/// The longest body of a request that makes a bucket, in bytes.
const LONGEST_CONFIGURATION: usize = 64 * 1024;

/// The user whose signature was found good before the S3 face. Only this module makes one, so no header can.
#[derive(Clone, Debug)]
pub(crate) struct Principal(pub(crate) Arc<User>);

/// Whether a request asks for the version of the protocol, which the gateway and its buckets tell: before any signature.
pub(crate) fn is_version_question(head: &Parts, hosts: &Hosts) -> bool {
    let asks = pairs(&head.uri).any(|(name, value)| name == "apiversion" && value.is_none());
    head.method == Method::HEAD && asks && (head.uri.path() == "/" || is_bucket(head, hosts))
}

/// Checks a request that bears a signature of OBS or of S3's version 2, and puts it into the words of the S3 face;
/// `None`: it bears none of them.
pub(crate) fn accept(gateway: &Gateway, hosts: &Hosts, head: &mut Parts) -> S3Result<Option<Dialect>> {
    let Some(claim) = Claim::of(&head.uri, &head.headers) else {
        words::refuse_unread(&head.headers)?;
        words::add_date(head);
        return Ok(None);
    };
    let dialect = claim.dialect;
    let user = authenticate(gateway, hosts, head, &claim)?;
    words::refuse_foreign(&head.headers, dialect)?;
    words::to_s3(head, dialect)?;
    head.extensions.insert(Principal(user));
    Ok(Some(dialect))
}

/// The body of a request, in the words of the S3 face. Only what makes a bucket has other words in OBS; of all other
/// bodies, no more than the chunks are touched.
pub(crate) async fn body(
    dialect: Option<Dialect>,
    head: &mut Parts,
    hosts: &Hosts,
    body: Checked<Lingering>,
) -> S3Result<Body> {
    let is_obs = dialect == Some(Dialect::Obs);
    if !is_obs || head.method != Method::PUT || head.uri.query().is_some() || !is_bucket(head, hosts) {
        return Ok(if is_in_chunks(dialect, head) {
            Body::http_body(Chunks::new(body))
        } else {
            Body::http_body(body)
        });
    }
    let read = Limited::new(body, LONGEST_CONFIGURATION).collect().await;
    let read = read.map_err(|_| s3_error!(MalformedXML, "the body broke off or is too long"))?.to_bytes();
    let text = std::str::from_utf8(&read).map_err(|_| s3_error!(MalformedXML))?;
    let text = words::location_to_s3(text);
    head.headers.remove("content-md5");
    head.headers.insert(CONTENT_LENGTH, text.len().into());
    Ok(Body::from(Bytes::from(text)))
}

/// Whether a body comes in S3's chunks: only signatures of version 4 know them.
pub(crate) fn is_in_chunks(dialect: Option<Dialect>, head: &Parts) -> bool {
    dialect.is_none() && chunks::are_in(&head.headers)
}

/// What the S3 face takes a request to be about: it decodes a path before it looks for slashes.
pub(crate) fn place(head: &Parts, hosts: &Hosts) -> Place {
    // It refuses a path that is no text.
    let Ok(path) = percent_decode_str(head.uri.path()).decode_utf8() else { return Place::Object };
    match hosts.bucket(host(head)) {
        Some(_) if path == "/" => Place::Bucket,
        None if path == "/" => Place::Gateway,
        None if signature::is_bucket(&path) => Place::Bucket,
        _ => Place::Object,
    }
}

/// Whether a request is about a bucket itself.
fn is_bucket(head: &Parts, hosts: &Hosts) -> bool {
    match hosts.bucket(host(head)) {
        Some(_) => head.uri.path() == "/",
        None => signature::is_bucket(head.uri.path()),
    }
}

fn host(head: &Parts) -> &str {
    head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default()
}

fn authenticate(gateway: &Gateway, hosts: &Hosts, head: &Parts, claim: &Claim) -> S3Result<Arc<User>> {
    let now = clock::now();
    check_time(claim, head, now)?;
    let key = gateway.credentials().usable(&claim.access_key, now);
    let key = key.ok_or_else(|| s3_error!(InvalidAccessKeyId, "the access key cannot be used"))?;
    let bucket = hosts.bucket(host(head));
    let (secret, bucket) = (key.expose_secret(), bucket.as_deref());
    if !claim.holds(secret, &head.method, &head.uri, &head.headers, bucket) {
        return Err(s3_error!(SignatureDoesNotMatch, "the signature is not the request's"));
    }
    let name = claim.dialect.token();
    let token = head.headers.get(name).and_then(|token| token.to_str().ok()).map(str::to_owned);
    let token = token.or_else(|| query(&head.uri, name));
    if !key.has_token(token.as_deref()) {
        return Err(s3_error!(InvalidToken, "the security token is not the access key's"));
    }
    Ok(key.user.clone())
}

fn check_time(claim: &Claim, head: &Parts, now: i64) -> S3Result<()> {
    if let Some(expires) = &claim.expires {
        let expires: i64 =
            expires.parse().map_err(|_| s3_error!(AccessDenied, "the URL does not say when it expires"))?;
        let has_expired = expires.saturating_mul(1000) <= now;
        return if has_expired { Err(s3_error!(AccessDenied, "Request has expired")) } else { Ok(()) };
    }
    let date = claim.date(&head.headers).and_then(parse_date);
    let date = date.ok_or_else(|| s3_error!(AccessDenied, "the request has no date"))?;
    let skew = date.unix_timestamp().saturating_mul(1000).saturating_sub(now);
    if skew.saturating_abs() > MOST_SKEW { Err(s3_error!(RequestTimeTooSkewed)) } else { Ok(()) }
}

/// A date as HTTP writes it, as S3 does, or as one of OBS' libraries does.
fn parse_date(text: &str) -> Option<OffsetDateTime> {
    let short = format_description!("[year][month][day]T[hour][minute][second]Z");
    let long = format_description!(
        "[weekday repr:short] [month repr:short] [day] [year] [hour]:[minute]:[second] GMT"
    );
    let http = OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822);
    let other = || [short, long].into_iter().find_map(|format| PrimitiveDateTime::parse(text, format).ok());
    http.ok().or_else(|| other().map(PrimitiveDateTime::assume_utc))
}

/// The head of a request with another address.
fn with_query(uri: &Uri, query: &str) -> S3Result<Uri> {
    let path = uri.path();
    let address = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let request = Request::builder().uri(address).body(());
    let request = request.map_err(|_| s3_error!(InvalidURI))?;
    Ok(request.into_parts().0.uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_told_by_the_gateway_and_its_buckets_alone() {
        let hosts = Hosts::new(&["obs.example".to_owned()]);
        let asks = |method: &str, host: &str, uri: &str| {
            let request = Request::builder().method(method).uri(uri).header("host", host).body(());
            is_version_question(&request.unwrap().into_parts().0, &hosts)
        };
        for uri in ["/?apiversion", "/b?apiversion", "/b/?apiversion"] {
            assert!(asks("HEAD", "obs.example", uri), "{uri}");
            assert!(!asks("GET", "obs.example", uri), "{uri}");
        }
        assert!(asks("HEAD", "b.obs.example", "/?apiversion"));
        assert!(!asks("HEAD", "obs.example", "/b/o?apiversion"));
        assert!(!asks("HEAD", "b.obs.example", "/o?apiversion"));
        assert!(!asks("HEAD", "obs.example", "/"));
    }

    #[test]
    fn a_request_is_about_what_its_decoded_path_and_its_host_say() {
        let hosts = Hosts::new(&["obs.example".to_owned()]);
        for (host, path, expected) in [
            ("obs.example", "/", Place::Gateway),
            ("obs.example", "/b", Place::Bucket),
            ("obs.example", "/b/", Place::Bucket),
            ("obs.example", "/b%2F", Place::Bucket),
            ("obs.example", "/b/o", Place::Object),
            ("obs.example", "/b%2Fo", Place::Object),
            ("obs.example", "/b//", Place::Object),
            ("b.obs.example", "/", Place::Bucket),
            ("b.obs.example", "/o", Place::Object),
            ("b.obs.example", "//", Place::Object),
        ] {
            let request = Request::builder().uri(format!("{path}?metadata")).header("host", host).body(());
            assert_eq!(place(&request.unwrap().into_parts().0, &hosts), expected, "{host}{path}");
        }
    }

    #[test]
    fn dates_are_read_as_clients_write_them() {
        for text in ["Mon, 30 Nov 2026 09:00:00 GMT", "20261130T090000Z", "Mon Nov 30 2026 09:00:00 GMT"] {
            assert_eq!(parse_date(text).map(OffsetDateTime::unix_timestamp), Some(1_796_029_200), "{text}");
        }
        assert_eq!(parse_date("2026-11-30"), None);
    }
}
