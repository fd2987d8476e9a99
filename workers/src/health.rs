//! What this process sees of the routes it uses, told to the others, and what all of them know.
//!
//! Sights are gathered and written every other second, failures at once; nothing that a job waits for. See
//! [`shared::provider::Standing`] for what is made of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::sync::Notify;

use shared::{
    clock::SharedClock,
    process::Process,
    provider::{self, Route, Seen, Standing, Standings},
};

/// How often sights are told and those of others are read.
const PACE: Duration = Duration::from_secs(2);

/// How far two tellings are apart at least.
const PACE_MIN: Duration = Duration::from_millis(100);

/// Whether new work may go by a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Open,
    /// This one may, to find out whether others may.
    Probe,
    /// The route mostly fails; not before then.
    NotBefore(DateTime<Utc>),
}

/// The routes as this process sees them; clones share.
#[derive(Debug, Clone)]
pub struct Health(Arc<Watch>);

#[derive(Debug)]
struct Watch {
    db: PgPool,
    clock: SharedClock,
    seen: Mutex<HashMap<Route, Seen>>,
    standings: Standings,
    /// Held while sights are told: whoever tells after others finds theirs told as well.
    telling: tokio::sync::Mutex<()>,
    /// Rung by a failure.
    bell: Notify,
}

impl Health {
    /// Starts the task that tells and reads, until `process` stops.
    pub fn start(db: &PgPool, clock: &SharedClock, process: &Process) -> Self {
        let health = Self(Arc::new(Watch {
            db: db.clone(),
            clock: clock.clone(),
            seen: Mutex::default(),
            standings: Standings::default(),
            telling: tokio::sync::Mutex::default(),
            bell: Notify::new(),
        }));
        let (kept, watched) = (health.clone(), process.clone());
        process.spawn(async move {
            loop {
                if let Err(error) = kept.flush().await {
                    tracing::warn!(%error, "what was seen of the providers is not told; trying again");
                }
                if !watched.sleep(PACE_MIN).await {
                    return;
                }
                tokio::select! {
                    () = kept.0.bell.notified() => {}
                    () = tokio::time::sleep(PACE) => {}
                    () = watched.stopping() => {
                        drop(kept.flush().await);
                        return;
                    }
                }
            }
        });
        health
    }

    /// A result was made, so long after its submit.
    pub fn succeeded(&self, provider: &str, upstream_model: &str, took: Duration) {
        self.see(provider, upstream_model, Seen { good: 1, bad: 0, took });
    }

    /// The provider failed by its own fault.
    pub fn failed(&self, provider: &str, upstream_model: &str) {
        self.see(provider, upstream_model, Seen { good: 0, bad: 1, took: Duration::ZERO });
        self.0.bell.notify_one();
    }

    fn see(&self, provider: &str, upstream_model: &str, sight: Seen) {
        let route = Route { provider: provider.to_owned(), upstream_model: upstream_model.to_owned() };
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = seen.entry(route).or_default();
        sum.good = sum.good.saturating_add(sight.good);
        sum.bad = sum.bad.saturating_add(sight.bad);
        sum.took = sum.took.saturating_add(sight.took);
    }

    /// Tells what was seen until now, and reads what all have seen.
    ///
    /// # Errors
    /// When the database fails; what was seen is told the next time.
    pub async fn flush(&self) -> Result<(), sqlx::Error> {
        let _alone = self.0.telling.lock().await;
        let seen: Vec<_> = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        if !seen.is_empty()
            && let Err(error) = provider::observe(&self.0.db, &seen, self.0.clock.now()).await
        {
            for (route, sight) in seen {
                self.see(&route.provider, &route.upstream_model, sight);
            }
            return Err(error);
        }
        self.0.standings.refresh(&self.0.db).await
    }

    /// How a route stands.
    pub fn standing(&self, provider: &str, upstream_model: &str) -> Standing {
        self.0.standings.get(provider, upstream_model)
    }

    /// Whether a route takes work now, as far as this process knows; one whose pause is over may.
    pub fn takes_work(&self, provider: &str, upstream_model: &str) -> bool {
        !self.standing(provider, upstream_model).is_open(self.0.clock.now())
    }

    /// The job that was to try a route learned nothing of it: another may.
    pub async fn release(&self, provider: &str, upstream_model: &str) {
        let route = Route { provider: provider.to_owned(), upstream_model: upstream_model.to_owned() };
        if let Err(error) = provider::release_probe(&self.0.db, &route).await {
            tracing::warn!(%error, "a route that was not tried is tried later");
        }
    }

    /// Whether a new submit may go by a route. Of those that come when the pause of an open route is over, one may.
    pub async fn admit(&self, provider: &str, upstream_model: &str) -> Admission {
        let Some(until) = self.standing(provider, upstream_model).open_until else { return Admission::Open };
        let now = self.0.clock.now();
        if until > now {
            return Admission::NotBefore(until);
        }
        let route = Route { provider: provider.to_owned(), upstream_model: upstream_model.to_owned() };
        match provider::take_probe(&self.0.db, &route, now).await {
            Ok(true) => Admission::Probe,
            Ok(false) => Admission::NotBefore(now + PACE),
            Err(error) => {
                // The submit's own intent will tell whether the database is there.
                tracing::warn!(%error, "whether a route may be tried cannot be asked");
                Admission::NotBefore(now + PACE)
            }
        }
    }
}
