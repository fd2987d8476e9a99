//! Passwords: forgotten and set anew by mail, or changed by whoever is logged in.
//!
//! A new password ends sessions, so whoever knew the old one is out. Asking for a link is answered the same for every address,
//! and tries with a password are counted like logins.

use axum::{Json, extract::State, response::Response};
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    auth::{Addressee, on_its_way, person, post},
    fields,
    pages::Page,
};
use crate::{
    ApiError, Ctx,
    access::{By, Caller, Origin},
    limit,
    request::{Body, Posted},
};
use shared::account::{self, Checked, PasswordChange, Purpose};

/// A new password in place of a forgotten one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    token: SecretString,
    password: SecretString,
}

/// A new password in place of one that is known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    current_password: SecretString,
    password: SecretString,
}

/// Sends a link to set a new password.
pub async fn forgot(State(ctx): State<Ctx>, Origin(origin): Origin, posted: Posted<Addressee>) -> Response {
    let came = async {
        let email = fields::email(&posted.value.email)?;
        limit::mail(&ctx, email.as_str(), origin.ip).await?;
        account::forgot_password(&ctx.db, &post(&ctx), &email, ctx.clock.now()).await?;
        Ok(on_its_way())
    };
    let came = came.await;
    Page::Forgot.answer(&ctx, posted.by_page, "", came)
}

/// Sets a new password by a mailed link. A password that is not good enough leaves the link good.
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
        Ok((StatusCode::OK, json!({ "object": "user", "id": user, "password_set": true })))
    };
    let came = came.await;
    Page::Reset.answer(&ctx, posted.by_page, token.expose_secret(), came)
}

/// Changes the password of whoever is logged in, and logs them out everywhere else.
pub async fn change(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    Origin(origin): Origin,
    body: Body<Change>,
) -> Result<Json<Value>, ApiError> {
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
    Ok(Json(json!({ "object": "user", "id": user, "password_set": true })))
}
