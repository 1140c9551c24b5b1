//! ImportKeyMaterial: material from outside becomes a key's first and only version.

use subtle::ConstantTimeEq as _;

use crate::{
    Timestamp,
    draft::Draft,
    error::{Error, Field},
    import::{ImportToken, backing, check},
    key::{Import, KeyRecord},
    operation::OperationName,
    ops::{
        KeySelector, Operation, Prepared,
        manage::{plan, stored_key},
    },
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
    /// The material, wrapped under the public key that was answered with the token.
    pub wrapped_material: Vec<u8>,
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
        record.state = states::after(Self::NAME, record.state)?;
        // DEW: KMS.2602
        if self.expires.is_some_and(|expires| expires <= scope.now) {
            return Err(Error::invalid(Field::ExpiresAt, "must be later than now"));
        }
        change.conditions.push(root.unchanged());
        let (directory, now, asked) = (scope.directory().clone(), scope.now, self.clone());
        Ok(Prepared::change_by(None, move |session| {
            let token = ImportToken::open(session, &asked.token, record.id, now)?;
            let material = token.unwrap(session, &asked.wrapped_material)?;
            let check = check(session, record.material, &material)?;
            let (scheme, kind, backing) = backing(record.spec, material)?;
            // DEW: KMS.2606
            if record.import.as_ref().is_some_and(|before| !bool::from(before.check.ct_eq(&check))) {
                return Err(Error::MaterialMismatch);
            }
            let wrapped = root.accept(session.import_backing_key(kind, &backing)?)?;
            record.add_version(now, scheme, wrapped);
            record.import = Some(Import { check, expires: asked.expires });
            let mut plan = plan(&directory, change, &record, record.clone())?;
            plan.evict = Some(token.wrapping_id); // it was for this import
            Ok(plan)
        }))
    }
}
