//! What requests and answers have in common: headers of objects, encryption, times.

use std::{collections::BTreeMap, time::Duration};

use http::{
    Extensions, HeaderMap,
    header::{ETAG, LAST_MODIFIED},
};
use s3s::{
    S3Error, S3Response, S3Result,
    dto::{ETag, ETagCondition, ServerSideEncryption, Timestamp, TimestampFormat},
    s3_error,
};

use super::errors::{not_offered, s3};
use crate::{
    format::Suite,
    gateway::Gateway,
    obs::Dialect,
    sse::{Asked, Rejection},
    store::{Encryption, ObjectRecord},
};

/// Names the algorithm of an object's encryption; S3 has no header for that.
const DATA_ENCRYPTION: [&str; 2] = ["x-obs-server-side-data-encryption", "x-amz-server-side-data-encryption"];
/// Asks for a bucket key, in the words of S3 and of OBS.
const BUCKET_KEY: [&str; 2] =
    ["x-amz-server-side-encryption-bucket-key-enabled", "x-obs-server-side-encryption-bucket-key-enabled"];

/// What is kept of an object's headers, user's metadata and encryption context at most, names and values together, in
/// bytes: twice what the metadata may have.
const LONGEST_KEPT: usize = 16 * 1024;

/// The longest encryption context that the key service takes, in bytes of its canonical form.
const LONGEST_CONTEXT: usize = 8192;

/// Moves fields of an input that requests have in common out of it.
macro_rules! headers_of {
    ($input:expr) => {
        $crate::s3::answers::headers([
            ("cache-control", $input.cache_control.clone()),
            ("content-disposition", $input.content_disposition.clone()),
            ("content-encoding", $crate::s3::answers::content_encoding($input.content_encoding.as_deref())),
            ("content-language", $input.content_language.clone()),
            ("content-type", $input.content_type.clone()),
        ])
    };
}

/// What an input and the request's headers say of encryption.
macro_rules! asked_of {
    ($request:expr) => {
        $crate::sse::Asked {
            mode: $request.input.server_side_encryption.as_ref().map(|mode| mode.as_str().to_owned()),
            key: $request.input.ssekms_key_id.clone(),
            has_customer_key: $request.input.sse_customer_key.is_some()
                || $request.input.sse_customer_algorithm.is_some(),
            has_context: $request.input.ssekms_encryption_context.is_some(),
            ..$crate::s3::answers::asked(&$request.headers, &$request.extensions)?
        }
    };
}

/// Refuses what an upload asks for and this gateway does not keep.
macro_rules! kept_only {
    ($input:expr) => {
        $crate::s3::answers::refuse_unkept(&[
            ("an ACL", $input.acl.as_ref().is_some_and(|acl| acl.as_str() != "private")),
            ("an ACL", $input.grant_full_control.is_some() || $input.grant_read.is_some()),
            ("an ACL", $input.grant_read_acp.is_some() || $input.grant_write_acp.is_some()),
            (
                "another storage class than STANDARD",
                $input.storage_class.as_ref().is_some_and(|class| class.as_str() != "STANDARD"),
            ),
            ("tagging", $input.tagging.is_some()),
            (
                "object lock",
                $input.object_lock_mode.is_some() || $input.object_lock_legal_hold_status.is_some(),
            ),
            ("website redirection", $input.website_redirect_location.is_some()),
            ("Expires", $input.expires.is_some()),
        ])
    };
}

/// The conditions of an input that reads an object.
macro_rules! conditions_of {
    ($input:expr) => {
        $crate::s3::answers::Conditions {
            if_match: $input.if_match.clone(),
            if_none_match: $input.if_none_match.clone(),
            if_modified_since: $input.if_modified_since.clone(),
            if_unmodified_since: $input.if_unmodified_since.clone(),
        }
    };
}

/// The conditions of an input that copies, on the source.
macro_rules! source_conditions_of {
    ($input:expr) => {
        $crate::s3::answers::Conditions {
            if_match: $input.copy_source_if_match.clone(),
            if_none_match: $input.copy_source_if_none_match.clone(),
            if_modified_since: $input.copy_source_if_modified_since.clone(),
            if_unmodified_since: $input.copy_source_if_unmodified_since.clone(),
        }
    };
}

pub(super) use {asked_of, conditions_of, headers_of, kept_only, source_conditions_of};

pub(super) fn refuse_unkept(unkept: &[(&str, bool)]) -> S3Result<()> {
    match unkept.iter().find(|(_, is_asked)| *is_asked) {
        Some((what, _)) => Err(not_offered(what)),
        None => Ok(()),
    }
}

