//! What the audit log says of all this.

use std::{collections::BTreeMap, path::Path};

use kms_audit::Line;
use serde_json::Value;

use crate::{
    failure::{During as _, Failure},
    report::{heading, say},
};

const VERDICTS: [&str; 4] = ["pending", "succeeded", "denied", "failed"];

/// The place in the log of the next line.
pub(crate) fn end(directory: &Path) -> Result<u64, Failure> {
    Ok(kms_audit::verify(directory).during("checking the audit log")?.lines)
}

/// The first record from the place `since` on that `is_it`.
pub(crate) fn find(
    directory: &Path,
    since: u64,
    is_it: impl Fn(&Value) -> bool,
) -> Result<Option<Value>, Failure> {
    for (sequence, entry) in (0..).zip(kms_audit::read(directory).during("reading the audit log")?) {
        let entry = entry.during("reading the audit log")?;
        if sequence >= since && matches!(entry.line, Line::Record(_)) {
            let record = serde_json::from_slice(&entry.bytes).during("reading a record")?;
            if is_it(&record) {
                return Ok(Some(record));
            }
        }
    }
    Ok(None)
}

/// Shows the lines from the place `since` on, counts all, and checks the whole log.
pub(crate) fn show(directory: &Path, since: u64) -> Result<(), Failure> {
    let mut count = Count::default();
    for (sequence, entry) in (0..).zip(kms_audit::read(directory).during("reading the audit log")?) {
        let entry = entry.during("reading the audit log")?;
        if sequence >= since {
            heading(String::from_utf8_lossy(&entry.bytes));
        }
        if matches!(entry.line, Line::Record(_)) {
            count.add(&serde_json::from_slice(&entry.bytes).during("reading a record")?);
        }
    }
    count.show();
    let summary = kms_audit::verify(directory).during("checking the audit log")?;
    if summary.records != count.records || !summary.open_intents.is_empty() || summary.torn_bytes != 0 {
        return Err(Failure::new(format!("the audit log is not complete: {summary:?}")));
    }
    heading(format_args!(
        "   Verified from the files alone: {} records (segment files: {}), all canonical,\n   none missing or twice, every change with its outcome.",
        summary.records, summary.segments
    ));
    Ok(())
}

/// How many records there are of which kind.
#[derive(Default)]
struct Count {
    by_operation: BTreeMap<String, [u64; 4]>,
    records: u64,
    throttled_calls: u64,
}

impl Count {
    fn add(&mut self, record: &Value) {
        let verdicts = self.by_operation.entry(word(record, "operation").to_owned()).or_default();
        if let Some(index) = VERDICTS.iter().position(|verdict| *verdict == word(record, "verdict")) {
            verdicts[index] += 1;
        }
        self.records += 1;
        if word(record, "reason") == "THROTTLED" {
            self.throttled_calls += record["count"].as_u64().unwrap_or_default();
        }
    }

    fn show(&self) {
        heading("   Records of the whole demo, by operation and verdict:");
        let [pending, succeeded, denied, failed] = VERDICTS;
        say(format_args!("   {:<22} {pending:>9} {succeeded:>9} {denied:>9} {failed:>9}", ""));
        for (operation, [pending, succeeded, denied, failed]) in &self.by_operation {
            say(format_args!("   {operation:<22} {pending:>9} {succeeded:>9} {denied:>9} {failed:>9}"));
        }
        say("   A change has a pending record before it and one with its outcome after it.");
        if self.throttled_calls > 0 {
            say(format_args!(
                "   {} of the denied calls were over the user's traffic limit; the client sent them again.",
                self.throttled_calls
            ));
        }
    }
}

fn word<'a>(record: &'a Value, member: &str) -> &'a str {
    record[member].as_str().unwrap_or_default()
}
