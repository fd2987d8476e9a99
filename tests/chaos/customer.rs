//! Customers: they order, repeat what was not answered, cancel, and never lose sight of what was accepted.
//!
//! A careful customer repeats a submit under the same Idempotency-Key until it is answered. One without a key does not
//! repeat: whether it was accepted shows later, in the list of jobs. What no careful customer may ever see is a breach at
//! once: a good request refused, one key with two jobs, an accepted job that is not there.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use reqwest::{
    Method, RequestBuilder, StatusCode,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use shared::{
    id::{AccountId, DialogId, EndpointId, FileId, JobId},
    process::Process,
};
use tokio::time::Instant;

use crate::{
    book::{Book, Placed},
    orders::{Manner, Order, Orders},
    place::Place,
};

/// Longest wait for an answer; then it counts as lost.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Pause before a request is first repeated, in milliseconds; it doubles each time, or many customers who ask again at once
/// would be the next outage.
const AGAIN_MILLIS: std::ops::Range<u64> = 100..500;
/// How often it doubles.
const DOUBLED_MAX: u32 = 4;
/// How long one who waits asks the API to wait.
const PREFER: &str = "wait=2";

/// Someone with an account.
#[derive(Debug, Clone)]
pub struct Customer {
    /// Its number in this run.
    pub number: usize,
    /// Its account.
    pub account: AccountId,
    /// Its API key.
    pub key: String,
    /// The tokens it began with.
    pub start_tokens: i64,
    /// Those of them that never expire, of a customer with so many others that these are never spent.
    pub lasting_tokens: Option<i64>,
    /// Where it is told of all its jobs.
    pub endpoints: Vec<Endpoint>,
    /// Its conversations.
    pub dialogs: Vec<DialogId>,
    /// The way to the front doors.
    pub door: Door,
}

/// An endpoint of a customer.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// By which its address is told from all others.
    pub name: String,
    /// Of which ends it is told; empty for all.
    pub events: Vec<String>,
    /// What its webhooks are signed with.
    pub secret: Vec<u8>,
}

/// The front doors, one of which is tried at each request.
#[derive(Debug, Clone)]
pub struct Door {
    /// Their addresses.
    pub place: Arc<Place>,
    /// The client.
    pub http: reqwest::Client,
    /// The book of the run.
    pub book: Arc<Book>,
}

/// What came back; `None` of a request says that nothing did.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub json: Value,
}

impl Answer {
    fn job(&self) -> Option<JobId> {
        self.json["id"].as_str()?.parse().ok()
    }

    /// Whether the request's fate is as unknown as without an answer.
    fn is_lost(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::REQUEST_TIMEOUT
    }

    fn words(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.json["error"]["code"].as_str().unwrap_or("no code"))
    }
}

impl Customer {
    /// Orders until the given moment. Each order goes its own way, so that a slow answer holds up no other.
    pub async fn shop(
        self,
        seed: u64,
        pictures: Arc<Vec<Vec<u8>>>,
        patience: Duration,
        until: Instant,
        process: Process,
    ) {
        let mut orders = Orders::of(seed, &self, &pictures, patience);
        while Instant::now() < until {
            let order = Arc::new(orders.draw());
            let (customer, sent) = (self.clone(), order.clone());
            process.spawn(async move { customer.order(sent).await });
            tokio::time::sleep(order.think).await;
        }
    }

