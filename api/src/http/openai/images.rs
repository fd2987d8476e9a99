//! `POST /v1/images/generations` and `/v1/images/edits`: pictures drawn from words, and pictures changed.
//!
//! Pictures come as their model makes them, inside the answer or as signed addresses. Which kind of file that is and what is behind
//! what is drawn can be said where the model has a choice. Deliberately absent: pictures while they are drawn. What cannot be had is
//! refused and not passed over, for a caller would pay for something else.

use axum::{extract::State, response::Response};
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::{
    content::{self, Part},
    described::{ImageEditForm, ImageRequest, Images},
    error::OpenAiError,
    failures::CallFailures,
    fit,
    form::{Form, Wish},
    run, shape,
};
use crate::{ApiError, Ctx, ErrorBody, access::Caller, http::openapi::CallHeaders};
use shared::{
    account,
    catalog::{Catalog, Model},
    job::{Job, StoredFile},
};

/// Where pictures are asked for that are drawn from words, and those that are changed.
const GENERATE_PATH: &str = "/v1/images/generations";
const EDIT_PATH: &str = "/v1/images/edits";
/// What is drawn from words, and what is changed, in the catalogue's words.
const GENERATE: &str = "image.generate";
const EDIT: &str = "image.edit";

/// The model of a request that names none.
const MODEL: &str = "gpt-image-1";
/// Models whose pictures come inside the answer unless told otherwise, as at OpenAI: names that begin so.
const INLINE: &str = "gpt-image";

/// Files of an edit.
const FILES: [&str; 2] = ["image", "mask"];

/// Fields that ask for what cannot be had of a model that does not know them, each with the only values that change nothing.
const FIXED: [(&str, &[&str]); 4] = [
    ("background", &["auto", "opaque"]),
    ("output_format", &["png"]),
    ("output_compression", &["100"]),
    ("stream", &["false"]),
];

/// Fields in which `auto` leaves it to the model.
const LEFT: [&str; 2] = ["quality", "background"];

/// Draws pictures.
#[utoipa::path(
    post,
    path = "/v1/images/generations",
    params(CallHeaders),
    request_body(description = "As OpenAI has it; what is not known is ignored.", content = ImageRequest),
    responses(
        (status = 200, description = "As OpenAI has it", body = Images),
        CallFailures,
        (status = 404, description = "`model_not_found`; of a request sent again, `file_not_found`", body = ErrorBody),
    )
)]
pub async fn generate(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, OpenAiError> {
    make(&ctx, &caller, &headers, form, (GENERATE_PATH, GENERATE)).await
}

/// Changes a picture.
#[utoipa::path(
    post,
    path = "/v1/images/edits",
    params(CallHeaders),
    request_body(
        description = "As OpenAI has it; what is not known is ignored.",
        content = ImageEditForm,
        content_type = "multipart/form-data"
    ),
    responses(
        (status = 200, description = "As OpenAI has it", body = Images),
        CallFailures,
        (status = 404, description = "`model_not_found`; of a request sent again, `file_not_found`", body = ErrorBody),
        (
            status = 413,
            description = "`request_too_large`, `file_too_large` or `upload_quota_exceeded`",
            body = ErrorBody
        ),
    )
)]
pub async fn edit(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, OpenAiError> {
    make(&ctx, &caller, &headers, form, (EDIT_PATH, EDIT)).await
}

async fn make(
    ctx: &Ctx,
    caller: &account::Caller,
    headers: &HeaderMap,
    form: Form,
    (path, task): (&'static str, &str),
) -> Result<Response, OpenAiError> {
    let delivery = Delivery::of(&form.fields);
    let wish = read(ctx, &form, task);
    let ordered = form.order(ctx, caller, headers, path, wish, &[]).await?;
    let delivery = delivery?;
    run::answer(ctx, &ordered, move |ctx, job| async move { show(&ctx, &job, delivery).await }).await
}

fn read<'a>(ctx: &'a Ctx, form: &Form, task: &str) -> Result<Wish<'a>, OpenAiError> {
    let named = fit::named(&form.fields, Some(MODEL))?;
    let model = run::model(ctx, &name_for(&ctx.catalog, named, task), &[task])?;
    Delivery::of(&form.fields)?;
    check(model, &form.fields)?;
    let mut fields = form.fields.clone();
    for field in FILES {
        let Some(file) = form.file(field)? else { continue };
        if model.schema["properties"].get(field).is_none() {
            return Err(OpenAiError::unsupported(field, &model.id));
        }
        fields.insert(field.to_owned(), file);
    }
    let mut input = fit::input(model, &fields, &[]);
    leave_auto(&mut input);
    shape::picture(model, &fields, &mut input)?;
    Ok((model, input))
}

