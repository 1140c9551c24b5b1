//! What the kernel says of a process: processor time and memory.

use std::{fs, time::Duration};

/// The kernel counts processor time in these for programs.
const TICKS_PER_SECOND: u32 = 100;

/// How long the process was running so far, over all its threads.
pub(crate) fn processor_time(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("the process runs");
    let (_, numbers) = stat.rsplit_once(')').expect("the name stands in brackets");
    // proc(5): utime and stime are fields 14 and 15; the state after the name is field 3.
    let ticks =
        numbers.split_whitespace().skip(11).take(2).map(|field| field.parse::<u32>().expect("a number"));
    Duration::from_secs(1) * ticks.sum() / TICKS_PER_SECOND
}

/// Resident memory that is the process's own, in MiB: not the pages of files.
pub(crate) fn own_memory(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    let kib: u32 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    f64::from(kib) / 1024.0
}

/// How much the process has read through system calls, in MiB.
pub(crate) fn read(id: u32) -> f64 {
    let io = fs::read_to_string(format!("/proc/{id}/io")).expect("the process runs");
    let bytes: f64 =
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("rchar").parse().expect("a number");
    bytes / f64::from(1 << 20)
}
