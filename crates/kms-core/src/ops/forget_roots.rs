//! ForgetRoots: proves that no key needs the old root keys, and commits that.

use std::{future::poll_fn, mem, sync::Arc, task::Poll};

use crate::{
    directory::Directory,
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{OwnOperation, Planned, Prepared},
    root::RootRecord,
};

/// How many keys one read of the pass takes.
const PAGE: usize = 256;

/// Commits that the old generations are needed no more, if that is so and they are not to be kept.
///
/// The proof is a pass over all keys after `m/root` was read. It suffices although the store is not still
/// meanwhile: `m/root` names the new generation since before the pass began, and since then no key can be
/// stored under an older one (see [`root`](crate::root)). So the keys under older ones only become
/// fewer; each that is left now was there, at the same store key, all the time, and the pass has seen it.
/// That `m/root` has not changed since is a condition of the commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForgetRoots;

impl OwnOperation for ForgetRoots {
    const NAME: OperationName = OperationName::ForgetRoots;
    type Output = RootRecord;

    async fn prepare(
        &self,
        directory: &Arc<Directory>,
        draft: &mut Draft,
    ) -> Result<Prepared<RootRecord>, Error> {
        let stored = directory.root().await?;
        let kept = stored.value.rotation.as_ref().is_none_or(|rotation| rotation.keep_old_root);
        if kept || stored.value.all_moved() {
            draft.existed();
            return Ok(Prepared::Answer(stored.value));
        }
        prove_unneeded(directory, stored.value.generation).await?;
        let root = RootRecord { oldest: stored.value.generation, ..stored.value.clone() };
        Ok(Prepared::Change(Planned::Ready(stored.replace(directory, root)?)))
    }
}

/// Reads every key; one that is under an older generation, or whose record cannot be trusted, is an error.
async fn prove_unneeded(directory: &Directory, generation: u32) -> Result<(), Error> {
    let mut after = None;
    loop {
        let keys = directory.all_keys(after.as_deref(), PAGE).await?;
        let Some((last, _)) = keys.last() else { return Ok(()) };
        after = Some(last.clone());
        for (_, record) in keys {
            if record?.needs_older_than(generation) {
                return Err(Error::RootStillNeeded { generation });
            }
        }
        give_way().await;
    }
}

/// Lets others run: a store that answers from memory would let a long pass hold its thread.
pub(crate) async fn give_way() {
    let mut given = false;
    poll_fn(|context| {
        if mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
