//! `dewctl explain`: who may do what with a key, and why.

use kms_client::proto::AccessReason;
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    output::{Failure, show_all},
};

/// Whose key, and for whom.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainOptions {
    /// Its id, of whichever account
    key_id: String,
    /// Only this user, also if it may do nothing
    #[arg(long, default_value = "", value_name = "USER_ID")]
    for_user: String,
}

/// Shows who may do what with a key.
pub(crate) async fn run(
    options: &ExplainOptions,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let operator = connection.operator().await?;
    let explained = operator.explain_access(&options.key_id, &options.for_user).await?;
    let mut rows = Vec::new();
    for user in &explained.users {
        let row = |decision: &str, reason: &AccessReason| -> Value {
            json!({
                "domain_id": user.domain_id,
                "user_id": user.user_id,
                "decision": decision,
                "by": reason.by,
                "operations": reason.operations,
            })
        };
        rows.extend(user.denied.iter().map(|reason| row("DENIED", reason)));
        rows.extend(user.allowed.iter().map(|reason| row("ALLOWED", reason)));
        if user.denied.is_empty() && user.allowed.is_empty() {
            rows.push(row("NOTHING", &AccessReason::default()));
        }
    }
    show_all(&rows, &["domain_id", "user_id", "decision", "by", "operations"], as_json)
}
