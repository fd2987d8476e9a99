//! What is on offer, in OpenAI's shape and with what it lacks: medium, task, price and the schema of the input.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    ApiError, Ctx, ErrorBody,
    access::Caller,
    page::WholeList,
    request::{PathId, Query},
    schema,
};
use shared::{
    catalog::Model,
    job::Medium,
    price::{Meter, Price, Rule},
};

/// `created` of every model, which OpenAI's clients expect: when the catalogue began, 2025-11-21.
const CATALOG_BEGAN: i64 = 1_763_683_200;

/// A model that can be ordered from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Model)]
pub struct ModelView {
    /// Its public name, which orders say.
    id: String,
    #[schema(pattern = "^model$")]
    object: &'static str,
    /// For OpenAI's clients: when the catalogue began, in seconds since 1970.
    created: i64,
    /// The provider that is asked first.
    #[schema(required)]
    owned_by: Option<String>,
    /// Its name for people.
    name: String,
    medium: Medium,
    /// What it makes, such as `image.generate`.
    task: String,
    #[schema(required)]
    price: Option<ModelPrice>,
    /// Longest time that a job may take, unless its order says otherwise.
    #[schema(minimum = 1)]
    deadline_seconds: u64,
    /// JSON Schema of its input.
    #[schema(value_type = Object)]
    input_schema: Value,
}

/// What jobs of a model cost.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelPrice {
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
    /// Counted up at each change.
    #[schema(minimum = 1)]
    version: i32,
    /// What each job costs, where that is all there is to it.
    #[schema(required, minimum = 0)]
    per_request: Option<i64>,
    #[schema(value_type = Vec<schema::PriceRule>)]
    rules: Vec<Rule>,
}

/// Every model the caller may use.
#[utoipa::path(
    get,
    path = "/v1/models",
    responses(
        (status = 200, description = "The models", body = WholeList<ModelView>),
        (status = 400, description = "`unknown_query`: there is nothing to ask for", body = ErrorBody),
    )
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    query: Query,
) -> Result<Json<WholeList<ModelView>>, ApiError> {
    query.finish()?;
    let allowed = ctx.catalog.models().iter().filter(|model| caller.may_use(&model.id));
    Ok(Json(WholeList::of(allowed.map(|model| view(&ctx, model)).collect())))
}

/// One model the caller may use.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    params(("id" = String, Path, description = "Public name of a model", example = "nano-banana")),
    responses(
        (status = 200, description = "The model", body = ModelView),
        (status = 404, description = "`model_not_found`", body = ErrorBody),
    )
)]
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<String>,
) -> Result<Json<ModelView>, ApiError> {
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

fn view(ctx: &Ctx, model: &Model) -> ModelView {
    ModelView {
        id: model.id.clone(),
        object: "model",
        created: CATALOG_BEGAN,
        owned_by: model.routes.first().map(|route| route.provider.clone()),
        name: model.name.clone(),
        medium: model.medium,
        task: model.task.clone(),
        price: ctx.prices.get(&model.id).map(|price| show_price(&price)),
        deadline_seconds: model.deadline.as_secs(),
        input_schema: model.schema.clone(),
    }
}

/// The rules of a price; those who pay by request find it without reading them.
fn show_price(price: &Price) -> ModelPrice {
    let per_request = match price.rules.as_slice() {
        [Rule { per: Meter::Request, tokens, .. }] => i64::try_from(*tokens).ok(),
        _ => None,
    };
    ModelPrice { unit: "tokens", version: price.version, per_request, rules: price.rules.clone() }
}
