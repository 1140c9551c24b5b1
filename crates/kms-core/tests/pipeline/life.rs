//! Random lives of keys against a model that is small enough to be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_executor::block_on;
use kms_core::{
    Error,
    key::{KeyId, KeyOrigin, KeyState},
    ops::{
        Alias, CancelKeyDeletion, CreateAlias, CreateKey, CreateTag, DecryptDataKey, DeleteAlias,
        DeleteImportedKeyMaterial, DeleteTag, DescribeKey, DisableKey, EnableKey, GetParametersForImport,
        ImportKeyMaterial, KeySelector, ListKeys, PageSize, PendingDays, RotateKeyOnDemand,
        ScheduleKeyDeletion, TagKey, UpdateKeyAlias, WrappingAlgorithm,
    },
};
use proptest::prelude::*;

use crate::support::{World, context, create, further, generate, grant, owner, wrapped_material};

const NAMES: [&str; 3] = ["a", "b", "c"];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One thing that happens. Numbers choose one of the keys that were made so far, and a name.
#[derive(Debug, Clone, Copy)]
enum Event {
    Create { name: usize, external: bool },
    Enable(usize),
    Disable(usize),
    Schedule(usize, u32),
    Cancel(usize),
    Rename(usize, usize),
    Seal(usize),
    Open(usize),
    Rotate(usize),
    Import(usize, u32),
    DeleteMaterial(usize),
    Name(usize, usize),
    Unname(usize, usize),
    Tag(usize),
    Untag(usize),
    Grant(usize),
    Pass(u32),
    Restart,
}

fn events() -> impl Strategy<Value = Event> {
    let key = || 0..4_usize;
    prop_oneof![
        3 => (0..NAMES.len(), prop::bool::weighted(0.4)).prop_map(|(name, external)| Event::Create { name, external }),
        2 => key().prop_map(Event::Enable),
        2 => key().prop_map(Event::Disable),
        3 => (key(), 7..12_u32).prop_map(|(key, days)| Event::Schedule(key, days)),
        2 => key().prop_map(Event::Cancel),
        2 => (key(), 0..NAMES.len()).prop_map(|(key, name)| Event::Rename(key, name)),
        3 => key().prop_map(Event::Seal),
        2 => key().prop_map(Event::Open),
        2 => key().prop_map(Event::Rotate),
        5 => (key(), 1..12_u32).prop_map(|(key, days)| Event::Import(key, days)),
        1 => key().prop_map(Event::DeleteMaterial),
        2 => (key(), 0..NAMES.len()).prop_map(|(key, name)| Event::Name(key, name)),
        1 => (key(), 0..NAMES.len()).prop_map(|(key, name)| Event::Unname(key, name)),
        2 => key().prop_map(Event::Tag),
        1 => key().prop_map(Event::Untag),
        2 => key().prop_map(Event::Grant),
        3 => (1..10_u32).prop_map(Event::Pass),
        1 => Just(Event::Restart),
    ]
}

/// What the model knows of a key.
#[derive(Debug, Clone)]
struct Known {
    id: KeyId,
    name: usize,
    state: KeyState,
    external: bool,
    /// The day on which it is destroyed.
    due: Option<u32>,
    gone: bool,
    sealed: Option<Vec<u8>>,
    /// How many versions it has: none without material.
    versions: usize,
    /// The day on which its material expires.
    expires: Option<u32>,
    /// Its further aliases.
    names: BTreeSet<usize>,
    tagged: bool,
    grants: usize,
}

impl Known {
    fn new(id: KeyId, name: usize, external: bool) -> Self {
        Self {
            id,
            name,
            state: if external { KeyState::PendingImport } else { KeyState::Enabled },
            external,
            due: None,
            gone: false,
            sealed: None,
            versions: usize::from(!external),
            expires: None,
            names: BTreeSet::new(),
            tagged: false,
            grants: 0,
        }
    }

    fn lose_material(&mut self) {
        (self.versions, self.expires) = (0, None);
        if self.state != KeyState::PendingDeletion {
            self.state = KeyState::PendingImport;
        }
    }
}

/// What should be: the day, and all keys that were ever made.
#[derive(Debug, Default)]
struct Model {
    today: u32,
    keys: Vec<Known>,
}

impl Model {
    fn is_taken(&self, name: usize) -> bool {
        self.keys.iter().any(|key| !key.gone && key.name == name)
    }

