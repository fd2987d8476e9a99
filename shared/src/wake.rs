//! Wake-ups between processes: hints over NOTIFY, sent after the commit and on their own.
//!
//! A NOTIFY inside a transaction that writes would take a lock that all of them share, so hints are sent by one task, in a
//! statement that writes nothing. The first goes out at once; what gathers until some milliseconds later goes out together,
//! jobs by the dozen in one hint, so that a busy system sends few.
//! Nothing durable depends on a hint: everyone who listens also looks by itself now and then.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgNotification},
};
use tokio::sync::{broadcast, mpsc};

use crate::{
    id::{JobId, LeaseToken},
    job::Medium,
    process::Process,
};

/// The one channel of Postgres that all hints go through.
const CHANNEL: &str = "kiln";
/// Hints a slow listener may fall behind before it misses some; it then looks by itself.
const BACKLOG: usize = 4096;
/// Most hints sent at once.
const BATCH: usize = 4096;
/// How far two statements are apart at least.
const PACE: Duration = Duration::from_millis(4);
/// Most jobs named in one hint: Postgres takes less than 8000 bytes, and a job's name has 40.
const JOBS_IN_HINT: usize = 150;
/// What a hint about jobs begins with.
const JOBS: &str = "jobs:";
/// How often the listener sends itself a word, to notice a connection that is dead but looks alive.
const SELF_TEST: Duration = Duration::from_secs(10);
/// Wait before listening is tried again after a failure.
const RECONNECT: Duration = Duration::from_secs(1);

/// Something worth looking at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// A pool has work.
    Pool(Medium),
    /// A job ended or moved on.
    Job(JobId),
    /// Someone asked to cancel jobs that are running.
    Cancel,
    /// A notice is due.
    Notice,
    /// A price changed.
    Prices,
    /// A key at a provider changed, or rests.
    Providers,
    /// The listener's word to itself.
    Echo(LeaseToken),
}

impl Wake {
    fn to_payload(self) -> String {
        match self {
            Self::Pool(pool) => format!("pool:{}", pool.word()),
            Self::Job(job) => format!("{JOBS}{job}"),
            Self::Cancel => "cancel".into(),
            Self::Notice => "notice".into(),
            Self::Prices => "prices".into(),
            Self::Providers => "providers".into(),
            Self::Echo(token) => format!("echo:{}", token.0),
        }
    }

    fn from_payload(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("pool", pool)) => Medium::from_word(pool).map(Self::Pool),
            Some(("echo", token)) => token.parse().ok().map(|token| Self::Echo(LeaseToken(token))),
            _ if text == "cancel" => Some(Self::Cancel),
            _ if text == "notice" => Some(Self::Notice),
            _ if text == "prices" => Some(Self::Prices),
            _ if text == "providers" => Some(Self::Providers),
            _ => None,
        }
    }

    /// Hints as few payloads: what was said twice is said once, and jobs share.
    fn to_payloads(hints: &[Self]) -> Vec<String> {
        let jobs: Vec<_> = hints
            .iter()
            .filter_map(|hint| if let Self::Job(job) = hint { Some(job.to_string()) } else { None })
            .collect();
        let mut payloads: Vec<_> =
            hints.iter().filter(|hint| !matches!(hint, Self::Job(_))).map(|hint| hint.to_payload()).collect();
        payloads.sort_unstable();
        payloads.dedup();
        payloads.extend(jobs.chunks(JOBS_IN_HINT).map(|jobs| format!("{JOBS}{}", jobs.join(","))));
        payloads
    }
}

/// The jobs that a payload names; those of another version's form are passed over.
fn jobs_from_payload(text: &str) -> Option<Arc<[JobId]>> {
    Some(text.strip_prefix(JOBS)?.split(',').filter_map(|job| job.parse().ok()).collect())
}

/// Sends and hears hints. Clones share one connection.
#[derive(Debug, Clone)]
pub struct Wakes {
    outbox: mpsc::UnboundedSender<Wake>,
    heard: broadcast::Sender<Wake>,
    /// Apart from the rest: there are many, and only those who wait for a job listen.
    jobs: broadcast::Sender<Arc<[JobId]>>,
}

impl Wakes {
    /// Starts the two tasks that send and listen; they end with the process.
    pub fn start(db: &PgPool, process: &Process) -> Self {
        let (outbox, sending) = mpsc::unbounded_channel();
        let (heard, _) = broadcast::channel(BACKLOG);
        let (jobs, _) = broadcast::channel(BACKLOG);
        let wakes = Self { outbox, heard, jobs };
        process.spawn(send(db.clone(), sending, process.clone()));
        process.spawn(listen(db.clone(), wakes.clone(), process.clone()));
        wakes
    }

    /// Sends a hint soon; never waits and never fails.
    pub fn send(&self, wake: Wake) {
        if self.outbox.send(wake).is_err() {
            tracing::debug!(?wake, "hint not sent: the process is stopping");
        }
    }

