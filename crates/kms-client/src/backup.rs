//! A backup of the service's key store, as it comes in.

use std::time::Duration;

use kms_proto::v1::{self, BackupContents, operator_service_client::OperatorServiceClient};
use tokio::time::timeout;
use tonic::Streaming;

use crate::{Client, Error};

/// How long the next part may take. The store may need long before the first one.
const PART_PATIENCE: Duration = Duration::from_secs(120);

/// A part of a backup.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupPart {
    /// The next bytes of the file.
    pub data: Vec<u8>,
    /// What is in the file so far.
    pub contents: BackupContents,
    /// With the last part: SHA-256 of the whole file.
    pub digest: Option<[u8; 32]>,
}

/// A backup that comes in. It is whole only with a part that has the digest: check it before the file is kept.
#[derive(Debug)]
pub struct BackupStream(Streaming<v1::BackUpResponse>);

impl BackupStream {
    /// The next part; [`Error::InvalidAnswer`] if there is none after one without a digest.
    pub async fn next(&mut self) -> Result<BackupPart, Error> {
        let received = timeout(PART_PATIENCE, self.0.message()).await.map_err(|_| Error::Deadline)??;
        let part = received.ok_or(Error::InvalidAnswer("a backup has no end"))?;
        let digest = match part.digest.len() {
            0 => None,
            _ => Some(part.digest[..].try_into().map_err(|_| Error::InvalidAnswer("a digest of 32 bytes"))?),
        };
        let contents = part.contents.ok_or(Error::InvalidAnswer("a part does not say what is in it"))?;
        Ok(BackupPart { data: part.data.into(), contents, digest })
    }
}

impl Client {
    /// Begins a backup of the key store, for the same token; the service goes on meanwhile. Only for operators. Not
    /// bound to the deadline of other calls, and not repeated when it fails.
    pub async fn back_up(&self) -> Result<BackupStream, Error> {
        let request = self.unbounded(v1::BackUpRequest {});
        let begun = timeout(PART_PATIENCE, OperatorServiceClient::new(self.channel()).back_up(request)).await;
        Ok(BackupStream(begun.map_err(|_| Error::Deadline)??.into_inner()))
    }
}
