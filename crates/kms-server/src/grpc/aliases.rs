//! The service of further aliases, and its conversions.
#![allow(clippy::needless_pass_by_value, reason = "every request is converted by a function of one form")]

use kms_core::{
    Error,
    ops::{
        AliasEntry, AssociateAlias, CreateAlias, DeleteAlias, FurtherAlias, KeySelector, ListAliases,
        PageSize, PageToken,
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
        self.answer(request, create_alias, |entry| v1::CreateAliasResponse { alias: Some(alias(&entry)) })
            .await
    }

    async fn associate_alias(
        &self,
        request: Request<v1::AssociateAliasRequest>,
    ) -> Result<Response<v1::AssociateAliasResponse>, Status> {
        self.answer(request, associate_alias, |entry| v1::AssociateAliasResponse {
            alias: Some(alias(&entry)),
        })
        .await
    }

    async fn delete_alias(
        &self,
        request: Request<v1::DeleteAliasRequest>,
    ) -> Result<Response<v1::DeleteAliasResponse>, Status> {
        self.answer(request, delete_alias, |key| v1::DeleteAliasResponse { key: Some(self.key(key)) }).await
    }

    async fn list_aliases(
        &self,
        request: Request<v1::ListAliasesRequest>,
    ) -> Result<Response<v1::ListAliasesResponse>, Status> {
        self.answer(request, list_aliases, |page| v1::ListAliasesResponse {
            aliases: page.aliases.iter().map(alias).collect(),
            next_page_token: page.next.as_ref().map_or_else(String::new, PageToken::encode),
        })
        .await
    }
}

pub(crate) fn create_alias(request: v1::CreateAliasRequest) -> Result<CreateAlias, Error> {
    let key = KeySelector::parse(&request.key_id)?;
    Ok(CreateAlias { key, alias: FurtherAlias::parse(&request.alias)? })
}

pub(crate) fn associate_alias(request: v1::AssociateAliasRequest) -> Result<AssociateAlias, Error> {
    let alias = FurtherAlias::parse(&request.alias)?;
    Ok(AssociateAlias { alias, target: KeySelector::parse(&request.target_key_id)? })
}

pub(crate) fn delete_alias(request: v1::DeleteAliasRequest) -> Result<DeleteAlias, Error> {
    let aliases = request.aliases.iter().map(|alias| FurtherAlias::parse(alias));
    DeleteAlias::new(KeySelector::parse(&request.key_id)?, aliases.collect::<Result<_, _>>()?)
}

pub(crate) fn list_aliases(request: v1::ListAliasesRequest) -> Result<ListAliases, Error> {
    let key = (!request.key_id.is_empty()).then(|| KeySelector::parse(&request.key_id));
    Ok(ListAliases {
        key: key.transpose()?,
        size: PageSize::parse(request.page_size)?,
        token: PageToken::parse(&request.page_token)?,
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
