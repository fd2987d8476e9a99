//! A job's way through one claim: resume where the last run stopped, call the provider, keep the result, settle.
//!
//! [`run_job`] is the one function that workers and tests both call. It makes at most one paid submit, after writing
//! the intent; every write is fenced by the lease, and a lost lease ends the run without another word. A database that
//! is away is waited for, for the result in hand is worth more than the slot. Work that nobody bills has no intent: doing it
//! again costs nothing.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

use crate::{
    Ctx,
    bill::{self, Bill},
    fetch::{self, Inputs},
    media::Picture,
    outcome::{self, Outcome, Stage, backoff},
    providers::{
        AfterAmbiguity, Artifacts, Call, Desk, ErrorClass, InputFile, Provider, ProviderError, Step,
    },
    result::{self, ResultError},
};
use shared::{
    db::is_transient,
    job::{self, Checkpoint, Claimed, Closing, Fence, Intent, Misses, Output, Parking, Resume, Verdict},
    wake::Wake,
};

/// Longest wait for a vendor to acknowledge a cancel; the job ends either way.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// A place on a job's way, for tests that crash there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Station {
    /// The job is leased; nothing was done.
    Claimed,
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
    /// The job rests until a moment.
    Paused,
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
    match advance(ctx, claimed).await {
        Ok(outcome) => settle(ctx, claimed, outcome).await,
        Err(Lost) => Ended::Stale,
    }
}

/// Ends a job because its owner said so, asking the provider to stop as well.
pub async fn cancel(ctx: &Ctx, claimed: &Claimed) -> Ended {
    if let Ok(Some(Checkpoint::Pending { provider_ref, .. })) = &claimed.checkpoint
        && let Some(desk) = ctx.providers.get(&claimed.provider)
    {
        let task = call(ctx, claimed, desk, claimed.attempt, Vec::new());
        match tokio::time::timeout(CANCEL_TIMEOUT, desk.provider.cancel(&task, provider_ref)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(job.id = %claimed.job(), %error, "provider not canceled"),
            Err(_) => tracing::warn!(job.id = %claimed.job(), "provider gave no word on a cancel"),
        }
    }
    close(ctx, claimed, Verdict::Canceled).await
}

/// Ends a job because its deadline has come.
pub async fn expire(ctx: &Ctx, claimed: &Claimed) -> Ended {
    close(ctx, claimed, Verdict::Expired).await
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
    let Some(desk) = ctx.providers.get(&claimed.provider) else {
        tracing::warn!(job.id = %claimed.job(), provider.name = claimed.provider, "provider not set up here");
        return Ok(outcome::not_configured(tries, now));
    };
    match checkpoint {
        Some(Checkpoint::Pending { provider_ref, misses }) => {
            resume(ctx, claimed, desk, provider_ref, *misses).await
        }
        Some(Checkpoint::Submitting { unseen }) => match desk.provider.after_ambiguity() {
            AfterAmbiguity::Lookup => lookup(ctx, claimed, desk, *unseen).await,
            AfterAmbiguity::SubmitAgain => submit(ctx, claimed, desk).await,
            policy @ AfterAmbiguity::GiveUp => Ok(outcome::unknown_submit(policy, tries, now)),
        },
        Some(Checkpoint::Stored { .. }) | None => submit(ctx, claimed, desk).await,
    }
}

/// Station 5: intent, call, and what came of it.
async fn submit(ctx: &Ctx, claimed: &Claimed, desk: &Desk) -> Result<Outcome, Lost> {
    let provider = desk.provider.as_ref();
    let Inputs { files, source } = match fetch::inputs(ctx, claimed).await {
        Ok(inputs) => inputs,
        Err(error) => {
            return Ok(outcome::classify(&Stage::Input, &error, tries(claimed), ctx.clock.now()));
        }
    };
    let parent_ref = match parent_ref(ctx, claimed).await {
        Ok(parent_ref) => parent_ref,
        Err(error) => {
            return Ok(outcome::classify(&Stage::Input, &error, tries(claimed), ctx.clock.now()));
        }
    };
    let attempt = claimed.attempt + 1;
    if provider.is_billed() {
        // Before the intent: a run given up with the intent written would look as if it had been sent.
        ctx.paying.begin();
        let intent = Intent {
            lease: claimed.lease,
            attempt,
            provider: claimed.provider.clone(),
            upstream_model: claimed.upstream_model.clone(),
            at: ctx.clock.now(),
        };
        if !persist(ctx, || Box::pin(ctx.writes.begin(intent.clone()))).await {
            return Err(Lost);
        }
        ctx.probe.at(Station::Intended);
    }
    let started = tokio::time::Instant::now();
    let call = Call { parent_ref, ..call(ctx, claimed, desk, attempt, files) };
    let answer = provider.submit(&call).await;
    metrics::histogram!("kiln_provider_submit_seconds", "provider" => provider.name())
        .record(started.elapsed().as_secs_f64());
    ctx.probe.at(Station::Answered);
    match answer {
        Ok(Step::Done(artifacts)) => keep(ctx, claimed, &artifacts, source, None).await,
        Ok(Step::Pending(pending)) => Ok(outcome::pending(&pending, ctx.clock.now())),
        Err(error) => {
            note(claimed, provider, "submit", &error);
            let stage = Stage::Submit(provider.after_ambiguity());
            Ok(outcome::classify(&stage, &error, tries(claimed), ctx.clock.now()))
        }
    }
}

