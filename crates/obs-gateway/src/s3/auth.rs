//! Who a request comes from: signatures of version 4, by permanent and temporary access keys. Nobody is anonymous.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Extensions, HeaderMap, Uri};
use s3s::{
    Body, S3Error, S3Request, S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    s3_error,
};

use super::answers::text;
use crate::{
    clock,
    credentials::User,
    gateway::{Caller, Gateway},
    obs::{Principal, query},
};

/// How long a pre-signed URL may hold at most, in seconds.
// S3: a week.
const LONGEST_URL: u32 = 7 * 24 * 60 * 60;

/// Names the account that has to own the bucket.
const EXPECTED_OWNER: &str = "x-amz-expected-bucket-owner";

/// How a request came; the listener puts it beside each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transport {
    /// Whether over TLS.
    pub(crate) is_secure: bool,
}

/// Secrets for the check of signatures.
pub(super) struct Auth(pub(super) Arc<Gateway>);

/// Turns a signature that was found good into a caller.
pub(super) struct Access(pub(super) Arc<Gateway>);

#[async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let key = self.0.credentials().usable(access_key, clock::now());
        let key = key.ok_or_else(|| s3_error!(InvalidAccessKeyId, "the access key cannot be used"))?;
        Ok(SecretKey::from(key.expose_secret()))
    }
}

#[async_trait]
impl S3Access for Access {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let access_key = context.credentials().map(|credentials| credentials.access_key.clone());
        let user = match access_key {
            Some(access_key) => user(&self.0, &access_key, context.headers(), context.uri())?,
            None => principal(context.extensions_mut())?,
        };
        let is_secure = is_secure(context.extensions_mut());
        let expected_owner = text(context.headers(), EXPECTED_OWNER);
        context.extensions_mut().insert(Caller { user, is_secure, expected_owner });
        Ok(())
    }
}

/// The same for a request that this gateway has a route of its own for.
pub(super) fn check_route(gateway: &Gateway, request: &mut S3Request<Body>) -> S3Result<()> {
    let user = match &request.credentials {
        Some(credentials) => user(gateway, &credentials.access_key, &request.headers, &request.uri)?,
        None => principal(&mut request.extensions)?,
    };
    let is_secure = is_secure(&request.extensions);
    let expected_owner = text(&request.headers, EXPECTED_OWNER);
    request.extensions.insert(Caller { user, is_secure, expected_owner });
    Ok(())
}

/// Whose signature of version 4 was found good, if all else about it is.
fn user(gateway: &Gateway, access_key: &str, headers: &HeaderMap, uri: &Uri) -> S3Result<Arc<User>> {
    let key = gateway.credentials().usable(access_key, clock::now()).ok_or_else(unsigned)?;
    if !key.has_token(security_token(headers, uri).as_deref()) {
        return Err(s3_error!(InvalidToken, "the security token is not the access key's"));
    }
    must_end(uri)?;
    must_be_signed(headers, uri)?;
    Ok(key.user.clone())
}

/// Whose signature was checked before this face.
fn principal(extensions: &mut Extensions) -> S3Result<Arc<User>> {
    let Principal(user) = extensions.remove().ok_or_else(unsigned)?;
    Ok(user)
}

fn unsigned() -> S3Error {
    s3_error!(AccessDenied, "requests have to be signed")
}

/// Who asks.
pub(super) fn caller<Input>(request: &S3Request<Input>) -> S3Result<Caller> {
    let caller = request.extensions.get::<Caller>().cloned();
    caller.ok_or_else(unsigned)
}

fn is_secure(extensions: &Extensions) -> bool {
    extensions.get::<Transport>().is_some_and(|transport| transport.is_secure)
}

fn security_token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let header = headers.get("x-amz-security-token").and_then(|value| value.to_str().ok());
    // OBS' libraries write the query as they write the header.
    let queries = ["X-Amz-Security-Token", "x-amz-security-token"];
    header.map(str::to_owned).or_else(|| queries.into_iter().find_map(|name| query(uri, name)))
}

/// Refuses pre-signed URLs that hold for longer than they may.
fn must_end(uri: &Uri) -> S3Result<()> {
    if query(uri, "X-Amz-Signature").is_none() {
        return Ok(());
    }
    let seconds = query(uri, "X-Amz-Expires").and_then(|seconds| seconds.parse().ok());
    if seconds.is_some_and(|seconds: u32| seconds <= LONGEST_URL) {
        Ok(())
    } else {
        Err(s3_error!(AuthorizationQueryParametersError, "X-Amz-Expires is at most {LONGEST_URL} seconds"))
    }
}

