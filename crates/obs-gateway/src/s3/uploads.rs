//! Multipart uploads: one data key for all parts, made when the upload begins and opened for every part and at the end.

use std::sync::Arc;

use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, Checksum, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CompletedPart, CopyPartResult, CreateMultipartUploadInput,
        CreateMultipartUploadOutput, ETag, Range, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
        UploadPartOutput,
    },
    s3_error,
};

use super::{
    answers::{
        Shown, added_context, asked_of, etag, headers_of, kept_only, must_be_short, source_conditions_of,
        timestamp,
    },
    auth::caller,
    body::{self, Promised, blocking},
    errors::{not_offered, s3},
    objects::{begin, metadata, new_key, open, source},
};
use crate::{
    clock,
    format::ObjectKey,
    gateway::{Caller, Gateway, must_be_secure},
    sse::Asked,
    store::{Bucket, StreamPlace, Upload, UploadRecord},
};

pub(super) async fn create(
    gateway: &Arc<Gateway>,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let caller = caller(&request)?;
    let asked = asked_of!(request);
    let input = request.input;
    let allowed = gateway.allowed(&caller, "PutObject", &input.bucket, Some(&input.key), &asked);
    let bucket = allowed.map_err(s3)?;
    kept_only!(input)?;
    let method = gateway.method(&caller, &bucket, &asked, None).map_err(s3)?;
    let context = added_context(input.ssekms_encryption_context.as_ref(), &input.bucket, &input.key)?;
    let (headers, metadata) = (headers_of!(input), metadata(input.metadata)?);
    must_be_short([&headers, &metadata, &context])?;
    // The key itself is not kept: each part gets it anew, as its requester may.
    let made = new_key(gateway, &caller, &bucket, &input.key, method, context).await?;
    let encryption = made.map(|(_, encryption)| encryption);
    let shown = Shown::of(gateway, encryption.as_ref());
    let record = UploadRecord {
        id: Upload::new_id(),
        key: input.key.clone(),
        initiator: caller.user.requester.user_id.clone(),
        started: clock::now(),
        headers,
        metadata,
        encryption,
    };
    let upload_id = record.id.clone();
    blocking(move || bucket.begin_upload(record)).await?.map_err(s3)?;
    Ok(shown.answer(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        server_side_encryption: shown.mode.clone(),
        ssekms_key_id: shown.key.clone(),
        bucket_key_enabled: shown.bucket_key,
        upload_id: Some(upload_id),
        ..CreateMultipartUploadOutput::default()
    }))
}

pub(super) async fn part(
    gateway: &Arc<Gateway>,
    request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let caller = caller(&request)?;
    let trailer = body::trailer_names(&request.headers);
    let length = body::length(&request.headers, request.input.content_length)?;
    let (input, trailers) = (request.input, request.trailing_headers);
    if input.sse_customer_key.is_some() {
        return Err(not_offered("a customer's key"));
    }
    let Target { bucket, upload, key } =
        target(gateway, &caller, &input.bucket, &input.key, &input.upload_id).await?;
    let shown = Shown::of(gateway, upload.encryption.as_ref());
    let place = place(&bucket, &upload, input.part_number)?;
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
    let (writer, _) = begin(&bucket, &place, key).await?;
    let stored = body::receive(writer, input.body, promised, trailers).await?;
    let etag = ETag::Strong(stored.part.etag.clone());
    blocking(move || bucket.put_part(&upload.key, &upload.id, stored, clock::now())).await?.map_err(s3)?;
    Ok(shown.answer(UploadPartOutput {
        e_tag: Some(etag),
        server_side_encryption: shown.mode.clone(),
        ssekms_key_id: shown.key.clone(),
        bucket_key_enabled: shown.bucket_key,
        ..UploadPartOutput::default()
    }))
}

pub(super) async fn part_copy(
    gateway: &Arc<Gateway>,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    if input.copy_source_sse_customer_key.is_some() {
        return Err(not_offered("a customer's key"));
    }
    let (source_bucket, source) =
        source(gateway, &caller, &input.copy_source, input.expected_source_bucket_owner)?;
    source_conditions_of!(input).check_source(&source.record)?;
    let size = source.record.size;
    let range = match &input.copy_source_range {
        None => 0..size,
        Some(range) => match Range::parse(range) {
            // S3: both ends are named and inside.
            Ok(Range::Int { first, last: Some(last) }) if last < size => first..last + 1,
            _ => return Err(s3_error!(InvalidRange, "the range is not one of the source")),
        },
    };
    let Target { bucket, upload, key } =
        target(gateway, &caller, &input.bucket, &input.key, &input.upload_id).await?;
    let shown = Shown::of(gateway, upload.encryption.as_ref());
    let place = place(&bucket, &upload, input.part_number)?;
    let reader = open(gateway, &caller, &source_bucket, source, range).await?;
    let (writer, _) = begin(&bucket, &place, key).await?;
    let stored = body::copy(reader, writer).await?;
    let (etag, modified) = (ETag::Strong(stored.part.etag.clone()), clock::now());
    blocking(move || bucket.put_part(&upload.key, &upload.id, stored, modified)).await?.map_err(s3)?;
    let result = CopyPartResult {
        e_tag: Some(etag),
        last_modified: Some(timestamp(modified)),
        ..CopyPartResult::default()
    };
    Ok(shown.answer(UploadPartCopyOutput {
        copy_part_result: Some(result),
        server_side_encryption: shown.mode.clone(),
        ssekms_key_id: shown.key.clone(),
        bucket_key_enabled: shown.bucket_key,
        ..UploadPartCopyOutput::default()
    }))
}

