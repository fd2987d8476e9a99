//! Jobs over HTTP: submit, look, wait, list, cancel.

use std::{str::FromStr, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    openapi::JobHeaders,
    order::{self, NewJob},
    submission::{self, Accepted, Fate},
    watch::{self, await_end},
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::Caller,
    limit,
    page::{self, List, Paging},
    request::{Body, PathId, Query, moment, page_limit, word},
    schema,
};
use shared::{
    id::{AccountId, JobId},
    job::{self, Cancel, Filter, JobView, Medium, Status},
};

/// Longest wait a caller may ask for.
const WAIT_SECS_MAX: u64 = 60;
/// When a caller who polls should come again.
const RETRY_AFTER_SECS: u32 = 2;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Says that nothing new was made.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What a request may cost.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Quote)]
pub struct QuoteView {
    #[schema(pattern = "^quote$")]
    object: &'static str,
    /// Public name of the model.
    model: String,
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
    /// The most it may cost, and what would be held.
    #[schema(minimum = 0)]
    max: i64,
    /// What it probably costs.
    #[schema(minimum = 0)]
    expected: i64,
    /// Seconds that it would take, as far as that can be guessed.
    #[schema(required)]
    eta_seconds: Option<i64>,
    /// Which version of the model's price this is.
    #[schema(minimum = 1)]
    price_version: i32,
}

/// Accepts a generation request: prices it, holds the tokens, queues it.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    params(JobHeaders),
    request_body = NewJob,
    responses(
        (status = 200, description = "The job has ended, in the time that you preferred to wait", body = JobView),
        (status = 202, description = "The job as it was accepted", body = JobView),
        (status = 404, description = "`model_not_found`, `dialog_not_found`", body = ErrorBody),
        (status = 409, description = "`dialog_full`: the dialog holds as many messages as it may", body = ErrorBody),
    )
)]
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    body: Body<NewJob>,
) -> Result<Response, ApiError> {
    let wait = preferred_wait(&headers)?;
    let taken = submission::submit(&ctx, &caller, &headers, body.value, body.hash).await?;
    let view = view(&ctx, caller.account, &taken, wait).await?;
    Ok(accepted(Json(&view).into_response(), &view, wait, &taken))
}

/// The job that a request became, after waiting for its end as the caller prefers.
///
/// # Errors
/// 503 when the database is away; the request was accepted all the same.
pub async fn view(
    ctx: &Ctx,
    account: AccountId,
    taken: &Accepted,
    wait: Option<Duration>,
) -> Result<JobView, ApiError> {
    match (&taken.fate, wait) {
        // Nothing is known of it but what was ordered.
        (Fate::New { order, held, created_at }, None) => Ok(ctx.renderer.accepted(order, *held, *created_at)),
        _ => await_end(ctx, account, taken.job, wait.unwrap_or_default()).await,
    }
}

/// What a request may cost, without making it. It is checked like one that is made.
#[utoipa::path(
    post,
    path = "/v1/jobs/quote",
    request_body = NewJob,
    responses(
        (status = 200, description = "What it may cost", body = QuoteView),
        (status = 404, description = "`model_not_found`, `dialog_not_found`", body = ErrorBody),
        (status = 409, description = "`dialog_full`: the dialog holds as many messages as it may", body = ErrorBody),
    )
)]
pub async fn quote(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    body: Body<NewJob>,
) -> Result<Json<QuoteView>, ApiError> {
    let (mut order, quote) = body.value.into_order(&ctx, &caller, &headers, body.hash).await?;
    order::follow_parent(&ctx, &mut order).await?;
    Ok(Json(QuoteView {
        object: "quote",
        eta_seconds: ctx.estimator.order(&order),
        price_version: order.price_version,
        model: order.model,
        unit: "tokens",
        max: quote.max.count(),
        expected: quote.expected.count(),
    }))
}

/// A response that shows a job which was asked for: 200 when a caller who waits saw the end, else 202 with a word on where and when
/// to look.
pub fn accepted(
    mut response: Response,
    view: &JobView,
    wait: Option<Duration>,
    taken: &Accepted,
) -> Response {
    let done = wait.is_some() && view.is_final();
    *response.status_mut() = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{}", view.id())) {
        headers.insert(header::LOCATION, location);
    }
    if !view.is_final() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS));
    }
    if let Some(Ok(applied)) = wait.map(|wait| HeaderValue::from_str(&format!("wait={}", wait.as_secs()))) {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    if taken.is_repeat() {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    if let Some(rate) = taken.rate {
        limit::show(headers, rate);
    }
    response
}

/// One job; `?wait=` holds the answer until the job ends or the seconds are over.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    params(
        ("id" = inline(schema::JobId), Path, description = "Which job"),
        ("wait" = Option<u64>, Query, maximum = 60, description = "Longest time to wait for its end, in seconds"),
    ),
    responses(
        (
            status = 200,
            description = "The job",
            body = JobView,
            headers(("retry-after" = u32, description = "Seconds after which to look again, if it has not ended")),
        ),
        (status = 404, description = "`job_not_found`", body = ErrorBody),
    )
)]
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<JobId>,
    mut query: Query,
) -> Result<Response, ApiError> {
    let wait = query.take::<u64>("wait")?;
    query.finish()?;
    let wait = wait.map(|secs| wait_of("wait", secs)).transpose()?.unwrap_or_default();
    let view = await_end(&ctx, caller.account, id, wait).await?;
    let mut response = Json(&view).into_response();
    if !view.is_final() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS));
    }
    Ok(response)
}

