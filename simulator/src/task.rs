//! The tasks of the vendors that work in the background, and finding them again.
//!
//! A task is known by its id, by the client's own name for it (unique per vendor, as at Kling), and for MiniMax by
//! the id of its file. Every change is in the journal before the answer leaves. The files themselves are not kept:
//! they are made anew from the task's seed, always the same.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    clock,
    fault::Kind,
    interference::lock,
    journal::Journal,
    ledger::{Op, Provider, Visit},
    seed::Seed,
};

/// How a task ended; it stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    /// There is a file.
    Succeeded,
    /// The vendor could not do it.
    Failed,
    /// The vendor would not do it.
    Refused,
}

/// One piece of background work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The vendor's id for it.
    pub id: String,
    /// The vendor that has it.
    pub provider: Provider,
    /// The vendor's name for the kind of work, such as `text2video`.
    pub call: String,
    /// What was asked for.
    pub prompt: String,
    /// The client's own name for it.
    pub client_ref: Option<String>,
    /// Width and height of the video.
    pub frame: (u16, u16),
    /// Length of the video or sound; of what has no length, how many there are.
    pub seconds: u16,
    /// Unix milliseconds of the submit.
    pub created_ms: i64,
    /// Unix milliseconds of the last change of status.
    pub updated_ms: i64,
    /// What kind of file it makes.
    #[serde(default)]
    pub makes: Makes,
    /// Whether it waits for a second step of the client.
    #[serde(default)]
    pub is_on_hold: bool,
    /// How many polls were answered.
    pub polls: u32,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
    /// What the failure said, when a fault gave it words.
    pub failure: Option<String>,
    /// How many download URLs were handed out; each carries its number.
    pub issued: u32,
    /// URLs up to this number are expired.
    pub expired: u32,
    /// How often each fault struck this task.
    pub strikes: BTreeMap<Kind, u32>,
}

impl Task {
    /// A task as it is right after the submit.
    pub fn new(id: u64, visit: &Visit, frame: (u16, u16), seconds: u16) -> Self {
        let now = clock::now_ms();
        Self {
            id: id.to_string(),
            provider: visit.provider,
            call: visit.call.clone(),
            prompt: visit.prompt.to_string(),
            client_ref: visit.client_ref.clone(),
            frame,
            seconds,
            created_ms: now,
            updated_ms: now,
            makes: Makes::default(),
            is_on_hold: false,
            polls: 0,
            ending: None,
            failure: None,
            issued: 0,
            expired: 0,
            strikes: BTreeMap::new(),
        }
    }

    /// The same task, making another kind of file.
    pub fn making(self, makes: Makes) -> Self {
        Self { makes, ..self }
    }

    /// What makes its file number `n` different from all others.
    pub fn seed(&self, n: u32) -> Seed {
        let id = if n == 0 { self.id.clone() } else { format!("{}-{n}", self.id) };
        Seed::of(&self.prompt, &id)
    }

    /// A later request about this task.
    pub fn visit(&self, op: Op) -> Visit {
        Visit::new(self.provider, op, &self.call, &self.prompt, self.client_ref.as_deref()).lasting(true)
    }
}

/// The kinds of file that tasks make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Makes {
    /// A film of the task's frame and seconds.
    #[default]
    Mp4,
    /// A picture of the task's frame.
    Png,
    /// A drawing of the task's frame.
    Svg,
    /// A sound of the task's seconds.
    Mp3,
}

impl Makes {
    /// The end of the file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Png => "png",
            Self::Svg => "svg",
            Self::Mp3 => "mp3",
        }
    }

    /// The file's media type.
    pub fn mime_type(self) -> &'static str {
        match self {
            Self::Mp4 => "video/mp4",
            Self::Png => "image/png",
            Self::Svg => "image/svg+xml",
            Self::Mp3 => "audio/mpeg",
        }
    }
}

