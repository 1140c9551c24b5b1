//! The `dewctl` command: what operators do.

mod connection;
mod dev;
mod hsm;
mod key;
mod moment;
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
                  2 wrong usage, or files that cannot be used; 3 --wait found the rotation blocked; \
                  4 the HSM cannot be used, or lacks what is needed."
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
    /// Keys, as an operator sees them
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// The clock of a deployment under test (`dewpoint dev --clock manual`)
    #[command(subcommand)]
    Dev(dev::DevCommand),
    /// The HSM itself: what it offers, and its root key (on its own machine, without the service)
    #[command(subcommand)]
    Hsm(hsm::HsmCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.command {
        Command::Hsm(command) => hsm::run(command, arguments.json),
        Command::Key(command) => block_on(key::run(command, &arguments.connection, arguments.json)),
        Command::Dev(command) => block_on(dev::run(command, &arguments.connection, arguments.json)),
        Command::Root(command) => block_on(root::run(command, &arguments.connection, arguments.json)),
    };
    ended.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Usage(format!("no runtime: {error}")))?.block_on(work)
}
