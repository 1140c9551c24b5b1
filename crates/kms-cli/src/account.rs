//! `dewctl quotas | count-keys | versions`: what the account may have in the region and has, and what the API is.

use kms_client::{
    Repeat,
    proto::{self, account_service_client::AccountServiceClient},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    key::name,
    output::{Failure, show, show_all},
};

/// Shows all quotas.
pub(crate) async fn quotas(connection: &ConnectionOptions, as_json: bool) -> Result<(), Failure> {
    let request = proto::DescribeQuotasRequest {};
    let client = connection.user().await?;
    let answer = client.call(Repeat::Harmless, request, |channel, request| async move {
        AccountServiceClient::new(channel).describe_quotas(request).await
    });
    let quotas: Vec<Value> = answer.await?.quotas.iter().map(described).collect();
    show_all(&quotas, &["quota", "used", "limit"], as_json)
}

/// Shows how many custom keys there are.
pub(crate) async fn count_keys(connection: &ConnectionOptions, as_json: bool) -> Result<(), Failure> {
    let request = proto::CountKeysRequest {};
    let client = connection.user().await?;
    let answer = client.call(Repeat::Harmless, request, |channel, request| async move {
        AccountServiceClient::new(channel).count_keys(request).await
    });
    show(&json!({"custom_keys": answer.await?.custom_keys}), as_json)
}

/// Shows all versions of the API, or one.
pub(crate) async fn versions(
    id: Option<&String>,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    let Some(id) = id else {
        let request = proto::ListVersionsRequest {};
        let answer = client.call(Repeat::Harmless, request, |channel, request| async move {
            AccountServiceClient::new(channel).list_versions(request).await
        });
        let versions: Vec<Value> = answer.await?.versions.iter().map(version).collect();
        return show_all(&versions, &["id", "status", "package"], as_json);
    };
    let request = proto::GetVersionRequest { version_id: id.clone() };
    let answer = client.call(Repeat::Harmless, request, |channel, request| async move {
        AccountServiceClient::new(channel).get_version(request).await
    });
    show(&answer.await?.version.as_ref().map_or(Value::Null, version), as_json)
}

fn version(version: &proto::ApiVersion) -> Value {
    json!({
        "id": version.id,
        "status": name(version.status().as_str_name(), "VERSION_STATUS_"),
        "package": version.package,
    })
}

fn described(quota: &proto::DescribedQuota) -> Value {
    json!({
        "quota": name(quota.kind().as_str_name(), "QUOTA_KIND_"),
        "used": quota.used,
        "limit": quota.limit,
    })
}
