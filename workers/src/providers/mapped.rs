//! What the adapters of aggregators share. An aggregator runs thousands of models, each with names of its own for what it is
//! given and what it gives back, so the names are in the route's [`Mapping`](shared::catalog::Mapping) and not in code.
//!
//! Going in, the input is put into those names. Coming back, files are looked for in whatever shape the model answers with.
//! Deliberately absent: models that answer with text, which have better homes.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::{Artifact, Call, ErrorClass, ProviderError};

/// How models say that the content, not the request, was the trouble. Each has words of its own; these are common.
const REFUSALS: [&str; 5] =
    ["nsfw", "content policy", "content_policy", "content moderation", "flagged as sensitive"];

/// The input in the names of the vendor's model; `file` gives what is sent for a fetched file by the field that named it.
///
/// # Errors
/// [`ErrorClass::Auth`] when the route has no names, or the model would answer with text: both are our configuration's fault.
pub(super) fn input(
    call: &Call,
    file: impl Fn(&str) -> Option<String>,
) -> Result<Map<String, Value>, ProviderError> {
    if call.mapping.is_empty() {
        let why = format!("no route in the catalogue has names for {}", call.upstream_model);
        return Err(ProviderError::new(ErrorClass::Auth, why));
    }
    if keys_of(&call.task).is_empty() {
        let why = format!("aggregators are not wired for {}", call.task);
        return Err(ProviderError::new(ErrorClass::Auth, why));
    }
    Ok(call.mapping.apply(&call.input, file))
}

/// Where models that answer with an object put the files of this task; none for tasks that make no file.
fn keys_of(task: &str) -> &'static [&'static str] {
    match task.split('.').next() {
        Some("image") => &["images", "image"],
        Some("video") => &["videos", "video"],
        Some("audio") => &["audios", "audio", "audio_file"],
        _ => &[],
    }
}

/// The files in a model's answer, in order: an address, a list, an object with a `url`, or an object that holds these.
pub(super) fn files(output: &Value, task: &str) -> Vec<Artifact> {
    match output {
        Value::String(text) => file(text).into_iter().collect(),
        Value::Array(items) => items.iter().flat_map(|item| files(item, task)).collect(),
        Value::Object(fields) => {
            if let Some(url) = fields.get("url") {
                return files(url, task);
            }
            // Beside the files of the task there may be others, such as a mask or the picture that was given.
            let ours = keys_of(task).iter().filter_map(|key| fields.get(*key));
            let found: Vec<_> = ours.flat_map(|value| files(value, task)).collect();
            if found.is_empty() {
                fields.values().flat_map(|value| files(value, task)).collect()
            } else {
                found
            }
        }
        _ => Vec::new(),
    }
}

/// The file behind one text, if it is an address or a data URL.
fn file(text: &str) -> Option<Artifact> {
    if text.starts_with("https://") || text.starts_with("http://") {
        return Some(Artifact::Remote { url: text.to_owned(), headers: Vec::new() });
    }
    let (kind, body) = text.strip_prefix("data:")?.split_once(',')?;
    let bytes = BASE64_STANDARD.decode(body).ok().filter(|_| kind.ends_with(";base64"))?;
    Some(Artifact::Inline(bytes.into()))
}

/// Whether a model's words say that its content policy was the reason.
pub(super) fn is_refusal(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    REFUSALS.iter().any(|refusal| words.contains(refusal))
}

/// Whether this is one plain part of a path, which leads nowhere else: names, ids, versions.
pub(super) fn is_plain(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !part.is_empty() && part.bytes().all(is_word) && part.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;
    use shared::catalog::Catalog;

    use super::*;
    use crate::providers::{InputFile, fal, replicate};

    /// A call as the catalogue's route of this model by this vendor makes it, with a tiny picture in each of `pictures`.
    pub(in crate::providers) fn call(model: &str, vendor: &str, input: Value, pictures: &[&str]) -> Call {
        let catalog = Catalog::load().unwrap();
        let model = catalog.get(model).unwrap();
        let route = model.routes.iter().find(|route| route.provider == vendor).unwrap();
        let picture = |field: &&str| InputFile {
            field: (*field).to_owned(),
            mime_type: "image/png".to_owned(),
            bytes: vec![1; 3].into(),
        };
        let call = Call::new(&model.task, &route.upstream_model, input, "job_1-1")
            .with_files(pictures.iter().map(picture).collect());
        Call { mapping: route.mapping.clone(), ..call }
    }

    #[test]
    fn every_route_by_an_aggregator_has_names() {
        let catalog = Catalog::load().unwrap();
        for model in catalog.models() {
            for route in &model.routes {
                let needs = [replicate::VENDOR.name, fal::VENDOR.name].contains(&route.provider.as_str());
                assert!(!needs || !route.mapping.is_empty(), "{} by {}", model.id, route.provider);
            }
        }
    }

    #[test]
    fn a_route_without_names_is_our_fault() {
        let mut nameless = call("flux", "fal", json!({"prompt": "a fox"}), &[]);
        nameless.mapping = std::sync::Arc::default();
        assert_eq!(input(&nameless, |_| None).unwrap_err().class, ErrorClass::Auth);
        let chat = Call { task: "text.chat".to_owned(), ..call("flux", "fal", json!({"prompt": "a"}), &[]) };
        assert_eq!(input(&chat, |_| None).unwrap_err().class, ErrorClass::Auth);
    }

    fn check_files(output: Value, expected: &[&str]) {
        let shown = |file: Artifact| match file {
            Artifact::Remote { url, .. } => url,
            Artifact::Inline(bytes) => format!("{} bytes", bytes.len()),
        };
        let found: Vec<_> = files(&output, "image.generate").into_iter().map(shown).collect();
        assert_eq!(found, expected, "{output}");
    }

    #[test]
    fn files_are_found_in_every_shape() {
        check_files(json!("https://x/1.png"), &["https://x/1.png"]);
        check_files(json!(["https://x/1.png", "https://x/2.png"]), &["https://x/1.png", "https://x/2.png"]);
        check_files(json!({"url": "https://x/1.png", "width": 8}), &["https://x/1.png"]);
        check_files(json!({"images": [{"url": "https://x/1.png"}], "seed": 7}), &["https://x/1.png"]);
        check_files(
            json!({"mask_image": {"url": "https://x/m"}, "image": {"url": "https://x/1"}}),
            &["https://x/1"],
        );
        check_files(json!({"drawing": "https://x/1.svg", "log": "ok"}), &["https://x/1.svg"]);
        check_files(json!("data:image/png;base64,AQEB"), &["3 bytes"]);
        for nothing in
            [json!(null), json!([]), json!(""), json!({"images": []}), json!({"image": null}), json!("done")]
        {
            check_files(nothing, &[]);
        }
    }

    #[test]
    fn only_plain_parts_go_into_paths() {
        for good in ["fal-ai", "v1.1", "abc_9"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a?b", "a#b", "a%2fb", "a b", "ä"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
