//! The operations, one file each, and what they share.
//!
//! An operation only says what it needs and what it does ([`Operation::prepare`]); authorisation,
//! HSM workers, commits and records are the pipeline's business (`service.rs`).

mod advance_clock;
mod archive_segment;
mod associate_alias;
mod batch_create_tags;
mod batch_delete_tags;
mod cancel_key_deletion;
mod cosign_checkpoint;
mod count_keys;
mod counted_use;
mod create_alias;
mod create_default_key;
mod create_grant;
mod create_key;
mod create_keystore;
mod create_tag;
mod decrypt_bucket_key;
mod decrypt_data;
mod decrypt_data_key;
mod delete_alias;
mod delete_imported_key_material;
mod delete_keystore;
mod delete_tag;
mod derive_shared_secret;
mod describe_key;
mod describe_key_usage;
mod describe_keystore;
mod describe_root;
mod describe_traffic;
mod destroy_key;
mod destroy_roots;
mod disable_key;
mod disable_key_rotation;
mod due_key;
mod enable_key;
mod enable_key_rotation;
mod encrypt_data;
mod encrypt_data_key;
mod expire_key_material;
mod explain_access;
mod forget_roots;
mod further_alias;
mod generate_bucket_key;
mod generate_data_key;
mod generate_data_key_pair;
mod generate_data_key_without_plaintext;
mod generate_data_keys;
mod generate_mac;
mod generate_random;
mod get_campaign;
mod get_metering;
mod get_public_key;
mod get_rotation_status;
mod granting;
mod import_key_material;
mod import_parameters;
mod issue_token;
mod list_aliases;
mod list_campaigns;
mod list_destroyed_keys;
mod list_grants;
mod list_key_usage;
mod list_keys;
mod list_keys_by_tags;
mod list_project_tags;
mod list_projects;
mod list_retirable_grants;
mod list_supported_regions;
mod list_tags;
mod list_versions;
mod list_window;
mod manage;
mod new_version;
mod page;
mod prove;
mod query_records;
mod re_encrypt;
mod read_clock;
mod reload;
mod replicate_key;
mod report_bucket_key_use;
mod reserve_key_uses;
mod retire_grant;
mod retire_root;
mod revoke_grant;
mod rewrap;
mod rewrap_key;
mod rotate_due_key;
mod rotate_key;
mod rotate_key_on_demand;
mod rotate_root;
mod schedule_key_deletion;
mod sealed;
mod sealing;
mod selector;
mod siblings;
mod sign;
mod start_campaign;
mod stream_records;
mod switch_keystore;
mod tag;
mod tag_search;
mod throttle_operation;
mod trusted_execution;
mod update_key_alias;
mod update_key_description;
mod update_primary_region;
mod update_rotation_interval;
mod verify;
mod verify_mac;
pub(crate) mod version_key;

use std::{future::Future, sync::Arc};

