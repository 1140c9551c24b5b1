//! Where bucket keys come from: a port, so that tests can stand in for the service.

use std::{collections::HashMap, pin::Pin, time::Duration};

use super::{BucketKey, OpenedBucketKey};
use crate::{Client, Error, KeyReference, envelope::Suite};

/// A future that may be kept anywhere.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// For whom a gateway calls, and all that decides what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requester {
    /// The user that the gateway acts for; absent: whom the client's own certificate names.
    pub user_id: Option<String>,
    /// The project of the calls, and with it the region; absent: the client's.
    pub project_id: Option<String>,
    /// Tells requests of one user from each other that may do different things: the id of a temporary credential, or
    /// whatever stands for the policies that hold for it. Never a secret.
    pub permissions: String,
}

impl Requester {
    /// This user, with the permissions that the service knows of.
    pub fn user(user_id: impl Into<String>) -> Self {
        Self { user_id: Some(user_id.into()), ..Self::default() }
    }

    /// The same in this project.
    #[must_use]
    pub fn in_project(mut self, project_id: impl Into<String>) -> Self {
        self.project_id = Some(project_id.into());
        self
    }

    /// The same with these permissions.
    #[must_use]
    pub fn with_permissions(mut self, permissions: impl Into<String>) -> Self {
        self.permissions = permissions.into();
        self
    }

    /// Whether it is the same user in the same project, with whatever permissions.
    pub(super) fn is_user_of(&self, other: &Self) -> bool {
        (&self.user_id, &self.project_id) == (&other.user_id, &other.project_id)
    }
}

/// Who gives out bucket keys. [`Client`] does; each call is made in the requester's name.
pub trait KeySource: Send + Sync + 'static {
    /// As [`Client::generate_bucket_key`].
    fn generate(
        &self,
        requester: &Requester,
        key: &KeyReference,
        suite: Suite,
        validity: Duration,
        context: HashMap<String, String>,
    ) -> BoxFuture<Result<BucketKey, Error>>;

    /// As [`Client::decrypt_bucket_key`].
    fn decrypt(
        &self,
        requester: &Requester,
        ciphertext: &[u8],
        key: Option<&KeyReference>,
        context: HashMap<String, String>,
    ) -> BoxFuture<Result<OpenedBucketKey, Error>>;

    /// As [`Client::report_bucket_key_use`].
    fn report(&self, requester: &Requester, receipt: &[u8], uses: u64) -> BoxFuture<Result<(), Error>>;
}

impl Client {
    /// The same connection, for calls in this requester's name.
    pub fn for_requester(&self, requester: &Requester) -> Result<Self, Error> {
        let mut client = self.clone();
        if let Some(user_id) = &requester.user_id {
            client = client.acting_for(user_id)?;
        }
        if let Some(project_id) = &requester.project_id {
            client = client.in_project(project_id)?;
        }
        Ok(client)
    }
}

impl KeySource for Client {
    fn generate(
        &self,
        requester: &Requester,
        key: &KeyReference,
        suite: Suite,
        validity: Duration,
        context: HashMap<String, String>,
    ) -> BoxFuture<Result<BucketKey, Error>> {
        let (client, key) = (self.for_requester(requester), key.clone());
        Box::pin(async move { client?.generate_bucket_key(&key, suite, validity, &context).await })
    }

    fn decrypt(
        &self,
        requester: &Requester,
        ciphertext: &[u8],
        key: Option<&KeyReference>,
        context: HashMap<String, String>,
    ) -> BoxFuture<Result<OpenedBucketKey, Error>> {
        let (client, ciphertext, key) = (self.for_requester(requester), ciphertext.to_vec(), key.cloned());
        Box::pin(async move { client?.decrypt_bucket_key(&ciphertext, key.as_ref(), &context).await })
    }

    fn report(&self, requester: &Requester, receipt: &[u8], uses: u64) -> BoxFuture<Result<(), Error>> {
        let (client, receipt) = (self.for_requester(requester), receipt.to_vec());
        Box::pin(async move { client?.report_bucket_key_use(&receipt, uses).await })
    }
}
