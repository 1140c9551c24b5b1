//! Every error has a code of DEW, and every code of DEW is raised by something or has a reason why not.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kms_core::{
    error::{CheckpointRefusal, Quota, Throttled, Window},
    key::KeySpec,
    operation::Action,
    ports::{AuditError, HsmError, StoreError},
};

use super::*;

/// The numbers that DEW documents, by the status of the answer.
// DEW: §6.
const DOCUMENTED: &[(u16, &[&str])] = &[
    (
        400,
        &[
            "0105", "0106", "0201", "0202", "0203", "0204", "0205", "0206", "0208", "0209", "0210", "0211",
            "0212", "0214", "0308", "0309", "0310", "0311", "0312", "0313", "0315", "0317", "0318", "0319",
            "0320", "0323", "0324", "0325", "0327", "0329", "0331", "0332", "0334", "0335", "0338", "0339",
            "0340", "0341", "0401", "0402", "0403", "0404", "0405", "0406", "0407", "0408", "0409", "0410",
            "0411", "0412", "0413", "0414", "0415", "0417", "0418", "1101", "1102", "1103", "1104", "1105",
            "1108", "1109", "1110", "1114", "1115", "1201", "1301", "1401", "1402", "1404", "1501", "1601",
            "1602", "1603", "1801", "1802", "1901", "1902", "1903", "1904", "2001", "2101", "2102", "2103",
            "2104", "2105", "2106", "2108", "2201", "2202", "2203", "2204", "2301", "2302", "2303", "2304",
            "2305", "2401", "2402", "2403", "2404", "2405", "2406", "2501", "2502", "2601", "2602", "2603",
            "2604", "2605", "2606", "2608", "2609", "2610", "2701", "2702", "2801", "2901", "3001", "3103",
            "3201", "3202", "3702", "3801", "3802", "3803", "3804", "3902", "3903", "4001", "4002", "5022",
            "5023",
        ],
    ),
    (
        403,
        &[
            "0301", "0302", "0303", "0304", "0305", "0306", "0307", "0314", "0321", "0322", "0326", "0328",
            "0330",
        ],
    ),
    (404, &["0207", "0316", "0416", "3901"]),
    (405, &["0215"]),
    (500, &["0100", "0101", "0102", "0103", "3805", "3806", "5012", "5021"]),
    (503, &["0104"]),
];

/// What this service never answers, and why. Whatever is neither here nor raised has been forgotten.
const NEVER: &[(&str, &[&str])] = &[
    (
        "no part of this service can fail so, or it is told as KMS.0101 to KMS.0103",
        &["0100", "0104", "0105", "3202", "3702"],
    ),
    (
        "no restricted trial, real name, bill or freeze: nothing costs anything here",
        &["0304", "0314", "0320", "0328", "3201"],
    ),
    (
        "a project that is not the caller's is KMS.0321, a missing permission KMS.0306 or KMS.0307",
        &["0305", "0322", "0326", "0327", "0330", "3103"],
    ),
    (
        "partitions are keystores here: unknown ones are KMS.8003, and every key has its own",
        &["0315", "0316", "0319", "0323", "1108", "1109", "2406"],
    ),
    (
        "tags: KMS.0405, KMS.0406, KMS.0407, KMS.0409, KMS.0412 and KMS.0212 are answered",
        &["0408", "0413", "0414"],
    ),
    ("the region is that of the project, and no field", &["1102"]),
    ("no such limit: older forms of calls that take 8 to 8192 bits here", &["1904", "2001"]),
    ("one error for all that does not open: KMS.2201, and KMS.0311 for imports", &["2203", "2604", "2610"]),
    ("quotas are changed by the operator, in the profile", &["2301", "2302", "2303", "2304", "2305"]),
    ("a grant that cannot be made is refused with its reason", &["2403"]),
    ("no call asks for a span of time", &["2801"]),
    (
        "what only the primary may is KMS.0106 at a replica; what cannot be replicated is KMS.3801",
        &["1404", "3802", "3803"],
    ),
    ("no enclaves", &["3804", "3805", "3806"]),
    ("no jobs, transactions, or notices between services", &["3901", "3902", "3903", "4001", "4002"]),
    ("permissions are decided in the service itself", &["5012", "5021", "5022", "5023"]),
];

/// What is raised besides: documented elsewhere, or by the gateway in front of KMS.
// DEW: §2, keystores; §6, gateway codes.
const OTHERS: [&str; 4] = ["KMS.8003", "APIGW.0101", "APIGW.0301", "APIGW.0308"];

