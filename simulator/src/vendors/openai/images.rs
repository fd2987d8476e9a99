//! OpenAI images: drawn from words, or changed after a picture. Two families with little in common: GPT-image answers in base64 and
//! counts tokens, dall-e answers in base64 or with an address and counts nothing.
//!
//! dall-e makes only PNG here, and nothing is streamed. Variations are absent, as they are from every model that is left.

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use image::ImageFormat;
use serde_json::{Value, json};

use super::images_request::{Family, Order};
use crate::{
    Sim, Simulator,
    answer::{self, root_url},
    clock,
    content::still::Still,
    fault::Kind,
    fields::{Complaint, read_json},
    files,
    form::Form,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    task::{Ending, Makes, Task},
    vendors::openai::{self, chat_request::CHARS_PER_TOKEN, complain, identified, refuse_key},
};

/// Input tokens of one picture sent along.
const TOKENS_PER_INPUT_PICTURE: usize = 323;

/// Draws pictures from words.
pub(crate) async fn generate(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let order = read_json(&headers, &body).and_then(|body| Order::of_words(&body));
    sim.serve_images("images.generations", order, &headers).await
}

/// Changes a picture.
pub(crate) async fn edit(State(sim): State<Sim>, request: Request) -> Response {
    let headers = request.headers().clone();
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let order = Form::receive(request).await.and_then(|form| Order::of_picture(&form));
    sim.serve_images("images.edits", order, &headers).await
}

impl Simulator {
    async fn serve_images(
        &self,
        call: &str,
        order: Result<Order, Complaint>,
        headers: &HeaderMap,
    ) -> Response {
        let order = match order {
            Ok(order) => order,
            Err(complaint) if complaint.field.as_deref() == Some("model") => {
                return openai::voice(&Trouble::BadInput(Some("model".to_owned())));
            }
            Err(complaint) => return complain(&complaint),
        };
        let client_ref = headers.get("x-client-request-id").and_then(|value| value.to_str().ok());
        let visit = Visit::new(Provider::Openai, Op::Submit, call, &order.prompt, client_ref);
        let voice = if order.family == Family::GptImage { voice_of_gpt } else { openai::voice };
        self.attend(&visit, voice, self.images(&visit, &order, &root_url(headers))).await
    }

    async fn images(&self, visit: &Visit, order: &Order, root: &str) -> Response {
        let number = self.tasks.next_id();
        let id = format!("req_{number}");
        let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
        let task = Task::new(number, visit, (side(order.size.0), side(order.size.1)), 0).making(Makes::Png);
        let task = Task { ending: Some(Ending::Succeeded), issued: 1, ..task };
        let is_hollow = self.strike(visit, Kind::NoResult).is_some();
        let mut data = Vec::new();
        for n in (0..order.count).filter(|_| !is_hollow) {
            let mut image = json!({});
            if order.inline {
                let seed = task.seed(n);
                let still = Still {
                    size: self.sized(visit, order.size),
                    format: order.format,
                    is_transparent: order.is_transparent,
                };
                let Ok(picture) = still.draw(seed).await else {
                    return openai::voice(&Trouble::Broken(None));
                };
                image["b64_json"] = json!(STANDARD.encode(self.spoil_inline(visit, &seed, picture)));
            } else {
                image["url"] = json!(files::nth_url(root, &task, task.issued, n));
            }
            if order.family == Family::Dalle {
                image["revised_prompt"] = json!(format!("A detailed picture: {}", order.prompt));
            }
            data.push(image);
        }
        if !order.inline && self.tasks.add(task).await.is_err() {
            return openai::voice(&Trouble::Broken(None));
        }
        self.accept(visit, Some(&id));
        identified(answer::json(StatusCode::OK, &order.reply(&data)), &id)
    }
}

impl Order {
    fn reply(&self, data: &[Value]) -> Value {
        let mut body = json!({ "created": clock::now_secs(), "data": data });
        if self.family == Family::GptImage {
            let words = self.prompt.chars().count().div_ceil(CHARS_PER_TOKEN);
            let pictures = self.pictures * TOKENS_PER_INPUT_PICTURE;
            let made = usize::try_from(self.count).unwrap_or(1) * self.tokens;
            body["usage"] = json!({
                "input_tokens": words + pictures, "output_tokens": made, "total_tokens": words + pictures + made,
                "input_tokens_details": { "text_tokens": words, "image_tokens": pictures },
            });
            body["size"] = json!(format!("{}x{}", self.size.0, self.size.1));
            let background = if self.is_transparent { "transparent" } else { "opaque" };
            let format = match self.format {
                ImageFormat::Jpeg => "jpeg",
                ImageFormat::WebP => "webp",
                _ => "png",
            };
            for (name, value) in
                [("background", background), ("output_format", format), ("quality", &self.quality)]
            {
                body[name] = json!(value);
            }
        }
        body
    }
}

/// How GPT-image says no: as all of OpenAI, but for what its moderation stops.
fn voice_of_gpt(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::Refused => openai::error(
            StatusCode::BAD_REQUEST,
            "image_generation_user_error",
            Some("moderation_blocked"),
            None,
            "Your request was rejected by the safety system.",
        ),
        other => openai::voice(other),
    }
}
