//! ImportKeyMaterial: material from outside becomes a key's first and only version.

use crate::{
    Timestamp,
    draft::Draft,
    error::{Error, Field},
    import::{ImportToken, bind, bring, unwrap_private_key},
    key::{Import, KeyRecord},
    operation::OperationName,
    ops::{
        KeySelector, Operation, Prepared,
        manage::{plan, stored_key},
    },
    ports::HsmSession,
    secret::SecretBytes,
    service::Scope,
    states,
};

/// Gives a key its material. A key that had material before takes the same only; then what it sealed opens again.
#[derive(Debug, Clone)]
pub struct ImportKeyMaterial {
    /// Which key.
    pub key: KeySelector,
    /// As [`GetParametersForImport`](crate::ops::GetParametersForImport) answered it.
    pub token: Vec<u8>,
    /// The material, wrapped under the public key that was answered with the token; for a key pair, the temporary
    /// key that wraps the private key.
    pub wrapped_material: Vec<u8>,
    /// For a key pair only: the private key as PKCS#8 in DER, wrapped under the temporary key by AES key wrap with
    /// padding.
    // RFC 5649
    pub wrapped_private_key: Option<Vec<u8>>,
    /// When the material will be deleted; `None`: never.
    pub expires: Option<Timestamp>,
}

impl Operation for ImportKeyMaterial {
    const NAME: OperationName = OperationName::ImportKeyMaterial;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        let root = scope.directory().root().await?;
        let (mut record, mut change) = stored_key(&self.key, scope, draft).await?;
        record.check_imported()?;
        record.state = states::after(Self::NAME, record.state_at(scope.now)?)?;
        if record.has_expired_at(scope.now) {
            record.drop_material(); // ahead of its deletion
        }
        // DEW: KMS.2602
        if self.expires.is_some_and(|expires| expires <= scope.now) {
            return Err(Error::invalid(Field::ExpiresAt, "must be later than now"));
        }
        // DEW: KMS.2608
        if self.wrapped_private_key.is_some() != record.spec.is_pair() {
            let problem = "must be given for a key pair, and for no other key";
            return Err(Error::invalid(Field::WrappedPrivateKey, problem));
        }
        change.conditions.push(root.unchanged());
        let (directory, now, asked) = (scope.directory().clone(), scope.now, self.clone());
        let settings = *scope.service.settings();
        Ok(Prepared::change_by(None, move |session| {
            let token = ImportToken::open(session, &asked.token, record.id, now)?;
            let material = asked.unwrap(session, &token)?;
            let check = bind(session, &record, &material)?;
            bring(session, &root, &mut record, now, &settings, &material)?;
            record.import = Some(Import { check, expires: asked.expires });
            let mut plan = plan(&directory, change, &record, record.clone())?;
            plan.evict = Some(token.wrapping_id); // it was for this import
            Ok(plan)
        }))
    }
}

impl ImportKeyMaterial {
    fn unwrap(&self, session: &mut dyn HsmSession, token: &ImportToken) -> Result<SecretBytes, Error> {
        let material = token.unwrap(session, &self.wrapped_material)?;
        match &self.wrapped_private_key {
            None => Ok(material),
            Some(wrapped) => unwrap_private_key(&material, wrapped).ok_or(Error::MaterialInvalid),
        }
    }
}
