//! Calls of the dev service: the clock of a deployment under test, and throttling when a test says so.

use std::time::{Duration, SystemTime};

use kms_proto::v1::{self, dev_service_client::DevServiceClient};

use crate::{Client, Error, retry::Repeat};

/// The clock and the switch for throttling of `dewpoint dev --clock manual`, for test suites; elsewhere these calls are UNIMPLEMENTED. Only an
/// operator's certificate may make them.
impl Client {
    /// Lets time pass, and all be done that becomes due meanwhile; answers what the clock shows then.
    ///
    /// That may take longer than other calls: see [`ClientConfig::deadline`](crate::ClientConfig::deadline).
    pub async fn advance_clock(&self, by: Duration) -> Result<SystemTime, Error> {
        let by = by.try_into().map_err(|_| Error::InvalidConfig("longer than any clock goes".to_owned()))?;
        let answer = self
            .call(Repeat::OnlyIfUndone, v1::AdvanceRequest { by: Some(by) }, |channel, request| async move {
                DevServiceClient::new(channel).advance(request).await
            })
            .await?;
        time(answer.now)
    }

    /// Has the next `calls` calls of an operation refused as over their limit, as [`GenerateDataKey`] or another name
    /// of the log; 0: none any more.
    ///
    /// [`GenerateDataKey`]: v1::GenerateDataKeyRequest
    pub async fn throttle(&self, operation: &str, calls: u32) -> Result<(), Error> {
        let request = v1::ThrottleOperationRequest { operation: operation.to_owned(), calls };
        self.call(Repeat::Harmless, request, |channel, request| async move {
            DevServiceClient::new(channel).throttle_operation(request).await
        })
        .await
        .map(drop)
    }

    /// What the clock shows.
    pub async fn read_clock(&self) -> Result<SystemTime, Error> {
        let answer = self
            .call(Repeat::Harmless, v1::NowRequest {}, |channel, request| async move {
                DevServiceClient::new(channel).now(request).await
            })
            .await?;
        time(answer.now)
    }
}

fn time(answered: Option<impl TryInto<SystemTime>>) -> Result<SystemTime, Error> {
    answered
        .and_then(|time| time.try_into().ok())
        .ok_or(Error::InvalidAnswer("the time is missing, or no time"))
}
