//! How single fields are written in a line and read back.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use kms_core::{
    Phase, Timestamp, Verdict,
    key::{KeyOrigin, KeySpec},
    operation::OperationName,
};
use serde::{Deserialize, Deserializer, Serializer, ser::SerializeMap};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A value that a line names by one word of a closed list.
pub(crate) trait Named: Copy + 'static {
    /// Every value.
    fn all() -> &'static [Self];
    /// Its word.
    fn word(self) -> &'static str;
}

impl Named for Phase {
    fn all() -> &'static [Self] {
        &[Self::Complete, Self::Intent, Self::Outcome, Self::Recovery]
    }

    fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Recovery => "recovery",
        }
    }
}

impl Named for Verdict {
    fn all() -> &'static [Self] {
        &[Self::Pending, Self::Succeeded, Self::Denied, Self::Failed]
    }

    fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl Named for OperationName {
    fn all() -> &'static [Self] {
        Self::ALL
    }

    fn word(self) -> &'static str {
        self.info().name
    }
}

impl Named for KeySpec {
    fn all() -> &'static [Self] {
        &Self::ALL
    }

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Named for KeyOrigin {
    fn all() -> &'static [Self] {
        &[Self::Kms, Self::External]
    }

    fn word(self) -> &'static str {
        self.name()
    }
}

/// `#[serde(with)]` for [`Named`] values.
pub(crate) mod named {
    use super::{Cow, Deserialize, Deserializer, Named, Serializer, fmt};
    use serde::de::Error as _;

    pub(crate) fn serialize<T: Named, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.word())
    }

    pub(crate) fn deserialize<'de, T: Named, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let word = Cow::<str>::deserialize(deserializer)?;
        let found = T::all().iter().copied().find(|value| value.word() == word);
        found.ok_or_else(|| D::Error::custom(Unknown(&word)))
    }

    struct Unknown<'a>(&'a str);

    impl fmt::Display for Unknown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "unknown word {:?}", self.0)
        }
    }
}

/// The same for such values that may be absent.
pub(crate) mod named_if_any {
    use super::{Deserializer, Named, Serializer, named};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<T: Named, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => named::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T: Named, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        named::deserialize(deserializer).map(Some)
    }
}

/// `#[serde(with)]` for an optional SHA-256 in lower-case hex.
pub(crate) mod digest {
    pub(crate) use super::bytes::{deserialize, serialize};
}

/// `#[serde(with)]` for what tells one ciphertext of a key from another, in lower-case hex.
pub(crate) mod item {
    pub(crate) use super::bytes::{deserialize, serialize};
}

/// Optional bytes in lower-case hex: 32 at the most.
mod bytes {
    use super::{Cow, Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<S: Serializer, const N: usize>(
        value: &Option<[u8; N]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let Some(bytes) = value else { return serializer.serialize_none() };
        let mut buffer = [0; 64];
        let text = &mut buffer[..2 * N];
        hex::encode_to_slice(bytes, text).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(str::from_utf8(text).map_err(serde::ser::Error::custom)?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(text.as_bytes(), &mut bytes).map_err(D::Error::custom)?;
        Ok(Some(bytes))
    }
}

/// `#[serde(with)]` for a moment: RFC 3339 in UTC with six digits of a second.
pub(crate) mod moment {
    use super::{Cow, Deserialize, Deserializer, Serializer, Timestamp, parse_moment};
    use serde::de::Error as _;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    pub(crate) fn serialize<S: Serializer>(value: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        // RFC 3339 has no years before 0: no clock that works says such a time.
        match value.as_micros() {
            micros @ ..0 => serializer.collect_str(&format_args!("@{micros}us")),
            _ => serializer.collect_str(value),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        parse_moment(&text).ok_or_else(|| D::Error::custom("not a time"))
    }
}

/// `#[serde(with)]` for a moment that may be absent, as [`moment`].
pub(crate) mod optional_moment {
    use super::{Deserializer, Serializer, Timestamp, moment};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(moment) => moment::serialize(moment, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        moment::deserialize(deserializer).map(Some)
    }
}

fn parse_moment(text: &str) -> Option<Timestamp> {
    // What stands for times that RFC 3339 has no digits for.
    if let Some(micros) = text.strip_prefix('@').and_then(|rest| rest.strip_suffix("us")) {
        return micros.parse().ok().map(Timestamp::from_micros);
    }
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1000)).ok().map(Timestamp::from_micros)
}

/// Writes the encryption context with its keys in the order of RFC 8785.
#[expect(clippy::ptr_arg, reason = "the signature that serde calls")]
pub(crate) fn context<S: Serializer>(
    value: &Cow<'_, BTreeMap<String, String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(value.len()))?;
    // RFC 8785 §3.2.3 sorts by UTF-16 code units; for ASCII that is the order of the map.
    if value.keys().all(|key| key.is_ascii()) {
        for (key, hash) in value.iter() {
            map.serialize_entry(key, hash)?;
        }
    } else {
        let mut entries: Vec<_> = value.iter().collect();
        entries.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
        for (key, hash) in entries {
            map.serialize_entry(key, hash)?;
        }
    }
    map.end()
}
