//! `dewctl dev`: the clock of a deployment under test, and throttling.

use std::{
    num::IntErrorKind,
    time::{Duration, SystemTime},
};

use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    connection::ConnectionOptions,
    output::{Failure, print},
};

/// The units of a span of time, with their seconds. A year is 365 days.
const UNITS: [(char, u64); 5] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('y', 365 * 86_400)];

/// How long all that becomes due may take.
const LONGEST_ADVANCE: Duration = Duration::from_secs(600);

/// What to do with the clock and the traffic control of `dewpoint dev --clock manual`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DevCommand {
    /// Let time pass, and print what the clock shows then
    ///
    /// Returns when everything is done that became due meanwhile: deletions, rotations, expiries, each at its own time.
    Advance {
        /// How much: a number and s, m, h, d or y (of 365 days), as 90d
        #[arg(value_parser = span)]
        by: Duration,
    },
    /// Print what the clock shows
    Now,
    /// Have the next calls of an operation refused as over their limit
    Throttle {
        /// Its name in the log, as GenerateDataKey
        operation: String,
        /// How many calls; 0: none any more
        calls: u32,
    },
}

/// Runs one of them.
pub(crate) async fn run(
    command: &DevCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.patient_operator(LONGEST_ADVANCE).await?;
    let now = match command {
        DevCommand::Advance { by } => client.advance_clock(*by).await?,
        DevCommand::Now => client.read_clock().await?,
        DevCommand::Throttle { operation, calls } => return Ok(client.throttle(operation, *calls).await?),
    };
    let now = rfc_3339(now);
    print(&if as_json { format!("{:#}", json!({"now": now})) } else { now })
}

fn rfc_3339(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}

fn span(text: &str) -> Result<Duration, String> {
    let form = || "a number and one of s, m, h, d, y are needed, as 90d".to_owned();
    let unit = text.chars().next_back().ok_or_else(form)?;
    let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(form)?;
    let digits = text.strip_suffix(unit).filter(|digits| !digits.starts_with('+')).ok_or_else(form)?;
    let too_long = || "is longer than any clock goes".to_owned();
    let count: u64 = digits.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => too_long(),
        _ => form(),
    })?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(too_long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_a_number_and_a_unit() {
        for (text, seconds) in
            [("45s", 45), ("30m", 1800), ("12h", 43_200), ("90d", 7_776_000), ("1y", 31_536_000), ("0d", 0)]
        {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "90", "-1d", "+1d", "1 d", "1w", "1.5d", "1d12h", "9é", "é"] {
            assert!(span(text).is_err_and(|problem| problem.contains("as 90d")), "{text:?}");
        }
        for text in ["18446744073709551616s", "18446744073709551615y"] {
            assert!(span(text).is_err_and(|problem| problem.contains("longer")), "{text:?}");
        }
    }
}
