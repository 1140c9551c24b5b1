//! Key material that openssl wraps, as a user would: imported, used, deleted, and imported again.

use std::{fs, path::Path, process::Command};

use dewpoint_tests::{Clients, Context, Dev, by_id, check_log, reason};
use kms_proto::v1::{
    CreateKeyRequest, DecryptDataKeyRequest, DeleteImportedKeyMaterialRequest, GetParametersForImportRequest,
    GetParametersForImportResponse, ImportKeyMaterialRequest, Key, KeyOrigin, KeySpec, KeyState,
    import_service_client::ImportServiceClient,
};
use tonic::{Status, transport::Channel};

fn importer(clients: &Clients) -> ImportServiceClient<Channel> {
    ImportServiceClient::new(clients.channel.clone())
}

async fn create(clients: &mut Clients, alias: &str, spec: KeySpec) -> String {
    let (alias, key_spec, origin) = (alias.to_owned(), spec.into(), KeyOrigin::External.into());
    let request = CreateKeyRequest { alias, key_spec, origin, ..CreateKeyRequest::default() };
    let key = clients.keys.create_key(request).await.expect("made").into_inner().key.expect("a key");
    assert_eq!(key.state(), KeyState::PendingImport);
    key.key_id
}

async fn parameters(clients: &Clients, key_id: &str) -> GetParametersForImportResponse {
    let (key_id, wrapping_algorithm) = (key_id.to_owned(), "RSAES_OAEP_SHA_256".to_owned());
    let request = GetParametersForImportRequest { key_id, wrapping_algorithm };
    importer(clients).get_parameters_for_import(request).await.expect("it waits").into_inner()
}

fn wrap(directory: &Path, public_key: &[u8], material: &[u8], hash: &str) -> Vec<u8> {
    let [key, plain, wrapped] = ["public.der", "material", "wrapped"].map(|name| directory.join(name));
    fs::write(&key, public_key).expect("a file");
    fs::write(&plain, material).expect("a file");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-pkeyopt", "rsa_padding_mode:oaep"]);
    openssl.args(["-pkeyopt", &format!("rsa_oaep_md:{hash}"), "-pkeyopt", &format!("rsa_mgf1_md:{hash}")]);
    openssl.arg("-inkey").arg(&key).arg("-in").arg(&plain).arg("-out").arg(&wrapped);
    let output = openssl.output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(&wrapped).expect("openssl wrote it")
}

/// The whole ceremony.
async fn import(clients: &Clients, key_id: &str, material: &[u8], hash: &str) -> Result<Key, Status> {
    let given = parameters(clients, key_id).await;
    let directory = tempfile::tempdir().expect("a directory");
    let request = ImportKeyMaterialRequest {
        key_id: key_id.to_owned(),
        import_token: given.import_token,
        wrapped_material: wrap(directory.path(), &given.public_key, material, hash).into(),
        expires_at: None,
    };
    Ok(importer(clients).import_key_material(request).await?.into_inner().key.expect("a key"))
}

async fn opens(clients: &mut Clients, ciphertext_blob: &[u8]) -> Result<Vec<u8>, Status> {
    let ciphertext_blob = ciphertext_blob.to_vec().into();
    let request = DecryptDataKeyRequest { ciphertext_blob, ..DecryptDataKeyRequest::default() };
    Ok(clients.data.decrypt_data_key(request).await?.into_inner().plaintext.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn material_from_outside_is_used_deleted_and_recognised() {
    let mut dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    for (alias, spec, length) in [("aes", KeySpec::Aes256, 32), ("sm4", KeySpec::Sm4, 16)] {
        let key_id = create(&mut admin, alias, spec).await;
        let material = vec![0xa7; length];
        let key = import(&admin, &key_id, &material, "sha256").await.expect("it fits");
        assert_eq!((key.state(), key.current_version), (KeyState::Enabled, 1));
        let sealed = admin.generate(by_id(&key_id), Context::new()).await.expect("enabled");
        assert_eq!(opens(&mut admin, &sealed.ciphertext_blob).await.expect("its own"), sealed.plaintext);

        let delete = DeleteImportedKeyMaterialRequest { key_id: key_id.clone() };
        let gone = importer(&admin).delete_imported_key_material(delete).await.expect("imported");
        assert_eq!(gone.into_inner().key.expect("a key").state(), KeyState::PendingImport);
        let refused = opens(&mut admin, &sealed.ciphertext_blob).await.expect_err("no material");
        assert_eq!(reason(&refused), "KEY_PENDING_IMPORT");
        let other = import(&admin, &key_id, &vec![0xa8; length], "sha256").await.expect_err("another");
        assert_eq!(reason(&other), "MATERIAL_MISMATCH");

        dev.restart();
        admin = dev.user(0, "admin").await;
        import(&admin, &key_id, &material, "sha256").await.expect("the same");
        assert_eq!(opens(&mut admin, &sealed.ciphertext_blob).await.expect("again"), sealed.plaintext);
    }
    assert!(dev.stop().success());
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_or_fit_is_refused_with_one_error() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let key_id = create(&mut admin, "k", KeySpec::Aes256).await;
    for (material, hash) in [(31, "sha256"), (33, "sha256"), (16, "sha256"), (32, "sha1")] {
        let refused = import(&admin, &key_id, &vec![1; material], hash).await.expect_err("no such material");
        assert_eq!(reason(&refused), "MATERIAL_INVALID", "{material} bytes, {hash}");
    }
    let given = parameters(&admin, &key_id).await;
    for wrapped_material in [Vec::new(), vec![0; 255], vec![0xff; 256], vec![0; 256], vec![1; 257]] {
        let request = ImportKeyMaterialRequest {
            key_id: key_id.clone(),
            import_token: given.import_token.clone(),
            wrapped_material: wrapped_material.into(),
            expires_at: None,
        };
        let refused = importer(&admin).import_key_material(request).await.expect_err("no such material");
        assert_eq!(reason(&refused), "MATERIAL_INVALID");
    }
    import(&admin, &key_id, &[9; 32], "sha256").await.expect("it still waits");
}
