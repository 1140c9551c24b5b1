//! Names and sizes of segment files.

/// How far zeros are written ahead of the records; unit tests shall cross the border often.
pub(crate) const CHUNK: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };
/// The longest line, newline included.
pub(crate) const LONGEST_LINE: usize = 512 << 10;
/// No commit grows beyond this. What a crash leaves behind the durable end therefore ends within
/// this distance, and data further on cannot be the trace of a crash.
pub(crate) const LARGEST_COMMIT: usize = 1 << 20;
/// The name under which a new segment is prepared.
pub(crate) const UNFINISHED: &str = "next.tmp";

const EXTENSION: &str = ".jsonl";
const DIGITS: usize = 20;

/// The file name of the segment whose header has the place `first`.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}{EXTENSION}")
}

/// The place that a segment's file name tells; nothing for other files.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}
