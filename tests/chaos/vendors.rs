//! The simulated vendors, as whoever orders faults from them and reads their books.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use crate::faults::Lie;

/// One submit in a vendor's book.
#[derive(Debug, Clone, Deserialize)]
pub struct Submit {
    /// The vendor.
    pub provider: String,
    /// What was asked for.
    pub prompt: String,
    /// Our name for the attempt, where the vendor takes one.
    pub client_ref: Option<String>,
    /// Whether the vendor would bill it.
    pub accepted: bool,
}

#[derive(Debug, Deserialize)]
struct Submits {
    data: Vec<Submit>,
}

/// A fault that the simulator has taken.
#[derive(Debug, Deserialize)]
struct Ordered {
    id: u64,
}

/// An order for a fault as the simulator has it now.
#[derive(Debug, Deserialize)]
struct Rule {
    id: u64,
    /// How many more requests it strikes.
    left: u8,
}

#[derive(Debug, Deserialize)]
struct Rules {
    data: Vec<Rule>,
}

/// The way to the simulator's levers.
#[derive(Debug, Clone)]
pub struct Vendors {
    url: String,
    http: reqwest::Client,
    /// What was ordered, under the ids that the simulator gave.
    lies: Arc<Mutex<Vec<(u64, Lie)>>>,
}

impl Vendors {
    /// The vendors at a base URL.
    pub fn new(url: String, http: reqwest::Client) -> Self {
        Self { url, http, lies: Arc::default() }
    }

    /// Orders a fault.
    ///
    /// # Errors
    /// When the simulator does not take it.
    pub async fn lie(&self, lie: &Lie) -> anyhow::Result<()> {
        let url = format!("{}/control/faults", self.url);
        let answer = self.http.post(url).json(&lie.order()).send().await.context("order a fault")?;
        let answer = answer.error_for_status().with_context(|| format!("order {lie}"))?;
        let Ordered { id } = answer.json().await.context("read the id of a fault")?;
        self.lies().push((id, *lie));
        Ok(())
    }

    /// The faults that were ordered and that any request met.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn struck(&self) -> anyhow::Result<Vec<Lie>> {
        let url = format!("{}/control/faults", self.url);
        let rules: Rules = self.http.get(url).send().await?.json().await.context("read the faults")?;
        let struck =
            |(id, lie): &&(u64, Lie)| rules.data.iter().any(|rule| rule.id == *id && rule.left < lie.times);
        Ok(self.lies().iter().filter(struck).map(|(_, lie)| *lie).collect())
    }

    /// Takes back all orders for faults; those in prompts stay.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn mend(&self) -> anyhow::Result<()> {
        let url = format!("{}/control/faults", self.url);
        self.http.delete(url).send().await.and_then(reqwest::Response::error_for_status)?;
        Ok(())
    }

    /// Every submit, taken or turned away.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn submits(&self) -> anyhow::Result<Vec<Submit>> {
        let url = format!("{}/control/submits", self.url);
        let submits: Submits = self.http.get(url).send().await?.json().await.context("read the submits")?;
        Ok(submits.data)
    }

    /// How many requests there were, by kind.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn requests(&self) -> anyhow::Result<Value> {
        let url = format!("{}/control/requests", self.url);
        Ok(self.http.get(url).send().await?.json().await?)
    }

    fn lies(&self) -> MutexGuard<'_, Vec<(u64, Lie)>> {
        self.lies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
