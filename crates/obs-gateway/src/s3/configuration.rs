//! What is configured of a bucket: its policy, and where all of it changes.

use std::sync::Arc;

use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        DeleteBucketPolicyInput, DeleteBucketPolicyOutput, GetBucketPolicyInput, GetBucketPolicyOutput,
        PutBucketPolicyInput, PutBucketPolicyOutput,
    },
    s3_error,
};

use super::{auth::caller, body::blocking, buckets::allowed, errors::s3};
use crate::{
    gateway::Gateway,
    sse::{Policy, PolicyError},
    store::{Bucket, BucketSettings},
};

/// The longest policy, in bytes.
// OBS: 20 KB.
const LONGEST_POLICY: usize = 20 * 1024;

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

/// Changes what is configured.
pub(super) async fn configure(
    bucket: Arc<Bucket>,
    change: impl FnOnce(&mut BucketSettings) + Send + 'static,
) -> S3Result<()> {
    blocking(move || bucket.configure(change)).await?.map_err(s3)
}
