//! The writer's state: the active segment, its durable end, and what happens when a disk fails.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use kms_core::{
    Phase, Record,
    ports::{Acknowledge, AuditError, Receipt},
};

use crate::{
    counters::{Counters, Health},
    intents::OpenIntents,
    line::{FORMAT_VERSION, HeaderType, RecordLine, SegmentHeader, hash, push_line},
    notary::Follower,
    segment::{CHUNK, LARGEST_COMMIT, LONGEST_LINE, file_name},
    storage::{FileStatus, LogFile, Storage},
};

/// The pause between two attempts to reopen a log that failed.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The pause between two looks at a file that was replaced: it may be read to its end.
const LOST_PAUSE: Duration = Duration::from_secs(1);

/// What is written ahead.
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// The machine's monotonic time.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a disk takes, and when to try it again, is no business of the domain's clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A record on its way to the log.
pub(crate) struct Pending {
    pub(crate) record: Record,
    /// Absent for a record that is owed: its caller has been told of the failure already.
    pub(crate) acknowledge: Option<Acknowledge>,
}

/// Why a commit failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The device or the file system refused; it may work again.
    Io(&'static str, io::Error),
    /// The file is not the one that holds what was acknowledged.
    Lost(String),
}

enum State {
    Working,
    Failed { detail: String, next_attempt: Instant },
    Lost { detail: String, next_attempt: Instant },
}

/// The segment that records go to.
pub(crate) struct Active<F> {
    /// The place of its header: its name.
    pub(crate) first: u64,
    pub(crate) file: F,
    /// Device and inode.
    pub(crate) identity: (u64, u64),
    /// The end of what is on stable storage: all lines before it are whole.
    pub(crate) durable: u64,
    /// The end of the zeros that are written ahead.
    pub(crate) allocated: u64,
    /// The line that ends at `durable`, without newline.
    pub(crate) last_line: Vec<u8>,
}

/// The log as its one writer sees it. Synchronous: the thread and the queue are elsewhere.
pub(crate) struct Journal<S: Storage> {
    storage: S,
    segment_bytes: u64,
    active: Active<S::File>,
    next_sequence: u64,
    open_intents: OpenIntents,
    state: State,
    /// Whether something was done to the active segment's file since it was last seen to hold all that was acknowledged.
    is_suspect: bool,
    /// Outcomes that could not be written: the changes that they tell of have happened.
    owed: Vec<Pending>,
    /// The lines of the commit in hand.
    buffer: Vec<u8>,
    counters: Arc<Counters>,
    /// Who is shown what became durable.
    follower: Option<Follower>,
}

impl<S: Storage> Journal<S> {
    pub(crate) fn new(
        storage: S,
        segment_bytes: u64,
        active: Active<S::File>,
        next_sequence: u64,
        open_intents: OpenIntents,
    ) -> Self {
        Self {
            storage,
            segment_bytes,
            active,
            next_sequence,
            open_intents,
            state: State::Working,
            is_suspect: false,
            owed: Vec::new(),
            buffer: Vec::new(),
            counters: Arc::default(),
            follower: None,
        }
    }

    /// From now on, `follower` is shown what becomes durable.
    pub(crate) fn followed_by(&mut self, follower: Follower) {
        self.follower = Some(follower);
    }

    /// The place of the next line.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Whether an attempt to reopen, or to write what is owed, may help.
    pub(crate) fn awaits_repair(&self) -> bool {
        match self.state {
            State::Working => !self.owed.is_empty(), // the tree could not be kept
            State::Failed { .. } | State::Lost { .. } => true,
        }
    }

    /// Makes the records durable in their order and acknowledges them, or refuses them.
    ///
    /// With no records it only tries what a failure has left to do.
    pub(crate) fn commit(&mut self, batch: &mut Vec<Pending>) {
        if let Err(detail) = self.ready() {
            return self.refuse(batch.drain(..), &detail);
        }
        let mut owed = std::mem::take(&mut self.owed);
        let mut rest = owed.drain(..).chain(batch.drain(..)).peekable();
        while rest.peek().is_some() {
            let mut taken = Vec::new();
            if let Err(failure) = self.commit_some(&mut rest, &mut taken) {
                let detail = self.fail(failure);
                return self.refuse(taken.into_iter().chain(rest), &detail);
            }
        }
    }

