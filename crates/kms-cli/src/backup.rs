//! `dewctl backup`: a copy of the key store in a file, made while the service runs.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use indicatif::ProgressBar;
use kms_client::{BackupContents, Client};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    connection::ConnectionOptions,
    input::directory_of,
    output::{Failure, print},
};

/// Where the backup goes.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupOptions {
    /// The file; must not exist. It appears when it is whole and on the disk
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Makes it.
pub(crate) async fn run(
    options: &BackupOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let out = &options.out;
    if out.exists() {
        return Err(Failure::Usage(format!("{} exists; name another file", out.display())));
    }
    let client = connection.operator().await?;
    let (digest, contents) = receive(&client, NewFile::begin(out)?).await?;
    let digest = digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    eprintln!(
        "dewctl: {} is the backup: {}; its digest, SHA-256 of the file:",
        out.display(),
        told(&contents)
    );
    print(&if as_json { described(&digest, &contents) } else { digest })?;
    match contents.unreadable {
        0 => Ok(()),
        faults => Err(Failure::Faulty(format!(
            "{faults} values of the key store are faulty, and so are they in the backup: the service's log names them"
        ))),
    }
}

async fn receive(client: &Client, file: NewFile<'_>) -> Result<([u8; 32], BackupContents), Failure> {
    let bar = ProgressBar::new_spinner();
    let mut backup = client.back_up().await?;
    let mut hasher = Sha256::new();
    loop {
        let part = backup.next().await?;
        hasher.update(&part.data);
        file.write(&part.data)?;
        bar.set_message(told(&part.contents));
        bar.tick();
        let Some(digest) = part.digest else { continue };
        bar.finish_and_clear();
        if hasher.finalize()[..] != digest {
            return Err(Failure::Broken("the backup was altered on its way; nothing is kept".to_owned()));
        }
        file.finish()?;
        return Ok((digest, part.contents));
    }
}

fn told(contents: &BackupContents) -> String {
    let BackupContents { values, keys, key_versions, tombstones, grants, .. } = contents;
    format!(
        "{values} values, {keys} keys with {key_versions} versions, {tombstones} tombstones, {grants} grants"
    )
}

fn described(digest: &str, contents: &BackupContents) -> String {
    let described = json!({
        "digest": digest,
        "values": contents.values,
        "keys": contents.keys,
        "key_versions": contents.key_versions,
        "tombstones": contents.tombstones,
        "grants": contents.grants,
        "unreadable": contents.unreadable,
    });
    format!("{described:#}")
}

/// A file under a name of its own until it is whole; removed if it never becomes that.
struct NewFile<'a> {
    file: File,
    temporary: PathBuf,
    path: &'a Path,
}

impl<'a> NewFile<'a> {
    /// No other backup writes under this name, not even one into the same file.
    fn begin(path: &'a Path) -> Result<Self, Failure> {
        let mut suffix = [0; 8];
        let filled = getrandom::fill(&mut suffix);
        filled.map_err(|error| Failure::Usage(format!("no randomness: {error}")))?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.unfinished", hex::encode(suffix)));
        let temporary = PathBuf::from(temporary);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
        Ok(Self { file: file.map_err(|error| unusable(&temporary, &error))?, temporary, path })
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        (&self.file).write_all(bytes).map_err(|error| unusable(&self.temporary, &error))
    }

    /// Makes it durable, and gives it its name, under which nothing is replaced: one that came meanwhile stays.
    fn finish(self) -> Result<(), Failure> {
        let finished = self
            .file
            .sync_all()
            .and_then(|()| self.name())
            .and_then(|()| File::open(directory_of(self.path))?.sync_all());
        finished.map_err(|error| unusable(self.path, &error))
    }

    fn name(&self) -> io::Result<()> {
        match fs::hard_link(&self.temporary, self.path) {
            // A disk that knows no links, as a removable one may: only what comes in this very moment is replaced.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !self.path.try_exists()? => {
                fs::rename(&self.temporary, self.path)
            }
            linked => linked.and_then(|()| fs::remove_file(&self.temporary)),
        }
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary); // not there any more, if it was finished
    }
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn two_backups_into_one_file_do_not_meet() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("backup");
        let (one, other) = (NewFile::begin(&path).expect("a file"), NewFile::begin(&path).expect("a file"));
        one.write(b"one, ").expect("room");
        other.write(b"the other").expect("room");
        one.write(b"as it is").expect("room");
        one.finish().expect("the first");
        assert!(matches!(other.finish(), Err(Failure::Usage(_))), "the second replaces nothing");
        assert_eq!(fs::read(&path).expect("a file"), b"one, as it is");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1, "nothing else is left");
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("backup");
        NewFile::begin(&path).expect("a file").write(b"half").expect("room");
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
    }
}
