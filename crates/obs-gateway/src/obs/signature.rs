//! Signatures of OBS, and of S3's version 2, which are the same with another prefix: HMAC-SHA1 over what a request says.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;
use sha1::Sha1;

/// Whose words a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OBS: `x-obs-` headers.
    Obs,
    /// S3, version 2 of its signatures: `x-amz-` headers.
    V2,
}

/// What a request claims of its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) dialect: Dialect,
    pub(crate) access_key: String,
    signature: String,
    /// Of a pre-signed URL: until when it holds, in seconds since 1970.
    pub(crate) expires: Option<String>,
}

/// The names of queries that are part of what is signed.
// OBS: the SDK's own list; whatever begins with x-obs- besides.
const SIGNED_QUERIES: [&str; 67] = [
    "acl",
    "append",
    "backtosource",
    "bucketstatus",
    "cors",
    "delete",
    "deletebucket",
    "directcoldaccess",
    "dispolicy",
    "encryption",
    "fileinterface",
    "inventory",
    "length",
    "lifecycle",
    "location",
    "logging",
    "metadata",
    "modify",
    "name",
    "notification",
    "object-lock",
    "obsalias",
    "obsbucketalias",
    "obscompresspolicy",
    "obsworkflowtriggerpolicy",
    "partnumber",
    "policy",
    "policystatus",
    "position",
    "publicaccessblock",
    "quota",
    "rename",
    "replication",
    "requestpayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "retention",
    "storageclass",
    "storageinfo",
    "storagepolicy",
    "tagging",
    "torrent",
    "truncate",
    "uploadid",
    "uploads",
    "versionid",
    "versioning",
    "versions",
    "website",
    "x-image-process",
    "x-image-save-bucket",
    "x-image-save-object",
    "x-obs-accesslabel",
    "x-oss-process",
    "x-workflow-execution-state",
    "x-workflow-execution-type",
    "x-workflow-graph-name",
    "x-workflow-limit",
    "x-workflow-next-marker",
    "x-workflow-prefix",
    "x-workflow-start",
    "x-workflow-template-name",
];

impl Dialect {
    /// Whose words a request uses, and its answer has to use, whether its signature can be read or not; `None`: those
    /// of S3.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        if let Some(authorization) = text(headers, "authorization") {
            return match authorization.split_once(' ')?.0 {
                "OBS" => Some(Self::Obs),
                "AWS" => Some(Self::V2),
                _ => None,
            };
        }
        match (query(uri, Self::Obs.access_key()), query(uri, Self::V2.access_key())) {
            (Some(_), None) => Some(Self::Obs),
            (None, Some(_)) => Some(Self::V2),
            _ => None,
        }
    }

    /// What the dialect's own headers begin with.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Obs => "x-obs-",
            Self::V2 => "x-amz-",
        }
    }

    /// The header that brings the token of a temporary key, also as a query.
    pub(crate) const fn token(self) -> &'static str {
        match self {
            Self::Obs => "x-obs-security-token",
            Self::V2 => "x-amz-security-token",
        }
    }

    /// The query that names the access key of a URL's signature.
    const fn access_key(self) -> &'static str {
        match self {
            Self::Obs => "AccessKeyId",
            Self::V2 => "AWSAccessKeyId",
        }
    }

    const fn date(self) -> &'static str {
        match self {
            Self::Obs => "x-obs-date",
            Self::V2 => "x-amz-date",
        }
    }
}

