//! The table of operations: names, permissions, trace names, traffic groups.

pub use crate::permissions::Permissions;

macro_rules! actions {
    ($($name:ident = $text:literal,)*) => {
        /// A permission, named as in DEW's policies (version 1.1).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Action {
            $(#[doc = concat!("`", $text, "`")] $name,)*
            /// `dewpoint:root:manage`: the operators'; no user can be given it.
            RootManage,
        }

        impl Action {
            /// All that users can be given.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in policies and in errors.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::RootManage => "dewpoint:root:manage",
                }
            }
        }
    };
}

// DEW: §9, the older action names, which the SSE-KMS description uses too. Where DEW's documents name none
// (aliases, shared secrets, replication, keystores), the name is ours, of the same form; where DEW leaves the matter to
// another service (the log), it is ours altogether.
actions! {
    CmkCreate = "kms:cmk:create",
    CmkGet = "kms:cmk:get",
    CmkList = "kms:cmk:list",
    CmkEnable = "kms:cmk:enable",
    CmkDisable = "kms:cmk:disable",
    CmkUpdate = "kms:cmk:update",
    CmkGenerate = "kms:cmk:generate",
    DekCreate = "kms:dek:create",
    DekCrypto = "kms:dek:crypto",
    CmkCrypto = "kms:cmk:crypto",
    CmkSign = "kms:cmk:sign",
    CmkVerify = "kms:cmk:verify",
    CmkGetPublicKey = "kms:cmk:getPublicKey",
    CmkGenerateMac = "kms:cmk:generateMac",
    CmkVerifyMac = "kms:cmk:verifyMac",
    CmkDeriveSharedSecret = "kms:cmk:deriveSharedSecret",
    GrantCreate = "kms:grant:create",
    GrantList = "kms:grant:list",
    GrantRetire = "kms:grant:retire",
    GrantRevoke = "kms:grant:revoke",
    TagCreate = "kms:cmkTag:create",
    TagDelete = "kms:cmkTag:delete",
    TagList = "kms:cmkTag:list",
    TagBatch = "kms:cmkTag:batch",
    TagListInstance = "kms:cmkTag:listInstance",
    AliasCreate = "kms:alias:create",
    AliasAssociate = "kms:alias:associate",
    AliasDelete = "kms:alias:delete",
    AliasList = "kms:alias:list",
    CmkEnableRotation = "kms:cmk:enableRotation",
    CmkDisableRotation = "kms:cmk:disableRotation",
    CmkUpdateRotation = "kms:cmk:updateRotation",
    CmkGetRotation = "kms:cmk:getRotation",
    CmkRotate = "kms:cmk:rotate",
    CmkGetMaterial = "kms:cmk:getMaterial",
    CmkImportMaterial = "kms:cmk:importMaterial",
    CmkDeleteMaterial = "kms:cmk:deleteMaterial",
    CmkReplicate = "kms:cmk:replicate",
    CmkUpdatePrimaryRegion = "kms:cmk:updatePrimaryRegion",
    KeystoreCreate = "kms:keystore:create",
    KeystoreDelete = "kms:keystore:delete",
    KeystoreUpdate = "kms:keystore:update",
    KeystoreGet = "kms:keystore:get",
    KeystoreList = "kms:keystore:list",
    CmkGetQuota = "kms:cmk:getQuota",
    CmkGetInstance = "kms:cmk:getInstance",
    AuditRead = "dewpoint:audit:read",
}

impl Action {
    /// The action with this name, if users can be given it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.name() == name)
    }
}

/// Which budget of the traffic control an operation draws on. DEW: §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrafficGroup {
    /// Life cycle of keys.
    LifeCycle,
    /// Data keys and random numbers.
    DataKeys,
    /// Reads, whose limits DEW does not document.
    Queries,
    /// What operators and the service itself do; DEW has no such calls, and so no limits.
    Administration,
}

/// What an operation may do to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationClass {
    /// Reads the store.
    Read,
    /// Uses the HSM, changes nothing.
    Use,
    /// Changes the store: an intent is recorded before, an outcome after.
    Change,
}

/// Everything fixed that is known about an operation.
#[derive(Debug)]
pub struct OperationInfo {
    /// The name in the gRPC contract and in the log.
    pub name: &'static str,
    /// The permission it needs.
    pub action: Action,
    /// DEW's trace name, where DEW traces the operation. DEW: §10.
    pub trace_name: Option<&'static str>,
    /// The traffic budget.
    pub traffic: TrafficGroup,
    /// What it may do.
    pub class: OperationClass,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident: $action:ident, $trace:expr, $traffic:ident, $class:ident;)*) => {
        /// An operation of the service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum OperationName { $($(#[$doc])* $name,)* }

        impl OperationName {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What is fixed about it.
            pub const fn info(self) -> &'static OperationInfo {
                match self { $(Self::$name => &OperationInfo {
                    name: stringify!($name),
                    action: Action::$action,
                    trace_name: $trace,
                    traffic: TrafficGroup::$traffic,
                    class: OperationClass::$class,
                },)* }
            }
        }
    };
}

