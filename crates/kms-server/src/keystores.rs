//! The tokens of keystores: opened beside the service's own, each on a module file of its own.
//!
//! One that cannot be opened does not keep the service from starting: its keys are refused, and log and metrics
//! say so.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, sync::Arc};

use kms_core::{
    identity::KeystoreId,
    key::MaterialId,
    ports::{Hsm, HsmError, HsmJob},
};
use kms_hsm::{OpenError, Pkcs11Config, Pkcs11Hsm};

use crate::{
    config::{Config, KeystoreConfig},
    serve_error::ServeError,
    start_watch::StartWatch,
};

/// How many key versions stay loaded on a keystore's token.
const LOADED_KEYS: usize = 10_000;

/// The configured tokens, by name.
pub(crate) struct Keystores(BTreeMap<KeystoreId, Opened>);

enum Opened {
    Working(Arc<Pkcs11Hsm>),
    /// It could not be opened.
    Closed(Arc<ClosedToken>),
}

/// Stands for a token that could not be opened: refuses everything, and says why.
struct ClosedToken(String);

impl Hsm for ClosedToken {
    fn submit(&self, job: HsmJob) {
        job(Err(HsmError::Unavailable { function: "C_Initialize", detail: self.0.clone() }));
    }

    fn evict(&self, _: MaterialId) {}
}

impl Keystores {
    /// Opens all that are configured.
    pub(crate) fn open(config: &Config, watch: &StartWatch) -> Self {
        let named = config.keystores.iter().filter_map(|keystore| {
            let id = KeystoreId::parse(&keystore.name)?; // checked when the configuration was read
            Some((id, keystore))
        });
        let opened = named.map(|(id, keystore)| {
            watch.waits_while(format!("the token of the keystore {} is opened", keystore.name));
            (id, Opened::of(config, keystore))
        });
        let keystores = Self(opened.collect());
        watch.goes_on();
        keystores
    }

    /// None: where no key of a keystore is used.
    pub(crate) fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// As the domain sees them.
    pub(crate) fn ports(&self) -> BTreeMap<KeystoreId, Arc<dyn Hsm>> {
        let port = |opened: &Opened| -> Arc<dyn Hsm> {
            match opened {
                Opened::Working(hsm) => hsm.clone(),
                Opened::Closed(closed) => closed.clone(),
            }
        };
        self.0.iter().map(|(id, opened)| (id.clone(), port(opened))).collect()
    }

    /// Whether each can be used now.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&KeystoreId, bool)> {
        self.0.iter().map(|(id, opened)| match opened {
            Opened::Working(hsm) => (id, hsm.loss().is_none() && !hsm.is_stuck()),
            Opened::Closed(_) => (id, false),
        })
    }

    /// Ends the work on all of them.
    pub(crate) fn shut_down(&self) {
        for opened in self.0.values() {
            if let Opened::Working(hsm) = opened {
                hsm.shut_down();
            }
        }
    }
}

impl Opened {
    fn of(config: &Config, keystore: &KeystoreConfig) -> Self {
        match Pkcs11Hsm::open(&pkcs11_config(config, keystore)) {
            Ok(hsm) => Self::Working(Arc::new(hsm)),
            Err(error) => {
                let name = &keystore.name;
                tracing::error!(keystore = name, %error, "the keystore's token cannot be opened; its keys are refused");
                Self::Closed(Arc::new(ClosedToken(format!("keystore {name}: {error}"))))
            }
        }
    }
}

/// Makes the root keys of the tokens that have none yet.
pub(crate) fn initialise(config: &Config) -> Result<(), ServeError> {
    for keystore in &config.keystores {
        match Pkcs11Hsm::create_root_keys(&pkcs11_config(config, keystore)) {
            Ok(_) | Err(OpenError::RootKeysExist { .. }) => {}
            Err(error) => return Err(ServeError::Keystore(keystore.name.clone(), error)),
        }
    }
    Ok(())
}

/// Refuses two tokens on one module file.
// PKCS#11 §5.4: a process initialises a module once; what one token needs to heal would end the other's sessions.
pub(crate) fn check_modules(config: &Config) -> Result<(), ServeError> {
    // One that is not there is found out when it is loaded.
    let file = |path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let mut known: Vec<_> = file(&config.hsm.module).into_iter().collect();
    for keystore in &config.keystores {
        let Some(module) = file(&keystore.module) else { continue };
        if known.contains(&module) {
            return Err(ServeError::ModuleShared(keystore.name.clone()));
        }
        known.push(module);
    }
    Ok(())
}

fn pkcs11_config(config: &Config, keystore: &KeystoreConfig) -> Pkcs11Config {
    Pkcs11Config {
        module: keystore.module.clone(),
        token_label: keystore.token_label.clone(),
        pin_file: keystore.pin_file.clone(),
        root_label: config.hsm.root_label.clone(),
        workers: keystore.workers,
        loaded_keys: LOADED_KEYS,
        renew_after: config.hsm.renew_after,
        sm4: None,
    }
}