/// The intent of the current attempt is written and no more: did the vendor hear of it?
async fn lookup(ctx: &Ctx, claimed: &Claimed, desk: &Desk, unseen: u8) -> Result<Outcome, Lost> {
    let provider = desk.provider.as_ref();
    let answer = provider.lookup(&call(ctx, claimed, desk, claimed.attempt, Vec::new())).await;
    ctx.probe.at(Station::Answered);
    let now = ctx.clock.now();
    match answer {
        Ok(Some(Step::Done(artifacts))) => {
            let source = fetch::source(ctx, claimed).await;
            keep(ctx, claimed, &artifacts, source, None).await
        }
        Ok(Some(Step::Pending(pending))) => Ok(outcome::pending(&pending, now)),
        Ok(None) => Ok(outcome::unseen(unseen, tries(claimed), now)),
        Err(error) => {
            note(claimed, provider, "lookup", &error);
            Ok(outcome::classify(&Stage::Lookup { unseen }, &error, tries(claimed), now))
        }
    }
}

/// The vendor has the job: how does it fare?
async fn resume(
    ctx: &Ctx,
    claimed: &Claimed,
    desk: &Desk,
    provider_ref: &str,
    misses: Misses,
) -> Result<Outcome, Lost> {
    let provider = desk.provider.as_ref();
    let answer = provider.resume(&call(ctx, claimed, desk, claimed.attempt, Vec::new()), provider_ref).await;
    ctx.probe.at(Station::Answered);
    match answer {
        Ok(Step::Done(artifacts)) => {
            let source = fetch::source(ctx, claimed).await;
            keep(ctx, claimed, &artifacts, source, Some((provider_ref, misses))).await
        }
        Ok(Step::Pending(pending)) => Ok(outcome::pending(&pending, ctx.clock.now())),
        Err(error) => {
            note(claimed, provider, "resume", &error);
            let stage = Stage::Resume { provider_ref: provider_ref.to_owned(), misses };
            Ok(outcome::classify(&stage, &error, tries(claimed), ctx.clock.now()))
        }
    }
}

