//! What is asked of Kling: the kinds of work with their paths, and the body of a request for each.
//!
//! Kling wants numbers as strings in some fields and pictures as bare base64 in all. Deliberately absent: what comes back.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use crate::providers::{Call, ErrorClass, InputFile, ProviderError};

/// How long an effect lasts, in seconds: the one length that every effect has.
const EFFECT_SECONDS: &str = "5";

/// The kinds of work. Each has a path of its own, under which alone its tasks are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A video from words.
    Text,
    /// A video from its first frame.
    Image,
    /// An effect with whoever is in one or two pictures.
    Effect,
    /// Pictures from words.
    Picture,
}

impl Kind {
    /// The kind of work that the call is. Decided by the input and not by fetched files, which a lookup does not have.
    pub fn of(call: &Call) -> Self {
        let has = |field| call.input.get(field).is_some_and(|value| !value.is_null());
        match call.task.as_str() {
            "image.generate" => Self::Picture,
            _ if has("effect") => Self::Effect,
            _ if has("image") => Self::Image,
            _ => Self::Text,
        }
    }

    /// Its word in the references of tasks.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text2video",
            Self::Image => "image2video",
            Self::Effect => "effects",
            Self::Picture => "generations",
        }
    }

    /// The kind of that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Text, Self::Image, Self::Effect, Self::Picture].into_iter().find(|kind| kind.word() == word)
    }

    /// Where its tasks are, below the version.
    pub fn path(self) -> String {
        let shelf = if self == Self::Picture { "images" } else { "videos" };
        format!("{shelf}/{}", self.word())
    }
}

/// The body of a submit.
///
/// # Errors
/// [`ErrorClass::BadInput`] for a task that Kling is not wired for, and where something needed is missing.
pub fn request(kind: Kind, call: &Call) -> Result<Value, ProviderError> {
    let mut body = match (call.task.as_str(), kind) {
        ("image.generate", Kind::Picture) => picture(call)?,
        ("video.generate", Kind::Effect) => effect(call)?,
        ("video.generate", Kind::Text | Kind::Image) => video(call)?,
        (other, _) => return Err(bad(&format!("kling is not wired for {other}"))),
    };
    body.insert("external_task_id".to_owned(), json!(call.client_ref));
    if let Some(callback) = &call.callback_url {
        body.insert("callback_url".to_owned(), json!(callback));
    }
    Ok(body.into())
}

fn video(call: &Call) -> Result<Map<String, Value>, ProviderError> {
    let image = call.file("image");
    if image.is_none() && call.text("prompt").is_none() {
        return Err(bad("a video needs a prompt or a first frame"));
    }
    let mut body = model(call);
    copy(call, &["prompt", "negative_prompt", "mode"], &mut body);
    if let Some(seconds) = call.input.get("seconds").and_then(duration) {
        body.insert("duration".to_owned(), json!(seconds));
    }
    if call.input.get("audio") == Some(&Value::Bool(true)) {
        body.insert("sound".to_owned(), json!("on"));
    }
    if let Some(image) = image {
        body.insert("image".to_owned(), base64(image));
        if let Some(tail) = call.file("end_image") {
            body.insert("image_tail".to_owned(), base64(tail));
        }
    } else {
        // The shape follows the image where there is one.
        copy(call, &["aspect_ratio"], &mut body);
    }
    Ok(body)
}

/// One picture for the effects of one, and the left and the right one for those of two people.
fn effect(call: &Call) -> Result<Map<String, Value>, ProviderError> {
    let image = call.file("image").ok_or_else(|| bad("an effect needs a picture"))?;
    let mut input = model(call);
    copy(call, &["mode"], &mut input);
    let seconds = call.input.get("seconds").and_then(duration);
    input.insert("duration".to_owned(), json!(seconds.as_deref().unwrap_or(EFFECT_SECONDS)));
    match call.file("end_image") {
        Some(right) => input.insert("images".to_owned(), json!([base64(image), base64(right)])),
        None => input.insert("image".to_owned(), base64(image)),
    };
    Ok(Map::from_iter([
        ("effect_scene".to_owned(), json!(call.text("effect"))),
        ("input".to_owned(), input.into()),
    ]))
}

