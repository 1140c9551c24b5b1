//! `dewpoint serve --supervise`: holds the listening sockets, and replaces a worker process that dies.
//!
//! The supervisor never loads the PKCS#11 module and never opens store or log: what crashes in them cannot
//! take it along. Between two workers, new connections wait in the sockets' queues.

mod backoff;
mod handover;
mod requests;
mod worker;

use std::{env, io, path::Path, process::ExitCode, time::Duration};

use rustix::process::Signal;

use crate::{
    carriers,
    config::Config,
    identity::Identities,
    listeners::{Inherited, Listeners},
    server::{self, ServeError},
    tls,
    traffic::ProfileSource,
    witness,
};
use backoff::Backoff;
pub use handover::Handover;
use requests::{Request, Requests};
use worker::{Ended, Event, Launch, Worker};

/// The exit code that says that the token refused the PIN: who starts the process again must not do so by itself.
pub const PIN_REFUSED: u8 = 77;

/// Runs workers until told to stop, and passes the last one's exit status on.
///
/// A first worker that cannot start is the end of the supervisor too: the configuration is wrong, and who
/// started it should know.
pub async fn run(config_file: &Path, inherited: Inherited) -> Result<ExitCode, ServeError> {
    let requests = Requests::listen().map_err(ServeError::Supervise)?;
    let listeners = Listeners::open(&check(config_file)?, inherited)?;
    let launch = prepare(config_file, listeners).map_err(ServeError::Supervise)?;
    let supervisor = Supervisor { launch, requests, backoff: Backoff::default(), served: false };
    supervisor.run().await.map_err(ServeError::Supervise)
}

/// Reads all that a worker reads without token and store.
fn check(config_file: &Path) -> Result<Config, ServeError> {
    let config = Config::load(config_file)?;
    Identities::load(&config.identity_file)?;
    ProfileSource::of(&config.traffic_control).read()?;
    tls::mutual(&config.grpc)?;
    server::dew_tls(&config)?;
    carriers::places(&config.audit.checkpoints)?;
    witness::logs(&config.audit.witness)?;
    Ok(config)
}

fn prepare(config_file: &Path, listeners: Listeners) -> io::Result<Launch> {
    let launch = Launch {
        program: env::current_exe()?,
        config_file: config_file.to_owned(),
        listeners: listeners.into_std()?,
    };
    for listener in &launch.listeners {
        tracing::info!(address = %listener.local_addr()?, "listening");
    }
    Ok(launch)
}

struct Supervisor {
    launch: Launch,
    requests: Requests,
    backoff: Backoff,
    /// Whether any worker has ever been ready.
    served: bool,
}

/// What follows the end of a worker.
enum Next {
    Exit(ExitCode),
    StartAfter(Duration),
    /// The token refused the PIN: not before somebody changes its file. Tokens lock after a few wrong ones.
    StartWithAnotherPin,
}

impl Supervisor {
    async fn run(mut self) -> io::Result<ExitCode> {
        loop {
            let request = match self.run_worker().await? {
                Next::Exit(code) => return Ok(code),
                Next::StartAfter(wait) => self.requests.within(wait).await,
                Next::StartWithAnotherPin => self.another_pin().await,
            };
            if request == Some(Request::Stop) {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    async fn run_worker(&mut self) -> io::Result<Next> {
        let worker = match self.launch.start() {
            Err(error) if self.served => {
                let wait = self.backoff.after(None);
                tracing::error!(%error, next_start_in = ?wait, "no worker could be started");
                return Ok(Next::StartAfter(wait));
            }
            started => started?,
        };
        let id = worker.id();
        let (ended, request) = self.watch(worker).await?;
        let next = self.after(ended, request);
        report(id, ended, request, &next);
        Ok(next)
    }

    /// Whether a worker could start with the files as they are now.
    fn check(&self) -> Result<(), ServeError> {
        Listeners::check(&check(&self.launch.config_file)?, &self.launch.listeners)?;
        Ok(())
    }

    fn pin_stamp(&self) -> Option<std::time::SystemTime> {
        let file = Config::load(&self.launch.config_file).ok()?.hsm.pin_file;
        std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
    }

    /// Waits until the PIN's file is changed, or somebody asks for something.
    async fn another_pin(&mut self) -> Option<Request> {
        let refused = self.pin_stamp();
        loop {
            let request = self.requests.within(Duration::from_secs(1)).await;
            if request.is_some() || self.pin_stamp() != refused {
                return request;
            }
        }
    }

    /// Follows a worker to its end, and passes requests on to it.
    async fn watch(&mut self, mut worker: Worker) -> io::Result<(Ended, Option<Request>)> {
        let mut requested = None;
        loop {
            tokio::select! {
                event = worker.next() => match event? {
                    Event::Ready => self.served = true,
                    Event::Ended(ended) => return Ok((ended, requested)),
                },
                request = self.requests.next() => {
                    if request == Request::Replace && let Err(error) = self.check() {
                        tracing::error!(%error, "the worker is not replaced: the next one could not start");
                        continue;
                    }
                    worker.signal(match (request, requested) {
                        (Request::Replace, _) => Signal::HUP,
                        (Request::Stop, Some(Request::Stop)) => Signal::KILL,
                        (Request::Stop, _) => Signal::TERM,
                    });
                    requested = requested.max(Some(request));
                }
            }
        }
    }

    fn after(&mut self, ended: Ended, request: Option<Request>) -> Next {
        match request {
            Some(Request::Stop) => Next::Exit(ended.exit_code()),
            Some(Request::Replace) if ended.status.success() => Next::StartAfter(Duration::ZERO),
            _ if self.served && ended.status.code() == Some(PIN_REFUSED.into()) => Next::StartWithAnotherPin,
            _ if self.served => Next::StartAfter(self.backoff.after(ended.served)),
            _ => Next::Exit(ended.exit_code()),
        }
    }
}

/// One line for each end of a worker. Why it ended, its own last lines say.
fn report(worker: Option<u32>, ended: Ended, request: Option<Request>, next: &Next) {
    let Ended { status: how, ran, served } = ended;
    let next_start_in = match next {
        Next::StartAfter(wait) => Some(*wait),
        Next::Exit(_) => None,
        Next::StartWithAnotherPin => {
            tracing::error!(
                "the token refused the PIN; the next worker starts when the PIN's file is changed, or on SIGHUP"
            );
            None
        }
    };
    let next_start_in = next_start_in.map(tracing::field::debug);
    match (request, served) {
        (Some(_), _) => tracing::info!(worker, %how, ?ran, next_start_in, "the worker ended as it was told"),
        (None, Some(_)) => tracing::error!(worker, %how, ?ran, next_start_in, "the worker died"),
        (None, None) => tracing::error!(worker, %how, ?ran, next_start_in, "the worker could not start"),
    }
}
