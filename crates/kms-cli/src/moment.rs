//! Times as they are printed.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Seconds since 1970 in RFC 3339; empty if there is no such time.
pub(crate) fn of(seconds: Option<i64>) -> String {
    let moment = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
}
