//! Data keys from Dewpoint, asked for as the user who asks the gateway.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use kms_client::{
    Client, Code, CreateKeyRequest, Error, Key, KeyReference, ListKeysRequest, Refusal, SecretBytes,
    bucket_keys::{self, BucketKeys, BucketKeysConfig, Counters, ObjectName},
    envelope,
    rules::{self, Placement, SERVICE, check_key},
};

use super::{
    Direction, KeyError, Keys, Method, NewKey, Permission, Rejection, Requester, cache::Believed, held::Held,
    required_permissions,
};
use crate::{
    format::{ObjectKey, Suite},
    store::Encryption,
};

/// How often what bucket keys spare is told, if anything happened.
const TELLING: Duration = Duration::from_mins(1);

/// A requester, the key, whether it is of its own account, and what it may do with it.
type Access = (Requester, KeyReference, bool, Direction);

/// Dewpoint as the source of data keys. Every call acts for the requester, so the KMS decides by the user's own
/// permissions and grants, limits the user's traffic, and records user and gateway.
#[derive(Debug)]
pub struct KmsKeys {
    client: Client,
    region: String,
    bucket_keys: BucketKeys,
    permissions: Believed<Access, ()>,
    keys: Believed<(Requester, String), Key>,
    held: Held,
}

impl KmsKeys {
    /// Keys by this connection, whose certificate is that of a service, for buckets of this region. [`Error`] if
    /// `config` is out of its bounds. To be made in a runtime.
    pub fn new(client: Client, region: String, config: BucketKeysConfig) -> Result<Self, Error> {
        let bucket_keys = BucketKeys::new(client.clone(), config)?;
        let (permissions, keys, held) = (Believed::default(), Believed::default(), Held::default());
        Ok(Self { client, region, bucket_keys, permissions, keys, held })
    }

    /// Tells the log of the gateway what bucket keys spare, as long as it is waited for.
    pub async fn tell(&self) {
        let mut told = self.bucket_keys.counters();
        loop {
            tokio::time::sleep(TELLING).await;
            let counters = self.bucket_keys.counters();
            if counters != told {
                tell(&counters);
                told = counters;
            }
        }
    }

    /// Lets go of all bucket keys, and waits until the KMS was told of their use: for half a minute at the longest. To be
    /// called when no object is worked on any more.
    pub async fn close(&self) {
        self.bucket_keys.close().await;
        tell(&self.bucket_keys.counters());
    }

    async fn make(
        &self,
        requester: &Requester,
        method: &Method,
        bucket_owner: &str,
        object: ObjectName<'_>,
        added: BTreeMap<String, String>,
    ) -> Result<NewKey, KeyError> {
        let Method { suite, key: ref name, bucket_key } = *method;
        let placement = Placement {
            bucket_region: &self.region,
            bucket_domain: bucket_owner,
            requester_domain: &requester.account,
        };
        let reference = rules::reference(name.as_ref(), placement).map_err(Rejection::from)?;
        let client = self.client.for_requester(&in_kms(requester)).map_err(|error| key_error(&error))?;
        let owner = match name {
            None => requester.account.clone(),
            Some(name) => {
                let key = self.described(&client, &name.key_id, requester).await?;
                check_key(&key, Some(name), placement).map_err(Rejection::from)?;
                key.domain_id
            }
        };
        let is_own = owner == requester.account;
        self.check_permissions(&client, requester, &reference, Direction::Upload, is_own).await?;
        self.held.note(requester, id_of(method).unwrap_or(SERVICE));
        let (secret, key_id, sealed_key): (SecretBytes, String, Vec<u8>) = if bucket_key {
            let requester = in_kms(requester);
            let made = self.bucket_keys.new_object_key(&requester, object, &reference, in_envelope(suite));
            let made = made.await.map_err(|error| bucket_key_error(&error, making_error))?;
            (made.plaintext, made.key_id, made.sealed)
        } else {
            let length = u32::try_from(suite.key_length()).unwrap_or(u32::MAX);
            let made = client.generate_data_key(&reference, length, &context(object, &added)).await;
            let made = made.map_err(|error| making_error(&error))?;
            (made.plaintext, made.key_id, made.ciphertext)
        };
        self.held.note(requester, &key_id);
        let key = ObjectKey::new(suite, secret).map_err(|_| KeyError::NotAuthentic)?;
        let encryption =
            Encryption { suite, key_id, key_owner: owner, sealed_key, bucket_key, context: added, tag: None };
        Ok(NewKey { key, encryption })
    }