pub use advance_clock::AdvanceClock;
pub(crate) use archive_segment::ArchiveSegment;
pub use associate_alias::AssociateAlias;
pub use batch_create_tags::BatchCreateTags;
pub use batch_delete_tags::BatchDeleteTags;
pub use cancel_key_deletion::CancelKeyDeletion;
pub use cosign_checkpoint::{AcceptedCheckpoint, CheckpointAcceptor, CosignCheckpoint, Cosignature};
pub use count_keys::{CountKeys, DescribeQuotas, Quotas};
pub use create_alias::CreateAlias;
pub use create_default_key::CreateDefaultKey;
pub use create_grant::CreateGrant;
pub use create_key::{CreateKey, IdempotencyToken};
pub use create_keystore::CreateKeystore;
pub use create_tag::CreateTag;
pub use decrypt_bucket_key::{DecryptBucketKey, DecryptedBucketKey};
pub use decrypt_data::{DecryptData, DecryptedData};
pub use decrypt_data_key::{DecryptDataKey, DecryptedDataKey};
pub use delete_alias::DeleteAlias;
pub use delete_imported_key_material::DeleteImportedKeyMaterial;
pub use delete_keystore::DeleteKeystore;
pub use delete_tag::DeleteTag;
pub use derive_shared_secret::{DeriveSharedSecret, SharedSecret};
pub use describe_key::DescribeKey;
pub use describe_key_usage::{DescribeKeyUsage, UsedKey};
pub use describe_keystore::{DescribeKeystore, KeystoreList, ListKeystores};
pub use describe_root::{DescribeRoot, RootStatus};
pub use describe_traffic::DescribeTraffic;
pub(crate) use destroy_key::{DestroyKey, Destruction};
pub(crate) use destroy_roots::DestroyRoots;
pub use disable_key::DisableKey;
pub use disable_key_rotation::DisableKeyRotation;
pub use enable_key::EnableKey;
pub use enable_key_rotation::{EnableKeyRotation, RotationInterval};
pub use encrypt_data::{EncryptData, EncryptedData, EncryptionAlgorithm};
pub use encrypt_data_key::EncryptDataKey;
pub(crate) use expire_key_material::ExpireKeyMaterial;
pub use explain_access::{ExplainAccess, ExplainedAccess, Identity, IdentityLister, UserAccess};
pub(crate) use forget_roots::ForgetRoots;
pub use further_alias::{AliasEntry, FurtherAlias};
pub use generate_bucket_key::{BucketKey, GenerateBucketKey};
pub use generate_data_key::{DataKey, DataKeyLength, GenerateDataKey, SealedDataKey};
pub use generate_data_key_pair::{DataKeyPair, DataKeyPairSpec, GenerateDataKeyPair};
pub use generate_data_key_without_plaintext::GenerateDataKeyWithoutPlaintext;
pub use generate_data_keys::{BatchSize, BatchedDataKey, GenerateDataKeys, MAX_BATCH};
pub use generate_mac::{GenerateMac, MessageMac};
pub use generate_random::GenerateRandom;
pub use get_campaign::{CampaignStatus, GetCampaign};
pub use get_metering::{GetMetering, MeteredAccounts, MeteringSource};
pub use get_public_key::{GetPublicKey, PublicHalf};
pub use get_rotation_status::GetRotationStatus;
pub use import_key_material::ImportKeyMaterial;
pub use import_parameters::{GetParametersForImport, ImportParameters, WrappingAlgorithm};
pub use issue_token::IssueToken;
pub use list_aliases::{AliasPage, ListAliases};
pub use list_campaigns::ListCampaigns;
pub use list_destroyed_keys::{DestroyedKey, DestroyedKeyPage, ListDestroyedKeys};
pub use list_grants::{GrantPage, GrantsOfKey, ListGrants};
pub use list_key_usage::{KeyUsagePage, ListKeyUsage};
pub use list_keys::{KeyPage, KeyWindow, ListKeys, ListKeysInWindow};
pub use list_keys_by_tags::{ListKeysByTags, TagFilter, TaggedKeys};
pub use list_project_tags::{ListProjectTags, TagPage};
pub use list_projects::ListProjects;
pub use list_retirable_grants::ListRetirableGrants;
pub use list_supported_regions::ListSupportedRegions;
pub use list_tags::ListTags;
pub use list_versions::{ApiVersion, GetVersion, ListVersions};
pub use list_window::ListWindow;
pub use page::{PageSize, PageToken};
pub use prove::{ProofSource, Prove};
pub use query_records::{QueryRecords, RecordSource};
pub use re_encrypt::{ReEncrypt, ReEncrypted};
pub use read_clock::ReadClock;
pub use reload::{Loader, Reload, ReloadIdentities, ReloadTrafficProfile, Reloadable};
pub use replicate_key::ReplicateKey;
pub use report_bucket_key_use::{ReportBucketKeyUse, ReportedUse};
pub use reserve_key_uses::{ReserveKeyUses, ReservedUses};
pub use retire_grant::RetireGrant;
pub use retire_root::RetireRoot;
pub use revoke_grant::RevokeGrant;
pub use rewrap::{Rewrap, Rewrapped};
pub(crate) use rewrap_key::RewrapKey;
pub(crate) use rotate_due_key::RotateDueKey;
pub use rotate_key::{RotateKey, RotationCause};
pub use rotate_key_on_demand::RotateKeyOnDemand;
pub use rotate_root::RotateRoot;
pub use schedule_key_deletion::{PendingDays, ScheduleKeyDeletion};
pub use selector::{Alias, AliasUrn, KeySelector, SERVICES};
pub use sign::{Sign, Signature};
pub use start_campaign::StartCampaign;
pub use stream_records::StreamRecords;
pub use switch_keystore::{DisableKeystore, EnableKeystore};
pub use tag::{TagKey, TagValue, Tags};
pub use throttle_operation::ThrottleOperation;
pub use trusted_execution::{
    CreateAccessPoint, CreateDataKeyCapsule, CreateKeyPolicy, CreatePin, DecryptDataKeyCapsule,
    DeleteAccessPoint, DeleteKeyPolicy, DescribeKeyPolicy, DisableAccessPoint, DownloadAccessPointPrivateKey,
    EnableAccessPoint, ListAccessPoints, ListKeyPolicies, UpdateKeyPolicy,
};
pub use update_key_alias::UpdateKeyAlias;
pub use update_key_description::{Description, UpdateKeyDescription};
pub use update_primary_region::UpdatePrimaryRegion;
pub use update_rotation_interval::UpdateRotationInterval;
pub use verify::{Validity, Verify};
pub use verify_mac::VerifyMac;

