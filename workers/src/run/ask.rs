//! Station 5, asking a provider: by which key, whether it takes work at all, and what came of it.
//!
//! A submit goes out by a route that is not open and a key that works and does not rest. Where there is none the job goes to
//! its next provider, if that takes work, or waits; neither spends a try. A task under way is asked for by the key it was
//! submitted with, whatever rests. Every call is timed and counted, and what fails is laid at the door of whose fault it is.
//! What a text vendor says while it writes is passed on to whoever listens.

use std::{future::Future, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Lost, Made, Station, keep, persist, route, tries};
use crate::{
    Ctx, blame,
    fetch::{self, Inputs},
    health::Admission,
    keychain::{Choice, Key},
    outcome::{self, Outcome, Stage, Way},
    providers::{self, Call, Deltas, ErrorClass, InputFile, Provider, ProviderError, Step},
};
use shared::{
    job::{self, Checkpoint, Claimed, Intent, Misses},
    provider::{self, Place},
    text::{self, Telling},
};

/// How long a job waits for a place of a key whose places are all taken.
const FULL: Duration = Duration::from_secs(2);

/// A provider, and the key it is called with.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    provider: &'a dyn Provider,
    key: Option<Key>,
}

impl<'a> Desk<'a> {
    /// Where the task of a job is under way, if this process can call there.
    pub fn of_task(ctx: &'a Ctx, claimed: &Claimed) -> Option<Self> {
        let provider = ctx.providers.get(&claimed.provider)?.as_ref();
        if !providers::needs_key(&claimed.provider) {
            return Some(Self { provider, key: None });
        }
        let key = ctx.keychain.of_task(&claimed.provider, claimed.provider_key)?;
        Some(Self { provider, key: Some(key) })
    }

    /// Asks the provider to stop.
    pub async fn cancel(
        &self,
        ctx: &Ctx,
        claimed: &Claimed,
        provider_ref: &str,
    ) -> Result<(), ProviderError> {
        let call = self.call(ctx, claimed, claimed.attempt, Vec::new());
        self.timed("cancel", self.provider.cancel(&call, provider_ref)).await
    }

    fn call(&self, ctx: &Ctx, claimed: &Claimed, attempt: i16, files: Vec<InputFile>) -> Call {
        let client_ref = claimed.client_ref(attempt);
        let call = Call::new(&claimed.task, &claimed.upstream_model, claimed.input.clone(), &client_ref);
        let mapping = route(ctx, claimed).map(|route| route.mapping.clone()).unwrap_or_default();
        let callback_url = ctx.doorbell.as_ref().map(|doorbell| doorbell.url(claimed.job()));
        let key = self.key.as_ref().map(|key| key.secret.clone()).unwrap_or_default();
        Call { key, callback_url, mapping, ..call.with_files(files) }
    }

    /// A call of the provider, timed and counted.
    async fn timed<T>(
        &self,
        verb: &'static str,
        asked: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let started = tokio::time::Instant::now();
        let answer = asked.await;
        let name = self.provider.name();
        metrics::histogram!("kiln_provider_request_seconds", "provider" => name, "verb" => verb)
            .record(started.elapsed().as_secs_f64());
        let class = answer.as_ref().err().map_or("none", |error| error.class.word());
        metrics::counter!("kiln_provider_requests_total", "provider" => name, "verb" => verb, "error" => class)
            .increment(1);
        answer
    }
}

