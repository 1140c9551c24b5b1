//! The one gate of all transports: identity, traffic control, span and metrics around the pipeline.

#[cfg(test)]
mod tests;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use kms_core::{
    Call, Error, Recorded, Refused, RequestId, Service,
    error::{Throttled, Unauthenticated},
    identity::{Caller, Origin, Stranger},
    operation::OperationName,
    ops::Operation,
    ports::{Birth, Clock},
};
use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{Receiver, channel},
        oneshot,
    },
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{
    backup::copy::{self, Part},
    floods::SummingLog,
    identity::{Credentials, CurrentIdentities},
    metrics::Metrics,
    rotation::Rotation,
    traffic::{Passage, Remaining, TrafficControl},
    upkeep::Upkeep,
    witness::Witness,
};

/// How long the HSM may keep a call waiting, unless its client allows less.
pub(crate) const HSM_PATIENCE: Duration = Duration::from_secs(10);
/// The same for a call that makes an RSA key pair. As long as the HSM's worker is not taken to hang meanwhile.
const RSA_PATIENCE: Duration = Duration::from_secs(120);

/// How many parts of a backup may wait for a slow client.
const PARTS_IN_FLIGHT: usize = 4;

/// How long the HSM may keep this call waiting, unless its client allows less.
pub(crate) fn longest_patience<O: Operation>(operation: &O) -> Duration {
    if operation.birth() == Some(Birth::Slow) { RSA_PATIENCE } else { HSM_PATIENCE }
}

/// How many calls traffic control counts it for.
fn calls_of<O: Operation>(operation: &Result<O, Error>) -> NonZeroU32 {
    let calls = operation.as_ref().map_or(1, Operation::calls);
    NonZeroU32::new(calls).unwrap_or(NonZeroU32::MIN)
}

/// What becomes of a call that is over a traffic limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Budget {
    OrRefuse,
    OrWait,
}

/// How a call pays: what becomes of it when it cannot, and where it is told what is left when it can.
struct Toll<'a> {
    budget: Budget,
    remaining: &'a mut Option<Remaining>,
}

/// Why a call is kept out.
#[derive(Debug)]
enum Kept {
    Crowded(Throttled),
    Unknown(Unauthenticated),
    Throttled(Box<Caller>, Throttled),
}

/// Who calls, if he `may` now. After a wait it is asked anew `who` that is: what was changed about him meanwhile holds.
async fn let_in<W: Future<Output = ()>>(
    who: impl Fn() -> Result<Caller, Unauthenticated>,
    may: impl Fn(&Caller) -> Result<Passage, Throttled>,
    budget: Budget,
    wait: impl Fn(Duration) -> W,
) -> Result<(Caller, Passage), Kept> {
    loop {
        let caller = who().map_err(Kept::Unknown)?;
        match (may(&caller), budget) {
            (Ok(passage), _) => return Ok((caller, passage)),
            (Err(throttled), Budget::OrWait) => wait(throttled.retry_after).await,
            (Err(throttled), Budget::OrRefuse) => return Err(Kept::Throttled(Box::new(caller), throttled)),
        }
    }
}

/// What the log lines of one call stand in. Only for who asks for details: to make it took a fiftieth of a call's
/// processor time.
fn span_of(name: OperationName, request_id: RequestId) -> tracing::Span {
    tracing::debug_span!("call", %request_id, operation = name.info().name)
}

/// Everything that a transport needs to answer calls.
#[allow(missing_debug_implementations, reason = "holds the service, which has nothing to show")]
pub(crate) struct Gate {
    /// The pipeline.
    pub service: Arc<Service>,
    /// Who may call.
    pub identities: CurrentIdentities,
    /// Who may call how often.
    pub traffic: TrafficControl,
    /// What is counted.
    pub metrics: Metrics,
    /// What sums up refusals before the log.
    pub floods: Arc<SummingLog>,
    /// What carries rotations of the root key out.
    pub rotation: Arc<Rotation>,
    /// What does what falls due.
    pub upkeep: Arc<Upkeep>,
    /// What has cosigned other logs.
    pub witness: Arc<Witness>,
    /// The machine's clock, whatever clock the keys go by: a call takes as long as it takes, and a certificate is what
    /// its authority made for the real world. In dev mode a tester may let years pass, and must not lock himself out.
    pub clock: Arc<dyn Clock>,
    /// Changes that go to their end whether or not their clients still wait.
    pub changes: TaskTracker,
}

