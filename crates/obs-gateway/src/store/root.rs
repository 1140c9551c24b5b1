//! The directory of all buckets.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::{
    Bucket, BucketSettings, Error,
    files::{Parent, make_directory, remove_tree},
};

/// A lock that was given up is still held for a moment if this process was just forked: by the child, up to its exec.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// All buckets of a gateway.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    /// Held while buckets come and go.
    changes: Mutex<()>,
    _lock: File,
}

fn take(lock: &File) -> Result<(), Error> {
    let mut attempts = 1;
    while let Err(error) = lock.try_lock() {
        match error {
            TryLockError::WouldBlock if attempts < LOCK_ATTEMPTS => sleep(LOCK_PAUSE),
            TryLockError::WouldBlock => return Err(Error::InUse),
            TryLockError::Error(error) => return Err(Error::Io(error)),
        }
        attempts += 1;
    }
    Ok(())
}

impl Store {
    /// Opens the store in a directory, and makes it if it is not there. [`Error::InUse`] if another gateway has it.
    pub fn open(root: &Path) -> Result<Self, Error> {
        make_directory(&root.join("buckets"))?;
        let lock = File::create(root.join("lock"))?;
        take(&lock)?;
        remove_tree(&root.join("staging"))?;
        make_directory(&root.join("staging"))?;
        let mut buckets = BTreeMap::new();
        for entry in fs::read_dir(root.join("buckets"))? {
            let bucket = Bucket::open(&entry?.path())?;
            buckets.insert(bucket.name().to_owned(), Arc::new(bucket));
        }
        let (buckets, changes) = (RwLock::new(buckets), Mutex::new(()));
        Ok(Self { root: root.to_owned(), buckets, changes, _lock: lock })
    }

    /// Makes a bucket. [`Error::BucketExists`] if there is one of this name.
    pub fn create_bucket(&self, settings: &BucketSettings) -> Result<(), Error> {
        if !is_name(&settings.name) {
            return Err(Error::BucketName);
        }
        let _changing = self.changes.lock();
        if self.bucket(&settings.name).is_ok() {
            return Err(Error::BucketExists);
        }
        let (made, path) = (self.staged(), self.path(&settings.name));
        let bucket = Bucket::make(&made, &path, settings)?;
        let parent = Parent::of(&path)?;
        fs::rename(&made, &path)?;
        if let Err(error) = parent.sync() {
            // Nothing is in it, and nothing may come into what a power cut could take away.
            let _ = fs::rename(&path, &made);
            return Err(error);
        }
        self.buckets.write().insert(settings.name.clone(), Arc::new(bucket));
        Ok(())
    }

    /// Removes a bucket. [`Error::BucketNotEmpty`] if objects or parts of uploads are in it.
    pub fn delete_bucket(&self, name: &str) -> Result<(), Error> {
        let _changing = self.changes.lock();
        let bucket = self.bucket(name)?;
        let mut is_gone = bucket.changes.lock();
        if !bucket.is_empty() {
            return Err(Error::BucketNotEmpty);
        }
        let (removed, parent) = (self.staged(), Parent::of(bucket.path())?);
        fs::rename(bucket.path(), &removed)?;
        *is_gone = true;
        self.buckets.write().remove(name);
        drop(is_gone);
        parent.sync()?;
        remove_tree(&removed)
    }

    /// The bucket of this name.
    pub fn bucket(&self, name: &str) -> Result<Arc<Bucket>, Error> {
        self.buckets.read().get(name).cloned().ok_or(Error::NoSuchBucket)
    }

    /// All buckets, by name.
    pub fn buckets(&self) -> Vec<Arc<Bucket>> {
        self.buckets.read().values().cloned().collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join("buckets").join(name)
    }

    fn staged(&self) -> PathBuf {
        self.root.join("staging").join(Uuid::new_v4().simple().to_string())
    }
}

/// Whether a bucket may have this name; none of these is a path.
// OBS: 3 to 63 characters of a-z, 0-9, hyphens and dots; no two dots or dot and hyphen side by side.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| allowed(*byte))
        && outer(bytes.first())
        && outer(bytes.last())
        && !["..", ".-", "-."].iter().any(|pair| name.contains(pair))
}
