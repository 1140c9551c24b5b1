//! The credentials file: accounts, their users, and the access keys that these sign with.

use std::{collections::HashMap, fmt, fs, path::Path, sync::Arc};

use kms_client::SecretBytes;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use crate::sse::{Requester, is_like};

/// All access keys, by their ids.
#[derive(Debug, Default)]
pub struct Credentials(HashMap<String, AccessKey>);

/// A user of the store.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// As whom the KMS knows it.
    pub requester: Requester,
    /// What it may do with buckets and objects: actions, with `*` for any characters.
    permissions: Vec<String>,
}

/// What a user signs with.
#[derive(Debug)]
pub struct AccessKey {
    /// Whose it is.
    pub user: Arc<User>,
    secret: SecretBytes,
    temporary: Option<Temporary>,
}

#[derive(Debug)]
struct Temporary {
    security_token: SecretBytes,
    /// In milliseconds since 1970.
    expires_at: i64,
}

/// Why the credentials file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the credentials file cannot be used: {0}")]
pub struct CredentialsError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    accounts: Vec<FileAccount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAccount {
    domain_id: String,
    project_id: String,
    #[serde(default)]
    users: Vec<FileUser>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileUser {
    user_id: String,
    permissions: Vec<String>,
    #[serde(default)]
    access_keys: Vec<FileKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    security_token: Option<Zeroizing<String>>,
    expires_at: Option<String>,
}

impl Credentials {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let failed = |error: &dyn fmt::Display| CredentialsError(format!("{}: {error}", path.display()));
        let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|error| failed(&error))?;
        Self::parse(&text).map_err(|error| failed(&error.0))
    }

    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            // All else that the parser says may show a value, and so a secret.
            let about_fields = ["missing field", "unknown field", "duplicate"];
            let told = about_fields.iter().any(|beginning| error.message().starts_with(beginning));
            let what = if told { error.message() } else { "is not as it should be" };
            CredentialsError(format!("line {line}: {what}"))
        })?;
        let mut keys = HashMap::new();
        for FileAccount { domain_id: account, project_id, users } in file.accounts {
            for FileUser { user_id, permissions, access_keys } in users {
                for file_key in access_keys {
                    let id = file_key.access_key_id.clone();
                    let requester = Requester {
                        user_id: user_id.clone(),
                        account: account.clone(),
                        project_id: project_id.clone(),
                        permissions: fingerprint(&permissions, file_key.session()),
                    };
                    let user = Arc::new(User { requester, permissions: permissions.clone() });
                    if keys.insert(id.clone(), file_key.parse(user)?).is_some() {
                        return Err(CredentialsError(format!("the access key {id} stands there twice")));
                    }
                }
            }
        }
        Ok(Self(keys))
    }

    /// The access key of this id, if it may be used now.
    pub fn usable(&self, id: &str, now: i64) -> Option<&AccessKey> {
        let is_usable = |key: &&AccessKey| key.temporary.as_ref().is_none_or(|it| now < it.expires_at);
        self.0.get(id).filter(is_usable)
    }
}

impl AccessKey {
    /// What signatures are made with.
    pub fn expose_secret(&self) -> &str {
        // It was a text in the file.
        std::str::from_utf8(self.secret.expose()).unwrap_or_default()
    }

    /// Whether a request that was signed with it brings the security token that belongs to it, or none to a permanent
    /// one; in a time that tells nothing.
    pub fn has_token(&self, given: Option<&str>) -> bool {
        match (&self.temporary, given) {
            (None, None) => true,
            (Some(temporary), Some(given)) => {
                temporary.security_token.expose().ct_eq(given.as_bytes()).into()
            }
            _ => false,
        }
    }
}

impl User {
    /// Whether its own permissions allow an action.
    pub fn may(&self, action: &str) -> bool {
        self.permissions.iter().any(|permission| is_like(permission, action))
    }
}

/// Stands for what a user may do: another for other permissions, and for each temporary access key.
// OBS: one user with other permissions is another requester, with bucket keys of its own.
fn fingerprint(permissions: &[String], session: Option<&str>) -> String {
    let mut permissions: Vec<&str> = permissions.iter().map(String::as_str).collect();
    permissions.sort_unstable();
    permissions.dedup();
    let mut hash = Sha256::new();
    for text in session.into_iter().chain(permissions) {
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    }
    let kind = if session.is_some() { "temporary" } else { "permanent" };
    format!("{kind} {}", hex::encode(hash.finalize()))
}

impl FileKey {
    /// The session that a temporary key stands for, by the key's id.
    fn session(&self) -> Option<&str> {
        self.security_token.as_ref().map(|_| &*self.access_key_id)
    }

