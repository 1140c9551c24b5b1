//! The service of further aliases, and its conversions.

use kms_core::{
    Error,
    ops::{
        AliasEntry, AssociateAlias, CreateAlias, DeleteAlias, FurtherAlias, KeySelector, ListAliases,
        PageSize,
    },
};
use kms_proto::v1::{self, alias_service_server::AliasService};
use tonic::{Request, Response, Status};

use super::{Grpc, convert};

#[tonic::async_trait]
impl AliasService for Grpc {
    async fn create_alias(
        &self,
        request: Request<v1::CreateAliasRequest>,
    ) -> Result<Response<v1::CreateAliasResponse>, Status> {
        let parse = |request: v1::CreateAliasRequest| {
            let key = KeySelector::parse(&request.key_id)?;
            Ok(CreateAlias { key, alias: FurtherAlias::parse(&request.alias)? })
        };
        self.answer(request, parse, |entry| v1::CreateAliasResponse { alias: Some(alias(&entry)) }).await
    }

    async fn associate_alias(
        &self,
        request: Request<v1::AssociateAliasRequest>,
    ) -> Result<Response<v1::AssociateAliasResponse>, Status> {
        let parse = |request: v1::AssociateAliasRequest| {
            let alias = FurtherAlias::parse(&request.alias)?;
            Ok(AssociateAlias { alias, target: KeySelector::parse(&request.target_key_id)? })
        };
        self.answer(request, parse, |entry| v1::AssociateAliasResponse { alias: Some(alias(&entry)) }).await
    }

    async fn delete_alias(
        &self,
        request: Request<v1::DeleteAliasRequest>,
    ) -> Result<Response<v1::DeleteAliasResponse>, Status> {
        let parse = |request: v1::DeleteAliasRequest| {
            let aliases = request.aliases.iter().map(|alias| FurtherAlias::parse(alias));
            DeleteAlias::new(KeySelector::parse(&request.key_id)?, aliases.collect::<Result<_, _>>()?)
        };
        self.answer(request, parse, |key| v1::DeleteAliasResponse { key: Some(self.key(key)) }).await
    }

    async fn list_aliases(
        &self,
        request: Request<v1::ListAliasesRequest>,
    ) -> Result<Response<v1::ListAliasesResponse>, Status> {
        self.answer(
            request,
            |request| list_aliases(&request),
            |page| v1::ListAliasesResponse {
                aliases: page.aliases.iter().map(alias).collect(),
                next_page_token: page.next.unwrap_or_default(),
            },
        )
        .await
    }
}

fn list_aliases(request: &v1::ListAliasesRequest) -> Result<ListAliases, Error> {
    let key = (!request.key_id.is_empty()).then(|| KeySelector::parse(&request.key_id));
    Ok(ListAliases {
        key: key.transpose()?,
        size: PageSize::parse(request.page_size)?,
        after: ListAliases::page_token(&request.page_token)?,
    })
}

fn alias(entry: &AliasEntry) -> v1::KeyAlias {
    v1::KeyAlias {
        key_id: entry.key_id.to_string(),
        domain_id: entry.account.to_string(),
        region: entry.region.to_string(),
        alias: entry.alias.clone(),
        alias_urn: entry.urn(),
        created_at: Some(convert::time(entry.times.created)),
        updated_at: Some(convert::time(entry.times.updated)),
    }
}
