//! How each route fares: counts that fade, the circuit breaker made of them, and what routing asks.
//!
//! Each process adds what it has seen every other second, under a lock on the route's row, and reads what all have seen. A
//! route that mostly fails is open: no new work goes there until a pause is over, and then one job alone tries it, whoever
//! comes first. Pauses grow until one succeeds.

use std::{
    collections::HashMap,
    f64::consts::LN_2,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use crate::process::Process;

/// In which time the breaker forgets half of what it saw.
const BREAKER_HALF_LIFE: f64 = 60.0;
/// In which time the reliability forgets half of what it saw.
const RELIABILITY_HALF_LIFE: f64 = 3600.0;
/// Failures, faded, at which a route opens, if they are the greater part.
const FAILURES: f64 = 10.0;
/// How much of a mean latency the newest successes make.
const LATENCY_SHARE: f64 = 0.2;
/// The first pause of a route that opens; each is twice the one before.
const PAUSE_FIRST: TimeDelta = TimeDelta::seconds(30);
/// The longest pause.
const PAUSE_MAX: TimeDelta = TimeDelta::minutes(10);
/// How long the one job that tries an open route has, before another may.
const PROBE: TimeDelta = TimeDelta::minutes(2);
/// How often whoever only asks looks anew.
const LOOK: Duration = Duration::from_secs(2);

/// A way to make something: a provider, and its id of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// The adapter's name.
    pub provider: String,
    /// The vendor's id of the model.
    pub upstream_model: String,
}

/// What a process saw of a route since it last said so.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    /// Results that were made.
    pub good: u32,
    /// Failures that were the provider's own.
    pub bad: u32,
    /// How long the results took, in all.
    pub took: Duration,
}

/// How a route stands, as routing asks it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// It mostly failed: it takes no work until then, and then one job that tries it.
    pub open_until: Option<DateTime<Utc>>,
    /// How long a result takes lately, from submit to its arrival.
    pub latency: Option<Duration>,
    /// Share of successes, 0 to 1, lately; 1 where nothing is known.
    pub reliability: f64,
    /// How fast results come; `None` where none did.
    pub pace: Option<Pace>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { open_until: None, latency: None, reliability: 1.0, pace: None }
    }
}

impl Standing {
    /// Whether the route takes no work now. One whose pause is over may be chosen: whoever comes first tries it.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.open_until.is_some_and(|until| until > now)
    }
}

/// How fast results come, by a count that fades.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    count: f64,
    counted_at: DateTime<Utc>,
}

impl Pace {
    /// Results in a second. Where they come evenly, those of all time have faded to as many as come in a half-life by the
    /// logarithm of two.
    pub fn per_second(self, now: DateTime<Utc>) -> f64 {
        let rested = (now - self.counted_at).to_std().unwrap_or_default().as_secs_f64();
        self.count * (-rested / BREAKER_HALF_LIFE).exp2() * LN_2 / BREAKER_HALF_LIFE
    }
}

/// What the database has of a route.
#[derive(Debug, Clone, PartialEq)]
struct State {
    seen_at: DateTime<Utc>,
    good: f64,
    bad: f64,
    succeeded: f64,
    failed: f64,
    latency_ms: Option<f64>,
    open_until: Option<DateTime<Utc>>,
    openings: i16,
    probe_until: Option<DateTime<Utc>>,
}

impl State {
    fn unknown(now: DateTime<Utc>) -> Self {
        Self {
            seen_at: now,
            good: 0.0,
            bad: 0.0,
            succeeded: 0.0,
            failed: 0.0,
            latency_ms: None,
            open_until: None,
            openings: 0,
            probe_until: None,
        }
    }

    /// With what was seen since.
    fn after(mut self, seen: &Seen, now: DateTime<Utc>) -> Self {
        let rested = (now - self.seen_at).to_std().unwrap_or_default().as_secs_f64();
        let left = |half_life: f64| (-rested / half_life).exp2();
        let (good, bad) = (f64::from(seen.good), f64::from(seen.bad));
        self.seen_at = self.seen_at.max(now);
        self.good = self.good * left(BREAKER_HALF_LIFE) + good;
        self.bad = self.bad * left(BREAKER_HALF_LIFE) + bad;
        self.succeeded = self.succeeded * left(RELIABILITY_HALF_LIFE) + good;
        self.failed = self.failed * left(RELIABILITY_HALF_LIFE) + bad;
        if seen.good > 0 {
            let latest = seen.took.as_secs_f64() * 1000.0 / good;
            self.latency_ms =
                Some(self.latency_ms.map_or(latest, |mean| mean + (latest - mean) * LATENCY_SHARE));
        }
        match self.open_until {
            // It works again.
            Some(_) if seen.good > 0 && seen.bad == 0 => self.close(),
            // The probe failed; what was under way when it opened says nothing new.
            Some(until) if seen.bad > 0 && now >= until && self.probe_until.is_some() => self.open(now),
            None if self.bad >= FAILURES && self.bad > self.good => self.open(now),
            _ => {}
        }
        self
    }

