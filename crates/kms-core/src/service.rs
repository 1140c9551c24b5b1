//! The one pipeline that every operation passes, whatever transport it came by.
//!
//! authorise → prepare (reads the store) → intent, if it changes something → HSM worker → commit →
//! record → answer. An answer leaves only as [`Recorded`]: with the log's receipt.

mod batch;
mod copying;
mod moving;
mod starting;
mod waiting;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_channel::oneshot;
use sha2::{Digest as _, Sha256};
use uuid::Builder;

use crate::{
    Timestamp,
    admission::Standing,
    answer::{Held, Recorded, Refused},
    context::EncryptionContext,
    directory::{DEPLOYMENT_PATH, Directory, commit_error, outbox_path},
    draft::{ContextHash, Draft},
    error::Error,
    identity::{AccountId, Caller, KeystoreId, Origin},
    key::MaterialId,
    operation::{Action, OperationClass, OperationName},
    ops::{CreateDefaultKey, Operation, OwnOperation, Place, Plan, Planned, Prepared, Work},
    ports::{
        AuditError, AuditLog, Birth, Clock, Hsm, HsmError, HsmSession, KeyStore, MAX_MUTATIONS, Mutation,
        Receipt, StoreError, StoreKey, Transaction,
    },
    quotas::Quotas,
    record::{Phase, Record, RequestId},
    settings::{AccountQuotas, QuotaTable, Settings},
    states,
    usage::{Usage, Use},
    uses::Uses,
};

use starting::Deployment;
use waiting::{Claim, submit, within};

pub use copying::{BegunBackup, Content};
pub use moving::Carried;
pub use starting::StartError;

/// How often a change is tried anew when others change the same records at the same time.
const MAX_ATTEMPTS: usize = 16;
/// How long the HSM may take to prove that it works.
const PROBE_PATIENCE: Duration = Duration::from_secs(4);
/// Every so many probes are a whole self-test, which makes objects in the HSM; the others only compute.
const PROBES_PER_SELF_TEST: u64 = 10;
/// How many traces of finished changes one transaction clears away.
const CLEARED_PER_TRANSACTION: usize = 50;

/// The world, as the service sees it.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "ports have nothing to show")]
pub struct Ports {
    /// Where master keys live and work.
    pub hsm: Arc<dyn Hsm>,
    /// Further tokens that keys can live on, by the name of their keystore.
    pub keystores: BTreeMap<KeystoreId, Arc<dyn Hsm>>,
    /// Where key records live.
    pub store: Arc<dyn KeyStore>,
    /// Where every operation is recorded.
    pub audit: Arc<dyn AuditLog>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Ports {
    /// The token of a keystore. One that is not configured any more is a fault of the deployment.
    fn keystore(&self, id: &KeystoreId) -> Result<&Arc<dyn Hsm>, Error> {
        let detail = || format!("the token of keystore {id} is not configured");
        let unavailable = || HsmError::Unavailable { function: "C_Initialize", detail: detail() };
        self.keystores.get(id).ok_or_else(|| unavailable().into())
    }

    /// Forgets the loaded handles of `material`, wherever it is loaded.
    fn evict(&self, material: MaterialId) {
        self.hsm.evict(material);
        self.keystores.values().for_each(|hsm| hsm.evict(material));
    }
}

/// One call: who makes it, and under which id.
#[derive(Debug, Clone)]
pub struct Call {
    /// The id in the log and in the answer.
    pub request_id: RequestId,
    /// Who calls.
    pub caller: Caller,
    /// How long the HSM may take before the call is answered without it.
    pub patience: Duration,
    /// Whether to tell only whether the call would be allowed. It is decided and recorded as every call, and then
    /// ends with [`Error::DryRun`] in the place of what it would do.
    pub dry_run: bool,
}

/// The key management service.
#[allow(missing_debug_implementations, reason = "holds keys and ports, nothing to show")]
pub struct Service {
    ports: Ports,
    directory: Arc<Directory>,
    context_hash: ContextHash,
    settings: Settings,
    uses: Uses,
    quotas: Arc<Quotas>,
    quota_table: RwLock<Arc<QuotaTable>>,
    usage: Arc<Usage>,
    /// How often the service was asked whether it works.
    probes: AtomicU64,
    /// The last probe failed: until one succeeds, each of them tests everything.
    ailing: AtomicBool,
    /// Traces of committed changes whose outcome is recorded: to be cleared with the next change.
    finished: Mutex<Vec<StoreKey>>,
}

/// What an operation sees while it prepares.
#[allow(missing_debug_implementations, reason = "passed down, never kept or shown")]
pub struct Scope<'a> {
    pub(crate) service: &'a Service,
    pub(crate) call: &'a Call,
    /// Which operation it is.
    pub(crate) operation: OperationName,
    /// What is known of the caller's right to it.
    pub(crate) standing: Standing,
    /// The context that it is about, if it takes one.
    pub(crate) context: Option<&'a EncryptionContext>,
    pub(crate) now: Timestamp,
    /// Whether somebody drives the call to its end whatever happens: only then may it change something.
    pub(crate) driven: bool,
}

