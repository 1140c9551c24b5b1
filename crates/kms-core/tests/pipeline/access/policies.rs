//! What policies allow and deny: by key, by name, by what a call would make.

use std::collections::BTreeMap;

use kms_core::{
    Error,
    context::EncryptionContext,
    error::Denial,
    grant::GrantOperation,
    identity::Caller,
    key::{KeyId, KeySpec},
    operation::Action,
    ops::{
        BatchSize, CreateKey, DescribeKey, GenerateDataKeyWithoutPlaintext, GenerateDataKeys, KeySelector,
        ListKeys, PageSize, ReEncrypt, ReplicateKey, RevokeGrant, Tags,
    },
};

use super::support::{
    REGION, all_but, allow, denied, foreign_owner, give, open, policies, policy_denies, policy_denies_key,
    seal, statement, to_user, user, world,
};
use crate::support::{World, caller, context, create, generate, obs, owner, replicate};

#[test]
fn a_policy_for_one_key_is_none_for_another_and_shows_no_other() {
    let (world, key, (data_key, _)) = world();
    let other = world.key(&owner(), "other").id;
    let only = |id: KeyId| format!(r#","Resource":["KMS:*:*:KeyId:{id}"]"#);
    let permissions =
        policies(&[&allow("kms:cmk:list", ""), &allow(r#"kms:cmk:get","kms:dek:*"#, &only(key))]);
    let caller = Caller { permissions, ..owner() };
    assert!(open(&world, &caller, &data_key).is_ok() && seal(&world, &caller, key).is_ok());
    let not_on_it = Error::denied_on_key(Action::DekCreate);
    assert_eq!(seal(&world, &caller, other), Err(not_on_it.clone()));
    let unknown = KeyId::from_uuid(uuid::Uuid::from_u128(1));
    assert_eq!(seal(&world, &caller, unknown), Err(not_on_it));
    let list = ListKeys { size: PageSize::parse(0).expect("a size"), token: None, state: None, spec: None };
    let seen: Vec<_> = world.run(&caller, list).expect("it may list").keys.iter().map(|key| key.id).collect();
    assert_eq!(seen, [key]);
    // What is about no key is not covered by a statement for some.
    let creating = Caller { permissions: policies(&[&allow("kms:cmk:*", &only(key))]), ..owner() };
    assert_eq!(world.run(&creating, create("new")).err(), Some(denied(Action::CmkCreate)));
}

#[test]
fn whoever_may_use_some_keys_only_is_told_the_same_of_every_other_and_of_none() {
    let (world, key, _) = world();
    let (other, foreign) = (world.key(&owner(), "other").id, world.key(&foreign_owner(), "theirs").id);
    let unknown = KeyId::from_uuid(uuid::Uuid::from_u128(1));
    let actions = r#"kms:dek:*","kms:cmk:get"#;
    let of = |id: KeyId| format!(r#","Resource":["KMS:*:*:KeyId:{id}"]"#);
    let of_context = r#","Condition":{"StringEquals":{"kms:EncryptionContext/bucket":["photos"]}}"#;
    let allowed = allow(actions, &of(key));
    let refused = |missing, denial| Some(Error::PermissionDenied { missing, denial });
    for (documents, denial) in [
        (vec![allowed.clone()], Denial::KeyNotAllowed),
        (vec![allowed.clone(), statement("Deny", actions, &of(other))], Denial::KeyNotAllowed),
        (vec![allowed.clone(), statement("Deny", actions, of_context)], Denial::PolicyDenies),
    ] {
        let documents: Vec<_> = documents.iter().map(String::as_str).collect();
        let caller = Caller { permissions: policies(&documents), ..owner() };
        let ids = [other, foreign, unknown].map(KeySelector::Id);
        let names = ["other", "theirs", "unknown"].map(|name| KeySelector::alias(name).expect("a name"));
        for selector in ids.into_iter().chain(names) {
            let sealed = world.run(&caller, generate(selector.clone())).err();
            assert_eq!(sealed, refused(Action::DekCreate, denial), "{selector:?}");
            assert_eq!(Some(world.try_out(&caller, generate(selector.clone()))), sealed, "{selector:?}");
            let described = world.run(&caller, DescribeKey { key: selector.clone() }).err();
            assert_eq!(described, refused(Action::CmkGet, Denial::KeyNotAllowed), "{selector:?}");
        }
    }
}

#[test]
fn a_source_that_the_context_forbids_is_not_told_from_one_that_does_not_exist() {
    let (world, key, (data_key, _)) = world();
    let films = r#","Condition":{"StringEquals":{"kms:EncryptionContext/bucket":["films"]}}"#;
    let caller = Caller { permissions: policies(&[&allow("kms:dek:*", films)]), ..owner() };
    let films = BTreeMap::from([("bucket".to_owned(), "films".to_owned())]);
    let films = EncryptionContext::new(films).expect("short enough");
    for source in [key, KeyId::from_uuid(uuid::Uuid::from_u128(1))] {
        let moved = |context| {
            let request = ReEncrypt::new(&data_key, Some(source.into()), context, key.into(), films.clone());
            world.run(&caller, request.expect("a ciphertext")).err()
        };
        assert_eq!(moved(context()), Some(Error::denied_on_key(Action::DekCrypto)), "{source:?}");
        assert_ne!(moved(films.clone()), Some(Error::denied_on_key(Action::DekCrypto)), "{source:?}");
    }
}

#[test]
fn a_fine_action_name_gives_no_more_than_it_says() {
    let (world, key, _) = world();
    let permissions = policies(&[&allow("kms:cmk:createDataKeyWithoutPlaintext", "")]);
    let caller = Caller { permissions, ..owner() };
    assert!(world.run(&caller, GenerateDataKeyWithoutPlaintext(generate(key.into()))).is_ok());
    assert_eq!(seal(&world, &caller, key), Err(denied(Action::DekCreate)));
}

#[test]
fn a_deny_wins_over_permissions_and_grants_and_the_log_names_it() {
    let (world, key, (data_key, _)) = world();
    let everything = allow("*", "");
    let deny = |more: &str| statement("Deny", "kms:dek:crypto", more);
    let context = r#","Condition":{"StringEquals":{"kms:EncryptionContext/bucket":["photos"]}}"#;
    for deny in [deny(""), deny(context)] {
        let own = Caller { permissions: policies(&[&everything, &deny]), ..owner() };
        let (refused, records) = world.records_of(|| open(&world, &own, &data_key));
        assert_eq!(refused, Err(policy_denies(Action::DekCrypto)));
        assert_eq!(records[0].ruling.as_deref(), Some("denied by statement 1 of test"));
        let foreign = Caller { permissions: policies(&[&deny]), ..caller("zeta", REGION) };
        let id = give(&world, &owner(), key, to_user(&foreign), &[GrantOperation::DecryptDatakey]);
        let refused = open(&world, &foreign, &data_key).expect_err("denied");
        assert!(is_denied_by_policy(&refused), "{refused:?}");
        let revoke = RevokeGrant { key: key.into(), grant_id: id.expect("its owner") };
        world.run(&owner(), revoke).expect("its owner");
    }
    // Another bucket's context is not denied.
    let elsewhere = context.replace("photos", "films");
    let own = Caller { permissions: policies(&[&everything, &deny(&elsewhere)]), ..owner() };
    assert!(open(&world, &own, &data_key).is_ok());
    // A condition on the key's kind is decided when the key is known, and said in the log.
    let by_kind =
        statement("Deny", "kms:dek:*", r#","Condition":{"StringEquals":{"kms:KeySpec":["AES_256"]}}"#);
    let caller = Caller { permissions: policies(&[&everything, &by_kind]), ..owner() };
    let (refused, records) = world.records_of(|| open(&world, &caller, &data_key));
    assert_eq!(refused, Err(policy_denies_key(Action::DekCrypto)));
    assert_eq!(records[0].ruling.as_deref(), Some("denied by statement 1 of test"));
}

#[test]
fn conditions_on_what_is_made_hold_before_it_is() {
    let world = World::new();
    let only_sm4 = allow("kms:cmk:create", r#","Condition":{"StringEquals":{"kms:KeySpec":["SM4"]}}"#);
    let caller = Caller { permissions: policies(&[&only_sm4]), ..owner() };
    assert_eq!(world.run(&caller, create("aes")).err(), Some(denied(Action::CmkCreate)));
    let sm4 = CreateKey { spec: KeySpec::Sm4, ..create("sm4") };
    assert_eq!(world.run(&caller, sm4).expect("its kind").spec, KeySpec::Sm4);
}

#[test]
fn what_is_denied_by_one_name_is_not_to_be_had_by_another() {
    let (world, key, (data_key, _)) = world();
    let other = world.key(&owner(), "other").id;
    let denied = |action: &str| {
        let documents = [allow("*", ""), statement("Deny", action, "")];
        Caller { permissions: policies(&[&documents[0], &documents[1]]), ..owner() }
    };
    let refused = |missing| Some(policy_denies_key(missing));
    let moved = |caller: &Caller| {
        let request = ReEncrypt::new(&data_key, None, context(), other.into(), context());
        world.run(caller, request.expect("a ciphertext")).err()
    };
    assert_eq!(moved(&denied("kms:cmk:decryptDataKey")), refused(Action::DekCrypto));
    assert_eq!(moved(&denied("kms:cmk:encryptDataKey")), refused(Action::DekCrypto));
    assert_eq!(moved(&denied("kms:cmk:sign")), None);
    let batch = |caller: &Caller, with_plaintext| {
        let each = generate(key.into());
        let count = BatchSize::parse(2).expect("a size");
        world.run(caller, GenerateDataKeys { each, count, with_plaintext }).err()
    };
    let without = denied("kms:cmk:createDataKeyWithoutPlaintext");
    assert_eq!((batch(&without, false), batch(&without, true)), (refused(Action::DekCreate), None));
}

fn is_denied_by_policy(error: &Error) -> bool {
    let Error::PermissionDenied { denial, .. } = error else { return false };
    matches!(denial, Denial::PolicyDenies | Denial::PolicyDeniesKey)
}

#[test]
fn a_default_key_is_not_made_for_a_call_that_is_denied() {
    let (world, key, _) = world();
    let holder = Caller { permissions: policies(&[&allow("kms:cmk:create", "")]), ..owner() };
    give(&world, &owner(), key, to_user(&holder), &[GrantOperation::DescribeKey]).expect("its owner");
    let aes = r#","Condition":{"StringEquals":{"kms:KeySpec":["AES_256"]}}"#;
    let of_one = allow("kms:dek:create", &format!(r#","Resource":["KMS:*:*:KeyId:{key}"]"#));
    let limited = Caller {
        permissions: policies(&[&allow("kms:cmk:create", ""), &of_one]),
        user: user("limited"),
        ..owner()
    };
    let (before, calls) = (world.store.dump(), world.hsm.calls());
    for caller in [holder, limited, all_but("kms:dek:create", aes), all_but("kms:cmk:create", aes)] {
        let refused = world.run(&caller, generate(obs())).expect_err("not allowed");
        assert_eq!(refused.code(), "PERMISSION_DENIED");
        let batch = GenerateDataKeys {
            each: generate(obs()),
            count: BatchSize::parse(2).expect("a size"),
            with_plaintext: false,
        };
        assert_eq!(world.run(&caller, batch).expect_err("not allowed").code(), "PERMISSION_DENIED");
    }
    let part = all_but("kms:cmk:createDataKeyWithoutPlaintext", "");
    let batch = GenerateDataKeys {
        each: generate(obs()),
        count: BatchSize::parse(2).expect("a size"),
        with_plaintext: false,
    };
    assert_eq!(world.run(&part, batch).err(), Some(policy_denies_key(Action::DekCreate)));
    assert_eq!((world.store.dump(), world.hsm.calls()), (before, calls), "nothing was made");
}

#[test]
fn a_default_key_is_not_made_for_a_call_that_a_denial_by_id_covers() {
    let world = World::new();
    let batch = || GenerateDataKeys {
        each: generate(obs()),
        count: BatchSize::parse(2).expect("a size"),
        with_plaintext: false,
    };
    let denials = [
        ("kms:dek:create", r#","Resource":["KMS:*:*:KeyId:*"]"#),
        ("kms:dek:create", r#","Resource":["KMS:*:acme:KeyId:0*","KMS:*:zeta:KeyId:*"]"#),
        ("kms:cmk:create", r#","Resource":["KMS:cn-north-4:*:KeyId:*-7*"]"#),
    ];
    let (before, calls) = (world.store.dump(), world.hsm.calls());
    for (action, resource) in denials {
        let caller = all_but(action, resource);
        let refused = world.run(&caller, generate(obs())).expect_err("denied");
        assert!(
            matches!(refused, Error::PermissionDenied { denial: Denial::PolicyDeniesKey, .. }),
            "{resource}"
        );
        assert_eq!(world.try_out(&caller, generate(obs())), refused);
    }
    let part = all_but("kms:cmk:createDataKeyWithoutPlaintext", r#","Resource":["KMS:*:*:KeyId:*"]"#);
    assert_eq!(world.run(&part, batch()).err(), Some(policy_denies_key(Action::DekCreate)));
    assert_eq!((world.store.dump(), world.hsm.calls()), (before, calls), "nothing was made");
    // Denials of other keys, accounts and regions are none of this one.
    let id = "0193a000-0000-7000-8000-00000000000a";
    let elsewhere =
        [&format!("KMS:*:*:KeyId:{id}"), "KMS:*:zeta:KeyId:*", "KMS:cn-east-3:*:KeyId:*", "KMS:*:*:KeyId:f*"]
            .map(|resource| format!(r#""{resource}""#));
    let caller = all_but("*", &format!(r#","Resource":[{}]"#, elsewhere.join(",")));
    let made = world.run(&caller, generate(obs())).expect("none of them").sealed.key_id;
    assert_eq!(world.run(&caller, generate(obs())).expect("it is there").sealed.key_id, made);
}

#[test]
fn a_permission_for_all_keys_holds_for_a_default_key_that_is_yet_to_be_made() {
    let world = World::new();
    let uses = allow("kms:dek:create", r#","Resource":["KMS:*:*:KeyId:*"]"#);
    let makes = allow("kms:cmk:create", "");
    let caller = |documents: &[&str]| Caller { permissions: policies(documents), ..owner() };
    let refused = world.run(&caller(&[&uses]), generate(obs())).expect_err("it may make none");
    assert_eq!(refused, denied(Action::CmkCreate));
    world.run(&caller(&[&uses, &makes]), generate(obs())).expect("it may");
}

#[test]
fn a_default_key_has_its_alias_in_conditions() {
    let world = World::new();
    let named =
        |alias: &str| format!(r#","Condition":{{"StringEquals":{{"kms:RequestAlias":["{alias}"]}}}}"#);
    let evs = || KeySelector::service("evs").expect("a known service");
    let only_obs =
        [allow("kms:dek:*", &named("obs/default")), allow("kms:cmk:create", &named("obs/default"))];
    let caller = Caller { permissions: policies(&only_obs.each_ref().map(String::as_str)), ..owner() };
    for _ in 0..2 {
        world.run(&caller, generate(obs())).expect("it is named so"); // made, and found
        assert_eq!(world.run(&caller, generate(evs())).err(), Some(Error::denied_on_key(Action::DekCreate)));
    }
    world.run(&owner(), generate(evs())).expect("its owner");
    assert_eq!(world.run(&caller, generate(evs())).err(), Some(Error::denied_on_key(Action::DekCreate)));
    let denied = all_but("kms:dek:create", &named("evs/default"));
    assert_eq!(world.run(&denied, generate(evs())).err(), Some(policy_denies_key(Action::DekCreate)));
    world.run(&denied, generate(obs())).expect("of another name");
}

#[test]
fn no_key_is_made_with_an_alias_or_tags_that_are_denied() {
    let (world, key, _) = world();
    let tags = || Tags::parse([("team", "red")]).expect("tags");
    let of_alias = r#","Condition":{"StringStartWith":{"kms:RequestAlias":["prod-"]}}"#;
    let (before, calls) = (world.store.dump(), world.hsm.calls());
    let refuses = |caller: &Caller, alias: &str, tags: &Tags, missing| {
        let made = world.run(caller, CreateKey { tags: tags.clone(), ..create(alias) });
        assert_eq!(made.err(), Some(policy_denies(missing)));
        let copy = ReplicateKey { tags: tags.clone(), ..replicate(key, "cn-east-3", alias) };
        assert_eq!(world.run(caller, copy).err(), Some(policy_denies(missing)));
    };
    refuses(&all_but("kms:cmkTag:create", ""), "new", &tags(), Action::TagCreate);
    refuses(&all_but("kms:alias:create", of_alias), "prod-a", &Tags::default(), Action::AliasCreate);
    refuses(&all_but("kms:alias:create", ""), "new", &Tags::default(), Action::AliasCreate);
    let there = r#","Condition":{"StringEquals":{"g:RequestedRegion":["cn-east-3"]}}"#;
    let copy = ReplicateKey { tags: tags(), ..replicate(key, "cn-east-3", "r") };
    let refused = world.run(&all_but("kms:cmkTag:create", there), copy.clone());
    assert_eq!(refused.err(), Some(policy_denies(Action::TagCreate)));
    assert_eq!((world.store.dump(), world.hsm.calls()), (before, calls), "nothing was made");
    // What is not denied is made: without tags, under another name, in another region.
    world.run(&all_but("kms:cmkTag:create", ""), create("new")).expect("without tags");
    world.run(&all_but("kms:alias:create", of_alias), create("dev-a")).expect("of another name");
    let here = CreateKey { tags: tags(), ..create("here") };
    world.run(&all_but("kms:cmkTag:create", there), here).expect("in another region");
    // No permission is needed for them, as before.
    let makes = Caller { permissions: policies(&[&allow("kms:cmk:create", "")]), ..owner() };
    world.run(&makes, CreateKey { tags: tags(), ..create("tagged") }).expect("it may make keys");
}
