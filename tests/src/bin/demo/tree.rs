//! Real files of this machine, copied to where nobody changes them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use crate::failure::{During as _, Failure};

const ENOUGH_FILES: usize = 1000;
const ENOUGH_BYTES: u64 = 50 << 20;
/// Files are read whole, so that none may be huge.
const LARGEST_FILE: u64 = 8 << 20;
/// What every system has plenty of: documents and data, libraries and programs.
const SYSTEM: [&str; 3] = ["/usr/share", "/usr/lib", "/usr/bin"];
/// Directories of the repository that hold what was built, not written.
const BUILT: [&str; 1] = ["target"];

/// A copied file.
#[derive(Debug)]
pub(crate) struct PlainFile {
    /// Its path below the directory of copies, which is also its name in the encryption context.
    pub(crate) name: String,
    pub(crate) length: u64,
    pub(crate) sha256: [u8; 32],
    pub(crate) is_text: bool,
}

/// All copied files.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<Arc<PlainFile>>,
    pub(crate) bytes: u64,
}

/// A file that may be copied.
struct Candidate {
    path: PathBuf,
    name: String,
    length: u64,
}

impl Tree {
    /// Copies the repository's own files and a sample of the system's into `directory`, until there are enough.
    pub(crate) fn collect(directory: &Path) -> Result<Self, Failure> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
        let mut own = Vec::new();
        walk(repository, &mut own);
        let mut tree = Self::default();
        for candidate in named(own, repository, "repository/") {
            tree.copy(&candidate, directory)?;
        }
        for candidate in system_files() {
            if tree.is_enough() {
                break;
            }
            tree.copy(&candidate, directory)?;
        }
        if tree.is_enough() {
            Ok(tree)
        } else {
            Err(Failure::new("this machine has too few files for the demo"))
        }
    }

    /// The largest file.
    pub(crate) fn largest(&self) -> Option<&Arc<PlainFile>> {
        self.files.iter().max_by_key(|file| file.length)
    }

    fn is_enough(&self) -> bool {
        self.files.len() >= ENOUGH_FILES && self.bytes >= ENOUGH_BYTES
    }

    /// Copies a file, or leaves it out if it cannot be read.
    fn copy(&mut self, candidate: &Candidate, directory: &Path) -> Result<(), Failure> {
        let Ok(content) = fs::read(&candidate.path) else { return Ok(()) };
        let copy = directory.join(&candidate.name);
        let parent = copy.parent().unwrap_or(directory);
        fs::create_dir_all(parent).and_then(|()| fs::write(&copy, &content)).during(copy.display())?;
        let length = content.len() as u64;
        self.bytes += length;
        self.files.push(Arc::new(PlainFile {
            name: candidate.name.clone(),
            length,
            sha256: Sha256::digest(&content).into(),
            is_text: !content.contains(&0) && std::str::from_utf8(&content).is_ok(),
        }));
        Ok(())
    }
}

/// The system's files in an order that mixes them well and is the same every time: by the hash of their names. The
/// largest one and an empty one come first, so that they are never missing.
fn system_files() -> Vec<Candidate> {
    let mut found = Vec::new();
    for root in SYSTEM {
        walk(Path::new(root), &mut found);
    }
    let mut files = named(found, Path::new("/"), "");
    files.sort_by_cached_key(|file| -> [u8; 32] { Sha256::digest(&file.name).into() });
    if let Some(largest) = (0..files.len()).max_by_key(|index| files[*index].length) {
        files.swap(0, largest);
    }
    if let Some(empty) = files.iter().skip(1).position(|file| file.length == 0) {
        files.swap(1, empty + 1);
    }
    files
}

/// Finds the regular files below `directory` that are not too large; follows no links, and leaves out what is hidden,
/// built or unreadable.
fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let left_out = name.as_encoded_bytes().starts_with(b".") || BUILT.iter().any(|built| name == *built);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !left_out => walk(&entry.path(), found),
            Ok(kind) if kind.is_file() && !left_out => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Names files by their paths below `root`. A context is text, so what is not UTF-8 is left out.
fn named(found: Vec<PathBuf>, root: &Path, prefix: &str) -> Vec<Candidate> {
    let candidate = |path: PathBuf| {
        let name = format!("{prefix}{}", path.strip_prefix(root).ok()?.to_str()?);
        let length = fs::metadata(&path).ok()?.len();
        (length <= LARGEST_FILE).then_some(Candidate { path, name, length })
    };
    found.into_iter().filter_map(candidate).collect()
}
