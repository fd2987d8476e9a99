//! What a proxy is asked: one path and body a task.

use serde_json::{Map, Value, json};

use super::Reference;
use crate::providers::{Call, ErrorClass, InputFile, ProviderError, http::data_url};

/// Parts of a button's id that tell that it makes no picture: films have a price of their own, a bookmark makes nothing.
const PICTURELESS: [&str; 2] = ["::animate_", "::BOOKMARK::"];

/// A request that may make work.
#[derive(Debug, PartialEq)]
pub(super) struct Order {
    /// Behind `/mj/`.
    pub path: &'static str,
    /// The JSON.
    pub body: Value,
}

impl Order {
    /// The first, and mostly only, submit of every task but `video.extend`.
    ///
    /// # Errors
    /// [`ErrorClass::BadInput`].
    pub fn of(call: &Call) -> Result<Self, ProviderError> {
        let (path, body) = match call.task.as_str() {
            "image.generate" => {
                ("submit/imagine", json!({ "prompt": prompt(call)?, "botType": call.upstream_model }))
            }
            "image.action" => ("submit/action", action(call)?),
            "image.blend" => ("submit/blend", blend(call)?),
            "image.describe" => ("submit/describe", json!({ "base64": picture(call, "image")? })),
            "image.face_swap" => (
                "insight-face/swap",
                json!({ "sourceBase64": picture(call, "source")?, "targetBase64": picture(call, "image")? }),
            ),
            "video.generate" => ("submit/video", film(call)?),
            task => return Err(bad(&format!("midjourney is not wired for {task}"))),
        };
        Ok(Self { path, body: signed(call, body) })
    }

    /// Takes the first clip of an earlier film further.
    ///
    /// # Errors
    /// [`ErrorClass::BadInput`] without an earlier film.
    pub fn extension(call: &Call, prompt: &str) -> Result<Self, ProviderError> {
        let film = Reference::read(parent(call)?).id;
        let mut body =
            json!({ "prompt": prompt, "taskId": film, "index": 0, "action": "extend", "batchSize": 1 });
        if let Some(motion) = call.text("motion") {
            body["motion"] = json!(motion);
        }
        Ok(Self { path: "submit/video", body: signed(call, body) })
    }

    /// The second step of a button that opens a window: words, a mask, or both.
    ///
    /// # Errors
    /// [`ErrorClass::BadInput`] when there is neither.
    pub fn window(call: &Call, id: &str) -> Result<Self, ProviderError> {
        if !answers_windows(call) {
            return Err(bad("this action needs a prompt or a mask"));
        }
        let mut body = json!({ "taskId": id });
        if let Some(prompt) = call.text("prompt") {
            body["prompt"] = json!(prompt);
        }
        if let Some(mask) = call.file("mask") {
            body["maskBase64"] = json!(data_url(mask));
        }
        Ok(Self { path: "submit/modal", body: signed(call, body) })
    }
}

/// The proxy's own reference of the job that this one follows up.
///
/// # Errors
/// [`ErrorClass::BadInput`] without one.
pub(super) fn parent(call: &Call) -> Result<&str, ProviderError> {
    call.parent_ref.as_deref().ok_or_else(|| bad("there is no earlier job to follow up"))
}

/// Whether the caller sent what windows ask for.
pub(super) fn answers_windows(call: &Call) -> bool {
    call.task == "image.action" && ["prompt", "mask"].iter().any(|field| call.input.get(field).is_some())
}

/// Whether pressing this button makes a picture.
pub(super) fn makes_pictures(custom_id: &str) -> bool {
    !PICTURELESS.iter().any(|part| custom_id.contains(part))
}

fn bad(why: &str) -> ProviderError {
    ProviderError::new(ErrorClass::BadInput, why)
}

/// The body with our name of the attempt and where to ring.
fn signed(call: &Call, mut body: Value) -> Value {
    body["state"] = json!(call.client_ref);
    if let Some(url) = &call.callback_url {
        body["notifyHook"] = json!(url);
    }
    body
}

