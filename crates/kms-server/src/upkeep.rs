//! Does what falls due for keys: deletions, rotations, expiries of imported material.
//!
//! What is due stands in the store, so it is found again after a restart, and done late rather than never.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kms_core::{DueEntry, Error, Refused, Service};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::server::stopped;

/// How much is done at the same time, so that it shares commits of store and log.
const IN_FLIGHT: usize = 16;
/// How much one read of the store takes.
const PAGE: usize = 256;
/// How often the store is asked for what is due. The clock is read anew each time, so it may be set meanwhile.
const LOOK: Duration = Duration::from_secs(5);
/// How soon it is tried again after a fault, at first and at last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How long all that is due at one moment may take, for who waits for it.
const SETTLE_PATIENCE: Duration = Duration::from_secs(60);

/// How the last pass over what is due ended.
#[derive(Debug, Clone, Default)]
struct Passed {
    /// It began after this many had asked for one.
    asked: u64,
    /// Something could not be done, as an operator may read it.
    problem: Option<String>,
}

/// The scheduler of this process's service, as others see it.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    asked: AtomicU64,
    look: Notify,
    passed: watch::Sender<Passed>,
}

impl Upkeep {
    /// Waits until all is done that is due now; or says what could not be done.
    pub(crate) async fn settle(&self) -> Result<(), String> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut passed = self.passed.subscribe();
        self.look.notify_one();
        let ended = timeout(SETTLE_PATIENCE, passed.wait_for(|passed| passed.asked >= mine)).await;
        match ended {
            Ok(Ok(passed)) => passed.problem.clone().map_or(Ok(()), Err),
            Ok(Err(_)) => Err("the service is about to end".to_owned()),
            Err(_) => Err(format!("not all of it was done within {SETTLE_PATIENCE:?}; it goes on")),
        }
    }
}

/// Looks for what is due and does it, until the service stops. A change that it has begun is driven to its end: it
/// stops between changes only.
pub(crate) async fn drive(upkeep: Arc<Upkeep>, service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let mut backoff = BACKOFF.0;
    loop {
        let asked = upkeep.asked.load(Ordering::SeqCst);
        let problem = pass(&service, &stop).await;
        let wait = if problem.is_none() { LOOK } else { backoff };
        backoff = if problem.is_none() { BACKOFF.0 } else { (backoff * 2).min(BACKOFF.1) };
        upkeep.passed.send_replace(Passed { asked, problem });
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = upkeep.look.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

/// Does all that is due; answers what kept it from that.
async fn pass(service: &Arc<Service>, stop: &watch::Receiver<bool>) -> Option<String> {
    let (mut after, mut problem) = (None, None);
    loop {
        let page = match service.due(after, PAGE).await {
            Ok(page) => page,
            Err(error) => return Some(report(&error, None)),
        };
        for error in &page.unreadable {
            problem = Some(report(error, None));
        }
        problem = do_all(service, page.entries, stop).await.or(problem);
        after = page.next;
        if after.is_none() || *stop.borrow() {
            return problem;
        }
    }
}

/// Does these things, several at a time; answers what kept it from one of them. What concerns one key holds up no
/// other.
async fn do_all(
    service: &Arc<Service>,
    entries: Vec<DueEntry>,
    stop: &watch::Receiver<bool>,
) -> Option<String> {
    let (mut entries, mut running, mut problem) = (entries.into_iter(), JoinSet::new(), None);
    loop {
        while running.len() < IN_FLIGHT && !*stop.borrow() {
            let Some(entry) = entries.next() else { break };
            let service = service.clone();
            running.spawn(async move { (entry, service.carry_out(entry).await) });
        }
        match running.join_next().await {
            None => return problem,
            Some(Ok((_, Ok(())))) => {}
            Some(Ok((entry, Err(refused)))) => problem = Some(report(refused.error(), Some(&entry))),
            Some(Err(_)) => problem = Some(report(Refused::task_died().error(), None)),
        }
    }
}

fn report(error: &Error, entry: Option<&DueEntry>) -> String {
    let detail = error.operator_detail().unwrap_or_else(|| error.to_string());
    let key = entry.map(|entry| entry.key_id().to_string());
    let due = entry.map(|entry| entry.at().to_string());
    tracing::error!(reason = error.code(), detail, key_id = key, due, "what is due could not be done");
    key.map_or(detail.clone(), |key| format!("key {key}: {detail}"))
}

#[cfg(test)]
mod tests;
