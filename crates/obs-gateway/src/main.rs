//! The `obs-gateway` command.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    thread,
};

use clap::Parser;
use obs_gateway::{config::Config, server::Server};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// The protocol's library, as logs name it.
const LIBRARY: &str = "s3s";

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
    /// End at once when standard input ends: for a program that starts the gateway, and may be killed
    ///
    /// What was acknowledged is durable; what is under way is lost with whoever asked for it. Nothing is read of it.
    #[arg(long)]
    end_with_stdin: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging();
    match forbid_core_dumps().map_err(Into::into).and_then(|()| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the gateway ended");
            ExitCode::FAILURE
        }
    }
}

/// Switches off core dumps, which would hold data keys and secret access keys.
fn forbid_core_dumps() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Human lines on a terminal, JSON elsewhere.
fn start_logging() {
    let registry =
        tracing_subscriber::registry().with(filter(&env::var("OBS_GATEWAY_LOG").unwrap_or_default()));
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if io::stderr().is_terminal() {
        registry.with(layer).init();
    } else {
        registry.with(layer.json().flatten_event(true)).init();
    }
}

/// What is logged: as asked, but never a word of the protocol's library. It logs every refusal as an error, and for
/// debugging the headers of requests and the signatures that would have been right.
fn filter(asked: &str) -> Targets {
    // No text would be read as `error`.
    let asked = if asked.is_empty() { "info" } else { asked };
    let asked = asked.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let default = asked.default_level().unwrap_or(LevelFilter::INFO);
    let others = asked.into_iter().filter(|(target, _)| !target.starts_with(LIBRARY));
    Targets::new().with_default(default).with_targets(others).with_target(LIBRARY, LevelFilter::OFF)
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::read(&arguments.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = serve(config) => ended,
            () = stdin_ends(), if arguments.end_with_stdin => Err("standard input has ended".into()),
        }
    });
    runtime.shutdown_background(); // in order, everything has ended; else nobody waits for it
    ended
}

/// Serves until SIGTERM or SIGINT, and then ends in order.
async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
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
}

/// Resolves when nobody holds the other end of standard input any more.
async fn stdin_ends() {
    let (ended, end) = oneshot::channel::<()>();
    // A thread, for which nobody waits at the end: what blocks in it cannot be called off.
    thread::spawn(move || {
        let _ended = ended;
        io::copy(&mut io::stdin().lock(), &mut io::sink())
    });
    let _ = end.await; // that it is dropped is the word
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_protocols_library_is_never_heard() {
        for asked in ["", "debug", "trace", "s3s=debug", "info,s3s=trace,s3s::ops=trace", "none of these!"] {
            let filter = filter(asked);
            for level in [Level::ERROR, Level::DEBUG, Level::TRACE] {
                assert!(!filter.would_enable("s3s::ops::signature", &level), "{asked}");
            }
            assert!(filter.would_enable("obs_gateway::server", &Level::INFO), "{asked}");
        }
        assert!(filter("debug").would_enable("obs_gateway", &Level::DEBUG));
        assert!(!filter("").would_enable("obs_gateway", &Level::DEBUG));
        assert!(filter("warn,obs_gateway=debug").would_enable("obs_gateway", &Level::DEBUG));
    }
}