/// Intent, call, and what came of it.
pub(super) async fn submit(ctx: &Ctx, claimed: &Claimed, provider: &dyn Provider) -> Result<Outcome, Lost> {
    let (Inputs { files, source }, parent_ref) = match prepare(ctx, claimed).await {
        Ok(prepared) => prepared,
        Err(error) => {
            return Ok(outcome::classify(&Stage::Input, &error, tries(claimed), ctx.clock.now()));
        }
    };
    let attempt = claimed.attempt + 1;
    let key = match admit(ctx, claimed, attempt).await {
        Ok(key) => key,
        Err(outcome) => return Ok(outcome),
    };
    let desk = Desk { provider, key };
    if provider.is_billed() {
        // Before the intent: a run given up with the intent written would look as if it had been sent.
        ctx.paying.begin();
        let intent = Intent {
            lease: claimed.lease,
            attempt,
            provider: claimed.provider.clone(),
            upstream_model: claimed.upstream_model.clone(),
            key: desk.key.as_ref().map(|key| key.id),
            at: ctx.clock.now(),
        };
        if !persist(ctx, || Box::pin(ctx.writes.begin(intent.clone()))).await {
            return Err(Lost);
        }
        ctx.probe.at(Station::Intended);
    }
    let began = ctx.clock.now();
    let mut call = Call { parent_ref, ..desk.call(ctx, claimed, attempt, files) };
    // Kept until the result is, so that whoever missed a word can still be told.
    let telling = text::is_written(&claimed.task).then(|| ctx.teller.begin(claimed.job(), attempt));
    let answer = match &telling {
        Some(telling) => {
            let (deltas, told) = mpsc::unbounded_channel();
            call.deltas = Deltas::new(deltas);
            overheard(telling, told, desk.timed("submit", provider.submit(&call))).await
        }
        None => desk.timed("submit", provider.submit(&call)).await,
    };
    ctx.probe.at(Station::Answered);
    match answer {
        Ok(Step::Done(artifacts)) => keep(ctx, claimed, Made { artifacts, source, began, task: None }).await,
        Ok(Step::Pending(pending)) => Ok(outcome::pending(&pending, ctx.clock.now())),
        Err(error) => {
            note(claimed, provider, "submit", &error);
            blame::submit(ctx, claimed, desk.key.as_ref(), &error).await;
            let stage = Stage::Submit(outcome::after_ambiguity(provider.after_ambiguity(), claimed.cost_usd));
            let outcome = outcome::classify(&stage, &error, tries(claimed), ctx.clock.now());
            let has_other_key = blame::is_keys(error.class)
                && matches!(ctx.keychain.choose(&claimed.provider, &claimed.upstream_model), Choice::Key(_));
            Ok(if has_other_key { outcome.turned(Way::Key) } else { outcome })
        }
    }
}

/// Passes on what is told while a call is under way.
async fn overheard<T>(
    telling: &Telling,
    mut told: mpsc::UnboundedReceiver<Value>,
    asked: impl Future<Output = T>,
) -> T {
    tokio::pin!(asked);
    let answer = loop {
        tokio::select! {
            biased;
            Some(choices) = told.recv() => telling.tell(&choices),
            answer = &mut asked => break answer,
        }
    };
    while let Ok(choices) = told.try_recv() {
        telling.tell(&choices);
    }
    answer
}

/// The files that the input names, and the provider's reference of the job that this one follows up, where it does.
async fn prepare(ctx: &Ctx, claimed: &Claimed) -> Result<(Inputs, Option<String>), ProviderError> {
    let inputs = fetch::inputs(ctx, claimed).await?;
    let Some(parent) = job::parent_id(&claimed.input) else { return Ok((inputs, None)) };
    let found = job::parent(&ctx.db, claimed.account, parent).await;
    let found = found.map_err(|error| ProviderError::new(ErrorClass::Unavailable, error.to_string()))?;
    let made_here = found.filter(|parent| parent.provider == claimed.provider);
    match made_here.and_then(|parent| parent.provider_ref) {
        Some(provider_ref) => Ok((inputs, Some(provider_ref))),
        None => Err(ProviderError::new(ErrorClass::BadInput, "job names none that can be taken further")),
    }
}

/// What becomes of a job that its provider takes no work of just now, as far as this process knows.
pub(super) fn blocked(ctx: &Ctx, claimed: &Claimed) -> Option<Outcome> {
    let standing = ctx.health.standing(&claimed.provider, &claimed.upstream_model);
    if let Some(until) = standing.open_until.filter(|until| *until > ctx.clock.now()) {
        return Some(no_way(ctx, claimed, until));
    }
    if !providers::needs_key(&claimed.provider) {
        return None;
    }
    match ctx.keychain.choose(&claimed.provider, &claimed.upstream_model) {
        Choice::Key(_) => None,
        Choice::NotBefore(until) => Some(no_way(ctx, claimed, until)),
        Choice::None if may_go_around(ctx, claimed) => Some(outcome::detour()),
        Choice::None => Some(super::not_set_up(ctx, claimed)),
    }
}

/// Lets a submit through, with the key for it, or says what becomes of the job instead.
async fn admit(ctx: &Ctx, claimed: &Claimed, attempt: i16) -> Result<Option<Key>, Outcome> {
    let (provider, model) = (&claimed.provider, &claimed.upstream_model);
    if let Admission::NotBefore(until) = ctx.health.admit(provider, model).await {
        return Err(no_way(ctx, claimed, until));
    }
    if !providers::needs_key(provider) {
        return Ok(None);
    }
    let mut full = Vec::new();
    let mut soonest = ctx.clock.now() + FULL;
    loop {
        let key = match ctx.keychain.choose_but(provider, model, &full) {
            Choice::Key(key) => key,
            Choice::NotBefore(until) if full.is_empty() => return Err(no_way(ctx, claimed, until)),
            _ => return Err(outcome::no_way(soonest, ctx.clock.now())),
        };
        if !key.is_limited {
            return Ok(Some(key));
        }
        let now = ctx.clock.now();
        match provider::take(&ctx.db, key.id, claimed.job(), attempt, now).await {
            Ok(Place::Taken) => return Ok(Some(key)),
            Ok(Place::NotBefore(until)) => soonest = soonest.min(until),
            Ok(Place::Full) => {}
            Err(error) => {
                tracing::warn!(job.id = %claimed.job(), %error, "no place of a key could be asked for");
                return Err(outcome::no_way(soonest, now));
            }
        }
        full.push(key.id);
    }
}

