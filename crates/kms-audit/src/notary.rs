//! The notary: a thread that follows the durable lines, keeps the tree, and has checkpoints signed.
//!
//! Nothing of it is waited for by a caller. It may fall behind the writer by so many commits as the channel
//! between them holds; then the writer waits.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use kms_core::ports::Clock;
use parking_lot::Mutex;

use crate::{
    counters::Coverage,
    journal::now,
    memory::Retraced,
    merkle::{Hash, leaf_hash},
    note::{Checkpoint, SignedCheckpoint, VerifierKey},
    tiles::{FreshTile, Tile, Tiles, Tree},
};

/// The newest checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// Checkpoints of the past, one JSON line each.
pub(crate) const CHECKPOINTS: &str = "checkpoints.log";
/// The verifier keys of the log, oldest first; the last one signs.
pub(crate) const KEYS: &str = "log-key";
/// How many lines have their hashes in tiles on stable storage.
pub(crate) const HASHED: &str = "tiles-durable";

/// Between two checkpoints while there is activity.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two attempts to write or to sign what failed.
const RETRY: Duration = Duration::from_millis(200);
/// So often at most a checkpoint is kept in the list of those of the past; always at the end of a segment.
const KEPT_EVERY: Duration = Duration::from_secs(60);
/// After something came: what comes meanwhile is followed together.
const PAUSE: Duration = Duration::from_millis(10);
/// How many commits may wait to be followed.
const BACKLOG: usize = 1024;
/// How long the end of the log waits for the last signature.
const LAST_SIGNATURE: Duration = Duration::from_secs(5);

/// Signs the text of a checkpoint.
pub trait CheckpointSigner: Send + Sync {
    /// Begins to sign and returns at once; `done` is called once, with an Ed25519 signature or with why there is
    /// none.
    fn sign(&self, text: String, done: SignatureDone);
}

/// Takes the signature of a checkpoint.
pub type SignatureDone = Box<dyn FnOnce(Result<[u8; 64], String>) + Send>;

/// Who signs a log's checkpoints, and who hears of them.
pub struct Notarization {
    /// The name of the log, if it is new or has no key yet. A log keeps its name.
    pub origin: String,
    /// The public half of the key that signs.
    pub public_key: [u8; 32],
    /// Whether the key may be another than the one that signed before: after a move to another token.
    pub new_key: bool,
    /// Signs.
    pub signer: Arc<dyn CheckpointSigner>,
    /// The time of checkpoints.
    pub clock: Arc<dyn Clock>,
    /// Called for each checkpoint when it is on stable storage, on the notary's thread: it must not block.
    pub published: Box<dyn Fn(&SignedCheckpoint) + Send>,
}

impl std::fmt::Debug for Notarization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notarization").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// What the notary tells about itself.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The size of the newest checkpoint.
    pub(crate) signed: AtomicU64,
    /// How many lines were followed.
    pub(crate) followed: AtomicU64,
    /// Failures to write or to sign.
    pub(crate) failures: AtomicU64,
    /// Why the tree cannot be kept, if it cannot.
    trouble: Mutex<Option<String>>,
    /// Held by whoever replaces the newest checkpoint.
    pub(crate) replacing: Mutex<()>,
}

impl Progress {
    /// Why the log must take no records: the tree cannot be kept.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(crate) fn coverage(&self) -> Coverage {
        Coverage {
            followed: self.followed.load(Relaxed),
            signed: self.signed.load(Relaxed),
            failures: self.failures.load(Relaxed),
        }
    }
}

enum Event {
    /// Whole lines that are on stable storage.
    Lines(Vec<u8>),
    /// A segment ended with the lines before.
    SegmentEnded,
    /// The lines of a file that may stand in the place of the last segment.
    Copy(Vec<u8>, Sender<bool>),
}

/// The writer's end.
pub(crate) struct Follower {
    events: Sender<Event>,
    progress: Arc<Progress>,
}

impl Follower {
    pub(crate) fn lines(&self, lines: Vec<u8>) {
        // The notary lives until this end is dropped; if it died, `trouble` says so.
        drop(self.events.send(Event::Lines(lines)));
    }

    pub(crate) fn segment_ended(&self) {
        drop(self.events.send(Event::SegmentEnded));
    }