    /// Hears every hint from now on, but those about jobs. Subscribe before looking, or a hint in between is lost.
    pub fn listen(&self) -> broadcast::Receiver<Wake> {
        self.heard.subscribe()
    }

    /// Hears which jobs ended or moved on from now on. Subscribe before looking, too.
    pub fn listen_to_jobs(&self) -> broadcast::Receiver<Arc<[JobId]>> {
        self.jobs.subscribe()
    }
}

/// Waits for a hint that is `wanted` or for the next look, about `poll` from now. `false`: the process is stopping.
pub async fn rest(
    hints: &mut broadcast::Receiver<Wake>,
    poll: Duration,
    process: &Process,
    wanted: impl Fn(Wake) -> bool,
) -> bool {
    // Jitter keeps many processes from looking all at once.
    let wait = tokio::time::sleep(poll.mul_f64(rand::rng().random_range(0.5..1.5)));
    tokio::pin!(wait);
    loop {
        tokio::select! {
            () = &mut wait => return true,
            () = process.stopping() => return false,
            hint = hints.recv() => match hint {
                Ok(wake) if wanted(wake) => return true,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return true,
                Err(broadcast::error::RecvError::Closed) => return process.sleep(poll).await,
            },
        }
    }
}

async fn send(db: PgPool, mut sending: mpsc::UnboundedReceiver<Wake>, process: Process) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        tokio::select! {
            _ = sending.recv_many(&mut batch, BATCH) => {}
            () = process.stopping() => return,
        }
        if let Err(error) = notify(&db, &Wake::to_payloads(&batch)).await {
            tracing::warn!(%error, "hints not sent; those who wait will look by themselves");
        }
        // Whatever comes now goes out together.
        process.sleep(PACE).await;
    }
}

/// Sends a hint and waits until it is sent: for programs that end right afterwards and have no task to send it.
///
/// # Errors
/// When the database fails; those who wait will then look by themselves.
pub async fn send_now(db: &PgPool, wake: Wake) -> Result<(), sqlx::Error> {
    notify(db, &[wake.to_payload()]).await
}

async fn notify(db: &PgPool, payloads: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query!("select pg_notify($1, payload) from unnest($2::text[]) as payload", CHANNEL, payloads)
        .execute(db)
        .await?;
    Ok(())
}

async fn listen(db: PgPool, wakes: Wakes, process: Process) {
    while !process.is_stopping() {
        if let Err(error) = listen_once(&db, &wakes, &process).await {
            tracing::warn!(%error, "not listening for hints; trying again");
            process.sleep(RECONNECT).await;
        }
    }
}

/// Listens until the connection fails, an echo stays away, or the process stops.
async fn listen_once(db: &PgPool, wakes: &Wakes, process: &Process) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(db).await?;
    listener.listen(CHANNEL).await?;
    let mut echo: Option<LeaseToken> = None;
    let mut test = tokio::time::interval(SELF_TEST);
    loop {
        tokio::select! {
            () = process.stopping() => return Ok(()),
            heard = listener.try_recv() => match heard? {
                Some(notification) => pass_on(&notification, wakes, &mut echo),
                None => return Err(sqlx::Error::WorkerCrashed),
            },
            _ = test.tick() => {
                if echo.is_some() {
                    return Err(sqlx::Error::PoolTimedOut);
                }
                let token = LeaseToken::new();
                echo = Some(token);
                wakes.send(Wake::Echo(token));
            }
        }
    }
}

fn pass_on(notification: &PgNotification, wakes: &Wakes, echo: &mut Option<LeaseToken>) {
    if let Some(jobs) = jobs_from_payload(notification.payload()) {
        // No receiver is no error, here and below: nobody in this process is waiting just now.
        drop(wakes.jobs.send(jobs));
        return;
    }
    match Wake::from_payload(notification.payload()) {
        Some(Wake::Echo(token)) => {
            if *echo == Some(token) {
                *echo = None;
            }
        }
        Some(wake) => drop(wakes.heard.send(wake)),
        None => tracing::debug!(payload = notification.payload(), "a hint of another version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_survives_its_payload() {
        for wake in [
            Wake::Pool(Medium::Video),
            Wake::Cancel,
            Wake::Notice,
            Wake::Prices,
            Wake::Echo(LeaseToken::new()),
        ] {
            assert_eq!(Wake::from_payload(&wake.to_payload()), Some(wake));
        }
        assert_eq!(Wake::from_payload("something newer"), None);
    }

    #[test]
    fn jobs_share_payloads_that_postgres_takes() {
        let jobs: Vec<_> = (0..400).map(|_| JobId::new()).collect();
        let mut hints: Vec<_> = jobs.iter().copied().map(Wake::Job).collect();
        hints.extend([Wake::Notice, Wake::Notice]);
        let payloads = Wake::to_payloads(&hints);
        assert_eq!(payloads.len(), 4);
        assert!(payloads.iter().all(|payload| payload.len() < 8000));
        let heard: Vec<_> = payloads.iter().filter_map(|text| jobs_from_payload(text)).collect();
        assert_eq!(heard.concat(), jobs);
    }
}
