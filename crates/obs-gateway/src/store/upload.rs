//! Multipart uploads: parts that come in any order, and the object that they become.

use std::{
    collections::BTreeMap,
    fs, mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Bucket, Encryption, Error, Object, ObjectRecord, Part, Stored,
    files::{
        Parent, discard, is_id, make_directory, must_belong, place_record, read_record, records, remove_file,
        remove_tree, write_record,
    },
};
use crate::format::ObjectKey;

const RECORD: &str = "upload.json";

/// What an upload was begun with: the content of `upload.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadRecord {
    /// The upload's id.
    pub id: String,
    /// The key of the object that it becomes.
    pub key: String,
    /// The user who began it.
    pub initiator: String,
    /// When it was begun, in milliseconds since 1970.
    pub started: i64,
    /// The object's headers, as in [`ObjectRecord`].
    pub headers: BTreeMap<String, String>,
    /// The object's metadata.
    pub metadata: BTreeMap<String, String>,
    /// How all parts are encrypted; `None`: not at all.
    pub encryption: Option<Encryption>,
}

/// An upload under way.
#[derive(Debug)]
pub struct Upload {
    /// What it was begun with.
    pub record: Arc<UploadRecord>,
    parts: BTreeMap<u32, FinishedPart>,
}

/// A part that came: the content of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishedPart {
    /// The stream.
    pub part: Part,
    /// When it was stored, in milliseconds since 1970.
    pub modified: i64,
}

impl Upload {
    /// Bytes that every part but the last must have.
    // OBS: 100 KB; S3 asks for 5 MiB, which its clients keep anyway.
    pub const SMALLEST_PART: u64 = 100 * 1024;
    /// The highest number of a part.
    pub const LAST_PART: u32 = 10_000;

    /// An id for a new upload.
    pub fn new_id() -> String {
        Uuid::new_v4().simple().to_string()
    }

    /// The parts, by their numbers.
    pub fn parts(&self) -> impl Iterator<Item = &FinishedPart> {
        self.parts.values()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Reads all uploads of a bucket, and removes those that became objects or were not begun whole.
    pub(super) fn open_all(
        directory: &Path,
        data: &Path,
        objects: &BTreeMap<String, Arc<Object>>,
    ) -> Result<BTreeMap<String, Self>, Error> {
        let mut uploads = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if !path.join(RECORD).try_exists()? {
                // Perhaps it is gone only until a power cut.
                remove_record(&path)?;
                remove_tree(&path)?;
                continue;
            }
            let record: UploadRecord = read_record(&path.join(RECORD))?;
            let is_own = is_id(&record.id) && path.file_name().is_some_and(|name| name == &*record.id);
            must_belong(&path.join(RECORD), is_own)?;
            let became = objects.get(&record.key).is_some_and(|object| object.record.upload_id == record.id);
            if became {
                remove_record(&path)?;
                remove_tree(&path)?;
                continue;
            }
            let parts = open_parts(&path, data)?;
            uploads.insert(record.id.clone(), Self { record: Arc::new(record), parts });
        }
        Ok(uploads)
    }

    /// The parts that are named, checked, in their order.
    fn named(&self, named: &[(u32, String)]) -> Result<Vec<Part>, Error> {
        if named.is_empty() || !named.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Error::PartOrder);
        }
        let mut parts = Vec::with_capacity(named.len());
        for (number, etag) in named {
            let found = self.parts.get(number).filter(|finished| finished.part.etag == *etag);
            parts.push(found.ok_or(Error::InvalidPart(*number))?.part.clone());
        }
        let (_, all_but_last) = parts.split_last().ok_or(Error::PartOrder)?;
        match all_but_last.iter().find(|part| part.size < Self::SMALLEST_PART) {
            Some(part) => Err(Error::PartTooSmall(part.number)),
            None => Ok(parts),
        }
    }
}

impl Bucket {
    /// Begins an upload.
    pub fn begin_upload(&self, record: UploadRecord) -> Result<(), Error> {
        if record.key.is_empty() || record.key.len() > 1024 {
            return Err(Error::ObjectName);
        }
        let _changing = self.changing()?;
        let path = self.upload_path(&record.id);
        make_directory(&path)?;
        write_record(&path.join(RECORD), &record)?;
        let upload = Upload { record: Arc::new(record), parts: BTreeMap::new() };
        self.state.write().uploads.insert(upload.record.id.clone(), upload);
        Ok(())
    }

