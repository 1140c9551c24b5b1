//! Conditions: what has to be true of a request for a statement to speak of it.

use super::{AccessRequest, Pattern, PolicyError, document::Node};
use crate::key::{KeyOrigin, KeySpec, KeyUsage};

/// What stands before the name of a pair in a condition key.
const CONTEXT_PREFIX: &str = "kms:EncryptionContext/";
/// What stands after an operator that leaves absent keys alone.
const IF_EXISTS: &str = "IfExists";

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionKey {
    /// `kms:EncryptionContext/<name>`: the value of this pair. Ours; DEW has no condition on contexts.
    EncryptionContext(Box<str>),
    /// `kms:KeySpec`
    KeySpec,
    /// `kms:KeyUsage`
    KeyUsage,
    /// `kms:KeyOrigin`
    KeyOrigin,
    /// `kms:RequestAlias`: the alias that the call names the key by. Ours.
    RequestAlias,
    /// `g:RequestedRegion`
    RequestedRegion,
}

impl ConditionKey {
    // DEW: §9, condition keys.
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "kms:KeySpec" => Self::KeySpec,
            "kms:KeyUsage" => Self::KeyUsage,
            "kms:KeyOrigin" => Self::KeyOrigin,
            "kms:RequestAlias" => Self::RequestAlias,
            "g:RequestedRegion" => Self::RequestedRegion,
            _ => {
                let name = text.strip_prefix(CONTEXT_PREFIX).filter(|name| !name.is_empty())?;
                Self::EncryptionContext(name.into())
            }
        })
    }

    /// Its value in a request; `None`: it is absent.
    pub(super) fn value<'a>(&self, request: &AccessRequest<'a>) -> Option<&'a str> {
        match self {
            Self::EncryptionContext(name) => request.context?.pairs().get(&**name).map(String::as_str),
            Self::KeySpec => Some(request.key?.spec.name()),
            Self::KeyUsage => Some(request.key?.usage.name()),
            Self::KeyOrigin => Some(request.key?.origin.name()),
            Self::RequestAlias => request.alias,
            Self::RequestedRegion => Some(request.region.as_str()),
        }
    }

    /// Whether it can have this value at all.
    fn can_be(&self, value: &str) -> bool {
        match self {
            Self::KeySpec => KeySpec::parse(value).is_some(),
            Self::KeyUsage => KeyUsage::parse(value).is_some(),
            Self::KeyOrigin => {
                [KeyOrigin::Kms, KeyOrigin::External].iter().any(|known| known.name() == value)
            }
            Self::EncryptionContext(_) | Self::RequestAlias | Self::RequestedRegion => true,
        }
    }
}

/// One key that has to have, or must not have, one of some values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    key: ConditionKey,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    /// Whether the key is absent.
    Absent(bool),
    /// Whether its value is one of these, or, negated, none of them.
    Value { wanted: Box<[Wanted]>, negated: bool, if_exists: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Text(Pattern),
    AnyCase(Box<str>),
}

/// How an operator reads one value of a policy.
type Reading = fn(&str) -> Wanted;

const EXACT: Reading = |value| Wanted::Text(Pattern::exactly(value));
const ANY_CASE: Reading = |value| Wanted::AnyCase(value.into());
const LIKE: Reading = |value| Wanted::Text(Pattern::new(value));
const START: Reading = |value| Wanted::Text(Pattern::beginning(value));
const END: Reading = |value| Wanted::Text(Pattern::ending(value));

/// The operators on text: whether each is negated, whether its values are whole ones, and how it reads them.
const OPERATORS: &[(&str, bool, bool, Reading)] = &[
    ("StringEquals", false, true, EXACT),
    ("StringNotEquals", true, true, EXACT),
    ("StringEqualsIgnoreCase", false, false, ANY_CASE),
    ("StringNotEqualsIgnoreCase", true, false, ANY_CASE),
    ("StringLike", false, false, LIKE),
    ("StringNotLike", true, false, LIKE),
    ("StringStartWith", false, false, START),
    ("StringNotStartWith", true, false, START),
    ("StringEndWith", false, false, END),
    ("StringNotEndWith", true, false, END),
];

impl Condition {
    /// The conditions of a statement: operators, under each its keys, under each key its values.
    pub(super) fn parse_all(node: Node<'_>) -> Result<Box<[Self]>, PolicyError> {
        let mut conditions = Vec::new();
        for (operator, place, keys) in node.entries()? {
            for (key, key_place, values) in keys.entries()? {
                let key = ConditionKey::parse(&key)
                    .ok_or_else(|| key_place.error(format!("{key:?} is no condition key")))?;
                let test = if operator == "Null" {
                    Test::Absent(truth(values)?)
                } else {
                    Test::parse(&operator, place, &key, values)?
                };
                conditions.push(Self { key, test });
            }
        }
        Ok(conditions.into())
    }

    /// What it looks at.
    pub fn key(&self) -> &ConditionKey {
        &self.key
    }

    /// Whether it is true where its key has this value, or is absent.
    // An absent key has none of the values: a positive operator fails on it, a negated one holds.
    pub(super) fn holds(&self, value: Option<&str>) -> bool {
        match (&self.test, value) {
            (Test::Absent(absent), value) => value.is_none() == *absent,
            (Test::Value { negated, if_exists, .. }, None) => *negated || *if_exists,
            (Test::Value { wanted, negated, .. }, Some(value)) => {
                wanted.iter().any(|wanted| wanted.is(value)) != *negated
            }
        }
    }
}

impl Test {
    fn parse(
        operator: &str,
        place: Node<'_>,
        key: &ConditionKey,
        values: Node<'_>,
    ) -> Result<Self, PolicyError> {
        let (base, if_exists) = match operator.strip_suffix(IF_EXISTS) {
            Some(base) => (base, true),
            None => (operator, false),
        };
        let known = OPERATORS.iter().find(|(known, ..)| *known == base);
        let (_, negated, whole, reading) =
            known.ok_or_else(|| place.error(format!("{operator:?} is no operator")))?;
        let wanted = values.texts()?.into_iter().map(|(place, value)| {
            // It would never be equal: a deny on it would deny nothing.
            if *whole && !key.can_be(&value) {
                return Err(place.error(format!("{value:?} is no value of this condition key")));
            }
            Ok(reading(&value))
        });
        let wanted = wanted.collect::<Result<_, _>>()?;
        Ok(Self::Value { wanted, negated: *negated, if_exists })
    }
}

fn truth(value: Node<'_>) -> Result<bool, PolicyError> {
    match &*value.text()? {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(value.error("must be \"true\" or \"false\"")),
    }
}

impl Wanted {
    fn is(&self, value: &str) -> bool {
        match self {
            Self::Text(pattern) => pattern.matches(value),
            Self::AnyCase(wanted) if wanted.is_ascii() && value.is_ascii() => {
                wanted.eq_ignore_ascii_case(value)
            }
            Self::AnyCase(wanted) => lower_case(wanted).eq(lower_case(value)),
        }
    }
}

fn lower_case(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}
