//! Who may call: the identity file, and from a connection and its metadata to a caller.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use kms_core::{
    Timestamp,
    error::Unauthenticated,
    identity::{
        AccountId, Caller, OPERATOR_ACCOUNT, ProjectId, Region, SERVICE_ACCOUNT, ServiceName, UserId,
    },
    operation::{Action, Permissions},
};
use serde::Deserialize;

use crate::{
    config::{FileError, parse},
    peer::{Peer, Subject},
};

/// The permission that stands for all.
const ALL_PERMISSIONS: &str = "kms:*:*";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    accounts: Vec<AccountEntry>,
    #[serde(default)]
    services: Vec<ServiceEntry>,
    #[serde(default)]
    operators: Vec<OperatorEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountEntry {
    domain_id: String,
    name: String,
    projects: Vec<ProjectEntry>,
    #[serde(default)]
    users: Vec<UserEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectEntry {
    project_id: String,
    region: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    user_id: String,
    name: String,
    permissions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceEntry {
    name: String,
    accounts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorEntry {
    name: String,
}

#[derive(Debug)]
struct Account {
    id: AccountId,
    /// At least one; the first is the one that is meant when none is named.
    projects: Arc<[(ProjectId, Region)]>,
}

#[derive(Debug)]
struct User {
    account: Arc<Account>,
    permissions: Permissions,
}

/// All accounts, users, services and operators.
#[derive(Debug)]
pub(crate) struct Identities {
    users: HashMap<UserId, User>,
    /// Each service with the accounts for whose users it may act.
    services: HashMap<ServiceName, HashSet<AccountId>>,
    operators: HashSet<UserId>,
}

/// What the metadata of a call say about identity.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Claims<'a> {
    /// `x-project-id`
    pub project: Option<&'a str>,
    /// `x-acting-for`
    pub acting_for: Option<&'a str>,
}

impl Identities {
    /// Reads the file and validates it whole.
    pub(crate) fn load(path: &Path) -> Result<Self, FileError> {
        Self::from_file(parse(path)?).map_err(|problem| FileError::new(path, problem))
    }

    fn from_file(file: File) -> Result<Self, String> {
        let operators = operators(&file.operators)?;
        let mut identities = Self { users: HashMap::new(), services: HashMap::new(), operators };
        let mut accounts = HashSet::new();
        let mut projects = HashSet::new();
        for entry in file.accounts {
            let account = Arc::new(account(&entry, &mut projects)?);
            if !accounts.insert(account.id.clone()) {
                return Err(format!("account {} stands twice", account.id));
            }
            for user in entry.users {
                let id = UserId::parse(&user.user_id).ok_or_else(|| bad_name("user_id", &user.user_id))?;
                let permissions = permissions(&user)?;
                if identities.users.insert(id, User { account: account.clone(), permissions }).is_some() {
                    return Err(format!("user {} ({}) stands twice", user.user_id, user.name));
                }
            }
        }
        for entry in file.services {
            let name =
                ServiceName::parse(&entry.name).ok_or_else(|| bad_name("services.name", &entry.name))?;
            let known =
                |id: &String| AccountId::parse(id).filter(|id| accounts.contains(id)).ok_or(id.clone());
            let served = entry.accounts.iter().map(known).collect::<Result<HashSet<_>, _>>();
            let served = served.map_err(|id| format!("service {name}: account {id} does not exist"))?;
            if identities.services.insert(name.clone(), served).is_some() {
                return Err(format!("service {name} stands twice"));
            }
        }
        Ok(identities)
    }

    /// The caller behind a connection and the metadata of one call.
    pub(crate) fn caller(
        &self,
        peer: &Peer,
        claims: Claims<'_>,
        now: Timestamp,
    ) -> Result<Caller, Unauthenticated> {
        let certificate = peer.certificate.as_ref().ok_or(Unauthenticated::NoCertificate)?;
        // The handshake checked it; a connection may live longer than its certificate.
        if certificate.not_after < now {
            return Err(Unauthenticated::CertificateExpired);
        }
        let subject = certificate.subject.as_ref().ok_or(Unauthenticated::UnknownIdentity)?;
        if let Subject::Operator(name) = subject {
            let name = self.operator(name, claims)?.clone();
            return Ok(Caller::operator(name, certificate.fingerprint, peer.source));
        }
        let (user_id, user, acting_service) = self.user(subject, claims.acting_for)?;
        let (project, region) = match claims.project {
            None => user.account.projects.first(),
            Some(named) => user.account.projects.iter().find(|(project, _)| project.as_str() == named),
        }
        .ok_or(Unauthenticated::UnknownProject)?;
        Ok(Caller {
            account: user.account.id.clone(),
            user: user_id.clone(),
            project: project.clone(),
            region: region.clone(),
            projects: user.account.projects.clone(),
            acting_service,
            permissions: user.permissions,
            certificate: certificate.fingerprint,
            source: peer.source,
        })
    }

    /// An operator, who has no project and acts for nobody.
    fn operator(&self, name: &UserId, claims: Claims<'_>) -> Result<&UserId, Unauthenticated> {
        let known = self.operators.get(name).ok_or(Unauthenticated::UnknownIdentity)?;
        match claims {
            Claims { acting_for: Some(_), .. } => Err(Unauthenticated::ActingForNotAllowed),
            Claims { project: Some(_), .. } => Err(Unauthenticated::UnknownProject),
            Claims { project: None, acting_for: None } => Ok(known),
        }
    }

    fn user(
        &self,
        subject: &Subject,
        acting_for: Option<&str>,
    ) -> Result<(&UserId, &User, Option<ServiceName>), Unauthenticated> {
        match (subject, acting_for) {
            (Subject::User { account, user }, None) => {
                let known = self.users.get_key_value(user).filter(|(_, known)| known.account.id == *account);
                let (id, user) = known.ok_or(Unauthenticated::UnknownIdentity)?;
                Ok((id, user, None))
            }
            (Subject::User { .. }, Some(_)) => Err(Unauthenticated::ActingForNotAllowed),
            (Subject::Service(name), acting_for) => {
                let served = self.services.get(name).ok_or(Unauthenticated::UnknownIdentity)?;
                let named = UserId::parse(acting_for.ok_or(Unauthenticated::ActingForRequired)?);
                // A user that does not exist looks the same as one that the service may not act for.
                let known = named.and_then(|named| self.users.get_key_value(&named));
                let allowed = known.filter(|(_, user)| served.contains(&user.account.id));
                let (id, user) = allowed.ok_or(Unauthenticated::ActingForNotAllowed)?;
                Ok((id, user, Some(name.clone())))
            }
            (Subject::Operator(_), _) => Err(Unauthenticated::UnknownIdentity), // is no user
        }
    }
}

fn account(entry: &AccountEntry, taken: &mut HashSet<ProjectId>) -> Result<Account, String> {
    let id = AccountId::parse(&entry.domain_id).ok_or_else(|| bad_name("domain_id", &entry.domain_id))?;
    if [SERVICE_ACCOUNT, OPERATOR_ACCOUNT].contains(&id.as_str()) {
        return Err(format!("domain_id: `{id}` is what certificates of {id}s are named by"));
    }
    let mut projects = Vec::new();
    for project in &entry.projects {
        let id = ProjectId::parse(&project.project_id)
            .ok_or_else(|| bad_name("project_id", &project.project_id))?;
        let region = Region::parse(&project.region).ok_or_else(|| bad_name("region", &project.region))?;
        if !taken.insert(id.clone()) {
            return Err(format!("project {id} stands twice"));
        }
        projects.push((id, region));
    }
    if projects.is_empty() {
        return Err(format!("account {id} ({}) has no project", entry.name));
    }
    Ok(Account { id, projects: projects.into() })
}

fn operators(entries: &[OperatorEntry]) -> Result<HashSet<UserId>, String> {
    let mut operators = HashSet::new();
    for OperatorEntry { name } in entries {
        let id = UserId::parse(name).ok_or_else(|| bad_name("operators.name", name))?;
        if !operators.insert(id) {
            return Err(format!("operator {name} stands twice"));
        }
    }
    Ok(operators)
}

fn permissions(user: &UserEntry) -> Result<Permissions, String> {
    if user.permissions.iter().any(|name| name == ALL_PERMISSIONS) {
        return Ok(Permissions::all());
    }
    let parse = |name: &String| {
        Action::parse(name)
            .ok_or_else(|| format!("user {} ({}): unknown permission {name}", user.user_id, user.name))
    };
    user.permissions.iter().map(parse).collect()
}

fn bad_name(field: &str, text: &str) -> String {
    format!("{field}: {text:?} is not 1 to 64 of A-Z a-z 0-9 . _ -")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::peer::ClientCertificate;

    const SAMPLE: &str = include_str!("../../../docs/examples/identity.toml");
    const ACCOUNT: &str = "d0000000000000000000000000000001";
    const DOWNLOADER: &str = "u0000000000000000000000000000002";

    fn identities() -> Identities {
        Identities::from_file(toml::from_str(SAMPLE).expect("the sample parses"))
            .expect("the sample is valid")
    }

    fn refusal(alter: impl Fn(&str) -> String) -> String {
        let file = toml::from_str(&alter(SAMPLE)).expect("still TOML");
        Identities::from_file(file).expect_err("must be refused")
    }

    fn peer(uri: Option<&str>) -> Peer {
        Peer {
            source: SocketAddr::from(([127, 0, 0, 1], 1)),
            certificate: uri.map(|uri| ClientCertificate {
                subject: Subject::parse(uri),
                fingerprint: [1; 32],
                not_after: Timestamp::from_micros(100),
            }),
        }
    }

    fn caller(
        uri: Option<&str>,
        project: Option<&str>,
        acting_for: Option<&str>,
    ) -> Result<Caller, Unauthenticated> {
        identities().caller(&peer(uri), Claims { project, acting_for }, Timestamp::from_micros(50))
    }

    #[test]
    fn a_user_is_named_by_its_certificate_and_project() {
        let uri = format!("dewpoint://{ACCOUNT}/{DOWNLOADER}");
        let found = caller(Some(&uri), None, None).expect("known");
        assert_eq!((found.user.as_str(), found.region.as_str()), (DOWNLOADER, "cn-north-4"));
        assert!(found.permissions.allow(Action::DekCrypto) && !found.permissions.allow(Action::CmkDisable));
        let second = caller(Some(&uri), Some("p0000000000000000000000000000002"), None).expect("known");
        assert_eq!(second.region.as_str(), "cn-east-3");
        let foreign = caller(Some(&uri), Some("p9"), None).expect_err("another account's project");
        assert_eq!(foreign, Unauthenticated::UnknownProject);
        let service = caller(Some(&uri), None, Some(DOWNLOADER)).expect_err("a user acts for nobody");
        assert_eq!(service, Unauthenticated::ActingForNotAllowed);
    }

    #[test]
    fn nobody_else_is_let_in() {
        for (uri, expected) in [
            (None, Unauthenticated::NoCertificate),
            (Some("dewpoint://d9/u9"), Unauthenticated::UnknownIdentity),
            (Some(&*format!("dewpoint://d9/{DOWNLOADER}")), Unauthenticated::UnknownIdentity),
            (Some(&*format!("https://{ACCOUNT}/{DOWNLOADER}")), Unauthenticated::UnknownIdentity),
            (Some(&*format!("dewpoint://{ACCOUNT}/{DOWNLOADER}/x")), Unauthenticated::UnknownIdentity),
            (Some("dewpoint://service/evs"), Unauthenticated::UnknownIdentity),
            (Some("dewpoint://service/obs"), Unauthenticated::ActingForRequired),
        ] {
            assert_eq!(caller(uri, None, None).expect_err("refused"), expected, "{uri:?}");
        }
        let late = Timestamp::from_micros(101);
        let peer = peer(Some(&format!("dewpoint://{ACCOUNT}/{DOWNLOADER}")));
        let expired = identities().caller(&peer, Claims::default(), late).expect_err("expired");
        assert_eq!(expired, Unauthenticated::CertificateExpired);
    }

    #[test]
    fn a_service_acts_with_the_users_permissions_and_no_more() {
        let found = caller(Some("dewpoint://service/obs"), None, Some(DOWNLOADER)).expect("allowed");
        assert_eq!(found.acting_service.expect("named").as_str(), "obs");
        assert!(!found.permissions.allow(Action::CmkDisable));
        let unknown = caller(Some("dewpoint://service/obs"), None, Some("u9")).expect_err("unknown user");
        assert_eq!(unknown, Unauthenticated::ActingForNotAllowed);
    }

    #[test]
    fn an_operator_has_no_project_and_no_permission_for_keys() {
        let uri = Some("dewpoint://operator/olga");
        let found = caller(uri, None, None).expect("known");
        assert_eq!((found.account.as_str(), found.user.as_str()), ("operator", "olga"));
        assert!(found.permissions.allow(Action::RootManage));
        assert!(Action::ALL.iter().all(|action| !found.permissions.allow(*action)));
        let project = Some("p0000000000000000000000000000001");
        assert_eq!(caller(uri, project, None).expect_err("refused"), Unauthenticated::UnknownProject);
        let acting = caller(uri, None, Some(DOWNLOADER)).expect_err("refused");
        assert_eq!(acting, Unauthenticated::ActingForNotAllowed);
        let acted_for = caller(Some("dewpoint://service/obs"), None, Some("olga")).expect_err("no user");
        assert_eq!(acted_for, Unauthenticated::ActingForNotAllowed);
        let unknown = caller(Some("dewpoint://operator/u9"), None, None).expect_err("refused");
        assert_eq!(unknown, Unauthenticated::UnknownIdentity);
    }

    #[test]
    fn a_user_cannot_be_made_an_operator() {
        let permission = "dewpoint:root:manage";
        assert!(refusal(|file| file.replace("kms:dek:crypto", permission)).contains(permission));
        for reserved in ["operator", "service"] {
            assert!(refusal(|file| file.replace(ACCOUNT, reserved)).contains(reserved));
        }
        let all = caller(Some(&format!("dewpoint://{ACCOUNT}/u0000000000000000000000000000001")), None, None);
        assert!(!all.expect("known").permissions.allow(Action::RootManage));
    }

    #[test]
    fn a_broken_file_is_refused_with_its_problem() {
        assert!(refusal(|file| file.replace("kms:dek:crypto", "kms:dek:krypto")).contains("kms:dek:krypto"));
        assert!(refusal(|file| file.replace("000002\"\nname", "000001\"\nname")).contains("stands twice"));
        assert!(
            refusal(|file| file.replace("accounts = [\"d", "accounts = [\"x")).contains("does not exist")
        );
        assert!(refusal(|file| file.replace("name = \"obs\"", "name = \"o b s\"")).contains("services.name"));
        assert!(refusal(|file| file.replace("\"olga\"", "\"o/lga\"")).contains("operators.name"));
        assert!(refusal(|file| format!("{file}[[operators]]\nname = \"olga\"")).contains("stands twice"));
        toml::from_str::<File>(&SAMPLE.replace("region", "regoin")).err().expect("an unknown field");
    }
}
