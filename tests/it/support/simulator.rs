//! The provider simulator of a test, and how it is told to misbehave.

use serde_json::{Value, json};
use shared::process::Process;
use simulator::{Options, Pace};
use tokio::net::TcpListener;

/// A simulator on a port of its own.
#[derive(Debug, Clone)]
pub struct Simulator {
    pub url: String,
    http: reqwest::Client,
}

impl Simulator {
    /// Finishes tasks at their second poll.
    pub async fn start(process: &Process, http: &reqwest::Client) -> Self {
        Self::start_with(process, http, Pace::AfterPolls(2)).await
    }

    pub async fn start_with(process: &Process, http: &reqwest::Client, pace: Pace) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen for the simulator");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let stop = process.clone();
        process.spawn(async move {
            let options = Options { state_dir: None, pace };
            simulator::serve(listener, options, async move { stop.stopping().await })
                .await
                .expect("simulate");
        });
        Self { url, http: http.clone() }
    }

    /// Orders a fault: `{"provider","op","contains","fault","value","times"}`.
    pub async fn order(&self, fault: Value) {
        let answer =
            self.http.post(format!("{}/control/faults", self.url)).json(&fault).send().await.expect("order");
        assert!(answer.status().is_success(), "{fault}: {}", answer.text().await.expect("text"));
    }

    /// How many submits whose prompt contains `text` a vendor would bill.
    pub async fn paid(&self, text: &str) -> u64 {
        self.submits(text).await["accepted"].as_u64().expect("a count")
    }

    /// Every submit whose prompt contains `text`.
    pub async fn submits(&self, text: &str) -> Value {
        let url =
            reqwest::Url::parse_with_params(&format!("{}/control/submits", self.url), [("contains", text)]);
        self.http.get(url.expect("a URL")).send().await.expect("ask").json().await.expect("JSON")
    }

    /// Every task whose prompt contains `text`, as the simulator keeps it.
    pub async fn tasks(&self, text: &str) -> Vec<Value> {
        let listed = self.http.get(format!("{}/control/tasks", self.url)).send().await.expect("ask");
        let listed: Value = listed.json().await.expect("JSON");
        let tasks = listed["data"].as_array().cloned().unwrap_or_default();
        tasks
            .into_iter()
            .filter(|task| task["prompt"].as_str().is_some_and(|prompt| prompt.contains(text)))
            .collect()
    }

    /// Path and trace of each request that said what it is part of.
    pub async fn traces(&self) -> Vec<(String, String)> {
        let listed = self.http.get(format!("{}/control/traces", self.url)).send().await.expect("ask");
        let listed: Value = listed.json().await.expect("JSON");
        let text = |traced: &Value, name: &str| traced[name].as_str().expect("text").to_owned();
        let traces = listed["data"].as_array().cloned().unwrap_or_default();
        traces.iter().map(|traced| (text(traced, "path"), text(traced, "traceparent"))).collect()
    }

    /// Orders that were made with a number of times and not all used.
    pub async fn unused(&self) -> Vec<Value> {
        let listed = self.http.get(format!("{}/control/faults", self.url)).send().await.expect("ask");
        let listed: Value = listed.json().await.expect("JSON");
        let rules = listed["data"].as_array().cloned().unwrap_or_default();
        rules.into_iter().filter(|rule| rule["left"].as_u64().is_some_and(|left| left > 0)).collect()
    }

    /// Finishes tasks at their n-th poll from now on.
    pub async fn finish_after_polls(&self, polls: u32) {
        self.set_pace(json!({ "after_polls": polls })).await;
    }

    /// Finishes tasks at once from now on, also those that nobody asks after.
    pub async fn finish_at_once(&self) {
        self.set_pace(json!({ "after_seconds": 0.0 })).await;
    }

    async fn set_pace(&self, pace: Value) {
        self.http.post(format!("{}/control/pace", self.url)).json(&pace).send().await.expect("set the pace");
    }
}
