//! Operators and accounts: find, see, set terms, give plans; and who is an operator.
//!
//! Tokens are credited and debited at `/v1/billing/balance`; prices have a file of their own.

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::billing::{check_reference, show_subscription};
use crate::{
    ApiError, Ctx,
    access::{By, Caller},
    page,
    request::{Body, PathId, Query, page_limit, present},
};
use shared::{
    account::{
        self, CREDIT_MAX, NewTerms, OperatorError, OperatorRole, PER_HOUR_MAX, Terms, search, set_terms,
        terms,
    },
    billing::{self, BeginError, MoveError},
    id::{AccountId, UserId},
};

/// Terms to be set; what is absent stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsPatch {
    base_tier: Option<String>,
    #[serde(default, deserialize_with = "present")]
    requests_per_hour: Option<Option<i32>>,
    price_group: Option<String>,
    credit_limit_tokens: Option<i64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Active,
    Suspended,
}

/// A plan to be begun.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSubscription {
    plan: String,
    /// The operator's own name for it; the same name begins nothing twice.
    reference: String,
}

/// A page of accounts, newest first; `query` looks in names and members' addresses.
pub async fn accounts(State(ctx): State<Ctx>, mut query: Query) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let (text, after) = (query.take::<String>("query")?, query.take::<AccountId>("after")?);
    query.finish()?;
    let found = search(&ctx.db, text.as_deref(), after, limit + 1).await?;
    Ok(page::answer(found, limit, |terms| terms.id, |terms| show(&terms)))
}

/// One account.
pub async fn account(State(ctx): State<Ctx>, PathId(id): PathId<AccountId>) -> Result<Json<Value>, ApiError> {
    let found = terms(&ctx.db, id).await?.ok_or_else(unknown)?;
    Ok(Json(show(&found)))
}

/// Sets tier, limit, discount and credit of an account.
pub async fn patch_terms(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<AccountId>,
    body: Body<TermsPatch>,
) -> Result<Json<Value>, ApiError> {
    let patch = body.value;
    let new = NewTerms {
        status: None,
        base_tier: patch.base_tier,
        requests_per_hour: patch.requests_per_hour,
        price_group: patch.price_group,
        credit_limit_tokens: patch.credit_limit_tokens,
    };
    check(&new)?;
    Ok(Json(show(&set_terms(&ctx.db, Some(&caller), id, &new, &by, ctx.clock.now()).await?)))
}

/// Whether an account may do anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewStatus {
    status: Status,
}

/// Suspends an account, which ends every login and refuses every key at once, or brings it back.
pub async fn set_status(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<AccountId>,
    body: Body<NewStatus>,
) -> Result<Json<Value>, ApiError> {
    let word = match body.value.status {
        Status::Active => "active",
        Status::Suspended => "suspended",
    };
    let new = NewTerms { status: Some(word.into()), ..NewTerms::default() };
    let set = set_terms(&ctx.db, Some(&caller), id, &new, &by, ctx.clock.now()).await?;
    tracing::info!(account.id = %id, status = word, "{id} is {word}");
    Ok(Json(show(&set)))
}

/// Begins a plan for an account.
pub async fn subscribe(
    State(ctx): State<Ctx>,
    By(by): By,
    PathId(id): PathId<AccountId>,
    body: Body<NewSubscription>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let NewSubscription { plan, reference } = body.value;
    check_reference(&reference)?;
    let begun = billing::subscribe(&ctx.db, id, &plan, &reference, &by, ctx.clock.now()).await?;
    let shown = match &begun {
        Some(subscription) => show_subscription(subscription),
        None => json!({ "object": "subscription", "id": null, "plan": plan, "status": "ended" }),
    };
    Ok((StatusCode::CREATED, Json(shown)))
}

/// What a person is to be among operators.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOperatorRole {
    /// `null` for none; to be said, so that an empty body takes nothing away.
    #[serde(deserialize_with = "Option::deserialize")]
    role: Option<OperatorRole>,
}

/// Makes a person an operator, an operator of another kind, or none again.
pub async fn set_operator_role(
    State(ctx): State<Ctx>,
    By(by): By,
    PathId(id): PathId<UserId>,
    body: Body<NewOperatorRole>,
) -> Result<Json<Value>, ApiError> {
    let person = account::set_operator_role(&ctx.db, id, body.value.role, &by, ctx.clock.now()).await?;
    let word = person.operator_role.as_deref().unwrap_or("none");
    tracing::info!(user.id = %id, role = word, "operator's role of {id} is {word}");
    Ok(Json(json!({ "object": "user", "id": id, "operator_role": person.operator_role })))
}

fn check(new: &NewTerms) -> Result<(), ApiError> {
    if let Some(Some(per_hour)) = new.requests_per_hour
        && !(1..=PER_HOUR_MAX).contains(&per_hour)
    {
        let message = format!("requests_per_hour is a whole number from 1 to {PER_HOUR_MAX}, or null");
        return Err(ApiError::bad_request("invalid_limit", "requests_per_hour", message));
    }
    if let Some(credit) = new.credit_limit_tokens
        && !(0..=CREDIT_MAX).contains(&credit)
    {
        let message = format!("credit_limit_tokens is a whole number from 0 to {CREDIT_MAX}");
        return Err(ApiError::bad_request("invalid_limit", "credit_limit_tokens", message));
    }
    Ok(())
}

fn show(terms: &Terms) -> Value {
    let mut shown = json!(terms);
    shown["object"] = json!("account");
    shown
}

fn unknown() -> ApiError {
    ApiError::not_found("account_not_found", Some("id"), "no such account")
}

impl From<OperatorError> for ApiError {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::UnknownUser => Self::not_found("user_not_found", Some("id"), "no such person"),
            OperatorError::Unverified => {
                Self::conflict("user_not_verified", "the person has not verified their address")
            }
            OperatorError::LastSuperAdmin => Self::conflict(
                "last_super_admin",
                "the platform keeps at least one super admin; the last one is changed at the command line",
            ),
            OperatorError::Db(error) => error.into(),
        }
    }
}

impl From<BeginError> for ApiError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::UnknownPlan => {
                Self::bad_request("plan_not_found", "plan", "there is no such plan; see /v1/plans")
            }
            BeginError::Move(MoveError::UnknownAccount) => unknown(),
            BeginError::Move(error) => error.into(),
        }
    }
}
