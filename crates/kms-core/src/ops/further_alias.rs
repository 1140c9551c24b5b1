//! Further aliases of keys: what they look like, and how they are shown.

use crate::{
    error::{Error, Field},
    identity::{AccountId, Region},
    key::{AliasTimes, KeyId, KeyRecord},
    ops::{Alias, AliasUrn},
};

/// What every further alias begins with.
pub(crate) const FURTHER_PREFIX: &str = "alias/";

/// A further alias of a custom key: an [`Alias`] that begins with `alias/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FurtherAlias(Alias);

impl FurtherAlias {
    /// DEW: alias, as a key's first alias, but with something behind a leading `alias/`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text.strip_prefix(FURTHER_PREFIX) {
            Some(name) if !name.is_empty() => Alias::parse(text).map(Self),
            _ => Err(Error::invalid(Field::Alias, "must be a name behind alias/")),
        }
    }

    /// The alias as text, with its prefix.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Like every alias, it can name its key.
    pub(crate) const fn alias(&self) -> &Alias {
        &self.0
    }
}

/// A further alias and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasEntry {
    /// The key that it names.
    pub key_id: KeyId,
    /// The account that it is valid in.
    pub account: AccountId,
    /// The region that it is valid in.
    pub region: Region,
    /// The alias.
    pub alias: String,
    /// When it was made and moved.
    pub times: AliasTimes,
}

impl AliasEntry {
    /// What `record` says of this further alias; `None`: it has none of this name.
    pub(crate) fn of(record: &KeyRecord, alias: &str) -> Option<Self> {
        Some(Self {
            key_id: record.id,
            account: record.account.clone(),
            region: record.region()?.clone(),
            alias: alias.to_owned(),
            times: *record.aliases.get(alias)?,
        })
    }

    /// The alias with where it is valid.
    pub fn urn(&self) -> String {
        AliasUrn::of(&self.region, &self.account, &self.alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_alias_is_an_alias_behind_its_prefix() {
        let longest = format!("alias/{}", "a".repeat(249));
        for text in ["alias/a", "alias/a:b/c_d-9", "alias/alias/x", &longest] {
            assert_eq!(FurtherAlias::parse(text).expect(text).as_str(), text);
        }
        for text in
            ["", "a", "alias", "alias/", "Alias/a", "alias/a b", "alias/x/default", &format!("{longest}a")]
        {
            let error = FurtherAlias::parse(text).expect_err(text);
            assert!(matches!(error, Error::InvalidField { field: Field::Alias, .. }), "{text}: {error:?}");
        }
    }
}
