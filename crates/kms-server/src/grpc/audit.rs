//! The service that reads the audit log: pages of records, and streams of them.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use kms_audit::{Found, Order, Search, merkle::Hash};
use kms_core::{
    Error, RequestId,
    error::Field,
    operation::OperationName,
    ops::{PageSize, ProofSource, Prove, QueryRecords, RecordSource, StreamRecords},
    ports::{AuditError, BoxFuture},
    reading::{RecordFilter, Selection},
};
use kms_proto::v1::{self, audit_service_server::AuditService};
use tokio::{
    sync::{
        mpsc::{Sender, channel},
        watch,
    },
    time::sleep,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, metadata::MetadataMap};
use uuid::Uuid;

use super::{Grpc, convert, credentials, status, tell};
use crate::{
    gate::HSM_PATIENCE, identity::Identities, metering::Metering, peer::Peer, reading::ReadableLog,
    server::stopped, traffic::Remaining,
};

/// The most records of one message of a stream.
const MOST_STREAMED: usize = 1000;
/// How many messages of a stream may wait for a slow client.
const MESSAGES_IN_FLIGHT: usize = 2;
/// How long a stream that has shown everything lets new records gather: under load it looks at the log only so often.
const GATHERING: Duration = Duration::from_millis(100);

/// The service, with the log that it reads.
pub(crate) struct AuditGrpc {
    grpc: Grpc,
    log: ReadableLog,
    metering: Arc<Metering>,
    /// Tells streams to end.
    stop: watch::Receiver<bool>,
}

impl AuditGrpc {
    pub(super) fn new(
        grpc: Grpc,
        log: ReadableLog,
        metering: Arc<Metering>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { grpc, log, metering, stop }
    }
}

/// A page of a search.
struct PageSource {
    log: ReadableLog,
    order: Order,
    size: PageSize,
    /// Where to go on.
    place: Option<u64>,
}

struct RecordPage {
    found: Found,
    order: Order,
    /// Behind the last durable line.
    end: u64,
}

impl RecordSource for PageSource {
    type Page = RecordPage;

    fn read(&self, selection: Selection) -> BoxFuture<'_, Result<RecordPage, AuditError>> {
        let end = *self.log.durable().borrow();
        let places = match (self.order, self.place) {
            (Order::OldestFirst, place) => place.unwrap_or_default().min(end)..end,
            (Order::NewestFirst, place) => 0..place.unwrap_or(end).min(end),
        };
        let search = Search { places, order: self.order, limit: self.size.get() };
        Box::pin(async move {
            let found = self.log.search(search, Arc::new(selection)).await?;
            Ok(RecordPage { found, order: self.order, end })
        })
    }
}

struct NewestCheckpoint(ReadableLog);

impl ProofSource for NewestCheckpoint {
    const NAME: OperationName = OperationName::GetCheckpoint;
    type Proof = v1::GetCheckpointResponse;

    fn read(&self) -> BoxFuture<'_, Result<Self::Proof, Error>> {
        Box::pin(self.0.prove(|directory| {
            let (signed, key) = kms_audit::newest_checkpoint(directory)?;
            Ok(v1::GetCheckpointResponse { checkpoint: signed.note, verifier_key: key.to_string() })
        }))
    }
}

struct Inclusion {
    log: ReadableLog,
    request: v1::ProveInclusionRequest,
}

impl ProofSource for Inclusion {
    const NAME: OperationName = OperationName::ProveInclusion;
    type Proof = v1::ProveInclusionResponse;

    fn read(&self) -> BoxFuture<'_, Result<Self::Proof, Error>> {
        let v1::ProveInclusionRequest { seq, size } = self.request;
        Box::pin(self.log.prove(move |directory| {
            let (proof, newest) = kms_audit::prove_inclusion(directory, seq, size)?;
            Ok(v1::ProveInclusionResponse {
                leaf_hash: proof.leaf.to_vec().into(),
                path: path(&proof.path),
                size: proof.size,
                checkpoint: newest.note,
            })
        }))
    }
}

struct Consistency {
    log: ReadableLog,
    request: v1::ProveConsistencyRequest,
}

impl ProofSource for Consistency {
    const NAME: OperationName = OperationName::ProveConsistency;
    type Proof = v1::ProveConsistencyResponse;

    fn read(&self) -> BoxFuture<'_, Result<Self::Proof, Error>> {
        let v1::ProveConsistencyRequest { old_size, new_size } = self.request;
        Box::pin(self.log.prove(move |directory| {
            let (proof, new_size, newest) = kms_audit::prove_consistency(directory, old_size, new_size)?;
            Ok(v1::ProveConsistencyResponse { path: path(&proof), new_size, checkpoint: newest.note })
        }))
    }
}