    /// Answers whether material expires by it.
    fn pass(&mut self, days: u32) -> bool {
        self.today += days;
        let mut expired = false;
        for key in &mut self.keys {
            key.gone |= key.due.is_some_and(|due| due <= self.today);
            if !key.gone && key.expires.is_some_and(|day| day <= self.today) {
                expired = true;
                key.lose_material();
            }
        }
        expired
    }

    /// What a call about this key answers, by DEW's words; a legal one changes the model.
    fn answer(&mut self, event: Event) -> Result<(), &'static str> {
        use KeyState::{Disabled, Enabled, PendingDeletion, PendingImport};
        let (today, taken): (u32, Vec<bool>) =
            (self.today, (0..NAMES.len()).map(|name| self.is_taken(name)).collect());
        let names: BTreeSet<usize> =
            self.keys.iter().filter(|key| !key.gone).flat_map(|key| key.names.clone()).collect();
        let Some(number) = key_of(event) else { return Ok(()) };
        let key = &mut self.keys[number];
        if key.gone {
            return Err("KEY_NOT_FOUND");
        }
        match (event, key.state) {
            (Event::Enable(_), Disabled) => key.state = Enabled,
            (Event::Enable(_), _) => return Err("KEY_NOT_DISABLED"),
            (Event::Disable(_), Enabled) => key.state = Disabled,
            (Event::Disable(_), _) => return Err("KEY_NOT_ENABLED"),
            (Event::Schedule(..), PendingDeletion) => return Err("KEY_ALREADY_PENDING_DELETION"),
            (Event::Schedule(_, days), _) => (key.state, key.due) = (PendingDeletion, Some(today + days)),
            (Event::Cancel(_), PendingDeletion) => {
                (key.state, key.due) = (if key.versions == 0 { PendingImport } else { Disabled }, None);
            }
            (Event::Cancel(_), _) => return Err("KEY_NOT_PENDING_DELETION"),
            (Event::Rename(..) | Event::Name(..) | Event::Tag(_), PendingDeletion) => {
                return Err("KEY_PENDING_DELETION");
            }
            (Event::Rename(_, name), _) if taken[name] && key.name != name => return Err("ALIAS_EXISTS"),
            (Event::Rename(_, name), _) => key.name = name,
            (Event::Import(..) | Event::DeleteMaterial(_), _) if !key.external => {
                return Err("EXTERNAL_KEY_REQUIRED");
            }
            (Event::Import(_, days), PendingImport) => {
                (key.state, key.versions, key.expires) = (Enabled, 1, Some(today + days));
            }
            (Event::Import(..), _) => return Err("KEY_NOT_PENDING_IMPORT"),
            (Event::DeleteMaterial(_), Enabled | Disabled) => key.lose_material(),
            (Event::Name(_, name), _) if names.contains(&name) => return Err("ALIAS_EXISTS"),
            (Event::Name(_, name), _) => drop(key.names.insert(name)),
            (Event::Unname(_, name), _) if key.names.remove(&name) => {}
            (Event::Unname(..), _) => return Err("ALIAS_NOT_FOUND"),
            (Event::Tag(_), _) => key.tagged = true,
            (Event::Untag(_), _) if key.tagged => key.tagged = false,
            (Event::Untag(_), _) => return Err("TAG_NOT_FOUND"),
            (Event::Rotate(_), Enabled) if key.external => return Err("EXTERNAL_KEY_UNSUPPORTED"),
            (Event::Rotate(_), Enabled) => key.versions += 1,
            (Event::Grant(_), Enabled) => key.grants += 1,
            (_, Enabled) => {}
            (_, Disabled) => return Err("KEY_DISABLED"),
            (_, PendingDeletion) => return Err("KEY_PENDING_DELETION"),
            (_, PendingImport) => return Err("KEY_PENDING_IMPORT"),
        }
        Ok(())
    }
}

fn name(number: usize) -> Alias {
    Alias::parse(NAMES[number]).expect("an alias")
}

