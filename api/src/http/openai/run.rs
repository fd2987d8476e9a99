//! An OpenAI-compatible request as a job: handed in like any other, waited for, and shown in OpenAI's form.
//!
//! OpenAI's clients repeat a request whose answer did not come, and say how often they did, but send no Idempotency-Key. A
//! repeat gets the job of the request before it (`shared::job::Sending`), so that it is not made and paid for twice.
//!
//! Who waits does not matter to the job: a client that hangs up, or a process that stops, leaves it to end and be settled by
//! itself. An answer that takes long shows that it is coming by white space before its JSON, which JSON allows; should its job
//! fail after that, when a status can no longer be told, the answer breaks off. The client then repeats the request, finds the
//! same job, and is told.

use std::{io, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

use super::{content::Text, error::OpenAiError};
use crate::{
    Ctx,
    http::{
        farewell,
        jobs::IDEMPOTENT_REPLAYED,
        models,
        order::NewJob,
        submission::{self, Accepted, Fate},
        watch::Watch,
    },
    limit,
};
use shared::{
    account::Caller,
    catalog::Model,
    id::{AccountId, JobId},
    job::Job,
    rate::RateState,
    storage::Storage,
};

/// Names the job that a request became.
const KILN_JOB: HeaderName = HeaderName::from_static("x-kiln-job");

/// A job that a request became.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// Whose it is.
    pub account: AccountId,
    /// Which.
    pub job: JobId,
    /// What is known of it where it is new, and has not ended.
    pub new: Option<New>,
    is_repeat: bool,
    rate: Option<RateState>,
}

/// A job that was made just now, as far as its answer tells of it.
#[derive(Debug, Clone)]
pub struct New {
    /// Public model name.
    pub model: String,
    /// When it began to be.
    pub created_at: DateTime<Utc>,
}

/// The model called `id`, if it is for one of these tasks.
///
/// # Errors
/// 404 when there is no such model, or it is for other tasks.
pub fn model<'a>(ctx: &'a Ctx, id: &str, tasks: &[&str]) -> Result<&'a Model, OpenAiError> {
    let model = ctx.catalog.get(id).ok_or_else(|| models::unknown(id))?;
    if tasks.contains(&model.task.as_str()) {
        Ok(model)
    } else {
        Err(OpenAiError::wrong_model(&model.id, &model.task))
    }
}

/// Hands in a request that came to `path`. `body_hash` is that of the body as it came.
///
/// # Errors
/// Whatever is wrong with it, or keeps its account from making it; nothing is held then.
pub async fn order(
    ctx: &Ctx,
    caller: &Caller,
    headers: &HeaderMap,
    path: &'static str,
    new: NewJob,
    body_hash: Vec<u8>,
) -> Result<Ordered, OpenAiError> {
    // The same body means something else on another path.
    let hash =
        Sha256::new().chain_update(path).chain_update([0_u8]).chain_update(body_hash).finalize().to_vec();
    let accepted = submission::submit(ctx, caller, headers, new, hash).await?;
    Ok(Ordered::new(caller.account, &accepted))
}

impl Ordered {
    fn new(account: AccountId, accepted: &Accepted) -> Self {
        let new = match &accepted.fate {
            Fate::New { order, created_at, .. } => {
                Some(New { model: order.model.clone(), created_at: *created_at })
            }
            Fate::Cached | Fate::Repeat => None,
        };
        Self { account, job: accepted.job, new, is_repeat: accepted.is_repeat(), rate: accepted.rate }
    }

    /// Whether nothing new was made.
    pub fn is_repeat(&self) -> bool {
        self.is_repeat
    }

    /// Waits for the end of the job.
    ///
    /// # Errors
    /// Why it did not succeed; 503 when this process stops before it ends.
    pub async fn succeeded(&self, ctx: &Ctx) -> Result<Job, OpenAiError> {
        let mut watch = Watch::begin(ctx, self.account, self.job);
        let job = tokio::select! {
            job = watch.end() => job?,
            () = farewell(ctx.process.clone()) => return Err(OpenAiError::stopping()),
        };
        if job.output.is_some() { Ok(job) } else { Err(OpenAiError::of_job(&job)) }
    }

    /// Says in the headers of an answer which job it is about, whether it is a repeat, and how the account's rate stands.
    pub fn sign(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        if let Ok(job) = HeaderValue::from_str(&self.job.to_string()) {
            headers.insert(KILN_JOB, job);
        }
        if self.is_repeat {
            headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(rate) = self.rate {
            limit::show(headers, rate);
        }
        response
    }
}

/// Waits for the end of a job and answers with the JSON that `show` makes of it, with or without files in it.
///
/// # Errors
/// As [`Ordered::succeeded`], or what `show` says, as long as nothing has been sent.
pub async fn answer<S, F, T>(ctx: &Ctx, ordered: &Ordered, show: S) -> Result<Response, OpenAiError>
where
    S: FnOnce(Ctx, Job) -> F + Send + 'static,
    F: Future<Output = Result<T, OpenAiError>> + Send + 'static,
    T: Into<Text> + Send + 'static,
{
    let (waiting, waited_for) = (ctx.clone(), ordered.clone());
    let mut made: Making = async move {
        let job = waited_for.succeeded(&waiting).await?;
        show(waiting, job).await.map(|made| -> Text { made.into() })
    }
    .boxed();
    let body = match tokio::time::timeout(ctx.waits.silence, &mut made).await {
        Ok(made) => made?.into_body(ctx.storage.clone()),
        Err(_) => Body::from_stream(patiently(made, ctx.storage.clone(), ctx.waits.heartbeat)),
    };
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok(ordered.sign((kind, body).into_response()))
}

/// An answer on its way.
type Making = BoxFuture<'static, Result<Text, OpenAiError>>;

/// An answer that has begun: white space until it is there, a piece at each heartbeat.
fn patiently(
    made: Making,
    storage: Storage,
    heartbeat: Duration,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some((made, storage)), move |waiting| async move {
        let (mut made, storage) = waiting?;
        Some(match tokio::time::timeout(heartbeat, &mut made).await {
            Err(_) => (once(Ok(Bytes::from_static(b"\n"))), Some((made, storage))),
            Ok(Ok(text)) => (text.pieces(storage), None),
            Ok(Err(error)) => {
                tracing::info!(?error, "an answer that had begun is broken off");
                (once(Err(io::Error::other("the job did not succeed"))), None)
            }
        })
    })
    // Whoever compresses it asks once more after its end.
    .fuse()
    .flatten()
}

/// A stream of one piece.
fn once(piece: io::Result<Bytes>) -> BoxStream<'static, io::Result<Bytes>> {
    stream::iter([piece]).boxed()
}
