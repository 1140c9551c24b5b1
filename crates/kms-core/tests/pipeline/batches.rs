//! Several data keys in one call: each is recorded, and all of them are answered or none.

use std::collections::HashSet;

use kms_core::{
    Error, Settings, Verdict,
    key::{KeyId, Scheme},
    operation::OperationName,
    ops::{BatchSize, DecryptDataKey, GenerateDataKeys, KeySelector},
};

use super::support::{World, context, finish, generate, owner, poll};

fn batch(key: KeyId, count: u32, with_plaintext: bool) -> GenerateDataKeys {
    let count = BatchSize::parse(count).expect("1 to 100");
    GenerateDataKeys { each: generate(KeySelector::Id(key)), count, with_plaintext }
}

#[test]
fn each_data_key_is_fresh_opens_and_has_a_record() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    for (with_plaintext, name) in
        [(true, OperationName::GenerateDataKey), (false, OperationName::GenerateDataKeyWithoutPlaintext)]
    {
        let (made, records) = world.records_of(|| world.run(&owner(), batch(key, 100, with_plaintext)));
        let made = made.expect("an enabled key");
        let (own, parts) = records.split_last().expect("records");
        assert_eq!((made.len(), parts.len()), (100, 100));
        assert_eq!(
            (own.operation, own.key_id, own.key_version),
            (OperationName::GenerateDataKeys, Some(key), None)
        );
        for part in parts {
            assert_eq!((part.operation, part.verdict), (name, Verdict::Succeeded));
            assert_eq!((part.key_id, part.key_version, part.count), (Some(key), Some(1), 1));
            assert_eq!((&part.context, part.time), (&own.context, own.time));
        }
        let ids: HashSet<_> = records.iter().map(|record| record.request_id).collect();
        assert_eq!(ids.len(), 101, "every record has an id of its own");
        let mut seen = HashSet::new();
        for one in made {
            let open = DecryptDataKey::new(&one.sealed.ciphertext, None, context()).expect("a ciphertext");
            let opened = world.run(&owner(), open).expect("opens").plaintext;
            assert_eq!(one.plaintext.is_some(), with_plaintext);
            assert!(one.plaintext.is_none_or(|plain| plain.expose_secret() == opened.expose_secret()));
            assert!(seen.insert(opened.expose_secret().to_vec()), "a data key came twice");
        }
    }
}

#[test]
fn a_batch_is_one_job_of_the_hsm_and_waits_for_all_records() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.audit.hold();
    let mut running = world.begin(&owner(), batch(key, 10, true));
    assert!(poll(&mut running).is_pending(), "answered before its records were durable");
    world.audit.release();
    assert_eq!(finish(running).expect("made").len(), 10);
}

#[test]
fn nothing_is_answered_if_one_record_is_lost() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.audit.fail_next(1);
    let error = world.run(&owner(), batch(key, 10, true)).expect_err("one record is lost");
    assert_eq!(error.code(), "AUDIT_UNAVAILABLE");
    world.run(&owner(), batch(key, 10, true)).expect("the log works again");
}

#[test]
fn a_refused_batch_leaves_one_record() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.run(&owner(), kms_core::ops::DisableKey { key: (key).into() }).expect("enabled");
    let (refused, records) = world.records_of(|| world.run(&owner(), batch(key, 10, true)));
    assert_eq!(refused.expect_err("disabled"), Error::KeyDisabled);
    let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
    assert_eq!((record.operation, record.reason), (OperationName::GenerateDataKeys, Some("KEY_DISABLED")));
}

#[test]
fn each_data_key_takes_a_use_of_the_version_that_seals_it() {
    let world = World::with(Settings { aes_256: Scheme::InHsm, in_hsm_budget: 4, ..Settings::default() });
    let key = world.key(&owner(), "key").id;
    let made = world.run(&owner(), batch(key, 10, true)).expect("versions follow one another");
    let versions: Vec<_> = made.iter().map(|one| one.sealed.key_version).collect();
    assert_eq!(versions, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]);
    for one in made {
        let open = DecryptDataKey::new(&one.sealed.ciphertext, None, context()).expect("a ciphertext");
        world.run(&owner(), open).expect("opens");
    }
}

#[test]
fn sizes_are_1_to_100() {
    for size in [0, 101, u32::MAX] {
        assert_eq!(BatchSize::parse(size).expect_err("out of range").code(), "INVALID_FIELD");
    }
}
