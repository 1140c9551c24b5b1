//! What lies on the token: root keys by generation, the authentication key, the log's key, and strangers.

use std::collections::BTreeMap;

use cryptoki::{
    error::Error,
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
};

use kms_core::ports::{HsmError, LogKey};

use crate::{
    OpenError, Pkcs11Config,
    calls::Call,
    direct::Handle,
    failure::{Damage, Failure, Place, Trouble, constant_name},
    form::Form,
    keys,
    log_key::{self, LogPair},
    mechanisms::{CheckpointSignature, WrapMechanism},
    pairs::unsound,
    session::TokenSession,
};

/// The keys that are made once in a token's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootKeys {
    /// The generation of the root key that was made: 1.
    pub generation: u32,
    /// The root key's label.
    pub root_label: String,
    /// The authentication key's label.
    pub authentication_label: String,
    /// The label of the key pair that signs the log's checkpoints, or vouches for the key that does.
    pub log_label: String,
    /// How it signs; `None`: not at all, so that the token has no such pair and nothing vouches for the log's key.
    pub log_signature: Option<CheckpointSignature>,
    /// The log's key.
    pub log_key: LogKey,
}

/// All that the token holds, each key tried out.
pub(crate) struct Inventory {
    /// Root keys by generation; several objects can have one label.
    roots: BTreeMap<u32, Shelf<Handle>>,
    authentication: Shelf<Handle>,
    /// The private keys with the label of the log's key.
    log: Shelf<LogPair>,
    /// Labels of the objects that are none of these.
    strangers: Vec<String>,
}

/// The objects that have one label.
struct Shelf<K> {
    label: String,
    candidates: Vec<Verdict<K>>,
}

/// What an object with the right label is worth.
enum Verdict<K> {
    Sound(K),
    /// It does not work: its making was interrupted. Says what failed.
    HalfMade(String),
    /// It may do too much or too little. Says which attributes.
    Wrong(String),
}

/// The keys that the service works with.
pub(crate) struct SoundKeys {
    /// By generation; never empty.
    pub(crate) roots: BTreeMap<u32, Handle>,
    /// The newest generation that any label names, also of a key that is only half made.
    pub(crate) newest_label: u32,
    pub(crate) authentication: Handle,
    /// `None`: none was made yet.
    pub(crate) log: Option<LogPair>,
    pub(crate) strangers: Vec<String>,
}

impl Inventory {
    /// Looks at every token object and tries out those with the right labels.
    pub(crate) fn take(
        session: &TokenSession,
        wrap: WrapMechanism,
        config: &Pkcs11Config,
    ) -> Result<Self, Failure> {
        let mut inventory = Self {
            roots: BTreeMap::new(),
            authentication: Shelf::new(config.authentication_key_label()),
            log: Shelf::new(config.log_key_label()),
            strangers: Vec::new(),
        };
        let transfer = config.transfer_key_label();
        let mut of_log = Vec::new();
        for object in session.find(&[Attribute::Token(true)])? {
            let label = label_of(session, object)?;
            if label == transfer {
                continue; // it neither wraps nor computes: transfer.rs looks for it when it is needed
            }
            if label == inventory.authentication.label {
                inventory.authentication.candidates.push(judge_authentication(session, object)?);
            } else if label == inventory.log.label {
                of_log.push(object); // to be judged when all are known
            } else if let Some(generation) = generation_of(&label, config) {
                let verdict = judge_root(session, wrap, object, generation)?;
                let shelf = inventory.roots.entry(generation).or_insert_with(|| Shelf::new(label));
                shelf.candidates.push(verdict);
            } else {
                inventory.strangers.push(label);
            }
        }
        inventory.judge_log(session, &of_log)?;
        Ok(inventory)
    }

    /// Judges what has the label of the log's key. A public key that belongs to no sound private key is a stranger.
    fn judge_log(&mut self, session: &TokenSession, objects: &[ObjectHandle]) -> Result<(), Failure> {
        let (mut publics, mut privates) = (Vec::new(), Vec::new());
        for object in objects {
            let class = read(session, *object, &[AttributeType::Class])?.unwrap_or_default();
            let is_public = class.contains(&Attribute::Class(ObjectClass::PUBLIC_KEY));
            if is_public { publics.push(*object) } else { privates.push(*object) }
        }
        for private in privates {
            self.log.candidates.push(judge_log_key(session, private, &publics)?);
        }
        let paired = |public: &ObjectHandle| self.log.sound().any(|pair| pair.public == *public);
        let alone = publics.iter().filter(|public| !paired(public)).count();
        self.strangers.extend(std::iter::repeat_n(self.log.label.clone(), alone));
        Ok(())
    }

