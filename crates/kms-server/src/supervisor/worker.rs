//! One worker process, from its start to its end.

use std::{
    io,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt as _},
    },
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::Instant,
};

use super::handover;

/// What every worker is started with.
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) config_file: PathBuf,
    pub(super) listeners: Vec<TcpListener>,
}

/// A worker that has been started.
pub(super) struct Worker {
    child: Child,
    control: tokio::net::UnixStream,
    started: Instant,
    ready: Option<Instant>,
}

/// What a worker does.
pub(super) enum Event {
    Ready,
    Ended(Ended),
}

/// How a worker ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// Since it was started.
    pub(super) ran: Duration,
    /// Since it was ready, if it ever was.
    pub(super) served: Option<Duration>,
}

impl Launch {
    /// Starts a worker, which finds its listeners in its standard input.
    pub(super) fn start(&self) -> io::Result<Worker> {
        let (ours, theirs) = UnixStream::pair()?;
        handover::send(&ours, &self.listeners)?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&self.program);
        command.args(["serve", "--worker", "--config"]).arg(&self.config_file);
        let child = command.stdin(OwnedFd::from(theirs)).spawn()?;
        Ok(Worker {
            child,
            control: tokio::net::UnixStream::from_std(ours)?,
            started: Instant::now(),
            ready: None,
        })
    }
}

impl Worker {
    /// Its process id; `None` when its end is known.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The next thing that it does. Not waiting to the end of this loses nothing.
    pub(super) async fn next(&mut self) -> io::Result<Event> {
        tokio::select! {
            biased; // a worker that was ready and died has served, whatever is seen first
            () = handover::ready(&mut self.control), if self.ready.is_none() => {
                self.ready = Some(Instant::now());
                Ok(Event::Ready)
            }
            status = self.child.wait() => Ok(Event::Ended(self.ended(status?))),
        }
    }

    fn ended(&self, status: ExitStatus) -> Ended {
        let served = self.ready.map(|ready| ready.elapsed());
        Ended { status, ran: self.started.elapsed(), served }
    }

    /// Sends a signal; to nobody if its end is known. Until then its process id is no other process's.
    pub(super) fn signal(&self, signal: Signal) {
        let process = self.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(Err(error)) = process.map(|process| kill_process(process, signal)) {
            tracing::warn!(worker = self.id(), ?signal, %error, "the worker cannot be signalled");
        }
    }
}

impl Ended {
    /// The exit code that passes this end on, a signal as shells do. A worker that was told to end before it
    /// listened to that has ended well.
    pub(super) fn exit_code(&self) -> ExitCode {
        let signal = self.status.signal().filter(|signal| *signal != Signal::TERM.as_raw());
        let code = self.status.code().or(signal.map(|signal| 128 + signal)).unwrap_or_default();
        u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}
