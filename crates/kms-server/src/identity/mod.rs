//! Who may call: the identity file, and from a connection and its metadata to a caller.

mod access_keys;
mod file;
pub(crate) mod passwords;
pub(crate) mod reload;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use kms_core::{
    Timestamp,
    error::Unauthenticated,
    identity::{
        AccessKeyId, AccountId, Caller, Credential, Permissions, ProjectId, Region, ServiceName, Stranger,
        UserId,
    },
    ops::Identity,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    config::FileError,
    peer::{Peer, Subject},
};
use access_keys::AccessKey;
use passwords::{Logins, PasswordCheck};

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
    password: Option<PasswordCheck>,
}

/// All accounts, users, access keys, services and operators.
#[derive(Debug)]
pub(crate) struct Identities {
    users: HashMap<UserId, User>,
    access_keys: HashMap<AccessKeyId, AccessKey>,
    logins: Logins,
    /// What the passwords of all others are checked by.
    nobody: PasswordCheck,
    /// Each that a project is of.
    regions: BTreeSet<Region>,
    services: HashMap<ServiceName, Agency>,
    operators: HashMap<UserId, Permissions>,
    /// SHA-256 of certificates that are not taken any more, whatever they name.
    revoked: HashSet<[u8; 32]>,
}

/// A project of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProjectChoice<'a> {
    /// The account's first: none is named.
    First,
    /// By its id.
    Id(&'a str),
    /// By its name, which is its region's; the first of them.
    Name(&'a str),
}

impl Account {
    fn project(&self, choice: ProjectChoice<'_>) -> Option<&(ProjectId, Region)> {
        match choice {
            ProjectChoice::First => self.projects.first(),
            ProjectChoice::Id(named) => self.projects.iter().find(|(id, _)| id.as_str() == named),
            ProjectChoice::Name(named) => self.projects.iter().find(|(_, region)| region.as_str() == named),
        }
    }
}

/// For whom a service may act.
#[derive(Debug)]
struct Agency {
    /// For users of these accounts,
    accounts: HashSet<AccountId>,
    /// and only for these of them, if it is limited to some.
    users: Option<HashSet<UserId>>,
}

impl Agency {
    fn covers(&self, id: &UserId, user: &User) -> bool {
        self.accounts.contains(&user.account.id) && self.users.as_ref().is_none_or(|users| users.contains(id))
    }
}

/// What the metadata of a call say about identity.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Claims<'a> {
    /// `x-project-id`
    pub project: Option<&'a str>,
    /// `x-acting-for`
    pub acting_for: Option<&'a str>,
    /// `x-dry-run`
    pub dry_run: bool,
}

/// What came with a call to show who makes it, in the form of its transport.
pub(crate) trait Credentials: Send + Sync {
    /// Who that is, by what holds now. Asked anew after a wait.
    fn caller(&self, identities: &Identities, now: Timestamp) -> Result<Caller, Unauthenticated>;

    /// What is known of who calls when that is nobody.
    fn stranger(&self) -> Stranger;

    /// Whether the call is only to tell whether it would be allowed.
    fn dry_run(&self) -> bool {
        false
    }
}

/// The credentials of gRPC: a client certificate, and metadata.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MutualTls<'a> {
    /// The other end of the connection.
    pub peer: &'a Peer,
    /// What the metadata say, if they can be read.
    pub claims: Result<Claims<'a>, Unauthenticated>,
}

impl Credentials for MutualTls<'_> {
    fn caller(&self, identities: &Identities, now: Timestamp) -> Result<Caller, Unauthenticated> {
        identities.caller(self.peer, self.claims?, now)
    }

    fn stranger(&self) -> Stranger {
        let certificate = self.peer.certificate.as_ref();
        let credential = certificate.map(|one| Credential::Certificate(one.fingerprint));
        Stranger { source: self.peer.source, credential }
    }

    fn dry_run(&self) -> bool {
        self.claims.is_ok_and(|claims| claims.dry_run)
    }
}

/// The identities that hold now, and the file that they come from. Every call asks for them anew.
#[derive(Debug)]
pub(crate) struct CurrentIdentities {
    path: PathBuf,
    identities: RwLock<Arc<Identities>>,
    /// Held by who replaces them.
    reloading: Arc<tokio::sync::Mutex<()>>,
}

impl CurrentIdentities {
    /// Those of this file.
    pub(crate) fn load(path: &Path) -> Result<Self, FileError> {
        let (identities, _) = Identities::load(path)?;
        let identities = RwLock::new(Arc::new(identities));
        Ok(Self { path: path.to_owned(), identities, reloading: Arc::default() })
    }

    /// The right to read them anew and replace them.
    pub(crate) fn reloading(&self) -> &Arc<tokio::sync::Mutex<()>> {
        &self.reloading
    }

