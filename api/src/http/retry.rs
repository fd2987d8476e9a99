//! Making a job again that ended without success.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{
    jobs,
    openapi::JobHeaders,
    order::{Anew, NewJob},
    submission, watch,
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::Caller,
    request::{Body, PathId},
    schema,
};
use shared::{
    account,
    id::JobId,
    job::{self, Former, JobView},
};

/// Has what a job was to make made by a new one, priced and held for anew, to be begun at once; the old one stays as it is.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/retry",
    operation_id = "jobs_retry",
    params(("id" = inline(schema::JobId), Path, description = "A job that ended without success"), JobHeaders),
    request_body = Option<Anew>,
    responses(
        (status = 200, description = "The new job has ended, in the time that you preferred to wait", body = JobView),
        (status = 202, description = "The new job as it was accepted", body = JobView),
        (status = 404, description = "`job_not_found`, or `model_not_found` of a model that is no longer", body = ErrorBody),
        (status = 409, description = "`job_not_failed`, or `dialog_full` of one in a dialog", body = ErrorBody),
    )
)]
pub async fn retry(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<JobId>,
    headers: HeaderMap,
    body: Option<Body<Anew>>,
) -> Result<Response, ApiError> {
    let wait = jobs::preferred_wait(&headers)?;
    let (anew, hash) = body.map_or_else(Default::default, |body| (body.value, body.hash));
    let former = former(&ctx, &caller, id).await?;
    if !former.has_failed() {
        let message = match former.status.as_str() {
            "open" => "the job has not ended yet",
            _ => "the job has succeeded; the same request makes it once more",
        };
        return Err(ApiError::conflict("job_not_failed", message));
    }
    let descent = former.retry();
    let new = NewJob::after(former, descent, anew);
    let taken = submission::submit(&ctx, &caller, &headers, new, hash_about(id, "retry", &hash)).await?;
    let view = jobs::view(&ctx, caller.account, &taken, wait).await?;
    Ok(jobs::accepted(Json(&view).into_response(), &view, wait, &taken))
}

/// A job of the caller's account that another is made after.
///
/// # Errors
/// 404 when there is none.
pub async fn former(ctx: &Ctx, caller: &account::Caller, id: JobId) -> Result<Former, ApiError> {
    job::former(&ctx.db, caller.account, id).await?.ok_or_else(watch::unknown)
}

/// The hash of a request of which the body alone says too little: the same may be asked of another job.
pub fn hash_about(job: JobId, what: &str, body_hash: &[u8]) -> Vec<u8> {
    let whole = Sha256::new().chain_update(job.0.as_bytes()).chain_update(what).chain_update(body_hash);
    whole.finalize().to_vec()
}
