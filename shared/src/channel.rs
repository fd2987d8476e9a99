//! Channels of Postgres: what is said there goes out apart from every write, and reaches whoever listens just then.
//!
//! A NOTIFY inside a transaction that writes would take a lock that all of them share, so each is a statement that writes
//! nothing, and whoever sends many keeps [`PACE`] between two. A listener sends itself a word now and then, to notice a
//! connection that is dead but looks alive. Nothing durable depends on what is said here: it may get lost.
//! Deliberately absent: what is said, see `wake.rs` and `text`.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgListener};
use tokio_util::sync::CancellationToken;

use crate::id::LeaseToken;

/// How far two statements of one sender are apart at least: what gathers meanwhile goes out together.
pub const PACE: Duration = Duration::from_millis(4);
/// Longest payload that is sent: Postgres takes less than 8000 bytes.
pub const PAYLOAD_BYTES: usize = 7_900;
/// How often a listener sends itself a word.
const SELF_TEST: Duration = Duration::from_secs(10);
/// Wait before listening is tried again after a failure.
const RECONNECT: Duration = Duration::from_secs(1);
/// What a listener's word to itself begins with.
const ECHO: &str = "echo:";

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
