//! The rows about many keys: what a call, a start and memory cost with 10 keys and with a million.
//!
//! Costs are processor time of the service for each call: what else the machine does changes it least. The
//! sizes are measured in turn, and each is set against the smallest.

use kms_proto::v1::CreateKeyRequest;

use crate::{
    load,
    rows::{Bound, DURATION, ROUNDS, Table},
    site::{LOADED_KEYS, Site, Start, open_in_turn},
    token::{self, TokenFigures},
};

/// The numbers of keys, rising, with commas; by default [`SIZES`].
const VARIABLE: &str = "BENCH_KEYS";
const SIZES: &str = "10,10000,1000000";
/// Keys in use that fit the loaded ones.
const WARM: usize = 8_000;
/// Keys in use, in turn, that do not fit.
const COLD: usize = 40_000;
/// Uses of random keys before memory is looked at.
const USES: usize = 200_000;
/// The fewer loaded keys that memory is compared at.
const FEW_LOADED: usize = 1_000;
/// What the store keeps in memory at most, in MiB: 8 of records, 64 of pages.
const STORE_CACHES: f64 = 72.0;
/// What a loaded key may take, in KiB.
const LOADED_KEY: f64 = 10.0;
/// Calls under way, their connections, decoded records, and what the allocator does not give back, in MiB.
const WORKING: f64 = 64.0;

/// After how many destroyed objects the module is renewed, and how many renewals are seen: low and default.
const RENEWALS: [(u64, u64); 3] = [(10_000, 5), (100_000, 3), (kms_hsm::DEFAULT_RENEW_AFTER, 1)];

/// Measures all of them.
pub(crate) async fn rows(table: &mut Table) {
    let sizes = std::env::var(VARIABLE).unwrap_or_else(|_| SIZES.to_owned());
    let mut sites: Vec<Site> =
        sizes.split(',').map(|size| Site::open(size.trim().parse().expect("a number of keys"))).collect();
    starts(table, &mut sites).await;
    let token = TokenFigures {
        load: token::measure(&sites[0].serve, LOADED_KEYS, kms_hsm::DEFAULT_RENEW_AFTER, 0).load,
        ..token::measure(&sites[0].serve, 1, 100_000, 1)
    };
    for site in &mut sites {
        site.start().await;
        site.counted().await;
    }
    let warm = warm_keys(table, &sites).await;
    for site in &sites {
        if site.size > COLD {
            cold_keys(table, site, &warm, &token).await;
        }
    }
    for site in &mut sites {
        site.stop();
    }
    let largest = sites.last_mut().expect("a size");
    if largest.size > COLD {
        memory(table, largest, &token).await;
    }
    leaks(table, &sites[0]);
}

/// Time to ready, what is read and what memory is taken, after an orderly end and after `kill -9`.
async fn starts(table: &mut Table, sites: &mut [Site]) {
    let mut least = None;
    for site in sites {
        let (mut orderly, mut killed) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            site.start().await;
            site.stop();
            orderly.push(site.start().await);
            let request =
                CreateKeyRequest { alias: format!("killed-{round}"), ..CreateKeyRequest::default() };
            site.clients[0].keys.create_key(request).await.expect("made");
            site.serve.kill();
            killed.push(site.start().await);
            site.stop();
        }
        for (how, starts) in [("orderly", orderly), ("killed", killed)] {
            let Start { time, read, memory } = median(starts);
            let name = format!("keys: start, {how}, {}, seconds", site.size);
            table.row(&name, "", vec![time.as_secs_f64()], "<= 0.5", Bound::AtMost(0.5));
            let name = format!("keys: read at start, {how}, {}, MiB", site.size);
            table.row(&name, "beside the last part of the log", vec![read], "<= 4", Bound::AtMost(4.0));
            let more = memory - *least.get_or_insert(memory);
            let name = format!("keys: memory at start, {how}, {}, MiB more", site.size);
            let detail = format!("{memory:.1} MiB in all");
            table.row(&name, &detail, vec![more], "<= 8", Bound::AtMost(8.0));
        }
    }
}

fn median(mut starts: Vec<Start>) -> Start {
    starts.sort_by_key(|start| start.time);
    starts.swap_remove(starts.len() / 2)
}

/// What calls on loaded keys cost, in µs: GenerateDataKey and DecryptDataKey, by size.
struct Warm {
    size: usize,
    costs: [f64; 2],
}

