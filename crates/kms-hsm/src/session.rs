//! One session with the token: each call is counted and answers this crate's own failure.

use std::sync::Arc;

use cryptoki::{
    error::Result as TokenResult,
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectHandle},
    session::{Session, UserType},
    types::RawAuthPin,
};
use cryptoki_sys::{CK_ATTRIBUTE_TYPE, CKM_SHA256_HMAC};
use kms_core::ports::Mac;
use zeroize::Zeroizing;

use crate::{
    calls::{Call, Counters},
    direct::{Cipher, Direct, Direction, Handle, Signing, Wrapping},
    failure::Failure,
    software::Component,
};

/// The longest wrapped key that is expected: a private key of RSA-4096 makes 2400 bytes.
const MAX_WRAPPED_BYTES: usize = 4096;

/// An open session; it closes when it is dropped.
pub(crate) struct TokenSession {
    session: Session,
    direct: Arc<Direct>,
    counters: Arc<Counters>,
}

impl TokenSession {
    /// A read-only session can make session objects, and no token object.
    pub(crate) fn new(session: Session, direct: &Arc<Direct>, counters: &Arc<Counters>) -> Self {
        Self { session, direct: Arc::clone(direct), counters: Arc::clone(counters) }
    }

    fn call<T>(&self, call: Call, answer: TokenResult<T>) -> Result<T, Failure> {
        counted(&self.counters, call, answer)
    }

    /// Logs this process in: PKCS#11 §5.6.9 says that this holds for all its sessions with the token.
    pub(crate) fn login(&self, pin: &RawAuthPin) -> Result<(), Failure> {
        self.call(Call::Login, self.session.login_with_raw(UserType::User, pin))
    }

    pub(crate) fn fill_random(&self, out: &mut [u8]) -> Result<(), Failure> {
        self.call(Call::GenerateRandom, self.session.generate_random_slice(out))
    }

    /// HMAC-SHA256.
    pub(crate) fn sign(&self, key: Handle, input: &[u8]) -> Result<Mac, Failure> {
        let mut mac = Zeroizing::new([0; 32]);
        let signing = Signing::Plain(CKM_SHA256_HMAC);
        let answer = self.direct.sign(&self.session, signing, key, input, &mut mac[..]);
        let written = self.call(Call::Sign, answer)?;
        if written == mac.len() { Ok(mac) } else { Err(short_answer(Call::Sign)) }
    }

    /// A signature or an HMAC of exactly `length` bytes.
    pub(crate) fn sign_with(
        &self,
        signing: Signing,
        key: Handle,
        input: &[u8],
        length: usize,
    ) -> Result<Vec<u8>, Failure> {
        let mut out = vec![0; length];
        let answer = self.direct.sign(&self.session, signing, key, input, &mut out);
        let written = self.call(Call::Sign, answer)?;
        if written == length { Ok(out) } else { Err(short_answer(Call::Sign)) }
    }

    /// Encrypts `input`; the answer has exactly `length` bytes.
    pub(crate) fn encrypt(
        &self,
        cipher: Cipher<'_>,
        key: Handle,
        input: &[u8],
        length: usize,
    ) -> Result<Vec<u8>, Failure> {
        let mut out = vec![0; length];
        let answer = self.direct.run_cipher(&self.session, Direction::Encrypt, cipher, key, input, &mut out);
        let written = self.call(Call::Encrypt, answer)?;
        if written == length { Ok(out) } else { Err(short_answer(Call::Encrypt)) }
    }

    /// Decrypts `input`; the answer has exactly `length` bytes, which the caller owns as a secret.
    ///
    /// Some modules want room for the tag too before they have checked it, so the buffer is as long as the input.
    pub(crate) fn decrypt(
        &self,
        cipher: Cipher<'_>,
        key: Handle,
        input: &[u8],
        length: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut out = Zeroizing::new(vec![0; input.len()]);
        let answer = self.direct.run_cipher(&self.session, Direction::Decrypt, cipher, key, input, &mut out);
        let written = self.call(Call::Decrypt, answer)?;
        if written != length {
            return Err(short_answer(Call::Decrypt));
        }
        out.truncate(length);
        Ok(out)
    }

