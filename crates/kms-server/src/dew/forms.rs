//! The forms of DEW's values: where they differ from what gRPC and the domain have, and nowhere else.
//!
//! Nearly all scalars are strings; bits and bytes, hexadecimal digits and base64 change from field to field; times are
//! milliseconds. Each is read and written here, with its source.

use std::{collections::BTreeMap, fmt, mem};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kms_core::{
    Error, SecretBytes, Timestamp,
    context::EncryptionContext,
    error::Field,
    key::{KeyId, KeyOrigin, KeySpec, KeyState, KeyUsage},
    ops::{Alias, KeySelector, ListWindow},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};
use serde_json::value::RawValue;
use uuid::{Uuid, fmt::Hyphenated};
use zeroize::Zeroizing;

use super::{
    codes::{Code, Unfit},
    json::JsonSecret,
};

/// A scalar of a request: DEW's are strings; a number or a truth value stands for its text.
// DEW: §1.6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar(String);

impl Scalar {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// What must be there. DEW: `KMS.0204`.
pub(crate) fn required<T>(value: Option<T>, field: Field) -> Result<T, Unfit> {
    value.ok_or(Unfit::new(Code::PARAMETER_MISSING, field, "is missing"))
}

/// The text of a scalar; empty if it is not there.
pub(crate) fn text(value: Option<&Scalar>) -> &str {
    value.map(Scalar::as_str).unwrap_or_default()
}

/// A number of decimal digits.
pub(crate) fn number(text: &str) -> Option<u32> {
    let is_number = (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// A key by its id alone. DEW: §3, life cycle and grants.
pub(crate) fn key_id(value: Option<Scalar>) -> Result<KeySelector, Unfit> {
    Ok(required(value, Field::KeyId)?.as_str().parse::<KeyId>().map(KeySelector::Id)?)
}

/// A key by its id, an alias, or the URN of one. DEW: §3, cryptographic calls, describe-key, get-publickey.
pub(crate) fn key(value: Option<Scalar>) -> Result<KeySelector, Unfit> {
    Ok(KeySelector::parse(required(value, Field::KeyId)?.as_str())?)
}

/// The same where it may be left out. An empty text is none.
pub(crate) fn optional_key(value: Option<Scalar>) -> Result<Option<KeySelector>, Unfit> {
    let named = value.filter(|text| !text.as_str().is_empty());
    Ok(named.map(|text| KeySelector::parse(text.as_str())).transpose()?)
}

/// The first alias of a key.
pub(crate) fn alias(value: Option<Scalar>) -> Result<Alias, Unfit> {
    Ok(Alias::parse(required(value, Field::Alias)?.as_str())?)
}

/// The pairs of an encryption context. What is sent in their place is `None`: it has a code of its own.
pub(crate) struct Pairs(Option<BTreeMap<String, String>>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

/// What a ciphertext is bound to: DEW's one text, or the pairs that its European twin takes.
// DEW: §3, additional_authenticated_data and encryption_context; KMS.0208.
#[allow(clippy::needless_pass_by_value, reason = "the fields of a request are handed over as they are")]
pub(crate) fn context(data: Option<Scalar>, pairs: Option<Pairs>) -> Result<EncryptionContext, Unfit> {
    let pairs = pairs.map_or(Some(BTreeMap::new()), |Pairs(pairs)| pairs).ok_or_else(|| {
        Error::invalid(Field::EncryptionContext, "must be an object whose values are strings")
    })?;
    Ok(EncryptionContext::of_either(pairs, text(data.as_ref()).as_bytes())?)
}

/// What a HSM of a security level that this service does not have asks for. DEW: pin, pin_type.
pub(crate) fn no_pin(pin: Option<&JsonSecret>) -> Result<(), Unfit> {
    match pin {
        None => Ok(()),
        Some(_) => Err(Unfit::new(Code::PARAMETER_INVALID, Field::Key, "keys of this service have no PIN")),
    }
}

/// What asks for something that this service does not have: it is refused rather than left out. An empty text is none.
pub(crate) fn not_offered(value: Option<&Scalar>, problem: &'static str) -> Result<(), Unfit> {
    if text(value).is_empty() {
        return Ok(());
    }
    Err(Unfit::new(Code::PARAMETER_INVALID, Field::Body, problem))
}

/// The only enterprise project that there is here, which every key belongs to. DEW: sys_enterprise_project_id.
pub(crate) const ENTERPRISE_PROJECT: &str = "0";

/// Refuses the enterprise project of a new key that would not be in it. DEW: enterprise_project_id.
pub(crate) fn own_enterprise_project(project: Option<&Scalar>) -> Result<(), Unfit> {
    let other = project.filter(|project| project.as_str() != ENTERPRISE_PROJECT);
    not_offered(other, "must have no enterprise_project_id but 0")
}

/// Whether keys of this service are in what a list is asked for. DEW: enterprise_project_id of list-keys.
pub(crate) fn lists_enterprise_project(project: Option<&Scalar>) -> Result<bool, Unfit> {
    match text(project) {
        "" | "all" | ENTERPRISE_PROJECT => Ok(true),
        id if id.len() == Hyphenated::LENGTH && Uuid::try_parse(id).is_ok() => Ok(false),
        _ => {
            let problem = "must have an enterprise_project_id that is all, 0 or a UUID";
            Err(Unfit::new(Code::PARAMETER_INVALID, Field::Body, problem))
        }
    }
}

/// A length that is given in bits, in bytes.
pub(crate) fn bits(text: &str, (malformed, not_in_bytes): (Code, Code)) -> Result<usize, Unfit> {
    let unfit = |code, problem| Unfit::new(code, Field::Length, problem);
    let bits = number(text).ok_or(unfit(malformed, "must be a number of bits"))?;
    if bits % 8 != 0 {
        return Err(unfit(not_in_bytes, "must be a multiple of 8 bits"));
    }
    usize::try_from(bits / 8).map_err(|_| unfit(malformed, "must be a number of bits"))
}

/// Hexadecimal digits, upper or lower case. DEW: §3, data keys.
pub(crate) fn hexadecimal(text: &str, field: Field) -> Result<Vec<u8>, Unfit> {
    Ok(hex::decode(text)
        .map_err(|_| Error::invalid(field, "must be hexadecimal digits, two for each byte"))?)
}

/// The same of a secret.
pub(crate) fn secret_hexadecimal(text: &JsonSecret, field: Field) -> Result<SecretBytes, Unfit> {
    let text = text.expose_secret();
    let mut bytes = SecretBytes::zeroed(text.len() / 2);
    let decoded = hex::decode_to_slice(text, bytes.expose_secret_mut());
    decoded.map_err(|_| Error::invalid(field, "must be hexadecimal digits, two for each byte"))?;
    Ok(bytes)
}

/// Base64 with its padding. DEW: §3, encrypt-data, sign, mac, import.
pub(crate) fn base64(text: &str, field: Field) -> Result<Vec<u8>, Unfit> {
    Ok(STANDARD.decode(text).map_err(|_| Error::invalid(field, "must be base64 with its padding"))?)
}

/// The same of what must be there.
pub(crate) fn required_base64(value: Option<Scalar>, field: Field) -> Result<Vec<u8>, Unfit> {
    base64(required(value, field)?.as_str(), field)
}

/// The same of a secret, which whoever takes the bytes has to wipe.
pub(crate) fn required_secret_base64(value: Option<&JsonSecret>, field: Field) -> Result<Vec<u8>, Unfit> {
    let mut bytes = Zeroizing::new(Vec::new());
    let decoded = STANDARD.decode_vec(required(value, field)?.expose_secret(), &mut bytes);
    decoded.map_err(|_| Error::invalid(field, "must be base64 with its padding"))?;
    Ok(mem::take(&mut *bytes))
}

/// Bytes as base64.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A part of a list by positions; without a limit as much as one answer holds.
// DEW: §3, limits of lists: a marker is a number in decimal digits; KMS.1601, KMS.1602.
pub(crate) fn window(limit: Option<&Scalar>, marker: Option<&Scalar>) -> Result<Window, Unfit> {
    let limit = match text(limit) {
        "" => ListWindow::LONGEST,
        text => limit_of(text)?,
    };
    let marker = match text(marker) {
        "" => 0,
        text => number(text).ok_or(Unfit::new(
            Code::MARKER_INVALID,
            Field::PageToken,
            "must be a number of at least 0",
        ))?,
    };
    Ok(Window { limit, marker })
}

/// How many entries a part of a list may have. DEW: KMS.1601.
fn limit_of(text: &str) -> Result<u32, Unfit> {
    let limit = number(text).filter(|limit| (1..=ListWindow::LONGEST).contains(limit));
    limit.ok_or(Unfit::new(Code::LIMIT_INVALID, Field::Limit, "must be a number from 1 to 1000"))
}

/// A part of a list by positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    limit: u32,
    marker: u32,
}

impl Window {
    /// For the domain.
    pub(crate) fn part(self) -> Result<ListWindow, Unfit> {
        Ok(ListWindow::parse(self.limit, self.marker)?)
    }

    /// This part of a list, and the list's end as [`Window::end`] tells it.
    pub(crate) fn of<T>(self, list: Vec<T>) -> (Vec<T>, (String, &'static str, usize)) {
        let end = self.end(list.len());
        let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
        (list.into_iter().skip(number(self.marker)).take(number(self.limit)).collect(), end)
    }

    /// `next_marker`, `truncated` and `total` of a list that has so many items in all.
    pub(crate) fn end(self, total: usize) -> (String, &'static str, usize) {
        let next = u64::from(self.marker) + u64::from(self.limit);
        if next < total as u64 { (next.to_string(), "true", total) } else { (String::new(), "false", total) }
    }
}

/// A part of a list by positions that are counted, of at most 1000. DEW: limits of keystores, regions and tags.
pub(crate) fn counted_window(limit: &str, offset: &str, bad_offset: Code) -> Result<ListWindow, Unfit> {
    let limit = match limit {
        "" => ListWindow::DEFAULT,
        text => limit_of(text)?,
    };
    let bad_offset = Unfit::new(bad_offset, Field::Offset, "must be a number of at least 0");
    let offset = if offset.is_empty() { 0 } else { number(offset).ok_or(bad_offset)? };
    Ok(ListWindow::parse(limit, offset)?)
}

/// A moment: milliseconds since 1970, as text. DEW: §1.6; the field's own text says seconds, every example is this.
pub(crate) fn milliseconds(moment: Timestamp) -> String {
    moment.as_micros().div_euclid(1000).to_string()
}

/// The same of what may not be: an empty text.
pub(crate) fn optional_milliseconds(moment: Option<Timestamp>) -> String {
    moment.map(milliseconds).unwrap_or_default()
}

/// A moment as whole seconds since 1970, rounded down. DEW: §1.6, import.
pub(crate) const fn seconds(moment: Timestamp) -> i64 {
    moment.as_micros().div_euclid(1_000_000)
}

/// The moment that so many seconds since 1970 are; `None` beyond the year 9999.
pub(crate) fn moment_of_seconds(text: &str) -> Option<Timestamp> {
    const LATEST: i64 = 253_402_300_799;
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse::<i64>().ok().filter(|seconds| is_number && *seconds <= LATEST)?;
    Some(Timestamp::from_micros(seconds * 1_000_000))
}

/// Yes or no, where DEW writes a digit.
pub(crate) const fn flag(value: bool) -> &'static str {
    if value { "1" } else { "0" }
}

/// Yes or no, where DEW writes a word.
pub(crate) const fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// Yes or no of a request.
pub(crate) fn truth_of(text: &str, field: Field) -> Result<bool, Unfit> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::invalid(field, "must be true or false").into()),
    }
}

