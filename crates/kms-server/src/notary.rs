//! The key of the token signs the checkpoints of the log.

use std::{
    path::Path,
    sync::{Arc, mpsc},
};

use kms_audit::{CheckpointSigner, Notarization, SignatureDone, SignedCheckpoint};
use kms_core::ports::{Hsm as _, HsmError, HsmSession, LogKey};
use kms_hsm::Pkcs11Hsm;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::{clock::SystemClock, serve_error::ServeError};

/// The newest checkpoint, for who carries it elsewhere.
pub(crate) type NewestCheckpoint = watch::Receiver<Option<Arc<SignedCheckpoint>>>;

/// What the log in `directory` needs to be signed by the token's log key, which is made if there is none. After a
/// move to another token, it is another than before.
pub(crate) fn notarization(
    hsm: &Arc<Pkcs11Hsm>,
    directory: &Path,
    moved: bool,
) -> Result<(Notarization, NewestCheckpoint), ServeError> {
    let key = if kms_audit::is_signed(directory) && !moved {
        ask(hsm, |session| session.log_key())?.ok_or(ServeError::LogKeyLost)?
    } else {
        // Answers the one that is there; and who made that may have died before it was on the disk.
        ask(hsm, |session| session.create_log_key())?
    };
    let (sender, newest) = watch::channel(None);
    let published =
        move |signed: &SignedCheckpoint| drop(sender.send_replace(Some(Arc::new(signed.clone()))));
    let notarization = Notarization {
        origin: origin(&key),
        public_key: key.public_key,
        new_key: moved,
        signer: Arc::new(TokenSigner(Arc::clone(hsm))),
        clock: Arc::new(SystemClock::start()),
        published: Box::new(published),
    };
    Ok((notarization, newest))
}

/// A name that no other log has, for it comes from its first key.
fn origin(key: &LogKey) -> String {
    let digest = Sha256::digest(key.public_key);
    format!("dewpoint.log/{}", hex::encode(&digest[..8]))
}

/// Asks the token, and waits for its answer.
fn ask<T: Send + 'static>(
    hsm: &Pkcs11Hsm,
    call: impl FnOnce(&mut dyn HsmSession) -> Result<T, HsmError> + Send + 'static,
) -> Result<T, ServeError> {
    let (sender, answer) = mpsc::channel();
    hsm.submit(Box::new(move |session| drop(sender.send(session.and_then(call)))));
    let answered = answer.recv().unwrap_or(Err(HsmError::Busy));
    answered.map_err(|error| ServeError::LogKey(error.to_string()))
}

struct TokenSigner(Arc<Pkcs11Hsm>);

impl CheckpointSigner for TokenSigner {
    fn sign(&self, text: String, done: SignatureDone) {
        self.0.submit(Box::new(move |session| {
            let signature = session.and_then(|session| session.sign_checkpoint(text.as_bytes()));
            done(signature.map_err(|error| error.to_string()));
        }));
    }
}
