//! fal's queue: models of many makers, each run as a request that is asked after.
//!
//! A request lives under the first parts of its model's path only, such as `fal-ai/flux` for `fal-ai/flux/dev`. fal answers with the
//! address; it is taken only if it lies under the one that was called, else worked out, and is all of our reference. After a
//! lost answer the work is submitted again ("maybe twice"): fal takes no name of ours and lists no requests, and a second one
//! costs at most a few cents. What a model is given and gives back differs from model to model, see `mapped.rs`.
//!
//! `COMPLETED` is said of failures too: the state carries an `error`, or the result is asked for and is one. fal has tried again by
//! itself before it says so. Deliberately absent: the synchronous and the realtime API, priorities, deadlines at fal, a check of
//! the key (there is no free question), and checking the signatures of webhooks, since nothing that they say is believed.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    AfterAmbiguity, Artifacts, Call, ErrorClass, Pending, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, Answer, MAX_INLINE_BYTES, Stake, VIDEO_SUBMIT_TIMEOUT, data_url},
    mapped,
};

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "fal",
    key_variables: &["FAL_KEY"],
    base_variable: "FAL_BASE_URL",
    base_url: "https://queue.fal.run",
    simulator_path: "fal",
    simulated_key: "simulated",
    mode: "as a task that is polled",
    cancel: "yes",
    unverified: &[
        "names and costs of the models in the catalogue, and what face-swap is given and gives back",
        "403 for an account without money",
        "the word for refused content (content_policy_violation), and has_nsfw_concepts beside blackened pictures",
    ],
    adapter: |http, base_url| Arc::new(Fal::new(http, base_url)),
};

/// When to look for a request; most pictures take 2–30 s.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// First parts of a path that stand before owner and name, and are part of where a request lives.
const NAMESPACES: [&str; 2] = ["workflows", "comfy"];

/// The adapter for fal's queue.
#[derive(Debug)]
pub struct Fal {
    http: reqwest::Client,
    base_url: String,
}

impl Fal {
    /// An adapter that calls `base_url`.
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    async fn send(
        &self,
        key: &SecretString,
        request: RequestBuilder,
        stake: Stake,
    ) -> Result<Answer, ProviderError> {
        let timeout = if stake == Stake::Submit { VIDEO_SUBMIT_TIMEOUT } else { ASK_TIMEOUT };
        let request = request.header("Authorization", format!("Key {}", key.expose_secret()));
        // A result may hold its files as data URLs.
        http::send(request.timeout(timeout), stake, MAX_INLINE_BYTES).await
    }

    async fn ask(&self, key: &SecretString, path: &str) -> Result<Answer, ProviderError> {
        self.send(key, self.http.get(format!("{}/{path}", self.base_url)), Stake::Ask).await
    }

    /// Where a call is submitted.
    fn address(&self, call: &Call) -> Result<Url, ProviderError> {
        let bad = |why: String| ProviderError::new(ErrorClass::Auth, why);
        if home(&call.upstream_model).is_none() {
            return Err(bad(format!("{:?} is no path of a model", call.upstream_model)));
        }
        let mut url = Url::parse(&format!("{}/{}", self.base_url, call.upstream_model))
            .map_err(|error| bad(format!("fal's address: {error}")))?;
        if let Some(callback) = &call.callback_url {
            url.query_pairs_mut().append_pair("fal_webhook", callback);
        }
        Ok(url)
    }

    /// Where a request lives, below the base address.
    fn reference(&self, model: &str, taken: &Taken) -> Option<String> {
        let ending = format!("requests/{}", taken.request_id);
        // The slash ends the host, and only plain parts follow, so this leads nowhere else.
        let below = taken.response_url.strip_prefix(&self.base_url).and_then(|path| path.strip_prefix('/'));
        let told = below
            .filter(|path| path.ends_with(&format!("/{ending}")) && path.split('/').all(mapped::is_plain));
        told.map(str::to_owned).or_else(|| Some(format!("{}/{ending}", home(model)?)))
    }

