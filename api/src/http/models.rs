//! What is on offer, in OpenAI's shape and with what it lacks: medium, task, price and the schema of the input.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{ApiError, Ctx, auth::Caller, request::PathId};
use shared::catalog::Model;

/// `created` of every model, which OpenAI's clients expect: when the catalogue began, 2025-11-21.
const CATALOG_BEGAN: i64 = 1_763_683_200;

/// Every model.
pub async fn list(State(ctx): State<Ctx>, _: Caller) -> Json<Value> {
    let models: Vec<_> = ctx.catalog.models().iter().map(view).collect();
    Json(json!({ "object": "list", "data": models, "has_more": false }))
}

/// One model.
pub async fn show(
    State(ctx): State<Ctx>,
    _: Caller,
    PathId(id): PathId<String>,
) -> Result<Json<Value>, ApiError> {
    let model = ctx.catalog.get(&id).ok_or_else(|| unknown(&id))?;
    Ok(Json(view(model)))
}

/// The answer to a model that is not on offer.
pub fn unknown(id: &str) -> ApiError {
    ApiError::not_found(
        "model_not_found",
        Some("model"),
        format!("there is no model {id:?}; GET /v1/models lists those there are"),
    )
}

fn view(model: &Model) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": CATALOG_BEGAN,
        "owned_by": model.routes.first().map(|route| route.provider.as_str()),
        "name": model.name,
        "medium": model.medium.word(),
        "task": model.task,
        "price": { "unit": "tokens", "per_request": model.price },
        "deadline_seconds": model.deadline.as_secs(),
        "input_schema": model.schema,
    })
}
