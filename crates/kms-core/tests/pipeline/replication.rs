//! Keys of several regions that share one material.

use std::{collections::BTreeSet, time::Duration};

use futures_executor::block_on;
use kms_core::{
    AccountQuotas, Error, Settings,
    error::Field,
    identity::{Caller, ProjectId},
    key::{KeyId, KeyOrigin, KeyRecord, KeyState, Scheme},
    ops::{
        CreateKey, DecryptDataKey, DescribeKey, DisableKey, EnableKeyRotation, GetCampaign,
        GetRotationStatus, IdempotencyToken, KeySelector, ListDestroyedKeys, ListKeys, ListKeysByTags,
        ListKeysInWindow, ListSupportedRegions, ListWindow, PageSize, PendingDays, ReplicateKey, Rewrap,
        RotateKeyOnDemand, RotationInterval, ScheduleKeyDeletion, StartCampaign, UpdatePrimaryRegion,
    },
};

use crate::rotation::support::operator;
use crate::support::{REGIONS, World, caller, context, create, generate, owner, region_named, replicate};

const HERE: &str = REGIONS[0];
const THERE: &str = REGIONS[1];
const FAR: &str = REGIONS[2];

fn there() -> Caller {
    caller("acme", THERE)
}

fn far() -> Caller {
    caller("acme", FAR)
}

fn key(world: &World) -> KeyRecord {
    world.run(&owner(), create("key")).expect("the name is free")
}

fn replica(world: &World, key: KeyId, region: &str) -> KeyRecord {
    world.run(&owner(), replicate(key, region, "replica")).expect("a primary")
}

fn describe(world: &World, caller: &Caller, key: KeyId) -> Result<KeyRecord, Error> {
    world.run(caller, DescribeKey { key: key.into() }).map(|record| KeyRecord::clone(&record))
}

fn seal(world: &World, caller: &Caller, key: KeyId) -> Vec<u8> {
    let made = world.run(caller, generate(KeySelector::Id(key))).expect("it is enabled");
    made.sealed.ciphertext.clone()
}

fn open(world: &World, caller: &Caller, ciphertext: &[u8]) -> Result<(KeyId, u32), Error> {
    let operation = DecryptDataKey::new(ciphertext, None, context()).expect("a ciphertext");
    world.run(caller, operation).map(|opened| (opened.key_id, opened.key_version))
}

fn schedule(world: &World, caller: &Caller, key: KeyId) -> Result<(), Error> {
    let pending = PendingDays::parse(7).expect("allowed");
    world.run(caller, ScheduleKeyDeletion { key: key.into(), pending }).map(drop)
}

fn promote(world: &World, caller: &Caller, key: KeyId, region: &str) -> Result<KeyRecord, Error> {
    world.run(caller, UpdatePrimaryRegion { key: key.into(), region: region_named(region) })
}

fn rotate(world: &World, caller: &Caller, key: KeyId) -> Result<u32, Error> {
    let rotated = world.run(caller, RotateKeyOnDemand { key: key.into(), from_version: None })?;
    Ok(rotated.current_version().expect("it has one").number)
}

fn regions(record: &KeyRecord) -> Vec<(KeyId, String)> {
    let members = record.replication.iter().flat_map(|shared| &shared.members);
    members.map(|member| (member.key_id, member.region.to_string())).collect()
}

#[test]
fn what_one_seals_every_other_opens_without_being_told_which() {
    let world = World::new();
    let primary = key(&world);
    let sealed_before = seal(&world, &owner(), primary.id);
    let replica = replica(&world, primary.id, THERE);
    assert_ne!(replica.id, primary.id);
    assert_eq!((replica.material, replica.state), (primary.material, KeyState::Enabled));
    assert_eq!(replica.versions, primary.versions);
    assert_eq!(open(&world, &there(), &sealed_before), Ok((replica.id, 1)));
    let sealed_there = seal(&world, &there(), replica.id);
    assert_eq!(open(&world, &owner(), &sealed_there), Ok((primary.id, 1)));
    assert_eq!(open(&world, &there(), &sealed_there), Ok((replica.id, 1)));
    // Nowhere else, and for nobody else.
    assert_eq!(open(&world, &far(), &sealed_there), Err(Error::KeyNotFound));
    assert_eq!(open(&world, &caller("other", THERE), &sealed_there), Err(Error::KeyNotFound));
    assert_eq!(describe(&world, &owner(), replica.id), Err(Error::KeyNotFound));
    assert_eq!(describe(&world, &there(), primary.id), Err(Error::KeyNotFound));
}

