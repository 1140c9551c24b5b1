//! The listener for operators: metrics and health over plain HTTP.

use std::sync::Arc;

use axum::{Router, http::StatusCode, routing::get};
use tokio::{net::TcpListener, sync::watch};

use crate::{gate::Gate, server::stopped};

/// The content type of Prometheus' OpenMetrics text.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `/metrics`, `/healthz` (the process runs) and `/readyz` (it can answer calls) until
/// `stop` turns true.
pub(crate) async fn serve(
    listener: TcpListener,
    gate: Arc<Gate>,
    ready: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let metrics = move || {
        let text = gate.metrics.render();
        async move {
            match text {
                Ok(text) => (StatusCode::OK, [("content-type", METRICS_TYPE)], text),
                Err(_) => {
                    (StatusCode::INTERNAL_SERVER_ERROR, [("content-type", "text/plain")], String::new())
                }
            }
        }
    };
    let readiness = move || {
        let ready = *ready.borrow();
        async move {
            if ready { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
        }
    };
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness));
    let told = async move { stopped(&mut stop).await };
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(told).await {
        tracing::error!(%error, "the admin listener failed");
    }
}
