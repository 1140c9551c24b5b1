//! What every answer tells in its headers, whatever transport it goes by: the call's id, and the caller's traffic.

use std::time::Duration;

use http::HeaderMap;
use kms_core::{
    RequestId,
    error::{Throttled, Window},
};

use super::Remaining;

/// Under which id the log keeps the call.
pub(crate) fn request(headers: &mut HeaderMap, request_id: RequestId) {
    let mut buffer = uuid::Uuid::encode_buffer();
    if let Ok(value) = (*request_id.as_hyphenated().encode_lower(&mut buffer)).parse() {
        headers.insert("x-request-id", value);
    }
}

/// What is left of the scarcest of the caller's budgets that the call drew on.
pub(crate) fn remaining(headers: &mut HeaderMap, remaining: &Remaining) {
    let Remaining { group, per, figure, left, .. } = remaining;
    let limit = (figure.calls.get(), figure.window);
    tell(headers, per.name(), group, limit, *left, remaining.full_in());
}

/// Which budget a refused call ran out of.
pub(crate) fn refusal(headers: &mut HeaderMap, throttled: &Throttled) {
    let Throttled { subject, group, limit, window, retry_after } = throttled;
    let whose = subject.split(':').next().unwrap_or_default();
    tell(headers, whose, group, (*limit, *window), 0, *retry_after);
}

/// docs/operations.md names what it tells.
fn tell(
    headers: &mut HeaderMap,
    whose: &str,
    group: &str,
    (limit, window): (u32, Window),
    left: u32,
    reset: Duration,
) {
    let milliseconds = reset.as_nanos().div_ceil(1_000_000);
    for (name, value) in [
        ("x-ratelimit-limit", limit.to_string()),
        ("x-ratelimit-window", window.name().to_owned()),
        ("x-ratelimit-remaining", left.to_string()),
        ("x-ratelimit-reset", format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)),
        ("x-ratelimit-scope", format!("{whose} {group}")),
    ] {
        // Names of groups may be anything that a profile says; what is no header is left out.
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
}
