//! A deployment that is opened for a move, and that no service runs on meanwhile.

use kms_core::{RequestId, Service, Settings, operation::OperationName};
use kms_hsm::Transfer;
use uuid::Uuid;

use super::{BackupError, Problem, format::Digest};
use crate::{
    opening::{Adapters, Opened},
    serve_error::ServeError,
};

/// Store, log and token, with what a crash left put in order.
pub(super) struct Site {
    pub(super) service: Service,
    adapters: Adapters,
    /// The id of the move in the log.
    pub(super) request: RequestId,
    operation: OperationName,
}

impl Site {
    pub(super) async fn open(opened: Opened, operation: OperationName) -> Result<Self, BackupError> {
        let Opened { ports, adapters, open_intents } = opened;
        let service = Service::start(ports, Settings::default()).await.map_err(ServeError::Start)?;
        service.reconcile(&open_intents).await?;
        Ok(Self { service, adapters, request: Uuid::new_v4(), operation })
    }

    pub(super) fn transfer(&self) -> Result<Transfer, BackupError> {
        Ok(self.adapters.hsm.transfer()?)
    }

    /// The log says that the move begins.
    pub(super) async fn begin(&self, backup: Option<Digest>) -> Result<(), BackupError> {
        Ok(self.service.record_begin_of_move(self.operation, self.request, backup).await?)
    }

    /// The log says how it ended; nobody hears of a success before that.
    pub(super) async fn end(&self, backup: Option<Digest>) -> Result<(), BackupError> {
        Ok(self.service.record_end_of_move(self.operation, self.request, backup).await?)
    }

    /// Writes out the log and leaves the token in order.
    pub(super) fn close(self) {
        drop(self.service);
        self.adapters.hsm.shut_down();
        self.adapters.log.shutdown();
    }
}

/// A failure with one key names it.
pub(super) fn with_key(
    key: kms_core::key::KeyId,
    version: u32,
) -> impl FnOnce(kms_core::ports::HsmError) -> BackupError {
    move |error| Problem::Key { key, version, error }.into()
}
