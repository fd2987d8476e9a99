//! The job: what it is, and every move it can make. One verb a file, each owning its one statement.
//!
//! A job is **submitted** (hold, row and queue row together), **claimed** under a lease, run, **parked** or **retried**
//! any number of times, and **closed** once: result or error, charge or release, notice and the end of its queue row in
//! one commit. Every write of a worker names the token of its claim; a stale one changes nothing. Statuses only move
//! forward. Deliberately absent: the network. Whoever calls a provider or the storage does so between these verbs.

mod cancel;
mod checkpoint;
mod claim;
mod close;
mod discard;
mod doorbell;
mod eta;
mod floors;
mod former;
mod improve;
mod lease;
mod order;
mod parent;
mod query;
mod routing;
mod sending;
mod submit;
mod sweep;
mod view;
mod writes;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use cancel::{Cancel, cancel};
pub use checkpoint::{Checkpoint, Misses, Output, StoredFile};
pub use claim::{Claim, Claimed, claim, promote};
pub use close::{Closing, Fence, JobError, Verdict, close, close_all};
pub use discard::discard;
pub use doorbell::{Doorbell, ring};
pub use eta::Estimator;
pub use floors::Floors;
pub use former::{Former, former};
pub use improve::{ITERATIONS_MAX, improved};
pub use lease::{
    Beat, Failure, Intent, Lease, Next, Parking, Pause, Resume, beat, begin_all, park_all, release, retry,
    save,
};
pub use order::{Descent, Fallback, Idempotency, Order, Turn, Webhook, Wishes};
pub use parent::{Parent, parent, parent_id};
pub use query::{Depth, Filter, Job, depths, files_of, find, list, list_oldest};
pub use routing::{Routing, Sort};
pub use sending::{Sending, first_sent};
pub use submit::{Receipt, SubmitError, Submitted, Submitter, first_of};
pub use sweep::{Swept, expire_overdue, rescue_lost};
pub use view::{FileView, JobAction, JobFailure, JobOutput, JobPrice, JobUrls, JobView, Renderer};
pub use writes::Writes;

/// A kind of content, and the pool of workers that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// Chat and embeddings.
    Text,
    /// Pictures.
    Image,
    /// Moving pictures.
    Video,
    /// Speech, transcripts, music.
    Audio,
}

impl Medium {
    /// All four, in the order of their places in `accounts.vtime`.
    pub const ALL: [Self; 4] = [Self::Text, Self::Image, Self::Video, Self::Audio];

    /// Its word in SQL, JSON and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }

    /// The medium a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|medium| medium.word() == word)
    }

    /// The medium of a task word such as `image.generate`.
    pub fn of_task(task: &str) -> Option<Self> {
        task.split_once('.').and_then(|(medium, _)| Self::from_word(medium))
    }

    /// Its place in `accounts.vtime`, counted from 1 as Postgres does.
    const fn place(self) -> i32 {
        match self {
            Self::Text => 1,
            Self::Image => 2,
            Self::Video => 3,
            Self::Audio => 4,
        }
    }
}

/// Where a job stands, as callers see it. Frozen: finer detail goes into `phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = JobStatus)]
pub enum Status {
    /// Accepted, not begun.
    Queued,
    /// Begun; may be waiting for its provider.
    Running,
    /// Ended with a result, and charged.
    Succeeded,
    /// Ended without one.
    Failed,
    /// Ended because its owner said so.
    Canceled,
    /// Ended because its deadline passed.
    Expired,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Canceled, Self::Expired];

    /// Its word in SQL and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }

    /// The status a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    /// Whether nothing can follow it.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// Whether a job in this status may next be seen in `next`.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => !matches!(next, Self::Queued),
            Self::Running => next.is_final(),
            _ => false,
        }
    }
}

/// How soon a job is wanted, among others of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    High,
    /// The ordinary one.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

impl Priority {
    /// All three, in the order of their ranks.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    const fn rank(self) -> i16 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }

    /// The priority of a rank; the ordinary one for a rank that there is not.
    fn of_rank(rank: i16) -> Self {
        Self::ALL.into_iter().find(|priority| priority.rank() == rank).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_statuses_is_allowed_or_forbidden_on_purpose() {
        use Status::{Canceled, Expired, Failed, Queued, Running, Succeeded};
        let allowed = [
            (Queued, Running),
            (Queued, Succeeded),
            (Queued, Failed),
            (Queued, Canceled),
            (Queued, Expired),
            (Running, Succeeded),
            (Running, Failed),
            (Running, Canceled),
            (Running, Expired),
        ];
        for from in Status::ALL {
            for to in Status::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from:?} → {to:?}");
            }
        }
    }

    #[test]
    fn a_task_belongs_to_the_pool_of_its_first_word() {
        assert_eq!(Medium::of_task("image.generate"), Some(Medium::Image));
        assert_eq!(Medium::of_task("smell.generate"), None);
        assert_eq!(Medium::of_task("image"), None);
    }
}
