//! Which queries a request may have. The protocol's library passes over those that it does not know, so that a request for
//! something else would overwrite an object, or remove it, or list a bucket.

use http::{Method, Uri};
use s3s::{S3Error, s3_error};

use crate::obs::pairs;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The gateway itself, with all buckets.
    Gateway,
    /// A bucket itself.
    Bucket,
    /// An object.
    Object,
}

/// Queries of one operation: all that have to be there, and what may stand beside them.
struct Form(&'static [&'static str], &'static [&'static str]);

/// Queries of signatures of version 4, which any request may have.
// OBS: its libraries write the token's as they write the header.
const SIGNING: [&str; 9] = [
    "X-Amz-Algorithm",
    "X-Amz-Content-Sha256",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
    "x-amz-security-token",
];

/// Queries by which clients tell of themselves, and which change nothing here: any request may have them.
// AWS: its SDK for JavaScript moves these headers into the URLs that it signs, the checksum being one of no body.
const TELLING: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-mode",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-user-agent",
    "x-id",
];

/// What is got of a bucket: its objects in both versions, its uploads, what it is.
const OF_BUCKET: [Form; 6] = [
    Form(&[], &["delimiter", "encoding-type", "marker", "max-keys", "prefix"]),
    Form(
        &["list-type"],
        &[
            "continuation-token",
            "delimiter",
            "encoding-type",
            "fetch-owner",
            "max-keys",
            "prefix",
            "start-after",
        ],
    ),
    Form(
        &["uploads"],
        &["delimiter", "encoding-type", "key-marker", "max-uploads", "prefix", "upload-id-marker"],
    ),
    Form(&["location"], &[]),
    POLICY,
    ENCRYPTION,
];

/// How an object, or its head, is read.
const READ: Form = Form(
    &[],
    &[
        "partNumber",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "versionId",
    ],
);

/// A bucket's policy: got, put, deleted.
const POLICY: Form = Form(&["policy"], &[]);
/// A bucket's configuration of encryption: got, put, deleted.
const ENCRYPTION: Form = Form(&["encryption"], &[]);

/// Refuses a request with queries of no operation that is offered. One without queries goes on: the protocol's library
/// knows all of those.
pub(crate) fn check(method: &Method, uri: &Uri, place: Place) -> Result<(), S3Error> {
    let names: Vec<String> = pairs(uri).map(|(name, _)| name).filter(|name| !is_of_any(name)).collect();
    let is_offered = |Form(wanted, more): &Form| {
        let is_known = |name: &String| wanted.iter().chain(*more).any(|known| known == name);
        names.iter().all(is_known) && wanted.iter().all(|wanted| names.iter().any(|name| name == wanted))
    };
    if names.is_empty() || forms(method, place).iter().any(is_offered) {
        return Ok(());
    }
    Err(s3_error!(NotImplemented, "{method} with the queries {} is not offered", names.join(", ")))
}

/// Whether any request may have a query of this name.
fn is_of_any(name: &str) -> bool {
    SIGNING.contains(&name) || TELLING.iter().any(|telling| telling.eq_ignore_ascii_case(name))
}

