//! How an object is encrypted, and by which key: the rules of SSE-KMS as pure functions.

use kms_client::rules::{KeyName, Violation};

use crate::{format::Suite, store::BucketEncryption};

/// What an upload says about its encryption, from either face's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `kms` or `aws:kms`; other modes are refused.
    pub mode: Option<String>,
    /// The key's id, in any of its forms.
    pub key: Option<String>,
    /// `AES256` or `SM4`.
    pub algorithm: Option<String>,
    /// Whether anything asks for a key of the customer's own (SSE-C).
    pub has_customer_key: bool,
    /// Whether the data key shall be derived from a bucket key; `None`: as the bucket says.
    pub bucket_key: Option<bool>,
    /// Whether anything is added to the object's encryption context.
    pub has_context: bool,
    /// Whether it is said in the words of OBS.
    pub is_obs: bool,
}

/// Encryption by KMS: what seals, and whose key seals the data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// What seals the object.
    pub suite: Suite,
    /// The customer master key; `None`: the default key of the requester's account, made at its first use.
    pub key: Option<KeyName>,
    /// Whether the data key is derived from a bucket key.
    pub bucket_key: bool,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the gateway: data keys are made.
    Upload,
    /// From the gateway: data keys are opened.
    Download,
}

/// What a user needs in the KMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// To look at the key.
    GetKey,
    /// To list keys.
    ListKeys,
    /// To make a key.
    CreateKey,
    /// To make data keys.
    CreateDataKey,
    /// To open data keys.
    OpenDataKey,
}

/// Why an encryption is refused before the KMS is asked to seal anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A header's value that is none of those allowed.
    #[error("the value of {0} is not allowed")]
    Value(&'static str),
    /// Key or algorithm without the mode that they belong to.
    #[error("{0} needs the encryption mode kms")]
    NeedsMode(&'static str),
    /// OBS: a bucket key is asked for together with the id of a key.
    #[error("a bucket key needs the header with a key's id")]
    NeedsKeyId,
    /// A bucket key is bound to the bucket alone.
    #[error("under a bucket key, an object has no encryption context of its own")]
    ContextUnderBucketKey,
    /// The encryption context is longer than the key service takes it, with the entries that say where the object is.
    #[error("the encryption context is too long")]
    ContextTooLong,
    /// What the key service does not take, as it is asked for here.
    #[error("the key service does not take what is asked of it")]
    NotTaken,
    /// A mode that this gateway does not offer.
    #[error("{0} is not offered")]
    NotOffered(&'static str),
    /// Not a key's id in any of its forms.
    #[error("this is not a key's id")]
    KeyId,
    /// A key of another region or of another account than its id says.
    #[error("the key does not exist in this region")]
    NotHere,
    /// A default key is used by its own account in that account's buckets only.
    #[error("only a custom key can be used across accounts")]
    DefaultAcrossAccounts,
    /// The default key of another service.
    #[error("the key is the default key of {0}")]
    OtherService(String),
    /// Neither AES-256 nor SM4.
    #[error("only AES_256 and SM4 keys encrypt objects")]
    KeySpec,
    /// The request did not come over TLS.
    #[error("SSE-KMS needs HTTPS")]
    NeedsHttps,
}

impl From<Violation> for Rejection {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::MalformedName => Self::KeyId,
            Violation::ForeignDefaultKey => Self::DefaultAcrossAccounts,
            Violation::OtherService(service) => Self::OtherService(service),
            Violation::UnsuitableKind => Self::KeySpec,
            // What is not where it was said to be, or not here, tells nothing more of itself.
            _ => Self::NotHere,
        }
    }
}