    /// Commits as many records as one commit may hold; leaves them in `taken` if that fails.
    fn commit_some(
        &mut self,
        rest: &mut impl Iterator<Item = Pending>,
        taken: &mut Vec<Pending>,
    ) -> Result<(), Failure> {
        if self.active.durable >= self.segment_bytes && self.open_intents.fit_header() {
            self.active.check(&self.storage)?;
            self.rotate()?;
        }
        self.encode(rest, taken)?;
        if taken.is_empty() {
            return Ok(());
        }
        let began = now();
        self.active.check(&self.storage)?;
        self.active.write(&self.buffer)?;
        // It may have been replaced meanwhile.
        self.active.check_place(&self.storage)?;
        self.active.advance(&self.buffer);
        self.counters.committed(taken.len(), began.elapsed());
        for pending in taken.drain(..) {
            self.open_intents.note(&pending.record);
            let receipt = Receipt::durable(self.next_sequence);
            self.next_sequence += 1;
            if let Some(acknowledge) = pending.acknowledge {
                acknowledge(Ok(receipt));
            }
        }
        if let Some(follower) = &self.follower {
            let room = Vec::with_capacity(self.buffer.len());
            follower.lines(std::mem::replace(&mut self.buffer, room));
        }
        Ok(())
    }

    /// Writes the lines of as many records as one commit may hold into the buffer.
    fn encode(
        &mut self,
        rest: &mut impl Iterator<Item = Pending>,
        taken: &mut Vec<Pending>,
    ) -> Result<(), Failure> {
        self.buffer.clear();
        while self.buffer.len() <= LARGEST_COMMIT - LONGEST_LINE {
            let Some(pending) = rest.next() else { break };
            let start = self.buffer.len();
            let sequence = self.next_sequence + taken.len() as u64;
            push_line(&mut self.buffer, &RecordLine::new(sequence, &pending.record))
                .map_err(|error| Failure::Io("encode", error))?;
            if self.buffer.len() - start > LONGEST_LINE {
                self.buffer.truncate(start);
                refuse_one(pending, "the record is longer than a line may be");
            } else {
                taken.push(pending);
            }
        }
        Ok(())
    }

    /// Closes the active segment and begins the next.
    fn rotate(&mut self) -> Result<(), Failure> {
        let first = self.next_sequence;
        let previous = Some(hash(&self.active.last_line));
        let mut fresh = Active::prepare(&self.storage, first, previous, &self.open_intents)?;
        self.active.close()?;
        self.storage.publish(first).map_err(|error| Failure::Io("publish a segment", error))?;
        std::mem::swap(&mut self.active, &mut fresh);
        self.next_sequence += 1;
        if let Some(follower) = &self.follower {
            follower.segment_ended();
            follower.lines([&self.active.last_line[..], b"\n"].concat());
        }
        Ok(())
    }

    /// Says whether records can be taken; a failed log is reopened first, if it is time.
    fn ready(&mut self) -> Result<(), String> {
        if let Some(trouble) = self.follower.as_ref().and_then(Follower::trouble) {
            return Err(trouble);
        }
        match &self.state {
            State::Working => return Ok(()),
            State::Failed { detail, next_attempt } | State::Lost { detail, next_attempt }
                if now() < *next_attempt =>
            {
                return Err(detail.clone());
            }
            State::Failed { .. } | State::Lost { .. } => {}
        }
        match self.reopen() {
            Ok(()) => {
                tracing::info!(owed = self.owed.len(), "the audit log works again");
                self.state = State::Working;
                self.is_suspect = false;
                self.counters.set_health(Health::Working);
                Ok(())
            }
            Err(failure) => Err(self.fail_again(failure)),
        }
    }

    /// Opens the active segment by its name and goes on only from what was acknowledged.
    ///
    /// The descriptor on which a write or a sync failed is never used again: the kernel reports such
    /// an error once and then calls the pages clean.
    fn reopen(&mut self) -> Result<(), Failure> {
        // Somebody may have put the file back: with what follows its name, too, is durable.
        let found = self.active.find(&self.storage)?;
        let abandoned = self.next_sequence; // a segment that was begun in vain
        self.storage.withdraw(abandoned).map_err(|error| Failure::Io("withdraw a segment", error))?;
        self.active.reopen(found, self.is_suspect, &self.storage, self.follower.as_ref())
    }

