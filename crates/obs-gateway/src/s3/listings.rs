//! Pages: of objects, of uploads under way, of their parts.

use std::sync::Arc;

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        CommonPrefix, ETag, EncodingType, Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput,
        ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput,
        ListPartsOutput, MultipartUpload, Object, ObjectStorageClass, Part,
    },
    s3_error,
};

use super::{
    answers::{etag, timestamp},
    auth::caller,
    buckets::allowed,
    errors::{not_offered, s3},
};
use crate::{
    gateway::Gateway,
    sse::Asked,
    store::{Listing, Selection},
};

/// How many entries a page has at most, and if nothing is asked.
const PAGE: usize = 1000;
/// What stands as it is in keys that are answered in encoded form.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Keys as the client wants them.
struct Encoding(bool);

impl Encoding {
    fn of(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self(false)),
            Some("url") => Ok(Self(true)),
            Some(_) => Err(s3_error!(InvalidArgument, "the encoding is unknown")),
        }
    }

    fn encode(&self, text: &str) -> String {
        if self.0 { utf8_percent_encode(text, ENCODED).to_string() } else { text.to_owned() }
    }

    fn objects(&self, listing: &Listing) -> Vec<Object> {
        let object = |object: &Arc<crate::store::Object>| Object {
            e_tag: Some(etag(&object.record)),
            key: Some(self.encode(&object.record.key)),
            last_modified: Some(timestamp(object.record.modified)),
            // The plaintext's, whatever is stored.
            size: Some(i64::try_from(object.record.size).unwrap_or(i64::MAX)),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Object::default()
        };
        listing.objects.iter().map(object).collect()
    }

    fn prefixes(&self, listing: &Listing) -> Vec<CommonPrefix> {
        let prefix = |prefix: &String| CommonPrefix { prefix: Some(self.encode(prefix)) };
        listing.prefixes.iter().map(prefix).collect()
    }
}

pub(super) async fn objects(
    gateway: &Arc<Gateway>,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let bucket = allowed(gateway, &caller, "ListBucket", &input.bucket)?;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().unwrap_or_default();
    let after = input.marker.as_deref().unwrap_or_default();
    let listing = bucket.list(&Selection { prefix, delimiter, after, limit });
    Ok(located(
        gateway,
        ListObjectsOutput {
            name: Some(input.bucket.clone()),
            prefix: Some(encoding.encode(prefix)),
            marker: Some(encoding.encode(after)),
            max_keys: i32::try_from(limit).ok(),
            is_truncated: Some(listing.next.is_some()),
            contents: Some(encoding.objects(&listing)),
            common_prefixes: Some(encoding.prefixes(&listing)),
            delimiter: input.delimiter.as_deref().map(|delimiter| encoding.encode(delimiter)),
            next_marker: listing.next.as_deref().map(|next| encoding.encode(next)),
            encoding_type: input.encoding_type,
            ..ListObjectsOutput::default()
        },
    ))
}

pub(super) async fn objects_v2(
    gateway: &Arc<Gateway>,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let caller = caller(&request)?;
    let input = request.input;
    let bucket = allowed(gateway, &caller, "ListBucket", &input.bucket)?;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().unwrap_or_default();
    let continued = input.continuation_token.as_deref().map(decode_token).transpose()?;
    let after = continued.as_deref().or(input.start_after.as_deref()).unwrap_or_default();
    let listing = bucket.list(&Selection { prefix, delimiter, after, limit });
    let count = listing.objects.len() + listing.prefixes.len();
    Ok(located(
        gateway,
        ListObjectsV2Output {
            name: Some(input.bucket.clone()),
            prefix: Some(encoding.encode(prefix)),
            max_keys: i32::try_from(limit).ok(),
            key_count: i32::try_from(count).ok(),
            continuation_token: input.continuation_token.clone(),
            is_truncated: Some(listing.next.is_some()),
            next_continuation_token: listing.next.as_deref().map(hex::encode),
            contents: Some(encoding.objects(&listing)),
            common_prefixes: Some(encoding.prefixes(&listing)),
            delimiter: input.delimiter.as_deref().map(|delimiter| encoding.encode(delimiter)),
            encoding_type: input.encoding_type,
            start_after: input.start_after.as_deref().map(|after| encoding.encode(after)),
            ..ListObjectsV2Output::default()
        },
    ))
}