impl Scope<'_> {
    pub(crate) fn caller(&self) -> &Caller {
        &self.call.caller
    }

    /// How much the caller's account may have.
    pub(crate) fn quotas(&self) -> AccountQuotas {
        self.service.quotas_of(&self.caller().account)
    }

    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.service.directory
    }

    /// The same, about another context.
    pub(crate) fn about<'b>(&'b self, context: &'b EncryptionContext) -> Scope<'b> {
        Scope { context: Some(context), ..*self }
    }
}

impl Service {
    /// Runs one operation from its authorisation to its durable record.
    ///
    /// `operation` is what the transport made of the request: a malformed one is refused, and
    /// recorded, after the permission check.
    ///
    /// A dropped future leaves a use of the HSM whole: if it has begun, it ends and is recorded by itself; if not, it
    /// never begins. A change must not be dropped half-way: a shell drives every operation that
    /// [`may_change`](Operation::may_change) to its end whether or not its client still waits, and
    /// tries others by [`run_droppable`](Self::run_droppable).
    pub async fn run<O: Operation>(
        &self,
        call: Call,
        operation: Result<O, Error>,
    ) -> Result<Recorded<O::Output>, Refused> {
        let ended = self.perform(&call, operation.as_ref().map_err(Clone::clone), true).await;
        ended.unwrap_or_else(|| Err(Refused::internal("a driven call asked to be driven")))
    }

    /// The same for an operation that may not change anything by what it is: its future may be dropped at
    /// any time. Gives the operation back, with nothing done or recorded, if a change has to come first;
    /// then a shell runs it in a way that drives it to its end.
    pub async fn run_droppable<O: Operation>(
        &self,
        call: Call,
        operation: Result<O, Error>,
    ) -> Result<Result<Recorded<O::Output>, Refused>, (Call, Result<O, Error>)> {
        let ended = self.perform(&call, operation.as_ref().map_err(Clone::clone), false).await;
        ended.ok_or((call, operation))
    }

