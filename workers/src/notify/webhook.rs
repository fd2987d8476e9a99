//! One try to post a notice to its receiver, and what its answer means.
//!
//! A 2xx is delivered; anything else is not, redirects included; 410 says never again. The body shows the job as the API
//! would now, so signed URLs in it are fresh.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Response, StatusCode, header};
use serde_json::json;

use super::{Ctx, schedule::next_try, signature::sign};
use shared::{
    account::webhook_key,
    job::{self, JobView},
    notice::{Due, Sent},
};

/// Longest wait for a receiver's answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Sends one notice once.
pub async fn send(ctx: &Ctx, due: &Due) -> Sent {
    let job = match view(ctx, due).await {
        Ok(Some(job)) => job,
        Ok(None) => return Sent::Dead("its job is gone".into()),
        Err(error) => return later(ctx, due, None, format!("not rendered: {error:#}")),
    };
    let body = json!({ "type": due.event, "timestamp": due.created_at, "data": job }).to_string();
    match post(ctx, due, body).await {
        Ok(response) => judge(ctx, due, &response),
        Err(why) => later(ctx, due, None, why),
    }
}

async fn view(ctx: &Ctx, due: &Due) -> anyhow::Result<Option<JobView>> {
    let Some(job) = job::find(&ctx.db, due.account, due.job).await? else { return Ok(None) };
    Ok(ctx.renderer.render(&ctx.db, vec![job]).await?.pop())
}

async fn post(ctx: &Ctx, due: &Due, body: String) -> Result<Response, String> {
    let id = due.id.to_string();
    let timestamp = ctx.clock.now().timestamp();
    let signature = sign(&webhook_key(&ctx.secret, due.account), &id, timestamp, &body);
    let request = ctx.web.post(&due.target).map_err(|why| format!("refused: the URL {why}"))?;
    let request = request
        .timeout(TIMEOUT)
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .body(body);
    // The URL may hold a secret of its owner, so it stays out of what is written down.
    request.send().await.map_err(|error| chain(&error.without_url()))
}

fn judge(ctx: &Ctx, due: &Due, response: &Response) -> Sent {
    let status = response.status();
    if status.is_success() {
        return Sent::Delivered;
    }
    if status == StatusCode::GONE {
        return Sent::Dead("the receiver answered 410 Gone".into());
    }
    let advice = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let advice = advice.and_then(|text| patience(text.trim(), ctx.clock.now()));
    later(ctx, due, advice, format!("the receiver answered {status}"))
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
