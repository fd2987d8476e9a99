//! How often one address, or one name, may ask: counted in Postgres, the same for every process.
//!
//! What is counted per address is what changes something and what proves nobody. Looking is free: a caller that polls as
//! told, or watches, must never run into a limit. Deliberately absent: the requests per hour of an account's tier, which
//! the submit itself counts on the account's row.

use std::net::IpAddr;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use chrono::TimeDelta;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::{ApiError, Ctx, access};
use shared::{
    id::AccountId,
    rate::{self, Quota, RateState, Take, address},
};

/// Default of requests per address and hour.
pub const IP_REQUESTS_PER_HOUR: u32 = 1000;
/// Default of registrations per address and hour.
pub const IP_REGISTRATIONS_PER_HOUR: u32 = 10;

/// Wrong passwords for one name from one address: five at once, then one a minute. Counted for both, so that a stranger who
/// guesses does not keep the person out who knows.
const LOGINS: Quota = Quota { limit: 5, per: TimeDelta::minutes(5) };
/// Wrong passwords for one name from everywhere, so that guessing one takes for ever also with many addresses.
const LOGINS_OF_NAME: Quota = Quota::hourly(100);
/// Wrong passwords from one address, whatever the names.
const LOGIN_FAILURES: Quota = Quota::hourly(30);
/// Mails that anyone may have sent to one address of mail.
const MAILS: Quota = Quota::hourly(3);
/// Mails that one network address may have sent.
const MAILS_BY_IP: Quota = Quota::hourly(10);

/// Webhooks that an account may have sent by hand, tests and deliveries once more: an outage of a day is made up for in hours, and
/// nobody floods a stranger's server through us.
const WEBHOOKS_BY_HAND: Quota = Quota::hourly(600);

/// How often one network address may do what a deployment can set; `None` is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Requests that change something, and requests that prove nobody.
    pub requests: Option<Quota>,
    /// New accounts.
    pub registrations: Option<Quota>,
}

impl Limits {
    /// So many in an hour; 0 is no limit.
    pub fn hourly(requests: u32, registrations: u32) -> Self {
        let quota = |limit| (limit > 0).then(|| Quota::hourly(limit));
        Self { requests: quota(requests), registrations: quota(registrations) }
    }
}

/// Counts requests per network address, in front of every route below `/v1`.
///
/// # Errors
/// 429 when this address has asked often enough for an hour; 503 when the database is away.
pub async fn requests(State(ctx): State<Ctx>, request: Request, next: Next) -> Result<Response, ApiError> {
    let Some(quota) = ctx.limits.requests.filter(|_| request.uri().path().starts_with("/v1/")) else {
        return Ok(next.run(request).await);
    };
    let ip = access::client_ip(&ctx, request.headers(), request.extensions())?;
    let counted = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if counted {
        take(&ctx, "requests", &address(ip), quota, refuse_request).await?;
    }
    let response = next.run(request).await;
    if !counted && response.status() == StatusCode::UNAUTHORIZED {
        take(&ctx, "requests", &address(ip), quota, refuse_request).await?;
    }
    Ok(response)
}

/// Counts a registration.
///
/// # Errors
/// 429 when this address has registered enough accounts for an hour.
pub async fn registration(ctx: &Ctx, ip: IpAddr) -> Result<(), ApiError> {
    let Some(quota) = ctx.limits.registrations else { return Ok(()) };
    take(ctx, "registrations", &address(ip), quota, |rate, retry_after| {
        let message = format!("one address may register {} accounts an hour", rate.limit);
        ApiError::rate_limited(message, rate, retry_after)
    })
    .await
}

/// A try to log in that was let through; until it is told to have succeeded it counts as failed.
#[derive(Debug)]
#[must_use = "a try that nobody tells to have succeeded counts as failed"]
pub struct LoginTry {
    name: String,
    name_here: String,
    address: String,
}

/// Counts a try to log in. Ask before any password is hashed: hashing is what costs.
///
/// # Errors
/// 429 when this name, or this address, failed too often; whether the name is known plays no part.
pub async fn login(ctx: &Ctx, email: &str, ip: IpAddr) -> Result<LoginTry, ApiError> {
    let refuse = |_, retry_after| ApiError::too_often("too many tries to log in", retry_after);
    let (name, address) = (name(email), address(ip));
    let name_here = format!("{name} {address}");
    take(ctx, "login_failures", &address, LOGIN_FAILURES, refuse).await?;
    // The narrow one first: what it refuses uses up nothing of what the person has everywhere.
    take(ctx, "logins", &name_here, LOGINS, refuse).await?;
    take(ctx, "logins_of_name", &name, LOGINS_OF_NAME, refuse).await?;
    Ok(LoginTry { name, name_here, address })
}