impl Gate {
    /// Lets one call through to its recorded answer; the HSM may keep it waiting for `patience`. `credentials` and `operation` are what the transport
    /// made of the request. `remaining` becomes what is left of the caller's scarcest budget.
    pub(crate) async fn pass<O: Operation>(
        self: &Arc<Self>,
        request_id: RequestId,
        patience: Duration,
        credentials: &dyn Credentials,
        operation: Result<O, Error>,
        remaining: &mut Option<Remaining>,
    ) -> Result<Recorded<O::Output>, Refused> {
        let toll = Toll { budget: Budget::OrRefuse, remaining };
        let calls = calls_of(&operation);
        let admitted = self.admit(request_id, credentials, calls, toll, || (patience, operation));
        self.observed(O::NAME, request_id, admitted).await
    }

    /// The same for one call whose request is read only once its caller is known and may call: `read` makes the
    /// operation of it.
    pub(crate) async fn pass_unread<O: Operation>(
        self: &Arc<Self>,
        request_id: RequestId,
        credentials: &dyn Credentials,
        read: impl FnOnce() -> Result<O, Error>,
        remaining: &mut Option<Remaining>,
    ) -> Result<Recorded<O::Output>, Refused> {
        let toll = Toll { budget: Budget::OrRefuse, remaining };
        let read = || {
            let operation = read();
            (operation.as_ref().map_or(HSM_PATIENCE, longest_patience), operation)
        };
        let admitted = self.admit(request_id, credentials, NonZeroU32::MIN, toll, read);
        self.observed(O::NAME, request_id, admitted).await
    }

    /// The same for one of many calls of a stream: it waits for its budget instead of being refused.
    pub(crate) async fn pass_patiently<O: Operation>(
        self: &Arc<Self>,
        request_id: RequestId,
        patience: Duration,
        credentials: &dyn Credentials,
        operation: Result<O, Error>,
    ) -> Result<Recorded<O::Output>, Refused> {
        let toll = Toll { budget: Budget::OrWait, remaining: &mut None };
        let calls = calls_of(&operation);
        let admitted = self.admit(request_id, credentials, calls, toll, || (patience, operation));
        self.observed(O::NAME, request_id, admitted).await
    }

