//! Listing by pages: every key that the caller may see, once, for all page sizes and filters.

use kms_core::{
    Error,
    error::Field,
    key::{KeyId, KeySpec, KeyState},
    ops::{
        BatchCreateTags, CountKeys, CreateKey, DescribeQuotas, DisableKey, KeySelector, ListKeys,
        ListKeysByTags, ListKeysInWindow, ListProjectTags, ListWindow, Operation, PageSize, PageToken,
        TagFilter, TagKey, Tags,
    },
};
use proptest::prelude::*;

use crate::support::{World, caller, create, finish, generate, owner, poll};

/// A key to be made: by the owner or by strangers, with a state and an algorithm.
#[derive(Debug, Clone)]
struct Made {
    whose: usize,
    disabled: bool,
    spec: KeySpec,
}

fn made() -> impl Strategy<Value = Made> {
    (0..3_usize, any::<bool>(), prop_oneof![Just(KeySpec::Aes256), Just(KeySpec::Sm4)])
        .prop_map(|(whose, disabled, spec)| Made { whose, disabled, spec })
}

fn state() -> impl Strategy<Value = Option<KeyState>> {
    prop_oneof![Just(None), Just(Some(KeyState::Enabled)), Just(Some(KeyState::Disabled))]
}

fn spec() -> impl Strategy<Value = Option<KeySpec>> {
    prop_oneof![Just(None), Just(Some(KeySpec::Aes256)), Just(Some(KeySpec::Sm4))]
}

/// Makes the keys; answers the owner's, in no order.
fn fill(world: &World, keys: &[Made], services: &[&str]) -> Vec<(KeyId, KeyState, KeySpec)> {
    let callers = [owner(), caller("zeta", "cn-north-4"), caller("acme", "cn-east-3")];
    let mut visible = Vec::new();
    for service in services {
        let key = KeySelector::service(service).expect("a known service");
        let id = world.run(&owner(), generate(key)).expect("made on first use").sealed.key_id;
        visible.push((id, KeyState::Enabled, KeySpec::Aes256));
    }
    for (number, key) in keys.iter().enumerate() {
        let caller = &callers[key.whose];
        let request = CreateKey { spec: key.spec, ..create(&format!("key-{number}")) };
        let key_id = world.run(caller, request).expect("a free name").id;
        let mut state = KeyState::Enabled;
        if key.disabled {
            state = world.run(caller, DisableKey { key: key_id.into() }).expect("enabled before").state;
        }
        if key.whose == 0 {
            visible.push((key_id, state, key.spec));
        }
    }
    visible
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_visible_key_is_listed_once(
        keys in prop::collection::vec(made(), 0..14),
        services in prop::sample::subsequence(vec!["obs", "evs", "rds", "csms"], 0..=4),
        size in 1..8_u32,
        state in state(),
        spec in spec(),
    ) {
        let world = World::new();
        let mut expected: Vec<KeyId> = fill(&world, &keys, &services)
            .into_iter()
            .filter(|key| state.is_none_or(|state| state == key.1) && spec.is_none_or(|spec| spec == key.2))
            .map(|key| key.0)
            .collect();
        let (mut listed, mut token) = (Vec::new(), None);
        for page_number in 0.. {
            prop_assert!(page_number <= keys.len() + services.len(), "the pages do not end");
            let request = ListKeys { size: PageSize::parse(size).expect("a size"), token, state, spec };
            let page = world.run(&owner(), request).expect("listed");
            prop_assert!(page.keys.len() <= size as usize);
            listed.extend(page.keys.into_iter().map(|key| key.id));
            let Some(next) = page.next else { break };
            token = PageToken::parse(&next.encode()).expect("its own token");
            prop_assert_eq!(token.as_ref(), Some(&next), "a token survives its text");
        }
        expected.sort_unstable();
        listed.sort_unstable();
        prop_assert_eq!(listed, expected);
    }

    #[test]
    fn a_token_that_was_altered_or_made_up_opens_nothing(
        made_up in prop::collection::vec(any::<u8>(), 0..288),
        altered in any::<prop::sample::Index>(),
    ) {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let world = World::new();
        let list = |size, token| {
            let size = PageSize::parse(size).expect("a size");
            world.run(&owner(), ListKeys { size, token, state: None, spec: None })
        };
        fill(&world, &[], &["obs", "evs"]);
        let token = list(1, None).expect("listed").next.expect("more follow").encode();
        let mut bytes = URL_SAFE_NO_PAD.decode(token).expect("as it was encoded");
        let place = altered.index(bytes.len());
        bytes[place] ^= 1;
        for bytes in [bytes, made_up].into_iter().filter(|bytes| !bytes.is_empty()) {
            let token = PageToken::parse(&URL_SAFE_NO_PAD.encode(bytes)).expect("well-formed");
            let refused = list(0, token).expect_err("not its own");
            let is_typed = matches!(refused, Error::InvalidField { field: Field::PageToken, .. });
            prop_assert!(is_typed, "{:?}", refused);
        }
    }
}

/// A store that answers from memory lets a call have everything at once, however much that is.
#[test]
fn whoever_reads_whole_lists_lets_others_run_meanwhile() {
    fn gives_way<O: Operation>(world: &World, operation: O) {
        world.audit.hold();
        let mut running = world.begin(&owner(), operation);
        assert!(poll(&mut running).is_pending());
        assert_eq!(world.audit.held(), 0, "{:?} ended in one go", O::NAME);
        world.audit.release();
        finish(running).map(drop).expect("it goes on");
    }
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let tags = || Tags::parse([("env", "test")]).expect("tags");
    world.run(&owner(), BatchCreateTags::new(key.into(), tags()).expect("not empty")).expect("tagged");
    gives_way(&world, CountKeys);
    gives_way(&world, DescribeQuotas);
    let (window, size) = (ListWindow::parse(10, 0).expect("a window"), PageSize::parse(10).expect("a size"));
    gives_way(&world, ListKeysInWindow { window, state: None, spec: None });
    gives_way(&world, ListProjectTags { size, token: None });
    let filter = TagFilter { key: TagKey::parse("env").expect("a key"), values: Vec::new() };
    let search = ListKeysByTags::new(vec![filter], String::new(), Some(window)).expect("a search");
    gives_way(&world, search);
}
