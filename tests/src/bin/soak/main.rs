//! `make soak`: the service under load while its HSM and its worker fail at random.
//!
//! Every answer is checked, and at the end the log against the answers. `soak table` measures each fault
//! alone. Results on stdout, progress on stderr; it fails if anything happened that must not.

mod changes;
mod dice;
mod faults;
mod injector;
mod ledger;
mod load;
mod report;
mod run;
mod site;
mod verdict;
mod watch;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    if run::run().await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
