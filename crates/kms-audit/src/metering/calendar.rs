//! The months by which it is counted.

use std::{fmt, str::FromStr};

use kms_core::Timestamp;
use time::{Date, OffsetDateTime};

/// The years that a month can lie in.
const YEARS: std::ops::RangeInclusive<i32> = 1..=9998;

/// A month of the calendar, in UTC, as `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(i32);

/// A text that names no month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a month, as 2026-11")]
pub struct NoMonth;

impl Month {
    /// The first that there is.
    pub const FIRST: Self = Self(*YEARS.start() * 12);
    /// The last that there is.
    pub const LAST: Self = Self(*YEARS.end() * 12 + 11);

    /// The month of a moment; of one before or after all months, the first or the last.
    pub fn of(time: Timestamp) -> Self {
        let nanos = i128::from(time.as_micros()) * 1000;
        let Ok(moment) = OffsetDateTime::from_unix_timestamp_nanos(nanos) else {
            return if nanos < 0 { Self::FIRST } else { Self::LAST };
        };
        let month = moment.year() * 12 + i32::from(u8::from(moment.month())) - 1;
        Self(month).clamp(Self::FIRST, Self::LAST)
    }

    /// Its first moment.
    pub fn start(self) -> Timestamp {
        let number = u8::try_from(self.0.rem_euclid(12) + 1).unwrap_or(1); // 1 to 12
        let month = time::Month::try_from(number).unwrap_or(time::Month::January);
        let day = Date::from_calendar_date(self.0.div_euclid(12), month, 1).unwrap_or(Date::MAX);
        let seconds = day.midnight().assume_utc().unix_timestamp();
        Timestamp::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// The first moment behind it.
    pub fn end(self) -> Timestamp {
        Self(self.0 + 1).start()
    }

    /// The one behind it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

impl FromStr for Month {
    type Err = NoMonth;

    fn from_str(text: &str) -> Result<Self, NoMonth> {
        let digits = |text: &str, length: usize| {
            let valid = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<i32>().ok().filter(|_| valid)
        };
        let (year, month) = text.split_once('-').ok_or(NoMonth)?;
        match (digits(year, 4), digits(month, 2)) {
            (Some(year), Some(month @ 1..=12)) if YEARS.contains(&year) => Ok(Self(year * 12 + month - 1)),
            _ => Err(NoMonth),
        }
    }
}
