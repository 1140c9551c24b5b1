//! CreateAlias: one more name of a key.

use crate::{
    draft::Draft,
    error::{Error, Quota},
    key::{AliasTimes, KeyRecord},
    operation::OperationName,
    ops::{
        AliasEntry, FurtherAlias, KeySelector, Operation, Planned, Prepared,
        manage::{custom_key, plan},
    },
    service::Scope,
    states,
};

/// How many further aliases a key may have. DEW: aliases per key.
const MAX_ALIASES: usize = 50;

/// Adds a further alias.
#[derive(Debug, Clone)]
pub struct CreateAlias {
    /// To which key.
    pub key: KeySelector,
    /// The new alias.
    pub alias: FurtherAlias,
}

impl Operation for CreateAlias {
    const NAME: OperationName = OperationName::CreateAlias;
    type Output = AliasEntry;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<AliasEntry>, Error> {
        let alias = self.alias.as_str();
        let (mut record, change) = custom_key(&self.key, scope, draft).await?;
        record.state = states::after(Self::NAME, record.state)?;
        if scope.directory().alias(scope.caller(), alias).await?.is_some() {
            return Err(Error::AliasExists);
        }
        add_alias(&mut record, alias, AliasTimes { created: scope.now, updated: scope.now })?;
        let entry = AliasEntry::of(&record, alias).ok_or(Error::AliasNotFound)?;
        Ok(Prepared::Change(Planned::Ready(plan(scope.directory(), change, &record, entry)?)))
    }
}

/// Gives `record` an alias that it does not have, if it may have one more.
pub(crate) fn add_alias(record: &mut KeyRecord, alias: &str, times: AliasTimes) -> Result<(), Error> {
    let used = record.aliases.len();
    if used >= MAX_ALIASES {
        return Err(Error::QuotaExceeded(Quota {
            what: "aliases of the key",
            limit: MAX_ALIASES as u64,
            used: used as u64,
        }));
    }
    record.aliases.insert(alias.to_owned(), times);
    Ok(())
}
