//! People about themselves, and an account about itself.

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    auth::{consent_required, person},
    fields::{self, check_version},
};
use crate::{
    ApiError, Ctx,
    access::{By, Caller},
    page,
    request::{Body, PathId, Query, page_limit, present},
};
use shared::{
    account::{self, NewProfile, PERSONAL_DATA, Profile, Session, Which},
    id::SessionId,
};

/// Highest threshold of a low balance: a slip of the finger stays small.
const LOW_BALANCE_MAX: i64 = 1_000_000_000_000;

/// What a person changes about themselves.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonPatch {
    name: String,
}

/// What an account says of itself; what is absent stays, null clears.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfilePatch {
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    website: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    phone: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    address: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    low_balance_tokens: Option<Option<i64>>,
}

/// A consent to a version of a document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewConsent {
    document: String,
    version: String,
}

/// Who is logged in, and which accounts they belong to.
pub async fn me(State(ctx): State<Ctx>, Caller(caller): Caller) -> Result<Json<Value>, ApiError> {
    let (user, session) = person(&caller)?;
    let known = account::user(&ctx.db, user).await?.ok_or_else(ApiError::invalid_token)?;
    let accounts: Vec<_> = account::memberships(&ctx.db, user)
        .await?
        .into_iter()
        .map(|one| json!({ "id": one.account, "name": one.name, "role": one.role, "status": one.status }))
        .collect();
    Ok(Json(json!({
        "object": "user", "id": known.id, "email": known.email, "name": known.name, "operator_role": known.operator_role,
        "account": caller.account, "session": session, "accounts": accounts, "created_at": known.created_at,
    })))
}

/// Calls whoever is logged in by another name.
pub async fn rename(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<PersonPatch>,
) -> Result<Json<Value>, ApiError> {
    let (user, _) = person(&caller)?;
    let name = fields::name("name", &body.value.name)?;
    account::rename_user(&ctx.db, &caller, user, &name, &by, ctx.clock.now()).await?;
    me(State(ctx), Caller(caller)).await
}

/// A page of one's own sessions, newest first.
pub async fn sessions(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let (user, current) = person(&caller)?;
    let limit = page_limit(&mut query)?;
    let after = query.take::<SessionId>("after")?;
    query.finish()?;
    let found = account::sessions(&ctx.db, user, after, limit + 1, ctx.clock.now()).await?;
    Ok(page::answer(found, limit, |session| session.id, |session| show_session(&session, current)))
}

/// Ends one of one's own sessions.
pub async fn end_session(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(session): PathId<SessionId>,
) -> Result<Json<Value>, ApiError> {
    let (user, _) = person(&caller)?;
    let which = Which::Only(session);
    let ended = account::log_out(&ctx.db, &caller, user, which, &by, ctx.clock.now()).await?;
    if ended == 0 {
        return Err(ApiError::not_found("session_not_found", Some("id"), "you have no such session"));
    }
    Ok(Json(json!({ "object": "session", "id": session, "deleted": true })))
}

/// The account and how it stands.
pub async fn show(State(ctx): State<Ctx>, Caller(caller): Caller) -> Result<Json<Value>, ApiError> {
    let profile = account::profile(&ctx.db, caller.account).await?.ok_or_else(ApiError::internal)?;
    let mut shown = show_profile(&ctx, &profile);
    // Only people agree to something.
    shown["consent_required"] = match caller.actor.user() {
        Some(user) => consent_required(&ctx, user).await?.into(),
        None => Value::Null,
    };
    Ok(Json(shown))
}

/// Changes what the account says of itself.
pub async fn change(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<ProfilePatch>,
) -> Result<Json<Value>, ApiError> {
    let patch = body.value;
    let text = |given: Option<Option<String>>, read: fn(&str) -> Result<Option<String>, ApiError>| {
        given.map(|text| text.map_or(Ok(None), |text| read(&text))).transpose()
    };
    if patch.low_balance_tokens.flatten().is_some_and(|tokens| !(0..=LOW_BALANCE_MAX).contains(&tokens)) {
        let message = format!("low_balance_tokens is a whole number from 0 to {LOW_BALANCE_MAX}, or null");
        return Err(ApiError::bad_request("invalid_amount", "low_balance_tokens", message));
    }
    let new = NewProfile {
        name: patch.name.map(|name| fields::name("name", &name)).transpose()?,
        description: text(patch.description, fields::description)?,
        website: text(patch.website, fields::website)?,
        phone: text(patch.phone, fields::phone)?,
        address: text(patch.address, fields::address)?,
        low_balance_tokens: patch.low_balance_tokens,
    };
    if !account::change_profile(&ctx.db, caller.account, &new, &by, ctx.clock.now()).await? {
        return Err(ApiError::internal());
    }
    show(State(ctx), Caller(caller)).await
}

/// What whoever is logged in agreed to, newest first.
pub async fn consents(State(ctx): State<Ctx>, Caller(caller): Caller) -> Result<Json<Value>, ApiError> {
    let (user, _) = person(&caller)?;
    let given: Vec<_> = account::consents(&ctx.db, user)
        .await?
        .into_iter()
        .map(|one| {
            json!({ "object": "consent", "document": one.document, "version": one.version, "given_at": one.given_at })
        })
        .collect();
    Ok(Json(json!({
        "object": "list", "data": given, "has_more": false, "current_version": ctx.people.consent_version,
    })))
}

/// Takes the consent of whoever is logged in.
pub async fn consent(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<NewConsent>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (user, _) = person(&caller)?;
    let NewConsent { document, version } = body.value;
    if document != PERSONAL_DATA {
        let message = format!("document is {PERSONAL_DATA:?}");
        return Err(ApiError::bad_request("invalid_document", "document", message));
    }
    check_version(&ctx, &version, "version")?;
    account::consent(&ctx.db, caller.account, user, &version, &by, ctx.clock.now()).await?;
    let Json(list) = consents(State(ctx), Caller(caller)).await?;
    Ok((StatusCode::CREATED, Json(list)))
}

fn show_session(session: &Session, current: SessionId) -> Value {
    json!({
        "object": "session", "id": session.id, "account": session.account, "current": session.id == current,
        "created_at": session.created_at, "refreshed_at": session.refreshed_at, "expires_at": session.expires_at,
    })
}

fn show_profile(ctx: &Ctx, profile: &Profile) -> Value {
    json!({
        "object": "account", "id": profile.id, "name": profile.name, "status": profile.status,
        "description": profile.description, "website": profile.website, "phone": profile.phone,
        "address": profile.address,
        "tier": profile.tier, "base_tier": profile.base_tier,
        "limits": { "requests_per_hour": profile.requests_per_hour },
        "price_group": profile.price_group, "price_percent": profile.price_percent,
        "credit_limit_tokens": profile.credit_limit_tokens, "owed_tokens": profile.owed_tokens,
        "subscribed_until": profile.subscribed_until, "unlimited_until": profile.unlimited_until,
        "low_balance_tokens": profile.low_balance_tokens,
        "consent": {
            "document": PERSONAL_DATA, "version": profile.consent_version, "given_at": profile.consent_given_at,
            "current_version": ctx.people.consent_version,
        },
        "created_at": profile.created_at,
    })
}