#[test]
fn each_of_them_names_all_of_them() {
    let world = World::new();
    let primary = key(&world);
    let first = replica(&world, primary.id, THERE);
    let second = replica(&world, primary.id, FAR);
    let all = vec![(primary.id, HERE.to_owned()), (first.id, THERE.to_owned()), (second.id, FAR.to_owned())];
    for (caller, id) in [(owner(), primary.id), (there(), first.id), (far(), second.id)] {
        let record = describe(&world, &caller, id).expect("its own region");
        assert_eq!(regions(&record), all);
        assert_eq!(record.is_replica(), id != primary.id);
    }
}

#[test]
fn the_record_names_the_replica_and_whose_material_it_has() {
    let world = World::new();
    let primary = key(&world);
    let (replica, records) = world.records_of(|| replica(&world, primary.id, THERE));
    for record in &records {
        assert_eq!((record.key_id, record.source_key_id), (Some(replica.id), Some(primary.id)), "{record:?}");
    }
    assert_eq!(records.len(), 2, "an intent and an outcome");
    assert!(records[1].state_digest.is_some());
}

#[test]
fn a_rotation_of_the_primary_is_one_of_all() {
    let world = World::new();
    let primary = key(&world);
    let replica = replica(&world, primary.id, THERE);
    assert_eq!(rotate(&world, &there(), replica.id), Err(Error::ReplicaReadOnly));
    assert_eq!(rotate(&world, &owner(), primary.id), Ok(2));
    let sealed = seal(&world, &there(), replica.id);
    assert_eq!(open(&world, &owner(), &sealed), Ok((primary.id, 2)));
    let sealed = seal(&world, &owner(), primary.id);
    assert_eq!(open(&world, &there(), &sealed), Ok((replica.id, 2)));
    let [ours, theirs] = [(owner(), primary.id), (there(), replica.id)]
        .map(|(caller, id)| describe(&world, &caller, id).expect("its own region").versions);
    assert_eq!(ours, theirs);
}

#[test]
fn a_rotation_follows_a_disabled_replica_too() {
    let world = World::new();
    let primary = key(&world);
    let replica = replica(&world, primary.id, THERE);
    world.run(&there(), DisableKey { key: replica.id.into() }).expect("its state is its own");
    let sealed = seal(&world, &owner(), primary.id);
    assert_eq!(open(&world, &owner(), &sealed), Ok((primary.id, 1)), "the primary's state is its own, too");
    assert_eq!(open(&world, &there(), &sealed), Err(Error::KeyDisabled));
    assert_eq!(rotate(&world, &owner(), primary.id), Ok(2));
    assert_eq!(describe(&world, &there(), replica.id).expect("there").versions.len(), 2);
}

#[test]
fn the_primary_moves_in_one_step_and_takes_its_rotation_along() {
    let world = World::new();
    let primary = key(&world);
    let first = replica(&world, primary.id, THERE);
    let second = replica(&world, primary.id, FAR);
    let interval = RotationInterval::parse(30).expect("allowed");
    world.run(&owner(), EnableKeyRotation { key: primary.id.into(), interval }).expect("a primary");
    let status = |caller: &Caller, id: KeyId| {
        let status = world.run(caller, GetRotationStatus { key: id.into() }).expect("a key");
        status.rotation.as_ref().map(|policy| policy.interval_days)
    };
    assert_eq!(status(&there(), first.id), Some(30), "it is rotated with its primary");
    let former = promote(&world, &owner(), primary.id, THERE).expect("an enabled replica");
    assert!(former.is_replica() && former.rotation.is_none());
    for (caller, id) in [(owner(), primary.id), (there(), first.id), (far(), second.id)] {
        let shared = describe(&world, &caller, id).expect("its own region").replication;
        assert_eq!(shared.expect("it shares").primary, first.id);
        assert_eq!(status(&caller, id), Some(30));
    }
    assert_eq!(rotate(&world, &owner(), primary.id), Err(Error::ReplicaReadOnly));
    assert_eq!(promote(&world, &owner(), primary.id, FAR).err(), Some(Error::ReplicaReadOnly));
    assert_eq!(rotate(&world, &there(), first.id), Ok(2));
    let again = world.run(&owner(), replicate(primary.id, FAR, "another")).err();
    assert_eq!(again, Some(Error::ReplicaReadOnly));
}

#[test]
fn a_replica_is_rotated_as_its_primary_wherever_it_is_shown() {
    let world = World::new();
    let primary = key(&world);
    let replica = replica(&world, primary.id, THERE);
    let interval = RotationInterval::parse(30).expect("allowed");
    let (window, size) =
        (ListWindow::parse(0, 0).expect("a window"), PageSize::parse(0).expect("the default"));
    let shown = || {
        let by_tags = ListKeysByTags::new(Vec::new(), String::new(), Some(window)).expect("well-formed");
        let pages = ListKeys { size, token: None, state: None, spec: None };
        let lists = [
            vec![describe(&world, &there(), replica.id).expect("there")],
            world.run(&there(), pages).expect("a page").keys,
            world.run(&there(), ListKeysInWindow { window, state: None, spec: None }).expect("a part").keys,
            world.run(&there(), by_tags).expect("a part").keys,
        ];
        lists.map(|keys| {
            let days = keys.iter().map(|key| key.rotation.as_ref().map(|policy| policy.interval_days));
            days.collect::<Vec<_>>()
        })
    };
    assert_eq!(shown(), [const { [None] }; 4]);
    world.run(&owner(), EnableKeyRotation { key: primary.id.into(), interval }).expect("a primary");
    assert_eq!(shown(), [const { [Some(30)] }; 4]);
}

