//! Pictures drawn from words, and pictures changed.
//!
//! Two families share the endpoints. GPT-image always answers in base64, counts tokens and refuses what it does not know; dall-e
//! answers in base64 or with an address that lives an hour, and counts nothing. Their words for quality differ, so each is put
//! into the family's own: a public model outlives the ids that the vendor retires. Base64 is asked for wherever there is a choice,
//! for an address that died before it was read would mean paying again. Deliberately absent: pictures while they are drawn, and
//! several pictures to edit.

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::multipart::Form;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{OpenAi, fault};
use crate::providers::{
    Artifact, Artifacts, Call, ErrorClass, ProviderError,
    http::{self, Answer, IMAGE_TIMEOUT, MAX_INLINE_BYTES, Stake, file_part},
};

/// What callers who name none get; the vendor would choose by the prompt, at another price than the catalogue's.
const DEFAULT_SIZE: &str = "1024x1024";
const DEFAULT_QUALITY: &str = "medium";

/// Fields of one family that are passed on as they are. Of the backgrounds, `transparent` is a preview at gpt-image-2.
const DALLE: &[&str] = &["style"];
const GPT_IMAGE: &[&str] = &["output_format", "output_compression", "background"];

/// Has pictures drawn.
pub async fn generate(openai: &OpenAi, call: &Call) -> Result<Artifacts, ProviderError> {
    let body = Value::Object(drawing(call)?);
    let request = openai.post(call, "/images/generations").timeout(IMAGE_TIMEOUT).json(&body);
    read(&http::send(request, Stake::Submit, MAX_INLINE_BYTES).await?)
}

/// Has a picture changed.
pub async fn edit(openai: &OpenAi, call: &Call) -> Result<Artifacts, ProviderError> {
    let request = openai.post(call, "/images/edits").timeout(IMAGE_TIMEOUT).multipart(form(call)?);
    read(&http::send(request, Stake::Submit, MAX_INLINE_BYTES).await?)
}

fn bad(why: &str) -> ProviderError {
    ProviderError::new(ErrorClass::BadInput, why)
}

/// What both endpoints are told, in the words of the model's family.
fn drawing(call: &Call) -> Result<Map<String, Value>, ProviderError> {
    let prompt = call.text("prompt").ok_or_else(|| bad("a picture needs a prompt"))?;
    let is_dalle = call.upstream_model.starts_with("dall-e");
    let mut body = Map::from_iter([
        ("model".to_owned(), json!(call.upstream_model)),
        ("prompt".to_owned(), json!(prompt)),
    ]);
    let quality = quality_of(call.text("quality").unwrap_or(DEFAULT_QUALITY), is_dalle);
    body.insert("quality".to_owned(), json!(quality));
    body.insert("size".to_owned(), json!(call.text("size").unwrap_or(DEFAULT_SIZE)));
    if let Some(n) = call.input.get("n").filter(|n| !n.is_null()) {
        body.insert("n".to_owned(), n.clone());
    }
    if is_dalle {
        body.insert("response_format".to_owned(), json!("b64_json"));
    }
    let own = if is_dalle { DALLE } else { GPT_IMAGE };
    for field in own {
        if let Some(value) = call.input.get(*field).filter(|value| !value.is_null()) {
            body.insert((*field).to_owned(), value.clone());
        }
    }
    Ok(body)
}

/// The family's word for a quality.
fn quality_of(word: &str, is_dalle: bool) -> &str {
    match (word, is_dalle) {
        ("standard", false) => "medium",
        ("hd", false) => "high",
        ("auto" | "low" | "medium", true) => "standard",
        ("high", true) => "hd",
        (word, _) => word,
    }
}

fn form(call: &Call) -> Result<Form, ProviderError> {
    let image = call.file("image").ok_or_else(|| bad("an edit needs a picture"))?;
    let mut form = Form::new().part("image", file_part(image)?);
    if let Some(mask) = call.file("mask") {
        form = form.part("mask", file_part(mask)?);
    }
    for (name, value) in drawing(call)? {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        form = form.text(name, text);
    }
    Ok(form)
}

