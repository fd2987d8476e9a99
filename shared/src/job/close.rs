//! Station 7, finish: the one statement that ends jobs, whatever their end.
//!
//! Deleting the queue row is the election: whoever deletes it writes the result, moves the money, stores the files'
//! rows and owes the notice, in the same commit; everyone else finds no row and changes nothing. So a job is closed
//! exactly once, charged exactly once if it succeeded, and its hold is always fully accounted for. A worker closes many
//! jobs by one such statement; each has its own fence and its own verdict.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Lease, Output, Status, lease::answered};
use crate::{
    billing::Tokens,
    file,
    id::{EntryId, FileId, JobId, NoticeId},
};

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

    /// What the last attempt cost in USD, where that is known. Vendors bill no refusal and no failure of their own; whether they
    /// bill what was given up under way, only their invoice tells.
    pub fn known_cost(&self) -> Option<Decimal> {
        match self {
            Self::Succeeded { cost_usd, .. } => Some(*cost_usd),
            Self::Failed(error) if !error.may_be_billed => Some(Decimal::ZERO),
            Self::Failed(_) | Self::Canceled | Self::Expired => None,
        }
    }

    fn error(&self) -> Option<JobError> {
        let ended = |code, message: &str| JobError {
            code,
            message: message.into(),
            retryable: true,
            may_be_billed: true,
        };
        match self {
            Self::Succeeded { .. } => None,
            Self::Failed(error) => Some(error.clone()),
            Self::Canceled => Some(ended("canceled", "canceled by its owner")),
            Self::Expired => Some(ended("deadline_exceeded", "not finished by its deadline")),
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

/// A job to be ended, by what right and how.
#[derive(Debug, Clone)]
pub struct Closing {
    /// By what right.
    pub fence: Fence,
    /// How it ends.
    pub verdict: Verdict,
    /// The attempt that was made without an intent written first, since nobody bills it; 0: none.
    pub begun: i16,
    /// When it ends.
    pub at: DateTime<Utc>,
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
    let closing = Closing { fence, verdict: verdict.clone(), begun: 0, at: now };
    Ok(close_all(db, &[closing]).await? == [true])
}

/// Ends several jobs by one statement, at the latest of their moments; answers for each as [`close`] does.
///
/// # Errors
/// As [`close`]; a single one that the database refuses fails them all.
pub async fn close_all(db: &PgPool, closings: &[Closing]) -> Result<Vec<bool>, sqlx::Error> {
    let Some(now) = closings.iter().map(|closing| closing.at).max() else { return Ok(Vec::new()) };
    let list = Columns::of(closings);
    let files = Files::of(closings);
    let places = sqlx::query_file_scalar!(
        "src/job/close.sql",
        &list.jobs,
        &list.fences as _,
        &list.tokens as _,
        &list.max_tries,
        &list.statuses as _,
        &list.outputs as _,
        &list.error_codes as _,
        &list.error_messages as _,
        &list.error_retryables as _,
        &list.charges,
        &ids(closings.len()),
        &ids(closings.len()),
        &ids(closings.len()),
        &list.notices,
        &list.file_counts,
        &list.metered as _,
        &list.known_costs as _,
        &list.begun,
        now,
        now + file::KEPT,
        &files.of_closing,
        &files.ids,
        &files.positions,
        &files.storage_keys as _,
        &files.preview_keys as _,
        &files.mime_types as _,
        &files.sizes,
        &files.widths as _,
        &files.heights as _,
        &files.durations as _,
    )
    .fetch_all(db)
    .await?;
    Ok(answered(closings.len(), &places))
}

fn ids(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| EntryId::new().0).collect()
}

/// Closings as columns, as Postgres takes lists.
#[derive(Default)]
struct Columns<'a> {
    jobs: Vec<Uuid>,
    fences: Vec<&'static str>,
    tokens: Vec<Option<Uuid>>,
    max_tries: Vec<i16>,
    statuses: Vec<&'static str>,
    outputs: Vec<Option<Value>>,
    error_codes: Vec<Option<&'static str>>,
    error_messages: Vec<Option<String>>,
    error_retryables: Vec<Option<bool>>,
    charges: Vec<i64>,
    notices: Vec<Uuid>,
    file_counts: Vec<i32>,
    metered: Vec<Option<&'a Value>>,
    known_costs: Vec<Option<Decimal>>,
    begun: Vec<i16>,
}

impl<'a> Columns<'a> {
    fn of(closings: &'a [Closing]) -> Self {
        let mut list = Self::default();
        for Closing { fence, verdict, begun, .. } in closings {
            let (output, charge, metered) = match verdict {
                Verdict::Succeeded { output, charge, metered, .. } => (Some(output), *charge, Some(metered)),
                _ => (None, Tokens::ZERO, None),
            };
            let error = verdict.error();
            list.jobs.push(fence.job().0);
            list.fences.push(fence.word());
            list.tokens.push(if let Fence::Held(lease) = fence { Some(lease.token.0) } else { None });
            list.max_tries.push(if let Fence::Lost { max_tries, .. } = fence {
                *max_tries
            } else {
                i16::MAX
            });
            list.statuses.push(verdict.status().word());
            list.outputs.push(output.map(described));
            list.error_codes.push(error.as_ref().map(|error| error.code));
            list.error_retryables.push(error.as_ref().map(|error| error.retryable));
            list.error_messages.push(error.map(|error| error.message));
            list.charges.push(charge.count());
            list.notices.push(NoticeId::new().0);
            list.file_counts
                .push(output.map_or(0, |output| i32::try_from(output.files.len()).unwrap_or(i32::MAX)));
            list.metered.push(metered);
            list.known_costs.push(verdict.known_cost());
            list.begun.push(*begun);
        }
        list
    }
}

/// The files of several closings as columns.
#[derive(Default)]
struct Files<'a> {
    /// Whose each is: the place of its closing, from 1.
    of_closing: Vec<i32>,
    ids: Vec<Uuid>,
    positions: Vec<i16>,
    storage_keys: Vec<&'a str>,
    preview_keys: Vec<Option<&'a str>>,
    mime_types: Vec<&'a str>,
    sizes: Vec<i64>,
    widths: Vec<Option<i32>>,
    heights: Vec<Option<i32>>,
    durations: Vec<Option<f64>>,
}

impl<'a> Files<'a> {
    fn of(closings: &'a [Closing]) -> Self {
        let mut list = Self::default();
        for (closing, place) in closings.iter().zip(1..) {
            let Verdict::Succeeded { output, .. } = &closing.verdict else { continue };
            for (file, position) in output.files.iter().zip(0..) {
                list.of_closing.push(place);
                list.ids.push(FileId::new().0);
                list.positions.push(position);
                list.storage_keys.push(&file.storage_key);
                list.preview_keys.push(file.preview_key.as_deref());
                list.mime_types.push(&file.mime_type);
                list.sizes.push(file.size_bytes);
                list.widths.push(file.width);
                list.heights.push(file.height);
                list.durations.push(file.duration_seconds);
            }
        }
        list
    }
}

/// The part of an output that is kept with the job; files have rows of their own.
fn described(output: &Output) -> Value {
    let mut described = json!({ "text": output.text, "usage": output.usage });
    if let (Some(fields), Some(Value::Object(extra))) = (described.as_object_mut(), &output.extra) {
        fields.extend(extra.clone());
    }
    described
}
