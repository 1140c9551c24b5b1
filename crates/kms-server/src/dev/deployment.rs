//! The accounts, users, services and operators of dev mode: the same on every machine.

use std::fmt::Write as _;

use super::{
    DevError,
    access_keys::{AccessKeys, UserSecrets},
};

/// The permissions that SSE-KMS asks of who uploads, and of who downloads.
const UPLOAD: [&str; 4] = ["kms:cmk:get", "kms:cmk:list", "kms:cmk:create", "kms:dek:create"];
const DOWNLOAD: [&str; 5] =
    ["kms:cmk:get", "kms:cmk:list", "kms:cmk:create", "kms:dek:create", "kms:dek:crypto"];
const REGIONS: [&str; 2] = ["cn-north-4", "cn-east-3"];

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
        Self {
            accounts: accounts.into(),
            services: vec![Service { name: "obs" }],
            operators: vec![Operator { name: "dev" }],
        }
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
            for User { user_id, name, permissions } in users {
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
    let user = |name, permissions| User { user_id: String::new(), name, permissions };
    [
        user("admin", &["kms:*:*"]),
        user("uploader", &UPLOAD),
        user("downloader", &DOWNLOAD),
        user("nobody", &[]),
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
