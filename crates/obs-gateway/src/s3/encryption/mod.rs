//! The configuration of a bucket's encryption. The protocol's library refuses what OBS adds to it, so it is read and written
//! here, as a route of its own behind the check of signatures.

mod xml;

use std::sync::Arc;

use async_trait::async_trait;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE};
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
    body::receive_short,
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
            None => bucket_of(uri.path()),
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
        let read = receive_short(request, LONGEST).await?;
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

/// The bucket that a path is about. An encoded slash parts the bucket from an object like any other.
fn bucket_of(path: &str) -> Option<String> {
    let path = percent_decode_str(path).decode_utf8().ok().filter(|path| is_bucket_path(path))?;
    Some(path.trim_matches('/').to_owned())
}

fn not_configured() -> S3Error {
    let mut error = s3_error!(
        ServerSideEncryptionConfigurationNotFoundError,
        "the bucket has no configuration of encryption"
    );
    error.set_status_code(StatusCode::NOT_FOUND);
    error
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_buckets_if_it_names_nothing_else() {
        for path in ["/b", "/b/", "/%62", "/b%2F"] {
            assert_eq!(bucket_of(path).as_deref(), Some("b"), "{path}");
        }
        for path in ["/", "", "/b/o", "/b%2Fo", "/b%2fo/", "/%ff"] {
            assert_eq!(bucket_of(path), None, "{path}");
        }
    }
}
