//! Further aliases: their rules, who has one at every moment, and how they are listed.

use kms_core::{
    Error,
    key::{KeyId, KeyRecord},
    ops::{
        Alias, AliasEntry, AssociateAlias, CreateAlias, DeleteAlias, DescribeKey, KeySelector, ListAliases,
        PageSize, PendingDays, ScheduleKeyDeletion, UpdateKeyAlias,
    },
};
use std::time::Duration;

use crate::support::{World, alias, caller, create, further, generate, now, obs, owner};

impl World {
    fn name(&self, key: KeyId, name: &str) -> Result<AliasEntry, Error> {
        self.run(&owner(), CreateAlias { key: key.into(), alias: further(name) })
    }

    fn associate(&self, name: &str, target: KeyId) -> Result<AliasEntry, Error> {
        self.run(&owner(), AssociateAlias { alias: further(name), target: target.into() })
    }

    fn unname(&self, key: KeyId, names: &[&str]) -> Result<KeyRecord, Error> {
        let aliases = names.iter().map(|name| further(name)).collect();
        self.run(&owner(), DeleteAlias::new(key.into(), aliases).expect("an alias"))
    }

    fn id_of(&self, name: &str) -> Result<KeyId, Error> {
        self.run(&owner(), DescribeKey { key: alias(name) }).map(|record| record.id)
    }

    /// All further aliases of the region or of one key, read by pages of two.
    fn aliases(&self, key: Option<KeyId>) -> Vec<(String, KeyId)> {
        let (mut listed, mut token) = (Vec::new(), None);
        loop {
            let size = PageSize::parse(2).expect("a size");
            let page = ListAliases { key: key.map(KeySelector::Id), size, token };
            let page = self.run(&owner(), page).expect("a page");
            assert!(page.aliases.len() <= 2);
            listed.extend(page.aliases.into_iter().map(|entry| (entry.alias, entry.key_id)));
            let Some(next) = page.next else { return listed };
            token = Some(next);
        }
    }
}

#[test]
fn a_further_alias_names_its_key_until_it_is_deleted() {
    let world = World::new();
    let (one, other) = (world.key(&owner(), "one").id, world.key(&owner(), "other").id);
    let made = world.name(one, "alias/a").expect("free");
    assert_eq!(made.urn(), "kms:cn-north-4:acme:alias:alias/a");
    assert_eq!((world.id_of("alias/a"), world.id_of(&made.urn())), (Ok(one), Ok(one)));
    for key in [one, other] {
        assert_eq!(world.name(key, "alias/a"), Err(Error::AliasExists));
    }
    assert_eq!(world.run(&owner(), create("alias/a")), Err(Error::AliasExists));
    assert_eq!(world.unname(other, &["alias/a"]), Err(Error::AliasNotFound));
    world.name(one, "alias/b").expect("free");
    assert_eq!(world.unname(one, &["alias/b", "alias/c"]), Err(Error::AliasNotFound));
    assert_eq!(world.id_of("alias/b"), Ok(one), "all or none");
    assert!(world.unname(one, &["alias/b", "alias/a"]).expect("both are its own").aliases.is_empty());
    assert_eq!(world.id_of("alias/a"), Err(Error::KeyNotFound));
    world.name(other, "alias/a").expect("free again");
}

#[test]
fn first_aliases_and_default_keys_are_not_for_these_calls() {
    let world = World::new();
    let first = world.key(&owner(), "alias/first").id;
    let other = world.key(&owner(), "other").id;
    assert_eq!(world.unname(first, &["alias/first"]), Err(Error::AliasNotFound));
    assert_eq!(world.associate("alias/first", other), Err(Error::AliasNotFound));
    assert_eq!(world.associate("alias/nobody", other), Err(Error::AliasNotFound));
    assert!(world.aliases(None).is_empty());
    world
        .run(
            &owner(),
            UpdateKeyAlias { key: first.into(), alias: Alias::parse("alias/x").expect("an alias") },
        )
        .expect("free");
    let default = world.run(&owner(), generate(obs())).expect("made on first use").sealed.key_id;
    world.name(other, "alias/a").expect("free");
    assert_eq!(world.name(default, "alias/b"), Err(Error::DefaultKeyImmutable));
    assert_eq!(world.associate("alias/a", default), Err(Error::DefaultKeyImmutable));
    assert_eq!(world.unname(default, &["alias/a"]), Err(Error::DefaultKeyImmutable));
}

#[test]
fn a_key_has_at_most_fifty() {
    let world = World::new();
    let (full, other) = (world.key(&owner(), "full").id, world.key(&owner(), "other").id);
    let names: Vec<String> = (0..50).map(|number| format!("alias/{number:02}")).collect();
    for name in &names {
        world.name(full, name).expect("below the quota");
    }
    let refused = world.name(full, "alias/one-more").expect_err("over the quota");
    assert_eq!(refused.to_string(), "aliases of the key quota of 50 is used up: 50 in use");
    world.name(other, "alias/one-more").expect("another key");
    assert_eq!(world.associate("alias/one-more", full).expect_err("over the quota").code(), "QUOTA_EXCEEDED");
    assert_eq!(world.id_of("alias/one-more"), Ok(other));
    world.associate("alias/07", full).expect("it has it");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(world.unname(full, &names).expect("all at once").aliases.is_empty());
}

