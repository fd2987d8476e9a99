//! The job object of the contract, as `GET /v1/jobs/{id}` and every webhook show it.
//!
//! It lives here and not in `api` because two crates must show exactly the same: the API that answers and the worker that
//! delivers. Its types describe themselves for the document of the API. Signed URLs are made at each rendering.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use utoipa::ToSchema;

use super::{Estimator, Job, Medium, Order, Status, StoredFile, files_of, order::shown};
use crate::{
    billing::Tokens,
    id::{DialogId, FileId, JobId},
    storage::Storage,
};

/// A job for its owner. Field names are the contract.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Job)]
pub struct JobView {
    #[schema(value_type = String, pattern = "^job_[0-9a-f]{32}$")]
    id: JobId,
    #[schema(pattern = "^job$")]
    object: &'static str,
    /// Public name of the model.
    model: String,
    #[schema(value_type = Medium)]
    medium: String,
    /// What is made, such as `image.generate`.
    task: String,
    #[schema(value_type = Status)]
    status: String,
    /// Where it stands in more detail, for people.
    phase: String,
    /// Percent, where the provider tells.
    #[schema(required, minimum = 0, maximum = 100)]
    progress: Option<i16>,
    /// How many jobs are before it, counted to 1000; while it waits for its first start, and not in lists.
    #[schema(required, minimum = 0, maximum = 1000)]
    queue_position: Option<i64>,
    /// Seconds until its end, as far as that can be guessed.
    #[schema(required)]
    eta_seconds: Option<i64>,
    /// As it was ordered, but data URLs cut short.
    #[schema(value_type = Object)]
    input: Value,
    /// After a success.
    #[schema(value_type = Option<JobOutput>, required)]
    output: Option<Value>,
    /// Why it ended without a result.
    #[schema(required)]
    error: Option<JobFailure>,
    price: JobPrice,
    /// How many times a provider was asked.
    #[schema(minimum = 0)]
    attempts: i32,
    /// The pairs that came with the order.
    #[schema(value_type = BTreeMap<String, String>)]
    metadata: Value,
    created_at: DateTime<Utc>,
    #[schema(required)]
    started_at: Option<DateTime<Utc>>,
    #[schema(required)]
    finished_at: Option<DateTime<Utc>>,
    /// When it expires if it has not ended.
    deadline: DateTime<Utc>,
    /// When its files are deleted.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// The job that ended without success and that this one makes again.
    #[schema(value_type = Option<String>, required, pattern = "^job_[0-9a-f]{32}$")]
    retry_of: Option<JobId>,
    /// The job whose result this one is to improve.
    #[schema(value_type = Option<String>, required, pattern = "^job_[0-9a-f]{32}$")]
    improves: Option<JobId>,
    /// Which improvement in a row that is.
    #[schema(required, minimum = 1)]
    iteration: Option<i16>,
    /// Only shown of a job that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, pattern = "^dlg_[0-9a-f]{32}$")]
    dialog: Option<DialogId>,
    urls: JobUrls,
}

/// What a job made. What a provider answers beside this, such as `tool_calls`, `embeddings` or `tracks`, stands beside it.
#[derive(Debug, ToSchema)]
pub struct JobOutput {
    /// The answer or the transcript.
    #[schema(required)]
    pub text: Option<String>,
    /// What the provider says it used, in its own words.
    pub usage: Value,
    /// Everything that was made, in order.
    pub files: Vec<FileView>,
    /// What can be done with it further: orders of the same task with `input.job` and `input.action`.
    pub actions: Vec<JobAction>,
}

/// Something that a result offers to be done with it.
#[derive(Debug, ToSchema)]
pub struct JobAction {
    /// To be sent as `input.action`.
    pub id: String,
    /// For people.
    pub label: String,
}

/// Why a job ended without a result.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JobFailure {
    /// For programs.
    code: String,
    /// For people.
    #[schema(required)]
    message: Option<String>,
    /// Whether the same may succeed later.
    #[schema(required)]
    retryable: Option<bool>,
}

/// What a job costs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JobPrice {
    /// Charged at its end.
    #[schema(required, minimum = 0)]
    charged: Option<i64>,
    /// Set aside when it was ordered: the most it may cost.
    #[schema(minimum = 0)]
    held: i64,
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
}

/// Where to ask about a job.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JobUrls {
    cancel: String,
    events: String,
    get: String,
}

/// A file of a job for its owner.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OutputFile)]
pub struct FileView {
    #[schema(value_type = String, pattern = "^file_[0-9a-f]{32}$")]
    id: FileId,
    /// Where it can be fetched for a while, without credentials; made anew at each look.
    url: String,
    /// A small picture of it, for pictures.
    #[schema(required)]
    preview_url: Option<String>,
    mime_type: String,
    #[schema(minimum = 0)]
    size_bytes: i64,
    /// Pixels.
    #[schema(required, minimum = 0)]
    width: Option<i32>,
    /// Pixels.
    #[schema(required, minimum = 0)]
    height: Option<i32>,
    /// Of sound and moving pictures.
    #[schema(required, minimum = 0)]
    duration_seconds: Option<f64>,
    /// When it is deleted.
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
        let keeps_files = |job: &&Job| job.output.is_some() && !job.is_discarded();
        let succeeded: Vec<_> = jobs.iter().filter(keeps_files).map(|job| job.id).collect();
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
        let (message, retryable) = (job.error_message, job.error_retryable);
        let error = job.error_code.map(|code| JobFailure { code, message, retryable });
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
            price: JobPrice { unit: "tokens", held: job.held_tokens, charged: job.charged_tokens },
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
            urls: JobUrls { cancel: format!("{url}/cancel"), events: format!("{url}/events"), get: url },
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
