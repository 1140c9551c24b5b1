//! A backup for the same token: how its making is recorded, what it holds, and that each of its keys works.
//!
//! Values go as they lie in the store, so each stays authenticated by the token. The seal over the whole keeps
//! values from being left out, or put together from several backups.

use std::time::Duration;

use super::{Call, Service, authorise};
use crate::{
    Timestamp,
    answer::{Held, Recorded, Refused},
    directory::{Directory, commit_error, key_path, tampered},
    draft::Draft,
    error::Error,
    identity::KeystoreId,
    key::{KeyId, KeyRecord, KeyState, Scheme},
    operation::OperationName,
    ports::{Condition, HsmSession, MAX_MUTATIONS, Mutation, Snapshot, StoreKey, Transaction},
    record::{Phase, Verdict},
    settings::MAX_IN_HSM_BUDGET,
};

/// In place of a store key in what the seal is computed of: no value lies there.
const SEAL_PATH: &[u8] = b"dewpoint/v1/backup-seal";
/// How long the HSM may take to prove all versions of one key.
const PROOF_PATIENCE: Duration = Duration::from_secs(60);

/// A backup that was begun: its end has to be recorded, too.
#[allow(missing_debug_implementations, reason = "passed on, never shown")]
pub struct BegunBackup {
    draft: Draft,
    /// The store at one moment.
    pub snapshot: Box<dyn Snapshot>,
}

/// What a stored value is, now that it is known to be authentic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A key, or what remains of a destroyed one.
    Key(Box<KeyRecord>),
    /// A grant.
    Grant,
    /// Names, lists, traces, and what the store says of itself.
    Other,
}

impl Service {
    /// Begins a backup for an operator: in the log, and then with the store as it is at this moment. May take
    /// as long as the store takes to make a snapshot, on the calling thread.
    pub async fn begin_backup(&self, call: Call) -> Result<BegunBackup, Refused> {
        let name = OperationName::CreateBackup;
        let allowed = authorise(&call.caller, name.info().action);
        let dry_run = if call.dry_run { Err(Error::DryRun) } else { Ok(()) };
        let draft = self.draft(name, call.request_id, Some(call.caller));
        if let Err(error) = allowed.and(dry_run) {
            return Err(self.failed(draft, Phase::Complete, error).await);
        }
        self.append(draft.intent()).await.map_err(Refused::unrecorded)?;
        match self.directory.store().snapshot().await {
            Ok(snapshot) => Ok(BegunBackup { draft, snapshot }),
            Err(error) => Err(self.failed(draft, Phase::Outcome, Error::StoreUnavailable(error)).await),
        }
    }

    /// Records that a backup was made, with the digest of the whole. Nobody gets its end before this.
    pub async fn end_backup(&self, begun: BegunBackup, digest: [u8; 32]) -> Result<Recorded<()>, Refused> {
        let mut draft = begun.draft;
        draft.state_digest(digest);
        self.conclude(draft, Phase::Outcome, Held::new(Ok(()))).await
    }

    /// Records that a backup was not made: for an error, or because whoever asked for it went away.
    pub async fn abandon_backup(&self, begun: BegunBackup, error: Option<Error>) -> Refused {
        if let Some(error) = error {
            return self.failed(begun.draft, Phase::Outcome, error).await;
        }
        let mut record = begun.draft.into_record(Phase::Outcome);
        (record.verdict, record.reason) = (Verdict::Failed, Some("ABANDONED"));
        let recorded = self.append(record).await;
        recorded.map_or_else(Refused::unrecorded, |_| Refused::internal("nobody waits for it"))
    }

    async fn failed(&self, draft: Draft, phase: Phase, error: Error) -> Refused {
        match self.conclude::<()>(draft, phase, Held::new(Err(error))).await {
            Err(refused) => refused,
            Ok(_) => Refused::internal("a failure was answered as a success"),
        }
    }

    /// What lies under `path`, if it is authentic.
    pub fn content(&self, path: &[u8], value: &[u8]) -> Result<Content, Error> {
        let payload = self.directory.authentic(path, value)?;
        match path {
            [b'k', b'/', ..] => key_of(path, payload).map(|record| Content::Key(Box::new(record))),
            // What has a key's id and no more counts its grants.
            [b'g', b'/', rest @ ..] if rest.len() > 16 => Ok(Content::Grant),
            _ => Ok(Content::Other),
        }
    }

    /// What the token makes of the digest of a backup up to its seal.
    pub fn backup_seal(&self, digest: &[u8; 32]) -> [u8; 32] {
        self.directory.seal(SEAL_PATH, digest)
    }

