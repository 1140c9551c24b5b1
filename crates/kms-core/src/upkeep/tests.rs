mod states;

use std::{collections::BTreeMap, sync::Arc};

use futures_executor::block_on;

use super::*;
use crate::{
    Call, Ports, Settings, Timestamp,
    identity::{AccountId, Caller, Credential, ProjectId, Region, UserId},
    key::{AliasTimes, Import, KeyId, KeyOrigin, KeyRecord, KeySpec, KeyState},
    operation::Permissions,
    ops::{Alias, CancelKeyDeletion, CreateKey, Operation, PendingDays, ScheduleKeyDeletion},
    ports::Transaction,
    testing::{audit::FakeAuditLog, clock::FakeClock, hsm::FakeHsm, store::FakeKeyStore},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const START: Timestamp = Timestamp::from_micros(1_795_526_645_000_000);

struct World {
    clock: Arc<FakeClock>,
    service: Service,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(FakeClock::at(START));
        let ports = Ports {
            hsm: Arc::new(FakeHsm::new()),
            keystores: BTreeMap::new(),
            store: Arc::new(FakeKeyStore::default()),
            audit: Arc::new(FakeAuditLog::new()),
            clock: clock.clone(),
        };
        let service = block_on(Service::start(ports, Settings::default())).expect("fakes start");
        Self { clock, service }
    }

    fn run<O: Operation>(&self, operation: O) -> O::Output {
        let call = call(Permissions::all());
        block_on(self.service.run(call, Ok(operation))).expect("nothing is in the way").into_inner()
    }

    fn record(&self, id: KeyId) -> KeyRecord {
        let stored = block_on(self.service.directory().key_in_passing(id)).expect("the store works");
        stored.expect("it is there").value
    }

    /// A key as an import leaves it, whose material expires at this time.
    fn imported(&self, alias: &str, expires: Option<Timestamp>) -> KeyId {
        let alias = Alias::parse(alias).expect("an alias");
        let before = self.run(CreateKey::new(alias, KeySpec::Aes256));
        let mut after = before.clone();
        after.origin = KeyOrigin::External;
        after.import = Some(Import { check: [7; 32], expires });
        self.replace(&before, &after);
        after.id
    }

    fn replace(&self, before: &KeyRecord, after: &KeyRecord) {
        let directory = self.service.directory();
        let mutations = directory.put_key(Some(before), after).expect("encodes").mutations;
        let transaction = Transaction { conditions: Vec::new(), mutations };
        block_on(directory.store().transact(transaction)).expect("the fake works");
    }

    fn carry_out_due(&self) -> usize {
        let entries = block_on(self.service.due(None, 100)).expect("the store works").entries;
        for entry in &entries {
            block_on(self.service.carry_out(*entry)).expect("nothing is in the way");
        }
        entries.len()
    }
}

fn call(permissions: Permissions) -> Call {
    let caller = Caller {
        account: AccountId::parse("acme").expect("a name"),
        user: UserId::parse("admin").expect("a name"),
        project: ProjectId::parse("p").expect("a name"),
        region: Region::parse("r").expect("a name"),
        projects: Arc::new([]),
        acting_service: None,
        permissions,
        credential: Credential::Certificate([7; 32]),
        source: ([127, 0, 0, 1], 4711).into(),
    };
    Call { request_id: Uuid::new_v4(), caller, patience: PATIENCE, dry_run: false }
}

#[test]
fn expired_material_is_deleted_and_can_be_recognised() {
    let world = World::new();
    let expires = START.plus(DAY);
    let (key, kept) = (world.imported("key", Some(expires)), world.imported("kept", None));
    assert_eq!(block_on(world.service.next_due()), Ok(Some(expires)));
    world.clock.advance(DAY.saturating_sub(Duration::from_micros(1)));
    assert_eq!(world.carry_out_due(), 0);
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(world.carry_out_due(), 1);
    let record = world.record(key);
    assert_eq!((record.state, record.versions.len()), (KeyState::PendingImport, 0));
    assert_eq!(record.import, Some(Import { check: [7; 32], expires: None }));
    assert_eq!(world.record(kept).versions.len(), 1);
    assert_eq!(block_on(world.service.next_due()), Ok(None));
}

#[test]
fn material_expires_while_its_key_waits_for_its_deletion() {
    let world = World::new();
    let key_id = world.imported("key", Some(START.plus(DAY)));
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(ScheduleKeyDeletion { key: key_id.into(), pending });
    world.clock.advance(DAY);
    assert_eq!(world.carry_out_due(), 1);
    let record = world.record(key_id);
    assert_eq!((record.state, record.versions.len()), (KeyState::PendingDeletion, 0));
    let cancelled = world.run(CancelKeyDeletion { key: key_id.into() });
    assert_eq!(cancelled.state, KeyState::PendingImport, "DEW: without material it waits for it");
}

#[test]
fn a_tombstone_counts_the_root_keys_of_material_that_was_deleted_before() {
    let world = World::new();
    let expired = world.imported("expired", Some(START.plus(DAY)));
    let never = {
        let alias = Alias::parse("never").expect("an alias");
        let create = CreateKey { origin: KeyOrigin::External, ..CreateKey::new(alias, KeySpec::Aes256) };
        world.run(create).id
    };
    world.clock.advance(DAY);
    assert_eq!(world.carry_out_due(), 1);
    let pending = PendingDays::parse(7).expect("a waiting time");
    for key_id in [expired, never] {
        world.run(ScheduleKeyDeletion { key: key_id.into(), pending });
    }
    world.clock.advance(7 * DAY);
    assert_eq!(world.carry_out_due(), 2);
    let generation = |id| world.record(id).destroyed.expect("a tombstone").root_generation;
    assert_eq!((generation(expired), generation(never)), (1, 0));
}

#[test]
fn a_key_with_all_its_aliases_and_tags_goes_in_one_transaction() {
    let world = World::new();
    let alias = Alias::parse("first").expect("an alias");
    let before = world.run(CreateKey::new(alias, KeySpec::Aes256));
    let mut after = before.clone();
    let times = AliasTimes { created: before.created, updated: before.created };
    after.aliases = (0..50).map(|number| (format!("further-{number}"), times)).collect();
    after.tags = (0..20).map(|number| (format!("tag-{number}"), "value".to_owned())).collect();
    world.replace(&before, &after);
    // Many finished changes, whose traces would be cleared with the next one.
    for number in 0..60 {
        world.service.note_finished(Uuid::from_u128(number));
    }
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(ScheduleKeyDeletion { key: (before.id).into(), pending });
    for number in 0..60 {
        world.service.note_finished(Uuid::from_u128(number));
    }
    world.clock.advance(7 * DAY);
    assert_eq!(world.carry_out_due(), 1);
    assert!(world.record(before.id).is_destroyed());
}
