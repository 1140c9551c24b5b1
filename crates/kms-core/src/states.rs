//! The state machine of keys, as data: what each operation does to a key in each state.
//!
//! An operation that works with one key asks this table and nothing else whether the key's state allows it.

use KeyState::{Disabled, Enabled, PendingDeletion, PendingImport};
use OperationName as O;

use crate::{error::Error, key::KeyState, operation::OperationName};

/// What an operation does to a key in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is done; the state stays.
    Stays,
    /// It is done; the key is in this state then.
    Becomes(KeyState),
    /// It is done; the key is destroyed then, and exists no more.
    Ends,
    /// It is refused.
    Refused(Refusal),
}

/// Why a state refuses an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the error of the same name")]
pub enum Refusal {
    KeyDisabled,
    KeyPendingDeletion,
    KeyPendingImport,
    KeyNotDisabled,
    KeyNotEnabled,
    KeyAlreadyPendingDeletion,
    KeyNotPendingDeletion,
    KeyNotPendingImport,
}

impl Refusal {
    /// The error that a caller gets.
    pub const fn error(self) -> Error {
        match self {
            Self::KeyDisabled => Error::KeyDisabled,
            Self::KeyPendingDeletion => Error::KeyPendingDeletion,
            Self::KeyPendingImport => Error::KeyPendingImport,
            Self::KeyNotDisabled => Error::KeyNotDisabled,
            Self::KeyNotEnabled => Error::KeyNotEnabled,
            Self::KeyAlreadyPendingDeletion => Error::KeyAlreadyPendingDeletion,
            Self::KeyNotPendingDeletion => Error::KeyNotPendingDeletion,
            Self::KeyNotPendingImport => Error::KeyNotPendingImport,
        }
    }
}

/// The states, in the order of the table's columns.
pub const STATES: [KeyState; 4] = [Enabled, Disabled, PendingDeletion, PendingImport];

/// One effect for each of [`STATES`].
pub type Row = [Effect; 4];

const STAYS: Effect = Effect::Stays;
const fn to(state: KeyState) -> Effect {
    Effect::Becomes(state)
}
const fn no(refusal: Refusal) -> Effect {
    Effect::Refused(refusal)
}

/// The table: what operations do to a key in each of [`STATES`]. Operations that work with no key, or with many,
/// are not in it.
// DEW: §4, key state machine.
const TABLE: &[(Row, &[OperationName])] = &[
    (
        [no(Refusal::KeyNotDisabled), to(Enabled), no(Refusal::KeyNotDisabled), no(Refusal::KeyNotDisabled)],
        &[O::EnableKey],
    ),
    (
        [to(Disabled), no(Refusal::KeyNotEnabled), no(Refusal::KeyNotEnabled), no(Refusal::KeyNotEnabled)],
        &[O::DisableKey],
    ),
    (
        [
            to(PendingDeletion),
            to(PendingDeletion),
            no(Refusal::KeyAlreadyPendingDeletion),
            to(PendingDeletion),
        ],
        &[O::ScheduleKeyDeletion],
    ),
    // A key without material goes back to PendingImport: the operation sees to that.
    (
        [
            no(Refusal::KeyNotPendingDeletion),
            no(Refusal::KeyNotPendingDeletion),
            to(Disabled),
            no(Refusal::KeyNotPendingDeletion),
        ],
        &[O::CancelKeyDeletion],
    ),
    (
        [
            no(Refusal::KeyNotPendingImport),
            no(Refusal::KeyNotPendingImport),
            no(Refusal::KeyNotPendingImport),
            to(Enabled),
        ],
        &[O::ImportKeyMaterial],
    ),
    (
        [
            no(Refusal::KeyNotPendingImport),
            no(Refusal::KeyNotPendingImport),
            no(Refusal::KeyNotPendingImport),
            STAYS,
        ],
        &[O::GetParametersForImport],
    ),
    (
        [
            to(PendingImport),
            to(PendingImport),
            no(Refusal::KeyPendingDeletion),
            no(Refusal::KeyPendingImport),
        ],
        &[O::DeleteImportedKeyMaterial],
    ),
    // A key that waits for its deletion loses its material, too, and goes on waiting.
    ([to(PendingImport), to(PendingImport), STAYS, STAYS], &[O::ExpireKeyMaterial]),
    // Nothing is done to a key whose deletion is not due.
    ([STAYS, STAYS, Effect::Ends, STAYS], &[O::DestroyKey]),
    // Naming, describing, tagging: not while it waits for its deletion.
    (
        [STAYS, STAYS, no(Refusal::KeyPendingDeletion), STAYS],
        &[
            O::UpdateKeyAlias,
            O::UpdateKeyDescription,
            O::CreateAlias,
            O::AssociateAlias,
            O::CreateTag,
            O::BatchCreateTags,
            O::BatchDeleteTags,
        ],
    ),
    // Reading about the key, and taking away from it: always.
    (
        [STAYS, STAYS, STAYS, STAYS],
        &[
            O::DescribeKey,
            O::DescribeKeyUsage,
            O::DeleteAlias,
            O::DeleteTag,
            O::ListTags,
            O::ListGrants,
            O::RetireGrant,
            O::RevokeGrant,
            O::GetRotationStatus,
            O::ListCampaigns,
            O::RewrapKey,
        ],
    ),
    // A key that never had material has no version that anything could be moved under.
    ([STAYS, STAYS, STAYS, no(Refusal::KeyPendingImport)], &[O::GetCampaign]),
    // Use of the material, and what only makes sense for keys in use: while enabled. DEW: KMS.0209, KMS.0210.
    (
        [STAYS, no(Refusal::KeyDisabled), no(Refusal::KeyPendingDeletion), no(Refusal::KeyPendingImport)],
        &[
            O::RotateKey,
            O::RotateKeyOnDemand,
            O::StartCampaign,
            O::EnableKeyRotation,
            O::DisableKeyRotation,
            O::UpdateRotationInterval,
            O::CreateGrant,
            O::ReplicateKey,
            O::UpdatePrimaryRegion,
            O::ReserveKeyUses,
            O::GenerateDataKey,
            O::GenerateDataKeyWithoutPlaintext,
            O::GenerateDataKeys,
            O::GenerateDataKeyPair,
            O::GenerateBucketKey,
            O::DecryptBucketKey,
            O::EncryptDataKey,
            O::DecryptDataKey,
            O::ReEncrypt,
            O::Rewrap,
            O::EncryptData,
            O::DecryptData,
            O::Sign,
            O::Verify,
            O::GetPublicKey,
            O::GenerateMac,
            O::VerifyMac,
            O::DeriveSharedSecret,
        ],
    ),
];

