//! What the log says of each call of the contract.

use dewpoint_tests::{Context, Dev, Identity, Rpc, Subject, by_id, by_service, records, records_of};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_each_call_under_its_id_with_the_user_and_the_acting_service() {
    let dev = Dev::start();
    let account = dev.description.account(0);
    let downloader = account.user("downloader").user_id.clone();
    let identity = Identity {
        files: Some(dev.description.service("obs")),
        metadata: vec![("x-acting-for", downloader.clone()), ("x-project-id", account.projects[1].0.clone())],
    };
    let mut obs = dev.connect(identity).await;
    let made = obs.generate(by_service("obs"), Context::new()).await.expect("made");
    let subject = Subject { key_id: made.key_id, alias: "a".into(), ciphertext: made.ciphertext_blob.into() };
    for rpc in Rpc::ALL {
        let (id, verdict) = match rpc.call(&mut obs, &subject).await {
            Ok(id) => (id, "succeeded"),
            Err(status) => {
                let id = status.metadata().get("x-request-id").expect("a refusal names its request too");
                let denied = status.code() == Code::PermissionDenied;
                (id.to_str().expect("a text").to_owned(), if denied { "denied" } else { "failed" })
            }
        };
        let found = records_of(dev.directory(), &id);
        let last = found.last().unwrap_or_else(|| panic!("{rpc:?}: no record of {id}"));
        assert_eq!((&last["operation"], &last["verdict"]), (&format!("{rpc:?}").into(), &verdict.into()));
        assert!(found.iter().all(|record| {
            record["user"] == downloader.as_str()
                && record["acting_service"] == "obs"
                && record["account"] == account.domain_id.as_str()
                && record["project"] == account.projects[1].0.as_str()
                && record["region"] == account.projects[1].1.as_str()
        }));
    }
    let mut admin = dev.user(0, "admin").await;
    let key = admin.create("k").await;
    admin.describe(by_id(&key.key_id)).await.expect("described");
    let own = records(dev.directory()).pop().expect("a record");
    assert_eq!(
        (&own["user"], own.get("acting_service")),
        (&account.user("admin").user_id.as_str().into(), None)
    );
    assert_eq!(own["key_id"], key.key_id.as_str());
}