    /// One request. `None`: no answer.
    pub async fn ask(
        &self,
        method: Method,
        instance: usize,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Option<Answer> {
        let mut request = self.request(method, instance, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        answer(request).await
    }

    fn request(&self, method: Method, instance: usize, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.door.place.api_url(instance));
        self.door.http.request(method, url).bearer_auth(&self.key).timeout(TIMEOUT)
    }

    /// Asks until an answer comes that is not the server's fault, for as long as it takes.
    pub async fn insist(&self, method: Method, path: &str) -> Answer {
        let mut failures = 0;
        loop {
            let instance = self.number + failures as usize;
            match self.ask(method.clone(), instance, path, &[], None).await {
                Some(answer) if !answer.is_lost() => return answer,
                _ => rest(failures).await,
            }
            failures += 1;
        }
    }

    async fn order(&self, order: Arc<Order>) {
        let mut body = order.body.clone();
        if let Some(picture) = &order.upload {
            let Some(file) = self.send_in(picture).await else { return };
            body["input"]["image"] = json!(file);
        }
        let mut placed = Placed { order: order.clone(), job: None, refused: None, lost: 0 };
        if order.manner == Manner::Twice {
            let mut second = placed.clone();
            tokio::join!(
                self.submit(&order, &body, 0, &mut placed),
                self.submit(&order, &body, 1, &mut second)
            );
            if let (Some(one), Some(other)) = (placed.job, second.job)
                && one != other
            {
                self.door.book.breach("one key makes one job", &format!("{}: {one}, {other}", order.name));
            }
            placed.job = placed.job.or(second.job);
            placed.lost += second.lost;
        } else {
            self.submit(&order, &body, self.number, &mut placed).await;
        }
        let accepted = placed.job;
        self.door.book.place(placed);
        if let (Some(job), Some(after)) = (accepted, order.cancel) {
            tokio::time::sleep(after).await;
            self.cancel(job).await;
        }
    }

    /// Sends a picture in until an answer says that it is kept, and as what. There is no key for that, so what was not answered
    /// may be kept as well, and nobody will ever ask for it. `None`: it was refused.
    async fn send_in(&self, picture: &[u8]) -> Option<FileId> {
        let book = &self.door.book;
        let mut failures = 0;
        loop {
            let part = Part::bytes(picture.to_vec()).file_name("picture.png");
            let instance = self.number + failures as usize;
            let request = self.request(Method::POST, instance, "/v1/files");
            book.count("files sent in");
            match answer(request.multipart(Form::new().part("file", part))).await {
                Some(answer) if answer.status.is_success() => {
                    let file = answer.json["id"].as_str().and_then(|id| id.parse().ok());
                    book.upload(self.account, file);
                    return file;
                }
                // Those before are not done with: they were frozen on their way.
                Some(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => {}
                Some(answer) if !answer.is_lost() => {
                    book.breach("a good file is taken", &format!("{}: {}", self.account, answer.words()));
                    return None;
                }
                _ => book.upload(self.account, None),
            }
            rest(failures).await;
            failures += 1;
        }
    }

    /// Submits until an answer says what became of it; an order without a key once.
    async fn submit(&self, order: &Order, body: &Value, first: usize, placed: &mut Placed) {
        let book = &self.door.book;
        let mut headers: Vec<(&str, &str)> = Vec::new();
        if let Some(key) = &order.key {
            headers.push(("idempotency-key", key));
        }
        if order.manner == Manner::Waiting {
            headers.push(("prefer", PREFER));
        }
        for instance in first.. {
            book.count(if placed.lost == 0 { "submits" } else { "submits repeated" });
            let sending = self.ask(Method::POST, instance, "/v1/jobs", &headers, Some(body));
            let answer = match order.manner {
                Manner::Hasty(moment) if instance == first => {
                    tokio::time::timeout(moment, sending).await.ok().flatten()
                }
                _ => sending.await,
            };
            match answer.filter(|answer| !answer.is_lost()) {
                Some(answer) if answer.status.is_success() => {
                    placed.job = answer.job();
                    return;
                }
                Some(answer) => {
                    if answer.status != StatusCode::PAYMENT_REQUIRED {
                        let words = format!("{}: {}", order.name, answer.words());
                        book.breach("a good request is refused only for want of tokens", &words);
                    }
                    placed.refused = Some(answer.words());
                    return;
                }
                None => placed.lost += 1,
            }
            if order.key.is_none() {
                return;
            }
            rest(placed.lost.saturating_sub(1)).await;
        }
    }

    async fn cancel(&self, job: JobId) {
        let answer = self.insist(Method::POST, &format!("/v1/jobs/{job}/cancel")).await;
        self.door.book.count("cancels");
        let fine = answer.status.is_success() || answer.status == StatusCode::CONFLICT;
        if !fine {
            let words = format!("{job}: {} to a cancel", answer.words());
            self.door.book.breach("an accepted job is known", &words);
        }
    }
}

async fn answer(request: RequestBuilder) -> Option<Answer> {
    let response = request.send().await.ok()?;
    let status = response.status();
    let json = response.json().await;
    // A success whose body is cut off tells nothing.
    json.ok().map(|json| Answer { status, json })
}

/// Rests before a request is repeated that has failed so often before.
async fn rest(failures: u32) {
    let pause = rand::rng().random_range(AGAIN_MILLIS) << failures.min(DOUBLED_MAX);
    tokio::time::sleep(Duration::from_millis(pause)).await;
}
