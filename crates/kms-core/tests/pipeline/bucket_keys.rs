//! Bucket keys: what opens them, how long they are valid, and what the log learns of them.

use std::time::Duration;

use kms_core::{
    Error, Record, Settings,
    bucket_key::{DEFAULT_VALIDITY, MOST_USES, REPORT_PERIOD, UseCount, Validity},
    grant::{GrantName, GrantOperation, GrantOperations, Principal},
    identity::{Caller, UserId},
    key::{Cipher, KeyId},
    operation::{OperationName, Permissions},
    ops::{
        BucketKey, CreateGrant, DecryptBucketKey, DecryptDataKey, DecryptedBucketKey, DisableKey,
        GenerateBucketKey, PendingDays, ReEncrypt, ReportBucketKeyUse, ReportedUse, RevokeGrant, Rewrap,
        RotateKeyOnDemand, ScheduleKeyDeletion,
    },
    record::Verdict,
};

use crate::support::{
    World, bucket_key, caller, context, create, decrypt_data, encrypt_data, generate, no_context, obs, owner,
    with,
};

fn open(world: &World, who: &Caller, ciphertext: &[u8]) -> Result<DecryptedBucketKey, Error> {
    world.run(who, DecryptBucketKey::new(ciphertext, None, context()).expect("a ciphertext"))
}

fn report(world: &World, who: &Caller, made: &BucketKey, uses: u64) -> Result<ReportedUse, Error> {
    let uses = UseCount::parse(uses).expect("a number");
    world.run(who, ReportBucketKeyUse { receipt: made.receipt.clone(), uses })
}

fn only(records: Vec<Record>) -> Record {
    let [record] = <[Record; 1]>::try_from(records).expect("one record");
    record
}

#[test]
fn a_bucket_key_opens_as_what_it_was_made() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    for (algorithm, expected) in [
        (None, Cipher::Aes256Gcm),
        (Some(Cipher::Aes256Gcm), Cipher::Aes256Gcm),
        (Some(Cipher::Sm4Gcm), Cipher::Sm4Gcm),
    ] {
        let make = GenerateBucketKey { algorithm, ..bucket_key(key.into()) };
        let made = world.run(&owner(), make).expect("enabled");
        assert_eq!((made.plaintext.len(), made.algorithm, made.validity), (32, expected, DEFAULT_VALIDITY));
        let opened = open(&world, &owner(), &made.sealed.ciphertext).expect("it opens");
        assert_eq!(opened.plaintext.expose_secret(), made.plaintext.expose_secret());
        assert_eq!((opened.id, opened.key_id, opened.key_version), (made.id, key, 1));
        assert_eq!((opened.algorithm, opened.expires), (expected, made.expires));
        assert_eq!(opened.issued.plus(DEFAULT_VALIDITY), made.expires);
    }
}

#[test]
fn the_default_key_is_made_for_a_bucket_key_too() {
    let world = World::new();
    let made = world.run(&owner(), bucket_key(obs())).expect("made on first use");
    open(&world, &owner(), &made.sealed.ciphertext).expect("it opens");
}

#[test]
fn nothing_but_its_own_operation_opens_a_bucket_key_and_that_opens_nothing_else() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let made = world.run(&owner(), bucket_key(key.into())).expect("enabled").sealed.ciphertext;
    let data_key = world.run(&owner(), generate(key.into())).expect("enabled").sealed.ciphertext;
    let data = world.run(&owner(), encrypt_data(key.into())).expect("enabled").ciphertext;
    let as_data_key = |ciphertext: &[u8]| {
        let opened = world.run(&owner(), DecryptDataKey::new(ciphertext, None, context()).expect("one"));
        opened.expect_err("another purpose")
    };
    let as_data = |ciphertext: &[u8]| {
        let opened = world.run(&owner(), decrypt_data(ciphertext, context()).expect("one"));
        opened.expect_err("another purpose")
    };
    assert_eq!([as_data_key(&made), as_data(&made)], [Error::CannotDecrypt, Error::CannotDecrypt]);
    for other in [&data_key, &data] {
        assert_eq!(open(&world, &owner(), other).expect_err("another purpose"), Error::CannotDecrypt);
    }
    // Nor by a header that says so.
    for (ciphertext, purpose) in [(&made, 1), (&made, 2), (&data_key, 5)] {
        let mut relabelled = ciphertext.clone();
        relabelled[3] = purpose;
        let error = match purpose {
            1 => as_data_key(&relabelled),
            2 => as_data(&relabelled),
            _ => open(&world, &owner(), &relabelled).expect_err("altered"),
        };
        assert_eq!(error, Error::CannotDecrypt);
    }
    let elsewhere = DecryptBucketKey::new(&made, None, no_context()).expect("a ciphertext");
    assert_eq!(world.run(&owner(), elsewhere).expect_err("another bucket"), Error::CannotDecrypt);
}

