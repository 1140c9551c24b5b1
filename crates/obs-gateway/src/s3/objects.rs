//! Objects: put, read, copied, deleted.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use http::{HeaderValue, header::IF_RANGE};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        Checksum, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, DeleteObjectInput,
        DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, Error,
        GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, PostObjectInput,
        PostObjectOutput, PutObjectInput, PutObjectOutput,
    },
    s3_error,
};

use super::{
    answers::{
        Shown, added_context, asked_of, conditions_of, content_encoding, etag, headers_of, kept_only,
        must_be_short, source_conditions_of, timestamp,
    },
    auth::caller,
    body::{self, Promised, blocking},
    errors::{not_offered, s3},
};
use crate::{
    clock,
    format::ObjectKey,
    gateway::{Caller, Gateway, must_be_secure},
    sse::{Asked, Method},
    store::{Bucket, Encryption, Object, ObjectReader, ObjectRecord, Stored, StreamPlace},
};

/// The longest user's metadata, names and values together, in bytes.
// S3 and OBS: 2 KB by the one, 8 KB by the other.
const LONGEST_METADATA: usize = 8 * 1024;
/// How many objects one request may delete.
const MOST_DELETED: usize = 1000;

pub(super) async fn put(
    gateway: &Arc<Gateway>,
    request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let caller = caller(&request)?;
    let asked = asked_of!(request);
    let trailer = body::trailer_names(&request.headers);
    let length = body::length(&request.headers, request.input.content_length)?;
    let (input, trailers) = (request.input, request.trailing_headers);
    let allowed = gateway.allowed(&caller, "PutObject", &input.bucket, Some(&input.key), &asked);
    let bucket = allowed.map_err(s3)?;
    kept_only!(input)?;
    if input.if_match.is_some() || input.if_none_match.is_some() || input.write_offset_bytes.is_some() {
        return Err(not_offered("a condition or an offset of an upload"));
    }
    let method = gateway.method(&caller, &bucket, &asked, None).map_err(s3)?;
    let context = added_context(input.ssekms_encryption_context.as_ref(), &input.bucket, &input.key)?;
    let (headers, metadata) = (headers_of!(input), metadata(input.metadata)?);
    must_be_short([&headers, &metadata, &context])?;
    let (key, encryption) = new_key(gateway, &caller, &bucket, &input.key, method, context).await?.unzip();
    let shown = Shown::of(gateway, encryption.as_ref());
    let record = new_record(input.key.clone(), headers, metadata, encryption);
    let promised = Promised {
        content_md5: input.content_md5,
        length,
        checksum: Checksum {
            checksum_crc32: input.checksum_crc32,
            checksum_crc32c: input.checksum_crc32c,
            checksum_crc64nvme: input.checksum_crc64nvme,
            checksum_sha1: input.checksum_sha1,
            checksum_sha256: input.checksum_sha256,
            ..Checksum::default()
        },
        trailer,
    };
    let (writer, key) = begin(&bucket, &whole(&bucket, &input.key), key).await?;
    let stored = body::receive(writer, input.body, promised, trailers).await?;
    let object = place(bucket, record, stored, key).await?;
    Ok(shown.answer(PutObjectOutput {
        e_tag: Some(etag(&object.record)),
        server_side_encryption: shown.mode.clone(),
        ssekms_key_id: shown.key.clone(),
        bucket_key_enabled: shown.bucket_key,
        ..PutObjectOutput::default()
    }))
}

/// Uploads by forms of a browser bear a signature of their own kind, which nothing here has looked at.
pub(super) async fn post(
    _: &Arc<Gateway>,
    _: S3Request<PostObjectInput>,
) -> S3Result<S3Response<PostObjectOutput>> {
    Err(not_offered("an upload by a form"))
}