pub(super) async fn uploads(
    gateway: &Arc<Gateway>,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let bucket = allowed(gateway, &caller, "ListBucketMultipartUploads", &input.bucket)?;
    if input.delimiter.is_some() {
        return Err(not_offered("a delimiter of uploads"));
    }
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let limit = limit(input.max_uploads)?;
    let key_marker = input.key_marker.as_deref().unwrap_or_default();
    let id_marker = input.upload_id_marker.as_deref().filter(|_| !key_marker.is_empty());
    let found = bucket.uploads(input.prefix.as_deref().unwrap_or_default()).into_iter().filter(|upload| {
        let is_later = upload.key.as_str() > key_marker;
        // S3: without the marker of an id, uploads of the marked key come not at all.
        is_later || (upload.key == key_marker && id_marker.is_some_and(|id| upload.id.as_str() > id))
    });
    let mut found: Vec<_> = found.take(limit + 1).collect();
    let is_truncated = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| is_truncated).cloned();
    let upload = |upload: &Arc<crate::store::UploadRecord>| MultipartUpload {
        initiated: Some(timestamp(upload.started)),
        initiator: Some(Initiator { display_name: None, id: Some(upload.initiator.clone()) }),
        key: Some(encoding.encode(&upload.key)),
        upload_id: Some(upload.id.clone()),
        ..MultipartUpload::default()
    };
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket.clone()),
        encoding_type: input.encoding_type.clone(),
        is_truncated: Some(is_truncated),
        key_marker: Some(encoding.encode(key_marker)),
        max_uploads: i32::try_from(limit).ok(),
        next_key_marker: last.as_ref().map(|last| encoding.encode(&last.key)),
        next_upload_id_marker: last.map(|last| last.id.clone()),
        prefix: input.prefix.as_deref().map(|prefix| encoding.encode(prefix)),
        upload_id_marker: input.upload_id_marker.clone(),
        uploads: Some(found.iter().map(upload).collect()),
        ..ListMultipartUploadsOutput::default()
    }))
}

pub(super) async fn parts(
    gateway: &Arc<Gateway>,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let action = "ListMultipartUploadParts";
    let allowed = gateway.allowed(&caller, action, &input.bucket, Some(&input.key), &Asked::default());
    let bucket = allowed.map_err(s3)?;
    let limit = limit(input.max_parts)?;
    let upload = bucket.upload(&input.key, &input.upload_id).map_err(s3)?;
    let after = input.part_number_marker.and_then(|marker| u32::try_from(marker).ok()).unwrap_or(0);
    let found = bucket.parts(&input.key, &input.upload_id).map_err(s3)?.into_iter();
    let mut found: Vec<_> = found.filter(|found| found.part.number > after).take(limit + 1).collect();
    let is_truncated = found.len() > limit;
    found.truncate(limit);
    let number = |number: u32| i32::try_from(number).ok();
    let part = |found: &crate::store::FinishedPart| Part {
        e_tag: Some(ETag::Strong(found.part.etag.clone())),
        last_modified: Some(timestamp(found.modified)),
        part_number: number(found.part.number),
        size: i64::try_from(found.part.size).ok(),
        ..Part::default()
    };
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket.clone()),
        initiator: Some(Initiator { display_name: None, id: Some(upload.initiator.clone()) }),
        is_truncated: Some(is_truncated),
        key: Some(input.key.clone()),
        max_parts: i32::try_from(limit).ok(),
        next_part_number_marker: found
            .last()
            .filter(|_| is_truncated)
            .and_then(|last| number(last.part.number)),
        part_number_marker: number(after),
        parts: Some(found.iter().map(part).collect()),
        upload_id: Some(input.upload_id.clone()),
        ..ListPartsOutput::default()
    }))
}

/// A page of objects; both protocols say where the bucket is.
fn located<Output>(gateway: &Gateway, output: Output) -> S3Response<Output> {
    let mut response = S3Response::new(output);
    if let Ok(region) = HeaderValue::from_str(gateway.region()) {
        response.headers.insert("x-amz-bucket-region", region);
    }
    response
}

fn limit(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.map(usize::try_from).transpose();
    let asked = asked.map_err(|_| s3_error!(InvalidArgument, "a page cannot have fewer than no entries"))?;
    Ok(asked.unwrap_or(PAGE).min(PAGE))
}

/// Where a page goes on: the token is the hexadecimal form of it, so that any key fits.
fn decode_token(token: &str) -> S3Result<String> {
    let decoded = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is none"))
}
