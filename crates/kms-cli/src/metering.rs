//! `dewctl usage DIR` and `dewctl usage --from-server`: what billing would need, counted from the log.

use std::path::{Path, PathBuf};

use kms_audit::{
    end,
    metering::{Asked, Meter, Metered, Month, Timestamp, count},
};
use kms_client::{
    Client,
    proto::{GetMeteringRequest, GetMeteringResponse, MeteredCalls, MeteredKeys, MeteredMonth},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    audit::parse_time,
    connection::ConnectionOptions,
    output::{Failure, print, show_all},
    rotation::at,
};

/// A key-day in microseconds.
const DAY: u64 = 86_400_000_000;
/// The most accounts and months of a page.
const PAGE: u32 = 1000;
/// What the table and the CSV tell: one quantity a row.
const COLUMNS: [&str; 6] = ["month", "account", "item", "name", "unit", "quantity"];

/// What to count, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct MeteringOptions {
    /// Count the log in this data directory, its `audit` directory, or a copy; the service may be running. Of a log whose
    /// beginning was archived, name the archive's directory first
    #[arg(value_name = "DIR", conflicts_with = "from_server")]
    directories: Vec<PathBuf>,
    /// Ask the service: as a user for its account, as an operator for all
    #[arg(long)]
    from_server: bool,
    /// With --from-server and --dev-json: as the operator
    #[arg(long, requires = "from_server")]
    operator: bool,
    /// Only this month (UTC), as 2026-11
    #[arg(long, value_name = "MONTH", conflicts_with_all = ["from_month", "until_month"])]
    month: Option<Month>,
    /// From this month on
    #[arg(long, value_name = "MONTH")]
    from_month: Option<Month>,
    /// Up to this month, with it
    #[arg(long, value_name = "MONTH")]
    until_month: Option<Month>,
    /// Only this account
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    account_id: String,
    /// With directories: count keys that live up to this time (RFC 3339), and not only to the latest record
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "from_server")]
    until: Option<OffsetDateTime>,
    /// As CSV, one quantity a line
    #[arg(long)]
    csv: bool,
}

impl MeteringOptions {
    /// Whether any of this is wanted.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.from_server || !self.directories.is_empty()
    }

    fn first(&self) -> Option<Month> {
        self.month.or(self.from_month)
    }

    fn last(&self) -> Option<Month> {
        self.month.or(self.until_month)
    }
}

/// Counts, or asks; and shows it.
pub(crate) async fn run(
    options: &MeteringOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let metered = if options.from_server {
        let client = if options.operator { connection.operator().await? } else { connection.user().await? };
        ask(options, &client).await?
    } else {
        read(options)?
    };
    show(&metered, options.csv, as_json)?;
    if metered.whole_since.is_some() {
        eprintln!(
            "dewctl: whole since {} only: keys that were made before may be missing",
            text(&at(metered.whole_since.as_ref()))
        );
    }
    Ok(())
}

/// All pages as one.
async fn ask(options: &MeteringOptions, client: &Client) -> Result<GetMeteringResponse, Failure> {
    let named = |month: Option<Month>| month.map(|month| month.to_string()).unwrap_or_default();
    let mut request = GetMeteringRequest {
        account: options.account_id.clone(),
        from_month: named(options.first()),
        until_month: named(options.last()),
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut months = Vec::new();
    loop {
        let mut page = client.metering(request.clone()).await?;
        months.append(&mut page.months);
        if page.next_page_token.is_empty() {
            return Ok(GetMeteringResponse { months, ..page });
        }
        request.page_token = page.next_page_token;
    }
}

/// Counts the log in the directories, one after the other.
fn read(options: &MeteringOptions) -> Result<GetMeteringResponse, Failure> {
    let mut meter = Meter::default();
    for directory in &options.directories {
        let inner = directory.join("audit");
        read_one(if inner.is_dir() { &inner } else { directory }, &mut meter)?;
    }
    let latest = meter.latest().unwrap_or(Timestamp::from_micros(0));
    let asked = options.until.map(|until| until.unix_timestamp_nanos() / 1000);
    let until = asked.map_or(latest, |micros| {
        Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX)).max(latest)
    });
    let asked = Asked {
        months: options.first().unwrap_or(Month::FIRST)..=options.last().unwrap_or(Month::LAST),
        account: Some(options.account_id.as_str()).filter(|name| !name.is_empty()).map(Into::into),
        until,
        after: None,
        limit: usize::MAX,
    };
    Ok(GetMeteringResponse {
        months: meter.report(&asked).into_iter().map(month).collect(),
        next_page_token: String::new(),
        until: Some(protobuf(until)),
        end_seq: meter.next(),
        whole_since: meter.whole_since().map(protobuf),
    })
}

