//! One try to post a notice to its receiver, and what its answer means.
//!
//! A 2xx is delivered; anything else is not, redirects included; 410 says never again. The body shows the job as the API
//! would now, so signed URLs in it are fresh.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::{Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::{Value, json};

use super::{Ctx, schedule::next_try, signature::Signed};
use crate::trace;
use shared::{
    account::webhook_key,
    job,
    notice::{Due, Sent, Try},
    trace::Trace,
    webhook::{self, TEST},
};

/// Sends one notice once; gives what came of it and, where anybody was asked, the try itself.
pub async fn send(ctx: &Ctx, due: &Due) -> (Sent, Option<Try>) {
    let keys = match keys(ctx, due) {
        Ok(keys) => keys,
        Err(sent) => return (sent, None),
    };
    let data = match data(ctx, due).await {
        Ok(Some(data)) => data,
        Ok(None) => return (Sent::Dead("its job is gone".into()), None),
        Err(error) => return (later(ctx, due, None, format!("not rendered: {error:#}")), None),
    };
    let body = json!({ "type": due.event, "timestamp": due.created_at, "data": data }).to_string();
    let (at, began) = (ctx.clock.now(), Instant::now());
    let (sent, status_code) = match post(ctx, due, &keys, body).await {
        Ok(response) => (judge(ctx, due, &response), Some(response.status().as_u16())),
        Err(why) => (later(ctx, due, None, why), None),
    };
    let error = match &sent {
        Sent::Delivered => None,
        Sent::Later(_, why) | Sent::Dead(why) | Sent::Gone(why) => Some(why.clone()),
    };
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    (sent, Some(Try { at, status_code, error, duration_ms }))
}

/// What the receiver checks signatures with: an endpoint's own secrets, the newest first, or else its account's.
fn keys(ctx: &Ctx, due: &Due) -> Result<Vec<SecretSlice<u8>>, Sent> {
    let Some(endpoint) = due.endpoint else {
        return Ok(vec![webhook_key(&ctx.secret, due.account).into()]);
    };
    let Some(secret) = &due.secret else { return Err(Sent::Gone("its endpoint is off".into())) };
    let sealed = std::iter::once(secret).chain(&due.previous_secret);
    let opened = sealed.map(|sealed| webhook::open_secret(&ctx.sealer, endpoint, sealed));
    // A key that is missing here can be set, and nothing is lost until then.
    opened
        .collect::<Result<_, _>>()
        .map_err(|error| later(ctx, due, None, format!("its secret does not open: {error}")))
}

/// What it says: the job, or whom a test is for.
async fn data(ctx: &Ctx, due: &Due) -> anyhow::Result<Option<Value>> {
    if due.event == TEST {
        return Ok(Some(json!({ "object": "webhook_test", "endpoint": due.endpoint })));
    }
    let Some(job) = job::find(&ctx.db, due.account, due.job).await? else { return Ok(None) };
    let view = ctx.renderer.render(&ctx.db, vec![job]).await?.pop();
    Ok(view.map(|view| json!(view)))
}

async fn post(ctx: &Ctx, due: &Due, keys: &[SecretSlice<u8>], body: String) -> Result<Response, String> {
    let id = due.id.to_string();
    let timestamp = ctx.clock.now().timestamp();
    let signed = Signed { id: &id, timestamp_secs: timestamp, body: &body };
    let signature = signed.header(keys.iter().map(|key| key.expose_secret()), &ctx.signer);
    let request = ctx.web.post(&due.target).map_err(|why| format!("refused: the URL {why}"))?;
    let request = request
        .timeout(ctx.timeout)
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .body(body);
    let request = trace::sign_as(request, Trace::read(due.traceparent.as_deref()));
    // The URL may hold a secret of its owner, so it stays out of what is written down.
    request.send().await.map_err(|error| chain(&error.without_url()))
}

fn judge(ctx: &Ctx, due: &Due, response: &Response) -> Sent {
    let status = response.status();
    if status.is_success() {
        return Sent::Delivered;
    }
    let why = format!("the receiver answered {status}");
    if status == StatusCode::GONE {
        // An endpoint goes with it; a job's own webhook has nothing but this notice.
        return if due.endpoint.is_some() { Sent::Gone(why) } else { Sent::Dead(why) };
    }
    let advice = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let advice = advice.and_then(|text| patience(text.trim(), ctx.clock.now()));
    later(ctx, due, advice, why)
}

/// Retry-After in either of its forms (RFC 9110): seconds, or a date.
fn patience(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(secs) = text.parse() {
        return Some(Duration::from_secs(secs));
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?;
    (until.to_utc() - now).to_std().ok()
}

fn later(ctx: &Ctx, due: &Due, advice: Option<Duration>, why: String) -> Sent {
    let tries = usize::try_from(due.tries).unwrap_or(0) + 1;
    match next_try(tries, advice, ctx.clock.now()) {
        Some(at) => Sent::Later(at, why),
        None => Sent::Dead(why),
    }
}

/// An error with its causes, since reqwest's own words are only "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::Config};

    use super::*;

    #[test]
    fn no_receivers_advice_breaks_anything_and_none_shortens_the_schedule() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let date = "(Sun|Fri), [0-9]{1,2} (Jan|Feb) [0-9]{2,7} [0-9]{2}:[0-9]{2}:[0-9]{2} (GMT|[+-][0-9]{4})";
        let text = prop_oneof![
            any::<String>(),
            "[+-]?[0-9]{0,25}".prop_map(String::from),
            date.prop_map(String::from)
        ];
        let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
        proptest!(config, |(text in text, tries in 0..12_usize)| {
            let advice = patience(&text, now);
            if let Ok(secs) = text.parse() {
                prop_assert_eq!(advice, Some(Duration::from_secs(secs)));
            }
            match next_try(tries, advice, now) {
                // Jitter is at most a tenth of the longest wait.
                Some(next) => {
                    let hours = (next - now).num_minutes() as f64 / 60.0;
                    prop_assert!((0.0..=26.5).contains(&hours), "{hours}");
                    let advised = advice.map_or(0, |advice| advice.as_secs().min(24 * 3600));
                    prop_assert!((next - now).num_seconds().unsigned_abs() >= advised);
                }
                None => prop_assert!(tries == 0 || tries >= super::super::TRIES),
            }
        });
    }
}