#[test]
fn only_an_enabled_replica_becomes_the_primary() {
    let world = World::new();
    let primary = key(&world);
    let refused =
        |region: &str| promote(&world, &owner(), primary.id, region).expect_err("not allowed").code();
    assert_eq!(refused(THERE), "INVALID_FIELD");
    let replica = replica(&world, primary.id, THERE);
    assert_eq!([refused(FAR), refused(HERE)], ["INVALID_FIELD"; 2]);
    world.run(&there(), DisableKey { key: replica.id.into() }).expect("enabled");
    assert_eq!(refused(THERE), "KEY_DISABLED");
    schedule(&world, &there(), replica.id).expect("a replica may go");
    assert_eq!(refused(THERE), "KEY_PENDING_DELETION");
}

#[test]
fn what_cannot_be_replicated_says_why() {
    let world = World::new();
    let primary = key(&world);
    let refused = |operation: ReplicateKey| world.run(&owner(), operation).expect_err("not allowed");
    let field = |error: Error| match error {
        Error::InvalidField { field, .. } => Some(field),
        _ => None,
    };
    let to = |region: &str| replicate(primary.id, region, "r");
    assert_eq!(field(refused(to("nowhere"))), Some(Field::ReplicaRegion));
    assert_eq!(field(refused(to(HERE))), Some(Field::ReplicaRegion));
    let foreign = ProjectId::parse(&format!("other-{THERE}"));
    assert_eq!(field(refused(ReplicateKey { project: foreign, ..to(THERE) })), Some(Field::ReplicaProject));
    let elsewhere = ProjectId::parse(&format!("acme-{FAR}"));
    assert_eq!(field(refused(ReplicateKey { project: elsewhere, ..to(THERE) })), Some(Field::ReplicaProject));
    world.run(&there(), create("r")).expect("free there");
    assert_eq!(refused(to(THERE)), Error::AliasExists);
    replica(&world, primary.id, THERE);
    assert_eq!(refused(replicate(primary.id, THERE, "another")), Error::ReplicaExists);
    let imported = CreateKey { origin: KeyOrigin::External, ..create("imported") };
    let imported = world.run(&owner(), imported).expect("the name is free");
    assert_eq!(refused(replicate(imported.id, THERE, "another")).code(), "KEY_PENDING_IMPORT");
    let default = world.run(&owner(), generate(KeySelector::service("obs").expect("known"))).expect("made");
    assert_eq!(refused(replicate(default.sealed.key_id, THERE, "another")), Error::DefaultKeyImmutable);
}

#[test]
fn a_retry_answers_the_first_replica_and_other_fields_are_refused() {
    let world = World::new();
    let primary = key(&world);
    let token = IdempotencyToken::parse("once").ok();
    let operation = ReplicateKey { idempotency_token: token, ..replicate(primary.id, THERE, "r") };
    let first = world.run(&owner(), operation.clone()).expect("a primary");
    let again = world.run(&owner(), operation.clone()).expect("the same request");
    assert_eq!(first, again);
    let other = ReplicateKey { region: region_named(FAR), ..operation };
    assert_eq!(world.run(&owner(), other).err(), Some(Error::IdempotencyTokenReused));
    assert_eq!(regions(&describe(&world, &owner(), primary.id).expect("there")).len(), 2);
}

#[test]
fn the_quota_of_the_other_region_holds() {
    let world = World::with(Settings {
        quotas: AccountQuotas { custom_keys: 1, ..AccountQuotas::default() },
        ..Settings::default()
    });
    let primary = key(&world);
    let occupant = world.run(&there(), create("occupant")).expect("the first one there");
    let refused = world.run(&owner(), replicate(primary.id, THERE, "r")).expect_err("none is left");
    assert_eq!(refused.code(), "QUOTA_EXCEEDED");
    replica(&world, primary.id, FAR);
    assert_eq!(world.run(&far(), create("more")).expect_err("it has its replica").code(), "QUOTA_EXCEEDED");
    drop(occupant);
}

