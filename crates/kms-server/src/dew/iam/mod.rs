//! The part of IAM that clients of DEW call: a token for a password, and the list of projects. Requests and answers as
//! IAM has them, without what carries them.
//!
//! What IAM answers besides (catalog, roles, password policies) is empty here: no SDK reads it.

mod door;
mod guesses;
mod routes;

use kms_core::{
    Timestamp,
    identity::{AccountId, Caller, ProjectId, Region},
};
use serde::{Deserialize, Serialize};

use super::json::{JsonSecret, Object};
use crate::{identity::ProjectChoice, secret_text::SecretText};

pub(super) use door::Door;
pub(super) use routes::rows;

/// The body of `POST /v3/auth/tokens`. Unknown fields are ignored, as IAM does.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenRequest {
    auth: Object<Auth>,
}

#[derive(Debug, Deserialize)]
struct Auth {
    identity: Object<Identity>,
    scope: Option<Object<Scope>>,
}

#[derive(Debug, Deserialize)]
struct Identity {
    methods: Vec<String>,
    password: Option<Object<Password>>,
}

#[derive(Debug, Deserialize)]
struct Password {
    user: Object<User>,
}

#[derive(Debug, Deserialize)]
struct User {
    name: String,
    password: JsonSecret,
    domain: Object<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
struct Scope {
    project: Option<Object<ProjectScope>>,
}

#[derive(Debug, Deserialize)]
struct ProjectScope {
    id: Option<String>,
    name: Option<String>,
}

/// Who wants a token, and for which project.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Login<'a> {
    /// The account's name.
    pub domain: &'a str,
    /// The user's name in it.
    pub user: &'a str,
    /// Its password.
    pub password: &'a SecretText,
    /// The project.
    pub project: ProjectChoice<'a>,
}

impl TokenRequest {
    /// What the request asks for. `None`: it is of a method other than `password`.
    pub(crate) fn login(&self) -> Option<Login<'_>> {
        let Identity { methods, password } = &*self.auth.identity;
        let is_by_password = matches!(&methods[..], [method] if method == "password");
        let User { name, password, domain } = &*password.as_ref().filter(|_| is_by_password)?.user;
        let project = match self.auth.scope.as_ref().and_then(|scope| scope.project.as_deref()) {
            Some(ProjectScope { id: Some(id), .. }) => ProjectChoice::Id(id),
            Some(ProjectScope { name: Some(name), .. }) => ProjectChoice::Name(name),
            _ => ProjectChoice::First,
        };
        Some(Login { domain: &domain.name, user: name, password: &password.0, project })
    }
}

/// The body of the answer, of status 201. The token itself goes into the header X-Subject-Token.
#[derive(Debug, Serialize)]
pub(crate) struct TokenAnswer {
    token: TokenBody,
}

