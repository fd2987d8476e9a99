//! API keys over HTTP: make, look, change, rotate, revoke. A secret is shown in the answer that makes it, and never again.

use axum::{Json, extract::State};
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    fields::is_to_come,
    key_view::{KeyView, KeyWithSecret},
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::{By, Caller},
    page::{List, Paging},
    request::{Body, PathId, Query, page_limit, present},
    schema,
};
use shared::{
    account::{self, KeyChange, KeyLimits, KeyTerms, Network, Permission, Permissions},
    id::KeyId,
};

/// Longest name, in characters.
const NAME_LEN: usize = 100;
/// Most models and networks of a key; each is looked through at every request.
const MODELS_MAX: usize = 200;
const NETWORKS_MAX: usize = 100;
/// How long the old secret works after a rotation, at most and by default.
const GRACE_SECS_MAX: u32 = 7 * 24 * 60 * 60;
const GRACE_SECS: u32 = 24 * 60 * 60;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewApiKey)]
pub struct NewKey {
    /// What its owner calls it.
    #[schema(min_length = 1, max_length = 100, pattern = r"\S")]
    name: String,
    /// What it may do, within what you may; absent: the usual scopes of a developer, without `api_keys:write`.
    #[schema(value_type = Option<Vec<schema::Permission>>, min_items = 1)]
    scopes: Option<Vec<Permission>>,
    /// When it ends; absent: never.
    expires_at: Option<DateTime<Utc>>,
    /// The only models it may use; absent: all.
    #[schema(min_items = 1, max_items = 200)]
    allowed_models: Option<Vec<String>>,
    /// The only networks it may be used from; absent: all.
    #[schema(value_type = Option<Vec<schema::Network>>, min_items = 1, max_items = 100)]
    allowed_ips: Option<Vec<Network>>,
    limits: Option<NewLimits>,
}

/// What a key may spend, in tokens; null is no limit, and what is absent stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewApiKeyLimits)]
pub struct NewLimits {
    /// In a day of UTC.
    #[serde(default, deserialize_with = "present")]
    #[schema(minimum = 0)]
    day: Option<Option<i64>>,
    /// In a month of UTC.
    #[serde(default, deserialize_with = "present")]
    #[schema(minimum = 0)]
    month: Option<Option<i64>>,
    /// Over all.
    #[serde(default, deserialize_with = "present")]
    #[schema(minimum = 0)]
    total: Option<Option<i64>>,
}

/// What is to become of a key; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApiKeyPatch)]
pub struct KeyPatch {
    /// What its owner calls it.
    #[schema(min_length = 1, max_length = 100, pattern = r"\S")]
    name: Option<String>,
    /// What it may do.
    #[schema(value_type = Option<Vec<schema::Permission>>, min_items = 1)]
    scopes: Option<Vec<Permission>>,
    /// When it ends; null: never.
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Option<DateTime<Utc>>>,
    /// The only models it may use; null: all.
    #[serde(default, deserialize_with = "present")]
    #[schema(min_items = 1, max_items = 200)]
    allowed_models: Option<Option<Vec<String>>>,
    /// The only networks it may be used from; null: all.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<schema::Network>>, min_items = 1, max_items = 100)]
    allowed_ips: Option<Option<Vec<Network>>>,
    /// Null takes every limit away.
    #[serde(default, deserialize_with = "present")]
    limits: Option<Option<NewLimits>>,
}

/// How to rotate a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApiKeyRotation)]
pub struct Rotation {
    /// How long the secret it has now goes on working.
    #[serde(default = "usual_grace")]
    #[schema(maximum = 604_800, default = usual_grace)]
    grace_seconds: u32,
}

fn usual_grace() -> u32 {
    GRACE_SECS
}

/// Makes a key.
#[utoipa::path(
    post,
    path = "/v1/api-keys",
    request_body = NewKey,
    responses(
        (status = 201, description = "The key, and its secret this once", body = KeyWithSecret),
        (
            status = 403,
            description = "`forbidden`, or `beyond_permissions`: the key would do more than you may; `param` says with what",
            body = ErrorBody
        ),
        (status = 409, description = "`api_key_revoked`: the key that asks has just been revoked", body = ErrorBody),
    )
)]
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<NewKey>,
) -> Result<(StatusCode, Json<KeyWithSecret>), ApiError> {
    let NewKey { name, scopes, expires_at, allowed_models, allowed_ips, limits } = body.value;
    let limits = limits.unwrap_or_default();
    let terms = KeyTerms {
        name: check_name(name)?,
        scopes: match scopes {
            Some(scopes) => check_scopes(&scopes)?,
            None => usual_scopes(&caller)?,
        },
        expires_at: check_end(&ctx, expires_at)?,
        allowed_models: allowed_models.map(|models| check_models(&ctx, models)).transpose()?,
        allowed_ips: allowed_ips.map(check_networks).transpose()?,
        limits: KeyLimits {
            day: check_limit("limits.day", limits.day.flatten())?,
            month: check_limit("limits.month", limits.month.flatten())?,
            total: check_limit("limits.total", limits.total.flatten())?,
        },
    };
    let now = ctx.clock.now();
    let (key, secret) = account::create_key(&ctx.db, &caller, terms, &by, now).await?;
    tracing::info!(key.id = %key.id, account.id = %key.account, "key {} made", key.id);
    Ok((StatusCode::CREATED, Json(KeyWithSecret::of(key, &secret))))
}