#[test]
fn a_primary_stays_until_its_replicas_are_destroyed() {
    let world = World::new();
    let primary = key(&world);
    let replica = replica(&world, primary.id, THERE);
    let sealed = seal(&world, &there(), replica.id);
    assert_eq!(schedule(&world, &owner(), primary.id), Err(Error::ReplicasRemain));
    schedule(&world, &there(), replica.id).expect("a replica may go");
    assert_eq!(schedule(&world, &owner(), primary.id), Err(Error::ReplicasRemain), "it can still be kept");
    destroy_due(&world);
    assert_eq!(regions(&describe(&world, &owner(), primary.id).expect("it stays")).len(), 1);
    assert_eq!(open(&world, &there(), &sealed), Err(Error::KeyNotFound));
    assert_eq!(open(&world, &owner(), &sealed), Ok((primary.id, 1)), "its material is not gone");
    // The region is free for another one.
    world.run(&owner(), replicate(primary.id, THERE, "replica")).expect("there is none any more");
    assert!(open(&world, &there(), &sealed).is_ok());
    assert_eq!(tombstones(&world), BTreeSet::from([(replica.id, u32::MAX)]));
}

#[test]
fn the_last_one_takes_the_material_along() {
    let world = World::new();
    let primary = key(&world);
    let replica = replica(&world, primary.id, THERE);
    let sealed = seal(&world, &owner(), primary.id);
    promote(&world, &owner(), primary.id, THERE).expect("an enabled replica");
    // What the material is named by may go first.
    schedule(&world, &owner(), primary.id).expect("a replica by now");
    destroy_due(&world);
    assert_eq!(open(&world, &there(), &sealed), Ok((replica.id, 1)));
    assert_eq!(rotate(&world, &there(), replica.id), Ok(2));
    schedule(&world, &there(), replica.id).expect("it is the last");
    destroy_due(&world);
    assert_eq!(open(&world, &there(), &sealed), Err(Error::KeyNotFound));
    assert_eq!(tombstones(&world), BTreeSet::from([(primary.id, u32::MAX), (replica.id, 1)]));
}

/// A week later, and whatever is due by then is done.
fn destroy_due(world: &World) {
    world.clock.advance(Duration::from_secs(8 * 24 * 60 * 60));
    for entry in block_on(world.service.due(None, 100)).expect("the store works").entries {
        block_on(world.service.carry_out(entry)).expect("nothing is in the way");
    }
}

fn tombstones(world: &World) -> BTreeSet<(KeyId, u32)> {
    let list = ListDestroyedKeys { size: PageSize::parse(0).expect("the default"), after: None };
    let page = world.run(&operator(), list).expect("an operator");
    let generation = |record: &KeyRecord| record.destroyed.as_ref().expect("a tombstone").root_generation;
    page.keys.iter().map(|key| (key.record.id, generation(&key.record))).collect()
}

#[test]
fn one_budget_holds_for_all_of_them() {
    let settings = Settings { aes_256: Scheme::InHsm, in_hsm_budget: 10, ..Settings::default() };
    let world = World::with(settings);
    let primary = key(&world);
    let replica = replica(&world, primary.id, THERE);
    for _ in 0..5 {
        seal(&world, &owner(), primary.id);
        seal(&world, &there(), replica.id);
    }
    let reserved = |caller: &Caller, id: KeyId| {
        let versions = describe(&world, caller, id).expect("there").versions;
        versions.iter().map(|version| version.reserved_uses).collect::<Vec<_>>()
    };
    assert_eq!(reserved(&owner(), primary.id), [10]);
    assert_eq!(reserved(&there(), replica.id), [10]);
    // Whichever is next gives all of them the version that follows.
    let sealed = seal(&world, &there(), replica.id);
    assert_eq!(open(&world, &owner(), &sealed), Ok((primary.id, 2)));
    assert_eq!(reserved(&owner(), primary.id), [10, 1]);
}

#[test]
fn the_gate_of_a_campaign_stays_shut_for_keys_that_share() {
    let world = World::new();
    let primary = key(&world);
    let sealed = seal(&world, &owner(), primary.id);
    let replica = replica(&world, primary.id, THERE);
    let sealed_there = seal(&world, &there(), replica.id);
    rotate(&world, &owner(), primary.id).expect("a primary");
    world.run(&owner(), StartCampaign { key: primary.id.into() }).expect("a primary");
    // One was sealed here and one is moved here, but not the same one.
    let rewrap = Rewrap::new(&sealed_there, None, context());
    world.run(&owner(), rewrap.expect("a ciphertext")).expect("the same material");
    let status = world.run(&owner(), GetCampaign { key: primary.id.into(), target: 2 }).expect("begun");
    assert!(!status.is_open());
    assert!(open(&world, &owner(), &sealed).is_ok());
}

#[test]
fn the_regions_are_those_of_the_accounts_projects() {
    let world = World::new();
    let regions = world.run(&owner(), ListSupportedRegions).expect("harmless");
    assert_eq!(regions.iter().map(ToString::to_string).collect::<Vec<_>>(), [THERE, HERE, FAR]);
}
