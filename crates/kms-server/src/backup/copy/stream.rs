//! Making a backup while the service runs: from a snapshot of the store to whoever asked for it.

use std::io;

use kms_core::{BegunBackup, Error, Refused, Service};
use tokio::sync::mpsc::Sender;

use super::{
    Counts,
    format::{Header, Writer},
};
use crate::{backup::frames::Digest, server};

/// How many stored values are read at a time.
const VALUES_AT_A_TIME: usize = 256;
/// From how many bytes on a part of the file is sent.
const PART_BYTES: usize = 256 * 1024;

/// A part of the file.
#[derive(Debug)]
pub(crate) struct Part {
    /// The next bytes.
    pub(crate) bytes: Vec<u8>,
    /// What is in it so far.
    pub(crate) counts: Counts,
    /// With the last part: of the whole file.
    pub(crate) digest: Option<Digest>,
}

/// Sends a backup that was begun. Its end is sent when it is recorded; a receiver that goes away before ends it.
pub(crate) async fn produce(
    service: &Service,
    mut begun: BegunBackup,
    receiver: &Sender<Result<Part, Refused>>,
) {
    let answer = match write(service, &mut begun, receiver).await {
        Ok((last, digest)) => service.end_backup(begun, digest).await.map(|_| last),
        Err(Stopped::Failed(error)) => Err(service.abandon_backup(begun, Some(error)).await),
        Err(Stopped::NobodyWaits) => Err(service.abandon_backup(begun, None).await),
    };
    let _ = receiver.send(answer).await; // who went away does not want to know
}

/// Why a backup was not made.
enum Stopped {
    Failed(Error),
    NobodyWaits,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Sends all but the last part; gives that, and the digest of the whole.
async fn write(
    service: &Service,
    begun: &mut BegunBackup,
    receiver: &Sender<Result<Part, Refused>>,
) -> Result<(Part, Digest), Stopped> {
    let deployment = service.deployment().await?;
    let header =
        Header { created: server::now().to_string(), deployment, revision: begun.snapshot.revision() };
    let mut writer = Writer::begin(Vec::new(), &header).map_err(unwritten)?;
    let mut counts = Counts::default();
    loop {
        let page = begun.snapshot.page(VALUES_AT_A_TIME).await.map_err(Error::StoreUnavailable)?;
        if page.is_empty() {
            break;
        }
        for (path, versioned) in page {
            let content = service.content(&path, &versioned.value);
            if let Err(error) = &content {
                tracing::error!(
                    detail = error.operator_detail(),
                    "a value that is backed up cannot be trusted"
                );
            }
            counts.add(content.as_ref().ok());
            writer.value(&path, &versioned.value).map_err(unwritten)?;
        }
        if writer.out().len() >= PART_BYTES {
            let bytes = std::mem::take(writer.out());
            let part = Part { bytes, counts, digest: None };
            receiver.send(Ok(part)).await.map_err(|_| Stopped::NobodyWaits)?;
        } else if receiver.is_closed() {
            return Err(Stopped::NobodyWaits);
        }
    }
    let finished = writer.finish(&counts, |digest| service.backup_seal(digest));
    let (bytes, digest) = finished.map_err(unwritten)?;
    Ok((Part { bytes, counts, digest: Some(digest) }, digest))
}

/// A value longer than the store takes: a defect, for memory takes everything.
fn unwritten(_: io::Error) -> Error {
    Error::Internal { detail: "a value does not fit into a backup" }
}
