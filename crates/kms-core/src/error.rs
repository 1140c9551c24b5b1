//! The errors of the domain: one closed enum, named by what the caller can do about it.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    key::{KeyClass, KeyUsage},
    operation::Action,
    ports::{AuditError, HsmError, StoreError},
    record::Verdict,
};

/// A field of a request, by its name in the gRPC contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the contract, which explains them")]
pub enum Field {
    Account,
    Action,
    Alias,
    Algorithm,
    AliasList,
    AuthenticatedData,
    /// The body of a request of DEW's protocol as a whole.
    Body,
    By,
    /// `calls`
    Calls,
    Clock,
    Count,
    ExpiresAt,
    From,
    FromMonth,
    Grantee,
    GrantId,
    GrantName,
    GrantOperations,
    ImportToken,
    IntervalDays,
    Keystore,
    KeystoreId,
    KeyUsage,
    Limit,
    Mac,
    Message,
    MessageType,
    Offset,
    Operation,
    Order,
    Origin,
    PrimaryRegion,
    PublicKey,
    Reason,
    Receipt,
    Region,
    ReplicaProject,
    ReplicaRegion,
    RequestId,
    Seq,
    Size,
    RetiringPrincipal,
    Signature,
    Tag,
    Tags,
    WrappedMaterial,
    WrappedPrivateKey,
    WrappingAlgorithm,
    CiphertextBlob,
    Description,
    EncryptionContext,
    IdempotencyToken,
    Key,
    KeyId,
    KeyPairSpec,
    KeySpec,
    Length,
    PageSize,
    PageToken,
    PendingDays,
    Plaintext,
    Proof,
    Service,
    State,
    Until,
    UntilMonth,
    User,
    UserId,
    Uses,
    Verdict,
}

impl Field {
    /// The name in the gRPC contract.
    #[allow(clippy::too_many_lines, reason = "one line for each field")]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Action => "action",
            Self::Alias => "alias",
            Self::Algorithm => "algorithm",
            Self::AliasList => "aliases",
            Self::AuthenticatedData => "additional_authenticated_data",
            Self::Body => "body",
            Self::By => "by",
            Self::Calls => "calls",
            Self::Clock => "clock",
            Self::Count => "count",
            Self::ExpiresAt => "expires_at",
            Self::From => "from",
            Self::FromMonth => "from_month",
            Self::Grantee => "grantee",
            Self::GrantId => "grant_id",
            Self::GrantName => "name",
            Self::GrantOperations => "operations",
            Self::ImportToken => "import_token",
            Self::IntervalDays => "interval_days",
            Self::Keystore => "keystore",
            Self::KeystoreId => "keystore_id",
            Self::KeyUsage => "key_usage",
            Self::Limit => "limit",
            Self::Mac => "mac",
            Self::Message => "message",
            Self::MessageType => "message_type",
            Self::Offset => "offset",
            Self::Operation => "operation",
            Self::Order => "order",
            Self::Origin => "origin",
            Self::PrimaryRegion => "primary_region",
            Self::ReplicaProject => "replica_project_id",
            Self::ReplicaRegion => "replica_region",
            Self::PublicKey => "public_key",
            Self::Reason => "reason",
            Self::Receipt => "receipt",
            Self::Region => "region",
            Self::RequestId => "request_id",
            Self::Seq => "seq",
            Self::Size => "size",
            Self::RetiringPrincipal => "retiring_principal",
            Self::Signature => "signature",
            Self::Tag => "tag",
            Self::Tags => "tags",
            Self::WrappedMaterial => "wrapped_material",
            Self::WrappedPrivateKey => "wrapped_private_key",
            Self::WrappingAlgorithm => "wrapping_algorithm",
            Self::CiphertextBlob => "ciphertext_blob",
            Self::Description => "description",
            Self::EncryptionContext => "encryption_context",
            Self::IdempotencyToken => "idempotency_token",
            Self::Key => "key",
            Self::KeyId => "key_id",
            Self::KeyPairSpec => "key_pair_spec",
            Self::KeySpec => "key_spec",
            Self::Length => "length",
            Self::PageSize => "page_size",
            Self::PageToken => "page_token",
            Self::PendingDays => "pending_days",
            Self::Plaintext => "plaintext",
            Self::Proof => "proof",
            Self::Service => "service",
            Self::State => "state",
            Self::Until => "until",
            Self::UntilMonth => "until_month",
            Self::User => "user",
            Self::UserId => "user_id",
            Self::Uses => "uses",
            Self::Verdict => "verdict",
        }
    }
}

