//! Tags: their rules, and what is found by them.

use std::collections::{BTreeMap, BTreeSet};

use kms_core::{
    Error,
    key::{KeyId, KeyRecord},
    ops::{
        BatchCreateTags, BatchDeleteTags, CreateKey, CreateTag, DeleteTag, ListKeysByTags, ListProjectTags,
        ListTags, ListWindow, PageSize, PendingDays, ScheduleKeyDeletion, TagFilter, TagKey, TagValue,
        TaggedKeys, Tags,
    },
};
use proptest::prelude::*;

use crate::support::{World, caller, create, generate, obs, owner};

type Pairs<'a> = &'a [(&'a str, &'a str)];

impl World {
    fn tag(&self, key: KeyId, pairs: Pairs<'_>) -> Result<KeyRecord, Error> {
        let tags = Tags::parse(pairs.iter().copied()).expect("tags");
        self.run(&owner(), BatchCreateTags::new(key.into(), tags).expect("not empty"))
    }

    fn untag(&self, key: KeyId, keys: &[&str]) -> Result<KeyRecord, Error> {
        let keys = keys.iter().map(|key| tag_key(key)).collect();
        self.run(&owner(), BatchDeleteTags::new(key.into(), keys).expect("not empty"))
    }

    fn tags_of(&self, key: KeyId) -> Vec<(String, String)> {
        self.run(&owner(), ListTags { key: key.into() }).expect("it exists").into_iter().collect()
    }

    /// All tags of the region, read by pages of this size.
    fn all_tags(&self, size: u32) -> BTreeMap<String, BTreeSet<String>> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let (size, mut token) = (PageSize::parse(size).expect("a size"), None);
        loop {
            let page = self.run(&owner(), ListProjectTags { size, token }).expect("a page");
            for (key, values) in page.tags {
                let known = all.entry(key).or_default();
                for value in values {
                    assert!(known.insert(value), "each pair once");
                }
            }
            token = page.next;
            if token.is_none() {
                return all;
            }
        }
    }

    fn find(&self, filters: &[(&str, &[&str])], part: &str, window: Option<(u32, u32)>) -> TaggedKeys {
        let filters = filters.iter().map(|(key, values)| filter(key, values)).collect();
        let window = window.map(|(limit, offset)| ListWindow::parse(limit, offset).expect("a window"));
        let search = ListKeysByTags::new(filters, part.to_owned(), window).expect("a search");
        self.run(&owner(), search).expect("found")
    }

    fn ids(&self, filters: &[(&str, &[&str])], part: &str) -> Vec<KeyId> {
        let found = self.find(filters, part, Some((1000, 0)));
        let ids: Vec<_> = found.keys.into_iter().map(|key| key.id).collect();
        assert_eq!(found.total, ids.len());
        ids
    }
}

fn tag_key(text: &str) -> TagKey {
    TagKey::parse(text).expect("a key")
}

fn filter(key: &str, values: &[&str]) -> TagFilter {
    let values = values.iter().map(|value| TagValue::parse(value).expect("a value"));
    TagFilter { key: tag_key(key), values: values.collect() }
}

fn owned(pairs: Pairs<'_>) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn tags_come_change_and_go_all_or_none() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.run(&owner(), CreateTag::new(key.into(), "team", "shop").expect("a tag")).expect("the first");
    world.tag(key, &[("team", "web"), ("stage", "")]).expect("one new, one replaced");
    assert_eq!(world.tags_of(key), owned(&[("stage", ""), ("team", "web")]));
    assert!(world.ids(&[("team", &["shop"])], "").is_empty(), "replaced");
    assert_eq!(world.ids(&[("team", &["web"])], ""), [key]);
    assert_eq!(world.untag(key, &["team", "none"]), Err(Error::TagNotFound));
    assert_eq!(world.tags_of(key).len(), 2, "all or none");
    let delete = DeleteTag { key: key.into(), tag_key: tag_key("team") };
    world.run(&owner(), delete.clone()).expect("it has it");
    assert_eq!(world.run(&owner(), delete), Err(Error::TagNotFound));
    world.untag(key, &["stage"]).expect("it has it");
    assert!(world.store.under(b"y/").is_empty(), "no entry is left");
}

#[test]
fn a_key_has_at_most_twenty_tags() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let names: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
    let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    world.tag(key, &pairs).expect("twenty");
    let refused = world.tag(key, &[("k0", "w"), ("more", "")]).expect_err("over the quota");
    assert_eq!(refused.to_string(), "tags of the key quota of 20 is used up: 20 in use");
    assert!(world.tags_of(key).iter().all(|(_, value)| value == "v"), "nothing changed");
    world.tag(key, &[("k0", "w")]).expect("another value is not one more");
}

#[test]
fn default_keys_have_no_tags_and_keys_that_wait_for_their_deletion_get_none() {
    let world = World::new();
    let default = world.run(&owner(), generate(obs())).expect("made on first use").sealed.key_id;
    assert_eq!(world.tag(default, &[("a", "")]), Err(Error::DefaultKeyImmutable));
    assert_eq!(world.untag(default, &["a"]), Err(Error::DefaultKeyImmutable));
    let tags = Tags::parse([("a", "1"), ("b", "2")]).expect("tags");
    let dying = world.run(&owner(), CreateKey { tags, ..create("dying") }).expect("free").id;
    assert_eq!(world.ids(&[("a", &[]), ("b", &["2"])], ""), [dying], "at once with the key");
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: dying.into(), pending }).expect("enabled");
    assert_eq!(world.tag(dying, &[("c", "")]), Err(Error::KeyPendingDeletion));
    assert_eq!(world.untag(dying, &["a"]), Err(Error::KeyPendingDeletion));
    world.run(&owner(), DeleteTag { key: dying.into(), tag_key: tag_key("a") }).expect("always");
    assert_eq!(world.ids(&[("b", &[])], ""), [dying]);
    world.clock.advance(std::time::Duration::from_secs(8 * 86_400));
    assert!(world.find(&[("b", &[])], "", Some((10, 0))).keys.is_empty(), "its time is over");
}

