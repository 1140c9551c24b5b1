//! The words of OBS in those of S3, and back.

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION, request::Parts};
use s3s::{S3Result, s3_error};
use time::macros::format_description;

use super::{Dialect, parse_date, with_query};

const MODE: &str = "server-side-encryption";
/// Names that differ by more than their beginnings: of OBS, and of S3.
const RENAMED: [(&str, &str); 2] = [
    ("x-obs-server-side-encryption-kms-key-id", "x-amz-server-side-encryption-aws-kms-key-id"),
    ("x-obs-bucket-location", "x-amz-bucket-region"),
];
/// What OBS has a word for, this gateway does not offer, and the S3 face would not see.
const NOT_OFFERED: [&str; 6] = [
    "x-obs-az-redundancy",
    "x-obs-expires",
    "x-obs-forbid-overwrite",
    "x-obs-fs-file-interface",
    "x-obs-grant-full-control-delivered",
    "x-obs-grant-read-delivered",
];
/// What the S3 face reads as OBS writes it, whoever signed: no other header of OBS'.
const KEPT: [&str; 3] = [
    "x-obs-server-side-data-encryption",
    "x-obs-server-side-encryption-bucket-key-enabled",
    "x-obs-sse-kms-key-project-id",
];
/// Codes of errors that OBS has another word for: of S3, and of OBS.
// OBS: the API's table of error codes, and the page of a bucket's encryption.
const CODES: [(&str, &str); 3] = [
    ("IllegalLocationConstraintException", "InvalidLocationConstraint"),
    ("ServerSideEncryptionConfigurationNotFoundError", "NoSuchEncryptionConfiguration"),
    ("NotImplemented", "ServiceNotImplemented"),
];
/// What signs a URL, which the S3 face must not see.
const SIGNING: [&str; 6] =
    ["Signature", "Expires", "AccessKeyId", "AWSAccessKeyId", "x-obs-security-token", "x-amz-security-token"];

/// Refuses headers in the words of the other dialect: no signature covers them.
pub(super) fn refuse_foreign(headers: &HeaderMap, dialect: Dialect) -> S3Result<()> {
    let foreign = match dialect {
        Dialect::Obs => Dialect::V2.prefix(),
        Dialect::V2 => Dialect::Obs.prefix(),
    };
    match headers.keys().find(|name| name.as_str().starts_with(foreign)) {
        Some(name) => Err(s3_error!(AccessDenied, "the header {name} is not signed")),
        None => Ok(()),
    }
}

/// Refuses OBS' headers in a request of S3's that nothing reads: what they ask for would be left out silently.
pub(super) fn refuse_unread(headers: &HeaderMap) -> S3Result<()> {
    let mut names = headers.keys().map(HeaderName::as_str);
    match names.find(|name| name.starts_with(Dialect::Obs.prefix()) && !KEPT.contains(name)) {
        Some(name) => Err(s3_error!(NotImplemented, "{name} is not offered in a request of S3's")),
        None => Ok(()),
    }
}

/// A request whose signature was checked, in the words of S3 and without the signature.
pub(super) fn to_s3(head: &mut Parts, dialect: Dialect) -> S3Result<()> {
    head.headers.remove(AUTHORIZATION);
    head.headers.remove(dialect.token());
    let kept = head.uri.query().unwrap_or_default().split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !SIGNING.contains(&name)
    });
    let kept: Vec<&str> = kept.collect();
    head.uri = with_query(&head.uri, &kept.join("&"))?;
    if dialect == Dialect::Obs {
        if let Some(name) = NOT_OFFERED.into_iter().find(|name| head.headers.contains_key(*name)) {
            return Err(s3_error!(NotImplemented, "{name} is not offered"));
        }
        rename(&mut head.headers, "x-obs-", "x-amz-", |[obs, s3]| (obs, s3));
        if let Some(mode) = head.headers.get_mut("x-amz-server-side-encryption")
            && mode == "kms"
        {
            *mode = HeaderValue::from_static("aws:kms");
        }
    }
    Ok(())
}

