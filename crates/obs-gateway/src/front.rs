//! What is decided of a request before the S3 face sees it.

use http::{HeaderMap, Method, Uri};
use s3s::{S3Error, s3_error};

/// The longest body that is read into memory whole, in bytes: what names ten thousand parts with their checksums, or a thousand
/// objects.
pub(crate) const LONGEST_XML: usize = 2 << 20;

/// Refuses requests whose signatures nothing behind would check as it has to, and bodies that would be read whole and are too
/// long for it.
///
/// Signatures of OBS and of version 2 were checked and taken away before; the S3 face's library knows no limit of time for
/// what is left of them. Forms bear signatures in fields.
pub(crate) fn check(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    is_read_whole: bool,
) -> Result<(), S3Error> {
    let authorization = headers.get("authorization").map(http::HeaderValue::as_bytes).unwrap_or_default();
    let is_old_header = [&b"AWS "[..], b"OBS "].iter().any(|scheme| authorization.starts_with(scheme));
    let names = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
    let is_old_query = names.into_iter().any(|name| {
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        matches!(&*name, "Signature" | "AWSAccessKeyId" | "AccessKeyId")
    });
    if is_old_header || is_old_query {
        return Err(s3_error!(NotImplemented, "the signature cannot be read"));
    }
    // The protocol's library takes a body that is too long for its own failure.
    let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    if is_read_whole && length.is_some_and(|length: u64| length > LONGEST_XML as u64) {
        return Err(s3_error!(MaxMessageLengthExceeded, "the body is longer than {LONGEST_XML} bytes"));
    }
    if is_read_whole && length.is_none() && headers.contains_key("transfer-encoding") {
        return Err(s3_error!(MissingContentLength, "a body that is no object's needs Content-Length"));
    }
    let content_type = headers.get("content-type").map(http::HeaderValue::as_bytes).unwrap_or_default();
    let form = b"multipart/form-data";
    let is_form = content_type.get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form));
    if method == Method::POST && is_form {
        return Err(s3_error!(NotImplemented, "an upload by a form is not offered"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(method: &Method, uri: &str, headers: &[(&'static str, &str)]) -> bool {
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        let is_read_whole = method == Method::POST;
        check(method, &uri.parse().unwrap(), &headers.collect(), is_read_whole).is_err()
    }

    #[test]
    fn only_signatures_of_version_4_go_on_to_the_library() {
        let header = |value| is_refused(&Method::GET, "/b/o", &[("authorization", value)]);
        assert!(header("AWS AK:c2ln") && header("OBS AK:c2ln"));
        assert!(!header("AWS4-HMAC-SHA256 Credential=a"));
        for query in ["Signature=x", "a=b&AWSAccessKeyId=x", "%53ignature=x", "Signature"] {
            assert!(is_refused(&Method::GET, &format!("/b/o?{query}"), &[]), "{query}");
        }
        assert!(!is_refused(&Method::GET, "/b/o?X-Amz-Signature=x&prefix=Signature", &[]));
    }

    #[test]
    fn long_bodies_are_refused_where_they_would_be_read_whole() {
        let length =
            |method, length: u64| is_refused(method, "/b?delete", &[("content-length", &length.to_string())]);
        let longest = LONGEST_XML as u64;
        assert!(length(&Method::POST, longest + 1) && !length(&Method::POST, longest));
        assert!(!length(&Method::PUT, longest + 1));
        let without = [("transfer-encoding", "chunked")];
        assert!(is_refused(&Method::POST, "/b?delete", &without));
        assert!(!is_refused(&Method::PUT, "/b/o", &without));
    }

    #[test]
    fn forms_are_refused() {
        let form = [("content-type", "Multipart/Form-Data; boundary=x")];
        assert!(is_refused(&Method::POST, "/b", &form));
        assert!(!is_refused(&Method::PUT, "/b/o", &form));
        assert!(!is_refused(&Method::POST, "/b/o?uploads", &[("content-type", "text/plain")]));
    }
}