    /// An error if the token has a root key. Half-made ones do not count: they never wrapped anything.
    pub(crate) fn refuse_root_keys(&self) -> Result<(), OpenError> {
        for shelf in self.roots.values().rev() {
            for verdict in &shelf.candidates {
                let label = shelf.label.clone();
                match verdict {
                    Verdict::Sound(_) => return Err(OpenError::RootKeysExist { label }),
                    Verdict::Wrong(wrong) => {
                        return Err(OpenError::RootKeyAttributes { label, wrong: wrong.clone() });
                    }
                    Verdict::HalfMade(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Whether a sound authentication key exists.
    pub(crate) fn has_authentication(&self) -> bool {
        self.authentication.sound().next().is_some()
    }

    /// The log's key, if one was made; what is not sound beside it, or was half made, is a stranger.
    pub(crate) fn log_key(self) -> Result<Option<LogPair>, OpenError> {
        self.log.sound_or_none(&mut Vec::new())
    }

    /// The one sound key of each label. What is not sound beside it is a stranger: it is left from a
    /// ceremony that was interrupted and made up for. So is a root key that is only half made: it never
    /// wrapped anything.
    pub(crate) fn sound_keys(self, config: &Pkcs11Config) -> Result<SoundKeys, OpenError> {
        let mut strangers = self.strangers;
        let mut roots = BTreeMap::new();
        let mut half_made = None;
        let newest_label = self.roots.last_key_value().map_or(0, |(generation, _)| *generation);
        for (generation, shelf) in self.roots {
            match shelf.only_sound(&mut strangers) {
                Ok(root) => drop(roots.insert(generation, root)),
                Err(OpenError::RootKeyHalfMade { label, detail }) => {
                    strangers.push(label.clone());
                    half_made = Some(OpenError::RootKeyHalfMade { label, detail });
                }
                Err(error) => return Err(error),
            }
        }
        if roots.is_empty() {
            let missing = OpenError::RootKeysMissing { label: config.root_key_label(1) };
            return Err(half_made.unwrap_or(missing));
        }
        let authentication = self.authentication.only_sound(&mut strangers)?;
        let log = self.log.sound_or_none(&mut strangers)?;
        Ok(SoundKeys { roots, newest_label, authentication, log, strangers })
    }
}

impl<K> Shelf<K> {
    fn new(label: String) -> Self {
        Self { label, candidates: Vec::new() }
    }

    fn sound(&self) -> impl Iterator<Item = &K> {
        self.candidates.iter().filter_map(|verdict| match verdict {
            Verdict::Sound(key) => Some(key),
            Verdict::HalfMade(_) | Verdict::Wrong(_) => None,
        })
    }

    /// The sound key, if there is exactly one; else why not.
    fn only_sound(self, strangers: &mut Vec<String>) -> Result<K, OpenError> {
        let label = self.label;
        let (mut sound, mut others) = (Vec::new(), Vec::new());
        for verdict in self.candidates {
            match verdict {
                Verdict::Sound(key) => sound.push(key),
                Verdict::Wrong(wrong) => {
                    others.push(OpenError::RootKeyAttributes { label: label.clone(), wrong });
                }
                Verdict::HalfMade(detail) => {
                    others.push(OpenError::RootKeyHalfMade { label: label.clone(), detail });
                }
            }
        }
        match (sound.pop(), sound.pop()) {
            (Some(key), None) => {
                strangers.extend(std::iter::repeat_n(label, others.len()));
                Ok(key)
            }
            (Some(_), Some(_)) => Err(OpenError::RootKeyDuplicated { label }),
            (None, _) => Err(others.into_iter().next().unwrap_or(OpenError::RootKeysMissing { label })),
        }
    }

    /// The same for a key that can be made at any time: one that is missing or only half made is no error.
    fn sound_or_none(self, strangers: &mut Vec<String>) -> Result<Option<K>, OpenError> {
        match self.only_sound(strangers) {
            Ok(key) => Ok(Some(key)),
            Err(OpenError::RootKeysMissing { .. }) => Ok(None),
            Err(OpenError::RootKeyHalfMade { label, .. }) => {
                strangers.push(label);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The generation that a root key's label names.
fn generation_of(label: &str, config: &Pkcs11Config) -> Option<u32> {
    let generation = label.strip_prefix(&config.root_label)?.strip_prefix('-')?.parse().ok()?;
    // One spelling for each generation: no sign, no leading zero, and they begin with 1.
    (generation > 0 && config.root_key_label(generation) == label).then_some(generation)
}

fn judge_root(
    session: &TokenSession,
    wrap: WrapMechanism,
    object: ObjectHandle,
    generation: u32,
) -> Result<Verdict<Handle>, Failure> {
    let mut wanted = keys::root_attributes();
    wanted.push(Attribute::Id(generation.to_be_bytes().to_vec()));
    judge(session, object, &wanted, || {
        let try_out = || keys::make_wrapped(session, Form::MAC, wrap, object.into()).map(|_| object.into());
        tried_twice(try_out, || keys::prove_device(session, Form::MAC, wrap))
    })
}

fn judge_log_key(
    session: &TokenSession,
    object: ObjectHandle,
    publics: &[ObjectHandle],
) -> Result<Verdict<LogPair>, Failure> {
    let pair = log_key::pair_of(&read(session, object, &[AttributeType::KeyType])?.unwrap_or_default());
    judge(session, object, &log_key::private_attributes(pair), || {
        let try_out = || {
            let paired = log_key::tried(session, pair, object, publics)?;
            paired.ok_or_else(|| unsound("C_Sign", "no public key on the token belongs to it"))
        };
        tried_twice(try_out, || log_key::prove_device(session, pair))
    })
}

/// Tries a key out. A moment of trouble of the device does not make a key half made: twice, and a good key between.
fn tried_twice<K>(
    try_out: impl Fn() -> Result<K, Trouble>,
    prove_device: impl FnOnce() -> Result<(), Trouble>,
) -> Result<Result<K, String>, Failure> {
    if let Ok(key) = try_out() {
        return Ok(Ok(key));
    }
    prove_device().map_err(|trouble| match trouble {
        Trouble::Call(failure) => failure.at(Place::Anchor),
        Trouble::Refusal(_) => Failure::new(Call::UnwrapKey, Error::InvalidValue),
    })?;
    Ok(try_out().map_err(|trouble| HsmError::from(trouble).to_string()))
}

fn judge_authentication(session: &TokenSession, object: ObjectHandle) -> Result<Verdict<Handle>, Failure> {
    judge(session, object, &keys::authentication_attributes(), || {
        match session.sign(object.into(), b"dewpoint: proof of the authentication key") {
            Ok(_) => Ok(Ok(object.into())),
            Err(failure) => Ok(Err(format!("{} answered {}", failure.function(), failure.detail()))),
        }
    })
}

/// Compares the object's attributes with those `wanted`, then tries it out. An object without a class
/// or a key type was never finished.
fn judge<K>(
    session: &TokenSession,
    object: ObjectHandle,
    wanted: &[Attribute],
    try_out: impl FnOnce() -> Result<Result<K, String>, Failure>,
) -> Result<Verdict<K>, Failure> {
    let types: Vec<_> = wanted.iter().map(Attribute::attribute_type).collect();
    let Some(present) = read(session, object, &types)? else {
        return Ok(Verdict::HalfMade("its attributes cannot be read".to_owned()));
    };
    let has = |wanted: AttributeType| present.iter().any(|one| one.attribute_type() == wanted);
    if !has(AttributeType::Class) || !has(AttributeType::KeyType) {
        return Ok(Verdict::HalfMade("it has no class or no key type".to_owned()));
    }
    let wrong: Vec<_> =
        wanted.iter().filter(|wanted| !present.contains(wanted)).map(attribute_name).collect();
    if !wrong.is_empty() {
        return Ok(Verdict::Wrong(wrong.join(", ")));
    }
    Ok(try_out()?.map_or_else(Verdict::HalfMade, Verdict::Sound))
}

fn label_of(session: &TokenSession, object: ObjectHandle) -> Result<String, Failure> {
    let attributes = read(session, object, &[AttributeType::Label])?;
    let label = attributes.unwrap_or_default().into_iter().find_map(|attribute| match attribute {
        Attribute::Label(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    });
    Ok(label.unwrap_or_else(|| "(no label)".to_owned()))
}

/// The attributes that the object has; `None` for one that cannot be read. A moment of trouble of the device does not
/// make it so: twice, and a good object between.
fn read(
    session: &TokenSession,
    object: ObjectHandle,
    types: &[AttributeType],
) -> Result<Option<Vec<Attribute>>, Failure> {
    let read = || match session.attributes(object, types) {
        Ok(attributes) => Ok(Some(attributes)),
        Err(failure) => match failure.damage() {
            Damage::Session | Damage::Token => Err(failure.at(Place::Anchor)),
            Damage::None | Damage::Object | Damage::Doubt => Ok(None),
        },
    };
    if let Some(attributes) = read()? {
        return Ok(Some(attributes));
    }
    keys::prove_reading(session).map_err(|failure| failure.at(Place::Anchor))?;
    read()
}

/// The attribute's name, as `CKA_ENCRYPT`.
fn attribute_name(attribute: &Attribute) -> String {
    constant_name("CKA", &format!("{:?}", attribute.attribute_type()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Pkcs11Config {
        Pkcs11Config {
            module: "module".into(),
            token_label: "token".to_owned(),
            pin_file: "pin".into(),
            root_label: "dew-point".to_owned(),
            workers: 1,
            loaded_keys: 1,
            renew_after: 1,
            sm4: None,
        }
    }

    #[test]
    fn a_label_names_its_generation_in_one_way_only() {
        let generation = |label| generation_of(label, &config());
        assert_eq!(generation("dew-point-1"), Some(1));
        assert_eq!(generation("dew-point-4294967295"), Some(u32::MAX));
        let others =
            ["dew-point-", "dew-point-0", "dew-point-01", "dew-point-+1", "dew-point-x", "dew-point1"];
        for label in others.into_iter().chain(["other-1", "dew-point-4294967296", "dew-point-1 ", ""]) {
            assert_eq!(generation(label), None, "{label:?}");
        }
    }

    #[test]
    fn attributes_are_named_as_the_specification_names_them() {
        assert_eq!(attribute_name(&Attribute::Encrypt(true)), "CKA_ENCRYPT");
        assert_eq!(attribute_name(&Attribute::KeyType(cryptoki::object::KeyType::AES)), "CKA_KEY_TYPE");
    }
}
