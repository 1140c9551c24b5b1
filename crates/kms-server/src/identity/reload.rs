//! The identity file is read anew while the service runs: an operator calls for it, or a signal does.

use std::sync::{Arc, Mutex, PoisonError};

use kms_core::{
    Error, Refused,
    ops::{Loader, ReloadIdentities},
};

use super::Identities;
use crate::gate::Gate;

/// Reads the file as a part of what `record` runs, and lets hold what it says when that is recorded. Answers how many
/// users there are, too.
pub(crate) async fn identities<T, E, F: Future<Output = Result<T, E>>>(
    gate: &Arc<Gate>,
    record: impl FnOnce(Loader) -> F,
) -> Result<(T, usize), E> {
    // One at a time: what was read last holds.
    let _reloading = gate.identities.reloading().await;
    let read: Arc<Mutex<Option<Identities>>> = Arc::default();
    let (kept, reader) = (read.clone(), gate.clone());
    let load: Loader = Arc::new(move || {
        let (identities, digest) = reader.identities.read_anew().map_err(|error| error.to_string())?;
        kept.lock().unwrap_or_else(PoisonError::into_inner).replace(identities);
        Ok(digest)
    });
    let recorded = record(load).await?;
    // The record is durable by now. Nothing is recorded as done that was not read.
    let identities = read.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(identities) = identities {
        gate.identities.replace(identities);
    }
    Ok((recorded, gate.identities.now().users()))
}

/// The same at a signal. The outcome is in the process's log, too: nobody waits for an answer.
pub(crate) async fn by_signal(gate: &Arc<Gate>) {
    let read = |load| gate.service.reload(ReloadIdentities::new(load));
    match identities(gate, read).await {
        Ok((_, users)) => tracing::info!(users, "the identity file was read anew"),
        Err(refused) => {
            let problem = problem(&refused);
            tracing::error!(problem, "the identity file cannot be used; what was read before holds");
        }
    }
}

/// What is wrong with what was to be read anew.
pub(crate) fn problem(refused: &Refused) -> String {
    let error: &Error = refused.error();
    error.operator_detail().unwrap_or_else(|| error.to_string())
}