    fn fail(&mut self, failure: Failure) -> String {
        self.enter_failure(failure, now())
    }

    fn fail_again(&mut self, failure: Failure) -> String {
        self.enter_failure(failure, now() + RETRY_PAUSE)
    }

    fn enter_failure(&mut self, failure: Failure, next_attempt: Instant) -> String {
        self.counters.failed();
        let (state, health, detail) = match failure {
            Failure::Io(what, error) => {
                let detail = format!("{what}: {error}");
                (State::Failed { detail: detail.clone(), next_attempt }, Health::Failed, detail)
            }
            Failure::Lost(detail) => {
                self.is_suspect = true;
                // The file may come back to its place; it is only looked at.
                (
                    State::Lost { detail: detail.clone(), next_attempt: now() + LOST_PAUSE },
                    Health::Lost,
                    detail,
                )
            }
        };
        if std::mem::discriminant(&self.state) != std::mem::discriminant(&state) {
            tracing::error!(segment = file_name(self.active.first), detail, "the audit log failed");
        }
        self.counters.set_health(health);
        self.state = state;
        detail
    }

    /// Answers records with an error; outcomes are kept for the time after the repair.
    fn refuse(&mut self, records: impl Iterator<Item = Pending>, detail: &str) {
        for pending in records {
            if pending.record.phase == Phase::Outcome {
                self.owed.push(Pending { record: pending.record.clone(), acknowledge: None });
            }
            refuse_one(pending, detail);
        }
    }

    /// Ends the log: what is owed has a last chance, and the zeros behind the last line are cut off.
    pub(crate) fn close(mut self) {
        if let State::Failed { next_attempt, .. } | State::Lost { next_attempt, .. } = &mut self.state {
            *next_attempt = now();
        }
        if self.awaits_repair() {
            self.commit(&mut Vec::new());
        }
        if !matches!(self.state, State::Working) {
            return;
        }
        if let Err(failure) = self.active.close() {
            self.fail(failure);
        }
    }
}

fn refuse_one(pending: Pending, detail: &str) {
    if let Some(acknowledge) = pending.acknowledge {
        acknowledge(Err(AuditError { detail: detail.to_owned() }));
    }
}

impl<F: LogFile> Active<F> {
    /// Makes a segment that holds only its header, durable but not published.
    pub(crate) fn prepare<S: Storage<File = F>>(
        storage: &S,
        first: u64,
        previous: Option<[u8; 32]>,
        open_intents: &OpenIntents,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::Io("prepare a segment", error);
        let header = SegmentHeader {
            open_intents: open_intents.to_header(),
            previous,
            seq: first,
            r#type: HeaderType::Segment,
            v: FORMAT_VERSION,
        };
        let mut line = Vec::new();
        push_line(&mut line, &header).map_err(failed)?;
        let file = storage.prepare().map_err(failed)?;
        let identity = file.status().map_err(failed)?.identity;
        let last_line = line[..line.len() - 1].to_vec();
        let mut active = Self { first, file, identity, durable: 0, allocated: 0, last_line };
        active.write(&line)?;
        active.advance(&line);
        Ok(active)
    }

    /// Refuses a segment that somebody else has deleted, replaced, cut or written over.
    fn check<S: Storage>(&self, storage: &S) -> Result<(), Failure> {
        self.check_place(storage)?;
        self.check_last_line(&self.file)
    }

    /// The segment's name stands for the file that is open, and that is as long as it was made.
    fn check_place<S: Storage>(&self, storage: &S) -> Result<(), Failure> {
        let status = self.find(storage)?;
        if status.identity != self.identity {
            return Err(self.lost("was replaced"));
        }
        if status.length < self.allocated {
            return Err(self.lost("was cut"));
        }
        Ok(())
    }

    /// The last acknowledged line lies where it was written, and another file's or an older state's end does not.
    fn check_last_line(&self, file: &F) -> Result<(), Failure> {
        let length = self.last_line.len();
        let last = file.read_at(self.durable - length as u64 - 1, length + 1);
        let last = last.map_err(|error| Failure::Io("read the last line", error))?;
        if last[..length] != self.last_line || last[length] != b'\n' {
            return Err(self.lost("has lost the last acknowledged record"));
        }
        Ok(())
    }