    /// Whether these lines are those of the last segment, every one that was shown: whether they make the same tree.
    pub(crate) fn is_copy(&self, lines: Vec<u8>) -> bool {
        let (sender, answer) = bounded(1);
        drop(self.events.send(Event::Copy(lines, sender)));
        answer.recv().unwrap_or(false) // the notary is gone
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.progress.trouble()
    }
}

/// A checkpoint that waits for its signature.
struct Asked {
    checkpoint: Checkpoint,
    /// The tiles on disk are those of a tree of this size, or of a larger one.
    written: u64,
    /// The tiles are made durable with it: it ends a segment, or the log, or those of closed segments are not durable.
    is_final: bool,
}

/// The notary's state.
pub(crate) struct Notary {
    directory: PathBuf,
    tiles: Tiles,
    tree: Tree,
    /// The tree of the lines before the last segment.
    begun: Tree,
    /// Full tiles that are not written yet.
    unwritten: VecDeque<FreshTile>,
    /// Full tiles that are written, but maybe not durable yet.
    unsynced: Vec<FreshTile>,
    key: VerifierKey,
    notarization: Notarization,
    progress: Arc<Progress>,
    asked: Option<Asked>,
    /// The root that was signed last, by its size.
    signed: u64,
    /// When a checkpoint is due, if lines came since the last one.
    due: Option<Instant>,
    last: Option<Instant>,
    kept: Option<Instant>,
    /// The checkpoint of exactly the lines before a segment that has begun, until it is signed.
    ended: Option<Checkpoint>,
    /// How many lines have their hashes in tiles on stable storage.
    durable: u64,
}

impl Notary {
    /// Begins with the tree of all lines that the log holds, of which a checkpoint covers `signed`, and `durable` have
    /// their hashes on stable storage.
    pub(crate) fn new(
        directory: &Path,
        Retraced { tree, begun, fresh }: Retraced,
        (signed, durable): (u64, u64),
        key: VerifierKey,
        notarization: Notarization,
    ) -> Self {
        let progress = Arc::new(Progress::default());
        progress.signed.store(signed, Relaxed);
        progress.followed.store(tree.size(), Relaxed);
        let due = (tree.size() > signed).then(now);
        // What a killed process has written is not durable by that.
        let (unsynced, unwritten): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|fresh| fresh.is_written);
        Self {
            directory: directory.to_owned(),
            tiles: Tiles::new(directory),
            tree,
            begun,
            unwritten: unwritten.into(),
            unsynced,
            key,
            notarization,
            progress,
            asked: None,
            signed,
            due,
            last: None,
            kept: None,
            ended: None,
            durable,
        }
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Starts the thread; it ends when the follower is dropped. It has the lock of the log's directory up to its end,
    /// for its last checkpoint comes when the writer has ended.
    pub(crate) fn start(self, lock: File) -> io::Result<(Follower, JoinHandle<()>)> {
        let (events, followed) = bounded(BACKLOG);
        let progress = self.progress();
        let thread = thread::Builder::new().name("audit-notary".to_owned());
        let thread = thread.spawn(move || {
            let guard = Guard(Arc::clone(&self.progress));
            self.run(&followed);
            drop((lock, guard));
        })?;
        Ok((Follower { events, progress }, thread))
    }

    fn run(mut self, events: &Receiver<Event>) {
        let (signatures, signed) = unbounded();
        loop {
            let timer = self.wake_at().map_or_else(never, crossbeam_channel::at);
            select! {
                recv(events) -> event => match event {
                    Ok(event) => {
                        self.follow(event);
                        // Under load several commits wake it once.
                        thread::sleep(PAUSE);
                        events.try_iter().for_each(|event| self.follow(event));
                    }
                    Err(_) => break,
                },
                recv(signed) -> signature => if let Ok(signature) = signature {
                    self.take_signature(signature);
                },
                recv(timer) -> _ => {}
            }
            self.write_tiles();
            self.ask_if_due(&signatures);
        }
        self.end(&signatures, &signed);
    }

    fn wake_at(&self) -> Option<Instant> {
        if !self.unwritten.is_empty() {
            return Some(now() + RETRY);
        }
        if self.asked.is_some() { None } else { self.due }
    }

