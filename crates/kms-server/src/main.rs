//! The `dewpoint` command.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use kms_server::{
    backup,
    config::{BUILT_IN_PROFILE, Config},
    dev,
    listeners::Inherited,
    password,
    server::{self, RunningServer, ServeError},
    start_watch::StartWatch,
    supervisor::{self, Handover},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// A self-hosted key management service that speaks Huawei Cloud DEW (KMS).
#[derive(Debug, Parser)]
#[command(name = "dewpoint", version, arg_required_else_help = true)]
#[command(
    after_help = "Logs go to stderr; the environment variable DEWPOINT_LOG (error, warn, info, debug) sets how much."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole deployment in one directory, for development and tests: token, certificates, users, service
    ///
    /// Prints a line that begins with `ready` when it answers calls; DIR/dev.json then names endpoints, users and
    /// their certificates. Ends on SIGTERM or SIGINT; keys are kept for the next start.
    Dev(dev::DevOptions),
    /// Run the service in production
    ///
    /// Logs `ready` when it answers calls; ends in order on SIGTERM or SIGINT; reads the identity file and the profile
    /// anew on SIGHUP, as `dewctl identities reload` and `dewctl traffic reload` do. Sockets of systemd's socket activation are taken over if their addresses are
    /// those of the configuration.
    Serve(ServeOptions),
    /// Make a new deployment's keys on its token (root, authentication, log): once, before the first `serve`
    Init {
        /// The configuration that `serve` will use
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Move to another token, step 1: make a key pair on the new token that takes the keys over
    ///
    /// For a deployment that has a token with its root key, by `dewpoint init`, and no store. Prints the public key's
    /// fingerprint: tell it to whoever runs `dewpoint backup`, by another way than the file. docs/operations.md has all
    /// steps.
    TransferKey(backup::TransferKeyOptions),
    /// Move to another token, step 2: write all keys into a file that only the new token can open
    ///
    /// The service must be stopped. Prints the backup's digest: tell it to whoever runs `dewpoint restore`, by another
    /// way than the file. Who holds the new token and this file has all keys.
    Backup(backup::BackupOptions),
    /// Make a store of a backup: of `dewctl backup`, or step 3 of a move to another token
    ///
    /// A backup of `dewctl backup` is for the same token: its seal, every value's authentication and every key, by an
    /// unwrap in the HSM, are proved before anything can serve; what was found is printed, and --drill leaves it at
    /// that. A backup of `dewpoint backup` moves to this token: nothing is written unless the whole backup is what
    /// its maker told of, made for this token; the key pair of step 1 is destroyed at the end.
    Restore(backup::RestoreOptions),
    /// Print what a user's password is checked by, for `password_hash` in the identity file
    ///
    /// Reads the password from standard input, or, where that is a terminal, asks for it twice without showing it.
    HashPassword,
    /// Print the profile of traffic limits and quotas that is built in, to make one's own of it
    Profile,
}

#[derive(Debug, clap::Args)]
struct ServeOptions {
    /// The configuration; docs/examples/dewpoint.toml explains every field
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Run the service in a worker process, and start another one when it dies
    ///
    /// The listening sockets stay open in between, so that connections wait and are not refused. Workers that die
    /// soon are replaced after growing waits, up to 30 s; the log says how each one ended. SIGTERM and SIGINT end
    /// the worker in order, and a second one at once; SIGHUP replaces it in order, and so reads all files anew.
    #[arg(long)]
    supervise: bool,
    /// What a supervisor starts: standard input is its socket
    #[arg(long, hide = true, conflicts_with = "supervise")]
    worker: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging();
    if let Err(error) = forbid_core_dumps() {
        return fail(format_args!("core dumps cannot be switched off: {error}"));
    }
    let ended = match arguments.command {
        Command::Dev(options) => run_dev(&options).map_err(|error| error.to_string()).map(success),
        Command::Serve(options) => {
            return run_serve(&options).unwrap_or_else(|error| {
                let refused = error.is_refused_pin();
                let code = fail(error);
                if refused { ExitCode::from(supervisor::PIN_REFUSED) } else { code }
            });
        }
        Command::Init { config } => run_init(&config).map(success),
        Command::TransferKey(options) => moved(backup::transfer_key(&options)),
        Command::Backup(options) => moved(block_on(backup::create(&options))),
        Command::Restore(options) => moved(block_on(backup::restore(&options))),
        Command::HashPassword => run_hash_password().map(success),
        Command::Profile => print(BUILT_IN_PROFILE).map(success),
    };
    ended.unwrap_or_else(fail)
}

