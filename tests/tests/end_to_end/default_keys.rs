//! Default keys: one per account and service, for all regions, made on first use, managed by nobody.

use std::collections::HashSet;

use dewpoint_tests::{
    Clients, Context, Dev, Identity, Rpc, Subject, by_alias, by_id, by_service, check_log, records, refusal,
};
use kms_proto::v1::{KeySpec, KeyState, ListKeysRequest};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt as _;

/// A user of the first account, in its project of this index.
async fn in_project(dev: &Dev, user: &str, index: usize) -> Clients {
    let account = dev.description.account(0);
    let metadata = vec![("x-project-id", account.projects[index].0.clone())];
    dev.connect(Identity { files: Some(account.user(user).files.clone()), metadata }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_first_uses_make_exactly_one_key() {
    let dev = Dev::start();
    let mut race = JoinSet::new();
    for number in 0..16 {
        let user = ["admin", "uploader", "downloader"][number % 3];
        let mut clients = in_project(&dev, user, number % 2).await;
        race.spawn(async move {
            let made = clients.generate(by_service("obs"), Context::new()).await.expect("made");
            (made.key_id.clone(), made)
        });
    }
    let (ids, made): (HashSet<String>, Vec<_>) = race.join_all().await.into_iter().unzip();
    assert_eq!((ids.len(), made.len()), (1, 16), "{ids:?}");
    let mut admin = dev.user(0, "admin").await;
    for made in &made {
        admin.check_opens(made).await;
    }
    let listed = admin.list(ListKeysRequest::default()).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    let key = &listed[0];
    assert_eq!((&*key.alias, &*key.default_for_service, &*key.region), ("obs/default", "obs", ""));
    assert_eq!((key.key_spec(), key.state()), (KeySpec::Aes256, KeyState::Enabled));
    check_log(dev.directory());
    let records = records(dev.directory());
    let made = records
        .iter()
        .filter(|record| record["operation"] == "CreateDefaultKey" && record.get("state_digest").is_some());
    assert_eq!(made.count(), 1, "one creation was committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_regions_see_one_default_key_and_each_only_its_own_custom_keys() {
    let dev = Dev::start();
    let (mut north, mut east) = (in_project(&dev, "admin", 0).await, in_project(&dev, "admin", 1).await);
    let made = north.generate(by_service("obs"), Context::new()).await.expect("made");
    for reference in [by_service("obs"), by_alias("obs/default"), by_id(&made.key_id)] {
        assert_eq!(east.describe(reference).await.expect("the same key").key_id, made.key_id);
    }
    east.check_opens(&made).await;
    let custom = north.create("k").await;
    let missing = (Code::NotFound, "KEY_NOT_FOUND".to_owned());
    for reference in [by_id(&custom.key_id), by_alias("k")] {
        assert_eq!(refusal(east.describe(reference.clone()).await), missing);
        assert_eq!(refusal(east.generate(reference, Context::new()).await), missing);
    }
    let sealed = north.generate(by_id(&custom.key_id), Context::new()).await.expect("made");
    assert_eq!(refusal(east.decrypt(&sealed.ciphertext_blob, None, Context::new()).await), missing);
    let namesake = east.create("k").await;
    assert_ne!(namesake.key_id, custom.key_id, "an alias is unique in its region only");
    let listed = east.list(ListKeysRequest::default()).await;
    let ids: Vec<&str> = listed.iter().map(|key| &*key.key_id).collect();
    assert_eq!(ids, [&*made.key_id, &*namesake.key_id]);
    let mut stranger = dev.user(1, "admin").await;
    assert_eq!(refusal(stranger.describe(by_service("obs")).await), missing, "another account has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_manages_a_default_key() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let made = admin.generate(by_service("obs"), Context::new()).await.expect("made");
    let before = admin.describe(by_service("obs")).await.expect("described");
    let subject = Subject { key_id: made.key_id.clone(), alias: "mine".into(), ciphertext: Vec::new() };
    for rpc in [
        Rpc::EnableKey,
        Rpc::DisableKey,
        Rpc::ScheduleKeyDeletion,
        Rpc::CancelKeyDeletion,
        Rpc::UpdateKeyAlias,
        Rpc::UpdateKeyDescription,
    ] {
        let expected = (Code::FailedPrecondition, "DEFAULT_KEY_IMMUTABLE".to_owned());
        assert_eq!(refusal(rpc.call(&mut admin, &subject).await), expected, "{rpc:?}");
    }
    assert_eq!(admin.describe(by_service("obs")).await.expect("described"), before);
    admin.check_opens(&made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_use_needs_the_permission_to_create_and_other_calls_make_nothing() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let missing = (Code::NotFound, "KEY_NOT_FOUND".to_owned());
    let sealed = admin.generate(by_service("evs"), Context::new()).await.expect("made").ciphertext_blob;
    for reference in [by_service("obs"), by_alias("obs/default")] {
        assert_eq!(refusal(admin.describe(reference.clone()).await), missing);
        assert_eq!(refusal(admin.decrypt(&sealed, reference, Context::new()).await), missing);
    }
    let mut nobody = dev.user(0, "nobody").await;
    let refused = nobody.generate(by_service("obs"), Context::new()).await.expect_err("no permission");
    let details = refused.get_error_details();
    assert_eq!(details.error_info().expect("ErrorInfo").metadata["missing_action"], "kms:dek:create");
    assert_eq!(refusal(admin.describe(by_service("obs")).await), missing, "nothing was made");
    let sealed =
        admin.encrypt(by_service("obs"), vec![5; 16], Context::new()).await.expect("made and sealed");
    assert_eq!(
        admin.decrypt(&sealed, by_service("obs"), Context::new()).await.expect("opens").plaintext,
        [5; 16][..]
    );
}
