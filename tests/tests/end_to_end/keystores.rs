//! Keys on tokens of their own: made, used, kept over a restart, and failing by themselves only.

use std::fs;

use dewpoint_tests::{
    ADMIN, Clients, Context, Dev, DevOptions, Identity, Module, Rest, RestRequest, Serve, Signer, by_id,
    check_log, reason, valid,
};
use hyper::Method;
use kms_proto::v1::{
    AdvanceRequest, CreateKeyRequest, CreateKeystoreRequest, DecryptDataKeyRequest, DeleteKeystoreRequest,
    DescribeKeystoreRequest, DisableKeystoreRequest, EnableKeystoreRequest, KeystoreState,
    ListKeystoresRequest, ScheduleKeyDeletionRequest, keystore_service_client::KeystoreServiceClient,
};
use serde_json::Value;
use tonic::{Code, Status, transport::Channel};

const VAULT: &str = "vault";

fn keystores(clients: &Clients) -> KeystoreServiceClient<Channel> {
    KeystoreServiceClient::new(clients.channel.clone())
}

async fn take(clients: &Clients) {
    let mut keystores = keystores(clients);
    let (keystore_id, alias) = (VAULT.to_owned(), "the-vault".to_owned());
    let made = keystores.create_keystore(CreateKeystoreRequest { keystore_id, alias }).await.expect("free");
    let made = made.into_inner().keystore.expect("a keystore");
    assert_eq!((made.state(), &*made.alias), (KeystoreState::Disabled, "the-vault"));
}

async fn enable(clients: &Clients) {
    let request = EnableKeystoreRequest { keystore_id: VAULT.to_owned() };
    let enabled = keystores(clients).enable_keystore(request).await.expect("it was made");
    assert_eq!(enabled.into_inner().keystore.expect("a keystore").state(), KeystoreState::Enabled);
}

async fn disable(clients: &Clients) {
    let request = DisableKeystoreRequest { keystore_id: VAULT.to_owned() };
    keystores(clients).disable_keystore(request).await.expect("it was made");
}

/// Lets the keystore go; `Err`: the reason why not.
async fn delete(clients: &Clients) -> Result<(), String> {
    let request = DeleteKeystoreRequest { keystore_id: VAULT.to_owned() };
    let deleted = keystores(clients).delete_keystore(request).await;
    deleted.map(drop).map_err(|status| reason(&status))
}

async fn create(clients: &mut Clients, alias: &str) -> Result<String, Status> {
    let (alias, keystore_id) = (alias.to_owned(), VAULT.to_owned());
    let request = CreateKeyRequest { alias, keystore_id, ..CreateKeyRequest::default() };
    let key = clients.keys.create_key(request).await?.into_inner().key.expect("a key");
    assert_eq!(key.keystore_id, VAULT);
    Ok(key.key_id)
}

