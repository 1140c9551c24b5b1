//! Decrypts to a file that appears only when all of it is authentic.

#![expect(
    clippy::implicit_hasher,
    reason = "a context is sent as it is, and the wire type has the standard hasher"
)]

use std::{collections::HashMap, io, path::Path};

use tempfile::NamedTempFile;
use tokio::{fs::File, io::AsyncRead, task::spawn_blocking};

use super::{Error, decrypt};
use crate::{Client, KeyReference};

/// As [`decrypt`], to a file: the plaintext goes to a temporary file beside `path`, which takes that name when it is
/// whole, authentic and on stable storage, and is removed otherwise. A file that has the name is replaced. The file
/// may be read by its owner only. Answers the length of the plaintext in bytes.
pub async fn decrypt_to_path<Reader>(
    client: &Client,
    key: Option<&KeyReference>,
    context: &HashMap<String, String>,
    reader: &mut Reader,
    path: &Path,
) -> Result<u64, Error>
where
    Reader: AsyncRead + Unpin + ?Sized,
{
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => ".".into(),
    };
    let (file, temporary) = blocking({
        let directory = directory.clone();
        move || Ok(NamedTempFile::new_in(directory)?.into_parts())
    })
    .await?;
    let mut file = File::from_std(file);
    let length = decrypt(client, key, context, reader, &mut file).await?;
    file.sync_all().await?;
    let path = path.to_owned();
    blocking(move || {
        temporary.persist(path)?;
        std::fs::File::open(directory)?.sync_all()
    })
    .await?;
    Ok(length)
}

/// Runs file operations where they may wait.
async fn blocking<Output: Send + 'static>(
    operation: impl FnOnce() -> io::Result<Output> + Send + 'static,
) -> io::Result<Output> {
    spawn_blocking(operation).await.map_err(io::Error::other)?
}
