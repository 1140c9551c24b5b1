//! Conversions of what is metered.

use std::sync::Arc;

use kms_audit::metering::{Asked, Metered, Month, Place};
use kms_core::{
    Error, Timestamp,
    error::Field,
    identity::AccountId,
    ops::{GetMetering, MeteredAccounts, MeteringSource, PageSize},
    ports::{AuditError, BoxFuture},
};
use kms_proto::v1;

use super::time;
use crate::metering::{Metering, MeteringPage};

/// The most accounts and months of one page, whatever is asked for: an answer stays below 4 MiB.
const MOST_PER_PAGE: usize = 500;
/// How long a month is in a page token.
const MONTH_LENGTH: usize = 7;

/// The months that are asked for, and where to go on.
pub(crate) struct MonthSource {
    metering: Arc<Metering>,
    from: Month,
    until: Month,
    after: Option<Place>,
    limit: usize,
}

impl MeteringSource for MonthSource {
    type Page = MeteringPage;

    fn read(
        &self,
        accounts: MeteredAccounts,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<MeteringPage, AuditError>> {
        let (account, limit) = match accounts {
            MeteredAccounts::All => (None, self.limit),
            MeteredAccounts::One(account) => (Some(account.as_str().into()), self.limit),
            MeteredAccounts::None => (None, 0),
        };
        let (months, after) = (self.from..=self.until, self.after.clone());
        Box::pin(self.metering.read(Asked { months, account, until: now, after, limit }))
    }
}

/// What a request asks for.
pub(crate) fn parse(
    request: v1::GetMeteringRequest,
    metering: &Arc<Metering>,
) -> Result<GetMetering<MonthSource>, Error> {
    let account = Some(request.account).filter(|name| !name.is_empty());
    let parse = |name: String| {
        AccountId::parse(&name).ok_or(Error::invalid(Field::Account, "must be the id of an account"))
    };
    let source = MonthSource {
        metering: metering.clone(),
        from: month(Field::FromMonth, &request.from_month)?.unwrap_or(Month::FIRST),
        until: month(Field::UntilMonth, &request.until_month)?.unwrap_or(Month::LAST),
        after: place(&request.page_token)?,
        limit: PageSize::parse(request.page_size)?.get().min(MOST_PER_PAGE),
    };
    Ok(GetMetering { account: account.map(parse).transpose()?, source })
}

fn month(field: Field, text: &str) -> Result<Option<Month>, Error> {
    let parse = |text: &str| text.parse().map_err(|_| Error::invalid(field, "must be a month, as 2026-11"));
    Some(text).filter(|text| !text.is_empty()).map(parse).transpose()
}

/// The account and month that the page before ended with.
fn place(token: &str) -> Result<Option<Place>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let parsed = token.split_at_checked(MONTH_LENGTH).and_then(|(month, account)| {
        let account = Some(account).filter(|name| !name.is_empty()).map(Arc::from);
        Some(Place { account, month: month.parse().ok()? })
    });
    let problem = "must be empty or the next_page_token of a page before";
    parsed.map(Some).ok_or(Error::invalid(Field::PageToken, problem))
}

/// The response.
pub(crate) fn page(page: MeteringPage) -> v1::GetMeteringResponse {
    let last = page.metered.last().filter(|_| page.is_full);
    let token = last.map(|one| format!("{}{}", one.month, one.account.as_deref().unwrap_or_default()));
    v1::GetMeteringResponse {
        next_page_token: token.unwrap_or_default(),
        months: page.metered.into_iter().map(metered).collect(),
        until: Some(time(page.until)),
        end_seq: page.end,
        whole_since: page.whole_since.map(time),
    }
}

fn metered(one: Metered) -> v1::MeteredMonth {
    let keys =
        one.keys.into_iter().map(|(kind, micros)| v1::MeteredKeys { kind: kind.name().to_owned(), micros });
    let calls = one.calls.into_iter().map(|(operation, calls)| v1::MeteredCalls {
        operation: operation.to_owned(),
        answered: calls.answered,
        refused: calls.refused,
    });
    v1::MeteredMonth {
        account: one.account.as_deref().unwrap_or_default().to_owned(),
        month: one.month.to_string(),
        keys: keys.collect(),
        calls: calls.collect(),
    }
}
