//! Registering, proving an address, joining by invitation, logging in and out.
//!
//! Nothing here tells a stranger whether an address is known: registering, and asking for a mail, are answered the same for
//! both. Tries are counted before any password is hashed. What comes in here is personal or secret, so nothing of it has a
//! `Debug` that could get it into a log.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    account_view::ConsentRequired,
    auth_view::{LoggedOut, LoginTokens, MailAsked, MemberView, PageFailures, Verified},
    fields::{self, Consent},
    pages::Page,
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::{By, Caller, Origin},
    access_token, limit,
    request::{Body, Posted},
    schema,
};
use shared::{
    account::{self, Acceptance, Actor, LoginError, Opened, Post, Purpose, Registration, Which},
    id::{AccountId, SessionId, UserId},
    rate::Take,
};

/// Someone who wants to join.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRegistration)]
pub struct NewAccount {
    /// Of the company or person, in one line.
    #[schema(min_length = 1, max_length = 200, pattern = r"\S")]
    name: String,
    #[schema(value_type = schema::Email)]
    email: String,
    /// None of the most common ones, and without the address.
    #[schema(value_type = String, format = Password, min_length = 10, max_length = 128)]
    password: SecretString,
    /// What the account does.
    #[schema(max_length = 2000)]
    description: Option<String>,
    /// An http or https URL.
    #[schema(max_length = 2000)]
    website: Option<String>,
    /// Digits, with a plus before them or none.
    #[schema(max_length = 20, pattern = r"^(\+?[0-9]{5,20})?$")]
    phone: Option<String>,
    /// A postal address.
    #[schema(max_length = 500)]
    address: Option<String>,
    consent: Consent,
}

/// The token of a mailed link, with the password of the registration that it confirms.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Verification)]
pub struct Link {
    #[schema(value_type = String)]
    token: SecretString,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// An address that is to get a mail.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Addressee {
    /// Where to.
    #[schema(value_type = schema::Email)]
    pub email: String,
}

/// Someone who wants to be let in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    #[schema(value_type = schema::Email)]
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Which of their accounts; else the one they joined first.
    #[schema(value_type = Option<schema::AccountId>)]
    account: Option<AccountId>,
}

/// What carries a login on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// As the login or the last refresh gave it.
    #[schema(value_type = String)]
    refresh_token: SecretString,
}

/// Which sessions end.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Logout {
    /// All of the person's, on every device.
    #[serde(default)]
    #[schema(default = false)]
    everywhere: bool,
}

/// An invitation that is accepted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Acceptance)]
pub struct Accept {
    /// Of the mailed link.
    #[schema(value_type = String)]
    token: SecretString,
    /// What they want to be called; else what the invitation says.
    #[schema(min_length = 1, max_length = 200, pattern = r"\S")]
    name: Option<String>,
    /// Their password, or the one they want.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    consent: Consent,
}

/// What writing to people takes.
pub fn post(ctx: &Ctx) -> Post<'_> {
    Post { sealer: &ctx.sealer, public_url: &ctx.public_url }
}

/// The person who logged in, and by which session; the page of routes lets no one else come here.
pub fn person(caller: &account::Caller) -> Result<(UserId, SessionId), ApiError> {
    match caller.actor {
        Actor::User { user, session } => Ok((user, session)),
        Actor::Key(_) => Err(ApiError::internal()),
    }
}

/// The one answer to whoever asked for a mail.
pub fn on_its_way() -> (StatusCode, MailAsked) {
    let message = "if this address is one we write to, a mail is on its way";
    (StatusCode::ACCEPTED, MailAsked { status: "accepted", message })
}

