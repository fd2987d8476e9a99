//! Where providers ring when something has changed. What they send is not believed and mostly not read: the job is looked at.

use std::str::FromStr;

use axum::{
    Json,
    extract::{Request, State},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    ApiError, Ctx,
    request::{PathId, read},
    schema,
};
use shared::{id::JobId, job, wake::Wake};

/// The last part of an address that [`job::Doorbell::url`] made.
#[derive(Debug)]
pub struct Bell {
    job: JobId,
    word: String,
}

impl FromStr for Bell {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (job, word) = text.split_once('-').ok_or(())?;
        Ok(Self { job: job.parse().map_err(|_| ())?, word: word.to_owned() })
    }
}

/// What a provider is answered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CallbackAnswer)]
pub struct Answer {
    /// What it sent under this name, if it sent something.
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge: Option<Value>,
}

/// Makes the next look at a job's provider due. Some providers first send a `challenge` and want it back (MiniMax).
#[utoipa::path(
    post,
    path = "/v1/callbacks/{id}",
    params(("id" = inline(schema::CallbackId), Path, description = "The end of an address that a provider was told")),
    request_body(content = Option<Value>, content_type = "application/json", description = "Whatever the provider says."),
    responses((status = 200, description = "The job will be looked at", body = Answer))
)]
pub async fn ring(
    State(ctx): State<Ctx>,
    PathId(bell): PathId<Bell>,
    request: Request,
) -> Result<Json<Answer>, ApiError> {
    if !ctx.doorbell.knows(bell.job, &bell.word) {
        return Err(ApiError::not_found("not_found", None, "no such callback"));
    }
    let body = read(request, &ctx).await?;
    if let Some(pool) = job::ring(&ctx.db, bell.job, ctx.clock.now()).await? {
        tracing::debug!(job.id = %bell.job, "the provider of {} rang", bell.job);
        ctx.wakes.send(Wake::Pool(pool));
    }
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Json(Answer { challenge: sent.get("challenge").cloned() }))
}
