//! Operators and prices: see what every model costs, how that came to be, and change it.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{fields::words, models};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::By,
    page::WholeList,
    request::{Body, PathId, Query},
    schema,
};
use shared::{
    account::audit::REASON_LEN,
    price::{self, Rule, SetError, Version},
    wake::Wake,
};

/// A price to be set: rules, or the short form of one rule per request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPrice {
    /// Every rule of the price; for each input one of each meter must count.
    #[schema(value_type = Option<Vec<schema::PriceRule>>, min_items = 1, max_items = 100)]
    rules: Option<Vec<Rule>>,
    /// In place of rules: so many tokens for each job.
    #[schema(maximum = 1_000_000_000)]
    tokens: Option<u64>,
    /// Why, for those who look at the history later.
    #[schema(min_length = 1, max_length = 1000, pattern = r"\S")]
    reason: String,
}

/// One version of what a model costs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PriceVersion)]
pub struct PriceView {
    #[schema(pattern = "^price$")]
    object: &'static str,
    model: String,
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
    /// 1, 2, …
    #[schema(minimum = 1)]
    version: i32,
    #[schema(value_type = Vec<schema::PriceRule>)]
    rules: Value,
    /// Who made it: the catalogue, or a person.
    #[schema(pattern = "^(catalog|operator)$")]
    source: String,
    /// Why, for changes by people.
    #[schema(required)]
    reason: Option<String>,
    /// When it began to count.
    created_at: DateTime<Utc>,
}

impl NewPrice {
    fn into_rules(self) -> Result<Vec<Rule>, ApiError> {
        match (self.rules, self.tokens) {
            (Some(rules), None) => Ok(rules),
            (None, Some(tokens)) => Ok(vec![Rule::per_request(tokens)]),
            _ => Err(ApiError::bad_request("invalid_price", "rules", "say either rules or tokens")),
        }
    }
}

/// What every model costs now.
#[utoipa::path(
    get,
    path = "/v1/admin/prices",
    responses(
        (status = 200, description = "The newest version of every price", body = WholeList<PriceView>),
        (status = 400, description = "`unknown_query`: there is nothing to ask for", body = ErrorBody),
    )
)]
pub async fn list(State(ctx): State<Ctx>, query: Query) -> Result<Json<WholeList<PriceView>>, ApiError> {
    query.finish()?;
    let current = price::current(&ctx.db).await?;
    Ok(Json(WholeList::of(current.into_iter().map(show).collect())))
}

/// Every version of a model's price, newest first.
#[utoipa::path(
    get,
    path = "/v1/admin/prices/{model}",
    params(("model" = String, Path, description = "Public name of the model")),
    responses(
        (status = 200, description = "Every version", body = WholeList<PriceView>),
        (status = 400, description = "`unknown_query`: there is nothing to ask for", body = ErrorBody),
        (status = 404, description = "`model_not_found`", body = ErrorBody),
    )
)]
pub async fn history(
    State(ctx): State<Ctx>,
    PathId(model): PathId<String>,
    query: Query,
) -> Result<Json<WholeList<PriceView>>, ApiError> {
    query.finish()?;
    let versions = price::history(&ctx.db, &model).await?;
    if versions.is_empty() {
        return Err(models::unknown(&model));
    }
    Ok(Json(WholeList::of(versions.into_iter().map(show).collect())))
}

/// Sets a price for jobs from now on.
#[utoipa::path(
    put,
    path = "/v1/admin/prices/{model}",
    params(("model" = String, Path, description = "Public name of the model")),
    request_body = NewPrice,
    responses(
        (status = 200, description = "The new version", body = PriceView),
        (status = 404, description = "`model_not_found`", body = ErrorBody),
    )
)]
pub async fn set(
    State(ctx): State<Ctx>,
    By(by): By,
    PathId(model): PathId<String>,
    body: Body<NewPrice>,
) -> Result<Json<PriceView>, ApiError> {
    let reason = body.value.reason.clone();
    words("reason", &reason, REASON_LEN)?;
    let rules = body.value.into_rules()?;
    let version = price::set(&ctx.db, &ctx.catalog, &model, &rules, &reason, &by, ctx.clock.now()).await?;
    tracing::info!(model, version = version.version, "price of {model} set by an operator");
    ctx.wakes.send(Wake::Prices);
    // Whoever set a price and submits right afterwards pays the new one, at this process at least.
    if let Err(error) = ctx.prices.refresh(&ctx.db).await {
        tracing::error!(error = format!("{error:#}"), "prices not refreshed; those known go on");
    }
    Ok(Json(show(version)))
}

fn show(version: Version) -> PriceView {
    PriceView {
        object: "price",
        model: version.model,
        unit: "tokens",
        version: version.version,
        rules: version.rules,
        source: version.source,
        reason: version.reason,
        created_at: version.created_at,
    }
}

impl From<SetError> for ApiError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::UnknownModel(model) => models::unknown(&model),
            SetError::Invalid(why) => Self::bad_request("invalid_price", "rules", why),
            SetError::Db(error) => error.into(),
        }
    }
}