#[test]
fn nobody_finds_the_keys_of_others() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.tag(key, &[("team", "shop")]).expect("few");
    for stranger in [caller("zeta", "cn-north-4"), caller("acme", "cn-east-3")] {
        for filters in [vec![filter("team", &["shop"])], vec![filter("team", &[])], vec![]] {
            let window = Some(ListWindow::parse(0, 0).expect("a window"));
            let search = ListKeysByTags::new(filters, String::new(), window).expect("a search");
            assert_eq!(world.run(&stranger, search).expect("nothing"), TaggedKeys { total: 0, keys: vec![] });
        }
        let size = PageSize::parse(0).expect("a size");
        let page = world.run(&stranger, ListProjectTags { size, token: None }).expect("nothing");
        assert!(page.tags.is_empty() && page.next.is_none());
        assert_eq!(world.run(&stranger, ListTags { key: key.into() }), Err(Error::KeyNotFound));
    }
}

#[test]
fn keys_are_sought_and_counted_without_reading_their_records() {
    let world = World::new();
    for number in 0..20 {
        let key = world.key(&owner(), &format!("key-{number}")).id;
        world.tag(key, &[("team", if number % 2 == 0 { "even" } else { "odd" }), ("all", "x")]).expect("few");
    }
    world.store.before_read(b"k/", || panic!("a record was read"));
    assert_eq!(world.find(&[("team", &["even"]), ("all", &["y"])], "", Some((10, 0))).total, 0);
    assert_eq!(world.find(&[("team", &["even"]), ("all", &["x"])], "", None).total, 10);
}

/// Which of three keys a tag has, and which of three values.
fn few_tags() -> impl Strategy<Value = BTreeMap<usize, usize>> {
    proptest::collection::btree_map(0..3_usize, 0..3_usize, 0..=3)
}

const KEYS: [&str; 3] = ["team", "stage", "größe"];
const VALUES: [&str; 3] = ["", "a", "b"];
const ALIASES: [&str; 3] = ["orders", "orders-new", "payments"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_a_look_at_every_key_finds(
        keys in proptest::collection::vec((few_tags(), few_tags(), 0..3_usize), 0..12),
        wanted in proptest::collection::btree_map(0..3_usize, proptest::collection::vec(0..3_usize, 0..3), 0..=3),
        part in prop_oneof![Just(""), Just("order"), Just("new"), Just("nothing")],
        (limit, offset) in (1..6_u32, 0..6_u32),
        page_size in 1..5_u32,
    ) {
        let world = World::new();
        let mut made = Vec::new();
        for (number, (first, second, alias)) in keys.iter().enumerate() {
            let alias = format!("{}-{number}", ALIASES[*alias]);
            let pairs = |tags: &BTreeMap<usize, usize>| -> Vec<(&str, &str)> {
                tags.iter().map(|(key, value)| (KEYS[*key], VALUES[*value])).collect()
            };
            let tags = Tags::parse(pairs(first)).expect("tags");
            let id = world.run(&owner(), CreateKey { tags, ..create(&alias) }).expect("free").id;
            let mut tags: BTreeMap<&str, &str> = pairs(first).into_iter().collect();
            if !second.is_empty() {
                world.tag(id, &pairs(second)).expect("few");
                tags.extend(pairs(second));
            }
            made.push((id, alias, tags));
        }
        made.sort();
        let values = |numbers: &Vec<usize>| numbers.iter().map(|number| VALUES[*number]).collect::<Vec<_>>();
        let wanted: Vec<(&str, Vec<&str>)> =
            wanted.iter().map(|(key, numbers)| (KEYS[*key], values(numbers))).collect();
        let filters: Vec<(&str, &[&str])> = wanted.iter().map(|(key, values)| (*key, &values[..])).collect();
        let fits = |tags: &BTreeMap<&str, &str>| filters.iter().all(|(key, values)| {
            tags.get(key).is_some_and(|value| values.is_empty() || values.contains(value))
        });
        let expected: Vec<KeyId> = made
            .iter()
            .filter(|(_, alias, tags)| alias.contains(part) && fits(tags))
            .map(|(id, ..)| *id)
            .collect();
        prop_assert_eq!(&world.ids(&filters, part), &expected);
        prop_assert_eq!(world.find(&filters, part, None).total, expected.len());
        let window = world.find(&filters, part, Some((limit, offset)));
        let shown: Vec<KeyId> = window.keys.iter().map(|key| key.id).collect();
        let part_of: Vec<KeyId> =
            expected.iter().copied().skip(offset as usize).take(limit as usize).collect();
        prop_assert_eq!((window.total, shown), (expected.len(), part_of));
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (key, value) in made.iter().flat_map(|(.., tags)| tags) {
            all.entry((*key).to_owned()).or_default().insert((*value).to_owned());
        }
        prop_assert_eq!(world.all_tags(page_size), all);
    }
}
