//! The move of a store from one token to another: keys leave under a key that only the other token opens.
//!
//! The target makes an RSA key pair. The source makes a transport key, wraps it under the public key by
//! OAEP, and wraps every backing key under the transport key. No key is outside of a token unwrapped.

use std::sync::Arc;

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
};
use kms_core::{
    key::{BackingKey, BackingKind, WrappedKey},
    ports::{HsmError, Mac},
};

use crate::{
    OpenError, Pkcs11Hsm,
    direct::{Handle, Wrapping},
    failure::{Failure, Trouble, wrapped_key_refused},
    keys::{self, Brief, Form, Proved, Task},
    mechanisms::WrapMechanism,
    session::TokenSession,
    token::{Token, at_anchor, write_out},
};

// NIST SP 800-57 Part 1, table 2: 128 bits of security.
const MODULUS_BITS: u64 = 3072;
const PUBLIC_EXPONENT: [u8; 3] = [1, 0, 1];
const ID_BYTES: usize = 16;
/// How much of a key's fingerprint a backup holds.
pub const PROOF_BYTES: usize = 16;

/// The public half of the key pair by which a token takes a store over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferKey {
    /// The label of the token that has the private key.
    pub token_label: String,
    /// That token's serial number.
    pub token_serial: String,
    /// The mechanisms by which that token unwraps what comes under the transport key, as `CKM_AES_KEY_WRAP`.
    pub wraps: Vec<String>,
    /// The modulus, big-endian.
    pub modulus: Vec<u8>,
    /// The public exponent, big-endian.
    pub exponent: Vec<u8>,
}

impl TransferKey {
    /// Whether it is a public key of the kind that tokens are asked to make.
    pub fn is_of_expected_kind(&self) -> bool {
        let bits = u64::try_from(8 * self.modulus.len()).unwrap_or(u64::MAX);
        let full = self.modulus.first().is_some_and(|first| first & 0x80 != 0);
        bits == MODULUS_BITS && full && self.exponent == PUBLIC_EXPONENT
    }
}

/// The keys of one move as they go to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// The transport key, under the target's public key.
    pub transport_key: Vec<u8>,
    /// The key that seals the backup, under the transport key.
    pub seal_key: Vec<u8>,
}

/// A backing key on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedKey {
    /// Wrapped under the transport key.
    pub blob: Vec<u8>,
    /// Tells this key from every other, without telling the key.
    pub proof: [u8; PROOF_BYTES],
}

impl Pkcs11Hsm {
    /// What is needed to hand keys over to another token or to take them over, while nothing else works
    /// with this one.
    pub fn transfer(&self) -> Result<Transfer, HsmError> {
        let unavailable = HsmError::Unavailable { function: "C_Initialize", detail: "no token".to_owned() };
        let token = self.token().ok_or_else(|| self.loss().unwrap_or(unavailable))?;
        if token.capabilities().transfer {
            Ok(Transfer { token })
        } else {
            Err(HsmError::NotOffered { feature: "CKM_RSA_PKCS_OAEP, by which keys move between tokens" })
        }
    }
}

/// A token that hands keys over or takes them over. To be dropped before its pool is shut down.
#[allow(missing_debug_implementations, reason = "holds a token, which has nothing to show")]
pub struct Transfer {
    token: Arc<Token>,
}

impl Transfer {
    /// The label and the serial number of this token.
    pub fn token(&self) -> Result<(String, String), OpenError> {
        Ok((self.token.config().token_label.clone(), self.token.serial()?))
    }

    /// The generations of its root keys, rising.
    pub fn root_generations(&self) -> Vec<u32> {
        self.token.root_generations()
    }

    /// The public half of this token's transfer key, if it has one.
    pub fn key(&self) -> Result<Option<TransferKey>, OpenError> {
        let session = self.token.anchor();
        Ok(self.sound_key(&session)?.map(|(_, key)| key))
    }

