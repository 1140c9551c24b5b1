//! ReEncrypt: seals what a ciphertext holds under another key or context, and answers nothing of it in plain.

use std::sync::Arc;

use crate::{
    ciphertext::Purpose,
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{
        KeySelector, Operation, Prepared,
        sealed::{Opener, Sealed},
        sealing::{note_moved, seal_as},
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
    source: Sealed,
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
        let source = Sealed::parse(ciphertext, source_key, source_context)?;
        Ok(Self { source, destination_key, destination_context })
    }

    /// How long what is sealed is, in bytes, if the ciphertext is sound: no secret.
    pub fn plaintext_length(&self) -> usize {
        self.source.plaintext_length()
    }

    /// What opens the ciphertext, with everything that is needed for it.
    async fn opener(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Opener, Error> {
        let source = &self.source;
        // The source is decided by its own context.
        let scope = &scope.about(&source.context);
        let key = source.key(scope, draft).await.map_err(|error| scope.hide(draft, error))?;
        // Whoever may not open it may not move it under another key either.
        let (opening, alias) = (source.opening(), source.alias());
        scope.refuse_if_denied(opening, &key, alias, draft)?;
        if source.header.purpose == Purpose::SmallData && !scope.may_by(opening, &key, alias) {
            return Err(Error::denied_on_key(opening.info().action));
        }
        key.check_cipher(OperationName::ReEncrypt, scope.now)?;
        draft.key_opens();
        let opener = source.opener(&key, PURPOSES)?;
        draft.version_opens(source.header.version);
        Ok(opener)
    }

    async fn destination(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<Option<Arc<KeyRecord>>, Error> {
        let sealing = Some(self.source.sealing());
        let key = scope.key_or_default(&self.destination_key, sealing, draft).await?;
        key.check_cipher(OperationName::ReEncrypt, scope.now)?;
        scope.counted(key, draft).await
    }
}

fn seal_anew(
    source: &Opener,
    session: &mut dyn HsmSession,
    draft: &mut Draft,
    key: &KeyRecord,
    context: &EncryptionContext,
    plaintext: &SecretBytes,
) -> Result<ReEncrypted, Error> {
    let header = &source.header;
    let (key_version, ciphertext) = seal_as(header.purpose, session, draft, key, context, plaintext)?;
    note_moved(header.purpose, plaintext, draft);
    let (source_key_id, source_key_version) = (source.key_id, header.version);
    Ok(ReEncrypted { source_key_id, source_key_version, key_id: key.id, key_version, ciphertext })
}

impl Operation for ReEncrypt {
    const NAME: OperationName = OperationName::ReEncrypt;
    type Output = ReEncrypted;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.destination_context)
    }

    fn source_context(&self) -> Option<&EncryptionContext> {
        Some(&self.source.context)
    }

    fn may_change(&self) -> bool {
        self.destination_key.may_make()
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<ReEncrypted>, Error> {
        let source = self.opener(scope, draft).await?;
        let Some(key) = self.destination(scope, draft).await? else { return Ok(Prepared::ToBeDriven) };
        let context = self.destination_context.clone();
        let place = key.keystore.clone();
        if source.place == place {
            return Ok(Prepared::by_use(place, move |session, draft| {
                let plaintext = source.open(session)?;
                seal_anew(&source, session, draft, &key, &context, &plaintext)
            }));
        }
        // The source is used before this call comes to a worker that leaves a record of it: only a call that is driven to
        // its end does that. A dry run is not, and opens nothing.
        if !scope.driven {
            return Ok(Prepared::ToBeDriven);
        }
        // Two tokens: what the one opened goes to the other, wiped on the way whatever happens.
        let source_place = source.place.clone();
        let open = move |session: &mut dyn HsmSession| Ok((source.open(session)?, source));
        let (plaintext, source) = scope.service.on_hsm_at(&source_place, scope.call.patience, open).await?;
        Ok(Prepared::by_use(place, move |session, draft| {
            seal_anew(&source, session, draft, &key, &context, &plaintext)
        }))
    }
}