/// The caller's words; the shape is one of Midjourney's parameters behind them, unless they hold one already.
fn prompt(call: &Call) -> Result<String, ProviderError> {
    let prompt = call.text("prompt").ok_or_else(|| bad("a picture needs a prompt"))?;
    Ok(match call.text("aspect_ratio") {
        Some(ratio) if !prompt.contains("--ar ") && !prompt.contains("--aspect ") => {
            format!("{prompt} --ar {ratio}")
        }
        _ => prompt.to_owned(),
    })
}

fn action(call: &Call) -> Result<Value, ProviderError> {
    let picture = Reference::read(parent(call)?).id;
    match call.text("action") {
        Some(action) if makes_pictures(action) => Ok(json!({ "taskId": picture, "customId": action })),
        _ => Err(bad("this action makes no picture")),
    }
}

fn blend(call: &Call) -> Result<Value, ProviderError> {
    let fields = ["image", "image_2", "image_3", "image_4", "image_5"];
    let pictures: Vec<_> =
        fields.iter().filter_map(|field| call.file(field)).map(data_url).map(Value::from).collect();
    if pictures.len() < 2 {
        return Err(bad("a blend needs two pictures"));
    }
    let mut body = Map::from_iter([("base64Array".to_owned(), Value::from(pictures))]);
    let dimensions = match call.text("aspect_ratio") {
        Some("2:3") => Some("PORTRAIT"),
        Some("1:1") => Some("SQUARE"),
        Some("3:2") => Some("LANDSCAPE"),
        _ => None,
    };
    if let Some(dimensions) = dimensions {
        body.insert("dimensions".to_owned(), json!(dimensions));
    }
    Ok(body.into())
}

/// One clip: it is what was ordered, where a proxy would make four. The resolution is part of the vendor's word for the model.
fn film(call: &Call) -> Result<Value, ProviderError> {
    let prompt = call.text("prompt").ok_or_else(|| bad("a film needs a prompt"))?;
    let lines = call.text("resolution").unwrap_or("480P").trim_end_matches(['p', 'P']);
    let kind = format!("{}_{lines}", call.upstream_model);
    let mut body = json!({ "prompt": prompt, "videoType": kind, "batchSize": 1 });
    for (field, theirs) in [("image", "image"), ("end_image", "endImage")] {
        if let Some(file) = call.file(field) {
            body[theirs] = json!(data_url(file));
        }
    }
    Ok(body)
}

