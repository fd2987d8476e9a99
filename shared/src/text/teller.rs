//! The worker's end: what an attempt says is kept while it lasts, and told where somebody listens.
//!
//! One task a process sends, all texts in one statement: at once where little is said, and else what gathers within some
//! milliseconds together. The first words of a text wait for no others. Everything is kept from the first word on, so that a
//! listener may come at any time and may ask again; it is forgotten when the attempt is over, for then the result is on its way. A
//! listener that is not heard of any more is taken to be gone.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use serde_json::Value;
use sqlx::PgPool;
use tokio::{
    sync::{
        Notify,
        broadcast::{Receiver, error::RecvError},
    },
    time::Instant,
};

use super::{Ask, CHANNEL, Fragment, Place};
use crate::{
    channel::{self, PAYLOAD_BYTES, Pace},
    id::JobId,
    process::Process,
    wake::Wakes,
};

/// Longest part of a text in one payload: what is before it names job and place, in at most 64 bytes.
const FRAGMENT_BYTES: usize = PAYLOAD_BYTES - 64;
/// Most payloads of one statement: 2 MB. What is left goes with the next.
const FRAGMENTS: usize = 256;
/// How long a listener is believed to be there after its last word: several times as long as it is silent.
const WANTED_FOR: Duration = Duration::from_secs(30);

/// What this process hears of texts, told to whoever listens. Clones share.
#[derive(Clone)]
pub struct Teller(Arc<Desk>);

#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    /// Rung when there may be something to tell.
    bell: Notify,
    /// Rung as well when that is not to wait.
    haste: Notify,
}

#[derive(Default)]
struct State {
    /// Texts that are being written here.
    texts: HashMap<JobId, Text>,
    /// Jobs that somebody listens to, here or elsewhere, and until when that is believed.
    wanted: HashMap<JobId, Instant>,
}

/// What an attempt has said so far: a line of JSON for each piece.
pub(super) struct Text {
    attempt: i16,
    said: String,
    /// Words were among it, and not only whose they are.
    has_words: bool,
    /// So many bytes of it were told.
    told: usize,
    /// Nothing more is said. What was not told yet still is.
    is_over: bool,
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

impl Teller {
    /// Starts to hear who listens, and to tell them. A stopping process tells until its last text is written.
    pub fn start(db: &PgPool, wakes: &Wakes, process: &Process) -> Self {
        let teller = Self(Arc::default());
        process.spawn(hear(teller.clone(), wakes.listen_to_asks(), process.clone()));
        process.spawn(tell(teller.clone(), db.clone(), process.clone()));
        teller
    }

    /// Begins the text of an attempt, which lasts as long as what is given back.
    pub fn begin(&self, job: JobId, attempt: i16) -> Telling {
        self.state().texts.insert(job, Text::new(attempt));
        Telling { teller: self.clone(), job, attempt }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes who listens.
    fn want(&self, asks: &[Ask], now: Instant) {
        let mut state = self.state();
        state.wanted.retain(|_, until| *until > now);
        for ask in asks {
            state.wanted.insert(ask.job, now + WANTED_FOR);
            if let (Some(text), Some(place)) = (state.texts.get_mut(&ask.job), ask.again) {
                text.go_back(place);
            }
        }
        drop(state);
        self.0.bell.notify_one();
    }

    /// What is to be told now, as payloads.
    fn due(&self, now: Instant) -> Vec<String> {
        let mut state = self.state();
        let State { texts, wanted } = &mut *state;
        let mut payloads = Vec::new();
        texts.retain(|job, text| {
            if wanted.get(job).is_none_or(|until| *until <= now) {
                return !text.is_over;
            }
            while payloads.len() < FRAGMENTS {
                match text.next(*job) {
                    Some(fragment) => payloads.push(fragment.to_payload()),
                    None => return !text.is_over,
                }
            }
            true
        });
        if payloads.len() == FRAGMENTS {
            self.0.bell.notify_one();
        }
        payloads
    }
}

impl Text {
    /// An attempt that has said nothing yet.
    pub(super) fn new(attempt: i16) -> Self {
        Self { attempt, said: String::new(), has_words: false, told: 0, is_over: false }
    }

    /// Adds the `choices` of a chunk in OpenAI's form. Whether its first words are among them.
    pub(super) fn say(&mut self, choices: &Value) -> bool {
        let choices = without_nulls(choices);
        self.said.push_str(&choices.to_string());
        self.said.push('\n');
        let are_first = !self.has_words && has_words(&choices);
        self.has_words |= are_first;
        are_first
    }

