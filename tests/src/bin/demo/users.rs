//! Clients of the service, each with a user's certificate.

use std::time::Duration;

use dewpoint_tests::{Description, User};
use kms_client::{Client, ClientConfig, RetryPolicy};

use crate::failure::{During as _, Failure};

/// Longest wait of one call. All its waits for the traffic control are part of it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Who takes part. Users of one account differ in their permissions, accounts share nothing.
pub(crate) struct Users {
    /// Of the account alpha; may do everything.
    pub(crate) admin: Client,
    /// Of the account alpha; may make data keys, but not have them opened.
    pub(crate) uploader: Client,
    /// Of the account alpha; may do both.
    pub(crate) downloader: Client,
    /// Of the account beta; may do everything there.
    pub(crate) stranger: Client,
}

impl Users {
    pub(crate) async fn connect(description: &Description) -> Result<Self, Failure> {
        let (alpha, beta) = (description.account(0), description.account(1));
        Ok(Self {
            admin: connect(description, alpha.user("admin")).await?,
            uploader: connect(description, alpha.user("uploader")).await?,
            downloader: connect(description, alpha.user("downloader")).await?,
            stranger: connect(description, beta.user("admin")).await?,
        })
    }
}

/// The demo goes to the limit of its user's traffic budget, so a call is sent as often as its deadline allows.
async fn connect(description: &Description, user: &User) -> Result<Client, Failure> {
    let (certificate, key) = &user.files;
    let config = ClientConfig::from_files(description.endpoint(), description.ca(), certificate, key);
    let config = config.during("reading certificates")?.deadline(DEADLINE);
    let config = config.retry(RetryPolicy { max_tries: u32::MAX, ..RetryPolicy::default() });
    Client::connect(config).await.during(format_args!("connecting as {}", user.name))
}
