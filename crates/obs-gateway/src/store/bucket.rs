//! A bucket: its settings, its objects, and the one place where they change.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Error, Listing, Object, ObjectRecord, Part, Selection, Stored, StreamPlace, StreamWriter, Upload,
    files::{
        Parent, make_directory, must_belong, place_record, read_record, records, remove_file, write_record,
    },
    object::is_not,
};
use crate::format::{ObjectKey, Suite};

const SETTINGS: &str = "bucket.json";
const OBJECTS: &str = "objects";
const DATA: &str = "data";
const UPLOADS: &str = "uploads";

/// What is configured of a bucket: the content of `bucket.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketSettings {
    /// The bucket's name.
    pub name: String,
    /// The account that owns it.
    pub owner: String,
    /// When it was made, in milliseconds since 1970.
    pub created: i64,
    /// How objects are encrypted whose upload does not say it.
    pub encryption: Option<BucketEncryption>,
    /// The policy, as it was given.
    pub policy: Option<String>,
}

/// The default encryption of a bucket, always by KMS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketEncryption {
    /// What seals the objects.
    pub suite: Suite,
    /// The key's id as it was given; `None`: the default key.
    pub key: Option<String>,
    /// Whether the data keys of objects are derived from bucket keys.
    #[serde(default, skip_serializing_if = "is_not")]
    pub bucket_key: bool,
    /// The key's project as it was given. Nothing depends on it: keys are found by their ids alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// A bucket. What is read comes from memory; changes go one after the other, to the disk first.
#[derive(Debug)]
pub struct Bucket {
    path: PathBuf,
    name: String,
    /// Held while something changes; whether the bucket is gone.
    pub(super) changes: Mutex<bool>,
    pub(super) state: RwLock<State>,
}

#[derive(Debug)]
pub(super) struct State {
    settings: Arc<BucketSettings>,
    pub(super) objects: BTreeMap<String, Arc<Object>>,
    pub(super) uploads: BTreeMap<String, Upload>,
    /// Uploads that ended and whose directories are still there, each with the object that it became; `None`: it was
    /// given up.
    pub(super) ended: Vec<(Upload, Option<Arc<Object>>)>,
}

impl Bucket {
    /// Makes an empty bucket's directory at `made`, from where it goes to `path`.
    pub(super) fn make(made: &Path, path: &Path, settings: &BucketSettings) -> Result<Self, Error> {
        for part in [OBJECTS, DATA, UPLOADS] {
            make_directory(&made.join(part))?;
        }
        write_record(&made.join(SETTINGS), settings)?;
        let (objects, uploads) = (BTreeMap::new(), BTreeMap::new());
        let (settings_now, ended) = (Arc::new(settings.clone()), Vec::new());
        let state = RwLock::new(State { settings: settings_now, objects, uploads, ended });
        let (changes, name) = (Mutex::new(false), settings.name.clone());
        Ok(Self { path: path.to_owned(), name, changes, state })
    }

    /// Reads a bucket's records and removes what none of them names.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let settings: BucketSettings = read_record(&path.join(SETTINGS))?;
        must_belong(&path.join(SETTINGS), path.file_name().is_some_and(|name| name == &*settings.name))?;
        let data = path.join(DATA);
        let mut objects = BTreeMap::new();
        for file in records(&path.join(OBJECTS))? {
            let record: ObjectRecord = read_record(&file)?;
            let is_own = file.file_name().is_some_and(|name| name == &*record_name(&record.key));
            must_belong(&file, is_own && record.parts.iter().all(Part::has_own_file))?;
            objects.insert(record.key.clone(), Arc::new(Object::new(record, &data)));
        }
        let uploads = Upload::open_all(&path.join(UPLOADS), &data, &objects)?;
        let (settings_now, ended) = (Arc::new(settings.clone()), Vec::new());
        let state = State { settings: settings_now, objects, uploads, ended };
        remove_strangers(&data, &state)?;
        let (changes, state) = (Mutex::new(false), RwLock::new(state));
        Ok(Self { path: path.to_owned(), name: settings.name, changes, state })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is configured of it.
    pub fn settings(&self) -> Arc<BucketSettings> {
        self.state.read().settings.clone()
    }

    /// Changes what is configured.
    pub fn configure(&self, change: impl FnOnce(&mut BucketSettings)) -> Result<(), Error> {
        let _changing = self.changing()?;
        let mut settings = BucketSettings::clone(&self.settings());
        change(&mut settings);
        let placed = place_record(&self.path.join(SETTINGS), &settings)?;
        self.state.write().settings = Arc::new(settings);
        placed.sync()
    }

