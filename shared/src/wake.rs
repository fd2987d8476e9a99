//! Wake-ups between processes: hints over NOTIFY, sent after the commit and on their own.
//!
//! Hints are sent by one task: at once where they are few, and where they are many, what gathers within some milliseconds
//! together, jobs by the dozen in one hint, so that a busy system makes few statements.
//! Nothing durable depends on a hint: everyone who listens also looks by itself now and then.

use std::{
    collections::HashMap,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt;
use sqlx::PgPool;
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::Instant,
};

use crate::{
    channel::{self, Pace},
    id::JobId,
    job::Medium,
    process::Process,
    text::Ask,
};

/// The one channel of Postgres that all hints go through.
const CHANNEL: &str = "kiln";
/// Hints a slow listener may fall behind before it misses some; it then looks by itself.
const BACKLOG: usize = 4096;
/// Most hints sent at once.
const BATCH: usize = 4096;
/// Most jobs named in one hint: a payload has less than 8000 bytes, a job's name 36, and an ask at most 64.
const JOBS_IN_HINT: usize = 120;
/// What a hint about jobs begins with.
const JOBS: &str = "jobs:";
/// What a hint about listeners begins with.
const ASKS: &str = "asks:";

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
    /// Somebody listens to the text of a job while it is written.
    Ask(Ask),
}

impl Wake {
    fn to_payload(self) -> String {
        match self {
            Self::Pool(pool) => format!("pool:{}", pool.word()),
            Self::Job(job) => format!("{JOBS}{job}"),
            Self::Ask(ask) => format!("{ASKS}{ask}"),
            Self::Cancel => "cancel".into(),
            Self::Notice => "notice".into(),
            Self::Prices => "prices".into(),
            Self::Providers => "providers".into(),
        }
    }

    fn from_payload(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("pool", pool)) => Medium::from_word(pool).map(Self::Pool),
            _ if text == "cancel" => Some(Self::Cancel),
            _ if text == "notice" => Some(Self::Notice),
            _ if text == "prices" => Some(Self::Prices),
            _ if text == "providers" => Some(Self::Providers),
            _ => None,
        }
    }

    /// Hints as few payloads: what was said twice is said once, and jobs share.
    fn to_payloads(hints: &[Self]) -> Vec<String> {
        let (mut payloads, mut jobs, mut asks) = (Vec::new(), Vec::new(), Vec::new());
        for hint in hints {
            match hint {
                Self::Job(job) => jobs.push(job.to_string()),
                Self::Ask(ask) => asks.push(ask.to_string()),
                other => payloads.push(other.to_payload()),
            }
        }
        payloads.sort_unstable();
        payloads.dedup();
        for (kind, named) in [(JOBS, jobs), (ASKS, asks)] {
            payloads.extend(named.chunks(JOBS_IN_HINT).map(|some| format!("{kind}{}", some.join(","))));
        }
        payloads
    }
}

/// The jobs or asks that a payload of this kind names; those of another version's form are passed over.
fn named<T: FromStr>(kind: &str, payload: &str) -> Option<Arc<[T]>> {
    Some(payload.strip_prefix(kind)?.split(',').filter_map(|name| name.parse().ok()).collect())
}

/// Sends and hears hints. Clones share one connection.
#[derive(Debug, Clone)]
pub struct Wakes {
    outbox: mpsc::UnboundedSender<Wake>,
    heard: broadcast::Sender<Wake>,
    /// Apart from the rest: there are many, and whoever waits for a job is to hear of that one alone.
    jobs: Watched,
    /// Apart as well: only those who write texts care.
    asks: broadcast::Sender<Arc<[Ask]>>,
}

impl Wakes {
    /// Starts the two tasks that send and listen; they end with the process.
    pub fn start(db: &PgPool, process: &Process) -> Self {
        let (outbox, sending) = mpsc::unbounded_channel();
        let (heard, _) = broadcast::channel(BACKLOG);
        let (asks, _) = broadcast::channel(BACKLOG);
        let wakes = Self { outbox, heard, jobs: Watched::default(), asks };
        process.spawn(send(db.clone(), sending, process.clone()));
        let hearing = wakes.clone();
        let pass_on = move |payload: &str| hearing.pass_on(payload);
        process.spawn(channel::listen(db.clone(), CHANNEL, process.stop_token(), pass_on));
        wakes
    }

    /// Sends a hint soon; never waits and never fails.
    pub fn send(&self, wake: Wake) {
        if self.outbox.send(wake).is_err() {
            tracing::debug!(?wake, "hint not sent: the process is stopping");
        }
    }

    /// Hears every hint from now on, but those about jobs and who listens to them. Subscribe before looking, or a hint in between
    /// is lost.
    pub fn listen(&self) -> broadcast::Receiver<Wake> {
        self.heard.subscribe()
    }

    /// Hears from now on when a job moves on or ends. Subscribe before looking, too.
    pub fn listen_to(&self, job: JobId) -> JobHints {
        self.jobs.join(job)
    }

    /// Hears which texts somebody listens to from now on.
    pub fn listen_to_asks(&self) -> broadcast::Receiver<Arc<[Ask]>> {
        self.asks.subscribe()
    }

