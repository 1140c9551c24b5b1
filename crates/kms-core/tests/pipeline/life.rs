//! Random lives of keys against a model that is small enough to be read.

use std::{collections::BTreeMap, time::Duration};

use futures_executor::block_on;
use kms_core::{
    key::{KeyId, KeyOrigin, KeyState},
    ops::{
        Alias, CancelKeyDeletion, CreateKey, DecryptDataKey, DescribeKey, DisableKey, EnableKey, KeySelector,
        ListKeys, PageSize, PendingDays, ScheduleKeyDeletion, UpdateKeyAlias,
    },
};
use proptest::prelude::*;

use crate::support::{World, context, create, generate, owner};

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
    Pass(u32),
    Restart,
}

fn events() -> impl Strategy<Value = Event> {
    let key = || 0..4_usize;
    prop_oneof![
        3 => (0..NAMES.len(), prop::bool::weighted(0.2)).prop_map(|(name, external)| Event::Create { name, external }),
        2 => key().prop_map(Event::Enable),
        2 => key().prop_map(Event::Disable),
        3 => (key(), 7..12_u32).prop_map(|(key, days)| Event::Schedule(key, days)),
        2 => key().prop_map(Event::Cancel),
        2 => (key(), 0..NAMES.len()).prop_map(|(key, name)| Event::Rename(key, name)),
        3 => key().prop_map(Event::Seal),
        2 => key().prop_map(Event::Open),
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

    fn pass(&mut self, days: u32) {
        self.today += days;
        for key in &mut self.keys {
            key.gone |= key.due.is_some_and(|due| due <= self.today);
        }
    }

    /// What a call about this key answers, by DEW's words; a legal one changes the model.
    fn answer(&mut self, event: Event) -> Result<(), &'static str> {
        use KeyState::{Disabled, Enabled, PendingDeletion, PendingImport};
        let (today, taken): (u32, Vec<bool>) =
            (self.today, (0..NAMES.len()).map(|name| self.is_taken(name)).collect());
        let (Event::Enable(number)
        | Event::Disable(number)
        | Event::Schedule(number, _)
        | Event::Cancel(number)
        | Event::Rename(number, _)
        | Event::Seal(number)
        | Event::Open(number)) = event
        else {
            return Ok(());
        };
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
                (key.state, key.due) = (if key.external { PendingImport } else { Disabled }, None);
            }
            (Event::Cancel(_), _) => return Err("KEY_NOT_PENDING_DELETION"),
            (Event::Rename(..), PendingDeletion) => return Err("KEY_PENDING_DELETION"),
            (Event::Rename(_, name), _) if taken[name] && key.name != name => return Err("ALIAS_EXISTS"),
            (Event::Rename(_, name), _) => key.name = name,
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

/// Does it, and what the service does by itself; answers the reason of a refusal.
fn act(world: &mut World, model: &mut Model, event: Event) -> Result<(), &'static str> {
    let run = |answer: Result<(), kms_core::Error>| answer.map_err(|error| error.code());
    let id = |number: usize| model.keys[number].id;
    match event {
        Event::Create { name, external } => {
            let origin = if external { KeyOrigin::External } else { KeyOrigin::Kms };
            let made = world.run(&owner(), CreateKey { origin, ..create(NAMES[name]) });
            let made = made.map_err(|error| error.code())?;
            let state = if external { KeyState::PendingImport } else { KeyState::Enabled };
            let known = Known { id: made.id, name, state, external, due: None, gone: false, sealed: None };
            model.keys.push(known);
            Ok(())
        }
        Event::Enable(key) => run(world.run(&owner(), EnableKey { key: (id(key)).into() }).map(drop)),
        Event::Disable(key) => run(world.run(&owner(), DisableKey { key: (id(key)).into() }).map(drop)),
        Event::Schedule(key, days) => {
            let pending = PendingDays::parse(days).expect("a waiting time");
            run(world.run(&owner(), ScheduleKeyDeletion { key: (id(key)).into(), pending }).map(drop))
        }
        Event::Cancel(key) => run(world.run(&owner(), CancelKeyDeletion { key: (id(key)).into() }).map(drop)),
        Event::Rename(key, alias) => {
            run(world.run(&owner(), UpdateKeyAlias { key: (id(key)).into(), alias: name(alias) }).map(drop))
        }
        Event::Seal(key) => {
            let made =
                world.run(&owner(), generate(KeySelector::Id(id(key)))).map_err(|error| error.code())?;
            model.keys[key].sealed = Some(made.sealed.ciphertext);
            Ok(())
        }
        Event::Open(key) => {
            let Some(sealed) = &model.keys[key].sealed else { return Ok(()) };
            let open = DecryptDataKey::new(sealed, None, context()).expect("a ciphertext");
            run(world.run(&owner(), open).map(drop))
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
    }
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

/// Which keys an event may name: one that was made, or nothing happens.
fn concerns_a_key(event: Event, keys: usize) -> bool {
    match event {
        Event::Enable(key)
        | Event::Disable(key)
        | Event::Schedule(key, _)
        | Event::Cancel(key)
        | Event::Rename(key, _)
        | Event::Seal(key)
        | Event::Open(key) => key < keys,
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_live_as_the_model_does(events in prop::collection::vec(events(), 1..40), lazy in any::<bool>()) {
        let (mut world, mut model) = (World::new(), Model::default());
        for event in events {
            if !concerns_a_key(event, model.keys.len()) {
                continue;
            }
            let nothing_sealed = matches!(event, Event::Open(key) if model.keys[key].sealed.is_none());
            let should = match event {
                Event::Create { name, .. } if model.is_taken(name) => Err("ALIAS_EXISTS"),
                _ if nothing_sealed => Ok(()),
                _ => model.answer(event),
            };
            // A lazy scheduler has not run yet when the call comes that shows what is gone.
            if !lazy || matches!(event, Event::Create { .. } | Event::Rename(..)) {
                upkeep(&world);
            }
            let is = act(&mut world, &mut model, event);
            prop_assert_eq!(is, should, "{:?} of {:?}", event, model);
            if let Event::Pass(days) = event {
                model.pass(days);
            }
            prop_assert_eq!(shown(&world), expected(&model), "after {:?}", event);
        }
        upkeep(&world);
        for key in &model.keys {
            let found = world.run(&owner(), DescribeKey { key: KeySelector::Id(key.id) });
            prop_assert_eq!(found.is_ok(), !key.gone);
        }
        let waiting = model.keys.iter().filter(|key| !key.gone && key.due.is_some()).count();
        prop_assert_eq!(world.store.under(b"s/").len(), waiting, "one entry for each deletion to come");
        let gone = model.keys.iter().filter(|key| key.gone).count();
        prop_assert_eq!(world.store.under(b"x/").len(), gone, "one tombstone for each deletion");
        let alive = model.keys.len() - gone;
        prop_assert_eq!((world.store.under(b"a/").len(), world.store.under(b"i/").len()), (alive, alive));
    }
}
