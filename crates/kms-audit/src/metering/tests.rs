//! The meter against counts made in the plainest way, and what counts as what.

use std::{collections::BTreeMap, net::SocketAddr, sync::mpsc::channel, time::Duration};

use kms_core::{
    MadeKey, Phase, Record, Timestamp, Verdict,
    identity::{AccountId, Caller, Permissions, ProjectId, Region, UserId},
    key::{KeyId, KeyOrigin, KeySpec},
    operation::OperationName,
    ports::AuditLog as _,
    testing::audit::sample_record,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{FileLog, LogConfig, end};

const DAY: i64 = 86_400_000_000;
const SOURCE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4711);

pub(super) fn caller(account: &str) -> Caller {
    Caller {
        account: AccountId::parse(account).expect("a name"),
        user: UserId::parse("admin").expect("a name"),
        project: ProjectId::parse("p1").expect("a name"),
        region: Region::parse("cn-north-4").expect("a name"),
        projects: Arc::new([]),
        acting_service: None,
        permissions: Permissions::NONE,
        credential: kms_core::identity::Credential::Certificate([0xab; 32]),
        source: SOURCE,
    }
}

fn at(text: &str) -> Timestamp {
    let month: Month = text[..7].parse().expect("a month");
    let days: i64 = text[8..].parse().expect("a day");
    Timestamp::from_micros(month.start().as_micros() + (days - 1) * DAY)
}

fn month(text: &str) -> Month {
    text.parse().expect("a month")
}

fn key(number: u128) -> KeyId {
    KeyId::from_uuid(Uuid::from_u128(number))
}

/// A log in memory, as the meter sees it.
#[derive(Default)]
struct Story {
    meter: Meter,
    calls: u128,
}

impl Story {
    fn write(&mut self, record: &Record) {
        let line = RecordLine::new(self.meter.next(), record);
        self.meter.take(&line);
    }

    /// A call by `account`, without its outcome if it is a change.
    fn call(
        &mut self,
        account: &str,
        operation: OperationName,
        time: Timestamp,
        key: Option<KeyId>,
    ) -> Record {
        self.calls += 1;
        let record = Record {
            operation,
            time,
            caller: Some(caller(account)),
            key_id: key,
            ..sample_record(self.calls, Phase::Complete)
        };
        if operation.info().class == OperationClass::Change {
            let (phase, verdict) = (Phase::Intent, Verdict::Pending);
            self.write(&Record { phase, verdict, ..record.clone() });
            return Record { phase: Phase::Outcome, ..record };
        }
        record
    }

    fn does(&mut self, account: &str, operation: OperationName, time: Timestamp, key: Option<KeyId>) {
        let record = self.call(account, operation, time, key);
        self.write(&record);
    }

    fn makes(&mut self, account: &str, time: Timestamp, id: KeyId, spec: KeySpec, origin: KeyOrigin) {
        self.calls += 1;
        let record = Record {
            operation: OperationName::CreateKey,
            time,
            caller: Some(caller(account)),
            key_id: Some(id),
            made: Some(MadeKey { spec, origin }),
            ..sample_record(self.calls, Phase::Outcome)
        };
        self.write(&Record { phase: Phase::Intent, verdict: Verdict::Pending, ..record.clone() });
        self.write(&record);
    }

    fn report(&self, until: Timestamp) -> Vec<Metered> {
        self.meter.report(&everything(until))
    }

    /// How many days keys of a kind lived in a month.
    fn days(&self, account: &str, in_month: &str, kind: KeyKind, until: Timestamp) -> u64 {
        let all = self.report(until);
        let one =
            all.iter().find(|one| one.account.as_deref() == Some(account) && one.month == month(in_month));
        let micros = one.and_then(|one| one.keys.get(&kind)).copied().unwrap_or_default();
        micros / u64::try_from(DAY).expect("positive")
    }

    /// Calls of an operation in November 2026: answered, refused.
    fn calls(&self, account: Option<&str>, operation: OperationName) -> (u64, u64) {
        let all = self.report(at("2026-12-01"));
        let one = all.iter().find(|one| one.account.as_deref() == account && one.month == month("2026-11"));
        let calls = one.and_then(|one| one.calls.get(operation.info().name)).copied().unwrap_or_default();
        (calls.answered, calls.refused)
    }
}

fn everything(until: Timestamp) -> Asked {
    let months = Month::FIRST..=Month::LAST;
    Asked { months, account: None, until, after: None, limit: usize::MAX }
}

