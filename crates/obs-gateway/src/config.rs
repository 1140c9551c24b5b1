//! The configuration: one TOML file, in which unknown fields are errors.

use std::{
    fs,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use kms_client::bucket_keys::{BucketKeysConfig, MOST_CAPACITY, MOST_VALIDITY};
use serde::Deserialize;

/// The configuration of a gateway. Relative paths count from the file's directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The region of all buckets.
    pub region: String,
    /// Where buckets and objects lie.
    pub data_dir: PathBuf,
    /// Accounts, users and access keys.
    pub credentials_file: PathBuf,
    /// Where clients connect.
    pub listen: Listen,
    /// The key service.
    pub kms: Kms,
    /// Bucket keys.
    #[serde(default)]
    pub bucket_keys: BucketKeys,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The address for HTTPS; port 0: any.
    pub https: SocketAddr,
    /// An address for plain HTTP, on which nothing that concerns SSE-KMS is answered; none by default.
    pub http: Option<SocketAddr>,
    /// The certificate chain that is shown, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub private_key: PathBuf,
    /// The names under which buckets are also reached as `BUCKET.NAME`; empty: by paths only.
    #[serde(default)]
    pub domains: Vec<String>,
    /// A file that is written when all addresses are bound, with what they are; for whoever asked for any port.
    pub addresses_file: Option<PathBuf>,
}

/// The key service, and as whom the gateway calls it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kms {
    /// `https://HOST:PORT`.
    pub endpoint: String,
    /// Further addresses of the same service: other nodes on the same keys. None by default.
    #[serde(default)]
    pub also_at: Vec<String>,
    /// The authority of its certificate, in PEM.
    pub ca_certificate: PathBuf,
    /// The gateway's certificate, that of a service, in PEM.
    pub client_certificate: PathBuf,
    /// Its private key, in PEM.
    pub client_key: PathBuf,
}

/// How many bucket keys are held, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BucketKeys {
    /// How long one is used, in seconds: 1 to 900; the key service may allow less. So long, at the most, a key that was
    /// disabled or a permission that was withdrawn is still used. Default 180.
    // OBS: about 3 minutes.
    pub validity_seconds: u64,
    /// How many are held for writing, and how many for reading: 1 to 1,000,000. Default 10,000 each.
    pub capacity: usize,
}

impl Default for BucketKeys {
    fn default() -> Self {
        let BucketKeysConfig { validity, capacity, .. } = BucketKeysConfig::default();
        Self { validity_seconds: validity.as_secs(), capacity: capacity.get() }
    }
}

impl BucketKeys {
    /// The same as the client takes it. What is wrong, if it is out of its bounds.
    pub fn checked(&self) -> Result<BucketKeysConfig, String> {
        let validity = Duration::from_secs(self.validity_seconds);
        if validity.is_zero() || validity > MOST_VALIDITY {
            return Err(format!("bucket_keys.validity_seconds is 1 to {}", MOST_VALIDITY.as_secs()));
        }
        let capacity = NonZeroUsize::new(self.capacity).filter(|capacity| capacity.get() <= MOST_CAPACITY);
        let capacity = capacity.ok_or_else(|| format!("bucket_keys.capacity is 1 to {MOST_CAPACITY}"))?;
        Ok(BucketKeysConfig { validity, capacity, ..BucketKeysConfig::default() })
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the configuration {path} cannot be used: {reason}")]
pub struct ConfigError {
    path: PathBuf,
    reason: String,
}

impl Config {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |reason: String| ConfigError { path: path.to_owned(), reason };
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let mut config: Self = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
        config.bucket_keys.checked().map_err(failed)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        config.resolve(directory);
        Ok(config)
    }

    fn resolve(&mut self, directory: &Path) {
        let Self { data_dir, credentials_file, listen, kms, .. } = self;
        let Listen { certificate, private_key, addresses_file, .. } = listen;
        let Kms { ca_certificate, client_certificate, client_key, .. } = kms;
        let paths = [
            data_dir,
            credentials_file,
            certificate,
            private_key,
            ca_certificate,
            client_certificate,
            client_key,
        ];
        for path in paths.into_iter().chain(addresses_file) {
            *path = directory.join(&*path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compose_gives_to_the_gateway_is_valid() {
        let compose = include_str!("../../../docs/examples/obs-gateway.compose.toml");
        let config: Config = toml::from_str(compose).unwrap();
        assert_eq!(config.listen.https.port(), 7445);
        // Where docker-compose.yml has its health asked for; nobody else reaches it.
        assert_eq!(config.listen.http, Some(([127, 0, 0, 1], 9445).into()));
    }
}