/// Whose budget a throttled call ran out of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttled {
    /// `user:` or `account:` and an id, `global` for all who call, `server` for all before they are known, or
    /// `password` for all who give a wrong one for the same user.
    pub subject: String,
    /// What draws on the budget: a group of operations, or one of them, as `queries/ListKeys`.
    pub group: Arc<str>,
    /// How many calls the budget allows in a window.
    pub limit: u32,
    /// How long that is.
    pub window: Window,
    /// How long until the next call can pass.
    pub retry_after: Duration,
}

/// In what time a budget allows so many calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// A day.
    Day,
}

impl Window {
    /// How long it is.
    pub const fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Day => 86_400,
        })
    }

    /// Its name, as in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Day => "day",
        }
    }
}

/// What there may be only so many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// The custom keys of an account in a region.
    CustomKeys,
    /// The grants of one key.
    GrantsOfKey,
    /// The grants that an account has given to one grantee.
    GrantsToGrantee,
    /// The tags of one key.
    TagsOfKey,
    /// The further aliases of one key.
    AliasesOfKey,
    /// The regions that share the material of one key.
    RegionsOfKey,
    /// The versions of one key.
    VersionsOfKey,
}

impl Counted {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CustomKeys,
        Self::GrantsOfKey,
        Self::GrantsToGrantee,
        Self::TagsOfKey,
        Self::AliasesOfKey,
        Self::RegionsOfKey,
        Self::VersionsOfKey,
    ];
}

impl fmt::Display for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CustomKeys => "custom keys",
            Self::GrantsOfKey => "grants of the key",
            Self::GrantsToGrantee => "grants to this grantee",
            Self::TagsOfKey => "tags of the key",
            Self::AliasesOfKey => "aliases of the key",
            Self::RegionsOfKey => "regions of the key",
            Self::VersionsOfKey => "versions of the key",
        })
    }
}

/// A quota that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Of what.
    pub what: Counted,
    /// How many there may be.
    pub limit: u64,
    /// How many there are.
    pub used: u64,
}

/// Why a call has no identity that the service accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// The connection has no client certificate.
    #[error("a client certificate is needed")]
    NoCertificate,
    /// The certificate names nobody that this service knows.
    #[error("the client certificate names no known user or service")]
    UnknownIdentity,
    /// The certificate has run out since the connection was made.
    #[error("the client certificate has expired")]
    CertificateExpired,
    /// The certificate is on the list of those that are not taken any more.
    #[error("the certificate was revoked")]
    CertificateRevoked,
    /// The request carries neither a signature nor a token.
    #[error("a signature or a token is needed")]
    NoCredential,
    /// What is to authenticate the request is not in the form that it has to have.
    #[error("the request's signature or token is malformed")]
    CredentialMalformed,
    /// No user has this access key.
    #[error("no user has this access key")]
    AccessKeyUnknown,
    /// The access key is switched off.
    #[error("the access key is inactive")]
    AccessKeyInactive,
    /// The temporary access key has run out.
    #[error("the access key has expired")]
    AccessKeyExpired,
    /// The request says that it was signed at a time that is too far from now.
    #[error("the request was not signed at about this time")]
    SignatureSkewed,
    /// The signature is not that of this request under this access key.
    #[error("the signature does not match the request")]
    SignatureMismatch,
    /// The security token is not that of the access key, or there is one where there must be none.
    #[error("the security token does not belong to the access key")]
    SecurityTokenMismatch,
    /// The token is none that this service issued, or its user has gone.
    #[error("the token is not known")]
    TokenUnknown,
    /// The token has run out.
    #[error("the token has expired")]
    TokenExpired,
    /// The user's password is another one; or there is no such user, or it has no password.
    #[error("the user or the password is wrong")]
    PasswordWrong,
    /// A metadata value is no text, too long, or given twice.
    #[error("x-project-id and x-acting-for must each be given at most once, as 1 to 64 of A-Z a-z 0-9 . _ -")]
    InvalidMetadata,
    /// The project is unknown, or another account's.
    #[error("x-project-id names no project of the user's account")]
    UnknownProject,
    /// A service has to say for whom it acts.
    #[error("a service must name the user that it acts for in x-acting-for")]
    ActingForRequired,
    /// The caller may not act for this user, or the user does not exist.
    #[error("the caller may not act for the user in x-acting-for")]
    ActingForNotAllowed,
}

