//! The audit log of a deployment, read as an outsider would.

use std::{collections::HashMap, path::Path};

use kms_audit::{Entry, Line};
use serde_json::Value;

use crate::eventually;

/// All records of the deployment in `data_dir`, in order.
///
/// # Panics
/// If the log cannot be read.
pub fn records(data_dir: &Path) -> Vec<Value> {
    let lines = kms_audit::read(&data_dir.join("audit")).expect("the log can be read");
    let records = lines.map(|entry| entry.expect("a sound line")).filter_map(|entry| {
        let Entry { line: Line::Record(_), bytes, .. } = entry else { return None };
        Some(serde_json::from_slice(&bytes).expect("a line is JSON"))
    });
    records.collect()
}

/// The records of one call.
///
/// # Panics
/// If the log cannot be read.
pub fn records_of(data_dir: &Path, request_id: &str) -> Vec<Value> {
    records(data_dir).into_iter().filter(|record| record["request_id"] == request_id).collect()
}

/// Checks the log whole, and that each change that was begun has exactly one end.
///
/// # Panics
/// If not so.
pub fn check_log(data_dir: &Path) {
    let summary = kms_audit::verify(&data_dir.join("audit")).expect("the log is sound");
    assert_eq!(summary.open_intents, [], "changes without an outcome");
    let mut ends: HashMap<String, Vec<String>> = HashMap::new();
    for record in records(data_dir) {
        let call = format!("{} {}", record["request_id"], record["operation"]);
        ends.entry(call).or_default().push(record["phase"].as_str().expect("a phase").to_owned());
    }
    for (call, phases) in ends {
        let sound = match &phases[..] {
            [only] => only == "complete",
            [first, second] => first == "intent" && (second == "outcome" || second == "recovery"),
            _ => false,
        };
        assert!(sound, "{call}: {phases:?}");
    }
}

/// Waits until no change is under way any more.
///
/// # Panics
/// If that never comes.
pub async fn all_changes_ended(data_dir: &Path) {
    eventually("an outcome for every intent", async || {
        let records = records(data_dir);
        let count = |phase: &str| records.iter().filter(|record| record["phase"] == phase).count();
        (count("intent") == count("outcome") + count("recovery")).then_some(())
    })
    .await;
}
