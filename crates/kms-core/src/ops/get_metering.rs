//! GetMetering: what billing would need of the accounts that the caller may see.

use std::fmt;

use crate::{
    Timestamp,
    draft::Draft,
    error::Error,
    identity::AccountId,
    operation::OperationName,
    ops::{Operation, Prepared},
    ports::{AuditError, BoxFuture},
    service::Scope,
};

/// Whose sums a caller may see, of those that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeteredAccounts {
    /// All accounts', and those of calls whose caller is not known: of an operator.
    All,
    /// This account's.
    One(AccountId),
    /// Nobody's: it asks for another account than its own.
    None,
}

/// Where the sums are: brought by the transport, which knows the months and the size of a page.
pub trait MeteringSource: Send + Sync + 'static {
    /// What is read.
    type Page: Send + 'static;

    /// Reads the sums of `accounts`; keys that live are counted up to `now`.
    fn read(
        &self,
        accounts: MeteredAccounts,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Self::Page, AuditError>>;
}

/// Reads what the log tells of keys and calls, summed up by account and month. The reading is recorded when it is done,
/// so it does not count itself.
#[derive(Clone)]
pub struct GetMetering<S> {
    /// Only this account's.
    pub account: Option<AccountId>,
    /// Where.
    pub source: S,
}

impl<S> fmt::Debug for GetMetering<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetMetering").field("account", &self.account).finish_non_exhaustive()
    }
}

impl<S: MeteringSource> Operation for GetMetering<S> {
    const NAME: OperationName = OperationName::GetMetering;
    type Output = S::Page;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<S::Page>, Error> {
        let caller = scope.caller();
        let accounts = match &self.account {
            None if caller.is_operator() => MeteredAccounts::All,
            None => MeteredAccounts::One(caller.account.clone()),
            Some(asked) if caller.is_operator() || *asked == caller.account => {
                MeteredAccounts::One(asked.clone())
            }
            Some(_) => MeteredAccounts::None,
        };
        Ok(Prepared::Answer(self.source.read(accounts, scope.now).await?))
    }
}
