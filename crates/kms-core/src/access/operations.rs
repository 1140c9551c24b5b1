//! Sets of operations: what the names of actions, statements and grants come down to.

use std::fmt;

use crate::{
    grant::GrantOperation,
    operation::{Action, OperationName},
};

/// A set of operations.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Operations(u128);

const _: () =
    assert!(OperationName::ALL.len() <= u128::BITS as usize, "a set has one bit for each operation");

impl Operations {
    /// No operation.
    pub const NONE: Self = Self(0);

    /// All that some user can be allowed: everything but what is the operators' and the service's own, and what needs
    /// no permission.
    pub const OF_USERS: Self = {
        let (mut set, mut index) = (0, 0);
        while index < OperationName::ALL.len() {
            let operation = OperationName::ALL[index];
            if !matches!(operation.info().action, Action::RootManage | Action::Anyone) {
                set |= 1 << operation as u32;
            }
            index += 1;
        }
        Self(set)
    };

    /// All that some grant can allow.
    pub const OF_GRANTS: Self = {
        let (mut set, mut granted) = (0, 0);
        while granted < GrantOperation::ALL.len() {
            let operations = GrantOperation::ALL[granted].operations();
            let mut index = 0;
            while index < operations.len() {
                set |= 1 << operations[index] as u32;
                index += 1;
            }
            granted += 1;
        }
        Self(set)
    };

    /// Those that need this action.
    pub fn of(action: Action) -> Self {
        OperationName::ALL.iter().copied().filter(|operation| operation.info().action == action).collect()
    }

    /// Whether `operation` is among them.
    pub const fn contains(self, operation: OperationName) -> bool {
        self.0 & (1 << operation as u32) != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in this set and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Each of them, in the order of the table of operations.
    pub fn iter(self) -> impl Iterator<Item = OperationName> {
        OperationName::ALL.iter().copied().filter(move |operation| self.contains(*operation))
    }
}

impl FromIterator<OperationName> for Operations {
    fn from_iter<I: IntoIterator<Item = OperationName>>(operations: I) -> Self {
        Self(operations.into_iter().fold(0, |set, operation| set | (1 << operation as u32)))
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl GrantOperation {
    /// The operations on the key that a grant of this one allows.
    // DEW: §3, grant operations. Several data keys in one call are the same call several times, and a bucket key stands
    // for as many data keys as are derived from it.
    pub const fn operations(self) -> &'static [OperationName] {
        match self {
            Self::CreateDatakey => &[
                OperationName::GenerateDataKey,
                OperationName::GenerateDataKeys,
                OperationName::GenerateBucketKey,
            ],
            Self::CreateDatakeyWithoutPlaintext => &[OperationName::GenerateDataKeyWithoutPlaintext],
            Self::EncryptDatakey => &[OperationName::EncryptDataKey],
            Self::DecryptDatakey => &[OperationName::DecryptDataKey, OperationName::DecryptBucketKey],
            Self::DescribeKey => &[OperationName::DescribeKey],
            Self::CreateGrant => &[OperationName::CreateGrant],
            Self::RetireGrant => &[OperationName::RetireGrant],
            Self::EncryptData => &[OperationName::EncryptData],
            Self::DecryptData => &[OperationName::DecryptData],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_bit_of_its_own() {
        for (index, operation) in OperationName::ALL.iter().enumerate() {
            assert_eq!(*operation as usize, index, "{operation:?}");
            let alone = Operations::from_iter([*operation]);
            assert_eq!(alone.iter().collect::<Vec<_>>(), [*operation]);
        }
        assert!(Operations::NONE.is_empty() && Operations::NONE.iter().next().is_none());
    }

    #[test]
    fn users_can_be_allowed_everything_but_what_needs_the_operators_action_or_none() {
        let all: Operations = OperationName::ALL.iter().copied().collect();
        let others = Operations::of(Action::RootManage).union(Operations::of(Action::Anyone));
        assert_eq!(all.without(Operations::OF_USERS), others);
        let parts = Action::ALL.iter().map(|action| Operations::of(*action));
        assert_eq!(parts.fold(Operations::NONE, Operations::union), Operations::OF_USERS);
    }

    #[test]
    fn a_grant_allows_operations_that_users_can_be_allowed() {
        for granted in GrantOperation::ALL {
            let operations = granted.operations();
            assert!(!operations.is_empty(), "{granted:?}");
            assert!(operations.iter().all(|operation| Operations::OF_USERS.contains(*operation)));
            assert!(operations.iter().all(|operation| Operations::OF_GRANTS.contains(*operation)));
        }
        let all = GrantOperation::ALL.iter().flat_map(|granted| granted.operations().iter().copied());
        assert_eq!(Operations::OF_GRANTS, all.collect());
    }
}
