//! What was counted, kept in a file: so that it need not be counted again, and is not lost with lines that go to an
//! archive.
//!
//! The file tells up to which line it counts, and the root of the tree of the lines before. It is believed only beside a
//! log whose lines have that root, and if it is whole; then counting goes on with the next line. So no line is counted
//! twice, or left out, wherever a crash comes between the log and the file.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use kms_core::{RequestId, Timestamp, key::KeyId, operation::OperationName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Calls, KeyKind, Meter, Month, Opened,
    lives::Life,
    sums::{Change, Sums},
};
use crate::{fields::Named as _, line::push_line, memory::roots};

/// Another one for each change of the file's form, and of what is counted as what.
const VERSION: u32 = 1;

/// Why what was kept is not believed. What it tells has to be counted again.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not what was written, or another build wrote it.
    #[error("is damaged, or of another build: line {line}")]
    Damaged {
        /// The first line of the file that does not fit, from 1 on.
        line: u64,
    },
    /// The log does not have these lines: it is another one, or an older state of it.
    #[error("counts {lines} lines that are not those of the log")]
    OtherLog {
        /// How many it counts.
        lines: u64,
    },
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Entry<'a> {
    Meter(Head),
    Month(KeptMonth<'a>),
    Key(KeptKey<'a>),
    Opened(KeptChange<'a>),
    /// SHA-256 of the lines before. Nothing follows.
    End(Cow<'a, str>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    /// How many lines of the log are counted.
    lines: u64,
    /// The root of their tree, in hex.
    root: String,
    begin: Option<u64>,
    whole_since: Option<Timestamp>,
    latest: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptMonth<'a> {
    account: Option<Cow<'a, str>>,
    month: Cow<'a, str>,
    /// By operation: answered, refused.
    calls: BTreeMap<Cow<'a, str>, (u64, u64)>,
    /// By the places of the kinds: how many more, and their microseconds.
    changes: Vec<(i64, i128)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptKey<'a> {
    id: KeyId,
    account: Cow<'a, str>,
    kind: Cow<'a, str>,
    made: Timestamp,
    ended: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptChange<'a> {
    call: RequestId,
    time: Timestamp,
    key: Option<KeyId>,
    made: Option<(Cow<'a, str>, Cow<'a, str>)>,
}

impl Meter {
    /// Keeps in the file `path` what was counted of the log in `directory`: durably, and whole or not at all.
    pub fn keep(&self, directory: &Path, path: &Path) -> io::Result<()> {
        let root = roots(directory, self.next).next().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the log does not have the lines that were counted")
        })?;
        let unfinished = path.with_extension("tmp");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let mut out = BufWriter::new(file);
        let (mut hash, mut line) = (Sha256::new(), Vec::new());
        let mut put = |entry: &Entry<'_>, out: &mut BufWriter<File>| {
            line.clear();
            push_line(&mut line, entry)?;
            hash.update(&line);
            out.write_all(&line)
        };
        let head = Head {
            version: VERSION,
            lines: self.next,
            root: hex::encode(root),
            begin: self.begin,
            whole_since: self.whole_since,
            latest: self.latest,
        };
        put(&Entry::Meter(head), &mut out)?;
        self.entries().try_for_each(|entry| put(&entry, &mut out))?;
        line.clear();
        push_line(&mut line, &Entry::End(hex::encode(hash.finalize()).into()))?;
        out.write_all(&line)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(unfinished, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }

    /// What was kept in the file `path`, if there is one and the log in `directory` begins with the lines that it counts.
    pub fn resume(directory: &Path, path: &Path) -> Result<Option<Self>, SnapshotError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let (meter, root) = read(BufReader::new(file))?;
        let is_root = |found| hex::encode(found) == root;
        if roots(directory, meter.next).any(is_root) {
            Ok(Some(meter))
        } else {
            Err(SnapshotError::OtherLog { lines: meter.next })
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let months = self.accounts.iter().flat_map(|(account, sums)| {
            sums.months.iter().map(move |(month, sums)| {
                let calls = sums.calls.iter();
                Entry::Month(KeptMonth {
                    account: account.as_deref().map(Into::into),
                    month: month.to_string().into(),
                    calls: calls
                        .map(|(name, calls)| ((*name).into(), (calls.answered, calls.refused)))
                        .collect(),
                    changes: sums.changes.iter().map(|change| (change.keys, change.micros)).collect(),
                })
            })
        });
        let keys = self.keys.iter().map(|Life { key, owner, made }| {
            Entry::Key(KeptKey {
                id: *key,
                account: (&*owner.account).into(),
                kind: owner.kind.name().into(),
                made: *made,
                ended: self.ended.get(key).copied(),
            })
        });
        let opened = self.opened.iter().map(|(call, opened)| {
            let made = opened.made.as_ref();
            Entry::Opened(KeptChange {
                call: *call,
                time: opened.time,
                key: opened.key,
                made: made.map(|owner| ((&*owner.account).into(), owner.kind.name().into())),
            })
        });
        months.chain(keys).chain(opened)
    }

    /// Takes over what an entry tells; nothing if it does not fit.
    fn put_back(&mut self, entry: Entry<'_>) -> Option<()> {
        match entry {
            Entry::Month(kept) => {
                let account = kept.account.map(|name| self.account(&name));
                let sums = Sums { calls: calls(&kept.calls)?, changes: changes(&kept.changes)? };
                let month = kept.month.parse::<Month>().ok()?;
                *self.accounts.entry(account).or_default().month(month) = sums;
            }
            Entry::Key(kept) => {
                let owner = self.owner(&kept.account, kind(&kept.kind)?);
                self.keys.insert(Life { key: kept.id, owner, made: kept.made }).then_some(())?;
                self.ended.extend(kept.ended.map(|ended| (kept.id, ended)));
            }
            Entry::Opened(KeptChange { call, time, key, made }) => {
                let made = match made {
                    Some((account, name)) => Some(self.owner(&account, kind(&name)?)),
                    None => None,
                };
                self.opened.insert(call, Opened { time, key, made });
            }
            Entry::Meter(_) | Entry::End(_) => return None,
        }
        Some(())
    }
}

fn calls(kept: &BTreeMap<Cow<'_, str>, (u64, u64)>) -> Option<BTreeMap<&'static str, Calls>> {
    let each = kept.iter().map(|(name, (answered, refused))| {
        let operation = OperationName::ALL.iter().find(|operation| operation.word() == name)?;
        Some((operation.word(), Calls { answered: *answered, refused: *refused }))
    });
    each.collect()
}

fn changes<const KINDS: usize>(kept: &[(i64, i128)]) -> Option<[Change; KINDS]> {
    let kept: &[_; KINDS] = kept.try_into().ok()?;
    Some(kept.map(|(keys, micros)| Change { keys, micros }))
}

fn kind(name: &str) -> Option<KeyKind> {
    KeyKind::ALL.into_iter().find(|kind| kind.name() == name)
}

/// The meter in a file, and the root of the lines that it counts.
fn read(mut file: BufReader<File>) -> Result<(Meter, String), SnapshotError> {
    let (mut hash, mut line, mut number) = (Sha256::new(), Vec::new(), 0);
    let mut found: Option<(Meter, String)> = None;
    loop {
        number += 1;
        let damaged = || SnapshotError::Damaged { line: number };
        line.clear();
        file.read_until(b'\n', &mut line)?;
        let text = line.strip_suffix(b"\n").ok_or_else(damaged)?;
        let entry = serde_json::from_slice(text).map_err(|_| damaged())?;
        match (entry, &mut found) {
            (Entry::Meter(head), None) if head.version == VERSION => {
                let Head { lines: next, root, begin, whole_since, latest, .. } = head;
                found = Some((Meter { next, begin, whole_since, latest, ..Meter::default() }, root));
            }
            (Entry::End(expected), Some(_)) if *expected == hex::encode(hash.clone().finalize()) => {
                let is_last = file.fill_buf()?.is_empty();
                return found.filter(|_| is_last).ok_or_else(damaged);
            }
            (entry, Some((meter, _))) => meter.put_back(entry).ok_or_else(damaged)?,
            _ => return Err(damaged()),
        }
        hash.update(&line);
    }
}
