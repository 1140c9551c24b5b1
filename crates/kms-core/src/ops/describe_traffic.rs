//! DescribeTraffic: what is left of the caller's traffic budgets.

use crate::{
    draft::Draft,
    error::Error,
    identity::{AccountId, UserId},
    operation::OperationName,
    ops::{Operation, Prepared},
    service::Scope,
};

/// Tells whose budgets may be told; the traffic control keeps them, and tells what is left.
#[derive(Debug, Clone, Copy)]
pub struct DescribeTraffic;

impl Operation for DescribeTraffic {
    const NAME: OperationName = OperationName::DescribeTraffic;
    /// `None`: an operator, who has none.
    type Output = Option<(AccountId, UserId)>;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<Self::Output>, Error> {
        let caller = scope.caller();
        let user = || (caller.account.clone(), caller.user.clone());
        Ok(Prepared::Answer((!caller.is_operator()).then(user)))
    }
}