/// The headers of an answer in the words of OBS.
pub(super) fn to_obs(headers: &mut HeaderMap) {
    rename(headers, "x-amz-", "x-obs-", |[obs, s3]| (s3, obs));
    if headers.contains_key("x-obs-bucket-location") {
        // OBS: what else is told of a bucket.
        headers.insert("x-obs-storage-class", HeaderValue::from_static("STANDARD"));
        headers.insert("x-obs-version", HeaderValue::from_static("3.0"));
    }
    if let Some(mode) = headers.get_mut(format!("x-obs-{MODE}"))
        && mode == "aws:kms"
    {
        *mode = HeaderValue::from_static("kms");
    }
    if let Some(key) = headers.get_mut("x-obs-server-side-encryption-kms-key-id") {
        let short = key.to_str().map(key_to_obs).ok().and_then(|short| HeaderValue::from_str(short).ok());
        if let Some(short) = short {
            *key = short;
        }
    }
}

/// The name of an element of an answer's body.
pub(super) fn element_to_obs(name: &str, is_root: bool) -> &str {
    match name {
        "LocationConstraint" if is_root => "Location",
        "BucketRegion" => "Location",
        name => name,
    }
}

/// What stands in an element of an answer's body.
pub(super) fn text_to_obs<'a>(element: &str, text: &'a str) -> &'a str {
    match element {
        "SSEAlgorithm" if text == "aws:kms" => "kms",
        "KMSMasterKeyID" => key_to_obs(text),
        "Code" => code_to_obs(text),
        _ => text,
    }
}

/// The code of an error.
pub(super) fn code_to_obs(code: &str) -> &str {
    CODES.iter().find(|(s3, _)| *s3 == code).map_or(code, |(_, obs)| obs)
}

/// A key's id.
// OBS: REGION:DOMAIN:key/ID.
fn key_to_obs(key: &str) -> &str {
    key.strip_prefix("arn:aws:kms:").unwrap_or(key)
}

fn rename(
    headers: &mut HeaderMap,
    from: &str,
    to: &str,
    direction: fn([&'static str; 2]) -> (&'static str, &'static str),
) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(from)).cloned().collect();
    for name in names {
        if KEPT.contains(&name.as_str()) {
            continue;
        }
        let known =
            RENAMED.iter().map(|(obs, s3)| direction([obs, s3])).find(|(old, _)| *old == name.as_str());
        let new = known.map_or_else(|| name.as_str().replacen(from, to, 1), |(_, new)| new.to_owned());
        let values: Vec<HeaderValue> = headers.get_all(&name).iter().cloned().collect();
        headers.remove(&name);
        let Ok(new) = HeaderName::from_bytes(new.as_bytes()) else { continue };
        for value in values {
            headers.append(&new, value);
        }
    }
}

/// Where a bucket shall be, in the words of S3: the element has another name.
pub(super) fn location_to_s3(configuration: &str) -> String {
    configuration
        .replace("<Location>", "<LocationConstraint>")
        .replace("</Location>", "</LocationConstraint>")
}

