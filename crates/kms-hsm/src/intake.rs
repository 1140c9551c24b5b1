//! Where jobs wait for the workers: one queue for all, and before it those that make key pairs, one of which is in the
//! queue or at work at a time.
//!
//! To make an RSA key pair takes seconds. If every worker did that at once, all other calls would wait for as long; so
//! one worker does, and between two key pairs comes whatever else waits.

use std::{collections::VecDeque, sync::Arc};

use crossbeam_channel::{Sender, TrySendError};
use kms_core::ports::{Birth, HsmError, HsmJob};
use parking_lot::{Mutex, RwLock};

use crate::ward::shut_down;

/// How many RSA key pairs can wait while one is made: at a second each, for some ten seconds.
const SLOW_WAITING: usize = 8;
/// How many other key pairs can wait. They go before those of RSA.
const QUICK_WAITING: usize = 64;
/// After so many others in a row an RSA key pair that waits has its turn.
const QUICK_IN_A_ROW: usize = 16;

/// What takes jobs in.
pub(crate) struct Intake {
    /// `None` when it is closed.
    queue: RwLock<Option<Sender<HsmJob>>>,
    births: Mutex<Births>,
}

/// The key pairs that are to be made.
#[derive(Default)]
struct Births {
    /// One is in the queue, or at work.
    under_way: bool,
    quick: VecDeque<HsmJob>,
    slow: VecDeque<HsmJob>,
    /// How many quick ones went since the last slow one.
    in_a_row: usize,
}

impl Births {
    /// Takes one in that may go at once, or has it wait; gives it back if too many wait.
    fn arrive(&mut self, birth: Birth, job: HsmJob) -> Result<Option<HsmJob>, HsmJob> {
        if !self.under_way {
            self.under_way = true;
            return Ok(Some(job));
        }
        let (waiting, most) = match birth {
            Birth::Quick => (&mut self.quick, QUICK_WAITING),
            Birth::Slow => (&mut self.slow, SLOW_WAITING),
        };
        if waiting.len() >= most {
            return Err(job);
        }
        waiting.push_back(job);
        Ok(None)
    }

    /// The one whose turn it is, now that the one before has ended.
    fn next(&mut self) -> Option<HsmJob> {
        let quick_first = self.slow.is_empty() || self.in_a_row < QUICK_IN_A_ROW;
        let quick = if quick_first { self.quick.pop_front() } else { None };
        self.in_a_row = if quick.is_some() { self.in_a_row + 1 } else { 0 };
        let next = quick.or_else(|| self.slow.pop_front());
        self.under_way = next.is_some();
        next
    }
}

impl Intake {
    pub(crate) fn new(queue: Sender<HsmJob>) -> Self {
        Self { queue: RwLock::new(Some(queue)), births: Mutex::default() }
    }

    /// Queues a job, or runs it with the error that keeps it out.
    pub(crate) fn submit(&self, job: HsmJob) {
        let refused = match &*self.queue.read() {
            Some(queue) => queue.try_send(job).map_err(|error| match error {
                TrySendError::Full(job) => (job, HsmError::Busy),
                TrySendError::Disconnected(job) => (job, shut_down()),
            }),
            None => Err((job, shut_down())),
        };
        if let Err((job, error)) = refused {
            job(Err(error));
        }
    }

    /// The same for a job that makes a key pair: it waits for those before it.
    pub(crate) fn submit_birth(self: &Arc<Self>, birth: Birth, job: HsmJob) {
        let arrived = self.births.lock().arrive(birth, job);
        match arrived {
            Ok(Some(job)) => self.begin(job),
            Ok(None) => {}
            Err(job) => job(Err(HsmError::Busy)),
        }
    }

    fn begin(self: &Arc<Self>, job: HsmJob) {
        let turn = Turn(Arc::clone(self));
        self.submit(Box::new(move |session| {
            let _ends_with_the_job = turn;
            job(session);
        }));
    }

    /// Takes no more jobs. Those in the queue stay; key pairs that wait for their turn are refused when it comes.
    pub(crate) fn close(&self) {
        self.queue.write().take();
    }

    /// How many jobs wait.
    pub(crate) fn len(&self) -> usize {
        let births = self.births.lock();
        let queued = self.queue.read().as_ref().map_or(0, Sender::len);
        queued + births.quick.len() + births.slow.len()
    }
}

/// The turn of one key pair. However its job ends, the next one has its turn then.
struct Turn(Arc<Intake>);

