//! One session with the token: each call is counted and answers this crate's own failure.

use std::sync::Arc;

use cryptoki::{
    error::{Error, Result as TokenResult},
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, AttributeType, ObjectHandle},
    session::{Session, UserType},
    types::RawAuthPin,
};
use kms_core::ports::Mac;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    calls::{Call, Counters},
    failure::Failure,
};

/// How keys are wrapped under the root key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrapMechanism {
    /// `CKM_AES_KEY_WRAP`, RFC 3394.
    AesKeyWrap,
    /// `CKM_AES_KEY_WRAP_PAD`.
    AesKeyWrapPad,
}

impl WrapMechanism {
    /// All of them, the preferred one first.
    pub(crate) const ALL: [Self; 2] = [Self::AesKeyWrap, Self::AesKeyWrapPad];

    pub(crate) const fn mechanism_type(self) -> MechanismType {
        match self {
            Self::AesKeyWrap => MechanismType::AES_KEY_WRAP,
            Self::AesKeyWrapPad => MechanismType::AES_KEY_WRAP_PAD,
        }
    }

    const fn mechanism(self) -> Mechanism<'static> {
        match self {
            Self::AesKeyWrap => Mechanism::AesKeyWrap,
            Self::AesKeyWrapPad => Mechanism::AesKeyWrapPad,
        }
    }
}

/// An open session; it closes when it is dropped.
pub(crate) struct TokenSession {
    session: Session,
    counters: Arc<Counters>,
}

impl TokenSession {
    /// A read-only session can make session objects, and no token object.
    pub(crate) fn new(session: Session, counters: &Arc<Counters>) -> Self {
        Self { session, counters: Arc::clone(counters) }
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

    /// HMAC-SHA256. The library asks the module for the output's length first: `C_SignInit`, `C_Sign`, `C_Sign`.
    pub(crate) fn sign(&self, key: ObjectHandle, input: &[u8]) -> Result<Mac, Failure> {
        let mut answer = self.call(Call::Sign, self.session.sign(&Mechanism::Sha256Hmac, key, input))?;
        let mac = <[u8; 32]>::try_from(answer.as_slice()).map(Zeroizing::new);
        answer.zeroize(); // the library does not wipe what it gives
        mac.map_err(|error| Failure { call: Call::Sign, error: Error::TryFromSlice(error) })
    }

    /// Makes an AES or a generic secret key, as `mechanism` says.
    pub(crate) fn generate_key(
        &self,
        mechanism: &Mechanism<'_>,
        template: &[Attribute],
    ) -> Result<ObjectHandle, Failure> {
        self.call(Call::GenerateKey, self.session.generate_key(mechanism, template))
    }

    pub(crate) fn wrap_key(
        &self,
        mechanism: WrapMechanism,
        root: ObjectHandle,
        key: ObjectHandle,
    ) -> Result<Vec<u8>, Failure> {
        self.call(Call::WrapKey, self.session.wrap_key(&mechanism.mechanism(), root, key))
    }

    pub(crate) fn unwrap_key(
        &self,
        mechanism: WrapMechanism,
        root: ObjectHandle,
        blob: &[u8],
        template: &[Attribute],
    ) -> Result<ObjectHandle, Failure> {
        let answer = self.session.unwrap_key(&mechanism.mechanism(), root, blob, template);
        self.call(Call::UnwrapKey, answer)
    }

    pub(crate) fn destroy(&self, object: ObjectHandle) -> Result<(), Failure> {
        self.call(Call::DestroyObject, self.session.destroy_object(object))
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
    answer.map_err(|error| Failure { call, error })
}
