//! The profile: one file of groups of operations, their limits, and quotas. `dew.toml` is the one that is built in, and
//! explains every field.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use kms_core::{
    AccountQuotas, QuotaTable, error::Window, identity::AccountId, operation::OperationName, ops::MAX_BATCH,
};
use serde::Deserialize;
use toml::Spanned;

use crate::located::{self, Problem};

/// The profile that is built in, as TOML.
pub const DEW: &str = include_str!("dew.toml");
/// More calls than any window needs; so few that the time from one to the next is a whole number of nanoseconds, or
/// nearly so.
const MOST_CALLS: u32 = 1_000_000;

/// How often may be called, and how much accounts may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(super) groups: Vec<Group>,
    /// Of all calls, before it is known who calls.
    pub(super) before_authentication: Figure,
    /// How much accounts may have.
    pub(crate) quotas: QuotaTable,
    overrides: HashMap<AccountId, Vec<Override>>,
}

/// Operations with the same limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    name: Arc<str>,
    control: Control,
    operations: Vec<OperationName>,
    limits: Vec<Limit>,
}

/// Whether the operations of a group draw on one budget. DEW: §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Control {
    /// All on one.
    Shared,
    /// Each on its own.
    Basic,
}

/// Whose calls a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Per {
    /// Those of one user.
    User,
    /// Those of all users of one account.
    Account,
    /// Those of all.
    Global,
}

/// How much a budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Figure {
    /// How many calls it refills by in a window.
    pub calls: NonZeroU32,
    /// How long that is.
    pub window: Window,
    /// How many calls it holds.
    pub burst: NonZeroU32,
}

impl Per {
    /// Whether a caller may know what is left of such a budget: what is left for all would tell him of others.
    pub(super) fn may_be_told(self) -> bool {
        self != Self::Global
    }

    /// Its name, as in files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Account => "account",
            Self::Global => "global",
        }
    }
}

impl Figure {
    /// The time from one call to the next.
    pub(crate) fn interval(&self) -> Duration {
        self.window.length() / self.calls.get()
    }
}

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Basis {
    Documented,
    #[default]
    Chosen,
}

/// A limit of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub per: Per,
    pub figure: Figure,
    pub documented: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Override {
    group: Arc<str>,
    limit: Limit,
}

/// Operations that draw on the same budgets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pool {
    /// The group, and with basic control the operation, as `queries/ListKeys`.
    pub name: Arc<str>,
    pub operations: Vec<OperationName>,
    /// From the shortest window to the longest.
    pub limits: Vec<Limit>,
}

impl Profile {
    /// Reads the whole text, or says in one line what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let read = located::parse(text).and_then(|file: File| file.profile());
        read.map_err(|problem| problem.told(text))
    }

    /// The built-in one, but for the number of custom keys.
    pub(crate) fn dew(custom_keys: Option<u64>) -> Result<Self, String> {
        let mut profile = Self::parse(DEW)?;
        let default = &mut profile.quotas.default;
        default.custom_keys = custom_keys.unwrap_or(default.custom_keys);
        Ok(profile)
    }

    /// Accounts that have limits of their own.
    pub(super) fn limited_accounts(&self) -> impl Iterator<Item = &AccountId> {
        self.overrides.keys()
    }

    /// What each such subject, of this account, has budgets for.
    pub(super) fn pools(&self, per: Per, account: Option<&AccountId>) -> Vec<Pool> {
        let overrides =
            account.and_then(|account| self.overrides.get(account)).map_or(&[][..], Vec::as_slice);
        let pools = self.groups.iter().flat_map(|group| {
            let own = overrides.iter().filter(|own| own.group == group.name).map(|own| own.limit);
            group.pools(per, &own.collect::<Vec<_>>())
        });
        pools.collect()
    }
}

impl Group {
    fn pools(&self, per: Per, own: &[Limit]) -> Vec<Pool> {
        let replaced = |limit: &Limit| own.iter().any(|own| own.is_in_place_of(limit));
        let kept = self.limits.iter().filter(|limit| !replaced(limit));
        let mut limits: Vec<_> = kept.chain(own).filter(|limit| limit.per == per).copied().collect();
        limits.sort_by_key(|limit| limit.figure.window);
        match self.control {
            _ if limits.is_empty() => Vec::new(),
            Control::Shared => {
                vec![Pool { name: self.name.clone(), operations: self.operations.clone(), limits }]
            }
            Control::Basic => {
                let pool = |operation: &OperationName| Pool {
                    name: format!("{}/{}", self.name, operation.info().name).into(),
                    operations: vec![*operation],
                    limits: limits.clone(),
                };
                self.operations.iter().map(pool).collect()
            }
        }
    }
}