/// How an upload is encrypted: as it says, or else as the bucket says, or else as the source of a copy is; `None`: not at
/// all.
// OBS: an object's header goes before the bucket's configuration, as a whole.
pub fn method(
    asked: &Asked,
    default: Option<&BucketEncryption>,
    source: Option<&Method>,
) -> Result<Option<Method>, Rejection> {
    if asked.has_customer_key {
        return Err(Rejection::NotOffered("SSE-C"));
    }
    let chosen = match asked.mode.as_deref() {
        Some("kms" | "aws:kms") => Some(named_method(asked)?),
        Some("AES256") => return Err(Rejection::NotOffered("SSE with keys of the store")),
        Some("aws:kms:dsse") => return Err(Rejection::NotOffered("dual-layer SSE")),
        Some(_) => return Err(Rejection::Value("server-side-encryption")),
        None if asked.key.is_some() => return Err(Rejection::NeedsMode("a key's id")),
        // OBS: SM4 only with kms.
        None if asked.algorithm.is_some() => return Err(Rejection::NeedsMode("a data encryption algorithm")),
        None => default.map(bucket_method).transpose()?.or_else(|| source.cloned()),
    };
    match chosen {
        Some(method) => Ok(Some(Method { bucket_key: has_bucket_key(asked, default)?, ..method })),
        None if asked.has_context => Err(Rejection::NeedsMode("an encryption context")),
        None if asked.bucket_key == Some(true) => Err(Rejection::NeedsMode("a bucket key")),
        None => Ok(None),
    }
}

/// Whether an upload's data key is derived from a bucket key: as it says, or else as the bucket says. What the source of
/// a copy has does not count.
// OBS: an object's header goes before the bucket's setting, and comes with the header of a key's id.
fn has_bucket_key(asked: &Asked, default: Option<&BucketEncryption>) -> Result<bool, Rejection> {
    match asked.bucket_key {
        Some(true) if asked.is_obs && asked.key.as_deref().is_none_or(str::is_empty) => {
            Err(Rejection::NeedsKeyId)
        }
        Some(true) if asked.has_context => Err(Rejection::ContextUnderBucketKey),
        Some(wanted) => Ok(wanted),
        // What an object adds to the context is bound by a data key of its own only.
        None => Ok(!asked.has_context && default.is_some_and(|default| default.bucket_key)),
    }
}

/// How a bucket's configuration encrypts.
fn bucket_method(encryption: &BucketEncryption) -> Result<Method, Rejection> {
    let key = key_name(encryption.key.as_deref())?;
    Ok(Method { suite: encryption.suite, key, bucket_key: encryption.bucket_key })
}

fn named_method(asked: &Asked) -> Result<Method, Rejection> {
    let suite = match asked.algorithm.as_deref() {
        None | Some("AES256") => Suite::Aes256Gcm,
        Some("SM4") => Suite::Sm4Gcm,
        Some(_) => return Err(Rejection::Value("server-side-data-encryption")),
    };
    Ok(Method { suite, key: key_name(asked.key.as_deref())?, bucket_key: false })
}

/// The key of this name; the default key if none is given.
// DEW: if no key is named, the account's default key is used, and made at the first use.
pub fn key_name(name: Option<&str>) -> Result<Option<KeyName>, Rejection> {
    let name = name.filter(|name| !name.is_empty());
    Ok(name.map(KeyName::parse).transpose()?)
}

/// The permissions of KMS that a direction asks for.
// DEW: upload needs four; download needs them and the one that opens data keys.
pub fn required_permissions(direction: Direction) -> &'static [Permission] {
    match direction {
        Direction::Upload => &Permission::ALL[..4],
        Direction::Download => &Permission::ALL,
    }
}

impl Permission {
    const ALL: [Self; 5] =
        [Self::GetKey, Self::ListKeys, Self::CreateKey, Self::CreateDataKey, Self::OpenDataKey];

    /// Its name in the KMS.
    // DEW: the actions of its permissions.
    pub fn action(self) -> &'static str {
        match self {
            Self::GetKey => "kms:cmk:get",
            Self::ListKeys => "kms:cmk:list",
            Self::CreateKey => "kms:cmk:create",
            Self::CreateDataKey => "kms:dek:create",
            Self::OpenDataKey => "kms:dek:crypto",
        }
    }

    /// Whether it is one on a key, which a grant can stand for; else it is the user's for keys as a whole.
    pub fn is_of_key(self) -> bool {
        !matches!(self, Self::ListKeys | Self::CreateKey)
    }

    /// Whether the permission of this name is one on a key.
    pub(super) fn concerns_key(action: &str) -> bool {
        Self::ALL.iter().all(|one| one.action() != action || one.is_of_key())
    }
}