pub(super) async fn complete(
    gateway: &Arc<Gateway>,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    if input.if_match.is_some() || input.if_none_match.is_some() {
        return Err(not_offered("a condition of an upload"));
    }
    if has_checksum(&input) {
        return Err(not_offered("a checksum of all parts together"));
    }
    let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let named = parts.iter().map(named).collect::<S3Result<Vec<_>>>()?;
    let (bucket, key) = match target(gateway, &caller, &input.bucket, &input.key, &input.upload_id).await {
        // Perhaps it became the object, and the answer was lost.
        Err(error) if error.code().as_str() == "NoSuchUpload" => {
            let bucket = gateway.store().bucket(&input.bucket).map_err(s3)?;
            let object = bucket.became(&input.key, &input.upload_id).ok_or(error)?;
            if object.record.encryption.is_some() {
                must_be_secure(&caller).map_err(s3)?;
            }
            must_be_as_long(input.mpu_object_size, object.record.size)?;
            (bucket, None)
        }
        found => {
            let Target { bucket, key, .. } = found?;
            let came = bucket.parts(&input.key, &input.upload_id).map_err(s3)?;
            let is_named = |number| named.iter().any(|(named, _)| *named == number);
            let sizes = came.iter().filter(|came| is_named(came.part.number)).map(|came| came.part.size);
            must_be_as_long(input.mpu_object_size, sizes.sum())?;
            (bucket, key)
        }
    };
    let (name, id) = (input.key.clone(), input.upload_id);
    let complete = move || bucket.complete_upload(&name, &id, &named, key.as_ref(), clock::now());
    let object = blocking(complete).await?.map_err(s3)?;
    let shown = Shown::of(gateway, object.record.encryption.as_ref());
    Ok(shown.answer(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(etag(&object.record)),
        server_side_encryption: shown.mode.clone(),
        ssekms_key_id: shown.key.clone(),
        bucket_key_enabled: shown.bucket_key,
        ..CompleteMultipartUploadOutput::default()
    }))
}

pub(super) async fn abort(
    gateway: &Arc<Gateway>,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let caller = caller(&request)?;
    let input = request.input;
    let action = "AbortMultipartUpload";
    let allowed = gateway.allowed(&caller, action, &input.bucket, Some(&input.key), &Asked::default());
    let bucket = allowed.map_err(s3)?;
    blocking(move || bucket.abort_upload(&input.key, &input.upload_id)).await?.map_err(s3)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

/// An upload that the caller may add to, with its data key as the caller gets it.
struct Target {
    bucket: Arc<Bucket>,
    upload: Arc<UploadRecord>,
    key: Option<ObjectKey>,
}

async fn target(
    gateway: &Gateway,
    caller: &Caller,
    bucket: &str,
    object: &str,
    upload_id: &str,
) -> S3Result<Target> {
    let store = gateway.store().bucket(bucket).map_err(s3)?;
    let upload = store.upload(object, upload_id);
    // Parts bear no headers of encryption: for the policy, they ask for what the upload has, or the object that it became.
    let encryption = match &upload {
        Ok(upload) => upload.encryption.clone(),
        Err(_) => store.became(object, upload_id).and_then(|object| object.record.encryption.clone()),
    };
    let asked = Asked {
        mode: encryption.as_ref().map(|_| "kms".to_owned()),
        key: encryption.map(|encryption| encryption.key_id),
        ..Asked::default()
    };
    let bucket = gateway.allowed(caller, "PutObject", bucket, Some(object), &asked).map_err(s3)?;
    let upload = upload.map_err(s3)?;
    let key = gateway.key_of(caller, bucket.name(), object, upload.encryption.as_ref()).await.map_err(s3)?;
    Ok(Target { bucket, upload, key })
}

fn place(bucket: &Bucket, upload: &UploadRecord, number: i32) -> S3Result<StreamPlace> {
    let number = u32::try_from(number).ok().filter(|number| (1..=Upload::LAST_PART).contains(number));
    let part_number = number.ok_or_else(|| s3(crate::store::Error::PartNumber))?;
    let (bucket, object) = (bucket.name().to_owned(), upload.key.clone());
    Ok(StreamPlace { bucket, object, upload_id: upload.id.clone(), part_number })
}

/// Whether a client says a checksum of all parts together.
fn has_checksum(input: &CompleteMultipartUploadInput) -> bool {
    let checksums = [
        &input.checksum_crc32,
        &input.checksum_crc32c,
        &input.checksum_crc64nvme,
        &input.checksum_sha1,
        &input.checksum_sha256,
    ];
    checksums.into_iter().any(Option::is_some)
}

/// Refuses to make an object of another size than the client says that its parts have together, in bytes.
fn must_be_as_long(promised: Option<i64>, size: u64) -> S3Result<()> {
    match promised {
        Some(promised) if u64::try_from(promised) != Ok(size) => {
            Err(s3_error!(InvalidRequest, "the parts have {size} bytes together, not {promised}"))
        }
        _ => Ok(()),
    }
}

fn named(part: &CompletedPart) -> S3Result<(u32, String)> {
    let number = part.part_number.and_then(|number| u32::try_from(number).ok());
    let etag = part.e_tag.as_ref().map(|etag| etag.value().to_owned());
    number.zip(etag).ok_or_else(|| s3_error!(MalformedXML, "a part lacks its number or its ETag"))
}
