//! DestroyRoots: the token destroys the old root keys, and the rotation ends.

use std::sync::Arc;

use crate::{
    directory::Directory,
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{OwnOperation, Prepared},
    root::{RootRecord, generations},
};

/// Destroys all generations that [`ForgetRoots`](super::ForgetRoots) proved to be needed no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DestroyRoots;

impl OwnOperation for DestroyRoots {
    const NAME: OperationName = OperationName::DestroyRoots;
    type Output = RootRecord;

    async fn prepare(
        &self,
        directory: &Arc<Directory>,
        draft: &mut Draft,
    ) -> Result<Prepared<RootRecord>, Error> {
        let stored = directory.root().await?;
        let generation = stored.value.generation;
        if stored.value.rotation.is_none() {
            draft.existed();
            return Ok(Prepared::Answer(stored.value));
        }
        if !stored.value.all_moved() {
            return Err(Error::RootStillNeeded { generation });
        }
        let directory = directory.clone();
        Ok(Prepared::change_by(None, move |session| {
            for old in generations(session)?.into_iter().filter(|old| *old < generation) {
                session.retire_root_key(old)?;
            }
            stored.replace(&directory, RootRecord { rotation: None, ..stored.value.clone() })
        }))
    }
}
