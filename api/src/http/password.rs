//! Passwords: forgotten and set anew by mail, or changed by whoever is logged in.
//!
//! A new password ends sessions, so whoever knew the old one is out. Asking for a link is answered the same for every address,
//! and tries with a password are counted like logins.

use axum::{Json, extract::State, response::Response};
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    auth::{Addressee, on_its_way, person, post},
    auth_view::{MailAsked, PageFailures, PasswordSet},
    fields,
    pages::Page,
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::{By, Caller, Origin},
    limit,
    request::{Body, Posted},
};
use shared::account::{self, Checked, PasswordChange, Purpose};

/// A new password in place of a forgotten one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PasswordReset)]
pub struct Reset {
    /// Of the mailed link.
    #[schema(value_type = String)]
    token: SecretString,
    /// The new one: none of the most common ones, and without the address.
    #[schema(value_type = String, format = Password, min_length = 10, max_length = 128)]
    password: SecretString,
}

/// A new password in place of one that is known.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PasswordChange)]
pub struct Change {
    #[schema(value_type = String, format = Password)]
    current_password: SecretString,
    /// The new one: none of the most common ones, and without the address.
    #[schema(value_type = String, format = Password, min_length = 10, max_length = 128)]
    password: SecretString,
}

/// Sends a link to set a new password.
#[utoipa::path(
    post,
    path = "/v1/auth/password/forgot",
    request_body(content((Addressee = "application/json"), (Addressee = "application/x-www-form-urlencoded"))),
    responses(
        PageFailures,
        (
            status = 202,
            description = "The same for every address; a page where a page posted",
            content((MailAsked = "application/json"), (String = "text/html"))
        ),
    )
)]
pub async fn forgot(State(ctx): State<Ctx>, Origin(origin): Origin, posted: Posted<Addressee>) -> Response {
    let came = async {
        let email = fields::email(&posted.value.email)?;
        limit::mail(&ctx, email.as_str(), origin.ip).await?;
        account::forgot_password(&ctx.db, &post(&ctx), &email, ctx.clock.now()).await?;
        let (status, answer) = on_its_way();
        Ok((status, json!(answer)))
    };
    let came = came.await;
    Page::Forgot.answer(&ctx, posted.by_page, "", came)
}

/// Sets a new password by a mailed link.
///
/// A password that is not good enough leaves the link good.
#[utoipa::path(
    post,
    path = "/v1/auth/password/reset",
    request_body(content((Reset = "application/json"), (Reset = "application/x-www-form-urlencoded"))),
    responses(
        PageFailures,
        (
            status = 200,
            description = "The new password is set; a page where a page posted",
            content((PasswordSet = "application/json"), (String = "text/html"))
        ),
    )
)]
pub async fn reset(State(ctx): State<Ctx>, Origin(origin): Origin, posted: Posted<Reset>) -> Response {
    let Reset { token, password } = &posted.value;
    let came = async {
        let email = account::link_owner(&ctx.db, Purpose::ResetPassword, token, ctx.clock.now()).await?;
        fields::password(password, &email.ok_or_else(ApiError::dead_link)?)?;
        let hash = ctx.people.passwords.hash(password).await?;
        let (start, now) = (ctx.people.start, ctx.clock.now());
        let user = account::reset_password(&ctx.db, &post(&ctx), token, &hash, start, &origin, now).await?;
        let user = user.ok_or_else(ApiError::dead_link)?;
        tracing::info!(user.id = %user, "{user} set a new password by mail");
        Ok((StatusCode::OK, json!(PasswordSet::of(user))))
    };
    let came = came.await;
    Page::Reset.answer(&ctx, posted.by_page, token.expose_secret(), came)
}

/// Changes the password of whoever is logged in, and logs them out everywhere else.
#[utoipa::path(
    post,
    path = "/v1/auth/password/change",
    request_body = Change,
    responses(
        (status = 200, description = "The new password is set", body = PasswordSet),
        (status = 409, description = "`raced`: another request changed the password at this moment", body = ErrorBody),
    )
)]
pub async fn change(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    Origin(origin): Origin,
    body: Body<Change>,
) -> Result<Json<PasswordSet>, ApiError> {
    let (user, session) = person(&caller)?;
    let Change { current_password, password } = body.value;
    let owner = account::password_owner(&ctx.db, user).await?.ok_or_else(ApiError::invalid_token)?;
    fields::password(&password, &owner.email)?;
    let attempt = limit::login(&ctx, owner.email.as_str(), origin.ip).await?;
    let passwords = &ctx.people.passwords;
    if passwords.check(&current_password, Some(&owner.password_hash)).await? == Checked::Wrong {
        return Err(ApiError::wrong_password("current_password"));
    }
    attempt.succeeded(&ctx).await?;
    let hash = passwords.hash(&password).await?;
    let change = PasswordChange { user, session, owner: &owner, hash: &hash };
    if !account::change_password(&ctx.db, &post(&ctx), &change, &caller, &by, ctx.clock.now()).await? {
        return Err(ApiError::conflict(
            "raced",
            "the password was changed by another request at this moment",
        ));
    }
    Ok(Json(PasswordSet::of(user)))
}
