//! Keys on tokens of their own.

use std::{sync::Arc, thread};

use futures_executor::block_on;
use kms_core::{
    Call, Error, Settings,
    identity::Caller,
    key::{KeyId, KeyOrigin, KeyRecord, Scheme},
    keystore::KeystoreState,
    ops::{
        Alias, CreateKey, CreateKeystore, DecryptDataKey, DeleteKeystore, DescribeKeystore, DisableKeystore,
        EnableKeystore, KeySelector, ListKeystores, ListWindow, PendingDays, ReEncrypt, RotateRoot,
        ScheduleKeyDeletion,
    },
    ports::{HsmError, KeyStore as _},
    testing::hsm::FakeHsm,
};
use uuid::Uuid;

use crate::support::{
    PATIENCE, SPARE, SpyStore, VAULT, World, caller, context, create, create_keystore, generate, keystore,
    now, owner,
};

fn enable(world: &World, name: &str) {
    world.run(&owner(), EnableKeystore { keystore_id: keystore(name) }).expect("it is the owner's");
}

fn disable(world: &World, name: &str) {
    world.run(&owner(), DisableKeystore { keystore_id: keystore(name) }).expect("it is the owner's");
}

fn on(name: &str, alias: &str) -> CreateKey {
    CreateKey { keystore: Some(keystore(name)), ..create(alias) }
}

/// A world with an enabled keystore and a key on it.
fn world_with_key() -> (World, KeyRecord) {
    let world = World::new();
    world.run(&owner(), create_keystore(VAULT)).expect("the token is free");
    enable(&world, VAULT);
    let key = world.run(&owner(), on(VAULT, "key")).expect("enabled");
    (world, key)
}

fn seal(world: &World, key: KeyId) -> Result<Vec<u8>, Error> {
    world.run(&owner(), generate(KeySelector::Id(key))).map(|made| made.sealed.ciphertext)
}

fn open(world: &World, ciphertext: &[u8]) -> Result<Vec<u8>, Error> {
    let operation = DecryptDataKey::new(ciphertext, None, context()).expect("a ciphertext");
    world.run(&owner(), operation).map(|opened| opened.plaintext.expose_secret().to_vec())
}

fn delete(world: &World, name: &str) -> Option<Error> {
    world.run(&owner(), DeleteKeystore { keystore_id: keystore(name) }).err()
}

#[test]
fn a_key_lives_and_works_on_its_own_token() {
    let (world, key) = world_with_key();
    let [vault, spare] = &world.tokens;
    assert_eq!((vault.calls().generate, spare.calls().jobs), (1, 0));
    let (main, before) = (world.hsm.calls(), vault.calls());
    let sealed = seal(&world, key.id).expect("enabled");
    open(&world, &sealed).expect("its own");
    assert_eq!(world.hsm.calls(), main, "the service's own token is not asked");
    assert_eq!(vault.calls().mac, before.mac + 2);
    // What is on one token means nothing to the other.
    assert_eq!(world.tokens[0].calls().rewrap, 0);
}

#[test]
fn a_call_that_may_be_dropped_opens_nothing_on_one_token_for_another() {
    let (world, key) = world_with_key();
    let other = world.key(&owner(), "other").id;
    let sealed = seal(&world, key.id).expect("enabled");
    let re_encrypt = || ReEncrypt::new(&sealed, None, context(), KeySelector::Id(other), context());
    let call = Call { request_id: Uuid::new_v4(), caller: owner(), patience: PATIENCE, dry_run: false };
    let (opened, records) = (world.tokens[0].calls().mac, world.audit.records().len());
    let begun = block_on(world.service.run_droppable(call, re_encrypt()));
    let Err((call, operation)) = begun else { panic!("nobody drives it to its record") };
    assert_eq!((world.tokens[0].calls().mac, world.audit.records().len()), (opened, records));
    block_on(world.service.run(call, operation)).expect("driven");
    assert_eq!((world.tokens[0].calls().mac, world.audit.records().len()), (opened + 1, records + 1));
    let tried = Call { request_id: Uuid::new_v4(), caller: owner(), patience: PATIENCE, dry_run: true };
    let tried = block_on(world.service.run_droppable(tried, re_encrypt())).expect("a dry run is not driven");
    assert_eq!(tried.expect_err("it does nothing").error(), &Error::DryRun);
    assert_eq!(world.tokens[0].calls().mac, opened + 1);
}