/// Registers a person and their account. The answer is the same for an address that is known.
#[utoipa::path(
    post,
    path = "/v1/auth/register",
    request_body = NewAccount,
    responses((status = 202, description = "A mail is on its way to the address", body = MailAsked))
)]
pub async fn register(
    State(ctx): State<Ctx>,
    Origin(origin): Origin,
    body: Body<NewAccount>,
) -> Result<(StatusCode, Json<MailAsked>), ApiError> {
    let new = body.value;
    let optional = |text: Option<String>, read: fn(&str) -> Result<Option<String>, ApiError>| {
        text.as_deref().map(read).transpose().map(Option::flatten)
    };
    let email = fields::email(&new.email)?;
    let (name, description) =
        (fields::name("name", &new.name)?, optional(new.description, fields::description)?);
    let (website, phone) = (optional(new.website, fields::website)?, optional(new.phone, fields::phone)?);
    let address = optional(new.address, fields::address)?;
    fields::password(&new.password, &email)?;
    let consent_version = new.consent.read(&ctx)?;
    limit::registration(&ctx, origin.ip).await?;
    if let Take::Refused { retry_after, .. } =
        account::count_registration(&ctx.db, &email, ctx.clock.now()).await?
    {
        let message = "somebody has registered with this address often enough for now: follow the link in the last mail, or \
                       set a password by POST /v1/auth/password/forgot";
        return Err(ApiError::too_often(message, retry_after));
    }
    let password_hash = ctx.people.passwords.hash(&new.password).await?;
    let who =
        Registration { email, password_hash, name, description, website, phone, address, consent_version };
    account::register(&ctx.db, &post(&ctx), &who, &origin, ctx.clock.now()).await?;
    let (status, answer) = on_its_way();
    Ok((status, Json(answer)))
}

/// Proves an address by the link that was mailed to it, and the password chosen at registration.
///
/// Another password leaves the link good.
#[utoipa::path(
    post,
    path = "/v1/auth/verify",
    request_body(content((Link = "application/json"), (Link = "application/x-www-form-urlencoded"))),
    responses(
        PageFailures,
        (
            status = 200,
            description = "The address is proved; a page where a page posted",
            content((Verified = "application/json"), (String = "text/html"))
        ),
    )
)]
pub async fn verify(State(ctx): State<Ctx>, Origin(origin): Origin, posted: Posted<Link>) -> Response {
    let Link { token, password } = &posted.value;
    let came = async {
        let (start, now) = (ctx.people.start, ctx.clock.now());
        let email = account::link_owner(&ctx.db, Purpose::VerifyEmail, token, now).await?;
        let email = email.ok_or_else(ApiError::dead_link)?;
        let attempt = limit::login(&ctx, email.as_str(), origin.ip).await?;
        let passwords = &ctx.people.passwords;
        let user = account::verify_email(&ctx.db, passwords, token, password, start, &origin, now).await?;
        attempt.succeeded(&ctx).await?;
        Ok((StatusCode::OK, json!(Verified::of(user))))
    };
    let came = came.await;
    Page::Verify.answer(&ctx, posted.by_page, token.expose_secret(), came)
}

/// Sends the link that proves an address once more.
#[utoipa::path(
    post,
    path = "/v1/auth/verify/resend",
    request_body = Addressee,
    responses((status = 202, description = "The same for every address", body = MailAsked))
)]
pub async fn resend(
    State(ctx): State<Ctx>,
    Origin(origin): Origin,
    body: Body<Addressee>,
) -> Result<(StatusCode, Json<MailAsked>), ApiError> {
    let email = fields::email(&body.value.email)?;
    limit::mail(&ctx, email.as_str(), origin.ip).await?;
    account::send_verification(&ctx.db, &post(&ctx), &email, ctx.clock.now()).await?;
    let (status, answer) = on_its_way();
    Ok((status, Json(answer)))
}

/// Lets a person in.
#[utoipa::path(
    post,
    path = "/v1/auth/login",
    request_body = Login,
    responses(
        (status = 200, description = "Tokens for this login", body = LoginTokens),
        (status = 401, description = "`invalid_credentials`: wrong address or password", body = ErrorBody),
        (
            status = 403,
            description = "`email_not_verified`, or `no_account`: they belong to no active account, or not to the one they named",
            body = ErrorBody
        ),
    )
)]
pub async fn login(
    State(ctx): State<Ctx>,
    Origin(origin): Origin,
    body: Body<Login>,
) -> Result<Response, ApiError> {
    let Login { email, password, account } = body.value;
    let email = fields::email(&email)?;
    let attempt = limit::login(&ctx, email.as_str(), origin.ip).await?;
    let passwords = &ctx.people.passwords;
    let opened = account::log_in(&ctx.db, passwords, &email, &password, account, ctx.clock.now()).await;
    if matches!(opened, Ok(_) | Err(LoginError::NotVerified | LoginError::NoAccount)) {
        attempt.succeeded(&ctx).await?;
    }
    let opened = opened?;
    tracing::info!(user.id = %opened.user, session.id = %opened.session, "{} logged in", opened.user);
    tokens(&ctx, &opened).await
}

