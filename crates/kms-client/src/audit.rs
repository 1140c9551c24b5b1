//! Records of the service's audit log: pages, and streams as they come in.

use std::time::Duration;

use kms_proto::v1::{
    GetCheckpointRequest, GetCheckpointResponse, GetMeteringRequest, GetMeteringResponse,
    ProveConsistencyRequest, ProveConsistencyResponse, ProveInclusionRequest, ProveInclusionResponse,
    QueryRecordsRequest, QueryRecordsResponse, StreamRecordsRequest, StreamRecordsResponse,
    audit_service_client::AuditServiceClient,
};
use tokio::time::timeout;
use tonic::Streaming;

use crate::{Client, Error, retry::Repeat};

/// How long a stream may take to begin.
const BEGIN_PATIENCE: Duration = Duration::from_secs(30);

/// Records that come in. If it breaks off, `next_seq` of the last message says where to go on.
#[derive(Debug)]
pub struct RecordStream(Streaming<StreamRecordsResponse>);

impl RecordStream {
    /// The next message; `None` at the end: of the log, or, if the stream follows, of the service's process.
    pub async fn next(&mut self) -> Result<Option<StreamRecordsResponse>, Error> {
        Ok(self.0.message().await?)
    }
}

/// Reading the audit log. Permission `dewpoint:audit:read`: an account's users see the records of their account,
/// operators see all.
impl Client {
    /// One page of records.
    pub async fn query_records(&self, request: QueryRecordsRequest) -> Result<QueryRecordsResponse, Error> {
        self.call(Repeat::Harmless, request, |channel, request| async move {
            AuditServiceClient::new(channel).query_records(request).await
        })
        .await
    }

    /// The newest checkpoint, and the key that the service says verifies it.
    pub async fn audit_checkpoint(&self) -> Result<GetCheckpointResponse, Error> {
        self.call(Repeat::Harmless, GetCheckpointRequest {}, |channel, request| async move {
            AuditServiceClient::new(channel).get_checkpoint(request).await
        })
        .await
    }

    /// That a line is in the log.
    pub async fn prove_inclusion(
        &self,
        request: ProveInclusionRequest,
    ) -> Result<ProveInclusionResponse, Error> {
        self.call(Repeat::Harmless, request, |channel, request| async move {
            AuditServiceClient::new(channel).prove_inclusion(request).await
        })
        .await
    }

    /// That the log continues an earlier one.
    pub async fn prove_consistency(
        &self,
        request: ProveConsistencyRequest,
    ) -> Result<ProveConsistencyResponse, Error> {
        self.call(Repeat::Harmless, request, |channel, request| async move {
            AuditServiceClient::new(channel).prove_consistency(request).await
        })
        .await
    }

    /// One page of what billing would need: by account and month.
    pub async fn metering(&self, request: GetMeteringRequest) -> Result<GetMeteringResponse, Error> {
        self.call(Repeat::Harmless, request, |channel, request| async move {
            AuditServiceClient::new(channel).get_metering(request).await
        })
        .await
    }

    /// Begins a stream of records. Not bound to the deadline of other calls, and not repeated when it fails.
    pub async fn stream_records(&self, request: StreamRecordsRequest) -> Result<RecordStream, Error> {
        let request = self.unbounded(request);
        let mut service = AuditServiceClient::new(self.channel());
        let begun = timeout(BEGIN_PATIENCE, service.stream_records(request)).await;
        Ok(RecordStream(begun.map_err(|_| Error::Deadline)??.into_inner()))
    }
}