impl Unauthenticated {
    /// The stable reason.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoCertificate => "NO_CERTIFICATE",
            Self::UnknownIdentity => "UNKNOWN_IDENTITY",
            Self::CertificateExpired => "CERTIFICATE_EXPIRED",
            Self::CertificateRevoked => "CERTIFICATE_REVOKED",
            Self::NoCredential => "NO_CREDENTIAL",
            Self::CredentialMalformed => "CREDENTIAL_MALFORMED",
            Self::AccessKeyUnknown => "ACCESS_KEY_UNKNOWN",
            Self::AccessKeyInactive => "ACCESS_KEY_INACTIVE",
            Self::AccessKeyExpired => "ACCESS_KEY_EXPIRED",
            Self::SignatureSkewed => "SIGNATURE_SKEWED",
            Self::SignatureMismatch => "SIGNATURE_MISMATCH",
            Self::SecurityTokenMismatch => "SECURITY_TOKEN_MISMATCH",
            Self::TokenUnknown => "TOKEN_UNKNOWN",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::PasswordWrong => "PASSWORD_WRONG",
            Self::InvalidMetadata => "INVALID_METADATA",
            Self::UnknownProject => "UNKNOWN_PROJECT",
            Self::ActingForRequired => "ACTING_FOR_REQUIRED",
            Self::ActingForNotAllowed => "ACTING_FOR_NOT_ALLOWED",
        }
    }
}

/// Why a permission is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// No policy of the caller allows it on any key, and no grant that is known to it.
    NothingAllows,
    /// Something allows it on other keys, but nothing on this one; whether or not there is such a key.
    KeyNotAllowed,
    /// A policy of the caller denies it whichever key it is on, and that wins.
    PolicyDenies,
    /// The same of this key, which the caller may know of.
    PolicyDeniesKey,
    /// The caller has grants of the key, for other operations.
    NotGranted,
    /// Whoever passes a grant on cannot give more than it has.
    GrantExceeded,
}

impl Denial {
    /// The stable name.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NothingAllows => "NOTHING_ALLOWS",
            Self::KeyNotAllowed => "KEY_NOT_ALLOWED",
            Self::PolicyDenies => "POLICY_DENIES",
            Self::PolicyDeniesKey => "POLICY_DENIES_KEY",
            Self::NotGranted => "NOT_GRANTED",
            Self::GrantExceeded => "GRANT_EXCEEDED",
        }
    }
}

/// Why a witness does not cosign a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointRefusal {
    /// It is none, or not signed by a log that is witnessed.
    #[error("it is no checkpoint that a witnessed log has signed")]
    NotWitnessed,
    /// The proof begins elsewhere than at what was cosigned last, or the checkpoint covers less than that.
    #[error("a checkpoint over {known} lines was cosigned last")]
    OtherSize {
        /// The size that was cosigned last; 0 for none.
        known: u64,
    },
    /// It does not continue what was cosigned last.
    #[error("it is not proved to continue the checkpoint that was cosigned last")]
    Inconsistent,
}

