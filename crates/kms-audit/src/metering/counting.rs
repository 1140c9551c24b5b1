//! Reads a log on for a meter, step by step.

use std::path::Path;

use super::Meter;
use crate::{
    reader::{ReadError, first_sequence},
    search::{Order, Search, search},
};

/// Why a log cannot be counted on.
#[derive(Debug, thiserror::Error)]
pub enum MeteringError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Lines between those that were counted and those that are there are missing.
    #[error("lines {from} to {to} of the log are missing: name the archive that has them, too", to = .until - 1)]
    Gap {
        /// The first of them.
        from: u64,
        /// The place behind them.
        until: u64,
    },
}

/// Lets `meter` count lines of the log in `directory` that it has not counted yet, of those before the place `end`,
/// which must be whole: 32 MiB of them at the most. Answers whether all were counted.
///
/// A meter that has counted nothing begins where the log begins; one that has, where it stopped.
pub fn count(meter: &mut Meter, directory: &Path, end: u64) -> Result<bool, MeteringError> {
    let first = first_sequence(directory)?;
    if first > meter.next {
        if meter.next > 0 {
            return Err(MeteringError::Gap { from: meter.next, until: first });
        }
        meter.next = first;
        meter.begin = Some(first);
    }
    if meter.next >= end {
        return Ok(true);
    }
    // Nothing is looked for: each record is counted as it comes by.
    let all = Search { places: meter.next..end, order: Order::OldestFirst, limit: usize::MAX };
    let counted = search(directory, &all, |record| {
        meter.take(record);
        false
    });
    let left = counted?.left;
    meter.next = if left.is_empty() { end } else { left.start };
    Ok(left.is_empty())
}