pub(super) async fn get(
    gateway: &Arc<Gateway>,
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let caller = caller(&request)?;
    // The protocol's library knows no field for it.
    let if_range = request.headers.get(IF_RANGE).cloned();
    let input = request.input;
    let (bucket, object) = readable(gateway, &caller, &input.bucket, &input.key, input.version_id.as_ref())?;
    if input.part_number.is_some() || input.sse_customer_key.is_some() {
        return Err(not_offered("reading by parts or with a customer's key"));
    }
    conditions_of!(input).check(&object.record)?;
    let asked = input.range.filter(|_| if_range.is_none_or(|known| is_known(&known, &object.record)));
    let (range, content_range) = match asked {
        None => (0..object.record.size, None),
        Some(asked) => {
            let (range, shown) = part_of(&asked, object.record.size)?;
            (range, Some(shown))
        }
    };
    let length = range.end - range.start;
    let reader = open(gateway, &caller, &bucket, object.clone(), range).await?;
    let body = body::send(reader).await?;
    let record = &object.record;
    let shown = Shown::of(gateway, record.encryption.as_ref());
    let header = |asked: Option<String>, name: &str| asked.or_else(|| record.headers.get(name).cloned());
    Ok(shown.answer(GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        body: Some(body),
        cache_control: header(input.response_cache_control, "cache-control"),
        content_disposition: header(input.response_content_disposition, "content-disposition"),
        content_encoding: input.response_content_encoding.or_else(|| encoding_of(record)),
        content_language: header(input.response_content_language, "content-language"),
        content_length: i64::try_from(length).ok(),
        content_range,
        content_type: header(input.response_content_type, "content-type"),
        e_tag: Some(etag(record)),
        last_modified: Some(timestamp(record.modified)),
        metadata: Some(record.metadata.clone().into_iter().collect()),
        server_side_encryption: shown.mode.clone(),
        ssekms_key_id: shown.key.clone(),
        bucket_key_enabled: shown.bucket_key,
        ..GetObjectOutput::default()
    }))
}

/// Whether the object is the one that a client knows a part of already, by what `If-Range` says.
// RFC 9110, section 13.1.5: only strong validators count. A date is none here, where an object may change twice in a second.
fn is_known(known: &HeaderValue, record: &ObjectRecord) -> bool {
    ETag::parse_http_header(known.as_bytes()).is_ok_and(|known| known.strong_cmp(&etag(record)))
}

/// The encoding of an object's bytes; there are records that kept that of the chunks in which they came.
fn encoding_of(record: &ObjectRecord) -> Option<String> {
    content_encoding(record.headers.get("content-encoding").map(String::as_str))
}

/// The part of an object of this size that a range names, and how an answer shows it.
fn part_of(asked: &s3s::dto::Range, size: u64) -> S3Result<(Range<u64>, String)> {
    let range = asked.check(size).ok().filter(|range| !range.is_empty());
    // RFC 9110, section 14.1.2: of an object without bytes, no range can be answered, nor its last bytes.
    let range = range.ok_or_else(|| s3_error!(InvalidRange))?;
    let shown = format!("bytes {}-{}/{size}", range.start, range.end - 1);
    Ok((range, shown))
}

pub(super) async fn head(
    gateway: &Arc<Gateway>,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let (_, object) = readable(gateway, &caller, &input.bucket, &input.key, input.version_id.as_ref())?;
    if input.part_number.is_some() || input.range.is_some() {
        return Err(not_offered("a part or a range of an object's head"));
    }
    conditions_of!(input).check(&object.record)?;
    let record = &object.record;
    let shown = Shown::of(gateway, record.encryption.as_ref());
    let header = |name: &str| record.headers.get(name).cloned();
    Ok(shown.answer(HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        cache_control: header("cache-control"),
        content_disposition: header("content-disposition"),
        content_encoding: encoding_of(record),
        content_language: header("content-language"),
        content_length: i64::try_from(record.size).ok(),
        content_type: header("content-type"),
        e_tag: Some(etag(record)),
        last_modified: Some(timestamp(record.modified)),
        metadata: Some(record.metadata.clone().into_iter().collect()),
        server_side_encryption: shown.mode.clone(),
        ssekms_key_id: shown.key.clone(),
        bucket_key_enabled: shown.bucket_key,
        ..HeadObjectOutput::default()
    }))
}

/// Copies an object, also onto itself: always read whole and written anew, under a new data key.
pub(super) async fn copy(
    gateway: &Arc<Gateway>,
    request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let caller = caller(&request)?;
    let asked = asked_of!(request);
    let input = request.input;
    let (source_bucket, source) =
        source(gateway, &caller, &input.copy_source, input.expected_source_bucket_owner)?;
    let allowed = gateway.allowed(&caller, "PutObject", &input.bucket, Some(&input.key), &asked);
    let bucket = allowed.map_err(s3)?;
    kept_only!(input)?;
    if input.tagging_directive.is_some() || input.copy_source_sse_customer_key.is_some() {
        return Err(not_offered("tagging or a customer's key"));
    }
    source_conditions_of!(input).check_source(&source.record)?;
    let (headers, metadata) = match input.metadata_directive.as_ref().map(s3s::dto::MetadataDirective::as_str)
    {
        None | Some("COPY") => (source.record.headers.clone(), source.record.metadata.clone()),
        Some("REPLACE") => (headers_of!(input), metadata(input.metadata)?),
        Some(_) => return Err(s3_error!(InvalidArgument, "the directive of the metadata is unknown")),
    };
    let method = gateway.method(&caller, &bucket, &asked, Some(&source.record)).map_err(s3)?;
    let context = added_context(input.ssekms_encryption_context.as_ref(), &input.bucket, &input.key)?;
    must_be_short([&headers, &metadata, &context])?;
    let range = 0..source.record.size;
    let reader = open(gateway, &caller, &source_bucket, source, range).await?;
    let (key, encryption) = new_key(gateway, &caller, &bucket, &input.key, method, context).await?.unzip();
    let shown = Shown::of(gateway, encryption.as_ref());
    let record = new_record(input.key.clone(), headers, metadata, encryption);
    let (writer, key) = begin(&bucket, &whole(&bucket, &input.key), key).await?;
    let stored = body::copy(reader, writer).await?;
    let object = place(bucket, record, stored, key).await?;
    let result = CopyObjectResult {
        e_tag: Some(etag(&object.record)),
        last_modified: Some(timestamp(object.record.modified)),
        ..CopyObjectResult::default()
    };
    Ok(shown.answer(CopyObjectOutput {
        copy_object_result: Some(result),
        server_side_encryption: shown.mode.clone(),
        ssekms_key_id: shown.key.clone(),
        bucket_key_enabled: shown.bucket_key,
        ..CopyObjectOutput::default()
    }))
}

