//! A clock that stands still until a tester advances it, so that a test of years takes a second.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kms_core::{
    Timestamp,
    ports::{BoxFuture, Clock},
};
use parking_lot::Mutex;

use crate::config::FileError;

/// A clock whose wall time a tester moves. Latencies and waits go by the machine's clock.
pub(crate) struct ManualClock {
    machine: Arc<dyn Clock>,
    /// What it showed when this process began.
    began: Timestamp,
    now: Mutex<Timestamp>,
    file: PathBuf,
}

impl ManualClock {
    /// Where a deployment keeps the time of its clock.
    pub(crate) fn file(data_dir: &Path) -> PathBuf {
        data_dir.join("clock")
    }

    /// Goes on where it stood; a new one begins at the machine's time.
    pub(crate) fn open(data_dir: &Path, machine: Arc<dyn Clock>) -> Result<Self, FileError> {
        let file = Self::file(data_dir);
        let unusable = |problem: String| FileError::new(&file, problem);
        let kept = match fs::read_to_string(&file) {
            Ok(text) => {
                let micros = text.trim().parse().map_err(|_| {
                    unusable(
                        "must hold the clock's time, in microseconds since 1970, and nothing else".into(),
                    )
                })?;
                Some(Timestamp::from_micros(micros))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unusable(error.to_string())),
        };
        let now = kept.unwrap_or_else(|| machine.now());
        let clock = Self { machine, began: now, now: Mutex::new(now), file: file.clone() };
        clock.advance_to(now).map_err(|error| unusable(error.to_string()))?;
        Ok(clock)
    }

    /// By how much it was moved since this process began.
    pub(crate) fn advanced(&self) -> Duration {
        Duration::from_micros(
            self.now.lock().as_micros().saturating_sub(self.began.as_micros()).unsigned_abs(),
        )
    }

    /// Moves to this time, unless it is past already. The file comes first: a restart never goes back behind what
    /// anybody has seen.
    pub(crate) fn advance_to(&self, time: Timestamp) -> io::Result<()> {
        let mut now = self.now.lock();
        let time = time.max(*now);
        let temporary = self.file.with_extension("tmp");
        fs::write(&temporary, format!("{}\n", time.as_micros()))?;
        fs::rename(&temporary, &self.file)?;
        *now = time;
        Ok(())
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.lock()
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.machine.sleep(duration)
    }
}

#[cfg(test)]
mod tests {
    use kms_core::testing::clock::FakeClock;

    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_795_526_645_000_123);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    #[test]
    fn stands_still_while_the_machines_time_goes_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let machine = Arc::new(FakeClock::at(START));
        let clock = ManualClock::open(directory.path(), machine.clone()).expect("new");
        machine.advance(YEAR);
        assert_eq!((clock.now(), clock.monotonic()), (START, YEAR));
        let mut deadline = readiness(clock.sleep(Duration::from_secs(1)));
        clock.advance_to(START.plus(YEAR)).expect("written");
        assert!(!deadline(), "a wait for the HSM does not end because a test lets a year pass");
        machine.advance(Duration::from_secs(1));
        assert!(deadline());
        assert_eq!(clock.now(), START.plus(YEAR));
    }

    /// Asks a future whether it is ready.
    fn readiness(mut future: BoxFuture<'static, ()>) -> impl FnMut() -> bool {
        use std::task::{Context, Waker};
        move || future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_restart_goes_on_where_it_stood() {
        let directory = tempfile::tempdir().expect("a directory");
        let machine = Arc::new(FakeClock::at(START));
        let open = || ManualClock::open(directory.path(), machine.clone());
        assert_eq!(open().expect("new").now(), START);
        machine.advance(YEAR);
        let clock = open().expect("kept");
        assert_eq!(clock.now(), START, "the first start counts");
        clock.advance_to(START.plus(2 * YEAR)).expect("written");
        clock.advance_to(START.plus(YEAR)).expect("written");
        assert_eq!(clock.now(), START.plus(2 * YEAR), "never goes back");
        assert_eq!(open().expect("kept").now(), START.plus(2 * YEAR));
        fs::write(ManualClock::file(directory.path()), "noon").expect("written");
        assert!(open().err().expect("no time").to_string().contains("/clock: must hold"));
    }
}