    fn follow(&mut self, event: Event) {
        match event {
            Event::Lines(lines) => {
                for leaf in leaves(&lines) {
                    self.tree.push(leaf, |tile, hashes| {
                        self.unwritten.push_back(FreshTile { tile, hashes, is_written: false });
                    });
                }
                self.progress.followed.store(self.tree.size(), Relaxed);
                if self.due.is_none() {
                    self.due = Some(self.last.map_or_else(now, |last| last + PERIOD));
                }
            }
            Event::Copy(lines, answer) => drop(answer.send(self.is_copy(&lines))),
            Event::SegmentEnded => {
                self.begun.clone_from(&self.tree);
                self.ended = Some(self.checkpoint());
                self.due = Some(now());
            }
        }
    }

    fn is_copy(&self, lines: &[u8]) -> bool {
        let mut tree = self.begun.clone();
        leaves(lines).for_each(|leaf| tree.push(leaf, |_, _| ()));
        tree == self.tree
    }

    /// The checkpoint of all lines.
    fn checkpoint(&self) -> Checkpoint {
        let origin = self.key.name().to_owned();
        Checkpoint { origin, size: self.tree.size(), root: self.tree.root() }
    }

    /// Writes the tiles that became full.
    fn write_tiles(&mut self) {
        while let Some(mut fresh) = self.unwritten.pop_front() {
            let written = self.tiles.write(fresh.tile, &fresh.hashes);
            let written = written.and_then(|()| self.tiles.remove_partials(fresh.tile, self.durable));
            if let Err(error) = written {
                self.unwritten.push_front(fresh);
                return self.fail(&format!("write a tile: {error}"));
            }
            fresh.is_written = true;
            self.unsynced.push(fresh);
        }
        if self.progress.trouble.lock().take().is_some() {
            tracing::info!("the tree of the audit log can be written again");
        }
    }

    /// The hashes cannot be kept: the log takes no records until they can.
    fn fail(&self, detail: &str) {
        self.progress.failures.fetch_add(1, Relaxed);
        let mut trouble = self.progress.trouble.lock();
        if trouble.is_none() {
            tracing::error!(detail, "the tree of the audit log cannot be kept; records are refused");
        }
        *trouble = Some(detail.to_owned());
    }

    /// Has a checkpoint signed, if it is time and none is being signed.
    fn ask_if_due(&mut self, signatures: &Sender<Result<[u8; 64], String>>) {
        let is_due = self.due.is_some_and(|due| due <= now());
        if is_due && self.asked.is_none() && self.unwritten.is_empty() {
            self.ask(signatures);
        }
    }

    fn ask(&mut self, signatures: &Sender<Result<[u8; 64], String>>) {
        if let Err(error) = self.write_edges() {
            self.progress.failures.fetch_add(1, Relaxed);
            tracing::warn!(%error, "no checkpoint can be made: its tiles cannot be written");
            self.due = Some(now() + RETRY);
            return;
        }
        let (last, written) = (now(), self.tree.size());
        let ended = self.ended.take();
        // Tiles of closed segments that are not durable yet would have all these lines read at the next start.
        let is_final = ended.is_some() || self.durable < self.begun.size();
        let checkpoint = ended.unwrap_or_else(|| self.checkpoint());
        self.last = Some(last);
        self.due = (checkpoint.size < written).then(|| last + PERIOD);
        let (text, mut request) = (checkpoint.text(), Request(Some(signatures.clone())));
        self.asked = Some(Asked { checkpoint, written, is_final });
        self.notarization.signer.sign(text, Box::new(move |signature| request.answer(signature)));
    }

    /// Writes the tiles that are not full, as the tree has them now.
    fn write_edges(&self) -> io::Result<()> {
        for (tile, hashes) in self.tree.edges() {
            self.tiles.write(tile, hashes)?;
            self.tiles.remove_partials(tile, self.durable)?;
        }
        Ok(())
    }

    fn take_signature(&mut self, signature: Result<[u8; 64], String>) {
        let Some(asked) = self.asked.take() else { return };
        let size = asked.checkpoint.size;
        let published = signature.and_then(|signature| {
            let signed = SignedCheckpoint::new(asked.checkpoint.clone(), &self.key, &signature);
            self.publish(&signed, &asked).map_err(|error| error.to_string())
        });
        match published {
            Ok(()) => self.signed = size,
            Err(detail) => {
                self.progress.failures.fetch_add(1, Relaxed);
                tracing::warn!(detail, size, "no checkpoint could be made");
                if asked.is_final && self.ended.is_none() {
                    self.ended = Some(asked.checkpoint);
                }
                self.due = Some(now() + PERIOD);
            }
        }
    }