/// How a replica is encrypted whose source and destination are encrypted like this.
// OBS: the destination's method, also where both differ; the source's where the destination has none. Replication does
// not support bucket keys.
pub fn replica_method(source: Option<&Method>, destination: Option<&Method>) -> Option<Method> {
    destination.or(source).map(|method| Method { bucket_key: false, ..method.clone() })
}

#[cfg(test)]
mod tests {
    use kms_client::rules::KeyPlace;

    use super::*;

    const ID: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";

    fn asked(mode: &str, key: &str, algorithm: &str) -> Asked {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Asked { mode: some(mode), key: some(key), algorithm: some(algorithm), ..Asked::default() }
    }

    fn sm4_default() -> BucketEncryption {
        let key = Some(ID.to_owned());
        BucketEncryption { suite: Suite::Sm4Gcm, key, bucket_key: false, project: None }
    }

    #[test]
    fn an_upload_that_says_nothing_is_encrypted_as_the_bucket_says() {
        assert_eq!(method(&Asked::default(), None, None), Ok(None));
        let default = sm4_default();
        let named = Some(KeyName { key_id: ID.to_owned(), place: None });
        let expected = Method { suite: Suite::Sm4Gcm, key: named, bucket_key: false };
        assert_eq!(method(&Asked::default(), Some(&default), None), Ok(Some(expected)));
    }

    #[test]
    fn an_upload_that_says_something_goes_before_the_bucket_as_a_whole() {
        let default = sm4_default();
        let expected = Method { suite: Suite::Aes256Gcm, key: None, bucket_key: false };
        for mode in ["kms", "aws:kms"] {
            assert_eq!(method(&asked(mode, "", ""), Some(&default), None), Ok(Some(expected.clone())));
        }
    }

    #[test]
    fn both_algorithms_are_offered_and_no_other() {
        let suite =
            |algorithm| method(&asked("kms", "", algorithm), None, None).map(|method| method.unwrap().suite);
        assert_eq!(suite("AES256"), Ok(Suite::Aes256Gcm));
        assert_eq!(suite("SM4"), Ok(Suite::Sm4Gcm));
        assert_eq!(suite("DES"), Err(Rejection::Value("server-side-data-encryption")));
    }

    #[test]
    fn halves_of_a_wish_and_other_modes_are_refused() {
        let refused = |asked: Asked| method(&asked, None, None).unwrap_err();
        assert_eq!(refused(asked("", ID, "")), Rejection::NeedsMode("a key's id"));
        assert_eq!(refused(asked("", "", "SM4")), Rejection::NeedsMode("a data encryption algorithm"));
        let bound = Asked { has_context: true, ..Asked::default() };
        assert_eq!(refused(bound), Rejection::NeedsMode("an encryption context"));
        assert!(matches!(refused(asked("AES256", "", "")), Rejection::NotOffered(_)));
        assert!(matches!(refused(asked("aws:kms:dsse", "", "")), Rejection::NotOffered(_)));
        assert_eq!(refused(asked("rot13", "", "")), Rejection::Value("server-side-encryption"));
        assert_eq!(refused(asked("kms", "nonsense", "")), Rejection::KeyId);
        let customer = Asked { has_customer_key: true, ..Asked::default() };
        assert!(matches!(refused(customer), Rejection::NotOffered(_)));
    }

    #[test]
    fn a_key_is_named_as_the_key_service_names_it() {
        assert_eq!(key_name(None), Ok(None));
        assert_eq!(key_name(Some("")), Ok(None));
        let place = KeyPlace { region: "r1".to_owned(), domain_id: "d1".to_owned() };
        let named = KeyName { key_id: ID.to_owned(), place: Some(place) };
        assert_eq!(key_name(Some(&format!("arn:aws:kms:r1:d1:key/{ID}"))), Ok(Some(named)));
        for text in [format!("arn:aws:kms:{ID}"), ID.to_uppercase()] {
            assert_eq!(key_name(Some(&text)), Err(Rejection::KeyId), "{text}");
        }
    }

    #[test]
    fn a_violation_tells_nothing_of_keys_elsewhere() {
        for (violation, rejection) in [
            (Violation::OtherAccount("d2".to_owned()), Rejection::NotHere),
            (Violation::OtherKey(ID.to_owned()), Rejection::NotHere),
            (Violation::ForeignDefaultKey, Rejection::DefaultAcrossAccounts),
            (Violation::OtherService("evs".to_owned()), Rejection::OtherService("evs".to_owned())),
            (Violation::UnsuitableKind, Rejection::KeySpec),
        ] {
            assert_eq!(Rejection::from(violation), rejection);
        }
    }