impl LoginTry {
    /// The password was right: the name starts afresh at this address, and neither of them failed.
    ///
    /// # Errors
    /// 503 when the database is away.
    pub async fn succeeded(self, ctx: &Ctx) -> Result<(), ApiError> {
        rate::forget(&ctx.db, "logins", &self.name_here).await?;
        rate::give_back(&ctx.db, "logins_of_name", &self.name, LOGINS_OF_NAME).await?;
        rate::give_back(&ctx.db, "login_failures", &self.address, LOGIN_FAILURES).await?;
        Ok(())
    }
}

/// Counts a wish for a mail: to set a new password, to verify an address again.
///
/// # Errors
/// 429 when there were too many for this address of mail or from this network address.
pub async fn mail(ctx: &Ctx, email: &str, ip: IpAddr) -> Result<(), ApiError> {
    let refuse = |_, retry_after| ApiError::too_often("too many mails were asked for", retry_after);
    take(ctx, "mails_by_ip", &address(ip), MAILS_BY_IP, refuse).await?;
    take(ctx, "mails", &name(email), MAILS, refuse).await
}

/// Counts a webhook that an account wants sent by hand.
///
/// # Errors
/// 429 when there were too many within an hour.
pub async fn webhook_by_hand(ctx: &Ctx, account: AccountId) -> Result<(), ApiError> {
    take(ctx, "webhooks_by_hand", &account.to_string(), WEBHOOKS_BY_HAND, |rate, retry_after| {
        let message = format!("an account may have {} webhooks an hour sent by hand", rate.limit);
        ApiError::rate_limited(message, rate, retry_after)
    })
    .await
}

async fn take(
    ctx: &Ctx,
    bucket: &str,
    subject: &str,
    quota: Quota,
    refuse: impl FnOnce(RateState, TimeDelta) -> ApiError,
) -> Result<(), ApiError> {
    match rate::take(&ctx.db, bucket, subject, quota, ctx.clock.now()).await? {
        Take::Taken(_) => Ok(()),
        Take::Refused { state, retry_after } => {
            metrics::counter!("kiln_http_refused_total", "bucket" => bucket.to_owned()).increment(1);
            Err(refuse(state, retry_after))
        }
    }
}

fn refuse_request(rate: RateState, retry_after: TimeDelta) -> ApiError {
    let message = format!("one address may send {} requests an hour that change something", rate.limit);
    ApiError::rate_limited(message, rate, retry_after)
}

/// Under which name an address of mail counts: the address itself stays out of the table.
fn name(email: &str) -> String {
    let hash = Sha256::digest(email.trim().to_lowercase().as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Shows how a caller stands towards a limit per hour: as draft-ietf-httpapi-ratelimit-headers has it, and as OpenAI's
/// clients read it.
pub fn show(headers: &mut HeaderMap, rate: RateState) {
    let RateState { limit, remaining, reset } = rate;
    let reset = whole_secs(reset);
    for (name, value) in [
        (HeaderName::from_static("ratelimit-policy"), format!("\"hour\";q={limit};w=3600")),
        (HeaderName::from_static("ratelimit"), format!("\"hour\";r={remaining};t={reset}")),
        (HeaderName::from_static("x-ratelimit-limit-requests"), limit.to_string()),
        (HeaderName::from_static("x-ratelimit-remaining-requests"), remaining.to_string()),
        (HeaderName::from_static("x-ratelimit-reset-requests"), format!("{reset}s")),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// Seconds, a begun one counting whole: whoever waits that long has waited enough.
pub fn whole_secs(span: TimeDelta) -> i64 {
    span.num_seconds() + i64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_shown_in_both_manners() {
        let mut headers = HeaderMap::new();
        show(&mut headers, RateState { limit: 100, remaining: 99, reset: TimeDelta::milliseconds(35_001) });
        assert_eq!(headers["ratelimit-policy"], "\"hour\";q=100;w=3600");
        assert_eq!(headers["ratelimit"], "\"hour\";r=99;t=36");
        assert_eq!(headers["x-ratelimit-limit-requests"], "100");
        assert_eq!(headers["x-ratelimit-remaining-requests"], "99");
        assert_eq!(headers["x-ratelimit-reset-requests"], "36s");
    }

    #[test]
    fn a_name_counts_however_it_is_written() {
        assert_eq!(name(" Alice@Example.com"), name("alice@example.com"));
        assert!(!name("alice@example.com").contains("alice"));
    }
}
