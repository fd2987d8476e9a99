//! What an account has; and operators' credits and debits.
//!
//! How it came to what it has is in `transactions.rs`.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fields::{is_to_come, words};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::{By, Caller},
    page::{List, Paging, WholeList},
    request::{Body, Query, page_limit},
    schema,
};
use shared::{
    account::audit::REASON_LEN,
    billing::{self, ADJUST_MAX, Adjustment, Grant, Plan, REFERENCE_LEN, Subscription},
    id::{AccountId, EntryId, GrantId, SubscriptionId},
};

/// An operator's movement.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMovement {
    /// Whose tokens.
    #[schema(value_type = schema::AccountId)]
    account: AccountId,
    /// Tokens to give, or with a minus to take; not 0.
    #[schema(minimum = -1_000_000_000_000i64, maximum = 1_000_000_000_000i64)]
    amount: i64,
    /// Until when given tokens can be spent; absent: for ever.
    expires_at: Option<DateTime<Utc>>,
    /// Why, for the books.
    #[schema(min_length = 1, max_length = 1000, pattern = r"\S")]
    reason: String,
    /// The operator's own name for this movement; the same name moves nothing twice.
    #[schema(min_length = 1, max_length = 255, pattern = r"\S")]
    reference: Option<String>,
}

/// What an account has and owes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Balance)]
pub struct BalanceView {
    #[schema(pattern = "^balance$")]
    object: &'static str,
    /// Whose.
    #[schema(value_type = schema::AccountId)]
    account: AccountId,
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
    /// Free to spend.
    #[schema(minimum = 0)]
    available: i64,
    /// Set aside by open jobs.
    #[schema(minimum = 0)]
    held: i64,
    /// Part of `available` that expires some day.
    #[schema(minimum = 0)]
    expiring: i64,
    /// When the first of it does.
    #[schema(required)]
    next_expiry: Option<DateTime<Utc>>,
    credit: CreditView,
}

/// What an account may owe, and does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Credit)]
pub struct CreditView {
    /// How much it may owe.
    #[schema(minimum = 0)]
    limit: i64,
    /// Drawn and not paid back.
    #[schema(minimum = 0)]
    owed: i64,
}

/// A plan as it is sold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plan)]
pub struct PlanView {
    /// Such as `month`.
    id: String,
    #[schema(pattern = "^plan$")]
    object: &'static str,
    /// Name for people.
    name: String,
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
    /// Tokens it gives at its start.
    #[schema(minimum = 0)]
    tokens: i64,
    /// How long plan and tokens last; null: tokens that stay, and no subscription.
    #[schema(required, minimum = 1)]
    days: Option<i32>,
    /// Whether every job is free while it lasts.
    unlimited: bool,
    /// Tier it brings.
    tier: String,
    /// What it costs, in roubles.
    #[schema(value_type = schema::Amount)]
    price_rub: Decimal,
}

/// A plan that an account has or had. One whose tokens stay is over at once: it has no id and no times.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscription)]
pub struct SubscriptionView {
    #[schema(value_type = Option<schema::SubscriptionId>, required)]
    id: Option<SubscriptionId>,
    #[schema(pattern = "^subscription$")]
    object: &'static str,
    /// Which plan.
    plan: String,
    #[schema(pattern = "^(active|ended)$")]
    status: String,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<DateTime<Utc>>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<DateTime<Utc>>,
}

/// Tokens that an account was given.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Grant)]
pub struct GrantView {
    #[schema(value_type = schema::GrantId)]
    id: GrantId,
    #[schema(pattern = "^grant$")]
    object: &'static str,
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
    /// Where they came from.
    #[schema(pattern = "^(operator|plan|start)$")]
    source: String,
    /// How many there were.
    #[schema(minimum = 1)]
    tokens: i64,
    /// How many of them are available now; null for grants that do not expire, which are not told apart.
    #[schema(required, minimum = 0)]
    remaining: Option<i64>,
    /// When what is left goes.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// Why, for people.
    #[schema(required)]
    reason: Option<String>,
    created_at: DateTime<Utc>,
}

/// What the caller's account has and owes.
#[utoipa::path(
    get,
    path = "/v1/billing/balance",
    responses((status = 200, description = "The balance", body = BalanceView))
)]
pub async fn balance(State(ctx): State<Ctx>, Caller(caller): Caller) -> Result<Json<BalanceView>, ApiError> {
    Ok(Json(show(&ctx, caller.account).await?))
}

