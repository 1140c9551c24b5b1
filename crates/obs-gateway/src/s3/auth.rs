//! Who a request comes from: signatures of version 4, by permanent and temporary access keys. Nobody is anonymous.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Extensions, HeaderMap, Uri};
use s3s::{
    S3Request, S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    s3_error,
};

use crate::{
    clock,
    gateway::{Caller, Gateway},
    obs::Principal,
};

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
        let denied = || s3_error!(AccessDenied, "requests have to be signed");
        let is_secure = is_secure(context.extensions_mut());
        let Some(credentials) = context.credentials() else {
            // A signature that was checked before this face.
            let Principal(user) = context.extensions_mut().remove().ok_or_else(denied)?;
            context.extensions_mut().insert(Caller { user, is_secure });
            return Ok(());
        };
        let access_key = credentials.access_key.clone();
        let key = self.0.credentials().usable(&access_key, clock::now()).ok_or_else(denied)?;
        let token = security_token(context.headers(), context.uri());
        if !key.has_token(token.as_deref()) {
            return Err(s3_error!(InvalidToken, "the security token is not the access key's"));
        }
        must_be_signed(context.headers(), context.uri())?;
        let user = key.user.clone();
        context.extensions_mut().insert(Caller { user, is_secure });
        Ok(())
    }
}

/// Who asks.
pub(super) fn caller<Input>(request: &S3Request<Input>) -> S3Result<Caller> {
    let caller = request.extensions.get::<Caller>().cloned();
    caller.ok_or_else(|| s3_error!(AccessDenied, "requests have to be signed"))
}

fn is_secure(extensions: &Extensions) -> bool {
    extensions.get::<Transport>().is_some_and(|transport| transport.is_secure)
}

fn security_token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let header = headers.get("x-amz-security-token").and_then(|value| value.to_str().ok());
    header.map(str::to_owned).or_else(|| query(uri, "X-Amz-Security-Token"))
}

/// Refuses headers that mean something to this gateway and that the signature does not cover.
// S3: all headers that begin with x-amz- have to be signed.
fn must_be_signed(headers: &HeaderMap, uri: &Uri) -> S3Result<()> {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    let signed = match authorization {
        Some(authorization) => authorization
            .split_once("SignedHeaders=")
            .map(|(_, rest)| rest.split(',').next().unwrap_or_default().to_owned()),
        None => query(uri, "X-Amz-SignedHeaders"),
    };
    let signed = signed.unwrap_or_default().to_ascii_lowercase();
    let is_signed = |name: &str| signed.split(';').any(|signed| signed.trim() == name);
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

/// The value of a query's parameter.
fn query(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(key, _)| *key == name)?.1;
    percent_encoding::percent_decode_str(value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
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
    }

    #[test]
    fn a_security_token_comes_by_header_or_query() {
        let none = HeaderMap::new();
        let uri = "/b/o?a=b&X-Amz-Security-Token=to%2Fken".parse().unwrap();
        assert_eq!(security_token(&none, &uri).as_deref(), Some("to/ken"));
        assert_eq!(security_token(&none, &"/".parse().unwrap()), None);
        let header = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-amz-security-token"),
            "token".parse().unwrap(),
        )]);
        assert_eq!(security_token(&header, &uri).as_deref(), Some("token"));
    }
}
