//! Retry under a paused clock: every wait is exact.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use super::*;
use crate::{ClientConfig, Refusal, SecretBytes};

const DEADLINE: Duration = Duration::from_secs(60);

fn refused(code: Code, reason: &str, retry_after: Option<Duration>) -> Error {
    Error::Refused(Box::new(Refusal {
        code,
        reason: reason.to_owned(),
        message: String::new(),
        metadata: HashMap::new(),
        field_violations: Vec::new(),
        retry_after,
        request_id: None,
    }))
}

fn broken(not_sent: bool) -> Error {
    Error::Transport { not_sent, source: "broken".into() }
}

/// Runs attempts that always fail; answers how many there were, how long it took, and the error.
async fn failing(repeat: Repeat, error: impl Fn() -> Error) -> (u32, Duration, Error) {
    let begin = Instant::now();
    let tries = Cell::new(0);
    let policy = RetryPolicy::default();
    let outcome = run(&policy, begin + DEADLINE, None, repeat, |_| {
        tries.set(tries.get() + 1);
        std::future::ready(Err::<(), _>(error()))
    });
    let error = outcome.await.expect_err("every attempt fails");
    (tries.get(), begin.elapsed(), error)
}

#[tokio::test(start_paused = true)]
async fn retry_info_is_waited_out_and_little_more() {
    let asked = Duration::from_secs(3);
    for code in [Code::ResourceExhausted, Code::Unavailable] {
        let (tries, elapsed, error) =
            failing(Repeat::OnlyIfUndone, || refused(code, "HSM_UNAVAILABLE", Some(asked))).await;
        assert_eq!(tries, 8);
        assert!(elapsed >= 7 * asked, "{elapsed:?}");
        // Up to a quarter more each time; for who is throttled, four times that with each try, within the policy.
        let more = match code {
            Code::ResourceExhausted => asked / 4 + 6 * RetryPolicy::default().longest_backoff,
            _ => 7 * asked / 4,
        };
        // The clock of a test moves in milliseconds.
        assert!(elapsed <= 7 * asked + more + Duration::from_millis(7), "{elapsed:?}");
        assert_eq!(error.refusal().map(|refusal| refusal.code), Some(code));
    }
}

#[tokio::test(start_paused = true)]
async fn backoff_is_bounded() {
    let (tries, elapsed, _) = failing(Repeat::Harmless, || refused(Code::Unavailable, "", None)).await;
    assert_eq!(tries, 8);
    let bounds = Duration::from_millis(50 + 100 + 200 + 400 + 800 + 1600 + 2000);
    assert!(elapsed >= bounds / 2 && elapsed <= bounds + Duration::from_millis(7), "{elapsed:?}");
    let policy = RetryPolicy::default();
    for tries in 1..100 {
        assert!(backoff(&policy, tries) <= policy.longest_backoff);
    }
}

