//! Tells the service how many objects hang on a bucket key, when that is known: off the path of requests.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tonic::Code;

use super::{KeySource, Requester, counters::count};
use crate::Error;

/// How many reports are on their way at once.
const MOST_ON_THEIR_WAY: usize = 16;
/// How long one attempt may take.
const MOST_PER_ATTEMPT: Duration = Duration::from_secs(10);
/// How long a report waits that the service could not take.
const NEXT_ATTEMPT: Duration = Duration::from_secs(1);
/// How long the last attempts may take, all together.
const MOST_AT_THE_END: Duration = Duration::from_secs(30);

/// What is to be told of one bucket key.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) requester: Requester,
    pub(super) receipt: Vec<u8>,
    pub(super) uses: u64,
}

/// What became of reports.
#[derive(Debug, Default)]
pub(super) struct ReportCounts {
    pub(super) told: AtomicU64,
    pub(super) lost: AtomicU64,
}

/// A report that has one of the places until it is told or lost.
struct Placed {
    report: Report,
    _place: OwnedSemaphorePermit,
}

/// Takes reports from wherever a bucket key ends. It never waits.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    queue: mpsc::UnboundedSender<Placed>,
    /// The bound of the queue and of all that was taken from it.
    places: Arc<Semaphore>,
    counts: Arc<ReportCounts>,
}

impl Reporter {
    pub(super) fn take(&self, report: Report) {
        let placed =
            self.places.clone().try_acquire_owned().ok().map(|place| Placed { report, _place: place });
        if placed.is_none_or(|placed| self.queue.send(placed).is_err()) {
            count(&self.counts.lost);
        }
    }
}

/// How an attempt ended.
enum Attempted {
    Told,
    Lost,
    /// The service could not take it; a further attempt may succeed.
    NotNow(Placed),
}

/// The other end: what was taken, and what could not be told yet.
pub(super) struct Outbox {
    queue: mpsc::UnboundedReceiver<Placed>,
    /// What could not be told, and when it is its turn again.
    later: VecDeque<(Instant, Placed)>,
    on_their_way: JoinSet<Attempted>,
    source: Arc<dyn KeySource>,
    counts: Arc<ReportCounts>,
}

impl Outbox {
    /// One in which so many reports may wait.
    pub(super) fn new(
        most_waiting: usize,
        source: Arc<dyn KeySource>,
        counts: Arc<ReportCounts>,
    ) -> (Reporter, Self) {
        let (sender, queue) = mpsc::unbounded_channel();
        let reporter = Reporter {
            queue: sender,
            places: Arc::new(Semaphore::new(most_waiting)),
            counts: counts.clone(),
        };
        let (later, on_their_way) = (VecDeque::new(), JoinSet::new());
        (reporter, Self { queue, later, on_their_way, source, counts })
    }

    /// Tells what is taken, until nobody is left who could take one, or it closes. What the service refuses is given up;
    /// what it cannot take now goes behind all others.
    pub(super) async fn deliver(mut self, closing: Arc<Notify>) {
        loop {
            let is_free = self.on_their_way.len() < MOST_ON_THEIR_WAY;
            let next_turn = self.later.front().map(|(turn, _)| *turn);
            tokio::select! {
                () = closing.notified() => break,
                Some(ended) = self.on_their_way.join_next() => self.settle(ended.unwrap_or(Attempted::Lost)),
                () = at(next_turn), if is_free => {
                    if let Some((_, placed)) = self.later.pop_front() {
                        self.attempt(placed);
                    }
                }
                received = self.queue.recv(), if is_free => match received {
                    Some(placed) => self.attempt(placed),
                    None => break,
                },
            }
        }
        self.finish().await;
    }

    /// The last attempts for all that was taken, within a bound; and nothing is taken any more.
    async fn finish(mut self) {
        self.queue.close();
        let end = Instant::now() + MOST_AT_THE_END;
        loop {
            while self.on_their_way.len() < MOST_ON_THEIR_WAY
                && let Some(placed) = self.due()
            {
                self.attempt(placed);
            }
            let is_free = self.on_their_way.len() < MOST_ON_THEIR_WAY;
            let next_turn = self.later.front().map(|(turn, _)| *turn);
            if self.on_their_way.is_empty() && next_turn.is_none() {
                return;
            }
            tokio::select! {
                Some(ended) = self.on_their_way.join_next() => self.settle(ended.unwrap_or(Attempted::Lost)),
                () = at(next_turn), if is_free => {}
                () = sleep_until(end) => break,
            }
        }
        let waiting = std::iter::from_fn(|| self.queue.try_recv().ok()).count();
        let left = waiting + self.later.len() + self.on_their_way.len();
        (0..left).for_each(|_| count(&self.counts.lost));
    }

    /// The next one whose turn it is.
    fn due(&mut self) -> Option<Placed> {
        let has_turn = self.later.front().is_some_and(|(turn, _)| *turn <= Instant::now());
        let again = if has_turn { self.later.pop_front() } else { None };
        again.map(|(_, placed)| placed).or_else(|| self.queue.try_recv().ok())
    }

    fn attempt(&mut self, placed: Placed) {
        let Report { requester, receipt, uses } = &placed.report;
        let told = self.source.report(requester, receipt, *uses);
        self.on_their_way.spawn(async move {
            match timeout(MOST_PER_ATTEMPT, told).await {
                Ok(Ok(())) => Attempted::Told,
                Ok(Err(error)) if !may_pass(&error) => Attempted::Lost,
                Ok(Err(_)) | Err(_) => Attempted::NotNow(placed),
            }
        });
    }

    /// Counts how an attempt ended, or puts off what is to be tried again.
    fn settle(&mut self, attempted: Attempted) {
        match attempted {
            Attempted::Told => count(&self.counts.told),
            Attempted::Lost => count(&self.counts.lost),
            Attempted::NotNow(placed) => self.later.push_back((Instant::now() + NEXT_ATTEMPT, placed)),
        }
    }
}

/// Waits for a moment; without one, for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

/// Whether a further attempt may succeed.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Transport { .. } | Error::Deadline => true,
        Error::Refused(refusal) => matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted),
        _ => false,
    }
}