/// Does it; answers the reason of a refusal.
fn act(world: &mut World, model: &mut Model, event: Event) -> Result<(), &'static str> {
    match event {
        Event::Create { name, external } => {
            let origin = if external { KeyOrigin::External } else { KeyOrigin::Kms };
            let made = world.run(&owner(), CreateKey { origin, ..create(NAMES[name]) });
            model.keys.push(Known::new(made.map_err(|error| error.code())?.id, name, external));
            Ok(())
        }
        Event::Seal(key) => {
            let selector = KeySelector::Id(model.keys[key].id);
            let made = world.run(&owner(), generate(selector)).map_err(|error| error.code())?;
            model.keys[key].sealed = Some(made.sealed.ciphertext);
            Ok(())
        }
        Event::Open(key) => {
            let Some(sealed) = &model.keys[key].sealed else { return Ok(()) };
            let open = DecryptDataKey::new(sealed, None, context()).expect("a ciphertext");
            world.run(&owner(), open).map(drop).map_err(|error| error.code())
        }
        Event::Pass(days) => {
            world.clock.advance(days * DAY);
            Ok(())
        }
        Event::Restart => {
            let now = world.service.now();
            *world = world.sibling();
            world.clock.set(now);
            Ok(())
        }
        _ => {
            let id = key_of(event).map(|key| model.keys[key].id).expect("the others name a key");
            manage(world, id, event).map_err(|error| error.code())
        }
    }
}

/// Does what is done to the key itself.
fn manage(world: &World, id: KeyId, event: Event) -> Result<(), Error> {
    let further = |name: usize| further(&format!("alias/{}", NAMES[name]));
    match event {
        Event::Enable(_) => world.run(&owner(), EnableKey { key: id.into() }).map(drop),
        Event::Disable(_) => world.run(&owner(), DisableKey { key: id.into() }).map(drop),
        Event::Schedule(_, days) => {
            let pending = PendingDays::parse(days).expect("a waiting time");
            world.run(&owner(), ScheduleKeyDeletion { key: id.into(), pending }).map(drop)
        }
        Event::Cancel(_) => world.run(&owner(), CancelKeyDeletion { key: id.into() }).map(drop),
        Event::Rename(_, alias) => {
            world.run(&owner(), UpdateKeyAlias { key: id.into(), alias: name(alias) }).map(drop)
        }
        Event::Rotate(_) => {
            world.run(&owner(), RotateKeyOnDemand { key: id.into(), from_version: None }).map(drop)
        }
        Event::Import(_, days) => import(world, id, days),
        Event::DeleteMaterial(_) => {
            world.run(&owner(), DeleteImportedKeyMaterial { key: id.into() }).map(drop)
        }
        Event::Name(_, name) => {
            world.run(&owner(), CreateAlias { key: id.into(), alias: further(name) }).map(drop)
        }
        Event::Unname(_, name) => {
            let delete = DeleteAlias::new(id.into(), vec![further(name)]).expect("an alias");
            world.run(&owner(), delete).map(drop)
        }
        Event::Tag(_) => {
            let tag = CreateTag::new(id.into(), "team", "shop").expect("a tag");
            world.run(&owner(), tag).map(drop)
        }
        Event::Untag(_) => {
            let tag_key = TagKey::parse("team").expect("a key");
            world.run(&owner(), DeleteTag { key: id.into(), tag_key }).map(drop)
        }
        Event::Grant(_) => world.run(&owner(), grant(id)).map(drop),
        Event::Create { .. } | Event::Seal(_) | Event::Open(_) | Event::Pass(_) | Event::Restart => {
            unreachable!("nothing is done to a key itself: {event:?}")
        }
    }
}

/// The same material every time, which is what the key takes again. It expires after so many days.
fn import(world: &World, key_id: KeyId, days: u32) -> Result<(), Error> {
    let asked = GetParametersForImport { key: key_id.into(), algorithm: WrappingAlgorithm::RsaesOaepSha256 };
    let given = world.run(&owner(), asked)?;
    let wrapped_material = wrapped_material(&given);
    let expires = Some(world.service.now().plus(days * DAY));
    let import = ImportKeyMaterial {
        key: key_id.into(),
        token: given.token,
        wrapped_material,
        wrapped_private_key: None,
        expires,
    };
    world.run(&owner(), import).map(drop)
}

fn upkeep(world: &World) {
    for entry in block_on(world.service.due(None, 100)).expect("the store works").entries {
        block_on(world.service.carry_out(entry)).expect("nothing is in the way");
    }
}

