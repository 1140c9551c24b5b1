//! DeleteImportedKeyMaterial: imported material goes; the key waits for the same material again.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

/// Deletes imported material.
#[derive(Debug, Clone)]
pub struct DeleteImportedKeyMaterial {
    /// Which key's.
    pub key: KeySelector,
}

impl Operation for DeleteImportedKeyMaterial {
    const NAME: OperationName = OperationName::DeleteImportedKeyMaterial;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.check_imported()?;
            // DEW: KMS.2702
            if record.spec.is_pair() {
                return Err(Error::MaterialNotDeletable);
            }
            record.state = states::after(Self::NAME, record.state)?;
            record.drop_material();
            Ok(())
        })
        .await
    }
}
