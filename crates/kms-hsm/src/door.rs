//! The way in: the module is initialised, the token is found, sessions open.

use std::sync::Arc;

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    slot::Slot,
};

use crate::{
    OpenError, Pkcs11Config,
    calls::{Call, Counters},
    failure::Failure,
    session::{TokenSession, WrapMechanism, counted},
};

/// The initialised module and the slot of the token.
///
/// The module is finalised when this drops: all sessions must be closed by then, and no thread may be
/// inside the module, or SoftHSM2 crashes.
pub(crate) struct Door {
    module: Module,
    slot: Slot,
    counters: Arc<Counters>,
}

impl Door {
    pub(crate) fn open(config: &Pkcs11Config) -> Result<Self, OpenError> {
        let counters = Arc::new(Counters::default());
        let module = Module::initialise(config, &counters)?;
        let slot = module.find_slot(&config.token_label, &counters)?;
        Ok(Self { module, slot, counters })
    }

    /// A read-only session: all that a working service needs.
    pub(crate) fn session(&self) -> Result<TokenSession, Failure> {
        let session = self.module.0.open_ro_session(self.slot);
        Ok(TokenSession::new(counted(&self.counters, Call::OpenSession, session)?, &self.counters))
    }

    /// A session that can make token objects.
    pub(crate) fn writable_session(&self) -> Result<TokenSession, Failure> {
        let session = self.module.0.open_rw_session(self.slot);
        Ok(TokenSession::new(counted(&self.counters, Call::OpenSession, session)?, &self.counters))
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The first of the known mechanisms with which the token both wraps and unwraps.
    pub(crate) fn wrap_mechanism(&self) -> Result<WrapMechanism, OpenError> {
        let can_wrap = |mechanism: &WrapMechanism| {
            let answer = self.module.0.get_mechanism_info(self.slot, mechanism.mechanism_type());
            counted(&self.counters, Call::GetMechanismInfo, answer)
                .is_ok_and(|information| information.wrap() && information.unwrap())
        };
        WrapMechanism::ALL.into_iter().find(can_wrap).ok_or(OpenError::NoWrapMechanism)
    }
}

/// The initialised module; finalised on drop.
struct Module(Pkcs11);

impl Module {
    fn initialise(config: &Pkcs11Config, counters: &Counters) -> Result<Self, OpenError> {
        let unloadable = |error: Error| OpenError::ModuleNotLoadable {
            module: config.module.clone(),
            detail: error.to_string(),
        };
        let context = Pkcs11::new(&config.module).map_err(unloadable)?;
        // PKCS#11 §5.4: threads call the module at the same time, and it locks with the system's own locks.
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match counted(counters, Call::Initialize, context.initialize(arguments)) {
            Ok(()) => Ok(Self(context)),
            Err(Failure { error: Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _), .. }) => {
                Err(OpenError::ModuleInUse)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn find_slot(&self, label: &str, counters: &Counters) -> Result<Slot, OpenError> {
        let slots = self.0.get_slots_with_initialized_token();
        let mut found = Vec::new();
        for slot in counted(counters, Call::GetSlotList, slots)? {
            let information = counted(counters, Call::GetTokenInfo, self.0.get_token_info(slot))?;
            found.push((information.label().to_owned(), slot));
        }
        let mut matching = found.iter().filter(|(found, _)| found == label);
        match (matching.next(), matching.next()) {
            (Some((_, slot)), None) => Ok(*slot),
            (Some(_), Some(_)) => Err(OpenError::TokenAmbiguous { label: label.to_owned() }),
            (None, _) => Err(OpenError::TokenNotFound {
                label: label.to_owned(),
                found: found.into_iter().map(|(label, _)| label).collect(),
            }),
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if let Err(error) = self.0.clone().finalize() {
            tracing::warn!(%error, "the PKCS#11 module cannot be finalised");
        }
    }
}
