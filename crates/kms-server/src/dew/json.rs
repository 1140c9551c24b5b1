//! How bodies are read where serde's own way is not what a service of secrets needs: objects that nothing else stands
//! for, and secrets without copies that are not wiped.

use std::{fmt, marker::PhantomData, ops::Deref};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::secret_text::SecretText;

/// What is an object in JSON. A struct alone would be made of an array, too, by the order of its fields: of one key id,
/// a call that disables the key.
#[derive(Debug, Default)]
pub(crate) struct Object<T>(pub T);

impl<T> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// A secret text of a body. Only for bodies that are borrowed, as the service reads them: what has escapes is written
/// into a buffer that is wiped, where `serde_json` would write it into one that is not.
#[derive(Debug)]
pub(crate) struct JsonSecret(pub SecretText);

impl JsonSecret {
    /// The secret itself.
    pub(crate) fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl<'de> Deserialize<'de> for JsonSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The usual messages show the value.
        let unfit = || D::Error::custom("a secret must be a text");
        let raw = <&RawValue>::deserialize(deserializer).map_err(|_| unfit())?;
        unescaped(raw.get()).map(|text| Self(SecretText::from_wiped(text))).ok_or_else(unfit)
    }
}

/// The text that a JSON string stands for; `None` of what is none. RFC 8259, section 7.
fn unescaped(raw: &str) -> Option<Zeroizing<String>> {
    let mut rest = raw.strip_prefix('"')?.strip_suffix('"')?;
    // No escape is shorter than what it stands for: the buffer does not move.
    let mut text = Zeroizing::new(String::with_capacity(rest.len()));
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let (character, after) = escaped(escape)?;
        text.push(character);
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

/// The character that an escape stands for, of which `escape` is what follows the backslash, and what follows it.
fn escaped(escape: &str) -> Option<(char, &str)> {
    let kind = escape.chars().next()?;
    let after = &escape[kind.len_utf8()..];
    let character = match kind {
        '"' | '\\' | '/' => kind,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return numbered(after),
        _ => return None,
    };
    Some((character, after))
}

/// The character of one UTF-16 unit, or of a pair of surrogates in two escapes, and what follows it.
fn numbered(digits: &str) -> Option<(char, &str)> {
    let (first, after) = unit(digits)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, after));
    }
    let (second, after) = unit(after.strip_prefix("\\u")?)?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, after))
}

/// The unit of four hexadecimal digits, and what follows them.
fn unit(digits: &str) -> Option<(u16, &str)> {
    let (digits, after) = digits.split_at_checked(4)?;
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let unit = u16::from_str_radix(digits, 16).ok().filter(|_| are_digits)?;
    Some((unit, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        text: Option<JsonSecret>,
        inner: Option<Object<Inner>>,
        list: Option<Vec<Object<Inner>>>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        text: Option<JsonSecret>,
    }

    fn read(body: &str) -> Result<Body, serde_json::Error> {
        serde_json::from_str::<Object<Body>>(body).map(|Object(body)| body)
    }

    /// What is read of a value, here and by `serde_json`.
    fn both(raw: &str) -> (Option<String>, Option<String>) {
        let ours = serde_json::from_str::<JsonSecret>(raw).ok();
        let ours = ours.map(|text| text.expose_secret().to_owned());
        (ours, serde_json::from_str::<String>(raw).ok())
    }

    #[test]
    fn nothing_but_an_object_is_one() {
        for body in ["{}", r#" {"text": "a"}"#, r#"{"inner": {}}"#, r#"{"list": [{}, {"text": null}]}"#] {
            read(body).expect(body);
        }
        for body in [
            r#"["a"]"#,
            r#"["a", {}, []]"#,
            "[]",
            "null",
            r#""text""#,
            r#"{"inner": ["a"]}"#,
            r#"{"inner": []}"#,
            r#"{"list": [["a"]]}"#,
            r#"{"list": {}}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        // What this is for: serde's own way.
        assert!(serde_json::from_str::<Inner>(r#"["a"]"#).is_ok());
        let whole = read(r#"{"inner": {"text": "\u0061"}, "list": [{}, {}]}"#).expect("an object");
        let text = whole.inner.and_then(|Object(inner)| inner.text).expect("it is there");
        assert_eq!((text.expose_secret(), whole.list.map(|list| list.len())), ("a", Some(2)));
    }

    #[test]
    fn every_form_of_escape_is_read_as_serde_json_reads_it() {
        let text = |raw: &str| {
            let (ours, theirs) = both(raw);
            assert_eq!(ours, theirs, "{raw}");
            ours
        };
        let whole = text(r#""\"\\\/\b\f\n\r\t \u00e9\u00E9\ud83d\ude00é😀""#);
        assert_eq!(whole.as_deref(), Some("\"\\/\u{8}\u{c}\n\r\t éé😀é😀"));
        for (raw, expected) in [(r#""""#, ""), (r#""\u0000""#, "\0"), (r#""\uffff""#, "\u{ffff}")] {
            assert_eq!(text(raw).as_deref(), Some(expected));
        }
        for raw in [
            r#""\x""#,
            r#""\"#,
            r#""\u12""#,
            r#""\u+123""#,
            r#""\u00g0""#,
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            "\"\n\"",
            "\"",
            "1",
            "true",
            "[]",
            r#"["a"]"#,
            "{}",
        ] {
            assert_eq!(text(raw), None, "{raw}");
        }
        assert!(read(r#"{"text": null}"#).expect("an object").text.is_none());
    }

    #[test]
    fn nothing_of_a_secret_is_in_what_is_told_of_it() {
        let secret = r#"{"text": "hunter\u00322\ud800"}"#;
        assert!(!read(secret).expect_err("half a pair").to_string().contains("hunter"));
        assert!(!format!("{:?}", read(r#"{"text": "hunter2"}"#).expect("a text")).contains("hunter"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_it_was_written(text in any::<String>(), escapes in any::<bool>()) {
            let raw = serde_json::to_string(&text).expect("a text");
            let ascii = |character: char| {
                let mut units = [0; 2];
                let units = character.encode_utf16(&mut units).iter();
                units.fold(String::new(), |text, unit| format!("{text}\\u{unit:04x}"))
            };
            let raw = if escapes {
                raw.chars().map(|one| if one.is_ascii() { one.to_string() } else { ascii(one) }).collect()
            } else {
                raw
            };
            prop_assert_eq!(both(&raw), (Some(text.clone()), Some(text)));
        }

        #[test]
        fn any_string_is_read_or_refused_as_by_serde_json(
            inner in proptest::collection::vec(
                prop_oneof![
                    Just("\\".to_owned()), Just("\"".to_owned()), Just("\\u".to_owned()), Just("\\ud83d".to_owned()),
                    Just("\\ude00".to_owned()), "[ -~]", "[0-9a-fA-F]{1,4}", "\\PC",
                ],
                0..8,
            ),
        ) {
            let (ours, theirs) = both(&format!("\"{}\"", inner.concat()));
            prop_assert_eq!(ours, theirs);
        }
    }
}
