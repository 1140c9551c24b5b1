//! The C functions that this crate calls, and how often it called each.

use std::sync::atomic::{AtomicU64, Ordering};

/// A C function, or the group that one operation consists of: `Sign` is `C_SignInit` and `C_Sign`; ciphers alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Initialize,
    GetSlotList,
    GetTokenInfo,
    GetMechanismInfo,
    OpenSession,
    Login,
    FindObjects,
    GetAttributeValue,
    GenerateRandom,
    GenerateKey,
    GenerateKeyPair,
    CreateObject,
    WrapKey,
    UnwrapKey,
    DeriveKey,
    DestroyObject,
    Sign,
    Encrypt,
    Decrypt,
    GetMechanismList,
    Finalize,
}

const CALLS: usize = 21;

impl Call {
    pub(crate) const ALL: [Self; CALLS] = [
        Self::Initialize,
        Self::GetSlotList,
        Self::GetTokenInfo,
        Self::GetMechanismInfo,
        Self::OpenSession,
        Self::Login,
        Self::FindObjects,
        Self::GetAttributeValue,
        Self::GenerateRandom,
        Self::GenerateKey,
        Self::GenerateKeyPair,
        Self::CreateObject,
        Self::WrapKey,
        Self::UnwrapKey,
        Self::DeriveKey,
        Self::DestroyObject,
        Self::Sign,
        Self::Encrypt,
        Self::Decrypt,
        Self::GetMechanismList,
        Self::Finalize,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Initialize => "C_Initialize",
            Self::GetSlotList => "C_GetSlotList",
            Self::GetTokenInfo => "C_GetTokenInfo",
            Self::GetMechanismInfo => "C_GetMechanismInfo",
            Self::OpenSession => "C_OpenSession",
            Self::Login => "C_Login",
            Self::FindObjects => "C_FindObjects",
            Self::GetAttributeValue => "C_GetAttributeValue",
            Self::GenerateRandom => "C_GenerateRandom",
            Self::GenerateKey => "C_GenerateKey",
            Self::GenerateKeyPair => "C_GenerateKeyPair",
            Self::CreateObject => "C_CreateObject",
            Self::WrapKey => "C_WrapKey",
            Self::UnwrapKey => "C_UnwrapKey",
            Self::DeriveKey => "C_DeriveKey",
            Self::DestroyObject => "C_DestroyObject",
            Self::Sign => "C_Sign",
            Self::Encrypt => "C_Encrypt",
            Self::Decrypt => "C_Decrypt",
            Self::GetMechanismList => "C_GetMechanismList",
            Self::Finalize => "C_Finalize",
        }
    }
}

/// How often one C function was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallCount {
    /// The function, as `C_Sign`; this one counts `C_SignInit` and `C_Sign` together.
    pub function: &'static str,
    /// Calls, including those that failed.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
}

/// Counters of all calls, shared by all sessions.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    calls: [AtomicU64; CALLS],
    errors: [AtomicU64; CALLS],
    /// Keys that were unwrapped for use.
    loads: AtomicU64,
}

impl Counters {
    pub(crate) fn count(&self, call: Call, failed: bool) {
        self.calls[call as usize].fetch_add(1, Ordering::Relaxed);
        if failed {
            self.errors[call as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A key was unwrapped for use.
    pub(crate) fn count_load(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }

    /// How many keys were unwrapped for use.
    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    /// How often this function succeeded.
    pub(crate) fn succeeded(&self, call: Call) -> u64 {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        read(&self.calls[call as usize]).saturating_sub(read(&self.errors[call as usize]))
    }

    pub(crate) fn read(&self) -> Vec<CallCount> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let count = |call: Call| CallCount {
            function: call.name(),
            calls: read(&self.calls[call as usize]),
            errors: read(&self.errors[call as usize]),
        };
        Call::ALL.into_iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_own_place() {
        for (place, call) in Call::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, place);
        }
    }

    #[test]
    fn errors_count_as_calls_too() {
        let counters = Counters::default();
        counters.count(Call::Sign, false);
        counters.count(Call::Sign, true);
        let sign = counters.read().into_iter().find(|count| count.function == "C_Sign");
        assert_eq!(sign, Some(CallCount { function: "C_Sign", calls: 2, errors: 1 }));
    }
}
