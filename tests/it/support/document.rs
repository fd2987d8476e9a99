//! Whether the front door answers as its document says, asked of every answer that a test reads.
//!
//! Left out are paths and methods that the document does not have: tests ask for those on purpose.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use jsonschema::Validator;
use reqwest::Method;
use serde_json::Value;

use super::Answer;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(api::http::document()).expect("a document is JSON"));

/// By the text of their schemas.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Refuses an answer with a status, a type or a form that the document does not have.
pub fn check(method: &Method, path: &str, answer: &Answer) {
    let Some(operation) = operation(method, path) else { return };
    let asked = format!("{method} {path} → {}", answer.status);
    let said = operation["responses"].get(answer.status.as_str());
    let said = said.unwrap_or_else(|| panic!("{asked} is not in the document: {}", answer.json));
    let Some(contents) = resolve(said).get("content").and_then(Value::as_object) else { return };
    let kind = answer.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let content = contents.get(kind).unwrap_or_else(|| panic!("{asked} is {kind:?}: {}", answer.json));
    if kind == "application/json"
        && let Some(schema) = content.get("schema")
    {
        let validator = validator(schema);
        let wrong: Vec<_> = validator
            .iter_errors(&answer.json)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{asked} is not as the document says: {wrong:?}: {}", answer.json);
    }
}

/// The operation that answers, as the router would choose it.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let fitting = paths.iter().filter(|(template, _)| fits(template, path));
    let (_, item) = fitting.min_by_key(|(template, _)| template.matches('{').count())?;
    item.get(method.as_str().to_ascii_lowercase())
}

fn fits(template: &str, path: &str) -> bool {
    let (wanted, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    wanted.len() == given.len()
        && wanted.iter().zip(&given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
}

fn resolve(said: &'static Value) -> &'static Value {
    let refers = said.get("$ref").and_then(Value::as_str).and_then(|place| place.strip_prefix('#'));
    refers.map_or(said, |place| DOCUMENT.pointer(place).expect("what is referred to"))
}

fn validator(schema: &Value) -> Arc<Validator> {
    let mut known = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let build = || {
        let mut root = schema.clone();
        root["components"] = DOCUMENT["components"].clone();
        let built = jsonschema::options().should_validate_formats(true).build(&root);
        Arc::new(built.unwrap_or_else(|error| panic!("{schema} is no schema: {error}")))
    };
    known.entry(schema.to_string()).or_insert_with(build).clone()
}
