//! The provider that is called in place of a vendor: it answers at once or after a while, and notes when it was asked.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::Utc;
use rand::RngExt;
use uuid::Uuid;
use workers::providers::{AfterAmbiguity, Artifacts, Call, Pending, Provider, ProviderError, Step};

use super::calls::Calls;
use crate::stats::Times;

/// How the provider behaves.
#[derive(Debug)]
pub struct Bench {
    /// Name of the vendor it stands in for.
    pub name: &'static str,
    /// How long a submit takes, give or take a quarter.
    pub takes: Duration,
    /// After how long a task that is under way is to be looked at again.
    pub look_again: Duration,
    /// Where to note when which job was submitted, if that is wanted.
    pub calls: Option<Calls>,
    /// Whether a submit only begins the work.
    pub parks: bool,
    /// Whether nobody bills it.
    pub unbilled: bool,
    /// Submits so far.
    pub submits: AtomicU64,
    /// For each task by its number: when the next look at it is due, in microseconds.
    pub due: Vec<AtomicI64>,
    pub(super) late: Mutex<Times>,
}

impl Bench {
    /// A provider that answers at once and notes nothing.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            takes: Duration::ZERO,
            look_again: Duration::ZERO,
            calls: None,
            parks: false,
            unbilled: false,
            submits: AtomicU64::new(0),
            due: Vec::new(),
            late: Mutex::default(),
        }
    }

    /// How late the looks at tasks were since this was last asked.
    pub fn late(&self) -> Times {
        std::mem::take(&mut self.late.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pending(&self, provider_ref: &str) -> Pending {
        Pending {
            provider_ref: provider_ref.to_owned(),
            look_again: self.look_again,
            progress: None,
            phase: "at the provider".into(),
        }
    }

    fn look(&self, number: usize) {
        let now = Utc::now().timestamp_micros();
        let Some(due) = self.due.get(number) else { return };
        let next = now + i64::try_from(self.look_again.as_micros()).unwrap_or(i64::MAX);
        let late = now - due.swap(next, Ordering::Relaxed);
        self.late.lock().unwrap_or_else(PoisonError::into_inner).add_micros(u64::try_from(late).unwrap_or(0));
    }
}

#[async_trait]
impl Provider for Bench {
    fn name(&self) -> &'static str {
        self.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    fn is_billed(&self) -> bool {
        !self.unbilled
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        if let Some(calls) = &self.calls {
            let at = Utc::now().timestamp_micros();
            // `job_` and 32 digits, then the number of the attempt.
            let job = call
                .client_ref
                .get(4..36)
                .and_then(|digits| Uuid::try_parse(digits).ok())
                .unwrap_or_default();
            calls.note(job, at);
        }
        self.submits.fetch_add(1, Ordering::Relaxed);
        if !self.takes.is_zero() {
            // No two answers of a vendor take the same time.
            let takes = self.takes.mul_f64(rand::rng().random_range(0.75..1.25));
            tokio::time::sleep(takes).await;
        }
        if self.parks {
            return Ok(Step::Pending(self.pending("exemplar")));
        }
        let text = Some("Air scatters blue light more than red.".to_owned());
        let usage =
            Some(serde_json::json!({ "prompt_tokens": 17, "completion_tokens": 9, "total_tokens": 26 }));
        Ok(Step::Done(Artifacts { text, usage, ..Artifacts::default() }))
    }

    /// Never done.
    async fn resume(&self, _: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        self.look(provider_ref.parse().unwrap_or(usize::MAX));
        Ok(Step::Pending(self.pending(provider_ref)))
    }
}
