//! Stability AI, v2beta: pictures from words, and tools that enlarge, cut out, clean and set a picture elsewhere.
//!
//! Most answer with the picture itself; two become tasks that are asked after. Bare bytes are asked for rather than JSON, since an
//! enlarged picture as base64 would be longer than what is taken in an answer; how it ended then stands in a header. A picture that
//! the content filter has blurred comes with a 200 and is a refusal.
//!
//! After a lost answer the work is submitted again ("maybe twice"): there is neither a name of ours nor a list of tasks to ask by, and
//! a second picture costs 2 to 8 cents. Conservative and creative enlargements cost more, by the higher of two price lists 40 and
//! 60 cents. Deliberately absent: inpainting, outpainting, search and replace, the control tools, pictures from a picture, and
//! cancelling, which Stability does not offer.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::{
    RequestBuilder,
    header::{ACCEPT, CONTENT_TYPE},
};
use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{
    AfterAmbiguity, Artifact, Artifacts, Call, Checkup, Credit, ErrorClass, Pending, Provider, ProviderError,
    Step, Vendor,
    http::{self, ASK_TIMEOUT, Answer, IMAGE_TIMEOUT, MAX_INLINE_BYTES, MAX_JSON_BYTES, Stake, is_id},
};

mod request;

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "stability",
    key_variables: &["STABILITY_API_KEY"],
    base_variable: "STABILITY_BASE_URL",
    base_url: "https://api.stability.ai",
    simulator_path: "stability",
    simulated_key: "simulated",
    mode: "in the answer; creative upscale and relight as a task that is polled",
    cancel: "no",
    unverified: &[
        "what edits and upscales cost: two price lists differ tenfold, the higher one is used",
        "whether a task is accepted with 200 or 202, which is taken alike",
        "how long a result is kept (24 hours), and how a task that failed is told",
        "how much a fast upscale enlarges",
    ],
    adapter: |http, base_url| Arc::new(Stability::new(http, base_url)),
};

/// When to look for a task; they take about a minute, and Stability asks for no more than a look in 10 s.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The adapter for Stability.
#[derive(Debug)]
pub struct Stability {
    http: reqwest::Client,
    base_url: String,
}

impl Stability {
    /// An adapter that calls `base_url` (without a version).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }
}

#[async_trait]
impl Provider for Stability {
    fn name(&self) -> &'static str {
        "stability"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let path = request::path(call)?;
        let request = self
            .http
            .post(format!("{}/v2beta/stable-image/{path}", self.base_url))
            .multipart(request::form(call)?)
            .timeout(IMAGE_TIMEOUT);
        let answer = send(request, &call.key, Stake::Submit).await?;
        step(&answer, None)
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let request = self.http.get(format!("{}/v2beta/results/{provider_ref}", self.base_url));
        // The result comes with the answer, so a look may take as long as making it.
        let answer = send(request.timeout(IMAGE_TIMEOUT), &call.key, Stake::Ask).await?;
        step(&answer, Some(provider_ref))
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(format!("{}/v1/user/balance", self.base_url)).timeout(ASK_TIMEOUT);
        let answer = http::send(request.bearer_auth(key.expose_secret()), Stake::Ask, MAX_JSON_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        let Balance { credits } = answer.json()?;
        let credit = Credit { amount: credits, unit: "credits".to_owned() };
        Ok(Some(Checkup { credit: Some(credit) }))
    }
}

async fn send(request: RequestBuilder, key: &SecretString, stake: Stake) -> Result<Answer, ProviderError> {
    let request = request.bearer_auth(key.expose_secret()).header(ACCEPT, "image/*");
    http::send(request, stake, MAX_INLINE_BYTES).await
}

#[derive(Debug, Deserialize)]
struct Balance {
    credits: Decimal,
}

