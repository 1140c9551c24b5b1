//! A disk in memory that fails on demand and can tell every state that a power cut may leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{
    scan::{Before, WholeLines, scan},
    segment::{UNFINISHED, file_name, parse_name},
    storage::{FileStatus, LogFile, Storage},
};

/// A change of a file that no sync has made durable.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Cut(length) => content.resize(*length, 0),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
        }
    }

    /// What of this change may be on the disk when the power goes: pieces of a write.
    fn pieces(&self) -> Vec<Self> {
        let Self::Write { offset, bytes } = self else { return vec![self.clone()] };
        let half = bytes.len() / 2;
        let piece =
            |from: usize, to: usize| Self::Write { offset: offset + from, bytes: bytes[from..to].to_vec() };
        vec![piece(0, half), piece(0, 1), piece(0, bytes.len() - 1), piece(half, bytes.len()), self.clone()]
    }
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// What a power cut leaves at least.
    durable: Vec<u8>,
    /// What a reader sees.
    cached: Vec<u8>,
    unsynced: Vec<Change>,
}

impl Node {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// As the kernel does it: some pages are written, all are called clean.
    fn fail_sync(&mut self) {
        let half = self.unsynced.len().div_ceil(2);
        for change in self.unsynced.drain(..).take(half) {
            change.pieces()[0].apply(&mut self.durable);
        }
    }

    fn after_power_cut(&self) -> Vec<Vec<u8>> {
        let mut states = vec![self.durable.clone()];
        let mut before = self.durable.clone();
        for change in &self.unsynced {
            for piece in change.pieces() {
                for base in [&before, &self.durable] {
                    let mut state = base.clone();
                    piece.apply(&mut state);
                    states.push(state);
                }
            }
            change.apply(&mut before);
        }
        states.sort();
        states.dedup();
        states
    }
}

#[derive(Debug, Clone, Default)]
struct Disk {
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    operations: usize,
    faults: BTreeSet<usize>,
    power_cut: Option<usize>,
}

impl Disk {
    /// Counts an operation that changes something; says whether it fails.
    fn step(&mut self) -> io::Result<bool> {
        let operation = self.operations;
        self.operations += 1;
        match self.power_cut {
            Some(last) if operation >= last => Err(io::Error::other("no power")),
            _ => Ok(self.faults.remove(&operation)),
        }
    }

    fn node(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

/// A handle of the disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStorage(Arc<Mutex<Disk>>);

/// An open file of the disk.
#[derive(Debug)]
pub(crate) struct MemoryFile(MemoryStorage, usize);

impl MemoryStorage {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    fn of(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(disk)))
    }

    /// How many operations have changed something, or tried to.
    pub(crate) fn operations(&self) -> usize {
        self.disk().operations
    }

    /// Lets the operation with this number fail.
    pub(crate) fn fail_at(&self, operation: usize) {
        self.disk().faults.insert(operation);
    }

    /// Lets the next operation fail.
    pub(crate) fn fail_next(&self) {
        let next = self.operations();
        self.fail_at(next);
    }

    /// Cuts the power before the operation with this number.
    pub(crate) fn cut_power_at(&self, operation: usize) {
        self.disk().power_cut = Some(operation);
    }

    /// Removes a file behind the log's back.
    pub(crate) fn delete(&self, first: u64) {
        self.disk().names.remove(&file_name(first));
    }