    /// `None`: has to change something first, and is not driven to its end.
    async fn perform<O: Operation>(
        &self,
        call: &Call,
        operation: Result<&O, Error>,
        driven: bool,
    ) -> Option<Result<Recorded<O::Output>, Refused>> {
        let mut draft = self.draft(O::NAME, call.request_id, Some(call.caller.clone()));
        // Before anything is decided, so that refusals are found by their contexts; the hash's key is in memory.
        if let Ok(operation) = operation {
            self.hash_contexts(operation, &mut draft);
        }
        let standing = Standing::of(&call.caller, O::NAME, &self.directory, &mut draft).await;
        let allowed = standing.and_then(|standing| match operation {
            Ok(operation) => Ok((standing, operation)),
            // Whom only a grant can allow it learns nothing of a malformed request either.
            Err(_) if standing == Standing::OnlyByGrant => Err(Error::denied(O::NAME.info().action)),
            Err(error) => Err(error),
        });
        let (standing, operation) = match allowed {
            Ok(allowed) => allowed,
            Err(error) => return Some(self.conclude(draft, Phase::Complete, Held::new(Err(error))).await),
        };
        let (context, now, driven) = (operation.context(), draft.time(), driven && !call.dry_run);
        let scope = Scope { service: self, call, operation: O::NAME, standing, context, now, driven };
        if let Err(error) = admit_keyless(operation, &scope, &mut draft) {
            return Some(self.conclude(draft, Phase::Complete, Held::new(Err(error))).await);
        }
        if call.dry_run {
            let attempt = ForCaller { operation, scope: &scope };
            // Boxed, as a change is: what is rare must not make the future of every call long.
            let tried = Box::pin(attempt.prepare(&mut draft)).await;
            let error = tried.err().unwrap_or(Error::DryRun);
            return Some(self.conclude(draft, Phase::Complete, Held::new(Err(error))).await);
        }
        if O::NAME.info().class == OperationClass::Change {
            let attempt = ForCaller { operation, scope: &scope };
            return Some(Box::pin(self.change(&attempt, call.request_id, call.patience, draft)).await);
        }
        let attempt = ForCaller { operation, scope: &scope };
        Some(match attempt.prepare(&mut draft).await {
            Ok(Prepared::Use(place, work)) => match self.hsm_at(&place).await {
                Ok(hsm) => self.use_hsm(hsm, operation, call, draft, work).await,
                Err(error) => self.conclude(draft, Phase::Complete, Held::new(Err(error))).await,
            },
            Ok(Prepared::Answer(answer)) => {
                self.conclude(draft, Phase::Complete, Held::new(Ok(answer))).await
            }
            Ok(Prepared::ToBeDriven) if !driven => return None,
            Ok(Prepared::Change(_) | Prepared::ToBeDriven) => {
                self.conclude(draft, Phase::Complete, Held::misplaced()).await
            }
            Err(error) => self.conclude(draft, Phase::Complete, Held::new(Err(error))).await,
        })
    }