impl Drop for Turn {
    fn drop(&mut self) {
        let next = self.0.births.lock().next();
        if let Some(job) = next {
            self.0.begin(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use crossbeam_channel::{Receiver, bounded};

    use super::*;

    struct World {
        intake: Arc<Intake>,
        queue: Receiver<HsmJob>,
        ended: mpsc::Receiver<(&'static str, Option<HsmError>)>,
        ends: mpsc::Sender<(&'static str, Option<HsmError>)>,
    }

    impl World {
        fn new() -> Self {
            let ((sender, queue), (ends, ended)) = (bounded(100), mpsc::channel());
            Self { intake: Arc::new(Intake::new(sender)), queue, ended, ends }
        }

        /// A job that tells its name, and its error.
        fn job(&self, name: &'static str) -> HsmJob {
            let ends = self.ends.clone();
            Box::new(move |session| ends.send((name, session.err())).expect("the test waits"))
        }

        fn birth(&self, birth: Birth, name: &'static str) {
            self.intake.submit_birth(birth, self.job(name));
        }

        /// Takes one job out of the queue and ends it. The error stands for a session.
        fn work(&self) {
            let job = self.queue.try_recv().expect("a job waits");
            job(Err(HsmError::TimedOut));
        }

        fn ended(&self) -> Vec<(&'static str, Option<HsmError>)> {
            self.ended.try_iter().collect()
        }

        fn names(&self) -> Vec<&'static str> {
            self.ended().into_iter().map(|(name, _)| name).collect()
        }
    }

    #[test]
    fn one_key_pair_is_made_at_a_time_and_other_jobs_come_between() {
        let world = World::new();
        for name in ["first", "second"] {
            world.birth(Birth::Slow, name);
        }
        world.intake.submit(world.job("other"));
        assert_eq!(
            (world.queue.len(), world.intake.len()),
            (2, 3),
            "the second key pair is not in the queue"
        );
        world.work();
        for _ in 0..2 {
            world.work();
        }
        assert_eq!(world.names(), ["first", "other", "second"]);
        world.birth(Birth::Slow, "third");
        world.work();
        assert_eq!(world.names(), ["third"], "there is a turn for who comes later");
    }

    #[test]
    fn a_few_wait_and_the_rest_is_refused_at_once() {
        let world = World::new();
        for _ in 0..=SLOW_WAITING {
            world.birth(Birth::Slow, "slow");
        }
        assert_eq!(world.ended(), []);
        world.birth(Birth::Slow, "too many");
        assert_eq!(world.ended(), [("too many", Some(HsmError::Busy))]);
        for _ in 0..QUICK_WAITING {
            world.birth(Birth::Quick, "quick");
        }
        assert_eq!(world.ended(), [], "they have room of their own");
        world.birth(Birth::Quick, "too many");
        assert_eq!(world.ended(), [("too many", Some(HsmError::Busy))]);
        assert_eq!(world.queue.len(), 1);
    }

    #[test]
    fn quick_ones_go_first_and_do_not_keep_slow_ones_waiting_for_ever() {
        let world = World::new();
        for name in ["slow 1", "slow 2"] {
            world.birth(Birth::Slow, name);
        }
        for _ in 0..2 * QUICK_IN_A_ROW {
            world.birth(Birth::Quick, "quick");
        }
        for _ in 0..2 + 2 * QUICK_IN_A_ROW {
            world.work();
        }
        let names = world.names();
        assert_eq!((names[0], names[1], names[1 + QUICK_IN_A_ROW]), ("slow 1", "quick", "slow 2"));
        assert_eq!(names[2 + QUICK_IN_A_ROW..].len(), QUICK_IN_A_ROW);
    }

    #[test]
    fn a_job_that_is_lost_or_finds_no_room_gives_its_turn_on() {
        let world = World::new();
        for name in ["lost", "second"] {
            world.birth(Birth::Slow, name);
        }
        drop(world.queue.try_recv().expect("a job waits"));
        world.work();
        assert_eq!(world.names(), ["second"]);
        for _ in 0..100 {
            world.intake.submit(Box::new(|_| ()));
        }
        world.birth(Birth::Slow, "no room");
        assert_eq!(world.ended(), [("no room", Some(HsmError::Busy))]);
        world.work();
        world.birth(Birth::Slow, "third");
        assert_eq!(world.queue.len(), 100, "the turn of the one before is over");
    }

    #[test]
    fn those_that_wait_when_it_is_closed_are_refused_when_their_turn_comes() {
        let world = World::new();
        for name in ["first", "second", "third"] {
            world.birth(Birth::Slow, name);
        }
        world.intake.close();
        world.work();
        let [first, second, third] = &world.ended()[..] else { panic!("all have ended") };
        assert_eq!(first, &("first", Some(HsmError::TimedOut)));
        assert_eq!((second, third), (&("second", Some(shut_down())), &("third", Some(shut_down()))));
        world.queue.try_recv().map(drop).expect_err("nothing is left");
    }
}
