//! The configuration of a bucket's encryption. The protocol's library refuses what OBS adds to it, so it is read and written
//! here, as a route of its own behind the check of signatures.

mod xml;

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Limited};
use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;
use s3s::{
    Body, S3Error, S3Request, S3Response, S3Result,
    dto::{DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput},
    route::S3Route,
    s3_error,
};

pub(super) use self::xml::project;
use super::{
    auth::{self, caller},
    buckets::allowed,
    configuration::configure,
    errors::s3,
    host::Hosts,
};
use crate::{
    gateway::{Gateway, must_be_secure},
    obs::{Dialect, has_query, is_bucket_path},
};

/// The longest configuration, in bytes.
const LONGEST: usize = 64 * 1024;

/// The route of the requests that read and write it.
pub(super) struct Route {
    pub(super) gateway: Arc<Gateway>,
    pub(super) hosts: Hosts,
}

impl Route {
    /// The bucket that a request is about; `None`: it is about something else.
    fn bucket(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        match self.hosts.bucket(host) {
            Some(bucket) => (uri.path() == "/").then_some(bucket),
            None if is_bucket_path(uri.path()) => {
                let name = percent_decode_str(uri.path().trim_matches('/')).decode_utf8();
                name.ok().map(std::borrow::Cow::into_owned)
            }
            None => None,
        }
    }

    fn read(&self, request: &S3Request<Body>, bucket: &str) -> S3Result<S3Response<Body>> {
        let caller = caller(request)?;
        let bucket = allowed(&self.gateway, &caller, "GetEncryptionConfiguration", bucket)?;
        must_be_secure(&caller).map_err(s3)?;
        let settings = bucket.settings();
        let encryption = settings.encryption.as_ref().ok_or_else(not_configured)?;
        let dialect = request.extensions.get::<Dialect>().copied();
        let text = xml::write(encryption, dialect, self.gateway.region())?;
        let mut answer = S3Response::new(Body::from(text));
        answer.headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/xml"));
        Ok(answer)
    }

    async fn write(&self, request: S3Request<Body>, bucket: &str) -> S3Result<S3Response<Body>> {
        let caller = caller(&request)?;
        let bucket = allowed(&self.gateway, &caller, "PutEncryptionConfiguration", bucket)?;
        must_be_secure(&caller).map_err(s3)?;
        let read = Limited::new(request.input, LONGEST).collect().await;
        let read =
            read.map_err(|error| s3_error!(MalformedXML, "the body broke off or is too long: {error}"))?;
        let read = read.to_bytes();
        check_md5(&request.headers, &read)?;
        let text = std::str::from_utf8(&read).map_err(|_| s3_error!(MalformedXML, "the body is no text"))?;
        let encryption = xml::parse(text)?;
        configure(bucket, |settings| settings.encryption = Some(encryption)).await?;
        Ok(S3Response::new(Body::empty()))
    }
}

#[async_trait]
impl S3Route for Route {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        let is_offered = *method == Method::GET || *method == Method::PUT;
        is_offered && has_query(uri, "encryption") && self.bucket(uri, headers).is_some()
    }

    async fn check_access(&self, request: &mut S3Request<Body>) -> S3Result<()> {
        auth::check_route(&self.gateway, request)
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let bucket = self.bucket(&request.uri, &request.headers);
        let bucket = bucket.ok_or_else(|| s3_error!(NoSuchBucket))?;
        if request.method == Method::PUT {
            self.write(request, &bucket).await
        } else {
            self.read(&request, &bucket)
        }
    }
}

fn not_configured() -> S3Error {
    let mut error = s3_error!(
        ServerSideEncryptionConfigurationNotFoundError,
        "the bucket has no configuration of encryption"
    );
    error.set_status_code(StatusCode::NOT_FOUND);
    error
}

/// Refuses a body that is not the one of which `Content-MD5` tells.
fn check_md5(headers: &HeaderMap, body: &[u8]) -> S3Result<()> {
    let Some(promised) = headers.get("content-md5") else { return Ok(()) };
    let decoded = base64::engine::general_purpose::STANDARD.decode(promised.as_bytes());
    let decoded = decoded.ok().filter(|md5| md5.len() == 16);
    let decoded = decoded.ok_or_else(|| s3_error!(InvalidDigest, "Content-MD5 is no MD5"))?;
    if decoded[..] == Md5::digest(body)[..] {
        Ok(())
    } else {
        Err(s3_error!(BadDigest, "the body has another MD5 than Content-MD5 says"))
    }
}

pub(super) async fn delete(
    gateway: &Arc<Gateway>,
    request: S3Request<DeleteBucketEncryptionInput>,
) -> S3Result<S3Response<DeleteBucketEncryptionOutput>> {
    let caller = caller(&request)?;
    let bucket = allowed(gateway, &caller, "PutEncryptionConfiguration", &request.input.bucket)?;
    must_be_secure(&caller).map_err(s3)?;
    configure(bucket, |settings| settings.encryption = None).await?;
    Ok(S3Response::new(DeleteBucketEncryptionOutput::default()))
}
