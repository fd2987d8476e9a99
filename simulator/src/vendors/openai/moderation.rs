//! OpenAI moderations: a text is flagged for what it says of itself, as `[[violence]]` in it does.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{complain, identified, refuse_key, texts, voice};
use crate::{
    Sim, Simulator, answer,
    fault::Kind,
    fields::{Complaint, Fields, read_json},
    ledger::{Op, Provider, Visit},
    wire,
};

const CATEGORIES: &[&str] = &[
    "sexual",
    "sexual/minors",
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "violence",
    "violence/graphic",
];
/// What can be seen in a picture, too.
const SEEN: &[&str] =
    &["sexual", "self-harm", "self-harm/intent", "self-harm/instructions", "violence", "violence/graphic"];

/// Judges texts.
pub(super) async fn moderate(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let (model, texts) = match read_json(&headers, &body).and_then(|body| read(&body)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Openai, Op::Submit, "moderations", &texts.join(" "), None);
    sim.attend(&visit, voice, sim.moderation(&visit, &model, &texts)).await
}

fn read(body: &Value) -> Result<(String, Vec<String>), Complaint> {
    let fields = Fields::of(body, "body")?;
    fields.only(&["model", "input"])?;
    let model = fields.optional_text("model", 256)?.unwrap_or("omni-moderation-latest");
    Ok((model.to_owned(), texts(fields.get("input"))?))
}

impl Simulator {
    async fn moderation(&self, visit: &Visit, model: &str, texts: &[String]) -> Response {
        let id = format!("modr-{}", self.tasks.next_id());
        self.accept(visit, Some(&id));
        let mut results: Vec<_> = texts.iter().map(|text| judge(text)).collect();
        if self.strike(visit, Kind::NoResult).is_some() {
            results.clear();
        }
        let body = json!({ "id": id, "model": model, "results": results });
        let response = identified(answer::json(StatusCode::OK, &body), &id);
        if self.strike(visit, Kind::Truncated).is_some() { wire::cut_short(response).await } else { response }
    }
}

fn judge(text: &str) -> Value {
    let is_named = |category: &str| text.contains(&format!("[[{category}]]"));
    let each = |value: fn(bool, &str) -> Value| -> Map<String, Value> {
        CATEGORIES.iter().map(|name| ((*name).to_owned(), value(is_named(name), name))).collect()
    };
    json!({
        "flagged": CATEGORIES.iter().any(|category| is_named(category)),
        "categories": each(|named, _| json!(named)),
        "category_scores": each(|named, _| json!(if named { 0.97 } else { 0.0001 })),
        "category_applied_input_types": each(|_, name| match SEEN.contains(&name) {
            true => json!(["text", "image"]),
            false => json!(["text"]),
        }),
    })
}
