//! Rolling up days that are over: once each, in order, in one transaction a day.
//!
//! The row of the day is written first, so two schedulers on the same day wait for one another and the second passes it by.
//! Running it again therefore changes nothing.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::PgPool;

use super::{next, start_of};

/// How long after its end a day is left alone: for clocks that differ and for commits under way.
const GRACE: TimeDelta = TimeDelta::minutes(10);

/// Rolls up every day that is over and not rolled up yet. Gives how many there were.
///
/// # Errors
/// When the database fails; the days rolled up until then stay so.
pub async fn roll_up(db: &PgPool, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let Some(mut day) = first_open(db).await? else { return Ok(0) };
    let today = (now - GRACE).date_naive();
    let mut rolled = 0;
    while day < today {
        rolled += u64::from(roll_up_day(db, day, now).await?);
        day = next(day);
    }
    Ok(rolled)
}

/// The day after the last that is rolled up; before there is one, the day of the first job.
async fn first_open(db: &PgPool) -> Result<Option<NaiveDate>, sqlx::Error> {
    sqlx::query_scalar!(
        "select coalesce((select max(day) + 1 from usage_days),
                         (select (created_at at time zone 'utc')::date from jobs order by id limit 1))"
    )
    .fetch_one(db)
    .await
}

/// `false`: another scheduler has done it.
async fn roll_up_day(db: &PgPool, day: NaiveDate, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let mut tx = db.begin().await?;
    let first = sqlx::query!(
        "insert into usage_days (day, rolled_at) values ($1, $2) on conflict (day) do nothing",
        day,
        now
    )
    .execute(&mut *tx)
    .await?;
    if first.rows_affected() == 0 {
        return Ok(false);
    }
    // Left behind when an operator took the newest days' rows away, to have them rolled up anew.
    sqlx::query!("delete from usage_daily where day = $1", day).execute(&mut *tx).await?;
    sqlx::query!("delete from cost_daily where day = $1", day).execute(&mut *tx).await?;
    let (start, end) = (start_of(day), start_of(next(day)));
    sqlx::query_file!("src/usage/roll_up_jobs.sql", day, start, end).execute(&mut *tx).await?;
    sqlx::query_file!("src/usage/roll_up_costs.sql", day, start, end).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(true)
}
