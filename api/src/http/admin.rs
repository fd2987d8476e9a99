//! Operators and accounts: find, see, set terms, give plans; and who is an operator.
//!
//! Tokens are credited and debited at `/v1/billing/balance`; prices have a file of their own.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::billing::{SubscriptionView, check_reference};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::{By, Caller},
    page::{List, Paging},
    request::{Body, PathId, Query, page_limit, present},
    schema,
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
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TermsPatch {
    /// Tier without any plan.
    base_tier: Option<String>,
    /// A limit of the account's own; null takes it away again.
    #[serde(default, deserialize_with = "present")]
    #[schema(minimum = 1, maximum = 10_000_000)]
    requests_per_hour: Option<Option<i32>>,
    /// Which discount.
    price_group: Option<String>,
    /// How much the account may owe.
    #[schema(minimum = 0, maximum = 1_000_000_000_000i64)]
    credit_limit_tokens: Option<i64>,
}

/// Whether an account may do anything.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = NewAccountStatus)]
enum Status {
    Active,
    Suspended,
}

/// A plan to be begun.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSubscription {
    /// Id of the plan.
    plan: String,
    /// The operator's own name for it; the same name begins nothing twice.
    #[schema(min_length = 1, max_length = 255, pattern = r"\S")]
    reference: String,
}

/// What an operator sees of an account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountTerms)]
pub struct TermsView {
    #[schema(pattern = "^account$")]
    object: &'static str,
    #[schema(value_type = schema::AccountId)]
    id: AccountId,
    /// Name for people.
    name: String,
    #[schema(value_type = schema::AccountStatus)]
    status: String,
    /// The tier that counts now.
    tier: String,
    /// The tier without any plan.
    base_tier: String,
    /// Its own limit, in place of its tier's.
    #[schema(required, minimum = 1)]
    requests_per_hour: Option<i32>,
    /// Which discount it has.
    price_group: String,
    /// How much it may owe.
    #[schema(minimum = 0)]
    credit_limit_tokens: i64,
    /// What it owes.
    #[schema(minimum = 0)]
    owed_tokens: i64,
    /// Free to spend.
    #[schema(minimum = 0)]
    available_tokens: i64,
    /// Set aside by open jobs.
    #[schema(minimum = 0)]
    held_tokens: i64,
    /// Until when it has a plan.
    #[schema(required)]
    subscribed_until: Option<DateTime<Utc>>,
    /// Until when everything is free.
    #[schema(required)]
    unlimited_until: Option<DateTime<Utc>>,
    /// When it was opened.
    created_at: DateTime<Utc>,
}

/// What a person is among operators now.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperatorView {
    #[schema(pattern = "^user$")]
    object: &'static str,
    #[schema(value_type = schema::UserId)]
    id: UserId,
    /// Null for none.
    #[schema(value_type = Option<schema::OperatorRole>, required)]
    operator_role: Option<String>,
}

/// A page of accounts, newest first; `query` looks in names and members' addresses.
#[utoipa::path(
    get,
    path = "/v1/admin/accounts",
    params(
        Paging,
        ("after" = inline(Option<schema::AccountId>), Query, description = "The `last_id` of the page before"),
        ("query" = Option<String>, Query, description = "Only accounts whose name or a member's address holds this"),
    ),
    responses((status = 200, description = "A page of accounts", body = List<TermsView>))
)]
pub async fn accounts(State(ctx): State<Ctx>, mut query: Query) -> Result<Json<List<TermsView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let (text, after) = (query.take::<String>("query")?, query.take::<AccountId>("after")?);
    query.finish()?;
    let found = search(&ctx.db, text.as_deref(), after, limit + 1).await?;
    Ok(Json(List::of(found, limit, |terms| terms.id, show)))
}

/// One account.
#[utoipa::path(
    get,
    path = "/v1/admin/accounts/{id}",
    params(("id" = inline(schema::AccountId), Path, description = "Which account")),
    responses(
        (status = 200, description = "The account", body = TermsView),
        (status = 404, description = "`account_not_found`", body = ErrorBody),
    )
)]
pub async fn account(
    State(ctx): State<Ctx>,
    PathId(id): PathId<AccountId>,
) -> Result<Json<TermsView>, ApiError> {
    Ok(Json(show(terms(&ctx.db, id).await?.ok_or_else(unknown)?)))
}

/// Sets tier, limit, discount and credit of an account.
#[utoipa::path(
    patch,
    path = "/v1/admin/accounts/{id}",
    params(("id" = inline(schema::AccountId), Path, description = "Which account")),
    request_body = TermsPatch,
    responses(
        (status = 200, description = "The account as it is now", body = TermsView),
        (status = 404, description = "`account_not_found`", body = ErrorBody),
    )
)]
pub async fn patch_terms(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<AccountId>,
    body: Body<TermsPatch>,
) -> Result<Json<TermsView>, ApiError> {
    let patch = body.value;
    let new = NewTerms {
        status: None,
        base_tier: patch.base_tier,
        requests_per_hour: patch.requests_per_hour,
        price_group: patch.price_group,
        credit_limit_tokens: patch.credit_limit_tokens,
    };
    check(&new)?;
    Ok(Json(show(set_terms(&ctx.db, Some(&caller), id, &new, &by, ctx.clock.now()).await?)))
}

