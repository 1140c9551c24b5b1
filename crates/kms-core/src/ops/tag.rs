//! Tags: pairs of text that keys are found by.

use std::collections::BTreeMap;

use crate::{
    error::{Counted, Error, Field, Quota},
    key::KeyRecord,
};

/// What only the provider's own tags begin with.
const RESERVED_PREFIX: &str = "_sys_";

/// The key of a tag: 1 to 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagKey(String);

impl TagKey {
    /// The longest, in characters. DEW: the user guide; the API's model says less.
    pub const LONGEST: usize = 128;

    /// DEW: tag.key; KMS.0406, KMS.0411.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if !(1..=Self::LONGEST).contains(&text.chars().count()) || !is_plain(text) {
            return Err(Error::invalid(
                Field::Tag,
                "a key must be 1 to 128 characters, none of them ASCII 0 to 31 nor one of * < > \\ = ,",
            ));
        }
        if text.starts_with(RESERVED_PREFIX) {
            return Err(Error::invalid(Field::Tag, "a key must not begin with _sys_"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value of a tag: 0 to 255 characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagValue(String);

impl TagValue {
    /// The longest, in characters. DEW: the user guide; the API's model says less.
    pub const LONGEST: usize = 255;

    /// DEW: tag.value; KMS.0405, KMS.0410.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.chars().count() > Self::LONGEST || !is_plain(text) {
            return Err(Error::invalid(
                Field::Tag,
                "a value must be at most 255 characters, none of them ASCII 0 to 31 nor one of * < > \\ = ,",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The value as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(|character| character < ' ' || "*<>\\=,".contains(character))
}

/// Tags of one key: each key once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// How many a call may bring. DEW: KMS.0407.
    pub const MOST: usize = 20;

    /// Takes at most 20 pairs, each key once. DEW: KMS.0407, KMS.0412.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Error> {
        let mut tags = BTreeMap::new();
        for (key, value) in pairs {
            let (key, TagValue(value)) = (TagKey::parse(key)?, TagValue::parse(value)?);
            if tags.insert(key.0, value).is_some() {
                return Err(Error::invalid(Field::Tags, "must have each key once"));
            }
        }
        if tags.len() > Self::MOST {
            return Err(Error::invalid(Field::Tags, "must be at most 20"));
        }
        Ok(Self(tags))
    }

    /// Refuses more than a new key may have.
    pub(crate) fn check_quota(&self, limit: u64) -> Result<(), Error> {
        if self.0.len() as u64 <= limit {
            return Ok(());
        }
        Err(Error::QuotaExceeded(Quota { what: Counted::TagsOfKey, limit, used: 0 }))
    }

    pub(crate) const fn pairs(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Refuses none at all. DEW: KMS.0401.
    pub(crate) fn not_empty(self) -> Result<Self, Error> {
        if self.0.is_empty() { Err(Error::invalid(Field::Tags, "must be at least one")) } else { Ok(self) }
    }

    /// Gives them to `record`, which may have `limit`: those that it has of the same keys are replaced. DEW: KMS.0409.
    pub(crate) fn add_to(&self, record: &mut KeyRecord, limit: u64) -> Result<(), Error> {
        let used = record.tags.len();
        record.tags.extend(self.0.clone());
        // Values that are replaced take no place: a key beyond a lowered quota keeps what it has.
        if record.tags.len() == used || record.tags.len() as u64 <= limit {
            return Ok(());
        }
        Err(Error::QuotaExceeded(Quota { what: Counted::TagsOfKey, limit, used: used as u64 }))
    }
}

/// Takes the tags with these keys from `record`: all, or none.
pub(crate) fn remove_from(record: &mut KeyRecord, keys: &[TagKey]) -> Result<(), Error> {
    // A key that is named twice is missing the second time.
    keys.iter().try_for_each(|key| record.tags.remove(key.as_str()).map(drop).ok_or(Error::TagNotFound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_a_short_key_and_a_value_of_plain_characters() {
        for (key, value) in [("a", ""), (&"ä".repeat(128), &"值".repeat(255)), ("team/x:y", "a b+c@d.e")] {
            Tags::parse([(key, value)]).expect(key);
        }
        for key in ["", &"a".repeat(129), "_sys_x", "a\u{1f}", "a*", "<a", "a>", "\\", "a=b", "a,b"] {
            assert!(
                matches!(TagKey::parse(key), Err(Error::InvalidField { field: Field::Tag, .. })),
                "{key:?}"
            );
        }
        for value in [&"a".repeat(256), "\n", "*", "<", ">", "\\", "=", ","] {
            assert!(matches!(TagValue::parse(value), Err(Error::InvalidField { .. })), "{value:?}");
        }
    }

    #[test]
    fn a_list_has_each_key_once_and_at_most_twenty() {
        let keys: Vec<String> = (0..21).map(|number| number.to_string()).collect();
        let of = |keys: &[String]| Tags::parse(keys.iter().map(|key| (key.as_str(), "")));
        of(&keys[..20]).expect("twenty");
        assert_eq!(of(&keys).expect_err("too many").code(), "INVALID_FIELD");
        assert_eq!(Tags::parse([("a", "1"), ("a", "1")]).expect_err("twice").code(), "INVALID_FIELD");
        Tags::default().not_empty().expect_err("none");
    }
}