async fn opens(clients: &mut Clients, ciphertext_blob: &[u8]) -> Result<Vec<u8>, Status> {
    let ciphertext_blob = ciphertext_blob.to_vec().into();
    let request = DecryptDataKeyRequest { ciphertext_blob, ..DecryptDataKeyRequest::default() };
    Ok(clients.data.decrypt_data_key(request).await?.into_inner().plaintext.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_mode_has_a_keystore_for_who_asks() {
    if Module::chosen() != Module::SoftHsm2 {
        return; // dev mode makes tokens of SoftHSM2 only
    }
    let arguments = ["--traffic-control=off", "--keystore", VAULT].map(str::to_owned).to_vec();
    let mut dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let mut admin = dev.user(0, "admin").await;
    take(&admin).await;
    let refused = create(&mut admin, "early").await.expect_err("disabled at first");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "KEYSTORE_DISABLED"));
    enable(&admin).await;
    let key = create(&mut admin, "k").await.expect("enabled");
    let own = admin.create("own").await.key_id;
    let sealed = admin.generate(by_id(&key), Context::new()).await.expect("enabled");
    assert_eq!(opens(&mut admin, &sealed.ciphertext_blob).await.expect("its own"), sealed.plaintext);

    dev.kill();
    dev.start_again();
    let mut admin = dev.user(0, "admin").await;
    assert_eq!(opens(&mut admin, &sealed.ciphertext_blob).await.expect("kept"), sealed.plaintext);
    disable(&admin).await;
    let refused = opens(&mut admin, &sealed.ciphertext_blob).await.expect_err("disabled");
    assert_eq!(reason(&refused), "KEYSTORE_DISABLED");
    admin.generate(by_id(&own), Context::new()).await.expect("on the service's own token");

    assert_eq!(delete(&admin).await.expect_err("it holds a key"), "KEYSTORE_NOT_EMPTY");
    let listed = keystores(&admin).list_keystores(ListKeystoresRequest::default()).await.expect("listed");
    assert_eq!(listed.into_inner().total, 1);
    let stranger = dev.user(1, "admin").await;
    let keystore_id = VAULT.to_owned();
    let hidden = keystores(&stranger).describe_keystore(DescribeKeystoreRequest { keystore_id }).await;
    assert_eq!(reason(&hidden.expect_err("another account's")), "KEYSTORE_NOT_FOUND");
    assert!(dev.stop().success());
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keystore_is_let_go_when_its_last_key_is_destroyed_and_its_token_can_be_taken_again() {
    if Module::chosen() != Module::SoftHsm2 {
        return; // dev mode makes tokens of SoftHSM2 only
    }
    let arguments =
        ["--traffic-control=off", "--clock=manual", "--keystore", VAULT].map(str::to_owned).to_vec();
    let mut dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let mut admin = dev.user(0, "admin").await;
    take(&admin).await;
    enable(&admin).await;
    let key_id = create(&mut admin, "k").await.expect("enabled");
    assert_eq!(delete(&admin).await.expect_err("it is enabled"), "KEYSTORE_NOT_DISABLED");
    let request = ScheduleKeyDeletionRequest { key_id, pending_days: 7 };
    admin.keys.schedule_key_deletion(request).await.expect("enabled");
    disable(&admin).await;
    assert_eq!(delete(&admin).await.expect_err("its key can come back"), "KEYSTORE_NOT_EMPTY");
    let by = prost_types::Duration { seconds: 7 * 86_400, nanos: 0 };
    dev.operator().await.dev.advance(AdvanceRequest { by: Some(by) }).await.expect("an operator");
    delete(&admin).await.expect("its last key was destroyed");
    assert_eq!(delete(&admin).await.expect_err("gone"), "KEYSTORE_NOT_FOUND");
    let listed = keystores(&admin).list_keystores(ListKeystoresRequest::default()).await.expect("listed");
    assert_eq!(listed.into_inner().total, 0);

    // The same over REST, of a keystore that has never had a key.
    take(&admin).await;
    let (rest, account) = (Rest::of(&dev.description), dev.description.account(0));
    let target = format!("/v1.0/{}/keystores/{VAULT}", account.projects[0].0);
    let asked = |method| {
        let request = RestRequest::new(method, &target, &Value::Null);
        request.signed(Signer::of(&account.user("admin").access_key))
    };
    let answer = rest.send(&asked(Method::DELETE)).await;
    assert_eq!((answer.status, &answer.body), (204, &Value::Null), "{answer:?}");
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(rest.send(&asked(method)).await.told(), (400, "KMS.8003"));
    }
    assert!(dev.stop().success());
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_module_fails_by_itself() {
    let other = match Module::chosen() {
        Module::SoftHsm2 => Module::Kryoptic,
        Module::Kryoptic => Module::SoftHsm2,
    };
    let mut serve = Serve::prepare();
    serve.keystore(VAULT, other, "workers = 1\n");
    let made = serve.run("init");
    assert!(made.status.success(), "{made:?}");
    serve.start().await;
    let files = serve.authority.client("admin", &[ADMIN], valid());
    let identity = || Identity { files: Some(files.clone()), ..Identity::default() };
    let mut admin = serve.connect(identity()).await;
    take(&admin).await;
    enable(&admin).await;
    let key = create(&mut admin, "k").await.expect("enabled");
    let sealed = admin.generate(by_id(&key), Context::new()).await.expect("enabled");
    let own = admin.create("own").await.key_id;
    assert!(serve.stop().success());

    // The keystore's token cannot be opened any more.
    let pin = serve.directory().join(VAULT).join("pin");
    let kept = serve.directory().join("kept");
    fs::rename(&pin, &kept).expect("it is there");
    serve.start().await;
    let mut admin = serve.connect(identity()).await;
    let refused = opens(&mut admin, &sealed.ciphertext_blob).await.expect_err("its token is closed");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "HSM_UNAVAILABLE"));
    admin.generate(by_id(&own), Context::new()).await.expect("on the service's own token");
    assert!(serve.stop().success());

    fs::rename(&kept, &pin).expect("the directory is ours");
    serve.start().await;
    let mut admin = serve.connect(identity()).await;
    assert_eq!(opens(&mut admin, &sealed.ciphertext_blob).await.expect("open again"), sealed.plaintext);
    assert!(serve.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tokens_on_one_module_file_are_refused_with_what_to_do() {
    let mut serve = Serve::prepare();
    serve.keystore(VAULT, Module::chosen(), "workers = 1\n");
    let refused = serve.run("init");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("name a copy of the file"), "{said}");
}
