//! What costs are measured of, open to the benchmarks and to nothing else.

use std::{num::NonZeroU32, sync::Arc};

use kms_core::{
    identity::{AccountId, Caller, Credential, Permissions, ProjectId, Region, UserId},
    operation::OperationName,
    ports::Clock,
};

use crate::traffic::{BudgetClock, DEW, Profile, ProfileSource, TrafficControl, TrafficMode};

/// How many users an account has.
const USERS_OF_ACCOUNT: usize = 1000;

/// The checks that traffic control makes of calls of many users, each of whom has called before.
#[allow(missing_debug_implementations, reason = "holds a million users, which nobody wants to see")]
pub struct Checks {
    control: TrafficControl,
    users: Vec<UserId>,
    accounts: Vec<AccountId>,
    caller: Caller,
}

impl Checks {
    /// So many users under the limits of DEW, but with an account's limit besides, and with a global one that is as wide
    /// as can be: what is measured are calls that pass.
    ///
    /// # Panics
    /// If the built-in profile is no longer as this expects.
    pub fn new(users: usize, clock: Arc<dyn Clock>) -> Self {
        let global =
            r#"{ per = "global", calls = 1000, window = "second", burst = 1000, figure = "documented" }"#;
        let wide = r#"{ per = "global", calls = 1000000, window = "second", burst = 1000000 },
            { per = "account", calls = 1000000, window = "second", burst = 1000000 }"#;
        assert!(DEW.contains(global), "the limit of data keys");
        let profile = Profile::parse(&DEW.replacen(global, wide, 1)).expect("a profile");
        let clock = BudgetClock::new(clock, None);
        let control = TrafficControl::new(TrafficMode::Enforce, ProfileSource::default(), &profile, clock);
        let users: Vec<_> =
            (0..users).filter_map(|number| UserId::parse(&format!("user-{number:08}"))).collect();
        let accounts: Vec<_> = (0..=users.len() / USERS_OF_ACCOUNT)
            .filter_map(|number| AccountId::parse(&format!("account-{number:05}")))
            .collect();
        let caller = Caller {
            account: accounts[0].clone(),
            user: users[0].clone(),
            project: ProjectId::parse("project").expect("a name"),
            region: Region::parse("region").expect("a name"),
            projects: Arc::new([]),
            acting_service: None,
            permissions: Permissions::all(),
            credential: Credential::Certificate([0; 32]),
            source: ([127, 0, 0, 1], 1).into(),
        };
        let mut checks = Self { control, users, accounts, caller };
        assert!((0..checks.users.len()).all(|number| checks.check(number)), "within all limits");
        checks
    }

    /// One check of a call of this user for a data key; whether it passes.
    pub fn check(&mut self, number: usize) -> bool {
        self.caller.user.clone_from(&self.users[number]);
        self.caller.account.clone_from(&self.accounts[number / USERS_OF_ACCOUNT]);
        self.control.check(&self.caller, OperationName::GenerateDataKey, NonZeroU32::MIN).is_ok()
    }

    /// Forgets who has spent nothing lately, as the service does once a minute.
    pub fn tidy(&self) {
        self.control.forget_idle();
    }
}
