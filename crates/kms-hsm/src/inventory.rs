//! What lies on the token: root keys by generation, the authentication key, and strangers.

use std::collections::BTreeMap;

use cryptoki::{
    error::Error,
    object::{Attribute, AttributeType, ObjectHandle},
};

use kms_core::ports::HsmError;

use crate::{
    OpenError, Pkcs11Config,
    calls::Call,
    direct::Handle,
    failure::{Damage, Failure, Place, Trouble, constant_name},
    form::Form,
    keys,
    mechanisms::WrapMechanism,
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
}

/// All that the token holds, each key tried out.
pub(crate) struct Inventory {
    /// Root keys by generation; several objects can have one label.
    roots: BTreeMap<u32, Shelf>,
    authentication: Shelf,
    /// Labels of the objects that are neither.
    strangers: Vec<String>,
}

/// The objects that have one label.
struct Shelf {
    label: String,
    candidates: Vec<(Handle, Verdict)>,
}

/// What an object with the right label is worth.
enum Verdict {
    Sound,
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
            strangers: Vec::new(),
        };
        let transfer = config.transfer_key_label();
        for object in session.find(&[Attribute::Token(true)])? {
            let label = label_of(session, object)?;
            if label == transfer {
                continue; // it neither wraps nor computes: transfer.rs looks for it when it is needed
            }
            if label == inventory.authentication.label {
                let verdict = judge_authentication(session, object)?;
                inventory.authentication.candidates.push((object.into(), verdict));
            } else if let Some(generation) = generation_of(&label, config) {
                let verdict = judge_root(session, wrap, object, generation)?;
                let shelf = inventory.roots.entry(generation).or_insert_with(|| Shelf::new(label));
                shelf.candidates.push((object.into(), verdict));
            } else {
                inventory.strangers.push(label);
            }
        }
        Ok(inventory)
    }

    /// An error if the token has a root key. Half-made ones do not count: they never wrapped anything.
    pub(crate) fn refuse_root_keys(&self) -> Result<(), OpenError> {
        for shelf in self.roots.values().rev() {
            for (_, verdict) in &shelf.candidates {
                let label = shelf.label.clone();
                match verdict {
                    Verdict::Sound => return Err(OpenError::RootKeysExist { label }),
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
        Ok(SoundKeys { roots, newest_label, authentication, strangers })
    }
}

impl Shelf {
    fn new(label: String) -> Self {
        Self { label, candidates: Vec::new() }
    }

    fn sound(&self) -> impl Iterator<Item = Handle> {
        let is_sound = |(_, verdict): &&(Handle, Verdict)| matches!(verdict, Verdict::Sound);
        self.candidates.iter().filter(is_sound).map(|(object, _)| *object)
    }

    /// The sound key, if there is exactly one; else why not.
    fn only_sound(self, strangers: &mut Vec<String>) -> Result<Handle, OpenError> {
        let mut sound = self.sound();
        match (sound.next(), sound.next()) {
            (Some(object), None) => {
                let others = self.candidates.len() - 1;
                strangers.extend(std::iter::repeat_n(self.label.clone(), others));
                Ok(object)
            }
            (Some(_), Some(_)) => Err(OpenError::RootKeyDuplicated { label: self.label.clone() }),
            (None, _) => {
                drop(sound);
                Err(self.nothing_sound())
            }
        }
    }

    fn nothing_sound(self) -> OpenError {
        let label = self.label;
        match self.candidates.into_iter().next() {
            Some((_, Verdict::Wrong(wrong))) => OpenError::RootKeyAttributes { label, wrong },
            Some((_, Verdict::HalfMade(detail))) => OpenError::RootKeyHalfMade { label, detail },
            Some((_, Verdict::Sound)) | None => OpenError::RootKeysMissing { label },
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
) -> Result<Verdict, Failure> {
    let mut wanted = keys::root_attributes();
    wanted.push(Attribute::Id(generation.to_be_bytes().to_vec()));
    judge(session, object, &wanted, || {
        // A moment of trouble of the device does not make a key half made: twice, and a good key between.
        let try_out = || keys::make_wrapped(session, Form::MAC, wrap, object.into());
        if try_out().is_ok() {
            return Ok(Ok(()));
        }
        keys::prove_device(session, Form::MAC, wrap).map_err(|trouble| match trouble {
            Trouble::Call(failure) => failure.at(Place::Anchor),
            Trouble::Refusal(_) => Failure::new(Call::UnwrapKey, Error::InvalidValue),
        })?;
        Ok(try_out().map(drop).map_err(|trouble| HsmError::from(trouble).to_string()))
    })
}

fn judge_authentication(session: &TokenSession, object: ObjectHandle) -> Result<Verdict, Failure> {
    judge(session, object, &keys::authentication_attributes(), || {
        match session.sign(object.into(), b"dewpoint: proof of the authentication key") {
            Ok(_) => Ok(Ok(())),
            Err(failure) => Ok(Err(format!("{} answered {}", failure.function(), failure.detail()))),
        }
    })
}

/// Compares the object's attributes with those `wanted`, then tries it out. An object without a class
/// or a key type was never finished.
fn judge(
    session: &TokenSession,
    object: ObjectHandle,
    wanted: &[Attribute],
    try_out: impl FnOnce() -> Result<Result<(), String>, Failure>,
) -> Result<Verdict, Failure> {
    let types: Vec<_> = wanted.iter().map(Attribute::attribute_type).collect();
    let Some(present) = readable(session.attributes(object, &types))? else {
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
    Ok(try_out()?.map_or_else(Verdict::HalfMade, |()| Verdict::Sound))
}

fn label_of(session: &TokenSession, object: ObjectHandle) -> Result<String, Failure> {
    let attributes = readable(session.attributes(object, &[AttributeType::Label]))?;
    let label = attributes.unwrap_or_default().into_iter().find_map(|attribute| match attribute {
        Attribute::Label(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    });
    Ok(label.unwrap_or_else(|| "(no label)".to_owned()))
}

/// `None` for an object that cannot be read, as long as the session can be used further.
fn readable(attributes: Result<Vec<Attribute>, Failure>) -> Result<Option<Vec<Attribute>>, Failure> {
    match attributes {
        Ok(attributes) => Ok(Some(attributes)),
        Err(failure) => match failure.damage() {
            Damage::Session | Damage::Token => Err(failure.at(Place::Anchor)),
            Damage::None | Damage::Object | Damage::Doubt => Ok(None),
        },
    }
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
