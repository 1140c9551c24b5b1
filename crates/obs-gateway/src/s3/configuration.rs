//! What is configured of a bucket: its encryption and its policy.

use std::sync::Arc;

use s3s::{
    S3Error, S3Request, S3Response, S3Result,
    dto::{
        DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput, DeleteBucketPolicyInput,
        DeleteBucketPolicyOutput, GetBucketEncryptionInput, GetBucketEncryptionOutput, GetBucketPolicyInput,
        GetBucketPolicyOutput, PutBucketEncryptionInput, PutBucketEncryptionOutput, PutBucketPolicyInput,
        PutBucketPolicyOutput, ServerSideEncryption, ServerSideEncryptionByDefault,
        ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
    },
    s3_error,
};

use super::{
    auth::caller,
    body::blocking,
    buckets::allowed,
    errors::{not_offered, s3},
};
use crate::{
    format::Suite,
    gateway::{Gateway, must_be_secure},
    sse::{Asked, Policy, PolicyError, method},
    store::{Bucket, BucketEncryption, BucketSettings},
};

/// The longest policy, in bytes.
// OBS: 20 KB.
const LONGEST_POLICY: usize = 20 * 1024;

pub(super) async fn encryption(
    gateway: &Arc<Gateway>,
    request: S3Request<GetBucketEncryptionInput>,
) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
    let caller = caller(&request)?;
    let bucket = allowed(gateway, &caller, "GetEncryptionConfiguration", &request.input.bucket)?;
    must_be_secure(&caller).map_err(s3)?;
    let settings = bucket.settings();
    let encryption = settings.encryption.as_ref();
    let encryption = encryption.ok_or_else(not_configured)?;
    let default = ServerSideEncryptionByDefault {
        kms_master_key_id: encryption.key.clone(),
        sse_algorithm: ServerSideEncryption::from_static(ServerSideEncryption::AWS_KMS),
    };
    let rule = ServerSideEncryptionRule {
        apply_server_side_encryption_by_default: Some(default),
        bucket_key_enabled: Some(false),
    };
    let configuration = ServerSideEncryptionConfiguration { rules: vec![rule] };
    Ok(S3Response::new(GetBucketEncryptionOutput {
        server_side_encryption_configuration: Some(configuration),
    }))
}

fn not_configured() -> S3Error {
    let mut error = s3_error!(
        ServerSideEncryptionConfigurationNotFoundError,
        "the bucket has no configuration of encryption"
    );
    error.set_status_code(http::StatusCode::NOT_FOUND);
    error
}

pub(super) async fn put_encryption(
    gateway: &Arc<Gateway>,
    request: S3Request<PutBucketEncryptionInput>,
) -> S3Result<S3Response<PutBucketEncryptionOutput>> {
    let caller = caller(&request)?;
    let bucket = allowed(gateway, &caller, "PutEncryptionConfiguration", &request.input.bucket)?;
    must_be_secure(&caller).map_err(s3)?;
    let [rule] = &*request.input.server_side_encryption_configuration.rules else {
        return Err(s3_error!(MalformedXML, "one rule is wanted"));
    };
    if rule.bucket_key_enabled == Some(true) {
        return Err(not_offered("a bucket key"));
    }
    let default = rule.apply_server_side_encryption_by_default.as_ref();
    let default = default.ok_or_else(|| s3_error!(MalformedXML, "the rule has no default"))?;
    let asked = Asked {
        mode: Some(default.sse_algorithm.as_str().to_owned()),
        key: default.kms_master_key_id.clone(),
        ..Asked::default()
    };
    method(&asked, None).map_err(s3)?;
    let encryption = BucketEncryption { suite: Suite::Aes256Gcm, key: asked.key };
    configure(bucket, |settings| settings.encryption = Some(encryption)).await?;
    Ok(S3Response::new(PutBucketEncryptionOutput::default()))
}

pub(super) async fn delete_encryption(
    gateway: &Arc<Gateway>,
    request: S3Request<DeleteBucketEncryptionInput>,
) -> S3Result<S3Response<DeleteBucketEncryptionOutput>> {
    let caller = caller(&request)?;
    let bucket = allowed(gateway, &caller, "PutEncryptionConfiguration", &request.input.bucket)?;
    must_be_secure(&caller).map_err(s3)?;
    configure(bucket, |settings| settings.encryption = None).await?;
    Ok(S3Response::new(DeleteBucketEncryptionOutput::default()))
}

pub(super) async fn policy(
    gateway: &Arc<Gateway>,
    request: S3Request<GetBucketPolicyInput>,
) -> S3Result<S3Response<GetBucketPolicyOutput>> {
    let caller = caller(&request)?;
    let bucket = allowed(gateway, &caller, "GetBucketPolicy", &request.input.bucket)?;
    let policy = bucket.settings().policy.clone();
    let policy = policy.ok_or_else(|| s3_error!(NoSuchBucketPolicy))?;
    Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(policy) }))
}

pub(super) async fn put_policy(
    gateway: &Arc<Gateway>,
    request: S3Request<PutBucketPolicyInput>,
) -> S3Result<S3Response<PutBucketPolicyOutput>> {
    let caller = caller(&request)?;
    let bucket = allowed(gateway, &caller, "PutBucketPolicy", &request.input.bucket)?;
    let text = request.input.policy;
    if text.len() > LONGEST_POLICY {
        return Err(s3_error!(MalformedPolicy, "a policy has at most {LONGEST_POLICY} bytes"));
    }
    Policy::parse(&text, bucket.name()).map_err(|error| match error {
        PolicyError::NotOffered(_) => s3_error!(NotImplemented, "{error}"),
        PolicyError::Syntax(_) | PolicyError::Resource(_) => s3_error!(MalformedPolicy, "{error}"),
    })?;
    configure(bucket, |settings| settings.policy = Some(text)).await?;
    Ok(S3Response::new(PutBucketPolicyOutput::default()))
}

pub(super) async fn delete_policy(
    gateway: &Arc<Gateway>,
    request: S3Request<DeleteBucketPolicyInput>,
) -> S3Result<S3Response<DeleteBucketPolicyOutput>> {
    let caller = caller(&request)?;
    let bucket = allowed(gateway, &caller, "DeleteBucketPolicy", &request.input.bucket)?;
    configure(bucket, |settings| settings.policy = None).await?;
    Ok(S3Response::new(DeleteBucketPolicyOutput::default()))
}

async fn configure(
    bucket: Arc<Bucket>,
    change: impl FnOnce(&mut BucketSettings) + Send + 'static,
) -> S3Result<()> {
    blocking(move || bucket.configure(change)).await?.map_err(s3)
}
