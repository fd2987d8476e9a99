//! Station 7, finish: the one statement that ends a job, whatever its end.
//!
//! Deleting the queue row is the election: whoever deletes it writes the result, moves the money, stores the files'
//! rows and owes the notice, in the same commit; everyone else finds no row and changes nothing. So a job is closed
//! exactly once, charged exactly once if it succeeded, and its hold is always fully accounted for.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{Lease, Output, Status};
use crate::{
    billing::Tokens,
    id::{EntryId, FileId, JobId, NoticeId},
};

/// How long results are kept.
const FILES_KEPT: TimeDelta = TimeDelta::days(3);

/// A job's end.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Here is the result; charge this much of the hold.
    Succeeded {
        /// Stored and verified.
        output: Output,
        /// At most the hold.
        charge: Tokens,
        /// What was counted, by meter.
        metered: Value,
        /// What the provider's success cost us, in USD.
        cost_usd: Decimal,
    },
    /// No result will come.
    Failed(JobError),
    /// The owner wanted no more.
    Canceled,
    /// Too late.
    Expired,
}

/// Why a job failed, in words for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// Stable word.
    pub code: &'static str,
    /// One sentence; names no vendor's secrets.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether the provider may bill the attempt that ended so: it may have done the work.
    pub may_be_billed: bool,
}

/// By what right a job is closed.
#[derive(Debug, Clone, Copy)]
pub enum Fence {
    /// The worker that holds it.
    Held(Lease),
    /// Anyone, as long as no worker ever had it: a cancel before the start.
    Untouched(JobId),
    /// Anyone, because its deadline has passed.
    Overdue(JobId),
    /// Anyone, because its lease has lapsed and this was its last try.
    Lost {
        /// The job.
        job: JobId,
        /// Tries a job survives.
        max_tries: i16,
    },
}

impl Verdict {
    fn status(&self) -> Status {
        match self {
            Self::Succeeded { .. } => Status::Succeeded,
            Self::Failed(_) => Status::Failed,
            Self::Canceled => Status::Canceled,
            Self::Expired => Status::Expired,
        }
    }

    /// What the last attempt cost, where that is known. Vendors bill no refusal and no failure of their own; whether they
    /// bill what was given up under way, only their invoice tells.
    fn known_cost(&self) -> Option<Decimal> {
        match self {
            Self::Succeeded { cost_usd, .. } => Some(*cost_usd),
            Self::Failed(error) if !error.may_be_billed => Some(Decimal::ZERO),
            Self::Failed(_) | Self::Canceled | Self::Expired => None,
        }
    }

    fn error(&self) -> Option<JobError> {
        let canceled = || JobError {
            code: "canceled",
            message: "canceled by its owner".into(),
            retryable: true,
            may_be_billed: true,
        };
        let expired = || JobError {
            code: "deadline_exceeded",
            message: "not finished by its deadline".into(),
            retryable: true,
            may_be_billed: true,
        };
        match self {
            Self::Succeeded { .. } => None,
            Self::Failed(error) => Some(error.clone()),
            Self::Canceled => Some(canceled()),
            Self::Expired => Some(expired()),
        }
    }
}

impl Fence {
    /// The job it guards.
    pub fn job(self) -> JobId {
        match self {
            Self::Held(lease) => lease.job,
            Self::Untouched(job) | Self::Overdue(job) | Self::Lost { job, .. } => job,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Held(_) => "held",
            Self::Untouched(_) => "untouched",
            Self::Overdue(_) => "overdue",
            Self::Lost { .. } => "lost",
        }
    }
}

/// Ends a job. `false`: the fence did not hold, someone else has it or ended it, and nothing was written.
///
/// # Errors
/// When the database fails. The commit's fate is then unknown, and calling again is safe.
pub async fn close(
    db: &PgPool,
    fence: Fence,
    verdict: &Verdict,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let (output, charge, metered) = match verdict {
        Verdict::Succeeded { output, charge, metered, .. } => (Some(output), *charge, Some(metered)),
        _ => (None, Tokens::ZERO, None),
    };
    let token = if let Fence::Held(lease) = fence { Some(lease.token.0) } else { None };
    let max_tries = if let Fence::Lost { max_tries, .. } = fence { max_tries } else { i16::MAX };
    let error = verdict.error();
    let files = output.map_or(&[][..], |output| &output.files);
    let closed = sqlx::query_file!(
        "src/job/close.sql",
        fence.job().0,
        fence.word(),
        token,
        max_tries,
        verdict.status().word(),
        output.map(described),
        error.as_ref().map(|error| error.code),
        error.as_ref().map(|error| error.message.as_str()),
        error.as_ref().map(|error| error.retryable),
        charge.count(),
        now,
        now + FILES_KEPT,
        EntryId::new().0,
        EntryId::new().0,
        NoticeId::new().0,
        &files.iter().map(|_| FileId::new().0).collect::<Vec<_>>(),
        &files.iter().map(|file| file.storage_key.clone()).collect::<Vec<_>>(),
        &files.iter().map(|file| file.preview_key.clone()).collect::<Vec<_>>() as _,
        &files.iter().map(|file| file.mime_type.clone()).collect::<Vec<_>>(),
        &files.iter().map(|file| file.size_bytes).collect::<Vec<_>>(),
        &files.iter().map(|file| file.width).collect::<Vec<_>>() as _,
        &files.iter().map(|file| file.height).collect::<Vec<_>>() as _,
        &files.iter().map(|file| file.duration_seconds).collect::<Vec<_>>() as _,
        metered,
        EntryId::new().0,
        verdict.known_cost(),
    )
    .fetch_optional(db)
    .await?;
    Ok(closed.is_some())
}

/// The part of an output that is kept with the job; files have rows of their own.
fn described(output: &Output) -> Value {
    let mut described = json!({ "text": output.text, "usage": output.usage });
    if let (Some(fields), Some(Value::Object(extra))) = (described.as_object_mut(), &output.extra) {
        fields.extend(extra.clone());
    }
    described
}
