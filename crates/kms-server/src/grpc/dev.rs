//! The service of testers: a clock that they advance, and calls that are throttled when they say.

use std::{sync::Arc, time::Duration};

use kms_core::{
    Error, Timestamp,
    ops::{AdvanceClock, ReadClock, ThrottleOperation},
    ports::Clock as _,
};
use kms_proto::v1::{self, dev_service_server::DevService};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::{Grpc, convert, status};
use crate::{gate::Gate, manual_clock::ManualClock};

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

    async fn advance_by(&self, by: Duration) -> Result<Timestamp, String> {
        let Gate { service, upkeep, .. } = &*self.grpc.gate;
        let _passing = self.passing.lock().await;
        upkeep.pass_time(service, &self.clock, by).await
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
        let now = self.advance_by(by).await.map_err(|problem| {
            let stands = self.clock.now();
            status::due_work_failed(format!("{problem}; the clock stands at {stands}"), metadata.clone())
        })?;
        let now = Some(convert::time(now));
        Ok(Response::from_parts(metadata, v1::AdvanceResponse { now }, extensions))
    }

    async fn throttle_operation(
        &self,
        request: Request<v1::ThrottleOperationRequest>,
    ) -> Result<Response<v1::ThrottleOperationResponse>, Status> {
        let parse = |request: v1::ThrottleOperationRequest| {
            ThrottleOperation::parse(&request.operation, request.calls)
        };
        let traffic = &self.grpc.gate.traffic;
        let render = |ThrottleOperation { operation, calls }| {
            traffic.refuse_next(operation, calls);
            v1::ThrottleOperationResponse {}
        };
        self.grpc.answer(request, parse, render).await
    }

    async fn now(&self, request: Request<v1::NowRequest>) -> Result<Response<v1::NowResponse>, Status> {
        let render = |now| v1::NowResponse { now: Some(convert::time(now)) };
        self.grpc.answer(request, |_| Ok(ReadClock), render).await
    }
}

fn parse(request: v1::AdvanceRequest) -> Result<AdvanceClock, Error> {
    AdvanceClock::parse(request.by.and_then(|by| by.try_into().ok()))
}