    /// What the operator decided.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Lets these quotas hold from the next call on. What an account has beyond them stays.
    pub fn replace_quotas(&self, table: QuotaTable) {
        *self.quota_table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    /// How much this account may have.
    pub(crate) fn quotas_of(&self, account: &AccountId) -> AccountQuotas {
        self.quota_table.read().unwrap_or_else(PoisonError::into_inner).of(account)
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    pub(crate) fn uses(&self) -> &Uses {
        &self.uses
    }

    pub(crate) fn context_hash(&self) -> &ContextHash {
        &self.context_hash
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Proves that the HSM computes and that the store answers. Not recorded: it touches no key.
    pub async fn probe(&self) -> Result<(), Error> {
        let number = self.probes.fetch_add(1, Ordering::Relaxed);
        let whole = number.is_multiple_of(PROBES_PER_SELF_TEST) || self.ailing.load(Ordering::Relaxed);
        let test = move |session: &mut dyn HsmSession| {
            session.authentication_mac(b"dewpoint/v1/probe")?;
            if whole { Ok(session.self_test()?) } else { Ok(()) }
        };
        let tested = self.on_hsm(PROBE_PATIENCE, test).await;
        self.ailing.store(tested.is_err(), Ordering::Relaxed);
        tested?;
        self.directory.read::<Deployment>(DEPLOYMENT_PATH.to_vec()).await.map(|_| ())
    }

    /// Records that a call was refused before it reached the pipeline: by identity or by traffic
    /// control.
    pub async fn refuse(
        &self,
        name: OperationName,
        request_id: RequestId,
        origin: Origin,
        error: Error,
    ) -> Refused {
        let draft = match origin {
            Origin::Caller(caller) => self.draft(name, request_id, Some(caller)),
            Origin::Stranger(stranger) => {
                let mut draft = self.draft(name, request_id, None);
                draft.stranger(stranger);
                draft
            }
        };
        match self.conclude::<()>(draft, Phase::Complete, Held::new(Err(error))).await {
            Err(refused) => refused,
            Ok(_) => Refused::internal("a refusal was answered as a success"),
        }
    }

    /// Makes the default key of the caller's account, as an operation of its own with its own
    /// records; a race makes one.
    pub(crate) async fn make_default_key(
        &self,
        call: &Call,
        operation: CreateDefaultKey,
    ) -> Result<(), Error> {
        // Boxed, because it runs inside the preparation of the operation that needs the key.
        let made = Box::pin(self.run(call.clone(), Ok(operation))).await;
        made.map(|_| ()).map_err(|refused| refused.error().clone())
    }

    /// Runs a change that the call of `scope` needs first, with records of its own. The caller needs no
    /// other permission than for that call. Each part of a call has another `number`.
    pub(crate) async fn run_part<O: Operation>(
        &self,
        scope: &Scope<'_>,
        number: u32,
        part: &O,
    ) -> Result<O::Output, Error> {
        let call = Call { request_id: part_id(scope.call.request_id, number), ..scope.call.clone() };
        let draft = self.draft(O::NAME, call.request_id, Some(call.caller.clone()));
        let (operation, standing) = (O::NAME, Standing::Admitted);
        let now = draft.time();
        let scope =
            Scope { service: self, call: &call, operation, standing, context: None, now, driven: true };
        let attempt = ForCaller { operation: part, scope: &scope };
        let ended = self.change(&attempt, call.request_id, call.patience, draft).await;
        ended.map(Recorded::into_inner).map_err(|refused| refused.error().clone())
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    fn draft(&self, name: OperationName, request_id: RequestId, caller: Option<Caller>) -> Draft {
        Draft::new(name, request_id, caller, self.ports.clock.clone())
    }

    /// A use of the HSM: from the worker the result goes to the log, and from the log to the caller.
    ///
    /// If the HSM takes longer than the caller may be kept waiting, the call is recorded and answered as
    /// failed; what the HSM gives later is dropped. If nobody waits any more when a worker comes to it, the HSM is not
    /// used, and so there is nothing to record.
    async fn use_hsm<O: Operation>(
        &self,
        hsm: &Arc<dyn Hsm>,
        operation: &O,
        call: &Call,
        mut draft: Draft,
        work: Work<O::Output>,
    ) -> Result<Recorded<O::Output>, Refused> {
        let (answer, mut answered) = oneshot::channel();
        let (audit, usage) = (self.ports.audit.clone(), self.usage.clone());
        let outline = draft.outline();
        let claim = Claim::default();
        let workers = claim.clone();
        let _waits = claim.waits();
        let job = move |session: Result<&mut dyn HsmSession, HsmError>| {
            if !workers.begin() {
                return;
            }
            let result = session.map_err(Error::from).and_then(|session| work(session, &mut draft));
            if workers.take() {
                append_held(&*audit, usage, draft, Phase::Complete, Held::new(result), answer);
            }
        };
        submit(&**hsm, operation.birth(), Box::new(job));
        let in_time = within(&mut answered, self.ports.clock.sleep(call.patience)).await;
        let error = match in_time {
            Some(Ok(answer)) => return answer,
            // The job panicked. Whoever has the right to conclude the call now leaves its record.
            Some(Err(_)) if claim.take() => Error::Internal { detail: "an HSM job ended without an answer" },
            None if claim.take() => HsmError::TimedOut.into(),
            // It came at the last moment, and is being recorded.
            Some(Err(_)) | None => {
                return answered.await.unwrap_or_else(|_| Err(Refused::internal("the log dropped a record")));
            }
        };
        let mut draft = self.draft(O::NAME, call.request_id, Some(call.caller.clone()));
        draft.resume(&outline);
        self.hash_contexts(operation, &mut draft);
        self.conclude(draft, Phase::Complete, Held::new(Err(error))).await
    }

    fn hash_contexts<O: Operation>(&self, operation: &O, draft: &mut Draft) {
        if let Some(context) = operation.context() {
            draft.hash_context(&self.context_hash, context);
        }
        if let Some(context) = operation.source_context() {
            draft.hash_source_context(&self.context_hash, context);
        }
    }

    async fn conclude<T: Send + 'static>(
        &self,
        draft: Draft,
        phase: Phase,
        held: Held<T>,
    ) -> Result<Recorded<T>, Refused> {
        let (answer, answered) = oneshot::channel();
        append_held(&*self.ports.audit, self.usage.clone(), draft, phase, held, answer);
        answered.await.unwrap_or_else(|_| Err(Refused::internal("the log dropped a record")))
    }

    /// A change that nobody called for: see [`OwnOperation`].
    pub(crate) async fn change_of_its_own<O: OwnOperation>(
        &self,
        operation: &O,
        request_id: RequestId,
        patience: Duration,
    ) -> Result<Recorded<O::Output>, Refused> {
        let attempt = ByItself { operation, directory: &self.directory };
        self.change(&attempt, request_id, patience, self.draft(O::NAME, request_id, None)).await
    }

    /// A change: intent, then as many tries as conflicts ask for, then outcome.
    async fn change<A: Attempt>(
        &self,
        attempt: &A,
        request_id: RequestId,
        patience: Duration,
        mut draft: Draft,
    ) -> Result<Recorded<A::Output>, Refused> {
        let mut phase = Phase::Complete; // until an intent is written
        for _ in 0..MAX_ATTEMPTS {
            let planned = match attempt.prepare(&mut draft).await {
                Ok(Prepared::Change(planned)) => planned,
                Ok(Prepared::Answer(answer)) => {
                    return self.conclude(draft, phase, Held::new(Ok(answer))).await;
                }
                Ok(Prepared::Use(..) | Prepared::ToBeDriven) => {
                    return self.conclude(draft, phase, Held::misplaced()).await;
                }
                Err(error) => return self.conclude(draft, phase, Held::new(Err(error))).await,
            };
            if phase == Phase::Complete {
                self.append(draft.intent()).await.map_err(Refused::unrecorded)?;
                phase = Phase::Outcome;
            }
            let plan = match planned {
                Planned::Ready(plan) => Ok(plan),
                Planned::InHsm(place, make) => self.make_at(&place, attempt.birth(), patience, make).await,
            };
            let Plan { transaction, output, state_digest, evict } = match plan {
                Ok(plan) => plan,
                Err(error) => return self.conclude(draft, phase, Held::new(Err(error))).await,
            };
            draft.committing(true);
            let committed = self.commit(request_id, transaction, state_digest).await;
            let unknown = matches!(committed, Err(Error::OutcomeUnknown { .. }));
            draft.committing(committed.is_ok() || unknown);
            match committed {
                Ok(()) => {
                    if let Some(material) = evict {
                        self.ports.evict(material);
                    }
                    draft.state_digest(state_digest);
                    return self.conclude_commit(draft, request_id, output).await;
                }
                Err(Error::Contention) => {}
                // The intent stays open: what came of it is found out at the next start. It may have happened.
                Err(error @ Error::OutcomeUnknown { .. }) => {
                    if let Some(material) = evict {
                        self.ports.evict(material);
                    }
                    return Err(Refused::unresolved(error));
                }
                Err(error) => return self.conclude(draft, phase, Held::new(Err(error))).await,
            }
        }
        self.conclude(draft, phase, Held::new(Err(Error::Contention))).await
    }

    async fn conclude_commit<T: Send + 'static>(
        &self,
        draft: Draft,
        request_id: RequestId,
        output: T,
    ) -> Result<Recorded<T>, Refused> {
        match self.append(draft.into_record(Phase::Outcome)).await {
            Ok(receipt) => {
                self.note_finished(request_id);
                Held::new(Ok(output)).release(receipt)
            }
            Err(error) => Err(Refused::outcome_unrecorded(&error)),
        }
    }

    /// Commits a change together with the trace by which a restart knows that it was committed.
    async fn commit(
        &self,
        request: RequestId,
        mut transaction: Transaction,
        digest: [u8; 32],
    ) -> Result<(), Error> {
        transaction.mutations.push(self.directory.put(outbox_path(request), &digest)?);
        let cleared: Vec<StoreKey> = {
            let mut finished = self.finished();
            let room = MAX_MUTATIONS.saturating_sub(transaction.mutations.len());
            let count = finished.len().min(CLEARED_PER_TRANSACTION).min(room);
            finished.drain(..count).collect()
        };
        transaction.mutations.extend(cleared.iter().cloned().map(Mutation::Delete));
        let committed = self.directory.store().transact(transaction).await;
        if committed.is_err() {
            self.finished().extend(cleared);
        }
        match committed {
            Ok(_) => Ok(()),
            Err(StoreError::Unknown { detail }) => match self.directory.was_committed(request).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(Error::StoreUnavailable(StoreError::Unavailable { detail })),
                Err(_) => Err(Error::OutcomeUnknown { detail }),
            },
            Err(error) => Err(commit_error(error)),
        }
    }

    /// The trace of this change may go: its outcome is recorded.
    pub(crate) fn note_finished(&self, request: RequestId) {
        self.finished().push(outbox_path(request));
    }

    fn finished(&self) -> std::sync::MutexGuard<'_, Vec<StoreKey>> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn append(&self, record: Record) -> Result<Receipt, AuditError> {
        let (acknowledge, acknowledged) = oneshot::channel();
        self.ports.audit.append(record, Box::new(move |receipt| drop(acknowledge.send(receipt))));
        let dropped = || AuditError { detail: "the log dropped a record".to_owned() };
        acknowledged.await.unwrap_or_else(|_| Err(dropped()))
    }