use crate::{
    access::KeyFacts,
    context::EncryptionContext,
    directory::Directory,
    draft::Draft,
    error::Error,
    identity::KeystoreId,
    key::MaterialId,
    operation::{OperationClass, OperationName},
    ports::{Birth, HsmSession, Transaction},
    service::Scope,
};

/// Work on an HSM worker: plain synchronous code that may add to the record.
pub type Work<T> = Box<dyn FnOnce(&mut dyn HsmSession, &mut Draft) -> Result<T, Error> + Send>;
/// Work on an HSM worker that makes what a change will store.
pub type Make<T> = Box<dyn FnOnce(&mut dyn HsmSession) -> Result<Plan<T>, Error> + Send>;
/// Which token works: a keystore's, or `None` for the service's own.
pub type Place = Option<KeystoreId>;

/// What remains to be done after the store was read and all checks passed.
#[allow(missing_debug_implementations, reason = "passed up, never kept or shown")]
pub enum Prepared<T> {
    /// Nothing: this is the answer.
    Answer(T),
    /// Work in an HSM gives the answer.
    Use(Place, Work<T>),
    /// A commit.
    Change(Planned<T>),
    /// A change by the service itself comes first, and this call may be dropped half-way: nothing was
    /// done yet. See [`Service::run_droppable`](crate::Service::run_droppable).
    ToBeDriven,
}

/// How to come to the plan of a change.
#[allow(missing_debug_implementations, reason = "passed up, never kept or shown")]
pub enum Planned<T> {
    /// Here it is.
    Ready(Plan<T>),
    /// Work in an HSM makes it.
    InHsm(Place, Make<T>),
}

impl<T> Prepared<T> {
    /// The answer comes from work in the HSM at `place`.
    pub(crate) fn by_use(
        place: Place,
        work: impl FnOnce(&mut dyn HsmSession, &mut Draft) -> Result<T, Error> + Send + 'static,
    ) -> Self {
        Self::Use(place, Box::new(work))
    }

    /// The change is made by work in the HSM at `place`.
    pub(crate) fn change_by(
        place: Place,
        make: impl FnOnce(&mut dyn HsmSession) -> Result<Plan<T>, Error> + Send + 'static,
    ) -> Self {
        Self::Change(Planned::InHsm(place, Box::new(make)))
    }
}

/// A change: what to commit, and what to answer when it is committed and recorded.
#[allow(missing_debug_implementations, reason = "passed up, never kept or shown")]
pub struct Plan<T> {
    pub(crate) transaction: Transaction,
    pub(crate) output: T,
    /// SHA-256 of the key record that the change leaves.
    pub(crate) state_digest: [u8; 32],
    /// Material that may not be used any more: its loaded handles go at once.
    pub(crate) evict: Option<MaterialId>,
}

/// An operation. Only this crate makes them: the parameters of [`prepare`](Self::prepare) cannot be
/// had outside, so nobody can pass by the pipeline and its record.
pub trait Operation: Sized + Send + Sync + 'static {
    /// Which one it is.
    const NAME: OperationName;
    /// What it answers.
    type Output: Send + 'static;

    /// The kind and the alias of the key that it makes, if it makes one.
    fn new_key(&self) -> Option<(KeyFacts, Option<&str>)> {
        None
    }

    /// The encryption context that it was given; goes to the record, its values hidden.
    fn context(&self) -> Option<&EncryptionContext> {
        None
    }

    /// The context of what it opens, where that is not the one of what it seals.
    fn source_context(&self) -> Option<&EncryptionContext> {
        None
    }

    /// How many calls it stands for in traffic control.
    fn calls(&self) -> u32 {
        1
    }

    /// Whether it may change the store; see [`Service::run`](crate::Service::run).
    fn may_change(&self) -> bool {
        Self::NAME.info().class == OperationClass::Change
    }

    /// The kind of key that the HSM makes for it, where that takes its time.
    fn birth(&self) -> Option<Birth> {
        None
    }

    /// Reads what it needs from the store, checks it, and says what remains to be done. Changes
    /// nothing; is called again when a commit met a conflict.
    #[doc(hidden)]
    fn prepare(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> impl Future<Output = Result<Prepared<Self::Output>, Error>> + Send;
}

/// A change that the service makes by itself: nobody calls, so there is no permission to check and no
/// caller to record. Made by [`upkeep`](crate::upkeep) only, so no transport can ask for one.
pub(crate) trait OwnOperation: Sized + Send + Sync + 'static {
    /// Which one it is.
    const NAME: OperationName;
    /// What it gives.
    type Output: Send + 'static;

    /// As [`Operation::prepare`].
    fn prepare(
        &self,
        directory: &Arc<Directory>,
        draft: &mut Draft,
    ) -> impl Future<Output = Result<Prepared<Self::Output>, Error>> + Send;
}
