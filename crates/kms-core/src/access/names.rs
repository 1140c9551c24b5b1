//! The names of actions that policies speak of, old and new, and the operations that each stands for.

use super::{Operations, Pattern};
use crate::operation::{Action, OperationName};

/// The newer, finer names. Those that are spelt as an older one are not here: the older one stands.
// DEW: §9, newer actions. Each stands for what it is documented for; for several data keys in one call, too, because
// that is the same call several times, and for bucket keys, which stand for as many data keys as are derived from them: a
// deny that left those out would be none.
const FINE_NAMES: &[(&str, &[OperationName])] = &[
    (
        "kms:cmk:createDataKey",
        &[OperationName::GenerateDataKey, OperationName::GenerateDataKeys, OperationName::GenerateBucketKey],
    ),
    ("kms:cmk:createDataKeyWithoutPlaintext", &[OperationName::GenerateDataKeyWithoutPlaintext]),
    ("kms:cmk:encryptDataKey", &[OperationName::EncryptDataKey]),
    ("kms:cmk:decryptDataKey", &[OperationName::DecryptDataKey, OperationName::DecryptBucketKey]),
    ("kms:cmk:encryptData", &[OperationName::EncryptData]),
    ("kms:cmk:decryptData", &[OperationName::DecryptData]),
    ("kms:cmk:retireGrant", &[OperationName::RetireGrant]),
    ("kms:cmk:getTags", &[OperationName::ListTags]),
    ("kms::generateRandom", &[OperationName::GenerateRandom]),
];

/// All names of actions, old and new, each with what it stands for.
pub fn action_names() -> impl Iterator<Item = (&'static str, Operations)> {
    let old = Action::ALL.iter().map(|action| (action.name(), Operations::of(*action)));
    let fine = FINE_NAMES.iter().map(|(name, operations)| (*name, operations.iter().copied().collect()));
    old.chain(fine)
}

/// What a name in a policy stands for; it may hold `*`. `None`: no name fits.
pub(super) fn operations_of(name: &str) -> Option<Operations> {
    let pattern = Pattern::new(name);
    let fitting = action_names().filter(|(known, _)| pattern.matches(known));
    fitting.map(|(_, operations)| operations).reduce(Operations::union)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use OperationName as O;

    use super::*;

    fn of(name: &str) -> Operations {
        operations_of(name).unwrap_or_else(|| panic!("{name} is no name"))
    }

    #[test]
    fn no_name_stands_twice_or_for_nothing_or_for_what_is_the_operators() {
        let mut seen = HashSet::new();
        for (name, operations) in action_names() {
            assert!(seen.insert(name), "{name} stands twice");
            assert!(!operations.is_empty(), "{name}");
            assert!(operations.without(Operations::OF_USERS).is_empty(), "{name}");
        }
    }

    #[test]
    fn an_old_name_stands_for_all_operations_that_need_it() {
        for action in Action::ALL {
            assert_eq!(of(action.name()), Operations::of(*action), "{action:?}");
        }
        assert!(of("kms:dek:create").contains(O::GenerateDataKeyWithoutPlaintext));
        assert!(of("kms:cmk:update").contains(O::ScheduleKeyDeletion));
    }

    #[test]
    fn a_fine_name_stands_for_no_more_than_it_says() {
        for (name, operations) in [
            ("kms:cmk:createDataKey", &[O::GenerateDataKey, O::GenerateDataKeys, O::GenerateBucketKey][..]),
            ("kms:cmk:decryptDataKey", &[O::DecryptDataKey, O::DecryptBucketKey]),
            ("kms:cmk:decryptData", &[O::DecryptData]),
            ("kms:cmk:retireGrant", &[O::RetireGrant]),
            ("kms:cmk:getTags", &[O::ListTags]),
            ("kms::generateRandom", &[O::GenerateRandom]),
        ] {
            assert_eq!(of(name), operations.iter().copied().collect(), "{name}");
        }
    }

    #[test]
    fn wildcards_stand_for_all_names_that_fit() {
        let log = Operations::of(Action::AuditRead);
        assert_eq!((of("*"), of("dewpoint:*")), (Operations::OF_USERS, log));
        for everything in ["kms:*", "kms:*:*", "k*"] {
            assert_eq!(of(everything), Operations::OF_USERS.without(log), "{everything}");
        }
        let reads = of("kms:*:get*");
        for read in [O::DescribeKey, O::GetRotationStatus, O::CountKeys, O::GetPublicKey, O::ListTags] {
            assert!(reads.contains(read), "{read:?}");
        }
        assert!(!reads.contains(O::ListKeys) && !reads.contains(O::ListProjectTags));
        // What only a new name calls an action on keys is one, too.
        assert!(of("kms:cmk:*").contains(O::DecryptDataKey) && !of("kms:cmk:*").contains(O::Rewrap));
        assert_eq!(of("kms:dek:c*e"), of("kms:dek:create"));
    }

    #[test]
    fn what_is_no_name_stands_for_nothing() {
        for name in
            ["", "kms", "kms:cmk", "kms:cmk:Get", "KMS:*", "kms:dek:krypto", "kms:cmk:get ", "obs:*", "?"]
        {
            assert_eq!(operations_of(name), None, "{name}");
        }
        for name in ["dewpoint:root:manage", "dewpoint:root:*", "*:root:*", "*manage"] {
            assert_eq!(operations_of(name), None, "{name}");
        }
    }
}
