//! Grants: which user or account may do what with one key, and who may give that up again.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    Timestamp,
    error::{Error, Field},
    identity::{AccountId, Caller, OPERATOR_ACCOUNT, Region, SERVICE_ACCOUNT, UserId},
    key::{KeyId, MAX_TEXT_CHARACTERS},
};

/// How many grants a user or an account may hold of those that one account has made. DEW: KMS.2405.
pub const MAX_GRANTS_HELD: u64 = 100;

/// The identifier of a grant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GrantId([u8; 32]);

impl GrantId {
    /// The id of the grant of this key that `cause` makes: the same whenever it is tried again.
    pub(crate) fn derive(key: KeyId, cause: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(b"dewpoint/v1/grant").chain_update(key.as_bytes());
        Self(hash.chain_update(cause).finalize().into())
    }

    /// DEW: grant_id, 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let malformed = Error::invalid(Field::GrantId, "must be 64 lower-case hexadecimal digits");
        let mut bytes = [0; 32];
        let lower_case = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lower_case => Ok(Self(bytes)),
            _ => Err(malformed),
        }
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! grant_operations {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a grant can allow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum GrantOperation { $($(#[$doc])* $name,)* }

        impl GrantOperation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// DEW's name of it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

// DEW: §3, grant operations.
grant_operations! {
    /// Data keys, in plain and sealed.
    CreateDatakey = "create-datakey",
    /// Data keys, sealed only.
    CreateDatakeyWithoutPlaintext = "create-datakey-without-plaintext",
    /// Sealing a data key.
    EncryptDatakey = "encrypt-datakey",
    /// Opening a data key.
    DecryptDatakey = "decrypt-datakey",
    /// Reading the key's description.
    DescribeKey = "describe-key",
    /// Granting it to others.
    CreateGrant = "create-grant",
    /// Giving this grant up.
    RetireGrant = "retire-grant",
    /// Sealing small data.
    EncryptData = "encrypt-data",
    /// Opening small data.
    DecryptData = "decrypt-data",
}

/// What one grant allows: at least one operation besides granting on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantOperations(BTreeSet<GrantOperation>);

impl GrantOperations {
    /// DEW: operations; KMS.2401.
    pub fn parse(operations: impl IntoIterator<Item = GrantOperation>) -> Result<Self, Error> {
        let operations: BTreeSet<_> = operations.into_iter().collect();
        if operations.iter().all(|operation| *operation == GrantOperation::CreateGrant) {
            let problem = "must hold at least one operation besides create-grant";
            return Err(Error::invalid(Field::GrantOperations, problem));
        }
        Ok(Self(operations))
    }

    /// Whether `operation` is among them.
    pub fn allow(&self, operation: GrantOperation) -> bool {
        self.0.contains(&operation)
    }

    /// All of them, in one order.
    pub fn iter(&self) -> impl Iterator<Item = GrantOperation> + '_ {
        self.0.iter().copied()
    }
}

/// The name of a grant, for people; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantName(String);

impl GrantName {
    /// DEW: name, at most 255 of `A-Z a-z 0-9 : / _ -`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte);
        if text.len() <= MAX_TEXT_CHARACTERS && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(Field::GrantName, "must be at most 255 of A-Z a-z 0-9 : / _ -"))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One user, or every user of an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Principal {
    /// A user; of which account does not matter, for ids of users are unique in the deployment.
    User(UserId),
    /// A whole account.
    Account(AccountId),
}

impl Principal {
    /// DEW: grantee_principal of the type `user`; KMS.2402.
    pub fn user(text: &str) -> Result<Self, Error> {
        let user = UserId::parse(text).map(Self::User);
        user.ok_or(Error::invalid(Field::Grantee, "must be the id of a user"))
    }

    /// DEW: grantee_principal of the type `domain`; KMS.2402.
    pub fn account(text: &str) -> Result<Self, Error> {
        let reserved = [OPERATOR_ACCOUNT, SERVICE_ACCOUNT].contains(&text);
        let account = AccountId::parse(text).filter(|_| !reserved).map(Self::Account);
        account.ok_or(Error::invalid(Field::Grantee, "must be the id of an account of users"))
    }

    /// Whether `caller` is this user, or one of this account. Operators have names of their own and are neither.
    pub(crate) fn includes(&self, caller: &Caller) -> bool {
        !caller.is_operator() && self.covers(&caller.account, &caller.user)
    }

    /// The same of a user of an account.
    pub(crate) fn covers(&self, account: &AccountId, user: &UserId) -> bool {
        match self {
            Self::User(named) => named == user,
            Self::Account(named) => named == account,
        }
    }
}

/// Lets `grantee` use a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The key.
    pub key_id: KeyId,
    /// The region of the key.
    pub region: Region,
    /// The account of who made it.
    pub issuing_account: AccountId,
    /// Who made it.
    pub issuer: UserId,
    /// Whom it is for.
    pub grantee: Principal,
    /// What it allows.
    pub operations: GrantOperations,
    /// Its name.
    pub name: GrantName,
    /// Who may give it up besides.
    pub retiring_principal: Option<UserId>,
    /// When it was made.
    pub created: Timestamp,
}

impl Grant {
    /// Whether `caller` may give it up, and calls in the key's region.
    pub fn is_retirable_by(&self, caller: &Caller) -> bool {
        self.region == caller.region && self.retirers().iter().any(|retirer| retirer.includes(caller))
    }

    /// Who may give it up. DEW: §5, its creator, its retiring principal, and a grantee that it allows to.
    pub(crate) fn retirers(&self) -> BTreeSet<Principal> {
        let users = [Some(&self.issuer), self.retiring_principal.as_ref()];
        let mut retirers: BTreeSet<_> = users.into_iter().flatten().cloned().map(Principal::User).collect();
        if self.operations.allow(GrantOperation::RetireGrant) {
            retirers.insert(self.grantee.clone());
        }
        retirers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(error: &Error) -> Field {
        let Error::InvalidField { field, .. } = error else { panic!("{error:?} names no field") };
        *field
    }

    #[test]
    fn a_grant_allows_more_than_granting_on() {
        let create = GrantOperation::CreateGrant;
        for operations in [vec![], vec![create], vec![create, create]] {
            assert_eq!(field(&GrantOperations::parse(operations).expect_err("2401")), Field::GrantOperations);
        }
        for other in GrantOperation::ALL.iter().filter(|other| **other != create) {
            let parsed = GrantOperations::parse([create, *other, *other]).expect("one besides");
            assert_eq!(parsed.iter().count(), 2);
        }
    }

    #[test]
    fn names_ids_and_principals_outside_of_the_rules_are_malformed() {
        for text in ["a b", "a.b", "ä", &"a".repeat(256)] {
            assert_eq!(field(&GrantName::parse(text).expect_err(text)), Field::GrantName);
        }
        for text in ["", "9:/_-Z", &"a".repeat(255)] {
            assert_eq!(GrantName::parse(text).expect(text).as_str(), text);
        }
        let id = "0f".repeat(32);
        assert_eq!(GrantId::parse(&id).expect("an id").to_string(), id);
        for text in ["", "0f", &id.to_uppercase(), &id.replace('f', "g"), &format!("{id}0f")] {
            assert_eq!(field(&GrantId::parse(text).expect_err(text)), Field::GrantId);
        }
        for text in ["", "a/b", OPERATOR_ACCOUNT, SERVICE_ACCOUNT] {
            assert_eq!(field(&Principal::account(text).expect_err(text)), Field::Grantee);
        }
        assert_eq!(field(&Principal::user("a/b").expect_err("a path")), Field::Grantee);
    }
}
