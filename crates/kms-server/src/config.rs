//! The configuration of `dewpoint serve`: one strict TOML file. `docs/examples/dewpoint.toml`
//! explains every field.

use std::{
    collections::HashSet,
    fmt::Display,
    fs,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use kms_audit::LogConfig;
use kms_core::{
    MAX_IN_HSM_BUDGET, Settings,
    bucket_key::{LONGEST_VALIDITY, MAX_LONGEST_VALIDITY},
    identity::KeystoreId,
    key::Scheme,
};
use kms_hsm::{CipherForm, VendorSm4};
use kms_store::EngineKind;
use serde::Deserialize;

pub use crate::traffic::{DEW as BUILT_IN_PROFILE, TrafficConfig, TrafficMode};

/// The whole file. Unknown fields are errors.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the key store and the audit log live; must exist and be writable.
    pub data_dir: PathBuf,
    /// The database of the key store.
    #[serde(default)]
    pub store: StoreConfig,
    /// Accounts, users and services.
    pub identity_file: PathBuf,
    /// The gRPC listener.
    pub grpc: GrpcConfig,
    /// The listener of DEW's REST protocol; absent: none.
    pub dew: Option<DewConfig>,
    /// The listener for metrics and health; absent: none.
    pub admin: Option<AdminConfig>,
    /// The token.
    pub hsm: HsmConfig,
    /// Further tokens that keys can live on.
    #[serde(default)]
    pub keystores: Vec<KeystoreConfig>,
    /// The audit log.
    #[serde(default)]
    pub audit: AuditConfig,
    /// Limits on calls, and on what accounts have.
    #[serde(default)]
    pub traffic_control: TrafficConfig,
    /// Keys that gateways use for many objects.
    #[serde(default)]
    pub bucket_keys: BucketKeyConfig,
    /// What time it is. Not in the file: nothing but dev mode may keep a time of its own.
    #[serde(skip)]
    pub clock: ClockKind,
}

/// Whose time keys and records go by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ClockKind {
    /// The machine's.
    #[default]
    System,
    /// The time of a clock that stands still until a tester advances it.
    Manual,
}

/// The database of the key store. An existing store keeps its own: another name stops the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StoreConfig {
    /// redb.
    #[default]
    Redb,
    /// sled.
    Sled,
}

impl From<StoreConfig> for EngineKind {
    fn from(config: StoreConfig) -> Self {
        match config {
            StoreConfig::Redb => Self::Redb,
            StoreConfig::Sled => Self::Sled,
        }
    }
}

/// The gRPC listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub private_key: PathBuf,
    /// The authorities that client certificates come from, PEM.
    pub client_ca: PathBuf,
}

/// The listener of DEW's REST protocol.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DewConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// The server's certificate and key; absent: those of gRPC.
    pub tls: Option<CertificateConfig>,
    /// Whether it speaks plain HTTP: data keys then cross the network for everyone to read.
    #[serde(default)]
    pub insecure_plain_http: bool,
}

/// What a server shows who it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub private_key: PathBuf,
}

/// The listener for metrics and health: plain HTTP, for an address that only operators reach.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port.
    pub listen: SocketAddr,
}

/// The audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Where its checkpoints are carried to.
    pub checkpoints: CheckpointsConfig,
    /// Whose logs this service witnesses.
    pub witness: WitnessConfig,
    /// Where its closed segments are copied to; absent: nowhere, and all stay.
    pub archive: Option<ArchiveConfig>,
    /// A segment that has grown to this size, in bytes, is followed by another; absent: 64 MiB.
    pub segment_bytes: Option<u64>,
}

impl AuditConfig {
    /// The smallest size of segments: many small files help nobody. The largest: each is read into memory as a whole.
    const SEGMENT_BYTES: RangeInclusive<u64> = 1 << 16..=1 << 30;

    /// How the log lies on disk.
    pub(crate) fn log_config(&self) -> LogConfig {
        let LogConfig { segment_bytes } = LogConfig::default();
        LogConfig { segment_bytes: self.segment_bytes.unwrap_or(segment_bytes) }
    }
}

