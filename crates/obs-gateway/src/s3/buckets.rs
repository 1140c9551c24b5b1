//! Buckets: made, found, removed.

use std::sync::Arc;

use http::{Extensions, HeaderMap};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        Bucket, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput, DeleteBucketInput,
        DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput, HeadBucketInput,
        HeadBucketOutput, ListBucketsInput, ListBucketsOutput, Owner,
    },
    s3_error,
};

use super::{
    answers::{asked_by_headers, refuse_unkept, text, timestamp},
    auth::caller,
    body::blocking,
    encryption,
    errors::s3,
};
use crate::{
    clock,
    gateway::{self, Caller, Gateway, must_be_secure},
    sse::{Asked, Method, Rejection, method},
    store::{self, BucketEncryption, BucketSettings},
};

/// The buckets of the caller's account.
pub(super) async fn list(
    gateway: &Arc<Gateway>,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let caller = caller(&request)?;
    must(&caller, "ListAllMyBuckets")?;
    let account = &caller.user.requester.account;
    let settings = gateway.store().buckets().into_iter().map(|bucket| bucket.settings());
    let own = settings.filter(|settings| settings.owner == *account);
    let buckets = own.map(|settings| Bucket {
        bucket_region: Some(gateway.region().to_owned()),
        creation_date: Some(timestamp(settings.created)),
        name: Some(settings.name.clone()),
    });
    let owner = Owner { display_name: None, id: Some(account.clone()) };
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        owner: Some(owner),
        ..ListBucketsOutput::default()
    }))
}

pub(super) async fn create(
    gateway: &Arc<Gateway>,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let caller = caller(&request)?;
    must(&caller, "CreateBucket")?;
    let encryption = asked_encryption(&caller, &request.headers, &request.extensions)?;
    let input = request.input;
    refuse_unkept(&[
        ("an ACL", input.acl.is_some_and(|acl| acl.as_str() != "private")),
        ("an ACL", input.grant_full_control.is_some() || input.grant_read.is_some()),
        ("an ACL", input.grant_read_acp.is_some() || input.grant_write.is_some()),
        ("an ACL", input.grant_write_acp.is_some()),
        ("object lock", input.object_lock_enabled_for_bucket == Some(true)),
        ("another storage class than STANDARD", asks_for_another_class(&request.headers)),
    ])?;
    let constraint = input.create_bucket_configuration.and_then(|it| it.location_constraint);
    if constraint.is_some_and(|constraint| constraint.as_str() != gateway.region()) {
        return Err(s3_error!(IllegalLocationConstraintException, "buckets are in {}", gateway.region()));
    }
    let settings = BucketSettings {
        name: input.bucket.clone(),
        owner: caller.user.requester.account.clone(),
        created: clock::now(),
        encryption,
        policy: None,
    };
    let (store, own) = (gateway.store().clone(), settings.owner.clone());
    let made = blocking(move || store.create_bucket(&settings)).await?;
    match made {
        Err(store::Error::BucketExists) => {
            let is_own = gateway.store().bucket(&input.bucket).is_ok_and(|it| it.settings().owner == own);
            if is_own { Err(s3_error!(BucketAlreadyOwnedByYou)) } else { Err(s3(store::Error::BucketExists)) }
        }
        made => {
            made.map_err(s3)?;
            Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{}", input.bucket)) }))
        }
    }
}

/// Whether the objects of a new bucket are asked to have another storage class than all have here.
// OBS: the second name is that of its API before it had words of its own.
fn asks_for_another_class(headers: &HeaderMap) -> bool {
    let classes = ["x-amz-storage-class", "x-default-storage-class"].map(|name| headers.get_all(name));
    classes.iter().flatten().any(|class| class != "STANDARD")
}

/// The configuration that a bucket is made with.
// OBS: the headers of an upload's encryption may stand in the request that makes a bucket.
fn asked_encryption(
    caller: &Caller,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> S3Result<Option<BucketEncryption>> {
    let asked = asked_by_headers(headers, extensions)?;
    let project = text(headers, "x-obs-sse-kms-key-project-id");
    let Some(method) = method(&asked, None, None).map_err(s3)? else {
        return if project.is_some() { Err(s3(Rejection::NeedsMode("a key's project"))) } else { Ok(None) };
    };
    must(caller, "PutEncryptionConfiguration")?;
    must_be_secure(caller).map_err(s3)?;
    let project = project.map(|project| encryption::project(&project)).transpose()?;
    let Method { suite, bucket_key, .. } = method;
    let key = asked.key.filter(|key| !key.is_empty());
    Ok(Some(BucketEncryption { suite, key, bucket_key, project }))
}

pub(super) async fn head(
    gateway: &Arc<Gateway>,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    let caller = caller(&request)?;
    allowed(gateway, &caller, "HeadBucket", &request.input.bucket)?;
    let bucket_region = Some(gateway.region().to_owned());
    Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
}

pub(super) async fn delete(
    gateway: &Arc<Gateway>,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let caller = caller(&request)?;
    allowed(gateway, &caller, "DeleteBucket", &request.input.bucket)?;
    let (store, name) = (gateway.store().clone(), request.input.bucket);
    blocking(move || store.delete_bucket(&name)).await?.map_err(s3)?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

pub(super) async fn location(
    gateway: &Arc<Gateway>,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    let caller = caller(&request)?;
    allowed(gateway, &caller, "GetBucketLocation", &request.input.bucket)?;
    let region = BucketLocationConstraint::from(gateway.region().to_owned());
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: Some(region) }))
}

/// The bucket, if the caller may do this with it.
pub(super) fn allowed(
    gateway: &Gateway,
    caller: &Caller,
    action: &str,
    bucket: &str,
) -> S3Result<Arc<store::Bucket>> {
    gateway.allowed(caller, action, bucket, None, &Asked::default()).map_err(s3)
}

/// Refuses what the caller's own permissions do not allow, where no bucket is there to have a policy.
fn must(caller: &Caller, action: &str) -> S3Result<()> {
    if caller.user.may(action) { Ok(()) } else { Err(s3(gateway::Error::Denied)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_the_standard_class() {
        assert!(!asks_for_another_class(&HeaderMap::new()));
        for name in ["x-amz-storage-class", "x-default-storage-class"] {
            for (class, is_other) in [("STANDARD", false), ("WARM", true), ("STANDARD_IA", true), ("", true)]
            {
                let class = http::HeaderValue::from_static(class);
                let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), class)]);
                assert_eq!(asks_for_another_class(&headers), is_other, "{name}: {headers:?}");
            }
        }
    }
}
