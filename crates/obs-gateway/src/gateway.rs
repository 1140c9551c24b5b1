//! What both faces stand on: buckets found and access decided, data keys for objects, streams moved in bounded memory.

use std::{collections::BTreeMap, sync::Arc};

use kms_client::{bucket_keys::ObjectName, rules::KeyName};

use crate::{
    access::{is_allowed, is_allowed_in_any_case},
    credentials::{Credentials, User},
    format::ObjectKey,
    sse::{
        Asked, Facts, KeyError, Keys, Method, NewKey, Policy, Rejection, Requester, Verdict, key_name, method,
    },
    store::{self, Bucket, BucketSettings, Encryption, ObjectRecord, Store},
};

/// Who asks, and by which way.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user whose signature the request bears.
    pub user: Arc<User>,
    /// Whether the request came over TLS.
    pub is_secure: bool,
    /// The account that has to own every bucket the request is about, if it says so.
    pub expected_owner: Option<String>,
}

/// A gateway: a store, and where its data keys come from.
#[derive(Debug)]
pub struct Gateway {
    store: Arc<Store>,
    keys: Arc<dyn Keys>,
    credentials: Credentials,
    region: String,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's reason.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The KMS' reason, or a rule's.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Neither a permission nor a policy allows it, or a policy denies it.
    #[error("access is denied")]
    Denied,
    /// The bucket's policy cannot be read any more.
    #[error("the bucket's policy cannot be read")]
    Policy,
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::Key(rejection.into())
    }
}

impl Gateway {
    /// A gateway for buckets of one region.
    pub fn new(store: Store, keys: Arc<dyn Keys>, credentials: Credentials, region: String) -> Self {
        Self { store: Arc::new(store), keys, credentials, region }
    }

    /// All buckets.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The access keys.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The region of all buckets.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The bucket, if it is whose the caller expects and the caller may do this with it or with an object of it. `asked` is what the request's headers
    /// say of encryption.
    pub fn allowed(
        &self,
        caller: &Caller,
        action: &str,
        bucket: &str,
        object: Option<&str>,
        asked: &Asked,
    ) -> Result<Arc<Bucket>, Error> {
        let bucket = self.store.bucket(bucket)?;
        let settings = bucket.settings();
        if caller.expected_owner.as_ref().is_some_and(|expected| *expected != settings.owner) {
            return Err(Error::Denied);
        }
        if is_allowed_in_any_case(&caller.user, &settings.owner, action) {
            return Ok(bucket);
        }
        let policy = policy_of(&settings)?;
        let key = asked.key.as_deref().filter(|key| !key.is_empty());
        // What names no key is refused later, whatever a policy says.
        let key = key.map(|key| KeyName::parse(key).map_or_else(|_| key.to_owned(), |named| named.key_id));
        let facts = Facts {
            account: &caller.user.requester.account,
            user_id: &caller.user.requester.user_id,
            action,
            bucket: &settings.name,
            object,
            encryption: asked.mode.as_deref().map(|mode| mode.strip_prefix("aws:").unwrap_or(mode)),
            key: key.as_deref(),
            is_secure: caller.is_secure,
        };
        let allowed = is_allowed(&caller.user, &settings.owner, policy.as_ref(), &facts);
        if allowed { Ok(bucket) } else { Err(Error::Denied) }
    }

    /// Refuses to read an encrypted object of another account's bucket, if the bucket itself is not granted to the caller:
    /// its policy has to allow its head or its list.
    // DEW: an encrypted object is read across accounts only with the bucket, the object and the key granted.
    pub fn must_have_bucket(&self, caller: &Caller, bucket: &Bucket) -> Result<(), Error> {
        let settings = bucket.settings();
        let Requester { account, user_id, .. } = &caller.user.requester;
        if *account == settings.owner {
            return Ok(());
        }
        let policy = policy_of(&settings)?;
        let is_granted = |action: &&str| {
            let facts = Facts {
                account,
                user_id,
                action,
                bucket: &settings.name,
                object: None,
                encryption: None,
                key: None,
                is_secure: caller.is_secure,
            };
            policy.as_ref().is_some_and(|policy| policy.verdict(&facts) == Verdict::Allowed)
        };
        if ["HeadBucket", "ListBucket"].iter().any(is_granted) { Ok(()) } else { Err(Error::Denied) }
    }

    /// How an upload to this bucket is encrypted. A copy of an encrypted object stays encrypted as its source is,
    /// where neither the request nor the bucket says how.
    pub fn method(
        &self,
        caller: &Caller,
        bucket: &Bucket,
        asked: &Asked,
        source: Option<&ObjectRecord>,
    ) -> Result<Option<Method>, Error> {
        let source = source.and_then(|record| record.encryption.as_ref()).map(method_of).transpose()?;
        let method = method(asked, bucket.settings().encryption.as_ref(), source.as_ref())?;
        if method.is_some() {
            must_be_secure(caller)?;
        }
        Ok(method)
    }

    /// A new data key for an object of this bucket.
    pub async fn new_key(
        &self,
        caller: &Caller,
        bucket: &Bucket,
        object: &str,
        method: &Method,
        added: BTreeMap<String, String>,
    ) -> Result<(ObjectKey, Encryption), Error> {
        let settings = bucket.settings();
        let object = ObjectName { bucket: &settings.name, object };
        let sealed = self.keys.seal(&caller.user.requester, method, &settings.owner, object, added);
        let NewKey { key, encryption } = sealed.await?;
        Ok((key, encryption))
    }

    /// The data key of an object of this bucket.
    pub async fn key_of(
        &self,
        caller: &Caller,
        bucket: &str,
        object: &str,
        encryption: Option<&Encryption>,
    ) -> Result<Option<ObjectKey>, Error> {
        let Some(encryption) = encryption else { return Ok(None) };
        must_be_secure(caller)?;
        let object = ObjectName { bucket, object };
        Ok(Some(self.keys.open(&caller.user.requester, encryption, object).await?))
    }
}

/// Refuses what did not come over TLS.
// DEW: HTTPS for configuring SSE-KMS on a bucket and for every GET and PUT that uses it.
pub fn must_be_secure(caller: &Caller) -> Result<(), Rejection> {
    if caller.is_secure { Ok(()) } else { Err(Rejection::NeedsHttps) }
}

fn policy_of(settings: &BucketSettings) -> Result<Option<Policy>, Error> {
    let policy = settings.policy.as_deref().map(|text| Policy::parse(text, &settings.name)).transpose();
    policy.map_err(|_| Error::Policy)
}

/// How an object is encrypted.
fn method_of(encryption: &Encryption) -> Result<Method, Rejection> {
    let key = key_name(Some(&encryption.key_id))?;
    Ok(Method { suite: encryption.suite, key, bucket_key: encryption.bucket_key })
}
