//! Who is asking: a bearer key, looked up at every request so that a revoked one is refused at once.

use axum::extract::FromRequestParts;
use http::{header, request::Parts};
use secrecy::SecretString;

use crate::{ApiError, Ctx};
use shared::account::{self, KeyRole, authenticate};

/// Whoever the request speaks for.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub account::Caller);

/// An operator: may move tokens of any account.
#[derive(Debug, Clone, Copy)]
pub struct Operator;

impl FromRequestParts<Ctx> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Ctx) -> Result<Self, ApiError> {
        let value = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| {
            ApiError::unauthorized("no API key: send the header `Authorization: Bearer <key>`")
        })?;
        let key = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| SecretString::from(key.trim()))
            .ok_or_else(|| ApiError::unauthorized("the Authorization header must be `Bearer <key>`"))?;
        let caller = authenticate(&ctx.db, &key).await?;
        caller.map(Self).ok_or_else(|| ApiError::unauthorized("this API key is unknown or was revoked"))
    }
}

impl FromRequestParts<Ctx> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Ctx) -> Result<Self, ApiError> {
        let Caller(caller) = Caller::from_request_parts(parts, ctx).await?;
        match caller.role {
            KeyRole::Operator => Ok(Self),
            KeyRole::Member => Err(ApiError::forbidden("only an operator's key may do this")),
        }
    }
}