    /// The next fragment, unless everything was told.
    pub(super) fn next(&mut self, job: JobId) -> Option<Fragment> {
        let rest = self.said.get(self.told..).filter(|rest| !rest.is_empty())?;
        let text = rest[..rest.floor_char_boundary(FRAGMENT_BYTES)].to_owned();
        let place = Place { attempt: self.attempt, offset: self.told };
        self.told += text.len();
        Some(Fragment { job, place, text })
    }

    /// Has everything after `place` told once more, and all of it to whoever knows only an attempt before.
    pub(super) fn go_back(&mut self, place: Place) {
        if place.attempt > self.attempt {
            return;
        }
        let from = if place.attempt == self.attempt { place.offset } else { 0 };
        if from <= self.told {
            self.told = if self.said.is_char_boundary(from) { from } else { 0 };
        }
    }
}

/// The text of one attempt while it is written. When this is dropped, what was not told yet is, and the text is forgotten.
#[must_use = "a text that nobody holds is over at once"]
pub struct Telling {
    teller: Teller,
    job: JobId,
    attempt: i16,
}

impl Telling {
    /// Adds the `choices` of a chunk in OpenAI's form.
    pub fn tell(&self, choices: &Value) {
        let mut state = self.teller.state();
        let text = state.texts.get_mut(&self.job).filter(|text| text.attempt == self.attempt);
        let are_first = text.is_some_and(|text| text.say(choices));
        let is_wanted = state.wanted.contains_key(&self.job);
        drop(state);
        if is_wanted {
            self.teller.0.bell.notify_one();
            if are_first {
                self.teller.0.haste.notify_one();
            }
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let mut state = self.teller.state();
        let State { texts, wanted } = &mut *state;
        let is_wanted = wanted.contains_key(&self.job);
        if let Some(text) = texts.get_mut(&self.job).filter(|text| text.attempt == self.attempt) {
            text.is_over = true;
        }
        if !is_wanted && texts.get(&self.job).is_some_and(|text| text.is_over) {
            texts.remove(&self.job);
        }
        // A stopping process waits for its last text.
        let is_news = is_wanted || texts.is_empty();
        drop(state);
        if is_news {
            self.teller.0.bell.notify_one();
        }
    }
}

/// Vendors say with every piece what it does not have, which is more than what it has.
fn without_nulls(choices: &Value) -> Value {
    let mut choices = choices.clone();
    for choice in choices.as_array_mut().into_iter().flatten() {
        let Some(fields) = choice.as_object_mut() else { continue };
        fields.retain(|_, value| !value.is_null());
        if let Some(delta) = fields.get_mut("delta").and_then(Value::as_object_mut) {
            delta.retain(|_, value| !value.is_null());
        }
    }
    choices
}

/// Whether anything is said in these `choices`, beside who says it.
fn has_words(choices: &Value) -> bool {
    let deltas = choices.as_array().into_iter().flatten().filter_map(|choice| choice["delta"].as_object());
    deltas.flatten().any(|(name, value)| name != "role" && *value != "")
}

/// Hears who listens, until the process stops.
async fn hear(teller: Teller, mut asks: Receiver<Arc<[Ask]>>, process: Process) {
    loop {
        tokio::select! {
            heard = asks.recv() => match heard {
                Ok(asks) => teller.want(&asks, Instant::now()),
                // Whoever listens says so again.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            () = process.stopping() => return,
        }
    }
}

/// Tells what there is to tell, until the process stops and nothing is written any more.
async fn tell(teller: Teller, db: PgPool, process: Process) {
    let mut pace = Pace::begin(Instant::now());
    loop {
        tokio::select! {
            () = teller.0.bell.notified() => {}
            () = process.stopping(), if !process.is_stopping() => {}
        }
        // Whatever it was rung for goes now.
        teller.0.haste.notified().now_or_never();
        let payloads = teller.due(Instant::now());
        if !payloads.is_empty() {
            if let Err(error) = channel::notify(&db, CHANNEL, &payloads).await {
                tracing::warn!(%error, "words not told; whoever misses them asks again");
            }
            let rest = pace.spend(Instant::now());
            if !rest.is_zero() {
                // Whatever comes now goes out together.
                tokio::select! {
                    () = tokio::time::sleep(rest) => {}
                    () = teller.0.haste.notified() => {}
                }
            }
        }
        if process.is_stopping() && teller.state().texts.is_empty() {
            return;
        }
    }
}
