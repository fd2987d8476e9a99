//! Where the walks of a claim begin: below are only entries of rows that have moved on.
//!
//! Normally Postgres clears those away by itself. It may not while any transaction holds a snapshot from before, a backup or
//! a forgotten session, and a claim that began at the bottom would pass over all of them again and again. So the bottom is
//! looked for once in a while, and claims begin there. A row that is added is never below the pool's virtual time as its
//! transaction saw it; one whose transaction took longer than a look apart is found by the next look.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{Medium, Priority};

/// The floors of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floors {
    /// Lowest tag of a runnable job, for each priority by its rank.
    pub tags: [i64; Priority::ALL.len()],
    /// Earliest moment that a parked job waits for.
    pub due: DateTime<Utc>,
    /// What will be safe to begin at by the next look, however little stands there now.
    seen_vnow: i64,
    seen_at: DateTime<Utc>,
}

impl Default for Floors {
    /// The very bottom.
    fn default() -> Self {
        let bottom = DateTime::<Utc>::MIN_UTC.max(DateTime::UNIX_EPOCH);
        Self { tags: [i64::MIN; Priority::ALL.len()], due: bottom, seen_vnow: i64::MIN, seen_at: bottom }
    }
}

impl Floors {
    /// Looks again, from the very bottom, some seconds after the last time.
    ///
    /// # Errors
    /// When the database fails; the old floors stand, which are as right as before.
    pub async fn look(&self, db: &PgPool, pool: Medium, now: DateTime<Utc>) -> Result<Self, sqlx::Error> {
        let seen = sqlx::query!(
            r#"
            select p.vnow,
                   (select run_at from queue where pool = $1 and lease_token is null and run_at is not null
                    order by run_at limit 1) as due,
                   array(select (select tag from queue where pool = $1 and lease_token is null and run_at is null
                                 and priority = rank order by tag limit 1)
                         from unnest($2::smallint[]) rank order by rank) as "tags!: Vec<Option<i64>>"
            from pools p where p.pool = $1
            "#,
            pool.word(),
            &Priority::ALL.map(Priority::rank),
        )
        .fetch_one(db)
        .await?;
        let mut tags = [self.seen_vnow; Priority::ALL.len()];
        for (floor, lowest) in tags.iter_mut().zip(seen.tags) {
            *floor = lowest.map_or(*floor, |lowest| lowest.min(*floor));
        }
        let due = seen.due.map_or(self.seen_at, |due| due.min(self.seen_at));
        Ok(Self { tags, due, seen_vnow: seen.vnow, seen_at: now })
    }
}
