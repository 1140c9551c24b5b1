//! Which key may encrypt an object: the rules of SSE-KMS, as functions of what a gateway knows.
//!
//! A gateway reads the name that a request gives a key ([`KeyName::parse`]), asks what can be said before the key is known
//! ([`reference()`]), has the service describe the key, and asks the rest ([`check_key`]).

use std::fmt;

use kms_proto::v1::{Key, KeySpec, KeyUsage};

use crate::KeyReference;

/// The service whose default key encrypts objects for which none is named.
pub const SERVICE: &str = "obs";

/// The longest name of a region or an account.
const MOST_NAME_BYTES: usize = 64;

/// How a request names a custom key.
// DEW: `key_id` or `regionID:domainID:key/key_id`; on the S3 side `arn:aws:kms:REGION:DOMAIN:key/ID`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyName {
    /// Its id: a lower-case UUID.
    pub key_id: String,
    /// Where it is, if the name says so.
    pub place: Option<KeyPlace>,
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyPlace {
    /// The region.
    pub region: String,
    /// The account that owns it.
    pub domain_id: String,
}

/// Who asks, and for which bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement<'a> {
    /// The region of the bucket.
    pub bucket_region: &'a str,
    /// The account that owns the bucket.
    pub bucket_domain: &'a str,
    /// The account of the requester.
    pub requester_domain: &'a str,
}

/// Which rule a key breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The name has none of the three forms.
    #[error("a key is named by its id, by region:domain:key/id, or by arn:aws:kms:region:domain:key/id")]
    MalformedName,
    /// A custom key encrypts in its region only.
    #[error("the key is in region {key}, the bucket in {bucket}")]
    OtherRegion {
        /// The region of the key.
        key: String,
        /// The region of the bucket.
        bucket: String,
    },
    /// Access over accounts needs custom keys: requester, bucket and a default key are of one account.
    #[error("a default key encrypts for its own account in that account's buckets only")]
    ForeignDefaultKey,
    /// It is the default key of another service.
    #[error("the key is the default key of {0}")]
    OtherService(String),
    /// It is not the key that was named.
    #[error("the key is not {0}")]
    OtherKey(String),
    /// The named account is not the one that owns the key.
    #[error("the key is not of account {0}")]
    OtherAccount(String),
    /// Only AES-256 and SM4 keys for encryption encrypt objects.
    #[error("objects are encrypted under AES_256 and SM4 keys only")]
    UnsuitableKind,
}

impl KeyName {
    /// Reads one of the three forms.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        let full = text.strip_prefix("arn:aws:kms:").unwrap_or(text);
        let parsed = match full.split_once(":key/") {
            Some((place, key_id)) => KeyPlace::parse(place)
                .zip(id(key_id))
                .map(|(place, key_id)| Self { key_id, place: Some(place) }),
            None => id(text).map(|key_id| Self { key_id, place: None }),
        };
        parsed.ok_or(Violation::MalformedName)
    }

    /// As the S3 side writes it; `None`: the name does not say where the key is.
    pub fn as_arn(&self) -> Option<String> {
        self.place.as_ref().map(|_| format!("arn:aws:kms:{self}"))
    }
}

impl fmt::Display for KeyName {
    /// The id alone, or `region:domain:key/id`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(KeyPlace { region, domain_id }) => write!(f, "{region}:{domain_id}:key/{}", self.key_id),
            None => f.write_str(&self.key_id),
        }
    }
}

impl KeyPlace {
    fn parse(text: &str) -> Option<Self> {
        let (region, domain_id) = text.split_once(':')?;
        let [region, domain_id] = [region, domain_id].map(name);
        Some(Self { region: region?, domain_id: domain_id? })
    }
}

/// A name of the service's: 1 to 64 of `A-Z a-z 0-9 . _ -`.
fn name(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=MOST_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed);
    fits.then(|| text.to_owned())
}

/// A UUID as the service writes it.
// RFC 9562 §4
fn id(text: &str) -> Option<String> {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    (text.len() == 36 && text.bytes().enumerate().all(fits)).then(|| text.to_owned())
}

/// How to ask the service for the key of an object, if the name alone breaks no rule. No name: the default key of the
/// requester's account, which its first use makes.
// DEW: a default key belongs to no region, and to no user; a custom key encrypts in its region; access over accounts
// needs custom keys.
pub fn reference(name: Option<&KeyName>, placement: Placement<'_>) -> Result<KeyReference, Violation> {
    let Some(name) = name else {
        let own = placement.requester_domain == placement.bucket_domain;
        return if own {
            Ok(KeyReference::Service(SERVICE.to_owned()))
        } else {
            Err(Violation::ForeignDefaultKey)
        };
    };
    match &name.place {
        Some(place) if place.region != placement.bucket_region => Err(Violation::OtherRegion {
            key: place.region.clone(),
            bucket: placement.bucket_region.to_owned(),
        }),
        _ => Ok(KeyReference::KeyId(name.key_id.clone())),
    }
}

