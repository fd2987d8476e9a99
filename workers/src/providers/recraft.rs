//! Recraft: pictures from words, and tools that trace, cut out, enlarge and set a picture elsewhere. All answer within the request.
//!
//! Results come in the answer as base64, for an address that died before it was read would mean paying again; only enlarged
//! pictures, which may be longer than what is taken in an answer, come by an address, good for about a day.
//!
//! After a lost answer the work is submitted again ("maybe twice"): there is neither a name of ours nor a list to ask by, and a second
//! one costs between half a cent and 4 cents; only a creative enlargement costs 25. What was spent is in each answer, and what
//! failed is not charged. Deliberately absent: vectors from words, styles of one's own, and the tools that edit by a mask.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::multipart::Form;
use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    AfterAmbiguity, Artifact, Artifacts, Call, Checkup, Credit, ErrorClass, Provider, ProviderError, Step,
    Vendor,
    http::{self, ASK_TIMEOUT, Answer, IMAGE_TIMEOUT, MAX_INLINE_BYTES, MAX_JSON_BYTES, Stake, file_part},
    openai::chat::amount,
};

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "recraft",
    key_variables: &["RECRAFT_API_KEY"],
    base_variable: "RECRAFT_BASE_URL",
    base_url: "https://external.api.recraft.ai/v1",
    simulator_path: "recraft/v1",
    simulated_key: "simulated",
    mode: "in the answer",
    cancel: "no",
    unverified: &[
        "the shape of errors, so the status decides; a refused content looks like a bad input",
        "how large a picture may be that is sent in",
        "the name of the picture's part in a form: `image`, in older documents `file`",
    ],
    adapter: |http, base_url| Arc::new(Recraft::new(http, base_url)),
};

/// Units in which Recraft counts, for a dollar.
const CREDITS_PER_USD: i64 = 1000;

/// The adapter for Recraft.
#[derive(Debug)]
pub struct Recraft {
    http: reqwest::Client,
    base_url: String,
}

impl Recraft {
    /// An adapter that calls `base_url` (with its version).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }
}

