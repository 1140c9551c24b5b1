//! The pool: a bounded queue of jobs before the workers.

use std::{sync::Arc, thread::JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use kms_core::{
    key::MaterialId,
    ports::{Hsm, HsmError, HsmJob},
};
use parking_lot::{Mutex, RwLock};

use crate::{
    CallCount, OpenError, Pkcs11Config, RootKeys,
    token::{self, Token},
    worker::Worker,
};

/// How many jobs can wait. At 10 to 20 µs a job this is a wait of some 50 ms on one worker: whoever
/// comes later is better served by an immediate [`HsmError::Busy`].
const QUEUE: usize = 4096;

/// An HSM behind PKCS#11, with its sessions.
///
/// A process can have one at a time: PKCS#11 allows one `C_Initialize` for each module.
pub struct Pkcs11Hsm {
    /// `None` after the shutdown.
    queue: RwLock<Option<Sender<HsmJob>>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    token: Arc<Token>,
}

/// What the pool has done since it was opened, and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// Calls by C function.
    pub calls: Vec<CallCount>,
    /// Backing keys that are loaded now.
    pub loaded_keys: usize,
    /// Backing keys that were unwrapped for use.
    pub loads: u64,
    /// Jobs that wait now.
    pub queued: usize,
}

impl Pkcs11Hsm {
    /// Loads the module, logs in to the token, finds and tries out its keys, starts the workers.
    ///
    /// The PIN is tried once.
    pub fn open(config: &Pkcs11Config) -> Result<Self, OpenError> {
        if config.workers == 0 {
            return Err(OpenError::ZeroCapacity("workers"));
        }
        let token = Arc::new(Token::open(config)?);
        let (sender, jobs) = bounded(QUEUE);
        let hsm = Self { queue: RwLock::new(Some(sender)), workers: Mutex::default(), token };
        for number in 0..config.workers {
            let worker = hsm.start_worker(number, jobs.clone())?;
            hsm.workers.lock().push(worker);
        }
        Ok(hsm)
    }

    /// Makes the root key and the authentication key: once in a token's life, before it is opened.
    ///
    /// Both are tried out and written to disk before this returns. It refuses if the token has a root
    /// key, and may be repeated after an interruption. It deletes nothing.
    pub fn create_root_keys(config: &Pkcs11Config) -> Result<RootKeys, OpenError> {
        token::create_root_keys(config)
    }

    /// The generation of the root key that wraps new keys.
    pub fn root_generation(&self) -> u32 {
        self.token.root_generation()
    }

    /// The labels of the token's objects that are not this service's keys, as found when it was opened.
    pub fn strangers(&self) -> &[String] {
        self.token.strangers()
    }

    /// Counters, for metrics.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            calls: self.token.counters().read(),
            loaded_keys: self.token.cache.len(),
            loads: self.token.loads(),
            queued: self.queue.read().as_ref().map_or(0, Sender::len),
        }
    }

    /// Takes no more jobs, finishes those that wait, and stops the workers. Waits for all that.
    ///
    /// The module is finalised when the pool drops, which does this too. A process that ends while a
    /// worker is inside SoftHSM2 can crash: shut down first.
    pub fn shut_down(&self) {
        self.queue.write().take();
        let workers = std::mem::take(&mut *self.workers.lock());
        let this_thread = std::thread::current().id();
        // The last job of a worker may be what drops the pool: that worker cannot wait for itself.
        for worker in workers.into_iter().filter(|worker| worker.thread().id() != this_thread) {
            if worker.join().is_err() {
                tracing::error!("an HSM worker panicked");
            }
        }
    }

    fn start_worker(&self, number: usize, jobs: Receiver<HsmJob>) -> Result<JoinHandle<()>, OpenError> {
        let worker = Worker::new(Arc::clone(&self.token), self.token.session()?);
        std::thread::Builder::new()
            .name(format!("hsm-{number}"))
            .spawn(move || worker.run(&jobs))
            .map_err(|error| OpenError::NoThread { detail: error.to_string() })
    }
}

impl Hsm for Pkcs11Hsm {
    fn submit(&self, job: HsmJob) {
        let refused = match &*self.queue.read() {
            Some(queue) => queue.try_send(job).map_err(|error| match error {
                TrySendError::Full(job) => (job, HsmError::Busy),
                TrySendError::Disconnected(job) => (job, shut_down()),
            }),
            None => Err((job, shut_down())),
        };
        if let Err((job, error)) = refused {
            job(Err(error));
        }
    }

    /// Calls no C function: a worker destroys the objects, at the latest when the queue is empty.
    fn evict(&self, material: MaterialId) {
        if self.token.cache.evict(material) {
            self.submit(Box::new(|_| ())); // wakes a worker, which sweeps after each job
        }
    }
}

impl Drop for Pkcs11Hsm {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl std::fmt::Debug for Pkcs11Hsm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pkcs11Hsm").field("root_generation", &self.root_generation()).finish_non_exhaustive()
    }
}

fn shut_down() -> HsmError {
    HsmError::Unavailable { function: "C_Finalize", detail: "the HSM was shut down".to_owned() }
}
