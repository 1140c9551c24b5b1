//! DeleteAlias: further aliases go.

use crate::{
    draft::Draft,
    error::{Error, Field},
    key::KeyRecord,
    operation::OperationName,
    ops::{FurtherAlias, KeySelector, Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

/// Removes further aliases of one key: all of them, or none.
#[derive(Debug, Clone)]
pub struct DeleteAlias {
    key: KeySelector,
    aliases: Vec<FurtherAlias>,
}

impl DeleteAlias {
    /// Takes at least one alias.
    pub fn new(key: KeySelector, aliases: Vec<FurtherAlias>) -> Result<Self, Error> {
        if aliases.is_empty() {
            return Err(Error::invalid(Field::AliasList, "must name at least one alias"));
        }
        Ok(Self { key, aliases })
    }
}

impl Operation for DeleteAlias {
    const NAME: OperationName = OperationName::DeleteAlias;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            // One that is named twice is missing the second time.
            for alias in &self.aliases {
                record.aliases.remove(alias.as_str()).ok_or(Error::AliasNotFound)?;
            }
            Ok(())
        })
        .await
    }
}