#[async_trait]
impl Provider for Recraft {
    fn name(&self) -> &'static str {
        "recraft"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let request = match call.task.as_str() {
            "image.generate" => {
                self.http.post(format!("{}/images/generations", self.base_url)).json(&drawing(call)?)
            }
            // The upstream model is the tool's name in the address.
            "image.vectorize" | "image.remove_background" | "image.replace_background" | "image.upscale" => {
                self.http
                    .post(format!("{}/images/{}", self.base_url, call.upstream_model))
                    .multipart(form(call)?)
            }
            other => return Err(bad(&format!("recraft is not wired for {other}"))),
        };
        let request = request.bearer_auth(call.key.expose_secret()).timeout(IMAGE_TIMEOUT);
        let answer = http::send(request, Stake::Submit, MAX_INLINE_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        read(answer.json()?).map(Step::Done)
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(format!("{}/users/me", self.base_url)).timeout(ASK_TIMEOUT);
        let answer = http::send(request.bearer_auth(key.expose_secret()), Stake::Ask, MAX_JSON_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        let Me { credits } = answer.json()?;
        let credit = Credit { amount: credits, unit: "credits".to_owned() };
        Ok(Some(Checkup { credit: Some(credit) }))
    }
}

fn bad(why: &str) -> ProviderError {
    ProviderError::new(ErrorClass::BadInput, why)
}

fn drawing(call: &Call) -> Result<Value, ProviderError> {
    let prompt = call.text("prompt").ok_or_else(|| bad("a picture needs a prompt"))?;
    let mut body = Map::from_iter([
        ("prompt".to_owned(), json!(prompt)),
        ("model".to_owned(), json!(call.upstream_model)),
        ("response_format".to_owned(), json!("b64_json")),
        ("image_format".to_owned(), json!("png")),
    ]);
    for (ours, theirs) in [
        ("negative_prompt", "negative_prompt"),
        ("style", "style"),
        ("size", "size"),
        ("n", "n"),
        ("seed", "random_seed"),
    ] {
        if let Some(value) = call.input.get(ours).filter(|value| !value.is_null()) {
            body.insert(theirs.to_owned(), value.clone());
        }
    }
    Ok(body.into())
}

fn form(call: &Call) -> Result<Form, ProviderError> {
    let image = call.file("image").ok_or_else(|| bad("the tool needs a picture"))?;
    let mut form = Form::new().part("image", file_part(image)?);
    for (name, text) in texts(call)? {
        form = form.text(name, text);
    }
    Ok(form)
}

/// Every text of a tool's form.
fn texts(call: &Call) -> Result<Vec<(&'static str, String)>, ProviderError> {
    let response_format = if call.task == "image.upscale" { "url" } else { "b64_json" };
    let mut texts = vec![("response_format", response_format.to_owned())];
    if call.task != "image.vectorize" {
        texts.push(("image_format", "png".to_owned()));
    }
    if call.task == "image.replace_background" {
        let prompt = call.text("prompt").ok_or_else(|| bad("a new background needs a prompt"))?;
        texts.push(("prompt", prompt.to_owned()));
    }
    Ok(texts)
}

#[derive(Debug, Deserialize)]
struct Me {
    credits: Decimal,
}

#[derive(Debug, Deserialize)]
struct Made {
    /// What was spent.
    #[serde(default)]
    credits: Option<Value>,
    /// Of endpoints that make several.
    #[serde(default)]
    data: Vec<Image>,
    /// Of tools that make one.
    #[serde(default)]
    image: Option<Image>,
}

#[derive(Debug, Deserialize)]
struct Image {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    b64_json: Option<String>,
}

fn read(made: Made) -> Result<Artifacts, ProviderError> {
    let broken = |why: &str| ProviderError::new(ErrorClass::Broken, why);
    let mut files = Vec::new();
    for image in made.data.into_iter().chain(made.image) {
        files.push(match (image.b64_json, image.url) {
            (Some(data), _) => {
                let bytes = BASE64_STANDARD.decode(data);
                Artifact::Inline(bytes.map_err(|_| broken("a picture is not proper base64"))?.into())
            }
            (None, Some(url)) if !url.is_empty() => Artifact::Remote { url, headers: Vec::new() },
            (None, _) => return Err(broken("a picture without data or address")),
        });
    }
    if files.is_empty() {
        return Err(broken("an answer without a picture"));
    }
    let spent = made.credits.as_ref().and_then(amount);
    let cost_usd = spent.map(|credits| credits / Decimal::from(CREDITS_PER_USD));
    let usage = made.credits.map(|credits| json!({ "credits": credits }));
    Ok(Artifacts { files, usage, cost_usd, ..Artifacts::default() })
}

#[derive(Debug, Deserialize)]
struct Fault {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The error in an unsuccessful answer, by its status alone.
fn fault(answer: &Answer) -> ProviderError {
    let words = serde_json::from_slice::<Fault>(&answer.body).map_or_else(
        |_| "an error without Recraft's shape".to_owned(),
        |fault| fault.code + ": " + &fault.message,
    );
    answer.error(answer.class(), &words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::InputFile;

    #[test]
    fn words_become_a_drawing() {
        let input =
            json!({ "prompt": "a fox", "style": "realistic_image", "size": "1365x1024", "n": 2, "seed": 7 });
        let made = drawing(&Call::new("image.generate", "recraftv3", input, "job_1-1")).unwrap();
        let expected = json!({
            "prompt": "a fox", "model": "recraftv3", "style": "realistic_image", "size": "1365x1024", "n": 2,
            "random_seed": 7, "response_format": "b64_json", "image_format": "png",
        });
        assert_eq!(made, expected);
        let empty = Call::new("image.generate", "recraftv3", json!({}), "job_1-1");
        assert_eq!(drawing(&empty).unwrap_err().class, ErrorClass::BadInput);
    }

    fn check_form(task: &str, input: Value, expected: Option<&[(&str, &str)]>) {
        let file = InputFile {
            field: "image".to_owned(),
            mime_type: "image/png".to_owned(),
            bytes: b"\x89PNG\r\n\x1a\n".to_vec().into(),
        };
        let call = Call::new(task, "tool", input, "job_1-1").with_files(vec![file]);
        assert_eq!(form(&call).is_ok(), expected.is_some(), "{task}");
        let made = texts(&call).ok();
        let found = made
            .as_ref()
            .map(|made| made.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expected, "{task}");
    }

    #[test]
    fn each_tool_is_sent_what_it_knows() {
        let inline = ("response_format", "b64_json");
        let png = ("image_format", "png");
        check_form("image.vectorize", json!({}), Some(&[inline]));
        check_form("image.remove_background", json!({}), Some(&[inline, png]));
        check_form("image.upscale", json!({}), Some(&[("response_format", "url"), png]));
        let input = json!({ "prompt": "a beach" });
        check_form("image.replace_background", input, Some(&[inline, png, ("prompt", "a beach")]));
        check_form("image.replace_background", json!({}), None);
        let bare = Call::new("image.vectorize", "vectorize", json!({}), "job_1-1");
        assert!(form(&bare).is_err());
    }

    fn check_answer(answer: Value, expected: Result<usize, ErrorClass>) {
        let found = read(serde_json::from_value(answer.clone()).unwrap());
        assert_eq!(found.map(|made| made.files.len()).map_err(|error| error.class), expected, "{answer}");
    }

    #[test]
    fn a_200_is_judged_by_what_is_in_it() {
        check_answer(
            json!({ "data": [{ "b64_json": "AQEB" }, { "url": "https://example.com/1.png" }] }),
            Ok(2),
        );
        check_answer(json!({ "image": { "url": "https://example.com/1.png" } }), Ok(1));
        check_answer(json!({ "data": [] }), Err(ErrorClass::Broken));
        check_answer(json!({ "image": null }), Err(ErrorClass::Broken));
        check_answer(json!({ "image": { "b64_json": "%%" } }), Err(ErrorClass::Broken));
        check_answer(json!({ "image": {} }), Err(ErrorClass::Broken));
    }

    #[test]
    fn what_was_spent_is_told_in_dollars() {
        let answer = json!({ "credits": 40, "image": { "url": "https://example.com/1.png" } });
        let made = read(serde_json::from_value(answer).unwrap()).unwrap();
        assert_eq!(made.cost_usd, Some(Decimal::new(4, 2)));
        assert_eq!(made.usage, Some(json!({ "credits": 40 })));
    }
}
