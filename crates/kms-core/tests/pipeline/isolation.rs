//! Accounts, regions, keys and contexts are kept apart in every operation.

use kms_core::{
    Error, SecretBytes, Verdict,
    error::Field,
    identity::Caller,
    key::{KeyId, KeySpec, KeyState},
    ops::{
        CreateKey, DecryptDataKey, DescribeKey, EncryptDataKey, KeySelector, ListKeys, ListRetirableGrants,
        PageSize, PageToken,
    },
};

use crate::support::{Sealed, World, alias, caller, context, create, generate, no_context, obs, owner};

fn strangers() -> [Caller; 2] {
    [caller("zeta", "cn-north-4"), caller("acme", "cn-east-3")]
}

fn list(
    world: &World,
    caller: &Caller,
    size: u32,
    token: Option<PageToken>,
) -> (Vec<KeyId>, Option<PageToken>) {
    let size = PageSize::parse(size).expect("a size");
    let page = world.run(caller, ListKeys { size, token, state: None, spec: None }).expect("listed");
    (page.keys.into_iter().map(|key| key.id).collect(), page.next)
}

#[test]
fn strangers_find_no_key_whatever_they_try() {
    let world = World::new();
    let (_, attempts) = world.key_with_attempts(&owner());
    for stranger in strangers() {
        for attempt in attempts.iter().filter(|attempt| attempt.needs_key()) {
            let (before, calls) = (world.store.dump(), world.hsm.calls());
            assert_eq!(attempt.run(&world, &stranger), Err(Error::KeyNotFound), "{:?}", attempt.name);
            assert_eq!((world.store.dump(), world.hsm.calls()), (before, calls), "{:?}", attempt.name);
            let record = world.audit.records().pop().expect("a record");
            assert_eq!((record.key_id, record.verdict), (None, Verdict::Failed), "{:?}", attempt.name);
        }
        assert_eq!(world.run(&stranger, generate(alias("key"))).expect_err("unknown"), Error::KeyNotFound);
        assert_eq!(list(&world, &stranger, 0, None).0, []);
        world.run(&stranger, create("key")).expect("the name is free there");
    }
}

#[test]
fn an_unknown_key_and_a_strangers_key_answer_alike() {
    let world = World::new();
    let (_, known) = world.key_with_attempts(&owner());
    let unknown: KeyId = "0193a000-0000-7000-8000-000000000000".parse().expect("an id");
    let ciphertext = [&[1, 1, 1, 1][..], unknown.as_bytes(), &[0; 64]].concat();
    let unknown = crate::support::attempts(unknown, &Sealed::forged(ciphertext));
    for (known, unknown) in known.iter().zip(&unknown).filter(|(known, _)| known.needs_key()) {
        let stranger = &strangers()[0];
        assert_eq!(known.run(&world, stranger), unknown.run(&world, stranger), "{:?}", known.name);
    }
}

#[test]
fn a_default_key_is_the_accounts_in_all_regions() {
    let world = World::new();
    let key_of =
        |caller: &Caller| world.run(caller, generate(obs())).expect("made on first use").sealed.key_id;
    let [other_account, other_region] = strangers();
    let key = key_of(&owner());
    assert_eq!(key_of(&other_region), key);
    assert_ne!(key_of(&other_account), key);
    assert_eq!(list(&world, &other_region, 0, None).0, [key]);
    let error = world.run(&other_account, DescribeKey { key: KeySelector::Id(key) }).expect_err("not theirs");
    assert_eq!(error, Error::KeyNotFound);
}

#[test]
fn a_page_token_opens_no_list_but_its_own() {
    let world = World::new();
    for text in ["a", "b", "c"] {
        world.key(&owner(), text);
    }
    let (_, token) = list(&world, &owner(), 1, None);
    let refused = |caller: &Caller, state, spec| {
        let size = PageSize::parse(1).expect("a size");
        let refused = world.run(caller, ListKeys { size, token: token.clone(), state, spec });
        matches!(refused, Err(Error::InvalidField { field: Field::PageToken, .. }))
    };
    let [other_account, other_region] = strangers();
    assert!(refused(&other_account, None, None) && refused(&other_region, None, None));
    assert!(
        refused(&owner(), Some(KeyState::Enabled), None) && refused(&owner(), None, Some(KeySpec::Aes256))
    );
    assert!(!refused(&owner(), None, None));
    let size = PageSize::parse(1).expect("a size");
    let other = world.run(&owner(), ListRetirableGrants { size, token });
    assert!(matches!(other, Err(Error::InvalidField { field: Field::PageToken, .. })));
}

#[test]
fn a_data_key_opens_with_its_own_key_and_context_only() {
    let world = World::new();
    for spec in [KeySpec::Aes256, KeySpec::Sm4] {
        let name = spec.name().to_lowercase();
        let key = world.run(&owner(), CreateKey { spec, ..create(&name) }).expect("made").id;
        let other = world.key(&owner(), &format!("{name}-other")).id;
        let made = world.run(&owner(), generate(KeySelector::Id(key))).expect("enabled");
        assert_eq!(made.plaintext.len(), if spec == KeySpec::Sm4 { 16 } else { 32 });
        let blob = &made.sealed.ciphertext;
        let open = |blob: &[u8], key, context| {
            let opened = world.run(&owner(), DecryptDataKey::new(blob, key, context)?)?;
            Ok((opened.key_id, opened.plaintext.expose_secret().to_vec()))
        };
        let plaintext = made.plaintext.expose_secret().to_vec();
        let named = [None, Some(KeySelector::Id(key)), Some(alias(&name))];
        for selector in named {
            assert_eq!(open(blob, selector, context()), Ok((key, plaintext.clone())));
        }
        let calls = world.hsm.calls();
        assert_eq!(open(blob, Some(KeySelector::Id(other)), context()), Err(Error::CannotDecrypt));
        assert_eq!(world.hsm.calls(), calls, "another key's ciphertext does not reach the HSM");
        assert_eq!(open(blob, None, no_context()), Err(Error::CannotDecrypt));
        for position in 24..blob.len() {
            let mut altered = blob.clone();
            altered[position] ^= 1;
            assert_eq!(open(&altered, None, context()), Err(Error::CannotDecrypt), "byte {position}");
            let record = world.audit.records().pop().expect("a record");
            assert_eq!((record.reason, record.key_id), (Some("CANNOT_DECRYPT"), Some(key)));
        }
        // Algorithm and version are the key's own: another one cannot be asked of it.
        for (position, value) in [(2, 3 - blob[2]), (23, 2)] {
            let mut altered = blob.clone();
            altered[position] = value;
            let calls = world.hsm.calls();
            assert_eq!(open(&altered, None, context()), Err(Error::CannotDecrypt), "byte {position}");
            assert_eq!(world.hsm.calls(), calls);
        }
    }
}

#[test]
fn what_was_sealed_for_a_caller_is_opened_with_its_version_named() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    for length in [1, 1024] {
        let secret = SecretBytes::new(vec![9; length]);
        let seal = EncryptDataKey::new(alias("key"), secret, no_context()).expect("a data key");
        let sealed = world.run(&owner(), seal).expect("enabled");
        assert_eq!((sealed.key_id, sealed.key_version, sealed.ciphertext.len()), (key, 1, 68 + length));
        let open = DecryptDataKey::new(&sealed.ciphertext, None, no_context()).expect("a ciphertext");
        let opened = world.run(&owner(), open).expect("its own");
        assert_eq!((opened.key_version, opened.plaintext.expose_secret()), (1, &vec![9; length][..]));
    }
}
