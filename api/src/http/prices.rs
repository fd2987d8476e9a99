//! Operators and prices: see what every model costs, how that came to be, and change it.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{fields::words, models};
use crate::{
    ApiError, Ctx,
    access::By,
    request::{Body, PathId, Query},
};
use shared::{
    account::audit::REASON_LEN,
    price::{self, Rule, SetError, Version},
    wake::Wake,
};

/// A price to be set: rules, or the short form of one rule per request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPrice {
    rules: Option<Vec<Rule>>,
    tokens: Option<u64>,
    /// Why, for those who look at the history later.
    reason: String,
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
pub async fn list(State(ctx): State<Ctx>, query: Query) -> Result<Json<Value>, ApiError> {
    query.finish()?;
    let current = price::current(&ctx.db).await?;
    let data: Vec<_> = current.iter().map(show).collect();
    Ok(Json(json!({ "object": "list", "data": data, "has_more": false })))
}

/// Every version of a model's price, newest first.
pub async fn history(
    State(ctx): State<Ctx>,
    PathId(model): PathId<String>,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    query.finish()?;
    let versions = price::history(&ctx.db, &model).await?;
    if versions.is_empty() {
        return Err(models::unknown(&model));
    }
    let data: Vec<_> = versions.iter().map(show).collect();
    Ok(Json(json!({ "object": "list", "data": data, "has_more": false })))
}

/// Sets a price for jobs from now on.
pub async fn set(
    State(ctx): State<Ctx>,
    By(by): By,
    PathId(model): PathId<String>,
    body: Body<NewPrice>,
) -> Result<Json<Value>, ApiError> {
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
    Ok(Json(show(&version)))
}

fn show(version: &Version) -> Value {
    json!({
        "object": "price", "model": version.model, "unit": "tokens", "version": version.version,
        "rules": version.rules, "source": version.source, "reason": version.reason,
        "created_at": version.created_at,
    })
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