/// The keys that the service shows, with state and name.
fn shown(world: &World) -> BTreeMap<KeyId, (KeyState, String)> {
    let size = PageSize::parse(0).expect("a size");
    let page = world.run(&owner(), ListKeys { size, token: None, state: None, spec: None }).expect("listed");
    page.keys.into_iter().map(|key| (key.id, (key.state, key.alias))).collect()
}

fn expected(model: &Model) -> BTreeMap<KeyId, (KeyState, String)> {
    let alive = model.keys.iter().filter(|key| !key.gone);
    alive.map(|key| (key.id, (key.state, NAMES[key.name].to_owned()))).collect()
}

/// Which key an event names.
const fn key_of(event: Event) -> Option<usize> {
    match event {
        Event::Enable(key)
        | Event::Disable(key)
        | Event::Schedule(key, _)
        | Event::Cancel(key)
        | Event::Rename(key, _)
        | Event::Seal(key)
        | Event::Open(key)
        | Event::Rotate(key)
        | Event::Import(key, _)
        | Event::DeleteMaterial(key)
        | Event::Name(key, _)
        | Event::Unname(key, _)
        | Event::Tag(key)
        | Event::Untag(key)
        | Event::Grant(key) => Some(key),
        Event::Create { .. } | Event::Pass(_) | Event::Restart => None,
    }
}

/// What else the service tells of the key has to be what the model knows.
fn check_details(world: &World, key: &Known) {
    let selector = KeySelector::Id(key.id);
    let record = world.run(&owner(), DescribeKey { key: selector.clone() }).expect("it exists");
    assert_eq!(record.versions.len(), key.versions, "{key:?}");
    let aliases: BTreeSet<String> = key.names.iter().map(|name| format!("alias/{}", NAMES[*name])).collect();
    assert_eq!(record.aliases.keys().cloned().collect::<BTreeSet<_>>(), aliases, "{key:?}");
    assert_eq!(!record.tags.is_empty(), key.tagged, "{key:?}");
    assert_eq!(world.grants_of(key.id).len(), key.grants, "{key:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_live_as_the_model_does(events in prop::collection::vec(events(), 1..60), lazy in any::<bool>()) {
        let (mut world, mut model) = (World::new(), Model::default());
        for event in events {
            if key_of(event).is_some_and(|key| key >= model.keys.len()) {
                continue; // none of that number was made yet
            }
            let nothing_sealed = matches!(event, Event::Open(key) if model.keys[key].sealed.is_none());
            let should = match event {
                Event::Create { name, .. } if model.is_taken(name) => Err("ALIAS_EXISTS"),
                _ if nothing_sealed => Ok(()),
                _ => model.answer(event),
            };
            // A lazy scheduler has not run yet when the call comes that shows what is gone.
            if !lazy || matches!(event, Event::Create { .. } | Event::Rename(..) | Event::Name(..)) {
                upkeep(&world);
            }
            let is = act(&mut world, &mut model, event);
            prop_assert_eq!(is, should, "{:?} of {:?}", event, model);
            if let Event::Pass(days) = event && model.pass(days) {
                upkeep(&world); // material is usable until it is deleted, which is the scheduler's to do
            }
            prop_assert_eq!(shown(&world), expected(&model), "after {:?}", event);
        }
        upkeep(&world);
        for key in &model.keys {
            let found = world.run(&owner(), DescribeKey { key: KeySelector::Id(key.id) });
            prop_assert_eq!(found.is_ok(), !key.gone);
            if key.gone {
                prop_assert!(world.grants_of(key.id).is_empty());
            } else {
                check_details(&world, key);
            }
        }
        let due = |key: &Known| usize::from(key.due.is_some()) + usize::from(key.expires.is_some());
        let waiting: usize = model.keys.iter().filter(|key| !key.gone).map(due).sum();
        prop_assert_eq!(world.store.under(b"s/").len(), waiting, "one entry for each deletion to come");
        let gone = model.keys.iter().filter(|key| key.gone).count();
        prop_assert_eq!(world.store.under(b"x/").len(), gone, "one tombstone for each deletion");
        let alive = model.keys.len() - gone;
        let names: usize = model.keys.iter().filter(|key| !key.gone).map(|key| 1 + key.names.len()).sum();
        prop_assert_eq!((world.store.under(b"a/").len(), world.store.under(b"i/").len()), (names, alive));
    }
}