    /// Tells those in this process. No receiver is no error: nobody here is waiting just now.
    fn pass_on(&self, payload: &str) {
        if let Some(jobs) = named(JOBS, payload) {
            self.jobs.tell(&jobs);
        } else if let Some(asks) = named(ASKS, payload) {
            drop(self.asks.send(asks));
        } else if let Some(wake) = Wake::from_payload(payload) {
            drop(self.heard.send(wake));
        } else {
            tracing::debug!(payload, "a hint of another version");
        }
    }
}

/// The jobs that somebody in this process waits for. Clones share.
#[derive(Debug, Clone, Default)]
struct Watched(Arc<Mutex<HashMap<JobId, watch::Sender<()>>>>);

impl Watched {
    fn join(&self, job: JobId) -> JobHints {
        let hints = self.lock().entry(job).or_insert_with(|| watch::channel(()).0).subscribe();
        JobHints { watched: self.clone(), job, hints: Some(hints) }
    }

    fn tell(&self, jobs: &[JobId]) {
        let watched = self.lock();
        for bell in jobs.iter().filter_map(|job| watched.get(job)) {
            bell.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hints about one job, from when they were asked for.
#[derive(Debug)]
pub struct JobHints {
    watched: Watched,
    job: JobId,
    /// There until this is dropped.
    hints: Option<watch::Receiver<()>>,
}

impl JobHints {
    /// Waits for a hint that was not heard yet. Safe to give up.
    pub async fn heard(&mut self) {
        let is_told = match &mut self.hints {
            Some(hints) => hints.changed().await.is_ok(),
            None => false,
        };
        if !is_told {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for JobHints {
    fn drop(&mut self) {
        let mut watched = self.watched.lock();
        self.hints = None;
        if watched.get(&self.job).is_some_and(|bell| bell.receiver_count() == 0) {
            watched.remove(&self.job);
        }
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
    let mut pace = Pace::begin(Instant::now());
    loop {
        batch.clear();
        tokio::select! {
            _ = sending.recv_many(&mut batch, BATCH) => {}
            () = process.stopping() => return,
        }
        if let Err(error) = channel::notify(&db, CHANNEL, &Wake::to_payloads(&batch)).await {
            tracing::warn!(%error, "hints not sent; those who wait will look by themselves");
        }
        let rest = pace.spend(Instant::now());
        if !rest.is_zero() {
            // Whatever comes now goes out together.
            process.sleep(rest).await;
        }
    }
}

/// Sends a hint and waits until it is sent: for programs that end right afterwards and have no task to send it.
///
/// # Errors
/// When the database fails; those who wait will then look by themselves.
pub async fn send_now(db: &PgPool, wake: Wake) -> Result<(), sqlx::Error> {
    channel::notify(db, CHANNEL, &[wake.to_payload()]).await
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::text::Place;

    #[test]
    fn a_hint_survives_its_payload() {
        for wake in [Wake::Pool(Medium::Video), Wake::Cancel, Wake::Notice, Wake::Prices, Wake::Providers] {
            assert_eq!(Wake::from_payload(&wake.to_payload()), Some(wake));
        }
        assert_eq!(Wake::from_payload("something newer"), None);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_job_hears_of_that_one_and_is_forgotten_when_gone() {
        let watched = Watched::default();
        let (mine, other) = (JobId::new(), JobId::new());
        let (mut first, mut second, mut third) =
            (watched.join(mine), watched.join(mine), watched.join(other));
        watched.tell(&[JobId::new(), mine]);
        // Told before they wait, and not told twice.
        for hints in [&mut first, &mut second] {
            hints.heard().await;
            assert_eq!(hints.heard().now_or_never(), None);
        }
        assert_eq!(third.heard().now_or_never(), None);
        drop(first);
        watched.tell(&[mine]);
        second.heard().await;
        drop((second, third));
        assert!(watched.lock().is_empty());
    }

    #[test]
    fn jobs_and_asks_share_payloads_that_postgres_takes() {
        let jobs: Vec<_> = (0..300).map(|_| JobId::new()).collect();
        let place = Place { attempt: i16::MAX, offset: usize::MAX };
        let again = [None, Some(place)].into_iter().cycle();
        let asks: Vec<_> = jobs.iter().zip(again).map(|(job, again)| Ask { job: *job, again }).collect();
        let mut hints: Vec<_> = jobs.iter().copied().map(Wake::Job).collect();
        hints.extend(asks.iter().copied().map(Wake::Ask));
        hints.extend([Wake::Notice, Wake::Notice]);
        let payloads = Wake::to_payloads(&hints);
        assert_eq!(payloads.len(), 1 + 3 + 3);
        assert!(payloads.iter().all(|payload| payload.len() <= channel::PAYLOAD_BYTES));
        let heard: Vec<Arc<[JobId]>> = payloads.iter().filter_map(|text| named(JOBS, text)).collect();
        assert_eq!(heard.concat(), jobs);
        let heard: Vec<Arc<[Ask]>> = payloads.iter().filter_map(|text| named(ASKS, text)).collect();
        assert_eq!(heard.concat(), asks);
    }
}