    /// Makes a transfer key in place of all that the token has, and writes it to stable storage.
    pub fn make_key(&self) -> Result<TransferKey, OpenError> {
        let anchor = self.token.anchor(); // nothing else makes objects meanwhile
        let session = self.token.writable_session()?;
        self.destroy_all(&session)?;
        let label = Attribute::Label(self.token.config().transfer_key_label().into_bytes());
        let mut id = [0; ID_BYTES];
        session.fill_random(&mut id)?;
        let mut private = private_attributes();
        private.extend([Attribute::Token(true), label, Attribute::Id(id.to_vec())]);
        let mut public = public_attributes();
        public.push(Attribute::ModulusBits(MODULUS_BITS.into()));
        public.push(Attribute::PublicExponent(PUBLIC_EXPONENT.to_vec()));
        session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, (&public, &private))?;
        write_out();
        let made = self.sound_key(&anchor)?.map(|(_, key)| key);
        made.ok_or_else(|| OpenError::CallFailed {
            function: "C_GenerateKeyPair",
            detail: "the key pair that was made is not what was asked for".to_owned(),
        })
    }

    /// Destroys this token's transfer key: no backup that was made for it opens again.
    pub fn destroy_key(&self) -> Result<(), OpenError> {
        let _anchor = self.token.anchor();
        let session = self.token.writable_session()?;
        self.destroy_all(&session)?;
        write_out();
        Ok(())
    }

    fn destroy_all(&self, session: &TokenSession) -> Result<(), OpenError> {
        for object in self.find(session)? {
            session.destroy(object.into())?;
        }
        Ok(())
    }

    fn find(&self, session: &TokenSession) -> Result<Vec<ObjectHandle>, Failure> {
        let label = self.token.config().transfer_key_label();
        session.find(&[Attribute::Token(true), Attribute::Label(label.into_bytes())])
    }

    /// The private key that is whole and may do what it should and no more. What an interruption left half
    /// made is none.
    fn sound_key(&self, session: &TokenSession) -> Result<Option<(Handle, TransferKey)>, OpenError> {
        let wanted = private_attributes();
        let mut types: Vec<_> = wanted.iter().map(Attribute::attribute_type).collect();
        types.extend([AttributeType::Modulus, AttributeType::PublicExponent]);
        for object in self.find(session)? {
            let present = session.attributes(object, &types)?;
            if !wanted.iter().all(|wanted| present.contains(wanted)) {
                continue;
            }
            let key = self.described(&present)?;
            if key.is_of_expected_kind() {
                return Ok(Some((object.into(), key)));
            }
        }
        Ok(None)
    }

    fn described(&self, attributes: &[Attribute]) -> Result<TransferKey, OpenError> {
        let (token_label, token_serial) = self.token()?;
        let wraps = &self.token.capabilities().wraps;
        let wraps = wraps.iter().map(|mechanism| mechanism.name().to_owned()).collect();
        let mut key = TransferKey { token_label, token_serial, wraps, modulus: vec![], exponent: vec![] };
        for attribute in attributes {
            match attribute {
                Attribute::Modulus(modulus) => key.modulus.clone_from(modulus),
                Attribute::PublicExponent(exponent) => key.exponent.clone_from(exponent),
                _ => {}
            }
        }
        Ok(key)
    }

    /// Makes the keys of a move to the token that has `target`.
    pub fn depart(self, target: &TransferKey) -> Result<(Passage, Transport), HsmError> {
        let names = |mechanism: WrapMechanism| target.wraps.iter().any(|name| name == mechanism.name());
        let wraps = &self.token.capabilities().wraps;
        let wrap = wraps.iter().copied().find(|mechanism| names(*mechanism));
        let padded = wraps.iter().copied().filter(|mechanism| mechanism.pads());
        let padded_wrap = padded
            .max_by_key(|mechanism| names(*mechanism))
            .filter(|_| WrapMechanism::ALL.into_iter().any(|mechanism| mechanism.pads() && names(mechanism)));
        let wrap = wrap.ok_or(HsmError::NotOffered { feature: "a key wrap that the other token knows" })?;
        let (keys, transport) = {
            let anchor = self.token.anchor();
            let made = depart(&anchor, wrap, target);
            made.map_err(|trouble| HsmError::from(at_anchor(trouble)))?
        };
        Ok((Passage { token: self.token, keys, wrap, padded_wrap }, transport))
    }

    /// Opens the keys of a move to this token.
    pub fn arrive(self, transport: &Transport) -> Result<Passage, HsmError> {
        let keys = {
            let anchor = self.token.anchor();
            let found = self.sound_key(&anchor);
            let found = found.map_err(|error| HsmError::Unavailable {
                function: "C_FindObjects",
                detail: error.to_string(),
            })?;
            let (private, _) = found.ok_or(HsmError::NotOffered { feature: "a transfer key" })?;
            self.token.unwrapping(&anchor, || arrive(&anchor, private, transport))?
        };
        let capabilities = self.token.capabilities();
        let (wrap, padded_wrap) = (capabilities.wrap(), capabilities.padded_wrap());
        Ok(Passage { token: self.token, keys, wrap, padded_wrap })
    }
}

