//! One soak: load, faults, and the checks at the end.

use std::{
    collections::HashSet,
    str::FromStr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kms_client::{Client, ListKeysRequest};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    changes,
    dice::Dice,
    injector::{self, PROBE_DEADLINE},
    ledger::Ledger,
    load::{Load, Via},
    report,
    site::{KEYS_OF_EACH_KIND, Site},
    verdict, watch,
};

/// How many callers there are of each sort: with kms-client's retry and without.
const CALLERS_OF_EACH_SORT: u64 = 10;
/// The last keys of each kind are for who disables and enables them.
const TOGGLED: usize = 10;

/// What the environment says.
fn setting<T: FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} must be a number, and is {text}"))
}

/// Runs the soak; says whether nothing happened that must not.
pub(crate) async fn run() -> bool {
    let lasts = Duration::from_secs(setting("SOAK_SECONDS", 600));
    let seed = setting("SOAK_SEED", u64::from(std::process::id()));
    report::begins(lasts, seed);
    let mut site = Site::open(KEYS_OF_EACH_KIND).await;
    let (ledger, mut dice) = (Arc::new(Ledger::default()), Dice::new(seed));
    let mut tasks = callers(&mut site, &ledger, &mut dice).await;
    let (probe, last) = (site.probe(PROBE_DEADLINE).await, site.client().await);
    let before = site.keys.len();
    let (site, begun) = (Arc::new(site), Instant::now());
    // The second half belongs to one worker, whose memory is watched.
    let faults = injector::run(site.clone(), probe, ledger.clone(), dice, begun + lasts / 2);
    let watched = watch::run(site.clone(), ledger.clone(), begun);
    let end = async {
        sleep(lasts).await;
        ledger.stop.store(true, Ordering::Relaxed);
    };
    let (episodes, memory, ()) = tokio::join!(faults, watched, end);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a caller ends");
    }
    check_keys(&last, before, &ledger).await;
    let mut site = Arc::into_inner(site).expect("all tasks have ended");
    let status = site.supervised.stop();
    if !status.success() {
        ledger.violation(format!("the service ended with {status}"));
    }
    let records = verdict::check_log(&site.supervised.data_dir(), &ledger);
    for what in verdict::unexplained(&ledger.failures(), &episodes) {
        ledger.violation(what);
    }
    report::results(&site, &ledger, &episodes, &memory, records)
}

/// Starts who calls.
async fn callers(site: &mut Site, ledger: &Arc<Ledger>, dice: &mut Dice) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let ids: Vec<_> = site.keys.iter().map(|key| key.key_id.clone()).collect();
    let (used, toggled) = ids.split_at(ids.len() - TOGGLED);
    let keys = Arc::new(used.to_vec());
    for number in 0..2 * CALLERS_OF_EACH_SORT {
        let via = if number % 2 == 0 {
            Via::Retrying(site.client().await)
        } else {
            Via::Once(Box::new(site.generated().await))
        };
        let dice = Dice::new(dice.between(0, u64::MAX));
        let load = Load { via, keys: keys.clone(), ledger: ledger.clone(), dice, number: number + 1 };
        tasks.spawn(load.run());
    }
    tasks.spawn(changes::create(site.client().await, ledger.clone()));
    let dice = Dice::new(dice.between(0, u64::MAX));
    tasks.spawn(changes::toggle(site.client().await, toggled.to_vec(), ledger.clone(), dice));
    tasks
}

/// Every key that was acknowledged is there, and none that nobody asked for.
async fn check_keys(client: &Client, before: usize, ledger: &Ledger) {
    let (mut listed, mut request) = (HashSet::new(), ListKeysRequest::default());
    loop {
        let page = client.list_keys(request.clone()).await.expect("the faults are over");
        listed.extend(page.keys.into_iter().map(|key| key.key_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let acknowledged = ledger.acknowledged();
    let missing = acknowledged.created.difference(&listed).count();
    let (known, most) = (before + acknowledged.created.len(), acknowledged.failed_creations);
    drop(acknowledged);
    if missing > 0 || listed.len() > known + most {
        ledger.violation(format!("{missing} of {known} keys are missing; {} are listed", listed.len()));
    }
}
