//! UpdateKeyAlias: a new name.

use crate::{
    directory::{absent, alias_path},
    draft::Draft,
    error::Error,
    key::{KeyId, KeyRecord},
    operation::OperationName,
    ops::{Alias, Operation, Prepared, manage::manage},
    ports::Mutation,
    service::Scope,
    states,
};

/// Changes the alias.
#[derive(Debug, Clone)]
pub struct UpdateKeyAlias {
    /// Which key.
    pub key_id: KeyId,
    /// The new alias.
    pub alias: Alias,
}

impl Operation for UpdateKeyAlias {
    const NAME: OperationName = OperationName::UpdateKeyAlias;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        let holder = scope.directory().alias(scope.caller(), self.alias.as_str()).await?;
        let caller = scope.caller();
        let put = scope
            .directory()
            .put(alias_path(&caller.account, &caller.region, self.alias.as_str()), &self.key_id)?;
        manage(self.key_id, scope, draft, |record, transaction| {
            record.state = states::after(Self::NAME, record.state)?;
            let old = std::mem::replace(&mut record.alias, self.alias.as_str().to_owned());
            // The record decides, for it is what the commit is conditional on; `holder` was read before
            // it and may be stale.
            if old != self.alias.as_str() {
                if holder.is_some_and(|holder| holder != record.id) {
                    return Err(Error::AliasExists);
                }
                let path = |alias: &str| alias_path(&caller.account, &caller.region, alias);
                transaction.conditions.push(absent(path(self.alias.as_str())));
                transaction.mutations.extend([Mutation::Delete(path(&old)), put]);
            }
            Ok(())
        })
        .await
    }
}
