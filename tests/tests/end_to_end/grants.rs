//! Grants between two accounts: made by one, listed and retired by the other, kept over a restart.

use dewpoint_tests::{Clients, Context, Dev, by_id, check_log, reason};
use kms_proto::v1::{
    CreateGrantRequest, Grant, GrantOperation, Grantee, ListGrantsRequest, ListRetirableGrantsRequest,
    RetireGrantRequest, RevokeGrantRequest, grant_service_client::GrantServiceClient, grantee::Principal,
};
use tonic::{Code, Status, transport::Channel};

fn grants(clients: &Clients) -> GrantServiceClient<Channel> {
    GrantServiceClient::new(clients.channel.clone())
}

fn request(key_id: &str, principal: Principal) -> CreateGrantRequest {
    let operations = [GrantOperation::DecryptDatakey, GrantOperation::RetireGrant];
    CreateGrantRequest {
        key_id: key_id.to_owned(),
        grantee: Some(Grantee { principal: Some(principal) }),
        operations: operations.map(i32::from).to_vec(),
        name: "for/reports".to_owned(),
        ..CreateGrantRequest::default()
    }
}

async fn create(clients: &Clients, request: CreateGrantRequest) -> Result<Grant, Status> {
    Ok(grants(clients).create_grant(request).await?.into_inner().grant.expect("a grant"))
}

async fn list(clients: &Clients, key_id: &str) -> Result<Vec<Grant>, Status> {
    let request = ListGrantsRequest { key_id: key_id.to_owned(), ..ListGrantsRequest::default() };
    let listed = grants(clients).list_grants(request).await?.into_inner();
    assert_eq!(usize::try_from(listed.total), Ok(listed.grants.len()));
    Ok(listed.grants)
}

async fn retirable(clients: &Clients) -> Vec<Grant> {
    let listed = grants(clients).list_retirable_grants(ListRetirableGrantsRequest::default()).await;
    listed.expect("it may list").into_inner().grants
}

async fn retire(clients: &Clients, grant: &Grant) -> Result<(), Status> {
    let Grant { key_id, grant_id, .. } = grant.clone();
    grants(clients).retire_grant(RetireGrantRequest { key_id, grant_id }).await.map(|_| ())
}

async fn revoke(clients: &Clients, grant: &Grant) -> Result<(), Status> {
    let Grant { key_id, grant_id, .. } = grant.clone();
    grants(clients).revoke_grant(RevokeGrantRequest { key_id, grant_id }).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_grants_and_the_other_gives_it_up() {
    let mut dev = Dev::start();
    let mut owner = dev.user(0, "admin").await;
    let mut other = dev.user(1, "admin").await;
    let key_id = owner.create("granted").await.key_id;
    let theirs = other.create("theirs").await.key_id;
    let account = create(&other, request(&theirs, Principal::UserId("u".to_owned()))).await;
    let account = account.expect("its own key").issuing_domain_id;
    let made = create(&owner, request(&key_id, Principal::DomainId(account))).await.expect("enabled");
    assert_eq!((made.name.as_str(), made.grant_id.len()), ("for/reports", 64));
    assert_eq!(list(&owner, &key_id).await.expect("its key"), std::slice::from_ref(&made));

    dev.kill();
    dev.start_again();
    let mut owner = dev.user(0, "admin").await;
    let mut other = dev.user(1, "admin").await;
    assert_eq!(retirable(&other).await.iter().filter(|grant| **grant == made).count(), 1);
    // Kept, for what it holds and nothing else.
    let sealed = owner.generate(by_id(&key_id), Context::new()).await.expect("its own key").ciphertext_blob;
    other.decrypt(&sealed, None, Context::new()).await.expect("granted");
    let hidden = other.generate(by_id(&key_id), Context::new()).await.expect_err("not granted");
    assert_eq!(reason(&hidden), "PERMISSION_DENIED");
    for refused in [list(&other, &key_id).await.map(drop), revoke(&other, &made).await] {
        assert_eq!(reason(&refused.expect_err("another account's")), "PERMISSION_DENIED");
    }
    retire(&other, &made).await.expect("it is its grant");
    let hidden = other.decrypt(&sealed, None, Context::new()).await.expect_err("given up");
    assert_eq!(reason(&hidden), "KEY_NOT_FOUND");
    assert_eq!(list(&owner, &key_id).await.expect("its key"), []);
    let gone = revoke(&owner, &made).await.expect_err("it was retired");
    assert_eq!((gone.code(), &*reason(&gone)), (Code::NotFound, "GRANT_NOT_FOUND"));

    let unknown =
        CreateGrantRequest { operations: vec![99], ..request(&key_id, Principal::UserId("u".into())) };
    let operators = request(&key_id, Principal::DomainId("operator".to_owned()));
    for malformed in [
        unknown,
        operators,
        CreateGrantRequest { grantee: None, ..request(&key_id, Principal::UserId("u".into())) },
    ] {
        assert_eq!(reason(&create(&owner, malformed).await.expect_err("malformed")), "INVALID_FIELD");
    }
    owner.generate(by_id(&key_id), Context::new()).await.expect("its own key");
    assert!(dev.stop().success());
    check_log(dev.directory());
}