    /// Runs `work` on an HSM worker and waits for it, unrecorded: for parts of operations only.
    pub(crate) async fn on_hsm<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce(&mut dyn HsmSession) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        waiting::on_hsm(&self.ports.hsm, &self.ports, patience, work).await
    }

    /// The same with the HSM at `place`.
    pub(crate) async fn on_hsm_at<T: Send + 'static>(
        &self,
        place: &Place,
        patience: Duration,
        work: impl FnOnce(&mut dyn HsmSession) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.make_at(place, None, patience, work).await
    }

    /// The same for work that may make a key.
    async fn make_at<T: Send + 'static>(
        &self,
        place: &Place,
        birth: Option<Birth>,
        patience: Duration,
        work: impl FnOnce(&mut dyn HsmSession) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        waiting::make_on_hsm(self.hsm_at(place).await?, birth, &self.ports, patience, work).await
    }

    /// The HSM at `place`. Every work with a key comes by here, so a keystore that is disabled is refused
    /// once for all operations.
    async fn hsm_at(&self, place: &Place) -> Result<&Arc<dyn Hsm>, Error> {
        let Some(keystore) = place else { return Ok(&self.ports.hsm) };
        let stored = self.directory.keystore(keystore).await?.ok_or(Error::KeystoreNotFound)?;
        stored.value.check_enabled()?;
        self.ports.keystore(keystore)
    }

    /// The names of the tokens that the service is configured with for keystores.
    pub(crate) fn keystore_tokens(&self) -> impl Iterator<Item = &KeystoreId> {
        self.ports.keystores.keys()
    }

    /// Runs `work` on a configured token, whether or not it is a keystore that is enabled.
    pub(crate) async fn on_keystore_token<T: Send + 'static>(
        &self,
        id: &KeystoreId,
        patience: Duration,
        work: impl FnOnce(&mut dyn HsmSession) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        waiting::on_hsm(self.ports.keystore(id)?, &self.ports, patience, work).await
    }
}

