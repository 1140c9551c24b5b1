//! The service of the witness: checkpoints of other logs.

use std::sync::Arc;

use kms_audit::Offer;
use kms_core::{
    Error,
    error::Field,
    ops::{CheckpointAcceptor, CosignCheckpoint},
};
use kms_proto::v1::{self, witness_service_server::WitnessService};
use prost_types::Timestamp;
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

use super::Grpc;

#[tonic::async_trait]
impl WitnessService for Grpc {
    async fn add_checkpoint(
        &self,
        request: Request<v1::AddCheckpointRequest>,
    ) -> Result<Response<v1::AddCheckpointResponse>, Status> {
        let witness = self.gate.witness.clone();
        let parse = |request: v1::AddCheckpointRequest| {
            let malformed = Error::invalid(Field::Proof, "must be hashes of 32 bytes each");
            let hashes = request.proof.iter().map(|hash| <[u8; 32]>::try_from(&hash[..]));
            let proof = hashes.collect::<Result<Vec<_>, _>>().map_err(|_| malformed)?;
            let (old_size, note) = (request.old_size, request.checkpoint);
            let offered = Arc::new((proof, note));
            let accept: CheckpointAcceptor = Arc::new(move || {
                let (witness, offered) = (witness.clone(), offered.clone());
                let accept = move || witness.accept(Offer { old_size, proof: &offered.0, note: &offered.1 });
                let died = |_| Err(Error::Internal { detail: "the witness died over a checkpoint" });
                Box::pin(async move { spawn_blocking(accept).await.unwrap_or_else(died) })
            });
            Ok(CosignCheckpoint(accept))
        };
        self.answer(request, parse, |made| v1::AddCheckpointResponse {
            cosignature: self.gate.witness.line(&made),
            time: Some(Timestamp { seconds: i64::try_from(made.time).unwrap_or(i64::MAX), nanos: 0 }),
        })
        .await
    }
}
