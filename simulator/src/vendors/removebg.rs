//! remove.bg: a picture goes in, its subject comes out on transparent ground.
//!
//! Only the multipart form is read; the vendor also takes an address or base64 in a form or in JSON. Only PNG is made here, and
//! the picture that comes back shows nothing of the one that was sent, but has its size.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    Sim, Simulator,
    answer::{self, with_header},
    content::png,
    fault::Kind,
    fields::Complaint,
    form::{Form, Picture},
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    seed::Seed,
    vendors::openai::WRONG_KEY,
    wire,
};

/// For the front page.
pub(crate) const INDEX: &str = "\
  remove.bg POST /removebg/v1.0/removebg               (multipart, png)
           GET  /removebg/v1.0/account
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/removebg/v1.0/removebg", post(cut_out))
        .route("/removebg/v1.0/account", get(account))
}

/// Every part that the vendor knows besides its files.
const KNOWN: &[&str] = &[
    "size",
    "type",
    "type_level",
    "format",
    "channels",
    "roi",
    "crop",
    "crop_margin",
    "scale",
    "position",
    "bg_color",
    "bg_image_url",
    "add_shadow",
    "semitransparency",
];
const SIZES: &[&str] = &["preview", "small", "regular", "medium", "hd", "4k", "full", "50MP", "auto"];
/// Pixels of a preview, a quarter of a megapixel.
const PREVIEW_PIXELS: u64 = 250_000;
/// Pixels of a picture at full size.
const FULL_PIXELS: u64 = 25_000_000;

/// An order, understood.
struct Order {
    prompt: String,
    picture: Picture,
    is_preview: bool,
}

/// Cuts out the subject of a picture.
async fn cut_out(State(sim): State<Sim>, request: Request) -> Response {
    if let Some(refusal) = refuse_key(request.headers()) {
        return refusal;
    }
    let accepted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let wants_json = accepted.is_some_and(|accepted| accepted.starts_with("application/json"));
    let order = match Form::receive(request).await.and_then(|form| Order::read(&form)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Removebg, Op::Submit, "removebg", &order.prompt, None);
    sim.attend(&visit, voice, sim.subject(&visit, &order, wants_json)).await
}

/// Tells what is left on the account.
async fn account(headers: HeaderMap) -> Response {
    let credits = json!({ "total": 200, "subscription": 150, "payg": 50, "enterprise": 0 });
    let attributes = json!({ "credits": credits, "api": { "free_calls": 50, "sizes": "all" } });
    refuse_key(&headers)
        .unwrap_or_else(|| answer::json(StatusCode::OK, &json!({ "data": { "attributes": attributes } })))
}

impl Order {
    fn read(form: &Form) -> Result<Self, Complaint> {
        form.only(KNOWN, &["image_file", "bg_image_file"])?;
        let size = form.choice("size", SIZES)?.unwrap_or("preview");
        form.choice("type", &["auto", "person", "product", "car", "animal", "graphic", "transportation"])?;
        form.choice("type_level", &["none", "1", "2", "latest"])?;
        form.choice("format", &["auto", "png"])?;
        form.choice("channels", &["rgba", "alpha"])?;
        for name in ["crop", "add_shadow", "semitransparency"] {
            form.choice(name, &["true", "false"])?;
        }
        let picture = form.picture("image_file")?;
        if picture.pixels() > FULL_PIXELS {
            return Err(Complaint::of("image_file", "image has too many megapixels for this size"));
        }
        let is_preview = ["preview", "small", "regular"].contains(&size);
        Ok(Self { prompt: picture.name(), picture, is_preview })
    }

    fn size(&self) -> (u32, u32) {
        let mut parts = 1;
        while self.is_preview && self.picture.pixels() / (parts * parts) > PREVIEW_PIXELS {
            parts += 1;
        }
        let side = |pixels: u32| (pixels / u32::try_from(parts).unwrap_or(1)).max(2) & !1;
        (side(self.picture.width), side(self.picture.height))
    }
}

impl Simulator {
    async fn subject(&self, visit: &Visit, order: &Order, wants_json: bool) -> Response {
        let id = self.tasks.next_id().to_string();
        let seed = Seed::of(&order.prompt, &id);
        let size = self.sized(visit, order.size());
        let Ok(picture) = png::draw(seed, size).await else { return voice(&Trouble::Broken(None)) };
        self.accept(visit, Some(&id));
        let picture = if self.strike(visit, Kind::NoResult).is_some() { Vec::new() } else { picture };
        if wants_json {
            let data = json!({
                "result_b64": STANDARD.encode(self.spoil_inline(visit, &seed, picture)),
                "foreground_top": 0, "foreground_left": 0,
                "foreground_width": size.0, "foreground_height": size.1,
            });
            return answer::json(StatusCode::OK, &json!({ "data": data }));
        }
        let artefact = self.spoil(visit, &seed, picture);
        let mut response = answer::bytes(StatusCode::OK, "image/png", artefact.bytes);
        let charged = if order.is_preview { "0.25" } else { "1" };
        for (name, value) in [
            ("x-width", size.0.to_string()),
            ("x-height", size.1.to_string()),
            ("x-max-width", order.picture.width.to_string()),
            ("x-max-height", order.picture.height.to_string()),
            ("x-type", "other".to_owned()),
            ("x-credits-charged", charged.to_owned()),
        ] {
            response = with_header(response, name, &value);
        }
        if artefact.cut { wire::cut_short(response).await } else { response }
    }
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match headers.get("x-api-key").and_then(|key| key.to_str().ok()) {
        None | Some("" | WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

fn error(status: StatusCode, code: &str, title: &str) -> Response {
    let error = json!({ "title": title, "code": code, "detail": "" });
    answer::json(status, &json!({ "errors": [error] }))
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "removebg: bad request");
    error(StatusCode::BAD_REQUEST, "invalid_parameter", &complaint.text)
}

/// How remove.bg says no. It has no content policy of its own.
fn voice(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::RateLimited(hint) => {
            let refusal = error(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "Rate limit exceeded");
            match hint.seconds() {
                Some(seconds) => with_header(refusal, "retry-after", &seconds.to_string()),
                None => refusal,
            }
        }
        Trouble::Quota(_) => {
            error(StatusCode::PAYMENT_REQUIRED, "insufficient_credits", "Insufficient credits")
        }
        Trouble::Auth => error(StatusCode::FORBIDDEN, "auth_failed", "API Key invalid"),
        Trouble::BadInput(flavour) if flavour.as_deref() == Some("foreground") => error(
            StatusCode::BAD_REQUEST,
            "unknown_foreground",
            "Could not identify foreground in image. For details and recommendations see the documentation.",
        ),
        Trouble::BadInput(_) | Trouble::Refused => {
            error(StatusCode::BAD_REQUEST, "invalid_parameter", "Invalid parameter given")
        }
        Trouble::Broken(status) => error(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "internal_error",
            "An internal error has occurred",
        ),
        Trouble::Missing => error(StatusCode::NOT_FOUND, "not_found", "Not found"),
    }
}
