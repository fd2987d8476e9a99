//! The job object of the contract, as `GET /v1/jobs/{id}` and every webhook show it.
//!
//! It lives here and not in `api` because two crates must show exactly the same: the API that answers and the worker that
//! delivers. Signed URLs are made at each rendering.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{Estimator, Job, Order, Status, StoredFile, files_of, order::shown};
use crate::{
    billing::Tokens,
    id::{DialogId, FileId, JobId},
    storage::Storage,
};

/// A job for its owner. Field names are the contract.
#[derive(Debug, Clone, Serialize)]
pub struct JobView {
    id: JobId,
    object: &'static str,
    model: String,
    medium: String,
    task: String,
    status: String,
    phase: String,
    progress: Option<i16>,
    queue_position: Option<i64>,
    eta_seconds: Option<i64>,
    input: Value,
    output: Option<Value>,
    error: Option<Value>,
    price: Value,
    attempts: i32,
    metadata: Value,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    deadline: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    retry_of: Option<JobId>,
    improves: Option<JobId>,
    iteration: Option<i16>,
    /// Only shown of a job that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    dialog: Option<DialogId>,
    urls: Value,
}

/// A file of a job for its owner.
#[derive(Debug, Clone, Serialize)]
pub struct FileView {
    id: FileId,
    url: String,
    preview_url: Option<String>,
    mime_type: String,
    size_bytes: i64,
    width: Option<i32>,
    height: Option<i32>,
    duration_seconds: Option<f64>,
    expires_at: DateTime<Utc>,
}

/// Turns jobs into what their owners see.
#[derive(Debug, Clone)]
pub struct Renderer {
    storage: Storage,
    public_url: String,
    estimator: Option<Estimator>,
}

impl Renderer {
    /// A renderer that signs with `storage` and links to `public_url` (no slash at its end).
    pub fn new(storage: Storage, public_url: String) -> Self {
        Self { storage, public_url, estimator: None }
    }

    /// The same, which also says when jobs will end. Whoever shows only jobs that are over need not know.
    #[must_use]
    pub fn estimating(self, estimator: Estimator) -> Self {
        Self { estimator: Some(estimator), ..self }
    }

    /// The views of some jobs, in their order.
    ///
    /// # Errors
    /// When the database fails or a URL cannot be signed.
    pub async fn render(&self, db: &PgPool, jobs: Vec<Job>) -> anyhow::Result<Vec<JobView>> {
        let succeeded: Vec<_> = jobs.iter().filter(|job| job.output.is_some()).map(|job| job.id).collect();
        let files = if succeeded.is_empty() { Vec::new() } else { files_of(db, &succeeded).await? };
        let mut views = Vec::with_capacity(jobs.len());
        for job in jobs {
            let mut shown = Vec::new();
            for (_, id, expires_at, file) in files.iter().filter(|(owner, ..)| *owner == job.id) {
                shown.push(self.file(*id, *expires_at, file).await?);
            }
            let eta = self.estimator.as_ref().and_then(|estimator| estimator.job(&job));
            views.push(self.view(job, &shown, eta));
        }
        Ok(views)
    }

    /// A job as it was ordered, before anything else has become of it. Its place in the queue is not known: counting it costs
    /// more than the submit.
    pub fn accepted(&self, order: &Order, held: Tokens, created_at: DateTime<Utc>) -> JobView {
        let phase = if order.start_at.is_some() { "scheduled" } else { "queued" };
        let eta = self.estimator.as_ref().and_then(|estimator| estimator.order(order));
        self.view(
            Job {
                id: order.job,
                account: order.account,
                status: Status::Queued.word().into(),
                phase: phase.into(),
                progress: None,
                queue_position: None,
                model: order.model.clone(),
                medium: order.medium.word().into(),
                task: order.task.clone(),
                input: shown(&order.input).unwrap_or_else(|| order.input.clone()),
                output: None,
                error_code: None,
                error_message: None,
                error_retryable: None,
                held_tokens: held.count(),
                charged_tokens: None,
                attempts: 0,
                provider: order.route.provider.clone(),
                upstream_model: order.route.upstream_model.clone(),
                run_at: order.start_at,
                begun_at: None,
                metadata: json!(order.metadata),
                created_at,
                started_at: None,
                finished_at: None,
                deadline: order.deadline,
                expires_at: None,
                retry_of: order.descent.retry_of,
                improves: order.descent.improves,
                iteration: order.descent.iteration,
                dialog: order.dialog(),
            },
            &[],
            eta,
        )
    }

    async fn file(
        &self,
        id: FileId,
        expires_at: DateTime<Utc>,
        file: &StoredFile,
    ) -> anyhow::Result<FileView> {
        let preview_url = match &file.preview_key {
            Some(key) => Some(self.storage.signed_url(key).await?),
            None => None,
        };
        Ok(FileView {
            id,
            url: self.storage.signed_url(&file.storage_key).await?,
            preview_url,
            mime_type: file.mime_type.clone(),
            size_bytes: file.size_bytes,
            width: file.width,
            height: file.height,
            duration_seconds: file.duration_seconds,
            expires_at,
        })
    }

    fn view(&self, job: Job, files: &[FileView], eta_seconds: Option<i64>) -> JobView {
        let url = format!("{}/v1/jobs/{}", self.public_url, job.id);
        let output = job.output.map(|mut output| {
            if let Some(fields) = output.as_object_mut() {
                fields.insert("files".into(), json!(files));
                fields.entry("actions").or_insert_with(|| json!([]));
            }
            output
        });
        let error = job.error_code.map(
            |code| json!({ "code": code, "message": job.error_message, "retryable": job.error_retryable }),
        );
        JobView {
            id: job.id,
            object: "job",
            model: job.model,
            medium: job.medium,
            task: job.task,
            status: job.status,
            phase: job.phase,
            progress: job.progress,
            queue_position: job.queue_position,
            eta_seconds,
            input: job.input,
            output,
            error,
            price: json!({ "unit": "tokens", "held": job.held_tokens, "charged": job.charged_tokens }),
            attempts: job.attempts,
            metadata: job.metadata,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            deadline: job.deadline,
            expires_at: job.expires_at,
            retry_of: job.retry_of,
            improves: job.improves,
            iteration: job.iteration,
            dialog: job.dialog,
            urls: json!({ "get": url, "cancel": format!("{url}/cancel"), "events": format!("{url}/events") }),
        }
    }
}

impl JobView {
    /// Whether the job had ended when this was rendered.
    pub fn is_final(&self) -> bool {
        self.finished_at.is_some()
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.id
    }
}
