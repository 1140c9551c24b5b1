//! Tries a call until it succeeds, must not be repeated, or its deadline comes.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Code;

use crate::{Error, RetryPolicy};

/// Whether a call may be sent again although the server may have done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It gives out nothing new and changes nothing: it may even be sent to two services at once.
    Read,
    /// Doing it twice is the same as doing it once, or harmless.
    Harmless,
    /// It changes something: only again when it is certain that nothing was done.
    OnlyIfUndone,
}

/// The reasons of UNAVAILABLE with which the server says that nothing was done.
const NOTHING_DONE: [&str; 3] = ["AUDIT_UNAVAILABLE", "HSM_UNAVAILABLE", "STORE_UNAVAILABLE"];

/// Runs `attempt` until it succeeds, fails for good, or `deadline` comes. Each is told when it is given up.
///
/// With `patience`, where a further attempt may fare better, that is after so long: if the call may be repeated. The last
/// one has all the time that is left. A wait that would last beyond the deadline is not begun: the failure that asked
/// for it is the answer.
pub(crate) async fn run<Answer, Attempt>(
    policy: &RetryPolicy,
    deadline: Instant,
    patience: Option<Duration>,
    repeat: Repeat,
    mut attempt: impl FnMut(Instant) -> Attempt,
) -> Result<Answer, Error>
where
    Attempt: Future<Output = Result<Answer, Error>>,
{
    let patience = patience.filter(|_| repeat != Repeat::OnlyIfUndone);
    let mut tries = 1;
    loop {
        let is_last = tries >= policy.max_tries;
        let given_up =
            patience.filter(|_| !is_last).and_then(|patience| Instant::now().checked_add(patience));
        let until = given_up.map_or(deadline, |given_up| given_up.min(deadline));
        let error = match timeout_at(until, attempt(until)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => Error::Deadline,
        };
        let wait = match error {
            _ if is_last => None,
            Error::Deadline => patience.map(|_| Duration::ZERO),
            _ => wait_before_retry(policy, repeat, tries, &error),
        };
        match wait.and_then(|wait| Instant::now().checked_add(wait)) {
            Some(next_try) if next_try < deadline => sleep_until(next_try).await,
            _ => return Err(error),
        }
        tries += 1;
    }
}

/// How long to wait before the call is sent again; `None` if it must not be.
fn wait_before_retry(policy: &RetryPolicy, repeat: Repeat, tries: u32, error: &Error) -> Option<Duration> {
    match error {
        Error::Transport { not_sent, .. } if *not_sent || repeat != Repeat::OnlyIfUndone => {
            Some(backoff(policy, tries))
        }
        Error::Refused(refusal) if refusal.code == Code::ResourceExhausted => {
            refusal.retry_after.map(|asked| spread(policy, tries, asked))
        }
        Error::Refused(refusal) if refusal.code == Code::Unavailable => {
            let safe = repeat != Repeat::OnlyIfUndone || NOTHING_DONE.contains(&refusal.reason.as_str());
            let wait = refusal.retry_after.map_or_else(|| backoff(policy, tries), jittered);
            safe.then_some(wait)
        }
        _ => None,
    }
}

/// What the server asked for, and a part that grows with each try: all who are throttled are told of the same
/// next free moment, and it fits one of them only.
fn spread(policy: &RetryPolicy, tries: u32, asked: Duration) -> Duration {
    let factor = 4u32.saturating_pow(tries.saturating_sub(1));
    asked.saturating_add(random_part((asked / 4).saturating_mul(factor).min(policy.longest_backoff)))
}

/// What the server asked for and up to a quarter more, so that clients do not come back all at once.
fn jittered(asked: Duration) -> Duration {
    asked.saturating_add(random_part(asked / 4))
}

/// Exponential backoff, half of it with jitter. The other half makes the tries last: how long an outage they
/// outlast is no matter of chance.
fn backoff(policy: &RetryPolicy, tries: u32) -> Duration {
    let factor = 2_u32.saturating_pow(tries.saturating_sub(1));
    let half = policy.first_backoff.saturating_mul(factor).min(policy.longest_backoff) / 2;
    half + random_part(half)
}

/// A random part of a span. Without random numbers the whole: jitter is a courtesy, not a need.
fn random_part(span: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    span.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