/// S3's version 4 as OBS' libraries sign it: with the common date in the place of S3's own. The date is part of what is
/// signed either way.
pub(super) fn add_date(head: &mut Parts) {
    let is_signed = head.headers.get(AUTHORIZATION).is_some_and(|it| it.as_bytes().starts_with(b"AWS4-"));
    if !is_signed || head.headers.contains_key("x-amz-date") {
        return;
    }
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let date = head.headers.get("date").and_then(|date| date.to_str().ok()).and_then(parse_date);
    let date = date.and_then(|date| date.format(format).ok());
    if let Some(date) = date.and_then(|date| HeaderValue::from_str(&date).ok()) {
        head.headers.insert("x-amz-date", date);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, headers: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn shown(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let mut shown: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        shown.sort_unstable();
        shown
    }

    #[test]
    fn a_request_of_obs_becomes_one_of_s3_without_its_signature() {
        let mut head = head(
            "/b/o?Signature=s&uploadId=x&AccessKeyId=AK&Expires=1&x-obs-security-token=t",
            &[
                ("authorization", "OBS AK:s"),
                ("x-obs-server-side-encryption", "kms"),
                ("x-obs-server-side-encryption-kms-key-id", "id"),
                ("x-obs-server-side-data-encryption", "SM4"),
                ("x-obs-meta-a", "b"),
                ("range", "bytes=0-1"),
            ],
        );
        to_s3(&mut head, Dialect::Obs).unwrap();
        assert_eq!(head.uri, "/b/o?uploadId=x");
        let expected = [
            ("range", "bytes=0-1"),
            ("x-amz-meta-a", "b"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "id"),
            ("x-obs-server-side-data-encryption", "SM4"),
        ];
        assert_eq!(shown(&head.headers), expected);
    }

    #[test]
    fn an_answer_of_s3_becomes_one_of_obs() {
        let mut headers = head(
            "/",
            &[
                ("x-amz-server-side-encryption", "aws:kms"),
                ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:r1:d1:key/id"),
                ("x-amz-meta-a", "b"),
                ("etag", "e"),
            ],
        )
        .headers;
        to_obs(&mut headers);
        let expected = [
            ("etag", "e"),
            ("x-obs-meta-a", "b"),
            ("x-obs-server-side-encryption", "kms"),
            ("x-obs-server-side-encryption-kms-key-id", "r1:d1:key/id"),
        ];
        assert_eq!(shown(&headers), expected);
    }

    #[test]
    fn a_bucket_is_told_of_as_obs_does() {
        let mut headers = head("/", &[("x-amz-bucket-region", "r1")]).headers;
        to_obs(&mut headers);
        let expected =
            [("x-obs-bucket-location", "r1"), ("x-obs-storage-class", "STANDARD"), ("x-obs-version", "3.0")];
        assert_eq!(shown(&headers), expected);
    }

    #[test]
    fn what_only_obs_has_a_word_for_is_not_left_out_silently() {
        for name in NOT_OFFERED {
            let mut asked = head("/b/o", &[(name, "true")]);
            assert_eq!(to_s3(&mut asked, Dialect::Obs).unwrap_err().code().as_str(), "NotImplemented");
        }
    }

    #[test]
    fn headers_of_obs_that_the_s3_face_does_not_read_are_refused() {
        for name in KEPT {
            assert!(
                refuse_unread(&head("/b/o", &[(name, "true"), ("x-amz-acl", "private")]).headers).is_ok()
            );
        }
        for name in NOT_OFFERED.into_iter().chain(["x-obs-acl", "x-obs-server-side-encryption"]) {
            let refused = refuse_unread(&head("/b/o", &[(KEPT[0], "SM4"), (name, "true")]).headers);
            assert_eq!(refused.unwrap_err().code().as_str(), "NotImplemented", "{name}");
        }
    }

    #[test]
    fn words_of_the_other_dialect_are_refused() {
        let (obs, s3) = (head("/", &[("x-obs-acl", "a")]).headers, head("/", &[("x-amz-acl", "a")]).headers);
        assert!(refuse_foreign(&obs, Dialect::Obs).is_ok() && refuse_foreign(&obs, Dialect::V2).is_err());
        assert!(refuse_foreign(&s3, Dialect::V2).is_ok() && refuse_foreign(&s3, Dialect::Obs).is_err());
    }

    #[test]
    fn a_date_is_given_to_signatures_of_version_4_that_have_the_common_one() {
        let date = ("date", "Mon, 30 Nov 2026 09:00:00 GMT");
        let mut signed = head("/", &[("authorization", "AWS4-HMAC-SHA256 x"), date]);
        add_date(&mut signed);
        assert_eq!(signed.headers["x-amz-date"], "20261130T090000Z");
        let mut plain = head("/", &[date]);
        add_date(&mut plain);
        assert!(!plain.headers.contains_key("x-amz-date"));
    }
}
