//! The service of an account's own numbers: what it has, what it may have, and by which versions of the API.

use kms_core::{
    error::Window,
    ops::{ApiVersion, CountKeys, DescribeQuotas, DescribeTraffic, GetVersion, ListVersions, Quotas},
};
use kms_proto::v1::{
    self, QuotaKind, TrafficSubject, TrafficWindow, VersionStatus, account_service_server::AccountService,
};
use tonic::{Request, Response, Status};

use super::Grpc;
use crate::traffic::{Per, Remaining};

#[tonic::async_trait]
impl AccountService for Grpc {
    async fn describe_quotas(
        &self,
        request: Request<v1::DescribeQuotasRequest>,
    ) -> Result<Response<v1::DescribeQuotasResponse>, Status> {
        self.answer(request, |_| Ok(DescribeQuotas), described).await
    }

    async fn describe_traffic(
        &self,
        request: Request<v1::DescribeTrafficRequest>,
    ) -> Result<Response<v1::DescribeTrafficResponse>, Status> {
        let traffic = &self.gate.traffic;
        self.answer(
            request,
            |_| Ok(DescribeTraffic),
            |whose| v1::DescribeTrafficResponse {
                budgets: whose.map_or_else(Vec::new, |(account, user)| {
                    traffic.remaining(&account, &user).iter().map(budget).collect()
                }),
            },
        )
        .await
    }

    async fn count_keys(
        &self,
        request: Request<v1::CountKeysRequest>,
    ) -> Result<Response<v1::CountKeysResponse>, Status> {
        let render = |custom_keys| v1::CountKeysResponse { custom_keys };
        self.answer(request, |_| Ok(CountKeys), render).await
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        let render = |versions: &[ApiVersion]| v1::ListVersionsResponse {
            versions: versions.iter().copied().map(version).collect(),
        };
        self.answer(request, |_| Ok(ListVersions), render).await
    }

    async fn get_version(
        &self,
        request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        let parse = |request: v1::GetVersionRequest| Ok(GetVersion { version_id: request.version_id });
        let render = |told| v1::GetVersionResponse { version: Some(version(told)) };
        self.answer(request, parse, render).await
    }
}

fn described(quotas: Quotas) -> v1::DescribeQuotasResponse {
    let quota = |kind: QuotaKind, limit, used| v1::DescribedQuota { kind: kind.into(), limit, used };
    v1::DescribeQuotasResponse {
        quotas: vec![
            quota(QuotaKind::CustomKeys, quotas.limits.custom_keys, Some(quotas.used_custom_keys)),
            quota(QuotaKind::GrantsPerKey, quotas.limits.grants_per_key, None),
            quota(QuotaKind::AliasesPerKey, quotas.limits.aliases_per_key, None),
            quota(QuotaKind::TagsPerKey, quotas.limits.tags_per_key, None),
        ],
    }
}

fn budget(remaining: &Remaining) -> v1::TrafficBudget {
    let Remaining { group, per, figure, documented, left } = remaining;
    let subject = match per {
        Per::User => TrafficSubject::User,
        Per::Account => TrafficSubject::Account,
        Per::Global => TrafficSubject::Unspecified,
    };
    let window = match figure.window {
        Window::Second => TrafficWindow::Second,
        Window::Minute => TrafficWindow::Minute,
        Window::Day => TrafficWindow::Day,
    };
    v1::TrafficBudget {
        group: (**group).to_owned(),
        subject: subject.into(),
        limit: figure.calls.get(),
        window: window.into(),
        burst: figure.burst.get(),
        remaining: *left,
        reset: remaining.full_in().try_into().ok(),
        documented: *documented,
    }
}

fn version(version: ApiVersion) -> v1::ApiVersion {
    v1::ApiVersion {
        id: version.id.to_owned(),
        status: VersionStatus::Current.into(),
        package: format!("kms.{}", version.id),
    }
}
