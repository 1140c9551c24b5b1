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
}

/// What a failure means for the session and for the object that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Both can be used further.
    None,
    /// The session is gone or stuck: another one is needed.
    Session,
    /// The object is gone: it has to be loaded again.
    Object,
}

impl Failure {
    /// The C function that failed.
    pub(crate) fn function(&self) -> &'static str {
        match self.error {
            Error::Pkcs11(_, Function::SignInit) => "C_SignInit",
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

    pub(crate) fn damage(&self) -> Damage {
        match self.error {
            // PKCS#11 §5.1: the session is closed, or an operation that nobody will finish is active.
            Error::Pkcs11(
                RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::OperationActive
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent,
                _,
            ) => Damage::Session,
            Error::Pkcs11(RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid, _) => Damage::Object,
            _ => Damage::None,
        }
    }
}

impl From<Failure> for HsmError {
    /// The classification of every failure of a working pool.
    fn from(failure: Failure) -> Self {
        let (function, detail) = (failure.function(), failure.detail());
        if failure.call == Call::UnwrapKey && blames_the_wrapped_key(&failure.error) {
            Self::WrappedKeyRefused { function, detail }
        } else {
            Self::Unavailable { function, detail }
        }
    }
}

/// Whether an answer to `C_UnwrapKey` is about the wrapped bytes and not about the device.
///
/// PKCS#11 §5.18.4 names the first two; modules also answer with what their cipher said. SoftHSM2
/// answers `CKR_GENERAL_ERROR` when the integrity check of RFC 3394 fails.
fn blames_the_wrapped_key(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::WrappedKeyInvalid
                | RvError::WrappedKeyLenRange
                | RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                | RvError::DataInvalid
                | RvError::DataLenRange
                | RvError::GeneralError,
            _
        )
    )
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
        Failure { call, error: Error::Pkcs11(answer, Function::Sign) }
    }

    fn is_refusal(call: Call, answer: RvError) -> bool {
        matches!(HsmError::from(failure(call, answer)), HsmError::WrappedKeyRefused { .. })
    }

    #[test]
    fn only_an_unwrapping_can_blame_the_wrapped_key() {
        let blaming = [
            RvError::GeneralError,
            RvError::WrappedKeyInvalid,
            RvError::WrappedKeyLenRange,
            RvError::EncryptedDataInvalid,
            RvError::EncryptedDataLenRange,
            RvError::DataInvalid,
            RvError::DataLenRange,
        ];
        for answer in blaming {
            assert!(is_refusal(Call::UnwrapKey, answer), "{answer:?}");
            assert!(Call::ALL.into_iter().all(|call| call == Call::UnwrapKey || !is_refusal(call, answer)));
        }
    }

    #[test]
    fn a_lost_device_is_not_the_wrapped_keys_fault() {
        let unavailable = [
            RvError::DeviceError,
            RvError::DeviceMemory,
            RvError::DeviceRemoved,
            RvError::FunctionFailed,
            RvError::HostMemory,
            RvError::SessionHandleInvalid,
            RvError::TokenNotPresent,
            RvError::UnwrappingKeyHandleInvalid,
            RvError::UserNotLoggedIn,
            RvError::CryptokiNotInitialized,
            RvError::VendorDefined(0x8000_0001),
        ];
        for answer in unavailable {
            assert!(!is_refusal(Call::UnwrapKey, answer), "{answer:?}");
        }
    }

    #[test]
    fn damage_tells_a_lost_session_from_a_lost_object() {
        let damage = |answer| failure(Call::Sign, answer).damage();
        assert_eq!(damage(RvError::SessionHandleInvalid), Damage::Session);
        assert_eq!(damage(RvError::OperationActive), Damage::Session);
        assert_eq!(damage(RvError::KeyHandleInvalid), Damage::Object);
        assert_eq!(damage(RvError::GeneralError), Damage::None);
    }

    #[test]
    fn failures_are_spelled_as_the_specification_spells_them() {
        let failed =
            Failure { call: Call::Sign, error: Error::Pkcs11(RvError::KeyHandleInvalid, Function::SignInit) };
        assert_eq!((failed.function(), failed.detail().as_str()), ("C_SignInit", "CKR_KEY_HANDLE_INVALID"));
        let vendor = failure(Call::UnwrapKey, RvError::VendorDefined(0x8000_0001));
        assert_eq!((vendor.function(), vendor.detail().as_str()), ("C_UnwrapKey", "CKR_0x80000001"));
        let defect = Failure { call: Call::WrapKey, error: Error::NullFunctionPointer };
        assert_eq!(defect.detail(), "Calling a NULL function pointer");
    }
}
