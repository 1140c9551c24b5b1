//! The watch over a start: the module of an HSM may not return from a call, and then the start would never end.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// How long one step of a start may wait for a module: far beyond what a slow one takes to log in, or to try all root
/// keys out.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// How long a start may go on once the process was told to end.
const TOLD_LIMIT: Duration = Duration::from_secs(10);
/// How often the watch looks, in parts of a step's limit.
const LOOKS: u32 = 120;

/// Knows which step of a start waits for the module of an HSM, and since when. All other steps may take as long as
/// they take: reading a long log is no hang.
#[derive(Debug, Clone)]
pub struct StartWatch {
    limit: Duration,
    step: Arc<Mutex<Option<Step>>>,
}

#[derive(Debug, Clone)]
struct Step {
    /// As it follows "while".
    name: String,
    since: Instant,
}

impl Default for StartWatch {
    fn default() -> Self {
        Self { limit: STEP_LIMIT, step: Arc::default() }
    }
}

impl StartWatch {
    /// From here on the start waits for a module, until it [goes on](Self::goes_on). A step that fails never does: what
    /// it opened is closed then, which calls the module, too.
    pub(crate) fn waits_while(&self, name: impl Into<String>) {
        *self.step.lock() = Some(Step { name: name.into(), since: Instant::now() });
    }

    /// The module has answered.
    pub(crate) fn goes_on(&self) {
        *self.step.lock() = None;
    }

    /// Waits for the end of a start. If it hangs in a module, or goes on for too long after `told`, the process aborts:
    /// nothing can be closed in order under a thread that is inside the module. Store and log bear it.
    pub async fn guard<T>(
        &self,
        starting: impl Future<Output = T>,
        told: impl Future<Output = ()> + Send + 'static,
    ) -> T {
        let watch = self.clone();
        // A task of its own: a failed start closes what it opened, and may hang in that without giving way.
        let watching = tokio::spawn(async move {
            let why = watch.beyond_help(told).await;
            tracing::error!("{why}; this process gives up");
            std::process::abort();
        });
        let started = starting.await;
        watching.abort();
        started
    }

    /// Ends when the start is not to be waited for any longer, with the reason.
    async fn beyond_help(&self, told: impl Future<Output = ()>) -> String {
        let told_long_ago = async {
            told.await;
            sleep(TOLD_LIMIT).await;
        };
        tokio::select! {
            step = self.hangs() => format!("the start hangs: the HSM's module does not return, while {step}"),
            () = told_long_ago => format!("the start goes on {TOLD_LIMIT:?} after the process was told to end"),
        }
    }

    async fn hangs(&self) -> String {
        loop {
            sleep(self.limit / LOOKS).await;
            let step = self.step.lock().clone();
            if let Some(step) = step.filter(|step| step.since.elapsed() >= self.limit) {
                return step.name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    fn watch() -> StartWatch {
        StartWatch { limit: LIMIT, ..StartWatch::default() }
    }

    #[tokio::test]
    async fn a_step_that_waits_for_too_long_is_told_by_its_name() {
        let watch = watch();
        watch.waits_while("the token is opened");
        let why = watch.beyond_help(pending()).await;
        assert_eq!(why, "the start hangs: the HSM's module does not return, while the token is opened");
    }

    #[tokio::test]
    async fn what_does_not_wait_for_a_module_may_take_its_time_and_each_step_has_its_own() {
        let watch = watch();
        let starting = async {
            for step in 0..4 {
                watch.waits_while(format!("step {step}"));
                sleep(LIMIT / 2).await;
            }
            watch.goes_on();
            sleep(3 * LIMIT).await;
        };
        tokio::select! {
            () = starting => {}
            why = watch.beyond_help(pending()) => panic!("{why}"),
        }
    }

    #[tokio::test]
    async fn a_start_that_ends_is_answered_though_the_process_was_told_to_end() {
        assert_eq!(watch().guard(async { "started" }, ready(())).await, "started");
    }
}