impl Claim {
    /// The claim of a request, if it makes one of this kind.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        let dialect = Dialect::of(uri, headers)?;
        if let Some(authorization) = text(headers, "authorization") {
            let (_, rest) = authorization.split_once(' ')?;
            let (access_key, signature) = rest.trim().split_once(':')?;
            let (access_key, signature) = (access_key.to_owned(), signature.to_owned());
            return Some(Self { dialect, access_key, signature, expires: None });
        }
        let access_key = query(uri, dialect.access_key())?;
        let (signature, expires) = (query(uri, "Signature")?, query(uri, "Expires")?);
        Some(Self { dialect, access_key, signature, expires: Some(expires) })
    }

    /// The date that counts for the request's age.
    pub(crate) fn date<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        text(headers, self.dialect.date()).or_else(|| text(headers, "date"))
    }

    /// Whether the signature is made with this secret, in a time that tells nothing of it. `bucket` is the one that the
    /// host's name says.
    pub(crate) fn holds(
        &self,
        secret: &str,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        bucket: Option<&str>,
    ) -> bool {
        let Ok(signature) = STANDARD.decode(&self.signature) else { return false };
        let signed = self.string_to_sign(method, headers);
        let Some(resources) = resources(uri, bucket, self.dialect) else { return false };
        resources.iter().any(|resource| {
            let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else { return false };
            mac.update(signed.as_bytes());
            mac.update(resource.as_bytes());
            mac.verify_slice(&signature).is_ok()
        })
    }

    /// What is signed, but for the resource.
    fn string_to_sign(&self, method: &Method, headers: &HeaderMap) -> String {
        let header = |name: &str| text(headers, name).unwrap_or_default();
        let date = match &self.expires {
            Some(expires) => expires,
            None if headers.contains_key(self.dialect.date()) => "",
            None => header("date"),
        };
        let mut signed = format!("{method}\n{}\n{}\n{date}\n", header("content-md5"), header("content-type"));
        let own = headers.keys().map(http::HeaderName::as_str);
        let mut own: Vec<&str> = own.filter(|name| name.starts_with(self.dialect.prefix())).collect();
        own.sort_unstable();
        for name in own {
            let values: Vec<&str> =
                headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::trim).collect();
            signed.extend([name, ":", &values.join(","), "\n"]);
        }
        signed
    }
}

/// The forms of the resource that clients sign: `/bucket` ends with a slash or not. `None`: it would be signed as
/// another one is.
fn resources(uri: &Uri, bucket: Option<&str>, dialect: Dialect) -> Option<Vec<String>> {
    let first = uri.path().split('/').nth(1).unwrap_or_default();
    // Behind here the path is decoded before the bucket is taken from it.
    if bucket.is_none() && has_slash(first) {
        return None;
    }
    let path = match bucket {
        Some(bucket) => format!("/{bucket}{}", uri.path()),
        None => uri.path().to_owned(),
    };
    let paths = if is_bucket(&path) {
        let path = path.strip_suffix('/').unwrap_or(&path);
        vec![path.to_owned(), format!("{path}/")]
    } else {
        vec![path]
    };
    let queries = signed_queries(uri, dialect)?;
    Some(paths.into_iter().map(|path| path + &queries).collect())
}

/// Whether a path is a bucket's: `/bucket` or `/bucket/`. More slashes make an object's key, however they are written.
pub(crate) fn is_bucket(path: &str) -> bool {
    let name = path.strip_prefix('/').map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    name.is_some_and(|name| !name.is_empty() && !has_slash(name))
}

/// Whether a piece of a path has slashes once it is decoded.
fn has_slash(text: &str) -> bool {
    percent_decode_str(text).any(|byte| byte == b'/')
}

/// What is signed of the queries. `None` if one holds what separates them: they are signed as they are decoded, so it
/// could not be told from several.
fn signed_queries(uri: &Uri, dialect: Dialect) -> Option<String> {
    let mut pairs: Vec<(String, Option<String>)> = pairs(uri)
        .filter(|(name, _)| {
            let name = name.to_ascii_lowercase();
            SIGNED_QUERIES.contains(&&*name) || name.starts_with(dialect.prefix())
        })
        .collect();
    let is_clear = |(name, value): &(String, Option<String>)| {
        !name.contains(['&', '=']) && !value.as_ref().is_some_and(|value| value.contains('&'))
    };
    if !pairs.iter().all(is_clear) {
        return None;
    }
    pairs.sort();
    let shown: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name,
        })
        .collect();
    Some(if shown.is_empty() { String::new() } else { format!("?{}", shown.join("&")) })
}

/// The queries, decoded; one without `=`, or with nothing behind it, has no value.
pub(crate) fn pairs(uri: &Uri) -> impl Iterator<Item = (String, Option<String>)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
        (decode(name), value.filter(|value| !value.is_empty()).map(decode))
    })
}

pub(crate) fn query(uri: &Uri, wanted: &str) -> Option<String> {
    pairs(uri).find(|(name, _)| name == wanted)?.1
}

