//! When a job will end: a guess from what its route takes lately and from who stands in line before it.
//!
//! What a result takes and how many a pool makes are known to every process, as routes are chosen by them; how many stand in a
//! line is looked up every few seconds. So no request asks for any of it. Where nothing is known there is no guess. Deliberately
//! absent: what differs between inputs; a film of ten seconds is guessed to take as long as the mean.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use super::{Job, Medium, Order, Status};
use crate::{
    catalog::Catalog,
    clock::SharedClock,
    process::Process,
    provider::{Route, Standings},
};

/// How often the lines are counted.
const LOOK: Duration = Duration::from_secs(5);
/// The longest wait that is still a guess: as long as a job may take. Beyond, the pool hardly makes anything.
const WAIT_MAX: TimeDelta = TimeDelta::days(1);

/// Guesses when jobs end; clones share.
#[derive(Debug, Clone)]
pub struct Estimator(Arc<Known>);

#[derive(Debug)]
struct Known {
    standings: Standings,
    clock: SharedClock,
    /// The routes by which each pool makes something, in the order of [`Medium::ALL`].
    routes: [Vec<Route>; Medium::ALL.len()],
    /// How many stand in each line, counted to 1000.
    waiting: [AtomicI64; Medium::ALL.len()],
}

impl Estimator {
    /// Counts the lines every few seconds until `process` stops.
    pub fn start(
        db: &PgPool,
        standings: &Standings,
        catalog: &Catalog,
        clock: &SharedClock,
        process: &Process,
    ) -> Self {
        let estimator = Self(Arc::new(Known {
            standings: standings.clone(),
            clock: clock.clone(),
            routes: Medium::ALL.map(|pool| routes(catalog, pool)),
            waiting: Medium::ALL.map(|_| AtomicI64::new(0)),
        }));
        let (known, db, watched) = (estimator.clone(), db.clone(), process.clone());
        process.spawn(async move {
            loop {
                if let Err(error) = known.refresh(&db).await {
                    tracing::warn!(%error, "the lines of the pools could not be counted; trying again");
                }
                if !watched.sleep(LOOK).await {
                    return;
                }
            }
        });
        estimator
    }

    /// Counts the lines now.
    ///
    /// # Errors
    /// When the database fails; the last counts stay.
    pub async fn refresh(&self, db: &PgPool) -> Result<(), sqlx::Error> {
        let lines = sqlx::query!(
            r#"select p.pool, (select count(*) from (
                   select 1 from queue q where q.pool = p.pool and q.lease_token is null and q.run_at is null limit 1000
               ) counted) as "waiting!"
               from pools p"#
        )
        .fetch_all(db)
        .await?;
        for line in lines {
            if let Some(pool) = Medium::from_word(&line.pool) {
                self.0.waiting[pool as usize].store(line.waiting, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Seconds until a job that is just being ordered ends, if it joins the end of its line.
    pub fn order(&self, order: &Order) -> Option<i64> {
        let now = self.0.clock.now();
        let takes = self.takes(&order.route.provider, &order.route.upstream_model)?;
        let wait = match order.start_at {
            Some(start) => start - now,
            None => {
                self.wait(order.medium, self.0.waiting[order.medium as usize].load(Ordering::Relaxed), now)?
            }
        };
        Some(whole_secs((wait + takes).min(order.deadline - now)))
    }

    /// Seconds until a job ends. `None` after that, and where its place in line was not counted.
    pub(super) fn job(&self, job: &Job) -> Option<i64> {
        if job.is_final() {
            return None;
        }
        let now = self.0.clock.now();
        let takes = self.takes(&job.provider, &job.upstream_model)?;
        let rests = job.run_at.map_or(TimeDelta::zero(), |until| (until - now).max(TimeDelta::zero()));
        let left = match job.begun_at {
            Some(begun) => takes - (now - begun),
            None if job.status == Status::Queued.word() && job.run_at.is_none() => {
                self.wait(Medium::from_word(&job.medium)?, job.queue_position?, now)? + takes
            }
            None => rests + takes,
        };
        Some(whole_secs(left.min(job.deadline - now)))
    }

    /// How long a result by this route takes lately.
    fn takes(&self, provider: &str, upstream_model: &str) -> Option<TimeDelta> {
        TimeDelta::from_std(self.0.standings.get(provider, upstream_model).latency?).ok()
    }

    /// How long it takes until so many before one in line have been taken up: as long as the pool took for that many lately.
    fn wait(&self, pool: Medium, before: i64, now: DateTime<Utc>) -> Option<TimeDelta> {
        if before == 0 {
            return Some(TimeDelta::zero());
        }
        let before = f64::from(u32::try_from(before).ok()?);
        let per_second: f64 = self.0.routes[pool as usize]
            .iter()
            .filter_map(|route| self.0.standings.get(&route.provider, &route.upstream_model).pace)
            .map(|pace| pace.per_second(now))
            .sum();
        // Where nothing was made lately it may be infinite.
        let wait = Duration::try_from_secs_f64(before / per_second).ok()?;
        TimeDelta::from_std(wait).ok().filter(|wait| *wait <= WAIT_MAX)
    }
}

/// The routes by which a pool makes something, each once.
fn routes(catalog: &Catalog, pool: Medium) -> Vec<Route> {
    let models = catalog.models().iter().filter(|model| model.medium == pool);
    let mut routes: Vec<_> = models
        .flat_map(|model| &model.routes)
        .map(|route| Route { provider: route.provider.clone(), upstream_model: route.upstream_model.clone() })
        .collect();
    routes.sort();
    routes.dedup();
    routes
}

/// The nearest whole number of seconds; none below zero.
fn whole_secs(left: TimeDelta) -> i64 {
    (left.num_milliseconds().max(0) + 500) / 1000
}