/// Those headers that are there.
pub(super) fn headers(given: [(&str, Option<String>); 5]) -> BTreeMap<String, String> {
    let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    given.collect()
}

/// The encoding of an object's bytes, without that of S3's chunks: the body came in them, and it does not go in them.
/// `None`: nothing remains.
pub(super) fn content_encoding(given: Option<&str>) -> Option<String> {
    let given = given?;
    let (chunks, own): (Vec<&str>, Vec<&str>) =
        given.split(',').map(str::trim).partition(|coding| coding.eq_ignore_ascii_case("aws-chunked"));
    match own.join(", ") {
        _ if chunks.is_empty() => Some(given.to_owned()),
        own => (!own.is_empty()).then_some(own),
    }
}

/// Refuses an object's headers, metadata and encryption context that are too long to be kept in memory.
pub(super) fn must_be_short(kept: [&BTreeMap<String, String>; 3]) -> S3Result<()> {
    let length: usize = kept.into_iter().flatten().map(|(name, value)| name.len() + value.len()).sum();
    if length > LONGEST_KEPT { Err(s3_error!(MetadataTooLarge)) } else { Ok(()) }
}

/// What those headers say of encryption that the protocol's library knows no fields for, in all requests alike.
pub(super) fn asked(headers: &HeaderMap, extensions: &Extensions) -> S3Result<Asked> {
    let bucket_key = match one_of(headers, BUCKET_KEY)? {
        None => None,
        Some(flag) if flag.eq_ignore_ascii_case("true") => Some(true),
        Some(flag) if flag.eq_ignore_ascii_case("false") => Some(false),
        Some(_) => return Err(s3(Rejection::Value("server-side-encryption-bucket-key-enabled"))),
    };
    let is_obs = extensions.get() == Some(&Dialect::Obs);
    Ok(Asked { algorithm: one_of(headers, DATA_ENCRYPTION)?, bucket_key, is_obs, ..Asked::default() })
}

/// What a header says that has a name in either dialect, and may be said by both only if they agree.
fn one_of(headers: &HeaderMap, names: [&str; 2]) -> S3Result<Option<String>> {
    match names.map(|name| text(headers, name)) {
        [Some(one), Some(other)] if !one.eq_ignore_ascii_case(&other) => {
            Err(s3_error!(InvalidArgument, "{} and {} contradict each other", names[0], names[1]))
        }
        [one, other] => Ok(one.or(other)),
    }
}

/// What the headers alone say of encryption, where the protocol's library knows no fields for any of it.
pub(super) fn asked_by_headers(headers: &HeaderMap, extensions: &Extensions) -> S3Result<Asked> {
    Ok(Asked {
        mode: text(headers, "x-amz-server-side-encryption"),
        key: text(headers, "x-amz-server-side-encryption-aws-kms-key-id"),
        ..asked(headers, extensions)?
    })
}

/// A header's text. What is none is no word of encryption either.
pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?").to_owned())
}

/// What a client adds to the encryption context of an object: a JSON object of texts in Base64.
pub(super) fn added_context(
    given: Option<&String>,
    bucket: &str,
    object: &str,
) -> S3Result<BTreeMap<String, String>> {
    let Some(given) = given else { return Ok(BTreeMap::new()) };
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, given).ok();
    let context: Option<BTreeMap<String, String>> =
        decoded.and_then(|json| serde_json::from_slice(&json).ok());
    let context = context.ok_or_else(|| s3_error!(InvalidArgument, "the encryption context is none"))?;
    // The gateway's own entries say where the object is.
    if context.contains_key("bucket") || context.contains_key("object") {
        return Err(s3_error!(InvalidArgument, "`bucket` and `object` of the context are the gateway's"));
    }
    if context_length(&context, bucket, object) > LONGEST_CONTEXT {
        return Err(s3(Rejection::ContextTooLong));
    }
    Ok(context)
}

/// How long the key service's canonical form of an encryption context is, with the gateway's own entries.
// docs/ciphertext-format.md: a kind and a count, then each text with its length before it.
fn context_length(added: &BTreeMap<String, String>, bucket: &str, object: &str) -> usize {
    let own = [("bucket", bucket), ("object", object)];
    let added = added.iter().map(|(name, value)| (&**name, &**value));
    own.into_iter().chain(added).fold(5, |sum, (name, value)| sum + 8 + name.len() + value.len())
}

/// What an answer says of an object's encryption.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) mode: Option<ServerSideEncryption>,
    pub(super) key: Option<String>,
    /// Told only if it is so.
    pub(super) bucket_key: Option<bool>,
    suite: Option<Suite>,
}

