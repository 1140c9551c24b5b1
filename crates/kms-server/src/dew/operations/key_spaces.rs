//! Key spaces: not offered. Each call passes the pipeline, which refuses it and records that.

use std::convert::Infallible;

use http::Method;
use kms_core::{
    identity::Caller,
    ops::{
        CreateAccessPoint, CreateDataKeyCapsule, CreateKeyPolicy, DecryptDataKeyCapsule, DeleteAccessPoint,
        DeleteKeyPolicy, DescribeKeyPolicy, DisableAccessPoint, DownloadAccessPointPrivateKey,
        EnableAccessPoint, ListAccessPoints, ListKeyPolicies, Operation, UpdateKeyPolicy,
    },
};

use crate::dew::{
    answer::Nothing,
    routes::{Asked, Bodiless, Row, row},
};

pub(super) fn rows() -> Vec<Row> {
    const POLICIES: &str = "/v1.0/{project_id}/kms/key-policies";
    const POLICY: &str = "/v1.0/{project_id}/kms/key-policies/{policy_id}";
    const POINTS: &str = "/v1.0/{project_id}/kms/access-points";
    const POINT: &str = "/v1.0/{project_id}/kms/access-points/{access_point_id}";
    const POINT_KEY: &str = "/v1.0/{project_id}/kms/access-points/{access_point_id}/get-privatekey";
    vec![
        refused(Method::POST, POLICIES, |_| Ok(CreateKeyPolicy)),
        refused(Method::GET, POLICIES, |_| Ok(ListKeyPolicies)),
        refused(Method::GET, POLICY, |_| Ok(DescribeKeyPolicy)),
        refused(Method::PUT, POLICY, |_| Ok(UpdateKeyPolicy)),
        refused(Method::DELETE, POLICY, |_| Ok(DeleteKeyPolicy)),
        refused(Method::POST, POINTS, |_| Ok(CreateAccessPoint)),
        refused(Method::GET, POINTS, |_| Ok(ListAccessPoints)),
        refused(Method::DELETE, POINT, |_| Ok(DeleteAccessPoint)),
        refused(Method::POST, "/v1.0/{project_id}/kms/access-points/{access_point_id}/enable", |_| {
            Ok(EnableAccessPoint)
        }),
        refused(Method::POST, "/v1.0/{project_id}/kms/access-points/{access_point_id}/disable", |_| {
            Ok(DisableAccessPoint)
        }),
        refused(Method::POST, POINT_KEY, |_| Ok(DownloadAccessPointPrivateKey)),
        refused(Method::POST, "/v1.0/{project_id}/kms/datakey-capsule/create", |_| Ok(CreateDataKeyCapsule)),
        refused(Method::POST, "/v1.0/{project_id}/kms/datakey-capsule/decrypt", |_| {
            Ok(DecryptDataKeyCapsule)
        }),
    ]
}

/// A call that is refused whatever it says.
pub(super) fn refused<O: Operation<Output = Infallible>>(
    method: Method,
    path: &'static str,
    parse: fn(Asked<Bodiless>) -> Result<O, crate::dew::codes::Unfit>,
) -> Row {
    row(method, path, parse, |_: &Caller, never: Infallible| -> Nothing { match never {} })
}