    /// What an upload of this key was begun with.
    pub fn upload(&self, key: &str, upload_id: &str) -> Result<Arc<UploadRecord>, Error> {
        self.with_upload(key, upload_id, |upload| upload.record.clone())
    }

    /// All parts of an upload that have come, by their numbers.
    pub fn parts(&self, key: &str, upload_id: &str) -> Result<Vec<FinishedPart>, Error> {
        self.with_upload(key, upload_id, |upload| upload.parts.values().cloned().collect())
    }

    /// All uploads under way whose keys begin with `prefix`, by key and then by id.
    pub fn uploads(&self, prefix: &str) -> Vec<Arc<UploadRecord>> {
        let state = self.state.read();
        let records = state.uploads.values().map(|upload| &upload.record);
        let mut found: Vec<_> = records.filter(|record| record.key.starts_with(prefix)).cloned().collect();
        found.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
        found
    }

    /// Stores a part, in the place of the one that had its number.
    pub fn put_part(&self, key: &str, upload_id: &str, stored: Stored, modified: i64) -> Result<(), Error> {
        let number = stored.part.number;
        if number == 0 || number > Upload::LAST_PART {
            return Err(Error::PartNumber);
        }
        let _changing = self.changing()?;
        self.upload(key, upload_id)?;
        let finished = FinishedPart { part: stored.part.clone(), modified };
        let placed = place_record(&self.upload_path(upload_id).join(part_name(number)), &finished)?;
        stored.keep();
        let synchronized = placed.sync();
        let mut state = self.state.write();
        let parts = state.uploads.get_mut(upload_id).map(|upload| &mut upload.parts);
        let old = parts.and_then(|parts| parts.insert(number, finished));
        drop(state);
        // After a power cut, it is open which of both is there.
        synchronized?;
        if let Some(old) = old {
            self.discard(&old.part);
        }
        Ok(())
    }

    /// Makes the object of the named parts, each with its number and ETag. The key is that of the upload's encryption.
    /// Asking again, after it became the object, answers that object.
    pub fn complete_upload(
        &self,
        object_key: &str,
        upload_id: &str,
        named: &[(u32, String)],
        key: Option<&ObjectKey>,
        modified: i64,
    ) -> Result<Arc<Object>, Error> {
        let _changing = self.changing()?;
        self.settle(object_key)?;
        if let Some(object) = self.became(object_key, upload_id) {
            self.synchronize(&object)?;
            return Ok(object);
        }
        let parts = self.with_upload(object_key, upload_id, |upload| upload.named(named))??;
        let upload = self.upload(object_key, upload_id)?;
        let mut record = ObjectRecord {
            key: upload.key.clone(),
            size: parts.iter().map(|part| part.size).sum(),
            etag: etag(&parts),
            modified,
            headers: upload.headers.clone(),
            metadata: upload.metadata.clone(),
            upload_id: upload_id.to_owned(),
            parts,
            encryption: upload.encryption.clone(),
        };
        if let Some(key) = key {
            record.seal(self.name(), key)?;
        }
        let replaced = self.replace(record, None);
        if let Some(object) = self.became(object_key, upload_id) {
            // The object has the parts now, also if it is not known whether that lasts.
            let mut state = self.state.write();
            let upload = state.uploads.remove(upload_id);
            state.ended.extend(upload.map(|upload| (upload, Some(object))));
        }
        let object = replaced?;
        if let Err(error) = self.clear(object_key) {
            // The object lasts: this is tried again before it changes, and at the next start.
            tracing::warn!(%error, upload_id, "an upload that became an object cannot be removed");
        }
        Ok(object)
    }

    /// Removes what is left of uploads of this key that ended; `changes` is held. Once the object is another one, nothing
    /// tells an upload that became the object from one under way: so this comes before every change of an object.
    pub(super) fn settle(&self, object_key: &str) -> Result<(), Error> {
        let state = self.state.read();
        let own = state.ended.iter().filter(|(upload, _)| upload.record.key == object_key);
        let became: Vec<Arc<Object>> = own.filter_map(|(_, object)| object.clone()).collect();
        drop(state);
        for object in became {
            self.synchronize(&object)?;
        }
        self.clear(object_key)
    }

