//! Generated gRPC types of Dewpoint's contract (`proto/kms/v1/`), nothing else.

/// Version 1 of the contract.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code; its reference is the contract"
)]
pub mod v1 {
    tonic::include_proto!("kms.v1");
}

/// `Debug` of a message that carries plaintext: its name and nothing of its content.
macro_rules! masked_debug {
    ($($message:ident),*) => {$(
        impl std::fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($message)).finish_non_exhaustive()
            }
        }
    )*};
}

masked_debug!(
    GenerateDataKeyResponse,
    EncryptDataKeyRequest,
    DecryptDataKeyResponse,
    GeneratedDataKey,
    GenerateDataKeyPairResponse,
    GenerateBucketKeyResponse,
    DecryptBucketKeyResponse,
    EncryptDataRequest,
    DecryptDataResponse,
    GenerateRandomResponse,
    DeriveSharedSecretResponse
);

/// The contract as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kms_descriptor.bin"));

/// The same with what dev mode serves besides.
pub const DEV_FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/dev_descriptor.bin"));