    /// Those that hold now.
    pub(crate) fn now(&self) -> Arc<Identities> {
        self.identities.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the file says by now, checked as a whole, and its digest.
    pub(crate) fn read_anew(&self) -> Result<(Identities, [u8; 32]), FileError> {
        Identities::load(&self.path)
    }

    /// Lets these hold from the next call on.
    pub(crate) fn replace(&self, identities: Identities) {
        *self.identities.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identities);
    }
}

impl Identities {
    /// Reads the file and validates it whole; answers its SHA-256, too.
    pub(crate) fn load(path: &Path) -> Result<(Self, [u8; 32]), FileError> {
        // It may hold secrets of access keys. What toml keeps of a text that is no TOML is not wiped.
        let text =
            fs::read_to_string(path).map(Zeroizing::new).map_err(|error| FileError::new(path, error))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let identities = file::read(&text, directory).map_err(|problem| FileError::new(path, problem))?;
        Ok((identities, Sha256::digest(text.as_bytes()).into()))
    }

    /// Every user, in the order of accounts and users, or the one of this id.
    pub(crate) fn everyone(&self, only: Option<&UserId>) -> Vec<Identity> {
        let mut everyone: Vec<_> = match only {
            Some(named) => self.users.get_key_value(named).into_iter().collect(),
            None => self.users.iter().collect(),
        };
        everyone.sort_by(|(one, of), (other, with)| (&of.account.id, one).cmp(&(&with.account.id, other)));
        let identity = |(id, user): (&UserId, &User)| Identity {
            account: user.account.id.clone(),
            user: id.clone(),
            permissions: user.permissions.clone(),
        };
        everyone.into_iter().map(identity).collect()
    }

    /// How many users there are.
    pub(crate) fn users(&self) -> usize {
        self.users.len()
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
        if self.revoked.contains(&certificate.fingerprint) {
            return Err(Unauthenticated::CertificateRevoked);
        }
        let subject = certificate.subject.as_ref().ok_or(Unauthenticated::UnknownIdentity)?;
        if let Subject::Operator(name) = subject {
            let (name, permissions) = self.operator(name, claims)?;
            let operator = Caller::operator(name.clone(), certificate.fingerprint, peer.source);
            return Ok(Caller { permissions: permissions.clone(), ..operator });
        }
        let (id, user, acting_service) = self.user(subject, claims.acting_for)?;
        let credential = Credential::Certificate(certificate.fingerprint);
        let project = claims.project.map_or(ProjectChoice::First, ProjectChoice::Id);
        let caller = Self::caller_in_project((id, user), project, credential, peer.source)?;
        Ok(Caller { acting_service, ..caller })
    }

