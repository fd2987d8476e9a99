//! A job's way through one claim: resume where the last run stopped, call the provider, keep the result, settle.
//!
//! [`run_job`] is the one function that workers and tests both call. It makes at most one paid submit, after writing
//! the intent; every write is fenced by the lease, and a lost lease ends the run without another word. Before the first one,
//! what is asked for is judged. A database that is away is waited for, for the result in hand is worth more than the slot. Work
//! that nobody bills has no intent: doing it again costs nothing.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use rust_decimal::Decimal;

use crate::{
    Ctx,
    bill::{self, Bill},
    blame,
    media::Picture,
    moderation,
    outcome::{self, Outcome, Way, backoff},
    providers::{AfterAmbiguity, Artifacts, Provider},
    result::{self, ResultError},
    trace,
};
use shared::{
    catalog::Route,
    db::is_transient,
    job::{
        self, Checkpoint, Claimed, Closing, Failure, Fence, JobError, Misses, Next, Output, Parking, Pause,
        Resume, Verdict,
    },
    wake::Wake,
};

mod ask;

pub(crate) use ask::Desk;
pub use ask::Entry;

/// Longest wait for a vendor to acknowledge a cancel; the job ends either way.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a job waits for a key by which its task can be asked for.
const KEYLESS: TimeDelta = TimeDelta::seconds(60);

/// A place on a job's way, for tests that crash there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Station {
    /// The job is leased; nothing was done.
    Claimed,
    /// What is asked for was judged and may be made; nothing is written.
    Judged,
    /// The intent to submit is written; the provider has not been called.
    Intended,
    /// The provider answered; nothing is written.
    Answered,
    /// The provider's reference is written and the job parked.
    Parked,
    /// The result is in storage; nothing is written.
    Stored,
    /// The stored result is written down; the job is open.
    Saved,
    /// The job is about to be closed.
    Closing,
    /// The job is closed; nobody has been told.
    Closed,
}

/// Told of every station a job passes. Deaf unless a test listens.
#[derive(Clone, Default)]
pub struct Probe(Option<Arc<dyn Fn(Station) + Send + Sync>>);

