//! Tags.

use std::{collections::BTreeMap, sync::Arc};

use http::Method;
use kms_core::{
    error::Field,
    identity::Caller,
    key::{KeyRecord, MAX_TEXT_CHARACTERS},
    ops::{
        BatchCreateTags, BatchDeleteTags, CreateTag, DeleteTag, KeySelector, ListKeysByTags, ListProjectTags,
        ListTags, PageSize, TagFilter, TagKey, TagPage, TagValue, TaggedKeys, Tags,
    },
};
use serde::{Deserialize, Serialize};

use super::keys::KeyDetails;
use crate::dew::{
    answer::{Answer, Json, NoContent, Reply as _},
    codes::{Code, Unfit},
    exchange::{Arrived, Rest},
    forms::{self, Scalar},
    json::Object,
    routes::{Asked, Bodiless, Row, keeping, row},
};

/// What keys are called where kinds of resources are told apart. DEW: resource_instances.
const RESOURCE: &str = "resource_instances";
/// The one field that keys are matched by: their alias. DEW: matches.
const MATCHED_FIELD: &str = "resource_name";

pub(super) fn rows() -> Vec<Row> {
    const OF_KEY: &str = "/v1.0/{project_id}/kms/{key_id}/tags";
    const ACTION: &str = "/v1.0/{project_id}/kms/{key_id}/tags/action";
    vec![
        row(Method::POST, OF_KEY, create, done),
        row(Method::GET, OF_KEY, list, listed),
        row(Method::DELETE, "/v1.0/{project_id}/kms/{key_id}/tags/{key}", delete, done),
        // The path is one of its own: it hides that of the tag of this name.
        row(Method::DELETE, ACTION, |asked| delete_named(&asked, "action"), done),
        Row::running(Method::POST, ACTION, act),
        row(Method::GET, "/v1.0/{project_id}/kms/tags", list_all, listed_all),
        keeping(Method::POST, "/v1.0/{project_id}/kms/{resource_instances}/action", search, found),
    ]
}

#[derive(Deserialize)]
struct CreateBody {
    tag: Option<Object<Tag>>,
}

#[derive(Deserialize)]
struct BatchBody {
    tags: Option<Vec<Object<Tag>>>,
    action: Option<Scalar>,
}

#[derive(Deserialize)]
pub(super) struct Tag {
    key: Option<Scalar>,
    value: Option<Scalar>,
}

#[derive(Deserialize)]
struct SearchBody {
    limit: Option<Scalar>,
    offset: Option<Scalar>,
    action: Option<Scalar>,
    tags: Option<Vec<Object<Filter>>>,
    matches: Option<Vec<Object<Tag>>>,
}

#[derive(Deserialize)]
struct Filter {
    key: Option<Scalar>,
    values: Option<Vec<Scalar>>,
}

fn key<B>(asked: &Asked<B>) -> Result<KeySelector, Unfit> {
    Ok(KeySelector::Id(asked.parameter("key_id").unwrap_or_default().parse()?))
}

/// DEW: KMS.0406, KMS.0411
fn tag_key(text: &str) -> Result<TagKey, Unfit> {
    let too_long = text.chars().count() > TagKey::LONGEST;
    let code = if too_long { Code::TAG_KEY_TOO_LONG } else { Code::TAG_KEY_INVALID };
    TagKey::parse(text).map_err(|error| Unfit { code: Some(code), error })
}

/// DEW: KMS.0405, KMS.0410
fn tag_value(text: &str) -> Result<TagValue, Unfit> {
    let too_long = text.chars().count() > TagValue::LONGEST;
    let code = if too_long { Code::TAG_VALUE_TOO_LONG } else { Code::TAG_VALUE_INVALID };
    TagValue::parse(text).map_err(|error| Unfit { code: Some(code), error })
}

fn sound(tag: &Tag) -> Result<(&str, &str), Unfit> {
    let (key, value) = (forms::text(tag.key.as_ref()), forms::text(tag.value.as_ref()));
    tag_key(key)?;
    tag_value(value)?;
    Ok((key, value))
}