/// What the pipeline needs of a change: to prepare it, again after each conflict.
trait Attempt: Sync {
    type Output: Send + 'static;

    /// As [`Operation::birth`].
    fn birth(&self) -> Option<Birth>;

    fn prepare(
        &self,
        draft: &mut Draft,
    ) -> impl Future<Output = Result<Prepared<Self::Output>, Error>> + Send;
}

/// A change that a caller asked for.
struct ForCaller<'a, O> {
    operation: &'a O,
    scope: &'a Scope<'a>,
}

impl<O: Operation> Attempt for ForCaller<'_, O> {
    type Output = O::Output;

    fn birth(&self) -> Option<Birth> {
        self.operation.birth()
    }

    async fn prepare(&self, draft: &mut Draft) -> Result<Prepared<O::Output>, Error> {
        let prepared = self.operation.prepare(self.scope, draft).await;
        prepared.map_err(|error| self.scope.hide(draft, error))
    }
}

/// A change that the service makes by itself.
struct ByItself<'a, O> {
    operation: &'a O,
    directory: &'a Arc<Directory>,
}

impl<O: OwnOperation> Attempt for ByItself<'_, O> {
    type Output = O::Output;

    /// The service makes only symmetric keys by itself.
    fn birth(&self) -> Option<Birth> {
        None
    }

    async fn prepare(&self, draft: &mut Draft) -> Result<Prepared<O::Output>, Error> {
        self.operation.prepare(self.directory, draft).await
    }
}

