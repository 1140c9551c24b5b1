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
    if let Some((pairs, data, context)) = converted.context {
        assert_eq!(sent(context.canonical()), (pairs, data.to_vec()));
    }
});

fn named_again(key: &KeySelector) -> KeySelector {
    match key {
        KeySelector::Id(id) => KeySelector::Id(id.to_string().parse::<KeyId>().expect("an id")),
        KeySelector::Alias(alias) => KeySelector::alias(alias.as_str()).expect("an alias"),
        KeySelector::Urn(urn) => KeySelector::alias(&urn.to_string()).expect("a URN"),
        KeySelector::Service(service) => KeySelector::alias(&format!("{service}/default")).expect("an alias"),
    }
}

/// Reads the pairs and the data back from the canonical form, by docs/ciphertext-format.md.
fn sent(canonical: &[u8]) -> (HashMap<String, String>, Vec<u8>) {
    let (kind, mut rest) = canonical.split_first().expect("a kind");
    let (mut pairs, mut data) = (HashMap::new(), Vec::new());
    match kind {
        0 => {}
        1 => {
            for _ in 0..number(&mut rest) {
                let key = text(&mut rest);
                assert!(pairs.insert(key, text(&mut rest)).is_none(), "a key stands twice");
            }
        }
        2 => data = piece(&mut rest),
        kind => panic!("unknown kind {kind}"),
    }
    assert!(rest.is_empty(), "bytes behind the end");
    (pairs, data)
}

fn text(rest: &mut &[u8]) -> String {
    String::from_utf8(piece(rest)).expect("UTF-8")
}

fn piece(rest: &mut &[u8]) -> Vec<u8> {
    let length = number(rest);
    let (piece, behind) = rest.split_at(length);
    *rest = behind;
    piece.to_vec()
}

fn number(rest: &mut &[u8]) -> usize {
    let (length, behind) = rest.split_first_chunk().expect("a length");
    *rest = behind;
    u32::from_be_bytes(*length) as usize
}
