//! What was used, what it earned and what it cost, a day at a time.
//!
//! Days that are over are rolled up once (`roll_up.rs`), in order and without a gap, so one boundary says where reports stop
//! reading roll-ups and begin to count jobs: a report of a year reads hundreds of rows and today's jobs. Days are those of
//! UTC, and a job or an attempt belongs to the day on which it ended.
//! Deliberately absent: single jobs (see [`crate::job`]) and single movements of tokens (see [`crate::billing`]).

mod margin;
mod ratings;
mod report;
mod roll_up;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use sqlx::PgPool;

pub use margin::{By, Line, margin};
pub use ratings::{Ratings, ratings};
pub use report::{Group, GroupBy, Quantities, report};
pub use roll_up::roll_up;

/// Most days of one report: a year and a month to compare it with.
pub const SPAN_DAYS_MAX: i64 = 400;

/// Days of a report for which none were named, today included.
pub const SPAN_DAYS_DEFAULT: u64 = 30;

/// The years that reports know: others are slips of the finger.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=2999;

/// Some days in a row, the first and the last included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    from: NaiveDate,
    to: NaiveDate,
}

/// Why two days are no span of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// They are in the wrong order.
    #[error("from is not after to")]
    Backwards,
    /// They are too far apart.
    #[error("a report covers at most {SPAN_DAYS_MAX} days")]
    TooLong,
    /// One of them is not of our time.
    #[error("days are of the years {} to {}", YEARS.start(), YEARS.end())]
    OutOfTime,
}

impl Span {
    /// The days from `from` to `to`.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn new(from: NaiveDate, to: NaiveDate) -> Result<Self, SpanError> {
        use chrono::Datelike;
        if !YEARS.contains(&from.year()) || !YEARS.contains(&to.year()) {
            return Err(SpanError::OutOfTime);
        }
        match (to - from).num_days() {
            ..0 => Err(SpanError::Backwards),
            SPAN_DAYS_MAX.. => Err(SpanError::TooLong),
            _ => Ok(Self { from, to }),
        }
    }

    /// The first day.
    pub const fn from(self) -> NaiveDate {
        self.from
    }

    /// The last day.
    pub const fn to(self) -> NaiveDate {
        self.to
    }

    /// The moments of its last part, which is not rolled up: from the first, up to and without the second. They are the same
    /// where there is no such part.
    fn live(self, rolled: Option<NaiveDate>) -> (DateTime<Utc>, DateTime<Utc>) {
        let end = start_of(next(self.to));
        let first = rolled.map_or(self.from, |rolled| next(rolled).max(self.from));
        (start_of(first).min(end), end)
    }
}

/// The newest day that is rolled up, and with it all before.
async fn rolled_until(db: &PgPool) -> Result<Option<NaiveDate>, sqlx::Error> {
    sqlx::query_scalar!("select max(day) from usage_days").fetch_one(db).await
}

fn next(day: NaiveDate) -> NaiveDate {
    day.checked_add_days(Days::new(1)).unwrap_or(day)
}

fn start_of(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_span_has_days_and_not_too_many_of_them() {
        let check = |from: &str, to: &str| {
            Span::new(day(from), day(to)).map(|span| (span.to() - span.from()).num_days())
        };
        assert_eq!(check("2026-01-01", "2026-01-01"), Ok(0));
        assert_eq!(check("2026-01-01", "2027-02-04"), Ok(399));
        assert_eq!(check("2026-01-01", "2027-02-05"), Err(SpanError::TooLong));
        assert_eq!(check("2026-01-02", "2026-01-01"), Err(SpanError::Backwards));
        assert_eq!(check("1026-01-01", "1026-01-01"), Err(SpanError::OutOfTime));
    }

    #[test]
    fn what_is_not_rolled_up_begins_the_day_after_the_last_that_is() {
        let span = Span::new(day("2026-03-01"), day("2026-03-31")).unwrap();
        let live = |rolled: Option<&str>| {
            let (first, end) = span.live(rolled.map(day));
            (first.date_naive().to_string(), end.date_naive().to_string())
        };
        let end = "2026-04-01".to_owned();
        assert_eq!(live(None), ("2026-03-01".into(), end.clone()));
        assert_eq!(live(Some("2026-02-10")), ("2026-03-01".into(), end.clone()));
        assert_eq!(live(Some("2026-03-30")), ("2026-03-31".into(), end.clone()));
        assert_eq!(live(Some("2026-03-31")), (end.clone(), end.clone()), "nothing");
        assert_eq!(live(Some("2026-06-30")), (end.clone(), end), "nothing");
    }
}