#[test]
fn what_moves_data_keys_moves_bucket_keys() {
    let world = World::new();
    let (key, other) = (world.key(&owner(), "key").id, world.key(&owner(), "other").id);
    let made = world.run(&owner(), bucket_key(key.into())).expect("enabled");
    world.run(&owner(), RotateKeyOnDemand { key: key.into(), from_version: None }).expect("enabled");
    let rewrap = Rewrap::new(&made.sealed.ciphertext, None, context()).expect("a ciphertext");
    let (rewrapped, rewrapping) =
        world.records_of(|| world.run(&owner(), rewrap).expect("enabled").ciphertext);
    let re_encrypt = ReEncrypt::new(&rewrapped, None, context(), other.into(), context());
    let re_encrypt = re_encrypt.expect("a ciphertext");
    let (moved, moving) = world.records_of(|| world.run(&owner(), re_encrypt).expect("enabled").ciphertext);
    for records in [rewrapping, moving] {
        let note = only(records).bucket_key.expect("it is named");
        assert_eq!((note.id, note.valid_until, note.uses), (made.id, None, None));
    }
    for (ciphertext, key_id, version) in [(&rewrapped, key, 2), (&moved, other, 1)] {
        let opened = open(&world, &owner(), ciphertext).expect("it opens");
        assert_eq!((opened.id, opened.key_id, opened.key_version), (made.id, key_id, version));
        assert_eq!(opened.plaintext.expose_secret(), made.plaintext.expose_secret());
    }
}

#[test]
fn no_validity_is_longer_than_the_deployment_allows() {
    let longest_bucket_key_validity = Duration::from_secs(60);
    let world = World::with(Settings { longest_bucket_key_validity, ..Settings::default() });
    let key = world.key(&owner(), "key").id;
    let validity = |seconds| {
        let asked = GenerateBucketKey { validity: Validity::parse(seconds), ..bucket_key(key.into()) };
        let made = world.run(&owner(), asked).expect("enabled");
        let opened = open(&world, &owner(), &made.sealed.ciphertext).expect("it opens");
        assert_eq!((opened.issued.plus(made.validity), opened.expires), (made.expires, made.expires));
        made.validity.as_secs()
    };
    assert_eq!([0, 1, 60, 61, u32::MAX].map(validity), [60, 1, 60, 60, 60]);
}

#[test]
fn what_was_put_under_it_opens_after_its_validity() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let made = world.run(&owner(), bucket_key(key.into())).expect("enabled");
    world.clock.advance(10 * DEFAULT_VALIDITY);
    let opened = open(&world, &owner(), &made.sealed.ciphertext).expect("it opens");
    assert_eq!(opened.expires, made.expires);
}

#[test]
fn the_log_tells_how_many_objects_hang_on_a_bucket_key() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let (made, records) = world.records_of(|| world.run(&owner(), bucket_key(key.into())).expect("enabled"));
    let note = only(records).bucket_key.expect("it is named");
    assert_eq!((note.id, note.valid_until, note.uses), (made.id, Some(made.expires), None));
    let (_, records) = world.records_of(|| open(&world, &owner(), &made.sealed.ciphertext).expect("opens"));
    let note = only(records).bucket_key.expect("it is named");
    assert_eq!((note.id, note.valid_until, note.uses), (made.id, None, None));
    // Repeated, and in any order: each says how many there are in all.
    for uses in [1000, 1000, 7, 0] {
        let (reported, records) =
            world.records_of(|| report(&world, &owner(), &made, uses).expect("its own"));
        assert_eq!((reported.id, reported.key_id, reported.key_version), (made.id, key, 1));
        let record = only(records);
        assert_eq!((record.operation, record.key_id), (OperationName::ReportBucketKeyUse, Some(key)));
        assert_eq!((record.key_version, record.verdict), (Some(1), Verdict::Succeeded));
        let note = record.bucket_key.expect("it is named");
        assert_eq!((note.id, note.valid_until, note.uses), (made.id, None, Some(uses)));
    }
}

