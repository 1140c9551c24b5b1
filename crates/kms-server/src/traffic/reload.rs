//! The profile is read anew while the service runs: an operator calls for it, or a signal does.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kms_core::ops::{Loader, ReloadTrafficProfile};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::{
    TrafficConfig,
    profile::{DEW, Profile},
};
use crate::{config::FileError, gate::Gate, identity::reload::problem};

/// Where the profile comes from.
#[derive(Debug, Default)]
pub(crate) struct ProfileSource {
    /// A file; `None`: it is built in.
    path: Option<PathBuf>,
    /// How many custom keys the built-in one allows, if not its own number.
    custom_keys: Option<u64>,
    /// Held by who reads it anew.
    reloading: tokio::sync::Mutex<()>,
}

impl ProfileSource {
    /// The one that the configuration names.
    pub(crate) fn of(config: &TrafficConfig) -> Self {
        let TrafficConfig { profile: path, custom_keys, .. } = config.clone();
        Self { path, custom_keys, reloading: tokio::sync::Mutex::default() }
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

/// Reads the profile as a part of what `record` runs, and lets hold what it says when that is recorded.
pub(crate) async fn profile<T, E, F: Future<Output = Result<T, E>>>(
    gate: &Arc<Gate>,
    record: impl FnOnce(Loader) -> F,
) -> Result<T, E> {
    // One at a time: what was read last holds.
    let _reloading = gate.traffic.source.reloading.lock().await;
    let read: Arc<Mutex<Option<Profile>>> = Arc::default();
    let (kept, reader) = (read.clone(), gate.clone());
    let load: Loader = Arc::new(move || {
        let (profile, digest) = reader.traffic.source.read().map_err(|error| error.to_string())?;
        kept.lock().replace(profile);
        Ok(digest)
    });
    let recorded = record(load).await?;
    // The record is durable by now. Nothing is recorded as done that was not read.
    let profile = read.lock().take();
    if let Some(profile) = profile {
        gate.traffic.replace(&profile);
        gate.service.replace_quotas(profile.quotas);
    }
    Ok(recorded)
}

/// The same at a signal. The outcome is in the process's log, too: nobody waits for an answer.
pub(crate) async fn by_signal(gate: &Arc<Gate>) {
    let read = |load| gate.service.reload(ReloadTrafficProfile::new(load));
    match profile(gate, read).await {
        Ok(_) => tracing::info!("the profile of traffic limits and quotas was read anew"),
        Err(refused) => {
            let problem = problem(&refused);
            tracing::error!(problem, "the profile cannot be used; what was read before holds");
        }
    }
}
