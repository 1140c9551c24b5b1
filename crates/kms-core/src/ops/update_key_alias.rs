//! UpdateKeyAlias: a new name.

use crate::{
    draft::Draft,
    error::Error,
    key::KeyRecord,
    operation::OperationName,
    ops::{Alias, KeySelector, Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

/// Changes the alias.
#[derive(Debug, Clone)]
pub struct UpdateKeyAlias {
    /// Which key.
    pub key: KeySelector,
    /// The new alias.
    pub alias: Alias,
}

impl Operation for UpdateKeyAlias {
    const NAME: OperationName = OperationName::UpdateKeyAlias;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        let holder = scope.directory().alias(scope.caller(), self.alias.as_str()).await?;
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            let alias = self.alias.as_str();
            // The record decides, for it is what the commit is conditional on; `holder` was read before
            // it and may be stale.
            if record.alias != alias {
                let further = record.aliases.contains_key(alias);
                if further || holder.is_some_and(|holder| holder != record.id) {
                    return Err(Error::AliasExists);
                }
                alias.clone_into(&mut record.alias);
            }
            Ok(())
        })
        .await
    }
}
