//! The identity file is read anew while the service runs: an operator calls for it, or a signal does.

use std::sync::Arc;

use kms_core::{
    Error, Refused,
    ops::{Loader, ReloadIdentities},
};

use crate::{gate::Gate, reloading};

/// Reads the file as a part of the call that is recorded, and lets hold what it says when that is done.
pub(crate) fn identities(gate: &Arc<Gate>) -> (Loader, impl FnOnce() + Send + 'static) {
    let (reader, holder) = (gate.clone(), gate.clone());
    reloading::prepare(
        gate.identities.reloading(),
        move || reader.identities.read_anew(),
        move |identities| holder.identities.replace(identities),
    )
}

/// The same at a signal. The outcome is in the process's log, too: nobody waits for an answer.
pub(crate) async fn by_signal(gate: &Arc<Gate>) {
    let (load, take_effect) = identities(gate);
    match gate.service.reload(ReloadIdentities::new(load)).await {
        Ok(_) => {
            take_effect();
            tracing::info!(users = gate.identities.now().users(), "the identity file was read anew");
        }
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