/// The provider takes nothing before `until`: on to the next one if that does, or wait.
fn no_way(ctx: &Ctx, claimed: &Claimed, until: DateTime<Utc>) -> Outcome {
    if may_go_around(ctx, claimed) { outcome::detour() } else { outcome::no_way(until, ctx.clock.now()) }
}

/// Nothing of the job is under way here, and the next provider takes work.
fn may_go_around(ctx: &Ctx, claimed: &Claimed) -> bool {
    matches!(claimed.checkpoint, Ok(None | Some(Checkpoint::Judging { .. }))) && is_next_open(ctx, claimed)
}

/// Whether the job has a next provider that takes work, as far as this process knows.
pub(super) fn is_next_open(ctx: &Ctx, claimed: &Claimed) -> bool {
    claimed.fallbacks.first().is_some_and(|next| {
        let is_well = !ctx.health.standing(&next.provider, &next.upstream_model).is_open;
        let has_key = || matches!(ctx.keychain.choose(&next.provider, &next.upstream_model), Choice::Key(_));
        is_well && (!providers::needs_key(&next.provider) || has_key())
    })
}

/// The intent of the current attempt is written and no more: did the vendor hear of it?
pub(super) async fn lookup(
    ctx: &Ctx,
    claimed: &Claimed,
    desk: &Desk<'_>,
    unseen: u8,
) -> Result<Outcome, Lost> {
    let call = desk.call(ctx, claimed, claimed.attempt, Vec::new());
    let answer = desk.timed("lookup", desk.provider.lookup(&call)).await;
    ctx.probe.at(Station::Answered);
    let now = ctx.clock.now();
    match answer {
        Ok(Some(Step::Done(artifacts))) => {
            let source = fetch::source(ctx, claimed).await;
            keep(ctx, claimed, Made { artifacts, source, began: begun_at(claimed, now), task: None }).await
        }
        Ok(Some(Step::Pending(pending))) => Ok(outcome::pending(&pending, now)),
        Ok(None) => Ok(outcome::unseen(unseen, tries(claimed), now)),
        Err(error) => {
            note(claimed, desk.provider, "lookup", &error);
            blame::task(ctx, claimed, &error);
            Ok(outcome::classify(&Stage::Lookup { unseen }, &error, tries(claimed), now))
        }
    }
}

/// The vendor has the job: how does it fare?
pub(super) async fn resume(
    ctx: &Ctx,
    claimed: &Claimed,
    desk: &Desk<'_>,
    provider_ref: &str,
    misses: Misses,
) -> Result<Outcome, Lost> {
    let call = desk.call(ctx, claimed, claimed.attempt, Vec::new());
    let answer = desk.timed("resume", desk.provider.resume(&call, provider_ref)).await;
    ctx.probe.at(Station::Answered);
    let now = ctx.clock.now();
    match answer {
        Ok(Step::Done(artifacts)) => {
            let source = fetch::source(ctx, claimed).await;
            let task = Some((provider_ref, misses));
            keep(ctx, claimed, Made { artifacts, source, began: begun_at(claimed, now), task }).await
        }
        Ok(Step::Pending(pending)) => Ok(outcome::pending(&pending, now)),
        Err(error) => {
            note(claimed, desk.provider, "resume", &error);
            blame::task(ctx, claimed, &error);
            let stage = Stage::Resume { provider_ref: provider_ref.to_owned(), misses };
            Ok(outcome::classify(&stage, &error, tries(claimed), now))
        }
    }
}

fn begun_at(claimed: &Claimed, now: DateTime<Utc>) -> DateTime<Utc> {
    claimed.begun_at.unwrap_or(now)
}

fn note(claimed: &Claimed, provider: &dyn Provider, what: &'static str, error: &ProviderError) {
    tracing::warn!(job.id = %claimed.job(), provider.name = provider.name(), class = error.class.word(), error = error.message,
                   "{what} of {} failed", claimed.job());
}
