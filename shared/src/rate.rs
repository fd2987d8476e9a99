//! How often someone may do something, counted in Postgres: limits hold over any number of processes and survive restarts.
//!
//! The generic cell rate algorithm: one instant per subject says when it will have used up nothing again, and taking one
//! moves it on by a fixed step. A take is one statement on one row, so takers at the same moment never get more than the
//! limit together. A refusal writes nothing. Deliberately absent: the limits of an account's own jobs, which are state on
//! its row (`job/submit.sql`).

use std::net::{IpAddr, Ipv6Addr};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use sqlx::PgPool;

/// So many in so much time: all at once, or evenly spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many.
    pub limit: u32,
    /// In which time.
    pub per: TimeDelta,
}

impl Quota {
    /// `limit` in an hour.
    pub const fn hourly(limit: u32) -> Self {
        Self { limit, per: TimeDelta::hours(1) }
    }

    /// Microseconds after which one that was taken counts no more.
    fn step_micros(self) -> i64 {
        (self.per.num_microseconds().unwrap_or(i64::MAX) / i64::from(self.limit.max(1))).max(1)
    }

    /// How a subject stands whose instant is `full_at`.
    pub(crate) fn state(self, full_at: DateTime<Utc>, now: DateTime<Utc>) -> RateState {
        // As exact as Postgres keeps an instant, so that what was written counts as what was meant.
        let used = (full_at - now.trunc_subsecs(6)).max(TimeDelta::zero());
        let free = (self.per - used).num_microseconds().unwrap_or(0) / self.step_micros();
        RateState {
            limit: self.limit,
            remaining: u32::try_from(free).unwrap_or(0).min(self.limit),
            reset: used,
        }
    }
}

/// How someone stands towards a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateState {
    /// Most at once.
    pub limit: u32,
    /// How many are left now.
    pub remaining: u32,
    /// When all of them are there again.
    pub reset: TimeDelta,
}

/// What came of asking for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It was granted.
    Taken(RateState),
    /// There was none; nothing is written.
    Refused {
        /// How the subject stands.
        state: RateState,
        /// When the next one is there.
        retry_after: TimeDelta,
    },
}

/// Takes one of `quota` for `subject` in `bucket`.
///
/// # Errors
/// When the database fails.
pub async fn take(
    db: &PgPool,
    bucket: &str,
    subject: &str,
    quota: Quota,
    now: DateTime<Utc>,
) -> Result<Take, sqlx::Error> {
    let now = now.trunc_subsecs(6);
    // A count is worth no wait for the disk: should the server lose power, the last moments are forgotten.
    let row = sqlx::query!(
        r#"
        with relaxed as (
            select set_config('synchronous_commit', 'off', true)
        ), taken as (
            insert into rates as r (bucket, subject, full_at)
            select $1, $2, $3::timestamptz + $4::bigint * interval '1 microsecond' from relaxed
            on conflict (bucket, subject) do update
            set full_at = greatest(r.full_at, $3) + $4 * interval '1 microsecond'
            where greatest(r.full_at, $3) + $4 * interval '1 microsecond' <= $5
            returning full_at
        )
        select full_at as "full_at!", true as "taken!" from taken
        union all
        select full_at, false from rates where bucket = $1 and subject = $2 and not exists (select from taken)
        "#,
        bucket,
        subject,
        now,
        quota.step_micros(),
        now + quota.per,
    )
    .fetch_optional(db)
    .await?;
    let step = TimeDelta::microseconds(quota.step_micros());
    // Refused, and not seen: the row is younger than the statement, and as full as can be.
    let full_at = row.as_ref().map_or(now + quota.per, |row| row.full_at);
    let state = quota.state(full_at, now);
    if row.is_some_and(|row| row.taken) {
        return Ok(Take::Taken(state));
    }
    // What the statement saw may be older than what it was refused for, by others at the same moment.
    let retry_after = (full_at + step - quota.per - now).max(TimeDelta::milliseconds(1));
    Ok(Take::Refused { state: RateState { remaining: 0, ..state }, retry_after })
}

/// Gives back one that was taken and did not count after all.
///
/// # Errors
/// When the database fails.
pub async fn give_back(db: &PgPool, bucket: &str, subject: &str, quota: Quota) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update rates set full_at = full_at - $3::bigint * interval '1 microsecond' where bucket = $1 and subject = $2",
        bucket,
        subject,
        quota.step_micros(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets whatever `subject` took from `bucket`.
///
/// # Errors
/// When the database fails.
pub async fn forget(db: &PgPool, bucket: &str, subject: &str) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from rates where bucket = $1 and subject = $2", bucket, subject).execute(db).await?;
    Ok(())
}

/// Deletes rows of subjects that have used up nothing any more; says how many.
///
/// # Errors
/// When the database fails.
pub async fn evict(db: &PgPool, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    // A row that someone takes from just now is not past, and not waited for.
    let evicted = sqlx::query!(
        "delete from rates r using (select bucket, subject from rates where full_at <= $1 for update skip locked) past
         where r.bucket = past.bucket and r.subject = past.subject",
        now
    )
    .execute(db)
    .await?;
    Ok(evicted.rows_affected())
}

/// Under which name a network address counts. Whoever has an IPv6 address has 2⁶⁴ of them, so the network counts.
pub fn address(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_as_its_network() {
        let check = |ip: &str, expected| assert_eq!(address(ip.parse().unwrap()), expected, "{ip}");
        check("1.2.3.4", "1.2.3.4");
        check("::ffff:1.2.3.4", "1.2.3.4");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64");
        check("2001:db8:1:2:ffff::", "2001:db8:1:2::/64");
    }

    #[test]
    fn all_that_is_granted_fits_into_its_time() {
        for limit in [1, 5, 7, 1000, 1_000_000] {
            let quota = Quota::hourly(limit);
            assert!(quota.step_micros() * i64::from(limit) <= 3_600_000_000, "{limit}");
            let now = DateTime::UNIX_EPOCH;
            let one = now + TimeDelta::microseconds(quota.step_micros());
            assert_eq!(quota.state(one, now).remaining, limit - 1, "{limit}");
            assert_eq!(quota.state(now - TimeDelta::days(1), now).remaining, limit);
        }
    }
}
