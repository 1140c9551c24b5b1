//! `dewpoint transfer-key`: the target's public key, in a file that operators carry to the source.

use std::{fs, path::Path};

use kms_hsm::TransferKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{BackupError, Problem, TransferKeyOptions, files, format::Digest, print};
use crate::{config::Config, opening};

/// The file's format.
const FORMAT: &str = "dewpoint-transfer-key/1";
/// Such a file has some 1,000 bytes.
const MAX_BYTES: u64 = 16 * 1024;

/// The file as JSON. The same key always gives the same bytes, whose SHA-256 is the fingerprint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    token_label: String,
    token_serial: String,
    key_wraps: Vec<String>,
    #[serde(with = "hex")]
    rsa_modulus: Vec<u8>,
    #[serde(with = "hex")]
    rsa_exponent: Vec<u8>,
}

/// The file's bytes for `key`.
fn encode(key: TransferKey) -> Result<Vec<u8>, BackupError> {
    let file = File {
        format: FORMAT.to_owned(),
        token_label: key.token_label,
        token_serial: key.token_serial,
        key_wraps: key.wraps,
        rsa_modulus: key.modulus,
        rsa_exponent: key.exponent,
    };
    let mut bytes = serde_json::to_vec_pretty(&file).map_err(|error| Problem::Internal(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What identifies `key`: SHA-256 of its file.
pub(super) fn fingerprint(key: TransferKey) -> Result<Digest, BackupError> {
    Ok(Sha256::digest(encode(key)?).into())
}

/// Reads the file, if it has the fingerprint that its operator told.
pub(super) fn read(path: &Path, expected: &Digest) -> Result<TransferKey, BackupError> {
    let size = fs::metadata(path).map_err(|error| files::error(path, &error))?.len();
    if size > MAX_BYTES {
        return Err(Problem::NoTransferKey(path.to_owned()).into());
    }
    let bytes = fs::read(path).map_err(|error| files::error(path, &error))?;
    let found = <Digest>::from(Sha256::digest(&bytes));
    if found != *expected {
        return Err(Problem::OtherFingerprint { path: path.to_owned(), found: hex::encode(found) }.into());
    }
    let file: Option<File> = serde_json::from_slice(&bytes).ok();
    let file = file.filter(|file| file.format == FORMAT);
    let key = file.map(|file| TransferKey {
        token_label: file.token_label,
        token_serial: file.token_serial,
        wraps: file.key_wraps,
        modulus: file.rsa_modulus,
        exponent: file.rsa_exponent,
    });
    let key = key.filter(TransferKey::is_of_expected_kind);
    key.ok_or_else(|| Problem::NoTransferKey(path.to_owned()).into())
}

/// Makes the key pair, or takes the one that is there; writes its public half.
pub(super) fn run(options: &TransferKeyOptions) -> Result<(), BackupError> {
    let config = Config::load(&options.config)?;
    let exists = opening::store_exists(&config.data_dir);
    if exists && !options.destroy {
        return Err(Problem::StoreExists(config.data_dir).into());
    }
    let hsm = opening::open_hsm(&config, exists)?;
    let transfer = hsm.transfer()?;
    let Some(out) = &options.out else {
        transfer.destroy_key()?;
        eprintln!("dewpoint: the token {:?} has no transfer key any more", config.hsm.token_label);
        return Ok(());
    };
    let key = match transfer.key()? {
        Some(key) if !options.replace => {
            eprintln!("dewpoint: the token has a transfer key already; --replace makes another one");
            key
        }
        _ => transfer.make_key()?,
    };
    let bytes = encode(key)?;
    files::write_anew(out, &bytes)?;
    eprintln!("dewpoint: {} holds the public key; its fingerprint, SHA-256 of the file:", out.display());
    print(&hex::encode(Sha256::digest(&bytes)));
    Ok(())
}
