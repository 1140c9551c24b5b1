//! The service of an account's own numbers: what it has, and what it may have.

use kms_core::ops::{CountKeys, DescribeQuotas, Quotas};
use kms_proto::v1::{self, QuotaKind, account_service_server::AccountService};
use tonic::{Request, Response, Status};

use super::Grpc;

#[tonic::async_trait]
impl AccountService for Grpc {
    async fn describe_quotas(
        &self,
        request: Request<v1::DescribeQuotasRequest>,
    ) -> Result<Response<v1::DescribeQuotasResponse>, Status> {
        self.answer(request, |_| Ok(DescribeQuotas), described).await
    }

    async fn count_keys(
        &self,
        request: Request<v1::CountKeysRequest>,
    ) -> Result<Response<v1::CountKeysResponse>, Status> {
        let render = |custom_keys| v1::CountKeysResponse { custom_keys };
        self.answer(request, |_| Ok(CountKeys), render).await
    }
}

fn described(quotas: Quotas) -> v1::DescribeQuotasResponse {
    let quota = |kind: QuotaKind, limit, used| v1::DescribedQuota { kind: kind.into(), limit, used };
    v1::DescribeQuotasResponse {
        quotas: vec![
            quota(QuotaKind::CustomKeys, quotas.custom_keys, Some(quotas.used_custom_keys)),
            quota(QuotaKind::GrantsPerKey, quotas.grants_per_key, None),
            quota(QuotaKind::AliasesPerKey, quotas.aliases_per_key, None),
            quota(QuotaKind::TagsPerKey, quotas.tags_per_key, None),
        ],
    }
}
