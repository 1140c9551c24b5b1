//! The first code that bytes of a peer meet, open to the fuzz targets and to nothing else.
//!
//! The conversions stay private to the transport; this is the one door to them, and what it shows of
//! a converted request is what a fuzz target can hold against the bytes that it sent.

use std::collections::HashMap;

use bytes::Bytes;
use kms_core::{
    Error,
    context::EncryptionContext,
    ops::{Alias, KeySelector, Operation, PageToken},
};
use prost::Message;

use crate::grpc::{
    aliases, bucket_keys,
    convert::{self, campaign, replication, rotation},
    grants, import, keystores, signing, tags,
};

/// What a converted request holds that can be written back. Empty where its kind has no such part.
#[derive(Debug, Default)]
pub struct Converted {
    /// The key that it names.
    pub key: Option<KeySelector>,
    /// The alias that it gives.
    pub alias: Option<Alias>,
    /// Where its page begins.
    pub page_token: Option<PageToken>,
    /// The pairs and the data that it sent, and the context that they became.
    pub context: Option<(HashMap<String, String>, Bytes, EncryptionContext)>,
}

/// One kind of requests: decodes and converts.
type Conversion = fn(&[u8]) -> Option<Converted>;

/// Converts by a function of the transport. Shows nothing of the operation, or these fields, or its context.
macro_rules! conversion {
    (in context: $convert:path, $request:ident) => {
        |bytes| with(bytes, |request: kms_proto::v1::$request| {
            let (pairs, data) = (request.encryption_context.clone(), request.additional_authenticated_data.clone());
            let operation = $convert(request)?;
            let context = operation.context().map(|context| (pairs, data, context.clone()));
            Ok(Converted { context, ..Converted::default() })
        })
    };
    ($convert:path) => {
        |bytes| with(bytes, |request| $convert(request).map(|_| Converted::default()))
    };
    ($convert:path, $($shown:ident = $field:ident),+) => {
        |bytes| with(bytes, |request| {
            let operation = $convert(request)?;
            Ok(Converted { $($shown: operation.$field.into(),)+ ..Converted::default() })
        })
    };
}

/// All kinds that have anything to convert. A new one comes last: the inputs in `fuzz/seeds` go by the place.
const CONVERSIONS: &[Conversion] = &[
    conversion!(convert::create_key, alias = alias),
    conversion!(convert::describe_key, key = key),
    conversion!(convert::list_keys, page_token = token),
    conversion!(convert::enable_key, key = key),
    conversion!(convert::disable_key, key = key),
    conversion!(convert::schedule_key_deletion, key = key),
    conversion!(convert::cancel_key_deletion, key = key),
    conversion!(convert::update_key_alias, key = key, alias = alias),
    conversion!(convert::update_key_description, key = key),
    conversion!(in context: convert::generate_data_key, GenerateDataKeyRequest),
    conversion!(in context: convert::generate_data_key_without_plaintext, GenerateDataKeyWithoutPlaintextRequest),
    conversion!(in context: convert::encrypt_data_key, EncryptDataKeyRequest),
    conversion!(in context: convert::decrypt_data_key, DecryptDataKeyRequest),
    conversion!(convert::generate_random),
    conversion!(in context: convert::generate_data_keys, GenerateDataKeysRequest),
    conversion!(in context: convert::generate_data_key_pair, GenerateDataKeyPairRequest),
    conversion!(convert::re_encrypt),
    conversion!(in context: convert::encrypt_data, EncryptDataRequest),
    conversion!(in context: convert::decrypt_data, DecryptDataRequest),
    conversion!(signing::sign),
    conversion!(signing::verify),
    conversion!(signing::get_public_key, key = key),
    conversion!(signing::generate_mac),
    conversion!(signing::verify_mac),
    conversion!(signing::derive_shared_secret, key = key),
    conversion!(import::get_parameters_for_import, key = key),
    conversion!(import::import_key_material, key = key),
    conversion!(import::delete_imported_key_material, key = key),
    conversion!(keystores::create_keystore, alias = alias),
    conversion!(keystores::delete_keystore),
    conversion!(keystores::enable_keystore),
    conversion!(keystores::disable_keystore),
    conversion!(keystores::describe_keystore),
    conversion!(keystores::list_keystores),
    conversion!(rotation::enable_key_rotation, key = key),
    conversion!(rotation::disable_key_rotation, key = key),
    conversion!(rotation::update_rotation_interval, key = key),
    conversion!(rotation::get_rotation_status, key = key),
    conversion!(rotation::rotate_key_on_demand, key = key),
    conversion!(campaign::describe_key_usage, key = key),
    conversion!(campaign::start_campaign, key = key),
    conversion!(campaign::get_campaign, key = key),
    conversion!(campaign::list_campaigns, key = key),
    conversion!(in context: campaign::rewrap, RewrapRequest),
    conversion!(aliases::create_alias, key = key),
    conversion!(aliases::associate_alias, key = target),
    conversion!(aliases::delete_alias),
    conversion!(aliases::list_aliases, key = key, page_token = token),
    conversion!(tags::create_tag),
    conversion!(tags::delete_tag, key = key),
    conversion!(tags::batch_create_tags),
    conversion!(tags::batch_delete_tags),
    conversion!(tags::list_tags, key = key),
    conversion!(tags::list_project_tags, page_token = token),
    conversion!(tags::list_keys_by_tags),
    conversion!(grants::create_grant, key = key),
    conversion!(grants::list_grants, key = key, page_token = token),
    conversion!(grants::list_retirable_grants, page_token = token),
    conversion!(grants::retire_grant, key = key),
    conversion!(grants::revoke_grant, key = key),
    conversion!(convert::list_destroyed_keys),
    conversion!(replication::replicate_key, key = key),
    conversion!(replication::update_primary_region, key = key),
    conversion!(in context: bucket_keys::generate_bucket_key, GenerateBucketKeyRequest),
    conversion!(in context: bucket_keys::decrypt_bucket_key, DecryptBucketKeyRequest),
    conversion!(bucket_keys::report_bucket_key_use),
];

/// Decodes `bytes` as a request of this kind, modulo the number of kinds, and converts it; `None` if either
/// refuses it.
pub fn convert_request(kind: u8, bytes: &[u8]) -> Option<Converted> {
    CONVERSIONS[usize::from(kind) % CONVERSIONS.len()](bytes)
}

fn with<M: Message + Default>(
    bytes: &[u8],
    convert: impl FnOnce(M) -> Result<Converted, Error>,
) -> Option<Converted> {
    M::decode(bytes).ok().and_then(|message| convert(message).ok())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_kind_has_an_input_to_begin_with_and_each_of_them_converts() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/request");
        let mut kinds = BTreeSet::new();
        for seed in fs::read_dir(seeds).expect("they are in the repository") {
            let path = seed.expect("an entry").path();
            let input = fs::read(&path).expect("a file");
            let (kind, message) = input.split_first().expect("a kind");
            assert!(convert_request(*kind, message).is_some(), "{}", path.display());
            kinds.insert(usize::from(*kind));
        }
        assert_eq!(kinds, (0..CONVERSIONS.len()).collect());
    }
}
