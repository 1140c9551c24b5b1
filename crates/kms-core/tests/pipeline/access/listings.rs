//! Who may do what, as it is explained, and what listings and dry runs tell whom.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kms_core::{
    Error, Settings,
    error::Field,
    grant::{GrantId, GrantName, GrantOperation, GrantOperations},
    identity::{Caller, UserId},
    key::{KeyId, Scheme},
    operation::{Action, OperationName, Permissions},
    ops::{
        BatchCreateTags, BatchSize, CreateAlias, CreateGrant, DescribeKey, ExplainAccess, FurtherAlias,
        GenerateDataKeys, Identity, IdentityLister, KeySelector, ListAliases, ListKeys, ListKeysByTags,
        ListProjectTags, PageSize, PageToken, RetireGrant, TagFilter, TagKey, Tags, UpdatePrimaryRegion,
        UserAccess,
    },
};

use super::support::{
    REGION, all_but, allow, denied, give, policies, policy_denies, policy_denies_key, seal, sorted,
    statement, stranger, to_user, user, world,
};
use crate::{
    rotation::support::operator,
    support::{World, caller, create, generate, owner, region_named, replicate},
};

/// Who may do this with the key, each by what, as an operator is told.
fn explained(
    world: &World,
    key: KeyId,
    everyone: &[Caller],
    operation: OperationName,
) -> Vec<(UserId, String)> {
    let identity = |caller: &Caller| Identity {
        account: caller.account.clone(),
        user: caller.user.clone(),
        permissions: caller.permissions.clone(),
    };
    let everyone: Vec<_> = everyone.iter().map(identity).collect();
    let identities: IdentityLister = Arc::new(move |_| everyone.clone());
    let request = ExplainAccess { key_id: key, user: None, identities };
    let users = world.run(&operator(), request).expect("an operator may").users;
    let by = |user: UserAccess| {
        let told = user.allowed.into_iter().filter(|(_, operations)| operations.contains(&operation));
        told.map(|(by, _)| (user.user.clone(), by)).collect::<Vec<_>>()
    };
    users.into_iter().flat_map(by).collect()
}

#[test]
fn an_explanation_of_retirement_names_the_grants_that_each_may_give_up() {
    let (world, key, _) = world();
    let named = |name: &str, permissions| Caller { user: user(name), permissions, ..caller("zeta", REGION) };
    let [grantee, retirer, other] =
        ["grantee", "retirer", "other"].map(|name| named(name, Permissions::NONE));
    let barred = named("barred", policies(&[&statement("Deny", "kms:grant:retire", "")]));
    let make = |grantee: &Caller, retirer: &Caller, operations: &[GrantOperation]| {
        let request = CreateGrant {
            key: key.into(),
            grantee: to_user(grantee),
            operations: GrantOperations::parse(operations.iter().copied()).expect("operations"),
            name: GrantName::default(),
            retiring_principal: Some(retirer.user.clone()),
            idempotency_token: None,
        };
        world.run(&owner(), request).expect("its owner").id
    };
    let first = make(&grantee, &retirer, &[GrantOperation::DescribeKey, GrantOperation::RetireGrant]);
    let second = make(&grantee, &barred, &[GrantOperation::DescribeKey]);
    let everyone = [owner(), grantee, retirer, other, barred];
    let told = explained(&world, key, &everyone, OperationName::RetireGrant);
    let by = |caller: &Caller, id: GrantId| (caller.user.clone(), format!("grant {id}"));
    let [owner, grantee, retirer, ..] = &everyone;
    let expected = vec![by(owner, first), by(owner, second), by(grantee, first), by(retirer, first)];
    assert_eq!(sorted(told.clone()), sorted(expected));
    // It is as it says.
    for caller in &everyone {
        for id in [first, second] {
            let answer = world.try_out(caller, RetireGrant { key: key.into(), grant_id: id });
            assert_eq!(
                answer == Error::DryRun,
                told.contains(&by(caller, id)),
                "{}: {answer:?}",
                caller.user
            );
        }
    }
}

