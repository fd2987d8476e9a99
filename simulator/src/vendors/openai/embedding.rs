//! OpenAI embeddings: the same text has the same vector of length one, however often it is asked for.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Value, json};

use super::{chat_request::tokens, complain, identified, refuse_key, texts, voice};
use crate::{
    Sim, Simulator, answer,
    fault::Kind,
    fields::{Complaint, Fields, read_json},
    ledger::{Op, Provider, Visit},
    seed::Seed,
    wire,
};

const KNOWN: &[&str] = &["model", "input", "encoding_format", "dimensions", "user"];

/// A request, understood.
struct Order {
    model: String,
    texts: Vec<String>,
    dimensions: usize,
}

/// Embeds texts.
pub(super) async fn embed(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let order = match read_json(&headers, &body).and_then(|body| Order::read(&body)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Openai, Op::Submit, "embeddings", &order.texts.join(" "), None);
    sim.attend(&visit, voice, sim.embedding(&visit, &order)).await
}

impl Order {
    fn read(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(KNOWN)?;
        let model = fields.text("model", 256)?.to_owned();
        let longest = if model.contains("large") { 3072 } else { 1536 };
        fields.choice("encoding_format", &["float"])?;
        let dimensions = fields.integer("dimensions", 1..=longest)?.unwrap_or(longest);
        Ok(Self {
            model,
            texts: texts(fields.get("input"))?,
            dimensions: usize::try_from(dimensions).unwrap_or_default(),
        })
    }
}

impl Simulator {
    async fn embedding(&self, visit: &Visit, order: &Order) -> Response {
        let id = format!("embd-{}", self.tasks.next_id());
        self.accept(visit, Some(&id));
        let listed = |(index, text): (usize, &String)| json!({ "object": "embedding", "index": index, "embedding": vector(text, order.dimensions) });
        let mut data: Vec<_> = order.texts.iter().enumerate().map(listed).collect();
        // The order is told by `index`, not by the place.
        data.reverse();
        if self.strike(visit, Kind::NoResult).is_some() {
            data.pop();
        }
        if self.strike(visit, Kind::Empty).is_some() {
            data.iter_mut().for_each(|embedding| embedding["embedding"] = json!([]));
        }
        let read: usize = order.texts.iter().map(|text| tokens(text.chars().count())).sum();
        let body = json!({
            "object": "list", "data": data, "model": order.model,
            "usage": { "prompt_tokens": read, "total_tokens": read },
        });
        let response = identified(answer::json(StatusCode::OK, &body), &id);
        if self.strike(visit, Kind::Truncated).is_some() { wire::cut_short(response).await } else { response }
    }
}

/// The vector of a text.
fn vector(text: &str, dimensions: usize) -> Vec<f64> {
    let noise = Seed::of(text, "embedding").noise(dimensions);
    let raw: Vec<_> = noise.into_iter().map(|byte| f64::from(byte) - 127.5).collect();
    let length = raw.iter().map(|value| value * value).sum::<f64>().sqrt();
    raw.into_iter().map(|value| value / length).collect()
}