    /// Whether it is that; compared in constant time.
    pub fn is_backup_seal(&self, digest: &[u8; 32], seal: &[u8]) -> bool {
        self.directory.is_seal(SEAL_PATH, digest, seal)
    }

    /// Whether a token is configured for this keystore; it may be out of reach.
    pub fn has_token_of(&self, keystore: &KeystoreId) -> bool {
        self.ports.keystores.contains_key(keystore)
    }

    /// Unwraps every version of a key, on the token that it lives on, and lets it compute something; answers
    /// the first version that fails.
    pub async fn prove_key(&self, record: &KeyRecord) -> Result<(), (u32, Error)> {
        let keys: Vec<_> = record.versions.iter().map(|version| record.backing_key(version)).collect();
        let first = keys.first().map_or(0, |key| key.version);
        let prove = move |session: &mut dyn HsmSession| {
            let failed = keys.iter().find_map(|key| {
                session.prove_backing_key(key).err().map(|error| (key.version, Error::from(error)))
            });
            Ok(failed)
        };
        let proved = match &record.keystore {
            None => self.on_hsm(PROOF_PATIENCE, prove).await,
            // Also while the keystore is disabled.
            Some(keystore) => self.on_keystore_token(keystore, PROOF_PATIENCE, prove).await,
        };
        match proved {
            Ok(None) => Ok(()),
            Ok(Some(failed)) => Err(failed),
            Err(error) => Err((first, error)),
        }
    }

    /// Puts values of a backup back into the store, as they lay in it. Budgets of versions that seal in the
    /// HSM are taken for spent: nobody knows how often they were used since.
    pub async fn put_back(&self, values: Vec<(StoreKey, Vec<u8>)>) -> Result<(), Error> {
        let mut commits = Vec::new();
        let mut values = values.into_iter().peekable();
        while values.peek().is_some() {
            let mutations =
                values.by_ref().take(MAX_MUTATIONS).map(|(path, value)| self.restored(path, value));
            let mutations = mutations.collect::<Result<_, Error>>()?;
            // Queued at once: the store's writer commits together what waits.
            commits.push(self.directory.store().transact(Transaction { conditions: Vec::new(), mutations }));
        }
        for commit in commits {
            commit.await.map_err(commit_error)?;
        }
        Ok(())
    }

    fn restored(&self, path: StoreKey, value: Vec<u8>) -> Result<Mutation, Error> {
        if let Content::Key(mut record) = self.content(&path, &value)?
            && spend_budgets(&mut record)
        {
            return self.directory.put(path, &*record);
        }
        Ok(Mutation::Put(path, value))
    }

    /// Lets a key be destroyed once more, of whose destruction at this time a log tells that is newer than the
    /// backup: from now on it exists for nobody, and what destroys keys whose deletion is due does the rest.
    /// Answers whether there was anything to destroy.
    pub async fn destroy_again(&self, id: KeyId, at: Timestamp) -> Result<bool, Error> {
        let stored = self.directory.key_in_passing(id).await?;
        let Some(stored) = stored.filter(|stored| !stored.value.is_destroyed()) else { return Ok(false) };
        let mut record = stored.value.clone();
        (record.state, record.deletion_due) = (KeyState::PendingDeletion, Some(at));
        let mutations = self.directory.put_key(Some(&stored.value), &record)?.mutations;
        let conditions = vec![Condition::Revision(key_path(id), stored.revision)];
        let committed = self.directory.store().transact(Transaction { conditions, mutations }).await;
        committed.map(|_| true).map_err(commit_error)
    }

    /// Whether the token has the root keys that the store's keys may need.
    pub async fn check_root_keys(&self) -> Result<(), super::StartError> {
        let token = self.on_hsm(PROOF_PATIENCE, crate::root::generations).await;
        self.check_roots(&token.map_err(super::StartError::Failed)?).await
    }
}

fn key_of(path: &[u8], payload: &[u8]) -> Result<KeyRecord, Error> {
    let record: KeyRecord = Directory::decode(payload)?;
    if key_path(record.id) != path {
        return Err(tampered("a key record under another key's id"));
    }
    if record.is_destroyed() && !record.versions.is_empty() {
        return Err(tampered("a destroyed key that has material"));
    }
    Ok(record)
}

/// Whether there was one to be spent.
pub(super) fn spend_budgets(record: &mut KeyRecord) -> bool {
    let counted = record.versions.iter_mut().filter(|version| version.scheme == Scheme::InHsm);
    let unspent = counted.filter(|version| version.reserved_uses != MAX_IN_HSM_BUDGET);
    unspent.map(|version| version.reserved_uses = MAX_IN_HSM_BUDGET).count() > 0
}