    fn parse(self, user: Arc<User>) -> Result<AccessKey, CredentialsError> {
        let id = &self.access_key_id;
        let wrong = |what: &str| CredentialsError(format!("the access key {id} {what}"));
        if id.is_empty() || self.secret_access_key.is_empty() {
            return Err(wrong("lacks its id or its secret"));
        }
        let temporary = match (self.security_token, self.expires_at) {
            (None, None) => None,
            (Some(token), Some(expires_at)) => {
                let expires_at = OffsetDateTime::parse(&expires_at, &Rfc3339);
                let expires_at = expires_at.map_err(|_| wrong("has an `expires_at` that is not a time"))?;
                let security_token = SecretBytes::from(token.as_bytes().to_vec());
                Some(Temporary { security_token, expires_at: expires_at.unix_timestamp() * 1000 })
            }
            _ => return Err(wrong("has `security_token` or `expires_at` without the other")),
        };
        let secret = SecretBytes::from(self.secret_access_key.as_bytes().to_vec());
        Ok(AccessKey { user, secret, temporary })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[accounts]]
domain_id = "d1"
project_id = "p1"
[[accounts.users]]
user_id = "u1"
permissions = ["Get*", "PutObject"]
access_keys = [
    { access_key_id = "AK1", secret_access_key = "secret one" },
    { access_key_id = "AK2", secret_access_key = "secret two", security_token = "token", expires_at = "2026-01-01T00:00:00Z" },
]
"#;
    const EXPIRY: i64 = 1_767_225_600_000;

    #[test]
    fn a_permanent_key_is_used_without_a_token() {
        let credentials = Credentials::parse(FILE).unwrap();
        let key = credentials.usable("AK1", i64::MAX).unwrap();
        assert_eq!((key.expose_secret(), &*key.user.requester.account), ("secret one", "d1"));
        assert!(key.has_token(None));
        assert!(!key.has_token(Some("token")));
        assert!(key.user.may("GetObject") && key.user.may("PutObject") && !key.user.may("PutObjectAcl"));
    }

    #[test]
    fn a_temporary_key_is_used_with_its_token_until_it_expires() {
        let credentials = Credentials::parse(FILE).unwrap();
        let key = credentials.usable("AK2", EXPIRY - 1).unwrap();
        assert!(key.has_token(Some("token")));
        assert!(!key.has_token(None) && !key.has_token(Some("tokem")) && !key.has_token(Some("")));
        assert!(credentials.usable("AK2", EXPIRY).is_none());
        assert!(credentials.usable("AK3", 0).is_none());
    }

    #[test]
    fn a_user_with_other_permissions_is_another_requester() {
        let requester = |file: &str, key: &str| {
            Credentials::parse(file).unwrap().usable(key, 0).unwrap().user.requester.clone()
        };
        let permanent = requester(FILE, "AK1");
        for (from, to) in
            [("\"Get*\", \"PutObject\"", "\"PutObject\", \"Get*\""), ("secret one", "secret three")]
        {
            assert_eq!(requester(&FILE.replace(from, to), "AK1"), permanent, "{to}");
        }
        assert_ne!(requester(&FILE.replace("Get*", "Head*"), "AK1"), permanent);
        let temporary = requester(FILE, "AK2");
        assert_ne!(temporary, permanent);
        assert_ne!(requester(&FILE.replace("AK2", "AK3"), "AK3"), temporary);
    }

    #[test]
    fn neither_debug_nor_errors_show_a_secret() {
        let shown = format!("{:?}", Credentials::parse(FILE).unwrap());
        assert!(!shown.contains("secret one") && !shown.contains("token\""), "{shown}");
        for (from, to) in [
            ("secret one\"", "secret one"),
            ("\"secret one\"", "[\"secret one\"]"),
            ("[\"Get*\", \"PutObject\"]", "\"secret one\""),
        ] {
            let told = Credentials::parse(&FILE.replace(from, to)).unwrap_err().to_string();
            assert!(told.contains("line ") && !told.contains("secret one"), "{told}");
        }
        let told = Credentials::parse(&FILE.replace("user_id", "user")).unwrap_err().to_string();
        assert!(told.contains("unknown field"), "{told}");
    }

    #[test]
    fn a_key_that_is_incomplete_or_stands_there_twice_is_refused() {
        for (from, to) in [("AK2", "AK1"), (", security_token = \"token\"", ""), ("2026-01-01T", "2026")] {
            Credentials::parse(&FILE.replace(from, to)).unwrap_err();
        }
    }
}
