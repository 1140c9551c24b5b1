//! The client side: closed loops of calls, counted and timed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use dewpoint_tests::{Clients, Description, Identity, by_id};
use kms_proto::v1::{DecryptDataKeyRequest, GenerateDataKeyRequest};

use crate::process::processor_time;

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
    /// Processor time of the process that was watched, in µs for each call.
    pub(crate) processor: f64,
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
    Call::Generate(GenerateDataKeyRequest {
        key: by_id(key_id),
        length: 32,
        encryption_context: context(),
        ..Default::default()
    })
}

/// The call that opens what [`generate`] made.
pub(crate) fn decrypt(ciphertext_blob: Bytes) -> Call {
    Call::Decrypt(DecryptDataKeyRequest {
        ciphertext_blob,
        key: None,
        encryption_context: context(),
        ..Default::default()
    })
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

/// Gives the next call to make.
pub(crate) type Calls = Arc<dyn Fn() -> Call + Send + Sync>;

/// Keeps `in_flight` calls under way for `duration`, after a short warm-up.
pub(crate) async fn run(clients: &[Clients], call: &Call, in_flight: usize, duration: Duration) -> Figures {
    let call = call.clone();
    let calls: Calls = Arc::new(move || call.clone());
    run_each(clients, &calls, in_flight, duration, std::process::id()).await
}

/// The same with calls that differ; `process` is watched.
pub(crate) async fn run_each(
    clients: &[Clients],
    calls: &Calls,
    in_flight: usize,
    duration: Duration,
    process: u32,
) -> Figures {
    let caller =
        |number: usize| GrpcCaller { client: clients[number % clients.len()].clone(), calls: calls.clone() };
    measure((0..in_flight).map(caller).collect(), duration, process).await
}

/// One that makes calls, one after the other.
pub(crate) trait Caller: Send + 'static {
    /// Makes one.
    fn call(&mut self) -> impl Future<Output = ()> + Send;
}

struct GrpcCaller {
    client: Clients,
    calls: Calls,
}

impl Caller for GrpcCaller {
    async fn call(&mut self) {
        drop(answer(&mut self.client, (self.calls)()).await);
    }
}

/// Keeps all of them calling for `duration`, after a short warm-up; `process` is watched.
#[allow(clippy::disallowed_methods, reason = "measures real time")]
pub(crate) async fn measure<C: Caller>(callers: Vec<C>, duration: Duration, process: u32) -> Figures {
    let (counting, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let tasks: Vec<_> = callers
        .into_iter()
        .map(|mut caller| {
            let (counting, ended) = (counting.clone(), ended.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(65536);
                while !ended.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    caller.call().await;
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
    let (started, before) = (Instant::now(), processor_time(process));
    tokio::time::sleep(duration).await;
    let elapsed = started.elapsed();
    let processor = processor_time(process).saturating_sub(before);
    counting.store(false, Ordering::Relaxed);
    ended.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("it ends"));
    }
    latencies.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52 calls")]
    let count = latencies.len() as f64;
    let processor = processor.as_secs_f64() * 1e6 / count;
    Figures { rate: count / elapsed.as_secs_f64(), processor, latencies }
}

/// Makes `count` calls, 64 at a time; what was sealed, by the number of the call.
pub(crate) async fn make(
    clients: &[Clients],
    count: usize,
    call: impl Fn(usize) -> Call + Send + Sync + 'static,
) -> Vec<Bytes> {
    let call = Arc::new(call);
    let tasks = (0..64).map(|task| {
        let (mut client, call) = (clients[task % clients.len()].clone(), call.clone());
        tokio::spawn(async move {
            let mut made = Vec::new();
            for number in (task..count).step_by(64) {
                made.push((number, answer(&mut client, call(number)).await));
            }
            made
        })
    });
    let mut made = vec![Bytes::new(); count];
    for task in tasks.collect::<Vec<_>>() {
        for (number, sealed) in task.await.expect("it ends") {
            made[number] = sealed;
        }
    }
    made
}

/// Makes the call; gives the ciphertext, if it makes one.
async fn answer(client: &mut Clients, call: Call) -> Bytes {
    match call {
        Call::Generate(request) => {
            client.data.generate_data_key(request).await.expect("made").into_inner().ciphertext_blob
        }
        Call::Decrypt(request) => {
            drop(client.data.decrypt_data_key(request).await.expect("opened"));
            Bytes::new()
        }
    }
}