#[test]
fn a_keystore_is_disabled_at_first_and_refuses_all_while_it_is() {
    let world = World::new();
    let made = world.run(&owner(), create_keystore(VAULT)).expect("the token is free");
    assert_eq!(made.state, KeystoreState::Disabled);
    assert_eq!(world.run(&owner(), on(VAULT, "key")).err(), Some(Error::KeystoreDisabled));
    enable(&world, VAULT);
    let key = world.run(&owner(), on(VAULT, "key")).expect("enabled");
    let sealed = seal(&world, key.id).expect("enabled");
    disable(&world, VAULT);
    let before = world.tokens[0].calls();
    assert_eq!(seal(&world, key.id), Err(Error::KeystoreDisabled));
    assert_eq!(open(&world, &sealed), Err(Error::KeystoreDisabled));
    assert_eq!(world.run(&owner(), on(VAULT, "other")).err(), Some(Error::KeystoreDisabled));
    assert_eq!(world.tokens[0].calls(), before, "the token is not asked");
    enable(&world, VAULT);
    open(&world, &sealed).expect("enabled again");
}

#[test]
fn a_name_is_one_keystores_of_an_account() {
    let world = World::new();
    let named =
        |name: &str| CreateKeystore { alias: Alias::parse("same").expect("a name"), ..create_keystore(name) };
    let rival = world.sibling();
    world.store.instead_of_commit(move |store, transaction| {
        let rival = thread::spawn(move || rival.run(&owner(), named(SPARE)).map(drop));
        rival.join().expect("no panic").expect("nobody is faster");
        now(store.transact(transaction))
    });
    assert_eq!(world.run(&owner(), named(VAULT)).err(), Some(Error::KeystoreExists), "taken meanwhile");
    assert_eq!(world.run(&owner(), named(VAULT)).err(), Some(Error::KeystoreExists));
    world.run(&caller("zeta", "cn-north-4"), named(VAULT)).expect("names are an account's own");
}

#[test]
fn a_keystore_is_one_accounts() {
    let world = World::new();
    world.run(&owner(), create_keystore(VAULT)).expect("the token is free");
    enable(&world, VAULT);
    let stranger = caller("zeta", "cn-north-4");
    assert_eq!(world.run(&stranger, create_keystore(VAULT)).err(), Some(Error::KeystoreExists));
    let keystore_id = keystore(VAULT);
    let refused: [Option<Error>; 5] = [
        world.run(&stranger, DescribeKeystore { keystore_id: keystore_id.clone() }).err(),
        world.run(&stranger, EnableKeystore { keystore_id: keystore_id.clone() }).err(),
        world.run(&stranger, DisableKeystore { keystore_id: keystore_id.clone() }).err(),
        world.run(&stranger, DeleteKeystore { keystore_id }).err(),
        world.run(&stranger, on(VAULT, "key")).err(),
    ];
    assert_eq!(refused, [const { Some(Error::KeystoreNotFound) }; 5]);
    let list = |who: &Caller| {
        let window = ListWindow::parse(0, 0).expect("a window");
        world.run(who, ListKeystores { window }).expect("may list").total
    };
    assert_eq!((list(&owner()), list(&stranger)), (1, 0));
    let unknown = world.run(&owner(), create_keystore("cellar")).expect_err("not configured");
    assert_eq!(unknown.code(), "INVALID_FIELD");
}

#[test]
fn only_a_disabled_and_empty_keystore_is_let_go() {
    let (world, key) = world_with_key();
    assert_eq!(delete(&world, VAULT), Some(Error::KeystoreNotDisabled));
    disable(&world, VAULT);
    assert_eq!(delete(&world, VAULT), Some(Error::KeystoreNotEmpty));
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: (key.id).into(), pending }).expect("enabled");
    assert_eq!(delete(&world, VAULT), Some(Error::KeystoreNotEmpty), "its deletion can be cancelled");

    world.run(&owner(), create_keystore(SPARE)).expect("the token is free");
    assert_eq!(delete(&world, SPARE), None);
    world.run(&caller("zeta", "cn-north-4"), create_keystore(SPARE)).expect("free again");
}