/// Refuses headers that mean something to this gateway and that the signature does not cover.
// S3: host and all headers that begin with x-amz- have to be signed.
fn must_be_signed(headers: &HeaderMap, uri: &Uri) -> S3Result<()> {
    let authorization = headers.get("authorization");
    let signed = match query(uri, "X-Amz-Signature") {
        // The URL's signature is the one that was checked; what another one claims, nobody has looked at.
        Some(_) if authorization.is_some() => {
            return Err(s3_error!(InvalidRequest, "a request has one signature, in its URL or in a header"));
        }
        Some(_) => query(uri, "X-Amz-SignedHeaders"),
        None => authorization.and_then(|value| value.to_str().ok()).and_then(signed_by_header),
    };
    let signed = signed.unwrap_or_default().to_ascii_lowercase();
    let is_signed = |name: &str| signed.split(';').any(|signed| signed.trim() == name);
    if !is_signed("host") {
        return Err(s3_error!(AccessDenied, "the header host is not signed"));
    }
    for name in headers.keys().map(http::HeaderName::as_str) {
        let matters = name.starts_with("x-amz-") || name.starts_with("x-obs-");
        // The date is part of what is signed in any case; and so is how a body is hashed, or the signature does not
        // cover the body anyway.
        let is_covered = matches!(name, "x-amz-date" | "x-amz-content-sha256");
        if matters && !is_covered && !is_signed(name) {
            return Err(s3_error!(AccessDenied, "the header {name} is not signed"));
        }
    }
    Ok(())
}

fn signed_by_header(authorization: &str) -> Option<String> {
    let (_, rest) = authorization.split_once("SignedHeaders=")?;
    rest.split(',').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(headers: &[(&'static str, &str)], uri: &str) -> bool {
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        must_be_signed(&headers.collect(), &uri.parse().unwrap()).is_ok()
    }

    #[test]
    fn headers_that_mean_something_have_to_be_signed() {
        let signed =
            ("authorization", "AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=host;x-amz-date,Signature=0");
        assert!(checked(&[signed, ("x-amz-date", "0"), ("accept", "*/*")], "/"));
        assert!(!checked(&[signed, ("x-amz-server-side-encryption", "aws:kms")], "/"));
        assert!(!checked(&[signed, ("x-obs-server-side-data-encryption", "SM4")], "/"));
        let url = "/b/o?X-Amz-SignedHeaders=host%3Bx-amz-server-side-encryption&X-Amz-Signature=0";
        assert!(checked(&[("x-amz-server-side-encryption", "aws:kms")], url));
        assert!(!checked(&[("x-amz-meta-a", "b")], url));
        assert!(!checked(&[], "/b/o?X-Amz-SignedHeaders=date&X-Amz-Signature=0"), "the host");
        let signed = "AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=x-amz-date,Signature=0";
        assert!(!checked(&[("authorization", signed), ("x-amz-date", "0")], "/"), "the host");
    }

    #[test]
    fn a_header_does_not_say_what_a_url_signs() {
        let copy = ("x-amz-copy-source", "b/secret");
        let claim = "AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=host;x-amz-copy-source,Signature=0";
        for signature in ["X-Amz-Signature", "X-Amz-Sign%61ture", "%58-Amz-Signature"] {
            let url = format!("/b/o?X-Amz-SignedHeaders=host&{signature}=0");
            assert!(checked(&[], &url));
            assert!(!checked(&[copy], &url));
            assert!(!checked(&[copy, ("authorization", claim)], &url));
            assert!(!checked(&[("authorization", claim)], &url));
        }
    }

    #[test]
    fn a_url_holds_for_a_week_at_most() {
        let ends =
            |expires: &str| must_end(&format!("/b/o?{expires}&X-Amz-Signature=0").parse().unwrap()).is_ok();
        assert!(ends("X-Amz-Expires=1") && ends("X-Amz-Expires=604800"));
        for expires in ["X-Amz-Expires=604801", "X-Amz-Expires=99999999999", "X-Amz-Expires=x", "a=b"] {
            assert!(!ends(expires), "{expires}");
        }
        assert!(must_end(&"/b/o".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_security_token_comes_by_header_or_query() {
        let none = HeaderMap::new();
        let uri = "/b/o?a=b&X-Amz-Security-Token=to%2Fken".parse().unwrap();
        assert_eq!(security_token(&none, &uri).as_deref(), Some("to/ken"));
        let small = "/b/o?x-amz-security-token=to%2Fken".parse().unwrap();
        assert_eq!(security_token(&none, &small).as_deref(), Some("to/ken"));
        assert_eq!(security_token(&none, &"/".parse().unwrap()), None);
        let header = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-amz-security-token"),
            "token".parse().unwrap(),
        )]);
        assert_eq!(security_token(&header, &uri).as_deref(), Some("token"));
    }
}
