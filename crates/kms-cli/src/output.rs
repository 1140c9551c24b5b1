//! What the commands print, and how they end.

use std::{
    error::Error as _,
    io::{self, Write as _},
    process::ExitCode,
};

use kms_client::Error;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Why a command did not do what it was told.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The service refused the call, or the call failed.
    Call(Error),
    /// The options, or the files that they name, cannot be used.
    Usage(String),
    /// The rotation that was waited for cannot go on without an operator.
    Blocked(String),
    /// The HSM cannot be used, or does not offer what is needed.
    Hsm(String),
    /// A backup was made, and values in it are faulty.
    Faulty(String),
    /// The audit log, or a proof of it, does not hold.
    NotSound(String),
    /// A backup came in otherwise than it was sent.
    Broken(String),
}

impl Failure {
    /// Says it on stderr; answers the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if let Self::Call(error) = self
            && error.refusal().is_some_and(|refusal| refusal.reason == "DRY_RUN")
        {
            // What a dry run asks for, not a refusal.
            return match print("would be allowed; nothing was done") {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => failure.report(),
            };
        }
        let (text, code) = match self {
            Self::Call(error) => (call_text(error), 1),
            Self::Usage(problem) => (problem.clone(), 2),
            Self::Blocked(problem) => (problem.clone(), 3),
            Self::Hsm(problem) => (problem.clone(), 4),
            Self::Faulty(problem) | Self::Broken(problem) => (problem.clone(), 5),
            Self::NotSound(problem) => (format!("not sound: {problem}"), 1),
        };
        eprintln!("dewctl: {text}");
        ExitCode::from(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidConfig(problem) => Self::Usage(problem),
            error => Self::Call(error),
        }
    }
}

fn call_text(error: &Error) -> String {
    let Some(refusal) = error.refusal() else {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        return format!("{error}{cause}");
    };
    let request = refusal.request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default();
    let next = next_step(&refusal.reason).map(|step| format!("\n  {step}")).unwrap_or_default();
    format!("{}: {}{request}{next}", refusal.reason, refusal.message)
}

/// What to do about a refusal, where a command can do it.
fn next_step(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "KEY_NOT_FOUND" => "look for it: dewctl key list; keys of other regions need --project",
        "KEY_DISABLED" => "dewctl key enable KEY",
        "KEY_PENDING_DELETION" => "dewctl key cancel-deletion KEY, then dewctl key enable KEY",
        "KEY_PENDING_IMPORT" => "dewctl import material KEY --in FILE",
        "KEY_USAGE_MISMATCH" | "KEY_KIND_UNSUPPORTED" | "ALGORITHM_MISMATCH" => {
            "dewctl key describe KEY shows what it is for"
        }
        "KEY_NOT_PENDING_IMPORT" | "EXTERNAL_KEY_REQUIRED" | "EXTERNAL_KEY_UNSUPPORTED" => {
            "dewctl key describe KEY shows its origin and state"
        }
        "IMPORT_TOKEN_EXPIRED" | "IMPORT_TOKEN_INVALID" | "IMPORT_TOKEN_MISMATCH" => {
            "dewctl import parameters KEY gets new ones; dewctl import material KEY --in FILE does it all"
        }
        "ALIAS_EXISTS" => "dewctl key list shows who has it",
        "ALIAS_NOT_FOUND" => "dewctl alias list KEY",
        "TAG_NOT_FOUND" => "dewctl tag list KEY",
        "GRANT_NOT_FOUND" | "GRANT_MISMATCH" => "dewctl grant list KEY",
        "CAMPAIGN_NOT_FOUND" => "dewctl campaign status KEY; dewctl campaign start KEY begins one",
        "VERSION_NOT_FOUND" => "dewctl versions",
        "QUOTA_EXCEEDED" => "dewctl quotas shows the limits",
        "PERMISSION_DENIED" => {
            "the account's administrator can give the permission that is named, or the key's owner a grant"
        }
        "ROTATION_NOT_ENABLED" => "dewctl rotation enable KEY",
        "ROTATION_ALREADY_ENABLED" => "dewctl rotation set-interval KEY DAYS changes it",
        "REPLICA_READ_ONLY" => "dewctl key describe KEY names the primary; call in its region with --project",
        "KEYSTORE_DISABLED" => "dewctl keystore enable ID",
        "KEYSTORE_NOT_DISABLED" => "dewctl keystore disable ID",
        "KEYSTORE_NOT_FOUND" | "KEYSTORE_EXISTS" => "dewctl keystore list",
        "ROOT_STILL_NEEDED" => "dewctl root status shows how far the rotation is",
        "NO_CERTIFICATE" | "UNKNOWN_IDENTITY" => {
            "give the caller's certificate: --cert and --key, or --dev-json"
        }
        "UNKNOWN_PROJECT" => "--project takes the id of a project of the caller's account",
        _ => return None,
    })
}

/// Shows one thing: its fields by name for people, or as JSON.
pub(crate) fn show(thing: &Value, as_json: bool) -> Result<(), Failure> {
    print(&if as_json { format!("{thing:#}") } else { fields(thing) })
}

/// Shows many of a kind: a table of these columns for people, or a JSON array of everything.
pub(crate) fn show_all(things: &[Value], columns: &[&str], as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print(&format!("{:#}", Value::from(things)));
    }
    let title = columns.iter().map(|column| column.to_uppercase().replace('_', " ")).collect();
    let rows = things.iter().map(|thing| columns.iter().map(|column| text(&thing[column])).collect());
    print(&aligned(&std::iter::once(title).chain(rows).collect::<Vec<Vec<String>>>()))
}

/// One line a field; fields that say nothing are left out.
fn fields(thing: &Value) -> String {
    let Some(object) = thing.as_object() else { return text(thing) };
    let told = object.iter().map(|(name, value)| vec![name.replace('_', " "), text(value)]);
    aligned(&told.filter(|line| !line[1].is_empty()).collect::<Vec<_>>())
}

/// A value on one line.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(pairs) => {
            pairs.iter().map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let lines = rows.iter().map(|row| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let padding = width(column) - cell.chars().count();
            format!("{cell}{}", " ".repeat(padding))
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A moment as RFC 3339; nothing if there is none.
pub(crate) fn moment(at: Option<(i64, i32)>) -> Value {
    let moment = at.and_then(|(seconds, nanos)| {
        let moment = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
        moment.replace_nanosecond(u32::try_from(nanos).ok()?).ok()?.format(&Rfc3339).ok()
    });
    moment.map_or(Value::Null, Value::from)
}

/// Prints a result on stdout. A reader that went away has seen enough.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Usage(format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_get_aligned_columns_and_no_empty_fields() {
        let thing =
            json!({"key_id": "k", "tags": {"a": "b", "c": 1}, "aliases": ["x", "y"], "nothing": null});
        assert_eq!(fields(&thing), "aliases  x, y\nkey id   k\ntags     a=b, c=1");
        let rows = [vec!["A".to_owned(), "B".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(aligned(&rows), "A     B\nlong");
        assert_eq!(moment(Some((0, 0))), json!("1970-01-01T00:00:00Z"));
        assert_eq!((moment(None), moment(Some((i64::MAX, 0)))), (Value::Null, Value::Null));
    }
}
