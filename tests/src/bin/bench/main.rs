//! `make bench`: Dewpoint against its floors, side by side in one run, as ratios.
//!
//! The floor of a call is a bare tonic server that answers messages of the same size, under the same
//! TLS, client and concurrency, on the same machine. Each row is measured in several rounds, the two
//! sides in turn, and its median is compared with the recorded bound.

mod echo;
mod load;
mod rows;

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    if std::env::args().nth(1).as_deref() == Some(echo::ARGUMENT) {
        runtime.block_on(echo::serve());
        return ExitCode::SUCCESS;
    }
    let only = std::env::args().nth(1);
    if runtime.block_on(rows::run(only.as_deref())) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