/// A page of the account's keys that have not been revoked, newest first.
#[utoipa::path(
    get,
    path = "/v1/api-keys",
    params(
        Paging,
        ("after" = inline(Option<schema::KeyId>), Query, description = "The `last_id` of the page before"),
    ),
    responses((status = 200, description = "A page of keys", body = List<KeyView>))
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<KeyView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<KeyId>("after")?;
    query.finish()?;
    let keys = account::list_keys(&ctx.db, &caller, after, limit + 1, ctx.clock.now()).await?;
    Ok(Json(List::of(keys, limit, |key| key.id, KeyView::from)))
}

/// One key.
#[utoipa::path(
    get,
    path = "/v1/api-keys/{id}",
    params(("id" = inline(schema::KeyId), Path, description = "Which key")),
    responses(
        (status = 200, description = "The key, even one that was revoked", body = KeyView),
        (status = 404, description = "`api_key_not_found`", body = ErrorBody),
    )
)]
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<KeyId>,
) -> Result<Json<KeyView>, ApiError> {
    Ok(Json(account::find_key(&ctx.db, &caller, id, ctx.clock.now()).await?.into()))
}

/// Changes what a key may do.
#[utoipa::path(
    patch,
    path = "/v1/api-keys/{id}",
    params(("id" = inline(schema::KeyId), Path, description = "Which key")),
    request_body = KeyPatch,
    responses(
        (status = 200, description = "The key as it is now", body = KeyView),
        (
            status = 403,
            description = "`forbidden`, or `beyond_permissions`: the key would do more than you may; `param` says with what",
            body = ErrorBody
        ),
        (status = 404, description = "`api_key_not_found`", body = ErrorBody),
        (status = 409, description = "`api_key_revoked`", body = ErrorBody),
    )
)]
pub async fn change(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<KeyId>,
    body: Body<KeyPatch>,
) -> Result<Json<KeyView>, ApiError> {
    let KeyPatch { name, scopes, expires_at, allowed_models, allowed_ips, limits } = body.value;
    // Null takes every limit away.
    let NewLimits { day, month, total } = limits.map_or_else(NewLimits::default, |limits| {
        limits.unwrap_or(NewLimits { day: Some(None), month: Some(None), total: Some(None) })
    });
    let limit = |param, limit: Option<Option<i64>>| limit.map(|limit| check_limit(param, limit)).transpose();
    let change = KeyChange {
        name: name.map(check_name).transpose()?,
        scopes: scopes.map(|scopes| check_scopes(&scopes)).transpose()?,
        expires_at: expires_at.map(|at| check_end(&ctx, at)).transpose()?,
        allowed_models: allowed_models
            .map(|models| models.map(|models| check_models(&ctx, models)).transpose())
            .transpose()?,
        allowed_ips: allowed_ips.map(|networks| networks.map(check_networks).transpose()).transpose()?,
        day: limit("limits.day", day)?,
        month: limit("limits.month", month)?,
        total: limit("limits.total", total)?,
    };
    let key = account::change_key(&ctx.db, &caller, id, change, &by, ctx.clock.now()).await?;
    tracing::info!(key.id = %id, account.id = %key.account, "key {id} changed");
    Ok(Json(key.into()))
}

/// Gives a key another secret.
#[utoipa::path(
    post,
    path = "/v1/api-keys/{id}/rotate",
    params(("id" = inline(schema::KeyId), Path, description = "Which key")),
    request_body = Rotation,
    responses(
        (status = 200, description = "The key, and its new secret this once", body = KeyWithSecret),
        (
            status = 403,
            description = "`forbidden`, or `beyond_permissions`: the key does more than you may",
            body = ErrorBody
        ),
        (status = 404, description = "`api_key_not_found`", body = ErrorBody),
        (status = 409, description = "`api_key_revoked`", body = ErrorBody),
    )
)]
pub async fn rotate(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<KeyId>,
    body: Body<Rotation>,
) -> Result<Json<KeyWithSecret>, ApiError> {
    let seconds = body.value.grace_seconds;
    if seconds > GRACE_SECS_MAX {
        let message = format!("grace_seconds is between 0 and {GRACE_SECS_MAX}");
        return Err(ApiError::bad_request("invalid_grace", "grace_seconds", message));
    }
    let grace = TimeDelta::seconds(seconds.into());
    let (key, secret) = account::rotate_key(&ctx.db, &caller, id, grace, &by, ctx.clock.now()).await?;
    tracing::info!(key.id = %id, account.id = %key.account, "key {id} rotated");
    Ok(Json(KeyWithSecret::of(key, &secret)))
}

