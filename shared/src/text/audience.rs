//! The listeners' end: whoever serves people who wait for a text joins here.
//!
//! A process has one connection that hears all texts which somebody, anywhere, listens to, and passes on those that somebody
//! here does. Each listener knows the place it has come to: a fragment that it has is passed over, and one too far on is a gap,
//! for which it asks again. That somebody is still there is said now and then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Ask, CHANNEL, Fragment, Place, Said};
use crate::{
    channel,
    id::JobId,
    process::Process,
    wake::{Wake, Wakes},
};

/// How often listeners say that they are still there.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How far two wishes to be told again are apart at least: a gap shows with every fragment after it.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Everyone in this process who listens to a text. Clones share.
#[derive(Debug, Clone)]
pub struct Audience(Arc<Hall>);

#[derive(Debug)]
struct Hall {
    wakes: Wakes,
    seats: Mutex<Seats>,
    /// How many there are.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Seats {
    by_job: HashMap<JobId, Vec<Seat>>,
    last: u64,
}

#[derive(Debug)]
struct Seat {
    number: u64,
    ear: mpsc::UnboundedSender<Arc<Fragment>>,
}

impl Audience {
    /// Starts to hear texts. When the process is told to stop, those who are listening go on doing so for `linger` at most.
    pub fn start(db: &PgPool, wakes: &Wakes, process: &Process, linger: Duration) -> Self {
        let (count, _) = watch::channel(0);
        let audience = Self(Arc::new(Hall { wakes: wakes.clone(), seats: Mutex::default(), count }));
        let over = CancellationToken::new();
        let hall = audience.clone();
        let pass_on = move |payload: &str| hall.pass_on(payload);
        process.spawn(channel::listen(db.clone(), CHANNEL, over.clone(), pass_on));
        process.spawn(audience.clone().keep_asking(process.clone()));
        process.spawn(audience.clone().close(process.clone(), linger, over));
        audience
    }

    /// Listens to the text of a job: from its beginning, or from a place that was told before.
    pub fn join(&self, job: JobId, from: Option<Place>) -> Listener {
        let reader = Reader::at(from.unwrap_or_default());
        let (ear, heard) = mpsc::unbounded_channel();
        let mut seats = self.seats();
        seats.last += 1;
        let number = seats.last;
        seats.by_job.entry(job).or_default().push(Seat { number, ear });
        drop(seats);
        self.0.count.send_modify(|count| *count += 1);
        self.ask(job, Some(reader.place));
        Listener { audience: self.clone(), job, seat: number, heard, reader, asked: None }
    }

    fn leave(&self, job: JobId, number: u64) {
        let mut seats = self.seats();
        if let Some(taken) = seats.by_job.get_mut(&job) {
            taken.retain(|seat| seat.number != number);
            if taken.is_empty() {
                seats.by_job.remove(&job);
            }
        }
        drop(seats);
        self.0.count.send_modify(|count| *count = count.saturating_sub(1));
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, job: JobId, again: Option<Place>) {
        self.0.wakes.send(Wake::Ask(Ask { job, again }));
    }

    fn pass_on(&self, payload: &str) {
        let Some(fragment) = Fragment::from_payload(payload).map(Arc::new) else {
            tracing::debug!("a fragment of another version");
            return;
        };
        for seat in self.seats().by_job.get(&fragment.job).into_iter().flatten() {
            // Whoever is just leaving needs no more.
            drop(seat.ear.send(fragment.clone()));
        }
    }

    /// Says who is still there, until the process stops.
    async fn keep_asking(self, process: Process) {
        while process.sleep(ASK_EVERY).await {
            let jobs: Vec<_> = self.seats().by_job.keys().copied().collect();
            jobs.into_iter().for_each(|job| self.ask(job, None));
        }
    }

    /// Ends the listening when the process has been told to stop and the last one has left, or has had time enough.
    async fn close(self, process: Process, linger: Duration, over: CancellationToken) {
        process.stopping().await;
        let mut count = self.0.count.subscribe();
        let emptied = async { drop(count.wait_for(|count| *count == 0).await) };
        // Late is as good as empty: what is not heard any more is in the result.
        drop(tokio::time::timeout(linger, emptied).await);
        over.cancel();
    }
}

/// Somebody who listens to one job. They leave when this is dropped.
pub struct Listener {
    audience: Audience,
    job: JobId,
    seat: u64,
    heard: mpsc::UnboundedReceiver<Arc<Fragment>>,
    reader: Reader,
    /// When it was last asked to be told again.
    asked: Option<Instant>,
}

impl Listener {
    /// What is said next. It never ends by itself, so watch for the end of the job as well. Safe to give up.
    pub async fn next(&mut self) -> Said {
        loop {
            let fragment = self.heard.recv().await;
            match fragment.map(|fragment| self.reader.read(&fragment)) {
                Some(Read::Said(said)) => return said,
                Some(Read::Nothing) => {}
                Some(Read::Gap) => self.ask_again(),
                // The other end is in the hall for as long as this one is.
                None => std::future::pending().await,
            }
        }
    }

    fn ask_again(&mut self) {
        if self.asked.is_none_or(|at| at.elapsed() >= AGAIN_AFTER) {
            self.asked = Some(Instant::now());
            self.audience.ask(self.job, Some(self.reader.place));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.audience.leave(self.job, self.seat);
    }
}

/// Puts fragments together again.
pub(super) struct Reader {
    /// Up to where the text has come.
    pub place: Place,
    /// The beginning of a line.
    rest: String,
}

/// What came of a fragment.
pub(super) enum Read {
    /// At least one whole line.
    Said(Said),
    /// It was known, or is part of a line.
    Nothing,
    /// Something is missing before it.
    Gap,
}

impl Reader {
    /// A reader who has come to a place.
    pub(super) fn at(place: Place) -> Self {
        Self { place, rest: String::new() }
    }

    /// Takes a fragment in.
    pub(super) fn read(&mut self, fragment: &Fragment) -> Read {
        let Fragment { place, text, .. } = fragment;
        if place.attempt < self.place.attempt {
            return Read::Nothing;
        }
        if place.attempt > self.place.attempt {
            self.begin(place.attempt);
        }
        if place.offset > self.place.offset {
            return Read::Gap;
        }
        let known = self.place.offset - place.offset;
        if known >= text.len() {
            return Read::Nothing;
        }
        let Some(fresh) = text.get(known..) else {
            // A place that nobody was told: within a character.
            self.begin(place.attempt);
            return Read::Gap;
        };
        self.rest.push_str(fresh);
        self.place.offset += fresh.len();
        self.whole_lines()
    }

    fn begin(&mut self, attempt: i16) {
        self.place = Place { attempt, offset: 0 };
        self.rest.clear();
    }

    fn whole_lines(&mut self) -> Read {
        let Some(last) = self.rest.rfind('\n') else { return Read::Nothing };
        let rest = self.rest.split_off(last + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        // Whoever begins within a line loses that line.
        let choices = lines.lines().filter_map(|line| serde_json::from_str::<Vec<_>>(line).ok()).flatten();
        let Place { attempt, offset } = self.place;
        let place = Place { attempt, offset: offset - self.rest.len() };
        Read::Said(Said { attempt, place, choices: choices.collect() })
    }
}
