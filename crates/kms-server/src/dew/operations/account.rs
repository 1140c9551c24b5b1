//! What an account has and may have, and the versions of the API.

use http::Method;
use kms_core::{
    identity::Caller,
    ops::{ApiVersion, CountKeys, DescribeQuotas, GetVersion, ListVersions, Quotas},
};
use serde::Serialize;

use crate::dew::{
    answer::Json,
    codes::Unfit,
    routes::{Asked, Bodiless, Row, keeping, row},
};

/// The versions of DEW's API, by the first part of their paths; both are the service's one version.
const VERSIONS: [&str; 2] = ["v1.0", "v2"];

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            Method::GET,
            "/v1.0/{project_id}/kms/user-quotas",
            |_: Asked<Bodiless>| Ok(DescribeQuotas),
            quotas,
        ),
        row(
            Method::GET,
            "/v1.0/{project_id}/kms/user-instances",
            |_: Asked<Bodiless>| Ok(CountKeys),
            counted,
        ),
        row(Method::GET, "/", |_: Asked<Bodiless>| Ok(ListVersions), versions),
        keeping(Method::GET, "/{version_id}", version, shown),
    ]
}

fn version(asked: Asked<Bodiless>) -> Result<(GetVersion, &'static str), Unfit> {
    let named = asked.parameter("version_id").unwrap_or_default();
    let known = VERSIONS.into_iter().find(|version| *version == named);
    // A version that DEW has is this service's one; any other is refused as the pipeline refuses it.
    let version_id = known.map_or(named, |_| "v1").to_owned();
    Ok((GetVersion { version_id }, known.unwrap_or_default()))
}

#[derive(Serialize)]
struct UserQuotas {
    quotas: Resources,
}

#[derive(Serialize)]
struct Resources {
    resources: [Quota; 2],
}

#[derive(Serialize)]
struct Quota {
    #[serde(rename = "type")]
    kind: &'static str,
    used: u64,
    quota: u64,
}

#[derive(Serialize)]
struct Instances {
    instance_num: u64,
}

#[derive(Serialize)]
struct Versions {
    versions: [Version; VERSIONS.len()],
}

#[derive(Serialize)]
struct OneVersion {
    version: Version,
}

#[derive(Serialize)]
struct Version {
    id: &'static str,
    links: [Link; 1],
    version: &'static str,
    status: &'static str,
    updated: &'static str,
    min_version: &'static str,
}

#[derive(Serialize)]
struct Link {
    href: String,
    rel: &'static str,
}

impl Version {
    fn of(id: &'static str) -> Self {
        let links = [Link { href: format!("/{id}"), rel: "self" }];
        Self { id, links, version: "", status: "CURRENT", updated: "", min_version: "" }
    }
}

// DEW: §8; that of grants is told without what is used of it, which differs from key to key.
fn quotas(_: &Caller, quotas: Quotas) -> Json<UserQuotas> {
    let keys = Quota { kind: "CMK", used: quotas.used_custom_keys, quota: quotas.limits.custom_keys };
    let grants = Quota { kind: "grant_per_CMK", used: 0, quota: quotas.limits.grants_per_key };
    Json(UserQuotas { quotas: Resources { resources: [keys, grants] } })
}

fn counted(_: &Caller, instance_num: u64) -> Json<Instances> {
    Json(Instances { instance_num })
}

fn versions(_: &Caller, _: &'static [ApiVersion]) -> Json<Versions> {
    Json(Versions { versions: VERSIONS.map(Version::of) })
}

fn shown(id: &'static str, _: &Caller, _: ApiVersion) -> Json<OneVersion> {
    Json(OneVersion { version: Version::of(id) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dew::routes::Table;

    #[test]
    fn every_version_is_found_by_its_link() {
        let table = Table::of(rows()).expect("no path is there twice");
        for id in VERSIONS {
            let [link] = Version::of(id).links;
            let (_, parameters) = table.find(&Method::GET, &link.href).expect("it can be followed");
            assert_eq!(parameters, [("version_id".to_owned(), id.to_owned())]);
        }
    }
}