fn picture(call: &Call) -> Result<Map<String, Value>, ProviderError> {
    if call.text("prompt").is_none() {
        return Err(bad("a picture needs a prompt"));
    }
    let mut body = model(call);
    copy(call, &["prompt", "negative_prompt", "aspect_ratio"], &mut body);
    if let Some(count) = call.input.get("n").filter(|count| !count.is_null()) {
        body.insert("n".to_owned(), count.clone());
    }
    Ok(body)
}

fn model(call: &Call) -> Map<String, Value> {
    Map::from_iter([("model_name".to_owned(), json!(call.upstream_model))])
}

/// Texts that go by the same name on both sides.
fn copy(call: &Call, fields: &[&str], body: &mut Map<String, Value>) {
    for field in fields {
        if let Some(text) = call.text(field) {
            body.insert((*field).to_owned(), json!(text));
        }
    }
}

/// Bare base64: Kling refuses the `data:` prefix that everybody else wants.
fn base64(file: &InputFile) -> Value {
    json!(BASE64_STANDARD.encode(&file.bytes))
}

/// Kling wants the seconds as a string.
fn duration(seconds: &Value) -> Option<String> {
    match seconds {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn bad(why: &str) -> ProviderError {
    ProviderError::new(ErrorClass::BadInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call whose files are those that the input names.
    fn call(task: &str, input: Value) -> Call {
        let files = ["image", "end_image"].into_iter().filter(|field| input.get(field).is_some());
        let files = files.map(|field| InputFile {
            field: field.to_owned(),
            mime_type: "image/png".to_owned(),
            bytes: vec![if field == "image" { 1 } else { 2 }; 3].into(),
        });
        let files = files.collect();
        Call::new(task, "kling-v2-6", input, "job_1-1").with_files(files)
    }

    fn check(task: &str, input: Value, path: &str, expected: Value) {
        let call = call(task, input);
        let kind = Kind::of(&call);
        assert_eq!((kind.path().as_str(), request(kind, &call).unwrap()), (path, expected));
        assert_eq!(Kind::parse(kind.word()), Some(kind));
    }

    #[test]
    fn inputs_become_kling_requests() {
        let input = json!({"prompt": "a fox", "seconds": 5, "aspect_ratio": "16:9"});
        let expected = json!({
            "model_name": "kling-v2-6", "external_task_id": "job_1-1", "prompt": "a fox", "duration": "5",
            "aspect_ratio": "16:9",
        });
        check("video.generate", input.clone(), "videos/text2video", expected);
        let mut input = input;
        input["image"] = json!("https://example.com/fox.png");
        input["end_image"] = json!("https://example.com/den.png");
        let expected = json!({
            "model_name": "kling-v2-6", "external_task_id": "job_1-1", "prompt": "a fox", "duration": "5",
            "image": "AQEB", "image_tail": "AgIC",
        });
        check("video.generate", input, "videos/image2video", expected);
        let input = json!({"prompt": "a fox", "n": 2, "aspect_ratio": "1:1"});
        let expected = json!({
            "model_name": "kling-v2-6", "external_task_id": "job_1-1", "prompt": "a fox", "n": 2, "aspect_ratio": "1:1",
        });
        check("image.generate", input, "images/generations", expected);
    }

    #[test]
    fn an_effect_has_its_fields_inside() {
        let effect = |input: Value, inside: Value| {
            let expected =
                json!({"effect_scene": input["effect"], "external_task_id": "job_1-1", "input": inside});
            check("video.generate", input, "videos/effects", expected);
        };
        effect(
            json!({"effect": "squish", "image": "file_1"}),
            json!({"model_name": "kling-v2-6", "duration": "5", "image": "AQEB"}),
        );
        effect(
            json!({"effect": "hug", "image": "file_1", "end_image": "file_2", "seconds": 10}),
            json!({"model_name": "kling-v2-6", "duration": "10", "images": ["AQEB", "AgIC"]}),
        );
    }

    #[test]
    fn impossible_requests_are_not_sent() {
        for (task, input) in [
            ("video.generate", json!({})),
            ("video.generate", json!({"effect": "hug"})),
            ("image.generate", json!({})),
            ("text.chat", json!({"prompt": "hello"})),
        ] {
            let call = call(task, input);
            assert_eq!(request(Kind::of(&call), &call).unwrap_err().class, ErrorClass::BadInput, "{task}");
        }
    }
}
