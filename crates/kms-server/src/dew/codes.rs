//! What DEW calls our errors: the one function from the domain's errors to its codes.

#[cfg(test)]
mod tests;

use kms_core::{
    Error,
    error::{Counted, Denial, Field, Unauthenticated},
    key::{KeyClass, KeyUsage},
    operation::OperationName,
};

/// A code of DEW, with the status of HTTP that it comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    /// As `KMS.0205`; that of a gateway in front of KMS begins with `APIGW.`.
    pub number: &'static str,
    /// The status of the answer.
    pub status: u16,
}

macro_rules! codes {
    ($($name:ident = $number:literal, $status:literal;)*) => {
        impl Code {
            $(
                #[doc = concat!("`", $number, "`")]
                pub(crate) const $name: Self = Self { number: $number, status: $status };
            )*

            /// All that this service answers.
            #[cfg(test)]
            pub(crate) const RAISED: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

// DEW: §6.
codes! {
    SERVICE_ERROR = "KMS.0101", 500;
    SERVICE_IO = "KMS.0102", 500;
    SYSTEM_EXCEPTION = "KMS.0103", 500;
    REPLICA_READ_ONLY = "KMS.0106", 400;
    URL_INVALID = "KMS.0201", 400;
    JSON_INVALID = "KMS.0202", 400;
    BODY_TOO_LONG = "KMS.0203", 400;
    PARAMETER_MISSING = "KMS.0204", 400;
    KEY_ID_INVALID = "KMS.0205", 400;
    SEQUENCE_INVALID = "KMS.0206", 400;
    KEY_NOT_FOUND = "KMS.0207", 404;
    CONTEXT_INVALID = "KMS.0208", 400;
    KEY_DISABLED = "KMS.0209", 400;
    KEY_PENDING_DELETION = "KMS.0210", 400;
    DEFAULT_KEY = "KMS.0211", 400;
    RESOURCE_TYPE_INVALID = "KMS.0212", 400;
    FORMAT_INVALID = "KMS.0214", 400;
    METHOD_NOT_SUPPORTED = "KMS.0215", 405;
    TOKEN_NULL = "KMS.0301", 403;
    TOKEN_INVALID = "KMS.0302", 403;
    TOKEN_EXPIRED = "KMS.0303", 403;
    KEY_NOT_PERMITTED = "KMS.0306", 403;
    CALL_NOT_PERMITTED = "KMS.0307", 403;
    PARAMETER_INVALID = "KMS.0308", 400;
    EXTERNAL_KEY_REQUIRED = "KMS.0309", 400;
    NOT_PENDING_IMPORT = "KMS.0310", 400;
    MATERIAL_UNREADABLE = "KMS.0311", 400;
    EXTERNAL_KEY_UNSUPPORTED = "KMS.0312", 400;
    ROTATION_NOT_ENABLED = "KMS.0313", 400;
    KEYSTORE_DISABLED = "KMS.0317", 400;
    KEYSTORE_EXISTS = "KMS.0318", 400;
    PROJECT_MISMATCH = "KMS.0321", 403;
    RSA_WITHOUT_ROTATION = "KMS.0324", 400;
    ASYMMETRIC_UNSUPPORTED = "KMS.0325", 400;
    DIGEST_LENGTH = "KMS.0329", 400;
    SYMMETRIC_UNSUPPORTED = "KMS.0331", 400;
    SIGNING_ALGORITHM = "KMS.0332", 400;
    KEY_IS_TO_ENCRYPT = "KMS.0334", 400;
    KEY_IS_TO_SIGN = "KMS.0335", 400;
    KEYSTORE_WITHOUT_ROTATION = "KMS.0338", 400;
    KEYSTORE_WITHOUT_IMPORT = "KMS.0339", 400;
    KEYSTORE_UNSUPPORTED = "KMS.0340", 400;
    HMAC_UNSUPPORTED = "KMS.0341", 400;
    TAGS_EMPTY = "KMS.0401", 400;
    MATCH_VALUE_INVALID = "KMS.0402", 400;
    MATCH_KEY_INVALID = "KMS.0403", 400;
    TAG_ACTION_INVALID = "KMS.0404", 400;
    TAG_VALUE_INVALID = "KMS.0405", 400;
    TAG_KEY_INVALID = "KMS.0406", 400;
    TAG_LIST_TOO_LONG = "KMS.0407", 400;
    TAGS_TOO_MANY = "KMS.0409", 400;
    TAG_VALUE_TOO_LONG = "KMS.0410", 400;
    TAG_KEY_TOO_LONG = "KMS.0411", 400;
    TAG_LIST_INVALID = "KMS.0412", 400;
    MATCHES_INVALID = "KMS.0415", 400;
    TAG_NOT_FOUND = "KMS.0416", 404;
    TAG_OFFSET_INVALID = "KMS.0417", 400;
    TAG_OFFSET_NOT_REQUIRED = "KMS.0418", 400;
    ALIAS_INVALID = "KMS.1101", 400;
    DESCRIPTION_INVALID = "KMS.1103", 400;
    ALIAS_EXISTS = "KMS.1104", 400;
    KEYS_TOO_MANY = "KMS.1105", 400;
    KEY_SPEC_INVALID = "KMS.1110", 400;
    CURVE_ENCRYPTS_NOT = "KMS.1114", 400;
    SYMMETRIC_KEY_SIGNS_NOT = "KMS.1115", 400;
    NOT_DISABLED = "KMS.1201", 400;
    NOT_ENABLED = "KMS.1301", 400;
    PENDING_DAYS = "KMS.1401", 400;
    ALREADY_PENDING_DELETION = "KMS.1402", 400;
    NOT_PENDING_DELETION = "KMS.1501", 400;
    LIMIT_INVALID = "KMS.1601", 400;
    MARKER_INVALID = "KMS.1602", 400;
    OFFSET_INVALID = "KMS.1603", 400;
    RANDOM_LENGTH = "KMS.1801", 400;
    RANDOM_LENGTH_NOT_IN_BYTES = "KMS.1802", 400;
    DATA_KEY_LENGTH = "KMS.1901", 400;
    DATA_KEY_SPEC = "KMS.1902", 400;
    DATA_KEY_LENGTH_NOT_IN_BYTES = "KMS.1903", 400;
    PLAINTEXT_INVALID = "KMS.2101", 400;
    PLAINTEXT_LENGTH = "KMS.2102", 400;
    PLAINTEXT_DIGEST = "KMS.2103", 400;
    PLAINTEXT_LENGTH_MISMATCH = "KMS.2104", 400;
    SYMMETRIC_ENCRYPTION_ALGORITHM = "KMS.2105", 400;
    RSA_ENCRYPTION_ALGORITHM = "KMS.2106", 400;
    PLAINTEXT_TOO_LONG_FOR_RSA = "KMS.2108", 400;
    CIPHERTEXT_INVALID = "KMS.2201", 400;
    CIPHERTEXT_LENGTH = "KMS.2202", 400;
    CIPHERTEXT_LENGTH_MISMATCH = "KMS.2204", 400;
    GRANT_OPERATIONS = "KMS.2401", 400;
    PRINCIPAL_INVALID = "KMS.2402", 400;
    KEY_GRANTS_TOO_MANY = "KMS.2404", 400;
    GRANTS_TOO_MANY = "KMS.2405", 400;
    GRANT_ID_INVALID = "KMS.2501", 400;
    GRANT_OF_OTHER_KEY = "KMS.2502", 400;
    IMPORT_TOKEN_EXPIRED = "KMS.2601", 400;
    MATERIAL_EXPIRY = "KMS.2602", 400;
    IMPORT_TOKEN_OF_OTHER_KEY = "KMS.2603", 400;
    IMPORT_TOKEN_INVALID = "KMS.2605", 400;
    OTHER_MATERIAL = "KMS.2606", 400;
    PRIVATE_KEY_MISSING = "KMS.2608", 400;
    PRIVATE_KEY_INVALID = "KMS.2609", 400;
    MATERIAL_NOT_DELETABLE_NOW = "KMS.2701", 400;
    PAIR_MATERIAL_STAYS = "KMS.2702", 400;
    ROTATION_ENABLED = "KMS.2901", 400;
    ROTATION_INTERVAL = "KMS.3001", 400;
    NOT_REPLICATED = "KMS.3801", 400;
    KEYSTORE_NOT_FOUND = "KMS.8003", 400;
    API_NOT_FOUND = "APIGW.0101", 404;
    NOT_AUTHENTICATED = "APIGW.0301", 401;
    THROTTLED = "APIGW.0308", 429;
}

/// A request that makes no operation.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// What DEW calls it; `None`: what it calls the error.
    pub code: Option<Code>,
    /// What the domain, and so the log, calls it.
    pub error: Error,
}

impl Unfit {
    /// A field that DEW has a code of its own for.
    pub(crate) const fn new(code: Code, field: Field, problem: &'static str) -> Self {
        Self { code: Some(code), error: Error::invalid(field, problem) }
    }

    /// The code that is answered for it.
    #[cfg(test)]
    pub(crate) fn code(&self, operation: OperationName) -> Code {
        self.code.unwrap_or_else(|| Code::of(&self.error, operation))
    }
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Self {
        Self { code: None, error }
    }
}

impl Code {
    /// Whether it is answered in the form of the gateway in front of KMS.
    pub(crate) fn is_gateways(self) -> bool {
        self.number.starts_with("APIGW.")
    }

    /// What DEW calls an error of this operation.
    #[allow(clippy::too_many_lines, reason = "one line for each error")]
    pub(crate) fn of(error: &Error, operation: OperationName) -> Self {
        match error {
            Error::InvalidField { field, .. } => Self::of_field(*field, operation),
            Error::Unauthenticated(why) => Self::of_stranger(*why),
            // DEW: §6, meanings of 2023: 0306 is about the key, 0307 about the call.
            Error::PermissionDenied { denial, .. } => match denial {
                Denial::KeyNotAllowed
                | Denial::PolicyDeniesKey
                | Denial::NotGranted
                | Denial::GrantExceeded => Self::KEY_NOT_PERMITTED,
                Denial::NothingAllows | Denial::PolicyDenies => Self::CALL_NOT_PERMITTED,
            },
            Error::Throttled(_) => Self::THROTTLED,
            Error::CannotDecrypt => Self::CIPHERTEXT_INVALID,
            Error::DataKeyDigestMismatch => Self::PLAINTEXT_DIGEST,
            Error::KeyNotFound => Self::KEY_NOT_FOUND,
            Error::KeyDisabled => Self::KEY_DISABLED,
            Error::KeyPendingDeletion | Error::KeyPendingImport
                if operation == OperationName::DeleteImportedKeyMaterial =>
            {
                Self::MATERIAL_NOT_DELETABLE_NOW
            }
            Error::KeyPendingDeletion => Self::KEY_PENDING_DELETION,
            // DEW names no code for the use of a key without material: it is not enabled.
            Error::KeyPendingImport | Error::KeyNotEnabled => Self::NOT_ENABLED,
            Error::KeyNotDisabled => Self::NOT_DISABLED,
            Error::KeyAlreadyPendingDeletion => Self::ALREADY_PENDING_DELETION,
            Error::KeyNotPendingDeletion => Self::NOT_PENDING_DELETION,
            Error::DefaultKeyImmutable => Self::DEFAULT_KEY,
            Error::KeyNotPendingImport => Self::NOT_PENDING_IMPORT,
            Error::KeyUsageMismatch(usage) => Self::of_usage(*usage),
            Error::KeyKindUnsupported(class) => Self::of_kind(*class, operation),
            Error::AlgorithmMismatch(class) => Self::of_algorithm(*class, operation),
            Error::RotationNotEnabled => Self::ROTATION_NOT_ENABLED,
            Error::RotationAlreadyEnabled => Self::ROTATION_ENABLED,
            Error::ExternalKeyRequired => Self::EXTERNAL_KEY_REQUIRED,
            // DEW: KMS.0312 is about rotation.
            Error::ExternalKeyUnsupported if operation == OperationName::ReplicateKey => Self::NOT_REPLICATED,
            Error::ExternalKeyUnsupported => Self::EXTERNAL_KEY_UNSUPPORTED,
            Error::ImportTokenExpired => Self::IMPORT_TOKEN_EXPIRED,
            Error::ImportTokenInvalid => Self::IMPORT_TOKEN_INVALID,
            Error::ImportTokenMismatch => Self::IMPORT_TOKEN_OF_OTHER_KEY,
            Error::MaterialMismatch => Self::OTHER_MATERIAL,
            Error::MaterialInvalid => Self::MATERIAL_UNREADABLE,
            Error::MaterialNotDeletable => Self::PAIR_MATERIAL_STAYS,
            Error::GrantNotFound => Self::GRANT_ID_INVALID,
            Error::GrantMismatch => Self::GRANT_OF_OTHER_KEY,
            Error::AliasNotFound => Self::ALIAS_INVALID,
            Error::AliasExists => Self::ALIAS_EXISTS,
            Error::TagNotFound => Self::TAG_NOT_FOUND,
            Error::VersionNotFound => Self::URL_INVALID,
            Error::KeystoreNotFound => Self::KEYSTORE_NOT_FOUND,
            Error::KeystoreDisabled => Self::KEYSTORE_DISABLED,
            Error::KeystoreExists => Self::KEYSTORE_EXISTS,
            Error::KeystoreUnsupported => match operation {
                OperationName::EnableKeyRotation
                | OperationName::DisableKeyRotation
                | OperationName::UpdateRotationInterval
                | OperationName::RotateKeyOnDemand => Self::KEYSTORE_WITHOUT_ROTATION,
                OperationName::CreateKey
                | OperationName::GetParametersForImport
                | OperationName::ImportKeyMaterial => Self::KEYSTORE_WITHOUT_IMPORT,
                _ => Self::KEYSTORE_UNSUPPORTED,
            },
            Error::ReplicaReadOnly => Self::REPLICA_READ_ONLY,
            Error::ReplicaExists => Self::NOT_REPLICATED,
            Error::QuotaExceeded(quota) => match quota.what {
                Counted::CustomKeys => Self::KEYS_TOO_MANY,
                Counted::GrantsOfKey => Self::KEY_GRANTS_TOO_MANY,
                Counted::GrantsToGrantee => Self::GRANTS_TOO_MANY,
                Counted::TagsOfKey => Self::TAGS_TOO_MANY,
                // DEW names no codes for these.
                Counted::AliasesOfKey | Counted::RegionsOfKey | Counted::VersionsOfKey => {
                    Self::PARAMETER_INVALID
                }
            },
            Error::NotOffered { .. } => Self::of_missing_feature(operation),
            // DEW names no codes for these.
            Error::KeystoreNotDisabled | Error::KeystoreNotEmpty | Error::ReplicasRemain => {
                Self::PARAMETER_INVALID
            }
            // DEW tells clients to repeat what ends with 500, not with 503.
            Error::AuditUnavailable(_)
            | Error::HsmUnavailable(_)
            | Error::StoreUnavailable(_)
            | Error::OutcomeUnknown { .. } => Self::SERVICE_IO,
            Error::RecordTampered { .. } => Self::SYSTEM_EXCEPTION,
            // The others but for the first two belong to operations and transports that DEW does not have.
            Error::Internal { .. }
            | Error::Contention
            | Error::CampaignNotFound
            | Error::CheckpointRefused(_)
            | Error::DryRun
            | Error::IdempotencyTokenReused
            | Error::IdentitiesInvalid { .. }
            | Error::ProfileInvalid { .. }
            | Error::RootStillNeeded { .. } => Self::SERVICE_ERROR,
        }
    }

    fn of_field(field: Field, operation: OperationName) -> Self {
        match field {
            Field::Body => Self::JSON_INVALID,
            Field::Key | Field::KeyId => Self::KEY_ID_INVALID,
            Field::Alias | Field::AliasList => Self::ALIAS_INVALID,
            Field::Description => Self::DESCRIPTION_INVALID,
            Field::KeySpec if operation == OperationName::CreateKey => Self::KEY_SPEC_INVALID,
            Field::KeySpec | Field::KeyPairSpec => Self::DATA_KEY_SPEC,
            Field::Length if operation == OperationName::GenerateRandom => Self::RANDOM_LENGTH,
            Field::Length => Self::DATA_KEY_LENGTH,
            Field::EncryptionContext | Field::AuthenticatedData => Self::CONTEXT_INVALID,
            Field::PendingDays => Self::PENDING_DAYS,
            Field::IntervalDays => Self::ROTATION_INTERVAL,
            Field::PageSize | Field::Limit => Self::LIMIT_INVALID,
            Field::PageToken => Self::MARKER_INVALID,
            Field::Offset => Self::OFFSET_INVALID,
            // A text of a length that no key encrypts has been refused before a key is looked at.
            Field::Plaintext if operation == OperationName::EncryptData => Self::PLAINTEXT_TOO_LONG_FOR_RSA,
            Field::Plaintext => Self::PLAINTEXT_INVALID,
            Field::CiphertextBlob => Self::CIPHERTEXT_INVALID,
            Field::Grantee | Field::RetiringPrincipal => Self::PRINCIPAL_INVALID,
            Field::GrantId => Self::GRANT_ID_INVALID,
            Field::GrantOperations => Self::GRANT_OPERATIONS,
            Field::ImportToken => Self::IMPORT_TOKEN_INVALID,
            Field::ExpiresAt => Self::MATERIAL_EXPIRY,
            // One that cannot be read has been refused before; that of a key that is no pair is told by the text.
            Field::WrappedPrivateKey => Self::PRIVATE_KEY_MISSING,
            Field::WrappedMaterial => Self::MATERIAL_UNREADABLE,
            Field::Tag => Self::TAG_KEY_INVALID,
            Field::Tags => Self::TAG_LIST_INVALID,
            _ => Self::PARAMETER_INVALID,
        }
    }

    /// DEW: §6: a token that is not taken is refused by KMS, a signature by the gateway.
    fn of_stranger(why: Unauthenticated) -> Self {
        match why {
            Unauthenticated::TokenUnknown => Self::TOKEN_INVALID,
            Unauthenticated::TokenExpired => Self::TOKEN_EXPIRED,
            Unauthenticated::UnknownProject => Self::PROJECT_MISMATCH,
            _ => Self::NOT_AUTHENTICATED,
        }
    }

    /// What a key is for that was to do something else.
    fn of_usage(usage: KeyUsage) -> Self {
        match usage {
            KeyUsage::EncryptDecrypt => Self::KEY_IS_TO_ENCRYPT,
            KeyUsage::SignVerify => Self::KEY_IS_TO_SIGN,
            KeyUsage::GenerateVerifyMac => Self::HMAC_UNSUPPORTED,
            // DEW names no code for a key pair that only agrees on secrets.
            KeyUsage::KeyAgreement => Self::ASYMMETRIC_UNSUPPORTED,
        }
    }

    /// Of what kind a key is that cannot do this: the most exact of the codes that are true.
    // DEW: §4, "wrong kind" and enable-key-rotation.
    fn of_kind(class: KeyClass, operation: OperationName) -> Self {
        use OperationName::{
            DecryptData, DisableKeyRotation, EnableKeyRotation, EncryptData, RotateKeyOnDemand, Sign,
            UpdateRotationInterval, Verify,
        };
        match (class, operation) {
            (KeyClass::Mac, _) => Self::HMAC_UNSUPPORTED,
            (KeyClass::Symmetric, Sign | Verify) => Self::SYMMETRIC_KEY_SIGNS_NOT,
            (KeyClass::Symmetric, _) => Self::SYMMETRIC_UNSUPPORTED,
            (KeyClass::EllipticCurve | KeyClass::Edwards, EncryptData | DecryptData) => {
                Self::CURVE_ENCRYPTS_NOT
            }
            (
                KeyClass::Rsa,
                EnableKeyRotation | DisableKeyRotation | UpdateRotationInterval | RotateKeyOnDemand,
            ) => Self::RSA_WITHOUT_ROTATION,
            (KeyClass::Rsa | KeyClass::EllipticCurve | KeyClass::Sm2 | KeyClass::Edwards, _) => {
                Self::ASYMMETRIC_UNSUPPORTED
            }
        }
    }

    /// Of what kind a key is that does this, but with other algorithms.
    fn of_algorithm(class: KeyClass, operation: OperationName) -> Self {
        match operation {
            OperationName::EncryptData | OperationName::DecryptData => match class {
                KeyClass::Symmetric => Self::SYMMETRIC_ENCRYPTION_ALGORITHM,
                KeyClass::Rsa => Self::RSA_ENCRYPTION_ALGORITHM,
                // DEW names no code for SM2. Keys of the others encrypt with no algorithm.
                KeyClass::Sm2 | KeyClass::EllipticCurve | KeyClass::Edwards | KeyClass::Mac => {
                    Self::PARAMETER_INVALID
                }
            },
            _ => Self::SIGNING_ALGORITHM,
        }
    }

    /// What the token lacks for an operation that is offered, or an operation that is not.
    fn of_missing_feature(operation: OperationName) -> Self {
        match operation {
            OperationName::Sign => Self::SIGNING_ALGORITHM,
            OperationName::CreateKey | OperationName::ImportKeyMaterial => Self::KEY_SPEC_INVALID,
            OperationName::GenerateDataKeyPair => Self::DATA_KEY_SPEC,
            _ => Self::API_NOT_FOUND,
        }
    }
}