/// Tags of a request that names them as a list.
pub(super) fn tags(tags: &[Object<Tag>]) -> Result<Tags, Unfit> {
    if tags.len() > Tags::MOST {
        return Err(Unfit::new(Code::TAG_LIST_TOO_LONG, Field::Tags, "must be at most 20"));
    }
    let pairs = tags.iter().map(|tag| sound(tag)).collect::<Result<Vec<_>, _>>()?;
    Ok(Tags::parse(pairs)?)
}

fn create(asked: Asked<CreateBody>) -> Result<CreateTag, Unfit> {
    let key = key(&asked)?;
    let tag = forms::required(asked.body.tag, Field::Tag)?;
    let (tag_key, value) = sound(&tag)?;
    Ok(CreateTag::new(key, tag_key, value)?)
}

fn delete(asked: Asked<Bodiless>) -> Result<DeleteTag, Unfit> {
    delete_named(&asked, asked.parameter("key").unwrap_or_default())
}

fn delete_named(asked: &Asked<Bodiless>, name: &str) -> Result<DeleteTag, Unfit> {
    let tag_key = tag_key(name)?;
    Ok(DeleteTag { key: key(asked)?, tag_key })
}

/// One path for two operations, told apart by the body.
async fn act(rest: Arc<Rest>, arrived: Arrived) -> Answer {
    #[derive(Deserialize)]
    struct Action {
        action: Option<Scalar>,
    }
    let asked = arrived.asked::<Action>();
    let deletes = asked.is_ok_and(|asked| forms::text(asked.body.action.as_ref()) == "delete");
    let render = |_: &Caller, (), _: KeyRecord| NoContent.answer();
    if deletes {
        rest.pass(&arrived, || Ok((batch_delete(arrived.asked()?)?, ())), render).await
    } else {
        rest.pass(&arrived, || Ok((batch_create(arrived.asked()?)?, ())), render).await
    }
}

/// DEW: KMS.0401
fn named(tags: Option<&Vec<Object<Tag>>>) -> Result<&[Object<Tag>], Unfit> {
    let tags = forms::required(tags, Field::Tags)?;
    let none = Unfit::new(Code::TAGS_EMPTY, Field::Tags, "must be at least one");
    if tags.is_empty() { Err(none) } else { Ok(tags) }
}

fn batch_create(asked: Asked<BatchBody>) -> Result<BatchCreateTags, Unfit> {
    let key = key(&asked)?;
    if forms::required(asked.body.action, Field::Action)?.as_str() != "create" {
        return Err(Unfit::new(Code::TAG_ACTION_INVALID, Field::Action, "must be create or delete"));
    }
    Ok(BatchCreateTags::new(key, tags(named(asked.body.tags.as_ref())?)?)?)
}

fn batch_delete(asked: Asked<BatchBody>) -> Result<BatchDeleteTags, Unfit> {
    let key = key(&asked)?;
    let named = named(asked.body.tags.as_ref())?;
    if named.len() > Tags::MOST {
        return Err(Unfit::new(Code::TAG_LIST_TOO_LONG, Field::Tags, "must be at most 20"));
    }
    let keys = named.iter().map(|tag| tag_key(forms::text(tag.key.as_ref())));
    Ok(BatchDeleteTags::new(key, keys.collect::<Result<_, _>>()?)?)
}

fn list(asked: Asked<Bodiless>) -> Result<ListTags, Unfit> {
    Ok(ListTags { key: key(&asked)? })
}

fn list_all(_: Asked<Bodiless>) -> Result<ListProjectTags, Unfit> {
    Ok(ListProjectTags { size: PageSize::WHOLE, token: None })
}

