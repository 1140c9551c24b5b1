//! `make bench`: Dewpoint against its floors, side by side in one run, as ratios.
//!
//! The floor of a call is a bare tonic server that answers messages of the same size, under the same
//! TLS, client and concurrency, on the same machine. Each row is measured in several rounds, the two
//! sides in turn, and its median is compared with the recorded bound.

mod access;
mod echo;
mod load;
mod log;
mod objects;
mod process;
mod rest;
mod rows;
mod scale;
mod site;
mod sm4;
mod token;
mod traffic;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some(token::ARGUMENT) {
        token::run(arguments);
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    if first.as_deref() == Some(echo::ARGUMENT) {
        runtime.block_on(echo::serve());
        return ExitCode::SUCCESS;
    }
    if runtime.block_on(rows::run(first.as_deref())) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
