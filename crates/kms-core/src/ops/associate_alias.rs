//! AssociateAlias: a further alias goes from the key that has it to another one.

use crate::{
    directory::{PutKey, absent, alias_path},
    draft::Draft,
    error::Error,
    key::{AliasTimes, KeyRecord},
    operation::OperationName,
    ops::{
        AliasEntry, FurtherAlias, KeySelector, Operation, Plan, Planned, Prepared,
        create_alias::add_alias,
        manage::{KeyChange, custom_key, plan, stored_key},
    },
    service::Scope,
    states,
};

/// Moves a further alias to another key of the account in the region.
#[derive(Debug, Clone)]
pub struct AssociateAlias {
    /// The alias.
    pub alias: FurtherAlias,
    /// The key that is to have it.
    pub target: KeySelector,
}

impl Operation for AssociateAlias {
    const NAME: OperationName = OperationName::AssociateAlias;
    type Output = AliasEntry;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<AliasEntry>, Error> {
        let name = self.alias.as_str();
        let (mut taker, taking) = custom_key(&self.target, scope, draft).await?;
        taker.state = states::after(Self::NAME, taker.state)?;
        let (mut giver, giving) = self.holder(scope, draft).await?;
        // The record of the call names the key that has the alias afterwards.
        draft.key(taker.id, None);
        if giver.id == taker.id {
            return moved(scope, name, &taker, taking);
        }
        // A first alias is a part of its key: UpdateKeyAlias changes it.
        let times = giver.aliases.remove(name).ok_or(Error::AliasNotFound)?;
        let times = AliasTimes { updated: scope.now, ..times };
        add_alias(&mut taker, name, times, scope.quotas().aliases_per_key)?;
        let entry = AliasEntry::of(&taker, name).ok_or(Error::AliasNotFound)?;
        let mut plan = plan(scope.directory(), taking, &taker, entry)?;
        give(scope, name, giving, &giver, &mut plan)?;
        Ok(Prepared::Change(Planned::Ready(plan)))
    }
}

impl AssociateAlias {
    /// The key that has the alias.
    async fn holder(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<(KeyRecord, KeyChange), Error> {
        let named = KeySelector::Alias(self.alias.alias().clone());
        stored_key(&named, scope, draft).await.map_err(|error| match error {
            Error::KeyNotFound => Error::AliasNotFound,
            error => error,
        })
    }
}

/// The alias is where it is to be: nothing changes.
fn moved(
    scope: &Scope<'_>,
    name: &str,
    record: &KeyRecord,
    change: KeyChange,
) -> Result<Prepared<AliasEntry>, Error> {
    let entry = AliasEntry::of(record, name).ok_or(Error::AliasNotFound)?;
    Ok(Prepared::Change(Planned::Ready(plan(scope.directory(), change, record, entry)?)))
}

/// Lets the giver's change happen in the transaction of the taker's `plan`, and before it: the taker's entry of the
/// name is the one that stays.
fn give(
    scope: &Scope<'_>,
    name: &str,
    giving: KeyChange,
    giver: &KeyRecord,
    plan: &mut Plan<AliasEntry>,
) -> Result<(), Error> {
    let PutKey { conditions, mutations, .. } = scope.directory().put_key(Some(giving.before()), giver)?;
    let transaction = &mut plan.transaction;
    // The name is not free. That the giver still has it follows from the giver's revision.
    let taken = absent(alias_path(&plan.output.account, &plan.output.region, name));
    transaction.conditions.retain(|condition| *condition != taken);
    transaction.conditions.extend(conditions.into_iter().chain(giving.conditions));
    transaction.mutations.splice(0..0, mutations);
    Ok(())
}
