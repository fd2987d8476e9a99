//! What a run of a job leads to, decided in one place.
//!
//! Five words: **Done**, **Wait** (spends no try), **Turn** (again by another way), **Retry** (spends one), **Fail**. The rule behind the table: unknown is
//! not failed. As long as a vendor may still be at work, the job waits, and only the vendor's verdict or the job's
//! deadline ends it. Deliberately absent: input and output; these are functions of what is known.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;
use rust_decimal::Decimal;

use crate::{
    moderation::WhenUnavailable,
    providers::{AfterAmbiguity, ErrorClass, Pending, ProviderError},
    result::ResultError,
};
use shared::job::{Checkpoint, JobError, Misses, Next, Output, Pause, Resume};

/// What becomes of the job.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Finish and charge.
    Done(Output),
    /// Look again then; nothing went wrong.
    Wait(Pause),
    /// Again at once by another way; these words tell why.
    Turn(Way, JobError),
    /// Something went wrong: again then, unless this was the last try, and then fail with these words.
    Retry(Pause, JobError),
    /// No result will come from this provider.
    Fail(JobError),
    /// No result will come, whoever is asked.
    Stop(JobError),
}

/// Another way for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Another key of ours at the same provider.
    Key,
    /// The fallback of this place; this provider failed.
    Elsewhere(usize),
    /// The fallback of this place; this provider is not asked again.
    ElsewhereForGood(usize),
    /// The fallback of this place, without having tried this provider; spends no try.
    Around(usize),
}

impl Way {
    /// The route that the job is on then.
    pub fn next(self) -> Next {
        match self {
            Self::Key => Next::Here,
            Self::Elsewhere(place) | Self::Around(place) => Next::Elsewhere(place),
            Self::ElsewhereForGood(place) => Next::ElsewhereForGood(place),
        }
    }

    /// For people.
    pub fn phase(self) -> &'static str {
        if self == Self::Key { "trying another key" } else { "trying another provider" }
    }
}

impl Outcome {
    /// The same failure, tried again by another way.
    pub fn turned(self, way: Way) -> Self {
        match self {
            Self::Retry(_, error) | Self::Fail(error) => Self::Turn(way, error),
            other => other,
        }
    }

    /// Its word in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Wait(_) => "wait",
            Self::Turn(..) => "turn",
            Self::Retry(..) => "retry",
            Self::Fail(_) | Self::Stop(_) => "fail",
        }
    }
}

/// What was being done when a vendor's call failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Fetching the files of the input.
    Input,
    /// Handing the work over.
    Submit(AfterAmbiguity),
    /// Asking whether a lost submit arrived, after so many answers of "never seen".
    Lookup {
        /// Answers so far.
        unseen: u8,
    },
    /// Asking how the task fares.
    Resume {
        /// The vendor's task id.
        provider_ref: String,
        /// What went wrong so far.
        misses: Misses,
    },
}

/// First wait after a failure; doubled by each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(2);
/// Longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Longest wait between two looks at a task.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// Longest advice of a vendor on when to come back that is followed.
const ADVICE_MAX: Duration = Duration::from_secs(600);
/// Shortest and longest wait for a provider that takes no work.
const NO_WAY_MIN: Duration = Duration::from_secs(2);
const NO_WAY_MAX: Duration = Duration::from_secs(60);
/// Most that a success may cost for its submit to be repeated while the fate of the first is unknown, in USD.
const TWICE_MAX_USD: Decimal = Decimal::from_parts(25, 0, 0, false, 2);
/// How long a vendor may take to know of a task that it has accepted.
const SETTLE: Duration = Duration::from_secs(5);
/// How often a vendor must say "never seen" before it is believed.
pub const UNSEEN_BELIEVED: u8 = 2;
/// Failed downloads of a finished task after which its result is taken for lost.
const DOWNLOADS: u16 = 6;

/// The wait before try number `tries + 1`: doubling, limited, and up to a quarter shorter or longer so that jobs
/// which failed together do not come back together.
pub fn backoff(tries: u16) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(u32::from(tries.min(16))));
    doubled.min(BACKOFF_MAX).mul_f64(rand::rng().random_range(0.75..1.25))
}

/// A vendor is at work: look again when it says, keeping the reference.
pub fn pending(pending: &Pending, now: DateTime<Utc>) -> Outcome {
    Outcome::Wait(Pause {
        until: now + pending.look_again.min(LOOK_MAX),
        resume: Resume::At(Checkpoint::Pending {
            provider_ref: pending.provider_ref.clone(),
            misses: Misses::default(),
        }),
        phase: pending.phase.clone(),
        progress: pending.progress.map(i16::from),
    })
}

/// What follows an ambiguous submit that may cost so much: what is dear is not made twice, whatever its adapter says of cheaper work.
pub fn after_ambiguity(policy: AfterAmbiguity, cost_usd: Decimal) -> AfterAmbiguity {
    match policy {
        AfterAmbiguity::SubmitAgain if cost_usd > TWICE_MAX_USD => AfterAmbiguity::GiveUp,
        policy => policy,
    }
}

