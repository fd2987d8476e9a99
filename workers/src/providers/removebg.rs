//! remove.bg: cuts out what a picture shows. One request, the picture as bare bytes in its answer.
//!
//! The upstream model is the size of the result (`full`, `preview`, …): remove.bg has no models, and bills by size. After a lost answer
//! the work is submitted again ("maybe twice"): there is nothing to look up, and a second one costs a credit, about 20 cents by
//! subscription. A picture without a recognisable subject is the input's fault, and not charged. Deliberately absent: backgrounds
//! put in place of the old one, cropping, shadows, and pictures by address, which are fetched here.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{
    RequestBuilder,
    header::{ACCEPT, CONTENT_TYPE},
    multipart::Form,
};
use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{
    AfterAmbiguity, Artifact, Artifacts, Call, Checkup, Credit, ErrorClass, Provider, ProviderError, Step,
    Vendor,
    http::{self, ASK_TIMEOUT, Answer, IMAGE_TIMEOUT, MAX_INLINE_BYTES, MAX_JSON_BYTES, Stake, file_part},
};

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "removebg",
    key_variables: &["REMOVEBG_API_KEY"],
    base_variable: "REMOVEBG_BASE_URL",
    base_url: "https://api.remove.bg/v1.0",
    simulator_path: "removebg/v1.0",
    simulated_key: "simulated",
    mode: "in the answer",
    cancel: "no",
    unverified: &[
        "what a credit costs",
        "the status 402 for spent credits, and that a picture without a subject is not charged",
        "the limits of 22 MB for a picture sent in, and of 10 megapixels for a PNG",
    ],
    adapter: |http, base_url| Arc::new(RemoveBg::new(http, base_url)),
};

/// The adapter for remove.bg.
#[derive(Debug)]
pub struct RemoveBg {
    http: reqwest::Client,
    base_url: String,
}

impl RemoveBg {
    /// An adapter that calls `base_url` (with its version).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }
}

fn signed(request: RequestBuilder, key: &SecretString) -> RequestBuilder {
    request.header("x-api-key", key.expose_secret())
}

#[async_trait]
impl Provider for RemoveBg {
    fn name(&self) -> &'static str {
        "removebg"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let request = self.http.post(format!("{}/removebg", self.base_url)).multipart(form(call)?);
        let request = signed(request, &call.key).header(ACCEPT, "image/*").timeout(IMAGE_TIMEOUT);
        let answer = http::send(request, Stake::Submit, MAX_INLINE_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        read(&answer).map(Step::Done)
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(format!("{}/account", self.base_url)).timeout(ASK_TIMEOUT);
        let answer = http::send(signed(request, key), Stake::Ask, MAX_JSON_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        let Account { data } = answer.json()?;
        let credit = Credit { amount: data.attributes.credits.total, unit: "credits".to_owned() };
        Ok(Some(Checkup { credit: Some(credit) }))
    }
}

fn form(call: &Call) -> Result<Form, ProviderError> {
    let bad = |why: &str| ProviderError::new(ErrorClass::BadInput, why);
    if call.task != "image.remove_background" {
        return Err(bad(&format!("removebg is not wired for {}", call.task)));
    }
    let image = call.file("image").ok_or_else(|| bad("cutting out needs a picture"))?;
    Ok(Form::new()
        .part("image_file", file_part(image)?)
        // Without a word on it, the result would be a preview.
        .text("size", call.upstream_model.clone())
        .text("format", "png"))
}

fn read(answer: &Answer) -> Result<Artifacts, ProviderError> {
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let said = header(CONTENT_TYPE.as_str()).unwrap_or_default();
    if !said.starts_with("image/") {
        return Err(answer.nonsense(&format!("{said} in place of a picture")));
    }
    if answer.body.is_empty() {
        return Err(answer.error(ErrorClass::Broken, "the picture is empty"));
    }
    let credits = header("x-credits-charged").and_then(|credits| credits.parse::<f64>().ok());
    let usage = credits.map(|credits| json!({ "credits": credits }));
    Ok(Artifacts { files: vec![Artifact::Inline(answer.body.clone())], usage, ..Artifacts::default() })
}

#[derive(Debug, Deserialize)]
struct Account {
    data: AccountData,
}

#[derive(Debug, Deserialize)]
struct AccountData {
    attributes: Attributes,
}

#[derive(Debug, Deserialize)]
struct Attributes {
    credits: Credits,
}

#[derive(Debug, Deserialize)]
struct Credits {
    total: Decimal,
}

#[derive(Debug, Deserialize)]
struct Failure {
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    #[serde(default)]
    title: String,
    #[serde(default)]
    code: String,
}

/// The error in an unsuccessful answer.
fn fault(answer: &Answer) -> ProviderError {
    let Some(fault) =
        serde_json::from_slice(&answer.body).ok().and_then(|Failure { errors }| errors.into_iter().next())
    else {
        return answer.error(answer.class(), "an error without remove.bg's shape");
    };
    let class = class_of(&fault.code).unwrap_or_else(|| answer.class());
    answer.error(class, &format!("{}: {}", fault.code, fault.title))
}

/// The class that a code names more exactly than the status does.
fn class_of(code: &str) -> Option<ErrorClass> {
    match code {
        "auth_failed" => Some(ErrorClass::Auth),
        "insufficient_credits" => Some(ErrorClass::Quota),
        "unknown_foreground" => Some(ErrorClass::BadInput),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::InputFile;

    #[test]
    fn codes_say_more_than_the_status() {
        let check = |code: &str, expected| assert_eq!(class_of(code), expected, "{code}");
        check("auth_failed", Some(ErrorClass::Auth));
        check("insufficient_credits", Some(ErrorClass::Quota));
        check("unknown_foreground", Some(ErrorClass::BadInput));
        check("something_new", None);
    }

    #[test]
    fn only_a_picture_is_sent_and_only_to_be_cut_out() {
        let call = |task: &str, bytes: &'static [u8]| {
            let file = InputFile {
                field: "image".to_owned(),
                mime_type: "image/png".to_owned(),
                bytes: bytes.into(),
            };
            Call::new(task, "full", json!({}), "job_1-1").with_files(vec![file])
        };
        let check = |call: &Call, expected: bool| {
            let made = form(call).map(|_| ()).map_err(|error| error.class);
            assert_eq!(made, if expected { Ok(()) } else { Err(ErrorClass::BadInput) }, "{}", call.task);
        };
        check(&call("image.remove_background", b"\x89PNG\r\n\x1a\n"), true);
        check(&call("image.remove_background", b"rubbish"), false);
        check(&call("image.upscale", b"\x89PNG\r\n\x1a\n"), false);
        check(&Call::new("image.remove_background", "full", json!({}), "job_1-1"), false);
    }
}