/// Key states by DEW's numbers. DEW: §4; 1, 6 and 7 are states that keys of this service never have, of which lists can
/// be asked for the first.
const STATES: [(&str, KeyState); 4] = [
    ("2", KeyState::Enabled),
    ("3", KeyState::Disabled),
    ("4", KeyState::PendingDeletion),
    ("5", KeyState::PendingImport),
];

/// The number of a state.
pub(crate) fn state(state: KeyState) -> &'static str {
    STATES.iter().find(|(_, one)| *one == state).map_or("", |(number, _)| number)
}

/// The state with a number; `None` of the one that no key has. DEW: key_state of list-keys.
pub(crate) fn state_of(text: &str) -> Result<Option<KeyState>, Unfit> {
    const TO_BE_ACTIVATED: &str = "1";
    let found = STATES.iter().find(|(number, _)| *number == text).map(|(_, state)| *state);
    if found.is_none() && text != TO_BE_ACTIVATED {
        return Err(Error::invalid(Field::State, "must be 1, 2, 3, 4 or 5").into());
    }
    Ok(found)
}

/// The kind of a key by its name.
pub(crate) fn spec(text: &str) -> Result<KeySpec, Unfit> {
    Ok(KeySpec::parse(text).ok_or(Error::invalid(Field::KeySpec, "must be a kind of key, as AES_256"))?)
}