impl Probe {
    /// A probe that calls `listener` at every station.
    pub fn new(listener: impl Fn(Station) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    fn at(&self, station: Station) {
        if let Some(listener) = &self.0 {
            listener(station);
        }
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Probe(listening)" } else { "Probe" })
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The job is final.
    Closed,
    /// The job rests.
    Paused {
        /// Until then.
        until: DateTime<Utc>,
    },
    /// The lease was lost: nothing was written.
    Stale,
}

/// The lease is lost: someone else has the job, or it is over.
struct Lost;

/// Takes a claimed job as far as it goes now.
pub async fn run_job(ctx: &Ctx, claimed: &Claimed) -> Ended {
    ctx.probe.at(Station::Claimed);
    if claimed.cancel_requested {
        return cancel(ctx, claimed).await;
    }
    match trace::within(claimed.trace(), Box::pin(advance(ctx, claimed))).await {
        Ok(outcome) => settle(ctx, claimed, outcome).await,
        Err(Lost) => Ended::Stale,
    }
}

/// Ends a job because its owner said so, asking the provider to stop as well.
pub async fn cancel(ctx: &Ctx, claimed: &Claimed) -> Ended {
    if let Ok(Some(Checkpoint::Pending { provider_ref, .. })) = &claimed.checkpoint
        && let Some(desk) = Desk::of_task(ctx, claimed)
    {
        let asked = trace::within(claimed.trace(), desk.cancel(ctx, claimed, provider_ref));
        match tokio::time::timeout(CANCEL_TIMEOUT, asked).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(job.id = %claimed.job(), %error, "provider not canceled"),
            Err(_) => tracing::warn!(job.id = %claimed.job(), "provider gave no word on a cancel"),
        }
    }
    close(ctx, claimed, Verdict::Canceled).await
}

/// Ends a job because its deadline has come.
pub async fn expire(ctx: &Ctx, claimed: &Claimed) -> Ended {
    let ended = close(ctx, claimed, Verdict::Expired).await;
    if ended == Ended::Closed {
        blame::overdue(ctx, claimed);
    }
    ended
}

/// From the checkpoint to an outcome.
async fn advance(ctx: &Ctx, claimed: &Claimed) -> Result<Outcome, Lost> {
    let tries = tries(claimed);
    let now = ctx.clock.now();
    let checkpoint = match &claimed.checkpoint {
        Ok(checkpoint) => checkpoint,
        Err(why) => {
            tracing::error!(job.id = %claimed.job(), why, "checkpoint of {} cannot be read", claimed.job());
            return Ok(outcome::defect("job_unreadable", "the job's state cannot be read", tries, now));
        }
    };
    if let Some(Checkpoint::Stored { output }) = checkpoint {
        return Ok(Outcome::Done(output.clone()));
    }
    let Some(provider) = ctx.providers.get(&claimed.provider) else { return Ok(not_set_up(ctx, claimed)) };
    match (checkpoint, outcome::after_ambiguity(provider.after_ambiguity(), claimed.cost_usd)) {
        (Some(Checkpoint::Pending { provider_ref, misses }), _) => {
            let Some(desk) = Desk::of_task(ctx, claimed) else { return Ok(keyless(ctx, claimed)) };
            ask::resume(ctx, claimed, &desk, provider_ref, *misses).await
        }
        (Some(Checkpoint::Submitting { unseen }), AfterAmbiguity::Lookup) => {
            // Whoever asks with the key of another account is told that there was never such a submit.
            let Some(desk) = Desk::of_own_task(ctx, claimed) else { return Ok(keyless(ctx, claimed)) };
            ask::lookup(ctx, claimed, &desk, *unseen).await
        }
        (Some(Checkpoint::Submitting { .. }), policy @ AfterAmbiguity::GiveUp) => {
            Ok(outcome::unknown_submit(policy, tries, now))
        }
        _ => begin(ctx, claimed, provider.as_ref()).await,
    }
}

/// Station 5 from its start: if the provider takes work, what is asked for is judged, and submitted if nothing is against it.
async fn begin(ctx: &Ctx, claimed: &Claimed, provider: &dyn Provider) -> Result<Outcome, Lost> {
    let entry = match ask::admit(ctx, claimed).await {
        Ok(entry) => entry,
        Err(outcome) => return Ok(outcome),
    };
    // What was submitted once had been judged, and an input never changes.
    if claimed.attempt == 0 {
        if let Some(outcome) = moderation::screen(ctx, claimed, &entry).await {
            entry.leave(ctx, claimed).await;
            return Ok(outcome);
        }
        ctx.probe.at(Station::Judged);
    }
    ask::submit(ctx, claimed, provider, entry).await
}

/// A task is under way, and this process has no key to ask for it: it may be there soon, or elsewhere. Unknown is not failed.
fn keyless(ctx: &Ctx, claimed: &Claimed) -> Outcome {
    tracing::warn!(job.id = %claimed.job(), provider.name = claimed.provider, key.id = ?claimed.provider_key, "no key to ask for the task of {}", claimed.job());
    let now = ctx.clock.now();
    outcome::no_way(now + KEYLESS, now)
}

fn not_set_up(ctx: &Ctx, claimed: &Claimed) -> Outcome {
    tracing::warn!(job.id = %claimed.job(), provider.name = claimed.provider, "no key works for this provider here");
    outcome::not_configured(tries(claimed), ctx.clock.now())
}

/// What a provider made.
struct Made<'a> {
    artifacts: Artifacts,
    /// The picture that it was made from, as far as that is known.
    source: Option<Picture>,
    /// When the work was submitted.
    began: DateTime<Utc>,
    /// The task it can be asked for by again, and what went wrong with that so far.
    task: Option<(&'a str, Misses)>,
}

/// Station 6: verifies and stores the result, and remembers that it is stored, so that a crash does not pay again.
async fn keep(ctx: &Ctx, claimed: &Claimed, made: Made<'_>) -> Result<Outcome, Lost> {
    let Made { artifacts, source, began, task } = made;
    let took = (ctx.clock.now() - began).to_std().unwrap_or_default();
    let kept = keep_patiently(ctx, claimed, &artifacts, source, task.is_some()).await;
    blame::result(ctx, claimed, &kept, took);
    let output = match kept {
        Ok(output) => output,
        Err(error) => {
            tracing::warn!(job.id = %claimed.job(), provider.name = claimed.provider, %error, "result of {} not kept", claimed.job());
            let (tries, now) = (tries(claimed), ctx.clock.now());
            return Ok(outcome::classify_result(&error, task, claimed.cost_usd, tries, now));
        }
    };
    ctx.probe.at(Station::Stored);
    if !output.files.is_empty() {
        let checkpoint = Checkpoint::Stored { output: output.clone() };
        if !persist(ctx, || Box::pin(job::save(&ctx.db, claimed.lease, &checkpoint, "finishing"))).await {
            return Err(Lost);
        }
        ctx.probe.at(Station::Saved);
    }
    Ok(Outcome::Done(output))
}

/// Stores a result. One that cannot be asked for again is held on to while our own storage is away.
async fn keep_patiently(
    ctx: &Ctx,
    claimed: &Claimed,
    artifacts: &Artifacts,
    source: Option<Picture>,
    can_ask_again: bool,
) -> Result<Output, ResultError> {
    let mut failures = 0;
    loop {
        match result::keep(ctx, claimed, artifacts, source).await {
            Err(ResultError::Storage(error)) if !can_ask_again && ctx.clock.now() < claimed.deadline => {
                tracing::warn!(job.id = %claimed.job(), error = format!("{error:#}"), "storage away; holding the result");
                tokio::time::sleep(backoff(failures)).await;
                failures += 1;
            }
            kept => return kept,
        }
    }
}

/// Station 7: writes the outcome.
pub async fn settle(ctx: &Ctx, claimed: &Claimed, outcome: Outcome) -> Ended {
    let is_last = tries(claimed) + 1 >= ctx.timing.max_tries;
    let outcome = match outcome {
        // A failure on the last try is the end.
        Outcome::Retry(_, error) | Outcome::Turn(Way::Key, error) if is_last => Outcome::Fail(error),
        outcome if is_last => outcome,
        outcome => match next_way(ctx, claimed, &outcome) {
            Some(way) => outcome.turned(way),
            None => outcome,
        },
    };
    metrics::counter!("kiln_job_outcomes_total", "outcome" => outcome.word(), "model" => claimed.model.clone())
        .increment(1);
    let at = ctx.clock.now();
    match outcome {
        Outcome::Done(output) => {
            let Bill { charge, metered, cost_usd } = bill::draw_up(ctx, claimed, &output).await;
            close(ctx, claimed, Verdict::Succeeded { output, charge, metered, cost_usd }).await
        }
        Outcome::Fail(error) | Outcome::Stop(error) => close(ctx, claimed, Verdict::Failed(error)).await,
        Outcome::Wait(pause) => {
            // At its deadline a job is ended by a worker, which knows what it waited for.
            let until = if at < claimed.deadline { pause.until.min(claimed.deadline) } else { pause.until };
            let parking = Parking { lease: claimed.lease, pause: Pause { until, ..pause }, at };
            let parked = persist(ctx, || Box::pin(ctx.writes.park(parking.clone()))).await;
            ctx.probe.at(Station::Parked);
            paused(parked, until)
        }
        Outcome::Retry(pause, error) => again(ctx, claimed, pause, &error, None).await,
        Outcome::Turn(way, error) => {
            again(ctx, claimed, outcome::at_once(way.phase(), at), &error, Some(way)).await
        }
    }
}

/// Whether an attempt is open at the provider, from before this run or begun by it.
fn is_under_way(ctx: &Ctx, claimed: &Claimed) -> bool {
    ctx.paying.is_set() || !matches!(claimed.checkpoint, Ok(None | Some(Checkpoint::Judging { .. })))
}

/// Counts what an attempt cost, once it is written that it has ended. In millionths of a dollar: counters are whole.
fn count_cost(claimed: &Claimed, cost_usd: Decimal) {
    let micros = u64::try_from((cost_usd * Decimal::from(1_000_000)).round()).unwrap_or(0);
    let labels = [("provider", claimed.provider.clone()), ("model", claimed.model.clone())];
    metrics::counter!("kiln_provider_cost_micro_usd_total", &labels).increment(micros);
}

async fn again(ctx: &Ctx, claimed: &Claimed, pause: Pause, error: &JobError, way: Option<Way>) -> Ended {
    let why = format!("{}: {}", error.code, error.message);
    let ends_attempt = pause.resume == Resume::Anew && is_under_way(ctx, claimed);
    tracing::info!(job.id = %claimed.job(), why, anew = pause.resume == Resume::Anew, ?way, "job {} will be tried again", claimed.job());
    let until = pause.until;
    let failure = Failure {
        lease: claimed.lease,
        pause,
        why,
        may_be_billed: error.may_be_billed,
        next: way.map_or(Next::Here, Way::next),
        spends_try: !matches!(way, Some(Way::Around(_))),
        at: ctx.clock.now(),
    };
    let written = persist(ctx, || Box::pin(job::retry(&ctx.db, &failure))).await;
    if written && ends_attempt {
        count_cost(claimed, if error.may_be_billed { claimed.cost_usd } else { Decimal::ZERO });
    }
    paused(written, until)
}

/// Whether a failure sends the job to its next provider: it is this one's own, nothing of it is under way here, and one of the
/// others takes work. A refused content goes there only if the route says so, and never comes back.
fn next_way(ctx: &Ctx, claimed: &Claimed, outcome: &Outcome) -> Option<Way> {
    let error = match outcome {
        Outcome::Fail(error) => error,
        Outcome::Retry(pause, error)
            if pause.resume == Resume::Anew
                || matches!(claimed.checkpoint, Ok(None | Some(Checkpoint::Judging { .. }))) =>
        {
            error
        }
        _ => return None,
    };
    let way: fn(usize) -> Way = if outcome::is_provider_to_blame(error) {
        Way::Elsewhere
    } else if outcome::is_refusal(error) && route(ctx, claimed).is_some_and(|route| route.after_refusal) {
        Way::ElsewhereForGood
    } else {
        return None;
    };
    // After a verdict there is nothing to come back for, so the job waits at the next provider rather than here.
    let is_over = matches!(outcome, Outcome::Fail(_)) && !claimed.fallbacks.is_empty();
    ask::open_fallback(ctx, claimed).or(is_over.then_some(0)).map(way)
}

/// The route that the job is on, as the catalogue has it now.
fn route<'a>(ctx: &'a Ctx, claimed: &Claimed) -> Option<&'a Route> {
    ctx.catalog.known(&claimed.model)?.route(&claimed.provider, &claimed.upstream_model)
}