    /// The object of this key.
    pub fn object(&self, key: &str) -> Result<Arc<Object>, Error> {
        self.state.read().objects.get(key).cloned().ok_or(Error::NoSuchObject)
    }

    /// A page of the objects.
    pub fn list(&self, selection: &Selection<'_>) -> Listing {
        Listing::of(&self.state.read().objects, selection)
    }

    /// Begins a stream for an object or a part of this bucket; with a key, it is sealed for its place.
    pub fn begin(&self, place: &StreamPlace, key: Option<&ObjectKey>) -> Result<StreamWriter, Error> {
        let length = place.object.len();
        if length == 0 || length > 1024 {
            return Err(Error::ObjectName);
        }
        // No lock is held: if the bucket goes now, the directory is gone or the record will find no place.
        StreamWriter::begin(&self.data(), place, key)
    }

    /// Stores an object that came in one piece, in the place of the one that has its key. The record's parts and, of
    /// an encrypted one, its tag are filled in.
    pub fn put(
        &self,
        mut record: ObjectRecord,
        stored: Stored,
        key: Option<&ObjectKey>,
    ) -> Result<Arc<Object>, Error> {
        record.parts = vec![stored.part.clone()];
        (record.size, record.etag) = (stored.part.size, stored.part.etag.clone());
        if let Some(key) = key {
            record.seal(&self.name, key)?;
        }
        let _changing = self.changing()?;
        self.settle(&record.key)?;
        self.replace(record, Some(stored))
    }

    /// Deletes the object of this key, if there is one.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        let _changing = self.changing()?;
        self.settle(key)?;
        if self.object(key).is_err() {
            return Ok(());
        }
        let path = self.record_path(key);
        let parent = Parent::of(&path)?;
        // It is not there if its removal was tried before and could not be made to last.
        remove_file(&path)?;
        parent.sync()?;
        // Its streams go after the lock, which readers of the whole bucket wait for.
        let removed = self.state.write().objects.remove(key);
        if let Some(object) = removed {
            object.remove();
        }
        Ok(())
    }

    /// Writes the record of an object and lets the old object go; `changes` is held. `stored` is the stream that nothing
    /// but the record names. After a failure that leaves it open which of both is there after a power cut, the streams
    /// of both stay. However the clock went, the new object is no older than the one before.
    pub(super) fn replace(
        &self,
        mut record: ObjectRecord,
        stored: Option<Stored>,
    ) -> Result<Arc<Object>, Error> {
        if let Ok(old) = self.object(&record.key) {
            record.modified = record.modified.max(old.record.modified);
        }
        let placed = place_record(&self.record_path(&record.key), &record)?;
        if let Some(stored) = stored {
            stored.keep();
        }
        let synchronized = placed.sync();
        let object = Arc::new(Object::new(record, &self.data()));
        let old = self.state.write().objects.insert(object.record.key.clone(), object.clone());
        synchronized?;
        if let Some(old) = old {
            old.remove();
        }
        Ok(object)
    }

    /// Makes the record of an object last that may have been written, or removed, without.
    pub(super) fn synchronize(&self, object: &Object) -> Result<(), Error> {
        let path = self.record_path(&object.record.key);
        // A deletion that failed left the object here, though perhaps not its record.
        if path.try_exists()? { Parent::of(&path)?.sync() } else { write_record(&path, &object.record) }
    }

    /// The right to change something, unless the bucket is gone.
    pub(super) fn changing(&self) -> Result<parking_lot::MutexGuard<'_, bool>, Error> {
        let changes = self.changes.lock();
        if *changes { Err(Error::NoSuchBucket) } else { Ok(changes) }
    }

    /// Whether nothing is in it; parts of uploads are something.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.read();
        state.objects.is_empty() && state.uploads.values().all(Upload::is_empty)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    pub(super) fn upload_path(&self, upload_id: &str) -> PathBuf {
        self.path.join(UPLOADS).join(upload_id)
    }

    fn record_path(&self, key: &str) -> PathBuf {
        self.path.join(OBJECTS).join(record_name(key))
    }
}

/// The name of an object's record: keys are longer than names of files may be.
fn record_name(key: &str) -> String {
    format!("{}.json", hex::encode(Sha256::digest(key)))
}

/// Removes the streams that no record names: of uploads that broke off, and of objects that a crash had replaced.
fn remove_strangers(data: &Path, state: &State) -> Result<(), Error> {
    let objects = state.objects.values().flat_map(|object| &object.record.parts);
    let uploads = state.uploads.values().flat_map(Upload::parts).map(|finished| &finished.part);
    let named: HashSet<&str> = objects.chain(uploads).map(|part| &*part.file).collect();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| named.contains(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
