//! `dev.json`, as a test suite reads it.

use std::{fs, path::PathBuf};

use serde_json::Value;

/// A deployment of dev mode.
#[derive(Debug, Clone)]
pub struct Description {
    /// The whole file.
    pub json: Value,
}

/// An account of it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its id.
    pub domain_id: String,
    /// Its projects: id and region.
    pub projects: Vec<(String, String)>,
    /// Its users.
    pub users: Vec<User>,
}

/// A user of it.
#[derive(Debug, Clone)]
pub struct User {
    /// Its id.
    pub user_id: String,
    /// `admin`, `uploader`, `downloader` or `nobody`.
    pub name: String,
    /// Its certificate and key.
    pub files: (PathBuf, PathBuf),
    /// Its access key: the id, and the secret.
    pub access_key: (String, String),
    /// What it gets tokens for.
    pub password: String,
}

impl Description {
    /// Reads the file.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read(path: &std::path::Path) -> Self {
        let text = fs::read(path).expect("dev.json can be read");
        Self { json: serde_json::from_slice(&text).expect("dev.json is JSON") }
    }

    /// The gRPC endpoint.
    pub fn endpoint(&self) -> String {
        text(&self.json["grpc"]["endpoint"])
    }

    /// The endpoint of DEW's REST protocol.
    pub fn dew_endpoint(&self) -> String {
        text(&self.json["dew"]["endpoint"])
    }

    /// The endpoint of the object gateway; needs `--with-obs`.
    pub fn obs_endpoint(&self) -> String {
        text(&self.json["obs"]["endpoint"])
    }

    /// The metrics and health endpoint.
    pub fn admin_endpoint(&self) -> String {
        text(&self.json["admin"]["endpoint"])
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        text(&self.json["ca_cert"]).into()
    }

    /// The certificate and key of a service.
    ///
    /// # Panics
    /// If there is none.
    pub fn service(&self, name: &str) -> (PathBuf, PathBuf) {
        let service = entries(&self.json["services"]).find(|service| service["name"] == name);
        files(service.expect("the service exists"))
    }

    /// The certificate and key of the first operator.
    pub fn operator(&self) -> (PathBuf, PathBuf) {
        files(&self.json["operators"][0])
    }

    /// The account of this index.
    pub fn account(&self, index: usize) -> Account {
        let account = &self.json["accounts"][index];
        Account {
            name: text(&account["name"]),
            domain_id: text(&account["domain_id"]),
            projects: entries(&account["projects"])
                .map(|project| (text(&project["project_id"]), text(&project["region"])))
                .collect(),
            users: entries(&account["users"])
                .map(|user| User {
                    user_id: text(&user["user_id"]),
                    name: text(&user["name"]),
                    files: files(user),
                    access_key: (text(&user["ak"]), text(&user["sk"])),
                    password: text(&user["password"]),
                })
                .collect(),
        }
    }
}

impl Account {
    /// The user of this name.
    ///
    /// # Panics
    /// If there is none.
    pub fn user(&self, name: &str) -> &User {
        self.users.iter().find(|user| user.name == name).expect("the user exists")
    }
}

fn entries(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("an array").iter()
}

fn files(entry: &Value) -> (PathBuf, PathBuf) {
    (text(&entry["client_cert"]).into(), text(&entry["client_key"]).into())
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