/// Ends a key of the account.
#[utoipa::path(
    delete,
    path = "/v1/api-keys/{id}",
    params(("id" = inline(schema::KeyId), Path, description = "Which key")),
    responses(
        (status = 200, description = "The key, which has ended", body = KeyView),
        (
            status = 403,
            description = "`forbidden`, or `beyond_permissions`: it is an operator's key and does more than you may",
            body = ErrorBody
        ),
        (status = 404, description = "`api_key_not_found`", body = ErrorBody),
    )
)]
pub async fn revoke(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<KeyId>,
) -> Result<Json<KeyView>, ApiError> {
    let key = account::revoke_key(&ctx.db, &caller, id, &by, ctx.clock.now()).await?;
    tracing::info!(key.id = %id, account.id = %key.account, "key {id} revoked");
    Ok(Json(key.into()))
}

/// Ends a key of any account, by an operator.
#[utoipa::path(
    delete,
    path = "/v1/admin/api-keys/{id}",
    params(("id" = inline(schema::KeyId), Path, description = "Which key")),
    responses(
        (status = 200, description = "The key, which has ended", body = KeyView),
        (
            status = 403,
            description = "`forbidden`, or `beyond_permissions`: it is an operator's key",
            body = ErrorBody
        ),
        (status = 404, description = "`api_key_not_found`", body = ErrorBody),
    )
)]
pub async fn revoke_any(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<KeyId>,
) -> Result<Json<KeyView>, ApiError> {
    let key = account::revoke_any_key(&ctx.db, Some(&caller), id, &by, ctx.clock.now()).await?;
    tracing::info!(key.id = %id, account.id = %key.account, "key {id} revoked by an operator");
    Ok(Json(key.into()))
}

fn check_name(name: String) -> Result<String, ApiError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_LEN {
        let message = format!("name has 1 to {NAME_LEN} characters");
        return Err(ApiError::bad_request("invalid_text", "name", message));
    }
    Ok(name.to_owned())
}

fn check_scopes(scopes: &[Permission]) -> Result<Permissions, ApiError> {
    if scopes.is_empty() {
        let message = "a key without scopes could do nothing; leave them out for the usual ones";
        return Err(ApiError::bad_request("invalid_scopes", "scopes", message));
    }
    Ok(scopes.iter().copied().collect())
}

fn usual_scopes(caller: &account::Caller) -> Result<Permissions, ApiError> {
    let usual = KeyTerms::usual_scopes(caller);
    if usual == Permissions::default() {
        let message = "name the scopes: of the usual ones you have none to give";
        return Err(ApiError::bad_request("invalid_scopes", "scopes", message));
    }
    Ok(usual)
}

fn check_end(ctx: &Ctx, end: Option<DateTime<Utc>>) -> Result<Option<DateTime<Utc>>, ApiError> {
    if end.is_some_and(|end| !is_to_come(end, ctx.clock.now())) {
        let message = "expires_at is a time to come";
        return Err(ApiError::bad_request("invalid_expires_at", "expires_at", message));
    }
    Ok(end)
}

fn check_models(ctx: &Ctx, mut wanted: Vec<String>) -> Result<Vec<String>, ApiError> {
    check_count("allowed_models", wanted.len(), MODELS_MAX)?;
    wanted.sort_unstable();
    wanted.dedup();
    if let Some(unknown) = wanted.iter().find(|model| ctx.catalog.get(model).is_none()) {
        let message = format!("there is no model {unknown:?}; GET /v1/models lists those there are");
        return Err(ApiError::bad_request("model_not_found", "allowed_models", message));
    }
    Ok(wanted)
}

fn check_networks(mut networks: Vec<Network>) -> Result<Vec<Network>, ApiError> {
    check_count("allowed_ips", networks.len(), NETWORKS_MAX)?;
    networks.dedup();
    Ok(networks)
}

fn check_count(param: &str, count: usize, most: usize) -> Result<(), ApiError> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    let message = format!("{param} has 1 to {most} entries, or is null for all");
    Err(ApiError::bad_request("invalid_list", param, message))
}

fn check_limit(param: &'static str, limit: Option<i64>) -> Result<Option<i64>, ApiError> {
    if limit.is_some_and(|limit| limit < 0) {
        let message = format!("{param} is a number of tokens, 0 or more, or null");
        return Err(ApiError::bad_request("invalid_limit", param, message));
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::said;

    #[test]
    fn the_document_tells_the_limits_that_are_kept() {
        assert_eq!(said::<NewKey>("name", "maxLength"), NAME_LEN);
        assert_eq!(said::<KeyPatch>("name", "maxLength"), NAME_LEN);
        for schema in [said::<NewKey>, said::<KeyPatch>] {
            assert_eq!(schema("allowed_models", "maxItems"), MODELS_MAX);
            assert_eq!(schema("allowed_ips", "maxItems"), NETWORKS_MAX);
        }
        assert_eq!(said::<Rotation>("grace_seconds", "maximum"), GRACE_SECS_MAX);
        assert_eq!(said::<Rotation>("grace_seconds", "default"), GRACE_SECS);
    }
}
