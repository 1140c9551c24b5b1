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
    project: ProjectId,
    region: Region,
    callers: Vec<Caller>,
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
        let (project, region) = (ProjectId::parse("project"), Region::parse("region"));
        let (project, region) = (project.expect("a name"), region.expect("a name"));
        let mut checks = Self { control, users, accounts, project, region, callers: Vec::new() };
        for number in 0..checks.users.len() {
            checks.identify(std::iter::once(number));
            assert_eq!(checks.check(), 1, "within all limits");
        }
        checks
    }

    /// These users are about to call: who they are was just found out, as it is before a call is checked.
    pub fn identify(&mut self, numbers: impl Iterator<Item = usize>) {
        self.callers.clear();
        self.callers.extend(numbers.map(|number| Caller {
            account: self.accounts[number / USERS_OF_ACCOUNT].clone(),
            user: self.users[number].clone(),
            project: self.project.clone(),
            region: self.region.clone(),
            projects: Arc::new([]),
            acting_service: None,
            permissions: Permissions::all(),
            credential: Credential::Certificate([0; 32]),
            source: ([127, 0, 0, 1], 1).into(),
        }));
    }

    /// One check for each of them, of a call for a data key; how many pass.
    pub fn check(&self) -> usize {
        let passes = |caller: &&Caller| {
            self.control.check(caller, OperationName::GenerateDataKey, NonZeroU32::MIN).is_ok()
        };
        self.callers.iter().filter(passes).count()
    }

    /// Forgets who has spent nothing lately, as the service does once a minute.
    pub fn tidy(&self) {
        self.control.forget_idle();
    }
}