    /// The result of a request that is completed.
    async fn result(&self, call: &Call, provider_ref: &str, metrics: Value) -> Result<Step, ProviderError> {
        let answer = self.ask(&call.key, provider_ref).await?;
        if answer.status.is_success() {
            return finished(&call.task, &answer.json()?, metrics).map(Step::Done);
        }
        match Problem::read(&answer) {
            // The model's own verdict, or what became of its runner.
            Some(problem) if problem.error_type.is_some() || [400, 422].contains(&answer.status.as_u16()) => {
                Err(problem.verdict())
            }
            _ => Err(fault(&answer)),
        }
    }
}

#[async_trait]
impl Provider for Fal {
    fn name(&self) -> &'static str {
        "fal"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let input = mapped::input(call, |field| call.file(field).map(data_url))?;
        let request = self.http.post(self.address(call)?).json(&input);
        let answer = self.send(&call.key, request, Stake::Submit).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        let taken: Taken = answer.json()?;
        let reference = self.reference(&call.upstream_model, &taken);
        match reference.filter(|_| mapped::is_plain(&taken.request_id)) {
            Some(reference) => Ok(pending(reference, "queued at provider")),
            None => Err(answer.nonsense("accepted without an id")),
        }
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let answer = self.ask(&call.key, &format!("{provider_ref}/status")).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        let state: State = answer.json()?;
        match state.status.as_str() {
            "IN_QUEUE" => Ok(pending(provider_ref.to_owned(), "queued at provider")),
            "COMPLETED" => match state.problem() {
                Some(problem) => Err(problem.verdict()),
                None => self.result(call, provider_ref, state.metrics).await,
            },
            // Words we do not know mean "still at work".
            _ => Ok(pending(provider_ref.to_owned(), "generating at provider")),
        }
    }

    async fn cancel(&self, call: &Call, provider_ref: &str) -> Result<(), ProviderError> {
        let request = self.http.put(format!("{}/{provider_ref}/cancel", self.base_url));
        let answer = self.send(&call.key, request, Stake::Ask).await?;
        // 400: it was completed before.
        if answer.status.is_success() || answer.status.as_u16() == 400 { Ok(()) } else { Err(fault(&answer)) }
    }
}

fn pending(provider_ref: String, phase: &str) -> Step {
    Step::Pending(Pending { provider_ref, look_again: LOOK_AGAIN, progress: None, phase: phase.to_owned() })
}

/// The part of a model's path that its requests live under; none where it is no path of a model.
fn home(model: &str) -> Option<String> {
    let parts: Vec<_> = model.split('/').collect();
    let length = if NAMESPACES.contains(&parts[0]) { 3 } else { 2 };
    let is_path = parts.len() >= length && parts.iter().all(|part| mapped::is_plain(part));
    is_path.then(|| parts[..length].join("/"))
}

#[derive(Debug, Deserialize)]
struct Taken {
    request_id: String,
    #[serde(default)]
    response_url: String,
}

#[derive(Debug, Deserialize)]
struct State {
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    error_type: Option<String>,
    #[serde(default)]
    metrics: Value,
}

impl State {
    /// Why a completed request failed, if it did.
    fn problem(&self) -> Option<Problem> {
        let failed = self.error_type.is_some() || !matches!(&self.error, Value::Null | Value::Bool(false));
        failed.then(|| Problem { detail: self.error.clone(), error_type: self.error_type.clone() })
    }
}

#[derive(Debug, Deserialize)]
struct Problem {
    #[serde(default)]
    detail: Value,
    #[serde(default)]
    error_type: Option<String>,
}

impl Problem {
    fn read(answer: &Answer) -> Option<Self> {
        serde_json::from_slice(&answer.body).ok()
    }

