//! The pool: a bounded queue of jobs before the workers.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use crossbeam_channel::bounded;
use kms_core::{
    key::{BackingKind, MaterialId},
    ports::{Birth, Hsm, HsmError, HsmJob},
};
use parking_lot::Mutex;

use crate::{
    CallCount, OpenError, Pkcs11Config, RootKeys,
    calls::Call,
    intake::Intake,
    medic::Medic,
    token::{self, Token},
    ward::{Ward, unavailable},
    watch,
    worker::Worker,
};

/// How many jobs can wait. At 10 to 20 µs a job this is a wait of some 50 ms on one worker: whoever
/// comes later is better served by an immediate [`HsmError::Busy`].
const QUEUE: usize = 4096;

/// An HSM behind PKCS#11, with its sessions.
///
/// It heals by itself: a lost session is replaced, a lost object loaded again, and after any other loss
/// the module is finalised, initialised and logged in to anew, as often as it takes.
///
/// A process can have one at a time: PKCS#11 allows one `C_Initialize` for each module.
pub struct Pkcs11Hsm {
    intake: Arc<Intake>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    /// The medic and the watch.
    medics: Mutex<Vec<JoinHandle<()>>>,
    ward: Arc<Ward>,
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
    /// Session objects that were destroyed.
    pub destroyed: u64,
    /// How often a lost token was opened anew.
    pub heals: u64,
    /// How often the module was renewed because of what it leaks.
    pub renewals: u64,
    /// Jobs that wait now.
    pub queued: usize,
}

impl Pkcs11Hsm {
    /// Loads the module, logs in to the token, finds and tries out its keys, starts the workers.
    ///
    /// The PIN is tried once.
    pub fn open(config: &Pkcs11Config) -> Result<Self, OpenError> {
        let ward = Arc::new(Ward::open(config)?);
        for place in &ward.places {
            ward.sit(place).map_err(|error| OpenError::NoSession { detail: error.to_string() })?;
        }
        let (sender, jobs) = bounded(QUEUE);
        let hsm = Self {
            intake: Arc::new(Intake::new(sender)),
            workers: Mutex::default(),
            medics: Mutex::default(),
            ward,
        };
        for number in 0..config.workers {
            let (worker, jobs) = (Worker::new(Arc::clone(&hsm.ward), number), jobs.clone());
            hsm.workers.lock().push(thread(&format!("hsm-{number}"), move || worker.run(&jobs))?);
        }
        let medic = Medic::new(Arc::clone(&hsm.ward));
        hsm.medics.lock().push(thread("hsm-medic", move || medic.run())?);
        let watched = Arc::clone(&hsm.ward);
        hsm.medics.lock().push(thread("hsm-watch", move || watch::run(&watched))?);
        Ok(hsm)
    }

    /// Makes the root key, the authentication key and the log's key: once in a token's life, before it is opened.
    ///
    /// All are tried out and written to disk before this returns. It refuses if the token has a root
    /// key, and may be repeated after an interruption. It deletes nothing.
    pub fn create_root_keys(config: &Pkcs11Config) -> Result<RootKeys, OpenError> {
        token::create_root_keys(config)
    }

    /// The generation of the root key that wraps new keys.
    pub fn root_generation(&self) -> u32 {
        self.ward.newest_root()
    }

    /// Whether the token offers keys of this kind.
    pub fn offers(&self, kind: BackingKind) -> bool {
        self.ward.token().is_some_and(|token| token.form(kind).is_ok())
    }

    /// Why the token cannot be used now, if it cannot.
    pub fn loss(&self) -> Option<HsmError> {
        self.ward.loss()
    }

    /// The token, if it works now.
    pub(crate) fn token(&self) -> Option<Arc<Token>> {
        self.ward.token()
    }

    /// Why jobs are refused at once, if they are.
    fn refusal(&self) -> Option<HsmError> {
        self.is_stuck().then(|| unavailable("the module", "calls to it do not return"))
    }

    /// Whether calls that do not return keep the pool from working.
    pub fn is_stuck(&self) -> bool {
        self.ward.stuck.load(Ordering::Relaxed)
    }

    /// The labels of the token's objects that are not this service's keys, as found when it was opened.
    pub fn strangers(&self) -> &[String] {
        self.ward.strangers()
    }

    /// Counters, for metrics.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            calls: self.ward.counters.read(),
            loaded_keys: self.ward.token().map_or(0, |token| token.cache.len()),
            loads: self.ward.counters.loads(),
            destroyed: self.ward.counters.succeeded(Call::DestroyObject),
            heals: self.ward.heals.load(Ordering::Relaxed),
            renewals: self.ward.renewals.load(Ordering::Relaxed),
            queued: self.intake.len(),
        }
    }

    /// Takes no more jobs, finishes those that wait (but for key pairs that have not begun: they may take minutes), and
    /// stops the workers. Waits for all that.
    ///
    /// The module is finalised when the pool drops, which does this too. A process that ends while a
    /// worker is inside SoftHSM2 can crash: shut down first.
    pub fn shut_down(&self) {
        self.intake.close();
        let workers = std::mem::take(&mut *self.workers.lock());
        let this_thread = std::thread::current().id();
        // The last job of a worker may be what drops the pool: that worker cannot wait for itself.
        for worker in workers.into_iter().filter(|worker| worker.thread().id() != this_thread) {
            if worker.join().is_err() {
                tracing::error!("an HSM worker panicked");
            }
        }
        let token = self.ward.close();
        for medic in std::mem::take(&mut *self.medics.lock()) {
            if medic.join().is_err() {
                tracing::error!("the HSM's medic or its watch panicked");
            }
        }
        drop(token); // closes the anchor session and finalises the module
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| OpenError::NoThread { detail: error.to_string() })
}

impl Hsm for Pkcs11Hsm {
    fn submit(&self, job: HsmJob) {
        match self.refusal() {
            Some(error) => job(Err(error)),
            None => self.intake.submit(job),
        }
    }

    fn submit_birth(&self, birth: Birth, job: HsmJob) {
        match self.refusal() {
            Some(error) => job(Err(error)),
            None => self.intake.submit_birth(birth, job),
        }
    }

    /// Calls no C function: a worker destroys the objects, at the latest when the queue is empty. For a
    /// while, a use of the key that was under way before may load it once more, but not keep it.
    fn evict(&self, material: MaterialId) {
        self.ward.lasting.evictions.note(material);
        if self.ward.token().is_some_and(|token| token.evict(material)) {
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