#[derive(Debug, Deserialize)]
struct Taken {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Fault {
    #[serde(default)]
    name: String,
    #[serde(default)]
    errors: Vec<String>,
}

/// What an answer means: a picture, or a task that is begun or still at work. `known` is the task that was asked after.
fn step(answer: &Answer, known: Option<&str>) -> Result<Step, ProviderError> {
    if !answer.status.is_success() {
        return Err(fault(answer));
    }
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    if header(CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("image/")) {
        return picture(answer, header("finish-reason"), header("seed")).map(Step::Done);
    }
    let id = match known {
        // Whatever it says in words, a task that has no picture yet is at work.
        Some(id) if answer.status.as_u16() == 202 => id.to_owned(),
        Some(id) => answer.json::<Taken>().map(|_| id.to_owned())?,
        None => answer.json::<Taken>()?.id,
    };
    if !is_id(&id) {
        return Err(answer.nonsense("accepted without a task id"));
    }
    let phase = if known.is_some() { "generating at provider" } else { "queued at provider" };
    let pending =
        Pending { provider_ref: id, look_again: LOOK_AGAIN, progress: None, phase: phase.to_owned() };
    Ok(Step::Pending(pending))
}

fn picture(
    answer: &Answer,
    finish_reason: Option<&str>,
    seed: Option<&str>,
) -> Result<Artifacts, ProviderError> {
    match finish_reason {
        None | Some("SUCCESS") => {}
        Some("CONTENT_FILTERED") => {
            return Err(answer.error(ErrorClass::Refused, "the picture was blurred by the content filter"));
        }
        Some(other) => return Err(answer.error(ErrorClass::Broken, &format!("finished by {other}"))),
    }
    if answer.body.is_empty() {
        return Err(answer.error(ErrorClass::Broken, "the picture is empty"));
    }
    let usage = seed.and_then(|seed| seed.parse::<u64>().ok()).map(|seed| json!({ "seed": seed }));
    let files = vec![Artifact::Inline(answer.body.clone())];
    Ok(Artifacts { files, usage, ..Artifacts::default() })
}

/// The error in an unsuccessful answer.
fn fault(answer: &Answer) -> ProviderError {
    let Ok(Fault { name, errors }) = serde_json::from_slice(&answer.body) else {
        return answer.error(answer.class(), "an error without Stability's shape");
    };
    // A 403 is otherwise a missing right.
    let class = if name == "content_moderation" { ErrorClass::Refused } else { answer.class() };
    answer.error(class, &format!("{name}: {}", errors.join("; ")))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// What becomes of this answer to a look, in one word.
    async fn look(answer: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let vendor = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 2048]).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
        };
        let stability = Stability::new(reqwest::Client::builder().build().unwrap(), base);
        let call = Call::new("image.upscale", "creative", json!({}), "job_1-1");
        let (found, ()) = tokio::join!(stability.resume(&call, "7"), vendor);
        match found {
            Ok(Step::Pending(pending)) => format!("pending {}", pending.provider_ref),
            Ok(Step::Done(made)) => format!("{} files", made.files.len()),
            Err(error) => format!("{:?}", error.class),
        }
    }

    async fn check(status: &str, headers: &str, body: &str, expected: &str) {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        assert_eq!(look(&answer).await, expected, "{answer}");
    }

    #[tokio::test]
    async fn a_look_is_judged_by_status_kind_and_finish_reason() {
        let json = "content-type: application/json\r\n";
        let png = "content-type: image/png\r\n";
        check("202 Accepted", json, r#"{"id":"7","status":"in-progress"}"#, "pending 7").await;
        check("202 Accepted", json, r#"{"id":"7","status":"reticulating"}"#, "pending 7").await;
        check("200 OK", &format!("{png}finish-reason: SUCCESS\r\nseed: 3\r\n"), "png", "1 files").await;
        check("200 OK", &format!("{png}finish-reason: CONTENT_FILTERED\r\n"), "png", "Refused").await;
        check("200 OK", &format!("{png}finish-reason: SOMETHING_NEW\r\n"), "png", "Broken").await;
        check("200 OK", png, "", "Broken").await;
        check("200 OK", "content-type: text/html\r\n", "<html>", "Unavailable").await;
        check("404 Not Found", json, r#"{"id":"x","name":"not_found","errors":["no"]}"#, "Unavailable").await;
        check("403 Forbidden", json, r#"{"id":"x","name":"content_moderation","errors":[]}"#, "Refused")
            .await;
        check("403 Forbidden", json, r#"{"id":"x","name":"forbidden","errors":[]}"#, "Auth").await;
        check("402 Payment Required", json, r#"{"id":"x","name":"payment_required"}"#, "Quota").await;
        check("422 Unprocessable", json, r#"{"id":"x","name":"invalid","errors":["a"]}"#, "BadInput").await;
    }
}