    /// All words, without those of a complaint that repeat the input.
    fn words(&self) -> String {
        let complaint = |item: &Value| {
            let word = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", word("type"), word("msg"))
        };
        let detail = match &self.detail {
            Value::String(text) => text.clone(),
            Value::Array(items) => items.iter().map(complaint).collect::<Vec<_>>().join(", "),
            _ => String::new(),
        };
        format!("{} {detail}", self.error_type.as_deref().unwrap_or_default())
    }

    /// What it means for a request that was taken: no result will come.
    fn verdict(&self) -> ProviderError {
        let words = self.words();
        let class = if mapped::is_refusal(&words) { ErrorClass::Refused } else { ErrorClass::Failed };
        ProviderError::new(class, format!("the request failed: {}", http::quote(&words)))
    }
}

/// The error in an unsuccessful answer.
fn fault(answer: &Answer) -> ProviderError {
    let Some(problem) = Problem::read(answer) else {
        return answer.error(answer.class(), "an error without fal's shape");
    };
    let words = problem.words();
    answer.error(class_of(answer.class(), &words), &words)
}

/// Refines what the status says. An account without money is locked, which is also said by the status of a wrong key.
fn class_of(by_status: ErrorClass, words: &str) -> ErrorClass {
    match by_status {
        ErrorClass::BadInput if mapped::is_refusal(words) => ErrorClass::Refused,
        ErrorClass::Auth
            if ["balance", "locked"].iter().any(|word| words.to_ascii_lowercase().contains(word)) =>
        {
            ErrorClass::Quota
        }
        class => class,
    }
}

