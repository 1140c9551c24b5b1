//! A revisioned key-value store: the shape that embedded engines, etcd and SQL can all give.

use std::sync::Arc;

use super::BoxFuture;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// The most mutations in one transaction.
pub const MAX_MUTATIONS: usize = 100;

/// A key of the store; ordered by its bytes.
pub type StoreKey = Vec<u8>;

/// Grows with every transaction that commits; unique to it.
pub type Revision = u64;

/// A stored value and the transaction that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The revision of the transaction that last put this value.
    pub revision: Revision,
    /// The value's bytes.
    pub value: Arc<[u8]>,
}

/// What must hold at the moment of the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The key has no value.
    Absent(StoreKey),
    /// The key's value was last put by this revision.
    Revision(StoreKey, Revision),
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Sets the key's value.
    Put(StoreKey, Vec<u8>),
    /// Removes the key; no error if it is absent.
    Delete(StoreKey),
}

/// All mutations happen, or none; and only if all conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Checked in order; the first that does not hold is reported.
    pub conditions: Vec<Condition>,
    /// Applied in order; a later one of the same key wins.
    pub mutations: Vec<Mutation>,
}

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The condition at this index did not hold; nothing was changed.
    #[error("condition {index} of the transaction does not hold")]
    Conflict {
        /// Index into [`Transaction::conditions`].
        index: usize,
    },
    /// A key, a value or a transaction is longer than the port allows; nothing was changed.
    #[error("over the store's limits: {detail}")]
    TooLarge {
        /// Which limit.
        detail: String,
    },
    /// The store cannot be used now; nothing was changed.
    #[error("the store is unavailable: {detail}")]
    Unavailable {
        /// What failed, for the operator.
        detail: String,
    },
    /// The commit may or may not have happened.
    #[error("the store did not say whether it committed: {detail}")]
    Unknown {
        /// What failed, for the operator.
        detail: String,
    },
}

/// All entries of a store at one revision, read once from the first to the last in bounded memory.
pub trait Snapshot: Send {
    /// The last transaction whose changes are in it.
    fn revision(&self) -> Revision;

    /// The next entries in key order, at most `limit`; none: there are no more.
    fn page(&mut self, limit: usize) -> BoxFuture<'_, Result<Vec<(StoreKey, Versioned)>, StoreError>>;
}

/// Where key records live.
///
/// `Ok` from [`transact`](Self::transact) means that the change survives a loss of power. A read
/// sees every transaction that was acknowledged before the read began.
pub trait KeyStore: Send + Sync {
    /// The values of `keys`, in their order; `None` where there is none.
    fn get_many<'a>(
        &'a self,
        keys: &'a [StoreKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>>;

    /// At most `limit` entries whose keys begin with `prefix`, in key order, from the first one
    /// that is greater than `after`.
    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(StoreKey, Versioned)>, StoreError>>;

    /// All entries at one revision, whatever is committed meanwhile. Making it may take as long as
    /// reading them all, on the calling thread, and may hold commits up meanwhile; reads go on.
    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, StoreError>>;

    /// Commits `transaction` durably, or changes nothing. Dropping the future does not undo it.
    fn transact(&self, transaction: Transaction) -> BoxFuture<'_, Result<Revision, StoreError>>;
}
