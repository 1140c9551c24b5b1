//! The judgement at the end: does the log say what was answered, and do the faults explain what failed?

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use kms_audit::{Entry, Line};
use serde_json::Value;

use crate::{
    injector::Episode,
    ledger::{Acknowledged, Caller, Failure, Ledger},
};

/// An outage that kms-client's retry outlasts: "The defaults outlast any outage of up to 2 s".
const OUTLASTED: Duration = Duration::from_secs(2);

/// What the log says.
#[derive(Debug, Default)]
struct Log {
    records: u64,
    /// Records that say success, by name and operation.
    named: HashMap<(String, u64), u32>,
    /// The same by call.
    requests: HashMap<String, u32>,
    /// Successful ends of changes, by operation and key.
    changes: HashMap<(String, String), u32>,
    /// Intents without an end, by call and operation.
    open: HashSet<String>,
}

/// Checks the log against what was acknowledged; gives the number of its records.
pub(crate) fn check_log(data_dir: &Path, ledger: &Ledger) -> u64 {
    let audit = data_dir.join("audit");
    match kms_audit::verify(&audit) {
        Ok(summary) if summary.open_intents.is_empty() => {}
        Ok(summary) => ledger.violation(format!("changes without an end: {:?}", summary.open_intents)),
        Err(error) => ledger.violation(format!("the log does not verify: {error}")),
    }
    let log = read(&audit, ledger);
    for what in differences(&log, &ledger.acknowledged()) {
        ledger.violation(what);
    }
    log.records
}

fn read(audit: &Path, ledger: &Ledger) -> Log {
    let mut log = Log::default();
    for entry in kms_audit::read(audit).into_iter().flatten() {
        let Ok(Entry { line: Line::Record(_), bytes, .. }) = entry else { continue };
        match serde_json::from_slice(&bytes) {
            Ok(record) => log.take(&record, ledger),
            Err(error) => ledger.violation(format!("a record is no JSON: {error}")),
        }
    }
    log
}

impl Log {
    fn take(&mut self, record: &Value, ledger: &Ledger) {
        self.records += 1;
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        let (call, operation) = (text("request_id"), text("operation"));
        let sound = match &*text("phase") {
            "complete" => true,
            "intent" => self.open.insert(format!("{call} {operation}")),
            "outcome" | "recovery" => self.open.remove(&format!("{call} {operation}")),
            _ => false,
        };
        if !sound {
            ledger.violation(format!("a record out of order: {record}"));
        }
        if record["verdict"] != "succeeded" {
            return;
        }
        if record["phase"] != "complete" {
            *self.changes.entry((operation, text("key_id"))).or_default() += 1;
            return;
        }
        *self.requests.entry(call).or_default() += 1;
        let name = record["context"].as_object().and_then(|context| context.keys().next());
        if let Some(name) = name.and_then(|name| u64::from_str_radix(name, 16).ok()) {
            *self.named.entry((operation, name)).or_default() += 1;
        }
    }
}

/// What was acknowledged and is not recorded, or the reverse.
fn differences(log: &Log, acknowledged: &Acknowledged) -> Vec<String> {
    let mut found = Vec::new();
    for ((operation, name), times) in &acknowledged.named {
        let recorded = log.named.get(&((*operation).to_owned(), *name)).copied().unwrap_or(0);
        if recorded < *times {
            found.push(format!("{operation} {name:x}: {times} answers, {recorded} records"));
        }
    }
    for (call, operation) in &acknowledged.requests {
        let recorded = log.requests.get(call).copied().unwrap_or(0);
        if recorded != 1 {
            found.push(format!("{operation} {call}: one answer, {recorded} records"));
        }
    }
    for ((operation, key_id), times) in &acknowledged.changes {
        let recorded = log.changes.get(&((*operation).to_owned(), key_id.clone())).copied().unwrap_or(0);
        if recorded < *times {
            found.push(format!("{operation} of {key_id}: {times} answers, {recorded} outcomes"));
        }
    }
    let refused = acknowledged.refused.iter().filter(|call| log.requests.contains_key(*call));
    found.extend(refused.map(|call| format!("{call} was refused, and its record says success")));
    found
}

/// Failures that no fault explains.
pub(crate) fn unexplained(failures: &[Failure], episodes: &[Episode]) -> Vec<String> {
    let unexplained = failures.iter().filter(|failure| !is_explained(failure, episodes));
    unexplained.map(|failure| format!("no fault explains {failure:?}")).collect()
}

/// Who does not retry, may fail in any fault; who does, only in outages that last longer than the retry. What
/// changes a key is not repeated if it may have been done.
fn is_explained(failure: &Failure, episodes: &[Episode]) -> bool {
    let mut met =
        episodes.iter().filter(|episode| episode.begin <= failure.end && failure.begin <= episode.healed);
    match failure.caller {
        Caller::Once | Caller::Changing => met.next().is_some(),
        Caller::Retrying => met.any(|episode| episode.healed - episode.begin > OUTLASTED),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::faults::Fault;

    fn episode(begin: Instant, seconds: u64) -> Episode {
        let healed = begin + Duration::from_secs(seconds);
        Episode { fault: Fault::Kill, begin, over: begin, healed }
    }

    #[test]
    fn only_a_long_outage_explains_the_failure_of_who_retries() {
        let begin = Instant::now();
        let failure = |caller| Failure { caller, begin, end: begin, what: String::new() };
        let sorts = [Caller::Once, Caller::Changing, Caller::Retrying];
        let explained = |episodes: &[Episode]| sorts.map(|caller| is_explained(&failure(caller), episodes));
        assert_eq!(explained(&[]), [false; 3]);
        assert_eq!(explained(&[episode(begin + Duration::from_secs(1), 9)]), [false; 3]);
        assert_eq!(explained(&[episode(begin, 1)]), [true, true, false]);
        assert_eq!(explained(&[episode(begin, 3)]), [true; 3]);
    }

    #[test]
    fn answers_without_records_and_refusals_with_them_are_found() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.named.insert(("GenerateDataKey", 7), 2);
        acknowledged.requests.insert("twice".to_owned(), "DecryptDataKey");
        acknowledged.refused.insert("refused".to_owned());
        acknowledged.changes.insert(("CreateKey", "key".to_owned()), 1);
        let mut log = Log::default();
        log.named.insert(("GenerateDataKey".to_owned(), 7), 1);
        log.requests.extend([("twice".to_owned(), 2), ("refused".to_owned(), 1)]);
        assert_eq!(differences(&log, &acknowledged).len(), 4);
        log.named.insert(("GenerateDataKey".to_owned(), 7), 2);
        log.requests = HashMap::from([("twice".to_owned(), 1)]);
        log.changes.insert(("CreateKey".to_owned(), "key".to_owned()), 1);
        assert_eq!(differences(&log, &acknowledged), <[String; 0]>::default());
    }
}
