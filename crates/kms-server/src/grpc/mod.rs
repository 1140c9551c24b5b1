//! The gRPC transport: requests to operations, recorded answers to responses.

mod account;
pub(crate) mod aliases;
mod audit;
pub(crate) mod bucket_keys;
mod campaigns;
pub(crate) mod convert;
mod data_keys;
mod dev;
mod encryption;
pub(crate) mod grants;
pub(crate) mod import;
mod key_rotation;
mod keys;
pub(crate) mod keystores;
mod operators;
mod replication;
pub(crate) mod signing;
mod status;
pub(crate) mod tags;
mod trusted_execution;
mod witness;

use std::{sync::Arc, time::Duration};

use kms_core::{Error, Recorded, Refused, RequestId, error::Unauthenticated, key::KeyRecord, ops::Operation};
use kms_proto::v1::{
    self, account_service_server::AccountServiceServer, alias_service_server::AliasServiceServer,
    audit_service_server::AuditServiceServer, bucket_key_service_server::BucketKeyServiceServer,
    campaign_service_server::CampaignServiceServer, data_key_service_server::DataKeyServiceServer,
    dev_service_server::DevServiceServer, encryption_service_server::EncryptionServiceServer,
    grant_service_server::GrantServiceServer, import_service_server::ImportServiceServer,
    key_service_server::KeyServiceServer, keystore_service_server::KeystoreServiceServer,
    operator_service_server::OperatorServiceServer, replication_service_server::ReplicationServiceServer,
    rotation_service_server::RotationServiceServer, signing_service_server::SigningServiceServer,
    tag_service_server::TagServiceServer, trusted_execution_service_server::TrustedExecutionServiceServer,
    witness_service_server::WitnessServiceServer,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, metadata::MetadataMap, service::Routes};
use uuid::Uuid;

use crate::{
    gate::{Gate, HSM_PATIENCE, longest_patience},
    identity::{Claims, MutualTls},
    manual_clock::ManualClock,
    metering::Metering,
    peer::Peer,
    reading::ReadableLog,
    traffic::{Remaining, told},
};
pub(crate) use audit::AuditGrpc;
use dev::DevGrpc;

/// The longest request. The longest valid one has two contexts of 8 KiB and a ciphertext of 4 KiB.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// All services of the contract, on one gate.
#[derive(Clone)]
pub(crate) struct Grpc {
    gate: Arc<Gate>,
}

/// The contract's services, ready to be served.
pub(crate) fn routes(gate: Arc<Gate>) -> Routes {
    let grpc = Grpc { gate };
    macro_rules! serve {
        ($($server:ident,)*) => {
            Routes::default()$(.add_service(
                $server::new(grpc.clone()).max_decoding_message_size(MAX_REQUEST_BYTES),
            ))*
        };
    }
    serve!(
        KeyServiceServer,
        AliasServiceServer,
        TagServiceServer,
        DataKeyServiceServer,
        BucketKeyServiceServer,
        EncryptionServiceServer,
        GrantServiceServer,
        ImportServiceServer,
        KeystoreServiceServer,
        SigningServiceServer,
        RotationServiceServer,
        ReplicationServiceServer,
        CampaignServiceServer,
        AccountServiceServer,
        TrustedExecutionServiceServer,
        OperatorServiceServer,
        WitnessServiceServer,
    )
}

/// The service that reads the log, until it is told to stop.
pub(crate) fn audit_service(
    gate: Arc<Gate>,
    log: ReadableLog,
    metering: Arc<Metering>,
    stop: watch::Receiver<bool>,
) -> AuditServiceServer<AuditGrpc> {
    AuditServiceServer::new(AuditGrpc::new(Grpc { gate }, log, metering, stop))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
}

/// What dev mode serves besides, for testers who keep the clock themselves.
pub(crate) fn dev_service(gate: Arc<Gate>, clock: Arc<ManualClock>) -> DevServiceServer<DevGrpc> {
    DevServiceServer::new(DevGrpc::new(Grpc { gate }, clock)).max_decoding_message_size(MAX_REQUEST_BYTES)
}

impl Grpc {
    /// A key as it is shown.
    fn key(&self, record: KeyRecord) -> v1::Key {
        convert::key(record, self.gate.service.settings().in_hsm_budget)
    }

    /// Answers one call: `parse` makes the operation, `render` the response.
    async fn answer<Q, O: Operation, P>(
        &self,
        request: Request<Q>,
        parse: impl FnOnce(Q) -> Result<O, Error>,
        render: impl FnOnce(O::Output) -> P,
    ) -> Result<Response<P>, Status> {
        let request_id = Uuid::new_v4();
        let (metadata, extensions, message) = request.into_parts();
        let Some(peer) = extensions.get::<Arc<Peer>>() else {
            return Err(Status::internal("the connection has no peer"));
        };
        let operation = parse(message);
        let longest = operation.as_ref().map_or(HSM_PATIENCE, longest_patience);
        let patience = patience(&metadata, longest);
        let credentials = credentials(peer, &metadata);
        let mut remaining = None;
        let passed = self.gate.pass(request_id, patience, &credentials, operation, &mut remaining).await;
        respond(passed, request_id, remaining.as_ref(), render)
    }

