//! Floods of refused calls: few records, which count every call.

use std::collections::BTreeMap;

use dewpoint_tests::{
    Clients, Dev, DevOptions, Identity, Rpc, Subject, check_log, eventually, reason, records, records_of,
};
use serde_json::Value;
use tonic::Status;

/// How many calls flood at once, each after the one before.
const WORKERS: usize = 50;
/// How many calls each of those makes.
const EACH: usize = 100;
/// As many as are recorded one by one at least, and further ones that were under way before the first of them was durable;
/// for each of two windows in which a flood may fall.
const FEW: usize = 2 * (10 + WORKERS + 1);

fn subject() -> Subject {
    let key_id = "0193a000-0000-7000-8000-000000000000".to_owned();
    Subject { key_id, alias: "a".to_owned(), ciphertext: Vec::new() }
}

/// Calls again and again; each call has to be refused. Answers how often for which reason.
async fn flood(clients: &Clients, rpc: Rpc) -> BTreeMap<String, u64> {
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let mut clients = clients.clone();
        workers.push(tokio::spawn(async move {
            let mut statuses: Vec<Status> = Vec::new();
            for _ in 0..EACH {
                statuses.push(rpc.call(&mut clients, &subject()).await.expect_err("refused"));
            }
            statuses
        }));
    }
    let mut reasons = BTreeMap::new();
    for worker in workers {
        for status in worker.await.expect("no panic") {
            *reasons.entry(reason(&status)).or_default() += 1;
        }
    }
    assert_eq!(reasons.values().sum::<u64>(), (WORKERS * EACH) as u64);
    reasons
}

/// How many records tell of an operation that was refused, and of how many calls by which reason.
fn refused(records: &[Value], operation: &str) -> (usize, BTreeMap<String, u64>) {
    let refusals =
        records.iter().filter(|record| record["operation"] == operation && record["verdict"] == "denied");
    let (mut lines, mut calls) = (0, BTreeMap::new());
    for record in refusals {
        lines += 1;
        let reason = record["reason"].as_str().expect("a refusal has a reason").to_owned();
        *calls.entry(reason).or_default() += record["count"].as_u64().expect("a number");
    }
    (lines, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_leaves_few_records_that_count_every_call_and_a_success_leaves_its_own() {
    let arguments = vec!["--admin-port=0".to_owned()];
    let mut dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
    let (nobody, mut admin) = (dev.user(0, "nobody").await, dev.user(0, "admin").await);
    let (stranger, any) = (dev.connect(Identity::default()).await, subject());
    // DEW: §7 limits changes, and no queries.
    let (denied, throttled, unknown, listed) = tokio::join!(
        flood(&nobody, Rpc::ListKeys),
        flood(&nobody, Rpc::DisableKey),
        flood(&stranger, Rpc::DescribeKey),
        Rpc::ListKeys.call(&mut admin, &any),
    );
    assert!(throttled["THROTTLED"] > 4000, "{throttled:?}");
    let metrics = dev.metrics();
    let summed = metrics.lines().find_map(|line| line.strip_prefix("dewpoint_audit_summed_refusals_total "));
    let summed: u64 = summed.expect("it is counted").parse().expect("a number");
    assert!(dev.stop().success(), "{}", dev.log());
    check_log(dev.directory());
    let records = records(dev.directory());
    let mut lines = 0;
    for (operation, answered) in [("ListKeys", denied), ("DisableKey", throttled), ("DescribeKey", unknown)] {
        let (few, recorded) = refused(&records, operation);
        assert_eq!(recorded, answered, "{operation}");
        assert!(few <= FEW * answered.len(), "{operation}: {few} records");
        lines += few as u64;
    }
    let sums = records.iter().filter(|record| record["count"] != 1).count() as u64;
    assert_eq!(summed + lines - sums, 3 * (WORKERS * EACH) as u64, "the metric counts the same calls");
    let own = records_of(dev.directory(), &listed.expect("admin may"));
    assert_eq!(own.iter().map(|record| &record["count"]).collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_only_sums_of_windows_that_were_open() {
    let mut dev = Dev::start();
    let nobody = dev.user(0, "nobody").await;
    let answered = flood(&nobody, Rpc::ListKeys).await;
    eventually("the end of the window", async || {
        (refused(&records(dev.directory()), "ListKeys").1 == answered).then_some(())
    })
    .await;
    let more = flood(&nobody, Rpc::DescribeKey).await;
    dev.kill();
    let killed = records(dev.directory());
    assert_eq!(refused(&killed, "ListKeys").1, answered, "its window had ended");
    let (few, recorded) = refused(&killed, "DescribeKey");
    assert!(few >= 10, "the first ones are recorded before their answers");
    assert!(recorded["PERMISSION_DENIED"] <= more["PERMISSION_DENIED"], "{recorded:?}");
    dev.start_again();
    assert!(dev.stop().success(), "{}", dev.log());
    check_log(dev.directory());
}
