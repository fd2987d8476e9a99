//! What is on offer, in OpenAI's shape and with what it lacks: medium, task, price and the schema of the input.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{ApiError, Ctx, access::Caller, request::PathId};
use shared::{
    catalog::Model,
    price::{Meter, Price, Rule},
};

/// `created` of every model, which OpenAI's clients expect: when the catalogue began, 2025-11-21.
const CATALOG_BEGAN: i64 = 1_763_683_200;

/// Every model the caller may use.
pub async fn list(State(ctx): State<Ctx>, Caller(caller): Caller) -> Json<Value> {
    let allowed = ctx.catalog.models().iter().filter(|model| caller.may_use(&model.id));
    let models: Vec<_> = allowed.map(|model| view(&ctx, model)).collect();
    Json(json!({ "object": "list", "data": models, "has_more": false }))
}

/// One model the caller may use.
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<String>,
) -> Result<Json<Value>, ApiError> {
    let model = ctx.catalog.get(&id).filter(|model| caller.may_use(&model.id)).ok_or_else(|| unknown(&id))?;
    Ok(Json(view(&ctx, model)))
}

/// The answer to a model that is not on offer.
pub fn unknown(id: &str) -> ApiError {
    ApiError::not_found(
        "model_not_found",
        Some("model"),
        format!("there is no model {id:?}; GET /v1/models lists those there are"),
    )
}

/// The answer to a model that the caller's key leaves out.
pub fn not_allowed(id: &str) -> ApiError {
    let message = format!("this API key may not use {id:?}");
    ApiError::refused("model_not_allowed", Some("model"), message)
}

fn view(ctx: &Ctx, model: &Model) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": CATALOG_BEGAN,
        "owned_by": model.routes.first().map(|route| route.provider.as_str()),
        "name": model.name,
        "medium": model.medium.word(),
        "task": model.task,
        "price": ctx.prices.get(&model.id).map(|price| show_price(&price)),
        "deadline_seconds": model.deadline.as_secs(),
        "input_schema": model.schema,
    })
}

/// The rules of a price; those who pay by request find it without reading them.
fn show_price(price: &Price) -> Value {
    let per_request = match price.rules.as_slice() {
        [Rule { per: Meter::Request, tokens, .. }] => i64::try_from(*tokens).ok(),
        _ => None,
    };
    json!({ "unit": "tokens", "version": price.version, "per_request": per_request, "rules": price.rules })
}