impl Shown {
    pub(super) fn of(gateway: &Gateway, encryption: Option<&Encryption>) -> Self {
        let Some(Encryption { suite, key_id, key_owner, bucket_key, .. }) = encryption else {
            return Self::default();
        };
        Self {
            mode: Some(ServerSideEncryption::from_static(ServerSideEncryption::AWS_KMS)),
            key: Some(format!("arn:aws:kms:{}:{key_owner}:key/{key_id}", gateway.region())),
            bucket_key: bucket_key.then_some(true),
            suite: Some(*suite),
        }
    }

    /// An answer with the header that names the algorithm.
    pub(super) fn answer<Output>(&self, output: Output) -> S3Response<Output> {
        let mut response = S3Response::new(output);
        if let Some(suite) = self.suite {
            let name = http::HeaderName::from_static(DATA_ENCRYPTION[0]);
            response.headers.insert(name, http::HeaderValue::from_static(suite.name()));
        }
        response
    }
}

/// A moment in milliseconds since 1970.
pub(super) fn timestamp(milliseconds: i64) -> Timestamp {
    let since_1970 = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
    Timestamp::from(std::time::UNIX_EPOCH + since_1970)
}

pub(super) fn etag(record: &ObjectRecord) -> ETag {
    ETag::Strong(record.etag.clone())
}

/// The conditions of a request on an object that is read.
#[expect(clippy::struct_field_names, reason = "the names of the headers")]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    /// As [`check`](Self::check), for the source of a copy: a copy has no other answer to what does not hold.
    pub(super) fn check_source(&self, record: &ObjectRecord) -> S3Result<()> {
        let met = self.check(record);
        met.map_err(|_| s3_error!(PreconditionFailed, "the source is not as the request wants it"))
    }

    /// Refuses if the object is not as the conditions want it.
    // RFC 9110, section 13.2.2: the order; times count in whole seconds, and only without the ETag's condition.
    pub(super) fn check(&self, record: &ObjectRecord) -> S3Result<()> {
        let is_same = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) => etag.value() == record.etag,
        };
        let seconds = |time: &Timestamp| {
            let mut text = Vec::new();
            let formatted = time.format(TimestampFormat::EpochSeconds, &mut text);
            let text = formatted.ok().and_then(|()| String::from_utf8(text).ok());
            text.and_then(|text| text.split('.').next()?.parse::<i64>().ok()).unwrap_or(0)
        };
        let modified = record.modified.div_euclid(1000);
        let failed = || s3_error!(PreconditionFailed, "the object is not as the request wants it");
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !is_same(condition) => return Err(failed()),
            (None, Some(time)) if modified > seconds(time) => return Err(failed()),
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if is_same(condition) => Err(not_modified(record)),
            (None, Some(time)) if modified <= seconds(time) => Err(not_modified(record)),
            _ => Ok(()),
        }
    }
}

