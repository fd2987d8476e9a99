//! Midjourney, by way of a proxy that presses its buttons: pictures, what follows them, descriptions, blends, faces, films.
//!
//! There is no official API. Three programs answer at the same paths (novicezk's proxy, trueai's, and new-api before either), so
//! nothing here depends on what only one of them does. Every submit carries our own name of the attempt as `state`, and the
//! proxy's list of tasks shows it: after a lost answer we look there. Nothing pays twice as long as that list is whole; a list
//! that cannot be had or read is not taken for "never seen". Some buttons open a window that wants words or a mask before
//! anything is made: it is answered in the same submit, or at the next look where only words are wanted. The notify hook is not
//! signed and only wakes the job. Deliberately absent: the older commands that pressing a button covers, shortening prompts,
//! and buttons that make films or nothing, which are not offered.

mod order;
mod reply;
mod task;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{
    AfterAmbiguity, Call, Checkup, ErrorClass, Pending, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, Answer, MAX_JSON_BYTES, Stake},
};
use order::Order;
use reply::Taken;
use task::{State, Task};

/// How it is configured. Who runs no proxy has none, so the address is that of a container beside ours; paths of a reseller that
/// choose the speed, such as `/mj-fast`, belong to it.
pub const VENDOR: Vendor = Vendor {
    name: "midjourney",
    key_variables: &["MIDJOURNEY_API_SECRET"],
    base_variable: "MIDJOURNEY_BASE_URL",
    base_url: "http://midjourney-proxy:8080",
    simulator_path: "midjourney",
    simulated_key: "simulated",
    mode: "as a task that is polled",
    cancel: "where the proxy can (trueai's)",
    unverified: &[
        "that a proxy which knows one of `mj-api-secret` and `Authorization` does not mind the other",
        "that `state` and `notifyHook` are taken by every submit, not only by those of pictures and films",
        "that the list of tasks is whole, and that relays have one",
        "that `--ar` in the prompt sets the shape of a picture",
        "which field holds a description",
        "the words by which a failed task tells that its content was refused",
        "how long a film and its extension are, and how long addresses of results live",
        "prices",
    ],
    adapter: |http, base_url| Arc::new(Midjourney::new(http, base_url)),
};

/// Handing over work, with up to five pictures in the request.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest list of tasks that is read: a proxy keeps them for a month.
const MAX_LIST_BYTES: usize = 64 * 1024 * 1024;

/// The adapter for a Midjourney proxy.
#[derive(Debug)]
pub struct Midjourney {
    http: reqwest::Client,
    base_url: String,
}

/// Our reference of a task: its id, and whether its window has been answered.
#[derive(Debug, Clone, PartialEq)]
struct Reference {
    id: String,
    is_answered: bool,
}

/// What a reference ends with once the window is answered, so that it is answered once.
const ANSWERED: &str = "/answered";

impl Reference {
    fn read(text: &str) -> Self {
        match text.strip_suffix(ANSWERED) {
            Some(id) => Self { id: id.to_owned(), is_answered: true },
            None => Self { id: text.to_owned(), is_answered: false },
        }
    }

    fn write(&self) -> String {
        format!("{}{}", self.id, if self.is_answered { ANSWERED } else { "" })
    }

    /// A task at work, about which nothing more is known.
    fn pending(&self, look_again: Duration) -> Step {
        let (progress, phase) = (None, "queued at provider".to_owned());
        Step::Pending(Pending { provider_ref: self.write(), look_again, progress, phase })
    }
}

