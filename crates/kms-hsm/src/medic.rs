//! The medic: a thread that opens a lost token anew, and renews a module that leaks.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use kms_core::ports::HsmError;

use crate::{
    OpenError, Pkcs11Config,
    door::TokenState,
    token::Token,
    ward::{Condition, Ward},
};

/// How long the medic sleeps at most.
const ROUND: Duration = Duration::from_secs(1);
/// How long the medic waits for a worker to leave its seat before it looks again.
const SEAT_PATIENCE: Duration = Duration::from_secs(2);
/// The wait after the first vain attempt; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A token that is lost within this time after it was healed is flapping.
const SOON: Duration = Duration::from_secs(1);
/// The longest rest before a flapping token is opened anew.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// The longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The medic's memory.
pub(crate) struct Medic {
    ward: Arc<Ward>,
    /// When the token was opened anew last, and how long the medic rested before that.
    healed: Instant,
    rest: Duration,
    refusal: Option<Refusal>,
}

/// A login that the token refused. The same PIN is not tried on the same token again, for tokens lock
/// after a few wrong ones.
struct Refusal {
    serial: String,
    pin_file: Option<SystemTime>,
    /// The token has said since then that the last PIN was wrong. If it says so no more, it was restored.
    told: bool,
    error: OpenError,
}

#[allow(
    clippy::disallowed_methods,
    reason = "how long ago something happened inside this adapter; no domain time"
)]
impl Medic {
    pub(crate) fn new(ward: Arc<Ward>) -> Self {
        Self { ward, healed: Instant::now(), rest: Duration::ZERO, refusal: None }
    }

    /// Works until the ward is closed.
    pub(crate) fn run(mut self) {
        loop {
            let needed = |condition: &Condition| !matches!(condition, Condition::Working(_));
            let condition = self.ward.wait(ROUND, needed);
            let lost = match &*condition {
                Condition::Working(_) => None,
                Condition::Renewing(_) => Some(false),
                Condition::Lost(..) => Some(true),
                Condition::Closed => return,
            };
            drop(condition);
            match lost {
                None => {}
                Some(false) => self.renew(),
                Some(true) => self.heal(),
            }
        }
    }

    fn renew(&mut self) {
        let Some(token) = self.take_token() else { return };
        if !self.clear_seats() {
            self.ward.set(Condition::Working(Arc::clone(&token)));
            self.ward.postpone_renewal(&token);
            return; // a call takes long
        }
        self.in_module(|| close(token));
        match self.open() {
            Ok(token) => {
                self.ward.renewals.fetch_add(1, Ordering::Relaxed);
                tracing::info!("the PKCS#11 module was renewed, to free what it had leaked");
                self.ward.set(Condition::Working(Arc::new(token)));
            }
            Err(error) => self.ward.set(Condition::Lost(lost(&error), None)),
        }
    }

    fn heal(&mut self) {
        if !self.clear_seats() {
            return; // nothing can be done while a call is under way
        }
        if let Some(token) = self.take_token() {
            self.in_module(|| close(token));
        }
        // A token that is lost again as soon as it was healed is not opened at full speed.
        self.rest = if self.healed.elapsed() < SOON {
            (2 * self.rest).clamp(FIRST_WAIT, LONGEST_REST)
        } else {
            Duration::ZERO
        };
        if self.closed_within(self.rest) {
            return;
        }
        let mut wait = FIRST_WAIT;
        loop {
            let error = match self.open() {
                Ok(token) => {
                    self.ward.heals.fetch_add(1, Ordering::Relaxed);
                    tracing::info!("the token works again");
                    self.healed = Instant::now();
                    self.ward.set(Condition::Working(Arc::new(token)));
                    return;
                }
                Err(error) => error,
            };
            tracing::warn!(%error, next_attempt = ?wait, "the token cannot be opened");
            self.ward.set(Condition::Lost(lost(&error), None));
            if self.closed_within(wait) {
                return;
            }
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }

    /// Rests; says whether the pool was closed meanwhile.
    fn closed_within(&self, wait: Duration) -> bool {
        let closed = |condition: &Condition| matches!(condition, Condition::Closed);
        closed(&self.ward.wait_for(wait, closed))
    }

    /// Marks that the medic itself is in the module, which may not return.
    fn in_module<T>(&self, call: impl FnOnce() -> T) -> T {
        self.ward.medic.mark();
        let answer = call();
        self.ward.medic.mark();
        answer
    }

    /// Takes the token out of the condition, which stays what it is.
    fn take_token(&self) -> Option<Arc<Token>> {
        let mut condition = self.ward.wait(Duration::ZERO, |_| true);
        match &mut *condition {
            Condition::Renewing(token) | Condition::Lost(_, token) => token.take(),
            Condition::Working(_) | Condition::Closed => None,
        }
    }

    /// Takes every worker's seat away; `false` if one does not leave its own in time.
    fn clear_seats(&self) -> bool {
        let mut all = true;
        for place in &self.ward.places {
            match place.seat.try_lock_for(SEAT_PATIENCE) {
                // Closes a session, which may not return. Waiting for the seat is no such call.
                Some(mut seat) => self.in_module(|| drop(seat.take())),
                None => all = false, // the others must not go on calling either
            }
        }
        all
    }

    fn open(&mut self) -> Result<Token, OpenError> {
        let refusal = &mut self.refusal;
        let config = Arc::clone(&self.ward.config);
        let mut serial = String::new();
        self.ward.medic.mark();
        let opened = self.ward.open_again(|state| {
            serial.clone_from(&state.serial);
            may_log_in(refusal.as_mut(), state, &config)
        });
        self.ward.medic.mark();
        match &opened {
            Ok(_) => self.refusal = None,
            Err(error @ OpenError::PinRefused { .. }) if self.refusal.is_none() => {
                let (pin_file, error) = (stamp(&config), error.clone());
                self.refusal = Some(Refusal { serial, pin_file, told: false, error });
            }
            Err(_) => {}
        }
        opened
    }
}

/// Whether the PIN may be tried: not again where it was refused, unless the file, the token, or what the
/// token says of the last login is another since then.
fn may_log_in(
    refusal: Option<&mut Refusal>,
    state: &TokenState,
    config: &Pkcs11Config,
) -> Result<(), OpenError> {
    let Some(refusal) = refusal else { return Ok(()) };
    let restored = refusal.told && !state.last_pin_was_wrong;
    refusal.told |= state.last_pin_was_wrong;
    if restored || refusal.serial != state.serial || refusal.pin_file != stamp(config) {
        refusal.serial.clone_from(&state.serial);
        refusal.pin_file = stamp(config);
        refusal.told = false;
        Ok(())
    } else {
        Err(refusal.error.clone())
    }
}

/// When the PIN file was changed last.
fn stamp(config: &Pkcs11Config) -> Option<SystemTime> {
    fs::metadata(&config.pin_file).and_then(|metadata| metadata.modified()).ok()
}

/// Closes the anchor session and finalises the module, now that no worker sits at the token.
fn close(token: Arc<Token>) {
    let mut token = token;
    // Whoever else holds it looks at counters, and lets go at once.
    loop {
        match Arc::try_unwrap(token) {
            Ok(token) => return drop(token),
            Err(held) => token = held,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn lost(error: &OpenError) -> HsmError {
    HsmError::Unavailable { function: "C_Initialize", detail: error.to_string() }
}
