//! What can go wrong with a call, as data.

use std::{collections::HashMap, error, time::Duration};

use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the call and said why.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// No answer came: the connection could not be made, or broke. Unless `not_sent`, the server may have done
    /// what was asked.
    #[error("the connection to the service failed")]
    Transport {
        /// Whether the connection could not even be made, so that the server has seen nothing of the call.
        not_sent: bool,
        /// What the transport says.
        #[source]
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// The deadline passed, at the client or at the server. The server may have done what was asked.
    #[error("the call did not finish before its deadline")]
    Deadline,
    /// The configuration cannot be used; nothing was sent.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),
    /// The server answered something that the contract does not allow.
    #[error("the answer breaks the contract: {0}")]
    InvalidAnswer(&'static str),
    /// The operating system gives no random numbers; nothing was sent.
    #[error("the operating system gives no random numbers")]
    Randomness,
}

/// What the server said when it refused a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code:?} {reason}: {message}")]
#[non_exhaustive]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason, such as `KEY_DISABLED`; empty if the answer did not come from the service itself.
    pub reason: String,
    /// A sentence for people; it may change.
    pub message: String,
    /// Facts that belong to the reason, such as `missing_action`.
    pub metadata: HashMap<String, String>,
    /// The fields that were malformed.
    pub field_violations: Vec<FieldViolation>,
    /// When the server says to try again, counted from its answer.
    pub retry_after: Option<Duration>,
    /// The id under which the log keeps the call.
    pub request_id: Option<String>,
}

/// A malformed field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field, by its name in the contract.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Error {
    /// The stable reason that the server gave for a refusal, such as `KEY_DISABLED`.
    pub fn reason(&self) -> Option<&str> {
        self.refusal().map(|refusal| refusal.reason.as_str()).filter(|reason| !reason.is_empty())
    }

    /// What the server said, if it refused the call.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// A failure of the transport, which is not the server's word.
    pub(crate) fn transport(source: impl error::Error + Send + Sync + 'static) -> Self {
        let not_sent = has_cause::<ConnectError>(&source);
        Self::Transport { not_sent, source: Box::new(source) }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        if has_cause::<TimeoutExpired>(&status) {
            return Self::Deadline;
        }
        // A status that was received has no source; one that the transport made up has.
        if error::Error::source(&status).is_some() {
            return Self::transport(status);
        }
        let refusal = Refusal::from(&status);
        match refusal.code {
            Code::DeadlineExceeded => Self::Deadline,
            // The service itself never says CANCELLED; the transport under it does when the deadline that it was
            // told of passes there first.
            Code::Cancelled if refusal.reason.is_empty() => Self::Deadline,
            _ => Self::Refused(Box::new(refusal)),
        }
    }
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let info = status.get_details_error_info();
        let violations = status.get_details_bad_request().map(|details| details.field_violations);
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            retry_after: status.get_details_retry_info().and_then(|details| details.retry_delay),
            request_id: request_id(status),
            field_violations: violations.into_iter().flatten().map(FieldViolation::from).collect(),
            reason: info.as_ref().map(|info| info.reason.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata).unwrap_or_default(),
        }
    }
}

impl From<tonic_types::FieldViolation> for FieldViolation {
    fn from(violation: tonic_types::FieldViolation) -> Self {
        Self { field: violation.field, description: violation.description }
    }
}

fn request_id(status: &Status) -> Option<String> {
    let value = status.metadata().get("x-request-id")?;
    value.to_str().ok().map(str::to_owned)
}

/// Whether an error, or one that it came from, is a `Cause`.
fn has_cause<Cause: error::Error + 'static>(error: &(dyn error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(<dyn error::Error>::is::<Cause>)
}
