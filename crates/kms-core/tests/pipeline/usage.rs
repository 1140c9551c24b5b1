//! How keys are used: counted from the log, exactly, whatever happens to the process.

use std::{thread, time::Duration};

use futures_executor::block_on;
use kms_core::{
    Error, SecretBytes,
    identity::Caller,
    key::KeyId,
    ops::{
        BatchSize, CampaignStatus, DataKey, DecryptDataKey, DescribeKeyUsage, EncryptDataKey,
        GenerateDataKeys, GetCampaign, KeySelector, ListCampaigns, ListKeyUsage, PageSize, PendingDays,
        ReEncrypt, Rewrap, Rewrapped, RotateKeyOnDemand, ScheduleKeyDeletion, StartCampaign,
    },
    ports::{HsmError, KeyStore as _, StoreError},
    usage::{KeyUse, Use, VersionUsage},
};

use crate::{
    rotation::support::{assert_opens, operator},
    support::{World, caller, context, generate, no_context, now, owner},
};

fn usage(world: &World, key: KeyId) -> KeyUse {
    world.run(&owner(), DescribeKeyUsage { key: KeySelector::Id(key) }).expect("it exists").usage
}

fn version(world: &World, key: KeyId, number: u32) -> VersionUsage {
    VersionUsage { last_used: None, ..usage(world, key).version(number) }
}

fn seal(world: &World, key: KeyId) -> DataKey {
    world.run(&owner(), generate(KeySelector::Id(key))).expect("enabled")
}

fn rotate(world: &World, key_id: KeyId) {
    world.run(&owner(), RotateKeyOnDemand { key: key_id.into(), from_version: None }).expect("enabled");
}

fn rewrap(world: &World, ciphertext: &[u8]) -> Result<Rewrapped, Error> {
    let item = Rewrap::new(ciphertext, None, context()).expect("a ciphertext");
    world.run(&owner(), item)
}

fn flush(world: &World) -> Result<(), Error> {
    block_on(world.service.flush_usage())
}

fn campaign(world: &World, key_id: KeyId) -> CampaignStatus {
    world.run(&owner(), StartCampaign { key: key_id.into() }).expect("enabled")
}

/// The service as it is after a kill: what it had counted in memory is gone. Its own log is empty, and only the
/// old one is read.
fn killed(world: &World) -> World {
    let next = world.sibling();
    let from = block_on(next.service.resume_usage()).expect("the store works");
    let missed: Vec<_> =
        (0..).zip(world.audit.records()).skip(usize::try_from(from).expect("small")).collect();
    let missed = missed.iter().map(|(sequence, record)| (*sequence, Use::of(record))).collect::<Vec<_>>();
    block_on(next.service.count_missed(0, missed)).expect("the store works");
    next
}

#[test]
fn each_use_counts_once_and_refusals_do_not() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    assert_eq!(usage(&world, key), KeyUse::default());
    let made = seal(&world, key);
    let secret = SecretBytes::new(vec![5; 32]);
    let encrypt = EncryptDataKey::new(KeySelector::Id(key), secret, context()).expect("a data key");
    world.run(&owner(), encrypt).expect("enabled");
    assert_opens(&world, &owner(), &made);
    let wrong = DecryptDataKey::new(&made.sealed.ciphertext, None, no_context()).expect("a ciphertext");
    world.run(&owner(), wrong).expect_err("another context");
    world.hsm.fail_next(HsmError::Busy);
    world.run(&owner(), generate(KeySelector::Id(key))).expect_err("the HSM is busy");
    world.audit.fail_next(1);
    world.run(&owner(), generate(KeySelector::Id(key))).expect_err("nobody got it");

    let expected = VersionUsage { data_keys: 2, decryptions: 1, ..VersionUsage::default() };
    assert_eq!(version(&world, key, 1), expected);
    flush(&world).expect("the store works");
    assert_eq!(version(&world, key, 1), expected, "written");
    let commits = world.store.commits();
    seal(&world, key);
    assert_eq!(world.store.commits(), commits, "a use costs no write");
}

