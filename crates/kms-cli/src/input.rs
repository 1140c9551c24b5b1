//! What the commands read: keys, contexts, bytes.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Write as _},
    mem,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kms_client::{KeyReference, SecretBytes, proto};
use zeroize::Zeroizing;

use crate::output::Failure;

/// The most bytes that a command reads: more than any call takes.
const MAX_INPUT_BYTES: usize = 64 * 1024;

/// A key: its id, an alias, or a service's default key as `obs/default`.
pub(crate) fn key_reference(text: &str) -> KeyReference {
    let is_id = text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_id { KeyReference::KeyId(text.to_owned()) } else { KeyReference::Alias(text.to_owned()) }
}

/// A key as requests name it.
pub(crate) fn named_key(text: &str) -> proto::KeyReference {
    proto::KeyReference { reference: Some(key_reference(text)) }
}

/// A pair `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What a ciphertext is bound to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ContextOptions {
    /// A pair of the encryption context; may be given several times
    #[arg(long = "context", value_name = "NAME=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
    /// Additional authenticated data in base64, in place of a context
    #[arg(long, value_name = "TEXT", conflicts_with = "pairs")]
    aad: Option<String>,
}

impl ContextOptions {
    /// Refuses a name that is given twice.
    pub(crate) fn pairs(&self) -> Result<HashMap<String, String>, Failure> {
        unique(&self.pairs)
    }

    /// The additional authenticated data; empty if there is none.
    pub(crate) fn aad(&self) -> Result<Vec<u8>, Failure> {
        from_base64(self.aad.as_deref().unwrap_or_default())
    }
}

/// What a ciphertext is bound to once it is sealed anew.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TargetContextOptions {
    /// A pair of the new encryption context; may be given several times. Without it, the new one is empty
    #[arg(long = "to-context", value_name = "NAME=VALUE", value_parser = pair)]
    to_pairs: Vec<(String, String)>,
    /// The new additional authenticated data in base64, in place of a context
    #[arg(long, value_name = "TEXT", conflicts_with = "to_pairs")]
    to_aad: Option<String>,
}

impl TargetContextOptions {
    /// Refuses a name that is given twice.
    pub(crate) fn pairs(&self) -> Result<HashMap<String, String>, Failure> {
        unique(&self.to_pairs)
    }

    /// The additional authenticated data; empty if there is none.
    pub(crate) fn aad(&self) -> Result<Vec<u8>, Failure> {
        from_base64(self.to_aad.as_deref().unwrap_or_default())
    }
}

fn unique(given: &[(String, String)]) -> Result<HashMap<String, String>, Failure> {
    let pairs: HashMap<_, _> = given.iter().cloned().collect();
    if pairs.len() == given.len() {
        Ok(pairs)
    } else {
        Err(Failure::Usage("a context gives a name twice".to_owned()))
    }
}

/// Bytes that a command takes: from a file, from stdin, or as text.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct BytesOptions {
    /// Read the bytes from this file; `-`: from stdin
    #[arg(long = "in", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The bytes in base64. Others can see the arguments of a command: for secrets, use --in
    #[arg(long, value_name = "TEXT")]
    base64: Option<String>,
}

impl BytesOptions {
    pub(crate) fn read(&self) -> Result<SecretBytes, Failure> {
        match (&self.file, &self.base64) {
            (Some(path), _) => read_file(path),
            (None, Some(text)) => from_base64(text).map(SecretBytes::from),
            (None, None) => Err(Failure::Usage("give --in or --base64".to_owned())),
        }
    }
}

/// Reads base64 text.
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, Failure> {
    STANDARD.decode(text.trim()).map_err(|error| Failure::Usage(format!("no base64: {error}")))
}

/// Bytes as they are shown.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads a whole file, or stdin for `-`.
pub(crate) fn read_file(path: &Path) -> Result<SecretBytes, Failure> {
    let file = if path.as_os_str() == "-" {
        // Not through the library's buffer, which nothing wipes.
        io::stdin().as_fd().try_clone_to_owned().map(fs::File::from)
    } else {
        fs::File::open(path)
    };
    let read = file.and_then(read_whole);
    let mut bytes = read.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    if bytes.len() <= MAX_INPUT_BYTES {
        Ok(SecretBytes::from(mem::take(&mut *bytes)))
    } else {
        Err(Failure::Usage(format!("{}: longer than any call takes (64 KiB)", path.display())))
    }
}

/// Reads all that comes, or one byte more than may come. There is room for it from the beginning: a buffer that grew would
/// leave what it held behind.
fn read_whole(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_INPUT_BYTES + 1));
    from.take(MAX_INPUT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a result into a new file that only its owner can read; an existing one is not replaced.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written =
        options.open(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// The directory in which a file is.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_pairs_are_told_apart() {
        let id = "0198a0f0-0000-7000-8000-000000000000";
        assert_eq!(key_reference(id), KeyReference::KeyId(id.to_owned()));
        assert_eq!(key_reference("obs/default"), KeyReference::Alias("obs/default".to_owned()));
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        pair("a").expect_err("no value");
        from_base64("*").expect_err("no base64");
    }

    #[test]
    fn what_is_read_never_moves() {
        for length in [0, 1, 5000, MAX_INPUT_BYTES, MAX_INPUT_BYTES + 1, MAX_INPUT_BYTES + 9] {
            let read = read_whole(io::repeat(7).take(length as u64)).expect("readable");
            assert_eq!(read.len(), length.min(MAX_INPUT_BYTES + 1));
            assert_eq!(read.capacity(), MAX_INPUT_BYTES + 1, "{length}: it would have grown");
        }
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("in");
        fs::write(&path, vec![7; MAX_INPUT_BYTES]).expect("a file");
        assert_eq!(read_file(&path).expect("short enough").expose(), vec![7; MAX_INPUT_BYTES]);
        fs::write(&path, vec![7; MAX_INPUT_BYTES + 1]).expect("a file");
        assert!(matches!(read_file(&path), Err(Failure::Usage(_))));
    }
}
