//! Further aliases.

use http::Method;
use kms_core::{
    error::Field,
    identity::Caller,
    key::KeyRecord,
    ops::{
        AliasEntry, AliasPage, AssociateAlias, CreateAlias, DeleteAlias, FurtherAlias, ListAliases, PageSize,
        PageToken,
    },
};
use serde::{Deserialize, Serialize};

use crate::dew::{
    answer::{Json, NoContent},
    codes::{Code, Unfit},
    forms::{self, Scalar},
    routes::{Asked, Bodiless, Row, row},
};

pub(super) fn rows() -> Vec<Row> {
    const ALIASES: &str = "/v1.0/{project_id}/kms/aliases";
    vec![
        row(Method::POST, ALIASES, create, shown),
        row(Method::POST, "/v1.0/{project_id}/kms/alias/associate", associate, shown),
        row(Method::DELETE, ALIASES, delete, deleted),
        row(Method::GET, ALIASES, list, listed),
    ]
}

#[derive(Deserialize)]
struct CreateBody {
    key_id: Option<Scalar>,
    alias: Option<Scalar>,
}

#[derive(Deserialize)]
struct AssociateBody {
    alias: Option<Scalar>,
    target_key_id: Option<Scalar>,
}

#[derive(Deserialize)]
struct DeleteBody {
    aliases: Option<Vec<Scalar>>,
    key_id: Option<Scalar>,
}

fn alias(value: Option<Scalar>) -> Result<FurtherAlias, Unfit> {
    Ok(FurtherAlias::parse(forms::required(value, Field::Alias)?.as_str())?)
}

fn create(asked: Asked<CreateBody>) -> Result<CreateAlias, Unfit> {
    Ok(CreateAlias { key: forms::key_id(asked.body.key_id)?, alias: alias(asked.body.alias)? })
}

fn associate(asked: Asked<AssociateBody>) -> Result<AssociateAlias, Unfit> {
    Ok(AssociateAlias { alias: alias(asked.body.alias)?, target: forms::key_id(asked.body.target_key_id)? })
}

fn delete(asked: Asked<DeleteBody>) -> Result<DeleteAlias, Unfit> {
    let key = forms::key_id(asked.body.key_id)?;
    let aliases = forms::required(asked.body.aliases, Field::AliasList)?;
    let aliases = aliases.iter().map(|alias| FurtherAlias::parse(alias.as_str()));
    Ok(DeleteAlias::new(key, aliases.collect::<Result<_, _>>()?)?)
}

fn list(asked: Asked<Bodiless>) -> Result<ListAliases, Unfit> {
    let parameter = |name| asked.parameter(name).filter(|text| !text.is_empty());
    let key = parameter("key_id").map(|id| id.parse().map(kms_core::ops::KeySelector::Id));
    let size = parameter("limit").map(|limit| {
        let limit = forms::number(limit).filter(|limit| *limit > 0);
        limit.ok_or(Unfit::new(Code::LIMIT_INVALID, Field::Limit, "must be a number from 1 to 1000"))
    });
    Ok(ListAliases {
        key: key.transpose()?,
        size: PageSize::parse(size.transpose()?.unwrap_or(0))?,
        token: PageToken::parse(parameter("marker").unwrap_or_default())?,
    })
}

#[derive(Serialize)]
struct ShownAlias {
    domain_id: String,
    key_id: String,
    alias: String,
    alias_urn: String,
    create_time: String,
    update_time: String,
}

/// DEW: one object; what the Python SDK shows as a list holds it as its only item.
#[derive(Serialize)]
struct ListedAliases {
    aliases: Vec<ShownAlias>,
    page_info: PageInfo,
}

#[derive(Serialize)]
struct PageInfo {
    next_marker: String,
    current_count: usize,
}

impl From<AliasEntry> for ShownAlias {
    fn from(entry: AliasEntry) -> Self {
        Self {
            domain_id: entry.account.to_string(),
            key_id: entry.key_id.to_string(),
            alias_urn: entry.urn(),
            alias: entry.alias,
            create_time: forms::milliseconds(entry.times.created),
            update_time: forms::milliseconds(entry.times.updated),
        }
    }
}

fn shown(_: &Caller, entry: AliasEntry) -> Json<ShownAlias> {
    Json(entry.into())
}

fn deleted(_: &Caller, _: KeyRecord) -> NoContent {
    NoContent
}

fn listed(_: &Caller, page: AliasPage) -> Json<ListedAliases> {
    let next_marker = page.next.as_ref().map_or_else(String::new, PageToken::encode);
    let page_info = PageInfo { next_marker, current_count: page.aliases.len() };
    Json(ListedAliases { aliases: page.aliases.into_iter().map(Into::into).collect(), page_info })
}
