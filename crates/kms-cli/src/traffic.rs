//! `dewctl traffic`: how often may be called.

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

/// What to do about the limits on calls.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TrafficCommand {
    /// Show the budgets of the user and of the account, and what is left of them
    Show,
    /// Have the profile of limits and quotas read anew, for operators; a file that cannot be used changes nothing
    Reload,
}

/// Runs one of them.
pub(crate) async fn run(
    command: &TrafficCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    if let TrafficCommand::Reload = command {
        let digest = connection.operator().await?.reload_traffic_profile().await?;
        let digest = digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        return show(&json!({ "digest": digest }), as_json);
    }
    let request = proto::DescribeTrafficRequest {};
    let client = connection.user().await?;
    let answer = client.call(Repeat::Harmless, request, |channel, request| async move {
        AccountServiceClient::new(channel).describe_traffic(request).await
    });
    let budgets: Vec<Value> = answer.await?.budgets.iter().map(described).collect();
    show_all(&budgets, &["group", "of", "limit", "per", "burst", "remaining"], as_json)
}

fn described(budget: &proto::TrafficBudget) -> Value {
    json!({
        "group": budget.group,
        "of": name(budget.subject().as_str_name(), "TRAFFIC_SUBJECT_"),
        "limit": budget.limit,
        "per": name(budget.window().as_str_name(), "TRAFFIC_WINDOW_"),
        "burst": budget.burst,
        "remaining": budget.remaining,
        "documented": budget.documented,
    })
}