fn picture(call: &Call, field: &str) -> Result<String, ProviderError> {
    let file: Option<&InputFile> = call.file(field);
    file.map(data_url).ok_or_else(|| bad(&format!("{field} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIXELS: &str = "data:image/png;base64,AQEB";

    fn call(task: &str, upstream_model: &str, input: Value, pictures: &[&str]) -> Call {
        let file = |field: &&str| InputFile {
            field: (*field).to_owned(),
            mime_type: "image/png".to_owned(),
            bytes: vec![1; 3].into(),
        };
        Call::new(task, upstream_model, input, "job_1-1").with_files(pictures.iter().map(file).collect())
    }

    fn check(call: &Call, path: &str, mut expected: Value) {
        expected["state"] = json!("job_1-1");
        let order = Order::of(call).unwrap();
        assert_eq!((order.path, order.body), (path, expected));
    }

    #[test]
    fn inputs_become_the_proxys_requests() {
        let imagine = |input| call("image.generate", "MID_JOURNEY", input, &[]);
        check(
            &imagine(json!({ "prompt": "a fox", "aspect_ratio": "16:9" })),
            "submit/imagine",
            json!({ "prompt": "a fox --ar 16:9", "botType": "MID_JOURNEY" }),
        );
        check(
            &imagine(json!({ "prompt": "a fox --ar 3:2", "aspect_ratio": "16:9" })),
            "submit/imagine",
            json!({ "prompt": "a fox --ar 3:2", "botType": "MID_JOURNEY" }),
        );
        check(
            &call("image.describe", "describe", json!({}), &["image"]),
            "submit/describe",
            json!({ "base64": PIXELS }),
        );
        check(
            &call("image.blend", "blend", json!({ "aspect_ratio": "3:2" }), &["image", "image_2", "image_3"]),
            "submit/blend",
            json!({ "base64Array": [PIXELS, PIXELS, PIXELS], "dimensions": "LANDSCAPE" }),
        );
        check(
            &call("image.face_swap", "insight-face", json!({ "consent": true }), &["image", "source"]),
            "insight-face/swap",
            json!({ "sourceBase64": PIXELS, "targetBase64": PIXELS }),
        );
        let input = json!({ "prompt": "it runs", "resolution": "720P" });
        check(
            &call("video.generate", "vid_1.1_i2v", input, &["image", "end_image"]),
            "submit/video",
            json!({ "prompt": "it runs", "videoType": "vid_1.1_i2v_720", "batchSize": 1, "image": PIXELS,
                    "endImage": PIXELS }),
        );
    }

    #[test]
    fn where_to_ring_is_told_when_it_is_known() {
        let mut ringing = call("image.describe", "describe", json!({}), &["image"]);
        ringing.callback_url = Some("https://kiln.example/ring".into());
        assert_eq!(Order::of(&ringing).unwrap().body["notifyHook"], "https://kiln.example/ring");
    }

    #[test]
    fn a_button_is_pressed_on_the_task_of_the_earlier_job() {
        let button = "MJ::JOB::upsample::1::a-b";
        let mut press = call("image.action", "action", json!({ "job": "job_0", "action": button }), &[]);
        assert_eq!(Order::of(&press).unwrap_err().class, ErrorClass::BadInput, "no earlier job");
        press.parent_ref = Some("42/answered".into());
        check(&press, "submit/action", json!({ "taskId": "42", "customId": button }));
        for picturless in ["MJ::JOB::animate_high::1::a-b::SOLO", "MJ::BOOKMARK::a-b"] {
            press.input["action"] = json!(picturless);
            assert_eq!(Order::of(&press).unwrap_err().class, ErrorClass::BadInput, "{picturless}");
        }
    }

    #[test]
    fn a_window_is_answered_with_what_the_caller_sent() {
        let press = |input, pictures| call("image.action", "action", input, pictures);
        let silent = press(json!({ "action": "x" }), &[]);
        assert_eq!(Order::window(&silent, "42").unwrap_err().class, ErrorClass::BadInput);
        let full = press(json!({ "action": "x", "prompt": "a hat", "mask": "data:…" }), &["mask"]);
        let order = Order::window(&full, "42").unwrap();
        let body = json!({ "taskId": "42", "prompt": "a hat", "maskBase64": PIXELS, "state": "job_1-1" });
        assert_eq!((order.path, order.body), ("submit/modal", body));
    }

    #[test]
    fn a_film_goes_on_from_the_earlier_one() {
        let mut extend = call("video.extend", "vid_1.1_i2v", json!({ "motion": "high" }), &[]);
        assert_eq!(Order::extension(&extend, "on").unwrap_err().class, ErrorClass::BadInput);
        extend.parent_ref = Some("42".into());
        let body = json!({
            "prompt": "on", "taskId": "42", "index": 0, "action": "extend", "batchSize": 1, "motion": "high",
            "state": "job_1-1",
        });
        assert_eq!(Order::extension(&extend, "on").unwrap().body, body);
    }

    #[test]
    fn an_input_without_its_pictures_is_refused() {
        for (task, pictures) in
            [("image.describe", &[][..]), ("image.blend", &["image"]), ("image.face_swap", &["image"])]
        {
            let error = Order::of(&call(task, "x", json!({}), pictures)).unwrap_err();
            assert_eq!(error.class, ErrorClass::BadInput, "{task}");
        }
    }
}
