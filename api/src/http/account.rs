//! People about themselves, and an account about itself.

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    account_view::{
        AccountView, ConsentView, Consents, Deleted, MeView, MembershipView, SessionView, WebhookSecret,
    },
    auth::{consent_required, person},
    fields::{self, check_version},
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::{By, Caller},
    page::{List, Paging},
    request::{Body, PathId, Query, page_limit, present},
    schema,
};
use shared::{
    account::{self, NewProfile, PERSONAL_DATA, Which},
    id::SessionId,
};

/// Highest threshold of a low balance: a slip of the finger stays small.
const LOW_BALANCE_MAX: i64 = 1_000_000_000_000;

/// What a person changes about themselves.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonPatch {
    /// One line.
    #[schema(min_length = 1, max_length = 200, pattern = r"\S")]
    name: String,
}

/// What an account says of itself; what is absent stays, null clears.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AccountPatch)]
pub struct ProfilePatch {
    /// Name of the company or person, in one line.
    #[schema(min_length = 1, max_length = 200, pattern = r"\S")]
    name: Option<String>,
    /// What it does.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 2000)]
    description: Option<Option<String>>,
    /// An http or https URL.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 2000)]
    website: Option<Option<String>>,
    /// Digits, with a plus before them or none.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 20, pattern = r"^(\+?[0-9]{5,20})?$")]
    phone: Option<Option<String>>,
    /// A postal address.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 500)]
    address: Option<Option<String>>,
    /// Tokens below which it wants to be told; null: what the deployment has for all.
    #[serde(default, deserialize_with = "present")]
    #[schema(minimum = 0, maximum = 1_000_000_000_000i64)]
    low_balance_tokens: Option<Option<i64>>,
}

/// A consent to a version of a document.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConsent {
    #[schema(value_type = schema::Document)]
    document: String,
    /// The current one.
    version: String,
}

/// Who is logged in, and which accounts they belong to.
#[utoipa::path(
    get,
    path = "/v1/me",
    responses((status = 200, description = "The person", body = MeView))
)]
pub async fn me(State(ctx): State<Ctx>, Caller(caller): Caller) -> Result<Json<MeView>, ApiError> {
    let (user, session) = person(&caller)?;
    let known = account::user(&ctx.db, user).await?.ok_or_else(ApiError::invalid_token)?;
    let accounts = account::memberships(&ctx.db, user).await?;
    let accounts = accounts.into_iter().map(MembershipView::from).collect();
    Ok(Json(MeView::of(known, caller.account, session, accounts)))
}

/// Calls whoever is logged in by another name.
#[utoipa::path(
    patch,
    path = "/v1/me",
    request_body = PersonPatch,
    responses((status = 200, description = "The person as they are now", body = MeView))
)]
pub async fn rename(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<PersonPatch>,
) -> Result<Json<MeView>, ApiError> {
    let (user, _) = person(&caller)?;
    let name = fields::name("name", &body.value.name)?;
    account::rename_user(&ctx.db, &caller, user, &name, &by, ctx.clock.now()).await?;
    me(State(ctx), Caller(caller)).await
}

/// A page of one's own sessions, newest first.
#[utoipa::path(
    get,
    path = "/v1/me/sessions",
    params(
        Paging,
        ("after" = inline(Option<schema::SessionId>), Query, description = "The `last_id` of the page before"),
    ),
    responses((status = 200, description = "A page of sessions that have not ended", body = List<SessionView>))
)]
pub async fn sessions(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<SessionView>>, ApiError> {
    let (user, current) = person(&caller)?;
    let limit = page_limit(&mut query)?;
    let after = query.take::<SessionId>("after")?;
    query.finish()?;
    let found = account::sessions(&ctx.db, user, after, limit + 1, ctx.clock.now()).await?;
    Ok(Json(List::of(found, limit, |session| session.id, |session| SessionView::of(session, current))))
}

/// Ends one of one's own sessions.
#[utoipa::path(
    delete,
    path = "/v1/me/sessions/{id}",
    params(("id" = inline(schema::SessionId), Path, description = "Which session")),
    responses(
        (status = 200, description = "It has ended", body = Deleted),
        (status = 404, description = "`session_not_found`", body = ErrorBody),
    )
)]
pub async fn end_session(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(session): PathId<SessionId>,
) -> Result<Json<Deleted>, ApiError> {
    let (user, _) = person(&caller)?;
    let which = Which::Only(session);
    let ended = account::log_out(&ctx.db, &caller, user, which, &by, ctx.clock.now()).await?;
    if ended == 0 {
        return Err(ApiError::not_found("session_not_found", Some("id"), "you have no such session"));
    }
    Ok(Json(Deleted::of("session", session)))
}

/// The account and how it stands.
#[utoipa::path(
    get,
    path = "/v1/account",
    responses((status = 200, description = "The account", body = AccountView))
)]
pub async fn show(State(ctx): State<Ctx>, Caller(caller): Caller) -> Result<Json<AccountView>, ApiError> {
    let profile = account::profile(&ctx.db, caller.account).await?.ok_or_else(ApiError::internal)?;
    // Only people agree to something.
    let required = match caller.actor.user() {
        Some(user) => consent_required(&ctx, user).await?,
        None => None,
    };
    Ok(Json(AccountView::of(profile, ctx.people.consent_version.clone(), required)))
}

/// Changes what the account says of itself.
#[utoipa::path(
    patch,
    path = "/v1/account",
    request_body = ProfilePatch,
    responses((status = 200, description = "The account as it is now", body = AccountView))
)]
pub async fn change(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<ProfilePatch>,
) -> Result<Json<AccountView>, ApiError> {
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

/// What receivers check webhooks with whose URL a job itself named; an endpoint has a secret of its own.
#[utoipa::path(
    get,
    path = "/v1/account/webhook-secret",
    responses((status = 200, description = "The secret, the same at every look", body = WebhookSecret))
)]
pub async fn webhook_secret(State(ctx): State<Ctx>, Caller(caller): Caller) -> Json<WebhookSecret> {
    Json(WebhookSecret::from(&account::webhook_secret(&ctx.secret, caller.account)))
}

/// What whoever is logged in agreed to, newest first.
#[utoipa::path(
    get,
    path = "/v1/account/consents",
    responses((status = 200, description = "Every consent", body = Consents))
)]
pub async fn consents(State(ctx): State<Ctx>, Caller(caller): Caller) -> Result<Json<Consents>, ApiError> {
    let (user, _) = person(&caller)?;
    let given = account::consents(&ctx.db, user).await?;
    let given = given.into_iter().map(ConsentView::from).collect();
    Ok(Json(Consents::of(given, ctx.people.consent_version.clone())))
}

/// Takes the consent of whoever is logged in.
#[utoipa::path(
    post,
    path = "/v1/account/consents",
    request_body = NewConsent,
    responses((status = 201, description = "Every consent, this one with them", body = Consents))
)]
pub async fn consent(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<NewConsent>,
) -> Result<(StatusCode, Json<Consents>), ApiError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::said;

    #[test]
    fn the_document_tells_the_limits_that_are_kept() {
        assert_eq!(said::<ProfilePatch>("low_balance_tokens", "maximum"), LOW_BALANCE_MAX);
    }
}
