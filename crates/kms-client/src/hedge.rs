//! A second attempt beside one that is slow: against a node that hangs or is far behind.

use std::{pin::pin, time::Duration};

use tokio::time::timeout;
use tonic::Code;

use crate::Error;

/// The answer of `first`; or, if it has none after `delay`, of whichever of both answers first. What one service says of
/// the call itself is the answer; a failure to say anything leaves it to the other.
pub(crate) async fn hedged<Answer, Second>(
    first: impl Future<Output = Result<Answer, Error>>,
    delay: Duration,
    second: impl FnOnce() -> Second,
) -> Result<Answer, Error>
where
    Second: Future<Output = Result<Answer, Error>>,
{
    let mut first = pin!(first);
    if let Ok(answered) = timeout(delay, &mut first).await {
        return answered;
    }
    let mut second = pin!(second());
    tokio::select! {
        answered = &mut first => if says_nothing(&answered) { second.await } else { answered },
        answered = &mut second => if says_nothing(&answered) { first.await } else { answered },
    }
}

/// Whether the other service may still answer the call.
fn says_nothing<Answer>(answered: &Result<Answer, Error>) -> bool {
    match answered {
        Err(Error::Transport { .. } | Error::Deadline) => true,
        Err(Error::Refused(refusal)) => matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted),
        Ok(_) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::sleep;
    use tonic::Status;

    use super::*;

    const DELAY: Duration = Duration::from_millis(50);

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
            let answered = hedged(after(DELAY / 2, answer), DELAY, none).await;
            assert_eq!(format!("{answered:?}"), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_of_both_to_answer_wins() {
        assert_eq!(hedged(pending(), DELAY, || ready(Ok(2))).await.expect("the second"), 2);
        assert_eq!(hedged(after(2 * DELAY, Ok(1)), DELAY, pending).await.expect("the first"), 1);
        let slow = || after(2 * DELAY, Ok(2));
        assert_eq!(hedged(after(2 * DELAY, Ok(1)), DELAY, slow).await.expect("the first"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_to_say_anything_leaves_it_to_the_other() {
        let away = || ready(Err(refused(Code::Unavailable)));
        assert_eq!(hedged(after(3 * DELAY, Ok(1)), DELAY, away).await.expect("the first"), 1);
        let fails = after(2 * DELAY, Err(Error::Deadline));
        assert_eq!(hedged(fails, DELAY, || after(2 * DELAY, Ok(2))).await.expect("the second"), 2);
        // What a service says of the call is no such failure.
        let word = || ready(Err(refused(Code::FailedPrecondition)));
        let error = hedged(after(3 * DELAY, Ok(1)), DELAY, word).await.expect_err("the second's word");
        assert_eq!(error.refusal().map(|refusal| refusal.code), Some(Code::FailedPrecondition));
    }
}
