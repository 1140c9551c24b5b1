//! The connection that all calls go through: metadata, deadline, retry.

use std::{iter, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tonic::{Extensions, Request, Response, Status, metadata::MetadataMap, transport::Channel};

use crate::{
    ClientConfig, Error, RetryPolicy,
    config::{ACTING_FOR, DRY_RUN, PROJECT_ID, check_deadline, metadata_value},
    hedge::hedged,
    retry::{self, Repeat},
};

/// A connection to the service. Clones are cheap and share it; it is made anew when it breaks.
///
/// Every call has the configured deadline for all its tries together; the server is told of it. A call is sent again
/// only when that is safe: see [`RetryPolicy`] for how often. RESOURCE_EXHAUSTED with RetryInfo is waited out.
/// UNAVAILABLE and a broken connection are tried again if the call may be repeated; calls that change a key other
/// than by an idempotency token are repeated only when the server said that nothing was done, or was not reached.
///
/// If the configuration names several addresses, each try goes to the next one, and a call that only reads
/// ([`Repeat::Read`]) is sent to a second one when the first does not answer soon.
#[derive(Clone, Debug)]
pub struct Client {
    /// One for each address; never empty.
    channels: Arc<[Channel]>,
    hedge_after: Duration,
    metadata: MetadataMap,
    deadline: Duration,
    retry: Arc<RetryPolicy>,
}

impl Client {
    /// Connects to the first address that answers. [`Error::InvalidConfig`] before anything is sent; [`Error::Transport`] or [`Error::Deadline`] if no
    /// connection is made within the connect timeout. The server's refusal of a certificate may show only in the
    /// first call.
    pub async fn connect(config: ClientConfig) -> Result<Self, Error> {
        let metadata = config.to_metadata()?;
        let mut endpoints = config.to_endpoints()?.into_iter();
        let (mut passed, mut connected) = (Vec::new(), Err(Error::Deadline));
        for endpoint in endpoints.by_ref() {
            let connecting = timeout(config.connect_timeout, endpoint.connect());
            connected =
                connecting.await.map_err(|_| Error::Deadline).and_then(|made| made.map_err(Error::transport));
            if connected.is_ok() {
                break;
            }
            passed.push(endpoint);
        }
        // Those that did not answer may come back, and those that were not asked are connected to when they are needed.
        let others = endpoints.chain(passed).map(|endpoint| endpoint.connect_lazy());
        let channels = iter::once(connected?).chain(others).collect();
        let (deadline, hedge_after) = (config.deadline, config.hedge_after);
        Ok(Self { channels, hedge_after, metadata, deadline, retry: Arc::new(config.retry) })
    }

    /// The same connection, for calls that are only tried out: each is answered with what would refuse it, or with the
    /// reason `DRY_RUN` if it would be allowed, and does nothing.
    pub fn dry_run(&self) -> Result<Self, Error> {
        self.with_metadata(DRY_RUN, "true")
    }

    /// The same connection, for calls in another project.
    pub fn in_project(&self, project_id: &str) -> Result<Self, Error> {
        self.with_metadata(PROJECT_ID, project_id)
    }

    /// The same connection, for calls in which a service acts for this user.
    pub fn acting_for(&self, user_id: &str) -> Result<Self, Error> {
        self.with_metadata(ACTING_FOR, user_id)
    }

    /// The same connection, for calls that may take so long, all their tries together.
    pub fn with_deadline(&self, deadline: Duration) -> Result<Self, Error> {
        check_deadline(deadline)?;
        Ok(Self { deadline, ..self.clone() })
    }

    fn with_metadata(&self, name: &'static str, value: &str) -> Result<Self, Error> {
        let mut client = self.clone();
        client.metadata.insert(name, metadata_value(name, value)?);
        Ok(client)
    }

    /// Sends one call by a stub of [`proto`](crate::proto), as often as the retry policy and `repeat` allow: for
    /// operations that this crate has no method for.
    pub async fn call<Message, Answer, Sent>(
        &self,
        repeat: Repeat,
        message: Message,
        send: impl Fn(Channel, Request<Message>) -> Sent,
    ) -> Result<Answer, Error>
    where
        Message: Clone,
        Sent: Future<Output = Result<Response<Answer>, Status>>,
    {
        let deadline = Instant::now() + self.deadline;
        let attempt = |channel: &Channel| {
            let answered = send(channel.clone(), self.request(message.clone(), deadline));
            async { Ok(answered.await?.into_inner()) }
        };
        let hedges = repeat == Repeat::Read && self.channels.len() > 1;
        let mut nodes = self.channels.iter().cycle();
        retry::run(&self.retry, deadline, repeat, || {
            let (first, second) = (nodes.next(), nodes.clone().next());
            let attempt = &attempt;
            async move {
                let nodes = first.zip(second);
                let (first, second) = nodes.ok_or_else(|| Error::InvalidConfig("no address".to_owned()))?;
                if hedges {
                    Box::pin(hedged(attempt(first), self.hedge_after, || attempt(second))).await
                } else {
                    attempt(first).await
                }
            }
        })
        .await
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channels[0].clone()
    }

    /// A request without a deadline, for an answer that may go on for long.
    pub(crate) fn unbounded<Message>(&self, message: Message) -> Request<Message> {
        Request::from_parts(self.metadata.clone(), Extensions::default(), message)
    }

    fn request<Message>(&self, message: Message, deadline: Instant) -> Request<Message> {
        let mut request = Request::from_parts(self.metadata.clone(), Extensions::default(), message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        request
    }
}