/// The archive of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveConfig {
    /// A directory that exists, as a rule of another machine: each log has one of its own in it.
    pub directory: PathBuf,
    /// How many closed segments stay in the log once they are archived; absent: all.
    pub keep_segments: Option<usize>,
}

/// The logs of other services whose checkpoints this one cosigns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WitnessConfig {
    /// Each of them; two of the same name are one log whose key has changed.
    pub logs: Vec<WitnessedLogConfig>,
}

/// A log that is witnessed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessedLogConfig {
    /// Its verifier key, as its `audit/log-key` has it.
    pub key: String,
}

/// Places that whoever can write the log cannot reach: without one, nobody can show that its end was cut off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointsConfig {
    /// A directory, as a rule of another machine: the newest checkpoint, and all of them.
    pub directory: Option<PathBuf>,
    /// An address that takes each checkpoint by POST.
    pub webhook: Option<WebhookConfig>,
    /// Where syslog messages are sent, by UDP.
    pub syslog: Option<SocketAddr>,
    /// Another Dewpoint, which cosigns them.
    pub witness: Option<WitnessPlaceConfig>,
}

/// A witness, and as whom to call it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessPlaceConfig {
    /// Its gRPC address, `https` only.
    pub endpoint: String,
    /// The certificate authorities that are believed, PEM.
    pub ca_cert: PathBuf,
    /// The certificate of an operator of the witness, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub private_key: PathBuf,
    /// The key by which it cosigns, as its `witness/key` has it.
    pub key: String,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Its address; `http` only for this machine.
    pub url: String,
    /// The certificate authorities that are believed, for `https`.
    pub ca_cert: Option<PathBuf>,
}

/// The token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HsmConfig {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// The token's label.
    pub token_label: String,
    /// A file that holds the user PIN and nothing else; readable by its owner only.
    pub pin_file: PathBuf,
    /// What the labels of the root key and the authentication key begin with.
    #[serde(default = "default_root_label")]
    pub root_label: String,
    /// HSM sessions, each with a thread of its own.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// How many key versions stay loaded in the HSM.
    #[serde(default = "default_loaded_keys")]
    pub loaded_keys: usize,
    /// After how many destroyed session objects the module is renewed.
    #[serde(default = "default_renew_after")]
    pub renew_after: u64,
    /// Where new key versions seal.
    #[serde(default)]
    pub cipher: CipherConfig,
    /// The vendor's own SM4.
    pub sm4: Option<Sm4Config>,
}

/// A further token that keys can live on, on a module of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeystoreConfig {
    /// What accounts take it by: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// The PKCS#11 module: another file than any other token's.
    pub module: PathBuf,
    /// The token's label.
    pub token_label: String,
    /// A file that holds the user PIN and nothing else; readable by its owner only.
    pub pin_file: PathBuf,
    /// HSM sessions, each with a thread of its own.
    #[serde(default = "default_workers")]
    pub workers: usize,
}

/// The vendor's SM4 by the numbers of its own header file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sm4Config {
    /// The key type, as `CKK_VENDOR_SM4`.
    pub key_type: u64,
    /// The mechanism that makes a key.
    pub generation: u64,
    /// The mechanism that encrypts and decrypts.
    pub cipher: u64,
    /// What that mechanism takes and gives.
    pub form: Sm4Form,
}

/// What a vendor's SM4 mechanism takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sm4Form {
    /// GCM with CK_GCM_PARAMS, the tag behind the ciphertext.
    Gcm,
    /// Bare blocks.
    Ecb,
}

impl Sm4Config {
    /// The first number that a vendor may give.
    const FIRST: u64 = 0x8000_0000;

    fn is_the_vendors(self) -> bool {
        [self.key_type, self.generation, self.cipher].into_iter().all(|number| number >= Self::FIRST)
    }
}

