//! DescribeKeystore and ListKeystores: the keystores of the caller's account.

use crate::{
    directory::Stored,
    draft::Draft,
    error::Error,
    identity::KeystoreId,
    keystore::KeystoreRecord,
    operation::OperationName,
    ops::{ListWindow, Operation, Prepared},
    service::Scope,
};

/// Reads one keystore.
#[derive(Debug, Clone)]
pub struct DescribeKeystore {
    /// Which one.
    pub keystore_id: KeystoreId,
}

impl Operation for DescribeKeystore {
    const NAME: OperationName = OperationName::DescribeKeystore;
    type Output = KeystoreRecord;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<KeystoreRecord>, Error> {
        Ok(Prepared::Answer(scope.keystore(&self.keystore_id).await?.value))
    }
}

/// Reads the keystores of the account, in the order of their ids.
#[derive(Debug, Clone, Copy)]
pub struct ListKeystores {
    /// Which part of the list.
    pub window: ListWindow,
}

/// A part of the list of keystores.
#[derive(Debug)]
pub struct KeystoreList {
    /// How many there are in all.
    pub total: usize,
    /// The part that was asked for.
    pub keystores: Vec<KeystoreRecord>,
}

impl Operation for ListKeystores {
    const NAME: OperationName = OperationName::ListKeystores;
    type Output = KeystoreList;

    async fn prepare(&self, scope: &Scope<'_>, _: &mut Draft) -> Result<Prepared<KeystoreList>, Error> {
        // There are never more than tokens, so all are read.
        let mut keystores = scope.directory().keystores().await?;
        keystores.retain(|keystore| keystore.account == scope.caller().account);
        let total = keystores.len();
        Ok(Prepared::Answer(KeystoreList { total, keystores: self.window.of(keystores) }))
    }
}

impl Scope<'_> {
    /// The keystore with this id, if it is the caller's account's.
    pub(crate) async fn keystore(&self, id: &KeystoreId) -> Result<Stored<KeystoreRecord>, Error> {
        let stored = self.directory().keystore(id).await?;
        stored.filter(|stored| stored.value.account == self.caller().account).ok_or(Error::KeystoreNotFound)
    }
}