impl Limit {
    fn is_in_place_of(&self, other: &Self) -> bool {
        (self.per, self.figure.window) == (other.per, other.figure.window)
    }
}

type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    before_authentication: Spanned<DoorEntry>,
    groups: Vec<GroupEntry>,
    unlimited: Spanned<UnlimitedEntry>,
    quotas: Spanned<QuotasEntry>,
    #[serde(default)]
    accounts: Vec<AccountEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DoorEntry {
    calls: NonZeroU32,
    window: Window,
    burst: NonZeroU32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupEntry {
    name: Text,
    control: Control,
    operations: Vec<Text>,
    limits: Vec<Spanned<LimitEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitEntry {
    per: Per,
    calls: NonZeroU32,
    window: Window,
    burst: NonZeroU32,
    #[serde(default)]
    figure: Basis,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnlimitedEntry {
    operations: Vec<Text>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotasEntry {
    custom_keys: u64,
    grants_per_key: u64,
    aliases_per_key: u64,
    tags_per_key: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountEntry {
    domain_id: Text,
    quotas: Option<Spanned<OwnQuotasEntry>>,
    #[serde(default)]
    limits: Vec<Spanned<OwnLimitEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnQuotasEntry {
    custom_keys: Option<u64>,
    grants_per_key: Option<u64>,
    aliases_per_key: Option<u64>,
    tags_per_key: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnLimitEntry {
    group: Text,
    per: Per,
    calls: NonZeroU32,
    window: Window,
    burst: NonZeroU32,
}

impl File {
    fn profile(&self) -> Result<Profile, Problem> {
        let (mut names, mut placed) = (HashSet::new(), HashSet::new());
        let mut groups = Vec::new();
        for entry in &self.groups {
            if !names.insert(entry.name.as_ref()) {
                return Err(Problem::at(&entry.name, format!("group {} stands twice", entry.name.as_ref())));
            }
            groups.push(entry.group(&mut placed)?);
        }
        let unlimited = &self.unlimited.as_ref().operations;
        unlimited.iter().try_for_each(|name| operation(name, &mut placed).map(drop))?;
        if let Some(missing) = OperationName::ALL.iter().find(|name| !placed.contains(name)) {
            let text = format!("{} stands in no group, and is not said to be unlimited", missing.info().name);
            return Err(Problem::at(&self.unlimited, text));
        }
        let entry = self.before_authentication.as_ref();
        let before_authentication =
            figure(&self.before_authentication, entry.calls, entry.window, entry.burst)?;
        let default = self.quotas.as_ref().quotas();
        check_quotas(&self.quotas, default)?;
        let mut profile = Profile {
            groups,
            before_authentication,
            quotas: QuotaTable { default, accounts: HashMap::new() },
            overrides: HashMap::new(),
        };
        self.accounts.iter().try_for_each(|account| account.add_to(&mut profile))?;
        Ok(profile)
    }
}

impl GroupEntry {
    fn group(&self, placed: &mut HashSet<OperationName>) -> Result<Group, Problem> {
        let operations: Vec<_> =
            self.operations.iter().map(|name| operation(name, placed)).collect::<Result<_, _>>()?;
        let mut limits: Vec<Limit> = Vec::new();
        for place in &self.limits {
            let entry = place.as_ref();
            let figure = figure(place, entry.calls, entry.window, entry.burst)?;
            check_batch(place, &figure, &operations)?;
            let limit = Limit { per: entry.per, figure, documented: entry.figure == Basis::Documented };
            if limits.iter().any(|other| limit.is_in_place_of(other)) {
                return Err(twice(place, &limit));
            }
            limits.push(limit);
        }
        Ok(Group { name: self.name.as_ref().as_str().into(), control: self.control, operations, limits })
    }
}

impl QuotasEntry {
    const fn quotas(self) -> AccountQuotas {
        let Self { custom_keys, grants_per_key, aliases_per_key, tags_per_key } = self;
        AccountQuotas { custom_keys, grants_per_key, aliases_per_key, tags_per_key }
    }
}

impl AccountEntry {
    fn add_to(&self, profile: &mut Profile) -> Result<(), Problem> {
        let name = self.domain_id.as_ref();
        let account = AccountId::parse(name)
            .ok_or_else(|| Problem::at(&self.domain_id, "domain_id: must be the id of an account"))?;
        let default = profile.quotas.default;
        let quotas = match &self.quotas {
            None => default,
            Some(place) => {
                let own = place.as_ref();
                let quotas = AccountQuotas {
                    custom_keys: own.custom_keys.unwrap_or(default.custom_keys),
                    grants_per_key: own.grants_per_key.unwrap_or(default.grants_per_key),
                    aliases_per_key: own.aliases_per_key.unwrap_or(default.aliases_per_key),
                    tags_per_key: own.tags_per_key.unwrap_or(default.tags_per_key),
                };
                check_quotas(place, quotas)?;
                quotas
            }
        };
        let mut overrides: Vec<Override> = Vec::new();
        for place in &self.limits {
            let own = place.as_ref().read(place, profile)?;
            if overrides
                .iter()
                .any(|other| other.group == own.group && own.limit.is_in_place_of(&other.limit))
            {
                return Err(twice(place, &own.limit));
            }
            overrides.push(own);
        }
        if profile.quotas.accounts.insert(account.clone(), quotas).is_some() {
            return Err(Problem::at(&self.domain_id, format!("account {name} stands twice")));
        }
        profile.overrides.insert(account, overrides);
        Ok(())
    }
}

impl OwnLimitEntry {
    fn read(&self, place: &Spanned<Self>, profile: &Profile) -> Result<Override, Problem> {
        let named = self.group.as_ref();
        let group = profile.groups.iter().find(|group| *group.name == **named);
        let group = group.ok_or_else(|| Problem::at(&self.group, format!("there is no group {named}")))?;
        if self.per == Per::Global {
            return Err(Problem::at(place, "what is global is no account's own"));
        }
        let figure = figure(place, self.calls, self.window, self.burst)?;
        check_batch(place, &figure, &group.operations)?;
        let limit = Limit { per: self.per, figure, documented: false };
        Ok(Override { group: group.name.clone(), limit })
    }
}

/// The operation of this name, which stands nowhere else.
fn operation(name: &Text, placed: &mut HashSet<OperationName>) -> Result<OperationName, Problem> {
    let text = name.as_ref();
    let operation = OperationName::parse(text)
        .ok_or_else(|| Problem::at(name, format!("there is no operation {text}")))?;
    if placed.insert(operation) {
        Ok(operation)
    } else {
        Err(Problem::at(name, format!("{text} stands twice")))
    }
}

fn figure<T>(
    place: &Spanned<T>,
    calls: NonZeroU32,
    window: Window,
    burst: NonZeroU32,
) -> Result<Figure, Problem> {
    if calls.get() > MOST_CALLS {
        return Err(Problem::at(place, format!("calls: must be at most {MOST_CALLS}")));
    }
    if burst > calls {
        return Err(Problem::at(place, "burst: must be at most `calls`"));
    }
    Ok(Figure { calls, window, burst })
}

/// A call that stands for many would never pass a budget that cannot hold as many.
fn check_batch<T>(place: &Spanned<T>, figure: &Figure, operations: &[OperationName]) -> Result<(), Problem> {
    if figure.burst.get() < MAX_BATCH && operations.contains(&OperationName::GenerateDataKeys) {
        let text = format!("burst: must be at least {MAX_BATCH}, for GenerateDataKeys takes so many at once");
        return Err(Problem::at(place, text));
    }
    Ok(())
}

fn check_quotas<T>(place: &Spanned<T>, quotas: AccountQuotas) -> Result<(), Problem> {
    for (name, quota, most) in [
        ("grants_per_key", quotas.grants_per_key, AccountQuotas::MOST_GRANTS),
        ("aliases_per_key", quotas.aliases_per_key, AccountQuotas::MOST_ALIASES),
        ("tags_per_key", quotas.tags_per_key, AccountQuotas::MOST_TAGS),
    ] {
        if quota > most {
            return Err(Problem::at(place, format!("{name}: must be at most {most}")));
        }
    }
    Ok(())
}

fn twice<T>(place: &Spanned<T>, limit: &Limit) -> Problem {
    let text = format!("the limit per {} and {} stands twice", limit.per.name(), limit.figure.window.name());
    Problem::at(place, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profile_has_the_documented_figures() {
        let profile = Profile::dew(None).expect("it is valid");
        assert_eq!(profile.quotas, QuotaTable::default());
        let figures = |per, name: &str| {
            let pools = profile.pools(per, None);
            let pool = pools.into_iter().find(|pool| &*pool.name == name).expect("it is there");
            assert!(pool.limits.iter().all(|limit| limit.documented), "{pool:?}");
            pool.limits
                .iter()
                .map(|limit| (limit.figure.calls.get(), limit.figure.window))
                .collect::<Vec<_>>()
        };
        // DEW: §7
        assert_eq!(figures(Per::User, "life-cycle"), [(20, Window::Second)]);
        assert_eq!(figures(Per::Global, "life-cycle"), [(100, Window::Second)]);
        assert_eq!(figures(Per::User, "data-keys"), [(800, Window::Second)]);
        assert_eq!(figures(Per::Global, "data-keys"), [(1000, Window::Second)]);
        assert_eq!(figures(Per::Account, "describe-key/DescribeKey"), [(1000, Window::Second)]);
        assert_eq!(Profile::dew(Some(7)).expect("it is valid").quotas.default.custom_keys, 7);
    }

    /// The line on which this stands in the built-in profile.
    fn line(text: &str) -> usize {
        1 + DEW[..DEW.find(text).expect("it is there")].matches('\n').count()
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_line() {
        let documented =
            r#"{ per = "user", calls = 20, window = "second", burst = 20, figure = "documented" }"#;
        let data_keys =
            r#"{ per = "user", calls = 800, window = "second", burst = 800, figure = "documented" }"#;
        for (correct, wrong, at, problem) in [
            (r#""CreateGrant", "#, "", "[unlimited]", "CreateGrant stands in no group"),
            (r#""CreateGrant""#, r#""CreateGrant", "Sign""#, r#"["CreateGrant""#, "Sign stands twice"),
            (r#""CreateGrant""#, r#""CreateGrants""#, r#""CreateGrant""#, "no operation CreateGrants"),
            (r#"name = "tags""#, r#"name = "grants""#, r#"name = "tags""#, "group grants stands twice"),
            ("burst = 20000", "burst = 20001", "[before_authentication]", "burst: must be at most"),
            ("calls = 20000", "calls = 2000000", "[before_authentication]", "calls: must be at most 1000000"),
            ("calls = 20000", "calls = 0", "calls = 20000", "zero"),
            (
                documented,
                &format!("{documented}, {documented}"),
                documented,
                "per user and second stands twice",
            ),
            (data_keys, &data_keys.replace("burst = 800", "burst = 99"), data_keys, "at least 100"),
            ("control = \"shared\"", "control = \"both\"", "control = \"shared\"", "both"),
            ("tags_per_key = 20", "tags_per_key = 21", "[quotas]", "tags_per_key: must be at most 20"),
            ("tags_per_key = 20", "tags_per_key = 20\nkeys = 1", "", "keys"),
        ] {
            assert!(DEW.contains(correct), "{correct}");
            let refused = Profile::parse(&DEW.replacen(correct, wrong, 1)).expect_err(wrong);
            assert!(refused.contains(problem), "{wrong}: {refused}");
            let numbered = format!("line {}:", line(at));
            assert!(at.is_empty() || refused.starts_with(&numbered), "{wrong}: {refused}, not {numbered}");
        }
    }

    fn account(entries: &str) -> Result<Profile, String> {
        Profile::parse(&format!("{DEW}\n[[accounts]]\ndomain_id = \"acme\"\n{entries}"))
    }

    #[test]
    fn an_account_may_have_quotas_and_limits_of_its_own() {
        let profile = account(
            "quotas = { custom_keys = 7 }\nlimits = [\n\
             {group = \"life-cycle\", per = \"user\", calls = 5, window = \"second\", burst = 2},\n\
             {group = \"life-cycle\", per = \"user\", calls = 9, window = \"day\", burst = 9}]",
        );
        let profile = profile.expect("valid");
        let acme = AccountId::parse("acme").expect("a name");
        let (own, default) = (profile.quotas.of(&acme), profile.quotas.default);
        assert_eq!(own, AccountQuotas { custom_keys: 7, ..default });
        let life_cycle = |account| {
            let pools = profile.pools(Per::User, account);
            let pool = pools.into_iter().find(|pool| &*pool.name == "life-cycle").expect("it is there");
            pool.limits
                .iter()
                .map(|limit| (limit.figure.calls.get(), limit.figure.window))
                .collect::<Vec<_>>()
        };
        assert_eq!(life_cycle(Some(&acme)), [(5, Window::Second), (9, Window::Day)]);
        assert_eq!(life_cycle(None), [(20, Window::Second)]);

        let limit = |group: &str, per: &str| {
            format!("{{group = {group:?}, per = {per:?}, calls = 5, window = \"second\", burst = 5}}")
        };
        for (wrong, problem) in [
            (format!("limits = [{}]", limit("none", "user")), "no group none"),
            (format!("limits = [{}]", limit("tags", "global")), "no account's own"),
            (format!("limits = [{0}, {0}]", limit("tags", "user")), "stands twice"),
            (format!("limits = [{}]", limit("data-keys", "user")), "at least 100"),
            ("quotas = { grants_per_key = 1001 }".to_owned(), "at most 1000"),
            ("[[accounts]]\ndomain_id = \"acme\"".to_owned(), "account acme stands twice"),
            ("[[accounts]]\ndomain_id = \"\"".to_owned(), "must be the id of an account"),
        ] {
            let refused = account(&wrong).expect_err(&wrong);
            assert!(refused.contains(problem) && refused.starts_with("line "), "{wrong}: {refused}");
        }
    }
}