/// The keys of one move, as session objects.
struct PassageKeys {
    transport: Handle,
    seal: Handle,
}

/// A move that is under way: keys pass into or out of this token. Its keys go when it drops.
#[allow(missing_debug_implementations, reason = "holds a token, which has nothing to show")]
pub struct Passage {
    token: Arc<Token>,
    keys: PassageKeys,
    /// How secret keys are wrapped on the side that they go to.
    wrap: WrapMechanism,
    /// How private keys are.
    padded_wrap: Option<WrapMechanism>,
}

impl Passage {
    /// Whether this token takes keys of `kind`; says why not.
    pub fn takes(&self, kind: BackingKind) -> Result<(), HsmError> {
        self.token.require(kind).map_err(HsmError::from)
    }

    /// Wraps a key of this token under the transport key. Inside the token it exists extractable for as
    /// long as this takes.
    pub fn hand_over(&self, key: &BackingKey) -> Result<MovedKey, HsmError> {
        let form = self.token.form(key.kind)?;
        let root = self.token.root(key.wrapped.root_generation)?;
        let from = (root, &key.wrapped.blob[..]);
        let (blob, proof) = self.rewrap(form, from, self.keys.transport)?;
        Ok(MovedKey { blob, proof })
    }

    /// Wraps a key that came under the transport key under this token's newest root key, and proves that it
    /// is the key that the other token had.
    pub fn take_over(&self, kind: BackingKind, moved: &MovedKey) -> Result<WrappedKey, HsmError> {
        let form = self.token.form(kind)?;
        let (root_generation, root) = self.token.newest_root()?;
        let blob = self.readable(&moved.blob);
        let (blob, proof) = self.rewrap(form, (self.keys.transport, &blob), root)?;
        if proof == moved.proof {
            return Ok(WrappedKey { root_generation, blob });
        }
        let detail = "it loads as another key than the one that was handed over".to_owned();
        Err(HsmError::WrappedKeyRefused { function: "C_UnwrapKey", detail })
    }

    /// A key whose padded wrapping has a name that only the other token knows, by the name that this one has for
    /// what should be the same: RFC 5649. If it is not, the key does not open.
    fn readable(&self, blob: &[u8]) -> Vec<u8> {
        let mut blob = blob.to_vec();
        let named = blob.first().and_then(|number| WrapMechanism::numbered(*number));
        let is_known = |mechanism| self.token.capabilities().wraps.contains(&mechanism);
        if let (Some(named), Some(own)) = (named, self.padded_wrap)
            && named.pads()
            && !is_known(named)
        {
            blob[0] = own as u8;
        }
        blob
    }