/// What `operation` does to a key in each of [`STATES`]; `None`: it works with no key, or with many.
pub fn row(operation: OperationName) -> Option<&'static Row> {
    TABLE.iter().find(|(_, operations)| operations.contains(&operation)).map(|(row, _)| row)
}

/// What `operation` does to a key in this state.
pub fn effect(operation: OperationName, state: KeyState) -> Option<Effect> {
    let column = match state {
        Enabled => 0,
        Disabled => 1,
        PendingDeletion => 2,
        PendingImport => 3,
    };
    row(operation).map(|row| row[column])
}

/// The state that a key in `state` is in after `operation`, or why it is refused. A tombstone keeps the last state.
pub fn after(operation: OperationName, state: KeyState) -> Result<KeyState, Error> {
    match effect(operation, state) {
        Some(Effect::Stays | Effect::Ends) => Ok(state),
        Some(Effect::Becomes(next)) => Ok(next),
        Some(Effect::Refused(refusal)) => Err(refusal.error()),
        None => Err(Error::Internal { detail: "the state table does not know this operation" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DEW: §4, key state machine, written down by hand once more.
    #[test]
    fn every_step_of_a_life_from_every_state() {
        let e = || Ok(Enabled);
        let (d, p, i) = (Ok(Disabled), Ok(PendingDeletion), Ok(PendingImport));
        let table: [(OperationName, [Result<KeyState, &str>; 4]); 8] = [
            (O::EnableKey, [Err("KEY_NOT_DISABLED"), e(), Err("KEY_NOT_DISABLED"), Err("KEY_NOT_DISABLED")]),
            (O::DisableKey, [d, Err("KEY_NOT_ENABLED"), Err("KEY_NOT_ENABLED"), Err("KEY_NOT_ENABLED")]),
            (O::ScheduleKeyDeletion, [p, p, Err("KEY_ALREADY_PENDING_DELETION"), p]),
            (
                O::CancelKeyDeletion,
                [
                    Err("KEY_NOT_PENDING_DELETION"),
                    Err("KEY_NOT_PENDING_DELETION"),
                    d,
                    Err("KEY_NOT_PENDING_DELETION"),
                ],
            ),
            (O::UpdateKeyAlias, [e(), d, Err("KEY_PENDING_DELETION"), i]),
            (O::UpdateKeyDescription, [e(), d, Err("KEY_PENDING_DELETION"), i]),
            (O::ExpireKeyMaterial, [i, i, p, i]),
            (
                O::GenerateDataKey,
                [e(), Err("KEY_DISABLED"), Err("KEY_PENDING_DELETION"), Err("KEY_PENDING_IMPORT")],
            ),
        ];
        for (operation, expected) in table {
            for (state, expected) in STATES.into_iter().zip(expected) {
                let actual = after(operation, state).map_err(|error| error.code());
                assert_eq!(actual, expected, "{operation:?} of {state:?}");
            }
        }
    }

    #[test]
    fn an_operation_has_one_row_at_most() {
        for operation in OperationName::ALL {
            let rows = TABLE.iter().filter(|(_, operations)| operations.contains(operation)).count();
            assert!(rows <= 1, "{operation:?}");
            assert_eq!(rows == 1, row(*operation).is_some(), "{operation:?}");
        }
        let listed: usize = TABLE.iter().map(|(_, operations)| operations.len()).sum();
        let known = OperationName::ALL.iter().filter(|operation| row(**operation).is_some()).count();
        assert_eq!(listed, known, "an operation stands twice in a row");
    }

    #[test]
    fn a_destroyed_key_is_out_of_the_table_and_only_one_operation_leads_there() {
        for operation in OperationName::ALL {
            for state in STATES {
                let ends = effect(*operation, state) == Some(Effect::Ends);
                assert_eq!(ends, (*operation, state) == (O::DestroyKey, PendingDeletion));
            }
        }
    }
}
