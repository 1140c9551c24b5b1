//! JSON that knows its lines: each value of a document tells where it stands in it.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Why a text is no policy, and the line that says so, from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PolicyError {
    /// The line within the JSON.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// A value of a JSON document: the part of the document's text that it is.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    document: &'a str,
    text: &'a str,
}

/// A member of an object.
struct Member<'a> {
    name: String,
    key: Node<'a>,
    value: Node<'a>,
}

impl<'a> Node<'a> {
    /// The whole document.
    pub(super) fn new(document: &'a str) -> Result<Self, PolicyError> {
        let whole = Self { document, text: document };
        let value: &RawValue = whole.read()?;
        Ok(whole.part(value))
    }

    /// What is wrong with this value.
    pub(super) fn error(self, problem: impl Into<String>) -> PolicyError {
        PolicyError { line: self.line(), problem: problem.into() }
    }

    /// The values of these members of an object that has no other ones.
    pub(super) fn members<const N: usize>(self, known: [&str; N]) -> Result<[Option<Self>; N], PolicyError> {
        let mut found = [None; N];
        for Member { name, key, value } in self.object()? {
            let place = known.iter().position(|known| *known == name).and_then(|index| found.get_mut(index));
            let place =
                place.ok_or_else(|| key.error(format!("{name:?} is none of {}", known.join(", "))))?;
            *place = Some(value);
        }
        Ok(found)
    }

    /// The members of an object, each with its name; at least one, none of them twice.
    pub(super) fn entries(self) -> Result<Vec<(String, Self, Self)>, PolicyError> {
        let members = self.object()?;
        if members.is_empty() {
            return Err(self.error("must not be empty"));
        }
        Ok(members.into_iter().map(|Member { name, key, value }| (name, key, value)).collect())
    }

    /// The items of a list that has at least one.
    pub(super) fn items(self) -> Result<Vec<Self>, PolicyError> {
        if !self.text.starts_with('[') {
            return Err(self.error("must be a list"));
        }
        let items: Vec<&RawValue> = self.read()?;
        if items.is_empty() {
            return Err(self.error("must not be empty"));
        }
        Ok(items.into_iter().map(|item| self.part(item)).collect())
    }

    /// A text.
    pub(super) fn text(self) -> Result<String, PolicyError> {
        if self.text.starts_with('"') { self.read() } else { Err(self.error("must be text")) }
    }

    /// A text, or a list of at least one; each with where it stands.
    pub(super) fn texts(self) -> Result<Vec<(Self, String)>, PolicyError> {
        let items = if self.text.starts_with('[') { self.items()? } else { vec![self] };
        items.into_iter().map(|item| Ok((item, item.text()?))).collect()
    }

    fn object(self) -> Result<Vec<Member<'a>>, PolicyError> {
        if !self.text.starts_with('{') {
            return Err(self.error("must be an object"));
        }
        let Members(members) = self.read()?;
        let mut seen = HashSet::new();
        let members = members.into_iter().map(|(key, value)| {
            let (key, value) = (self.part(key), self.part(value));
            let name = key.text()?;
            if seen.insert(name.clone()) {
                Ok(Member { name, key, value })
            } else {
                Err(key.error(format!("{name:?} stands twice")))
            }
        });
        members.collect()
    }

    fn read<T: Deserialize<'a>>(self) -> Result<T, PolicyError> {
        serde_json::from_str(self.text).map_err(|error| {
            let message = error.to_string();
            // The place in its own words counts from where this value begins.
            let problem = message.split(" at line ").next().unwrap_or_default().to_owned();
            PolicyError { line: self.line() + error.line().saturating_sub(1), problem }
        })
    }

    fn part(self, value: &'a RawValue) -> Self {
        Self { text: value.get(), ..self }
    }

    fn line(self) -> usize {
        // The text is a part of the document, so the distance of both is where it begins.
        let begin = self.text.as_ptr().addr().saturating_sub(self.document.as_ptr().addr());
        1 + self.document.bytes().take(begin).filter(|byte| *byte == b'\n').count()
    }
}

struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}
