//! What an account has; and operators' credits and debits.
//!
//! How it came to what it has is in `transactions.rs`.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::{is_to_come, words};
use crate::{
    ApiError, Ctx,
    access::{By, Caller},
    page,
    request::{Body, Query, page_limit},
};
use shared::{
    account::audit::REASON_LEN,
    billing::{self, ADJUST_MAX, Adjustment, Grant, REFERENCE_LEN, Subscription},
    id::{AccountId, EntryId, GrantId},
};

/// An operator's movement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMovement {
    account: AccountId,
    /// Tokens to give, or with a minus to take.
    amount: i64,
    /// Until when given tokens can be spent; absent: for ever.
    expires_at: Option<DateTime<Utc>>,
    reason: String,
    /// The operator's own name for this movement; the same name moves nothing twice.
    reference: Option<String>,
}

/// What the caller's account has and owes.
pub async fn balance(State(ctx): State<Ctx>, Caller(caller): Caller) -> Result<Json<Value>, ApiError> {
    Ok(Json(show(&ctx, caller.account).await?))
}

/// Gives tokens to an account or takes some back.
pub async fn adjust(
    State(ctx): State<Ctx>,
    By(by): By,
    body: Body<NewMovement>,
) -> Result<Json<Value>, ApiError> {
    let NewMovement { account, amount, expires_at, reason, reference } = body.value;
    let now = ctx.clock.now();
    if amount == 0 || amount.saturating_abs() > ADJUST_MAX {
        let message = format!("amount is a whole number from -{ADJUST_MAX} to {ADJUST_MAX}, and not 0");
        return Err(ApiError::bad_request("invalid_amount", "amount", message));
    }
    if expires_at.is_some_and(|at| !is_to_come(at, now) || amount < 0) {
        let message = "expires_at is a time to come, and only for tokens that are given";
        return Err(ApiError::bad_request("invalid_expires_at", "expires_at", message));
    }
    if reason.trim().is_empty() {
        return Err(ApiError::bad_request("missing_field", "reason", "say why, for the books"));
    }
    words("reason", &reason, REASON_LEN)?;
    if let Some(reference) = &reference {
        check_reference(reference)?;
    }
    let reference = reference.unwrap_or_else(|| EntryId::new().to_string());
    let adjustment = Adjustment { account, amount, expires_at, reference, reason };
    billing::adjust(&ctx.db, &adjustment, &by, now).await?;
    tracing::info!(account.id = %account, amount, "tokens of {account} moved by an operator");
    Ok(Json(show(&ctx, account).await?))
}

/// Refuses a reference that no book should hold.
///
/// # Errors
/// 400 naming it.
pub fn check_reference(reference: &str) -> Result<(), ApiError> {
    words("reference", reference, REFERENCE_LEN)
}

/// What can be bought.
pub async fn plans(State(ctx): State<Ctx>) -> Result<Json<Value>, ApiError> {
    let plans = billing::plans(&ctx.db).await?;
    let data: Vec<_> = plans
        .iter()
        .filter(|plan| plan.on_sale)
        .map(|plan| {
            json!({
                "id": plan.plan, "object": "plan", "name": plan.name, "unit": "tokens", "tokens": plan.tokens,
                "days": plan.days, "unlimited": plan.unlimited, "tier": plan.tier, "price_rub": plan.price_rub,
            })
        })
        .collect();
    Ok(Json(json!({ "object": "list", "data": data, "has_more": false })))
}

/// The account's plans, newest first.
pub async fn subscriptions(State(ctx): State<Ctx>, Caller(caller): Caller) -> Result<Json<Value>, ApiError> {
    let found = billing::subscriptions(&ctx.db, caller.account).await?;
    let data: Vec<_> = found.iter().map(show_subscription).collect();
    Ok(Json(json!({ "object": "list", "data": data, "has_more": false })))
}

/// A subscription as the API shows it.
pub fn show_subscription(subscription: &Subscription) -> Value {
    json!({
        "id": subscription.id, "object": "subscription", "plan": subscription.plan, "status": subscription.status,
        "starts_at": subscription.starts_at, "ends_at": subscription.ends_at,
    })
}

/// A page of what the account was given, newest first, with what is left of what expires.
pub async fn grants(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<GrantId>("after")?;
    query.finish()?;
    let grants = billing::grants(&ctx.db, caller.account, after, limit + 1).await?;
    Ok(page::answer(grants, limit, |grant| grant.id, show_grant))
}

fn show_grant(grant: Grant) -> Value {
    json!({
        "id": grant.id, "object": "grant", "unit": "tokens", "source": grant.source, "tokens": grant.tokens,
        "remaining": grant.remaining, "expires_at": grant.expires_at, "reason": grant.reason,
        "created_at": grant.created_at,
    })
}

async fn show(ctx: &Ctx, account: AccountId) -> Result<Value, ApiError> {
    let balance = billing::balance(&ctx.db, account).await?.ok_or_else(ApiError::internal)?;
    Ok(json!({
        "object": "balance", "account": account, "unit": "tokens", "available": balance.available, "held": balance.held,
        "expiring": balance.expiring, "next_expiry": balance.next_expiry,
        "credit": { "limit": balance.credit_limit, "owed": balance.owed },
    }))
}