/// Whether an account may do anything.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStatus {
    status: Status,
}

/// Suspends an account, which ends every login and refuses every key at once, or brings it back.
#[utoipa::path(
    put,
    path = "/v1/admin/accounts/{id}/status",
    params(("id" = inline(schema::AccountId), Path, description = "Which account")),
    request_body = NewStatus,
    responses(
        (status = 200, description = "The account as it is now", body = TermsView),
        (status = 404, description = "`account_not_found`", body = ErrorBody),
    )
)]
pub async fn set_status(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(id): PathId<AccountId>,
    body: Body<NewStatus>,
) -> Result<Json<TermsView>, ApiError> {
    let word = match body.value.status {
        Status::Active => "active",
        Status::Suspended => "suspended",
    };
    let new = NewTerms { status: Some(word.into()), ..NewTerms::default() };
    let set = set_terms(&ctx.db, Some(&caller), id, &new, &by, ctx.clock.now()).await?;
    tracing::info!(account.id = %id, status = word, "{id} is {word}");
    Ok(Json(show(set)))
}

/// Begins a plan for an account.
#[utoipa::path(
    post,
    path = "/v1/admin/accounts/{id}/subscriptions",
    params(("id" = inline(schema::AccountId), Path, description = "Which account")),
    request_body = NewSubscription,
    responses(
        (status = 201, description = "The plan has begun", body = SubscriptionView),
        (status = 404, description = "`account_not_found`", body = ErrorBody),
        (status = 409, description = "`reference_used`: this reference began a plan before", body = ErrorBody),
    )
)]
pub async fn subscribe(
    State(ctx): State<Ctx>,
    By(by): By,
    PathId(id): PathId<AccountId>,
    body: Body<NewSubscription>,
) -> Result<(StatusCode, Json<SubscriptionView>), ApiError> {
    let NewSubscription { plan, reference } = body.value;
    check_reference(&reference)?;
    let begun = billing::subscribe(&ctx.db, id, &plan, &reference, &by, ctx.clock.now()).await?;
    let shown = begun.map_or_else(|| SubscriptionView::over_at_once(plan), SubscriptionView::from);
    Ok((StatusCode::CREATED, Json(shown)))
}

/// What a person is to be among operators.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOperatorRole {
    /// `null` for none; to be said, so that an empty body takes nothing away.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(value_type = Option<schema::OperatorRole>, required)]
    role: Option<OperatorRole>,
}

/// Makes a person an operator, an operator of another kind, or none again.
#[utoipa::path(
    put,
    path = "/v1/admin/users/{id}/operator-role",
    params(("id" = inline(schema::UserId), Path, description = "Which person")),
    request_body = NewOperatorRole,
    responses(
        (status = 200, description = "What the person is now", body = OperatorView),
        (status = 404, description = "`user_not_found`", body = ErrorBody),
        (
            status = 409,
            description = "`user_not_verified`: the person has not verified their address; `last_super_admin`: nobody would \
                           be left who says who is an operator",
            body = ErrorBody
        ),
    )
)]
pub async fn set_operator_role(
    State(ctx): State<Ctx>,
    By(by): By,
    PathId(id): PathId<UserId>,
    body: Body<NewOperatorRole>,
) -> Result<Json<OperatorView>, ApiError> {
    let person = account::set_operator_role(&ctx.db, id, body.value.role, &by, ctx.clock.now()).await?;
    let word = person.operator_role.as_deref().unwrap_or("none");
    tracing::info!(user.id = %id, role = word, "operator's role of {id} is {word}");
    Ok(Json(OperatorView { object: "user", id, operator_role: person.operator_role }))
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

fn show(terms: Terms) -> TermsView {
    TermsView {
        object: "account",
        id: terms.id,
        name: terms.name,
        status: terms.status,
        tier: terms.tier,
        base_tier: terms.base_tier,
        requests_per_hour: terms.requests_per_hour,
        price_group: terms.price_group,
        credit_limit_tokens: terms.credit_limit_tokens,
        owed_tokens: terms.owed_tokens,
        available_tokens: terms.available_tokens,
        held_tokens: terms.held_tokens,
        subscribed_until: terms.subscribed_until,
        unlimited_until: terms.unlimited_until,
        created_at: terms.created_at,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::said;
    use shared::billing::REFERENCE_LEN;

    #[test]
    fn the_document_tells_the_limits_that_are_kept() {
        assert_eq!(said::<TermsPatch>("requests_per_hour", "maximum"), PER_HOUR_MAX);
        assert_eq!(said::<TermsPatch>("credit_limit_tokens", "maximum"), CREDIT_MAX);
        assert_eq!(said::<NewSubscription>("reference", "maxLength"), REFERENCE_LEN);
    }
}
