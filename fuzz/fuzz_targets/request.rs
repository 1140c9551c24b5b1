//! Every request of the contract: the first byte says which one, the others are the message.
//!
//! It is refused or converted, and what was converted still says what was sent.
#![no_main]

use std::collections::HashMap;

use kms_core::{
    key::KeyId,
    ops::{Alias, KeySelector, PageToken},
};
use kms_server::fuzzing::convert_request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((kind, message)) = input.split_first() else { return };
    let Some(converted) = convert_request(*kind, message) else { return };
    if let Some(key) = converted.key {
        assert_eq!(named_again(&key), key);
    }
    if let Some(alias) = converted.alias {
        assert_eq!(Alias::parse(alias.as_str()), Ok(alias));
    }
    if let Some(token) = converted.page_token {
        assert_eq!(PageToken::parse(&token.encode()), Ok(Some(token)));
    }
    if let Some((pairs, context)) = converted.context {
        assert_eq!(pairs_of(context.canonical()), pairs);
    }
});

fn named_again(key: &KeySelector) -> KeySelector {
    match key {
        KeySelector::Id(id) => KeySelector::Id(id.to_string().parse::<KeyId>().expect("an id")),
        KeySelector::Alias(alias) => KeySelector::alias(alias.as_str()).expect("an alias"),
        KeySelector::Service(service) => KeySelector::alias(&format!("{service}/default")).expect("an alias"),
    }
}

/// Reads the canonical form back, by docs/ciphertext-format.md.
fn pairs_of(canonical: &[u8]) -> HashMap<String, String> {
    let (kind, mut rest) = canonical.split_first().expect("a kind");
    let mut pairs = HashMap::new();
    match kind {
        0 => {}
        1 => {
            for _ in 0..number(&mut rest) {
                let key = text(&mut rest);
                assert!(pairs.insert(key, text(&mut rest)).is_none(), "a key stands twice");
            }
        }
        kind => panic!("unknown kind {kind}"),
    }
    assert!(rest.is_empty(), "bytes behind the last pair");
    pairs
}

fn text(rest: &mut &[u8]) -> String {
    let length = number(rest);
    let (text, behind) = rest.split_at(length);
    *rest = behind;
    String::from_utf8(text.to_vec()).expect("UTF-8")
}

fn number(rest: &mut &[u8]) -> usize {
    let (length, behind) = rest.split_first_chunk().expect("a length");
    *rest = behind;
    u32::from_be_bytes(*length) as usize
}