    fn rewrap(
        &self,
        form: Form,
        from: (Handle, &[u8]),
        to: Handle,
    ) -> Result<(Vec<u8>, [u8; PROOF_BYTES]), HsmError> {
        let anchor = self.token.anchor();
        let wrap = match form.task {
            Task::Pair(_) => self.padded_wrap.ok_or(HsmError::NotOffered { feature: "a padded key wrap" })?,
            _ => self.wrap,
        };
        let rewrap = || keys::rewrap(&anchor, form, wrap, from, to);
        let Proved { blob, fingerprint } = self.token.unwrapping(&anchor, rewrap)?;
        let short = HsmError::Unavailable { function: "C_Sign", detail: "a proof is too short".to_owned() };
        Ok((blob, *fingerprint.first_chunk().ok_or(short)?))
    }

    /// HMAC-SHA256 of `input` under the key of this move that seals its backup.
    pub fn seal(&self, input: &[u8]) -> Result<Mac, HsmError> {
        let anchor = self.token.anchor();
        anchor.sign(self.keys.seal, input).map_err(|failure| HsmError::from(at_anchor(failure.into())))
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let anchor = self.token.anchor();
        for handle in [self.keys.transport, self.keys.seal] {
            drop(Brief { session: &anchor, handle });
        }
    }
}

/// What the private key is: it unwraps, it does nothing else, and it never leaves.
fn private_attributes() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Unwrap(true),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
    ]
}

/// What the public key is: a session object that wraps and does nothing else.
fn public_attributes() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Wrap(true),
        Attribute::Encrypt(false),
        Attribute::Verify(false),
    ]
}

/// What the transport key is: extractable only on the source, which has to wrap it for the target.
fn transport_attributes(extractable: bool) -> Vec<Attribute> {
    let mut attributes = keys::secret_key(KeyType::AES);
    attributes.extend([Attribute::Token(false), Attribute::Extractable(extractable)]);
    attributes.extend(keys::uses(&[Attribute::Wrap(true), Attribute::Unwrap(true)]));
    attributes
}

fn depart(
    session: &TokenSession,
    wrap: WrapMechanism,
    target: &TransferKey,
) -> Result<(PassageKeys, Transport), Trouble> {
    let mut public = public_attributes();
    public.push(Attribute::Modulus(target.modulus.clone()));
    public.push(Attribute::PublicExponent(target.exponent.clone()));
    let public = Brief { session, handle: session.create_object(&public)? };
    let mut template = transport_attributes(true);
    template.push(Attribute::ValueLen(keys::KEY_BYTES.into()));
    let transport = Brief { session, handle: session.generate_key(&Mechanism::AesKeyGen, &template)? };
    let transport_key = session.wrap_key(Wrapping::Oaep, public.handle, transport.handle)?;
    let seal = Brief { session, handle: Form::MAC.generate(session)? };
    let seal_key = keys::wrap(session, wrap, transport.handle, seal.handle)?;
    let keys = PassageKeys { transport: transport.keep(), seal: seal.keep() };
    Ok((keys, Transport { transport_key, seal_key }))
}

fn arrive(session: &TokenSession, private: Handle, transport: &Transport) -> Result<PassageKeys, Trouble> {
    let template = transport_attributes(false);
    let unwrapped = session.unwrap_key(Wrapping::Oaep, private, &transport.transport_key, &template);
    let handle = unwrapped.map_err(|failure| {
        // A token may say anything of a foreign ciphertext; that the key pair works was seen when it was made.
        if failure.damage() == crate::failure::Damage::Token {
            Trouble::Call(failure)
        } else {
            Trouble::Refusal(wrapped_key_refused(&failure))
        }
    })?;
    let transport_key = Brief { session, handle };
    let seal = keys::load(session, Form::MAC, transport_key.handle, &transport.seal_key)?;
    Ok(PassageKeys { transport: transport_key.keep(), seal })
}
