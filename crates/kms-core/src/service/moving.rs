//! A whole store leaves one token and arrives at another: what goes along, and how each side records it.
//!
//! The shell reads and writes the backup and moves the backing keys; here it is known what a stored value
//! is, and that each is authenticated by the token that it lies under.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Deployment, Service, copying::spend_budgets};
use crate::{
    Timestamp,
    directory::{DEPLOYMENT_PATH, Directory, MOVED_PATH, commit_error, key_path, outbox_path, tampered},
    error::Error,
    import::CheckKey,
    key::{BackingKey, KeyRecord, KeyVersion, WrappedKey},
    operation::OperationName,
    ports::{MAX_MUTATIONS, StoreKey, Transaction},
    record::{Phase, RequestId, Verdict},
};

/// Where it is said which backup a store was made of.
const ORIGIN_PATH: &[u8] = b"m/origin";
/// What a backup holds: keys, aliases, default keys, keystores, the list of custom keys, idempotency tokens, what falls due,
/// grants, replicas, the lists of destroyed keys and of tags.
const CARRIED: [&[u8]; 13] =
    [b"a/", b"d/", b"g/", b"h/", b"i/", b"k/", b"n/", b"p/", b"r/", b"s/", b"t/", b"x/", b"y/"];
/// How long the HSM may take for the key of what recognises imported material.
const CHECK_KEY_PATIENCE: Duration = Duration::from_secs(60);
/// What belongs to one deployment on one token, and is made anew on another.
const LEFT_BEHIND: [&[u8]; 5] = [b"c/", b"m/", b"o/", b"u/", b"w/"];

/// A stored value without the MAC of the store that it lay in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    path: StoreKey,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Key(Box<KeyRecord>),
    /// As it is encoded.
    Other(Vec<u8>),
}

impl Carried {
    /// What lies under `path`, encoded as in a store; refuses what no store of this version holds.
    pub fn parse(path: StoreKey, payload: Vec<u8>) -> Result<Self, Error> {
        if !CARRIED.iter().any(|prefix| path.starts_with(prefix)) {
            return Err(tampered("a kind of value that this version does not know"));
        }
        let content = if path.starts_with(b"k/") {
            let record: KeyRecord = Directory::decode(&payload)?;
            if key_path(record.id) != path {
                return Err(tampered("a key record under another key's id"));
            }
            Content::Key(Box::new(record))
        } else {
            Content::Other(payload)
        };
        Ok(Self { path, content })
    }

    /// The store key.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The value as a store encodes it.
    pub fn payload(&self) -> Result<Vec<u8>, Error> {
        match &self.content {
            Content::Key(record) => Directory::encode(record),
            Content::Other(payload) => Ok(payload.clone()),
        }
    }

    /// The key record, if it is one.
    pub fn key(&self) -> Option<&KeyRecord> {
        match &self.content {
            Content::Key(record) => Some(record),
            Content::Other(_) => None,
        }
    }

    /// The key versions whose material moves with it: none of a keystore's key, for a keystore's token is another one
    /// and stays where it is.
    pub fn moving_versions(&self) -> &[KeyVersion] {
        let moving = self.key().filter(|record| record.keystore.is_none());
        moving.map_or(&[], |record| &record.versions)
    }

    /// Replaces the wrapped material of each key version, in order, by what `wrap` makes of it.
    pub fn rewrap<E>(&mut self, mut wrap: impl FnMut(&BackingKey) -> Result<WrappedKey, E>) -> Result<(), E> {
        let Content::Key(record) = &mut self.content else { return Ok(()) };
        if record.keystore.is_some() {
            return Ok(()); // see `moving_versions`
        }
        for index in 0..record.versions.len() {
            record.versions[index].wrapped = wrap(&record.backing_key(&record.versions[index]))?;
        }
        Ok(())
    }

    /// Lets imported material be recognised on the other side, too, by what is kept of it: also that of a key which has
    /// none at the moment. `false`: what is kept does not open under `from`, and stays as it is; no material will be
    /// taken for the same there.
    pub fn rewrap_check(&mut self, from: &CheckKey, to: &CheckKey) -> bool {
        let Content::Key(record) = &mut self.content else { return true };
        let Some(import) = &mut record.import else { return true };
        let moved = from.rewrap(&import.check, to);
        import.check = moved.unwrap_or(import.check);
        moved.is_some()
    }

    /// Lets no destruction of a key be called final that had material: what the other token's root keys wrapped opens as
    /// long as they live, and nobody here knows that.
    pub fn never_final(&mut self) {
        let Content::Key(record) = &mut self.content else { return };
        let destroyed = record.destroyed.as_mut().filter(|destroyed| destroyed.root_generation > 0);
        if let Some(tombstone) = destroyed {
            tombstone.root_generation = u32::MAX;
        }
    }