pub(super) async fn delete(
    gateway: &Arc<Gateway>,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let is_guarded = input.if_match.is_some()
        || input.if_match_size.is_some()
        || input.if_match_last_modified_time.is_some();
    if input.version_id.is_some() || is_guarded {
        return Err(not_offered("deleting a version, or on a condition"));
    }
    delete_one(gateway, &caller, &input.bucket, input.key).await?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(super) async fn delete_many(
    gateway: &Arc<Gateway>,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    gateway.store().bucket(&input.bucket).map_err(s3)?;
    if input.delete.objects.len() > MOST_DELETED {
        return Err(s3_error!(MalformedXML, "one request deletes at most {MOST_DELETED} objects"));
    }
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for object in input.delete.objects {
        let key = Some(object.key.clone());
        let is_guarded =
            object.e_tag.is_some() || object.size.is_some() || object.last_modified_time.is_some();
        let ended = if object.version_id.is_some() || is_guarded {
            Err(not_offered("deleting a version, or on a condition"))
        } else {
            delete_one(gateway, &caller, &input.bucket, object.key).await
        };
        match ended {
            Ok(()) => deleted.push(DeletedObject { key, ..DeletedObject::default() }),
            Err(error) => errors.push(Error {
                code: Some(error.code().as_str().to_owned()),
                key,
                message: error.message().map(str::to_owned),
                version_id: None,
            }),
        }
    }
    let is_quiet = input.delete.quiet == Some(true);
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: (!is_quiet).then_some(deleted),
        errors: Some(errors),
        ..DeleteObjectsOutput::default()
    }))
}

async fn delete_one(gateway: &Gateway, caller: &Caller, bucket: &str, key: String) -> S3Result<()> {
    let allowed = gateway.allowed(caller, "DeleteObject", bucket, Some(&key), &Asked::default());
    let bucket = allowed.map_err(s3)?;
    blocking(move || bucket.delete(&key)).await?.map_err(s3)
}

/// An object that the caller may read.
fn readable(
    gateway: &Gateway,
    caller: &Caller,
    bucket: &str,
    key: &str,
    version: Option<&String>,
) -> S3Result<(Arc<Bucket>, Arc<Object>)> {
    let bucket = gateway.allowed(caller, "GetObject", bucket, Some(key), &Asked::default()).map_err(s3)?;
    if version.is_some_and(|version| version != "null") {
        return Err(not_offered("a version of an object"));
    }
    let object = bucket.object(key).map_err(s3)?;
    if object.record.encryption.is_some() {
        // Before anything is told of it.
        must_be_secure(caller).map_err(s3)?;
        gateway.must_have_bucket(caller, &bucket).map_err(s3)?;
    }
    Ok((bucket, object))
}

/// The source of a copy, whose bucket has to be of the account that is expected.
pub(super) fn source(
    gateway: &Gateway,
    caller: &Caller,
    source: &CopySource,
    expected_owner: Option<String>,
) -> S3Result<(Arc<Bucket>, Arc<Object>)> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(not_offered("a copy from an access point"));
    };
    let version = version_id.as_ref().map(ToString::to_string);
    let caller = &Caller { expected_owner, ..caller.clone() };
    readable(gateway, caller, bucket, key, version.as_ref())
}