#[test]
fn a_key_is_counted_from_its_making_to_the_day_its_deletion_is_scheduled() {
    let (mut story, id, now) = (Story::default(), key(1), at("2027-02-11"));
    story.makes("acme", at("2026-11-21"), id, KeySpec::Aes256, KeyOrigin::Kms);
    let days = |story: &Story, month| story.days("acme", month, KeyKind::Symmetric, now);
    let each = |story: &Story| {
        ["2026-10", "2026-11", "2026-12", "2027-01", "2027-02"].map(|month| days(story, month))
    };
    assert_eq!(each(&story), [0, 10, 31, 31, 10]);
    story.does("acme", OperationName::DisableKey, at("2026-11-22"), Some(id));
    assert_eq!(each(&story), [0, 10, 31, 31, 10], "a disabled key costs");
    story.does("acme", OperationName::ScheduleKeyDeletion, at("2026-12-03"), Some(id));
    assert_eq!(each(&story), [0, 10, 2, 0, 0]);
    story.does("acme", OperationName::CancelKeyDeletion, at("2027-01-05"), Some(id));
    assert_eq!(each(&story), [0, 10, 31, 31, 10], "as if it had never been scheduled");
    story.does("acme", OperationName::ScheduleKeyDeletion, at("2027-01-11"), Some(id));
    // The service destroys it, in steps.
    for reason in [Some("GRANTS_DELETED"), None] {
        story.calls += 1;
        let operation = OperationName::DestroyKey;
        let sample = sample_record(story.calls, Phase::Outcome);
        story.write(&Record { operation, time: at("2027-01-20"), key_id: Some(id), reason, ..sample });
        assert_eq!(story.meter.keys(), u64::from(reason.is_some()));
    }
    assert_eq!(each(&story), [0, 10, 31, 10, 0]);
}

#[test]
fn keys_are_counted_by_kind_and_account() {
    let (mut story, made, now) = (Story::default(), at("2026-11-01"), at("2026-11-03"));
    story.makes("acme", made, key(1), KeySpec::Sm4, KeyOrigin::Kms);
    story.makes("acme", made, key(2), KeySpec::Hmac256, KeyOrigin::Kms);
    story.makes("acme", made, key(3), KeySpec::EcP256, KeyOrigin::Kms);
    story.makes("acme", made, key(4), KeySpec::Aes256, KeyOrigin::External);
    story.makes("globex", made, key(5), KeySpec::Aes256, KeyOrigin::Kms);
    story.does("acme", OperationName::CreateDefaultKey, made, Some(key(6)));
    story.does("acme", OperationName::CreateKey, made, Some(key(7)));
    let days = |account, kind| story.days(account, "2026-11", kind, now);
    assert_eq!(KeyKind::ALL.map(|kind| days("acme", kind)), [2, 4, 2, 2, 2]);
    assert_eq!(KeyKind::ALL.map(|kind| days("globex", kind)), [0, 2, 0, 0, 0]);
}

#[test]
fn what_a_crash_cut_off_was_done_when_its_intent_says() {
    let (mut story, now) = (Story::default(), at("2026-12-01"));
    let recover = |story: &mut Story, cut: &Record, verdict| {
        let (time, phase, caller) = (at("2026-11-30"), Phase::Recovery, None);
        let reason = (verdict == Verdict::Failed).then_some("NOT_COMMITTED");
        story.write(&Record { time, phase, caller, verdict, reason, made: None, ..cut.clone() });
    };
    let made = Some(MadeKey { spec: KeySpec::Rsa2048, origin: KeyOrigin::Kms });
    for (number, verdict) in [(1, Verdict::Succeeded), (2, Verdict::Failed)] {
        let (operation, phase, verdict_now) = (OperationName::CreateKey, Phase::Intent, Verdict::Pending);
        let time = at("2026-11-11");
        let key_id = Some(key(number));
        let caller = Some(caller("acme"));
        let sample = sample_record(number, phase);
        let cut = Record { operation, time, key_id, caller, made, verdict: verdict_now, ..sample };
        story.write(&cut);
        recover(&mut story, &cut, verdict);
    }
    assert_eq!(story.days("acme", "2026-11", KeyKind::Asymmetric, now), 20);
    let cut = story.call("acme", OperationName::ScheduleKeyDeletion, at("2026-11-21"), Some(key(1)));
    recover(&mut story, &cut, Verdict::Succeeded);
    assert_eq!(story.days("acme", "2026-11", KeyKind::Asymmetric, now), 10);
    assert_eq!(story.calls(Some("acme"), OperationName::CreateKey), (0, 0), "nobody was answered");
    assert!(story.meter.opened.is_empty());
}