/// The answer that the client has the object already.
// RFC 9110, section 15.4.5: with what names the object.
fn not_modified(record: &ObjectRecord) -> S3Error {
    let mut date = Vec::new();
    let date = timestamp(record.modified).format(TimestampFormat::HttpDate, &mut date).ok().map(|()| date);
    let date = date.and_then(|date| http::HeaderValue::from_bytes(&date).ok());
    let headers = [(ETAG, etag(record).to_http_header().ok()), (LAST_MODIFIED, date)];
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let mut answer = s3_error!(NotModified);
    answer.set_headers(headers.collect());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Conditions = Conditions {
        if_match: None,
        if_none_match: None,
        if_modified_since: None,
        if_unmodified_since: None,
    };

    /// What is answered of an object with the ETag `e`, modified half a second after second 100.
    fn answered(conditions: &Conditions) -> Result<(), S3Error> {
        conditions.check(&ObjectRecord {
            key: "o".to_owned(),
            size: 0,
            etag: "e".to_owned(),
            modified: 100_500,
            headers: BTreeMap::new(),
            metadata: BTreeMap::new(),
            upload_id: String::new(),
            parts: Vec::new(),
            encryption: None,
        })
    }

    fn code(conditions: &Conditions) -> Option<String> {
        answered(conditions).err().map(|error| error.code().as_str().to_owned())
    }

    #[expect(clippy::unnecessary_wraps, reason = "a condition that is there")]
    fn second(seconds: i64) -> Option<Timestamp> {
        Some(timestamp(seconds * 1000))
    }

    #[expect(clippy::unnecessary_wraps, reason = "a condition that is there")]
    fn tag(value: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(ETag::Strong(value.to_owned())))
    }

    #[test]
    fn an_encryption_context_is_as_long_as_the_key_service_takes_it() {
        let refused = |length: usize| {
            let context = serde_json::json!({ "k": "v".repeat(length) }).to_string();
            let given = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, context);
            added_context(Some(&given), "bucket", "o").err()
        };
        // Kind and count; the lengths of six texts; bucket, object, k and their values.
        let fits = 8192 - 5 - 6 * 4 - (6 + 6) - (6 + 1) - 1;
        assert!(refused(fits).is_none());
        let error = refused(fits + 1).unwrap();
        assert_eq!(error.code().as_str(), "InvalidArgument");
    }

    #[test]
    fn the_encoding_of_chunks_is_not_the_objects() {
        for (given, kept) in [
            ("aws-chunked", None),
            ("AWS-Chunked", None),
            ("aws-chunked,", None),
            ("gzip, aws-chunked", Some("gzip")),
            ("aws-chunked,gzip,br", Some("gzip, br")),
            ("gzip,br", Some("gzip,br")),
            ("x-aws-chunked", Some("x-aws-chunked")),
        ] {
            assert_eq!(content_encoding(Some(given)).as_deref(), kept, "{given}");
        }
        assert_eq!(content_encoding(None), None);
    }

    #[test]
    fn conditions_by_time_count_in_whole_seconds() {
        for (seconds, is_unmodified) in [(99, false), (100, true), (101, true)] {
            let failed = (!is_unmodified).then(|| "PreconditionFailed".to_owned());
            assert_eq!(code(&Conditions { if_unmodified_since: second(seconds), ..NONE }), failed);
            let failed = is_unmodified.then(|| "NotModified".to_owned());
            assert_eq!(code(&Conditions { if_modified_since: second(seconds), ..NONE }), failed);
        }
    }

    #[test]
    fn conditions_by_etag_go_before_those_by_time() {
        let same_but_later = Conditions { if_match: tag("e"), if_unmodified_since: second(99), ..NONE };
        assert_eq!(code(&same_but_later), None);
        let other_but_earlier =
            Conditions { if_none_match: tag("f"), if_modified_since: second(101), ..NONE };
        assert_eq!(code(&other_but_earlier), None);
        let same = Conditions { if_none_match: tag("e"), if_modified_since: second(99), ..NONE };
        assert_eq!(code(&same).as_deref(), Some("NotModified"));
        // What must hold goes before what spares the answer.
        let both = Conditions { if_unmodified_since: second(99), if_none_match: tag("e"), ..NONE };
        assert_eq!(code(&both).as_deref(), Some("PreconditionFailed"));
        let both = Conditions { if_match: tag("f"), if_modified_since: second(101), ..NONE };
        assert_eq!(code(&both).as_deref(), Some("PreconditionFailed"));
    }

    #[test]
    fn the_answer_that_nothing_was_modified_names_the_object() {
        for conditions in [
            Conditions { if_none_match: tag("e"), ..NONE },
            Conditions { if_modified_since: second(100), ..NONE },
        ] {
            let answer = answered(&conditions).unwrap_err();
            let headers = answer.headers().unwrap();
            assert_eq!(headers[ETAG], r#""e""#);
            assert_eq!(headers[LAST_MODIFIED], "Thu, 01 Jan 1970 00:01:40 GMT");
        }
    }

    #[test]
    fn what_is_said_in_both_dialects_has_to_agree() {
        for names in [BUCKET_KEY, DATA_ENCRYPTION] {
            let said = |values: [Option<&str>; 2]| {
                let said = names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?)));
                let headers = said.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
                asked(&headers.collect(), &Extensions::new()).map(|asked| (asked.bucket_key, asked.algorithm))
            };
            for values in [[Some("true"), None], [None, Some("true")], [Some("true"); 2]] {
                let asked = said(values).unwrap();
                assert!(matches!(asked, (Some(true), None) | (None, Some(_))), "{names:?} {values:?}");
            }
            let contradicting = said([Some("true"), Some("false")]).unwrap_err();
            assert_eq!(contradicting.code().as_str(), "InvalidArgument", "{names:?}");
        }
    }

    #[test]
    fn what_is_kept_of_an_object_is_short_together() {
        let of = |length: usize| BTreeMap::from([("n".to_owned(), "v".repeat(length - 1))]);
        let (none, half, whole) = (BTreeMap::new(), of(LONGEST_KEPT / 2), of(LONGEST_KEPT));
        assert!(
            must_be_short([&half, &none, &half]).is_ok() && must_be_short([&none, &none, &whole]).is_ok()
        );
        for kept in [[&half, &of(1), &half], [&none, &of(1), &whole], [&of(LONGEST_KEPT + 1), &none, &none]] {
            assert_eq!(must_be_short(kept).unwrap_err().code().as_str(), "MetadataTooLarge");
        }
    }
}
