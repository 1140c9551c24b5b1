//! ReEncrypt: seals what a ciphertext holds under another key or context, and answers nothing of it in plain.

use std::sync::Arc;

use crate::{
    ciphertext::{Header, Purpose, TAG_BYTES},
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::{BackingKey, KeyId, KeyRecord},
    operation::OperationName,
    ops::{
        KeySelector, Operation, Place, Prepared,
        sealing::{note_moved, open, opener, seal_as},
    },
    ports::HsmSession,
    secret::SecretBytes,
    service::Scope,
};

/// What can be sealed anew: all that callers have.
const PURPOSES: &[Purpose] =
    &[Purpose::DataKey, Purpose::DataKeyPair, Purpose::BucketKey, Purpose::SmallData];

/// A ciphertext for the same purpose, under another key or context.
#[derive(Debug)]
pub struct ReEncrypted {
    /// The key that sealed it before.
    pub source_key_id: KeyId,
    /// The version that sealed it before.
    pub source_key_version: u32,
    /// The key that sealed it now.
    pub key_id: KeyId,
    /// The version that sealed it now.
    pub key_version: u32,
    /// Header, sealed bytes, tag.
    pub ciphertext: Vec<u8>,
}

/// Opens a ciphertext and seals its content anew.
#[derive(Debug, Clone)]
pub struct ReEncrypt {
    header: Header,
    sealed: Vec<u8>,
    source_key: Option<KeySelector>,
    source_context: EncryptionContext,
    destination_key: KeySelector,
    destination_context: EncryptionContext,
}

impl ReEncrypt {
    /// Takes a whole ciphertext of any purpose; `source_key` is the key that must have sealed it, if the caller
    /// says so.
    pub fn new(
        ciphertext: &[u8],
        source_key: Option<KeySelector>,
        source_context: EncryptionContext,
        destination_key: KeySelector,
        destination_context: EncryptionContext,
    ) -> Result<Self, Error> {
        let (header, sealed) = Header::parse(ciphertext)?;
        let sealed = sealed.to_vec();
        Ok(Self { header, sealed, source_key, source_context, destination_key, destination_context })
    }

    /// How long what is sealed is, in bytes, if the ciphertext is sound: no secret.
    pub fn plaintext_length(&self) -> usize {
        self.sealed.len().saturating_sub(TAG_BYTES)
    }

    /// What opens the ciphertext, with everything that is needed for it.
    async fn source(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Source, Error> {
        // The source is decided by its own context.
        let scope = &scope.about(&self.source_context);
        let found = match &self.source_key {
            Some(selector) => scope.key(selector, draft).await,
            None => scope.key_of_material(self.header.material, draft).await,
        };
        let key = found.map_err(|error| scope.hide(draft, error))?;
        // Whoever may not open it may not move it under another key either.
        let small_data = self.header.purpose == Purpose::SmallData;
        let opening = match self.header.purpose {
            Purpose::SmallData => OperationName::DecryptData,
            Purpose::BucketKey => OperationName::DecryptBucketKey,
            _ => OperationName::DecryptDataKey,
        };
        let alias = self.source_key.as_ref().and_then(KeySelector::as_alias);
        scope.refuse_if_denied(opening, &key, alias, draft)?;
        if small_data && !scope.may_by(opening, &key, alias) {
            return Err(Error::denied_on_key(opening.info().action));
        }
        key.check_cipher(OperationName::ReEncrypt)?;
        draft.key_opens();
        let backing_key = opener(&key, &self.header, PURPOSES)?;
        draft.version_opens(self.header.version);
        Ok(Source {
            backing_key,
            place: key.keystore.clone(),
            key_id: key.id,
            header: self.header,
            context: self.source_context.clone(),
            sealed: self.sealed.clone(),
        })
    }

    async fn destination(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<Option<Arc<KeyRecord>>, Error> {
        let sealing = match self.header.purpose {
            Purpose::SmallData => OperationName::EncryptData,
            Purpose::BucketKey => OperationName::GenerateBucketKey,
            _ => OperationName::EncryptDataKey,
        };
        let key = scope.key_or_default(&self.destination_key, Some(sealing), draft).await?;
        key.check_cipher(OperationName::ReEncrypt)?;
        scope.counted(key, draft).await
    }
}

/// A ciphertext that is to be opened.
struct Source {
    key_id: KeyId,
    place: Place,
    header: Header,
    backing_key: BackingKey,
    context: EncryptionContext,
    sealed: Vec<u8>,
}

impl Source {
    fn open(&self, session: &mut dyn HsmSession) -> Result<SecretBytes, Error> {
        open(session, &self.header, &self.backing_key, &self.context, &self.sealed)
    }

    fn seal_anew(
        &self,
        session: &mut dyn HsmSession,
        draft: &mut Draft,
        key: &KeyRecord,
        context: &EncryptionContext,
        plaintext: &SecretBytes,
    ) -> Result<ReEncrypted, Error> {
        let (key_version, ciphertext) =
            seal_as(self.header.purpose, session, draft, key, context, plaintext)?;
        note_moved(self.header.purpose, plaintext, draft);
        let (source_key_id, source_key_version) = (self.key_id, self.header.version);
        Ok(ReEncrypted { source_key_id, source_key_version, key_id: key.id, key_version, ciphertext })
    }
}

impl Operation for ReEncrypt {
    const NAME: OperationName = OperationName::ReEncrypt;
    type Output = ReEncrypted;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.destination_context)
    }

    fn source_context(&self) -> Option<&EncryptionContext> {
        Some(&self.source_context)
    }

    fn may_change(&self) -> bool {
        self.destination_key.may_make()
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<ReEncrypted>, Error> {
        let source = self.source(scope, draft).await?;
        let Some(key) = self.destination(scope, draft).await? else { return Ok(Prepared::ToBeDriven) };
        let context = self.destination_context.clone();
        let place = key.keystore.clone();
        if source.place == place {
            return Ok(Prepared::by_use(place, move |session, draft| {
                let plaintext = source.open(session)?;
                source.seal_anew(session, draft, &key, &context, &plaintext)
            }));
        }
        if scope.call.dry_run {
            return Err(Error::DryRun); // nothing is opened
        }
        // Two tokens: what the one opened goes to the other, wiped on the way whatever happens.
        let source_place = source.place.clone();
        let open = move |session: &mut dyn HsmSession| Ok((source.open(session)?, source));
        let (plaintext, source) = scope.service.on_hsm_at(&source_place, scope.call.patience, open).await?;
        Ok(Prepared::by_use(place, move |session, draft| {
            source.seal_anew(session, draft, &key, &context, &plaintext)
        }))
    }
}