async fn warm_keys(table: &mut Table, sites: &[Site]) -> Vec<Warm> {
    let mut calls = Vec::new();
    for site in sites {
        let keys = site.size.min(WARM);
        let sealed = site.seal_first(keys).await;
        calls.push([site.generate_under(keys), open_in_turn(sealed)]);
    }
    let mut found: Vec<[Vec<(f64, f64)>; 2]> = sites.iter().map(|_| Default::default()).collect();
    for _ in 0..ROUNDS {
        for (index, site) in sites.iter().enumerate() {
            for (which, calls) in calls[index].iter().enumerate() {
                found[index][which].push(site.cost(calls, DURATION).await);
            }
        }
    }
    for (site, found_here) in sites.iter().zip(&found) {
        for (which, name) in ["GenerateDataKey", "DecryptDataKey"].into_iter().enumerate() {
            let pairs = found_here[which].iter().zip(&found[0][which]);
            let ratios = pairs.map(|((cost, _), (least, _))| cost / least).collect();
            let (cost, rate) = middle(&found_here[which]);
            let detail = format!("{cost:.1} µs, {rate:.0}/s, {} keys in use", site.size.min(WARM));
            let name = format!("keys: {name}, warm, {} / smallest", site.size);
            table.row(&name, &detail, ratios, "<= 1.3", Bound::AtMost(1.3));
        }
    }
    let costs = |found: &[Vec<(f64, f64)>; 2]| [middle(&found[0]).0, middle(&found[1]).0];
    sites.iter().zip(&found).map(|(site, found)| Warm { size: site.size, costs: costs(found) }).collect()
}

/// The figures of the median cost.
fn middle(found: &[(f64, f64)]) -> (f64, f64) {
    let mut found = found.to_vec();
    found.sort_by(|one, other| one.0.total_cmp(&other.0));
    found[found.len() / 2]
}

/// Keys of the whole store, used so that they are not loaded: against a warm key and one load.
async fn cold_keys(table: &mut Table, site: &Site, warm: &[Warm], token: &TokenFigures) {
    let warm = warm.iter().find(|warm| warm.size == site.size).expect("it was measured").costs;
    let calls = [site.generate_under(site.size), open_in_turn(site.seal(COLD).await)];
    for ((name, calls), warm) in ["GenerateDataKey", "DecryptDataKey"].into_iter().zip(&calls).zip(warm) {
        let mut found = Vec::new();
        for _ in 0..ROUNDS {
            found.push(site.cost(calls, DURATION).await);
        }
        let expected = warm + token.load;
        let (cost, rate) = middle(&found);
        let load = token.load;
        let detail =
            format!("{cost:.1} µs, {rate:.0}/s; warm {warm:.1} µs, one load and destruction {load:.1} µs");
        let ratios = found.iter().map(|(cost, _)| cost / expected).collect();
        let name = format!("keys: {name}, cold / (warm + load), {}", site.size);
        table.row(&name, &detail, ratios, "<= 1.3", Bound::AtMost(1.7));
    }
}

/// Memory after many uses of random keys, with few and with many loaded keys.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
async fn memory(table: &mut Table, site: &mut Site, token: &TokenFigures) {
    let mut after = Vec::new();
    for loaded in [FEW_LOADED, LOADED_KEYS] {
        site.keep_loaded(loaded);
        let start = site.start().await.memory;
        site.counted().await;
        let calls = site.generate_under(site.size);
        load::make(&site.clients, USES, move |_| calls()).await;
        let end = site.memory();
        site.stop();
        let leaked = token.leak * (USES - loaded) as f64 / f64::from(1 << 20);
        let bound = start + STORE_CACHES + LOADED_KEY * loaded as f64 / 1024.0 + leaked + WORKING;
        let detail =
            format!("{start:.0} MiB at start, {end:.0} after, of which {leaked:.0} leaked by the module");
        let name = format!("keys: memory, {USES} uses, {loaded} loaded / bound");
        table.row(&name, &detail, vec![end / bound], "<= 1", Bound::AtMost(1.0));
        after.push(end - leaked);
    }
    let each = (after[1] - after[0]) * 1024.0 / (LOADED_KEYS - FEW_LOADED) as f64;
    table.row("keys: memory of a loaded key, KiB", "", vec![each], "<= 10", Bound::AtMost(LOADED_KEY));
}

/// What SoftHSM2 leaks, and what it costs to get it back.
fn leaks(table: &mut Table, site: &Site) {
    for (renew_after, renewals) in RENEWALS {
        let figures = token::measure(&site.serve, 1, renew_after, renewals);
        let [first, before, after] = figures.memory;
        let detail = format!(
            "{:.0} bytes leak of each destroyed object; {first:.0} MiB at first, {before:.0} before the last renewal, \
             {after:.0} after it; {:.0} loads/s",
            figures.leak, figures.rate
        );
        let name = format!("keys: renewal after {renew_after}, ms of pause");
        table.row(&name, &detail, vec![figures.pause], "<= 250", Bound::AtMost(1000.0));
    }
}
