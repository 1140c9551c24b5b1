//! Rewrap: one item of a campaign: what an older version sealed is sealed by the current one, and nobody sees it.

use crate::{
    ciphertext::{Header, Purpose},
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{
        KeySelector, Operation, Prepared,
        sealed::Sealed,
        sealing::{note_moved, seal},
    },
    ports::StoreError,
    record::Moved,
    service::Scope,
};

/// Moves a ciphertext under the current version of its key. Data keys, key pairs, bucket keys and small data alike.
#[derive(Debug, Clone)]
pub struct Rewrap(Sealed);

/// A ciphertext under the current version.
#[derive(Debug)]
pub struct Rewrapped {
    /// The key that seals it.
    pub key_id: KeyId,
    /// The version that sealed it before.
    pub from_version: u32,
    /// The version that seals it now; the same: it is answered unchanged, and was not opened.
    pub to_version: u32,
    /// Header, sealed bytes, tag.
    pub ciphertext: Vec<u8>,
}

impl Rewrap {
    /// Takes a whole ciphertext; `key` is the key that must have sealed it, if the caller says so.
    pub fn new(
        ciphertext: &[u8],
        key: Option<KeySelector>,
        encryption_context: EncryptionContext,
    ) -> Result<Self, Error> {
        Sealed::parse(ciphertext, key, encryption_context).map(Self)
    }

    /// Refuses what `key` cannot have sealed, with the one error of all failed openings.
    fn check_origin(&self, key: &KeyRecord) -> Result<(), Error> {
        let header = &self.0.header;
        let fits = header.purpose != Purpose::KeyMaterial
            && key.material == header.material
            && key.cipher()? == header.cipher
            && key.version(header.version).is_some_and(|version| version.scheme == header.scheme);
        if fits { Ok(()) } else { Err(Error::CannotDecrypt) }
    }
}

impl Operation for Rewrap {
    const NAME: OperationName = OperationName::Rewrap;
    type Output = Rewrapped;

    fn context(&self) -> Option<&EncryptionContext> {
        Some(&self.0.context)
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<Rewrapped>, Error> {
        let sealed = &self.0;
        let key = sealed.key(scope, draft).await?;
        scope.refuse_if_denied(sealed.opening(), &key, sealed.alias(), draft)?;
        scope.refuse_if_denied(sealed.sealing(), &key, sealed.alias(), draft)?;
        key.check_cipher(Self::NAME, scope.now)?;
        self.check_origin(&key)?;
        let old = sealed.header;
        if key.current_version().is_some_and(|version| version.number == old.version) {
            draft.key(key.id, Some(old.version));
            draft.existed();
            let (from_version, to_version, ciphertext) = (old.version, old.version, sealed.ciphertext());
            return Ok(Prepared::Answer(Rewrapped { key_id: key.id, from_version, to_version, ciphertext }));
        }
        if scope.service.usage().is_full() {
            let detail = "too many moved ciphertexts wait to be counted in the store".to_owned();
            return Err(Error::StoreUnavailable(StoreError::Unavailable { detail }));
        }
        let Some(key) = scope.counted(key, draft).await? else { return Ok(Prepared::ToBeDriven) };
        let from = key.version(old.version).ok_or(Error::CannotDecrypt)?;
        let opener = sealed.opened_by(&key, key.backing_key(from));
        let context = sealed.context.clone();
        Ok(Prepared::by_use(key.keystore.clone(), move |session, draft| {
            let to = key.current_version().ok_or(Error::Internal { detail: "a key lost its versions" })?;
            draft.key(key.id, Some(to.number));
            let plaintext = opener.open(session)?;
            let mut random = [0; 28];
            session.fill_random(&mut random)?;
            let new = Header::fresh(to.scheme, old.cipher, old.purpose, key.material, to.number, &random);
            let ciphertext = seal(session, &new, &key.backing_key(to), &context, &plaintext)?;
            let mut item = [0; 8];
            item.copy_from_slice(&old.derivation_nonce[..8]);
            draft.moved(Moved { from_version: old.version, item });
            note_moved(old.purpose, &plaintext, draft);
            let (from_version, to_version) = (old.version, to.number);
            Ok(Rewrapped { key_id: key.id, from_version, to_version, ciphertext })
        }))
    }
}