    async fn find(
        &self,
        requester: &Requester,
        encryption: &Encryption,
        object: ObjectName<'_>,
    ) -> Result<ObjectKey, KeyError> {
        let Encryption { suite, key_id, key_owner, sealed_key, bucket_key, context: added, .. } = encryption;
        let client = self.client.for_requester(&in_kms(requester)).map_err(|error| key_error(&error))?;
        let reference = KeyReference::KeyId(key_id.clone());
        let is_own = *key_owner == requester.account;
        self.check_permissions(&client, requester, &reference, Direction::Download, is_own).await?;
        self.held.note(requester, key_id);
        let secret = if *bucket_key {
            let requester = in_kms(requester);
            let opened = self.bucket_keys.open_object_key(&requester, object, Some(&reference), sealed_key);
            opened.await.map_err(|error| bucket_key_error(&error, opening_error))?.plaintext
        } else {
            let opened = client.decrypt_data_key(sealed_key, Some(&reference), &context(object, added)).await;
            opened.map_err(|error| opening_error(&error))?.plaintext
        };
        ObjectKey::new(*suite, secret).map_err(|_| KeyError::NotAuthentic)
    }

    /// What the KMS says of a key to this requester.
    async fn described(&self, client: &Client, id: &str, requester: &Requester) -> Result<Key, KeyError> {
        let (client, reference) = (client.clone(), KeyReference::KeyId(id.to_owned()));
        let ask = async move || client.describe_key(&reference).await.map_err(|error| key_error(&error));
        self.keys.fact(&(requester.clone(), id.to_owned()), ask).await
    }

    /// Checks those of the required permissions that making or opening a data key does not ask for by itself: each
    /// call is only tried out. Of another account's key, its grants decide alone.
    async fn check_permissions(
        &self,
        client: &Client,
        requester: &Requester,
        key: &KeyReference,
        direction: Direction,
        is_own: bool,
    ) -> Result<(), KeyError> {
        let access = (requester.clone(), key.clone(), is_own, direction);
        let (client, key) = (client.clone(), key.clone());
        let ask = async move || {
            let trial = client.dry_run().map_err(|error| key_error(&error))?;
            let asked_for_anyway = match direction {
                Direction::Upload => Permission::CreateDataKey,
                Direction::Download => Permission::OpenDataKey,
            };
            let is_tried = |one: &&Permission| **one != asked_for_anyway && (is_own || !one.is_of_key());
            let tried = required_permissions(direction).iter().filter(is_tried);
            try_join_all(tried.map(|permission| try_out(&trial, &key, *permission))).await?;
            Ok(())
        };
        self.permissions.fact(&access, ask).await
    }

    /// Ends at once what a refusal shows to be over: bucket keys of a key that cannot be used, whoever has them; all that
    /// is kept for a user of a key that is denied or unknown to it; and all that is kept for a user to whom keys are denied.
    /// A user's access keys all belong to it.
    fn learn(&self, requester: &Requester, key: Option<&str>, refusal: &KeyError) {
        match (refusal, key) {
            (KeyError::Disabled | KeyError::State, Some(key)) => {
                // An id that is none has no bucket keys.
                let _ = self.bucket_keys.invalidate_key(key);
            }
            // Nobody can so take other users' bucket keys away.
            (KeyError::Denied(_) | KeyError::NotFound, Some(key)) => self.forget_key(requester, key),
            (KeyError::Denied(_) | KeyError::NotFound, None)
            | (KeyError::DeniedForAll(_) | KeyError::NotServed, _) => self.forget_user(requester),
            _ => {}
        }
    }

    fn forget_key(&self, user: &Requester, key: &str) {
        if self.held.take(user, key) {
            let _ = self.bucket_keys.invalidate_key_of_user(key, &in_kms(user));
            let is_key = |of: &KeyReference| !matches!(of, KeyReference::KeyId(id) if id != key);
            self.permissions.forget(|(denied, of, ..)| is_user(denied, user) && is_key(of));
            self.keys.forget(|(denied, of)| is_user(denied, user) && of == key);
        }
    }

    fn forget_user(&self, user: &Requester) {
        if self.held.take_all(user) {
            self.bucket_keys.invalidate_user(&in_kms(user));
            self.permissions.forget(|(denied, ..)| is_user(denied, user));
            self.keys.forget(|(denied, _)| is_user(denied, user));
        }
    }
}

#[async_trait]
impl Keys for KmsKeys {
    async fn seal(
        &self,
        requester: &Requester,
        method: &Method,
        bucket_owner: &str,
        object: ObjectName<'_>,
        added: BTreeMap<String, String>,
    ) -> Result<NewKey, KeyError> {
        let made = self.make(requester, method, bucket_owner, object, added).await;
        made.inspect_err(|refusal| self.learn(requester, id_of(method), refusal))
    }

    async fn open(
        &self,
        requester: &Requester,
        encryption: &Encryption,
        object: ObjectName<'_>,
    ) -> Result<ObjectKey, KeyError> {
        let found = self.find(requester, encryption, object).await;
        found.inspect_err(|refusal| self.learn(requester, Some(&encryption.key_id), refusal))
    }
}