#[test]
fn a_re_encryption_uses_the_version_that_opens_and_the_one_that_seals_also_after_a_kill() {
    let world = World::new();
    let (from, to) = (world.key(&owner(), "from").id, world.key(&owner(), "to").id);
    let sealed = seal(&world, from).sealed.ciphertext;
    rotate(&world, from);
    let re_encrypt = |world: &World, source_context, to| {
        let (to, context) = (KeySelector::Id(to), context());
        let operation = ReEncrypt::new(&sealed, None, source_context, to, context).expect("a ciphertext");
        world.run(&owner(), operation)
    };
    re_encrypt(&world, context(), to).expect("both are enabled");
    flush(&world).expect("the store works");
    re_encrypt(&world, context(), to).expect("both are enabled");
    re_encrypt(&world, context(), from).expect("one key may be both");
    re_encrypt(&world, no_context(), to).expect_err("another context");
    let record = world.audit.records().pop().expect("of the refusal");
    assert_eq!((record.source_key_id, record.source_key_version), (Some(from), Some(1)));

    let expect = |world: &World, key, number, data_keys, decryptions| {
        let expected = VersionUsage { data_keys, decryptions, ..VersionUsage::default() };
        assert_eq!(version(world, key, number), expected, "version {number}");
    };
    // The second time in a service that has found it in the log, then once more when that has written it.
    let after = killed(&world);
    for (world, flushes) in [(&world, false), (&after, true), (&after, false)] {
        expect(world, from, 1, 1, 3);
        expect(world, from, 2, 1, 0);
        expect(world, to, 1, 2, 0);
        if flushes {
            flush(world).expect("the store works");
        }
    }
}

#[test]
fn an_operator_sees_the_use_of_all_accounts_keys_by_pages_and_after_their_end() {
    let world = World::new();
    let made = |caller: &Caller, name| {
        world.clock.advance(Duration::from_millis(1)); // ids rise with time
        world.key(caller, name).id
    };
    let zeta = caller("zeta", "cn-north-4");
    let (mine, others, doomed) = (made(&owner(), "mine"), made(&zeta, "other"), made(&owner(), "doomed"));
    seal(&world, mine);
    seal(&world, doomed);
    rotate(&world, mine);
    flush(&world).expect("the store works");
    seal(&world, mine);
    let list = |after, size, only_pending_deletion| {
        let size = PageSize::parse(size).expect("a size");
        let page = world.run(&operator(), ListKeyUsage { size, after, only_pending_deletion });
        let page = page.expect("an operator");
        let keys = page.keys.into_iter().map(|key| {
            let uses = |version: &VersionUsage| version.data_keys;
            (key.record.id, key.usage.versions.values().map(uses).collect::<Vec<_>>())
        });
        (keys.collect::<Vec<_>>(), page.next)
    };
    let all = [(mine, vec![1, 1]), (others, vec![]), (doomed, vec![1])];
    assert_eq!(list(None, 0, false), (all.to_vec(), None));
    assert_eq!(list(None, 2, false), (all[..2].to_vec(), Some(others)));
    assert_eq!(list(Some(others), 2, false), (all[2..].to_vec(), None));

    assert_eq!(list(None, 0, true), (vec![], None));
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: doomed.into(), pending }).expect("enabled");
    assert_eq!(list(None, 2, true), (vec![], Some(others)), "none of the first page");
    assert_eq!(list(Some(others), 2, true), (all[2..].to_vec(), None));

    world.clock.advance(Duration::from_secs(7 * 24 * 60 * 60));
    for entry in block_on(world.service.due(None, 100)).expect("the store works").entries {
        block_on(world.service.carry_out(entry)).expect("nothing is in the way");
    }
    assert_eq!(list(None, 0, false), (all.to_vec(), None), "counts outlive the key");
    assert_eq!(list(None, 0, true), (vec![], None));

    let size = PageSize::parse(0).expect("a size");
    let denied = world.run(&owner(), ListKeyUsage { size, after: None, only_pending_deletion: false });
    assert_eq!(denied.expect_err("no operator").code(), "PERMISSION_DENIED");
}

#[test]
fn each_data_key_of_a_batch_is_counted() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    block_on(world.service.resume_usage()).expect("the store works");
    let count = BatchSize::parse(7).expect("a size");
    let each = generate(KeySelector::Id(key));
    world.run(&owner(), GenerateDataKeys { each, count, with_plaintext: false }).expect("enabled");
    assert_eq!(version(&world, key, 1).data_keys, 7);
    flush(&world).expect("the store works");
    assert_eq!(version(&killed(&world), key, 1).data_keys, 7);
}

