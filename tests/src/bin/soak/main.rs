//! `make soak`: the service under load while its HSM and its worker fail at random.
//!
//! Every answer is checked, and at the end the log against the answers. `soak table [WORD...]` measures each
//! fault alone; docs/hsm.md has what it prints. Results on stdout, progress on stderr; it fails if anything happened that must not.

mod changes;
mod dice;
mod faults;
mod injector;
mod ledger;
mod load;
mod observer;
mod report;
mod run;
mod site;
mod table;
mod verdict;
mod watch;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let sound = match arguments.split_first() {
        Some((first, words)) if first == "table" => table::run(words).await,
        _ => run::run().await,
    };
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
