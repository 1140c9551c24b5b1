//! Short bodies that the protocol's library reads whole: what their headers promise is checked while they pass, for nobody
//! behind sees their bytes.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use md5::{Digest as _, Md5};
use parking_lot::Mutex;
use s3s::{S3Error, S3ErrorCode, S3Result, checksum::ChecksumHasher, dto::Checksum};
use sha2::Sha256;

use super::{
    answers::text,
    body::{Promised, check, hasher},
};

type BodyError = Box<dyn Error + Send + Sync>;

/// Why a body was refused while it passed, which whoever read it knows as an error of the body only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal(Arc<Mutex<Option<S3Error>>>);

impl Refusal {
    pub(crate) fn take(&self) -> Option<S3Error> {
        self.0.lock().take()
    }
}

/// A body that ends with an error if it is not as its headers say.
pub(crate) struct Checked<B> {
    body: B,
    /// Nothing where nothing is said, and once it was checked.
    expected: Option<Expected>,
    refusal: Refusal,
}

struct Expected {
    promised: Promised,
    hasher: ChecksumHasher,
    md5: Md5,
    /// The hash that the signature covers.
    signed: Option<(String, Sha256)>,
}

impl Expected {
    fn of(headers: &HeaderMap, is_completion: bool) -> Option<Self> {
        let mut promised = Promised::of_headers(headers);
        // There, checksums are those of the object, which the operation looks at.
        if is_completion {
            promised.checksum = Checksum::default();
        }
        promised.trailer.clear();
        // What is not the hash of a body says how it is sent.
        let is_hash = |hash: &String| hash.len() == 64 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        let signed = text(headers, "x-amz-content-sha256").filter(is_hash);
        let signed = signed.map(|hash| (hash.to_ascii_lowercase(), Sha256::new()));
        let is_any =
            promised.content_md5.is_some() || promised.checksum != Checksum::default() || signed.is_some();
        let hasher = hasher(&promised);
        is_any.then(|| Self { promised, hasher, md5: Md5::new(), signed })
    }

    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.md5.update(bytes);
        if let Some((_, hash)) = &mut self.signed {
            hash.update(bytes);
        }
    }

    fn check(self) -> S3Result<()> {
        if let Some((signed, hash)) = self.signed
            && signed != hex::encode(hash.finalize())
        {
            return Err(signed_differs());
        }
        check(&self.promised, &self.md5.finalize(), self.hasher.finalize(), None)
    }
}

impl<B> Checked<B> {
    /// The body of a request that is read whole.
    pub(crate) fn new(body: B, headers: &HeaderMap, is_completion: bool, refusal: &Refusal) -> Self {
        Self { body, expected: Expected::of(headers, is_completion), refusal: refusal.clone() }
    }

    /// The body of a request of which nothing is checked here.
    pub(crate) fn unchecked(body: B) -> Self {
        Self { body, expected: None, refusal: Refusal::default() }
    }

    /// At the end of the body.
    fn check(&mut self) -> Result<(), BodyError> {
        let checked = self.expected.take().map_or(Ok(()), Expected::check);
        checked.map_err(|refusal| {
            *self.refusal.0.lock() = Some(refusal);
            "the body is not as promised".into()
        })
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Body for Checked<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let (Some(expected), Some(Ok(frame))) = (&mut self.expected, &frame)
            && let Some(bytes) = frame.data_ref()
        {
            expected.update(bytes);
        }
        // Before the last bytes are shown, for whoever knows the length may not ask for more.
        if (frame.is_none() || self.body.is_end_stream())
            && let Err(error) = self.check()
        {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.expected.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn signed_differs() -> S3Error {
    let code = S3ErrorCode::from_bytes(b"XAmzContentSHA256Mismatch").unwrap_or(S3ErrorCode::BadDigest);
    let mut error = S3Error::with_message(code, "the body has another hash than the one that is signed");
    error.set_status_code(StatusCode::BAD_REQUEST);
    error
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    /// What becomes of a body with one header, and why.
    async fn read(header: (&'static str, &str), is_completion: bool) -> Result<Bytes, Option<String>> {
        let headers = [(http::HeaderName::from_static(header.0), header.1.parse().unwrap())];
        let body = Full::new(Bytes::from_static(b"hello")).map_err(|never| match never {});
        let refusal = Refusal::default();
        let checked = Checked::new(body, &headers.into_iter().collect(), is_completion, &refusal);
        match checked.collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(_) => Err(refusal.take().map(|refusal| refusal.code().as_str().to_owned())),
        }
    }

    #[tokio::test]
    async fn a_body_passes_if_it_is_as_its_headers_say() {
        let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let wrong_hash = hash.replace('2', "3");
        let md5 = "XUFAKrxLKna5cZ2REBfFkg==";
        let wrong_md5 = "1B2M2Y8AsgTpgAmY7PhCfg==";
        let wrong_sha1 = ("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ01=");
        for header in [
            ("content-md5", md5),
            ("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00="),
            ("x-amz-content-sha256", hash),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            ("x-other", "x"),
        ] {
            assert_eq!(read(header, false).await.unwrap(), "hello", "{header:?}");
        }
        for (header, code) in [
            (("content-md5", wrong_md5), "BadDigest"),
            (("content-md5", "x"), "InvalidDigest"),
            (wrong_sha1, "BadDigest"),
            (("x-amz-content-sha256", &*wrong_hash), "XAmzContentSHA256Mismatch"),
        ] {
            assert_eq!(read(header, false).await.unwrap_err().as_deref(), Some(code), "{header:?}");
        }
        assert!(read(wrong_sha1, true).await.is_ok(), "the checksum of an object");
        assert!(read(("content-md5", wrong_md5), true).await.is_err());
    }

    #[tokio::test]
    async fn the_last_bytes_are_not_shown_before_they_are_checked() {
        let body = Full::new(Bytes::from_static(b"hello")).map_err(|never| match never {});
        let headers =
            [(http::HeaderName::from_static("content-md5"), "1B2M2Y8AsgTpgAmY7PhCfg==".parse().unwrap())];
        let mut checked = Checked::new(body, &headers.into_iter().collect(), false, &Refusal::default());
        assert!(checked.frame().await.unwrap().is_err());
    }
}
