//! Compiles the contract with a compiler written in Rust: no `protoc` has to be installed, and the
//! generated code cannot be older than the contract.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const ROOT: &str = "../../proto";
const CONTRACT: [&str; 17] = [
    "../../proto/kms/v1/account.proto",
    "../../proto/kms/v1/aliases.proto",
    "../../proto/kms/v1/audit.proto",
    "../../proto/kms/v1/bucket_keys.proto",
    "../../proto/kms/v1/campaign.proto",
    "../../proto/kms/v1/encryption.proto",
    "../../proto/kms/v1/grants.proto",
    "../../proto/kms/v1/import.proto",
    "../../proto/kms/v1/kms.proto",
    "../../proto/kms/v1/keystores.proto",
    "../../proto/kms/v1/operator.proto",
    "../../proto/kms/v1/replication.proto",
    "../../proto/kms/v1/rotation.proto",
    "../../proto/kms/v1/signing.proto",
    "../../proto/kms/v1/tags.proto",
    "../../proto/kms/v1/trusted_execution.proto",
    "../../proto/kms/v1/witness.proto",
];
/// What dev mode serves besides.
const DEV: &str = "../../proto/kms/v1/dev.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let directory = PathBuf::from(env::var("OUT_DIR")?);
    let contract = protox::compile(CONTRACT, [ROOT])?;
    fs::write(directory.join("kms_descriptor.bin"), contract.encode_to_vec())?;
    let descriptors = protox::compile(CONTRACT.into_iter().chain([DEV]), [ROOT])?;
    fs::write(directory.join("dev_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // `Bytes` lets the server hand out buffers that wipe themselves when the last reader is done.
        .bytes(".")
        // What carries plaintext gets a `Debug` of its own that masks it (src/lib.rs).
        .skip_debug([
            ".kms.v1.GenerateDataKeyResponse",
            ".kms.v1.EncryptDataKeyRequest",
            ".kms.v1.DecryptDataKeyResponse",
            ".kms.v1.GeneratedDataKey",
            ".kms.v1.GenerateDataKeyPairResponse",
            ".kms.v1.GenerateBucketKeyResponse",
            ".kms.v1.DecryptBucketKeyResponse",
            ".kms.v1.EncryptDataRequest",
            ".kms.v1.DecryptDataResponse",
            ".kms.v1.GenerateRandomResponse",
            ".kms.v1.DeriveSharedSecretResponse",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