#[derive(Debug, Serialize)]
struct TokenBody {
    issued_at: String,
    expires_at: String,
    methods: [&'static str; 1],
    catalog: [(); 0],
    roles: [(); 0],
    project: Place,
    user: Place,
}

/// A user or a project, with its account.
#[derive(Debug, Serialize)]
struct Place {
    id: String,
    name: String,
    domain: Domain,
}

#[derive(Debug, Clone, Serialize)]
struct Domain {
    id: String,
    name: String,
}

impl TokenAnswer {
    /// Of a token of this caller. `domain` and `user` are the names that it gave.
    pub(crate) fn new(caller: &Caller, login: Login<'_>, issued: Timestamp, expires: Timestamp) -> Self {
        let domain = Domain { id: caller.account.to_string(), name: login.domain.to_owned() };
        let project =
            Place { id: caller.project.to_string(), name: caller.region.to_string(), domain: domain.clone() };
        let user = Place { id: caller.user.to_string(), name: login.user.to_owned(), domain };
        let (issued_at, expires_at) = (issued.to_string(), expires.to_string());
        let token =
            TokenBody { issued_at, expires_at, methods: ["password"], catalog: [], roles: [], project, user };
        Self { token }
    }
}

/// The body of the answer to `GET /v3/projects`.
#[derive(Debug, Serialize)]
pub(crate) struct ProjectList {
    projects: Vec<Project>,
    links: Links,
}

#[derive(Debug, Serialize)]
struct Project {
    id: String,
    name: String,
    description: &'static str,
    domain_id: String,
    parent_id: String,
    is_domain: bool,
    enabled: bool,
    links: Links,
}

#[derive(Debug, Serialize)]
struct Links {
    #[serde(rename = "self")]
    own: String,
    next: Option<String>,
    previous: Option<String>,
}

impl Links {
    fn to(own: String) -> Self {
        Self { own, next: None, previous: None }
    }
}

impl ProjectList {
    /// These projects of an account, or those of them with this name: that of a region. `endpoint` is where the
    /// service was called, as `https://127.0.0.1:7444`.
    pub(crate) fn of(
        account: &AccountId,
        projects: &[(ProjectId, Region)],
        name: Option<&str>,
        endpoint: &str,
    ) -> Self {
        let wanted = projects.iter().filter(|(_, region)| name.is_none_or(|name| region.as_str() == name));
        let project = |id: String, name: String| Project {
            links: Links::to(format!("{endpoint}/v3/projects/{id}")),
            id,
            name,
            description: "",
            domain_id: account.to_string(),
            parent_id: account.to_string(),
            is_domain: false,
            enabled: true,
        };
        let projects = wanted.map(|(id, region)| project(id.to_string(), region.to_string()));
        Self { projects: projects.collect(), links: Links::to(format!("{endpoint}/v3/projects")) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kms_core::identity::{AccessKeyId, Credential, Permissions, UserId};
    use serde_json::{Value, json};

    use super::*;

    fn request(methods: &[&str], scope: &Value) -> TokenRequest {
        let user = json!({"name": "ada", "password": "a secret", "domain": {"name": "acme"}});
        let identity = json!({"methods": methods, "password": {"user": user}});
        let body = json!({"auth": {"identity": identity, "scope": scope}}).to_string();
        serde_json::from_str(&body).expect("a request")
    }

    fn caller() -> Caller {
        let project = |id: &str, region: &str| {
            (ProjectId::parse(id).expect("a name"), Region::parse(region).expect("a name"))
        };
        let projects = [project("p1", "cn-north-4"), project("p2", "cn-east-3")];
        Caller {
            account: AccountId::parse("d1").expect("a name"),
            user: UserId::parse("u1").expect("a name"),
            project: projects[0].0.clone(),
            region: projects[0].1.clone(),
            projects: Arc::new(projects),
            acting_service: None,
            permissions: Permissions::NONE,
            credential: Credential::AccessKey(AccessKeyId::parse("AK1").expect("a name")),
            source: ([127, 0, 0, 1], 1).into(),
        }
    }

    #[test]
    fn a_request_names_user_password_and_project() {
        for (scope, expected) in [
            (json!({"project": {"name": "cn-north-4"}}), ProjectChoice::Name("cn-north-4")),
            (json!({"project": {"id": "p1"}}), ProjectChoice::Id("p1")),
            (json!({"domain": {"name": "acme"}}), ProjectChoice::First),
            (Value::Null, ProjectChoice::First),
        ] {
            let request = request(&["password"], &scope);
            let login = request.login().expect("by password");
            assert_eq!((login.domain, login.user, login.project), ("acme", "ada", expected));
            assert_eq!(login.password.expose_secret(), "a secret");
        }
    }

    #[test]
    fn other_methods_are_not_taken_and_the_password_is_not_printed() {
        for methods in [&["token"][..], &[], &["password", "totp"], &["hw_ak_sk"]] {
            assert!(request(methods, &Value::Null).login().is_none(), "{methods:?}");
        }
        assert!(!format!("{:?}", request(&["password"], &Value::Null)).contains("a secret"));
    }

    #[test]
    fn an_answer_has_the_fields_of_iam() {
        let request = request(&["password"], &Value::Null);
        let login = request.login().expect("by password");
        let (issued, expires) = (Timestamp::from_micros(0), Timestamp::from_micros(86_400_000_000));
        let answer = serde_json::to_value(TokenAnswer::new(&caller(), login, issued, expires)).expect("JSON");
        let domain = json!({"id": "d1", "name": "acme"});
        let expected = json!({"token": {
            "issued_at": "1970-01-01T00:00:00.000000Z",
            "expires_at": "1970-01-02T00:00:00.000000Z",
            "methods": ["password"],
            "catalog": [],
            "roles": [],
            "project": {"id": "p1", "name": "cn-north-4", "domain": domain},
            "user": {"id": "u1", "name": "ada", "domain": domain},
        }});
        assert_eq!(answer, expected);
    }

    #[test]
    fn projects_are_found_by_the_names_of_their_regions() {
        let Caller { account, projects, .. } = caller();
        let list = |name| {
            serde_json::to_value(ProjectList::of(&account, &projects, name, "https://h")).expect("JSON")
        };
        let ids = |list: &Value| {
            let projects = list["projects"].as_array().expect("a list");
            projects.iter().map(|project| project["id"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&list(None)), ["p1", "p2"]);
        assert_eq!(ids(&list(Some("cn-east-3"))), ["p2"]);
        assert!(ids(&list(Some("eu-west-0"))).is_empty());
        let own = "https://h/v3/projects/p2";
        assert_eq!(
            list(Some("cn-east-3"))["projects"][0],
            json!({
                "id": "p2", "name": "cn-east-3", "description": "", "domain_id": "d1", "parent_id": "d1",
                "is_domain": false, "enabled": true, "links": {"self": own, "next": null, "previous": null},
            })
        );
    }
}