    /// The file that has the segment's name.
    fn find<S: Storage>(&self, storage: &S) -> Result<FileStatus, Failure> {
        storage.status(self.first).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.lost("was deleted"),
            _ => Failure::Io("look at the segment", error),
        })
    }

    /// Writes whole lines behind the durable end, in one write and one sync.
    fn write(&mut self, lines: &[u8]) -> Result<(), Failure> {
        self.allocate(self.durable + lines.len() as u64)?;
        self.file.write_at(lines, self.durable).map_err(|error| Failure::Io("write", error))?;
        self.file.sync().map_err(|error| Failure::Io("fdatasync", error))
    }

    /// Counts lines that were written as durable.
    fn advance(&mut self, lines: &[u8]) {
        self.durable += lines.len() as u64;
        let start = lines[..lines.len() - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.last_line.clear();
        self.last_line.extend_from_slice(&lines[start..lines.len() - 1]);
    }

    /// Writes zeros ahead, so that a later sync has no metadata to write and a full disk shows now.
    fn allocate(&mut self, end: u64) -> Result<(), Failure> {
        while self.allocated < end {
            self.file.write_at(&ZEROS, self.allocated).map_err(|error| Failure::Io("write ahead", error))?;
            self.allocated += CHUNK as u64;
        }
        Ok(())
    }

    /// Opens what was found in the place of the file anew, if it is the file or a copy. Of one that `is_suspect` every
    /// line is read, as of a copy.
    fn reopen<S: Storage<File = F>>(
        &mut self,
        found: FileStatus,
        is_suspect: bool,
        storage: &S,
        follower: Option<&Follower>,
    ) -> Result<(), Failure> {
        let failed = |error| Failure::Io("reopen", error);
        self.allocated = self.durable;
        if found.length < self.durable {
            return Err(self.lost("was cut"));
        }
        let file = storage.open(self.first).map_err(failed)?;
        // A name that leads to another file has an identity of its own.
        if file.status().map_err(failed)?.identity != found.identity {
            return Err(self.lost("was replaced"));
        }
        self.check_last_line(&file)?;
        if is_suspect || found.identity != self.identity {
            self.compare(&file, storage, follower)?;
        }
        if found.identity != self.identity {
            tracing::warn!(
                segment = file_name(self.first),
                "a copy has taken the place of the audit log's file"
            );
            self.identity = found.identity;
        }
        file.cut(self.durable).map_err(failed)?;
        self.file = file;
        self.allocate(self.durable + 1)?;
        self.file.sync().map_err(failed)
    }

    /// Accepts a file in the place of the segment if up to the durable end it has the lines of which the tree was made,
    /// in the directory that this log has locked.
    fn compare<S: Storage<File = F>>(
        &self,
        file: &F,
        storage: &S,
        follower: Option<&Follower>,
    ) -> Result<(), Failure> {
        let failed = |error| Failure::Io("read what has replaced the segment", error);
        if !storage.is_locked().map_err(failed)? {
            return Err(self.lost("was replaced together with its directory"));
        }
        let length = usize::try_from(self.durable).unwrap_or(usize::MAX);
        let lines = file.read_at(0, length).map_err(failed)?;
        if !follower.is_some_and(|follower| follower.is_copy(lines)) {
            return Err(self.lost("was replaced by a file with other lines"));
        }
        Ok(())
    }

    /// Something was done to the file: acknowledged records may be gone.
    fn lost(&self, what: &str) -> Failure {
        Failure::Lost(format!(
            "{} {what} while the log was open: acknowledged records may be gone, so nothing is written until the very \
             file or a true copy of it is back in its place, or an operator has restored the directory and has \
             restarted the service",
            file_name(self.first)
        ))
    }

    /// Cuts off the zeros behind the last line.
    fn close(&mut self) -> Result<(), Failure> {
        let failed = |error| Failure::Io("close a segment", error);
        self.file.cut(self.durable).map_err(failed)?;
        self.allocated = self.durable;
        self.file.sync().map_err(failed)
    }
}