    /// As [`settle`](Self::settle), where an object that an upload became lasts.
    fn clear(&self, object_key: &str) -> Result<(), Error> {
        let ended = mem::take(&mut self.state.write().ended);
        let (own, mut left): (Vec<_>, Vec<_>) =
            ended.into_iter().partition(|(upload, _)| upload.record.key == object_key);
        let mut cleared = Ok(());
        for (upload, object) in own {
            let kept = object.as_ref().map_or(&[][..], |object| &object.record.parts);
            let removed = self.remove(&upload, kept);
            if removed.is_err() {
                left.push((upload, object));
            }
            cleared = cleared.and(removed);
        }
        self.state.write().ended = left;
        cleared
    }

    /// The object that an upload became.
    pub fn became(&self, object_key: &str, upload_id: &str) -> Option<Arc<Object>> {
        let object = self.object(object_key).ok()?;
        Some(object).filter(|object| !upload_id.is_empty() && object.record.upload_id == upload_id)
    }

    /// Gives an upload up and removes its parts. After a failure it is not known whether it comes back at the next start;
    /// asking again tries again, and so does what changes the object.
    pub fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), Error> {
        let _changing = self.changing()?;
        if !self.is_given_up(key, upload_id) {
            self.upload(key, upload_id)?;
            // It is under way no more from here on, so that nothing is added to what is half gone.
            let mut state = self.state.write();
            let upload = state.uploads.remove(upload_id);
            state.ended.extend(upload.map(|upload| (upload, None)));
        }
        self.settle(key)
    }

    /// Whether an upload was given up of which something is left.
    fn is_given_up(&self, key: &str, upload_id: &str) -> bool {
        let state = self.state.read();
        let mut given_up = state.ended.iter().filter(|(_, object)| object.is_none());
        given_up.any(|(upload, _)| upload.record.key == key && upload.record.id == upload_id)
    }

    /// Removes an upload that is under way no more, with those of its parts that are not kept: first its record, without
    /// which nothing of it counts at the next start.
    fn remove(&self, upload: &Upload, kept: &[Part]) -> Result<(), Error> {
        let path = self.upload_path(&upload.record.id);
        if path.try_exists()? {
            remove_record(&path)?;
        }
        for finished in upload.parts() {
            if !kept.contains(&finished.part) {
                self.discard(&finished.part);
            }
        }
        remove_tree(&path)
    }

    fn discard(&self, part: &Part) {
        discard(&self.data().join(&part.file));
    }

    fn with_upload<Output>(
        &self,
        key: &str,
        upload_id: &str,
        read: impl FnOnce(&Upload) -> Output,
    ) -> Result<Output, Error> {
        let state = self.state.read();
        let upload = state.uploads.get(upload_id).filter(|upload| upload.record.key == key);
        upload.map(read).ok_or(Error::NoSuchUpload)
    }
}

/// Removes the record of an upload, for good: without it nothing of the upload counts, whatever else is there at a start.
fn remove_record(upload: &Path) -> Result<(), Error> {
    let record = upload.join(RECORD);
    let parent = Parent::of(&record)?;
    remove_file(&record)?;
    parent.sync()
}

/// The parts of an upload. One whose stream is gone was replaced while the machine stopped.
fn open_parts(path: &Path, data: &Path) -> Result<BTreeMap<u32, FinishedPart>, Error> {
    let mut parts = BTreeMap::new();
    let is_part = |file: &PathBuf| file.file_name().is_some_and(|name| name != RECORD);
    for file in records(path)?.into_iter().filter(is_part) {
        let finished: FinishedPart = read_record(&file)?;
        let is_own = file.file_name().is_some_and(|name| name == &*part_name(finished.part.number));
        must_belong(&file, is_own && finished.part.has_own_file())?;
        if data.join(&finished.part.file).try_exists()? {
            parts.insert(finished.part.number, finished);
        }
    }
    Ok(parts)
}

/// The name of a part's record.
fn part_name(number: u32) -> String {
    format!("{number}.json")
}

/// The ETag of an object of several parts.
// S3: MD5 of the parts' MD5, then the count of the parts.
fn etag(parts: &[Part]) -> String {
    let mut hash = Md5::new();
    for part in parts {
        // Every ETag of a part is 32 digits that this program wrote.
        hash.update(hex::decode(&part.etag).unwrap_or_default());
    }
    format!("{}-{}", hex::encode(hash.finalize()), parts.len())
}
