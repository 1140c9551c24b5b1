//! The gRPC transport: requests to operations, recorded answers to responses.

pub(crate) mod convert;
mod data_keys;
mod keys;
mod operators;
mod status;

use std::sync::Arc;

use kms_core::{Error, error::Unauthenticated, key::KeyRecord, ops::Operation};
use kms_proto::v1::{
    self, data_key_service_server::DataKeyServiceServer, key_service_server::KeyServiceServer,
    operator_service_server::OperatorServiceServer,
};
use tonic::{Request, Response, Status, metadata::MetadataMap};
use uuid::Uuid;

use crate::{gate::Gate, identity::Claims, peer::Peer};

/// The longest request. The longest valid one is a context of 8 KiB with a ciphertext of 1 KiB.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// All services of the contract, on one gate.
#[derive(Clone)]
pub(crate) struct Grpc {
    gate: Arc<Gate>,
}

/// The contract's services, ready to be served.
pub(crate) fn services(
    gate: Arc<Gate>,
) -> (KeyServiceServer<Grpc>, DataKeyServiceServer<Grpc>, OperatorServiceServer<Grpc>) {
    let grpc = Grpc { gate };
    (
        KeyServiceServer::new(grpc.clone()).max_decoding_message_size(MAX_REQUEST_BYTES),
        DataKeyServiceServer::new(grpc.clone()).max_decoding_message_size(MAX_REQUEST_BYTES),
        OperatorServiceServer::new(grpc).max_decoding_message_size(MAX_REQUEST_BYTES),
    )
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
        match self.gate.pass(request_id, peer, claims(&metadata), parse(message)).await {
            Ok(recorded) => {
                let mut response = Response::new(render(recorded.into_inner()));
                status::name_request(response.metadata_mut(), request_id);
                Ok(response)
            }
            Err(refused) => Err(status::of(&refused, request_id)),
        }
    }
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
    Ok(Claims { project: read("x-project-id")?, acting_for: read("x-acting-for")? })
}
