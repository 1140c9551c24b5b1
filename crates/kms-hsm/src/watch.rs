//! The watch: a thread that notices calls which do not return. It calls nothing itself.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::ward::{Condition, Place, Ward};

/// How often it looks.
const ROUND: Duration = Duration::from_millis(250);
/// After so many rounds in one job, a worker is taken to hang.
const HANGING: u32 = 8;
/// The medic's calls take longer: it logs in, and tries keys out.
const HANGING_MEDIC: u32 = 40;

/// For so many rounds a worker may make a key pair: RSA keys of 4096 bits take a slow device a minute. No worker is
/// taken to hang meanwhile, for there are modules that let nobody else in (Kryoptic locks its token).
const PATIENCE_FOR_A_BIRTH: u32 = 480;

/// What was seen of one thread.
#[derive(Clone, Copy, Default)]
struct Sight {
    job: u64,
    rounds: u32,
}

impl Sight {
    fn look(&mut self, place: &Place) {
        match place.job() {
            Some(running) if running == self.job => self.rounds += 1,
            running => (self.job, self.rounds) = (running.unwrap_or(0), 0),
        }
    }

    /// As if the job had begun now.
    fn excuse(&mut self) {
        self.rounds = 0;
    }

    fn hangs(self, limit: u32) -> bool {
        self.job != 0 && self.rounds >= limit
    }
}

/// Looks until the ward is closed.
pub(crate) fn run(ward: &Arc<Ward>) {
    let mut workers = vec![Sight::default(); ward.places.len()];
    let (mut medic, mut birth) = (Sight::default(), 0);
    let closed = |condition: &Condition| matches!(condition, Condition::Closed);
    while !closed(&ward.wait_for(ROUND, closed)) {
        birth = if ward.lasting.gives_birth.load(Ordering::Relaxed) { birth + 1 } else { 0 };
        for (sight, place) in workers.iter_mut().zip(&ward.places) {
            sight.look(place);
            if (1..PATIENCE_FOR_A_BIRTH).contains(&birth) {
                sight.excuse();
            }
        }
        medic.look(&ward.medic);
        let hanging = workers.iter().filter(|sight| sight.hangs(HANGING)).count();
        // One that hangs leaves work to the others, but keeps a lost token from being opened anew.
        let works = ward.works.load(Ordering::Relaxed);
        let none_left = hanging == workers.len();
        let stuck = (hanging > 0 && (none_left || !works)) || medic.hangs(HANGING_MEDIC);
        if ward.stuck.swap(stuck, Ordering::Relaxed) != stuck {
            if stuck {
                tracing::error!(workers = hanging, "calls to the HSM do not return; new work is refused");
            } else {
                tracing::info!("calls to the HSM return again");
            }
        }
    }
}
