//! Where the service is and who calls it: from options, from the environment, or from a `dev.json`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use kms_client::{Client, ClientConfig};
use serde_json::Value;

use crate::output::Failure;

/// The connection, for all commands that call the service.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectionOptions {
    /// Take everything from the dev.json of `dewpoint dev`
    #[arg(
        long = "dev-json",
        id = "caller_dev_json",
        global = true,
        value_name = "FILE",
        env = "DEWCTL_DEV_JSON",
        help_heading = "Connection"
    )]
    #[arg(conflicts_with_all = ["caller_endpoint", "caller_ca", "caller_cert", "caller_key"])]
    dev_json: Option<PathBuf>,
    /// The service's gRPC endpoint, as https://host:7443
    #[arg(
        long = "endpoint",
        id = "caller_endpoint",
        global = true,
        value_name = "URL",
        env = "DEWCTL_ENDPOINT",
        help_heading = "Connection"
    )]
    endpoint: Option<String>,
    /// The authority that the service's certificate comes from, PEM
    #[arg(
        long = "ca",
        id = "caller_ca",
        global = true,
        value_name = "FILE",
        env = "DEWCTL_CA",
        help_heading = "Connection"
    )]
    ca: Option<PathBuf>,
    /// The caller's certificate, PEM; for an operator it names dewpoint://operator/NAME
    #[arg(
        long = "cert",
        id = "caller_cert",
        global = true,
        value_name = "FILE",
        env = "DEWCTL_CERT",
        help_heading = "Connection"
    )]
    cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(
        long = "key",
        id = "caller_key",
        global = true,
        value_name = "FILE",
        env = "DEWCTL_KEY",
        help_heading = "Connection"
    )]
    key: Option<PathBuf>,
    /// With --dev-json: the user of the first account who calls
    #[arg(
        long = "user",
        id = "caller_user",
        global = true,
        value_name = "NAME",
        default_value = "admin",
        help_heading = "Connection"
    )]
    user: String,
    /// With --dev-json: the account whose user calls, by its name or its id, in place of the first
    #[arg(
        long = "account",
        id = "caller_account",
        global = true,
        value_name = "NAME",
        help_heading = "Connection"
    )]
    account: Option<String>,
    /// The project, and with it the region, in place of the account's first
    #[arg(
        long = "project",
        id = "caller_project",
        global = true,
        value_name = "ID",
        env = "DEWCTL_PROJECT",
        help_heading = "Connection"
    )]
    project: Option<String>,
    /// Only ask whether the call would be allowed: exits with 0 if so, as usual if not, and does nothing
    #[arg(long, global = true, help_heading = "Connection")]
    dry_run: bool,
}

/// Who calls, where the certificate is not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Operator,
    User,
}

impl ConnectionOptions {
    /// Connects as an operator.
    pub(crate) async fn operator(&self) -> Result<Client, Failure> {
        self.connect(self.config(Role::Operator)?).await
    }

    /// Connects as an operator whose calls may take this long.
    pub(crate) async fn patient_operator(&self, deadline: Duration) -> Result<Client, Failure> {
        self.connect(self.config(Role::Operator)?.deadline(deadline)).await
    }

    /// Connects as a user, in the project that was named.
    pub(crate) async fn user(&self) -> Result<Client, Failure> {
        let client = self.connect(self.config(Role::User)?).await?;
        match &self.project {
            Some(project) => client.in_project(project).map_err(Failure::from),
            None => Ok(client),
        }
    }

    async fn connect(&self, config: ClientConfig) -> Result<Client, Failure> {
        let client = Client::connect(config).await?;
        if self.dry_run { client.dry_run().map_err(Failure::from) } else { Ok(client) }
    }

    fn config(&self, role: Role) -> Result<ClientConfig, Failure> {
        let config = match (&self.dev_json, &self.endpoint, &self.ca, &self.cert, &self.key) {
            (Some(path), ..) => return self.described(path, role),
            (None, Some(endpoint), Some(ca), Some(cert), Some(key)) => {
                ClientConfig::from_files(endpoint, ca, cert, key)
            }
            _ => {
                let needed = "give --dev-json, or all of --endpoint, --ca, --cert and --key";
                return Err(Failure::Usage(format!("where is the service? {needed} (dewctl --help)")));
            }
        };
        config.map_err(Failure::from)
    }

    /// The endpoint and the caller that a `dev.json` names.
    fn described(&self, path: &Path, role: Role) -> Result<ClientConfig, Failure> {
        let unusable = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        let described: Value = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        let field = |pointer: &str| {
            let found = described.pointer(pointer).and_then(Value::as_str);
            found.ok_or_else(|| unusable(format!("has no {pointer}: is it the dev.json of this version?")))
        };
        let caller = match role {
            Role::Operator => "/operators/0".to_owned(),
            Role::User => self.user_of(&described).ok_or_else(|| unusable(self.no_such_user()))?,
        };
        let config = ClientConfig::from_files(
            field("/grpc/endpoint")?,
            field("/ca_cert")?,
            field(&format!("{caller}/client_cert"))?,
            field(&format!("{caller}/client_key"))?,
        );
        config.map_err(Failure::from)
    }

    /// Where the `dev.json` describes the user.
    fn user_of(&self, described: &Value) -> Option<String> {
        let named = |entry: &Value, name: &str, id: &str| {
            [&entry["name"], &entry[id]].into_iter().any(|field| field.as_str() == Some(name))
        };
        let accounts = described["accounts"].as_array()?;
        let account = match &self.account {
            Some(name) => accounts.iter().position(|entry| named(entry, name, "domain_id"))?,
            None => 0,
        };
        let users = accounts.get(account)?["users"].as_array()?;
        let user = users.iter().position(|entry| named(entry, &self.user, "user_id"))?;
        Some(format!("/accounts/{account}/users/{user}"))
    }

    fn no_such_user(&self) -> String {
        let account = self.account.as_deref().unwrap_or("first");
        format!("names no user {} in the {account} account: see --user and --account", self.user)
    }
}
