//! The log of webhooks over HTTP: what was told, how that went, and once more.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    ApiError, Ctx, ErrorBody,
    access::Caller,
    limit,
    page::{List, Paging},
    request::{PathId, Query, page_limit, word},
    schema,
};
use shared::{
    id::{EndpointId, JobId, NoticeId},
    notice::Try as DeliveryTry,
    wake::Wake,
    webhook::{self, Delivery, DeliveryError, DeliveryFilter, STATUSES},
};

/// What an account was told, and how that went.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub struct DeliveryView {
    #[schema(value_type = schema::NoticeId)]
    id: NoticeId,
    #[schema(pattern = "^webhook_delivery$")]
    object: &'static str,
    /// The endpoint that is told; null where the job itself said whom.
    #[schema(value_type = Option<schema::EndpointId>, required)]
    endpoint: Option<EndpointId>,
    /// The job that it tells of; null of a test.
    #[schema(value_type = Option<schema::JobId>, required)]
    job: Option<JobId>,
    /// What the job said whom to tell; null where an endpoint is told.
    #[schema(required)]
    url: Option<String>,
    #[schema(value_type = schema::WebhookEvent)]
    event: String,
    #[schema(value_type = schema::DeliveryStatus)]
    status: String,
    /// Tries made.
    #[schema(minimum = 0)]
    tries: i16,
    /// The last of them, oldest first.
    #[schema(value_type = Vec<DeliveryTry>)]
    attempts: Value,
    /// When the next one is due.
    #[schema(required)]
    next_attempt_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    /// When it arrived, or was given up.
    #[schema(required)]
    settled_at: Option<DateTime<Utc>>,
}

/// A page of the account's deliveries, newest first.
#[utoipa::path(
    get,
    path = "/v1/webhook-deliveries",
    operation_id = "webhook_deliveries_list",
    params(
        Paging,
        ("after" = inline(Option<schema::NoticeId>), Query, description = "The `last_id` of the page before"),
        ("endpoint" = inline(Option<schema::EndpointId>), Query, description = "Only those to this endpoint"),
        ("job" = inline(Option<schema::JobId>), Query, description = "Only those of this job"),
        ("status" = inline(Option<schema::DeliveryStatus>), Query, description = "Only those that this became of"),
    ),
    responses((status = 200, description = "A page of deliveries", body = List<DeliveryView>))
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<DeliveryView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let known = |text: &str| STATUSES.into_iter().find(|status| *status == text);
    let filter = DeliveryFilter {
        endpoint: query.take("endpoint")?,
        job: query.take("job")?,
        status: word(&mut query, "status", known, &STATUSES)?,
        after: query.take("after")?,
    };
    query.finish()?;
    let found = webhook::deliveries(&ctx.db, caller.account, &filter, limit + 1).await?;
    Ok(Json(List::of(found, limit, |delivery| delivery.id, view)))
}

/// One delivery.
#[utoipa::path(
    get,
    path = "/v1/webhook-deliveries/{id}",
    operation_id = "webhook_deliveries_show",
    params(("id" = inline(schema::NoticeId), Path, description = "Which delivery")),
    responses(
        (status = 200, description = "The delivery", body = DeliveryView),
        (status = 404, description = "`webhook_delivery_not_found`", body = ErrorBody),
    )
)]
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<NoticeId>,
) -> Result<Json<DeliveryView>, ApiError> {
    let found = webhook::delivery(&ctx.db, caller.account, id).await?.ok_or(DeliveryError::NotFound);
    found.map(|delivery| Json(view(delivery))).map_err(not_sent)
}

/// Sends a delivery again, under its old id.
#[utoipa::path(
    post,
    path = "/v1/webhook-deliveries/{id}/replay",
    operation_id = "webhook_deliveries_replay",
    params(("id" = inline(schema::NoticeId), Path, description = "Which delivery")),
    responses(
        (status = 202, description = "The delivery, which is about to be sent", body = DeliveryView),
        (status = 404, description = "`webhook_delivery_not_found`", body = ErrorBody),
        (status = 409, description = "`webhook_endpoint_disabled`", body = ErrorBody),
    )
)]
pub async fn replay(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<NoticeId>,
) -> Result<(StatusCode, Json<DeliveryView>), ApiError> {
    limit::webhook_by_hand(&ctx, caller.account).await?;
    let delivery = webhook::replay(&ctx.db, caller.account, id, ctx.clock.now()).await.map_err(not_sent)?;
    ctx.wakes.send(Wake::Notice);
    tracing::info!(notice.id = %id, account.id = %caller.account, "notice {id} is sent again");
    Ok((StatusCode::ACCEPTED, Json(view(delivery))))
}

fn not_sent(error: DeliveryError) -> ApiError {
    refuse(error, "webhook_delivery_not_found")
}

/// How sending by hand says no; `not_found` is the code of what is not there.
pub fn refuse(error: DeliveryError, not_found: &'static str) -> ApiError {
    match error {
        DeliveryError::NotFound => ApiError::not_found(not_found, Some("id"), "there is no such id"),
        DeliveryError::Off => ApiError::conflict(
            "webhook_endpoint_disabled",
            "this endpoint was deleted or is disabled: PATCH /v1/webhook-endpoints/{id} with {\"enabled\": true}",
        ),
        DeliveryError::Db(error) => error.into(),
    }
}

/// A delivery as its account sees it.
pub fn view(delivery: Delivery) -> DeliveryView {
    let is_pending = delivery.status == "pending";
    DeliveryView {
        id: delivery.id,
        object: "webhook_delivery",
        url: delivery.endpoint.is_none().then_some(delivery.target),
        endpoint: delivery.endpoint,
        job: delivery.job,
        event: delivery.event,
        status: delivery.status,
        tries: delivery.tries,
        attempts: delivery.log,
        next_attempt_at: is_pending.then_some(delivery.run_at),
        created_at: delivery.created_at,
        settled_at: delivery.settled_at,
    }
}
