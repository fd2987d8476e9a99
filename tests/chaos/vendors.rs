//! The simulated vendors, as whoever orders faults from them and reads their books.

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

/// The way to the simulator's levers.
#[derive(Debug, Clone)]
pub struct Vendors {
    url: String,
    http: reqwest::Client,
}

impl Vendors {
    /// The vendors at a base URL.
    pub fn new(url: String, http: reqwest::Client) -> Self {
        Self { url, http }
    }

    /// Orders a fault.
    ///
    /// # Errors
    /// When the simulator does not take it.
    pub async fn lie(&self, lie: &Lie) -> anyhow::Result<()> {
        let url = format!("{}/control/faults", self.url);
        let answer = self.http.post(url).json(&lie.order()).send().await.context("order a fault")?;
        answer.error_for_status().with_context(|| format!("order {lie:?}"))?;
        Ok(())
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
}
