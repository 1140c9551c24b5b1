//! What a soak came to, in lines on stdout.
#![allow(clippy::print_stdout, reason = "the results are what it is for")]

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use dewpoint_tests::Module;

use crate::{
    injector::Episode,
    ledger::{Caller, Ledger},
    site::Site,
    watch::{self, Memory},
};

/// What is going to be done: with the seed it can be repeated.
pub(crate) fn begins(lasts: Duration, seed: u64) {
    println!("soak: {:?}, {} s, SOAK_SEED={seed}", Module::chosen(), lasts.as_secs());
}

/// The results; says whether nothing happened that must not.
pub(crate) fn results(
    site: &Site,
    ledger: &Ledger,
    episodes: &[Episode],
    memory: &Memory,
    records: u64,
) -> bool {
    let (parts, seconds) = memory.of_longest_life();
    if !watch::is_flat(&parts) {
        ledger.violation(format!("memory is not flat: {parts:.1?} MiB"));
    }
    let (calls, created) = (ledger.calls.load(Ordering::Relaxed), ledger.acknowledged().created.len());
    println!("calls: {calls}; records in the log: {records}; keys made meanwhile: {created}");
    for caller in [Caller::Retrying, Caller::Changing, Caller::Once] {
        let counts = ledger.counts().into_iter().filter(|((by, _), _)| *by == caller);
        let counts: Vec<_> = counts.map(|((_, what), count)| format!("{count} x {what}")).collect();
        println!("failed, {caller:?}: {}", if counts.is_empty() { "none".into() } else { counts.join(", ") });
    }
    println!("faults: {} in all", episodes.len());
    report_faults(episodes);
    let said = |message| site.supervised.said(message).len();
    println!(
        "heals: {}; sessions replaced: {}; renewals: {}; deaths of the worker: {}; workers: {}",
        said("the token works again"),
        said("an HSM session was opened in place of a lost one"),
        said("the PKCS#11 module was renewed, to free what it had leaked"),
        said("the worker died"),
        memory.workers(),
    );
    println!("memory of one worker over {seconds} s, medians of its quarters: {parts:.1?} MiB");
    let violations = ledger.violations();
    println!("violations: {}", violations.len());
    violations.iter().take(20).for_each(|violation| println!("  {violation}"));
    violations.is_empty()
}

fn report_faults(episodes: &[Episode]) {
    let mut kinds = BTreeMap::<&str, Vec<&Episode>>::new();
    for episode in episodes {
        kinds.entry(episode.fault.name()).or_default().push(episode);
    }
    for (name, episodes) in kinds {
        let longest = |span: fn(&Episode) -> Duration| episodes.iter().map(|one| span(one)).max();
        let outage = longest(|one| one.healed - one.begin).unwrap_or_default();
        let healing = longest(|one| one.healed - one.over).unwrap_or_default();
        println!(
            "  {:>4} {name}: longest {outage:.2?}, of which after its cause {healing:.2?}",
            episodes.len()
        );
    }
}
