//! The processes of Kiln, each role twice, and a keeper that starts again what has ended, as a supervisor would.
//!
//! A process that ends without having been told to, once it was ready, is a breach: being without database, storage or
//! vendor must end nobody. One that cannot start while its database is away may end; it is started again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::sys::signal::Signal;
use shared::process::Process;

use crate::{book::Book, child::Child, place::Place};

/// How many processes of each role.
pub const INSTANCES: usize = 2;
/// How often the keeper looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Wait before one that could not start is started again.
const START_AGAIN: Duration = Duration::from_millis(500);
/// How long one that was told to stop may take while all around it breaks; it is killed then.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long one that was told to stop may take once all is well.
const STOP_MAX: Duration = Duration::from_secs(20);

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The front door.
    Api,
    /// Chats.
    Text,
    /// Pictures.
    Image,
    /// Videos.
    Video,
    /// Speech.
    Audio,
    /// Webhooks.
    Delivery,
    /// The clock.
    Scheduler,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] =
        [Self::Api, Self::Text, Self::Image, Self::Video, Self::Audio, Self::Delivery, Self::Scheduler];

    /// Its program.
    pub fn word(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Text => "text",
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Delivery => "delivery",
            Self::Scheduler => "scheduler",
        }
    }
}

/// The place of one process.
#[derive(Debug)]
struct Slot {
    role: Role,
    instance: usize,
    child: Option<Child>,
    /// When it is to be started.
    due: Instant,
}

impl Slot {
    fn name(&self) -> String {
        format!("{}-{}", self.role.word(), self.instance)
    }
}

#[derive(Debug, Default)]
struct State {
    slots: Vec<Slot>,
    /// Told to stop, and still at it.
    leaving: Vec<(Role, usize, Instant, Child)>,
}

/// All processes of Kiln.
#[derive(Debug)]
pub struct Fleet {
    place: Arc<Place>,
    environment: Vec<(String, String)>,
    state: Mutex<State>,
    book: Arc<Book>,
}

impl Fleet {
    /// Starts every process, and the keeper.
    ///
    /// # Errors
    /// When one cannot be started at all.
    pub fn start(
        place: &Arc<Place>,
        database_url: &str,
        book: &Arc<Book>,
        process: &Process,
    ) -> anyhow::Result<Arc<Self>> {
        let fleet = Arc::new(Self {
            place: place.clone(),
            environment: place.environment(database_url),
            state: Mutex::default(),
            book: book.clone(),
        });
        for role in Role::ALL {
            for instance in 0..INSTANCES {
                let child = Some(fleet.launch(role, instance)?);
                fleet.lock().slots.push(Slot { role, instance, child, due: Instant::now() });
            }
        }
        let (keeper, stop) = (fleet.clone(), process.clone());
        process.spawn(async move {
            while stop.sleep(LOOK_EVERY).await {
                keeper.look();
            }
        });
        Ok(fleet)
    }

    /// Kills one and leaves it dead for a while; whether there was one.
    pub fn kill(&self, role: Role, instance: usize, rest: Duration) -> bool {
        self.with(role, instance, |slot| {
            slot.due = Instant::now() + rest;
            // Dropped, and thereby killed.
            slot.child.take().is_some()
        })
    }

    /// Freezes one where it stands; whether there was one.
    pub fn freeze(&self, role: Role, instance: usize) -> bool {
        self.signal(role, instance, Signal::SIGSTOP)
    }

    /// Wakes one that was frozen, also when it was told to stop meanwhile.
    pub fn thaw(&self, role: Role, instance: usize) {
        self.signal(role, instance, Signal::SIGCONT);
        let state = self.lock();
        let theirs = state.leaving.iter().filter(|(of, at, ..)| (*of, *at) == (role, instance));
        theirs.for_each(|(.., child)| child.signal(Signal::SIGCONT));
    }

    /// Tells one to stop; whether there was one. Its successor starts at once, unless it needs the same port.
    pub fn stop(&self, role: Role, instance: usize) -> bool {
        let mut state = self.lock();
        let Some(slot) = find(&mut state, role, instance) else { return false };
        let Some(child) = slot.child.take() else { return false };
        slot.due = Instant::now();
        child.signal(Signal::SIGTERM);
        state.leaving.push((role, instance, Instant::now(), child));
        true
    }