    fn open(&mut self, now: DateTime<Utc>) {
        let doubled = PAUSE_FIRST * 2_i32.pow(u32::from(self.openings.clamp(0, 10).unsigned_abs()));
        self.open_until = Some(now + doubled.min(PAUSE_MAX));
        self.openings = self.openings.saturating_add(1);
        self.probe_until = None;
    }

    fn close(&mut self) {
        (self.open_until, self.openings, self.probe_until) = (None, 0, None);
        (self.good, self.bad) = (0.0, 0.0);
    }

    fn standing(&self) -> Standing {
        let all = self.succeeded + self.failed;
        Standing {
            // Whoever tries it now is not to be joined.
            open_until: self.open_until.max(self.probe_until.filter(|_| self.open_until.is_some())),
            latency: self.latency_ms.map(|millis| Duration::from_secs_f64(millis.max(0.0) / 1000.0)),
            reliability: if all > 0.0 { self.succeeded / all } else { 1.0 },
            pace: (self.good > 0.0).then_some(Pace { count: self.good, counted_at: self.seen_at }),
        }
    }
}

/// Adds what a process has seen.
///
/// # Errors
/// When the database fails; nothing was added then.
pub async fn observe(db: &PgPool, seen: &[(Route, Seen)], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let mut seen: Vec<_> = seen.iter().collect();
    // Everyone takes the rows in the same order.
    seen.sort_by(|(a, _), (b, _)| a.cmp(b));
    let providers: Vec<_> = seen.iter().map(|(route, _)| route.provider.clone()).collect();
    let models: Vec<_> = seen.iter().map(|(route, _)| route.upstream_model.clone()).collect();
    let mut tx = db.begin().await?;
    sqlx::query!(
        "insert into provider_routes (provider, upstream_model, seen_at, good, bad, succeeded, failed)
         select provider, upstream_model, $3, 0, 0, 0, 0 from unnest($1::text[], $2::text[]) as r (provider, upstream_model)
         on conflict do nothing",
        &providers,
        &models,
        now,
    )
    .execute(&mut *tx)
    .await?;
    for (route, seen) in seen {
        let before = lock(&mut tx, route).await?.unwrap_or_else(|| State::unknown(now));
        let was_open = before.open_until.is_some();
        let after = before.after(seen, now);
        if was_open != after.open_until.is_some() {
            let (provider, model) = (&route.provider, &route.upstream_model);
            tracing::warn!(
                provider.name = provider,
                model,
                open = !was_open,
                until = ?after.open_until,
                "route {provider} {model} {}",
                if was_open { "works again" } else { "mostly fails and rests" }
            );
        }
        write(&mut tx, route, &after).await?;
    }
    tx.commit().await
}

async fn lock(
    tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    route: &Route,
) -> Result<Option<State>, sqlx::Error> {
    sqlx::query_as!(
        State,
        "select seen_at, good, bad, succeeded, failed, latency_ms, open_until, openings, probe_until from provider_routes
         where provider = $1 and upstream_model = $2 for no key update",
        route.provider,
        route.upstream_model,
    )
    .fetch_optional(&mut **tx)
    .await
}

