//! Where the service is and who calls it: from options, from the environment, or from a `dev.json`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kms_client::{Client, ClientConfig};
use serde_json::Value;

use crate::output::Failure;

/// The connection, for all commands that call the service.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectionOptions {
    /// Take everything from the dev.json of `dewpoint dev`
    #[arg(long, global = true, value_name = "FILE", env = "DEWCTL_DEV_JSON", help_heading = "Connection")]
    #[arg(conflicts_with_all = ["endpoint", "ca", "cert", "key"])]
    dev_json: Option<PathBuf>,
    /// The service's gRPC endpoint, as https://host:7443
    #[arg(long, global = true, value_name = "URL", env = "DEWCTL_ENDPOINT", help_heading = "Connection")]
    endpoint: Option<String>,
    /// The authority that the service's certificate comes from, PEM
    #[arg(long, global = true, value_name = "FILE", env = "DEWCTL_CA", help_heading = "Connection")]
    ca: Option<PathBuf>,
    /// The caller's certificate, PEM; for an operator it names dewpoint://operator/NAME
    #[arg(long, global = true, value_name = "FILE", env = "DEWCTL_CERT", help_heading = "Connection")]
    cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, global = true, value_name = "FILE", env = "DEWCTL_KEY", help_heading = "Connection")]
    key: Option<PathBuf>,
}

impl ConnectionOptions {
    /// Connects as an operator.
    pub(crate) async fn operator(&self) -> Result<Client, Failure> {
        Client::connect(self.config()?).await.map_err(Failure::from)
    }

    fn config(&self) -> Result<ClientConfig, Failure> {
        let config = match (&self.dev_json, &self.endpoint, &self.ca, &self.cert, &self.key) {
            (Some(path), ..) => return operator_of(path),
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
}

/// The endpoint and the first operator that a `dev.json` names.
fn operator_of(path: &Path) -> Result<ClientConfig, Failure> {
    let unusable = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let described: Value = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
    let field = |pointer: &str| {
        let found = described.pointer(pointer).and_then(Value::as_str);
        found.ok_or_else(|| unusable(format!("has no {pointer}: is it the dev.json of this version?")))
    };
    let config = ClientConfig::from_files(
        field("/grpc/endpoint")?,
        field("/ca_cert")?,
        field("/operators/0/client_cert")?,
        field("/operators/0/client_key")?,
    );
    config.map_err(Failure::from)
}
