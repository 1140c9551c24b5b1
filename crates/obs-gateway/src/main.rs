//! The `obs-gateway` command.

use std::{io, path::PathBuf, process::ExitCode};

use clap::Parser;
use obs_gateway::{config::Config, server::Server};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// A small object store whose objects are encrypted with data keys of Dewpoint.
#[derive(Debug, Parser)]
#[command(name = "obs-gateway", version, arg_required_else_help = true)]
#[command(
    after_help = "Logs go to stderr; the environment variable OBS_GATEWAY_LOG (error, warn, info, debug) sets how much. \
                  Logs `ready` when it answers requests; ends in order on SIGTERM or SIGINT."
)]
struct Arguments {
    /// The configuration; docs/obs-gateway.md explains every field
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The protocol's library logs every refusal as an error; what is one, the gateway logs itself.
    let filter =
        EnvFilter::try_from_env("OBS_GATEWAY_LOG").unwrap_or_else(|_| EnvFilter::new("info,s3s=off"));
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    tracing_subscriber::registry().with(filter).with(layer).init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the gateway ended");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::read(&arguments.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let server = Server::bind(config).await?;
        tracing::info!(address = %server.https()?, "ready");
        let end = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.run(end).await;
        Ok(())
    })
}