#[test]
fn calls_are_counted_by_how_they_ended_and_work_of_the_service_is_not() {
    use OperationName::{
        DecryptDataKey, EnableKey, GenerateDataKey, GenerateDataKeys, GenerateRandom, RotateKey,
    };
    let (mut story, time) = (Story::default(), at("2026-11-11"));
    story.does("acme", EnableKey, time, Some(key(1)));
    for (verdict, count) in [(Verdict::Succeeded, 1), (Verdict::Failed, 1), (Verdict::Denied, 700)] {
        let record = story.call("acme", DecryptDataKey, time, None);
        story.write(&Record { verdict, count, ..record });
    }
    // A batch of three, and one that was refused.
    for part in [true, true, true, false] {
        let operation = if part { GenerateDataKey } else { GenerateDataKeys };
        let mut record = story.call("acme", operation, time, None);
        if part {
            record.request_id = uuid::Builder::from_custom_bytes([7; 16]).into_uuid();
        }
        story.write(&record);
    }
    let refused = story.call("acme", GenerateDataKeys, time, None);
    story.write(&Record { verdict: Verdict::Failed, ..refused });
    // A rotation that a call needed, and one that was due.
    let part = story.call("acme", RotateKey, time, Some(key(1)));
    story
        .write(&Record { request_id: uuid::Builder::from_custom_bytes([8; 16]).into_uuid(), ..part.clone() });
    story.write(&Record { caller: None, ..part });
    story.does("acme", OperationName::CreateDefaultKey, time, Some(key(2)));
    // A stranger.
    let stranger = Some(kms_core::identity::Stranger { source: SOURCE, credential: None });
    let record = story.call("acme", GenerateRandom, time, None);
    story.write(&Record { caller: None, stranger, verdict: Verdict::Denied, count: 9, ..record });

    let acme = |operation| story.calls(Some("acme"), operation);
    assert_eq!(acme(EnableKey), (1, 0));
    assert_eq!(acme(DecryptDataKey), (1, 701));
    assert_eq!(acme(GenerateDataKey), (3, 0));
    assert_eq!(acme(GenerateDataKeys), (0, 1));
    assert_eq!(acme(RotateKey), (0, 0));
    assert_eq!(acme(OperationName::CreateDefaultKey), (0, 0));
    assert_eq!(story.calls(None, GenerateRandom), (0, 9));
    assert_eq!(story.calls(None, RotateKey), (0, 0));
}

#[test]
fn reports_come_in_pages_and_for_one_account() {
    let mut story = Story::default();
    for account in ["a", "b", "c"] {
        for day in ["2026-11-01", "2026-12-01", "2027-01-01"] {
            story.does(account, OperationName::GenerateRandom, at(day), None);
        }
    }
    let whole = story.report(at("2027-01-02"));
    assert_eq!(whole.len(), 9);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = story.meter.report(&Asked { after, limit: 2, ..everything(at("2027-01-02")) });
        let Some(last) = page.last() else { break };
        after = Some(Place { account: last.account.clone(), month: last.month });
        paged.extend(page);
    }
    assert_eq!(paged, whole);
    let account = Some("b".into());
    let months = month("2026-12")..=month("2026-12");
    let one = story.meter.report(&Asked { months, account, ..everything(at("2027-01-02")) });
    assert_eq!(one, whole[4..5]);
}

#[test]
fn months_are_those_of_the_calendar() {
    assert_eq!(Month::of(Timestamp::from_micros(-1)).to_string(), "1969-12");
    assert_eq!(Month::of(Timestamp::from_micros(0)), month("1970-01"));
    assert_eq!(month("2028-02").end().as_micros() - month("2028-02").start().as_micros(), 29 * DAY);
    assert_eq!(month("2026-12").next(), month("2027-01"));
    assert_eq!(month("2026-12").end(), month("2027-01").start());
    assert_eq!(Month::of(Timestamp::from_micros(i64::MIN)), Month::FIRST);
    assert_eq!(Month::of(Timestamp::from_micros(i64::MAX)), Month::LAST);
    assert!(Month::LAST.end() > Month::LAST.start());
    for text in
        ["", "2026", "2026-13", "2026-00", "2026-1", "26-01", "+026-01", "2026-11-01", "0000-01", "9999-01"]
    {
        assert!(text.parse::<Month>().is_err(), "{text}");
    }
}