#[test]
fn an_alias_moves_in_one_step_and_keeps_its_age() {
    let world = World::new();
    let (one, other) = (world.key(&owner(), "one").id, world.key(&owner(), "other").id);
    let made = world.name(one, "alias/a").expect("free");
    world.clock.advance(Duration::from_secs(60));
    let moved = world.associate("alias/a", other).expect("there is one");
    assert_eq!((moved.key_id, moved.times.created), (other, made.times.created));
    assert!(moved.times.updated > made.times.updated);
    let commits = world.store.commits();
    assert_eq!(world.associate("alias/a", other), Ok(moved), "nothing changes");
    assert!(world.store.commits() <= commits + 1);
    assert_eq!((world.id_of("alias/a"), world.aliases(Some(one))), (Ok(other), vec![]));
    world.associate("alias/a", one).expect("and back");
    assert_eq!((world.id_of("alias/a"), world.aliases(Some(other))), (Ok(one), vec![]));
}

#[test]
fn an_alias_can_leave_a_key_that_waits_for_its_deletion_and_not_come_to_it() {
    let world = World::new();
    let (dying, other) = (world.key(&owner(), "dying").id, world.key(&owner(), "other").id);
    for name in ["alias/a", "alias/b"] {
        world.name(dying, name).expect("free");
    }
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: dying.into(), pending }).expect("enabled");
    assert_eq!(world.name(dying, "alias/c"), Err(Error::KeyPendingDeletion));
    world.associate("alias/a", other).expect("away from it");
    assert_eq!(world.associate("alias/a", dying), Err(Error::KeyPendingDeletion));
    world.unname(dying, &["alias/b"]).expect("always");
    assert_eq!(world.aliases(None), [("alias/a".to_owned(), other)]);
}

#[test]
fn two_creations_of_one_name_at_once_have_one_winner() {
    let world = World::new();
    let (one, other) = (world.key(&owner(), "one").id, world.key(&owner(), "other").id);
    let rival = world.sibling();
    world.store.instead_of_commit(move |store, transaction| {
        let rivals = CreateAlias { key: other.into(), alias: further("alias/same") };
        now(rival.begin(&owner(), rivals)).expect("nobody is faster");
        now(kms_core::ports::KeyStore::transact(store, transaction))
    });
    assert_eq!(world.name(one, "alias/same"), Err(Error::AliasExists));
    assert_eq!(world.id_of("alias/same"), Ok(other));
    assert_eq!(world.aliases(None), [("alias/same".to_owned(), other)]);
}

#[test]
fn a_move_that_met_another_move_takes_the_name_from_who_has_it_now() {
    let world = World::new();
    let [one, two, three] = ["one", "two", "three"].map(|name| world.key(&owner(), name).id);
    world.name(one, "alias/a").expect("free");
    let rival = world.sibling();
    world.store.instead_of_commit(move |store, transaction| {
        let rivals = AssociateAlias { alias: further("alias/a"), target: two.into() };
        now(rival.begin(&owner(), rivals)).expect("nobody is faster");
        now(kms_core::ports::KeyStore::transact(store, transaction))
    });
    world.associate("alias/a", three).expect("tried again");
    assert_eq!(world.id_of("alias/a"), Ok(three));
    assert_eq!([one, two].map(|key| world.aliases(Some(key))), [vec![], vec![]]);
}

#[test]
fn a_call_by_a_name_that_moves_meanwhile_uses_the_one_key_or_the_other() {
    let world = World::new();
    let (one, other) = (world.key(&owner(), "one").id, world.key(&owner(), "other").id);
    world.name(one, "alias/a").expect("free");
    let rival = world.sibling();
    // The name was read, its key was not.
    world.store.before_read(b"k/", move || {
        let moves = AssociateAlias { alias: further("alias/a"), target: other.into() };
        now(rival.begin(&owner(), moves)).expect("nobody is faster");
    });
    let used = world.run(&owner(), generate(alias("alias/a"))).expect("at every moment it names a key");
    assert_eq!(used.sealed.key_id, other);
}

#[test]
fn aliases_are_listed_by_pages_in_order_and_only_to_their_own() {
    let world = World::new();
    let (one, other) = (world.key(&owner(), "one").id, world.key(&owner(), "alias/bb").id);
    let expected: Vec<_> = [("alias/a", one), ("alias/b", other), ("alias/c", one), ("alias/d", other)]
        .map(|(name, key)| (name.to_owned(), key))
        .to_vec();
    for (name, key) in expected.iter().rev() {
        world.name(*key, name).expect("free");
    }
    assert_eq!(world.aliases(None), expected);
    let of_one: Vec<_> = expected.iter().filter(|(_, key)| *key == one).cloned().collect();
    assert_eq!(world.aliases(Some(one)), of_one);
    for stranger in [caller("zeta", "cn-north-4"), caller("acme", "cn-east-3")] {
        let size = PageSize::parse(0).expect("a size");
        let all = ListAliases { key: None, size, token: None };
        assert!(world.run(&stranger, all.clone()).expect("a page").aliases.is_empty());
        let of_key = ListAliases { key: Some(one.into()), ..all };
        assert_eq!(world.run(&stranger, of_key), Err(Error::KeyNotFound));
        let take = AssociateAlias { alias: further("alias/a"), target: one.into() };
        assert_eq!(world.run(&stranger, take), Err(Error::KeyNotFound));
    }
}
