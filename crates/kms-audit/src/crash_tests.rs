//! Cuts the power and breaks the disk at every operation of a small log's life.

use std::sync::{Arc, Mutex};

use kms_core::{Phase, ports::Receipt, testing::audit::sample_record};

use crate::{
    journal::{Journal, Pending},
    line::Line,
    memory_storage::MemoryStorage,
    recovery::{Kept, open},
};

/// Small enough for a new segment after a few records.
const SEGMENT_BYTES: u64 = 900;

/// What was acknowledged: the place in the log and the request.
type Acknowledged = Arc<Mutex<Vec<(u64, u128)>>>;

fn pending(request: u128, phase: Phase, acknowledged: &Acknowledged) -> Pending {
    let acknowledged = Arc::clone(acknowledged);
    let acknowledge = move |answer: Result<Receipt, _>| {
        if let Ok(receipt) = answer {
            acknowledged.lock().expect("not poisoned").push((receipt.sequence(), request));
        }
    };
    Pending { record: sample_record(request, phase), acknowledge: Some(Box::new(acknowledge)) }
}

/// Intents, outcomes and reads, in commits of one to five records, over several segments.
fn batches() -> Vec<Vec<(u128, Phase)>> {
    use Phase::{Complete, Intent, Outcome};
    vec![
        vec![(1, Intent)],
        vec![(2, Complete), (3, Complete), (4, Complete)],
        vec![(1, Outcome), (5, Intent)],
        vec![(6, Complete), (7, Complete), (8, Complete), (9, Complete), (10, Complete)],
        vec![(11, Complete)],
        vec![(5, Outcome)],
        vec![(12, Intent), (13, Complete)],
        vec![(14, Complete)],
    ]
}

/// Lives the small log's life on `disk`, as far as the disk allows.
fn live(disk: &MemoryStorage) -> Vec<(u64, u128)> {
    let acknowledged = Acknowledged::default();
    if let Ok((mut journal, _)) = open(disk.clone(), SEGMENT_BYTES, Kept::default()) {
        for batch in batches() {
            commit(&mut journal, &batch, &acknowledged);
        }
        journal.close();
    }
    acknowledged.lock().expect("not poisoned").clone()
}

fn commit(journal: &mut Journal<MemoryStorage>, batch: &[(u128, Phase)], acknowledged: &Acknowledged) {
    let mut records: Vec<Pending> =
        batch.iter().map(|(request, phase)| pending(*request, *phase, acknowledged)).collect();
    journal.commit(&mut records);
}

/// The log opens, takes a record, and has all that was acknowledged where it was acknowledged.
fn check(disk: &MemoryStorage, acknowledged: &[(u64, u128)], story: &str) {
    let (mut journal, _) =
        open(disk.clone(), SEGMENT_BYTES, Kept::default()).unwrap_or_else(|error| panic!("{story}: {error}"));
    let later = Acknowledged::default();
    commit(&mut journal, &[(99, Phase::Complete)], &later);
    journal.close();
    assert_eq!(later.lock().expect("not poisoned").len(), 1, "{story}: works again");
    let lines = disk.verified_lines();
    for (sequence, request) in acknowledged {
        let line = usize::try_from(*sequence).ok().and_then(|place| lines.get(place));
        let line = line.unwrap_or_else(|| panic!("{story}: record {sequence} is lost"));
        let Ok(Line::Record(record)) = Line::parse(line) else { panic!("{story}: {sequence} is no record") };
        assert_eq!(record.request_id.as_u128(), *request, "{story}: another record at {sequence}");
    }
}

fn all_states(disk: &MemoryStorage) -> impl Iterator<Item = MemoryStorage> {
    disk.after_power_cut().into_iter().chain([disk.after_kill()])
}

fn operations_of_a_life() -> usize {
    let disk = MemoryStorage::default();
    let acknowledged = live(&disk);
    assert_eq!(acknowledged.len(), batches().concat().len(), "an undisturbed life has no failures");
    disk.operations()
}

#[test]
fn acknowledged_records_survive_a_power_cut_at_any_moment() {
    for moment in 0..=operations_of_a_life() {
        let disk = MemoryStorage::default();
        disk.cut_power_at(moment);
        let acknowledged = live(&disk);
        for (index, state) in all_states(&disk).enumerate() {
            check(&state, &acknowledged, &format!("power cut at {moment}, state {index}"));
        }
    }
}

#[test]
fn acknowledged_records_survive_an_error_and_a_power_cut_after_it() {
    for fault in 0..operations_of_a_life() {
        // A repair takes fewer operations than this; the last moment is after the whole life.
        for moment in (fault + 1..fault + 16).chain([usize::MAX]) {
            let disk = MemoryStorage::default();
            disk.fail_at(fault);
            disk.cut_power_at(moment);
            let acknowledged = live(&disk);
            for (index, state) in all_states(&disk).enumerate() {
                check(&state, &acknowledged, &format!("error at {fault}, cut at {moment}, state {index}"));
            }
        }
    }
}

#[test]
fn acknowledged_records_survive_a_power_cut_during_and_after_the_repair() {
    for first_cut in 0..=operations_of_a_life() {
        let disk = MemoryStorage::default();
        disk.cut_power_at(first_cut);
        let acknowledged = live(&disk);
        // To open, to cut, and to commit one record takes no more operations than these.
        let (after_a_cut, after_a_kill) = ((1..8).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 100]);
        let cuts = disk.after_power_cut().into_iter().map(|state| (state, &after_a_cut[..]));
        for (state, second_cuts) in cuts.chain([(disk.after_kill(), &after_a_kill[..])]) {
            let before = state.operations();
            for second_cut in second_cuts {
                let disk = state.after_kill();
                disk.cut_power_at(before + second_cut);
                let later = Acknowledged::default();
                if let Ok((mut journal, _)) = open(disk.clone(), SEGMENT_BYTES, Kept::default()) {
                    commit(&mut journal, &[(77, Phase::Complete)], &later);
                }
                let mut expected = acknowledged.clone();
                expected.extend(later.lock().expect("not poisoned").iter());
                for image in disk.after_power_cut() {
                    check(&image, &expected, &format!("power cuts at {first_cut} and {second_cut}"));
                }
            }
        }
    }
}

#[test]
fn outcomes_that_failed_are_in_the_log_after_the_repair() {
    for fault in 0..operations_of_a_life() {
        let disk = MemoryStorage::default();
        let acknowledged = Acknowledged::default();
        let Ok((mut journal, _)) = open(disk.clone(), SEGMENT_BYTES, Kept::default()) else { continue };
        disk.fail_at(fault + disk.operations());
        for batch in batches() {
            commit(&mut journal, &batch, &acknowledged);
        }
        commit(&mut journal, &[], &acknowledged);
        drop(journal);
        let lines = disk.verified_lines();
        let outcomes = lines.iter().filter_map(|line| match Line::parse(line) {
            Ok(Line::Record(record)) if record.phase == Phase::Outcome => Some(record.request_id.as_u128()),
            _ => None,
        });
        assert!(outcomes.eq([1, 5]), "error at {fault}: every outcome is there once");
    }
}
