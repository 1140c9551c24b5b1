//! DeleteImportedKeyMaterial: imported material goes; the key waits for the same material again.

use crate::{
    draft::Draft,
    error::Error,
    key::{KeyClass, KeyId, KeyRecord},
    operation::OperationName,
    ops::{Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

/// Deletes imported material.
#[derive(Debug, Clone, Copy)]
pub struct DeleteImportedKeyMaterial {
    /// Which key's.
    pub key_id: KeyId,
}

impl Operation for DeleteImportedKeyMaterial {
    const NAME: OperationName = OperationName::DeleteImportedKeyMaterial;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key_id.into(), scope, draft, |record, _| {
            record.check_imported()?;
            // DEW: KMS.2702
            if !matches!(record.spec.class(), KeyClass::Symmetric | KeyClass::Mac) {
                return Err(Error::MaterialNotDeletable);
            }
            record.state = states::after(Self::NAME, record.state)?;
            record.drop_material();
            Ok(())
        })
        .await
    }
}
