//! Who is asking, and whether they may: one guard in front of every route.
//!
//! A route names the permission it needs on the page of routes; the guard proves the caller, looks the permission up and
//! hands the caller on. Keys and logins are looked up at every request, so that a revoked one is refused at once. A route
//! without a word on access cannot be written.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{Extensions, HeaderMap, header, request::Parts};
use secrecy::{ExposeSecret, SecretString};

use crate::{ApiError, Ctx, access_token::Refused};
use shared::account::{
    self, Permission,
    audit::{self, Who},
};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// Anyone who proves who they are.
    Known,
    /// A person who logged in, about themselves; no key.
    Person,
    /// Callers with this permission.
    Needs(Permission),
}

/// Whoever the request speaks for, as the guard found.
#[derive(Debug, Clone)]
pub struct Caller(pub account::Caller);

/// Who makes a change, and by which request: for the audit log. A permission over all accounts makes an operator.
#[derive(Debug, Clone)]
pub struct By(pub audit::By);

/// Where a request came from that proves nobody yet.
#[derive(Debug, Clone)]
pub struct Origin(pub account::Origin);

/// Longest name of a request that is kept.
const REQUEST_ID_LEN: usize = 128;

/// Lets a request pass to its handler, or answers why not.
pub async fn guard(
    State((ctx, access)): State<(Ctx, Access)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    if access != Access::Public {
        let caller = authenticate(&ctx, &parts).await?;
        permit(&caller, access)?;
        parts.extensions.insert(Caller(caller));
        parts.extensions.insert(access);
    }
    Ok(next.run(Request::from_parts(parts, body)).await.into_response())
}

fn permit(caller: &account::Caller, access: Access) -> Result<(), ApiError> {
    match access {
        Access::Needs(needed) if !caller.permissions.has(needed) => {
            let who = if caller.actor.key().is_some() { "this API key" } else { "your role" };
            Err(ApiError::forbidden(format!("{who} has no permission {:?}", needed.word())))
        }
        Access::Person if caller.actor.user().is_none() => {
            Err(ApiError::forbidden("this is for people who log in, not for API keys"))
        }
        _ => Ok(()),
    }
}

async fn authenticate(ctx: &Ctx, parts: &Parts) -> Result<account::Caller, ApiError> {
    let token = bearer(&parts.headers)?;
    if is_access_token(&token) {
        return person(ctx, &token).await;
    }
    if !token.expose_secret().starts_with(account::KEY_PREFIX) {
        return Err(account::AuthError::Unknown.into());
    }
    let ip = client_ip(ctx, &parts.headers, &parts.extensions)?;
    Ok(ctx.keyring.authenticate(&token, Some(ip), ctx.clock.now()).await?)
}

/// Whether it has the three parts of a JWT. All else was meant as a key, if a foreign one.
fn is_access_token(token: &SecretString) -> bool {
    let token = token.expose_secret();
    !token.starts_with(account::KEY_PREFIX) && token.split('.').count() == 3
}

async fn person(ctx: &Ctx, token: &SecretString) -> Result<account::Caller, ApiError> {
    let now = ctx.clock.now();
    let claims = ctx.people.access_tokens.read(token, now).map_err(|refused| match refused {
        Refused::Expired => ApiError::token_expired(),
        Refused::Invalid => ApiError::invalid_token(),
    })?;
    let caller = account::authenticate_session(&ctx.db, claims.sid, now).await?;
    caller
        .filter(|caller| caller.actor.user() == Some(claims.sub) && caller.account == claims.acc)
        .ok_or_else(ApiError::invalid_token)
}

fn bearer(headers: &HeaderMap) -> Result<SecretString, ApiError> {
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| ApiError::unauthorized("no API key: send the header `Authorization: Bearer <key>`"))?;
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| SecretString::from(token.trim()))
        .ok_or_else(|| ApiError::unauthorized("the Authorization header must be `Bearer <key>`"))
}