    #[test]
    fn a_download_asks_for_one_permission_more() {
        let actions = |direction| -> Vec<_> {
            required_permissions(direction).iter().map(|permission| permission.action()).collect()
        };
        let (upload, download) = (actions(Direction::Upload), actions(Direction::Download));
        assert_eq!(upload, ["kms:cmk:get", "kms:cmk:list", "kms:cmk:create", "kms:dek:create"]);
        assert_eq!((&download[..4], download[4]), (&*upload, "kms:dek:crypto"));
    }

    #[test]
    fn a_replica_has_the_destinations_method_or_else_the_sources() {
        let method = |suite, bucket_key| Some(Method { suite, key: None, bucket_key });
        let (aes, sm4) = (method(Suite::Aes256Gcm, false), method(Suite::Sm4Gcm, false));
        for bucket_key in [false, true] {
            let from_aes = method(Suite::Aes256Gcm, bucket_key);
            let to_sm4 = method(Suite::Sm4Gcm, bucket_key);
            for (source, destination, expected) in [
                (&None, &to_sm4, &sm4),
                (&from_aes, &to_sm4, &sm4),
                (&from_aes, &None, &aes),
                (&None, &None, &None),
            ] {
                let replica = replica_method(source.as_ref(), destination.as_ref());
                assert_eq!(replica, *expected, "bucket keys are not replicated");
            }
        }
    }

    #[test]
    fn a_bucket_key_is_used_as_the_object_says_or_else_the_bucket() {
        let with = BucketEncryption { bucket_key: true, ..sm4_default() };
        let source = Method { suite: Suite::Aes256Gcm, key: None, bucket_key: true };
        let used = |mode: &str, wanted: Option<bool>, default: Option<&BucketEncryption>| {
            let asked = Asked { bucket_key: wanted, ..asked(mode, "", "") };
            method(&asked, default, Some(&source)).map(|method| method.unwrap().bucket_key)
        };
        for mode in ["", "kms"] {
            for wanted in [true, false] {
                for default in [None, Some(&sm4_default()), Some(&with)] {
                    assert_eq!(used(mode, Some(wanted), default), Ok(wanted), "{mode} {default:?}");
                }
            }
            assert_eq!(
                used(mode, None, Some(&with)),
                Ok(true),
                "{mode}: the header's method, the bucket's setting"
            );
            assert_eq!(used(mode, None, Some(&sm4_default())), Ok(false));
            assert_eq!(used(mode, None, None), Ok(false), "a source's bucket key does not count");
        }
    }

    #[test]
    fn a_bucket_key_is_refused_where_it_cannot_be_used() {
        let wanted = Asked { bucket_key: Some(true), ..Asked::default() };
        assert_eq!(method(&wanted, None, None), Err(Rejection::NeedsMode("a bucket key")));
        let unwanted = Asked { bucket_key: Some(false), ..Asked::default() };
        assert_eq!(method(&unwanted, None, None), Ok(None));
        let default = BucketEncryption { bucket_key: true, ..sm4_default() };
        let in_obs = Asked { is_obs: true, ..wanted.clone() };
        assert_eq!(method(&in_obs, Some(&default), None), Err(Rejection::NeedsKeyId));
        let empty = Asked { key: Some(String::new()), ..in_obs };
        let empty = Asked { mode: Some("kms".to_owned()), ..empty };
        assert_eq!(method(&empty, None, None), Err(Rejection::NeedsKeyId));
        let named = Asked { bucket_key: Some(true), is_obs: true, ..asked("kms", ID, "") };
        assert!(method(&named, None, None).unwrap().unwrap().bucket_key);
        let bound = Asked { has_context: true, ..wanted };
        assert_eq!(method(&bound, Some(&default), None), Err(Rejection::ContextUnderBucketKey));
        let bound = Asked { has_context: true, ..Asked::default() };
        assert!(!method(&bound, Some(&default), None).unwrap().unwrap().bucket_key, "a data key of its own");
    }
}