/// Gives tokens to an account or takes some back.
#[utoipa::path(
    post,
    path = "/v1/billing/balance",
    request_body = NewMovement,
    responses(
        (status = 200, description = "The balance afterwards", body = BalanceView),
        (status = 404, description = "`account_not_found`", body = ErrorBody),
        (status = 409, description = "`reference_used`: this reference moved tokens before", body = ErrorBody),
    )
)]
pub async fn adjust(
    State(ctx): State<Ctx>,
    By(by): By,
    body: Body<NewMovement>,
) -> Result<Json<BalanceView>, ApiError> {
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
#[utoipa::path(
    get,
    path = "/v1/plans",
    responses(
        (status = 200, description = "The plans on sale, the cheapest first", body = WholeList<PlanView>),
        (status = 400, description = "`unknown_query`: there is nothing to ask for", body = ErrorBody),
    )
)]
pub async fn plans(State(ctx): State<Ctx>, query: Query) -> Result<Json<WholeList<PlanView>>, ApiError> {
    query.finish()?;
    let plans = billing::plans(&ctx.db).await?;
    Ok(Json(WholeList::of(plans.into_iter().filter(|plan| plan.on_sale).map(show_plan).collect())))
}

/// A page of the plans that the account has or had, newest first.
#[utoipa::path(
    get,
    path = "/v1/billing/subscriptions",
    params(
        Paging,
        ("after" = inline(Option<schema::SubscriptionId>), Query, description = "The `last_id` of the page before"),
    ),
    responses((status = 200, description = "A page of plans", body = List<SubscriptionView>))
)]
pub async fn subscriptions(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<SubscriptionView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<SubscriptionId>("after")?;
    query.finish()?;
    let found = billing::subscriptions(&ctx.db, caller.account, after, limit + 1).await?;
    Ok(Json(List::of(found, limit, |plan| plan.id, SubscriptionView::from)))
}

impl From<Subscription> for SubscriptionView {
    fn from(subscription: Subscription) -> Self {
        Self {
            id: Some(subscription.id),
            object: "subscription",
            plan: subscription.plan,
            status: subscription.status,
            starts_at: Some(subscription.starts_at),
            ends_at: Some(subscription.ends_at),
        }
    }
}

impl SubscriptionView {
    /// A plan that gave tokens which stay, and nothing more.
    pub fn over_at_once(plan: String) -> Self {
        Self {
            id: None,
            object: "subscription",
            plan,
            status: "ended".into(),
            starts_at: None,
            ends_at: None,
        }
    }
}

/// A page of what the account was given, newest first, with what is left of what expires.
#[utoipa::path(
    get,
    path = "/v1/billing/grants",
    params(
        Paging,
        ("after" = inline(Option<schema::GrantId>), Query, description = "The `last_id` of the page before"),
    ),
    responses((status = 200, description = "A page of grants", body = List<GrantView>))
)]
pub async fn grants(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<GrantView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<GrantId>("after")?;
    query.finish()?;
    let grants = billing::grants(&ctx.db, caller.account, after, limit + 1).await?;
    Ok(Json(List::of(grants, limit, |grant| grant.id, show_grant)))
}

fn show_plan(plan: Plan) -> PlanView {
    PlanView {
        id: plan.plan,
        object: "plan",
        name: plan.name,
        unit: "tokens",
        tokens: plan.tokens,
        days: plan.days,
        unlimited: plan.unlimited,
        tier: plan.tier,
        price_rub: plan.price_rub,
    }
}

fn show_grant(grant: Grant) -> GrantView {
    GrantView {
        id: grant.id,
        object: "grant",
        unit: "tokens",
        source: grant.source,
        tokens: grant.tokens,
        remaining: grant.remaining,
        expires_at: grant.expires_at,
        reason: grant.reason,
        created_at: grant.created_at,
    }
}

async fn show(ctx: &Ctx, account: AccountId) -> Result<BalanceView, ApiError> {
    let balance = billing::balance(&ctx.db, account).await?.ok_or_else(ApiError::internal)?;
    Ok(BalanceView {
        object: "balance",
        account,
        unit: "tokens",
        available: balance.available,
        held: balance.held,
        expiring: balance.expiring,
        next_expiry: balance.next_expiry,
        credit: CreditView { limit: balance.credit_limit, owed: balance.owed },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::said;

    #[test]
    fn the_document_tells_the_limits_that_are_kept() {
        assert_eq!(said::<NewMovement>("amount", "maximum"), ADJUST_MAX);
        assert_eq!(said::<NewMovement>("amount", "minimum"), -ADJUST_MAX);
        assert_eq!(said::<NewMovement>("reason", "maxLength"), REASON_LEN);
        assert_eq!(said::<NewMovement>("reference", "maxLength"), REFERENCE_LEN);
    }
}