impl FromRequestParts<Ctx> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Ctx) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(ApiError::internal)
    }
}

impl FromRequestParts<Ctx> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Ctx) -> Result<Self, ApiError> {
        let Caller(caller) = Caller::from_request_parts(parts, ctx).await?;
        let who = match parts.extensions.get::<Access>() {
            Some(Access::Needs(permission)) if permission.is_operators() => Who::Operator(caller.actor),
            _ => Who::from(&caller),
        };
        let ip = client_ip(ctx, &parts.headers, &parts.extensions)?;
        Ok(Self(audit::By { who, ip: Some(ip), request_id: request_id(&parts.headers) }))
    }
}

impl FromRequestParts<Ctx> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Ctx) -> Result<Self, ApiError> {
        let ip = client_ip(ctx, &parts.headers, &parts.extensions)?;
        Ok(Self(account::Origin { ip, request_id: request_id(&parts.headers) }))
    }
}

/// The network address a request came from, as the nearest proxy that is trusted saw it.
///
/// # Errors
/// 500 when the server was not told who connected.
pub fn client_ip(ctx: &Ctx, headers: &HeaderMap, extensions: &Extensions) -> Result<IpAddr, ApiError> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>().ok_or_else(ApiError::internal)?;
    Ok(forwarded(headers, ctx.trusted_proxies).unwrap_or_else(|| peer.ip()).to_canonical())
}

/// What a request is called in the audit log, kept short whoever named it.
pub fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    Some(id.chars().take(REQUEST_ID_LEN).collect())
}

/// The address that the outermost of our own `proxies` was called from: each of them adds one at the right, and what stands
/// further left is the caller's own invention.
fn forwarded(headers: &HeaderMap, proxies: usize) -> Option<IpAddr> {
    let added = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let addresses: Vec<_> = added.flat_map(|text| text.split(',')).map(str::trim).collect();
    let at = addresses.len().checked_sub(proxies).filter(|_| proxies > 0)?;
    addresses.get(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::{collection::vec, prelude::*, test_runner::Config};

    use super::*;

    #[test]
    fn no_header_breaks_the_guard() {
        let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
        let value = || {
            let wild = vec(any::<u8>(), 0..300);
            let tame = "((?i)bearer )? ?(kiln_[a-zA-Z0-9_-]{0,50}|[a-z.]{0,9}|[0-9a-f.:, ]{0,60})"
                .prop_map(String::into_bytes);
            prop_oneof![wild, tame].prop_filter_map("no header", |bytes| HeaderValue::from_bytes(&bytes).ok())
        };
        proptest!(config, |(values in vec(value(), 1..4), proxies in 0..4_usize)| {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append("x-forwarded-for", value.clone());
            }
            headers.insert("x-request-id", values[0].clone());
            headers.insert(header::AUTHORIZATION, values[0].clone());
            if let Ok(token) = bearer(&headers) {
                let text = values[0].to_str().unwrap();
                prop_assert!(text.ends_with(token.expose_secret()) || text.trim_end().ends_with(token.expose_secret()));
                prop_assert!(!(is_access_token(&token) && token.expose_secret().starts_with(account::KEY_PREFIX)));
            }
            prop_assert!(request_id(&headers).is_none_or(|id| id.len() <= REQUEST_ID_LEN && !id.contains('\0')));
            prop_assert!(proxies > 0 || forwarded(&headers, proxies).is_none());
        });
    }

    fn check(header: &'static str, proxies: usize, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", http::HeaderValue::from_static(header));
        let found = forwarded(&headers, proxies);
        assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{header} behind {proxies}");
    }

    #[test]
    fn only_what_our_own_proxies_added_is_believed() {
        check("9.9.9.9, 1.2.3.4", 1, Some("1.2.3.4"));
        check("9.9.9.9, 1.2.3.4, 10.0.0.1", 2, Some("1.2.3.4"));
        check("1.2.3.4", 0, None);
        check("1.2.3.4", 2, None);
        check("nonsense", 1, None);
    }
}
