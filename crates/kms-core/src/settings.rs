//! What the operator decides: about the key versions to come, and how much accounts may have.

use std::{collections::HashMap, time::Duration};

use crate::{
    bucket_key::LONGEST_VALIDITY,
    identity::AccountId,
    key::{KeySpec, Scheme},
};

/// The most that a budget may be: one less than where a key's uses with random IVs must end.
// NIST SP 800-38D §8.3: at most 2^32 invocations of the authenticated encryption for a given key.
pub const MAX_IN_HSM_BUDGET: u64 = u32::MAX as u64;
/// The budget without a decision: half of the bound, so that a store that was restored from a
/// backup, and has forgotten uses, is not over it at once.
pub const DEFAULT_IN_HSM_BUDGET: u64 = 1 << 31;
/// The most uses that one reservation takes, and so the most that a restart forfeits.
const MAX_BLOCK: u64 = 65_536;

/// Which scheme new key versions get, how often a version may seal in the HSM, and how long bucket keys are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The scheme of new versions of AES_256 keys, default keys among them.
    pub aes_256: Scheme,
    /// The scheme of new versions of SM4 keys.
    pub sm4: Scheme,
    /// How often one version of [`Scheme::InHsm`] may seal: 1 to [`MAX_IN_HSM_BUDGET`].
    pub in_hsm_budget: u64,
    /// The longest validity that a bucket key is given.
    pub longest_bucket_key_validity: Duration,
    /// How much an account may have, until [`Service::replace_quotas`](crate::Service::replace_quotas).
    pub quotas: AccountQuotas,
}

/// How much an account may have of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountQuotas {
    /// Custom keys in a region, whatever their state; default keys do not count.
    pub custom_keys: u64,
    /// Grants of one key; at most [`Self::MOST_GRANTS`].
    pub grants_per_key: u64,
    /// Further aliases of one key; at most [`Self::MOST_ALIASES`].
    pub aliases_per_key: u64,
    /// Tags of one key; at most [`Self::MOST_TAGS`].
    pub tags_per_key: u64,
}

impl AccountQuotas {
    /// All grants of a key are read when it is used through one.
    pub const MOST_GRANTS: u64 = 1000;
    /// They stand in the key's record, for which the store has 64 KiB: 13 KiB for aliases, 30 KiB for tags.
    pub const MOST_ALIASES: u64 = 50;
    /// As for aliases.
    pub const MOST_TAGS: u64 = 20;
}

impl Default for AccountQuotas {
    // DEW: §8; of the documented numbers that disagree, the larger ones.
    fn default() -> Self {
        Self { custom_keys: 100, grants_per_key: 100, aliases_per_key: 50, tags_per_key: 20 }
    }
}

/// The quotas of all accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaTable {
    /// Of every account that has none of its own.
    pub default: AccountQuotas,
    /// Accounts that have.
    pub accounts: HashMap<AccountId, AccountQuotas>,
}

impl QuotaTable {
    /// Those of this account.
    pub fn of(&self, account: &AccountId) -> AccountQuotas {
        self.accounts.get(account).copied().unwrap_or(self.default)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            aes_256: Scheme::DerivedKey,
            sm4: Scheme::DerivedKey,
            in_hsm_budget: DEFAULT_IN_HSM_BUDGET,
            longest_bucket_key_validity: LONGEST_VALIDITY,
            quotas: AccountQuotas::default(),
        }
    }
}

impl Settings {
    /// What a new version of a key of this kind gets, if the token can do that.
    pub const fn scheme(&self, spec: KeySpec) -> Scheme {
        match spec {
            KeySpec::Aes256 => self.aes_256,
            KeySpec::Sm4 => self.sm4,
            KeySpec::Sm2 | KeySpec::HmacSm3 => Scheme::Opened,
            _ => Scheme::InHsm,
        }
    }

    /// How many uses the next reservation takes when `reserved` are taken; 0: the budget is spent.
    pub(crate) fn next_block(&self, reserved: u64) -> u64 {
        let block = (self.in_hsm_budget / 100).clamp(1, MAX_BLOCK);
        block.min(self.in_hsm_budget.saturating_sub(reserved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_a_hundredth_of_the_budget_and_never_more_than_what_is_left() {
        let block =
            |in_hsm_budget, reserved| Settings { in_hsm_budget, ..Settings::default() }.next_block(reserved);
        assert_eq!([block(1, 0), block(1, 1), block(99, 0), block(1000, 0)], [1, 0, 1, 10]);
        assert_eq!([block(1000, 995), block(1000, 1000), block(1000, 2000)], [5, 0, 0]);
        assert_eq!(block(DEFAULT_IN_HSM_BUDGET, 0), 65_536);
        assert_eq!(block(MAX_IN_HSM_BUDGET, MAX_IN_HSM_BUDGET - 1), 1);
    }
}