    /// When the newest of the key and its versions was made, if it is a key.
    pub fn newest(&self) -> Option<Timestamp> {
        self.key().and_then(|record| record.times().max())
    }

    /// Takes the budget of versions that seal in the HSM for spent: nobody knows how often the store that
    /// this comes from, or another copy of it, has used them since. Their next use makes a new version.
    pub fn spend_budgets(&mut self) {
        if let Content::Key(record) = &mut self.content {
            spend_budgets(record);
        }
    }
}

/// Where a store came from.
#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    deployment: Uuid,
    backup: [u8; 32],
}

impl Service {
    /// The digest of the backup that this store was made of.
    pub(crate) async fn made_of(&self) -> Result<Option<[u8; 32]>, Error> {
        let origin = self.directory.read::<Origin>(ORIGIN_PATH.to_vec()).await?;
        Ok(origin.map(|stored| stored.value.backup))
    }

    /// Which deployment this store is.
    pub async fn deployment(&self) -> Result<Uuid, Error> {
        let found = self.directory.read::<Deployment>(DEPLOYMENT_PATH.to_vec()).await?;
        found.map(|stored| stored.value.id).ok_or_else(|| tampered("the deployment record is gone"))
    }

    /// Under which key this store keeps by what imported material is recognised.
    pub async fn check_key(&self) -> Result<CheckKey, Error> {
        self.on_hsm(CHECK_KEY_PATIENCE, |session| CheckKey::of_token(session)).await
    }

    /// A page of what goes along, in the order of the store's keys, and where the next page begins; `None`
    /// after the last one.
    pub async fn carried(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<Carried>, Option<StoreKey>), Error> {
        let entries = self.directory.index(b"", after, limit).await?;
        let next = entries.last().map(|(path, _)| path.clone());
        let mut carried = Vec::with_capacity(entries.len());
        for (path, versioned) in entries {
            let payload = self.directory.authentic(&path, &versioned.value)?.to_vec();
            if !LEFT_BEHIND.iter().any(|prefix| path.starts_with(prefix)) {
                carried.push(Carried::parse(path, payload)?);
            }
        }
        Ok((carried, next))
    }

    /// Puts values into this store, authenticated by this token.
    pub async fn take_in(&self, values: &[Carried]) -> Result<(), Error> {
        let mut commits = Vec::new();
        for values in values.chunks(MAX_MUTATIONS) {
            let mutations = values
                .iter()
                .map(|value| Ok(self.directory.put_payload(value.path.clone(), &value.payload()?)));
            let mutations = mutations.collect::<Result<_, Error>>()?;
            // Queued at once: the store's writer commits together what waits.
            commits.push(self.directory.store().transact(Transaction { conditions: Vec::new(), mutations }));
        }
        for commit in commits {
            commit.await.map_err(commit_error)?;
        }
        Ok(())
    }

    /// Says in the store what it was made of, and leaves the trace by which a restart knows that `request`
    /// was done. The last change before the store gets its name. `moved_until`: when the newest key was made of those
    /// that came from another token.
    pub async fn seal_arrival(
        &self,
        request: RequestId,
        deployment: Uuid,
        backup: [u8; 32],
        moved_until: Option<Timestamp>,
    ) -> Result<(), Error> {
        let origin = self.directory.put(ORIGIN_PATH.to_vec(), &Origin { deployment, backup })?;
        let trace = self.directory.put(outbox_path(request), &backup)?;
        let moved = moved_until.map(|until| self.directory.put(MOVED_PATH.to_vec(), &until)).transpose()?;
        let mutations = [origin, trace].into_iter().chain(moved).collect();
        let transaction = Transaction { conditions: Vec::new(), mutations };
        self.directory.store().transact(transaction).await.map(drop).map_err(commit_error)
    }

    /// Records that a move is about to begin; `backup` is the digest of what arrives.
    pub async fn record_begin_of_move(
        &self,
        operation: OperationName,
        request: RequestId,
        backup: Option<[u8; 32]>,
    ) -> Result<(), Error> {
        let mut draft = self.draft(operation, request, None);
        if let Some(digest) = backup {
            draft.state_digest(digest);
        }
        self.append(draft.intent()).await?;
        Ok(())
    }

    /// Records how a move ended: with which backup, or with none.
    pub async fn record_end_of_move(
        &self,
        operation: OperationName,
        request: RequestId,
        backup: Option<[u8; 32]>,
    ) -> Result<(), Error> {
        let mut record = self.draft(operation, request, None).into_record(Phase::Outcome);
        record.state_digest = backup;
        if backup.is_none() {
            record.verdict = Verdict::Failed;
            record.reason = Some("NOT_COMMITTED");
        }
        self.append(record).await?;
        Ok(())
    }
}
