//! Light load that looks at the service all the time: callers without and with retry, and the health service.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dewpoint_tests::Clients;
use kms_client::{Client, Error, KeyReference};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::load::context;

/// How long each waits between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// How many callers there are with and without retry.
pub(crate) const CALLERS_OF_EACH_SORT: usize = 2;

/// One look: a call, or what the health service said.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    /// `None`: all was well.
    pub(crate) trouble: Option<String>,
}

/// Looks of one sort, in the order of their ends.
pub(crate) type Looks = Arc<Mutex<Vec<Look>>>;

/// What looks.
pub(crate) struct Observer {
    pub(crate) once: Looks,
    pub(crate) retrying: Looks,
    pub(crate) health: Looks,
    tasks: Vec<JoinHandle<()>>,
}

impl Observer {
    pub(crate) fn start(once: &Client, retrying: &Client, clients: &Clients, keys: &[String; 3]) -> Self {
        let [once_looks, retrying_looks, health]: [Looks; 3] = Default::default();
        let mut tasks = Vec::new();
        for _ in 0..CALLERS_OF_EACH_SORT {
            tasks.push(tokio::spawn(call(once.clone(), keys.clone(), once_looks.clone())));
            tasks.push(tokio::spawn(call(retrying.clone(), keys.clone(), retrying_looks.clone())));
        }
        tasks.push(tokio::spawn(ask_health(clients.clone(), health.clone())));
        Self { once: once_looks, retrying: retrying_looks, health, tasks }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Takes all looks that there are.
pub(crate) fn take(looks: &Looks) -> Vec<Look> {
    std::mem::take(&mut looks.lock().unwrap_or_else(PoisonError::into_inner))
}

fn add(looks: &Looks, begin: Instant, trouble: Option<String>) {
    let look = Look { begin, end: Instant::now(), trouble };
    looks.lock().unwrap_or_else(PoisonError::into_inner).push(look);
}

/// What a caller reads of an error.
pub(crate) fn trouble(error: &Error) -> String {
    match error {
        Error::Refused(refusal) => {
            format!("{} {}", constant(&format!("{:?}", refusal.code)), refusal.reason)
        }
        Error::Transport { .. } => "the connection breaks".to_owned(),
        Error::Deadline => "DEADLINE_EXCEEDED".to_owned(),
        other => other.to_string(),
    }
}

/// `InvalidArgument` as `INVALID_ARGUMENT`.
fn constant(name: &str) -> String {
    let letters = name.char_indices().map(|(place, letter)| {
        let break_before = place > 0 && letter.is_ascii_uppercase();
        format!("{}{}", if break_before { "_" } else { "" }, letter.to_ascii_uppercase())
    });
    letters.collect()
}

async fn call(client: Client, keys: [String; 3], looks: Looks) {
    for key in keys.iter().cycle() {
        let (key, begin) = (KeyReference::KeyId(key.clone()), Instant::now());
        let made = client.generate_data_key(&key, 32, &context(0)).await;
        add(&looks, begin, made.as_ref().err().map(trouble));
        if let Ok(made) = made {
            let begin = Instant::now();
            let opened = client.decrypt_data_key(&made.ciphertext, None, &context(0)).await;
            add(&looks, begin, opened.as_ref().err().map(trouble));
            if let Ok(opened) = opened {
                assert_eq!(opened.plaintext.expose(), made.plaintext.expose(), "a wrong answer");
            }
        }
        sleep(PAUSE).await;
    }
}

async fn ask_health(clients: Clients, looks: Looks) {
    let mut health = HealthClient::new(clients.channel);
    loop {
        let begin = Instant::now();
        let checked = health.check(HealthCheckRequest::default()).await;
        let trouble = match checked.map(|answer| answer.into_inner().status()) {
            Ok(ServingStatus::Serving) => None,
            Ok(status) => Some(format!("{status:?}")),
            Err(status) => Some(format!("{:?}", status.code())),
        };
        add(&looks, begin, trouble);
        sleep(PAUSE).await;
    }
}

/// The troubles of these looks and how often each came.
pub(crate) fn troubles(looks: &[Look]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for trouble in looks.iter().filter_map(|look| look.trouble.clone()) {
        *counts.entry(trouble).or_default() += 1;
    }
    counts
}