fn read_one(directory: &Path, meter: &mut Meter) -> Result<(), Failure> {
    let unreadable = |problem: String| Failure::Usage(format!("{}: {problem}", directory.display()));
    let end = end(directory).map_err(|error| unreadable(error.to_string()))?;
    if end == 0 {
        return Err(unreadable("holds no audit log".to_owned()));
    }
    while !count(meter, directory, end).map_err(|error| unreadable(error.to_string()))? {}
    Ok(())
}

fn protobuf(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, micros) = (time.as_micros().div_euclid(1_000_000), time.as_micros().rem_euclid(1_000_000));
    // Below 10^9.
    prost_types::Timestamp { seconds, nanos: i32::try_from(micros * 1000).unwrap_or_default() }
}

fn month(one: Metered) -> MeteredMonth {
    let keys = one.keys.into_iter();
    let calls = one.calls.into_iter();
    MeteredMonth {
        account: one.account.as_deref().unwrap_or_default().to_owned(),
        month: one.month.to_string(),
        keys: keys.map(|(kind, micros)| MeteredKeys { kind: kind.name().to_owned(), micros }).collect(),
        calls: calls
            .map(|(operation, calls)| MeteredCalls {
                operation: operation.to_owned(),
                answered: calls.answered,
                refused: calls.refused,
            })
            .collect(),
    }
}

fn show(metered: &GetMeteringResponse, as_csv: bool, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print(&format!("{:#}", described(metered)));
    }
    let rows: Vec<Value> = metered.months.iter().flat_map(rows).collect();
    if !as_csv {
        return show_all(&rows, &COLUMNS, false);
    }
    print(&COLUMNS.join(","))?;
    // Names of accounts, months, kinds and operations have no commas and no quotes.
    rows.iter().try_for_each(|row| print(&COLUMNS.map(|column| text(&row[column])).join(",")))
}

fn described(metered: &GetMeteringResponse) -> Value {
    let months = metered.months.iter().map(|one| {
        let keys = one.keys.iter().map(
            |keys| json!({ "kind": keys.kind, "micros": keys.micros, "key_days": key_days(keys.micros) }),
        );
        let calls = one.calls.iter().map(|calls| {
            json!({ "operation": calls.operation, "answered": calls.answered, "refused": calls.refused })
        });
        json!({
            "account": one.account,
            "month": one.month,
            "keys": keys.collect::<Vec<_>>(),
            "calls": calls.collect::<Vec<_>>(),
        })
    });
    json!({
        "until": at(metered.until.as_ref()),
        "whole_since": at(metered.whole_since.as_ref()),
        "end_seq": metered.end_seq,
        "months": months.collect::<Vec<_>>(),
    })
}

/// The quantities of an account's month, one by one.
fn rows(one: &MeteredMonth) -> impl Iterator<Item = Value> {
    let row = |item: &str, name: &str, unit: &str, quantity: String| {
        json!({
            "month": one.month,
            "account": one.account,
            "item": item,
            "name": name,
            "unit": unit,
            "quantity": quantity,
        })
    };
    let keys = one.keys.iter().map(move |keys| row("keys", &keys.kind, "key-days", key_days(keys.micros)));
    let calls = one.calls.iter().flat_map(move |calls| {
        [("answered", calls.answered), ("refused", calls.refused)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(move |(unit, count)| row("calls", &calls.operation, unit, count.to_string()))
    });
    keys.chain(calls)
}

/// In days, cut behind the sixth digit.
fn key_days(micros: u64) -> String {
    format!("{}.{:06}", micros / DAY, micros % DAY / (DAY / 1_000_000))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_days_are_cut_and_not_rounded() {
        assert_eq!(key_days(DAY), "1.000000");
        assert_eq!(key_days(DAY - 1), "0.999999");
        assert_eq!(key_days(30 * DAY + DAY / 4), "30.250000");
        assert_eq!(key_days(DAY / 1_000_000), "0.000001");
    }
}