impl CheckpointRefusal {
    /// The stable reason.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotWitnessed => "CHECKPOINT_NOT_WITNESSED",
            Self::OtherSize { .. } => "CHECKPOINT_OTHER_SIZE",
            Self::Inconsistent => "CHECKPOINT_INCONSISTENT",
        }
    }
}

/// Why an operation was refused or failed.
///
/// `Display` is the message for the caller. What only an operator may see (errors of the HSM, the
/// store and the log) is in [`operator_detail`](Self::operator_detail).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field is malformed, missing or out of range.
    #[error("{}: {problem}", field.name())]
    InvalidField {
        /// Which one.
        field: Field,
        /// What is wrong and what would be right.
        problem: &'static str,
    },
    /// The caller is nobody, or not for this project.
    #[error(transparent)]
    Unauthenticated(Unauthenticated),
    /// The digest that came with a data key is not its own. DEW: KMS.2103.
    #[error("the digest behind the data key is not the data key's")]
    DataKeyDigestMismatch,
    /// The ciphertext does not open: another key, context, purpose, or altered bytes. Never says which.
    #[error("the ciphertext cannot be decrypted")]
    CannotDecrypt,
    /// No such key exists for this caller.
    #[error("the key does not exist")]
    KeyNotFound,
    /// The permission is missing.
    #[error("permission {} is missing", missing.name())]
    PermissionDenied {
        /// Which one.
        missing: Action,
        /// Why.
        denial: Denial,
    },
    /// The new identities cannot be used. Only operators are told.
    #[error("the identities stay as they are: {problem}")]
    IdentitiesInvalid {
        /// What is wrong, and where. One line.
        problem: String,
    },
    /// The new traffic limits and quotas cannot be used. Only operators are told.
    #[error("traffic limits and quotas stay as they are: {problem}")]
    ProfileInvalid {
        /// What is wrong, and where. One line.
        problem: String,
    },
    /// The witness does not cosign. To operators.
    #[error("the checkpoint is not cosigned: {0}")]
    CheckpointRefused(CheckpointRefusal),
    /// The call would be allowed; a dry run does no more.
    #[error("a dry run: the call would be allowed; nothing was done")]
    DryRun,
    /// The traffic control refuses the call for now.
    #[error("over the limit of {} calls per {}; try again in {} ms", .0.limit, .0.window.name(), .0.retry_after.as_millis())]
    Throttled(Throttled),
    /// The key is disabled and was to be used.
    #[error("the key is disabled; enable it first")]
    KeyDisabled,
    /// The key waits for its deletion and was to be used or changed.
    #[error("the key is scheduled for deletion; cancel the deletion first")]
    KeyPendingDeletion,
    /// The key has no material and was to be used.
    #[error("the key has no key material yet; import it first")]
    KeyPendingImport,
    /// Enabling a key that is not disabled.
    #[error("the key is not disabled")]
    KeyNotDisabled,
    /// Disabling a key that is not enabled.
    #[error("the key is not enabled")]
    KeyNotEnabled,
    /// Scheduling a deletion that is scheduled already.
    #[error("the deletion of the key is scheduled already")]
    KeyAlreadyPendingDeletion,
    /// Cancelling a deletion that is not scheduled.
    #[error("the key is not scheduled for deletion")]
    KeyNotPendingDeletion,
    /// Managing a default key.
    #[error("default keys cannot be changed, disabled, deleted or renamed")]
    DefaultKeyImmutable,
    /// Importing into a key that has material. DEW: KMS.0310.
    #[error("the key is not waiting for key material")]
    KeyNotPendingImport,
    /// Keys of its kind could do it, but the key is for something else: for what. DEW: KMS.0334, KMS.0335.
    #[error("the key is for another usage than this operation")]
    KeyUsageMismatch(KeyUsage),
    /// The operation is not for keys of this kind. DEW: KMS.0324, KMS.0325, KMS.0331, KMS.0341, KMS.1114, KMS.1115.
    #[error("the operation does not work with keys of this kind")]
    KeyKindUnsupported(KeyClass),
    /// The algorithm is not one of the key's, which is of this kind. DEW: KMS.0332, KMS.2105, KMS.2106.
    #[error("the key does not support this algorithm")]
    AlgorithmMismatch(KeyClass),
    /// The key is not rotated by time. DEW: KMS.0313.
    #[error("the rotation of the key is not enabled")]
    RotationNotEnabled,
    /// The key is rotated by time already. DEW: KMS.2901.
    #[error("the rotation of the key is enabled already")]
    RotationAlreadyEnabled,
    /// Only for keys whose material is imported. DEW: KMS.0309.
    #[error("the operation is only for keys of origin external")]
    ExternalKeyRequired,
    /// Not for keys whose material is imported. DEW: KMS.0312.
    #[error("the operation is not for keys of origin external")]
    ExternalKeyUnsupported,
    /// The import token has run out. DEW: KMS.2601.
    #[error("the import token has expired; get new parameters for import")]
    ImportTokenExpired,
    /// The import token is none of ours, or altered. DEW: KMS.2605.
    #[error("the import token is not valid")]
    ImportTokenInvalid,
    /// The import token is another key's. DEW: KMS.2603.
    #[error("the import token belongs to another key")]
    ImportTokenMismatch,
    /// Other material than the key had before. DEW: KMS.2606.
    #[error("the key had other material before; only the same can be imported again")]
    MaterialMismatch,
    /// The wrapped material does not open, or is no material for this key. DEW: KMS.2604, KMS.2609, KMS.2610.
    #[error("the key material cannot be used: it does not open, or has a wrong form or length for this key")]
    MaterialInvalid,
    /// Imported key pairs keep their material. DEW: KMS.2702.
    #[error("the imported material of a key pair cannot be deleted")]
    MaterialNotDeletable,
    /// No such grant. DEW: KMS.2501.
    #[error("the grant does not exist")]
    GrantNotFound,
    /// The grant is another key's. DEW: KMS.2502.
    #[error("the grant belongs to another key")]
    GrantMismatch,
    /// No such further alias on this key.
    #[error("the key has no such alias")]
    AliasNotFound,
    /// No such campaign of this key.
    #[error("the key has no campaign to this version")]
    CampaignNotFound,
    /// No such tag on this key. DEW: KMS.0416.
    #[error("the key has no such tag")]
    TagNotFound,
    /// No such version of the API.
    #[error("the service speaks no such version of the API")]
    VersionNotFound,
    /// No such keystore. DEW: KMS.8003.
    #[error("the keystore does not exist")]
    KeystoreNotFound,
    /// The keystore is disabled.
    #[error("the keystore is disabled; enable it first")]
    KeystoreDisabled,
    /// Letting go of a keystore that is in use.
    #[error("the keystore is not disabled; disable it first")]
    KeystoreNotDisabled,
    /// The keystore holds keys.
    #[error("the keystore still holds keys")]
    KeystoreNotEmpty,
    /// The token is taken.
    #[error("the token is a keystore already")]
    KeystoreExists,
    /// Not for keys of a keystore. DEW: KMS.0338, KMS.0339, KMS.0340.
    #[error("the operation is not for keys of a custom keystore")]
    KeystoreUnsupported,
    /// A replica is managed at its primary. DEW: KMS.0106, KMS.3802.
    #[error("the key is a replica; manage its primary")]
    ReplicaReadOnly,
    /// The region has a key of this material already.
    #[error("the region already has a replica of this key")]
    ReplicaExists,
    /// The primary of replicas cannot go before them.
    #[error("the key still has replicas")]
    ReplicasRemain,
    /// A quota is used up. DEW: KMS.1105, KMS.2404, KMS.2405, KMS.0409.
    #[error("{} quota of {} is used up: {} in use", .0.what, .0.limit, .0.used)]
    QuotaExceeded(Quota),
    /// Not part of this service.
    #[error("{feature} is not offered here")]
    NotOffered {
        /// What is not.
        feature: &'static str,
    },
    /// Another key of the account has this alias in this region.
    #[error("another key has this alias")]
    AliasExists,
    /// The idempotency token was used for a request with other parameters.
    #[error("the idempotency token was used for another request")]
    IdempotencyTokenReused,
    /// Others changed the same key at the same time, again and again.
    #[error("others are changing the same key; try again")]
    Contention,
    /// The change may or may not have happened, or happened without a durable outcome record.
    #[error("the outcome is unknown; read the key's state before you try again")]
    OutcomeUnknown {
        /// For the operator.
        detail: String,
    },
    /// Old root keys cannot go: a stored key is wrapped under one of them.
    #[error("keys are still wrapped under older root keys than generation {generation}")]
    RootStillNeeded {
        /// The generation under which all keys should be.
        generation: u32,
    },
    /// The operation cannot be recorded, so it is not done.
    #[error("the audit log is unavailable; nothing was done")]
    AuditUnavailable(AuditError),
    /// The HSM cannot be used now.
    #[error("the HSM is unavailable")]
    HsmUnavailable(HsmError),
    /// The store cannot be used now.
    #[error("the key store is unavailable")]
    StoreUnavailable(StoreError),
    /// A stored record is not what this service wrote there: somebody altered the store.
    #[error("the key's stored record failed its authentication")]
    RecordTampered {
        /// Which record, for the operator.
        detail: String,
    },
    /// A defect of this service.
    #[error("internal error")]
    Internal {
        /// What must not have happened, for the operator.
        detail: &'static str,
    },
}