fn path(hashes: &[Hash]) -> Vec<Bytes> {
    hashes.iter().map(|hash| Bytes::copy_from_slice(hash)).collect()
}

fn parse_query(
    request: v1::QueryRecordsRequest,
    log: &ReadableLog,
) -> Result<QueryRecords<PageSource>, Error> {
    let order = match v1::RecordOrder::try_from(request.order) {
        Ok(v1::RecordOrder::Unspecified | v1::RecordOrder::NewestFirst) => Order::NewestFirst,
        Ok(v1::RecordOrder::OldestFirst) => Order::OldestFirst,
        Err(_) => return Err(Error::invalid(Field::Order, "must be an order of the contract")),
    };
    let token = Some(request.page_token).filter(|token| !token.is_empty());
    let place = token.map(|token| token.parse::<u64>()).transpose().map_err(|_| {
        Error::invalid(Field::PageToken, "must be empty or the next_page_token of a page before")
    })?;
    let (filter, size) = (convert::audit::filter(request.filter)?, PageSize::parse(request.page_size)?);
    Ok(QueryRecords { filter, source: PageSource { log: log.clone(), order, size, place } })
}

fn page(RecordPage { found, order, end }: RecordPage) -> v1::QueryRecordsResponse {
    let place = match order {
        Order::OldestFirst => found.left.start,
        Order::NewestFirst => found.left.end,
    };
    v1::QueryRecordsResponse {
        next_page_token: if found.left.is_empty() { String::new() } else { place.to_string() },
        records: convert::audit::records(found.entries),
        end_seq: end,
    }
}

#[tonic::async_trait]
impl AuditService for AuditGrpc {
    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        let source = NewestCheckpoint(self.log.clone());
        self.grpc.answer(request, |_| Ok(Prove(source)), |response| response).await
    }

    async fn prove_inclusion(
        &self,
        request: Request<v1::ProveInclusionRequest>,
    ) -> Result<Response<v1::ProveInclusionResponse>, Status> {
        let proof = |request| Ok(Prove(Inclusion { log: self.log.clone(), request }));
        self.grpc.answer(request, proof, |response| response).await
    }

    async fn prove_consistency(
        &self,
        request: Request<v1::ProveConsistencyRequest>,
    ) -> Result<Response<v1::ProveConsistencyResponse>, Status> {
        let proof = |request| Ok(Prove(Consistency { log: self.log.clone(), request }));
        self.grpc.answer(request, proof, |response| response).await
    }

    async fn query_records(
        &self,
        request: Request<v1::QueryRecordsRequest>,
    ) -> Result<Response<v1::QueryRecordsResponse>, Status> {
        self.grpc.answer(request, |request| parse_query(request, &self.log), page).await
    }

    async fn get_metering(
        &self,
        request: Request<v1::GetMeteringRequest>,
    ) -> Result<Response<v1::GetMeteringResponse>, Status> {
        let parse = |request| convert::metering::parse(request, &self.metering);
        self.grpc.answer(request, parse, convert::metering::page).await
    }

    type StreamRecordsStream = Pin<Box<dyn Stream<Item = Result<v1::StreamRecordsResponse, Status>> + Send>>;

    async fn stream_records(
        &self,
        request: Request<v1::StreamRecordsRequest>,
    ) -> Result<Response<Self::StreamRecordsStream>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let Some(peer) = extensions.get::<Arc<Peer>>() else {
            return Err(Status::internal("the connection has no peer"));
        };
        let filter = convert::audit::filter(request.filter);
        let asker = Asker { grpc: self.grpc.clone(), metadata, peer: peer.clone(), filter };
        let mut remaining = None;
        let admission = asker.admit(&mut remaining).await?;
        let request_id = admission.request_id;
        // The record of this call is behind it, and whatever is done when the client has the answer is not.
        let end = *self.log.durable().borrow();
        let next = request.from_seq.unwrap_or(if request.follow { end } else { 0 });
        let (log, follow, stop) = (self.log.clone(), request.follow, self.stop.clone());
        let reading = Reading { asker, admission, durable: log.durable(), log, next, end, follow };
        let (sender, messages) = channel(MESSAGES_IN_FLIGHT + 1);
        tokio::spawn(reading.feed(sender, stop));
        let mut response: Response<Self::StreamRecordsStream> =
            Response::new(Box::pin(ReceiverStream::new(messages)));
        status::name_request(response.metadata_mut(), request_id);
        tell(response.metadata_mut(), remaining.as_ref());
        Ok(response)
    }
}

