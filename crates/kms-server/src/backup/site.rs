//! A deployment that is opened for a move, and that no service runs on meanwhile.

use kms_core::{Carried, CheckKey, OpenIntent, RequestId, Service, Settings, operation::OperationName};
use kms_hsm::Transfer;
use uuid::Uuid;

use super::{BackupError, Problem, format::Digest};
use crate::{
    opening::{Adapters, Opened},
    serve_error::ServeError,
};

/// Store, log and token.
pub(in crate::backup) struct Site {
    pub(in crate::backup) service: Service,
    adapters: Adapters,
    /// The id of the move in the log.
    pub(in crate::backup) request: RequestId,
    operation: OperationName,
    open_intents: Vec<OpenIntent>,
}

impl Site {
    pub(in crate::backup) async fn open(
        opened: Opened,
        operation: OperationName,
    ) -> Result<Self, BackupError> {
        let Opened { ports, adapters, open_intents } = opened;
        let service = Service::start(ports, Settings::default()).await.map_err(ServeError::Start)?;
        Ok(Self { service, adapters, request: Uuid::new_v4(), operation, open_intents })
    }

    /// Puts in order what a crash left.
    pub(in crate::backup) async fn settle(&self) -> Result<(), BackupError> {
        Ok(self.service.reconcile(&self.open_intents).await?)
    }

    pub(in crate::backup) fn transfer(&self) -> Result<Transfer, BackupError> {
        Ok(self.adapters.hsm.transfer()?)
    }

    /// The log says that the move begins.
    pub(in crate::backup) async fn begin(&self, backup: Option<Digest>) -> Result<(), BackupError> {
        Ok(self.service.record_begin_of_move(self.operation, self.request, backup).await?)
    }

    /// The log says how it ended; nobody hears of a success before that.
    pub(in crate::backup) async fn end(&self, backup: Option<Digest>) -> Result<(), BackupError> {
        Ok(self.service.record_end_of_move(self.operation, self.request, backup).await?)
    }

    /// Writes out the log and leaves the token in order.
    pub(in crate::backup) fn close(self) {
        drop(self.service);
        self.adapters.log.shutdown(); // its last checkpoint needs the token
        self.adapters.hsm.shut_down();
        self.adapters.keystores.shut_down();
    }
}

/// Lets the imported material of a key be recognised on the other side, or names the key where it will not be.
pub(in crate::backup) fn take_check_along(value: &mut Carried, from: &CheckKey, to: &CheckKey) {
    if !value.rewrap_check(from, to)
        && let Some(record) = value.key()
    {
        eprintln!(
            "dewpoint: key {}: its material was imported by an earlier build, so once it is gone it cannot be imported \
             again after the move; import it anew before",
            record.id
        );
    }
}

/// A failure with one key names it.
pub(in crate::backup) fn with_key(
    key: kms_core::key::KeyId,
    version: u32,
) -> impl FnOnce(kms_core::ports::HsmError) -> BackupError {
    move |error| Problem::Key { key, version, error }.into()
}