/// What is no error of the domain: who reads the request finds it, before there is an operation, or beside it. That each
/// is really answered is seen on a real server.
const OF_REQUESTS: &[Code] = &[
    Code::SEQUENCE_INVALID,
    Code::BODY_TOO_LONG,
    Code::PARAMETER_MISSING,
    Code::RESOURCE_TYPE_INVALID,
    Code::FORMAT_INVALID,
    Code::METHOD_NOT_SUPPORTED,
    Code::TOKEN_NULL,
    Code::DIGEST_LENGTH,
    Code::TAGS_EMPTY,
    Code::MATCH_VALUE_INVALID,
    Code::MATCH_KEY_INVALID,
    Code::MATCHES_INVALID,
    Code::TAG_ACTION_INVALID,
    Code::TAG_VALUE_INVALID,
    Code::TAG_LIST_TOO_LONG,
    Code::TAG_VALUE_TOO_LONG,
    Code::TAG_KEY_TOO_LONG,
    Code::TAG_OFFSET_INVALID,
    Code::TAG_OFFSET_NOT_REQUIRED,
    Code::RANDOM_LENGTH_NOT_IN_BYTES,
    Code::DATA_KEY_LENGTH_NOT_IN_BYTES,
    Code::PLAINTEXT_LENGTH,
    Code::PLAINTEXT_LENGTH_MISMATCH,
    Code::CIPHERTEXT_LENGTH,
    Code::CIPHERTEXT_LENGTH_MISMATCH,
    Code::PRIVATE_KEY_INVALID,
];

/// Why a role may not make a call, and why a user may not use a key.
const OF_CALL: [Denial; 2] = [Denial::NothingAllows, Denial::PolicyDenies];
const OF_KEY: [Denial; 4] =
    [Denial::KeyNotAllowed, Denial::PolicyDeniesKey, Denial::NotGranted, Denial::GrantExceeded];

/// Fields that DEW has codes for, and one of those that it has none for.
const FIELDS: [Field; 31] = [
    Field::Alias,
    Field::AliasList,
    Field::AuthenticatedData,
    Field::Body,
    Field::CiphertextBlob,
    Field::Description,
    Field::EncryptionContext,
    Field::ExpiresAt,
    Field::GrantId,
    Field::GrantOperations,
    Field::Grantee,
    Field::ImportToken,
    Field::IntervalDays,
    Field::Key,
    Field::KeyId,
    Field::KeyPairSpec,
    Field::KeySpec,
    Field::Length,
    Field::Limit,
    Field::Offset,
    Field::PageSize,
    Field::PageToken,
    Field::PendingDays,
    Field::Plaintext,
    Field::PublicKey,
    Field::RetiringPrincipal,
    Field::State,
    Field::Tag,
    Field::Tags,
    Field::WrappedMaterial,
    Field::WrappedPrivateKey,
];

/// One of every kind of error, and of what its code depends on. A new kind does not compile until [`Code::of`] has it.
fn errors() -> Vec<Error> {
    let throttled = Throttled {
        subject: "global".to_owned(),
        group: Arc::from("life-cycle"),
        limit: 1,
        window: Window::Second,
        retry_after: Duration::ZERO,
    };
    let denials = OF_CALL.into_iter().chain(OF_KEY);
    let strangers = [
        Unauthenticated::NoCertificate,
        Unauthenticated::SignatureMismatch,
        Unauthenticated::TokenUnknown,
        Unauthenticated::TokenExpired,
        Unauthenticated::UnknownProject,
    ];
    let detail = || "of a test".to_owned();
    let mut errors = vec![
        Error::Throttled(throttled),
        Error::IdentitiesInvalid { problem: detail() },
        Error::ProfileInvalid { problem: detail() },
        Error::CheckpointRefused(CheckpointRefusal::Inconsistent),
        Error::RootStillNeeded { generation: 1 },
        Error::NotOffered { feature: "a test" },
        Error::OutcomeUnknown { detail: detail() },
        Error::AuditUnavailable(AuditError { detail: detail() }),
        Error::HsmUnavailable(HsmError::Busy),
        Error::StoreUnavailable(StoreError::TooLarge { detail: detail() }),
        Error::RecordTampered { detail: detail() },
        Error::Internal { detail: "of a test" },
    ];
    errors.extend(FIELDS.map(|field| Error::invalid(field, "of a test")));
    errors.extend(denials.map(|denial| Error::PermissionDenied { missing: Action::ALL[0], denial }));
    errors.extend(Counted::ALL.map(|what| Error::QuotaExceeded(Quota { what, limit: 1, used: 1 })));
    errors.extend(strangers.map(Error::Unauthenticated));
    errors.extend(KeyUsage::ALL.map(Error::KeyUsageMismatch));
    let classes = KeySpec::ALL.map(KeySpec::class);
    errors.extend(classes.map(Error::KeyKindUnsupported));
    errors.extend(classes.map(Error::AlgorithmMismatch));
    errors.extend(plain());
    errors
}

