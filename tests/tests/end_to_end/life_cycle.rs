//! The life of keys: every step from every state, names, lists, and creations that are tried again.

use dewpoint_tests::{Clients, Context, Dev, by_alias, by_id, by_service, refusal};
use kms_proto::v1::{
    CancelKeyDeletionRequest, CreateKeyRequest, DisableKeyRequest, EnableKeyRequest, Key, KeySpec, KeyState,
    ListKeysRequest, ScheduleKeyDeletionRequest, UpdateKeyAliasRequest, UpdateKeyDescriptionRequest,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};

#[derive(Debug, Clone, Copy)]
enum Step {
    Enable,
    Disable,
    Schedule,
    Cancel,
    Rename,
    Describe,
}

impl Step {
    async fn take(self, clients: &mut Clients, key_id: &str) -> Result<Key, Status> {
        let (keys, key_id) = (&mut clients.keys, key_id.to_owned());
        let key = match self {
            Self::Enable => keys.enable_key(EnableKeyRequest { key_id }).await?.into_inner().key,
            Self::Disable => keys.disable_key(DisableKeyRequest { key_id }).await?.into_inner().key,
            Self::Schedule => {
                let request = ScheduleKeyDeletionRequest { key_id, pending_days: 7 };
                keys.schedule_key_deletion(request).await?.into_inner().key
            }
            Self::Cancel => {
                keys.cancel_key_deletion(CancelKeyDeletionRequest { key_id }).await?.into_inner().key
            }
            Self::Rename => {
                let request = UpdateKeyAliasRequest { alias: format!("renamed-{key_id}"), key_id };
                keys.update_key_alias(request).await?.into_inner().key
            }
            Self::Describe => {
                let request = UpdateKeyDescriptionRequest { key_id, description: "new".into() };
                keys.update_key_description(request).await?.into_inner().key
            }
        };
        Ok(key.expect("the answer has the key"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_from_every_state_leads_on_or_is_refused_with_its_own_reason() {
    use KeyState::{Disabled, Enabled, PendingDeletion};
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let states: [(KeyState, &[Step]); 3] =
        [(Enabled, &[]), (Disabled, &[Step::Disable]), (PendingDeletion, &[Step::Schedule])];
    let table: [(Step, [Result<KeyState, &str>; 3]); 6] = [
        (Step::Enable, [Err("KEY_NOT_DISABLED"), Ok(Enabled), Err("KEY_NOT_DISABLED")]),
        (Step::Disable, [Ok(Disabled), Err("KEY_NOT_ENABLED"), Err("KEY_NOT_ENABLED")]),
        (Step::Schedule, [Ok(PendingDeletion), Ok(PendingDeletion), Err("KEY_ALREADY_PENDING_DELETION")]),
        (Step::Cancel, [Err("KEY_NOT_PENDING_DELETION"), Err("KEY_NOT_PENDING_DELETION"), Ok(Disabled)]),
        (Step::Rename, [Ok(Enabled), Ok(Disabled), Err("KEY_PENDING_DELETION")]),
        (Step::Describe, [Ok(Enabled), Ok(Disabled), Err("KEY_PENDING_DELETION")]),
    ];
    for (step, results) in table {
        for ((state, way), expected) in states.iter().zip(results) {
            let key_id = admin.create(&format!("{step:?}-{state:?}")).await.key_id;
            let made = admin.generate(by_id(&key_id), Context::new()).await.expect("enabled");
            for before in *way {
                before.take(&mut admin, &key_id).await.expect("a legal way");
            }
            let answer = step.take(&mut admin, &key_id).await;
            let now = match expected {
                Ok(next) => {
                    assert_eq!(answer.expect("a legal step").state(), next, "{step:?} from {state:?}");
                    next
                }
                Err(reason) => {
                    assert_eq!(refusal(answer), (Code::FailedPrecondition, reason.to_owned()));
                    *state
                }
            };
            let shown = admin.describe(by_id(&key_id)).await.expect("described");
            assert_eq!(shown.state(), now, "{step:?} from {state:?}");
            assert_eq!(shown.deletion_due_at.is_some(), now == PendingDeletion);
            check_use(&mut admin, &key_id, &made.ciphertext_blob, now).await;
        }
    }
}

/// Only an enabled key seals and opens; every other state has its own reason.
async fn check_use(admin: &mut Clients, key_id: &str, sealed: &[u8], state: KeyState) {
    let answers = [
        admin.generate(by_id(key_id), Context::new()).await.map(|_| ()),
        admin.encrypt(by_id(key_id), vec![1], Context::new()).await.map(|_| ()),
        admin.decrypt(sealed, None, Context::new()).await.map(|_| ()),
        admin.decrypt(sealed, by_id(key_id), Context::new()).await.map(|_| ()),
    ];
    for answer in answers {
        match state {
            KeyState::Enabled => answer.expect("an enabled key works"),
            KeyState::Disabled => {
                assert_eq!(refusal(answer), (Code::FailedPrecondition, "KEY_DISABLED".to_owned()));
            }
            _ => assert_eq!(refusal(answer), (Code::FailedPrecondition, "KEY_PENDING_DELETION".to_owned())),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_stops_on_the_next_call_of_an_open_connection() {
    let dev = Dev::start();
    let (mut admin, mut uploader) = (dev.user(0, "admin").await, dev.user(0, "uploader").await);
    let key_id = admin.create("k").await.key_id;
    let disabled = (Code::FailedPrecondition, "KEY_DISABLED".to_owned());
    for _ in 0..20 {
        for _ in 0..3 {
            uploader.generate(by_id(&key_id), Context::new()).await.expect("enabled");
        }
        Step::Disable.take(&mut admin, &key_id).await.expect("disabled");
        assert_eq!(refusal(uploader.generate(by_id(&key_id), Context::new()).await), disabled);
        Step::Enable.take(&mut admin, &key_id).await.expect("enabled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_alias_frees_the_old_one_and_takes_the_new_one() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let (first, second) = (admin.create("one").await.key_id, admin.create("two").await.key_id);
    let rename = |key_id: &str, alias: &str| UpdateKeyAliasRequest {
        key_id: key_id.to_owned(),
        alias: alias.to_owned(),
    };
    let taken = (Code::AlreadyExists, "ALIAS_EXISTS".to_owned());
    assert_eq!(refusal(admin.keys.update_key_alias(rename(&first, "two")).await), taken);
    let own = admin.keys.update_key_alias(rename(&first, "one")).await.expect("its own name again");
    assert_eq!(own.into_inner().key.expect("a key").alias, "one");
    admin.keys.update_key_alias(rename(&first, "three")).await.expect("a free name");
    assert_eq!(admin.describe(by_alias("three")).await.expect("named").key_id, first);
    let missing = (Code::NotFound, "KEY_NOT_FOUND".to_owned());
    assert_eq!(refusal(admin.describe(by_alias("one")).await), missing);
    assert_eq!(refusal(admin.try_create("three", KeySpec::Aes256).await), taken);
    admin.keys.update_key_alias(rename(&second, "one")).await.expect("the old name is free");
    assert_eq!(admin.describe(by_alias("one")).await.expect("named").key_id, second);
    admin.create("two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_is_tried_again_with_its_token_makes_one_key() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let request = |alias: &str, description: &str, spec: KeySpec| CreateKeyRequest {
        alias: alias.to_owned(),
        description: description.to_owned(),
        key_spec: spec.into(),
        idempotency_token: "a token".to_owned(),
        ..CreateKeyRequest::default()
    };
    let original = request("k", "d", KeySpec::Aes256);
    let first = admin.keys.create_key(original.clone()).await.expect("made").into_inner().key;
    let again = admin.keys.create_key(original.clone()).await.expect("the same").into_inner().key;
    assert_eq!(first, again);
    let reused = (Code::InvalidArgument, "IDEMPOTENCY_TOKEN_REUSED".to_owned());
    for other in [
        request("x", "d", KeySpec::Aes256),
        request("k", "x", KeySpec::Aes256),
        request("k", "d", KeySpec::Sm4),
    ] {
        assert_eq!(refusal(admin.keys.create_key(other).await), reused);
    }
    // The token is the account's own, and a new one does not help with a name that is taken.
    let mut stranger = dev.user(1, "admin").await;
    let theirs = stranger.keys.create_key(original.clone()).await.expect("made").into_inner().key;
    assert_ne!(first.map(|key| key.key_id), theirs.map(|key| key.key_id));
    let other_token = CreateKeyRequest { idempotency_token: "another".into(), ..original };
    let taken = (Code::AlreadyExists, "ALIAS_EXISTS".to_owned());
    assert_eq!(refusal(admin.keys.create_key(other_token).await), taken);

    let mut race = JoinSet::new();
    for _ in 0..16 {
        let mut admin = admin.clone();
        race.spawn(async move {
            let idempotency_token = "raced".to_owned();
            let request =
                CreateKeyRequest { alias: "raced".into(), idempotency_token, ..CreateKeyRequest::default() };
            admin.keys.create_key(request).await.expect("made").into_inner().key.expect("a key").key_id
        });
    }
    let mut ids = race.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(admin.list(ListKeysRequest::default()).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_every_key_once_whatever_their_size_and_filter() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let services = ["obs", "evs", "ims", "sfs", "rds", "dds", "csms"];
    for service in services {
        admin.generate(by_service(service), Context::new()).await.expect("the default key is made");
    }
    let mut creating = JoinSet::new();
    for number in 0..243 {
        let mut admin = admin.clone();
        creating.spawn(async move {
            let spec = if number % 3 == 0 { KeySpec::Sm4 } else { KeySpec::Aes256 };
            let key_id = admin.create_of(&format!("k{number}"), spec).await.key_id;
            if number % 10 == 0 {
                Step::Disable.take(&mut admin, &key_id).await.expect("disabled");
            }
        });
    }
    creating.join_all().await;
    let last = admin.create("last").await.key_id;
    let filter = |page_size, state: KeyState, spec: KeySpec| ListKeysRequest {
        page_size,
        page_token: String::new(),
        state: state.into(),
        key_spec: spec.into(),
    };
    let (any_state, any_spec) = (KeyState::Unspecified, KeySpec::Unspecified);
    let whole = admin.list(filter(1000, any_state, any_spec)).await;
    let ids = |keys: &[Key]| keys.iter().map(|key| key.key_id.clone()).collect::<Vec<_>>();
    assert_eq!(whole.len(), 251);
    assert!(whole[..7].iter().all(|key| services.contains(&&*key.default_for_service)), "default keys first");
    assert!(whole[7..].iter().all(|key| key.default_for_service.is_empty()));
    assert_eq!(whole[250].key_id, last, "in the order of their creation");
    for page_size in [0, 1, 7, 100] {
        assert_eq!(ids(&admin.list(filter(page_size, any_state, any_spec)).await), ids(&whole));
        for (state, spec, count) in [
            (KeyState::Disabled, any_spec, 25),
            (KeyState::Enabled, any_spec, 226),
            (KeyState::PendingDeletion, any_spec, 0),
            (any_state, KeySpec::Sm4, 81),
            (KeyState::Disabled, KeySpec::Sm4, 9),
            (KeyState::Enabled, KeySpec::Aes256, 154),
        ] {
            let expected = whole.iter().filter(|key| {
                (state == any_state || key.state() == state) && (spec == any_spec || key.key_spec() == spec)
            });
            let expected: Vec<Key> = expected.cloned().collect();
            assert_eq!(expected.len(), count, "{state:?} {spec:?}");
            assert_eq!(ids(&admin.list(filter(page_size, state, spec)).await), ids(&expected));
        }
    }
}