/// Station 6: verifies and stores the result, and remembers that it is stored, so that a crash does not pay again.
async fn keep(
    ctx: &Ctx,
    claimed: &Claimed,
    artifacts: &Artifacts,
    source: Option<Picture>,
    task: Option<(&str, Misses)>,
) -> Result<Outcome, Lost> {
    let output = match keep_patiently(ctx, claimed, artifacts, source, task.is_some()).await {
        Ok(output) => output,
        Err(error) => {
            tracing::warn!(job.id = %claimed.job(), provider.name = claimed.provider, %error, "result of {} not kept", claimed.job());
            return Ok(outcome::classify_result(&error, task, tries(claimed), ctx.clock.now()));
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
    let moves = !is_last && may_move(claimed, &outcome);
    let outcome = match outcome {
        // A failure on the last try is the end.
        Outcome::Retry(_, error) if is_last => Outcome::Fail(error),
        Outcome::Retry(_, error) | Outcome::Fail(error) if moves => {
            Outcome::Retry(outcome::elsewhere(ctx.clock.now()), error)
        }
        outcome => outcome,
    };
    let word = match &outcome {
        Outcome::Done(_) => "done",
        Outcome::Wait(_) => "wait",
        Outcome::Retry(..) => "retry",
        Outcome::Fail(_) => "fail",
    };
    metrics::counter!("kiln_job_outcomes_total", "outcome" => word, "model" => claimed.model.clone())
        .increment(1);
    match outcome {
        Outcome::Done(output) => {
            let Bill { charge, metered, cost_usd } = bill::draw_up(ctx, claimed, &output).await;
            close(ctx, claimed, Verdict::Succeeded { output, charge, metered, cost_usd }).await
        }
        Outcome::Fail(error) => close(ctx, claimed, Verdict::Failed(error)).await,
        Outcome::Retry(pause, error) => {
            let now = ctx.clock.now();
            let why = format!("{}: {}", error.code, error.message);
            tracing::info!(job.id = %claimed.job(), why, anew = pause.resume == Resume::Anew, elsewhere = moves, "job {} will be tried again", claimed.job());
            let billed = error.may_be_billed;
            let retry = || job::retry(&ctx.db, claimed.lease, &pause, &why, billed, moves, now);
            paused(persist(ctx, || Box::pin(retry())).await)
        }
        Outcome::Wait(pause) => {
            let parking = Parking { lease: claimed.lease, pause, at: ctx.clock.now() };
            let parked = persist(ctx, || Box::pin(ctx.writes.park(parking.clone()))).await;
            ctx.probe.at(Station::Parked);
            paused(parked)
        }
    }
}

/// Whether a failure sends the job to its next provider: it is this one's own, and nothing of it is under way here.
fn may_move(claimed: &Claimed, outcome: &Outcome) -> bool {
    let error = match outcome {
        Outcome::Fail(error) => error,
        Outcome::Retry(pause, error)
            if pause.resume == Resume::Anew || matches!(claimed.checkpoint, Ok(None)) =>
        {
            error
        }
        _ => return false,
    };
    claimed.has_fallback && outcome::is_provider_to_blame(error)
}

fn paused(written: bool) -> Ended {
    if written { Ended::Paused } else { Ended::Stale }
}

async fn close(ctx: &Ctx, claimed: &Claimed, verdict: Verdict) -> Ended {
    ctx.probe.at(Station::Closing);
    let fence = Fence::Held(claimed.lease);
    let closed = persist(ctx, || {
        // It ends when it is written: a database that was away must not put the end into a day that is over.
        let at = ctx.clock.now();
        Box::pin(ctx.writes.close(Closing {
            fence,
            verdict: verdict.clone(),
            begun: begun(ctx, claimed, &verdict),
            at,
        }))
    })
    .await;
    ctx.probe.at(Station::Closed);
    if !closed {
        return Ended::Stale;
    }
    ctx.wakes.send(Wake::Job(claimed.job()));
    ctx.wakes.send(Wake::Notice);
    let error = if let Verdict::Failed(error) = &verdict { Some(error.code) } else { None };
    tracing::info!(job.id = %claimed.job(), account.id = %claimed.account, model = claimed.model, error, "job {} closed", claimed.job());
    Ended::Closed
}

/// The attempt that a success was made by without an intent: work that nobody bills needs none.
fn begun(ctx: &Ctx, claimed: &Claimed, verdict: &Verdict) -> i16 {
    let unbilled = ctx.providers.get(&claimed.provider).is_some_and(|desk| !desk.provider.is_billed());
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

fn call(ctx: &Ctx, claimed: &Claimed, desk: &Desk, attempt: i16, files: Vec<InputFile>) -> Call {
    let client_ref = claimed.client_ref(attempt);
    let call = Call::new(&claimed.task, &claimed.upstream_model, claimed.input.clone(), &client_ref);
    let model = ctx.catalog.get(&claimed.model);
    let route = model.and_then(|model| model.route(&claimed.provider, &claimed.upstream_model));
    let mapping = route.map(|route| route.mapping.clone()).unwrap_or_default();
    let callback_url = ctx.doorbell.as_ref().map(|doorbell| doorbell.url(claimed.job()));
    Call { key: desk.key.clone(), callback_url, mapping, ..call.with_files(files) }
}

/// The provider's reference of the job that this one follows up, where it does.
async fn parent_ref(ctx: &Ctx, claimed: &Claimed) -> Result<Option<String>, ProviderError> {
    let Some(parent) = job::parent_id(&claimed.input) else { return Ok(None) };
    let found = job::parent(&ctx.db, claimed.account, parent).await;
    let found = found.map_err(|error| ProviderError::new(ErrorClass::Unavailable, error.to_string()))?;
    let made_here = found.filter(|parent| parent.provider == claimed.provider);
    match made_here.and_then(|parent| parent.provider_ref) {
        Some(provider_ref) => Ok(Some(provider_ref)),
        None => Err(ProviderError::new(ErrorClass::BadInput, "job names none that can be taken further")),
    }
}

fn tries(claimed: &Claimed) -> u16 {
    u16::try_from(claimed.tries).unwrap_or(0)
}

fn note(claimed: &Claimed, provider: &dyn Provider, what: &'static str, error: &ProviderError) {
    let class = format!("{:?}", error.class);
    metrics::counter!("kiln_provider_errors_total", "provider" => provider.name(), "class" => class.clone())
        .increment(1);
    tracing::warn!(job.id = %claimed.job(), provider.name = provider.name(), class, error = error.message,
                   "{what} of {} failed", claimed.job());
}