/// A reader of a range of an object that the caller may read, with the object's key as the caller gets it.
pub(super) async fn open(
    gateway: &Gateway,
    caller: &Caller,
    bucket: &Bucket,
    object: Arc<Object>,
    range: Range<u64>,
) -> S3Result<ObjectReader> {
    let ObjectRecord { key: name, encryption, .. } = &object.record;
    let key = gateway.key_of(caller, bucket.name(), name, encryption.as_ref()).await.map_err(s3)?;
    let bucket = bucket.name().to_owned();
    blocking(move || ObjectReader::new(&bucket, object, key, range)).await?.map_err(s3)
}

/// A new data key, if there is a method that asks for one.
pub(super) async fn new_key(
    gateway: &Gateway,
    caller: &Caller,
    bucket: &Bucket,
    object: &str,
    method: Option<Method>,
    context: BTreeMap<String, String>,
) -> S3Result<Option<(ObjectKey, Encryption)>> {
    let Some(method) = method else { return Ok(None) };
    gateway.new_key(caller, bucket, object, &method, context).await.map(Some).map_err(s3)
}

/// Begins a stream; its key comes back.
pub(super) async fn begin(
    bucket: &Arc<Bucket>,
    place: &StreamPlace,
    key: Option<ObjectKey>,
) -> S3Result<(crate::store::StreamWriter, Option<ObjectKey>)> {
    let (bucket, place) = (bucket.clone(), place.clone());
    let begun = blocking(move || bucket.begin(&place, key.as_ref()).map(|writer| (writer, key)));
    begun.await?.map_err(s3)
}

/// Stores an object in its place, which now is when it was modified.
async fn place(
    bucket: Arc<Bucket>,
    mut record: ObjectRecord,
    stored: Stored,
    key: Option<ObjectKey>,
) -> S3Result<Arc<Object>> {
    record.modified = clock::now();
    blocking(move || bucket.put(record, stored, key.as_ref())).await?.map_err(s3)
}

/// The user's metadata of a request.
pub(super) fn metadata(given: Option<s3s::dto::Metadata>) -> S3Result<BTreeMap<String, String>> {
    let metadata: BTreeMap<String, String> = given.unwrap_or_default().into_iter().collect();
    let length: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if length > LONGEST_METADATA { Err(s3_error!(MetadataTooLarge)) } else { Ok(metadata) }
}

/// The place of an object that comes in one piece.
fn whole(bucket: &Bucket, object: &str) -> StreamPlace {
    let (bucket, object) = (bucket.name().to_owned(), object.to_owned());
    StreamPlace { bucket, object, upload_id: String::new(), part_number: 0 }
}

/// What is known of an object before its body came.
fn new_record(
    key: String,
    headers: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
    encryption: Option<Encryption>,
) -> ObjectRecord {
    ObjectRecord {
        key,
        size: 0,
        etag: String::new(),
        modified: 0,
        headers,
        metadata,
        upload_id: String::new(),
        parts: Vec::new(),
        encryption,
    }
}

#[cfg(test)]
mod tests {
    use s3s::dto;

    use super::*;

    #[test]
    fn a_range_is_answered_of_the_object_that_the_client_knows() {
        let mut record = new_record("o".to_owned(), BTreeMap::new(), BTreeMap::new(), None);
        record.etag = "e".to_owned();
        let is_known = |known| is_known(&HeaderValue::from_static(known), &record);
        assert!(is_known(r#""e""#));
        for other in [r#""f""#, r#"W/"e""#, "*", "", "Mon, 30 Nov 2026 09:00:00 GMT"] {
            assert!(!is_known(other), "{other}");
        }
    }

    #[test]
    fn an_object_that_kept_the_encoding_of_its_chunks_is_answered_without_it() {
        for (kept, shown) in
            [("aws-chunked", None), ("gzip,aws-chunked", Some("gzip")), ("gzip", Some("gzip"))]
        {
            let headers = BTreeMap::from([("content-encoding".to_owned(), kept.to_owned())]);
            let record = new_record("o".to_owned(), headers, BTreeMap::new(), None);
            assert_eq!(encoding_of(&record).as_deref(), shown, "{kept}");
        }
    }

    #[test]
    fn a_range_is_answered_if_the_object_has_bytes_of_it() {
        let suffix = |length| dto::Range::Suffix { length };
        let from = |first| dto::Range::Int { first, last: None };
        assert_eq!(part_of(&suffix(7), 5).unwrap(), (0..5, "bytes 0-4/5".to_owned()));
        assert_eq!(part_of(&from(2), 5).unwrap(), (2..5, "bytes 2-4/5".to_owned()));
        for (range, size) in [(suffix(7), 0), (suffix(0), 5), (from(0), 0), (from(5), 5)] {
            assert_eq!(part_of(&range, size).unwrap_err().code().as_str(), "InvalidRange", "{range:?}");
        }
    }
}
