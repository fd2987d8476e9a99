//! The log of webhooks over HTTP: what was told, how that went, and once more.

use axum::{Json, extract::State};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    ApiError, Ctx,
    access::Caller,
    limit, page,
    request::{PathId, Query, page_limit, word},
};
use shared::{
    id::NoticeId,
    wake::Wake,
    webhook::{self, Delivery, DeliveryError, DeliveryFilter, STATUSES},
};

/// A page of the account's deliveries, newest first.
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
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
    Ok(page::answer(found, limit, |delivery| delivery.id, view))
}

/// One delivery.
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<NoticeId>,
) -> Result<Json<Value>, ApiError> {
    let found = webhook::delivery(&ctx.db, caller.account, id).await?.ok_or(DeliveryError::NotFound);
    found.map(|delivery| Json(view(delivery))).map_err(not_sent)
}

/// Sends a delivery again, under its old id.
pub async fn replay(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<NoticeId>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
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

/// A delivery as its account sees it. Where a job itself said whom to tell, `url` is what it said.
pub fn view(delivery: Delivery) -> Value {
    let url = delivery.endpoint.is_none().then_some(delivery.target);
    let next = (delivery.status == "pending").then_some(delivery.run_at);
    json!({
        "id": delivery.id, "object": "webhook_delivery", "endpoint": delivery.endpoint, "job": delivery.job, "url": url,
        "event": delivery.event, "status": delivery.status, "tries": delivery.tries, "attempts": delivery.log,
        "next_attempt_at": next, "created_at": delivery.created_at, "settled_at": delivery.settled_at,
    })
}