async fn write(
    tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    route: &Route,
    state: &State,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update provider_routes
         set seen_at = $3, good = $4, bad = $5, succeeded = $6, failed = $7, latency_ms = $8, open_until = $9, openings = $10,
             probe_until = $11
         where provider = $1 and upstream_model = $2",
        route.provider,
        route.upstream_model,
        state.seen_at,
        state.good,
        state.bad,
        state.succeeded,
        state.failed,
        state.latency_ms,
        state.open_until,
        state.openings,
        state.probe_until,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Asks to be the one job that tries an open route whose pause is over.
///
/// # Errors
/// When the database fails.
pub async fn take_probe(db: &PgPool, route: &Route, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query!(
        "update provider_routes set probe_until = $4
         where provider = $1 and upstream_model = $2 and open_until <= $3 and (probe_until is null or probe_until <= $3)",
        route.provider,
        route.upstream_model,
        now,
        now + PROBE,
    )
    .execute(db)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Lets another job try an open route: the one that was to try it learned nothing of it.
///
/// # Errors
/// When the database fails; another may try when the first one's time is over.
pub async fn release_probe(db: &PgPool, route: &Route) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update provider_routes set probe_until = null where provider = $1 and upstream_model = $2 and probe_until is not null",
        route.provider,
        route.upstream_model,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How every route stands that was ever used.
///
/// # Errors
/// When the database fails.
pub async fn standings(db: &PgPool) -> Result<HashMap<Route, Standing>, sqlx::Error> {
    let rows = sqlx::query!(
        "select provider, upstream_model, seen_at, good, bad, succeeded, failed, latency_ms, open_until, openings, probe_until
         from provider_routes"
    )
    .fetch_all(db)
    .await?;
    let read = rows.into_iter().map(|row| {
        let state = State {
            seen_at: row.seen_at,
            good: row.good,
            bad: row.bad,
            succeeded: row.succeeded,
            failed: row.failed,
            latency_ms: row.latency_ms,
            open_until: row.open_until,
            openings: row.openings,
            probe_until: row.probe_until,
        };
        (Route { provider: row.provider, upstream_model: row.upstream_model }, state.standing())
    });
    Ok(read.collect())
}

/// How the routes stand, as this process last read it; clones share. Nothing is known at first, and then every route is well.
#[derive(Debug, Clone, Default)]
pub struct Standings(Arc<RwLock<HashMap<Route, Standing>>>);

impl Standings {
    /// Reads them every other second until `process` stops.
    pub fn start(db: &PgPool, process: &Process) -> Self {
        let standings = Self::default();
        let (known, db, watched) = (standings.clone(), db.clone(), process.clone());
        process.spawn(async move {
            loop {
                if let Err(error) = known.refresh(&db).await {
                    tracing::warn!(%error, "the standing of the providers could not be read; trying again");
                }
                if !watched.sleep(LOOK).await {
                    return;
                }
            }
        });
        standings
    }

    /// Reads them now.
    ///
    /// # Errors
    /// When the database fails; what was known stays.
    pub async fn refresh(&self, db: &PgPool) -> Result<(), sqlx::Error> {
        let read = standings(db).await?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// How every route stands that was ever used.
    pub fn all(&self) -> Vec<(Route, Standing)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(route, standing)| (route.clone(), *standing)).collect()
    }

    /// How a route stands.
    pub fn get(&self, provider: &str, upstream_model: &str) -> Standing {
        let route = Route { provider: provider.to_owned(), upstream_model: upstream_model.to_owned() };
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&route).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn seen(good: u32, bad: u32) -> Seen {
        Seen { good, bad, took: Duration::from_secs(2) * good }
    }

    /// Seconds after the first sight until which the route rests, after each sight at its second.
    fn check(sights: &[(i64, u32, u32)], expected: &[Option<i64>]) {
        let mut state = State::unknown(at(0));
        let rests = sights.iter().map(|(second, good, bad)| {
            // Whoever comes after the pause has asked to try it.
            state.probe_until = state.open_until.filter(|until| at(*second) >= *until);
            state = state.clone().after(&seen(*good, *bad), at(*second));
            state.standing().open_until.map(|until| (until - at(0)).num_seconds())
        });
        assert_eq!(rests.collect::<Vec<_>>(), expected, "{sights:?}");
    }

    #[test]
    fn a_route_opens_when_most_of_many_fail() {
        check(&[(0, 0, 9)], &[None]);
        check(&[(0, 0, 10)], &[Some(30)]);
        check(&[(0, 10, 10)], &[None]);
        check(&[(0, 9, 10)], &[Some(30)]);
        // Half of them are forgotten after a minute.
        check(&[(0, 0, 8), (60, 0, 5)], &[None, None]);
        check(&[(0, 0, 8), (60, 0, 6)], &[None, Some(90)]);
        // Much success long ago excuses nothing.
        check(&[(0, 100, 0), (600, 0, 10)], &[None, Some(630)]);
    }

    #[test]
    fn pauses_grow_until_one_succeeds() {
        check(
            &[(0, 0, 10), (10, 0, 5), (31, 0, 1), (92, 0, 1), (213, 1, 0), (214, 0, 9)],
            &[Some(30), Some(30), Some(91), Some(212), None, None],
        );
    }

    #[test]
    fn pauses_end() {
        let mut state = State::unknown(at(0));
        for _ in 0..20 {
            state.open(at(0));
        }
        assert_eq!(state.open_until, Some(at(600)));
    }

    #[test]
    fn a_pace_is_that_of_even_results_and_fades_when_none_come() {
        let mut state = State::unknown(at(0));
        for second in 1..=600 {
            state = state.after(&seen(3, 0), at(second));
        }
        let pace = state.standing().pace.expect("a pace");
        assert!((pace.per_second(at(600)) - 3.0).abs() < 0.1, "{pace:?}");
        assert!((pace.per_second(at(660)) - 1.5).abs() < 0.05, "{pace:?}");
        assert_eq!(State::unknown(at(0)).after(&seen(0, 3), at(1)).standing().pace, None);
    }

    #[test]
    fn reliability_and_latency_follow_what_was_seen() {
        let state = State::unknown(at(0));
        assert_eq!(state.standing(), Standing::default());
        let state = state.after(&seen(3, 1), at(0));
        let standing = state.standing();
        assert!((standing.reliability - 0.75).abs() < 1e-9);
        assert_eq!(standing.latency, Some(Duration::from_secs(2)));
        let slower = Seen { good: 1, bad: 0, took: Duration::from_secs(12) };
        assert_eq!(state.after(&slower, at(1)).standing().latency, Some(Duration::from_secs(4)));
    }
}
