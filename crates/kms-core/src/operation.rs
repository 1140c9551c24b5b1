//! The table of operations: names, permissions, trace names.

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
            /// None at all: whoever is known may do it, whatever its policies say. No policy names it.
            Anyone,
        }

        impl Action {
            /// All that users can be given.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in policies and in errors.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::RootManage => "dewpoint:root:manage",
                    Self::Anyone => "dewpoint:anyone",
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
    /// What it may do.
    pub class: OperationClass,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident: $action:ident, $trace:expr, $class:ident;)*) => {
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
                    class: OperationClass::$class,
                },)* }
            }

            /// The operation with this name.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

operations! {
    /// Makes a custom key.
    CreateKey: CmkCreate, Some("createKey"), Change;
    /// Makes the default key of an account for a service.
    CreateDefaultKey: CmkCreate, Some("createKey"), Change;
    /// Reads one key's description.
    DescribeKey: CmkGet, None, Read;
    /// Reads the keys of the account in the region, by pages.
    ListKeys: CmkList, None, Read;
    /// Disabled to enabled.
    EnableKey: CmkEnable, Some("enableKey"), Change;
    /// Enabled to disabled.
    DisableKey: CmkDisable, Some("disableKey"), Change;
    /// To pending deletion.
    ScheduleKeyDeletion: CmkUpdate, Some("scheduleKeyDeletion"), Change;
    /// Pending deletion to disabled.
    CancelKeyDeletion: CmkUpdate, Some("cancelKeyDeletion"), Change;
    /// Changes the alias.
    UpdateKeyAlias: CmkUpdate, Some("updateKeyAlias"), Change;
    /// Changes the description.
    UpdateKeyDescription: CmkUpdate, Some("updateKeyDescription"), Change;
    /// Makes the next version of a key. The service does it by itself when a version's budget is spent:
    /// then it is a part of the call that needed it, whose permission suffices and whose traffic counts.
    RotateKey: CmkUpdate, None, Change;
    /// Takes uses from the budget of a version that seals in the HSM; always such a part.
    ReserveKeyUses: DekCreate, None, Change;
    /// Adds a further alias. DEW: create-alias.
    CreateAlias: AliasCreate, None, Change;
    /// Moves a further alias to another key.
    AssociateAlias: AliasAssociate, None, Change;
    /// Removes further aliases.
    DeleteAlias: AliasDelete, None, Change;
    /// Reads the further aliases of a key or of the region, by pages.
    ListAliases: AliasList, None, Read;
    /// Adds or replaces one tag.
    CreateTag: TagCreate, Some("createKeyTag"), Change;
    /// Removes one tag.
    DeleteTag: TagDelete, Some("deleteKeyTag"), Change;
    /// Adds or replaces several tags.
    BatchCreateTags: TagBatch, Some("batchCreateKeyTags"), Change;
    /// Removes several tags.
    BatchDeleteTags: TagBatch, Some("batchDeleteKeyTags"), Change;
    /// Reads the tags of one key.
    ListTags: TagList, None, Read;
    /// Reads all tags of the account's keys in the region.
    ListProjectTags: TagList, None, Read;
    /// Finds keys by their tags.
    ListKeysByTags: TagListInstance, None, Read;
    /// Lets a principal use a key.
    CreateGrant: GrantCreate, Some("createGrant"), Change;
    /// Reads the grants of a key, by pages.
    ListGrants: GrantList, None, Read;
    /// Reads the grants that the caller may retire, by pages.
    ListRetirableGrants: GrantList, None, Read;
    /// Gives a grant up: its creator, its retiring principal or its grantee.
    RetireGrant: GrantRetire, Some("retireGrant"), Change;
    /// Takes a grant away: the owner of the key.
    RevokeGrant: GrantRevoke, Some("revokeGrant"), Change;
    /// Begins to rotate a key by time.
    EnableKeyRotation: CmkEnableRotation, Some("enableKeyRotation"), Change;
    /// Ends it.
    DisableKeyRotation: CmkDisableRotation, Some("disableKeyRotation"), Change;
    /// Changes how often.
    UpdateRotationInterval: CmkUpdateRotation, Some("updateKeyRotationInterval"), Change;
    /// Reads how a key is rotated, and its versions.
    GetRotationStatus: CmkGetRotation, None, Read;
    /// Rotates a key now.
    RotateKeyOnDemand: CmkRotate, None, Change;
    /// Answers what is needed to import material: a wrapping key and a token.
    GetParametersForImport: CmkGetMaterial, None, Use;
    /// Gives a key its material.
    ImportKeyMaterial: CmkImportMaterial, Some("importKeyMaterial"), Change;
    /// Deletes imported material.
    DeleteImportedKeyMaterial: CmkDeleteMaterial, Some("deleteImportedKeyMaterial"), Change;
    /// Makes a key of the same material in another region.
    ReplicateKey: CmkReplicate, None, Change;
    /// Makes another region's key the one that is managed.
    UpdatePrimaryRegion: CmkUpdatePrimaryRegion, None, Change;
    /// Reads the regions that keys can be replicated to.
    ListSupportedRegions: CmkList, None, Read;
    /// Puts a configured token to use as a keystore; disabled at first.
    CreateKeystore: KeystoreCreate, None, Change;
    /// Lets go of a keystore that holds no keys.
    DeleteKeystore: KeystoreDelete, None, Change;
    /// Lets keys be made and used on a keystore.
    EnableKeystore: KeystoreUpdate, None, Change;
    /// Refuses that from now on.
    DisableKeystore: KeystoreUpdate, None, Change;
    /// Reads one keystore.
    DescribeKeystore: KeystoreGet, None, Read;
    /// Reads all keystores of the account, by pages.
    ListKeystores: KeystoreList, None, Read;
    /// Reads limits and what is used of them.
    DescribeQuotas: CmkGetQuota, None, Read;
    /// Reads what is left of the caller's traffic budgets.
    DescribeTraffic: CmkGetQuota, None, Read;
    /// Counts the custom keys.
    CountKeys: CmkGetInstance, None, Read;
    /// Gives a user a token for its password. DEW: IAM's `POST /v3/auth/tokens`.
    IssueToken: Anyone, None, Read;
    /// Reads the projects of the caller's account. DEW: IAM's `GET /v3/projects`.
    ListProjects: Anyone, None, Read;
    /// Reads which versions of the API there are. DEW asks for no permission; who may list keys is told.
    ListVersions: CmkList, None, Read;
    /// Reads one of them.
    GetVersion: CmkList, None, Read;
    /// Not offered, as all that follows to CreatePin: it is refused, and does nothing. DEW names no permissions for
    /// these; those of the nearest operations that are offered are asked for.
    CreateKeyPolicy: CmkCreate, None, Read;
    /// Not offered.
    UpdateKeyPolicy: CmkUpdate, None, Read;
    /// Not offered.
    DeleteKeyPolicy: CmkUpdate, None, Read;
    /// Not offered.
    DescribeKeyPolicy: CmkGet, None, Read;
    /// Not offered.
    ListKeyPolicies: CmkList, None, Read;
    /// Not offered.
    CreateAccessPoint: CmkCreate, None, Read;
    /// Not offered.
    DeleteAccessPoint: CmkUpdate, None, Read;
    /// Not offered.
    EnableAccessPoint: CmkEnable, None, Read;
    /// Not offered.
    DisableAccessPoint: CmkDisable, None, Read;
    /// Not offered.
    ListAccessPoints: CmkList, None, Read;
    /// Not offered.
    DownloadAccessPointPrivateKey: CmkGet, None, Read;
    /// Not offered.
    CreateDataKeyCapsule: DekCreate, None, Read;
    /// Not offered.
    DecryptDataKeyCapsule: DekCrypto, None, Read;
    /// Not offered.
    CreatePin: DekCreate, None, Read;
    /// Reads when a key was last used, and how often each version was.
    DescribeKeyUsage: CmkGet, None, Read;
    /// Begins to move what older versions of a key sealed under its current one.
    StartCampaign: CmkRotate, None, Change;
    /// Reads how far that has come.
    GetCampaign: CmkGetRotation, None, Read;
    /// Reads that of all campaigns of a key.
    ListCampaigns: CmkGetRotation, None, Read;
    /// The service itself: destroys a key whose deletion is due.
    DestroyKey: RootManage, None, Change;
    /// The service itself: deletes imported material that has expired.
    ExpireKeyMaterial: RootManage, Some("deleteImportedKeyMaterial"), Change;
    /// Seals small data. DEW: encrypt-data.
    EncryptData: CmkCrypto, Some("encryptData"), Use;
    /// Opens small data.
    DecryptData: CmkCrypto, Some("decryptData"), Use;
    /// Signs.
    Sign: CmkSign, None, Use;
    /// Checks a signature.
    Verify: CmkVerify, None, Use;
    /// Reads the public half of a key pair.
    GetPublicKey: CmkGetPublicKey, None, Read;
    /// Computes a message authentication code.
    GenerateMac: CmkGenerateMac, None, Use;
    /// Checks one.
    VerifyMac: CmkVerifyMac, None, Use;
    /// Agrees on a shared secret with another key pair.
    DeriveSharedSecret: CmkDeriveSharedSecret, None, Use;
    /// Makes an RSA or EC key pair; answers its private half sealed, and in plain if asked for.
    GenerateDataKeyPair: DekCreate, None, Use;
    /// Makes several data keys in one call: each is a [`GenerateDataKey`](Self::GenerateDataKey) of its own
    /// in the log and in traffic control; this one stands for the call.
    GenerateDataKeys: DekCreate, None, Use;
    /// Opens a ciphertext and seals its content under another key, without answering it. DEW: re-encrypt.
    ReEncrypt: DekCrypto, None, Use;
    /// One item of a rotation campaign: moves a sealed data key under the current version of its key.
    Rewrap: DekCrypto, None, Use;
    /// Makes a data key; answers it in plain and sealed.
    GenerateDataKey: DekCreate, Some("createDataKey"), Use;
    /// Makes a data key; answers it sealed only.
    GenerateDataKeyWithoutPlaintext: DekCreate, Some("createDataKeyWithoutPlaintext"), Use;
    /// Makes a bucket key; answers it in plain and sealed.
    GenerateBucketKey: DekCreate, None, Use;
    /// Opens a sealed bucket key.
    DecryptBucketKey: DekCrypto, None, Use;
    /// Tells how many objects hang on a bucket key: whoever has its receipt.
    ReportBucketKeyUse: Anyone, None, Read;
    /// Seals a data key that the caller made.
    EncryptDataKey: DekCrypto, Some("encryptDatakey"), Use;
    /// Opens a sealed data key.
    DecryptDataKey: DekCrypto, Some("decryptDatakey"), Use;
    /// Answers random bytes of the HSM.
    GenerateRandom: CmkGenerate, Some("genRandom"), Use;
    /// Makes the next generation of the root key and begins to move all keys under it.
    RotateRoot: RootManage, None, Change;
    /// Lets go of old root keys that a rotation was told to keep.
    RetireRoot: RootManage, None, Change;
    /// Reads the state of the root keys.
    DescribeRoot: RootManage, None, Use;
    /// The service itself: wraps one key's material under the newest root key.
    RewrapKey: RootManage, None, Change;
    /// The service itself: notes that no key needs the old root keys any more.
    ForgetRoots: RootManage, None, Change;
    /// The service itself: destroys the old root keys on the token.
    DestroyRoots: RootManage, None, Change;
    /// Reads what remains of destroyed keys, by pages.
    ListDestroyedKeys: RootManage, None, Read;
    /// Reads how the keys of all accounts were used, by pages.
    ListKeyUsage: RootManage, None, Read;
    /// Finds records of the log, by pages.
    QueryRecords: AuditRead, None, Read;
    /// Reads records of the log, old ones and those that are still to come, as a stream.
    StreamRecords: AuditRead, None, Read;
    /// Reads the newest checkpoint of the log.
    GetCheckpoint: AuditRead, None, Read;
    /// Proves that a line is in the log that a checkpoint covers.
    ProveInclusion: AuditRead, None, Read;
    /// Proves that the log of a checkpoint continues that of an earlier one.
    ProveConsistency: AuditRead, None, Read;
    /// Reads what keys and calls there were, summed up by account and month.
    GetMetering: AuditRead, None, Read;
    /// Reads the file of identities anew: for operators.
    ReloadIdentities: RootManage, None, Read;
    /// Reads the file of traffic limits and quotas anew: for operators.
    ReloadTrafficProfile: RootManage, None, Read;
    /// Tells who may do what with a key, and why: for operators.
    ExplainAccess: RootManage, None, Read;
    /// The service itself: notes that lines of the log are in its archive, and may go here.
    ArchiveSegment: RootManage, None, Read;
    /// Cosigns a checkpoint of another service's log: for its operator.
    CosignCheckpoint: RootManage, None, Use;
    /// Moves a clock that stands still otherwise; in dev mode only.
    AdvanceClock: RootManage, None, Read;
    /// Reads that clock.
    ReadClock: RootManage, None, Read;
    /// Has the next calls of an operation refused as over their limit; in dev mode with a clock of its own only.
    ThrottleOperation: RootManage, None, Read;
    /// `dewctl backup`: copies the store. `dewpoint backup`, which nobody calls: hands all keys over to another token.
    CreateBackup: RootManage, None, Change;
    /// `dewpoint restore`: makes the store of a backup.
    RestoreBackup: RootManage, None, Change;
}
