//! Reading the log: who may, who sees what of it, and that reading is recorded.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_executor::block_on;
use kms_core::{
    Error, Phase, Record, SecretBytes, Timestamp, Verdict,
    context::EncryptionContext,
    identity::{AccountId, Caller, Permissions, UserId},
    key::KeyId,
    operation::{Action, OperationName},
    ops::{
        DisableKey, EncryptDataKey, GetMetering, MeteredAccounts, MeteringSource, PendingDays, QueryRecords,
        RecordSource, ScheduleKeyDeletion, StreamRecords,
    },
    ports::{AuditError, BoxFuture},
    reading::{RecordFacts, RecordFilter, Selection},
    testing::audit::FakeAuditLog,
};

use crate::{
    rotation::support::operator,
    support::{World, caller, context, create, generate, grant, owner, with},
};

/// All of a log in memory at once.
#[derive(Clone)]
struct WholeLog(Arc<FakeAuditLog>);

impl RecordSource for WholeLog {
    type Page = Vec<Record>;

    fn read(&self, selection: Selection) -> BoxFuture<'_, Result<Vec<Record>, AuditError>> {
        let records = self.0.records().into_iter().filter(|record| admits(&selection, record)).collect();
        Box::pin(std::future::ready(Ok(records)))
    }
}

/// Answers whose sums it is asked for, and up to when.
#[derive(Clone)]
struct Mirror;

impl MeteringSource for Mirror {
    type Page = (MeteredAccounts, Timestamp);

    fn read(
        &self,
        accounts: MeteredAccounts,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Self::Page, AuditError>> {
        Box::pin(std::future::ready(Ok((accounts, now))))
    }
}

/// A log that cannot be read.
struct NoLog;

impl RecordSource for NoLog {
    type Page = ();

    fn read(&self, _: Selection) -> BoxFuture<'_, Result<(), AuditError>> {
        Box::pin(std::future::ready(Err(AuditError { detail: "the disk is gone".to_owned() })))
    }
}

fn admits(selection: &Selection, record: &Record) -> bool {
    let caller = record.caller.as_ref();
    selection.admits(&RecordFacts {
        time: record.time,
        account: caller.map(|caller| caller.account.as_str()),
        user: caller.map(|caller| caller.user.as_str()),
        key_id: record.key_id,
        source_key_id: record.source_key_id,
        operation: record.operation,
        verdict: record.verdict,
        reason: record.reason,
        request_id: record.request_id,
        context: &record.context,
        source_context: &record.source_context,
    })
}

fn query(world: &World, reader: &Caller, filter: RecordFilter) -> Vec<Record> {
    let source = WholeLog(world.audit.clone());
    world.run(reader, QueryRecords { filter, source }).expect("may read")
}

fn all() -> RecordFilter {
    RecordFilter::default()
}

fn of_key(key: KeyId) -> RecordFilter {
    RecordFilter { key_id: Some(key), ..all() }
}

fn holding(pairs: &[(&str, &str)]) -> RecordFilter {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let context = EncryptionContext::new(pairs.collect::<BTreeMap<_, _>>()).expect("short enough");
    RecordFilter { context: Some(context), ..all() }
}

fn operations(records: &[Record]) -> Vec<OperationName> {
    records.iter().map(|record| record.operation).collect()
}

fn zeta() -> Caller {
    caller("zeta", "cn-north-4")
}

fn seal(world: &World, caller: &Caller, key: KeyId) {
    let secret = SecretBytes::new(vec![5; 32]);
    let encrypt = EncryptDataKey::new(key.into(), secret, context()).expect("a data key");
    world.run(caller, encrypt).expect("may");
}

#[test]
fn who_may_not_read_learns_nothing_and_is_recorded() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let others: Permissions = Action::ALL.iter().copied().filter(|one| *one != Action::AuditRead).collect();
    for reader in [with(others), with(Permissions::NONE)] {
        let denied = Error::denied(Action::AuditRead);
        let (ended, records) = world.records_of(|| {
            let source = WholeLog(world.audit.clone());
            let queried = world.run(&reader, QueryRecords { filter: of_key(key), source });
            (queried.map(drop), world.run(&reader, StreamRecords { filter: of_key(key) }).map(drop))
        });
        assert_eq!(ended, (Err(denied.clone()), Err(denied)));
        assert_eq!(operations(&records), [OperationName::QueryRecords, OperationName::StreamRecords]);
        for record in records {
            assert_eq!((record.verdict, record.missing_action), (Verdict::Denied, Some(Action::AuditRead)));
            assert_eq!((record.phase, record.key_id), (Phase::Complete, None));
        }
    }
}

