//! Webhook endpoints over HTTP: make, look, change, rotate, test, delete. A secret is shown in the answer that makes it, and never
//! again.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    account_view::Deleted,
    deliveries::{self, DeliveryView},
    fields,
    webhooks::{check_events, check_target},
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::{By, Caller},
    limit,
    page::{List, Paging},
    request::{Body, PathId, Query, page_limit, present},
    schema,
};
use shared::{
    id::EndpointId,
    wake::Wake,
    webhook::{self, Change, ENDPOINTS_MAX, Endpoint, EndpointError, NewEndpoint},
};

/// An endpoint to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWebhookEndpoint)]
pub struct NewHook {
    #[schema(value_type = schema::WebhookUrl)]
    url: String,
    /// Which ends of jobs to tell of; empty: all.
    #[serde(default)]
    #[schema(value_type = Vec<schema::JobEvent>, max_items = 4)]
    events: Vec<String>,
    /// For people.
    #[schema(max_length = 2000)]
    description: Option<String>,
}

/// What is to become of an endpoint; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookEndpointPatch)]
pub struct HookPatch {
    #[schema(value_type = Option<schema::WebhookUrl>)]
    url: Option<String>,
    /// Which ends of jobs to tell of; empty: all.
    #[schema(value_type = Option<Vec<schema::JobEvent>>, max_items = 4)]
    events: Option<Vec<String>>,
    /// For people; null: none.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 2000)]
    description: Option<Option<String>>,
    /// Whether it is told of anything.
    enabled: Option<bool>,
}

/// An endpoint, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookEndpoint)]
pub struct EndpointView {
    #[schema(value_type = schema::EndpointId)]
    id: EndpointId,
    #[schema(pattern = "^webhook_endpoint$")]
    object: &'static str,
    /// Where webhooks are posted.
    url: String,
    /// Which ends of jobs it is told of; empty: all.
    #[schema(value_type = Vec<schema::JobEvent>)]
    events: Vec<String>,
    /// For people.
    #[schema(required)]
    description: Option<String>,
    /// Whether it is told of anything.
    enabled: bool,
    /// Since when not.
    #[schema(required)]
    disabled_at: Option<DateTime<Utc>>,
    /// Why not.
    #[schema(value_type = Option<schema::DisabledReason>, required)]
    disabled_reason: Option<String>,
    /// The first failure since the last time that something arrived.
    #[schema(required)]
    failing_since: Option<DateTime<Utc>>,
    /// Until when the secret before the last rotation signs as well.
    #[schema(required)]
    previous_secret_until: Option<DateTime<Utc>>,
    /// Checks the ed25519 signatures of its webhooks; the same for all.
    public_key: String,
    created_at: DateTime<Utc>,
}

/// An endpoint with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookEndpointWithSecret)]
pub struct EndpointWithSecret {
    #[serde(flatten)]
    endpoint: EndpointView,
    /// Checks the signatures of its webhooks.
    #[schema(pattern = "^whsec_")]
    secret: String,
}

/// What all webhooks are checked with, by those who keep no secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookPublicKey)]
pub struct PublicKey {
    #[schema(pattern = "^webhook_public_key$")]
    object: &'static str,
    #[schema(pattern = "^ed25519$")]
    algorithm: &'static str,
    /// As Standard Webhooks writes it.
    public_key: String,
}

/// Makes an endpoint.
#[utoipa::path(
    post,
    path = "/v1/webhook-endpoints",
    operation_id = "webhook_endpoints_create",
    request_body = NewHook,
    responses(
        (status = 201, description = "The endpoint and its secret, this once", body = EndpointWithSecret),
        (status = 409, description = "`too_many_endpoints`", body = ErrorBody),
    )
)]
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<NewHook>,
) -> Result<(StatusCode, Json<EndpointWithSecret>), ApiError> {
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
    Ok((StatusCode::CREATED, Json(show_with(&ctx, endpoint, &secret))))
}

/// A page of the account's endpoints, newest first.
#[utoipa::path(
    get,
    path = "/v1/webhook-endpoints",
    operation_id = "webhook_endpoints_list",
    params(
        Paging,
        ("after" = inline(Option<schema::EndpointId>), Query, description = "The `last_id` of the page before"),
    ),
    responses((status = 200, description = "A page of endpoints", body = List<EndpointView>))
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<EndpointView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<EndpointId>("after")?;
    query.finish()?;
    let found = webhook::list(&ctx.db, caller.account, after, limit + 1, ctx.clock.now()).await?;
    Ok(Json(List::of(found, limit, |endpoint| endpoint.id, |endpoint| view(&ctx, endpoint))))
}

/// One endpoint.
#[utoipa::path(
    get,
    path = "/v1/webhook-endpoints/{id}",
    operation_id = "webhook_endpoints_show",
    params(("id" = inline(schema::EndpointId), Path, description = "Which endpoint")),
    responses(
        (status = 200, description = "The endpoint", body = EndpointView),
        (status = 404, description = "`webhook_endpoint_not_found`", body = ErrorBody),
    )
)]
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<EndpointId>,
) -> Result<Json<EndpointView>, ApiError> {
    let found = webhook::find(&ctx.db, caller.account, id, ctx.clock.now()).await?;
    Ok(Json(view(&ctx, found.ok_or(EndpointError::NotFound)?)))
}

