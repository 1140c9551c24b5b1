//! DEW's REST protocol against gRPC, on the same service: the same data keys, over TLS, at 64 in flight.

use std::time::Duration;

use dewpoint_tests::{Description, Rest, RestConnection, RestRequest, Signer};
use hyper::Method;
use serde_json::json;

use crate::load::{Caller, Figures, measure};

/// One connection of HTTP/1.1, which has one request under way.
struct RestCaller {
    connection: RestConnection,
    request: RestRequest,
    access_key: (String, String),
}

impl Caller for RestCaller {
    /// Signed each time, as clients do.
    async fn call(&mut self) {
        let request = self.request.clone().signed(Signer::of(&self.access_key));
        let answer = self.connection.send(&request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// Keeps `in_flight` calls of create-datakey under way, each on a connection of its own.
pub(crate) async fn run(
    description: &Description,
    key_id: &str,
    in_flight: usize,
    duration: Duration,
) -> Figures {
    let (rest, account) = (Rest::of(description), description.account(0));
    let path = format!("/v1.0/{}/kms/create-datakey", account.projects[0].0);
    let context = json!({"object": "photos/2026/11/24/cloud.jpg"});
    let body = json!({"key_id": key_id, "datakey_length": "256", "encryption_context": context});
    let request = RestRequest::new(Method::POST, &path, &body).with("content-type", "application/json");
    let mut callers = Vec::new();
    for _ in 0..in_flight {
        let access_key = account.user("admin").access_key.clone();
        callers.push(RestCaller { connection: rest.connect().await, request: request.clone(), access_key });
    }
    measure(callers, duration, std::process::id()).await
}