#[test]
fn an_account_sees_its_own_records_and_operators_see_all() {
    let world = World::new();
    world.key(&owner(), "mine");
    world.key(&zeta(), "theirs");
    world.key(&caller("acme", "cn-east-3"), "elsewhere");
    let seen_by = |reader: &Caller| query(&world, reader, all());
    let of_account = |records: &[Record], account: &str| {
        records
            .iter()
            .filter(|one| one.caller.as_ref().is_some_and(|caller| caller.account.as_str() == account))
            .count()
    };
    for (reader, account, count) in [(owner(), "acme", 4), (zeta(), "zeta", 2)] {
        let seen = seen_by(&reader);
        assert_eq!((seen.len(), of_account(&seen, account)), (count, count), "{account}");
        let filter = RecordFilter { account: AccountId::parse("acme"), ..all() };
        let seen = query(&world, &reader, filter);
        assert_eq!(seen.is_empty(), account == "zeta", "a filter does not widen what is seen");
    }
    let seen = seen_by(&operator());
    assert_eq!(seen.len() + 1, world.audit.records().len(), "all but the reading itself");
}

#[test]
fn the_owner_of_a_key_sees_what_others_and_the_service_did_with_it() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let other = world.key(&owner(), "other").id;
    world.run(&owner(), grant(key)).expect("its own");
    seal(&world, &zeta(), key);
    seal(&world, &owner(), other);
    let seen = query(&world, &owner(), of_key(key));
    // A change is an intent and an outcome.
    let expected = [
        OperationName::CreateKey,
        OperationName::CreateKey,
        OperationName::CreateGrant,
        OperationName::CreateGrant,
        OperationName::EncryptDataKey,
    ];
    assert_eq!(operations(&seen), expected);
    // Who was granted it sees its own calls only, whatever it looks for, and of another's key that there is nothing.
    assert_eq!(operations(&query(&world, &zeta(), of_key(key))), [OperationName::EncryptDataKey]);
    assert_eq!(operations(&query(&world, &zeta(), of_key(other))), []);
    let record = world.audit.records().pop().expect("of the reading");
    assert_eq!(record.key_id, None, "a key of another account is not confirmed in the record either");
}

#[test]
fn a_destroyed_keys_records_are_still_its_owners() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: key.into(), pending }).expect("enabled");
    world.clock.advance(Duration::from_secs(8 * 24 * 3600));
    let due = block_on(world.service.due(None, 10)).expect("the store works").entries;
    for entry in due {
        block_on(world.service.carry_out(entry)).expect("nothing is in the way");
    }
    let seen = operations(&query(&world, &owner(), of_key(key)));
    assert_eq!(seen.last(), Some(&OperationName::DestroyKey), "{seen:?}");
}

#[test]
fn a_context_is_found_by_who_knows_its_values() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.run(&owner(), generate(key.into())).expect("enabled");
    for known in [&[("bucket", "photos")][..], &[("object", "harbour.jpg"), ("bucket", "photos")]] {
        for reader in [owner(), operator()] {
            let seen = operations(&query(&world, &reader, holding(known)));
            assert_eq!(seen, [OperationName::GenerateDataKey], "{known:?}");
        }
        assert_eq!(operations(&query(&world, &zeta(), holding(known))), []);
    }
    for wrong in
        [&[("bucket", "photo")][..], &[("buckets", "photos")], &[("bucket", "photos"), ("object", "x")]]
    {
        assert_eq!(operations(&query(&world, &operator(), holding(wrong))), [], "{wrong:?}");
    }
}