    /// Overwrites bytes behind the log's back.
    pub(crate) fn overwrite(&self, first: u64, offset: usize, bytes: &[u8]) {
        let mut disk = self.disk();
        let node = disk.node(&file_name(first)).expect("the segment exists");
        disk.nodes[node].cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        disk.nodes[node].durable[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// The segments, in order.
    pub(crate) fn segment_list(&self) -> Vec<u64> {
        self.segments().expect("the list cannot fail")
    }

    /// What a reader sees of a segment.
    pub(crate) fn content(&self, first: u64) -> Vec<u8> {
        let disk = self.disk();
        disk.nodes[disk.node(&file_name(first)).expect("the segment exists")].cached.clone()
    }

    /// The disk after the process was killed: the kernel still has what was written.
    pub(crate) fn after_kill(&self) -> Self {
        let mut disk = self.disk().clone();
        disk.power_cut = None;
        disk.faults.clear();
        Self::of(disk)
    }

    /// Every state in which a power cut may leave the disk.
    pub(crate) fn after_power_cut(&self) -> Vec<Self> {
        let disk = self.disk();
        let mut states = Vec::new();
        for names in [&disk.names, &disk.durable_names] {
            // One file is written at a time, so the states of the files need not be multiplied.
            for (name, node) in names {
                for content in disk.nodes[*node].after_power_cut() {
                    states.push(image(&disk, names, name, &content));
                }
            }
            if names.is_empty() {
                states.push(Self::default());
            }
        }
        states
    }

    /// All lines, after a check that the segments fit together.
    pub(crate) fn verified_lines(&self) -> Vec<Vec<u8>> {
        let mut before = Before::Nothing;
        let mut lines = Vec::new();
        for first in self.segment_list() {
            let content = self.content(first);
            let scanned = scan(&*content, first, before, |_, _| (), |_, ()| Ok(())).expect("a sound segment");
            before = Before::Segment(scanned.end);
            lines.extend(WholeLines::new(&content).map(|(_, line)| line.to_vec()));
        }
        lines
    }
}

fn image(disk: &Disk, names: &BTreeMap<String, usize>, changed: &str, content: &[u8]) -> MemoryStorage {
    let mut image = Disk::default();
    for (name, node) in names {
        let bytes = if name == changed { content.to_vec() } else { disk.nodes[*node].durable.clone() };
        image.names.insert(name.clone(), image.nodes.len());
        image.nodes.push(Node { durable: bytes.clone(), cached: bytes, unsynced: Vec::new() });
    }
    image.durable_names = image.names.clone();
    MemoryStorage::of(image)
}

impl Storage for MemoryStorage {
    type File = MemoryFile;

    fn segments(&self) -> io::Result<Vec<u64>> {
        Ok(self.disk().names.keys().filter_map(|name| parse_name(name)).collect())
    }

    fn open(&self, first: u64) -> io::Result<MemoryFile> {
        let mut disk = self.disk();
        let node = disk.node(&file_name(first))?;
        if disk.step()? {
            disk.nodes[node].fail_sync();
            return Err(broken());
        }
        disk.nodes[node].sync();
        disk.nodes[node].cached = disk.nodes[node].durable.clone();
        Ok(MemoryFile(self.clone(), node))
    }

    fn prepare(&self) -> io::Result<MemoryFile> {
        let mut disk = self.disk();
        if disk.step()? {
            return Err(broken());
        }
        let node = disk.nodes.len();
        disk.nodes.push(Node::default());
        disk.names.insert(UNFINISHED.to_owned(), node);
        Ok(MemoryFile(self.clone(), node))
    }

    fn publish(&self, first: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let failing = disk.step()?;
        let node = disk.node(UNFINISHED)?;
        disk.names.remove(UNFINISHED);
        disk.names.insert(file_name(first), node);
        if failing {
            return Err(broken()); // renamed, but not durably
        }
        let failing = disk.step()?;
        if failing {
            return Err(broken());
        }
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn withdraw(&self, first: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let failing = disk.step()?;
        disk.names.remove(UNFINISHED);
        disk.names.remove(&file_name(first));
        if failing {
            return Err(broken());
        }
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.step()? {
            return Err(broken());
        }
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn status(&self, first: u64) -> io::Result<FileStatus> {
        let node = self.disk().node(&file_name(first))?;
        MemoryFile(self.clone(), node).status()
    }

    fn is_locked(&self) -> io::Result<bool> {
        Ok(true)
    }
}

impl LogFile for MemoryFile {
    fn status(&self) -> io::Result<FileStatus> {
        let length = self.0.disk().nodes[self.1].cached.len() as u64;
        Ok(FileStatus { identity: (0, self.1 as u64), length })
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let offset = usize::try_from(offset).expect("a small file");
        let disk = self.0.disk();
        let found = disk.nodes[self.1].cached.get(offset..offset + length);
        found.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).expect("a small file");
        let mut disk = self.0.disk();
        let failing = disk.step()?;
        let written = if failing { bytes.len() / 2 } else { bytes.len() };
        disk.nodes[self.1].change(Change::Write { offset, bytes: bytes[..written].to_vec() });
        if failing { Err(broken()) } else { Ok(()) }
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).expect("a small file");
        let mut disk = self.0.disk();
        if disk.step()? {
            return Err(broken());
        }
        disk.nodes[self.1].change(Change::Cut(length));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.0.disk();
        if disk.step()? {
            disk.nodes[self.1].fail_sync();
            return Err(broken());
        }
        disk.nodes[self.1].sync();
        Ok(())
    }
}