/// Who asks for a stream, and for what.
struct Asker {
    grpc: Grpc,
    metadata: MetadataMap,
    peer: Arc<Peer>,
    filter: Result<RecordFilter, Error>,
}

/// That the asker may read, and on what grounds.
struct Admission {
    request_id: RequestId,
    selection: Arc<Selection>,
    identities: Arc<Identities>,
}

impl Asker {
    /// Passes the gate and is recorded. `remaining` becomes what is left of the caller's budgets.
    async fn admit(&self, remaining: &mut Option<Remaining>) -> Result<Admission, Status> {
        let (request_id, gate) = (Uuid::new_v4(), &self.grpc.gate);
        // Before they are asked: if they change meanwhile, they are asked again.
        let identities = gate.identities.now();
        let operation = self.filter.clone().map(|filter| StreamRecords { filter });
        let credentials = credentials(&self.peer, &self.metadata);
        let passed = gate.pass(request_id, HSM_PATIENCE, &credentials, operation, remaining).await;
        let selection = passed.map_err(|refused| {
            let mut status = status::of(&refused, request_id);
            tell(status.metadata_mut(), remaining.as_ref());
            status
        });
        let selection = selection?.into_inner();
        Ok(Admission { request_id, selection: Arc::new(selection), identities })
    }

    /// Whether an admission still holds.
    fn is_admitted(&self, admission: &Admission) -> bool {
        let gate = &self.grpc.gate;
        let valid = |not_after| not_after >= gate.clock.now();
        Arc::ptr_eq(&admission.identities, &gate.identities.now())
            && self.peer.certificate.as_ref().is_some_and(|certificate| valid(certificate.not_after))
    }
}

/// A stream under way.
struct Reading {
    asker: Asker,
    admission: Admission,
    log: ReadableLog,
    durable: watch::Receiver<u64>,
    /// The next place to look at.
    next: u64,
    /// Where it ends, if it does not follow.
    end: u64,
    follow: bool,
}

impl Reading {
    /// Sends messages until the stream ends, its client is gone, or the service stops.
    async fn feed(
        mut self,
        sender: Sender<Result<v1::StreamRecordsResponse, Status>>,
        mut stop: watch::Receiver<bool>,
    ) {
        // Room for how it ends, whether or not the client takes what was sent before: no stream seems whole that is not.
        let last = sender.clone().try_reserve_owned();
        let ended = tokio::select! {
            ended = self.send_all(&sender) => ended,
            () = sender.closed() => return,
            () = stopped(&mut stop) => {
                if self.follow { Ok(()) } else { Err(self.failed("the service stops".to_owned())) }
            }
        };
        if let (Err(status), Ok(last)) = (ended, last) {
            last.send(Err(status));
        }
    }

    async fn send_all(
        &mut self,
        sender: &Sender<Result<v1::StreamRecordsResponse, Status>>,
    ) -> Result<(), Status> {
        loop {
            if self.follow {
                self.end = *self.durable.borrow_and_update();
            }
            if self.next < self.end {
                let message = self.read().await?;
                let is_empty = message.records.is_empty() && self.follow && self.next == self.end;
                if !is_empty && sender.send(Ok(message)).await.is_err() {
                    return Ok(());
                }
            } else if self.follow && self.durable.changed().await.is_ok() {
                sleep(GATHERING).await;
            } else {
                return Ok(());
            }
        }
    }

    /// Reads on, as far as one search goes.
    async fn read(&mut self) -> Result<v1::StreamRecordsResponse, Status> {
        if !self.asker.is_admitted(&self.admission) {
            self.admission = self.asker.admit(&mut None).await?;
        }
        let search = Search { places: self.next..self.end, order: Order::OldestFirst, limit: MOST_STREAMED };
        let found = self.log.search(search, self.admission.selection.clone()).await;
        let Found { entries, left } = found.map_err(|error| {
            tracing::error!(detail = error.detail, "the audit log cannot be read");
            self.failed(error.detail)
        })?;
        self.next = if left.is_empty() { self.end } else { left.start };
        let records = convert::audit::records(entries);
        Ok(v1::StreamRecordsResponse { records, next_seq: self.next, end_seq: self.end })
    }

    fn failed(&self, detail: String) -> Status {
        status::of_error(&Error::AuditUnavailable(AuditError { detail }), self.admission.request_id)
    }
}
