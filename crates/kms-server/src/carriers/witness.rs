//! A witness as a place: another Dewpoint that cosigns what continues the checkpoints that it cosigned before.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use kms_audit::{CosignerKey, Cosigning, FileLog, SignedCheckpoint};
use kms_proto::v1::{AddCheckpointRequest, witness_service_client::WitnessServiceClient};
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;
use zeroize::Zeroizing;

use super::{Outgoing, PATIENCE, send};
use crate::config::WitnessPlaceConfig;

/// How often one attempt begins anew because the witness knows another size.
const ROUNDS: usize = 3;
/// How soon a connection that has died is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Why the witness did not cosign.
enum Refused {
    /// It has cosigned so many lines last.
    Knows(u64),
    Else(String),
}

/// The connection to a witness, and what it knows of this log.
pub(crate) struct Witness {
    client: WitnessServiceClient<Channel>,
    key: CosignerKey,
    /// The size that the witness cosigned last, as far as this process knows.
    known: AtomicU64,
    log: Option<Arc<Cosigning>>,
    /// Whom cosigned checkpoints are sent to.
    outgoing: Option<Outgoing>,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Witness {
    /// Reads the certificates; connects when there is something to carry.
    pub(super) fn new(config: &WitnessPlaceConfig) -> Result<Self, String> {
        let key = CosignerKey::parse(&config.key).map_err(|error| format!("key: {error}"))?;
        let read = |name: &str, path: &Path| {
            let bytes = fs::read(path).map_err(|error| format!("{name}: {}: {error}", path.display()));
            bytes.map(Zeroizing::new)
        };
        let identity = Identity::from_pem(
            &read("certificate", &config.certificate)?[..],
            &read("private_key", &config.private_key)?[..],
        );
        let authority = Certificate::from_pem(&read("ca_cert", &config.ca_cert)?[..]);
        if !config.endpoint.starts_with("https://") {
            return Err("endpoint: must begin with https://".to_owned());
        }
        let endpoint = Endpoint::from_shared(config.endpoint.clone());
        let endpoint = endpoint.map_err(|error| format!("endpoint: {error}"))?;
        let tls = ClientTlsConfig::new().ca_certificate(authority).identity(identity);
        let endpoint = endpoint.tls_config(tls).map_err(|error| format!("TLS: {error}"))?;
        let endpoint = endpoint.connect_timeout(PATIENCE / 2).http2_keep_alive_interval(KEEP_ALIVE);
        let client = WitnessServiceClient::new(endpoint.connect_lazy());
        Ok(Self { client, key, known: 0.into(), log: None, outgoing: None })
    }

    /// Names the log whose checkpoints will come.
    pub(super) fn attach(&mut self, log: &FileLog) -> io::Result<()> {
        self.log = log.cosigning()?.map(Arc::new);
        Ok(())
    }

    /// Has the other places told of what is cosigned.
    pub(super) fn tell(&mut self, outgoing: Outgoing) {
        self.outgoing = Some(outgoing);
    }

    /// Has a checkpoint cosigned, and puts the cosignature into the log's newest checkpoint if it still is that one.
    pub(super) async fn take(&self, checkpoint: &SignedCheckpoint) -> Result<(), String> {
        let log = self.log.as_ref().ok_or("the log is not signed")?;
        let size = checkpoint.checkpoint.size;
        for _ in 0..ROUNDS {
            let (known, prover) = (self.known.load(Relaxed), Arc::clone(log));
            let proof = blocking(move || prover.prove(known, size)).await;
            let proof = proof.map_err(|error| format!("prove that the log continues: {error}"))?;
            let proof = proof.iter().map(|hash| Bytes::copy_from_slice(hash)).collect();
            match self.add(known, proof, &checkpoint.note).await {
                Ok(line) => {
                    let cosigned =
                        checkpoint.cosigned(&line, &self.key).map_err(|error| error.to_string())?;
                    self.known.store(size, Relaxed);
                    let (keeper, cosigned) = (Arc::clone(log), Arc::new(cosigned));
                    if let Some(outgoing) = &self.outgoing {
                        send(outgoing, Arc::clone(&cosigned), true);
                    }
                    let kept = blocking(move || keeper.keep(&cosigned)).await;
                    return kept.map(drop).map_err(|error| format!("keep the cosignature: {error}"));
                }
                Err(Refused::Knows(known)) if known > size => {
                    return Err(format!(
                        "the witness has cosigned {known} lines, more than this log has: it was cut or put back"
                    ));
                }
                Err(Refused::Knows(known)) => self.known.store(known, Relaxed),
                Err(Refused::Else(problem)) => return Err(problem),
            }
        }
        Err("whenever it is asked, the witness has cosigned another size: is this log in use twice?"
            .to_owned())
    }

    async fn add(&self, old_size: u64, proof: Vec<Bytes>, note: &str) -> Result<String, Refused> {
        let request = AddCheckpointRequest { old_size, proof, checkpoint: note.to_owned() };
        match self.client.clone().add_checkpoint(request).await {
            Ok(answer) => Ok(answer.into_inner().cosignature),
            Err(status) => Err(refused(&status)),
        }
    }
}

fn refused(status: &Status) -> Refused {
    let info = status.get_details_error_info();
    let known = info.filter(|info| info.reason == "CHECKPOINT_OTHER_SIZE");
    let known = known.and_then(|info| info.metadata.get("known_size")?.parse().ok());
    known.map_or_else(|| Refused::Else(format!("{}: {}", status.code(), status.message())), Refused::Knows)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
