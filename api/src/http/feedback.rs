//! What callers think of a result, and what they wish to be made better.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    fields, jobs,
    openapi::JobHeaders,
    order::{self, Anew, NewJob},
    retry::{former, hash_about},
    submission, watch,
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::Caller,
    request::{Body, PathId},
    schema,
};
use shared::{
    feedback::{self, Feedback, Rating},
    id::JobId,
    job::{self, Former, ITERATIONS_MAX, JobView},
};

/// Most characters of a reason, and of a wish.
const WORDS_CHARS: usize = 2000;

/// A word on a result as it comes in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFeedback {
    rating: Rating,
    /// Why, in your own words.
    #[schema(max_length = 2000)]
    reason: Option<String>,
    /// What to change, with a dislike: the result is made once more, with this in mind.
    #[schema(max_length = 2000)]
    improve: Option<String>,
}

/// A word on a result, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Feedback)]
pub struct FeedbackView {
    #[schema(pattern = "^feedback$")]
    object: &'static str,
    /// The job whose result it is about.
    #[schema(value_type = schema::JobId)]
    job: JobId,
    rating: Rating,
    #[schema(required)]
    reason: Option<String>,
    given_at: DateTime<Utc>,
    /// The job that is to make it better, if that was wished.
    #[schema(required)]
    improvement: Option<JobView>,
}

/// Keeps what is said of a result, in place of what was said before, and has it made better where that is wished. What is said stays
/// also where the improvement is refused for want of tokens.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/feedback",
    operation_id = "jobs_feedback",
    params(("id" = inline(schema::JobId), Path, description = "A job that has succeeded"), JobHeaders),
    request_body = NewFeedback,
    responses(
        (
            status = 200,
            description = "It is kept; if it was to be improved, that has ended in the time that you preferred to wait",
            body = FeedbackView
        ),
        (status = 202, description = "It is kept, and the result is being improved", body = FeedbackView),
        (status = 404, description = "`job_not_found`, or `model_not_found` of a model that is no longer", body = ErrorBody),
        (status = 409, description = "`job_not_succeeded` or `too_many_iterations`", body = ErrorBody),
    )
)]
pub async fn give(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<JobId>,
    headers: HeaderMap,
    body: Body<NewFeedback>,
) -> Result<Response, ApiError> {
    let wait = jobs::preferred_wait(&headers)?;
    // What is wrong with a key is told also where nothing is made by it.
    order::idempotency(&headers, Vec::new())?;
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
    let said = FeedbackView {
        object: "feedback",
        job: id,
        rating,
        reason: given.reason,
        given_at: given.given_at,
        improvement: None,
    };
    let Some(new) = improvement else { return Ok(Json(said).into_response()) };
    let hash = hash_about(id, "feedback", &body.hash);
    let taken = submission::submit(&ctx, &caller, &headers, new, hash).await?;
    let view = jobs::view(&ctx, caller.account, &taken, wait).await?;
    let said = FeedbackView { improvement: Some(view.clone()), ..said };
    Ok(jobs::accepted(Json(said).into_response(), &view, wait, &taken))
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
    // The conversation goes on from the answer that was given in it; another one stays beside it.
    former.turn = None;
    Ok(NewJob::after(former, descent, Anew::default()))
}
