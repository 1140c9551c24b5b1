//! The identity file: validated whole, each problem with the line that it stands in.

mod access_keys;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use kms_core::{
    access::{Operations, Policies, Policy},
    identity::{
        AccountId, OPERATOR_ACCOUNT, Permissions, ProjectId, Region, SERVICE_ACCOUNT, ServiceName, UserId,
    },
    operation::Action,
};
use serde::Deserialize;
use toml::Spanned;

use super::{
    Account, Agency, Identities, User,
    passwords::{Logins, PasswordCheck},
};
use crate::{
    located::{self, Problem},
    secret_text::SecretText,
};
use access_keys::AccessKeyEntry;

/// The permission that stands for all.
const ALL_PERMISSIONS: &str = "kms:*:*";

type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    policies: Vec<PolicyEntry>,
    #[serde(default)]
    accounts: Vec<AccountEntry>,
    #[serde(default)]
    services: Vec<ServiceEntry>,
    #[serde(default)]
    operators: Vec<OperatorEntry>,
    #[serde(default)]
    revoked_certificates: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyEntry {
    name: Text,
    document: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountEntry {
    domain_id: Text,
    name: String,
    projects: Vec<ProjectEntry>,
    #[serde(default)]
    users: Vec<UserEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectEntry {
    project_id: Text,
    region: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    user_id: Text,
    name: String,
    #[serde(default)]
    permissions: Vec<Text>,
    #[serde(default)]
    policies: Vec<Text>,
    password_hash: Option<Spanned<SecretText>>,
    #[serde(default)]
    access_keys: Vec<AccessKeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceEntry {
    name: Text,
    accounts: Vec<Text>,
    users: Option<Vec<Text>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorEntry {
    name: Text,
    /// Whether it may have checkpoints of its log cosigned, and nothing else.
    #[serde(default)]
    only_cosign: bool,
}

/// Reads the whole file, or says in one line what is wrong with it. Files that it names are taken from `directory` on.
pub(super) fn read(text: &str, directory: &Path) -> Result<Identities, String> {
    let file: File = located::parse(text).map_err(|problem| problem.told(text))?;
    if file.accounts.is_empty() && file.operators.is_empty() {
        return Err("line 1: names nobody, neither accounts nor operators: was it cut off?".to_owned());
    }
    identities(&file, text, directory).map_err(|problem| problem.told(text))
}

fn identities(file: &File, text: &str, directory: &Path) -> Result<Identities, Problem> {
    let policies = policies(&file.policies, text)?;
    let (mut users, mut accounts, mut projects) = (HashMap::new(), HashSet::new(), HashSet::new());
    let (mut access_keys, mut logins, mut regions) = (HashMap::new(), Logins::new(), BTreeSet::new());
    for entry in &file.accounts {
        let account = Arc::new(account(entry, &mut projects)?);
        regions.extend(account.projects.iter().map(|(_, region)| region.clone()));
        if !accounts.insert(account.id.clone()) {
            return Err(Problem::at(&entry.domain_id, format!("account {} stands twice", account.id)));
        }
        for user in &entry.users {
            let id = named("user_id", &user.user_id, UserId::parse)?;
            let permissions = permissions(user, &policies)?;
            access_keys::add(&user.access_keys, &id, directory, &mut access_keys)?;
            let password = password(user, &entry.name, &id, &mut logins)?;
            if users.insert(id, User { account: account.clone(), permissions, password }).is_some() {
                let text = format!("user {} ({}) stands twice", user.user_id.as_ref(), user.name);
                return Err(Problem::at(&user.user_id, text));
            }
        }
    }
    let mut services = HashMap::new();
    for entry in &file.services {
        let name = named("services.name", &entry.name, ServiceName::parse)?;
        if services.insert(name.clone(), agency(entry, &accounts, &users)?).is_some() {
            return Err(Problem::at(&entry.name, format!("service {name} stands twice")));
        }
    }
    let mut operators = HashMap::new();
    for OperatorEntry { name, only_cosign } in &file.operators {
        let permissions = if *only_cosign { Permissions::Cosign } else { Permissions::OPERATOR };
        if operators.insert(named("operators.name", name, UserId::parse)?, permissions).is_some() {
            return Err(Problem::at(name, format!("operator {} stands twice", name.as_ref())));
        }
    }
    let revoked = file.revoked_certificates.iter().map(fingerprint).collect::<Result<_, _>>()?;
    let nobody = PasswordCheck::of_nobody(users.values().filter_map(|user| user.password.as_ref()));
    Ok(Identities { users, access_keys, logins, nobody, regions, services, operators, revoked })
}

/// The policies of the file by their names.
fn policies(entries: &[PolicyEntry], text: &str) -> Result<HashMap<String, Arc<Policy>>, Problem> {
    let mut policies = HashMap::new();
    for PolicyEntry { name, document } in entries {
        let policy = Policy::parse(name.as_ref(), document.as_ref()).map_err(|error| {
            let place = document.span();
            // In a text of several lines, where the document has its own; a first line break is none of it.
            let quoted = &text[place.clone()];
            let lines = quoted.split_inclusive('\n').map(str::len);
            let opened = usize::from(["\"\"\"\n", "\'\'\'\n"].iter().any(|open| quoted.starts_with(open)));
            let before: usize = lines.take(error.line.saturating_sub(1) + opened).sum();
            let start = (place.start + before).min(place.end);
            Problem { at: start..place.end, text: format!("policy {}: {}", name.as_ref(), error.problem) }
        })?;
        let taken = Policies::system(name.as_ref()).is_some();
        if taken || policies.insert(name.as_ref().clone(), Arc::new(policy)).is_some() {
            return Err(Problem::at(
                name,
                format!("policy {} stands twice, or is a system policy", name.as_ref()),
            ));
        }
    }
    Ok(policies)
}

fn account(entry: &AccountEntry, taken: &mut HashSet<ProjectId>) -> Result<Account, Problem> {
    let id = named("domain_id", &entry.domain_id, AccountId::parse)?;
    if [SERVICE_ACCOUNT, OPERATOR_ACCOUNT].contains(&id.as_str()) {
        let text = format!("domain_id: `{id}` is what certificates of {id}s are named by");
        return Err(Problem::at(&entry.domain_id, text));
    }
    let mut projects = Vec::new();
    for project in &entry.projects {
        let id = named("project_id", &project.project_id, ProjectId::parse)?;
        let region = named("region", &project.region, Region::parse)?;
        if !taken.insert(id.clone()) {
            return Err(Problem::at(&project.project_id, format!("project {id} stands twice")));
        }
        projects.push((id, region));
    }
    if projects.is_empty() {
        let text = format!("account {id} ({}) has no project", entry.name);
        return Err(Problem::at(&entry.domain_id, text));
    }
    Ok(Account { id, projects: projects.into() })
}

/// What a user may: the list of permissions and all policies together.
fn permissions(user: &UserEntry, known: &HashMap<String, Arc<Policy>>) -> Result<Permissions, Problem> {
    let who = || format!("user {} ({})", user.user_id.as_ref(), user.name);
    let mut actions = Vec::new();
    for name in &user.permissions {
        if name.as_ref() == ALL_PERMISSIONS {
            actions.extend(Action::ALL);
        } else {
            let action = Action::parse(name.as_ref());
            let unknown = || Problem::at(name, format!("{}: unknown permission {}", who(), name.as_ref()));
            actions.push(action.ok_or_else(unknown)?);
        }
    }
    if user.policies.is_empty() {
        return Ok(actions.into_iter().collect());
    }
    let mut policies = Vec::new();
    for name in &user.policies {
        let policy = known.get(name.as_ref()).cloned().or_else(|| Policies::system(name.as_ref()));
        let unknown = || Problem::at(name, format!("{}: unknown policy {}", who(), name.as_ref()));
        policies.push(policy.ok_or_else(unknown)?);
    }
    if !actions.is_empty() {
        let operations = actions.into_iter().map(Operations::of).fold(Operations::NONE, Operations::union);
        policies.insert(0, Arc::new(Policy::allowing("permissions", operations)));
    }
    Ok(Permissions::Of(Arc::new(Policies::new(policies))))
}

/// What the user's password is checked by, if it has one; then it is known by its name, too.
fn password(
    user: &UserEntry,
    account: &str,
    id: &UserId,
    logins: &mut Logins,
) -> Result<Option<PasswordCheck>, Problem> {
    let Some(hash) = &user.password_hash else { return Ok(None) };
    let malformed =
        || Problem::at(hash, "password_hash: must be of argon2id, as $argon2id$v=19$m=19456,t=2,p=1$…");
    let check = PasswordCheck::parse(hash.as_ref().expose_secret()).ok_or_else(malformed)?;
    if logins.insert((account.to_owned(), user.name.clone()), id.clone()).is_some() {
        let text = format!("user {} with a password stands twice in account {account}", user.name);
        return Err(Problem::at(&user.user_id, text));
    }
    Ok(Some(check))
}

fn agency(
    entry: &ServiceEntry,
    accounts: &HashSet<AccountId>,
    users: &HashMap<UserId, User>,
) -> Result<Agency, Problem> {
    let service = entry.name.as_ref();
    let account = |name: &Text| {
        let known = AccountId::parse(name.as_ref()).filter(|id| accounts.contains(id));
        let text = || format!("service {service}: account {} does not exist", name.as_ref());
        known.ok_or_else(|| Problem::at(name, text()))
    };
    let accounts: HashSet<_> = entry.accounts.iter().map(account).collect::<Result<_, _>>()?;
    let user = |name: &Text| {
        let known = UserId::parse(name.as_ref());
        let known = known.filter(|id| users.get(id).is_some_and(|user| accounts.contains(&user.account.id)));
        let text = || format!("service {service}: user {} is of none of its accounts", name.as_ref());
        known.ok_or_else(|| Problem::at(name, text()))
    };
    let only = entry.users.as_ref().map(|users| users.iter().map(user).collect::<Result<_, _>>());
    Ok(Agency { users: only.transpose()?, accounts })
}

fn fingerprint(text: &Text) -> Result<[u8; 32], Problem> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.as_ref(), &mut bytes).map_err(|_| {
        Problem::at(text, "revoked_certificates: must be SHA-256 fingerprints, 64 hexadecimal digits")
    })?;
    Ok(bytes)
}

fn named<T>(field: &str, text: &Text, parse: impl Fn(&str) -> Option<T>) -> Result<T, Problem> {
    let bad = || format!("{field}: {:?} is not 1 to 64 of A-Z a-z 0-9 . _ -", text.as_ref());
    parse(text.as_ref()).ok_or_else(|| Problem::at(text, bad()))
}