#[test]
fn a_key_that_is_being_made_holds_its_keystore() {
    let world = World::new();
    world.run(&owner(), create_keystore(VAULT)).expect("the token is free");
    enable(&world, VAULT);
    // Between the making of the key and its commit the keystore is disabled and let go.
    let sibling = world.sibling();
    world.store.instead_of_commit(move |store, transaction| {
        let let_go = || {
            disable(&sibling, VAULT);
            assert_eq!(delete(&sibling, VAULT), None);
        };
        thread::scope(|scope| scope.spawn(let_go).join()).expect("the sibling works");
        now(store.transact(transaction))
    });
    let refused = world.run(&owner(), on(VAULT, "key")).expect_err("nothing is left to make it on");
    assert_eq!(refused, Error::KeystoreNotFound);
    assert!(world.store.under(b"k/").is_empty());
}

#[test]
fn keys_of_keystores_are_not_imported_and_not_bound_to_a_budget() {
    let settings = Settings { aes_256: Scheme::InHsm, in_hsm_budget: 1, ..Settings::default() };
    let world = World::with(settings);
    world.run(&owner(), create_keystore(VAULT)).expect("the token is free");
    enable(&world, VAULT);
    let external = CreateKey { origin: KeyOrigin::External, ..on(VAULT, "external") };
    assert_eq!(world.run(&owner(), external).err(), Some(Error::KeystoreUnsupported));
    let key = world.run(&owner(), on(VAULT, "key")).expect("enabled");
    assert_eq!(key.versions[0].scheme, Scheme::DerivedKey);
    for _ in 0..3 {
        seal(&world, key.id).expect("no budget ends");
    }
}

#[test]
fn the_rotation_of_the_services_root_passes_them_by() {
    let (world, key) = world_with_key();
    let own = world.key(&owner(), "own");
    let sealed = seal(&world, key.id).expect("enabled");
    let operator = Caller::operator(owner().user, [9; 32], owner().source);
    world.run(&operator, RotateRoot { keep_old_root: false }).expect("a new root key");
    let old = block_on(world.service.keys_under_old_roots(None, 100)).expect("read").keys;
    assert_eq!(old, [own.id]);
    block_on(world.service.rewrap_key(own.id)).expect("moved");
    block_on(world.service.rewrap_key(key.id)).expect("nothing to do");
    assert_eq!(world.tokens[0].calls().rewrap, 0);
    block_on(world.service.forget_roots()).expect("no key needs the old one");
    block_on(world.service.destroy_roots()).expect("destroyed");
    open(&world, &sealed).expect("its token has its own root key");
}

#[test]
fn a_lost_token_stops_its_own_keys_only() {
    let (world, key) = world_with_key();
    let own = world.key(&owner(), "own");
    let lost = HsmError::Unavailable { function: "C_Sign", detail: "gone".to_owned() };
    world.tokens[0].fail_next(lost.clone());
    assert_eq!(seal(&world, key.id), Err(Error::HsmUnavailable(lost)));
    seal(&world, own.id).expect("the service's own token works");
    block_on(world.service.probe()).expect("the service works");
}

#[test]
fn another_token_in_the_place_of_a_keystores_is_refused() {
    let (world, key) = world_with_key();
    let sealed = seal(&world, key.id).expect("enabled");
    let swapped = |tokens: [Arc<FakeHsm>; 2], store: &Arc<SpyStore>| {
        World::start(world.hsm.clone(), tokens, store.clone(), Settings::default()).expect("it starts")
    };
    let [vault, spare] = world.tokens.clone();
    let other = swapped([spare, vault], &world.store);
    for refused in [
        open(&other, &sealed).expect_err("a wrapped key of another token"),
        seal(&other, key.id).expect_err("a wrapped key of another token"),
        other.run(&owner(), on(VAULT, "second")).expect_err("keys would lie on two tokens"),
    ] {
        assert_eq!(refused.code(), "HSM_UNAVAILABLE");
    }
    disable(&other, VAULT);
    let enable = EnableKeystore { keystore_id: keystore(VAULT) };
    assert_eq!(other.run(&owner(), enable).expect_err("another token").code(), "HSM_UNAVAILABLE");
    other.key(&owner(), "own");
}