/// A task with this client reference exists already.
#[derive(Debug)]
pub(crate) struct DuplicateRef;

#[derive(Debug, Default)]
struct Shelf {
    tasks: BTreeMap<String, Task>,
    by_ref: HashMap<(Provider, String), String>,
    version: u64,
}

impl Shelf {
    fn put(&mut self, task: Task) -> Result<(), DuplicateRef> {
        if let Some(client_ref) = &task.client_ref {
            let key = (task.provider, client_ref.clone());
            if self.by_ref.contains_key(&key) {
                return Err(DuplicateRef);
            }
            self.by_ref.insert(key, task.id.clone());
        }
        self.tasks.insert(task.id.clone(), task);
        self.version += 1;
        Ok(())
    }
}

/// All tasks, and where they are written down.
#[derive(Debug)]
pub(crate) struct TaskStore {
    shelf: Mutex<Shelf>,
    journal: Option<Journal>,
    next_id: AtomicU64,
}

impl TaskStore {
    /// Opens the store, with the tasks of an earlier run if there is a folder for them.
    ///
    /// # Errors
    /// When the folder cannot be made or what is in it cannot be read.
    pub fn open(folder: Option<&Path>) -> anyhow::Result<Self> {
        let mut shelf = Shelf::default();
        let journal = folder.map(Journal::open).transpose()?;
        if let Some(journal) = &journal {
            for task in journal.load()? {
                let id = task.id.clone();
                if shelf.put(task).is_err() {
                    anyhow::bail!("saved task {id} has the client reference of another one");
                }
            }
        }
        // Microseconds since 1970 outrun the number of tasks, so a restarted server never gives out an id again.
        let first_id = u64::try_from(clock::now_ms()).unwrap_or_default() * 1000;
        Ok(Self { shelf: Mutex::new(shelf), journal, next_id: AtomicU64::new(first_id) })
    }

    /// A number that was never given out before: sixteen digits, exact in a JSON number.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes in a new task.
    pub async fn add(&self, task: Task) -> Result<(), DuplicateRef> {
        lock(&self.shelf).put(task)?;
        self.write_down().await;
        Ok(())
    }

    /// The task of that id, or else of that client reference.
    pub fn find(&self, provider: Provider, name: &str) -> Option<Task> {
        let shelf = lock(&self.shelf);
        let by_id = shelf.tasks.get(name).filter(|task| task.provider == provider);
        by_id.or_else(|| shelf.tasks.get(shelf.by_ref.get(&(provider, name.to_owned()))?)).cloned()
    }

    /// Changes a task under the lock; `None` when there is none of that id.
    pub async fn update<T>(&self, id: &str, change: impl FnOnce(&mut Task) -> T) -> Option<T> {
        let outcome = {
            let mut shelf = lock(&self.shelf);
            let task = shelf.tasks.get_mut(id)?;
            let before = task.clone();
            let outcome = change(task);
            if *task != before {
                shelf.version += 1;
            }
            outcome
        };
        self.write_down().await;
        Some(outcome)
    }

    /// Every task, oldest first.
    pub fn all(&self) -> Vec<Task> {
        lock(&self.shelf).tasks.values().cloned().collect()
    }

    /// Forgets all tasks.
    pub async fn clear(&self) {
        {
            let mut shelf = lock(&self.shelf);
            let version = shelf.version + 1;
            *shelf = Shelf { version, ..Shelf::default() };
        }
        self.write_down().await;
    }

    async fn write_down(&self) {
        let Some(journal) = &self.journal else { return };
        let wanted = lock(&self.shelf).version;
        let snapshot = || {
            let shelf = lock(&self.shelf);
            let tasks: Vec<_> = shelf.tasks.values().cloned().collect();
            (shelf.version, tasks)
        };
        if let Err(error) = journal.save(wanted, snapshot).await {
            tracing::error!(error = format!("{error:#}"), "cannot save the tasks");
        }
    }
}