/// The requester as the KMS knows it.
fn in_kms(requester: &Requester) -> bucket_keys::Requester {
    let Requester { user_id, account: _, project_id, permissions } = requester;
    bucket_keys::Requester::user(user_id).in_project(project_id).with_permissions(permissions)
}

/// Whether it is the same user in the same project, by whatever access key.
fn is_user(requester: &Requester, user: &Requester) -> bool {
    (&requester.user_id, &requester.project_id) == (&user.user_id, &user.project_id)
}

/// The id of the key, if it is named.
fn id_of(method: &Method) -> Option<&str> {
    method.key.as_ref().map(|name| &*name.key_id)
}

fn in_envelope(suite: Suite) -> envelope::Suite {
    match suite {
        Suite::Aes256Gcm => envelope::Suite::Aes256Gcm,
        Suite::Sm4Gcm => envelope::Suite::Sm4Gcm,
    }
}

/// The encryption context of an object's own data key: its place, which the requester cannot replace, and what was added.
fn context(object: ObjectName<'_>, added: &BTreeMap<String, String>) -> HashMap<String, String> {
    let mut context: HashMap<String, String> = added.clone().into_iter().collect();
    context.insert("bucket".to_owned(), object.bucket.to_owned());
    context.insert("object".to_owned(), object.object.to_owned());
    context
}

/// A key that is only asked for to see whether it might be made.
fn new_key() -> CreateKeyRequest {
    CreateKeyRequest { alias: format!("trial-{}", uuid::Uuid::new_v4()), ..CreateKeyRequest::default() }
}

/// Tries out a call that needs this permission.
async fn try_out(trial: &Client, key: &KeyReference, permission: Permission) -> Result<(), KeyError> {
    match permission {
        Permission::GetKey => tried(trial.describe_key(key).await),
        Permission::ListKeys => tried(trial.list_keys(ListKeysRequest::default()).await),
        Permission::CreateKey => tried(trial.create_key(new_key()).await),
        Permission::CreateDataKey => tried(trial.generate_data_key(key, 0, &HashMap::new()).await),
        Permission::OpenDataKey => tried(trial.decrypt_data_key(&[], Some(key), &HashMap::new()).await),
    }
}

/// What a call that was only tried out says of the permission: all other refusals come later or never.
fn tried<Answer>(answer: Result<Answer, Error>) -> Result<(), KeyError> {
    match answer.map_err(|error| key_error(&error)) {
        Err(
            error @ (KeyError::Denied(_)
            | KeyError::DeniedForAll(_)
            | KeyError::NotServed
            | KeyError::Throttled
            | KeyError::Unavailable(_)),
        ) => Err(error),
        _ => Ok(()),
    }
}

/// What a refusal of the KMS means for an object.
fn key_error(error: &Error) -> KeyError {
    let Some(refusal) = error.refusal() else { return KeyError::Unavailable(error.to_string()) };
    match (refusal.code, &*refusal.reason) {
        (Code::PermissionDenied, _) => denied(refusal),
        // Other refusals of this kind are about the gateway itself.
        (Code::Unauthenticated, "ACTING_FOR_NOT_ALLOWED" | "UNKNOWN_PROJECT") => KeyError::NotServed,
        (Code::NotFound, _) => KeyError::NotFound,
        (_, "KEY_DISABLED" | "KEYSTORE_DISABLED") => KeyError::Disabled,
        (_, "CANNOT_DECRYPT") => KeyError::NotAuthentic,
        // What a call that was only tried out is answered with.
        (_, "DRY_RUN") | (Code::FailedPrecondition, _) => KeyError::State,
        (_, "THROTTLED") => KeyError::Throttled,
        _ => KeyError::Unavailable(error.to_string()),
    }
}

/// What is denied: of a key alone only if the KMS says so.
fn denied(refusal: &Refusal) -> KeyError {
    let fact = |name: &str| refusal.metadata.get(name).cloned().unwrap_or_default();
    let (action, denial) = (fact("missing_action"), fact("denial"));
    match &*denial {
        "KEY_NOT_ALLOWED" | "POLICY_DENIES_KEY" | "NOT_GRANTED" if Permission::concerns_key(&action) => {
            KeyError::Denied(action)
        }
        _ => KeyError::DeniedForAll(action),
    }
}

/// What a refusal to make a data key means for an object.
fn making_error(error: &Error) -> KeyError {
    // What cannot be read came from the requester: asked again, it would be refused again.
    match error.refusal() {
        Some(refusal) if refusal.code == Code::InvalidArgument => Rejection::NotTaken.into(),
        _ => key_error(error),
    }
}

