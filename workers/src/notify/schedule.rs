//! When a notice that was not taken is sent again.
//!
//! The schedule that Standard Webhooks recommends: ten tries over a little more than three days, so that a receiver may be
//! down for a weekend.

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;
use std::time::Duration;

/// Waits before the second and each further try, in seconds; the first is at once.
const WAITS_SECS: [i64; 9] =
    [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600];

/// Tries of a notice, the first included.
pub const TRIES: usize = WAITS_SECS.len() + 1;

/// Longest wait a receiver may ask for by Retry-After.
const ADVICE_MAX: TimeDelta = TimeDelta::hours(24);

/// When to send again after `tries` that failed; `None` when they are spent. A receiver's own advice is followed where it
/// asks for more patience than the schedule.
pub fn next_try(tries: usize, advice: Option<Duration>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let wait = *WAITS_SECS.get(tries.checked_sub(1)?)?;
    // Up to a tenth longer, so that the many notices of an outage do not all come back in the same second.
    let jitter = rand::rng().random_range(0..=wait.max(10) / 10);
    let planned = TimeDelta::seconds(wait + jitter);
    let advised = advice.map_or(TimeDelta::zero(), |advice| {
        TimeDelta::from_std(advice).map_or(ADVICE_MAX, |advice| advice.min(ADVICE_MAX))
    });
    Some(now + planned.max(advised))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_tries_span_three_days_and_then_it_is_over() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut now = start;
        let mut tries = 1;
        while let Some(next) = next_try(tries, None, now) {
            now = next;
            tries += 1;
        }
        assert_eq!(tries, TRIES);
        let hours = (now - start).num_minutes() as f64 / 60.0;
        assert!((75.5..=83.2).contains(&hours), "{hours}");
    }

    #[test]
    fn a_receiver_may_ask_for_more_patience_but_not_for_ever() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let wait = |advice_secs| {
            (next_try(1, Some(Duration::from_secs(advice_secs)), now).unwrap() - now).num_seconds()
        };
        assert!((5..=6).contains(&wait(1)), "less patience than planned is not followed");
        assert_eq!(wait(90), 90);
        assert_eq!(wait(10_000_000), 24 * 3600);
        assert_eq!(wait(u64::MAX), 24 * 3600);
    }
}