/// Changes an endpoint.
#[utoipa::path(
    patch,
    path = "/v1/webhook-endpoints/{id}",
    operation_id = "webhook_endpoints_change",
    params(("id" = inline(schema::EndpointId), Path, description = "Which endpoint")),
    request_body = HookPatch,
    responses(
        (status = 200, description = "The endpoint as it is now", body = EndpointView),
        (status = 404, description = "`webhook_endpoint_not_found`", body = ErrorBody),
    )
)]
pub async fn change(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<EndpointId>,
    body: Body<HookPatch>,
) -> Result<Json<EndpointView>, ApiError> {
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
    Ok(Json(view(&ctx, changed)))
}

/// Gives an endpoint another secret.
#[utoipa::path(
    post,
    path = "/v1/webhook-endpoints/{id}/rotate",
    operation_id = "webhook_endpoints_rotate",
    params(("id" = inline(schema::EndpointId), Path, description = "Which endpoint")),
    responses(
        (status = 200, description = "The endpoint and its new secret, this once", body = EndpointWithSecret),
        (status = 404, description = "`webhook_endpoint_not_found`", body = ErrorBody),
    )
)]
pub async fn rotate(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<EndpointId>,
) -> Result<Json<EndpointWithSecret>, ApiError> {
    let rotated = webhook::rotate(&ctx.db, &ctx.sealer, caller.account, id, &by, ctx.clock.now()).await;
    let (endpoint, secret) = rotated?;
    tracing::info!(endpoint.id = %id, account.id = %caller.account, "endpoint {id} rotated");
    Ok(Json(show_with(&ctx, endpoint, &secret)))
}

/// Sends an endpoint a test.
#[utoipa::path(
    post,
    path = "/v1/webhook-endpoints/{id}/test",
    operation_id = "webhook_endpoints_test",
    params(("id" = inline(schema::EndpointId), Path, description = "Which endpoint")),
    responses(
        (status = 202, description = "The delivery, which is about to be sent", body = DeliveryView),
        (status = 404, description = "`webhook_endpoint_not_found`", body = ErrorBody),
        (status = 409, description = "`webhook_endpoint_disabled`", body = ErrorBody),
    )
)]
pub async fn test(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<EndpointId>,
) -> Result<(StatusCode, Json<DeliveryView>), ApiError> {
    limit::webhook_by_hand(&ctx, caller.account).await?;
    let sent = webhook::test(&ctx.db, caller.account, id, ctx.clock.now()).await;
    let delivery = sent.map_err(|error| deliveries::refuse(error, "webhook_endpoint_not_found"))?;
    ctx.wakes.send(Wake::Notice);
    tracing::info!(endpoint.id = %id, notice.id = %delivery.id, "test {} of endpoint {id}", delivery.id);
    Ok((StatusCode::ACCEPTED, Json(deliveries::view(delivery))))
}

/// Deletes an endpoint for good.
#[utoipa::path(
    delete,
    path = "/v1/webhook-endpoints/{id}",
    operation_id = "webhook_endpoints_delete",
    params(("id" = inline(schema::EndpointId), Path, description = "Which endpoint")),
    responses(
        (status = 200, description = "It is deleted", body = Deleted),
        (status = 404, description = "`webhook_endpoint_not_found`", body = ErrorBody),
    )
)]
pub async fn delete(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<EndpointId>,
) -> Result<Json<Deleted>, ApiError> {
    webhook::delete(&ctx.db, caller.account, id, &by, ctx.clock.now()).await?;
    tracing::info!(endpoint.id = %id, account.id = %caller.account, "endpoint {id} deleted");
    Ok(Json(Deleted::of("webhook_endpoint", id)))
}

/// What all webhooks of this deployment are checked with, by those who keep no secret.
#[utoipa::path(
    get,
    path = "/v1/webhook-endpoints/public-key",
    operation_id = "webhook_endpoints_public_key",
    responses((status = 200, description = "The key", body = PublicKey))
)]
pub async fn public_key(State(ctx): State<Ctx>) -> Json<PublicKey> {
    let public_key = ctx.webhook_public_key.clone();
    Json(PublicKey { object: "webhook_public_key", algorithm: "ed25519", public_key })
}

/// Each once, in one order: two lists that mean the same are the same.
fn read_events(mut events: Vec<String>) -> Result<Vec<String>, ApiError> {
    check_events("events", &events)?;
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

fn show_with(ctx: &Ctx, endpoint: Endpoint, secret: &SecretString) -> EndpointWithSecret {
    EndpointWithSecret { endpoint: view(ctx, endpoint), secret: secret.expose_secret().to_owned() }
}

fn view(ctx: &Ctx, endpoint: Endpoint) -> EndpointView {
    EndpointView {
        id: endpoint.id,
        object: "webhook_endpoint",
        enabled: endpoint.is_enabled(),
        url: endpoint.url,
        events: endpoint.events,
        description: endpoint.description,
        disabled_at: endpoint.disabled_at,
        disabled_reason: endpoint.disabled_reason,
        failing_since: endpoint.failing_since,
        previous_secret_until: endpoint.previous_until,
        public_key: ctx.webhook_public_key.clone(),
        created_at: endpoint.created_at,
    }
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
