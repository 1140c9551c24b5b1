//! `dewctl hsm`: what an HSM offers, and its root key. Without the service, on the machine of the HSM.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kms_hsm::{
    CheckpointSignature, CipherForm, DEFAULT_RENEW_AFTER, Feature, FeatureState, OpenError, Pkcs11Config,
    Pkcs11Hsm, RootKeys, Survey, VendorSm4,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::output::{Failure, print};

/// What to do with the HSM.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum HsmCommand {
    /// Try out what the module and the token offer, and tell which features of Dewpoint work with it
    ///
    /// Logs in once with the PIN. Makes session objects only, which are gone afterwards; the token is not changed. The
    /// service may be running. A SoftHSM2 token is named by the environment variable SOFTHSM2_CONF.
    ///
    /// Ends with 0 if all that is needed works, else with 4.
    Probe(#[command(flatten)] Place),
    /// Make the root key, the authentication key and the log's key: once in the life of a token
    ///
    /// All are made inside the token, tried out and written to disk before this ends. Refused if the token has a
    /// root key, and if the configuration's data directory holds a key store: its root key lies on another token.
    Init(#[command(flatten)] Place),
}

/// Where the HSM is.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The configuration of `dewpoint serve`: its table `hsm` says where
    #[arg(long, value_name = "FILE", conflicts_with_all = ["module", "token_label", "pin_file", "root_label"])]
    config: Option<PathBuf>,
    /// The PKCS#11 module, a shared library
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    module: Option<PathBuf>,
    /// The label of the token
    #[arg(long, value_name = "LABEL", required_unless_present = "config")]
    token_label: Option<String>,
    /// A file that holds the user PIN and nothing else; only its owner may be able to read it
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    pin_file: Option<PathBuf>,
    /// What the labels of the root keys begin with
    #[arg(long, value_name = "LABEL", default_value = ROOT_LABEL)]
    root_label: String,
}

const ROOT_LABEL: &str = "dewpoint-root";

/// What is needed of the service's configuration.
#[derive(Deserialize)]
struct ServiceConfig {
    data_dir: PathBuf,
    hsm: HsmTable,
}

#[derive(Deserialize)]
struct HsmTable {
    module: PathBuf,
    token_label: String,
    pin_file: PathBuf,
    root_label: Option<String>,
    sm4: Option<Sm4Table>,
}

#[derive(Deserialize)]
struct Sm4Table {
    key_type: u64,
    generation: u64,
    cipher: u64,
    form: String,
}

/// Runs one of them.
pub(crate) fn run(command: &HsmCommand, as_json: bool) -> Result<(), Failure> {
    match command {
        HsmCommand::Probe(place) => probe(&place.resolve()?.0, as_json),
        HsmCommand::Init(place) => {
            let (config, data_dir) = place.resolve()?;
            init(&config, data_dir.as_deref(), as_json)
        }
    }
}

impl Place {
    /// The HSM, and the data directory if a configuration names one.
    fn resolve(&self) -> Result<(Pkcs11Config, Option<PathBuf>), Failure> {
        if let Some(path) = &self.config {
            let unusable = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
            let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
            let read: ServiceConfig =
                toml::from_str(&text).map_err(|error| unusable(error.message().to_owned()))?;
            let sm4 = read.hsm.sm4.map(Sm4Table::numbers).transpose().map_err(unusable)?;
            let HsmTable { module, token_label, pin_file, root_label, .. } = read.hsm;
            let root_label = root_label.unwrap_or_else(|| ROOT_LABEL.to_owned());
            let config = pkcs11_config(module, token_label, pin_file, root_label, sm4);
            return Ok((config, Some(read.data_dir)));
        }
        let (Some(module), Some(label), Some(pin_file)) = (&self.module, &self.token_label, &self.pin_file)
        else {
            return Err(Failure::Usage(
                "name the HSM by --config, or by --module, --token-label and --pin-file".into(),
            ));
        };
        let root_label = self.root_label.clone();
        Ok((pkcs11_config(module.clone(), label.clone(), pin_file.clone(), root_label, None), None))
    }
}

impl Sm4Table {
    fn numbers(self) -> Result<VendorSm4, String> {
        let form = match self.form.as_str() {
            "gcm" => CipherForm::Gcm,
            "ecb" => CipherForm::Ecb,
            other => return Err(format!("hsm.sm4.form: {other:?} is neither \"gcm\" nor \"ecb\"")),
        };
        Ok(VendorSm4 { key_type: self.key_type, generation: self.generation, cipher: self.cipher, form })
    }
}

fn pkcs11_config(
    module: PathBuf,
    token_label: String,
    pin_file: PathBuf,
    root_label: String,
    sm4: Option<VendorSm4>,
) -> Pkcs11Config {
    let renew_after = DEFAULT_RENEW_AFTER;
    Pkcs11Config { module, token_label, pin_file, root_label, workers: 1, loaded_keys: 1, renew_after, sm4 }
}

