//! A second attempt beside one that is slow: against a node that hangs or is far behind.

use std::{
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::timeout;
use tonic::Code;

use crate::Error;

/// How many attempts have been put beside others: one to every ten calls, and a few in advance. So a service that is slow
/// under its load is not made slower by as much again.
#[derive(Debug)]
pub(crate) struct HedgeBudget {
    /// What is left, in tenths of an attempt.
    tenths: AtomicU32,
}

impl HedgeBudget {
    const ONE: u32 = 10;
    const MOST: u32 = 10 * Self::ONE;

    /// Counts a call that may take part.
    fn earn(&self) {
        let more = |tenths: u32| (tenths < Self::MOST).then_some(tenths + 1);
        // Full is full.
        let _ = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether a second attempt may be made, which is then counted.
    fn spend(&self) -> bool {
        let less = |tenths: u32| tenths.checked_sub(Self::ONE);
        self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Default for HedgeBudget {
    fn default() -> Self {
        Self { tenths: AtomicU32::new(Self::MOST) }
    }
}

/// The answer of `first`; or, if it has none after `delay` and the budget allows it, of whichever of both answers first.
/// What one service says of the call itself is the answer; a failure to say anything leaves it to the other.
pub(crate) async fn hedged<Answer, Second>(
    first: impl Future<Output = Result<Answer, Error>>,
    delay: Duration,
    budget: &HedgeBudget,
    second: impl FnOnce() -> Second,
) -> Result<Answer, Error>
where
    Second: Future<Output = Result<Answer, Error>>,
{
    budget.earn();
    let mut first = pin!(first);
    if let Ok(answered) = timeout(delay, &mut first).await {
        return answered;
    }
    if !budget.spend() {
        return first.await;
    }
    let mut second = pin!(second());
    tokio::select! {
        answered = &mut first => if says_nothing(&answered) { second.await } else { answered },
        answered = &mut second => if says_nothing(&answered) { first.await } else { answered },
    }
}

/// Whether the other service may still answer the call.
pub(crate) fn says_nothing<Answer>(answered: &Result<Answer, Error>) -> bool {
    match answered {
        Err(Error::Transport { .. } | Error::Deadline) => true,
        Err(Error::Refused(refusal)) => matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted),
        Ok(_) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::{pending, ready},
    };

    use tokio::time::sleep;
    use tonic::Status;

    use super::*;

    const DELAY: Duration = Duration::from_millis(50);

    fn budget() -> HedgeBudget {
        HedgeBudget::default()
    }

    fn refused(code: Code) -> Error {
        Status::new(code, "refused").into()
    }

    async fn after(wait: Duration, answer: Result<u8, Error>) -> Result<u8, Error> {
        sleep(wait).await;
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_answer_is_the_only_attempt() {
        for answer in [Ok(1), Err(refused(Code::Unavailable)), Err(refused(Code::NotFound))] {
            let expected = format!("{answer:?}");
            let none = || -> std::future::Pending<Result<u8, Error>> { panic!("no second attempt") };
            let answered = hedged(after(DELAY / 2, answer), DELAY, &budget(), none).await;
            assert_eq!(format!("{answered:?}"), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_of_both_to_answer_wins() {
        assert_eq!(hedged(pending(), DELAY, &budget(), || ready(Ok(2))).await.expect("the second"), 2);
        assert_eq!(hedged(after(2 * DELAY, Ok(1)), DELAY, &budget(), pending).await.expect("the first"), 1);
        let slow = || after(2 * DELAY, Ok(2));
        assert_eq!(hedged(after(2 * DELAY, Ok(1)), DELAY, &budget(), slow).await.expect("the first"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_to_say_anything_leaves_it_to_the_other() {
        let away = || ready(Err(refused(Code::Unavailable)));
        assert_eq!(hedged(after(3 * DELAY, Ok(1)), DELAY, &budget(), away).await.expect("the first"), 1);
        let fails = after(2 * DELAY, Err(Error::Deadline));
        assert_eq!(hedged(fails, DELAY, &budget(), || after(2 * DELAY, Ok(2))).await.expect("the second"), 2);
        // What a service says of the call is no such failure.
        let word = || ready(Err(refused(Code::FailedPrecondition)));
        let error =
            hedged(after(3 * DELAY, Ok(1)), DELAY, &budget(), word).await.expect_err("the second's word");
        assert_eq!(error.refusal().map(|refusal| refusal.code), Some(Code::FailedPrecondition));
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_in_ten_has_a_second_attempt() {
        let budget = budget();
        let seconds = Cell::new(0);
        let second = || {
            seconds.set(seconds.get() + 1);
            ready(Ok(2))
        };
        for calls in 1..=200 {
            hedged(after(2 * DELAY, Ok(1)), DELAY, &budget, second).await.expect("an answer");
            // Those in advance go to the first calls.
            assert_eq!(seconds.get(), calls.min(10 + (calls - 1) / 10), "{calls}");
        }
        // Calls that need none make up for it.
        for _ in 0..1000 {
            hedged(ready(Ok(1)), DELAY, &budget, second).await.expect("an answer");
        }
        let before = seconds.get();
        for _ in 0..10 {
            hedged(after(2 * DELAY, Ok(1)), DELAY, &budget, second).await.expect("an answer");
        }
        assert_eq!(seconds.get(), before + 10);
    }
}