operations! {
    /// Makes a custom key.
    CreateKey: CmkCreate, Some("createKey"), LifeCycle, Change;
    /// Makes the default key of an account for a service.
    CreateDefaultKey: CmkCreate, Some("createKey"), LifeCycle, Change;
    /// Reads one key's description.
    DescribeKey: CmkGet, None, Queries, Read;
    /// Reads the keys of the account in the region, by pages.
    ListKeys: CmkList, None, Queries, Read;
    /// Disabled to enabled.
    EnableKey: CmkEnable, Some("enableKey"), LifeCycle, Change;
    /// Enabled to disabled.
    DisableKey: CmkDisable, Some("disableKey"), LifeCycle, Change;
    /// To pending deletion.
    ScheduleKeyDeletion: CmkUpdate, Some("scheduleKeyDeletion"), LifeCycle, Change;
    /// Pending deletion to disabled.
    CancelKeyDeletion: CmkUpdate, Some("cancelKeyDeletion"), LifeCycle, Change;
    /// Changes the alias.
    UpdateKeyAlias: CmkUpdate, Some("updateKeyAlias"), LifeCycle, Change;
    /// Changes the description.
    UpdateKeyDescription: CmkUpdate, Some("updateKeyDescription"), LifeCycle, Change;
    /// Makes the next version of a key. The service does it by itself when a version's budget is spent:
    /// then it is a part of the call that needed it, whose permission suffices and whose traffic counts.
    RotateKey: CmkUpdate, None, LifeCycle, Change;
    /// Takes uses from the budget of a version that seals in the HSM; always such a part.
    ReserveKeyUses: DekCreate, None, DataKeys, Change;
    /// Adds a further alias. DEW: create-alias.
    CreateAlias: AliasCreate, None, LifeCycle, Change;
    /// Moves a further alias to another key.
    AssociateAlias: AliasAssociate, None, LifeCycle, Change;
    /// Removes further aliases.
    DeleteAlias: AliasDelete, None, LifeCycle, Change;
    /// Reads the further aliases of a key or of the region, by pages.
    ListAliases: AliasList, None, Queries, Read;
    /// Adds or replaces one tag.
    CreateTag: TagCreate, Some("createKeyTag"), LifeCycle, Change;
    /// Removes one tag.
    DeleteTag: TagDelete, Some("deleteKeyTag"), LifeCycle, Change;
    /// Adds or replaces several tags.
    BatchCreateTags: TagBatch, Some("batchCreateKeyTags"), LifeCycle, Change;
    /// Removes several tags.
    BatchDeleteTags: TagBatch, Some("batchDeleteKeyTags"), LifeCycle, Change;
    /// Reads the tags of one key.
    ListTags: TagList, None, Queries, Read;
    /// Reads all tags of the account's keys in the region.
    ListProjectTags: TagList, None, Queries, Read;
    /// Finds keys by their tags.
    ListKeysByTags: TagListInstance, None, Queries, Read;
    /// Lets a principal use a key.
    CreateGrant: GrantCreate, Some("createGrant"), LifeCycle, Change;
    /// Reads the grants of a key, by pages.
    ListGrants: GrantList, None, Queries, Read;
    /// Reads the grants that the caller may retire, by pages.
    ListRetirableGrants: GrantList, None, Queries, Read;
    /// Gives a grant up: its creator, its retiring principal or its grantee.
    RetireGrant: GrantRetire, Some("retireGrant"), LifeCycle, Change;
    /// Takes a grant away: the owner of the key.
    RevokeGrant: GrantRevoke, Some("revokeGrant"), LifeCycle, Change;
    /// Begins to rotate a key by time.
    EnableKeyRotation: CmkEnableRotation, Some("enableKeyRotation"), LifeCycle, Change;
    /// Ends it.
    DisableKeyRotation: CmkDisableRotation, Some("disableKeyRotation"), LifeCycle, Change;
    /// Changes how often.
    UpdateRotationInterval: CmkUpdateRotation, Some("updateKeyRotationInterval"), LifeCycle, Change;
    /// Reads how a key is rotated, and its versions.
    GetRotationStatus: CmkGetRotation, None, Queries, Read;
    /// Rotates a key now.
    RotateKeyOnDemand: CmkRotate, None, LifeCycle, Change;
    /// Answers what is needed to import material: a wrapping key and a token.
    GetParametersForImport: CmkGetMaterial, None, LifeCycle, Use;
    /// Gives a key its material.
    ImportKeyMaterial: CmkImportMaterial, Some("importKeyMaterial"), LifeCycle, Change;
    /// Deletes imported material.
    DeleteImportedKeyMaterial: CmkDeleteMaterial, Some("deleteImportedKeyMaterial"), LifeCycle, Change;
    /// Makes a key of the same material in another region.
    ReplicateKey: CmkReplicate, None, LifeCycle, Change;
    /// Makes another region's key the one that is managed.
    UpdatePrimaryRegion: CmkUpdatePrimaryRegion, None, LifeCycle, Change;
    /// Reads the regions that keys can be replicated to.
    ListSupportedRegions: CmkList, None, Queries, Read;
    /// Puts a configured token to use as a keystore; disabled at first.
    CreateKeystore: KeystoreCreate, None, LifeCycle, Change;
    /// Lets go of a keystore that holds no keys.
    DeleteKeystore: KeystoreDelete, None, LifeCycle, Change;
    /// Lets keys be made and used on a keystore.
    EnableKeystore: KeystoreUpdate, None, LifeCycle, Change;
    /// Refuses that from now on.
    DisableKeystore: KeystoreUpdate, None, LifeCycle, Change;
    /// Reads one keystore.
    DescribeKeystore: KeystoreGet, None, Queries, Read;
    /// Reads all keystores of the account, by pages.
    ListKeystores: KeystoreList, None, Queries, Read;
    /// Reads limits and what is used of them.
    DescribeQuotas: CmkGetQuota, None, Queries, Read;
    /// Counts the custom keys.
    CountKeys: CmkGetInstance, None, Queries, Read;
    /// Reads which versions of the API there are. DEW asks for no permission; who may list keys is told.
    ListVersions: CmkList, None, Queries, Read;
    /// Reads one of them.
    GetVersion: CmkList, None, Queries, Read;
    /// Not offered, as all that follows to CreatePin: it is refused, and does nothing. DEW names no permissions for
    /// these; those of the nearest operations that are offered are asked for.
    CreateKeyPolicy: CmkCreate, None, LifeCycle, Read;
    /// Not offered.
    UpdateKeyPolicy: CmkUpdate, None, LifeCycle, Read;
    /// Not offered.
    DeleteKeyPolicy: CmkUpdate, None, LifeCycle, Read;
    /// Not offered.
    DescribeKeyPolicy: CmkGet, None, Queries, Read;
    /// Not offered.
    ListKeyPolicies: CmkList, None, Queries, Read;
    /// Not offered.
    CreateAccessPoint: CmkCreate, None, LifeCycle, Read;
    /// Not offered.
    DeleteAccessPoint: CmkUpdate, None, LifeCycle, Read;
    /// Not offered.
    EnableAccessPoint: CmkEnable, None, LifeCycle, Read;
    /// Not offered.
    DisableAccessPoint: CmkDisable, None, LifeCycle, Read;
    /// Not offered.
    ListAccessPoints: CmkList, None, Queries, Read;
    /// Not offered.
    DownloadAccessPointPrivateKey: CmkGet, None, Queries, Read;
    /// Not offered.
    CreateDataKeyCapsule: DekCreate, None, DataKeys, Read;
    /// Not offered.
    DecryptDataKeyCapsule: DekCrypto, None, DataKeys, Read;
    /// Not offered.
    CreatePin: DekCreate, None, DataKeys, Read;
    /// Reads when a key was last used, and how often each version was.
    DescribeKeyUsage: CmkGet, None, Queries, Read;
    /// Begins to move what older versions of a key sealed under its current one.
    StartCampaign: CmkRotate, None, LifeCycle, Change;
    /// Reads how far that has come.
    GetCampaign: CmkGetRotation, None, Queries, Read;
    /// Reads that of all campaigns of a key.
    ListCampaigns: CmkGetRotation, None, Queries, Read;
    /// The service itself: destroys a key whose deletion is due.
    DestroyKey: RootManage, None, Administration, Change;
    /// The service itself: deletes imported material that has expired.
    ExpireKeyMaterial: RootManage, Some("deleteImportedKeyMaterial"), Administration, Change;
    /// Seals small data. DEW: encrypt-data.
    EncryptData: CmkCrypto, Some("encryptData"), DataKeys, Use;
    /// Opens small data.
    DecryptData: CmkCrypto, Some("decryptData"), DataKeys, Use;
    /// Signs.
    Sign: CmkSign, None, DataKeys, Use;
    /// Checks a signature.
    Verify: CmkVerify, None, DataKeys, Use;
    /// Reads the public half of a key pair.
    GetPublicKey: CmkGetPublicKey, None, Queries, Read;
    /// Computes a message authentication code.
    GenerateMac: CmkGenerateMac, None, DataKeys, Use;
    /// Checks one.
    VerifyMac: CmkVerifyMac, None, DataKeys, Use;
    /// Agrees on a shared secret with another key pair.
    DeriveSharedSecret: CmkDeriveSharedSecret, None, DataKeys, Use;
    /// Makes an RSA or EC key pair; answers its private half sealed, and in plain if asked for.
    GenerateDataKeyPair: DekCreate, None, DataKeys, Use;
    /// Makes several data keys in one call: each is a [`GenerateDataKey`](Self::GenerateDataKey) of its own
    /// in the log and in traffic control; this one stands for the call.
    GenerateDataKeys: DekCreate, None, DataKeys, Use;
    /// Opens a ciphertext and seals its content under another key, without answering it. DEW: re-encrypt.
    ReEncrypt: DekCrypto, None, DataKeys, Use;
    /// One item of a rotation campaign: moves a sealed data key under the current version of its key.
    Rewrap: DekCrypto, None, DataKeys, Use;
    /// Makes a data key; answers it in plain and sealed.
    GenerateDataKey: DekCreate, Some("createDataKey"), DataKeys, Use;
    /// Makes a data key; answers it sealed only.
    GenerateDataKeyWithoutPlaintext: DekCreate, Some("createDataKeyWithoutPlaintext"), DataKeys, Use;
    /// Seals a data key that the caller made.
    EncryptDataKey: DekCrypto, Some("encryptDatakey"), DataKeys, Use;
    /// Opens a sealed data key.
    DecryptDataKey: DekCrypto, Some("decryptDatakey"), DataKeys, Use;
    /// Answers random bytes of the HSM.
    GenerateRandom: CmkGenerate, Some("genRandom"), DataKeys, Use;
    /// Makes the next generation of the root key and begins to move all keys under it.
    RotateRoot: RootManage, None, Administration, Change;
    /// Lets go of old root keys that a rotation was told to keep.
    RetireRoot: RootManage, None, Administration, Change;
    /// Reads the state of the root keys.
    DescribeRoot: RootManage, None, Administration, Use;
    /// The service itself: wraps one key's material under the newest root key.
    RewrapKey: RootManage, None, Administration, Change;
    /// The service itself: notes that no key needs the old root keys any more.
    ForgetRoots: RootManage, None, Administration, Change;
    /// The service itself: destroys the old root keys on the token.
    DestroyRoots: RootManage, None, Administration, Change;
    /// Reads what remains of destroyed keys, by pages.
    ListDestroyedKeys: RootManage, None, Administration, Read;
    /// Reads how the keys of all accounts were used, by pages.
    ListKeyUsage: RootManage, None, Administration, Read;
    /// Finds records of the log, by pages.
    QueryRecords: AuditRead, None, Queries, Read;
    /// Reads records of the log, old ones and those that are still to come, as a stream.
    StreamRecords: AuditRead, None, Queries, Read;
    /// Reads the newest checkpoint of the log.
    GetCheckpoint: AuditRead, None, Queries, Read;
    /// Proves that a line is in the log that a checkpoint covers.
    ProveInclusion: AuditRead, None, Queries, Read;
    /// Proves that the log of a checkpoint continues that of an earlier one.
    ProveConsistency: AuditRead, None, Queries, Read;
    /// Reads what keys and calls there were, summed up by account and month.
    GetMetering: AuditRead, None, Queries, Read;
    /// Reads the file of identities anew: for operators.
    ReloadIdentities: RootManage, None, Administration, Read;
    /// Tells who may do what with a key, and why: for operators.
    ExplainAccess: RootManage, None, Administration, Read;
    /// The service itself: notes that lines of the log are in its archive, and may go here.
    ArchiveSegment: RootManage, None, Administration, Read;
    /// Cosigns a checkpoint of another service's log: for its operator.
    CosignCheckpoint: RootManage, None, Administration, Use;
    /// Moves a clock that stands still otherwise; in dev mode only.
    AdvanceClock: RootManage, None, Administration, Read;
    /// Reads that clock.
    ReadClock: RootManage, None, Administration, Read;
    /// `dewctl backup`: copies the store. `dewpoint backup`, which nobody calls: hands all keys over to another token.
    CreateBackup: RootManage, None, Administration, Change;
    /// `dewpoint restore`: makes the store of a backup.
    RestoreBackup: RootManage, None, Administration, Change;
}
