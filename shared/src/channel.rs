//! Channels of Postgres: what is said there goes out apart from every write, and reaches whoever listens just then.
//!
//! A NOTIFY inside a transaction that writes would take a lock that all of them share, so each is a statement that writes
//! nothing, and whoever sends many keeps a [`Pace`]. A listener sends itself a word now and then, to notice a
//! connection that is dead but looks alive. Nothing durable depends on what is said here: it may get lost.
//! Deliberately absent: what is said, see `wake.rs` and `text`.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgListener};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::id::LeaseToken;

/// How far two statements of a busy sender are apart: what gathers meanwhile goes out together.
const APART: Duration = Duration::from_millis(4);
/// How many of them may follow each other at once after a rest.
const BURST: u32 = 8;
/// Longest payload that is sent: Postgres takes less than 8000 bytes.
pub const PAYLOAD_BYTES: usize = 7_900;
/// How often a listener sends itself a word.
const SELF_TEST: Duration = Duration::from_secs(10);
/// Wait before listening is tried again after a failure.
const RECONNECT: Duration = Duration::from_secs(1);
/// What a listener's word to itself begins with.
const ECHO: &str = "echo:";

/// How often one sender makes a statement: as it likes while that is seldom, and else every four milliseconds.
#[derive(Debug)]
pub struct Pace {
    /// When all statements so far would be over, were they made one after the other at their distance.
    over_at: Instant,
}

impl Pace {
    /// That of a sender who begins now.
    pub fn begin(now: Instant) -> Self {
        Self { over_at: now }
    }

    /// Notes a statement that was made just now. How long it is until the next; nothing for a few after a rest. Should the next
    /// one be made earlier, that lengthens no wait but its own.
    pub fn spend(&mut self, now: Instant) -> Duration {
        let most = now + APART * (BURST + 1);
        self.over_at = (self.over_at.max(now) + APART).min(most);
        (self.over_at - now).saturating_sub(APART * BURST)
    }
}

/// Says these words on a channel.
///
/// # Errors
/// When the database fails; then nobody hears them.
pub async fn notify(db: &PgPool, channel: &str, payloads: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query!("select pg_notify($1, payload) from unnest($2::text[]) as payload", channel, payloads)
        .execute(db)
        .await?;
    Ok(())
}

/// Hears what is said on a channel until `over`, on a connection of its own. What is said while that is broken is missed.
pub async fn listen(
    db: PgPool,
    channel: &'static str,
    over: CancellationToken,
    heard: impl Fn(&str) + Send + Sync,
) {
    while !over.is_cancelled() {
        if let Err(error) = listen_once(&db, channel, &over, &heard).await {
            tracing::warn!(channel, %error, "not listening; trying again");
            tokio::select! {
                () = tokio::time::sleep(RECONNECT) => {}
                () = over.cancelled() => {}
            }
        }
    }
}

/// Listens until the connection fails, an echo stays away, or it is over.
async fn listen_once(
    db: &PgPool,
    channel: &str,
    over: &CancellationToken,
    heard: &(impl Fn(&str) + Send + Sync),
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(db).await?;
    listener.listen(channel).await?;
    let mut echo: Option<String> = None;
    let mut test = tokio::time::interval(SELF_TEST);
    loop {
        tokio::select! {
            () = over.cancelled() => return Ok(()),
            told = listener.try_recv() => match told? {
                Some(told) if echo.as_deref() == Some(told.payload()) => echo = None,
                // Another listener's.
                Some(told) if told.payload().starts_with(ECHO) => {}
                Some(told) => heard(told.payload()),
                None => return Err(sqlx::Error::WorkerCrashed),
            },
            _ = test.tick() => {
                if echo.is_some() {
                    return Err(sqlx::Error::PoolTimedOut);
                }
                let word = format!("{ECHO}{}", LeaseToken::new().0);
                notify(db, channel, std::slice::from_ref(&word)).await?;
                echo = Some(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_statements_follow_each_other_at_once_and_then_they_are_apart() {
        let mut now = Instant::now();
        let mut pace = Pace::begin(now);
        for _ in 0..2 {
            for _ in 0..BURST {
                assert_eq!(pace.spend(now), Duration::ZERO);
            }
            for _ in 0..3 {
                assert_eq!(pace.spend(now), APART);
                now += APART;
            }
            // One that does not wait makes the others wait no longer.
            now -= APART / 2;
            assert_eq!(pace.spend(now), APART);
            now += APART * (BURST + 1);
        }
    }

    #[test]
    fn who_speaks_seldom_never_waits() {
        let mut now = Instant::now();
        let mut pace = Pace::begin(now);
        for _ in 0..100 {
            assert_eq!(pace.spend(now), Duration::ZERO);
            now += APART;
        }
    }
}