/// The usage of a key by its name.
pub(crate) fn usage(text: &str) -> Result<KeyUsage, Unfit> {
    Ok(KeyUsage::parse(text).ok_or(Error::invalid(Field::KeyUsage, "must be a usage, as ENCRYPT_DECRYPT"))?)
}

/// Where material comes from. DEW: in small letters.
pub(crate) fn origin(text: &str) -> Result<KeyOrigin, Unfit> {
    match text {
        "kms" => Ok(KeyOrigin::Kms),
        "external" => Ok(KeyOrigin::External),
        _ => Err(Error::invalid(Field::Origin, "must be kms or external").into()),
    }
}

/// The name of an origin.
pub(crate) const fn origin_name(origin: KeyOrigin) -> &'static str {
    match origin {
        KeyOrigin::Kms => "kms",
        KeyOrigin::External => "external",
    }
}

/// Secret bytes, answered as hexadecimal digits.
pub(crate) struct SecretHexadecimal(pub SecretBytes);

impl Serialize for SecretHexadecimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.expose_secret();
        let mut digits = Zeroizing::new(vec![0; 2 * bytes.len()]);
        let text = hex::encode_to_slice(bytes, &mut digits).ok().and_then(|()| str::from_utf8(&digits).ok());
        serializer.serialize_str(text.unwrap_or_default())
    }
}

/// Secret bytes, answered as base64.
pub(crate) struct SecretBase64(pub SecretBytes);

impl Serialize for SecretBase64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.expose_secret();
        let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
        STANDARD.encode_string(bytes, &mut text);
        serializer.serialize_str(&text)
    }
}

/// A secret that is a text, if it is one: what is not UTF-8 is replaced.
pub(crate) struct SecretLossyText(pub SecretBytes);

impl Serialize for SecretLossyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.expose_secret();
        if let Ok(text) = str::from_utf8(bytes) {
            return serializer.serialize_str(text);
        }
        // Large enough for a replacement of each byte: one that grew would leave a part of the secret behind.
        let longest = char::REPLACEMENT_CHARACTER.len_utf8() * bytes.len();
        let mut text = Zeroizing::new(String::with_capacity(longest));
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        serializer.serialize_str(&text)
    }
}
