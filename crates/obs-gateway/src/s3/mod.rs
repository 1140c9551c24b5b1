//! The S3 face: every operation that the gateway offers, on the protocol's library. What is not here is answered with
//! `NotImplemented`.
#![expect(clippy::unused_async, reason = "all operations are called alike, also those that wait for nothing")]

mod answers;
mod auth;
mod body;
mod buckets;
mod checked;
mod configuration;
mod encryption;
mod errors;
mod host;
mod listings;
mod objects;
mod uploads;

use std::sync::Arc;

use async_trait::async_trait;
use s3s::{
    S3, S3Request, S3Response, S3Result,
    config::{S3Config, StaticConfigProvider},
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateBucketInput,
        CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
        DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput, DeleteBucketInput, DeleteBucketOutput,
        DeleteBucketPolicyInput, DeleteBucketPolicyOutput, DeleteObjectInput, DeleteObjectOutput,
        DeleteObjectsInput, DeleteObjectsOutput, GetBucketLocationInput, GetBucketLocationOutput,
        GetBucketPolicyInput, GetBucketPolicyOutput, GetObjectInput, GetObjectOutput, HeadBucketInput,
        HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput,
        ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput, ListObjectsOutput,
        ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, PostObjectInput,
        PostObjectOutput, PutBucketPolicyInput, PutBucketPolicyOutput, PutObjectInput, PutObjectOutput,
        UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
    },
    service::{S3Service, S3ServiceBuilder},
};

pub(crate) use self::{
    auth::Transport,
    checked::{Checked, Refusal},
    host::Hosts,
};
use crate::{front::LONGEST_XML, gateway::Gateway};

/// The operations on a gateway.
struct Face {
    gateway: Arc<Gateway>,
}

/// The face of a gateway. Buckets are reached by paths, and by the names of these hosts.
pub(crate) fn service(gateway: Arc<Gateway>, hosts: Hosts) -> S3Service {
    let mut config = S3Config::default();
    config.xml_max_body_size = LONGEST_XML;
    let mut builder = S3ServiceBuilder::new(Face { gateway: gateway.clone() });
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(auth::Auth(gateway.clone()));
    builder.set_access(auth::Access(gateway.clone()));
    builder.set_host(hosts.clone());
    builder.set_route(encryption::Route { gateway, hosts });
    builder.build()
}

/// The trait's methods, each by the function that does it.
macro_rules! operations {
    ($($method:ident: $function:path, $input:ident => $output:ident;)*) => {
        #[async_trait]
        impl S3 for Face {
            $(
                async fn $method(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    $function(&self.gateway, request).await
                }
            )*
        }
    };
}

operations! {
    list_buckets: buckets::list, ListBucketsInput => ListBucketsOutput;
    create_bucket: buckets::create, CreateBucketInput => CreateBucketOutput;
    head_bucket: buckets::head, HeadBucketInput => HeadBucketOutput;
    delete_bucket: buckets::delete, DeleteBucketInput => DeleteBucketOutput;
    get_bucket_location: buckets::location, GetBucketLocationInput => GetBucketLocationOutput;
    delete_bucket_encryption: encryption::delete,
        DeleteBucketEncryptionInput => DeleteBucketEncryptionOutput;
    get_bucket_policy: configuration::policy, GetBucketPolicyInput => GetBucketPolicyOutput;
    put_bucket_policy: configuration::put_policy, PutBucketPolicyInput => PutBucketPolicyOutput;
    delete_bucket_policy: configuration::delete_policy, DeleteBucketPolicyInput => DeleteBucketPolicyOutput;
    list_objects: listings::objects, ListObjectsInput => ListObjectsOutput;
    list_objects_v2: listings::objects_v2, ListObjectsV2Input => ListObjectsV2Output;
    list_multipart_uploads: listings::uploads, ListMultipartUploadsInput => ListMultipartUploadsOutput;
    list_parts: listings::parts, ListPartsInput => ListPartsOutput;
    put_object: objects::put, PutObjectInput => PutObjectOutput;
    post_object: objects::post, PostObjectInput => PostObjectOutput;
    get_object: objects::get, GetObjectInput => GetObjectOutput;
    head_object: objects::head, HeadObjectInput => HeadObjectOutput;
    copy_object: objects::copy, CopyObjectInput => CopyObjectOutput;
    delete_object: objects::delete, DeleteObjectInput => DeleteObjectOutput;
    delete_objects: objects::delete_many, DeleteObjectsInput => DeleteObjectsOutput;
    create_multipart_upload: uploads::create, CreateMultipartUploadInput => CreateMultipartUploadOutput;
    upload_part: uploads::part, UploadPartInput => UploadPartOutput;
    upload_part_copy: uploads::part_copy, UploadPartCopyInput => UploadPartCopyOutput;
    complete_multipart_upload: uploads::complete, CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
    abort_multipart_upload: uploads::abort, AbortMultipartUploadInput => AbortMultipartUploadOutput;
}
