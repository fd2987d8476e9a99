//! What the customers know, what was counted, and what was found wrong on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shared::id::{AccountId, FileId, JobId};

use crate::orders::Order;

/// What became of one order, as its customer sees it.
#[derive(Debug, Clone)]
pub struct Placed {
    /// What was wanted.
    pub order: Arc<Order>,
    /// The job it was accepted as.
    pub job: Option<JobId>,
    /// Status and code of the answer, where it was refused.
    pub refused: Option<String>,
    /// How often it was sent and no answer came that says what became of it.
    pub lost: u32,
}

/// What became of the files that an account sent in.
#[derive(Debug, Clone, Default)]
pub struct Uploads {
    /// Those that it was told are kept.
    pub kept: BTreeSet<FileId>,
    /// How often one was sent and no answer came that says what became of it.
    pub lost: usize,
}

#[derive(Debug, Default)]
struct Pages {
    placed: Vec<Placed>,
    uploads: BTreeMap<AccountId, Uploads>,
    counts: BTreeMap<String, u64>,
    breaches: BTreeMap<String, BTreeSet<String>>,
}

/// The book of a run.
#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>);

impl Book {
    /// Writes down what became of an order.
    pub fn place(&self, placed: Placed) {
        self.lock().placed.push(placed);
    }

    /// Writes down what an account was told of a file that it sent in, if it was told anything.
    pub fn upload(&self, account: AccountId, file: Option<FileId>) {
        let mut pages = self.lock();
        let uploads = pages.uploads.entry(account).or_default();
        match file {
            Some(file) => {
                uploads.kept.insert(file);
            }
            None => uploads.lost += 1,
        }
    }

    /// What became of all files that were sent in.
    pub fn uploads(&self) -> BTreeMap<AccountId, Uploads> {
        self.lock().uploads.clone()
    }

    /// Every order so far.
    pub fn placed(&self) -> Vec<Placed> {
        self.lock().placed.clone()
    }

    /// Counts something.
    pub fn count(&self, what: &str) {
        self.add(what, 1);
    }

    /// Counts several of something.
    pub fn add(&self, what: &str, many: u64) {
        *self.lock().counts.entry(what.to_owned()).or_default() += many;
    }

    /// What was counted.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// Something is wrong: the rule, and what breaks it.
    pub fn breach(&self, rule: &str, what: &str) {
        self.lock().breaches.entry(rule.to_owned()).or_default().insert(what.to_owned());
    }

    /// What is wrong, by rule.
    pub fn breaches(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.lock().breaches.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
