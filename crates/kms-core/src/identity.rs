//! Who calls, and for whom.

use std::{collections::BTreeSet, fmt, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

pub use crate::permissions::Permissions;

/// What certificates of services are named by, in the place of an account. No account can have it.
pub const SERVICE_ACCOUNT: &str = "service";
/// What certificates of operators are named by, and what stands for the account, the project and the
/// region of their calls in the log. No account can have it.
pub const OPERATOR_ACCOUNT: &str = "operator";

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the name, if it is 1 to 64 of `A-Z a-z 0-9 . _ -`: safe in keys, logs and paths.
            pub fn parse(text: &str) -> Option<Self> {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                let valid = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
                valid.then(|| Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// An account: DEW's `domain_id`.
    AccountId
);
name_type!(
    /// An IAM user of an account: DEW's `user_id`; unique in the deployment.
    UserId
);
name_type!(
    /// A project of an account; lives in one region.
    ProjectId
);
name_type!(
    /// A region, as `cn-north-4`.
    Region
);
name_type!(
    /// A keystore: a configured token that keys can live on.
    KeystoreId
);
name_type!(
    /// A service that uses keys for users, as `obs`.
    ServiceName
);
name_type!(
    /// The public half of an access key: DEW's AK. The secret half has no place in this crate.
    AccessKeyId
);

/// What shows who calls; of whoever is not known, what was to show it. Holds nothing secret: the log names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A client certificate, by its SHA-256.
    Certificate([u8; 32]),
    /// An access key, which signed the request.
    AccessKey(AccessKeyId),
    /// A token that this service issued to the user.
    Token {
        /// When.
        issued: Timestamp,
    },
    /// A password that was to be this user's.
    Password(UserId),
}

/// An authenticated caller: a user, a service that acts for one, or an operator.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user's account.
    pub account: AccountId,
    /// The user whose permissions and traffic budget apply.
    pub user: UserId,
    /// The project that the call is made in.
    pub project: ProjectId,
    /// The project's region.
    pub region: Region,
    /// All projects of the account, each with its region: where its keys can be.
    pub projects: Arc<[(ProjectId, Region)]>,
    /// The service that made the call for the user, if one did.
    pub acting_service: Option<ServiceName>,
    /// What the user may do.
    pub permissions: Permissions,
    /// What showed who calls.
    pub credential: Credential,
    /// Where the connection comes from.
    pub source: SocketAddr,
}

impl Caller {
    /// An operator: may manage the root keys and read the log, and nothing else. `certificate` is the SHA-256 of the
    /// client certificate, the only credential that operators have.
    pub fn operator(name: UserId, certificate: [u8; 32], source: SocketAddr) -> Self {
        let reserved: Arc<str> = OPERATOR_ACCOUNT.into();
        Self {
            account: AccountId(reserved.clone()),
            user: name,
            project: ProjectId(reserved.clone()),
            region: Region(reserved),
            projects: Arc::new([]),
            acting_service: None,
            permissions: Permissions::OPERATOR,
            credential: Credential::Certificate(certificate),
            source,
        }
    }
}

impl Caller {
    /// Whether this is an operator, who has no keys and no grants.
    pub fn is_operator(&self) -> bool {
        self.account.as_str() == OPERATOR_ACCOUNT
    }

    /// The regions that the account has projects in, each once, in the order of their names.
    pub fn regions(&self) -> BTreeSet<&Region> {
        self.projects.iter().map(|(_, region)| region).collect()
    }

    /// The same caller in another of its account's projects. `None`: the account has no such project.
    pub(crate) fn in_project(&self, project: &ProjectId) -> Option<Self> {
        let (project, region) = self.projects.iter().find(|(known, _)| known == project)?;
        Some(Self { project: project.clone(), region: region.clone(), ..self.clone() })
    }

    /// The same caller in the account's first project of another region. `None`: the account has none there.
    pub(crate) fn in_region(&self, region: &Region) -> Option<Self> {
        let (project, _) = self.projects.iter().find(|(_, known)| known == region)?;
        self.in_project(project)
    }
}

/// The other end of a connection whose caller is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Where the connection comes from.
    pub source: SocketAddr,
    /// What was to show who calls, if it gave anything: an access key here is one that was claimed, no more.
    pub credential: Option<Credential>,
}

/// Whom a call comes from that is refused before it reaches the pipeline.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Someone who is known.
    Caller(Caller),
    /// Someone who is not.
    Stranger(Stranger),
}
