//! The service of testers: a clock that they advance.

use std::{io, sync::Arc, time::Duration};

use kms_core::{
    Timestamp,
    ops::{AdvanceClock, ReadClock},
    ports::Clock as _,
};
use kms_proto::v1::{self, dev_service_server::DevService};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::{Grpc, convert};
use crate::manual_clock::ManualClock;

/// Dev mode's own service.
pub(crate) struct DevGrpc {
    grpc: Grpc,
    clock: Arc<ManualClock>,
    /// Held by who lets time pass: two who do so at once let it pass one after the other.
    passing: Mutex<()>,
}

impl DevGrpc {
    pub(super) fn new(grpc: Grpc, clock: Arc<ManualClock>) -> Self {
        Self { grpc, clock, passing: Mutex::default() }
    }

    /// Lets time pass.
    async fn advance_by(&self, by: Duration) -> io::Result<Timestamp> {
        let _passing = self.passing.lock().await;
        let target = self.clock.now().plus(by);
        self.clock.advance_to(target)?;
        Ok(target)
    }
}

#[tonic::async_trait]
impl DevService for DevGrpc {
    async fn advance(
        &self,
        request: Request<v1::AdvanceRequest>,
    ) -> Result<Response<v1::AdvanceResponse>, Status> {
        let admitted = self.grpc.answer(request, parse, |by| by).await?;
        let (metadata, by, extensions) = admitted.into_parts();
        let now =
            self.advance_by(by).await.map_err(|error| Status::internal(format!("the clock: {error}")))?;
        let now = Some(convert::time(now));
        Ok(Response::from_parts(metadata, v1::AdvanceResponse { now }, extensions))
    }

    async fn now(&self, request: Request<v1::NowRequest>) -> Result<Response<v1::NowResponse>, Status> {
        let render = |now| v1::NowResponse { now: Some(convert::time(now)) };
        self.grpc.answer(request, |_| Ok(ReadClock), render).await
    }
}

fn parse(request: v1::AdvanceRequest) -> Result<AdvanceClock, kms_core::Error> {
    AdvanceClock::parse(request.by.and_then(|by| by.try_into().ok()))
}
