//! Who calls by DEW's protocol: by a signature of the request, or by a token.

use std::{net::SocketAddr, sync::OnceLock};

use http::{HeaderMap, header::AUTHORIZATION};
use kms_core::{
    Timestamp,
    error::Unauthenticated,
    identity::{Caller, Credential, Region, Stranger},
};

use super::{
    answer::Fault,
    codes::Code,
    signature::{self, PROJECT, Refusal, Request},
    token::TokenKey,
};
use crate::identity::{Credentials, Identities, ProjectChoice};

/// The header of a token.
const TOKEN: &str = "x-auth-token";
/// What paths of IAM begin with, which is of no region.
const IAM: &str = "/v3/";

/// The credentials of one request.
pub(crate) struct HttpCredentials<'a> {
    /// All of it, as it came: that is what is signed.
    request: Request<'a>,
    /// The project that its path names, decoded.
    project: Option<&'a str>,
    tokens: &'a TokenKey,
    source: SocketAddr,
    caller: OnceLock<Caller>,
    /// What was proven, also of who is not let in for another reason.
    proven: OnceLock<Credential>,
    /// What was claimed and not proven, if there is such a one.
    claimed: OnceLock<Credential>,
    refusal: OnceLock<Refusal>,
}

impl<'a> HttpCredentials<'a> {
    /// Of this request from there; `project` is what its path names, if it names one.
    pub(crate) fn new(
        request: Request<'a>,
        project: Option<&'a str>,
        tokens: &'a TokenKey,
        source: SocketAddr,
    ) -> Self {
        let (caller, proven, claimed) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { request, project, tokens, source, caller, proven, claimed, refusal: OnceLock::new() }
    }

    /// Who was let in.
    pub(crate) fn let_in(&self) -> Option<&Caller> {
        self.caller.get()
    }

    /// What the caller is told who was not let in.
    pub(crate) fn refusal(&self, why: Unauthenticated) -> Fault {
        match (why, self.refusal.get()) {
            (Unauthenticated::TokenUnknown, _) if self.token().is_some_and(str::is_empty) => {
                Fault::new(Code::TOKEN_NULL, "X-Auth-Token is empty")
            }
            (Unauthenticated::TokenUnknown, _) => Fault::new(Code::TOKEN_INVALID, why.to_string()),
            (Unauthenticated::TokenExpired, _) => Fault::new(Code::TOKEN_EXPIRED, why.to_string()),
            (Unauthenticated::UnknownProject, _) => Fault::new(
                Code::PROJECT_MISMATCH,
                "the URL has to name a project of the caller's account, of the region that the endpoint names if it \
                 names one, and the same as X-Project-Id and the token",
            ),
            (_, Some(refusal)) => Fault::new(Code::NOT_AUTHENTICATED, refusal.told()),
            (why, None) => {
                let text = format!("Incorrect IAM authentication information: {why}");
                Fault::new(Code::NOT_AUTHENTICATED, text)
            }
        }
    }

    fn token(&self) -> Option<&'a str> {
        self.request.headers.get(TOKEN).map(|value| value.to_str().unwrap_or_default())
    }

    /// The project that the call is for. A header that names another one than the path makes it no project at all.
    fn project(&self) -> Result<Option<&'a str>, Unauthenticated> {
        let mut named = self.request.headers.get_all(PROJECT).iter();
        let header = match (named.next(), named.next()) {
            (None, _) => None,
            (Some(one), None) => Some(one.to_str().map_err(|_| Unauthenticated::UnknownProject)?),
            _ => return Err(Unauthenticated::UnknownProject),
        };
        match (self.project, header) {
            (Some(path), Some(header)) if path != header => Err(Unauthenticated::UnknownProject),
            (path, header) => Ok(path.or(header)),
        }
    }

    /// The region that the endpoint names, if it names one that a project is of, and the call is not IAM's.
    fn region<'i>(&self, identities: &'i Identities) -> Option<&'i Region> {
        let label = region_label(self.request.headers).filter(|_| !self.request.path.starts_with(IAM))?;
        identities.region_named(label)
    }

    fn identified(&self, identities: &Identities, now: Timestamp) -> Result<Caller, Unauthenticated> {
        let region = self.region(identities);
        // A signature counts for more than a token: it covers the whole request.
        let caller = match self.token() {
            Some(token) if !self.request.headers.contains_key(AUTHORIZATION) => {
                let token = self.tokens.open(token, now)?;
                let caller = identities.caller_by_token(&token, self.source)?;
                drop(self.proven.set(caller.credential.clone()));
                caller
            }
            _ => {
                let id = signature::verify(self.request, now, |id| identities.secrets_of(id, now));
                let id = id.map_err(|refusal| {
                    let why = refusal.fault.why();
                    // Of an id that is none of ours no record tells: it may be a secret that was put in its place.
                    let known = refusal.access_key_id.clone().filter(|id| identities.has_access_key(id));
                    drop(known.map(|id| self.claimed.set(Credential::AccessKey(id))));
                    drop(self.refusal.set(refusal));
                    why
                })?;
                drop(self.proven.set(Credential::AccessKey(id.clone())));
                let project = match (self.project()?, region) {
                    (Some(id), _) => ProjectChoice::Id(id),
                    (None, Some(region)) => ProjectChoice::Name(region.as_str()),
                    (None, None) => ProjectChoice::First,
                };
                identities.caller_by_access_key(&id, project, self.source, now)?
            }
        };
        let is_named = self.project()?.is_none_or(|project| project == caller.project.as_str());
        let is_here = region.is_none_or(|region| *region == caller.region);
        if is_named && is_here { Ok(caller) } else { Err(Unauthenticated::UnknownProject) }
    }
}

impl Credentials for HttpCredentials<'_> {
    fn caller(&self, identities: &Identities, now: Timestamp) -> Result<Caller, Unauthenticated> {
        let caller = self.identified(identities, now)?;
        drop(self.caller.set(caller.clone()));
        Ok(caller)
    }

    fn stranger(&self) -> Stranger {
        let credential = self.proven.get().or(self.claimed.get()).cloned();
        Stranger { source: self.source, credential }
    }
}

/// What stands where an endpoint names its region, as `kms.cn-north-4.example.com` does; in whatever case.
// DEW: §1.3, real endpoints.
fn region_label(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(http::header::HOST)?.to_str().ok()?;
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let mut labels = host.split('.');
    let is_of_kms = labels.next().is_some_and(|label| label.eq_ignore_ascii_case("kms"));
    let region = labels.next().filter(|_| is_of_kms)?;
    (labels.count() > 1).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_may_name_its_region() {
        for (host, expected) in [
            ("kms.cn-north-4.myhuaweicloud.com", Some("cn-north-4")),
            ("kms.cn-north-4.example.org:7444", Some("cn-north-4")),
            ("KMS.CN-North-4.Example.org", Some("CN-North-4")),
            ("127.0.0.1:7444", None),
            ("kms.example.org", None),
            ("dewpoint.cn-north-4.example.org", None),
            ("[::1]:7444", None),
        ] {
            let headers = HeaderMap::from_iter([(http::header::HOST, host.parse().expect("a header"))]);
            assert_eq!(region_label(&headers), expected, "{host}");
        }
    }
}