    /// Makes a checkpoint durable and tells of it.
    fn publish(&mut self, signed: &SignedCheckpoint, asked: &Asked) -> io::Result<()> {
        if asked.is_final {
            self.sync_tiles(asked.written)?;
        }
        let replacing = self.progress.replacing.lock();
        replace(&self.directory, CHECKPOINT, signed.note.as_bytes())?;
        drop(replacing);
        self.progress.signed.store(signed.checkpoint.size, Relaxed);
        (self.notarization.published)(signed);
        if asked.is_final || self.kept.is_none_or(|kept| kept.elapsed() >= KEPT_EVERY) {
            self.kept = Some(now());
            self.keep(signed)?;
        }
        Ok(())
    }

    /// Appends to the checkpoints of the past.
    fn keep(&self, signed: &SignedCheckpoint) -> io::Result<()> {
        let time = self.notarization.clock.now().to_string();
        let line = serde_json::json!({ "checkpoint": signed.note, "time": time });
        let path = self.directory.join(CHECKPOINTS);
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()
    }

    /// From now on the hashes of the first `size` lines, of which the edges were written, do not need the lines.
    fn sync_tiles(&mut self, size: u64) -> io::Result<()> {
        let full = || self.unsynced.iter().map(|fresh| fresh.tile);
        // An edge may have given way to its full form since.
        let edges = Tile::edges(size).filter(|edge| full().all(|tile| tile != edge.full()));
        if let Err(error) = full().chain(edges).try_for_each(|tile| self.tiles.sync(tile)) {
            self.unwritten.extend(self.unsynced.drain(..)); // the edges are written anew in any case
            return Err(error);
        }
        replace(&self.directory, HASHED, size.to_string().as_bytes())?;
        self.durable = size;
        for fresh in self.unsynced.drain(..) {
            self.tiles.remove_partials(fresh.tile, size)?;
        }
        Ok(())
    }

    /// The last checkpoint, over all lines.
    fn end(
        mut self,
        signatures: &Sender<Result<[u8; 64], String>>,
        signed: &Receiver<Result<[u8; 64], String>>,
    ) {
        let deadline = now() + LAST_SIGNATURE;
        // One may be under way, and one of a segment's end may wait; a last one covers what came since.
        for _ in 0..3 {
            self.write_tiles();
            let open = self.ended.is_some() || self.signed < self.tree.size();
            if self.asked.is_none() && open && self.unwritten.is_empty() {
                self.ended = self.ended.take().or_else(|| Some(self.checkpoint()));
                self.ask(signatures);
            }
            if self.asked.is_some() {
                let Ok(signature) = signed.recv_deadline(deadline) else { break };
                self.take_signature(signature);
            }
        }
        let open = self.tree.size() - self.signed;
        if open > 0 {
            tracing::warn!(lines = open, "the audit log ends with lines that no checkpoint covers");
        }
    }
}

/// A request for a signature. It has one answer, also if the signer drops it: the notary asks for nothing else meanwhile.
struct Request(Option<Sender<Result<[u8; 64], String>>>);

impl Request {
    fn answer(&mut self, signature: Result<[u8; 64], String>) {
        if let Some(signatures) = self.0.take() {
            drop(signatures.send(signature)); // without a notary nobody waits
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.answer(Err("the signer gave no answer".to_owned()));
    }
}

/// The hashes of whole lines.
fn leaves(lines: &[u8]) -> impl Iterator<Item = Hash> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| leaf_hash(line.strip_suffix(b"\n").unwrap_or(line)))
}

/// Says that the notary is gone, if it panics.
struct Guard(Arc<Progress>);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            *self.0.trouble.lock() =
                Some("the notary of the audit log panicked; restart the service".to_owned());
        }
    }
}

/// Puts new content in the place of a file, durably.
pub(crate) fn replace(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.tmp"));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(unfinished, directory.join(name))?;
    File::open(directory)?.sync_all()
}
