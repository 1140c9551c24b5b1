//! The profile is read anew while the service runs: an operator calls for it, or a signal does.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kms_core::ops::{Loader, ReloadTrafficProfile};
use sha2::{Digest as _, Sha256};

use super::{
    TrafficConfig,
    profile::{DEW, Profile},
};
use crate::{config::FileError, gate::Gate, identity::reload::problem, reloading};

/// Where the profile comes from.
#[derive(Debug, Default)]
pub(crate) struct ProfileSource {
    /// A file; `None`: it is built in.
    path: Option<PathBuf>,
    /// How many custom keys the built-in one allows, if not its own number.
    custom_keys: Option<u64>,
    /// Held by who reads it anew.
    reloading: Arc<tokio::sync::Mutex<()>>,
}

impl ProfileSource {
    /// The one that the configuration names.
    pub(crate) fn of(config: &TrafficConfig) -> Self {
        let TrafficConfig { profile: path, custom_keys, .. } = config.clone();
        Self { path, custom_keys, reloading: Arc::default() }
    }

    /// Reads it and validates it whole; answers its SHA-256, too.
    pub(crate) fn read(&self) -> Result<(Profile, [u8; 32]), FileError> {
        let Some(path) = &self.path else {
            let profile = Profile::dew(self.custom_keys);
            let profile = profile.map_err(|problem| FileError::new(Path::new("dew.toml"), problem))?;
            return Ok((profile, Sha256::digest(DEW).into()));
        };
        let text = fs::read_to_string(path).map_err(|error| FileError::new(path, error))?;
        let profile = Profile::parse(&text).map_err(|problem| FileError::new(path, problem))?;
        Ok((profile, Sha256::digest(&text).into()))
    }
}

/// Reads the profile as a part of the call that is recorded, and lets hold what it says when that is done.
pub(crate) fn profile(gate: &Arc<Gate>) -> (Loader, impl FnOnce() + Send + 'static) {
    let (reader, holder) = (gate.clone(), gate.clone());
    reloading::prepare(
        &gate.traffic.source.reloading,
        move || reader.traffic.source.read(),
        move |profile| {
            holder.traffic.replace(&profile);
            holder.service.replace_quotas(profile.quotas);
        },
    )
}

/// The same at a signal. The outcome is in the process's log, too: nobody waits for an answer.
pub(crate) async fn by_signal(gate: &Arc<Gate>) {
    let (load, take_effect) = profile(gate);
    match gate.service.reload(ReloadTrafficProfile::new(load)).await {
        Ok(_) => {
            take_effect();
            tracing::info!("the profile of traffic limits and quotas was read anew");
        }
        Err(refused) => {
            let problem = problem(&refused);
            tracing::error!(problem, "the profile cannot be used; what was read before holds");
        }
    }
}