#[test]
fn a_log_is_counted_over_its_segments_and_from_its_archive() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = FileLog::open(directory.path(), LogConfig { segment_bytes: 5_000 }, None).expect("a log");
    for number in 0..100 {
        let (sender, answers) = channel();
        let record = Record {
            operation: OperationName::GenerateRandom,
            caller: Some(caller("acme")),
            latency: Duration::ZERO,
            ..sample_record(number, Phase::Complete)
        };
        log.append(record, Box::new(move |answer| sender.send(answer).expect("a listener")));
        answers.recv().expect("an answer").expect("durable");
    }
    let end = end(directory.path()).expect("a log");
    let counted =
        |meter: &mut Meter, path: &std::path::Path| while !count(meter, path, end).expect("a log") {};
    let answered = |meter: &Meter| {
        let all = meter.report(&everything(Timestamp::from_micros(0)));
        all.iter().map(|one| one.calls["GenerateRandom"].answered).sum::<u64>()
    };
    let mut whole = Meter::default();
    counted(&mut whole, directory.path());
    assert_eq!((answered(&whole), whole.next(), whole.whole_since()), (100, end, None));

    // The first two segments go into an archive.
    let archive = tempfile::tempdir().expect("a directory");
    let mut segments: Vec<_> = std::fs::read_dir(directory.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    segments.sort();
    for path in &segments[..2] {
        std::fs::rename(path, archive.path().join(path.file_name().expect("a name"))).expect("moved");
    }
    let mut late = Meter::default();
    counted(&mut late, directory.path());
    assert!(late.whole_since().is_some());
    let missing = 100 - answered(&late);
    assert!(missing > 0);
    let mut both = Meter::default();
    let archived = crate::end(archive.path()).expect("a log");
    while !count(&mut both, archive.path(), archived).expect("a log") {}
    assert_eq!(answered(&both), missing);
    counted(&mut both, directory.path());
    assert_eq!((answered(&both), both.whole_since()), (100, None));

    let mut gap = Meter::default();
    std::fs::remove_file(archive.path().join(segments[1].file_name().expect("a name"))).expect("there");
    let archived = crate::end(archive.path()).expect("a log");
    while !count(&mut gap, archive.path(), archived).expect("a log") {}
    assert!(matches!(count(&mut gap, directory.path(), end), Err(MeteringError::Gap { .. })));
}

/// What happens to a key after a while.
#[derive(Debug, Clone, Copy)]
enum Event {
    Make,
    Schedule,
    Cancel,
    Destroy,
}

/// A key as the plain count has it: when it began and ended, and whether it is there.
#[derive(Default, Clone)]
struct Plain {
    made: Option<i64>,
    scheduled: Option<i64>,
}

proptest! {
    #[test]
    fn the_sums_are_those_of_a_plain_count(
        events in prop::collection::vec(
            (0..4_u8, prop::sample::select(vec![Event::Make, Event::Schedule, Event::Cancel, Event::Destroy]), 0..25 * DAY),
            0..60,
        ),
        rest in 0..90 * DAY,
    ) {
        let (mut story, mut now) = (Story::default(), at("2026-11-14").as_micros());
        let mut plain: Vec<Plain> = vec![Plain::default(); 4];
        let (mut lives, mut fresh) = (Vec::new(), 0_u128);
        let mut ids = [key(1000), key(1001), key(1002), key(1003)];
        for (slot, event, wait) in events {
            now += wait;
            let (slot, time) = (usize::from(slot), Timestamp::from_micros(now));
            let (id, one) = (ids[slot], &mut plain[slot]);
            match (event, one.made, one.scheduled) {
                (Event::Make, None, _) => {
                    fresh += 1;
                    ids[slot] = key(fresh);
                    one.made = Some(now);
                    story.makes("acme", time, ids[slot], KeySpec::Aes256, KeyOrigin::Kms);
                }
                (Event::Schedule, Some(_), None) => {
                    one.scheduled = Some(now);
                    story.does("acme", OperationName::ScheduleKeyDeletion, time, Some(id));
                }
                (Event::Cancel, Some(_), Some(_)) => {
                    one.scheduled = None;
                    story.does("acme", OperationName::CancelKeyDeletion, time, Some(id));
                }
                (Event::Destroy, Some(made), Some(end)) => {
                    lives.push((made, end));
                    *one = Plain::default();
                    story.does("acme", OperationName::DestroyKey, time, Some(id));
                }
                _ => {}
            }
        }
        now += rest;
        lives.extend(plain.iter().filter_map(|one| Some((one.made?, one.scheduled.unwrap_or(now)))));
        let mut expected = BTreeMap::new();
        let mut month = Month::of(at("2026-11-14"));
        while month.start().as_micros() <= now {
            let (start, end) = (month.start().as_micros(), month.end().as_micros());
            let micros = lives.iter().map(|(from, until)| (end.min(*until) - start.max(*from)).max(0)).sum::<i64>();
            if micros > 0 {
                expected.insert(month, u64::try_from(micros).expect("positive"));
            }
            month = month.next();
        }
        let counted: BTreeMap<_, _> = story
            .report(Timestamp::from_micros(now))
            .into_iter()
            .filter_map(|one| Some((one.month, *one.keys.get(&KeyKind::Symmetric)?)))
            .collect();
        prop_assert_eq!(counted, expected);
    }
}