/// A submit's fate is unknown: its answer was lost just now, or the worker died before writing it down.
pub fn unknown_submit(policy: AfterAmbiguity, tries: u16, now: DateTime<Utc>) -> Outcome {
    match policy {
        AfterAmbiguity::Lookup => wait(
            now + SETTLE,
            Resume::At(Checkpoint::Submitting { unseen: 0 }),
            "asking the provider whether it has the job",
        ),
        AfterAmbiguity::SubmitAgain => {
            let lost = JobError { may_be_billed: true, ..unavailable("the provider's answer was lost") };
            retry(now + backoff(tries), Resume::Anew, lost)
        }
        AfterAmbiguity::GiveUp => Outcome::Fail(JobError {
            code: "outcome_unknown",
            message: "the provider's answer was lost, and it cannot be asked again without the risk of making it twice"
                .into(),
            retryable: true,
            may_be_billed: true,
        }),
    }
}

/// A vendor says that it never saw the submit: once may be too early, twice is believed and submitted again.
pub fn unseen(times: u8, tries: u16, now: DateTime<Utc>) -> Outcome {
    let times = times + 1;
    if times < UNSEEN_BELIEVED {
        let checkpoint = Resume::At(Checkpoint::Submitting { unseen: times });
        return wait(now + SETTLE, checkpoint, "asking the provider whether it has the job");
    }
    retry(now + backoff(tries), Resume::Anew, unavailable("the provider never received the job"))
}

/// What the job asks for is not made here, whoever would make it.
pub fn flagged(category: &str) -> Outcome {
    Outcome::Stop(JobError {
        code: "content_refused",
        message: format!("the content policy of this service refused this input: {category}"),
        retryable: false,
        may_be_billed: false,
    })
}

/// What the job asks for could not be judged, after so many `misses` before; `advice` is when the moderator wants to be asked
/// again.
pub fn unjudged(
    policy: WhenUnavailable,
    misses: u16,
    advice: Option<Duration>,
    tries: u16,
    now: DateTime<Utc>,
) -> Outcome {
    let pause = |failures| advice.map_or_else(|| backoff(failures), |advice| advice.min(ADVICE_MAX));
    match policy {
        WhenUnavailable::Fail => {
            let error = JobError {
                code: "moderation_unavailable",
                ..unavailable("the input could not be judged by the content policy, so it is not made")
            };
            retry(now + pause(tries), Resume::Anew, error)
        }
        WhenUnavailable::Queue => {
            let checkpoint = Checkpoint::Judging { misses: misses.saturating_add(1) };
            // As in `retry`: a wait of nothing would spin.
            let until = now + pause(misses) + TimeDelta::microseconds(1);
            wait(until, Resume::At(checkpoint), "waiting for moderation")
        }
    }
}

/// What a failed call means for a job whose success costs us so much at most.
pub fn classify(
    stage: &Stage,
    error: &ProviderError,
    cost_usd: Decimal,
    tries: u16,
    now: DateTime<Utc>,
) -> Outcome {
    match (error.class, stage) {
        (ErrorClass::BadInput, Stage::Input) => Outcome::Fail(JobError {
            code: "invalid_input_file",
            message: error.message.clone(),
            retryable: false,
            may_be_billed: false,
        }),
        (ErrorClass::Refused, _) => Outcome::Fail(JobError {
            code: "content_refused",
            message: "the provider's content policy refused this input".into(),
            retryable: false,
            may_be_billed: false,
        }),
        (ErrorClass::Failed, _) => Outcome::Fail(JobError {
            code: "provider_failed",
            message: "the provider could not make this".into(),
            retryable: true,
            may_be_billed: false,
        }),
        (ErrorClass::Broken, _) => remade(cost_usd, tries, now),
        (_, Stage::Resume { provider_ref, misses }) => {
            let misses = Misses { blind: misses.blind.saturating_add(1), ..*misses };
            let pace =
                error.retry_after.map_or_else(|| look_again(misses.blind), |advice| advice.min(ADVICE_MAX));
            Outcome::Wait(another_look(provider_ref, misses, now + pace))
        }
        (_, Stage::Lookup { unseen }) => {
            let until = now + error.retry_after.map_or_else(|| backoff(0), |advice| advice.min(ADVICE_MAX));
            let checkpoint = Resume::At(Checkpoint::Submitting { unseen: *unseen });
            wait(until, checkpoint, "asking the provider whether it has the job")
        }
        (ErrorClass::BadInput, Stage::Submit(_)) => Outcome::Fail(JobError {
            code: "provider_rejected_input",
            message: "the provider does not take this input".into(),
            retryable: false,
            may_be_billed: false,
        }),
        (ErrorClass::Ambiguous, Stage::Submit(policy)) => unknown_submit(*policy, tries, now),
        (
            ErrorClass::Auth
            | ErrorClass::Quota
            | ErrorClass::RateLimited
            | ErrorClass::Unavailable
            | ErrorClass::Ambiguous,
            _,
        ) => {
            let wait = error.retry_after.map_or_else(|| backoff(tries), |advice| advice.min(ADVICE_MAX));
            let error = if *stage == Stage::Input {
                JobError { code: "input_unavailable", ..unavailable("a file of the input could not be read") }
            } else {
                unavailable("the provider could not be reached")
            };
            retry(now + wait, Resume::Anew, error)
        }
    }
}

