//! What each of Stability's tools is sent. Always a form, even without a file: JSON is refused.

use reqwest::multipart::Form;
use serde_json::Value;

use crate::providers::{Call, ErrorClass, ProviderError, http::file_part};

/// Results are asked for without loss and with transparency.
const OUTPUT_FORMAT: &str = "png";

/// Our field and theirs.
type Names = &'static [(&'static str, &'static str)];

const DRAWING: Names = &[
    ("prompt", "prompt"),
    ("negative_prompt", "negative_prompt"),
    ("aspect_ratio", "aspect_ratio"),
    ("style", "style_preset"),
    ("seed", "seed"),
];
const ENLARGING: Names = &[("prompt", "prompt"), ("creativity", "creativity"), ("seed", "seed")];
const RELIGHTING: Names =
    &[("prompt", "background_prompt"), ("light_from", "light_source_direction"), ("seed", "seed")];
const IMAGE: Names = &[("image", "image")];

/// The path below `stable-image/` that makes the call's task by its upstream model, which is the last part of that path, or the name
/// of one of the models behind `generate/sd3`.
pub fn path(call: &Call) -> Result<String, ProviderError> {
    let tool = call.upstream_model.as_str();
    Ok(match call.task.as_str() {
        "image.generate" if is_sd3(tool) => "generate/sd3".to_owned(),
        "image.generate" => format!("generate/{tool}"),
        "image.upscale" => format!("upscale/{tool}"),
        "image.remove_background" | "image.replace_background" | "image.erase" => format!("edit/{tool}"),
        other => return Err(bad(&format!("stability is not wired for {other}"))),
    })
}

fn is_sd3(model: &str) -> bool {
    model.starts_with("sd3")
}

/// The call as a form.
pub fn form(call: &Call) -> Result<Form, ProviderError> {
    let mut form = Form::new();
    for (name, text) in texts(call)? {
        form = form.text(name, text);
    }
    for (ours, theirs) in files(call) {
        if let Some(file) = call.file(ours) {
            form = form.part(*theirs, file_part(file)?);
        }
    }
    Ok(form)
}

fn files(call: &Call) -> Names {
    match call.task.as_str() {
        "image.generate" => &[],
        "image.erase" => &[("image", "image"), ("mask", "mask")],
        "image.replace_background" => &[("image", "subject_image"), ("background", "background_reference")],
        _ => IMAGE,
    }
}

/// Every text of the form.
fn texts(call: &Call) -> Result<Vec<(&'static str, String)>, ProviderError> {
    let has_file = |field: &str| call.file(field).is_some();
    let tool = call.upstream_model.as_str();
    let names: Names = match call.task.as_str() {
        "image.generate" => DRAWING,
        // A fast one takes nothing but the picture; the others are told what it shows.
        "image.upscale" if tool == "fast" => &[],
        "image.upscale" => ENLARGING,
        "image.replace_background" => RELIGHTING,
        "image.erase" => &[("seed", "seed")],
        _ => &[],
    };
    let needs_prompt = names.contains(&("prompt", "prompt"));
    if needs_prompt && call.text("prompt").is_none() {
        return Err(bad(&format!("{tool} needs a prompt")));
    }
    if call.task != "image.generate" && !has_file("image") {
        return Err(bad(&format!("{tool} needs a picture")));
    }
    if call.task == "image.replace_background" && call.text("prompt").is_none() && !has_file("background") {
        return Err(bad("a new background needs a prompt or a picture"));
    }
    let mut texts = vec![("output_format", OUTPUT_FORMAT.to_owned())];
    if is_sd3(tool) {
        texts.push(("model", tool.to_owned()));
    }
    for (ours, theirs) in names {
        match call.input.get(*ours) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => texts.push((theirs, text.clone())),
            Some(other) => texts.push((theirs, other.to_string())),
        }
    }
    Ok(texts)
}

fn bad(why: &str) -> ProviderError {
    ProviderError::new(ErrorClass::BadInput, why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::providers::InputFile;

    fn call(task: &str, tool: &str, input: Value, fields: &[&str]) -> Call {
        let file = |field: &&str| InputFile {
            field: (*field).to_owned(),
            mime_type: "image/png".to_owned(),
            bytes: b"\x89PNG\r\n\x1a\n".to_vec().into(),
        };
        Call::new(task, tool, input, "job_1-1").with_files(fields.iter().map(file).collect())
    }

    fn check(call: &Call, expected_path: &str, expected: &[(&str, &str)]) {
        let made = texts(call).unwrap();
        let found: Vec<_> = made.iter().map(|(name, text)| (*name, text.as_str())).collect();
        assert_eq!(path(call).unwrap(), expected_path);
        assert_eq!(found, expected, "{expected_path}");
        assert!(form(call).is_ok());
    }

    #[test]
    fn each_tool_is_sent_what_it_knows() {
        let input = json!({ "prompt": "a fox", "style": "anime", "seed": 7, "aspect_ratio": "16:9" });
        let drawn = [("prompt", "a fox"), ("aspect_ratio", "16:9"), ("style_preset", "anime"), ("seed", "7")];
        let png = ("output_format", "png");
        check(
            &call("image.generate", "core", input.clone(), &[]),
            "generate/core",
            &[&[png][..], &drawn].concat(),
        );
        check(
            &call("image.generate", "sd3.5-large", input, &[]),
            "generate/sd3",
            &[&[png, ("model", "sd3.5-large")][..], &drawn].concat(),
        );
        check(
            &call(
                "image.upscale",
                "conservative",
                json!({ "prompt": "a fox", "creativity": 0.35 }),
                &["image"],
            ),
            "upscale/conservative",
            &[png, ("prompt", "a fox"), ("creativity", "0.35")],
        );
        check(
            &call("image.upscale", "fast", json!({ "prompt": "a fox" }), &["image"]),
            "upscale/fast",
            &[png],
        );
        let input = json!({ "prompt": "a beach", "light_from": "above" });
        check(
            &call("image.replace_background", "replace-background-and-relight", input, &["image"]),
            "edit/replace-background-and-relight",
            &[png, ("background_prompt", "a beach"), ("light_source_direction", "above")],
        );
        check(&call("image.erase", "erase", json!({}), &["image", "mask"]), "edit/erase", &[png]);
    }

    #[test]
    fn impossible_requests_are_not_sent() {
        for call in [
            call("image.generate", "core", json!({}), &[]),
            call("image.upscale", "fast", json!({}), &[]),
            call("image.upscale", "creative", json!({}), &["image"]),
            call("image.replace_background", "replace-background-and-relight", json!({}), &["image"]),
        ] {
            assert_eq!(texts(&call).unwrap_err().class, ErrorClass::BadInput, "{}", call.upstream_model);
        }
        assert!(path(&call("video.generate", "core", json!({}), &[])).is_err());
    }
}