    /// Wakes everyone, and has dead ones started at once.
    pub fn mend(&self) {
        let mut state = self.lock();
        for slot in &mut state.slots {
            slot.due = Instant::now();
            if let Some(child) = &slot.child {
                child.signal(Signal::SIGCONT);
            }
        }
        for (.., child) in &state.leaving {
            child.signal(Signal::SIGCONT);
        }
    }

    /// Kills all of a role, those included that are about to stop, so that nothing of theirs is under way any more. The
    /// keeper starts them again.
    pub fn replace(&self, role: Role) {
        let mut state = self.lock();
        state.leaving.retain(|(of, ..)| *of != role);
        for slot in state.slots.iter_mut().filter(|slot| slot.role == role) {
            slot.child = None;
            slot.due = Instant::now();
        }
    }

    /// Tells everyone to stop, and waits. All is well by now, so whoever does not stop, or not well, is a breach.
    pub async fn finish(&self) {
        let mut children: Vec<_> = {
            let mut state = self.lock();
            let slots = std::mem::take(&mut state.slots);
            let leaving = std::mem::take(&mut state.leaving);
            let children = slots.into_iter().filter_map(|slot| slot.child);
            children.chain(leaving.into_iter().map(|(.., child)| child)).collect()
        };
        for child in &children {
            child.signal(Signal::SIGTERM);
        }
        let began = Instant::now();
        while !children.is_empty() && began.elapsed() < STOP_MAX {
            children.retain_mut(|child| match child.ended() {
                None => true,
                Some(status) => {
                    if !status.success() {
                        self.book.breach(
                            "everyone stops when told",
                            &format!("{} ended with {status}", child.name),
                        );
                    }
                    false
                }
            });
            tokio::time::sleep(LOOK_EVERY).await;
        }
        for child in &children {
            self.book
                .breach("everyone stops when told", &format!("{} still ran {STOP_MAX:?} later", child.name));
        }
    }

    fn look(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.leaving.retain_mut(|(_, _, since, child)| {
            if child.ended().is_some() {
                return false;
            }
            let patient = since.elapsed() < PATIENCE;
            if !patient {
                self.book.count("killed because it took long to stop");
            }
            patient
        });
        for slot in &mut state.slots {
            self.look_at_end(slot);
            let leaves = state.leaving.iter().any(|(role, instance, ..)| {
                slot.role == Role::Api && *role == slot.role && *instance == slot.instance
            });
            if slot.child.is_none() && !leaves && slot.due <= Instant::now() {
                match self.launch(slot.role, slot.instance) {
                    Ok(child) => slot.child = Some(child),
                    Err(error) => {
                        self.book.breach("the harness can start processes", &format!("{error:#}"));
                    }
                }
                slot.due = Instant::now() + START_AGAIN;
            }
        }
    }

    /// Notices one that has ended by itself.
    fn look_at_end(&self, slot: &mut Slot) {
        let Some(child) = &mut slot.child else { return };
        let Some(status) = child.ended() else { return };
        if child.has_said(&["is ready", "is listening"]) {
            let lived = child.began.elapsed().as_secs();
            self.book.breach(
                "no process ends by itself",
                &format!("{} ended with {status} after {lived} s", slot.name()),
            );
        } else {
            self.book.count("starts that failed");
        }
        slot.child = None;
        slot.due = Instant::now() + START_AGAIN;
    }

    fn launch(&self, role: Role, instance: usize) -> anyhow::Result<Child> {
        let mut environment = self.environment.clone();
        if role == Role::Api {
            let port = self.place.api_ports.get(instance).context("a port for each")?;
            environment.push(("KILN_HTTP_ADDR".into(), format!("127.0.0.1:{port}")));
        }
        let name = format!("{}-{instance}", role.word());
        Child::start(&self.place, &name, &self.place.program(role.word()), &[], &environment)
    }

    fn signal(&self, role: Role, instance: usize, signal: Signal) -> bool {
        self.with(role, instance, |slot| slot.child.as_ref().inspect(|child| child.signal(signal)).is_some())
    }

    fn with(&self, role: Role, instance: usize, act: impl FnOnce(&mut Slot) -> bool) -> bool {
        find(&mut self.lock(), role, instance).is_some_and(act)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(state: &mut State, role: Role, instance: usize) -> Option<&mut Slot> {
    state.slots.iter_mut().find(|slot| slot.role == role && slot.instance == instance)
}