/// What is offered with queries.
fn forms(method: &Method, place: Place) -> &'static [Form] {
    match (method.as_str(), place) {
        // All buckets come at once, however few are asked for: clients ask for pages without being told to.
        ("GET", Place::Gateway) => &[Form(&[], &["max-buckets"])],
        ("GET", Place::Bucket) => &OF_BUCKET,
        ("PUT" | "DELETE", Place::Bucket) => &[POLICY, ENCRYPTION],
        ("POST", Place::Bucket) => &[Form(&["delete"], &[])],
        ("GET", Place::Object) => {
            &[READ, Form(&["uploadId"], &["encoding-type", "max-parts", "part-number-marker"])]
        }
        ("HEAD", Place::Object) => &[READ],
        ("PUT", Place::Object) => &[Form(&["partNumber", "uploadId"], &[])],
        // The version of an object is refused by who deletes it, after the permission to.
        ("DELETE", Place::Object) => &[Form(&["uploadId"], &[]), Form(&["versionId"], &[])],
        ("POST", Place::Object) => {
            &[Form(&["uploads"], &["encoding-type"]), Form(&["uploadId"], &["encoding-type"])]
        }
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_offered(method: &str, place: Place, query: &str) -> bool {
        let uri = format!("/b/o?{query}").parse().unwrap();
        match check(&method.parse().unwrap(), &uri, place) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.code().as_str(), "NotImplemented", "{query}");
                false
            }
        }
    }

    #[test]
    fn what_clients_of_the_gateway_send_goes_on() {
        for (method, place, query) in [
            ("GET", Place::Gateway, "max-buckets=1000"),
            ("GET", Place::Bucket, "prefix=a&marker=b&delimiter=%2F&max-keys=1&encoding-type=url"),
            (
                "GET",
                Place::Bucket,
                "list-type=2&prefix=&delimiter=&start-after=a&fetch-owner=true&max-keys=5",
            ),
            ("GET", Place::Bucket, "list-type=2&continuation-token=61&encoding-type=url"),
            ("GET", Place::Bucket, "uploads&prefix=a&key-marker=b&upload-id-marker=c&max-uploads=1"),
            ("GET", Place::Bucket, "location"),
            ("GET", Place::Object, "response-content-type=a&response-expires=b&versionId=null"),
            ("GET", Place::Object, "uploadId=x&max-parts=1&part-number-marker=1"),
            ("HEAD", Place::Object, "versionId=null&partNumber=1"),
            ("PUT", Place::Object, "partNumber=1&uploadId=x"),
            ("PUT", Place::Object, "upload%49d=x&part%4Eumber=1&x-id=UploadPart"),
            ("DELETE", Place::Object, "uploadId=x"),
            ("DELETE", Place::Object, "versionId=null"),
            ("POST", Place::Object, "uploads"),
            ("POST", Place::Object, "uploadId=x"),
            ("POST", Place::Bucket, "delete"),
        ] {
            assert!(is_offered(method, place, query), "{method} {query}");
        }
        for method in ["GET", "PUT", "DELETE"] {
            for query in ["policy", "policy=", "encryption", "x-id=A&encryption"] {
                assert!(is_offered(method, Place::Bucket, query), "{method} {query}");
            }
        }
    }

    #[test]
    fn every_request_may_be_signed_by_its_url() {
        let signed = "X-Amz-Algorithm=A&X-Amz-Credential=b&X-Amz-Date=c&X-Amz-Expires=1&X-Amz-SignedHeaders=host\
                      &X-Amz-Security-Token=d&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD&X-Amz-Signature=e\
                      &x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-id=PutObject";
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
            for place in [Place::Gateway, Place::Bucket, Place::Object] {
                for query in ["", "&", signed, "x-amz-security-token=t"] {
                    assert!(is_offered(method, place, query), "{method} {place:?} {query}");
                }
            }
        }
        // Where the library reads a header, a query would be left out.
        assert!(!is_offered("PUT", Place::Object, &format!("{signed}&x-amz-server-side-encryption=aws:kms")));
        assert!(!is_offered("PUT", Place::Object, "x-amz-acl=private"));
    }

    #[test]
    fn queries_of_what_is_not_offered_do_not_fall_through_to_what_is() {
        for (method, query) in [
            ("PUT", "metadata"),
            ("PUT", "%6Detadata"),
            ("PUT", "Metadata"),
            ("PUT", "truncate&length=1"),
            ("PUT", "modify&position=1"),
            ("PUT", "x-obs-accesslabel"),
            ("PUT", "renameObject"),
            ("PUT", "uploadId=x"),
            ("PUT", "partNumber=1"),
            ("PUT", "partNumber=1&uploadId=x&metadata"),
            ("PUT", "versionId=null"),
            ("DELETE", "x-obs-accesslabel"),
            ("DELETE", "partNumber=1"),
            ("DELETE", "uploadId=x&versionId=y"),
            ("POST", "rename&name=a"),
            ("POST", "append&position=0"),
            ("POST", "uploads&uploadId=x"),
            ("GET", "x-image-process=a"),
            ("GET", "uploadId=x&response-content-type=a"),
            ("HEAD", "uploadId=x"),
            ("PATCH", "uploads"),
        ] {
            assert!(!is_offered(method, Place::Object, query), "{method} {query}");
        }
        for (method, query) in [
            ("DELETE", "obscompresspolicy"),
            ("DELETE", "customdomain=a"),
            ("DELETE", "directcoldaccess"),
            ("DELETE", "policy&encryption"),
            ("PUT", "quota"),
            ("PUT", "storageClass"),
            ("PUT", "policy&prefix=a"),
            ("GET", "quota"),
            ("GET", "storageinfo"),
            ("GET", "versions"),
            ("GET", "marker=a&continuation-token=b"),
            ("HEAD", "location"),
            ("POST", "delete&uploads"),
        ] {
            assert!(!is_offered(method, Place::Bucket, query), "{method} {query}");
        }
        for query in ["prefix=a", "continuation-token=a", "marker=a&max-keys=1"] {
            assert!(!is_offered("GET", Place::Gateway, query), "{query}");
        }
    }
}
