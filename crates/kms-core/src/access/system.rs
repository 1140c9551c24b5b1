//! The policies that come built in.

use std::sync::{Arc, LazyLock};

use super::{Operations, Policy, names};

// DEW: §9, roles and system policies. What each holds in detail is not documented.
const SYSTEM: &[(&str, &[&str])] = &[
    ("KMS Administrator", &["kms:*", "dewpoint:audit:read"]),
    ("KMS CMKFullAccess", &["kms:cmk:*", "kms:dek:*", "kms:grant:*", "kms:cmkTag:*", "kms:alias:*"]),
    (
        "KMS CMKReadOnlyAccess",
        &[
            "kms:cmk:get",
            "kms:cmk:list",
            "kms:cmk:getPublicKey",
            "kms:cmk:getRotation",
            "kms:cmk:getQuota",
            "kms:cmk:getInstance",
            "kms:cmkTag:list*",
            "kms:alias:list",
            "kms:grant:list",
        ],
    ),
];

/// All of them.
pub(super) fn policies() -> &'static [Arc<Policy>] {
    static POLICIES: LazyLock<Vec<Arc<Policy>>> = LazyLock::new(|| {
        let policies = SYSTEM.iter().map(|(name, actions)| {
            let operations = actions.iter().filter_map(|action| names::operations_of(action));
            Arc::new(Policy::allowing(name, operations.fold(Operations::NONE, Operations::union)))
        });
        policies.collect()
    });
    &POLICIES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Policies,
        operation::{Action, OperationClass, OperationName},
    };

    fn could(name: &str, operation: OperationName) -> bool {
        Policies::new(Policies::system(name)).could_allow(operation)
    }

    #[test]
    fn every_name_in_them_is_one() {
        for (policy, actions) in SYSTEM {
            for action in *actions {
                assert!(names::operations_of(action).is_some(), "{policy}: {action}");
            }
        }
        assert!(Policies::system("KMS administrator").is_none());
    }

    #[test]
    fn the_administrator_may_do_everything_and_full_access_everything_but_keystores_and_the_log() {
        for operation in Operations::OF_USERS.iter() {
            assert!(could("KMS Administrator", operation), "{operation:?}");
            let action = operation.info().action;
            let beside_keys = action.name().starts_with("kms:keystore:") || action == Action::AuditRead;
            assert_eq!(could("KMS CMKFullAccess", operation), !beside_keys, "{operation:?}");
        }
        for operation in Operations::of(Action::RootManage).iter() {
            assert!(SYSTEM.iter().all(|(name, _)| !could(name, operation)), "{operation:?}");
        }
    }

    #[test]
    fn read_only_access_reads_all_there_is_of_keys() {
        let others = [Action::KeystoreGet, Action::KeystoreList, Action::CmkGetMaterial];
        for operation in Operations::OF_USERS.iter() {
            let (class, action) = (operation.info().class, operation.info().action);
            let reads = could("KMS CMKReadOnlyAccess", operation);
            assert!(!reads || class == OperationClass::Read, "{operation:?} is no read");
            let named_so = action.name().contains(":get") || action.name().contains(":list");
            assert_eq!(reads, named_so && !others.contains(&action), "{operation:?}");
        }
    }
}