fn paused(written: bool, until: DateTime<Utc>) -> Ended {
    if written { Ended::Paused { until } } else { Ended::Stale }
}

async fn close(ctx: &Ctx, claimed: &Claimed, verdict: Verdict) -> Ended {
    ctx.probe.at(Station::Closing);
    let fence = Fence::Held(claimed.lease);
    let closed = persist(ctx, || {
        // It ends when it is written: a database that was away must not put the end into a day that is over.
        let at = ctx.clock.now();
        let begun = begun(ctx, claimed, &verdict);
        let closing = Closing { fence, verdict: verdict.clone(), begun, at };
        Box::pin(ctx.writes.close(claimed.account, closing))
    })
    .await;
    ctx.probe.at(Station::Closed);
    if !closed {
        return Ended::Stale;
    }
    if is_under_way(ctx, claimed) {
        count_cost(claimed, verdict.known_cost().unwrap_or(claimed.cost_usd));
    }
    ctx.wakes.send(Wake::Job(claimed.job()));
    ctx.wakes.send(Wake::Notice);
    let error = if let Verdict::Failed(error) = &verdict { Some(error.code) } else { None };
    tracing::info!(job.id = %claimed.job(), account.id = %claimed.account, model = claimed.model, error, "job {} closed", claimed.job());
    Ended::Closed
}

