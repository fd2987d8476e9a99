//! Where providers ring when something has changed. What they send is not believed and mostly not read: the job is looked at.

use std::str::FromStr;

use axum::{
    Json,
    extract::{Request, State},
};
use serde_json::{Value, json};

use crate::{
    ApiError, Ctx,
    request::{PathId, read},
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

/// Makes the next look at a job's provider due. Some providers first send a `challenge` and want it back (MiniMax).
pub async fn ring(
    State(ctx): State<Ctx>,
    PathId(bell): PathId<Bell>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    if !ctx.doorbell.knows(bell.job, &bell.word) {
        return Err(ApiError::not_found("not_found", None, "no such callback"));
    }
    let body = read(request, &ctx).await?;
    if let Some(pool) = job::ring(&ctx.db, bell.job, ctx.clock.now()).await? {
        tracing::debug!(job.id = %bell.job, "the provider of {} rang", bell.job);
        ctx.wakes.send(Wake::Pool(pool));
    }
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Json(sent.get("challenge").map_or_else(|| json!({}), |challenge| json!({ "challenge": challenge }))))
}