/// Those without anything to tell.
fn plain() -> [Error; 41] {
    [
        Error::DataKeyDigestMismatch,
        Error::CannotDecrypt,
        Error::KeyNotFound,
        Error::DryRun,
        Error::KeyDisabled,
        Error::KeyPendingDeletion,
        Error::KeyPendingImport,
        Error::KeyNotDisabled,
        Error::KeyNotEnabled,
        Error::KeyAlreadyPendingDeletion,
        Error::KeyNotPendingDeletion,
        Error::DefaultKeyImmutable,
        Error::KeyNotPendingImport,
        Error::RotationNotEnabled,
        Error::RotationAlreadyEnabled,
        Error::ExternalKeyRequired,
        Error::ExternalKeyUnsupported,
        Error::ImportTokenExpired,
        Error::ImportTokenInvalid,
        Error::ImportTokenMismatch,
        Error::MaterialMismatch,
        Error::MaterialInvalid,
        Error::MaterialNotDeletable,
        Error::GrantNotFound,
        Error::GrantMismatch,
        Error::AliasNotFound,
        Error::CampaignNotFound,
        Error::TagNotFound,
        Error::VersionNotFound,
        Error::KeystoreNotFound,
        Error::KeystoreDisabled,
        Error::KeystoreNotDisabled,
        Error::KeystoreNotEmpty,
        Error::KeystoreExists,
        Error::KeystoreUnsupported,
        Error::ReplicaReadOnly,
        Error::ReplicaExists,
        Error::ReplicasRemain,
        Error::AliasExists,
        Error::IdempotencyTokenReused,
        Error::Contention,
    ]
}

fn numbers(codes: &[Code]) -> BTreeSet<&'static str> {
    let numbers: BTreeSet<_> = codes.iter().map(|code| code.number).collect();
    assert_eq!(numbers.len(), codes.len(), "a code is there twice");
    numbers
}

#[test]
fn every_code_is_raised_by_an_error_or_by_who_reads_the_request() {
    let mut answered = BTreeSet::new();
    for error in errors() {
        answered.extend(OperationName::ALL.iter().map(|operation| Code::of(&error, *operation).number));
    }
    let of_requests = numbers(OF_REQUESTS);
    assert_eq!(answered.intersection(&of_requests).collect::<Vec<_>>(), Vec::<&&str>::new());
    answered.extend(of_requests);
    assert_eq!(answered, numbers(Code::RAISED));
}

#[test]
fn every_code_of_dew_is_raised_or_has_a_reason_why_not() {
    let documented: Vec<_> = DOCUMENTED.iter().flat_map(|(_, numbers)| numbers.iter().copied()).collect();
    let never: Vec<_> = NEVER.iter().flat_map(|(_, numbers)| numbers.iter().copied()).collect();
    let raised = numbers(Code::RAISED).into_iter().filter(|number| !OTHERS.contains(number));
    let raised: Vec<_> = raised.map(|number| number.strip_prefix("KMS.").expect("KMS's own")).collect();
    let mut told: Vec<_> = raised.iter().chain(&never).copied().collect();
    told.sort_unstable();
    let mut expected = documented;
    expected.sort_unstable();
    assert_eq!((told, expected.len()), (expected.clone(), 160));
}

#[test]
fn codes_come_with_the_statuses_that_dew_documents() {
    for code in Code::RAISED {
        let documented = DOCUMENTED
            .iter()
            .find(|(_, numbers)| numbers.iter().any(|number| code.number == format!("KMS.{number}")));
        match documented {
            Some((status, _)) => assert_eq!(code.status, *status, "{code:?}"),
            None => assert!(OTHERS.contains(&code.number), "{code:?}"),
        }
    }
}

#[test]
fn an_imported_key_is_not_replicated_as_it_is_not_rotated() {
    let code = |operation| Code::of(&Error::ExternalKeyUnsupported, operation).number;
    assert_eq!(code(OperationName::ReplicateKey), "KMS.3801");
    assert_eq!(code(OperationName::RotateKeyOnDemand), "KMS.0312");
}

/// Operations on a key that need others than those of some kind.
const ROTATION: [OperationName; 4] = [
    OperationName::EnableKeyRotation,
    OperationName::DisableKeyRotation,
    OperationName::UpdateRotationInterval,
    OperationName::RotateKeyOnDemand,
];
const DATA_KEYS: [OperationName; 6] = [
    OperationName::GenerateDataKey,
    OperationName::GenerateDataKeyWithoutPlaintext,
    OperationName::GenerateDataKeyPair,
    OperationName::EncryptDataKey,
    OperationName::DecryptDataKey,
    OperationName::ReEncrypt,
];
const SMALL_DATA: [OperationName; 2] = [OperationName::EncryptData, OperationName::DecryptData];
const SIGNATURES: [OperationName; 2] = [OperationName::Sign, OperationName::Verify];
const MACS: [OperationName; 2] = [OperationName::GenerateMac, OperationName::VerifyMac];
const AGREEMENT: [OperationName; 1] = [OperationName::DeriveSharedSecret];
const PUBLIC_KEY: [OperationName; 1] = [OperationName::GetPublicKey];
const PAIRS: [KeyClass; 4] = [KeyClass::Rsa, KeyClass::EllipticCurve, KeyClass::Sm2, KeyClass::Edwards];

