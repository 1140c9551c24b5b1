//! Whether calls can be answered: looked at again and again, and told to whoever asks.

use std::{sync::Arc, time::Duration};

use kms_audit::FileLog;
use kms_proto::v1::{
    account_service_server::AccountServiceServer, alias_service_server::AliasServiceServer,
    audit_service_server::AuditServiceServer, bucket_key_service_server::BucketKeyServiceServer,
    campaign_service_server::CampaignServiceServer, data_key_service_server::DataKeyServiceServer,
    encryption_service_server::EncryptionServiceServer, grant_service_server::GrantServiceServer,
    import_service_server::ImportServiceServer, key_service_server::KeyServiceServer,
    keystore_service_server::KeystoreServiceServer, operator_service_server::OperatorServiceServer,
    replication_service_server::ReplicationServiceServer, rotation_service_server::RotationServiceServer,
    signing_service_server::SigningServiceServer, tag_service_server::TagServiceServer,
    trusted_execution_service_server::TrustedExecutionServiceServer,
    witness_service_server::WitnessServiceServer,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::server::NamedService;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    gate::Gate,
    grpc::{AuditGrpc, Grpc},
    server::stopped,
};

/// How often health is looked at.
pub(crate) const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// How long the HSM and the store may take to prove that they work.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// What health checking answers for: all of it, and each service.
const HEALTH_NAMES: [&str; 19] = [
    "",
    KeyServiceServer::<Grpc>::NAME,
    AliasServiceServer::<Grpc>::NAME,
    TagServiceServer::<Grpc>::NAME,
    DataKeyServiceServer::<Grpc>::NAME,
    BucketKeyServiceServer::<Grpc>::NAME,
    EncryptionServiceServer::<Grpc>::NAME,
    SigningServiceServer::<Grpc>::NAME,
    GrantServiceServer::<Grpc>::NAME,
    ImportServiceServer::<Grpc>::NAME,
    KeystoreServiceServer::<Grpc>::NAME,
    RotationServiceServer::<Grpc>::NAME,
    ReplicationServiceServer::<Grpc>::NAME,
    CampaignServiceServer::<Grpc>::NAME,
    AccountServiceServer::<Grpc>::NAME,
    TrustedExecutionServiceServer::<Grpc>::NAME,
    OperatorServiceServer::<Grpc>::NAME,
    AuditServiceServer::<AuditGrpc>::NAME,
    WitnessServiceServer::<Grpc>::NAME,
];

/// Tells load balancers and probes whether calls can be answered.
pub(crate) async fn watch_health(
    gate: Arc<Gate>,
    log: Arc<FileLog>,
    mut reporter: HealthReporter,
    ready: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = interval(HEALTH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut stop) => {
                ready.send_replace(false);
                report_health(&reporter, false).await;
                // Who watches would keep its connection, and so the service, open.
                for name in HEALTH_NAMES {
                    reporter.clear_service_status(name).await;
                }
                return;
            }
        }
        let probed = timeout(HEALTH_TIMEOUT, gate.service.probe()).await;
        let healthy = matches!(probed, Ok(Ok(()))) && log.healthy();
        if ready.send_replace(healthy) != healthy {
            if healthy {
                tracing::info!("healthy again");
            } else {
                tracing::error!(?probed, audit = ?log.health(), "not healthy");
            }
        }
        report_health(&reporter, healthy).await;
    }
}

pub(crate) async fn report_health(reporter: &HealthReporter, healthy: bool) {
    let status = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in HEALTH_NAMES {
        reporter.set_service_status(name, status).await;
    }
}