/// The search, and whether what it finds is shown, or counted only.
fn search(asked: Asked<SearchBody>) -> Result<(ListKeysByTags, bool), Unfit> {
    if asked.parameter(RESOURCE) != Some(RESOURCE) {
        return Err(Unfit::new(
            Code::RESOURCE_TYPE_INVALID,
            Field::Body,
            "must be sent to resource_instances",
        ));
    }
    let body = asked.body;
    let (limit, offset) = (forms::text(body.limit.as_ref()), forms::text(body.offset.as_ref()));
    let window = match forms::text(body.action.as_ref()) {
        "filter" => Some(forms::counted_window(limit, offset, Code::TAG_OFFSET_INVALID)?),
        "count" if limit.is_empty() && offset.is_empty() => None,
        "count" => {
            let problem = "must not be given, nor limit, when keys are counted";
            return Err(Unfit::new(Code::TAG_OFFSET_NOT_REQUIRED, Field::Offset, problem));
        }
        _ => return Err(Unfit::new(Code::TAG_ACTION_INVALID, Field::Action, "must be filter or count")),
    };
    let filter = |filter: &Object<Filter>| {
        let values = filter.values.iter().flatten().map(|value| tag_value(value.as_str()));
        let key = tag_key(forms::text(filter.key.as_ref()))?;
        Ok::<_, Unfit>(TagFilter { key, values: values.collect::<Result<_, _>>()? })
    };
    let filters = body.tags.iter().flatten().map(filter).collect::<Result<_, _>>()?;
    let alias_part = alias_part(body.matches.as_deref().unwrap_or_default())?;
    let shows = window.is_some();
    Ok((ListKeysByTags::new(filters, alias_part, window)?, shows))
}

/// What the aliases of keys that are sought have in them. DEW: matches, whose value is 1 to 255 characters; KMS.0402,
/// KMS.0403, KMS.0415.
fn alias_part(matches: &[Object<Tag>]) -> Result<String, Unfit> {
    let unfit = |code, problem| Unfit::new(code, Field::Body, problem);
    if matches.iter().any(|wanted| forms::text(wanted.key.as_ref()) != MATCHED_FIELD) {
        return Err(unfit(Code::MATCH_KEY_INVALID, "must match by resource_name only"));
    }
    let wanted = match matches {
        [] => return Ok(String::new()),
        [wanted] => forms::text(wanted.value.as_ref()),
        _ => return Err(unfit(Code::MATCHES_INVALID, "must match by one value only")),
    };
    if !(1..=MAX_TEXT_CHARACTERS).contains(&wanted.chars().count()) {
        return Err(unfit(Code::MATCH_VALUE_INVALID, "must match by a value of 1 to 255 characters"));
    }
    Ok(wanted.to_owned())
}

#[derive(Serialize)]
struct ListedTags {
    tags: Vec<ListedTag>,
    #[serde(rename = "existTagsNum")]
    exist_tags_num: usize,
}

#[derive(Serialize)]
struct ListedTag {
    key: String,
    value: String,
}

#[derive(Serialize)]
struct AllTags {
    tags: Vec<TagValues>,
}

#[derive(Serialize)]
struct TagValues {
    key: String,
    values: Vec<String>,
}

#[derive(Serialize)]
struct Found {
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<Resource>>,
    total_count: usize,
}

#[derive(Serialize)]
struct Resource {
    resource_id: String,
    /// DEW: an object, though its tables say a list.
    resource_detail: KeyDetails,
    resource_name: String,
    tags: Vec<ListedTag>,
}

fn done(_: &Caller, _: KeyRecord) -> NoContent {
    NoContent
}

fn shown(tags: BTreeMap<String, String>) -> Vec<ListedTag> {
    tags.into_iter().map(|(key, value)| ListedTag { key, value }).collect()
}

fn listed(_: &Caller, tags: BTreeMap<String, String>) -> Json<ListedTags> {
    Json(ListedTags { exist_tags_num: tags.len(), tags: shown(tags) })
}

fn listed_all(_: &Caller, page: TagPage) -> Json<AllTags> {
    let tags = page.tags.into_iter();
    Json(AllTags {
        tags: tags.map(|(key, values)| TagValues { key, values: values.into_iter().collect() }).collect(),
    })
}

fn found(shows: bool, caller: &Caller, found: TaggedKeys) -> Json<Found> {
    let resource = |key: KeyRecord| Resource {
        resource_id: key.id.to_string(),
        resource_name: key.alias.clone(),
        tags: shown(key.tags.clone()),
        resource_detail: KeyDetails::of(key, caller),
    };
    let resources = shows.then(|| found.keys.into_iter().map(resource).collect());
    Json(Found { resources, total_count: found.total })
}