    /// The region of this name, in whatever case, if a project is of it.
    pub(crate) fn region_named(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.as_str().eq_ignore_ascii_case(name))
    }

    /// A user as a caller in this project of its account.
    fn caller_in_project(
        (user_id, user): (&UserId, &User),
        project: ProjectChoice<'_>,
        credential: Credential,
        source: SocketAddr,
    ) -> Result<Caller, Unauthenticated> {
        let (project, region) = user.account.project(project).ok_or(Unauthenticated::UnknownProject)?;
        Ok(Caller {
            account: user.account.id.clone(),
            user: user_id.clone(),
            project: project.clone(),
            region: region.clone(),
            projects: user.account.projects.clone(),
            acting_service: None,
            permissions: user.permissions.clone(),
            credential,
            source,
        })
    }

    /// An operator, who has no project and acts for nobody.
    fn operator(
        &self,
        name: &UserId,
        claims: Claims<'_>,
    ) -> Result<(&UserId, &Permissions), Unauthenticated> {
        let known = self.operators.get_key_value(name).ok_or(Unauthenticated::UnknownIdentity)?;
        match claims {
            Claims { acting_for: Some(_), .. } => Err(Unauthenticated::ActingForNotAllowed),
            Claims { project: Some(_), .. } => Err(Unauthenticated::UnknownProject),
            Claims { project: None, acting_for: None, .. } => Ok(known),
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
                let agency = self.services.get(name).ok_or(Unauthenticated::UnknownIdentity)?;
                let named = UserId::parse(acting_for.ok_or(Unauthenticated::ActingForRequired)?);
                // A user that does not exist looks the same as one that the service may not act for.
                let known = named.and_then(|named| self.users.get_key_value(&named));
                let allowed = known.filter(|(id, user)| agency.covers(id, user));
                let (id, user) = allowed.ok_or(Unauthenticated::ActingForNotAllowed)?;
                Ok((id, user, Some(name.clone())))
            }
            (Subject::Operator(_), _) => Err(Unauthenticated::UnknownIdentity), // is no user
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kms_core::operation::{Action, OperationName};

    use super::*;
    use crate::peer::ClientCertificate;

    const SAMPLE: &str = include_str!("../../../../docs/examples/identity.toml");
    const ACCOUNT: &str = "d0000000000000000000000000000001";
    const DOWNLOADER: &str = "u0000000000000000000000000000002";

    fn read(text: &str) -> Result<Identities, String> {
        file::read(text, Path::new("/nowhere"))
    }

    fn identities() -> Identities {
        read(SAMPLE).expect("the sample is valid")
    }

    fn refusal(alter: impl Fn(&str) -> String) -> String {
        read(&alter(SAMPLE)).expect_err("must be refused")
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
        identities().caller(
            &peer(uri),
            Claims { project, acting_for, dry_run: false },
            Timestamp::from_micros(50),
        )
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
        let others = Action::ALL.iter().filter(|action| found.permissions.allow(**action));
        assert_eq!(others.collect::<Vec<_>>(), [&Action::AuditRead]);
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
    fn an_operator_of_a_witnessed_log_manages_no_root() {
        let limited = SAMPLE.replace("name = \"olga\"", "name = \"olga\"\nonly_cosign = true");
        let limited = read(&limited).expect("valid");
        let olga = peer(Some("dewpoint://operator/olga"));
        let found = limited.caller(&olga, Claims::default(), Timestamp::from_micros(50)).expect("known");
        assert!(!found.permissions.allow(Action::RootManage));
        let may = |operation| found.permissions.policies().could_allow(operation);
        assert!(may(OperationName::CosignCheckpoint) && !may(OperationName::DescribeRoot));
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
        assert!(refusal(|file| file.replace("region", "regoin")).contains("regoin"));
        assert!(refusal(|_| "# cut off".to_owned()).contains("nobody"));
    }

    #[test]
    fn each_problem_is_told_with_its_line() {
        for (cut, put, line_of) in [
            ("\"kms:dek:crypto\"", "\"kms:dek:krypto\"", "kms:dek:krypto"),
            ("region = \"cn-east-3\"", "region = \"cn east\"", "cn east"),
            ("\"Effect\": \"Deny\"", "\"Effect\": \"Refuse\"", "Refuse"),
            ("\"readers\"]", "\"raeders\"]", "raeders"),
            ("name = \"obs\"", "name = \"o b s\"", "o b s"),
        ] {
            let altered = SAMPLE.replacen(cut, put, 1);
            assert_ne!(altered, SAMPLE, "{cut}");
            let line = 1 + altered.lines().position(|line| line.contains(line_of)).expect("it was put in");
            let refused = refusal(|_| altered.clone());
            assert!(refused.starts_with(&format!("line {line}: ")), "{line_of} in line {line}: {refused}");
        }
    }

    #[test]
    fn policies_and_permissions_of_a_user_hold_together() {
        let uri = format!("dewpoint://{ACCOUNT}/u0000000000000000000000000000003");
        let reader = caller(Some(&uri), None, None).expect("known");
        let policies = reader.permissions.policies();
        assert!(policies.could_allow(OperationName::DescribeKey));
        assert!(policies.could_allow(OperationName::DecryptDataKey));
        assert!(!policies.could_allow(OperationName::CreateKey));
    }

    #[test]
    fn a_revoked_certificate_names_nobody_any_more() {
        let revoked = format!("revoked_certificates = [\"{}\"]\n{SAMPLE}", "01".repeat(32));
        let identities = read(&revoked).expect("sound");
        let uri = format!("dewpoint://{ACCOUNT}/{DOWNLOADER}");
        let found = identities.caller(&peer(Some(&uri)), Claims::default(), Timestamp::from_micros(50));
        assert_eq!(found.expect_err("revoked"), Unauthenticated::CertificateRevoked);
        assert!(refusal(|file| format!("revoked_certificates = [\"01\"]\n{file}")).starts_with("line 1: "));
    }

    #[test]
    fn a_service_that_is_limited_to_some_users_acts_for_no_others() {
        let limited = |user: &str| {
            let only = format!("name = \"obs\"\nusers = [\"{user}\"]");
            read(&SAMPLE.replace("name = \"obs\"", &only))
        };
        let service = peer(Some("dewpoint://service/obs"));
        let claims = Claims { acting_for: Some(DOWNLOADER), ..Claims::default() };
        let now = Timestamp::from_micros(50);
        let found = |user: &str| {
            limited(user).expect("sound").caller(&service, claims, now).map(|caller| caller.user)
        };
        assert_eq!(found(DOWNLOADER).expect("named").as_str(), DOWNLOADER);
        let other = "u0000000000000000000000000000001";
        assert_eq!(found(other).expect_err("another"), Unauthenticated::ActingForNotAllowed);
        assert!(limited("nobody").expect_err("unknown").contains("nobody"));
    }
}