    /// Makes a secret key, as `mechanism` says.
    pub(crate) fn generate_key(
        &self,
        mechanism: &Mechanism<'_>,
        template: &[Attribute],
    ) -> Result<Handle, Failure> {
        self.call(Call::GenerateKey, self.session.generate_key(mechanism, template)).map(Into::into)
    }

    /// Makes a key pair, as `mechanism` says; answers the public and the private key.
    pub(crate) fn generate_key_pair(
        &self,
        mechanism: &Mechanism<'_>,
        (public, private): (&[Attribute], &[Attribute]),
    ) -> Result<(ObjectHandle, ObjectHandle), Failure> {
        self.call(Call::GenerateKeyPair, self.session.generate_key_pair(mechanism, public, private))
    }

    /// Makes an object of values that are known outside, as a public key is.
    pub(crate) fn create_object(&self, template: &[Attribute]) -> Result<Handle, Failure> {
        self.call(Call::CreateObject, self.session.create_object(template)).map(Into::into)
    }

    /// Makes an object of a key that comes from outside.
    pub(crate) fn create_secret(
        &self,
        template: &[Attribute],
        secrets: &[Component],
    ) -> Result<Handle, Failure> {
        self.call(Call::CreateObject, self.direct.create_secret(&self.session, template, secrets))
    }

    /// Reads a part of a key that may be read; gives its length in `out`.
    pub(crate) fn read_secret(
        &self,
        object: Handle,
        kind: CK_ATTRIBUTE_TYPE,
        out: &mut [u8],
    ) -> Result<usize, Failure> {
        let read = self.direct.read_attribute(&self.session, object, kind, out);
        self.call(Call::GetAttributeValue, read)
    }

    /// Derives a secret from a private key and a peer's point.
    pub(crate) fn derive_ecdh(
        &self,
        key: Handle,
        peer: &[u8],
        template: &[Attribute],
    ) -> Result<Handle, Failure> {
        self.call(Call::DeriveKey, self.direct.derive_ecdh(&self.session, key, peer, template))
    }

    pub(crate) fn wrap_key(
        &self,
        wrapping: Wrapping,
        wrapping_key: Handle,
        key: Handle,
    ) -> Result<Vec<u8>, Failure> {
        let mut wrapped = vec![0; MAX_WRAPPED_BYTES];
        let answer = self.direct.wrap(&self.session, wrapping, wrapping_key, key, &mut wrapped);
        wrapped.truncate(self.call(Call::WrapKey, answer)?);
        Ok(wrapped)
    }

    pub(crate) fn unwrap_key(
        &self,
        wrapping: Wrapping,
        wrapping_key: Handle,
        wrapped: &[u8],
        template: &[Attribute],
    ) -> Result<Handle, Failure> {
        let answer = self.direct.unwrap(&self.session, wrapping, wrapping_key, wrapped, template);
        self.call(Call::UnwrapKey, answer)
    }

    pub(crate) fn destroy(&self, object: Handle) -> Result<(), Failure> {
        self.call(Call::DestroyObject, self.direct.destroy(&self.session, object))
    }

    pub(crate) fn find(&self, template: &[Attribute]) -> Result<Vec<ObjectHandle>, Failure> {
        self.call(Call::FindObjects, self.session.find_objects(template))
    }

    /// The attributes that the object has, in the order of `types`; those that it lacks are left out.
    pub(crate) fn attributes(
        &self,
        object: ObjectHandle,
        types: &[AttributeType],
    ) -> Result<Vec<Attribute>, Failure> {
        self.call(Call::GetAttributeValue, self.session.get_attributes(object, types))
    }
}

/// Counts a call and gives its failure a name.
pub(crate) fn counted<T>(counters: &Counters, call: Call, answer: TokenResult<T>) -> Result<T, Failure> {
    counters.count(call, answer.is_err());
    answer.map_err(|error| Failure::new(call, error))
}

/// The module said yes and gave too little or too much.
fn short_answer(call: Call) -> Failure {
    Failure::new(call, cryptoki::error::Error::InvalidValue)
}