#[test]
fn every_filter_narrows() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let before = query(&world, &operator(), all()).pop().expect("a record").time;
    world.clock.advance(Duration::from_secs(5));
    world.run(&owner(), DisableKey { key: key.into() }).expect("enabled");
    world.run(&owner(), generate(key.into())).expect_err("disabled");
    let refused = world.audit.records().pop().expect("of the refusal");
    let later = Timestamp::from_micros(before.as_micros() + 5_000_000);
    assert_eq!(refused.time, later);
    let only_refused = [
        RecordFilter { operation: Some(OperationName::GenerateDataKey), ..all() },
        RecordFilter { reason: Some("KEY_DISABLED".to_owned()), ..all() },
        RecordFilter { request_id: Some(refused.request_id), ..all() },
        RecordFilter { verdict: Some(Verdict::Failed), from: Some(later), ..of_key(key) },
    ];
    for filter in only_refused {
        let seen = query(&world, &owner(), filter.clone());
        let [record] = &seen[..] else { panic!("{} records by {filter:?}", seen.len()) };
        assert_eq!(record.request_id, refused.request_id);
    }
    let nothing = [
        RecordFilter { until: Some(before), ..all() },
        RecordFilter { reason: Some("KEY_DISABLE".to_owned()), ..all() },
        RecordFilter { user: UserId::parse("somebody"), ..all() },
        RecordFilter { user: UserId::parse("olga"), account: AccountId::parse("acme"), ..all() },
        RecordFilter { verdict: Some(Verdict::Denied), ..all() },
    ];
    for filter in nothing {
        assert_eq!(query(&world, &owner(), filter.clone()).len(), 0, "{filter:?}");
    }
    let until = query(&world, &operator(), RecordFilter { until: Some(later), ..all() });
    assert!(!until.is_empty() && until.iter().all(|record| record.time < later));
}

#[test]
fn reading_is_recorded_with_the_key_and_does_not_find_itself() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    for reader in [owner(), operator()] {
        let (seen, records) = world.records_of(|| query(&world, &reader, of_key(key)));
        let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
        assert_eq!((record.operation, record.key_id), (OperationName::QueryRecords, Some(key)));
        assert_eq!((record.phase, record.verdict), (Phase::Complete, Verdict::Succeeded));
        assert!(seen.iter().all(|seen| seen.request_id != record.request_id));
        let filter = RecordFilter { operation: Some(OperationName::QueryRecords), ..all() };
        assert!(query(&world, &operator(), filter).iter().any(|seen| seen.request_id == record.request_id));
    }
    let (selection, records) =
        world.records_of(|| world.run(&owner(), StreamRecords { filter: of_key(key) }));
    let selection = selection.expect("may read");
    assert_eq!(operations(&records), [OperationName::StreamRecords]);
    world.run(&owner(), generate(key.into())).expect("enabled");
    assert!(admits(&selection, &world.audit.records().pop().expect("of the use")));
    world.run(&owner(), create("another")).expect("the name is free");
    assert!(!admits(&selection, &world.audit.records().pop().expect("of the other key")));
}

#[test]
fn a_log_that_cannot_be_read_fails_the_reading_and_that_is_recorded() {
    let world = World::new();
    let (ended, records) =
        world.records_of(|| world.run(&operator(), QueryRecords { filter: all(), source: NoLog }));
    assert!(matches!(ended, Err(Error::AuditUnavailable(_))), "{ended:?}");
    assert_eq!((records[0].verdict, records[0].reason), (Verdict::Failed, Some("AUDIT_UNAVAILABLE")));
}

#[test]
fn an_account_sees_its_own_sums_and_operators_see_all() {
    let world = World::new();
    let of = |name: &str| AccountId::parse(name).expect("a name");
    let read = |reader: &Caller, account: Option<&str>| {
        let metering = GetMetering { account: account.map(of), source: Mirror };
        let (answered, records) = world.records_of(|| world.run(reader, metering));
        assert_eq!(operations(&records), [OperationName::GetMetering], "reading is recorded");
        answered.map(|(accounts, now)| {
            assert_eq!(now, records[0].time);
            accounts
        })
    };
    assert_eq!(read(&owner(), None), Ok(MeteredAccounts::One(of("acme"))));
    assert_eq!(read(&owner(), Some("acme")), Ok(MeteredAccounts::One(of("acme"))));
    assert_eq!(read(&owner(), Some("zeta")), Ok(MeteredAccounts::None));
    assert_eq!(read(&operator(), None), Ok(MeteredAccounts::All));
    assert_eq!(read(&operator(), Some("zeta")), Ok(MeteredAccounts::One(of("zeta"))));
    let denied = Err(Error::denied(Action::AuditRead));
    assert_eq!(read(&with(Permissions::NONE), None), denied);
}
