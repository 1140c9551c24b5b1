//! The `dewctl` command: what operators do.

mod connection;
mod output;
mod root;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{connection::ConnectionOptions, output::Failure};

/// Dewpoint's command line for operators.
#[derive(Debug, Parser)]
#[command(name = "dewctl", version, arg_required_else_help = true)]
#[command(
    after_help = "Results go to stdout, everything else to stderr.\n\nExit codes: 0 done; 1 the call was refused or failed; \
                  2 wrong usage, or files that cannot be used; 3 --wait found the rotation blocked."
)]
struct Arguments {
    #[command(flatten)]
    connection: ConnectionOptions,
    /// Print results as JSON, one object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The root key above all master keys
    #[command(subcommand)]
    Root(root::RootCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Usage(format!("no runtime: {error}")).report(),
    };
    let ended = runtime.block_on(async {
        match &arguments.command {
            Command::Root(command) => root::run(command, &arguments.connection, arguments.json).await,
        }
    });
    ended.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}
