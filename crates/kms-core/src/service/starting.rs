//! The start: store and token belong together, and what a crash left is settled.

use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CLEARED_PER_TRANSACTION, Ports, Service, waiting::on_hsm};
use crate::{
    Timestamp,
    directory::{DEPLOYMENT_PATH, Directory, OUTBOX_PREFIX, ROOT_PATH, absent, commit_error},
    draft::ContextHash,
    error::Error,
    ports::{HsmSession, Mac, Mutation, Transaction},
    record::{OpenIntent, Phase, Verdict},
    root::{RootRecord, generations},
    settings::{QuotaTable, Settings},
    uses::Uses,
};

/// How long it may take for each of the service's own keys at start.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Why the service cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The HSM, the store or the log failed.
    #[error("{}", .0.operator_detail().unwrap_or_else(|| .0.to_string()))]
    Failed(Error),
    /// The store's own record is authenticated by another token's key.
    #[error(
        "the key store does not belong to this token: its records were authenticated by another token's key, or \
         altered; restore the token that belongs to it, or name another data directory"
    )]
    ForeignStore,
    /// The store holds values but does not say whose, or under which root keys.
    #[error(
        "the key store has values but no deployment record: it was cut or altered; restore it from a backup"
    )]
    HeadlessStore,
    /// The token lacks a root key that keys in the store are wrapped under.
    #[error(
        "the token has no root key of generation {generation}, which keys in the store need: the token or the store \
         was restored without the other; restore the two that belong together"
    )]
    RootMissing {
        /// Which one.
        generation: u32,
    },
}

/// What the store says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Deployment {
    pub(super) id: Uuid,
    created: Timestamp,
}

impl Service {
    /// Derives the service's keys in the HSM and checks that store and token belong together. An
    /// empty store is bound to the token.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StartError> {
        let authentication_key = derive(&ports, "dewpoint/v1/record-authentication").await?;
        let context_key = derive(&ports, "dewpoint/v1/context-hiding").await?;
        let directory =
            Directory::new(ports.store.clone(), &authentication_key).map_err(StartError::Failed)?;
        let table = QuotaTable { default: settings.quotas, ..QuotaTable::default() };
        let service = Self {
            context_hash: ContextHash::new(&context_key).map_err(StartError::Failed)?,
            directory: Arc::new(directory),
            ports,
            settings,
            quota_table: RwLock::new(Arc::new(table)),
            uses: Uses::default(),
            quotas: Arc::default(),
            usage: Arc::default(),
            probes: AtomicU64::new(0),
            ailing: AtomicBool::new(false),
            finished: Mutex::default(),
        };
        service.bind_store().await?;
        Ok(service)
    }

    async fn bind_store(&self) -> Result<(), StartError> {
        let token = on_hsm(&self.ports.hsm, &self.ports, START_PATIENCE, generations)
            .await
            .map_err(StartError::Failed)?;
        match self.directory.read::<Deployment>(DEPLOYMENT_PATH.to_vec()).await {
            Ok(Some(_)) => return self.check_roots(&token).await,
            Err(Error::RecordTampered { .. }) => return Err(StartError::ForeignStore),
            Err(error) => return Err(StartError::Failed(error)),
            Ok(None) => {}
        }
        if !self.directory.index(b"", None, 1).await.map_err(StartError::Failed)?.is_empty() {
            return Err(StartError::HeadlessStore);
        }
        let mut id = [0; 16];
        id[..].copy_from_slice(&derive(&self.ports, "dewpoint/v1/deployment").await?[..16]);
        let deployment = Deployment { id: Uuid::from_bytes(id), created: self.ports.clock.now() };
        let root = RootRecord::first(token.last().copied().unwrap_or_default()); // never empty
        let put = self.directory.put(DEPLOYMENT_PATH.to_vec(), &deployment).map_err(StartError::Failed)?;
        let put_root = self.directory.put(ROOT_PATH.to_vec(), &root).map_err(StartError::Failed)?;
        let transaction = Transaction {
            conditions: vec![absent(DEPLOYMENT_PATH.to_vec())],
            mutations: vec![put, put_root],
        };
        let committed = self.directory.store().transact(transaction).await;
        committed.map(|_| ()).map_err(|error| StartError::Failed(commit_error(error)))
    }

    /// Refuses a token that lacks a root key which the store's keys may need.
    pub(super) async fn check_roots(&self, token: &[u32]) -> Result<(), StartError> {
        let root = self.directory.read::<RootRecord>(ROOT_PATH.to_vec()).await.map_err(StartError::Failed)?;
        match root.ok_or(StartError::HeadlessStore)?.value.missing_from(token) {
            Some(generation) => Err(StartError::RootMissing { generation }),
            None => Ok(()),
        }
    }

    /// Writes the outcome of every change that a crash cut off, and clears the traces by which
    /// that is known. To be called once, before the first operation.
    pub async fn reconcile(&self, open: &[OpenIntent]) -> Result<(), Error> {
        for intent in open {
            let digest = self.directory.was_committed(intent.request_id).await?;
            let mut record =
                self.draft(intent.operation, intent.request_id, None).into_record(Phase::Recovery);
            record.key_id = intent.key_id;
            record.state_digest = digest;
            record.verdict = if digest.is_some() { Verdict::Succeeded } else { Verdict::Failed };
            record.reason = digest.is_none().then_some("NOT_COMMITTED");
            self.append(record).await?;
        }
        loop {
            let traces = self.directory.index(OUTBOX_PREFIX, None, CLEARED_PER_TRANSACTION).await?;
            if traces.is_empty() {
                return Ok(());
            }
            let mutations = traces.into_iter().map(|(path, _)| Mutation::Delete(path)).collect();
            let transaction = Transaction { conditions: Vec::new(), mutations };
            self.directory.store().transact(transaction).await.map_err(commit_error)?;
        }
    }
}

/// One of the service's own keys, derived from the token's authentication key.
async fn derive(ports: &Ports, label: &'static str) -> Result<Mac, StartError> {
    let work = move |session: &mut dyn HsmSession| Ok(session.authentication_mac(label.as_bytes())?);
    let derived = on_hsm(&ports.hsm, ports, START_PATIENCE, work).await;
    derived.map_err(StartError::Failed)
}