impl Midjourney {
    /// An adapter that calls `base_url` (without `/mj`).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/mj/{path}", self.base_url)
    }

    async fn send(
        &self,
        key: &SecretString,
        request: RequestBuilder,
        stake: Stake,
        max_bytes: usize,
    ) -> Result<Answer, ProviderError> {
        let timeout = if stake == Stake::Submit { SUBMIT_TIMEOUT } else { ASK_TIMEOUT };
        let secret = key.expose_secret();
        let request = request.header("mj-api-secret", secret).bearer_auth(secret).timeout(timeout);
        http::send(request, stake, max_bytes).await
    }

    async fn hand_in(&self, call: &Call, order: &Order) -> Result<Taken, ProviderError> {
        let request = self.http.post(self.url(order.path)).json(&order.body);
        let answer = self.send(&call.key, request, Stake::Submit, MAX_JSON_BYTES).await?;
        reply::read(&answer, call.parent_ref.is_some())
    }

    async fn task(&self, key: &SecretString, id: &str) -> Result<Task, ProviderError> {
        let request = self.http.get(self.url(&format!("task/{id}/fetch")));
        let answer = self.send(key, request, Stake::Ask, MAX_JSON_BYTES).await?;
        if !answer.status.is_success() {
            return Err(answer.error(answer.class(), "the task could not be asked for"));
        }
        answer.json()
    }

    /// Answers the window that the task waits for. The task's id is known by now, and only a clear no loses it.
    async fn answer_window(&self, call: &Call, id: &str) -> Result<Step, ProviderError> {
        let order = Order::window(call, id)?;
        match self.hand_in(call, &order).await {
            Ok(Taken::Begun(id) | Taken::Window(id)) => {
                Ok(Reference { id, is_answered: true }.pending(task::look_again(&call.task)))
            }
            Err(error) if matches!(error.class, ErrorClass::Refused | ErrorClass::BadInput) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "a window of midjourney is still open");
                let open = Reference { id: id.to_owned(), is_answered: false };
                Ok(open.pending(task::look_again(&call.task)))
            }
        }
    }

    /// The window of a task, found open when it was looked at. There, pictures of the input are not at hand.
    async fn answer_window_late(&self, call: &Call, id: &str) -> Result<Step, ProviderError> {
        if call.input.get("mask").is_some() {
            let why = "the task waits for a mask, which comes with a submit only";
            return Err(ProviderError::new(ErrorClass::Broken, why));
        }
        self.answer_window(call, id).await.map_err(|error| match error.class {
            // No verdict when looking at a task, but it is one here: the window will not be answered otherwise.
            ErrorClass::BadInput => ProviderError::new(ErrorClass::Failed, error.message),
            _ => error,
        })
    }

    /// What the caller said, or else what was said of the film that goes on: the proxy wants words in any case.
    async fn words_of_extension(&self, call: &Call) -> Result<String, ProviderError> {
        if let Some(prompt) = call.text("prompt") {
            return Ok(prompt.to_owned());
        }
        let parent = Reference::read(order::parent(call)?);
        let found = self.task(&call.key, &parent.id).await?.prompt.filter(|prompt| !prompt.is_empty());
        found.ok_or_else(|| {
            ProviderError::new(ErrorClass::BadInput, "nothing is said, and nothing was before")
        })
    }
}

#[async_trait]
impl Provider for Midjourney {
    fn name(&self) -> &'static str {
        "midjourney"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::Lookup
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let order = match call.task.as_str() {
            "video.extend" => Order::extension(call, &self.words_of_extension(call).await?)?,
            _ => Order::of(call)?,
        };
        let look_again = task::look_again(&call.task);
        match self.hand_in(call, &order).await? {
            Taken::Window(id) => self.answer_window(call, &id).await,
            // new-api says "begun" for a window too. Who sends words or a mask with a button expects one.
            Taken::Begun(id) if order::answers_windows(call) => match self.task(&call.key, &id).await {
                Ok(task) if task.state() == State::Window => self.answer_window(call, &id).await,
                _ => Ok(Reference { id, is_answered: false }.pending(look_again)),
            },
            Taken::Begun(id) => Ok(Reference { id, is_answered: false }.pending(look_again)),
        }
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let reference = Reference::read(provider_ref);
        let task = self.task(&call.key, &reference.id).await?;
        if task.state() == State::Window && !reference.is_answered {
            return self.answer_window_late(call, &reference.id).await;
        }
        task.step(&call.task, &reference)
    }

    async fn lookup(&self, call: &Call) -> Result<Option<Step>, ProviderError> {
        let request = self.http.get(self.url("task/list"));
        let answer = self.send(&call.key, request, Stake::Ask, MAX_LIST_BYTES).await.map_err(|error| {
            // A list that is too long would count as a broken result, and the work would be done again.
            ProviderError::new(ErrorClass::Unavailable, error.message)
        })?;
        if !answer.status.is_success() {
            return Err(answer.error(answer.class(), "no list of tasks"));
        }
        let tasks: Vec<Listed> = answer.json()?;
        let ours = tasks.iter().find(|task| task.state.as_str() == Some(call.client_ref.as_str()));
        let Some(ours) = ours else { return Ok(None) };
        let id = reply::id(&ours.id).ok_or_else(|| answer.nonsense("a task without an id"))?;
        Ok(Some(Reference { id, is_answered: false }.pending(task::look_again(&call.task))))
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(self.url("task/queue"));
        let answer = self.send(key, request, Stake::Ask, MAX_LIST_BYTES).await?;
        if !answer.status.is_success() {
            return Err(answer.error(answer.class(), "the queue could not be asked for"));
        }
        Ok(Some(Checkup::default()))
    }

    async fn cancel(&self, call: &Call, provider_ref: &str) -> Result<(), ProviderError> {
        let id = Reference::read(provider_ref).id;
        let request = self.http.post(self.url(&format!("task/{id}/cancel")));
        let answer = self.send(&call.key, request, Stake::Ask, MAX_JSON_BYTES).await?;
        match answer.status.as_u16() {
            // The proxies that cannot do it have no such path.
            200..300 | 404 | 405 => Ok(()),
            _ => Err(answer.error(answer.class(), "not canceled")),
        }
    }
}

/// A task in the list of all, of which nothing else is kept: the list is long.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    state: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_was_written() {
        for text in ["1732700000000123", "1732700000000123/answered"] {
            assert_eq!(Reference::read(text).write(), text);
        }
        let answered = Reference { id: "7".into(), is_answered: true };
        assert_eq!(Reference::read("7/answered"), answered);
    }
}