impl From<Sm4Config> for VendorSm4 {
    fn from(config: Sm4Config) -> Self {
        let form = match config.form {
            Sm4Form::Gcm => CipherForm::Gcm,
            Sm4Form::Ecb => CipherForm::Ecb,
        };
        Self { key_type: config.key_type, generation: config.generation, cipher: config.cipher, form }
    }
}

/// Keys that gateways use for many objects.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BucketKeyConfig {
    /// The longest validity that one is given, in seconds: so long a key that was disabled, or a permission that was
    /// withdrawn, is still used.
    pub longest_validity_seconds: u64,
}

impl Default for BucketKeyConfig {
    fn default() -> Self {
        Self { longest_validity_seconds: LONGEST_VALIDITY.as_secs() }
    }
}

impl BucketKeyConfig {
    const SECONDS: RangeInclusive<u64> = 1..=MAX_LONGEST_VALIDITY.as_secs();
}

/// Where new key versions seal. Those that exist stay what they are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CipherConfig {
    /// Of AES_256 keys, default keys among them.
    pub aes_256: CipherPlace,
    /// Of SM4 keys.
    pub sm4: CipherPlace,
    /// How often one version may seal in the HSM.
    pub budget: u64,
}

/// Who runs the cipher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CipherPlace {
    /// The service, under a key that the HSM derives for each request.
    #[default]
    Service,
    /// The HSM, under the key itself.
    Hsm,
}

impl Default for CipherConfig {
    fn default() -> Self {
        Self {
            aes_256: CipherPlace::Service,
            sm4: CipherPlace::Service,
            budget: kms_core::DEFAULT_IN_HSM_BUDGET,
        }
    }
}

impl CipherConfig {
    /// The same, as the domain says it.
    pub(crate) fn settings(&self) -> Settings {
        let scheme = |place| match place {
            CipherPlace::Service => Scheme::DerivedKey,
            CipherPlace::Hsm => Scheme::InHsm,
        };
        Settings {
            aes_256: scheme(self.aes_256),
            sm4: scheme(self.sm4),
            in_hsm_budget: self.budget,
            ..Settings::default()
        }
    }
}

/// A file that the service needs cannot be used. Its text is one line.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    path: PathBuf,
    problem: String,
}

impl FileError {
    pub(crate) fn new(path: &Path, problem: impl Display) -> Self {
        let problem = problem.to_string().trim_end().replace('\n', " | ");
        Self { path: path.to_owned(), problem }
    }
}

impl Config {
    /// What the domain has to know of it.
    pub(crate) fn settings(&self) -> Settings {
        let longest = Duration::from_secs(self.bucket_keys.longest_validity_seconds);
        Settings { longest_bucket_key_validity: longest, ..self.hsm.cipher.settings() }
    }

    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let config: Self = parse(path)?;
        let problem = if config.hsm.workers == 0 || config.hsm.workers > 1024 {
            Some("hsm.workers: must be 1 to 1024")
        } else if config.hsm.loaded_keys == 0 {
            Some("hsm.loaded_keys: must be at least 1")
        } else if !(1..=MAX_IN_HSM_BUDGET).contains(&config.hsm.cipher.budget) {
            Some("hsm.cipher.budget: must be 1 to 4294967295")
        } else if config.hsm.renew_after == 0 {
            Some("hsm.renew_after: must be at least 1")
        } else if config.hsm.cipher.sm4 == CipherPlace::Hsm && config.hsm.sm4.is_none() {
            Some("hsm.cipher.sm4: the numbers of the HSM's SM4 are needed in [hsm.sm4]")
        } else if config.audit.segment_bytes.is_some_and(|size| !AuditConfig::SEGMENT_BYTES.contains(&size)) {
            Some("audit.segment_bytes: must be 65536 to 1073741824")
        } else if config.hsm.sm4.is_some_and(|sm4| !sm4.is_the_vendors()) {
            Some("hsm.sm4: a vendor's numbers are at least 0x80000000")
        } else if !BucketKeyConfig::SECONDS.contains(&config.bucket_keys.longest_validity_seconds) {
            Some("bucket_keys.longest_validity_seconds: must be 1 to 3600")
        } else {
            keystores_problem(&config.keystores)
        };
        problem.map_or(Ok(config), |problem| Err(FileError::new(path, problem)))
    }
}