#[derive(Debug, Deserialize)]
struct Drawn {
    #[serde(default)]
    data: Vec<Picture>,
    /// Of GPT-image: `input_tokens`, `output_tokens` and their details.
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Picture {
    #[serde(default)]
    b64_json: Option<String>,
    #[serde(default)]
    url: Option<String>,
    /// Of dall-e: what it made of the prompt.
    #[serde(default)]
    revised_prompt: Option<String>,
}

fn read(answer: &Answer) -> Result<Artifacts, ProviderError> {
    if !answer.status.is_success() {
        return Err(fault(answer));
    }
    gather(answer.json()?)
}

fn gather(drawn: Drawn) -> Result<Artifacts, ProviderError> {
    let broken = |why: &str| ProviderError::new(ErrorClass::Broken, why);
    let revised = drawn.data.iter().find_map(|picture| picture.revised_prompt.clone());
    let mut files = Vec::with_capacity(drawn.data.len());
    for picture in drawn.data {
        files.push(match (picture.b64_json, picture.url) {
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
    let extra = revised.map(|prompt| json!({ "revised_prompt": prompt }));
    Ok(Artifacts { files, usage: drawn.usage, extra, ..Artifacts::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_request(upstream_model: &str, input: Value, expected: Value) {
        let call = Call::new("image.generate", upstream_model, input, "job_1-1");
        assert_eq!(drawing(&call).map(Value::Object).map_err(|error| error.class), Ok(expected));
    }

    #[test]
    fn each_family_is_asked_in_its_own_words() {
        let input =
            json!({ "prompt": "a fox", "size": "1792x1024", "quality": "hd", "style": "vivid", "n": 1 });
        check_request(
            "gpt-image-2",
            input.clone(),
            json!({ "model": "gpt-image-2", "prompt": "a fox", "size": "1792x1024", "quality": "high", "n": 1 }),
        );
        check_request(
            "dall-e-3",
            input,
            json!({
                "model": "dall-e-3", "prompt": "a fox", "size": "1792x1024", "quality": "hd", "style": "vivid",
                "n": 1, "response_format": "b64_json",
            }),
        );
        check_request(
            "dall-e-3",
            json!({ "prompt": "a fox", "quality": "medium" }),
            json!({
                "model": "dall-e-3", "prompt": "a fox", "quality": "standard", "size": "1024x1024",
                "response_format": "b64_json",
            }),
        );
        check_request(
            "gpt-image-2",
            json!({ "prompt": "a fox" }),
            json!({ "model": "gpt-image-2", "prompt": "a fox", "quality": "medium", "size": "1024x1024" }),
        );
    }

    #[test]
    fn the_kind_of_file_and_the_background_are_told_to_the_family_that_has_a_choice() {
        let input = json!({
            "prompt": "a fox", "output_format": "webp", "output_compression": 40, "background": "transparent",
        });
        check_request(
            "gpt-image-2",
            input.clone(),
            json!({
                "model": "gpt-image-2", "prompt": "a fox", "quality": "medium", "size": "1024x1024",
                "output_format": "webp", "output_compression": 40, "background": "transparent",
            }),
        );
        check_request(
            "dall-e-3",
            input,
            json!({
                "model": "dall-e-3", "prompt": "a fox", "quality": "standard", "size": "1024x1024",
                "response_format": "b64_json",
            }),
        );
    }

    #[test]
    fn an_edit_without_a_picture_is_not_sent() {
        let call = Call::new("image.edit", "gpt-image-2", json!({ "prompt": "redder" }), "job_1-1");
        assert_eq!(form(&call).map(|_| ()).map_err(|error| error.class), Err(ErrorClass::BadInput));
    }

    fn check_answer(answer: Value, expected: Result<usize, ErrorClass>) {
        let found = gather(serde_json::from_value(answer.clone()).unwrap());
        assert_eq!(found.map(|made| made.files.len()).map_err(|error| error.class), expected, "{answer}");
    }

    #[test]
    fn a_200_is_judged_by_what_is_in_it() {
        check_answer(json!({ "data": [{ "b64_json": "AQEB" }, { "b64_json": "AQEB" }] }), Ok(2));
        check_answer(
            json!({ "data": [{ "url": "https://example.com/1.png", "revised_prompt": "x" }] }),
            Ok(1),
        );
        check_answer(json!({ "data": [] }), Err(ErrorClass::Broken));
        check_answer(json!({}), Err(ErrorClass::Broken));
        check_answer(json!({ "data": [{}] }), Err(ErrorClass::Broken));
        check_answer(json!({ "data": [{ "b64_json": "%%" }] }), Err(ErrorClass::Broken));
    }

    #[test]
    fn usage_and_the_revised_prompt_are_passed_on() {
        let answer = json!({ "data": [{ "b64_json": "AQEB", "revised_prompt": "a red fox" }], "usage": { "total_tokens": 9 } });
        let made = gather(serde_json::from_value(answer).unwrap()).unwrap();
        assert_eq!(made.extra, Some(json!({ "revised_prompt": "a red fox" })));
        assert_eq!(made.usage, Some(json!({ "total_tokens": 9 })));
    }
}