fn probe(config: &Pkcs11Config, as_json: bool) -> Result<(), Failure> {
    let survey = kms_hsm::survey(config).map_err(hsm_failure)?;
    print(&if as_json { format!("{:#}", described(&survey)) } else { table(&survey) })?;
    if survey.suffices() {
        Ok(())
    } else {
        Err(Failure::Hsm("the token lacks what is needed: Dewpoint cannot work with it".to_owned()))
    }
}

fn table(survey: &Survey) -> String {
    let mut lines = vec![
        format!("module    {}; PKCS#11 {}", survey.module, survey.cryptoki_version),
        format!("token     {}", survey.token),
        match survey.session_limit {
            Some(limit) => format!("sessions  at most {limit} for one program: `workers` must be less"),
            None => "sessions  no limit is told".to_owned(),
        },
        match &survey.root_keys {
            Ok(generations) => format!("root key  works; generations on the token: {generations:?}"),
            Err(why) => format!("root key  {why}"),
        },
        String::new(),
    ];
    lines.extend(survey.features.iter().map(line));
    lines.push(format!("\n{} mechanisms: {}", survey.mechanisms.len(), survey.mechanisms.join(" ")));
    lines.join("\n")
}

fn line(feature: &Feature) -> String {
    let state = match &feature.state {
        FeatureState::Works => "works",
        FeatureState::Offered => "offered",
        FeatureState::Missing => "missing",
        FeatureState::NotConfigured => "not set up",
        FeatureState::Fails(_) => "FAILS",
    };
    let how = match &feature.state {
        FeatureState::Fails(how) => format!(": {how}"),
        _ => String::new(),
    };
    let needed = if feature.needed { "needed" } else { "" };
    format!("{state:<11} {needed:<7} {:<46} {}{how}", feature.name, feature.mechanisms)
}

fn described(survey: &Survey) -> Value {
    let features: Vec<_> = survey.features.iter().map(feature_json).collect();
    json!({
        "module": survey.module,
        "cryptoki_version": survey.cryptoki_version,
        "token": survey.token,
        "session_limit": survey.session_limit,
        "root_generations": survey.root_keys.as_ref().ok(),
        "root_key_problem": survey.root_keys.as_ref().err(),
        "suffices": survey.suffices(),
        "features": features,
        "mechanisms": survey.mechanisms,
    })
}

fn feature_json(feature: &Feature) -> Value {
    let (state, problem) = match &feature.state {
        FeatureState::Works => ("WORKS", None),
        FeatureState::Offered => ("OFFERED", None),
        FeatureState::Missing => ("MISSING", None),
        FeatureState::NotConfigured => ("NOT_CONFIGURED", None),
        FeatureState::Fails(how) => ("FAILS", Some(how)),
    };
    json!({
        "name": feature.name, "mechanisms": feature.mechanisms, "needed": feature.needed,
        "state": state, "problem": problem,
    })
}

fn init(config: &Pkcs11Config, data_dir: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    if let Some(store) = data_dir.map(|directory| directory.join("store")).filter(|store| store.exists()) {
        return Err(Failure::Hsm(format!(
            "{} exists: its keys need the root key that they were made under, and no new one; restore its token",
            store.display()
        )));
    }
    eprintln!(
        "dewctl: making keys inside the token {:?}; none of them can ever be read or taken out",
        config.token_label
    );
    let made = Pkcs11Hsm::create_root_keys(config).map_err(hsm_failure)?;
    if as_json {
        let made = json!({
            "generation": made.generation, "root_label": made.root_label,
            "authentication_label": made.authentication_label, "log_label": made.log_label,
            "log_mechanism": made.log_signature.map(CheckpointSignature::name),
            "log_public_key": hex::encode(made.log_key.public_key),
        });
        return print(&format!("{made:#}"));
    }
    print(&format!(
        "made   {}  AES-256, wraps and unwraps, nothing else: the root key, generation {}\n\
         made   {}  256 bits, computes HMAC-SHA256, nothing else: the authentication key\n\
         {}\n\
         log    {}  Ed25519, in hex: the public key that verifies the log's checkpoints; keep it elsewhere\n\
         tried  all, and written to disk\n\
         next   back the token up now: without these keys nothing in the key store can ever be opened",
        made.root_label,
        made.generation,
        made.authentication_label,
        log_pair(&made),
        hex::encode(made.log_key.public_key)
    ))
}

fn log_pair(made: &RootKeys) -> String {
    match made.log_signature {
        Some(CheckpointSignature::EdDsa) => {
            format!("made   {}  Ed25519, signs, nothing else: the log's key", made.log_label)
        }
        Some(CheckpointSignature::Ecdsa) => format!(
            "made   {}  P-256, signs, nothing else: vouches for the log's key, which is derived from the token",
            made.log_label
        ),
        None => "none   the token signs neither by Ed25519 nor by ECDSA: nothing vouches for the log's key, which is \
                 derived from the token"
            .to_owned(),
    }
}

fn hsm_failure(error: OpenError) -> Failure {
    match error {
        error @ (OpenError::PinFileUnreadable { .. } | OpenError::PinFileExposed { .. }) => {
            Failure::Usage(error.to_string())
        }
        error => Failure::Hsm(error.to_string()),
    }
}
