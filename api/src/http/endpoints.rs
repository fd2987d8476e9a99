//! Webhook endpoints over HTTP: make, look, change, rotate, test, delete. A secret is shown in the answer that makes it, and never
//! again.

use axum::{Json, extract::State};
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    deliveries, fields,
    webhooks::{check_events, check_target},
};
use crate::{
    ApiError, Ctx,
    access::{By, Caller},
    limit, page,
    request::{Body, PathId, Query, page_limit, present},
};
use shared::{
    id::EndpointId,
    wake::Wake,
    webhook::{self, Change, ENDPOINTS_MAX, Endpoint, EndpointError, NewEndpoint},
};

/// An endpoint to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewHook {
    url: String,
    #[serde(default)]
    events: Vec<String>,
    description: Option<String>,
}

/// What is to become of an endpoint; what is absent stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookPatch {
    url: Option<String>,
    events: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
    enabled: Option<bool>,
}

/// Makes an endpoint.
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<NewHook>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let NewHook { url, events, description } = body.value;
    check_target("url", &url, ctx.allow_private_addresses)?;
    let new = NewEndpoint {
        url,
        events: read_events(events)?,
        description: description.as_deref().map(fields::description).transpose()?.flatten(),
    };
    let made = webhook::create(&ctx.db, &ctx.sealer, caller.account, new, &by, ctx.clock.now()).await;
    let (endpoint, secret) = made?;
    tracing::info!(endpoint.id = %endpoint.id, account.id = %caller.account, "endpoint {} made", endpoint.id);
    Ok((StatusCode::CREATED, Json(show_with(&ctx, &endpoint, &secret))))
}

/// A page of the account's endpoints, newest first.
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<EndpointId>("after")?;
    query.finish()?;
    let found = webhook::list(&ctx.db, caller.account, after, limit + 1, ctx.clock.now()).await?;
    Ok(page::answer(found, limit, |endpoint| endpoint.id, |endpoint| view(&ctx, &endpoint)))
}

/// One endpoint.
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<EndpointId>,
) -> Result<Json<Value>, ApiError> {
    let found = webhook::find(&ctx.db, caller.account, id, ctx.clock.now()).await?;
    Ok(Json(view(&ctx, &found.ok_or(EndpointError::NotFound)?)))
}

/// Changes an endpoint.
pub async fn change(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<EndpointId>,
    body: Body<HookPatch>,
) -> Result<Json<Value>, ApiError> {
    let HookPatch { url, events, description, enabled } = body.value;
    if let Some(url) = &url {
        check_target("url", url, ctx.allow_private_addresses)?;
    }
    let change = Change {
        url,
        events: events.map(read_events).transpose()?,
        description: description
            .map(|text| text.as_deref().map(fields::description).transpose().map(Option::flatten))
            .transpose()?,
        enabled,
    };
    let changed = webhook::change(&ctx.db, caller.account, id, change, &by, ctx.clock.now()).await?;
    tracing::info!(endpoint.id = %id, account.id = %caller.account, "endpoint {id} changed");
    Ok(Json(view(&ctx, &changed)))
}

/// Gives an endpoint another secret.
pub async fn rotate(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<EndpointId>,
) -> Result<Json<Value>, ApiError> {
    let rotated = webhook::rotate(&ctx.db, &ctx.sealer, caller.account, id, &by, ctx.clock.now()).await;
    let (endpoint, secret) = rotated?;
    tracing::info!(endpoint.id = %id, account.id = %caller.account, "endpoint {id} rotated");
    Ok(Json(show_with(&ctx, &endpoint, &secret)))
}

/// Sends an endpoint a test.
pub async fn test(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<EndpointId>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    limit::webhook_by_hand(&ctx, caller.account).await?;
    let sent = webhook::test(&ctx.db, caller.account, id, ctx.clock.now()).await;
    let delivery = sent.map_err(|error| deliveries::refuse(error, "webhook_endpoint_not_found"))?;
    ctx.wakes.send(Wake::Notice);
    tracing::info!(endpoint.id = %id, notice.id = %delivery.id, "test {} of endpoint {id}", delivery.id);
    Ok((StatusCode::ACCEPTED, Json(deliveries::view(delivery))))
}

/// Deletes an endpoint for good.
pub async fn delete(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<EndpointId>,
) -> Result<Json<Value>, ApiError> {
    webhook::delete(&ctx.db, caller.account, id, &by, ctx.clock.now()).await?;
    tracing::info!(endpoint.id = %id, account.id = %caller.account, "endpoint {id} deleted");
    Ok(Json(json!({ "object": "webhook_endpoint", "id": id, "deleted": true })))
}

/// What all webhooks of this deployment are checked with, by those who keep no secret.
pub async fn public_key(State(ctx): State<Ctx>) -> Json<Value> {
    Json(
        json!({ "object": "webhook_public_key", "algorithm": "ed25519", "public_key": ctx.webhook_public_key }),
    )
}

/// Each once, in one order: two lists that mean the same are the same.
fn read_events(mut events: Vec<String>) -> Result<Vec<String>, ApiError> {
    check_events("events", &events)?;
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

fn show_with(ctx: &Ctx, endpoint: &Endpoint, secret: &SecretString) -> Value {
    let mut view = view(ctx, endpoint);
    view["secret"] = json!(secret.expose_secret());
    view
}

fn view(ctx: &Ctx, endpoint: &Endpoint) -> Value {
    json!({
        "id": endpoint.id, "object": "webhook_endpoint", "url": endpoint.url, "events": endpoint.events,
        "description": endpoint.description, "enabled": endpoint.is_enabled(), "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason, "failing_since": endpoint.failing_since,
        "previous_secret_until": endpoint.previous_until, "public_key": ctx.webhook_public_key,
        "created_at": endpoint.created_at,
    })
}

impl From<EndpointError> for ApiError {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::NotFound => {
                Self::not_found("webhook_endpoint_not_found", Some("id"), "there is no such endpoint")
            }
            EndpointError::TooMany => {
                let message = format!("an account has at most {ENDPOINTS_MAX} endpoints: delete one first");
                Self::conflict("too_many_endpoints", message)
            }
            EndpointError::Db(error) => error.into(),
        }
    }
}