/// Whether the key that the service describes may encrypt objects of this bucket for this requester; whether it may use
/// the key at all, the service says at its use. `name`: how the request named it.
// DEW: custom keys AES-256 or SM4, in the bucket's region; cross-account access needs custom keys.
pub fn check_key(key: &Key, name: Option<&KeyName>, placement: Placement<'_>) -> Result<(), Violation> {
    if let Some(name) = name.filter(|name| name.key_id != key.key_id) {
        return Err(Violation::OtherKey(name.key_id.clone()));
    }
    let place = name.and_then(|name| name.place.as_ref());
    if let Some(place) = place.filter(|place| place.domain_id != key.domain_id) {
        return Err(Violation::OtherAccount(place.domain_id.clone()));
    }
    let is_default = !key.default_for_service.is_empty();
    if is_default && key.default_for_service != SERVICE {
        return Err(Violation::OtherService(key.default_for_service.clone()));
    }
    let accounts = [placement.requester_domain, placement.bucket_domain];
    if is_default && accounts.iter().any(|account| *account != key.domain_id) {
        return Err(Violation::ForeignDefaultKey);
    }
    if !is_default && key.region != placement.bucket_region {
        let (key, bucket) = (key.region.clone(), placement.bucket_region.to_owned());
        return Err(Violation::OtherRegion { key, bucket });
    }
    let encrypts = key.key_usage() == KeyUsage::EncryptDecrypt;
    if encrypts && matches!(key.key_spec(), KeySpec::Aes256 | KeySpec::Sm4) {
        Ok(())
    } else {
        Err(Violation::UnsuitableKind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0193a000-0000-7000-8000-00000000000f";
    const HERE: Placement<'_> =
        Placement { bucket_region: "cn-north-4", bucket_domain: "acme", requester_domain: "acme" };

    fn place(region: &str, domain_id: &str) -> KeyPlace {
        KeyPlace { region: region.to_owned(), domain_id: domain_id.to_owned() }
    }

    fn named(text: &str) -> KeyName {
        KeyName::parse(text).expect(text)
    }

    fn custom(domain_id: &str, region: &str, spec: KeySpec) -> Key {
        Key {
            key_id: ID.to_owned(),
            domain_id: domain_id.to_owned(),
            region: region.to_owned(),
            key_spec: spec.into(),
            key_usage: KeyUsage::EncryptDecrypt.into(),
            ..Key::default()
        }
    }

    fn default_key(domain_id: &str, service: &str) -> Key {
        Key { default_for_service: service.to_owned(), ..custom(domain_id, "", KeySpec::Aes256) }
    }

    #[test]
    fn a_key_is_named_in_three_forms() {
        let short = format!("cn-north-4:acme:key/{ID}");
        let arn = format!("arn:aws:kms:{short}");
        assert_eq!(named(ID), KeyName { key_id: ID.to_owned(), place: None });
        for full in [&short, &arn] {
            let name = named(full);
            assert_eq!((name.key_id.as_str(), name.place.clone()), (ID, Some(place("cn-north-4", "acme"))));
            assert_eq!((name.to_string(), name.as_arn()), (short.clone(), Some(arn.clone())));
        }
        assert_eq!((named(ID).to_string(), named(ID).as_arn()), (ID.to_owned(), None));
    }

    #[test]
    fn anything_else_names_none() {
        let long = "a".repeat(65);
        for text in [
            String::new(),
            ID.to_uppercase(),
            ID.replace('-', ""),
            format!("{ID} "),
            format!("key/{ID}"),
            format!("acme:key/{ID}"),
            format!(":acme:key/{ID}"),
            format!("cn-north-4::key/{ID}"),
            format!("cn-north-4:acme:{ID}"),
            format!("cn-north-4:acme:alias/{ID}"),
            format!("cn-north-4:acme:more:key/{ID}"),
            format!("cn-north-4:acme:key/{ID}:key/{ID}"),
            format!("cn north 4:acme:key/{ID}"),
            format!("{long}:acme:key/{ID}"),
            format!("arn:aws:kms:{ID}"),
            format!("arn:aws:s3:cn-north-4:acme:key/{ID}"),
            format!("arn:aws:kms:arn:aws:kms:cn-north-4:acme:key/{ID}"),
            "alias/orders".to_owned(),
            "obs/default".to_owned(),
            format!("{}é", &ID[..34]),
        ] {
            assert_eq!(KeyName::parse(&text), Err(Violation::MalformedName), "{text:?}");
        }
    }

    #[test]
    fn without_a_name_it_is_the_default_key() {
        assert_eq!(reference(None, HERE), Ok(KeyReference::Service("obs".to_owned())));
        let elsewhere = Placement { bucket_region: "cn-east-3", ..HERE };
        assert_eq!(reference(None, elsewhere), reference(None, HERE), "in all regions the same");
        for foreign in
            [Placement { bucket_domain: "zeta", ..HERE }, Placement { requester_domain: "zeta", ..HERE }]
        {
            assert_eq!(reference(None, foreign), Err(Violation::ForeignDefaultKey), "{foreign:?}");
        }
    }

    #[test]
    fn a_name_of_another_region_is_refused_before_anybody_is_asked() {
        let by_id = KeyReference::KeyId(ID.to_owned());
        assert_eq!(reference(Some(&named(ID)), HERE), Ok(by_id.clone()));
        // Another account's key may be granted: the service says so.
        for domain_id in ["acme", "zeta"] {
            let name = named(&format!("cn-north-4:{domain_id}:key/{ID}"));
            assert_eq!(reference(Some(&name), HERE), Ok(by_id.clone()));
        }
        let elsewhere = named(&format!("cn-east-3:acme:key/{ID}"));
        let (key, bucket) = ("cn-east-3".to_owned(), "cn-north-4".to_owned());
        assert_eq!(reference(Some(&elsewhere), HERE), Err(Violation::OtherRegion { key, bucket }));
    }

    #[test]
    fn a_custom_key_encrypts_in_its_region_whoever_owns_it() {
        for (domain_id, bucket_domain) in [("acme", "acme"), ("zeta", "acme"), ("acme", "zeta")] {
            let here = Placement { bucket_domain, ..HERE };
            for spec in [KeySpec::Aes256, KeySpec::Sm4] {
                assert_eq!(check_key(&custom(domain_id, "cn-north-4", spec), Some(&named(ID)), here), Ok(()));
            }
            let elsewhere = custom(domain_id, "cn-east-3", KeySpec::Aes256);
            let refused = check_key(&elsewhere, Some(&named(ID)), here);
            assert!(matches!(refused, Err(Violation::OtherRegion { .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_default_key_encrypts_for_its_account_in_every_region() {
        for bucket_region in ["cn-north-4", "cn-east-3"] {
            let placement = Placement { bucket_region, ..HERE };
            assert_eq!(check_key(&default_key("acme", "obs"), None, placement), Ok(()));
            let foreign = default_key("zeta", "obs");
            assert_eq!(check_key(&foreign, Some(&named(ID)), placement), Err(Violation::ForeignDefaultKey));
            let guest = Placement { bucket_domain: "zeta", ..placement };
            for key in [foreign, default_key("acme", "obs")] {
                assert_eq!(check_key(&key, Some(&named(ID)), guest), Err(Violation::ForeignDefaultKey));
            }
        }
        let other = Err(Violation::OtherService("evs".to_owned()));
        assert_eq!(check_key(&default_key("acme", "evs"), Some(&named(ID)), HERE), other);
    }

    #[test]
    fn the_key_is_the_one_that_was_named() {
        let key = custom("acme", "cn-north-4", KeySpec::Aes256);
        let other = ID.replace('f', "e");
        assert_eq!(check_key(&key, Some(&named(&other)), HERE), Err(Violation::OtherKey(other)));
    }

    #[test]
    fn the_named_account_has_to_be_the_owner() {
        let name = named(&format!("cn-north-4:zeta:key/{ID}"));
        let key = |domain_id| custom(domain_id, "cn-north-4", KeySpec::Aes256);
        assert_eq!(check_key(&key("zeta"), Some(&name), HERE), Ok(()));
        let other = Err(Violation::OtherAccount("zeta".to_owned()));
        assert_eq!(check_key(&key("acme"), Some(&name), HERE), other);
    }

    #[test]
    fn other_kinds_of_keys_encrypt_no_objects() {
        for number in 0..=14 {
            let Ok(spec) = KeySpec::try_from(number) else { panic!("{number} is no kind") };
            let checked = check_key(&custom("acme", "cn-north-4", spec), None, HERE);
            let suits = matches!(spec, KeySpec::Aes256 | KeySpec::Sm4);
            assert_eq!(checked.is_ok(), suits, "{spec:?}");
        }
        let signs =
            Key { key_usage: KeyUsage::SignVerify.into(), ..custom("acme", "cn-north-4", KeySpec::Aes256) };
        assert_eq!(check_key(&signs, None, HERE), Err(Violation::UnsuitableKind));
    }
}