/// A page of the account's jobs, newest first.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    params(
        Paging,
        ("after" = inline(Option<schema::JobId>), Query, description = "The `last_id` of the page before"),
        ("status" = inline(Option<Status>), Query, description = "Only jobs that stand so"),
        ("medium" = inline(Option<Medium>), Query, description = "Only jobs that make this"),
        ("model" = Option<String>, Query, description = "Only jobs of this model"),
        ("created_after" = Option<DateTime<Utc>>, Query, description = "Only jobs submitted after this"),
        (
            "metadata" = Option<BTreeMap<String, String>>,
            Query,
            style = DeepObject,
            explode,
            description = "Only jobs with all of these pairs, each as `metadata[key]=value`"
        ),
    ),
    responses((status = 200, description = "A page of jobs", body = List<JobView>))
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<JobView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let filter = Filter {
        status: word(&mut query, "status", Status::from_word, &Status::ALL.map(Status::word))?,
        medium: word(&mut query, "medium", Medium::from_word, &Medium::ALL.map(Medium::word))?,
        model: query.take("model")?,
        created_after: moment(&mut query, "created_after")?,
        after: query.take("after")?,
        metadata: query.take_map("metadata").collect(),
    };
    query.finish()?;
    let jobs = job::list(&ctx.db, caller.account, &filter, limit + 1).await?;
    let (jobs, has_more) = page::cut(jobs, limit);
    let last = jobs.last().map(|job| job.id.to_string());
    let data = ctx.renderer.render(&ctx.db, jobs).await?;
    Ok(Json(List::cut_off(data, has_more, last)))
}

/// Ends a job, at once when nobody has begun it, else as soon as its worker hears of it.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/cancel",
    params(("id" = inline(schema::JobId), Path, description = "Which job")),
    responses(
        (status = 200, description = "It is canceled", body = JobView),
        (status = 202, description = "It will be, unless it ends before that", body = JobView),
        (status = 404, description = "`job_not_found`", body = ErrorBody),
        (status = 409, description = "`job_already_final`", body = ErrorBody),
    )
)]
pub async fn cancel(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<JobId>,
) -> Result<Response, ApiError> {
    let canceled =
        job::cancel(&ctx.db, caller.account, id, ctx.clock.now()).await?.ok_or_else(watch::unknown)?;
    canceled.wakes(id).into_iter().for_each(|wake| ctx.wakes.send(wake));
    let status = match canceled {
        Cancel::Canceled => StatusCode::OK,
        Cancel::Requested(_) => StatusCode::ACCEPTED,
        Cancel::AlreadyFinal => {
            return Err(ApiError::conflict("job_already_final", "the job has already ended"));
        }
    };
    let view = await_end(&ctx, caller.account, id, Duration::ZERO).await?;
    Ok((status, Json(view)).into_response())
}

/// The `wait` of a Prefer header (RFC 7240); other preferences are not ours and are passed over.
///
/// # Errors
/// 400 when it is not a number of seconds, or longer than a minute.
pub fn preferred_wait(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    for value in headers.get_all("prefer") {
        for preference in value.to_str().unwrap_or_default().split([',', ';']) {
            let Some((name, secs)) = preference.split_once('=') else { continue };
            if name.trim().eq_ignore_ascii_case("wait") {
                let secs = u64::from_str(secs.trim().trim_matches('"')).unwrap_or(u64::MAX);
                return wait_of("Prefer", secs).map(Some);
            }
        }
    }
    Ok(None)
}

fn wait_of(param: &str, secs: u64) -> Result<Duration, ApiError> {
    if secs > WAIT_SECS_MAX {
        let message = format!("wait is a number of seconds from 0 to {WAIT_SECS_MAX}");
        return Err(ApiError::bad_request("invalid_wait", param, message));
    }
    Ok(Duration::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::Config};

    use super::*;

    fn wait(values: &[&[u8]]) -> Option<Result<Option<Duration>, ApiError>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_bytes(value).ok()?);
        }
        Some(preferred_wait(&headers))
    }

    #[test]
    fn whatever_is_preferred_nobody_waits_longer_than_the_limit() {
        let config = || Config { cases: 500, failure_persistence: None, ..Config::default() };
        proptest!(config(), |(value in proptest::collection::vec(any::<u8>(), 0..100), tail in "(, ?wait=[0-9\"a-z]{0,25}){0,2}")| {
            let value = [&value[..], tail.as_bytes()].concat();
            if let Some(Ok(Some(wait))) = wait(&[&value[..]]) {
                prop_assert!(wait.as_secs() <= WAIT_SECS_MAX);
            }
        });
        // As RFC 7240 writes it: names in either case, space around the equals sign, the value bare or quoted.
        let preference = ("[wW][aA][iI][tT]", " ?", "[=]", " ?", "\"?");
        proptest!(config(), |(secs in 0..200_u64, (name, before, equals, after, quote) in preference, other in "(respond-async[,;] ?)?")| {
            let value = format!("{other}{name}{before}{equals}{after}{quote}{secs}{quote}");
            let found = wait(&[&b"return=minimal"[..], value.as_bytes()]).unwrap();
            match secs {
                0..=WAIT_SECS_MAX => prop_assert_eq!(found.ok().flatten(), Some(Duration::from_secs(secs)), "{}", value),
                _ => prop_assert!(found.is_err(), "{value}"),
            }
        });
    }
}
