//! The access keys and passwords of dev mode: one for every user, made at the first start and kept.

use std::{collections::BTreeMap, fs, io, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{DevError, deployment::Deployment, write_private};
use crate::{
    identity::passwords::{self, Work},
    secret_text::SecretText,
};

/// What ids are written with: 32 letters, as DEW's.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// How many random bytes secrets have.
const SECRET_BYTES: usize = 30;
const PASSWORD_BYTES: usize = 24;

/// Those of one user. They lie in `dev.json`, too: dev mode keeps no secret from who reads its directory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserSecrets {
    /// 20 letters and digits.
    pub(crate) access_key_id: String,
    /// 40 letters, digits, hyphens and underscores.
    pub(crate) secret_access_key: String,
    /// The user's, for tokens: 32 letters, digits, hyphens and underscores. Empty: made by an earlier build, which had
    /// none.
    #[serde(default)]
    pub(crate) password: String,
}

/// All of them, by the ids of their users.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessKeys(BTreeMap<String, UserSecrets>);

impl AccessKeys {
    /// Those of this file; of users that it does not name they are made, and the file is written anew.
    pub(crate) fn ensure(path: &Path, deployment: &Deployment) -> Result<Self, DevError> {
        let at = |error| DevError::File { path: path.to_owned(), error };
        let mut keys: BTreeMap<String, UserSecrets> = match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| at(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(at(error)),
        };
        let kept = keys.clone();
        for user in deployment.accounts.iter().flat_map(|account| &account.users) {
            let key = match keys.remove(&user.user_id) {
                Some(key) if key.password.is_empty() => {
                    UserSecrets { password: UserSecrets::secret(PASSWORD_BYTES)?, ..key }
                }
                Some(key) => key,
                None => UserSecrets::random()?,
            };
            keys.insert(user.user_id.clone(), key);
        }
        if keys != kept {
            let text = serde_json::to_vec_pretty(&keys).map_err(|error| at(error.into()))?;
            write_private(path, &text)?;
        }
        Ok(Self(keys))
    }

    /// That of this user.
    pub(crate) fn of(&self, user_id: &str) -> Option<&UserSecrets> {
        self.0.get(user_id)
    }
}

impl UserSecrets {
    fn random() -> Result<Self, DevError> {
        let letter = |byte: u8| char::from(LETTERS[usize::from(byte) % LETTERS.len()]);
        Ok(Self {
            access_key_id: random(20)?.into_iter().map(letter).collect(),
            secret_access_key: Self::secret(SECRET_BYTES)?,
            password: Self::secret(PASSWORD_BYTES)?,
        })
    }

    fn secret(bytes: usize) -> Result<String, DevError> {
        random(bytes).map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What the user's password is checked by.
    pub(crate) fn password_hash(&self) -> Result<String, DevError> {
        let password = SecretText::new(self.password.clone());
        // It is random: more work would only make every start longer.
        passwords::hash(&password, Work::Least).ok_or(DevError::NoRandomBytes)
    }
}

fn random(length: usize) -> Result<Vec<u8>, DevError> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(|_| DevError::NoRandomBytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{dew::iam::Login, identity::ProjectChoice};

    #[test]
    fn every_user_has_one_and_keeps_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("access-keys.json");
        let deployment = Deployment::standard();
        let made = AccessKeys::ensure(&path, &deployment).unwrap_or_else(|error| panic!("{error}"));
        let users: Vec<_> = deployment.accounts.iter().flat_map(|account| &account.users).collect();
        assert_eq!((users.len(), made.0.len()), (8, 8));
        let mode = fs::metadata(&path).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let kept = AccessKeys::ensure(&path, &deployment).unwrap_or_else(|error| panic!("{error}"));
        assert!(kept == made);
        let ids: std::collections::BTreeSet<_> = made.0.values().map(|key| &key.access_key_id).collect();
        assert_eq!(ids.len(), 8);
        // As an earlier build wrote it.
        let old: BTreeMap<_, _> = made.0.iter().map(|(user, key)| {
            (user, serde_json::json!({"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key}))
        }).collect();
        fs::write(&path, serde_json::to_vec(&old).expect("JSON")).expect("written");
        let added = AccessKeys::ensure(&path, &deployment).unwrap_or_else(|error| panic!("{error}"));
        let same = |(key, old): (&UserSecrets, &UserSecrets)| {
            key.access_key_id == old.access_key_id && key.secret_access_key == old.secret_access_key
        };
        assert!(added.0.values().zip(made.0.values()).all(same));
        assert!(added.0.values().all(|key| key.password.len() == 32));
        let again = AccessKeys::ensure(&path, &deployment).unwrap_or_else(|error| panic!("{error}"));
        assert!(again == added);
        fs::write(&path, "{").expect("written");
        let broken = AccessKeys::ensure(&path, &deployment).err().map(|error| error.to_string());
        assert!(broken.is_some_and(|error| error.contains("access-keys.json")));
    }

    #[test]
    fn the_identity_file_of_dev_mode_takes_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let deployment = Deployment::standard();
        let keys = AccessKeys::ensure(&directory.path().join("access-keys.json"), &deployment);
        let keys = keys.unwrap_or_else(|error| panic!("{error}"));
        let path = directory.path().join("identity.toml");
        let text = deployment.identity_toml(&keys).unwrap_or_else(|error| panic!("{error}"));
        fs::write(&path, text).expect("written");
        let (identities, _) = crate::identity::Identities::load(&path).expect("sound");
        let admin = &deployment.accounts[0].users[0];
        let key = keys.of(&admin.user_id).expect("every user has one");
        let id = kms_core::identity::AccessKeyId::parse(&key.access_key_id).expect("a name");
        let (now, source) = (kms_core::Timestamp::from_micros(0), ([127, 0, 0, 1], 1).into());
        let caller = identities.caller_by_access_key(&id, ProjectChoice::First, source, now).expect("known");
        assert_eq!(caller.user.as_str(), admin.user_id);
        let secrets = identities.secrets_of(&id, now).expect("known");
        assert_eq!(secrets.secret, key.secret_access_key.as_bytes());
        let password = &SecretText::new(key.password.clone());
        let (domain, user, project) = (deployment.accounts[0].name, admin.name, ProjectChoice::First);
        let login = Login { domain, user, password, project };
        let (_, caller) = identities.log_in(login, source, now).expect("its password");
        assert_eq!(caller.user.as_str(), admin.user_id);
    }
}