/// The pictures of a job, and what is said of them.
async fn show(ctx: &Ctx, job: &Job, delivery: Delivery) -> Result<Vec<Part>, OpenAiError> {
    let files = content::of(ctx, job).await?;
    let first = files.first().ok_or_else(content::gone)?;
    let revised = job.output.as_ref().and_then(|output| output.get("revised_prompt"));
    let mut text = Writing::begin(frame(&ctx.catalog, job, first));
    for (n, file) in files.iter().enumerate() {
        // The one that the vendor told is that of the first.
        let revised = revised.filter(|_| n == 0);
        if delivery.is_inline(&job.model) {
            text.add_file(file, revised);
        } else {
            text.add_address(&ctx.storage.signed_url(&file.storage_key).await?, revised);
        }
    }
    Ok(text.end())
}

/// An answer that is being written: its frame, and its pictures as the last field in it.
struct Writing {
    parts: Vec<Part>,
    /// What is written since the last file.
    text: String,
    is_first: bool,
}

impl Writing {
    fn begin(frame: Map<String, Value>) -> Self {
        let mut text = Value::from(frame).to_string();
        text.truncate(text.len() - 1);
        text += ",\"data\":[";
        Self { parts: Vec::new(), text, is_first: true }
    }

    fn add_address(&mut self, url: &str, revised: Option<&Value>) {
        self.open(revised);
        self.text += &format!("\"url\":{}}}", json!(url));
    }

    fn add_file(&mut self, file: &StoredFile, revised: Option<&Value>) {
        self.open(revised);
        self.text += "\"b64_json\":";
        self.parts.push(Part::Text(std::mem::take(&mut self.text)));
        self.parts.push(Part::File(file.storage_key.clone()));
        self.text.push('}');
    }

    fn open(&mut self, revised: Option<&Value>) {
        self.text += if self.is_first { "{" } else { ",{" };
        self.is_first = false;
        if let Some(prompt) = revised {
            self.text += &format!("\"revised_prompt\":{prompt},");
        }
    }

    fn end(mut self) -> Vec<Part> {
        self.text += "]}";
        self.parts.push(Part::Text(self.text));
        self.parts
    }
}

/// How pictures are to be handed over, where a request says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// As base64 inside the answer.
    Inline,
    /// As addresses.
    Address,
    /// As OpenAI does it with the model of that name.
    Usual,
}

impl Delivery {
    /// What a request asks for.
    ///
    /// # Errors
    /// 400 when there is no such form.
    fn of(fields: &Map<String, Value>) -> Result<Self, ApiError> {
        match fields.get("response_format").filter(|value| !value.is_null()) {
            None => Ok(Self::Usual),
            Some(word) if word == "b64_json" => Ok(Self::Inline),
            Some(word) if word == "url" => Ok(Self::Address),
            Some(_) => {
                let message = "response_format is one of url, b64_json";
                Err(ApiError::bad_request("invalid_value", "response_format", message))
            }
        }
    }

    /// Whether pictures of this model come inside the answer.
    fn is_inline(self, model: &str) -> bool {
        match self {
            Self::Inline => true,
            Self::Address => false,
            Self::Usual => model.starts_with(INLINE),
        }
    }
}

/// The name of the model for `task`. Editing is a model of its own here: `gpt-image-1` edits as `gpt-image-1-edit`.
fn name_for(catalog: &Catalog, named: &str, task: &str) -> String {
    let editor = format!("{named}-edit");
    let draws = catalog.get(named).is_some_and(|model| model.task != EDIT);
    let edits = |name: &str| catalog.get(name).is_some_and(|model| model.task == EDIT);
    if task == EDIT && draws && edits(&editor) { editor } else { named.to_owned() }
}

/// Refuses what cannot be had.
///
/// # Errors
/// 400 naming the field.
fn check(model: &Model, fields: &Map<String, Value>) -> Result<(), ApiError> {
    let is_known = |field: &str| model.schema["properties"].get(field).is_some();
    for (field, accepted) in FIXED.into_iter().filter(|(field, _)| !is_known(field)) {
        let Some(value) = fields.get(field).filter(|value| !value.is_null()) else { continue };
        let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !accepted.contains(&word.as_str()) {
            let message = format!("{field} can only be {} here; leave it out", accepted.join(" or "));
            return Err(ApiError::bad_request("unsupported_value", field, message));
        }
    }
    let says = |field: &str, word: &str| fields.get(field).is_some_and(|value| value == word);
    if says("background", "transparent") && says("output_format", "jpeg") {
        let message = "a JPEG has no transparent background: say output_format png or webp";
        return Err(ApiError::bad_request("invalid_value", "background", message));
    }
    let is_one = |n: &Value| n.as_u64() == Some(1) || n.as_str().is_some_and(|n| n.trim() == "1");
    match fields.get("n").filter(|n| !n.is_null()) {
        Some(n) if !is_known("n") && !is_one(n) => {
            let message = format!("{} makes one picture at a time", model.id);
            Err(ApiError::bad_request("unsupported_value", "n", message))
        }
        _ => Ok(()),
    }
}

/// What is left to the model is not said.
fn leave_auto(input: &mut Map<String, Value>) {
    input.retain(|field, value| !LEFT.contains(&field.as_str()) || value != "auto");
}