/// That the error is called so, whichever of these operations it ends.
fn assert_called(error: &Error, operations: &[OperationName], number: &str) {
    for operation in operations {
        assert_eq!(Code::of(error, *operation).number, number, "{error:?}, {operation:?}");
    }
}

#[test]
fn a_key_of_the_wrong_kind_is_called_what_it_is() {
    let refused = |class, operations: &[OperationName], number| {
        assert_called(&Error::KeyKindUnsupported(class), operations, number);
    };
    for operations in [&ROTATION[..], &DATA_KEYS, &SMALL_DATA, &SIGNATURES, &AGREEMENT, &PUBLIC_KEY] {
        refused(KeyClass::Mac, operations, "KMS.0341");
    }
    refused(KeyClass::Symmetric, &SIGNATURES, "KMS.1115");
    for operations in [&MACS[..], &AGREEMENT, &PUBLIC_KEY] {
        refused(KeyClass::Symmetric, operations, "KMS.0331");
    }
    for class in PAIRS {
        let rotated = if class == KeyClass::Rsa { "KMS.0324" } else { "KMS.0325" };
        refused(class, &ROTATION, rotated);
        refused(class, &DATA_KEYS, "KMS.0325");
        refused(class, &MACS, "KMS.0325");
        refused(class, &AGREEMENT, "KMS.0325");
    }
    refused(KeyClass::EllipticCurve, &SMALL_DATA, "KMS.1114");
    refused(KeyClass::Edwards, &SMALL_DATA, "KMS.1114");
}

#[test]
fn a_key_of_another_usage_is_called_by_what_it_is_for() {
    for operations in [&SMALL_DATA[..], &SIGNATURES, &AGREEMENT] {
        for (usage, number) in [
            (KeyUsage::EncryptDecrypt, "KMS.0334"),
            (KeyUsage::SignVerify, "KMS.0335"),
            (KeyUsage::GenerateVerifyMac, "KMS.0341"),
            (KeyUsage::KeyAgreement, "KMS.0325"),
        ] {
            assert_called(&Error::KeyUsageMismatch(usage), operations, number);
        }
    }
}

#[test]
fn an_algorithm_of_other_keys_is_called_by_the_kind_of_the_key() {
    for (class, number) in
        [(KeyClass::Symmetric, "KMS.2105"), (KeyClass::Rsa, "KMS.2106"), (KeyClass::Sm2, "KMS.0308")]
    {
        assert_called(&Error::AlgorithmMismatch(class), &SMALL_DATA, number);
    }
    for class in PAIRS {
        assert_called(&Error::AlgorithmMismatch(class), &SIGNATURES, "KMS.0332");
    }
    assert_called(&Error::AlgorithmMismatch(KeyClass::Mac), &MACS, "KMS.0332");
}

#[test]
fn a_key_that_a_user_may_not_use_is_told_from_a_call_that_its_role_may_not_make() {
    let denied = |denial| Error::PermissionDenied { missing: Action::ALL[0], denial };
    for denial in OF_CALL {
        assert_called(&denied(denial), OperationName::ALL, "KMS.0307");
    }
    for denial in OF_KEY {
        assert_called(&denied(denial), OperationName::ALL, "KMS.0306");
    }
}

#[test]
fn what_the_token_lacks_is_no_missing_operation() {
    let lacking = Error::NotOffered { feature: "a test" };
    assert_called(&lacking, &[OperationName::Sign], "KMS.0332");
    assert_called(&lacking, &[OperationName::CreateKey, OperationName::ImportKeyMaterial], "KMS.1110");
    assert_called(&lacking, &[OperationName::GenerateDataKeyPair], "KMS.1902");
    assert_called(&lacking, &[OperationName::CreateKeyPolicy, OperationName::CreatePin], "APIGW.0101");
}

#[test]
fn every_quota_has_its_own_code_or_a_general_one() {
    let numbers = Counted::ALL.map(|what| {
        let error = Error::QuotaExceeded(Quota { what, limit: 1, used: 1 });
        Code::of(&error, OperationName::CreateKey).number
    });
    let expected = ["KMS.1105", "KMS.2404", "KMS.2405", "KMS.0409", "KMS.0308", "KMS.0308", "KMS.0308"];
    assert_eq!(numbers, expected);
}