#[test]
fn nobody_is_looked_up_for_who_may_not_ask_who_may_do_what() {
    let (world, key, _) = world();
    let asked = Arc::new(AtomicBool::new(false));
    let lister = |asked: Arc<AtomicBool>| -> IdentityLister {
        Arc::new(move |_| {
            asked.store(true, Ordering::SeqCst);
            Vec::new()
        })
    };
    let request =
        || ExplainAccess { key_id: key, user: Some(user("bob")), identities: lister(asked.clone()) };
    assert_eq!(world.run(&owner(), request()).err(), Some(denied(Action::RootManage)));
    assert!(!asked.load(Ordering::SeqCst));
    let unknown = world.run(&operator(), request()).expect_err("there is no such user");
    assert!(matches!(unknown, Error::InvalidField { field: Field::UserId, .. }));
    assert!(asked.load(Ordering::SeqCst));
}

#[test]
fn a_grant_is_not_given_up_against_a_denial() {
    let (world, key, _) = world();
    let resource = format!(r#","Resource":["KMS:*:*:KeyId:{key}"]"#);
    let denied = all_but("kms:grant:retire", &resource);
    let id = give(&world, &denied, key, to_user(&stranger()), &[GrantOperation::DescribeKey]);
    let retire = RetireGrant { key: key.into(), grant_id: id.expect("it may grant") };
    assert_eq!(world.run(&denied, retire.clone()), Err(policy_denies_key(Action::GrantRetire)));
    assert_eq!(world.run(&owner(), retire), Ok(()));
}

#[test]
fn a_key_of_another_region_is_not_made_or_changed_against_a_denial() {
    let (world, key, _) = world();
    let there = r#","Condition":{"StringEquals":{"g:RequestedRegion":["cn-east-3"]}}"#;
    for (actions, missing) in [("kms:cmk:create", Action::CmkCreate), ("*", Action::CmkReplicate)] {
        let refused = world.run(&all_but(actions, there), replicate(key, "cn-east-3", "r"));
        assert_eq!(refused.err(), Some(policy_denies(missing)), "{actions}");
    }
    world.run(&owner(), replicate(key, "cn-east-3", "r")).expect("its owner");
    let promote = UpdatePrimaryRegion { key: key.into(), region: region_named("cn-east-3") };
    let refused = world.run(&all_but("*", there), promote);
    assert_eq!(refused.err(), Some(policy_denies_key(Action::CmkUpdatePrimaryRegion)));
}

#[test]
fn a_permission_by_alias_holds_however_often_it_is_asked() {
    let settings = Settings { aes_256: Scheme::InHsm, in_hsm_budget: 2, ..Settings::default() };
    let world = World::with(settings);
    world.key(&owner(), "app");
    let by_alias = r#","Condition":{"StringEquals":{"kms:RequestAlias":["app"]}}"#;
    let caller = Caller { permissions: policies(&[&allow("kms:dek:*", by_alias)]), ..owner() };
    for _ in 0..5 {
        world.run(&caller, generate(crate::support::alias("app"))).expect("named so");
    }
    let other = all_but("kms:dek:*", r#","Condition":{"StringNotEquals":{"kms:RequestAlias":["app"]}}"#);
    let batch = |key: KeySelector| GenerateDataKeys {
        each: generate(key),
        count: BatchSize::parse(2).expect("a size"),
        with_plaintext: true,
    };
    assert!(world.run(&other, batch(crate::support::alias("app"))).is_ok());
}

#[test]
fn listings_tell_nothing_of_what_may_not_be_described() {
    let (world, key, _) = world();
    let hidden = world.key(&owner(), "hidden").id;
    let tag = |key: KeyId, name: &str| {
        let tags = Tags::parse([(name, "v")]).expect("tags");
        world.run(&owner(), BatchCreateTags::new(key.into(), tags).expect("tags")).expect("its owner");
    };
    tag(key, "seen");
    tag(hidden, "secret");
    let only = format!(r#","Resource":["KMS:*:*:KeyId:{key}"]"#);
    let lists = allow(r#"kms:cmkTag:listInstance","kms:cmkTag:list"#, "");
    let caller = Caller { permissions: policies(&[&lists, &allow("kms:cmk:get", &only)]), ..owner() };
    let size = PageSize::parse(0).expect("a size");
    let tags = world.run(&caller, ListProjectTags { size, token: None }).expect("it may list").tags;
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["seen"]);
    let count = |name: &str| {
        let filter = TagFilter { key: TagKey::parse(name).expect("a key"), values: Vec::new() };
        let search = ListKeysByTags::new(vec![filter], String::new(), None).expect("a search");
        world.run(&caller, search).expect("it may list").total
    };
    assert_eq!((count("seen"), count("secret")), (1, 0));
}

#[test]
fn page_tokens_tell_nothing_of_what_may_not_be_described() {
    let world = World::new();
    let names = ["alias/a", "alias/hidden-behind-a-long-name", "alias/c"];
    let keys: Vec<KeyId> = names.iter().map(|name| named_and_tagged(&world, name)).collect();
    let shown: String = [keys[0], keys[2]].map(|id| format!(r#""KMS:*:*:KeyId:{id}""#)).join(",");
    let lists = allow(r#"kms:cmk:list","kms:alias:list","kms:cmkTag:listInstance","kms:cmkTag:list"#, "");
    let describes = allow("kms:cmk:get", &format!(r#","Resource":[{shown}]"#));
    let caller = Caller { permissions: policies(&[&lists, &describes]), ..owner() };
    let size = PageSize::parse(1).expect("a size");
    let mut tokens = Vec::new();
    // Each listing shows all but what is hidden, in as many pages as there are entries.
    let ids = pages(&mut tokens, |token| {
        let page =
            world.run(&caller, ListKeys { size, token, state: None, spec: None }).expect("it may list");
        (page.keys.into_iter().map(|key| key.id).collect(), page.next)
    });
    assert_eq!(sorted(ids), sorted(vec![keys[0], keys[2]]));
    let aliases = pages(&mut tokens, |token| {
        let page = world.run(&caller, ListAliases { key: None, size, token }).expect("it may list");
        (page.aliases.into_iter().map(|entry| entry.alias).collect(), page.next)
    });
    assert_eq!(aliases, ["alias/a", "alias/c"]);
    let tags = pages(&mut tokens, |token| {
        let page = world.run(&caller, ListProjectTags { size, token }).expect("it may list");
        (page.tags.into_keys().collect(), page.next)
    });
    assert_eq!(tags.len(), 2);
    assert_eq!(tokens.len(), 6);
    assert!(tokens.iter().all(|token| token.len() == tokens[0].len()), "of one length");
    for token in &tokens {
        let tells = |what: &[u8]| token.windows(what.len()).any(|part| part == what);
        assert!(!tells(keys[1].as_bytes()) && !tells(b"hidden"));
    }
}

/// A key with this further alias, and with a tag of the alias' name.
fn named_and_tagged(world: &World, name: &str) -> KeyId {
    let key = world.key(&owner(), &name.replace('/', "-")).id;
    let alias = FurtherAlias::parse(name).expect("an alias");
    world.run(&owner(), CreateAlias { key: key.into(), alias }).expect("it is free");
    let tags = Tags::parse([(&name[6..], "v")]).expect("tags");
    world.run(&owner(), BatchCreateTags::new(key.into(), tags).expect("tags")).expect("its owner");
    key
}

/// What all pages of a listing have; its tokens, decoded, go to `tokens`.
fn pages<T>(
    tokens: &mut Vec<Vec<u8>>,
    mut read: impl FnMut(Option<PageToken>) -> (Vec<T>, Option<PageToken>),
) -> Vec<T> {
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let (page, next) = read(token);
        all.extend(page);
        let Some(next) = next else { return all };
        tokens.push(URL_SAFE_NO_PAD.decode(next.encode()).expect("it is base64"));
        assert!(tokens.len() < 10, "the pages do not end");
        token = PageToken::parse(&next.encode()).expect("its own");
    }
}

#[test]
fn a_dry_run_asks_nothing_of_the_hsm_and_spends_nothing() {
    let settings = Settings { aes_256: Scheme::InHsm, in_hsm_budget: 100, ..Settings::default() };
    let world = World::with(settings);
    let key = world.key(&owner(), "key").id;
    seal(&world, &owner(), key).expect("its owner");
    let calls = world.hsm.calls();
    assert_eq!(world.try_out(&owner(), create("new")), Error::DryRun);
    assert_eq!(world.try_out(&owner(), replicate(key, "cn-east-3", "r")), Error::DryRun);
    for _ in 0..200 {
        assert_eq!(world.try_out(&owner(), generate(key.into())), Error::DryRun);
    }
    assert_eq!(world.hsm.calls(), calls);
    seal(&world, &owner(), key).expect("its budget is not spent");
    let version = world.run(&owner(), DescribeKey { key: key.into() }).expect("its own").versions.len();
    assert_eq!(version, 1);
}