/// What an answer says beside its pictures, of which `first` is one.
fn frame(catalog: &Catalog, job: &Job, first: &StoredFile) -> Map<String, Value> {
    let mut frame = Map::from_iter([("created".to_owned(), json!(job.created_at.timestamp()))]);
    if let Some((width, height)) = first.width.zip(first.height) {
        frame.insert("size".to_owned(), json!(format!("{width}x{height}")));
    }
    if let Some(format) = first.mime_type.strip_prefix("image/") {
        frame.insert("output_format".to_owned(), json!(format));
    }
    let model = catalog.known(&job.model);
    for field in LEFT {
        if let Some(said) = model.and_then(|model| model.wanted(&job.input).field(field)) {
            frame.insert(field.to_owned(), said.clone());
        }
    }
    // What others than GPT-image count has other names, which OpenAI's clients do not know.
    let usage = job.output.as_ref().and_then(|output| output.get("usage"));
    if let Some(usage) = usage.filter(|usage| usage.get("input_tokens").is_some()) {
        frame.insert("usage".to_owned(), usage.clone());
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().expect("fields").clone()
    }

    #[test]
    fn pictures_come_as_openais_models_hand_them_over_unless_told_otherwise() {
        for (model, asked, expected) in [
            ("gpt-image-1", json!(null), Some(true)),
            ("gpt-image-1-edit", json!(null), Some(true)),
            ("dall-e-3", json!(null), Some(false)),
            ("gpt-image-1", json!("url"), Some(false)),
            ("dall-e-3", json!("b64_json"), Some(true)),
            ("dall-e-3", json!("svg"), None),
        ] {
            let found = Delivery::of(&fields(json!({"response_format": asked}))).ok();
            assert_eq!(found.map(|delivery| delivery.is_inline(model)), expected, "{model} {asked}");
        }
    }

    #[test]
    fn the_name_of_a_model_that_draws_is_also_that_of_the_one_that_edits() {
        let catalog = Catalog::load().expect("the catalogue");
        for (named, task, expected) in [
            ("gpt-image-1", GENERATE, "gpt-image-1"),
            ("gpt-image-1", EDIT, "gpt-image-1-edit"),
            ("gpt-image-1-edit", EDIT, "gpt-image-1-edit"),
            ("nano-banana", EDIT, "nano-banana-edit"),
            // It has none that edits; that it draws is said to the caller.
            ("dall-e-3", EDIT, "dall-e-3"),
            ("dall-e-9", EDIT, "dall-e-9"),
        ] {
            assert_eq!(name_for(&catalog, named, task), expected, "{named} {task}");
        }
    }

    #[test]
    fn an_answer_is_json_with_files_where_their_base64_belongs() {
        let file = StoredFile {
            storage_key: "outputs/x/0".into(),
            preview_key: None,
            mime_type: "image/png".into(),
            size_bytes: 9,
            width: Some(4),
            height: Some(3),
            duration_seconds: None,
        };
        let mut text = Writing::begin(Map::from_iter([("created".to_owned(), json!(5))]));
        text.add_file(&file, Some(&json!("a \"red\" fox")));
        text.add_address("https://example.com/1.png", None);
        let written: String = text
            .end()
            .into_iter()
            .map(|part| match part {
                Part::Text(text) => text,
                Part::File(key) => json!(key).to_string(),
            })
            .collect();
        let read: Value = serde_json::from_str(&written).expect("JSON");
        let expected = json!({
            "created": 5,
            "data": [
                {"revised_prompt": "a \"red\" fox", "b64_json": "outputs/x/0"},
                {"url": "https://example.com/1.png"},
            ],
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn what_cannot_be_had_is_refused_and_what_changes_nothing_is_not() {
        let catalog = Catalog::load().expect("the catalogue");
        let check = |named: &str, asked: Value| {
            check(catalog.get(named).expect("a model"), &fields(asked.clone())).is_ok()
        };
        for asked in [
            json!({"background": "transparent", "output_format": "jpeg"}),
            json!({"stream": true}),
            json!({"stream": "true"}),
        ] {
            assert!(!check("gpt-image-1", asked.clone()), "{asked}");
        }
        for asked in [
            json!({"background": "auto", "output_format": "png", "stream": false}),
            json!({"background": "transparent", "output_format": "webp"}),
            json!({"n": 3}),
        ] {
            assert!(check("gpt-image-1", asked.clone()), "{asked}");
        }
        for asked in [
            json!({"background": "transparent"}),
            json!({"output_format": "webp"}),
            json!({"output_compression": 50}),
        ] {
            assert!(!check("dall-e-3", asked.clone()), "{asked}");
        }
        let nothing = json!({"background": "opaque", "output_format": "png", "output_compression": 100});
        assert!(check("dall-e-3", nothing));
        assert!(!check("dall-e-3", json!({"n": 2})));
        assert!(check("dall-e-3", json!({"n": "1"})));
    }
}