#[test]
fn a_report_needs_the_receipt_and_its_user_and_nothing_else() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let made = world.run(&owner(), bucket_key(key.into())).expect("enabled");
    let other_user = Caller { user: UserId::parse("another").expect("a name"), ..owner() };
    let calls = (world.hsm.calls(), world.store.reads(), world.store.commits());
    for stranger in [other_user, caller("zeta", "cn-north-4")] {
        assert_eq!(report(&world, &stranger, &made, 1).expect_err("not its own").code(), "INVALID_FIELD");
    }
    let refused = |receipt: Vec<u8>| {
        let uses = UseCount::parse(1).expect("a number");
        let error = world.run(&owner(), ReportBucketKeyUse { receipt, uses }).expect_err("altered");
        assert_eq!(error.code(), "INVALID_FIELD");
    };
    for position in 0..made.receipt.len() {
        let mut altered = made.receipt.clone();
        altered[position] ^= 1;
        refused(altered);
        refused(made.receipt[..position].to_vec());
    }
    refused([&made.receipt[..], &[0]].concat());
    // In no state of its key, and without any permission, is it refused; and it touches nothing.
    report(&world, &with(Permissions::NONE), &made, MOST_USES).expect("its own");
    assert_eq!((world.hsm.calls(), world.store.reads(), world.store.commits()), calls);
    world.run(&owner(), DisableKey { key: key.into() }).expect("enabled");
    report(&world, &owner(), &made, 1).expect("its own");
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: key.into(), pending }).expect("disabled");
    report(&world, &owner(), &made, 1).expect("its own");
}

#[test]
fn a_report_may_come_until_a_day_after_the_validity() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let made = world.run(&owner(), bucket_key(key.into())).expect("enabled");
    world.clock.advance(made.validity + REPORT_PERIOD);
    report(&world, &owner(), &made, 1).expect("at the last moment");
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(report(&world, &owner(), &made, 1).expect_err("too late").code(), "INVALID_FIELD");
}

#[test]
fn a_grant_of_data_keys_is_one_of_bucket_keys_until_it_is_revoked() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let guest = caller("zeta", "cn-north-4");
    let grant = |operations: &[GrantOperation]| {
        let grant = CreateGrant {
            key: key.into(),
            grantee: Principal::account("zeta").expect("an account"),
            operations: GrantOperations::parse(operations.iter().copied()).expect("operations"),
            name: GrantName::default(),
            retiring_principal: None,
            idempotency_token: None,
        };
        world.run(&owner(), grant).expect("enabled").id
    };
    let made = |key: KeyId| world.run(&guest, bucket_key(key.into()));
    assert_eq!(made(key).expect_err("not granted"), Error::KeyNotFound);
    let creating = grant(&[GrantOperation::CreateDatakey]);
    let sealed = made(key).expect("granted").sealed.ciphertext;
    assert_eq!(open(&world, &guest, &sealed).expect_err("not granted").code(), "PERMISSION_DENIED");
    let opening = grant(&[GrantOperation::DecryptDatakey]);
    open(&world, &guest, &sealed).expect("granted");
    world.run(&owner(), RevokeGrant { key: key.into(), grant_id: creating }).expect("it is there");
    assert_eq!(made(key).expect_err("revoked").code(), "PERMISSION_DENIED");
    world.run(&owner(), RevokeGrant { key: key.into(), grant_id: opening }).expect("it is there");
    assert_eq!(open(&world, &guest, &sealed).expect_err("revoked"), Error::KeyNotFound);
}

#[test]
fn a_dry_run_gives_out_nothing() {
    let world = World::new();
    let key = world.run(&owner(), create("key")).expect("a free name").id;
    let calls = world.hsm.calls();
    assert_eq!(world.try_out(&owner(), bucket_key(key.into())), Error::DryRun);
    assert_eq!(world.hsm.calls(), calls);
}

#[test]
fn a_report_that_is_only_tried_out_tells_nothing() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let BucketKey { receipt, .. } = world.run(&owner(), bucket_key(key.into())).expect("enabled");
    let uses = UseCount::parse(7).expect("a number");
    let report = ReportBucketKeyUse { receipt, uses };
    let (tried, records) = world.records_of(|| world.try_out(&owner(), report));
    let record = only(records);
    assert_eq!((tried, record.reason, record.bucket_key), (Error::DryRun, Some("DRY_RUN"), None));
}
