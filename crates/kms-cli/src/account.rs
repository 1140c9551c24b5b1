//! `dewctl quotas`: what the account may have in the region, and has.

use kms_client::{
    Repeat,
    proto::{self, account_service_client::AccountServiceClient},
};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    key::name,
    output::{Failure, show_all},
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

fn described(quota: &proto::DescribedQuota) -> Value {
    json!({
        "quota": name(quota.kind().as_str_name(), "QUOTA_KIND_"),
        "used": quota.used,
        "limit": quota.limit,
    })
}