impl Error {
    /// The permission is missing, because nothing allows it.
    pub const fn denied(missing: Action) -> Self {
        Self::PermissionDenied { missing, denial: Denial::NothingAllows }
    }

    /// The permission is missing, because nothing allows it on this key.
    pub const fn denied_on_key(missing: Action) -> Self {
        Self::PermissionDenied { missing, denial: Denial::KeyNotAllowed }
    }

    /// A malformed field.
    pub const fn invalid(field: Field, problem: &'static str) -> Self {
        Self::InvalidField { field, problem }
    }

    /// The stable reason, for programs and for the log.
    #[allow(clippy::too_many_lines, reason = "one line for each error")]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => "INVALID_FIELD",
            Self::Unauthenticated(why) => why.code(),
            Self::CheckpointRefused(why) => why.code(),
            Self::DataKeyDigestMismatch => "DATA_KEY_DIGEST_MISMATCH",
            Self::CannotDecrypt => "CANNOT_DECRYPT",
            Self::KeyNotFound => "KEY_NOT_FOUND",
            Self::PermissionDenied { .. } => "PERMISSION_DENIED",
            Self::DryRun => "DRY_RUN",
            Self::IdentitiesInvalid { .. } => "IDENTITIES_INVALID",
            Self::ProfileInvalid { .. } => "PROFILE_INVALID",
            Self::Throttled(_) => "THROTTLED",
            Self::KeyDisabled => "KEY_DISABLED",
            Self::KeyPendingDeletion => "KEY_PENDING_DELETION",
            Self::KeyPendingImport => "KEY_PENDING_IMPORT",
            Self::KeyNotDisabled => "KEY_NOT_DISABLED",
            Self::KeyNotEnabled => "KEY_NOT_ENABLED",
            Self::KeyAlreadyPendingDeletion => "KEY_ALREADY_PENDING_DELETION",
            Self::KeyNotPendingDeletion => "KEY_NOT_PENDING_DELETION",
            Self::DefaultKeyImmutable => "DEFAULT_KEY_IMMUTABLE",
            Self::KeyNotPendingImport => "KEY_NOT_PENDING_IMPORT",
            Self::KeyUsageMismatch(_) => "KEY_USAGE_MISMATCH",
            Self::KeyKindUnsupported(_) => "KEY_KIND_UNSUPPORTED",
            Self::AlgorithmMismatch(_) => "ALGORITHM_MISMATCH",
            Self::RotationNotEnabled => "ROTATION_NOT_ENABLED",
            Self::RotationAlreadyEnabled => "ROTATION_ALREADY_ENABLED",
            Self::ExternalKeyRequired => "EXTERNAL_KEY_REQUIRED",
            Self::ExternalKeyUnsupported => "EXTERNAL_KEY_UNSUPPORTED",
            Self::ImportTokenExpired => "IMPORT_TOKEN_EXPIRED",
            Self::ImportTokenInvalid => "IMPORT_TOKEN_INVALID",
            Self::ImportTokenMismatch => "IMPORT_TOKEN_MISMATCH",
            Self::MaterialMismatch => "MATERIAL_MISMATCH",
            Self::MaterialInvalid => "MATERIAL_INVALID",
            Self::MaterialNotDeletable => "MATERIAL_NOT_DELETABLE",
            Self::GrantNotFound => "GRANT_NOT_FOUND",
            Self::GrantMismatch => "GRANT_MISMATCH",
            Self::AliasNotFound => "ALIAS_NOT_FOUND",
            Self::CampaignNotFound => "CAMPAIGN_NOT_FOUND",
            Self::TagNotFound => "TAG_NOT_FOUND",
            Self::VersionNotFound => "VERSION_NOT_FOUND",
            Self::KeystoreNotFound => "KEYSTORE_NOT_FOUND",
            Self::KeystoreDisabled => "KEYSTORE_DISABLED",
            Self::KeystoreNotDisabled => "KEYSTORE_NOT_DISABLED",
            Self::KeystoreNotEmpty => "KEYSTORE_NOT_EMPTY",
            Self::KeystoreExists => "KEYSTORE_EXISTS",
            Self::KeystoreUnsupported => "KEYSTORE_UNSUPPORTED",
            Self::ReplicaReadOnly => "REPLICA_READ_ONLY",
            Self::ReplicaExists => "REPLICA_EXISTS",
            Self::ReplicasRemain => "REPLICAS_REMAIN",
            Self::QuotaExceeded(_) => "QUOTA_EXCEEDED",
            Self::NotOffered { .. } => "NOT_OFFERED",
            Self::AliasExists => "ALIAS_EXISTS",
            Self::IdempotencyTokenReused => "IDEMPOTENCY_TOKEN_REUSED",
            Self::Contention => "CONTENTION",
            Self::OutcomeUnknown { .. } => "OUTCOME_UNKNOWN",
            Self::RootStillNeeded { .. } => "ROOT_STILL_NEEDED",
            Self::AuditUnavailable(_) => "AUDIT_UNAVAILABLE",
            Self::HsmUnavailable(_) => "HSM_UNAVAILABLE",
            Self::StoreUnavailable(_) => "STORE_UNAVAILABLE",
            Self::RecordTampered { .. } => "RECORD_TAMPERED",
            Self::Internal { .. } => "INTERNAL",
        }
    }

    /// How the log judges it.
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Unauthenticated(_) | Self::PermissionDenied { .. } | Self::Throttled(_) => Verdict::Denied,
            _ => Verdict::Failed,
        }
    }

    /// What only the operator may read; `None` where the caller's message says all.
    pub fn operator_detail(&self) -> Option<String> {
        match self {
            Self::OutcomeUnknown { detail } | Self::RecordTampered { detail } => Some(detail.clone()),
            Self::AuditUnavailable(error) => Some(error.to_string()),
            Self::HsmUnavailable(error) => Some(error.to_string()),
            Self::StoreUnavailable(error) => Some(error.to_string()),
            Self::Internal { detail } => Some((*detail).to_owned()),
            _ => None,
        }
    }
}

impl From<HsmError> for Error {
    fn from(error: HsmError) -> Self {
        match error {
            HsmError::NotAuthentic => Self::CannotDecrypt,
            HsmError::InvalidMaterial { .. } => Self::MaterialInvalid,
            error => Self::HsmUnavailable(error),
        }
    }
}

impl From<AuditError> for Error {
    fn from(error: AuditError) -> Self {
        Self::AuditUnavailable(error)
    }
}
