//! Campaigns: many ciphertexts are moved under the current version of their key in one stream.

use kms_proto::v1::{RewrapRequest, RewrapResponse, campaign_service_client::CampaignServiceClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{Client, Error};

/// How many items wait to be sent.
const WAITING: usize = 64;

/// Where the items of a stream go. Dropping it says that there are no more.
#[derive(Debug)]
pub struct RewrapItems(mpsc::Sender<RewrapRequest>);

impl RewrapItems {
    /// Sends one item; waits as long as the service takes on no more. `false`: the stream has ended.
    pub async fn send(&self, item: RewrapRequest) -> bool {
        self.0.send(item).await.is_ok()
    }
}

/// The answers of a stream, in any order.
#[derive(Debug)]
pub struct RewrapAnswers(Streaming<RewrapResponse>);

impl RewrapAnswers {
    /// The next answer; `None` when all are given.
    pub async fn next(&mut self) -> Result<Option<RewrapResponse>, Error> {
        self.0.message().await.map_err(Error::from)
    }
}

impl Client {
    /// Begins a stream that moves ciphertexts under the current versions of their keys. It has no deadline and is not
    /// tried again: what got no answer is to be sent in another stream. Permission `kms:dek:crypto`.
    pub async fn rewrap(&self) -> Result<(RewrapItems, RewrapAnswers), Error> {
        let (items, waiting) = mpsc::channel(WAITING);
        let request = self.unbounded(ReceiverStream::new(waiting));
        let answers = CampaignServiceClient::new(self.channel()).rewrap(request).await?;
        Ok((RewrapItems(items), RewrapAnswers(answers.into_inner())))
    }
}