/// What a result that could not be kept means for the job. `task` is the vendor's reference by which the result can be
/// asked for again, and what went wrong with it before.
pub fn classify_result(
    error: &ResultError,
    task: Option<(&str, Misses)>,
    cost_usd: Decimal,
    tries: u16,
    now: DateTime<Utc>,
) -> Outcome {
    let spent = |misses: Misses| matches!(error, ResultError::Download(_)) && misses.undelivered >= DOWNLOADS;
    match (error, task) {
        // The result is there and paid for; our own trouble must not make us pay twice, a vendor's only at last.
        (ResultError::Download(_) | ResultError::Storage(_), Some((provider_ref, misses)))
            if !spent(misses) =>
        {
            let misses = Misses { blind: 0, undelivered: misses.undelivered.saturating_add(1) };
            Outcome::Wait(another_look(provider_ref, misses, now + look_again(misses.undelivered)))
        }
        // Made again, it would be at such an address again.
        (ResultError::Forbidden(_), _) => Outcome::Fail(unusable()),
        _ => remade(cost_usd, tries, now),
    }
}

/// A result of no use, which will be billed all the same: made again, but what is dear only once.
fn remade(cost_usd: Decimal, tries: u16, now: DateTime<Utc>) -> Outcome {
    if cost_usd > TWICE_MAX_USD && tries > 0 {
        return Outcome::Fail(unusable());
    }
    retry(now + backoff(tries), Resume::Anew, unusable())
}

/// Whether another provider may do better where one failed so. Not where the input or its content is to blame, nor where the first
/// provider may still deliver.
pub fn is_provider_to_blame(error: &JobError) -> bool {
    matches!(
        error.code,
        "provider_unavailable" | "provider_failed" | "provider_rejected_input" | "provider_result_unusable"
    )
}

/// Whether the content was refused, which another provider might have taken.
pub fn is_refusal(error: &JobError) -> bool {
    error.code == "content_refused"
}

/// From the start, at once.
pub fn at_once(phase: &str, now: DateTime<Utc>) -> Pause {
    Pause {
        until: now + TimeDelta::microseconds(1),
        resume: Resume::Anew,
        phase: phase.into(),
        progress: None,
    }
}

/// No way leads to the provider just now: its route rests, or all our keys there do. Nothing was tried, and nothing is spent.
pub fn no_way(until: DateTime<Utc>, now: DateTime<Utc>) -> Outcome {
    // Those that wait for the same moment do not come at the same moment.
    let until = until.clamp(now + NO_WAY_MIN, now + NO_WAY_MAX);
    let spread = NO_WAY_MIN.mul_f64(rand::rng().random_range(0.0..1.0));
    wait(until + spread, Resume::Unchanged, "waiting for the provider")
}

/// The provider takes nothing now, and the fallback of this place does.
pub fn detour(place: usize) -> Outcome {
    let error = unavailable("the provider takes no work just now");
    Outcome::Turn(Way::Around(place), error)
}

/// The job itself cannot be read or its handler broke: again from the same place, perhaps by a better worker.
pub fn defect(code: &'static str, message: &str, tries: u16, now: DateTime<Utc>) -> Outcome {
    let error = JobError { code, message: message.into(), retryable: true, may_be_billed: true };
    retry(now + backoff(tries), Resume::Unchanged, error)
}

/// This process lacks what the job needs.
pub fn not_configured(tries: u16, now: DateTime<Utc>) -> Outcome {
    retry(
        now + backoff(tries),
        Resume::Unchanged,
        unavailable("no provider takes jobs for this model just now"),
    )
}

/// The wait before the next look at a task after so many that failed: longer and longer.
fn look_again(failures: u16) -> Duration {
    backoff(failures.saturating_sub(1)).min(LOOK_MAX)
}

/// Another look at the same task.
fn another_look(provider_ref: &str, misses: Misses, until: DateTime<Utc>) -> Pause {
    Pause {
        until,
        resume: Resume::At(Checkpoint::Pending { provider_ref: provider_ref.to_owned(), misses }),
        phase: "waiting for the provider's word".into(),
        progress: None,
    }
}

fn wait(until: DateTime<Utc>, resume: Resume, phase: &str) -> Outcome {
    Outcome::Wait(Pause { until, resume, phase: phase.into(), progress: None })
}

fn retry(until: DateTime<Utc>, resume: Resume, error: JobError) -> Outcome {
    // Postgres keeps microseconds, and a wait of nothing would spin.
    let until = until + TimeDelta::microseconds(1);
    Outcome::Retry(Pause { until, resume, phase: "retrying".into(), progress: None }, error)
}

fn unavailable(what: &str) -> JobError {
    JobError { code: "provider_unavailable", message: what.into(), retryable: true, may_be_billed: false }
}

fn unusable() -> JobError {
    JobError {
        code: "provider_result_unusable",
        message: "the provider's results could not be used".into(),
        retryable: true,
        may_be_billed: true,
    }
}

#[cfg(test)]
mod tests;
