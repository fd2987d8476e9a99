//! The one place that reads the time of day, in Unix milliseconds.
//!
//! Vendors answer with real timestamps and tasks ripen in real seconds, so there is no manual clock here:
//! tests steer by polls (`Pace::AfterPolls`) instead.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "this is the simulator's clock")]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Seconds since 1970.
pub(crate) fn now_secs() -> i64 {
    now_ms() / 1000
}