/// The attempt that a success was made by without an intent: work that nobody bills needs none.
fn begun(ctx: &Ctx, claimed: &Claimed, verdict: &Verdict) -> i16 {
    let unbilled = ctx.providers.get(&claimed.provider).is_some_and(|provider| !provider.is_billed());
    if unbilled && matches!(verdict, Verdict::Succeeded { .. }) { claimed.attempt + 1 } else { 0 }
}

/// Repeats a fenced write until the database has taken or refused it. Safe to repeat even when a commit's fate is
/// unknown: the fence finds nothing the second time.
async fn persist<'a>(ctx: &Ctx, write: impl Fn() -> BoxFuture<'a, Result<bool, sqlx::Error>>) -> bool {
    let mut failures = 0;
    loop {
        match write().await {
            Ok(written) => return written,
            Err(error) if is_transient(&error) => {
                tracing::warn!(%error, "database away; the write is repeated");
                tokio::time::sleep(backoff(failures).min(Duration::from_secs(10)) / 4).await;
                failures += 1;
            }
            Err(error) => {
                // A defect of ours. The lease lapses, the try is counted, and the job fails after the last one.
                tracing::error!(%error, "a write of ours was refused");
                return false;
            }
        }
        // A stopping worker holds on to what it has paid for; its deadline and the supervisor's patience are the limit.
        if ctx.drained.is_cancelled() && !ctx.paying.is_set() {
            return false;
        }
    }
}

fn tries(claimed: &Claimed) -> u16 {
    u16::try_from(claimed.tries).unwrap_or(0)
}
