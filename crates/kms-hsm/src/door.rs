//! The way in: the module is initialised, the token is found, sessions open.

use std::sync::Arc;

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Info, Pkcs11},
    error::{Error, Result as TokenResult, RvError},
    session::Session,
    slot::{Slot, TokenInfo},
};

use crate::{
    OpenError, Pkcs11Config,
    calls::{Call, Counters},
    direct::Direct,
    failure::Failure,
    mechanisms::{Capabilities, VendorSm4},
    parameters::MechanismId,
    session::{TokenSession, counted},
};

/// The initialised module and the slot of the token.
///
/// The module is finalised when this drops: all sessions must be closed by then, and no thread may be
/// inside the module, or SoftHSM2 crashes.
pub(crate) struct Door {
    module: Module,
    slot: Slot,
    direct: Arc<Direct>,
    counters: Arc<Counters>,
}

impl Door {
    pub(crate) fn open(
        config: &Pkcs11Config,
        direct: &Arc<Direct>,
        counters: &Arc<Counters>,
        occupied: Occupied,
    ) -> Result<Self, OpenError> {
        let module = Module::initialise(config, counters, occupied)?;
        let slot = module.find_slot(&config.token_label, counters)?;
        Ok(Self { module, slot, direct: Arc::clone(direct), counters: Arc::clone(counters) })
    }

    /// A read-only session: all that a working service needs.
    pub(crate) fn session(&self) -> Result<TokenSession, Failure> {
        self.opened(self.module.context.open_ro_session(self.slot))
    }

    /// A session that can make token objects.
    pub(crate) fn writable_session(&self) -> Result<TokenSession, Failure> {
        self.opened(self.module.context.open_rw_session(self.slot))
    }

    fn opened(&self, session: TokenResult<Session>) -> Result<TokenSession, Failure> {
        let session = counted(&self.counters, Call::OpenSession, session)?;
        Ok(TokenSession::new(session, &self.direct, &self.counters))
    }

    /// What the token offers; an error if it lacks what nothing works without.
    pub(crate) fn capabilities(&self, sm4: Option<&VendorSm4>) -> Result<Capabilities, OpenError> {
        Capabilities::of(&self.direct, self.slot, sm4)
    }

    /// What the module says of itself and of the token.
    pub(crate) fn description(&self) -> Result<Description, OpenError> {
        let context = &self.module.context;
        let library = counted(&self.counters, Call::Initialize, context.get_library_info())?;
        let token = counted(&self.counters, Call::GetTokenInfo, context.get_token_info(self.slot))?;
        let mechanisms = counted(&self.counters, Call::GetMechanismList, self.direct.mechanisms(self.slot))?;
        Ok(Description { library, token, mechanisms })
    }

    /// Which token it is and whether its last login failed, as far as the token tells.
    pub(crate) fn token_state(&self) -> Result<TokenState, OpenError> {
        let information = self.module.context.get_token_info(self.slot);
        let information = counted(&self.counters, Call::GetTokenInfo, information)?;
        Ok(TokenState {
            serial: information.serial_number().to_owned(),
            last_pin_was_wrong: information.user_pin_count_low(),
        })
    }
}

/// What to do if the module is initialised already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occupied {
    /// Leave it to the one who did that.
    Refuse,
    /// Finalise it: it was this pool, and the module refused to be finalised then.
    Finalise,
}

/// What the module says of itself and of the token.
pub(crate) struct Description {
    pub(crate) library: Info,
    pub(crate) token: TokenInfo,
    pub(crate) mechanisms: Vec<MechanismId>,
}

/// What a login has to know of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenState {
    pub(crate) serial: String,
    /// The token counts a wrong PIN since the last right one.
    pub(crate) last_pin_was_wrong: bool,
}

/// Loads the module, to be opened then.
pub(crate) fn load(config: &Pkcs11Config) -> Result<Arc<Direct>, OpenError> {
    Direct::load(&config.module).map(Arc::new).map_err(|error| unloadable(config, &error))
}

fn unloadable(config: &Pkcs11Config, error: &Error) -> OpenError {
    OpenError::ModuleNotLoadable { module: config.module.clone(), detail: error.to_string() }
}

/// The initialised module; finalised on drop.
struct Module {
    context: Pkcs11,
    counters: Arc<Counters>,
}

impl Module {
    fn initialise(
        config: &Pkcs11Config,
        counters: &Arc<Counters>,
        occupied: Occupied,
    ) -> Result<Self, OpenError> {
        let context = Pkcs11::new(&config.module).map_err(|error| unloadable(config, &error))?;
        // PKCS#11 §5.4: threads call the module at the same time, and it locks with the system's own locks.
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match counted(counters, Call::Initialize, context.initialize(arguments)) {
            Ok(()) => Ok(Self { context, counters: Arc::clone(counters) }),
            Err(Failure { error: Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _), .. }) => {
                if occupied == Occupied::Finalise {
                    counted(counters, Call::Finalize, context.finalize())?;
                    return Self::initialise(config, counters, Occupied::Refuse);
                }
                Err(OpenError::ModuleInUse)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn find_slot(&self, label: &str, counters: &Counters) -> Result<Slot, OpenError> {
        let slots = self.context.get_slots_with_initialized_token();
        let (mut found, mut failed) = (Vec::new(), None);
        for slot in counted(counters, Call::GetSlotList, slots)? {
            // Another slot's trouble is not this token's.
            match counted(counters, Call::GetTokenInfo, self.context.get_token_info(slot)) {
                Ok(information) => found.push((information.label().to_owned(), slot)),
                Err(failure) => failed = Some(failure),
            }
        }
        if let Some(failure) = failed.filter(|_| found.iter().all(|(found, _)| found != label)) {
            return Err(failure.into());
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
        let finalized = counted(&self.counters, Call::Finalize, self.context.clone().finalize());
        if let Err(failure) = finalized {
            tracing::warn!(detail = failure.detail(), "the PKCS#11 module cannot be finalised");
        }
    }
}
