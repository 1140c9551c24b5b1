//! Failed calls, and the one place that says what a failure means.

use cryptoki::{
    context::Function,
    error::{Error, RvError},
};
use kms_core::ports::HsmError;

use crate::calls::Call;

/// A call that the module refused.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) call: Call,
    pub(crate) error: Error,
    pub(crate) place: Place,
}

/// On what the call was made: it decides how far a lost session or object reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a worker's own session, with an object that can be loaded again.
    Worker,
    /// With a key that lies on the token: if that is gone, so is the login or the token.
    TokenKey,
    /// On the session that holds the login and owns every loaded key.
    Anchor,
}

/// What a failure means, and with that what heals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Nothing is broken.
    None,
    /// The object is gone: it has to be loaded again.
    Object,
    /// The session is gone or stuck: another one is needed.
    Session,
    /// The device may be broken: a call that must work will tell.
    Doubt,
    /// The login, the token or the module is gone: everything has to be opened anew.
    Token,
}

impl Failure {
    pub(crate) fn new(call: Call, error: Error) -> Self {
        Self { call, error, place: Place::Worker }
    }

    pub(crate) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// The C function that failed.
    pub(crate) fn function(&self) -> &'static str {
        match self.error {
            Error::Pkcs11(_, Function::SignInit) => "C_SignInit",
            Error::Pkcs11(_, Function::EncryptInit) => "C_EncryptInit",
            Error::Pkcs11(_, Function::DecryptInit) => "C_DecryptInit",
            Error::Pkcs11(_, Function::FindObjectsInit) => "C_FindObjectsInit",
            _ => self.call.name(),
        }
    }

    /// What the module answered, as `CKR_DEVICE_ERROR`.
    pub(crate) fn detail(&self) -> String {
        match &self.error {
            Error::Pkcs11(RvError::VendorDefined(code) | RvError::UnknownErrorCode(code), _) => {
                format!("CKR_{code:#x}")
            }
            Error::Pkcs11(answer, _) => constant_name("CKR", &format!("{answer:?}")),
            other => other.to_string(),
        }
    }

    /// The one classification of all failures.
    pub(crate) fn damage(&self) -> Damage {
        let Error::Pkcs11(answer, _) = self.error else { return Damage::None };
        match (damage_of(answer), self.place) {
            // The anchor's session is everyone's.
            (Damage::Session | Damage::Object, Place::Anchor) | (Damage::Object, Place::TokenKey) => {
                Damage::Token
            }
            (damage, _) => damage,
        }
    }

    /// Whether the module may have meant the bytes that it was given and not its own state.
    pub(crate) fn may_blame_input(&self) -> bool {
        let takes_foreign_bytes = matches!(self.call, Call::UnwrapKey | Call::Decrypt);
        takes_foreign_bytes && (self.blames_input() || self.damage() == Damage::Doubt)
    }

    /// Whether the module says that the bytes which it was given are wrong.
    // PKCS#11 §5.18.4 (C_UnwrapKey) and §5.10.2 (C_Decrypt); modules also answer with what their cipher said. A
    // wrapped key names its mechanism, so that can be wrong too.
    fn blames_input(&self) -> bool {
        matches!(
            self.error,
            Error::Pkcs11(
                RvError::WrappedKeyInvalid
                    | RvError::WrappedKeyLenRange
                    | RvError::EncryptedDataInvalid
                    | RvError::EncryptedDataLenRange
                    | RvError::DataInvalid
                    | RvError::DataLenRange
                    | RvError::SignatureInvalid
                    | RvError::MechanismInvalid,
                _
            )
        )
    }
}

/// What an answer means by itself. PKCS#11 §5.1.
const fn damage_of(answer: RvError) -> Damage {
    match answer {
        RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid => Damage::Object,
        // A session that is closed, in which an operation is active that nobody will finish, or that lost one.
        RvError::SessionHandleInvalid
        | RvError::SessionClosed
        | RvError::OperationActive
        | RvError::OperationNotInitialized => Damage::Session,
        RvError::UserNotLoggedIn
        | RvError::DeviceRemoved
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid
        | RvError::CryptokiNotInitialized
        | RvError::WrappingKeyHandleInvalid
        | RvError::UnwrappingKeyHandleInvalid => Damage::Token,
        // SoftHSM2 answers CKR_GENERAL_ERROR also when the bytes that it was given are wrong.
        RvError::GeneralError
        | RvError::FunctionFailed
        | RvError::DeviceError
        | RvError::DeviceMemory
        | RvError::HostMemory
        | RvError::CantLock
        | RvError::VendorDefined(_)
        | RvError::UnknownErrorCode(_) => Damage::Doubt,
        _ => Damage::None,
    }
}

impl From<Failure> for HsmError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable { function: failure.function(), detail: failure.detail() }
    }
}

/// Why something did not succeed: a call failed, or there was nothing to call.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The module refused a call.
    Call(Failure),
    /// The answer is known without more calls.
    Refusal(HsmError),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Call(failure)
    }
}