fn keystores_problem(keystores: &[KeystoreConfig]) -> Option<&'static str> {
    let mut names = HashSet::new();
    keystores.iter().find_map(|keystore| {
        if KeystoreId::parse(&keystore.name).is_none() {
            Some("keystores.name: must be 1 to 64 of A-Z a-z 0-9 . _ -")
        } else if !names.insert(&keystore.name) {
            Some("keystores.name: each must be another one")
        } else if keystore.workers == 0 || keystore.workers > 1024 {
            Some("keystores.workers: must be 1 to 1024")
        } else {
            None
        }
    })
}

/// Reads a TOML file into its strict type.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    let text = fs::read_to_string(path).map_err(|error| FileError::new(path, error))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        FileError::new(path, format_args!("line {line}: {}", error.message()))
    })
}

fn default_root_label() -> String {
    "dewpoint-root".to_owned()
}

fn default_workers() -> usize {
    2
}

fn default_loaded_keys() -> usize {
    10_000
}

fn default_renew_after() -> u64 {
    kms_hsm::DEFAULT_RENEW_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../docs/examples/dewpoint.toml");

    #[test]
    fn the_documented_sample_is_valid_and_shows_every_field() {
        let config: Config = toml::from_str(SAMPLE).expect("the sample parses");
        assert_eq!(config.hsm.cipher.settings(), Settings::default());
        assert_eq!(config.traffic_control, TrafficConfig::default());
        assert_eq!(config.bucket_keys, BucketKeyConfig::default());
        let named = SAMPLE.replace("#% ", "");
        let named: Config = toml::from_str(&named).expect("the sample's profile parses, too");
        assert!(named.traffic_control.profile.is_some());
        assert_eq!(config.hsm.root_label, default_root_label());
        assert!(config.admin.is_some());
        assert_eq!(config.store, StoreConfig::Redb);
        assert_eq!(config.hsm.cipher, CipherConfig::default());
        assert_eq!((config.hsm.renew_after, config.hsm.sm4), (kms_hsm::DEFAULT_RENEW_AFTER, None));
        let with_sm4: Config = toml::from_str(&SAMPLE.replace("# [hsm.sm4]", "[hsm.sm4]").replace("#= ", ""))
            .expect("the sample's SM4 parses, too");
        let sm4 = with_sm4.hsm.sm4.expect("it is there");
        assert_eq!((sm4.key_type, sm4.form), (0x8000_0002, Sm4Form::Gcm));
        assert!(sm4.is_the_vendors());
        let with_keystore = SAMPLE.replace("# [[keystores]]", "[[keystores]]").replace("#: ", "");
        let with_keystore: Config =
            toml::from_str(&with_keystore).expect("the sample's keystore parses, too");
        assert_eq!(with_keystore.keystores.len(), 1);
        assert_eq!(config.dew, None);
        let with_dew = SAMPLE.replace("# [dew]", "[dew]").replace("#+ ", "");
        let with_dew: Config = toml::from_str(&with_dew).expect("the sample's REST parses, too");
        let dew = with_dew.dew.expect("it is there");
        assert_eq!((dew.listen.port(), dew.insecure_plain_http, dew.tls.is_some()), (7444, false, true));
    }

    #[test]
    fn the_archive_and_the_size_of_segments_can_be_chosen() {
        let load = |table: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            fs::write(file.path(), format!("{SAMPLE}\n{table}")).expect("written");
            Config::load(file.path()).map(|config| config.audit)
        };
        let default = load("").expect("the sample has no archive");
        assert_eq!((default.archive.clone(), default.log_config()), (None, LogConfig::default()));
        let chosen =
            load("[audit]\nsegment_bytes = 65536\n[audit.archive]\ndirectory = \"/a\"\nkeep_segments = 0");
        let chosen = chosen.expect("valid");
        assert_eq!(chosen.log_config(), LogConfig { segment_bytes: 65_536 });
        assert_eq!(chosen.archive, Some(ArchiveConfig { directory: "/a".into(), keep_segments: Some(0) }));
        for wrong in
            ["[audit]\nsegment_bytes = 65535", "[audit]\nsegment_bytes = 1073741825", "[audit.archive]"]
        {
            load(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn the_validity_of_bucket_keys_has_a_bound() {
        let load = |seconds: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            let bound = format!("longest_validity_seconds = {seconds}");
            let text = SAMPLE.replace("longest_validity_seconds = 900", &bound);
            fs::write(file.path(), text).expect("written");
            Config::load(file.path()).map(|config| config.settings().longest_bucket_key_validity.as_secs())
        };
        assert_eq!([load("1"), load("900"), load("3600")].map(Result::ok), [Some(1), Some(900), Some(3600)]);
        for wrong in ["0", "3601", "-1"] {
            load(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn keystores_are_told_apart_by_their_names() {
        let keystore = |name: &str, workers| KeystoreConfig {
            name: name.to_owned(),
            module: "m.so".into(),
            token_label: "t".to_owned(),
            pin_file: "pin".into(),
            workers,
        };
        assert_eq!(keystores_problem(&[keystore("a", 1), keystore("b", 1024)]), None);
        for wrong in [
            [keystore("a", 1), keystore("a", 1)],
            [keystore("a", 1), keystore("b/c", 1)],
            [keystore("a", 1), keystore("", 1)],
            [keystore("a", 1), keystore("b", 0)],
        ] {
            assert!(keystores_problem(&wrong).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn what_compose_gives_to_the_service_is_valid() {
        let compose = include_str!("../../../docs/examples/dewpoint.compose.toml");
        let config: Config = toml::from_str(compose).expect("the file parses");
        assert_eq!(config.dew.as_ref().map(|dew| dew.listen.port()), Some(7444));
        assert_eq!(
            config.hsm,
            toml::from_str::<Config>(SAMPLE)
                .map(|sample| HsmConfig { pin_file: config.hsm.pin_file.clone(), ..sample.hsm })
                .expect("the sample parses")
        );
    }

    #[test]
    fn the_places_of_the_ciphers_become_schemes() {
        let config = SAMPLE.replace("aes_256 = \"service\"", "aes_256 = \"hsm\"");
        let config = toml::from_str::<Config>(&config.replace("budget = 2147483648", "budget = 7"));
        let settings = config.expect("the sample parses").hsm.cipher.settings();
        let expected = Settings {
            aes_256: Scheme::InHsm,
            sm4: Scheme::DerivedKey,
            in_hsm_budget: 7,
            ..Settings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn the_store_is_one_of_two() {
        let store = |name: &str| {
            toml::from_str::<Config>(&SAMPLE.replace("store = \"redb\"", name)).map(|config| config.store)
        };
        assert_eq!(store("store = \"sled\""), Ok(StoreConfig::Sled));
        assert_eq!(store(""), Ok(StoreConfig::Redb));
        store("store = \"sqlite\"").expect_err("no such store");
    }

    #[test]
    fn a_file_cannot_ask_for_a_time_of_its_own() {
        let error = toml::from_str::<Config>(&format!("clock = \"manual\"\n{SAMPLE}")).expect_err("unknown");
        assert!(error.to_string().contains("clock"), "{error}");
    }

    #[test]
    fn an_unknown_or_missing_field_is_named() {
        let unknown = SAMPLE.replace("workers = ", "worker_count = ");
        let error = toml::from_str::<Config>(&unknown).expect_err("an unknown field");
        assert!(error.to_string().contains("worker_count"), "{error}");
        let missing = SAMPLE.replace("pin_file = ", "# pin_file = ");
        let error = toml::from_str::<Config>(&missing).expect_err("a missing field");
        assert!(error.to_string().contains("pin_file"), "{error}");
    }
}