/// Whether a query has this name, whatever its value.
pub(crate) fn has_query(uri: &Uri, wanted: &str) -> bool {
    pairs(uri).any(|(name, _)| name == wanted)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "secret";
    const DATE: &str = "Mon, 30 Nov 2026 09:00:00 GMT";

    fn signature(text: &str) -> String {
        let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    /// Whether a request for `uri` holds whose client signed `text`.
    fn holds(uri: &str, bucket: Option<&str>, more: &[(&'static str, &str)], text: &str) -> bool {
        let authorization = format!("OBS AK:{}", signature(text));
        let headers = headers(&[more, &[("authorization", &authorization)]].concat());
        let uri = uri.parse().unwrap();
        let claim = Claim::of(&uri, &headers).unwrap();
        assert_eq!((claim.dialect, &*claim.access_key), (Dialect::Obs, "AK"));
        claim.holds(SECRET, &Method::PUT, &uri, &headers, bucket)
    }

    #[test]
    fn what_is_signed_is_what_the_documents_say() {
        let date = ("date", DATE);
        let kms = ("x-obs-server-side-encryption", "kms");
        let text =
            format!("PUT\n\ntext/plain\n{DATE}\nx-obs-server-side-encryption:kms\n/b/a%20b?uploadId=x");
        let plain = ("content-type", "text/plain");
        let uri = "/a%20b?uploadId=x&max-parts=3";
        assert!(holds(uri, Some("b"), &[date, plain, kms], &text));
        assert!(holds(&format!("/b{uri}"), None, &[date, plain, kms], &text));
        for (uri, bucket, headers) in [
            (uri, Some("c"), &[date, plain, kms][..]),
            ("/a%20b?uploadId=y", Some("b"), &[date, plain, kms]),
            ("/a%20b?uploadId=x&acl", Some("b"), &[date, plain, kms]),
            (uri, Some("b"), &[date, plain]),
            (uri, Some("b"), &[date, plain, ("x-obs-server-side-encryption", "obs")]),
            (uri, Some("b"), &[date, plain, kms, ("x-obs-acl", "public-read")]),
            (uri, Some("b"), &[plain, kms]),
        ] {
            assert!(!holds(uri, bucket, headers, &text), "{uri} {headers:?}");
        }
    }

    #[test]
    fn what_is_signed_is_not_also_something_else() {
        let date = &[("date", DATE)][..];
        let text = |resource: &str| format!("PUT\n\n\n{DATE}\n{resource}");
        assert!(holds("/b/o?acl&uploadId=x", None, date, &text("/b/o?acl&uploadId=x")));
        assert!(!holds("/b/o?uploadId=x%26versionId=y", None, date, &text("/b/o?uploadId=x&versionId=y")));
        assert!(!holds("/b/o?x-obs-a%3Db", None, date, &text("/b/o?x-obs-a=b")));
        for bucket in ["/b", "/b/"] {
            assert!(holds(bucket, None, date, &text("/b")) && holds(bucket, None, date, &text("/b/")));
        }
        for object in ["/b//", "/b///", "//b"] {
            assert!(!holds(object, None, date, &text("/b")) && !holds(object, None, date, &text("/b/")));
            assert!(holds(object, None, date, &text(object)));
        }
        assert!(holds("/", Some("b"), date, &text("/b/")) && holds("/", Some("b"), date, &text("/b")));
        assert!(!holds("//", Some("b"), date, &text("/b/")));
        for object in ["/b%2Fo", "/b%2fo", "/b%2F", "/%2Fb", "/b%2Fo/p"] {
            assert!(!is_bucket(object));
            for signed in [object.to_owned(), format!("{object}/"), object.replace("%2F", "/")] {
                assert!(!holds(object, None, date, &text(&signed)), "{object} by {signed}");
            }
        }
        assert!(
            holds("/b/o%2Fp", None, date, &text("/b/o%2Fp"))
                && holds("/%2F", Some("b"), date, &text("/b/%2F"))
        );
    }

    #[test]
    fn a_date_of_obs_goes_before_the_common_one() {
        let text = format!("PUT\n\n\n\nx-obs-date:{DATE}\n/b/");
        assert!(holds("/", Some("b"), &[("x-obs-date", DATE), ("date", "other")], &text));
        assert!(holds("/b", None, &[("x-obs-date", DATE)], &text));
    }

    #[test]
    fn a_url_is_signed_with_its_end() {
        let signed = signature("GET\n\n\n1790000000\n/b/o?x-obs-security-token=t/k");
        let signed = percent_encoding::utf8_percent_encode(&signed, percent_encoding::NON_ALPHANUMERIC);
        let url = |expires: &str| {
            let queries = format!("AccessKeyId=AK&Expires={expires}&x-obs-security-token=t%2Fk");
            format!("/b/o?{queries}&Signature={signed}").parse::<Uri>().unwrap()
        };
        for (expires, expected) in [("1790000000", true), ("1890000000", false)] {
            let claim = Claim::of(&url(expires), &HeaderMap::new()).unwrap();
            assert_eq!(claim.expires.as_deref(), Some(expires));
            assert_eq!(claim.holds(SECRET, &Method::GET, &url(expires), &HeaderMap::new(), None), expected);
        }
    }
}