/// Decides at once what is about no key that exists: no key will be found that it could depend on.
fn admit_keyless<O: Operation>(operation: &O, scope: &Scope<'_>, draft: &mut Draft) -> Result<(), Error> {
    if states::row(O::NAME).is_some() || scope.standing == Standing::Admitted {
        return Ok(());
    }
    let (key, alias) = operation.new_key().unzip();
    scope.admit_without_key(O::NAME, key, alias.flatten(), draft)
}

/// May this operator do this?
fn authorise(caller: &Caller, action: Action) -> Result<(), Error> {
    if caller.permissions.allow(action) { Ok(()) } else { Err(Error::denied(action)) }
}

/// The id of a part of a call: of its own, so that each change leaves its own trace, and known to
/// everyone who knows the call's.
fn part_id(call: RequestId, number: u32) -> RequestId {
    let digest = Sha256::new()
        .chain_update(b"dewpoint/v1/part")
        .chain_update(call.as_bytes())
        .chain_update(number.to_be_bytes())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// Queues the record of a result; the result leaves when the record is durable.
fn append_held<T: Send + 'static>(
    audit: &dyn AuditLog,
    usage: Arc<Usage>,
    mut draft: Draft,
    phase: Phase,
    held: Held<T>,
    answer: oneshot::Sender<Result<Recorded<T>, Refused>>,
) {
    match held.error() {
        Some(error) => draft.error(error),
        None if draft.has_parts() => return batch::append(audit, &usage, draft, phase, held, answer),
        None => {}
    }
    let record = draft.into_record(phase);
    let counted = Use::of(&record);
    audit.append(
        record,
        Box::new(move |receipt| {
            if let Ok(receipt) = &receipt {
                usage.note(receipt.sequence(), &counted);
            }
            // A caller that hung up has dropped the other end: the result is wiped here.
            drop(answer.send(match receipt {
                Ok(receipt) => held.release(receipt),
                Err(error) => Err(Refused::unrecorded(error)),
            }));
        }),
    );
}