fn success(_: ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn moved(ended: Result<(), backup::BackupError>) -> Result<ExitCode, String> {
    ended.map(success).map_err(|error| error.to_string())
}

fn print(text: &str) -> Result<(), String> {
    io::stdout().lock().write_all(text.as_bytes()).map_err(|error| format!("stdout: {error}"))
}

fn run_hash_password() -> Result<(), String> {
    let hash = password::hash().map_err(|error| error.to_string())?;
    print(&format!("{hash}\n"))
}

fn run_dev(options: &dev::DevOptions) -> Result<(), dev::DevError> {
    dev::enter_environment(options)?;
    block_on(async {
        let told = told_to_stop();
        dev::start(options).await?.run_until(told.cancelled()).await
    })
}

fn run_serve(options: &ServeOptions) -> Result<ExitCode, ServeError> {
    let file = &options.config;
    if options.worker {
        return block_on(work(&Config::load(file)?)).map(success);
    }
    let inherited = Inherited::from_environment()?;
    if options.supervise {
        block_on(supervisor::run(file, inherited))
    } else {
        block_on(serve(&Config::load(file)?, inherited)).map(success)
    }
}

async fn serve(config: &Config, inherited: Inherited) -> Result<(), ServeError> {
    let (told, watch) = (told_to_stop(), StartWatch::default());
    let hang_ups = signal(SignalKind::hangup()).map_err(ServeError::Signals)?;
    let starting = server::start_on(config, inherited, &watch);
    let mut server = watch.guard(starting, told.clone().cancelled_owned()).await?;
    server.reload_files_at(hang_ups);
    log_ready(&server);
    server.run_until(told.cancelled()).await
}

/// As `serve`, for a supervisor: ends with it, too, so that nobody else holds store and log when another one is
/// started.
async fn work(config: &Config) -> Result<(), ServeError> {
    let (told, watch) = (told_to_stop(), StartWatch::default());
    let mut replaced = signal(SignalKind::hangup()).map_err(ServeError::Supervise)?;
    let (mut handover, inherited) = Handover::receive().map_err(ServeError::Supervise)?;
    let starting = server::start_on(config, inherited, &watch);
    let server = watch.guard(starting, told.clone().cancelled_owned()).await?;
    handover.ready(); // before anybody else can know: who dies after this has served
    let beyond_help = server.beyond_help();
    tokio::spawn(async move {
        beyond_help.await;
        // Nothing can be closed in order: a thread is inside the module. Store and log bear it.
        tracing::error!("the HSM's module does not return; this process gives up for another one");
        std::process::abort();
    });
    log_ready(&server);
    let ends = async move {
        tokio::select! {
            () = told.cancelled() => {}
            _ = replaced.recv() => {}
            () = handover.ended() => {}
        }
    };
    server.run_until(ends).await
}

fn log_ready(server: &RunningServer) {
    tracing::info!(grpc = %server.grpc, dew = server.dew.map(tracing::field::display), admin = server.admin.map(tracing::field::display), "ready");
}

fn run_init(path: &std::path::Path) -> Result<(), String> {
    let config = Config::load(path).map_err(|error| error.to_string())?;
    match server::initialise(&config).map_err(|error| error.to_string())? {
        Some(made) => {
            eprintln!("dewpoint: made on the token {:?}: {made:?}", config.hsm.token_label);
            eprintln!("dewpoint: back up the token now: without it nothing in the key store can be opened");
        }
        None => eprintln!(
            "dewpoint: the token {:?} has its root key already; nothing was done",
            config.hsm.token_label
        ),
    }
    Ok(())
}

#[allow(clippy::expect_used, reason = "a process without a runtime has nothing else to do")]
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// Cancelled at SIGTERM or SIGINT. The handlers are in place when this returns.
fn told_to_stop() -> CancellationToken {
    let told = CancellationToken::new();
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    if let (Ok(mut terminate), Ok(mut interrupt)) = signals {
        let tells = told.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tells.cancel();
        });
    }
    told
}

/// Memory may hold plaintext keys: it is neither dumped nor open to debuggers of the same user.
fn forbid_core_dumps() -> rustix::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Human lines on a terminal, JSON elsewhere.
fn start_logging() {
    let filter = EnvFilter::try_from_env("DEWPOINT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if io::stderr().is_terminal() {
        registry.with(layer.with_target(false)).init();
    } else {
        registry.with(layer.json().flatten_event(true)).init();
    }
}

fn fail(error: impl Display) -> ExitCode {
    eprintln!("dewpoint: {error}");
    ExitCode::FAILURE
}