#[test]
fn a_record_of_an_earlier_build_that_does_not_say_which_version_opened_counts_for_the_other_alone() {
    let world = World::new();
    let (from, to) = (world.key(&owner(), "from").id, world.key(&owner(), "to").id);
    let sealed = seal(&world, from).sealed.ciphertext;
    let operation =
        ReEncrypt::new(&sealed, None, context(), KeySelector::Id(to), context()).expect("a ciphertext");
    world.run(&owner(), operation).expect("both are enabled");
    let mut record = world.audit.records().pop().expect("written");
    assert_eq!(Use::of(&record).len(), 2);
    record.source_key_version = None;
    let [one] = &Use::of(&record)[..] else { panic!("one use") };
    assert_eq!((one.key_id, one.version), (to, 1));
}

#[test]
fn a_kill_at_any_point_of_a_flush_loses_and_doubles_nothing() {
    // A flush of 120 keys fills more than one transaction. With a kill, and with another try instead.
    for (broken, is_killed) in (0..4).flat_map(|broken| [(broken, true), (broken, false)]) {
        let world = World::new();
        let keys: Vec<_> = (0..120).map(|number| world.key(&owner(), &format!("k{number}")).id).collect();
        for key in &keys {
            seal(&world, *key);
        }
        for _ in 0..broken {
            world.store.instead_of_commit(|store, transaction| now(store.transact(transaction)));
        }
        // Nobody knows whether this one is committed.
        world.store.instead_of_commit(|_, _| Err(StoreError::Unknown { detail: "cut off".into() }));
        assert_eq!(flush(&world).is_err(), broken < 3, "{broken}");
        seal(&world, keys[0]);
        let after = if is_killed { killed(&world) } else { world };
        for _ in 0..2 {
            for key in &keys {
                let expected = if *key == keys[0] { 2 } else { 1 };
                assert_eq!(usage(&after, *key).version(1).data_keys, expected, "{broken} {is_killed}");
            }
            if !is_killed {
                // The commit that was to be cut off may still be to come.
                drop(flush(&after));
                flush(&after).expect("the store works");
            }
        }
    }
}

#[test]
fn flushes_and_uses_at_once_count_exactly() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| drop(seal(&world, key))));
        }
        scope.spawn(|| {
            for _ in 0..100 {
                flush(&world).expect("the store works");
                usage(&world, key);
            }
        });
    });
    assert_eq!(usage(&world, key).version(1).data_keys, 800);
    assert_eq!(usage(&killed(&world), key).version(1).data_keys, 800);
}

#[test]
fn who_deletes_a_key_is_told_how_it_was_used() {
    let world = World::new();
    let key_id = world.key(&owner(), "key").id;
    seal(&world, key_id);
    rotate(&world, key_id);
    let pending = PendingDays::parse(7).expect("a waiting time");
    let told = world.run(&owner(), ScheduleKeyDeletion { key: key_id.into(), pending }).expect("enabled");
    assert_eq!((told.usage.version(1).data_keys, told.usage.version(2).data_keys), (1, 0));
    assert_eq!(told.usage.last_used(), Some(told.record.created));
}

#[test]
fn a_rewrap_keeps_the_content_and_changes_the_version() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let mut made = seal(&world, key);
    let (same, records) = world.records_of(|| rewrap(&world, &made.sealed.ciphertext).expect("enabled"));
    assert_eq!((same.from_version, same.to_version), (1, 1));
    assert_eq!(
        (same.ciphertext, records[0].reason),
        (made.sealed.ciphertext.clone(), Some("EXISTED_ALREADY"))
    );
    rotate(&world, key);
    let (moved, records) = world.records_of(|| rewrap(&world, &made.sealed.ciphertext).expect("enabled"));
    assert_eq!((moved.from_version, moved.to_version, records[0].key_version), (1, 2, Some(2)));
    assert_eq!(records[0].moved.expect("moved").from_version, 1);
    made.sealed.ciphertext = moved.ciphertext;
    assert_opens(&world, &owner(), &made);
}

