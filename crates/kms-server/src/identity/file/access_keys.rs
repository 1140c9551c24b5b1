//! The access keys of users, as the identity file has them.

use std::{collections::HashMap, fs, ops::RangeInclusive, path::Path};

use kms_core::{
    SecretBytes, Timestamp,
    identity::{AccessKeyId, UserId},
};
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use toml::Spanned;
use zeroize::Zeroizing;

use super::{Problem, Text, named};
use crate::{
    identity::access_keys::{AccessKey, Temporary},
    secret_text::SecretText,
};

/// How long a secret half is, in bytes; DEW's have 40.
const SECRET_LENGTHS: RangeInclusive<usize> = 16..=128;
/// How long a security token is, in bytes: it has to fit into a header.
const TOKEN_LENGTHS: RangeInclusive<usize> = 16..=4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessKeyEntry {
    access_key_id: Text,
    secret_access_key: Option<Spanned<SecretText>>,
    secret_access_key_file: Option<Text>,
    security_token: Option<Spanned<SecretText>>,
    expires_at: Option<Text>,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    #[default]
    Active,
    Inactive,
}

/// Adds the access keys of this user. Files of secrets are named from `directory` on.
pub(super) fn add(
    entries: &[AccessKeyEntry],
    user: &UserId,
    directory: &Path,
    known: &mut HashMap<AccessKeyId, AccessKey>,
) -> Result<(), Problem> {
    for entry in entries {
        let id = named("access_key_id", &entry.access_key_id, AccessKeyId::parse)?;
        let key = AccessKey {
            user: user.clone(),
            secret: secret(entry, directory)?,
            temporary: temporary(entry)?,
            is_active: entry.status == Status::Active,
        };
        if known.insert(id, key).is_some() {
            let text = format!("access key {} stands twice", entry.access_key_id.as_ref());
            return Err(Problem::at(&entry.access_key_id, text));
        }
    }
    Ok(())
}

fn secret(entry: &AccessKeyEntry, directory: &Path) -> Result<SecretBytes, Problem> {
    match (&entry.secret_access_key, &entry.secret_access_key_file) {
        (Some(text), None) => {
            checked("secret_access_key", text, text.as_ref().expose_secret(), SECRET_LENGTHS)
        }
        (None, Some(path)) => {
            let read = fs::read_to_string(directory.join(path.as_ref()));
            let text = read.map_err(|error| Problem::at(path, format!("{}: {error}", path.as_ref())))?;
            let text = Zeroizing::new(text);
            checked("secret_access_key_file", path, text.trim_end_matches(['\r', '\n']), SECRET_LENGTHS)
        }
        _ => {
            let id = entry.access_key_id.as_ref();
            let text = format!("access key {id} needs either secret_access_key or secret_access_key_file");
            Err(Problem::at(&entry.access_key_id, text))
        }
    }
}

/// What makes a key a temporary one: a token and an end, or neither.
fn temporary(entry: &AccessKeyEntry) -> Result<Option<Temporary>, Problem> {
    match (&entry.security_token, &entry.expires_at) {
        (None, None) => Ok(None),
        (Some(token), Some(end)) => {
            let security_token =
                checked("security_token", token, token.as_ref().expose_secret(), TOKEN_LENGTHS)?;
            let expires_at = moment(end.as_ref());
            let malformed = || Problem::at(end, "expires_at: must be a time as 2026-12-31T23:59:59Z");
            Ok(Some(Temporary { security_token, expires_at: expires_at.ok_or_else(malformed)? }))
        }
        _ => {
            let id = entry.access_key_id.as_ref();
            let text = format!("access key {id}: security_token and expires_at go together");
            Err(Problem::at(&entry.access_key_id, text))
        }
    }
}

fn checked<T>(
    field: &str,
    place: &Spanned<T>,
    secret: &str,
    lengths: RangeInclusive<usize>,
) -> Result<SecretBytes, Problem> {
    let is_sound = lengths.contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic());
    let (least, most) = lengths.into_inner();
    let problem = || format!("{field}: must be {least} to {most} visible ASCII characters");
    is_sound.then(|| SecretBytes::new(secret.into())).ok_or_else(|| Problem::at(place, problem()))
}

fn moment(text: &str) -> Option<Timestamp> {
    let seconds = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp();
    seconds.checked_mul(1_000_000).map(Timestamp::from_micros)
}