fn finished(task: &str, output: &Value, metrics: Value) -> Result<Artifacts, ProviderError> {
    let flags = output["has_nsfw_concepts"].as_array().filter(|flags| !flags.is_empty());
    if flags.is_some_and(|flags| flags.iter().all(|flag| *flag == json!(true))) {
        return Err(ProviderError::new(ErrorClass::Refused, "every picture was blackened"));
    }
    let files = mapped::files(output, task);
    if files.is_empty() {
        return Err(ProviderError::new(ErrorClass::Broken, "the request completed without a file"));
    }
    Ok(Artifacts { files, usage: Some(metrics).filter(Value::is_object), ..Artifacts::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::mapped::tests::call;

    fn fal() -> Fal {
        Fal::new(reqwest::Client::builder().build().unwrap(), VENDOR.base_url.to_owned())
    }

    #[test]
    fn inputs_become_requests_to_the_models_path() {
        let mut flux =
            call("flux", "fal", json!({"prompt": "a fox", "aspect_ratio": "16:9", "seed": 7}), &[]);
        let input = mapped::input(&flux, |_| None).unwrap();
        let expected = json!({
            "prompt": "a fox", "image_size": "landscape_16_9", "num_images": 1, "seed": 7, "output_format": "png",
        });
        assert_eq!(Value::from(input), expected);
        assert_eq!(fal().address(&flux).unwrap().as_str(), "https://queue.fal.run/fal-ai/flux/dev");
        flux.callback_url = Some("https://kiln.example/ring?t=1".to_owned());
        let expected =
            "https://queue.fal.run/fal-ai/flux/dev?fal_webhook=https%3A%2F%2Fkiln.example%2Fring%3Ft%3D1";
        assert_eq!(fal().address(&flux).unwrap().as_str(), expected);

        let swap = call("face-swap-fal", "fal", json!({"consent": true}), &["image", "source"]);
        let input = mapped::input(&swap, |field| swap.file(field).map(data_url)).unwrap();
        let file = "data:image/png;base64,AQEB";
        assert_eq!(Value::from(input), json!({"base_image_url": file, "swap_image_url": file}));
    }

    fn check_reference(model: &str, response_url: &str, expected: Option<&str>) {
        let taken = Taken { request_id: "r-1".to_owned(), response_url: response_url.to_owned() };
        assert_eq!(fal().reference(model, &taken).as_deref(), expected, "{model} {response_url}");
    }

    #[test]
    fn a_reference_is_what_fal_says_only_where_we_called_it() {
        let own = Some("fal-ai/flux/requests/r-1");
        check_reference("fal-ai/flux/dev", "", own);
        check_reference("fal-ai/flux/dev", "https://queue.fal.run/fal-ai/flux/requests/r-1", own);
        check_reference(
            "fal-ai/flux/dev",
            "https://queue.fal.run/a/b/c/requests/r-1",
            Some("a/b/c/requests/r-1"),
        );
        for foreign in [
            "https://evil.example/fal-ai/other/requests/r-1",
            "https://queue.fal.run.evil.example/a/b/requests/r-1",
            "https://queue.fal.run@evil.example/a/b/requests/r-1",
            "http://queue.fal.run/a/b/requests/r-1",
            "https://queue.fal.run/a/../requests/r-1",
            "https://queue.fal.run/a/b/requests/r-2",
            "https://queue.fal.run/a/b?x=/requests/r-1",
        ] {
            check_reference("fal-ai/flux/dev", foreign, own);
        }
        check_reference("fal-ai/face-swap", "", Some("fal-ai/face-swap/requests/r-1"));
        check_reference("workflows/me/mine/v2", "", Some("workflows/me/mine/requests/r-1"));
        for bad in ["flux", "", "fal-ai//flux", "workflows/me", "fal-ai/../x"] {
            check_reference(bad, "", None);
        }
    }

    fn check_class(by_status: ErrorClass, problem: Value, expected: ErrorClass) {
        let problem: Problem = serde_json::from_value(problem).unwrap();
        assert_eq!(class_of(by_status, &problem.words()), expected, "{problem:?}");
    }

    #[test]
    fn a_refused_submit_is_judged_by_status_and_words() {
        let (auth, bad) = (ErrorClass::Auth, ErrorClass::BadInput);
        check_class(auth, json!({"detail": "Invalid key"}), auth);
        check_class(auth, json!({"detail": "User is locked. Reason: Exhausted balance."}), ErrorClass::Quota);
        let detail = |kind: &str| json!({"detail": [{"loc": ["body", "prompt"], "msg": "no", "type": kind}]});
        check_class(bad, detail("missing"), bad);
        check_class(bad, detail("content_policy_violation"), ErrorClass::Refused);
        check_class(ErrorClass::RateLimited, json!({"detail": "slow down"}), ErrorClass::RateLimited);
    }

    #[test]
    fn what_repeats_the_input_is_not_quoted() {
        let detail = json!([{"loc": ["body"], "msg": "bad", "type": "value_error", "input": "my secret"}]);
        let problem = Problem { detail, error_type: None };
        assert_eq!(problem.verdict().message, "the request failed: value_error bad");
    }

    #[test]
    fn a_completed_request_may_have_failed() {
        let problem = |state: Value| serde_json::from_value::<State>(state).unwrap().problem();
        assert!(problem(json!({"status": "COMPLETED", "error": null})).is_none());
        let failed = problem(json!({"error": "gone", "error_type": "runner_disconnected"})).unwrap();
        assert_eq!(failed.verdict().class, ErrorClass::Failed);
        let refused = problem(json!({"error": "x", "error_type": "content_policy_violation"})).unwrap();
        assert_eq!(refused.verdict().class, ErrorClass::Refused);
    }

    #[test]
    fn a_result_without_a_file_to_show_is_no_result() {
        let class =
            |output: Value| finished("image.generate", &output, Value::Null).map_err(|error| error.class);
        let images = json!([{"url": "https://x/1.png"}]);
        assert_eq!(class(json!({"images": images})).unwrap().files.len(), 1);
        let flagged = json!({"images": images, "has_nsfw_concepts": [true]});
        assert_eq!(class(flagged).unwrap_err(), ErrorClass::Refused);
        assert!(class(json!({"images": images, "has_nsfw_concepts": [false]})).is_ok());
        assert_eq!(class(json!({"images": []})).unwrap_err(), ErrorClass::Broken);
    }
}