/// As long as a crashed worker may take to be replaced; each try fails at once, as when nobody listens.
#[tokio::test(start_paused = true)]
async fn the_defaults_outlast_an_outage_of_two_seconds() {
    let config = ClientConfig::new("", "", "", SecretBytes::from(Vec::new()));
    for _ in 0..1000 {
        let begin = Instant::now();
        let outage = begin + Duration::from_secs(2);
        let outcome = run(&config.retry, begin + config.deadline, None, Repeat::OnlyIfUndone, |_| {
            std::future::ready(if Instant::now() < outage { Err(broken(true)) } else { Ok(()) })
        });
        outcome.await.expect("the service is back");
    }
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_repeated_is_tried_once() {
    let once = |error: fn() -> Error| async move {
        let (tries, elapsed, error) = failing(Repeat::OnlyIfUndone, error).await;
        assert_eq!((tries, elapsed), (1, Duration::ZERO), "{error:?}");
    };
    once(|| refused(Code::Unavailable, "OUTCOME_UNKNOWN", Some(Duration::from_millis(1)))).await;
    once(|| refused(Code::Unavailable, "", None)).await;
    once(|| refused(Code::ResourceExhausted, "THROTTLED", None)).await;
    once(|| broken(false)).await;
    once(|| Error::Deadline).await;
    once(|| Error::InvalidAnswer("")).await;
}

#[tokio::test(start_paused = true)]
async fn other_refusals_are_final_even_for_calls_that_may_be_repeated() {
    let codes = [
        Code::InvalidArgument,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::DataLoss,
        Code::Internal,
        Code::Unknown,
    ];
    for code in codes {
        let (tries, ..) = failing(Repeat::Harmless, || refused(code, "", Some(Duration::ZERO))).await;
        assert_eq!(tries, 1, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_be_repeated_is() {
    let reasons = ["AUDIT_UNAVAILABLE", "HSM_UNAVAILABLE", "STORE_UNAVAILABLE"];
    for reason in reasons {
        let (tries, ..) = failing(Repeat::OnlyIfUndone, || refused(Code::Unavailable, reason, None)).await;
        assert_eq!(tries, 8, "{reason}");
    }
    assert_eq!(failing(Repeat::OnlyIfUndone, || broken(true)).await.0, 8);
    assert_eq!(failing(Repeat::Harmless, || broken(false)).await.0, 8);
    let unknown = || refused(Code::Unavailable, "OUTCOME_UNKNOWN", None);
    assert_eq!(failing(Repeat::Harmless, unknown).await.0, 8);
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    for asked in [DEADLINE, Duration::MAX] {
        let throttled = || refused(Code::ResourceExhausted, "THROTTLED", Some(asked));
        let (tries, elapsed, error) = failing(Repeat::Harmless, throttled).await;
        assert_eq!((tries, elapsed), (1, Duration::ZERO));
        assert_eq!(error.reason(), Some("THROTTLED"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_over_all_tries() {
    let begin = Instant::now();
    let tries = Cell::new(0);
    let policy = RetryPolicy::default();
    let outcome = run(&policy, begin + Duration::from_secs(10), None, Repeat::Harmless, |_| {
        tries.set(tries.get() + 1);
        let last = tries.get() == 3;
        async move {
            if last {
                std::future::pending::<()>().await;
            }
            Err::<(), _>(refused(Code::Unavailable, "", Some(Duration::from_secs(1))))
        }
    });
    assert!(matches!(outcome.await, Err(Error::Deadline)));
    assert_eq!((tries.get(), begin.elapsed().as_secs()), (3, 10));
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_one_try_does_not_retry() {
    for max_tries in [0, 1] {
        let policy = RetryPolicy { max_tries, ..RetryPolicy::default() };
        let tries = Cell::new(0);
        let outcome = run(&policy, Instant::now() + DEADLINE, None, Repeat::Harmless, |_| {
            tries.set(tries.get() + 1);
            std::future::ready(Err::<(), _>(broken(true)))
        });
        assert!(outcome.await.is_err());
        assert_eq!(tries.get(), 1);
    }
}

/// When each attempt at a service that never answers began, and when it was given up.
async fn hung(policy: RetryPolicy, repeat: Repeat) -> Vec<(u64, u64)> {
    let begin = Instant::now();
    let spans = RefCell::new(Vec::new());
    let outcome = run(&policy, begin + DEADLINE, Some(DEADLINE / 2), repeat, |until| {
        spans.borrow_mut().push((begin.elapsed().as_secs(), (until - begin).as_secs()));
        std::future::pending::<Result<(), Error>>()
    });
    assert!(matches!(outcome.await, Err(Error::Deadline)));
    assert_eq!(begin.elapsed(), DEADLINE);
    spans.into_inner()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_leaves_time_for_another_that_may_be_made() {
    let policy = RetryPolicy::default();
    for repeat in [Repeat::Read, Repeat::Harmless] {
        assert_eq!(hung(policy.clone(), repeat).await, [(0, 30), (30, 60)]);
    }
    // No other may follow: it has all the time.
    assert_eq!(hung(policy.clone(), Repeat::OnlyIfUndone).await, [(0, 60)]);
    assert_eq!(hung(RetryPolicy { max_tries: 1, ..policy }, Repeat::Read).await, [(0, 60)]);
}