    async fn observed<T>(
        &self,
        name: OperationName,
        request_id: RequestId,
        admitted: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Refused> {
        let started = self.clock.monotonic();
        let result = admitted.instrument(span_of(name, request_id)).await;
        let elapsed = self.clock.monotonic().saturating_sub(started);
        self.observe(name, request_id, result.as_ref().err().map(Refused::error), elapsed);
        result
    }

    async fn admit<O: Operation>(
        self: &Arc<Self>,
        request_id: RequestId,
        credentials: &dyn Credentials,
        calls: NonZeroU32,
        toll: Toll<'_>,
        read: impl FnOnce() -> (Duration, Result<O, Error>),
    ) -> Result<Recorded<O::Output>, Refused> {
        let caller = self.caller(O::NAME, calls, request_id, credentials, toll).await?;
        let (patience, operation) = read();
        // A root key that it may still need waits for it.
        let slow = (patience > HSM_PATIENCE).then(|| self.rotation.slow_call());
        let call = Call { request_id, caller, patience, dry_run: credentials.dry_run() };
        let (call, operation) = if operation.as_ref().is_ok_and(Operation::may_change) {
            (call, operation)
        } else {
            match self.service.run_droppable(call, operation).await {
                Ok(ended) => return ended,
                Err(given_back) => given_back,
            }
        };
        // A change goes to its end whether or not its client still waits: it has a task of its own.
        let service = self.service.clone();
        let driven = async move {
            let ended = service.run(call, operation).await;
            drop(slow);
            ended
        };
        let task = self.changes.spawn(driven.in_current_span());
        task.await.unwrap_or_else(|_| Err(Refused::task_died()))
    }

    /// Lets one call through that takes effect beside the store: `take_effect` runs as soon as it is recorded, whether or not
    /// its client still waits.
    pub(crate) async fn pass_to_effect<O: Operation>(
        self: &Arc<Self>,
        request_id: RequestId,
        credentials: &dyn Credentials,
        operation: O,
        take_effect: impl FnOnce() + Send + 'static,
        remaining: &mut Option<Remaining>,
    ) -> Result<Recorded<O::Output>, Refused> {
        let admitted = async {
            let toll = Toll { budget: Budget::OrRefuse, remaining };
            let caller = self.caller(O::NAME, NonZeroU32::MIN, request_id, credentials, toll).await?;
            let call = Call { request_id, caller, patience: HSM_PATIENCE, dry_run: credentials.dry_run() };
            let service = self.service.clone();
            let driven = async move {
                let recorded = service.run(call, Ok(operation)).await;
                if recorded.is_ok() {
                    take_effect();
                }
                recorded
            };
            let task = self.changes.spawn(driven.in_current_span());
            task.await.unwrap_or_else(|_| Err(Refused::task_died()))
        };
        self.observed(O::NAME, request_id, admitted).await
    }

    /// Lets a stream in whose calls pass and pay one by one: the service keeps none for strangers, and none in a crowd. Who
    /// is kept out is recorded.
    pub(crate) async fn open_stream(
        &self,
        name: OperationName,
        request_id: RequestId,
        credentials: &dyn Credentials,
    ) -> Result<(), Refused> {
        let started = self.clock.monotonic();
        let known = self.enter(name, Budget::OrRefuse).map_err(Error::Throttled).and_then(|()| {
            let known = credentials.caller(&self.identities.now(), self.clock.now());
            known.map_err(Error::Unauthenticated)
        });
        let Err(error) = known else { return Ok(()) };
        let origin = Origin::Stranger(credentials.stranger());
        let refused = self.service.refuse(name, request_id, origin, error).await;
        let elapsed = self.clock.monotonic().saturating_sub(started);
        self.observe(name, request_id, Some(refused.error()), elapsed);
        Err(refused)
    }

    /// Lets one call through to its recorded answer whose caller it takes long to know: `identify` finds out, once and
    /// behind the limit of all calls. `stranger` is what is known until then.
    ///
    /// What is found out has its record whether or not the client still waits: it may have been a guess.
    pub(crate) async fn pass_when_known<O: Operation>(
        self: &Arc<Self>,
        request_id: RequestId,
        stranger: Stranger,
        identify: impl Future<Output = Result<(Caller, O), Error>> + Send + 'static,
    ) -> Result<Recorded<O::Output>, Refused> {
        let admitted = async {
            if let Err(crowded) = self.enter(O::NAME, Budget::OrRefuse) {
                let (origin, error) = (Origin::Stranger(stranger), Error::Throttled(crowded));
                return Err(self.service.refuse(O::NAME, request_id, origin, error).await);
            }
            let gate = self.clone();
            let driven = async move { gate.run_known(request_id, stranger, identify.await).await };
            let task = self.changes.spawn(driven.in_current_span());
            task.await.unwrap_or_else(|_| Err(Refused::task_died()))
        };
        self.observed(O::NAME, request_id, admitted).await
    }

    /// Runs the call of whoever is known by now, if he may make it.
    async fn run_known<O: Operation>(
        &self,
        request_id: RequestId,
        stranger: Stranger,
        known: Result<(Caller, O), Error>,
    ) -> Result<Recorded<O::Output>, Refused> {
        let (origin, error) = match known {
            Ok((caller, operation)) => match self.traffic.check(&caller, O::NAME, NonZeroU32::MIN) {
                Ok(passage) => {
                    if passage.over_limit {
                        self.metrics.over_limit(O::NAME);
                    }
                    let call = Call { request_id, caller, patience: HSM_PATIENCE, dry_run: false };
                    return self.service.run(call, Ok(operation)).await;
                }
                Err(throttled) => (Origin::Caller(caller), Error::Throttled(throttled)),
            },
            Err(error) => (Origin::Stranger(stranger), error),
        };
        Err(self.service.refuse(O::NAME, request_id, origin, error).await)
    }

    /// Who calls, if he may make so many calls now: identity, then traffic control.
    async fn caller(
        &self,
        name: OperationName,
        calls: NonZeroU32,
        request_id: RequestId,
        credentials: &dyn Credentials,
        toll: Toll<'_>,
    ) -> Result<Caller, Refused> {
        let who = || credentials.caller(&self.identities.now(), self.clock.now());
        let may = |caller: &Caller| self.traffic.check(caller, name, calls);
        let admitted = match self.enter(name, toll.budget) {
            Ok(()) => let_in(who, may, toll.budget, sleep).await,
            Err(crowded) => Err(Kept::Crowded(crowded)),
        };
        let stranger = || Origin::Stranger(credentials.stranger());
        let (origin, error) = match admitted {
            Ok((caller, passage)) => {
                if passage.over_limit {
                    self.metrics.over_limit(name);
                }
                *toll.remaining = passage.remaining;
                return Ok(caller);
            }
            Err(Kept::Crowded(throttled)) => (stranger(), Error::Throttled(throttled)),
            Err(Kept::Unknown(why)) => (stranger(), Error::Unauthenticated(why)),
            Err(Kept::Throttled(caller, throttled)) => (Origin::Caller(*caller), Error::Throttled(throttled)),
        };
        // Boxed: what is rare must not make the future of every call long.
        Err(Box::pin(self.service.refuse(name, request_id, origin, error)).await)
    }

    /// Whether so many calls come, of whoever it may be, that no more can be looked at. One of many calls of a stream
    /// came in with the stream.
    fn enter(&self, name: OperationName, budget: Budget) -> Result<(), Throttled> {
        if budget == Budget::OrRefuse && self.traffic.enter()?.over_limit {
            self.metrics.over_limit(name);
        }
        Ok(())
    }

    /// Begins a backup of the key store, to its end whether or not its client still waits; answers its parts.
    pub(crate) async fn back_up(
        self: &Arc<Self>,
        request_id: RequestId,
        credentials: &dyn Credentials,
    ) -> Result<Receiver<Result<Part, Refused>>, Refused> {
        let name = OperationName::CreateBackup;
        let started = self.clock.monotonic();
        let span = span_of(name, request_id);
        let begun = async {
            let toll = Toll { budget: Budget::OrRefuse, remaining: &mut None };
            let caller = self.caller(name, NonZeroU32::MIN, request_id, credentials, toll).await?;
            let dry_run = credentials.dry_run();
            let call = Call { request_id, caller, patience: HSM_PATIENCE, dry_run };
            let (begins, begun) = oneshot::channel();
            self.changes.spawn(make_backup(self.service.clone(), call, begins).in_current_span());
            begun.await.unwrap_or_else(|_| Err(Refused::task_died()))
        };
        let begun = begun.instrument(span).await;
        let elapsed = self.clock.monotonic().saturating_sub(started);
        self.observe(name, request_id, begun.as_ref().err().map(Refused::error), elapsed);
        begun
    }

    fn observe(&self, name: OperationName, request_id: RequestId, error: Option<&Error>, elapsed: Duration) {
        self.metrics.call(name, error.map_or("OK", Error::code), elapsed);
        let operation = name.info().name;
        let Some(error) = error else {
            tracing::debug!(%request_id, operation, ?elapsed, "answered");
            return;
        };
        if let Some(detail) = error.operator_detail() {
            tracing::error!(%request_id, operation, reason = error.code(), detail, "failed");
        } else {
            tracing::debug!(%request_id, operation, reason = error.code(), %error, "refused");
        }
    }
}

/// Makes a backup, from its intent to its outcome; whoever waits for its parts may go at any time.
async fn make_backup(
    service: Arc<Service>,
    call: Call,
    begins: oneshot::Sender<Result<Receiver<Result<Part, Refused>>, Refused>>,
) {
    let (beginning, runtime) = (service.clone(), Handle::current());
    // The store may take long for its snapshot.
    let begin = move || runtime.block_on(beginning.begin_backup(call));
    let begun = match spawn_blocking(begin).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(refused)) => return drop(begins.send(Err(refused))),
        Err(_) => return drop(begins.send(Err(Refused::task_died()))),
    };
    let (sender, parts) = channel(PARTS_IN_FLIGHT);
    if begins.send(Ok(parts)).is_err() {
        let _nobody_is_told = service.abandon_backup(begun, None).await;
        return;
    }
    copy::produce(&service, begun, &sender).await;
}
