//! What callers think of a result, and what they wish to be made better.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    fields, jobs,
    order::{Anew, NewJob},
    retry::{former, hash_about},
    submission, watch,
};
use crate::{
    ApiError, Ctx,
    access::Caller,
    request::{Body, PathId},
};
use shared::{
    feedback::{self, Feedback, Rating},
    id::JobId,
    job::{self, Former, ITERATIONS_MAX, JobView},
};

/// Most characters of a reason, and of a wish.
const WORDS_CHARS: usize = 2000;

/// A word on a result as it comes in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewFeedback {
    rating: Rating,
    reason: Option<String>,
    /// What to change; with a dislike.
    improve: Option<String>,
}

/// Keeps what is said of a result, in place of what was said before, and has it made better where that is wished. What is said stays
/// also where the improvement is refused for want of tokens.
pub async fn give(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<JobId>,
    headers: HeaderMap,
    body: Body<NewFeedback>,
) -> Result<Response, ApiError> {
    let wait = jobs::preferred_wait(&headers)?;
    let NewFeedback { rating, reason, improve } = body.value;
    let (reason, wish) = (words("reason", reason)?, words("improve", improve)?);
    if wish.is_some() && rating == Rating::Like {
        let message = "improve goes with a dislike: what is liked stays as it is";
        return Err(ApiError::bad_request("cannot_improve", "improve", message));
    }
    let former = former(&ctx, &caller, id).await?;
    if !former.has_succeeded() {
        return Err(ApiError::conflict("job_not_succeeded", "there is no result of this job to speak of"));
    }
    let improvement = wish.map(|wish| improvement(&ctx, former, &wish)).transpose()?;
    let given = Feedback { rating, reason, given_at: ctx.clock.now() };
    if !feedback::give(&ctx.db, caller.account, id, &given).await? {
        return Err(watch::unknown());
    }
    tracing::info!(job.id = %id, account.id = %caller.account, rating = rating.word(), "feedback on {id}");
    let Some(new) = improvement else { return Ok(Json(show(id, &given, None)).into_response()) };
    let hash = hash_about(id, "feedback", &body.hash);
    let taken = submission::submit(&ctx, &caller, &headers, new, hash).await?;
    let view = jobs::view(&ctx, caller.account, &taken, wait).await?;
    Ok(jobs::accepted(Json(show(id, &given, Some(&view))).into_response(), &view, wait, &taken))
}

fn words(param: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    text.map_or(Ok(None), |text| fields::lines(param, &text, WORDS_CHARS))
}

/// The request for a better result.
fn improvement(ctx: &Ctx, mut former: Former, wish: &str) -> Result<NewJob, ApiError> {
    let descent = former.improvement().ok_or_else(|| {
        let message = format!("a result is improved at most {ITERATIONS_MAX} times in a row");
        ApiError::conflict("too_many_iterations", message)
    })?;
    let refuse = |message: String| ApiError::bad_request("cannot_improve", "improve", message);
    former.input = job::improved(&former.task, &former.input, former.text.as_deref(), wish)
        .ok_or_else(|| refuse(format!("what {} makes here is not changed by words", former.model)))?;
    if let Some(model) = ctx.catalog.get(&former.model) {
        model.check(&former.input).map_err(|invalid| {
            refuse(format!("with this wish, {} would be asked for too much: {}", model.id, invalid.message))
        })?;
    }
    // A dialog is its owner's; what somebody else thinks of an answer is not said in it.
    former.turn = None;
    Ok(NewJob::after(former, descent, Anew::default()))
}

fn show(job: JobId, given: &Feedback, improvement: Option<&JobView>) -> Value {
    json!({
        "object": "feedback", "job": job, "rating": given.rating, "reason": given.reason, "given_at": given.given_at,
        "improvement": improvement,
    })
}