    /// The same for a call that takes effect beside the store as soon as it is recorded.
    async fn answer_in_effect<Q, O: Operation, P>(
        &self,
        request: Request<Q>,
        operation: O,
        take_effect: impl FnOnce() + Send + 'static,
        render: impl FnOnce(O::Output) -> P,
    ) -> Result<Response<P>, Status> {
        let request_id = Uuid::new_v4();
        let (metadata, extensions, _) = request.into_parts();
        let Some(peer) = extensions.get::<Arc<Peer>>() else {
            return Err(Status::internal("the connection has no peer"));
        };
        let credentials = credentials(peer, &metadata);
        let mut remaining = None;
        let passed =
            self.gate.pass_to_effect(request_id, &credentials, operation, take_effect, &mut remaining);
        respond(passed.await, request_id, remaining.as_ref(), render)
    }
}

/// The recorded answer, or the refusal, in the form of gRPC.
fn respond<T, P>(
    passed: Result<Recorded<T>, Refused>,
    request_id: RequestId,
    remaining: Option<&Remaining>,
    render: impl FnOnce(T) -> P,
) -> Result<Response<P>, Status> {
    match passed {
        Ok(recorded) => {
            let mut response = Response::new(render(recorded.into_inner()));
            status::name_request(response.metadata_mut(), request_id);
            tell(response.metadata_mut(), remaining);
            Ok(response)
        }
        Err(refused) => {
            let mut status = status::of(&refused, request_id);
            tell(status.metadata_mut(), remaining);
            Err(status)
        }
    }
}

/// Tells the caller what is left of his budgets, if that is known.
fn tell(metadata: &mut MetadataMap, remaining: Option<&Remaining>) {
    if let Some(remaining) = remaining {
        told::remaining(metadata.as_mut(), remaining);
    }
}

/// How long the HSM may take: a client that waits no longer than that still gets an answer that says why.
fn patience(metadata: &MetadataMap, longest: Duration) -> Duration {
    let allowed = metadata.get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
    allowed.map_or(longest, |allowed| longest.min(allowed / 10 * 9))
}

/// A deadline as gRPC writes it: at most 8 digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let valid = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let value: u64 = digits.parse().ok().filter(|_| valid)?;
    match unit {
        "H" => Some(Duration::from_secs(3600 * value)),
        "M" => Some(Duration::from_secs(60 * value)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// What shows who calls.
fn credentials<'a>(peer: &'a Peer, metadata: &'a MetadataMap) -> MutualTls<'a> {
    MutualTls { peer, claims: claims(metadata) }
}

/// What the metadata say about identity. A value that is given twice could be read in two ways, so
/// it is refused.
fn claims(metadata: &MetadataMap) -> Result<Claims<'_>, Unauthenticated> {
    let read = |name| {
        let mut values = metadata.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => match value.to_str() {
                Ok(text) if (1..=64).contains(&text.len()) => Ok(Some(text)),
                _ => Err(Unauthenticated::InvalidMetadata),
            },
            _ => Err(Unauthenticated::InvalidMetadata),
        }
    };
    let dry_run = match read("x-dry-run")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Unauthenticated::InvalidMetadata),
    };
    Ok(Claims { project: read("x-project-id")?, acting_for: read("x-acting-for")?, dry_run })
}

#[cfg(test)]
mod tests {
    use kms_core::{
        key::{KeyOrigin, KeySpec},
        ops::{Alias, CreateKey},
    };

    use super::*;

    #[test]
    fn the_hsm_may_take_less_than_the_client_waits() {
        let patience = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("ASCII"));
            patience(&metadata, HSM_PATIENCE)
        };
        assert_eq!(patience("1S"), Duration::from_millis(900));
        assert_eq!(patience("500m"), Duration::from_millis(450));
        assert_eq!((patience("10u"), patience("10n")), (Duration::from_micros(9), Duration::from_nanos(9)));
        for text in ["1H", "20M", "99999999S", "", "S", "1", "1s", "-1S", "+1S", "123456789S", "1 S"] {
            assert_eq!(patience(text), HSM_PATIENCE, "{text:?}");
        }
    }

    #[test]
    fn a_call_that_makes_an_rsa_key_may_take_longer() {
        let longest = |spec, origin| {
            let alias = Alias::parse("key").expect("an alias");
            longest_patience(&CreateKey { origin, ..CreateKey::new(alias, spec) })
        };
        assert_eq!(longest(KeySpec::EcP384, KeyOrigin::Kms), HSM_PATIENCE);
        assert_eq!(longest(KeySpec::Rsa4096, KeyOrigin::External), HSM_PATIENCE);
        let longest = longest(KeySpec::Rsa4096, KeyOrigin::Kms);
        assert_eq!(patience(&MetadataMap::new(), longest), Duration::from_secs(120));
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "60S".parse().expect("ASCII"));
        assert_eq!(patience(&metadata, longest), Duration::from_secs(54));
    }
}
