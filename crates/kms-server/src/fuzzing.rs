//! The first code that bytes of a peer meet, open to the fuzz targets and to nothing else.
//!
//! The conversions stay private to the transport; this is the one door to them, and what it shows of
//! a converted request is what a fuzz target can hold against the bytes that it sent.

use std::collections::HashMap;

use kms_core::{
    Error,
    context::EncryptionContext,
    ops::{Alias, KeySelector, PageToken},
};
use kms_proto::v1;
use prost::Message;

use crate::grpc::convert;

/// How many kinds of requests there are.
pub const KINDS: u8 = 14;

/// What a converted request holds that can be written back. Empty where its kind has no such part.
#[derive(Debug, Default)]
pub struct Converted {
    /// The key that it names.
    pub key: Option<KeySelector>,
    /// The alias that it gives.
    pub alias: Option<Alias>,
    /// Where its page begins.
    pub page_token: Option<PageToken>,
    /// The pairs that it sent, and the context that they became.
    pub context: Option<(HashMap<String, String>, EncryptionContext)>,
}

/// Decodes `bytes` as a request of this kind, modulo [`KINDS`], and converts it; `None` if either
/// refuses it.
pub fn convert_request(kind: u8, bytes: &[u8]) -> Option<Converted> {
    match kind % KINDS {
        0 => with(bytes, |request| {
            let alias = convert::create_key(request)?.alias;
            Ok(Converted { alias: Some(alias), ..Converted::default() })
        }),
        1 => with(bytes, |request| {
            let key = convert::describe_key(request)?.key;
            Ok(Converted { key: Some(key), ..Converted::default() })
        }),
        2 => with(bytes, |request| {
            let page_token = convert::list_keys(request)?.token;
            Ok(Converted { page_token, ..Converted::default() })
        }),
        3 => with(bytes, |request| convert::enable_key(request).map(nothing)),
        4 => with(bytes, |request| convert::disable_key(request).map(nothing)),
        5 => with(bytes, |request| convert::schedule_key_deletion(request).map(nothing)),
        6 => with(bytes, |request| convert::cancel_key_deletion(request).map(nothing)),
        7 => with(bytes, |request| {
            let alias = convert::update_key_alias(request)?.alias;
            Ok(Converted { alias: Some(alias), ..Converted::default() })
        }),
        8 => with(bytes, |request| convert::update_key_description(request).map(nothing)),
        9 => with(bytes, |request: v1::GenerateDataKeyRequest| {
            let pairs = request.encryption_context.clone();
            let operation = convert::generate_data_key(request)?;
            let context = Some((pairs, operation.encryption_context));
            Ok(Converted { key: Some(operation.key), context, ..Converted::default() })
        }),
        10 => with(bytes, |request| convert::generate_data_key_without_plaintext(request).map(nothing)),
        11 => with(bytes, |request| convert::encrypt_data_key(request).map(nothing)),
        12 => with(bytes, |request| convert::decrypt_data_key(request).map(nothing)),
        _ => with(bytes, |request| convert::generate_random(request).map(nothing)),
    }
}

fn with<M: Message + Default>(
    bytes: &[u8],
    convert: impl FnOnce(M) -> Result<Converted, Error>,
) -> Option<Converted> {
    M::decode(bytes).ok().and_then(|message| convert(message).ok())
}

fn nothing<O>(_: O) -> Converted {
    Converted::default()
}