#[test]
fn a_rewrap_opens_nothing_that_decryption_would_not() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let made = seal(&world, key).sealed.ciphertext;
    rotate(&world, key);
    let wrong = Rewrap::new(&made, None, no_context()).expect("a ciphertext");
    assert_eq!(world.run(&owner(), wrong).expect_err("another context"), Error::CannotDecrypt);
    let other = KeySelector::Id(world.key(&owner(), "other").id);
    let wrong = Rewrap::new(&made, Some(other), context()).expect("a ciphertext");
    assert_eq!(world.run(&owner(), wrong).expect_err("another key"), Error::CannotDecrypt);
    for position in (20..made.len()).filter(|position| !(24..28).contains(position)) {
        let mut altered = made.clone();
        altered[position] ^= 1;
        assert_eq!(rewrap(&world, &altered).expect_err("altered").code(), "CANNOT_DECRYPT", "{position}");
    }
    assert_eq!(usage(&world, key).version(1).moved_out, 0);
}

#[test]
fn the_gate_opens_when_every_ciphertext_was_moved_and_not_before() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let sealed: Vec<_> = (0..20).map(|_| seal(&world, key).sealed.ciphertext).collect();
    rotate(&world, key);
    let status = campaign(&world, key);
    assert_eq!((status.campaign.target, status.versions[0].sealed, status.is_open()), (2, 20, false));
    for (number, ciphertext) in (1..).zip(&sealed) {
        for _ in 0..2 {
            rewrap(&world, ciphertext).expect("twice does no harm");
        }
        if number % 7 == 0 {
            flush(&world).expect("the store works");
        }
        let status = campaign(&world, key);
        assert_eq!(status.versions[0].moved, number);
        assert_eq!(status.is_open(), number == 20, "{number}");
    }
    assert_eq!(version(&world, key, 2).moved_in, 20, "what was moved twice counts once");

    // The next campaign needs what the first one moved.
    let kept = rewrap(&world, &sealed[0]).expect("enabled").ciphertext;
    rotate(&world, key);
    assert!(!campaign(&world, key).is_open());
    rewrap(&world, &kept).expect("enabled");
    let read = GetCampaign { key: KeySelector::Id(key), target: 3 };
    let status = world.run(&owner(), read).expect("begun");
    assert_eq!((status.versions[1].sealed, status.versions[1].moved), (20, 1));
    assert_eq!(world.run(&owner(), ListCampaigns { key: KeySelector::Id(key) }).expect("some").len(), 2);
    let missing = GetCampaign { key: KeySelector::Id(key), target: 9 };
    assert_eq!(world.run(&owner(), missing), Err(Error::CampaignNotFound));
}

#[test]
fn a_campaign_goes_on_after_a_kill_and_knows_what_it_has_moved() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let sealed: Vec<_> = (0..10).map(|_| seal(&world, key).sealed.ciphertext).collect();
    rotate(&world, key);
    campaign(&world, key);
    for (number, ciphertext) in sealed.iter().enumerate().take(6) {
        rewrap(&world, ciphertext).expect("enabled");
        if number == 2 {
            flush(&world).expect("the store works");
        }
    }
    let world = killed(&world);
    assert_eq!(campaign(&world, key).versions[0].moved, 6);
    // Its own log begins at 0 again, which no real one does: so nothing more is flushed here.
    for ciphertext in &sealed[..6] {
        rewrap(&world, ciphertext).expect("enabled");
    }
    assert!(!campaign(&world, key).is_open());
}

#[test]
fn a_store_from_a_backup_does_not_know_what_was_sealed_since() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    block_on(world.service.resume_usage()).expect("the store works");
    seal(&world, key);
    rotate(&world, key);
    flush(&world).expect("the store works");
    let restored = world.sibling();
    let deployment = block_on(restored.service.deployment()).expect("it is one");
    block_on(restored.service.seal_arrival(uuid::Uuid::nil(), deployment, [9; 32], None)).expect("sealed");
    restored.clock.advance(Duration::from_secs(1));
    assert_eq!(block_on(restored.service.resume_usage()), Ok(0), "another log");
    let counted = usage(&restored, key);
    assert_eq!((counted.version(1).data_keys, counted.unknown_before.is_some()), (1, true));
    seal(&restored, key);
    assert_eq!(usage(&restored, key).version(2).data_keys, 1, "the new log counts from its beginning");
    let status = campaign(&restored, key);
    assert!(!status.versions[0].is_known && !status.is_open());
}
