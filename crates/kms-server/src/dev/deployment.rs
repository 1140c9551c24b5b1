//! The accounts, users, services and operators of dev mode: the same on every machine.

use std::fmt::Write as _;

use serde_json::json;

use super::{
    DevError,
    access_keys::{AccessKeys, UserSecrets},
};

/// The permissions that SSE-KMS asks of who uploads, and of who downloads.
const UPLOAD: [&str; 4] = ["kms:cmk:get", "kms:cmk:list", "kms:cmk:create", "kms:dek:create"];
const DOWNLOAD: [&str; 5] =
    ["kms:cmk:get", "kms:cmk:list", "kms:cmk:create", "kms:dek:create", "kms:dek:crypto"];
/// What the same users may do with buckets and objects of the object gateway: who may have data keys opened may read. As
/// in the key service, who may download may upload too: an upload in parts needs both.
const STORE_UPLOAD: [&str; 6] = [
    "PutObject",
    "AbortMultipartUpload",
    "List*",
    "HeadBucket",
    "GetBucketLocation",
    "GetEncryptionConfiguration",
];
const STORE_DOWNLOAD: [&str; 7] = [
    "GetObject",
    "PutObject",
    "AbortMultipartUpload",
    "List*",
    "HeadBucket",
    "GetBucketLocation",
    "GetEncryptionConfiguration",
];
const REGIONS: [&str; 2] = ["cn-north-4", "cn-east-3"];
/// The region of the object gateway, which has one: all accounts have a project in it.
pub(crate) const GATEWAY_REGION: &str = REGIONS[0];
/// As whom the object gateway calls the key service.
pub(crate) const GATEWAY: Service = Service { name: "obs" };

/// All of it.
pub(crate) struct Deployment {
    pub(crate) accounts: Vec<Account>,
    pub(crate) services: Vec<Service>,
    pub(crate) operators: Vec<Operator>,
}

pub(crate) struct Account {
    pub(crate) domain_id: String,
    pub(crate) name: &'static str,
    pub(crate) projects: Vec<Project>,
    pub(crate) users: Vec<User>,
}

pub(crate) struct Project {
    pub(crate) project_id: String,
    pub(crate) region: &'static str,
}

#[allow(clippy::struct_field_names, reason = "the names of dev.json and of DEW")]
pub(crate) struct User {
    pub(crate) user_id: String,
    pub(crate) name: &'static str,
    permissions: &'static [&'static str],
    /// In the object gateway.
    store_permissions: &'static [&'static str],
}

pub(crate) struct Service {
    pub(crate) name: &'static str,
}

pub(crate) struct Operator {
    pub(crate) name: &'static str,
}

impl Deployment {
    /// Two accounts, each with two projects in two regions and four users; one service for both; one
    /// operator.
    pub(crate) fn standard() -> Self {
        let accounts = [(1, "alpha"), (2, "beta")].map(|(number, name)| Account {
            domain_id: id('d', number, 0),
            name,
            projects: (1..)
                .zip(REGIONS)
                .map(|(n, region)| Project { project_id: id('a', number, n), region })
                .collect(),
            users: (1..).zip(users()).map(|(n, user)| User { user_id: id('e', number, n), ..user }).collect(),
        });
        Self { accounts: accounts.into(), services: vec![GATEWAY], operators: vec![Operator { name: "dev" }] }
    }

    /// The account with this name or `domain_id`.
    pub(crate) fn account(&self, named: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name == named || account.domain_id == named)
    }

    /// As an identity file, with these access keys and passwords.
    pub(crate) fn identity_toml(&self, access_keys: &AccessKeys) -> Result<String, DevError> {
        let mut text = "# Written at every start of `dewpoint dev`: changes here do not last.\n".to_owned();
        let quoted =
            |items: &[&str]| items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ");
        for Account { domain_id, name, projects, users } in &self.accounts {
            let projects = projects.iter().map(|Project { project_id, region }| {
                format!("{{ project_id = \"{project_id}\", region = \"{region}\" }}")
            });
            let projects = projects.collect::<Vec<_>>().join(", ");
            add(
                &mut text,
                format_args!(
                    "\n[[accounts]]\ndomain_id = \"{domain_id}\"\nname = \"{name}\"\nprojects = [{projects}]\n"
                ),
            );
            for User { user_id, name, permissions, .. } in users {
                let permissions = quoted(permissions);
                add(
                    &mut text,
                    format_args!(
                        "\n[[accounts.users]]\nuser_id = \"{user_id}\"\nname = \"{name}\"\npermissions = [{permissions}]\n"
                    ),
                );
                if let Some(key @ UserSecrets { access_key_id, secret_access_key, .. }) =
                    access_keys.of(user_id)
                {
                    let hash = key.password_hash()?;
                    add(
                        &mut text,
                        format_args!(
                            "password_hash = \"{hash}\"\n\n[[accounts.users.access_keys]]\naccess_key_id = \"{access_key_id}\"\nsecret_access_key = \"{secret_access_key}\"\n"
                        ),
                    );
                }
            }
        }
        let accounts: Vec<&str> = self.accounts.iter().map(|account| &*account.domain_id).collect();
        for Service { name } in &self.services {
            let accounts = quoted(&accounts);
            add(&mut text, format_args!("\n[[services]]\nname = \"{name}\"\naccounts = [{accounts}]\n"));
        }
        for Operator { name } in &self.operators {
            add(&mut text, format_args!("\n[[operators]]\nname = \"{name}\"\n"));
        }
        Ok(text)
    }

    /// The same accounts and users as the object gateway knows them.
    pub(crate) fn gateway_credentials(&self, access_keys: &AccessKeys) -> serde_json::Value {
        let user = |user: &User| {
            let keys = access_keys.of(&user.user_id).into_iter().map(
                |key| json!({"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key}),
            );
            json!({
                "user_id": user.user_id,
                "permissions": user.store_permissions,
                "access_keys": keys.collect::<Vec<_>>(),
            })
        };
        let accounts = self.accounts.iter().flat_map(|account| {
            let projects = account.projects.iter().filter(|project| project.region == GATEWAY_REGION);
            projects.map(|Project { project_id, .. }| {
                json!({
                    "domain_id": account.domain_id,
                    "project_id": project_id,
                    "users": account.users.iter().map(user).collect::<Vec<_>>(),
                })
            })
        });
        json!({"accounts": accounts.collect::<Vec<_>>()})
    }
}

impl User {
    /// The name of its certificate's files.
    pub(crate) fn file_stem(&self, account: &Account) -> String {
        format!("{}-{}", account.name, self.name)
    }
}

impl Service {
    /// The name of its certificate's files.
    pub(crate) fn file_stem(&self) -> String {
        format!("service-{}", self.name)
    }
}

impl Operator {
    /// The name of its certificate's files.
    pub(crate) fn file_stem(&self) -> String {
        format!("operator-{}", self.name)
    }
}

fn users() -> [User; 4] {
    let user = |name, permissions, store_permissions| User {
        user_id: String::new(),
        name,
        permissions,
        store_permissions,
    };
    [
        user("admin", &["kms:*:*"], &["*"]),
        user("uploader", &UPLOAD, &STORE_UPLOAD),
        user("downloader", &DOWNLOAD, &STORE_DOWNLOAD),
        user("nobody", &[], &[]),
    ]
}

/// An id in DEW's form, 32 hexadecimal digits, that a person can read.
fn id(kind: char, account: usize, number: usize) -> String {
    format!("{kind}{account:015}{number:016}")
}

fn add(text: &mut String, lines: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(lines);
}
