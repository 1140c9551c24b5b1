//! What is decided of a request before the S3 face sees it.

use http::{HeaderMap, Method, Uri};
use s3s::{S3Error, s3_error};

/// What the S3 face reads of OBS' words for encryption.
const READ: [&str; 2] =
    ["x-obs-server-side-data-encryption", "x-obs-server-side-encryption-bucket-key-enabled"];

/// Refuses requests whose signatures nothing behind would check as it has to.
///
/// Signatures of OBS and of version 2 were checked and taken away before; the S3 face's library knows no limit of time for
/// what is left of them. Forms bear signatures in fields.
pub(crate) fn check(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), S3Error> {
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
    if let Some(unread) = headers.keys().find(|name| is_unread(name.as_str())) {
        return Err(s3_error!(
            InvalidArgument,
            "with this signature, {unread} has to be said in the words of S3"
        ));
    }
    let content_type = headers.get("content-type").map(http::HeaderValue::as_bytes).unwrap_or_default();
    let form = b"multipart/form-data";
    let is_form = content_type.get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form));
    if method == Method::POST && is_form {
        return Err(s3_error!(NotImplemented, "an upload by a form is not offered"));
    }
    Ok(())
}

/// Whether a header asks for encryption in words of OBS that the S3 face does not read: without this, what it is to encrypt
/// would be stored in plain.
fn is_unread(name: &str) -> bool {
    let is_of_encryption =
        name.starts_with("x-obs-server-side-") || name.starts_with("x-obs-copy-source-server-side-");
    is_of_encryption && !READ.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(method: &Method, uri: &str, headers: &[(&'static str, &str)]) -> bool {
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        check(method, &uri.parse().unwrap(), &headers.collect()).is_err()
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
    fn words_of_encryption_that_nothing_would_read_are_refused() {
        let header = |name| is_refused(&Method::PUT, "/b/o", &[(name, "x")]);
        for name in [
            "x-obs-server-side-encryption",
            "x-obs-server-side-encryption-kms-key-id",
            "x-obs-server-side-encryption-customer-key",
            "x-obs-copy-source-server-side-encryption-customer-key",
        ] {
            assert!(header(name), "{name}");
        }
        for name in READ.into_iter().chain(["x-amz-server-side-encryption", "x-obs-meta-a"]) {
            assert!(!header(name), "{name}");
        }
    }

    #[test]
    fn forms_are_refused() {
        let form = [("content-type", "Multipart/Form-Data; boundary=x")];
        assert!(is_refused(&Method::POST, "/b", &form));
        assert!(!is_refused(&Method::PUT, "/b/o", &form));
        assert!(!is_refused(&Method::POST, "/b/o?uploads", &[("content-type", "text/plain")]));
    }
}
