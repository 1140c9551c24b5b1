//! Appends records, sixteen at a time, and prints what becomes of each: a process for tests that kill
//! it or break its system calls.
//!
//! `burst DIRECTORY COUNT` prints `durable PLACE REQUEST` or `refused REQUEST`, one a line.
#![allow(clippy::print_stdout, reason = "the test reads the standard output")]

use std::{path::Path, sync::mpsc::channel};

use kms_audit::{FileLog, LogConfig, testing::SoftwareSigner};
use kms_core::{Phase, ports::AuditLog, testing::audit::sample_record};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().expect("a directory");
    let count: u128 = arguments.next().expect("a count").parse().expect("a number");
    let config = LogConfig { segment_bytes: 100_000 };
    let notarization = SoftwareSigner::new([7; 32]).notarization();
    let (log, _) = FileLog::open(Path::new(&directory), config, Some(notarization)).expect("the log opens");
    let start = u128::from(std::process::id()) << 64;
    let (sender, answers) = channel();
    let append = |request: u128| {
        let sender = sender.clone();
        let acknowledge = move |answer| drop(sender.send((request, answer)));
        log.append(sample_record(request, Phase::Complete), Box::new(acknowledge));
    };
    (start..start + 16).for_each(append);
    for next in start + 16..start + 16 + count {
        let (request, answer) = answers.recv().expect("an answer");
        match answer {
            Ok(receipt) => println!("durable {} {request}", receipt.sequence()),
            Err(_) => println!("refused {request}"),
        }
        append(next);
    }
}
