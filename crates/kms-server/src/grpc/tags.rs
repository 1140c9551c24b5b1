//! The service of tags, and its conversions.
#![allow(clippy::needless_pass_by_value, reason = "every request is converted by a function of one form")]

use std::collections::BTreeMap;

use kms_core::{
    Error,
    error::Field,
    key::KeyRecord,
    ops::{
        BatchCreateTags, BatchDeleteTags, CreateTag, DeleteTag, KeySelector, ListKeysByTags, ListProjectTags,
        ListTags, ListWindow, PageSize, PageToken, TagFilter, TagKey, TagPage, TagValue, Tags,
    },
};
use kms_proto::v1::{self, tag_service_server::TagService};
use tonic::{Request, Response, Status};

use super::Grpc;

#[tonic::async_trait]
impl TagService for Grpc {
    async fn create_tag(
        &self,
        request: Request<v1::CreateTagRequest>,
    ) -> Result<Response<v1::CreateTagResponse>, Status> {
        self.answer(request, create_tag, |key| v1::CreateTagResponse { key: Some(self.key(key)) }).await
    }

    async fn delete_tag(
        &self,
        request: Request<v1::DeleteTagRequest>,
    ) -> Result<Response<v1::DeleteTagResponse>, Status> {
        self.answer(request, delete_tag, |key| v1::DeleteTagResponse { key: Some(self.key(key)) }).await
    }

    async fn batch_create_tags(
        &self,
        request: Request<v1::BatchCreateTagsRequest>,
    ) -> Result<Response<v1::BatchCreateTagsResponse>, Status> {
        self.answer(request, batch_create_tags, |key| v1::BatchCreateTagsResponse {
            key: Some(self.key(key)),
        })
        .await
    }

    async fn batch_delete_tags(
        &self,
        request: Request<v1::BatchDeleteTagsRequest>,
    ) -> Result<Response<v1::BatchDeleteTagsResponse>, Status> {
        self.answer(request, batch_delete_tags, |key| v1::BatchDeleteTagsResponse {
            key: Some(self.key(key)),
        })
        .await
    }

    async fn list_tags(
        &self,
        request: Request<v1::ListTagsRequest>,
    ) -> Result<Response<v1::ListTagsResponse>, Status> {
        let render = |tags: BTreeMap<_, _>| v1::ListTagsResponse {
            tags: tags.into_iter().map(|(key, value)| v1::KeyTag { key, value }).collect(),
        };
        self.answer(request, list_tags, render).await
    }

    async fn list_project_tags(
        &self,
        request: Request<v1::ListProjectTagsRequest>,
    ) -> Result<Response<v1::ListProjectTagsResponse>, Status> {
        self.answer(request, list_project_tags, project_tags).await
    }

    async fn list_keys_by_tags(
        &self,
        request: Request<v1::ListKeysByTagsRequest>,
    ) -> Result<Response<v1::ListKeysByTagsResponse>, Status> {
        let render = |found: kms_core::ops::TaggedKeys| v1::ListKeysByTagsResponse {
            total: u32::try_from(found.total).unwrap_or(u32::MAX),
            keys: found.keys.into_iter().map(|key: KeyRecord| self.key(key)).collect(),
        };
        self.answer(request, list_keys_by_tags, render).await
    }
}

pub(crate) fn create_tag(request: v1::CreateTagRequest) -> Result<CreateTag, Error> {
    let tag = request.tag.unwrap_or_default();
    CreateTag::new(KeySelector::parse(&request.key_id)?, &tag.key, &tag.value)
}

pub(crate) fn delete_tag(request: v1::DeleteTagRequest) -> Result<DeleteTag, Error> {
    let key = KeySelector::parse(&request.key_id)?;
    Ok(DeleteTag { key, tag_key: TagKey::parse(&request.tag_key)? })
}

pub(crate) fn batch_create_tags(request: v1::BatchCreateTagsRequest) -> Result<BatchCreateTags, Error> {
    let pairs = request.tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str()));
    BatchCreateTags::new(KeySelector::parse(&request.key_id)?, Tags::parse(pairs)?)
}

pub(crate) fn batch_delete_tags(request: v1::BatchDeleteTagsRequest) -> Result<BatchDeleteTags, Error> {
    let keys = request.tag_keys.iter().map(|key| TagKey::parse(key));
    BatchDeleteTags::new(KeySelector::parse(&request.key_id)?, keys.collect::<Result<_, _>>()?)
}

pub(crate) fn list_tags(request: v1::ListTagsRequest) -> Result<ListTags, Error> {
    Ok(ListTags { key: KeySelector::parse(&request.key_id)? })
}

pub(crate) fn list_project_tags(request: v1::ListProjectTagsRequest) -> Result<ListProjectTags, Error> {
    let size = PageSize::parse(request.page_size)?;
    Ok(ListProjectTags { size, token: PageToken::parse(&request.page_token)? })
}

fn project_tags(page: TagPage) -> v1::ListProjectTagsResponse {
    let tags = page.tags.into_iter();
    v1::ListProjectTagsResponse {
        tags: tags.map(|(key, values)| v1::TagValues { key, values: values.into_iter().collect() }).collect(),
        next_page_token: page.next.as_ref().map_or_else(String::new, PageToken::encode),
    }
}

pub(crate) fn list_keys_by_tags(request: v1::ListKeysByTagsRequest) -> Result<ListKeysByTags, Error> {
    let window = match v1::TagAction::try_from(request.action) {
        Ok(v1::TagAction::Unspecified | v1::TagAction::Filter) => {
            Some(ListWindow::parse(request.limit, request.offset)?)
        }
        Ok(v1::TagAction::Count) if (request.limit, request.offset) == (0, 0) => None,
        // DEW: KMS.0418
        Ok(v1::TagAction::Count) => {
            return Err(Error::invalid(Field::Offset, "must not be given, nor limit, when keys are counted"));
        }
        Err(_) => return Err(Error::invalid(Field::Action, "must be an action of the contract")),
    };
    let filters = request.tags.iter().map(filter).collect::<Result<_, _>>()?;
    ListKeysByTags::new(filters, request.resource_name, window)
}

fn filter(tag: &v1::TagValues) -> Result<TagFilter, Error> {
    let values = tag.values.iter().map(|value| TagValue::parse(value));
    Ok(TagFilter { key: TagKey::parse(&tag.key)?, values: values.collect::<Result<_, _>>()? })
}
