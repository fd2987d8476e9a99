//! A simulator without an application, for what only an adapter can be asked.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use serde_json::Value;
use shared::process::Process;
use tokio::sync::mpsc;
use workers::providers::{Artifacts, Call, Deltas, Provider, ProviderError, Step, VENDORS};

use crate::support::Simulator;

/// The simulator, and a client of the adapters.
pub struct House {
    pub process: Process,
    pub simulator: Simulator,
    http: reqwest::Client,
}

impl House {
    pub async fn open() -> Self {
        let process = Process::new();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
        let simulator = Simulator::start(&process, &http).await;
        Self { process, simulator, http }
    }

    pub fn adapter(&self, name: &str) -> Arc<dyn Provider> {
        let vendor = VENDORS.iter().find(|vendor| vendor.name == name).expect("a vendor");
        (vendor.adapter)(self.http.clone(), format!("{}/{}", self.simulator.url, vendor.simulator_path))
    }

    /// What comes of a chat, and the chunks that were told on the way.
    pub async fn hear(
        &self,
        vendor: &str,
        model: &str,
        input: Value,
    ) -> (Result<Artifacts, ProviderError>, Vec<Value>) {
        let (listener, mut heard) = mpsc::unbounded_channel();
        let mut call = Call::new("text.chat", model, input, "job_1-1");
        call.key = SecretString::from("simulated");
        call.deltas = Deltas::new(listener);
        let made = self.adapter(vendor).submit(&call).await.map(|step| match step {
            Step::Done(artifacts) => artifacts,
            Step::Pending(pending) => panic!("a chat that waits: {pending:?}"),
        });
        drop(call);
        let mut told = Vec::new();
        while let Some(choices) = heard.recv().await {
            told.extend(choices.as_array().expect("choices").clone());
        }
        (made, told)
    }
}
