//! The connection that all calls go through: metadata, deadline, retry.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};
use tonic::{Extensions, Request, Response, Status, metadata::MetadataMap, transport::Channel};

use crate::{
    ClientConfig, Error, RetryPolicy,
    config::{ACTING_FOR, DRY_RUN, PROJECT_ID, check_deadline, metadata_value},
    hedge::{HedgeBudget, hedged, says_nothing},
    retry::{self, Repeat},
};

/// A connection to the service. Clones are cheap and share it; it is made anew when it breaks.
///
/// Every call has the configured deadline for all its tries together; the server is told of it. A call is sent again
/// only when that is safe: see [`RetryPolicy`] for how often. RESOURCE_EXHAUSTED with RetryInfo is waited out.
/// UNAVAILABLE and a broken connection are tried again if the call may be repeated; calls that change a key other
/// than by an idempotency token are repeated only when the server said that nothing was done, or was not reached.
///
/// If the configuration names several addresses, each try goes to the next one, and the next call begins where the last
/// one was sent. A try of a call that may be repeated is given up after half of the deadline, so that a node that hangs
/// does not use up the rest. A call that only reads ([`Repeat::Read`]) is sent to a second node when the first does not
/// answer soon, and one call in ten may be.
#[derive(Clone, Debug)]
pub struct Client {
    nodes: Arc<Nodes>,
    hedge_after: Duration,
    metadata: MetadataMap,
    deadline: Duration,
    retry: Arc<RetryPolicy>,
}

/// The addresses of the service, and what all clones of a client know of them.
#[derive(Debug)]
struct Nodes {
    /// One for each address; never empty.
    channels: Vec<Channel>,
    /// The one that calls begin with.
    first: AtomicUsize,
    hedges: HedgeBudget,
}

impl Nodes {
    fn are_several(&self) -> bool {
        self.channels.len() > 1
    }

    fn first(&self) -> usize {
        self.first.load(Ordering::Relaxed)
    }

    fn after(&self, node: usize) -> usize {
        (node + 1) % self.channels.len()
    }

    /// Calls begin with the next one, unless somebody else has seen to that.
    fn pass_over(&self, node: usize) {
        // Whether somebody has makes no difference here.
        let _ = self.first.compare_exchange(node, self.after(node), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn channel(&self, node: usize) -> Channel {
        self.channels[node].clone()
    }
}

impl Client {
    /// Connects to the first address that answers. [`Error::InvalidConfig`] before anything is sent; [`Error::Transport`]
    /// or [`Error::Deadline`] if no connection is made within the connect timeout. The server's refusal of a certificate
    /// may show only in the first call.
    pub async fn connect(config: ClientConfig) -> Result<Self, Error> {
        let metadata = config.to_metadata()?;
        let mut endpoints = config.to_endpoints()?.into_iter();
        let (mut passed, mut connected) = (Vec::new(), Err(Error::Deadline));
        for endpoint in endpoints.by_ref() {
            let connecting = timeout(config.time_to_connect(), endpoint.connect());
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
        let nodes = Arc::new(Nodes { channels, first: AtomicUsize::new(0), hedges: HedgeBudget::default() });
        let (deadline, hedge_after) = (config.deadline, config.hedge_after);
        Ok(Self { nodes, hedge_after, metadata, deadline, retry: Arc::new(config.retry) })
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
        let nodes = &*self.nodes;
        let attempt = |node: usize, until: Instant| {
            let answered = send(nodes.channel(node), self.request(message.clone(), until));
            async { Ok(answered.await?.into_inner()) }
        };
        let attempt = &attempt;
        let hedges = repeat == Repeat::Read && nodes.are_several();
        let patience = nodes.are_several().then(|| self.deadline / 2);
        let mut asked = None;
        retry::run(&self.retry, deadline, patience, repeat, |until| {
            let first = match asked {
                Some(of_no_use) => {
                    nodes.pass_over(of_no_use);
                    nodes.after(of_no_use)
                }
                None => nodes.first(),
            };
            asked = Some(first);
            async move {
                if !hedges {
                    return attempt(first, until).await;
                }
                let second = || async move {
                    let answered = attempt(nodes.after(first), until).await;
                    if !says_nothing(&answered) {
                        nodes.pass_over(first);
                    }
                    answered
                };
                Box::pin(hedged(attempt(first, until), self.hedge_after, &nodes.hedges, second)).await
            }
        })
        .await
    }

    pub(crate) fn channel(&self) -> Channel {
        self.nodes.channel(self.nodes.first())
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