/// Carries a login on.
#[utoipa::path(
    post,
    path = "/v1/auth/refresh",
    request_body = Refresh,
    responses(
        (status = 200, description = "The next tokens of this login", body = LoginTokens),
        (
            status = 401,
            description = "`invalid_token`, or `refresh_token_reused`: it was used before, so the session has ended",
            body = ErrorBody
        ),
        (status = 409, description = "`refresh_raced`: another request is exchanging this token", body = ErrorBody),
    )
)]
pub async fn refresh(State(ctx): State<Ctx>, body: Body<Refresh>) -> Result<Response, ApiError> {
    let token = &body.value.refresh_token;
    let opened = account::refresh(&ctx.db, &post(&ctx), token, ctx.clock.now()).await?;
    tokens(&ctx, &opened).await
}

/// What a login and a refresh are answered: nobody on the way may keep it.
async fn tokens(ctx: &Ctx, opened: &Opened) -> Result<Response, ApiError> {
    let access_token = ctx.people.access_tokens.issue(opened, ctx.clock.now())?;
    let answer = LoginTokens {
        access_token: access_token.expose_secret().to_owned(),
        refresh_token: opened.refresh_token.expose_secret().to_owned(),
        token_type: "Bearer",
        expires_in: access_token::LIFE.num_seconds(),
        account: opened.account,
        user: opened.user,
        consent_required: consent_required(ctx, opened.user).await?,
    };
    let mut response = Json(answer).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What a person has yet to agree to; nobody is kept out by it.
pub async fn consent_required(ctx: &Ctx, user: UserId) -> Result<Option<ConsentRequired>, ApiError> {
    let version = &ctx.people.consent_version;
    let lacks = account::lacks_consent(&ctx.db, user, version).await?;
    Ok(lacks.then(|| ConsentRequired::to(version)))
}

/// Ends the session that asks, or all of its person.
#[utoipa::path(
    post,
    path = "/v1/auth/logout",
    request_body = Option<Logout>,
    responses((status = 200, description = "They have ended", body = LoggedOut))
)]
pub async fn logout(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Option<Body<Logout>>,
) -> Result<Json<LoggedOut>, ApiError> {
    let (user, session) = person(&caller)?;
    let everywhere = body.is_some_and(|body| body.value.everywhere);
    let which = if everywhere { Which::All } else { Which::Only(session) };
    let ended = account::log_out(&ctx.db, &caller, user, which, &by, ctx.clock.now()).await?;
    Ok(Json(LoggedOut { object: "logout", sessions_ended: ended }))
}

/// Joins an account by the link of an invitation.
///
/// A password that is not good enough leaves the link good.
#[utoipa::path(
    post,
    path = "/v1/auth/invitations/accept",
    request_body(
        description = "In a form, the field of `consent` is called `consent[version]`.",
        content((Accept = "application/json"), (Accept = "application/x-www-form-urlencoded"))
    ),
    responses(
        PageFailures,
        (
            status = 200,
            description = "They belong to the account; a page where a page posted",
            content((MemberView = "application/json"), (String = "text/html"))
        ),
    )
)]
pub async fn accept(State(ctx): State<Ctx>, Origin(origin): Origin, posted: Posted<Accept>) -> Response {
    let Accept { token, name, password, consent } = posted.value;
    let shown = token.clone();
    let came = async {
        let consent_version = consent.read(&ctx)?;
        let name = name.map(|name| fields::name("name", &name)).transpose()?;
        let now = ctx.clock.now();
        let email = account::invited_email(&ctx.db, &token, now).await?.ok_or_else(ApiError::dead_link)?;
        let attempt = limit::login(&ctx, email.as_str(), origin.ip).await?;
        let acceptance = Acceptance { token, name, password, consent_version, start: ctx.people.start };
        let passwords = &ctx.people.passwords;
        let joined = account::accept_invitation(&ctx.db, passwords, &acceptance, &origin, now).await?;
        attempt.succeeded(&ctx).await?;
        let (account, user, role) = (joined.account, joined.user, joined.role);
        tracing::info!(user.id = %user, account.id = %account, "{user} joined {account}");
        Ok((StatusCode::OK, json!(MemberView::of(account, user, role))))
    };
    let came = came.await;
    Page::Accept.answer(&ctx, posted.by_page, shown.expose_secret(), came)
}