impl From<HsmError> for Trouble {
    fn from(error: HsmError) -> Self {
        Self::Refusal(error)
    }
}

impl From<Trouble> for HsmError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Call(failure) => failure.into(),
            Trouble::Refusal(error) => error,
        }
    }
}

/// The answer for a wrapped key that the token does not take.
pub(crate) fn wrapped_key_refused(failure: &Failure) -> HsmError {
    HsmError::WrappedKeyRefused { function: failure.function(), detail: failure.detail() }
}

/// A private or secret key that the token does not take is the fault of whoever brought it.
// PKCS#11 §5.7.1 (C_CreateObject)
pub(crate) fn refused_material(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Call(Failure {
            call: Call::CreateObject,
            error:
                Error::Pkcs11(
                    RvError::AttributeValueInvalid
                    | RvError::DomainParamsInvalid
                    | RvError::KeySizeRange
                    | RvError::TemplateInconsistent,
                    _,
                ),
            ..
        }) => HsmError::InvalidMaterial { problem: "the token does not take it" }.into(),
        other => other,
    }
}

/// `GeneralError` as `CKR_GENERAL_ERROR`: how the specification and every manual spell it.
pub(crate) fn constant_name(prefix: &str, camel_case: &str) -> String {
    let mut name = prefix.to_owned();
    for letter in camel_case.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(call: Call, answer: RvError) -> Failure {
        Failure::new(call, Error::Pkcs11(answer, Function::Sign))
    }

    /// Every answer that means something, and what it means at each place.
    const TABLE: [(RvError, [Damage; 3]); 23] = {
        use Damage::{Doubt, None, Object, Session, Token};
        [
            (RvError::KeyHandleInvalid, [Object, Token, Token]),
            (RvError::ObjectHandleInvalid, [Object, Token, Token]),
            (RvError::SessionHandleInvalid, [Session, Session, Token]),
            (RvError::SessionClosed, [Session, Session, Token]),
            (RvError::OperationActive, [Session, Session, Token]),
            (RvError::OperationNotInitialized, [Session, Session, Token]),
            (RvError::UserNotLoggedIn, [Token; 3]),
            (RvError::DeviceRemoved, [Token; 3]),
            (RvError::TokenNotPresent, [Token; 3]),
            (RvError::TokenNotRecognized, [Token; 3]),
            (RvError::SlotIdInvalid, [Token; 3]),
            (RvError::CryptokiNotInitialized, [Token; 3]),
            (RvError::WrappingKeyHandleInvalid, [Token; 3]),
            (RvError::UnwrappingKeyHandleInvalid, [Token; 3]),
            (RvError::GeneralError, [Doubt; 3]),
            (RvError::FunctionFailed, [Doubt; 3]),
            (RvError::DeviceError, [Doubt; 3]),
            (RvError::DeviceMemory, [Doubt; 3]),
            (RvError::HostMemory, [Doubt; 3]),
            (RvError::VendorDefined(0x8000_0001), [Doubt; 3]),
            (RvError::WrappedKeyInvalid, [None; 3]),
            (RvError::EncryptedDataInvalid, [None; 3]),
            (RvError::MechanismInvalid, [None; 3]),
        ]
    };

    #[test]
    fn what_every_answer_means_at_every_place() {
        for (answer, expected) in TABLE {
            for (place, expected) in [Place::Worker, Place::TokenKey, Place::Anchor].into_iter().zip(expected)
            {
                let damage = failure(Call::Sign, answer).at(place).damage();
                assert_eq!(damage, expected, "{answer:?} at {place:?}");
            }
        }
    }

    #[test]
    fn only_calls_that_take_foreign_bytes_can_blame_them() {
        for (answer, [damage, ..]) in TABLE {
            let blames = matches!(
                answer,
                RvError::WrappedKeyInvalid | RvError::EncryptedDataInvalid | RvError::MechanismInvalid
            ) || damage == Damage::Doubt;
            for call in Call::ALL {
                let foreign = matches!(call, Call::UnwrapKey | Call::Decrypt);
                assert_eq!(failure(call, answer).may_blame_input(), blames && foreign, "{call:?} {answer:?}");
            }
        }
    }

    #[test]
    fn failures_are_spelled_as_the_specification_spells_them() {
        let failed = Failure::new(Call::Sign, Error::Pkcs11(RvError::KeyHandleInvalid, Function::SignInit));
        assert_eq!((failed.function(), failed.detail().as_str()), ("C_SignInit", "CKR_KEY_HANDLE_INVALID"));
        let vendor = failure(Call::UnwrapKey, RvError::VendorDefined(0x8000_0001));
        assert_eq!((vendor.function(), vendor.detail().as_str()), ("C_UnwrapKey", "CKR_0x80000001"));
        let defect = Failure::new(Call::WrapKey, Error::NullFunctionPointer);
        assert_eq!(defect.detail(), "Calling a NULL function pointer");
    }
}
