//! The service of rotation campaigns.

use std::{pin::Pin, sync::Arc};

use kms_core::{Recorded, Refused, operation::OperationName, ops::Rewrapped};
use kms_proto::v1::{self, campaign_service_server::CampaignService, rewrap_response::Result as Outcome};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};
use uuid::Uuid;

use super::{Grpc, convert::campaign, credentials, status};
use crate::{gate::HSM_PATIENCE, peer::Peer};

/// How many items of one stream are under way at the same time.
const WINDOW: usize = 64;

#[tonic::async_trait]
impl CampaignService for Grpc {
    async fn start_campaign(
        &self,
        request: Request<v1::StartCampaignRequest>,
    ) -> Result<Response<v1::StartCampaignResponse>, Status> {
        self.answer(request, campaign::start_campaign, |status| v1::StartCampaignResponse {
            campaign: Some(campaign::campaign(status)),
        })
        .await
    }

    async fn get_campaign(
        &self,
        request: Request<v1::GetCampaignRequest>,
    ) -> Result<Response<v1::GetCampaignResponse>, Status> {
        self.answer(request, campaign::get_campaign, |status| v1::GetCampaignResponse {
            campaign: Some(campaign::campaign(status)),
        })
        .await
    }

    async fn list_campaigns(
        &self,
        request: Request<v1::ListCampaignsRequest>,
    ) -> Result<Response<v1::ListCampaignsResponse>, Status> {
        self.answer(request, campaign::list_campaigns, |found| v1::ListCampaignsResponse {
            campaigns: found.into_iter().map(campaign::campaign).collect(),
        })
        .await
    }

    type RewrapStream = Pin<Box<dyn Stream<Item = Result<v1::RewrapResponse, Status>> + Send>>;

    async fn rewrap(
        &self,
        request: Request<Streaming<v1::RewrapRequest>>,
    ) -> Result<Response<Self::RewrapStream>, Status> {
        let (metadata, extensions, items) = request.into_parts();
        let Some(peer) = extensions.get::<Arc<Peer>>().cloned() else {
            return Err(Status::internal("the connection has no peer"));
        };
        let (request_id, credentials) = (Uuid::new_v4(), credentials(&peer, &metadata));
        let opened = self.gate.open_stream(OperationName::Rewrap, request_id, &credentials);
        opened.await.map_err(|refused| status::of(&refused, request_id))?;
        let (answers, answered) = mpsc::channel(WINDOW);
        let stream = RewrapCalls { grpc: self.clone(), peer, metadata, answers };
        tokio::spawn(stream.run(items));
        Ok(Response::new(Box::pin(ReceiverStream::new(answered))))
    }
}

/// The calls of one stream.
#[derive(Clone)]
struct RewrapCalls {
    grpc: Grpc,
    peer: Arc<Peer>,
    metadata: MetadataMap,
    answers: mpsc::Sender<Result<v1::RewrapResponse, Status>>,
}

impl RewrapCalls {
    /// Takes items as long as there is room for their answers, until the stream ends or its client is gone.
    async fn run(self, mut items: Streaming<v1::RewrapRequest>) {
        let window = Arc::new(Semaphore::new(WINDOW));
        while let Ok(room) = window.clone().acquire_owned().await {
            let item = tokio::select! {
                () = self.answers.closed() => return,
                item = items.message() => item,
            };
            match item {
                Ok(Some(item)) => {
                    let calls = self.clone();
                    tokio::spawn(async move {
                        calls.answer(item).await;
                        drop(room);
                    });
                }
                Ok(None) => return,
                Err(status) => return drop(self.answers.send(Err(status)).await),
            }
        }
    }

    async fn answer(&self, item: v1::RewrapRequest) {
        let (id, request_id) = (item.id, Uuid::new_v4());
        let (gate, operation) = (&self.grpc.gate, campaign::rewrap(item));
        let credentials = credentials(&self.peer, &self.metadata);
        let passing = gate.pass_patiently(request_id, HSM_PATIENCE, &credentials, operation);
        // An item that waits for its budget is given up when nobody waits for it any more.
        let ended = tokio::select! {
            () = self.answers.closed() => return,
            ended = passing => ended,
        };
        let result = Some(outcome(ended, request_id));
        drop(self.answers.send(Ok(v1::RewrapResponse { id, result })).await);
    }
}

fn outcome(ended: Result<Recorded<Rewrapped>, Refused>, request_id: Uuid) -> Outcome {
    match ended.map(Recorded::into_inner) {
        Ok(moved) => Outcome::Item(v1::RewrappedItem {
            key_id: moved.key_id.to_string(),
            from_version: moved.from_version,
            to_version: moved.to_version,
            ciphertext_blob: moved.ciphertext.into(),
        }),
        Err(refused) => Outcome::Error(v1::RewrapError {
            reason: refused.error().code().to_owned(),
            message: refused.error().to_string(),
            request_id: request_id.to_string(),
        }),
    }
}
