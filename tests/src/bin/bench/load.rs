//! The client side: closed loops of calls, counted and timed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use dewpoint_tests::{Clients, Description, Identity, by_id};
use kms_proto::v1::{DecryptDataKeyRequest, GenerateDataKeyRequest};

/// Calls are spread over this many connections.
const CONNECTIONS: usize = 4;

/// What to call.
#[derive(Clone)]
pub(crate) enum Call {
    Generate(GenerateDataKeyRequest),
    Decrypt(DecryptDataKeyRequest),
}

/// What a load run came to.
pub(crate) struct Figures {
    /// Calls per second.
    pub(crate) rate: f64,
    /// Latencies, sorted.
    latencies: Vec<Duration>,
}

impl Figures {
    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let index = ((self.latencies.len() - 1) as f64 * quantile) as usize;
        self.latencies[index]
    }
}

/// A data key call with the encryption context that a gateway would send.
pub(crate) fn generate(key_id: &str) -> Call {
    Call::Generate(GenerateDataKeyRequest { key: by_id(key_id), length: 32, encryption_context: context() })
}

pub(crate) fn context() -> HashMap<String, String> {
    HashMap::from([("object".to_owned(), "photos/2026/11/24/cloud.jpg".to_owned())])
}

/// Connections of one user, ready for load.
pub(crate) async fn connections(description: &Description, user: &str) -> Vec<Clients> {
    let files = description.account(0).user(user).files.clone();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let identity = Identity { files: Some(files.clone()), ..Identity::default() };
        clients.push(Clients::connect(description, identity).await);
    }
    clients
}

/// Keeps `in_flight` calls under way for `duration`, after a short warm-up.
#[allow(clippy::disallowed_methods, reason = "measures real time")]
pub(crate) async fn run(clients: &[Clients], call: &Call, in_flight: usize, duration: Duration) -> Figures {
    let (counting, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let tasks: Vec<_> = (0..in_flight)
        .map(|number| {
            let (mut client, call) = (clients[number % clients.len()].clone(), call.clone());
            let (counting, ended) = (counting.clone(), ended.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(65536);
                while !ended.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    match &call {
                        Call::Generate(request) => {
                            drop(client.data.generate_data_key(request.clone()).await.expect("made"));
                        }
                        Call::Decrypt(request) => {
                            drop(client.data.decrypt_data_key(request.clone()).await.expect("opened"));
                        }
                    }
                    if counting.load(Ordering::Relaxed) {
                        latencies.push(started.elapsed());
                    }
                }
                latencies
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    counting.store(true, Ordering::Relaxed);
    let started = Instant::now();
    tokio::time::sleep(duration).await;
    let elapsed = started.elapsed();
    ended.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("it ends"));
    }
    latencies.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52 calls")]
    let rate = latencies.len() as f64 / elapsed.as_secs_f64();
    Figures { rate, latencies }
}
