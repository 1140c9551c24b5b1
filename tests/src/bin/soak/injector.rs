//! Injects faults at random, one at a time, and waits after each until the service works again.

use std::{sync::Arc, time::Duration};

use kms_client::{Client, KeyReference};
use tokio::time::{Instant, sleep};

use crate::{dice::Dice, faults::Fault, ledger::Ledger, load::context, site::Site};

/// The longest wait between two faults.
const LONGEST_PAUSE: u64 = 1500;
/// How long a try of a probe may take.
pub(crate) const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// A service that has not come back then does not heal.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// What takes longer is worth a line.
const SLOW: Duration = Duration::from_secs(2);
/// So many good probes in a row: several workers may answer.
const GOOD_PROBES: u32 = 4;

/// A fault, from its beginning until the service worked again.
#[derive(Debug, Clone)]
pub(crate) struct Episode {
    pub(crate) fault: Fault,
    pub(crate) begin: Instant,
    /// The end of the cause.
    pub(crate) over: Instant,
    pub(crate) healed: Instant,
}

/// Injects until told to stop; with faults of which the worker dies only until `deaths_end`.
pub(crate) async fn run(
    site: Arc<Site>,
    client: Client,
    ledger: Arc<Ledger>,
    mut dice: Dice,
    deaths_end: Instant,
) -> Vec<Episode> {
    let mut episodes = Vec::new();
    let keys = site.one_of_each();
    let token_can_move = site.token_directory().is_some();
    while ledger.runs() {
        sleep(Duration::from_millis(dice.between(0, LONGEST_PAUSE))).await;
        let fault = Fault::draw(&mut dice, Instant::now() < deaths_end, token_can_move);
        let begin = Instant::now();
        fault.happen(&site).await;
        let over = Instant::now();
        if !heals(&client, &keys, over + HEALED_WITHIN).await {
            ledger.violation(format!("the service does not work again after {fault:?}"));
        }
        if over.elapsed() > SLOW {
            eprintln!("slow to heal, {:.1?} after its cause: {fault:?}", over.elapsed());
        }
        episodes.push(Episode { fault, begin, over, healed: Instant::now() });
    }
    episodes
}

/// Waits until the service works; `false` if it does not until `end`.
async fn heals(client: &Client, keys: &[String], end: Instant) -> bool {
    let mut good = 0;
    while good < GOOD_PROBES {
        if works(client, keys).await {
            good += 1;
        } else if Instant::now() > end {
            return false;
        } else {
            good = 0;
            sleep(Duration::from_millis(10)).await;
        }
    }
    true
}

/// Whether a key of each kind works.
pub(crate) async fn works(client: &Client, keys: &[String]) -> bool {
    for key in keys {
        let key = KeyReference::KeyId(key.clone());
        let Ok(made) = client.generate_data_key(&key, 32, &context(0)).await else { return false };
        if client.decrypt_data_key(&made.ciphertext, None, &context(0)).await.is_err() {
            return false;
        }
    }
    true
}