/// What a refusal to open a data key means for an object.
fn opening_error(error: &Error) -> KeyError {
    // The gateway asks for nothing that cannot be read, unless its record is damaged.
    match error.refusal() {
        Some(refusal) if refusal.code == Code::InvalidArgument => KeyError::NotAuthentic,
        _ => key_error(error),
    }
}

fn bucket_key_error(error: &bucket_keys::Error, of_service: fn(&Error) -> KeyError) -> KeyError {
    use bucket_keys::Error as Of;
    match error {
        Of::Service(error) => of_service(error),
        Of::Malformed | Of::SuiteMismatch => KeyError::NotAuthentic,
        _ => KeyError::Unavailable(error.to_string()),
    }
}

/// What bucket keys spared until now.
fn tell(counters: &Counters) {
    let Counters { writing, reading, reports, lost_reports } = counters;
    tracing::info!(
        put_without_call = writing.hits + writing.joins,
        bucket_keys_made = writing.misses.saturating_sub(writing.failures),
        read_without_call = reading.hits + reading.joins,
        bucket_keys_opened = reading.misses.saturating_sub(reading.failures),
        failures = writing.failures + reading.failures,
        expiries = writing.expiries + reading.expiries,
        evictions = writing.evictions + reading.evictions,
        invalidations = writing.invalidations + reading.invalidations,
        kept = writing.kept + reading.kept,
        reports,
        lost_reports,
        "bucket keys"
    );
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn refused(code: Code, reason: &str, facts: &[(&str, &str)]) -> Error {
        let facts: HashMap<_, _> =
            facts.iter().map(|(name, fact)| ((*name).to_owned(), (*fact).to_owned())).collect();
        let details = ErrorDetails::with_error_info(reason, "kms.dewpoint", facts);
        Status::with_error_details(code, "refused", details).into()
    }

    fn shown(meaning: impl Debug) -> String {
        format!("{meaning:?}")
    }

    #[test]
    fn a_user_that_the_key_service_does_not_serve_is_denied_and_a_gateway_is_not_served() {
        for (reason, is_of_user) in [
            ("ACTING_FOR_NOT_ALLOWED", true),
            ("UNKNOWN_PROJECT", true),
            ("CERTIFICATE_EXPIRED", false),
            ("UNKNOWN_IDENTITY", false),
            ("ACTING_FOR_REQUIRED", false),
        ] {
            let error = refused(Code::Unauthenticated, reason, &[]);
            assert_eq!(matches!(key_error(&error), KeyError::NotServed), is_of_user, "{reason}");
            assert_eq!(matches!(key_error(&error), KeyError::Unavailable(_)), !is_of_user, "{reason}");
            assert!(tried::<()>(Err(error)).is_err(), "{reason}");
        }
    }

    #[test]
    fn a_denial_is_of_one_key_only_if_the_key_service_says_so() {
        for (action, denial, expected) in [
            ("kms:dek:create", "KEY_NOT_ALLOWED", "Denied(\"kms:dek:create\")"),
            ("kms:dek:crypto", "NOT_GRANTED", "Denied(\"kms:dek:crypto\")"),
            ("kms:cmk:get", "POLICY_DENIES_KEY", "Denied(\"kms:cmk:get\")"),
            ("kms:dek:create", "NOTHING_ALLOWS", "DeniedForAll(\"kms:dek:create\")"),
            ("kms:dek:create", "POLICY_DENIES", "DeniedForAll(\"kms:dek:create\")"),
            ("kms:cmk:list", "KEY_NOT_ALLOWED", "DeniedForAll(\"kms:cmk:list\")"),
        ] {
            let facts = [("missing_action", action), ("denial", denial)];
            let error = refused(Code::PermissionDenied, "PERMISSION_DENIED", &facts);
            assert_eq!(shown(key_error(&error)), expected, "{denial}");
        }
    }

    #[test]
    fn what_cannot_be_read_of_an_upload_is_the_requesters_fault() {
        let error = refused(Code::InvalidArgument, "INVALID_FIELD", &[]);
        assert!(matches!(making_error(&error), KeyError::Rejected(Rejection::NotTaken)));
        let error = refused(Code::FailedPrecondition, "KEY_DISABLED", &[]);
        assert!(matches!(making_error(&error), KeyError::Disabled));
    }

    #[test]
    fn what_cannot_be_read_of_a_record_is_damage() {
        let error = refused(Code::InvalidArgument, "INVALID_FIELD", &[]);
        assert!(matches!(opening_error(&error), KeyError::NotAuthentic));
        assert!(matches!(key_error(&error), KeyError::Unavailable(_)));
        let error = refused(Code::FailedPrecondition, "KEY_DISABLED", &[]);
        assert!(matches!(opening_error(&error), KeyError::Disabled));
    }
}
