//! From a request in OpenAI's words to the input of a model of ours.
//!
//! What the model's schema knows is taken over, under its name there; all else is passed over, as OpenAI's clients send
//! more than any one model reads. Forms hold nothing but texts, so what the schema wants as a number is read as one.
//! Deliberately absent: whether the input is good, which the schema says, in our words; [`in_their_words`] puts those into
//! the caller's.

use serde_json::{Map, Value};

use super::error::OpenAiError;
use crate::ApiError;
use shared::catalog::Model;

/// Fields that are called otherwise here: OpenAI's name first, then ours.
pub type Names = &'static [(&'static str, &'static str)];

/// What `fields` of a request come to as an input of `model`.
pub fn input(model: &Model, fields: &Map<String, Value>, names: Names) -> Map<String, Value> {
    let known = model.schema["properties"].as_object();
    let taken = known.into_iter().flatten().filter_map(|(field, schema)| {
        let value = fields.get(name_of(field, names)).filter(|value| !value.is_null())?;
        Some((field.clone(), read_as(schema, value)))
    });
    taken.collect()
}

/// The name of the model that a request asks, or else `default`.
///
/// # Errors
/// 400 when it names none.
pub fn named<'a>(fields: &'a Map<String, Value>, default: Option<&'a str>) -> Result<&'a str, ApiError> {
    match fields.get("model") {
        Some(Value::String(name)) => Ok(name),
        Some(Value::Null) | None => {
            let missing =
                || ApiError::bad_request("missing_field", "model", "the field \"model\" is missing");
            default.ok_or_else(missing)
        }
        Some(_) => Err(ApiError::bad_request("invalid_type", "model", "model is the name of a model")),
    }
}

/// An error about an input, with its fields named as in the request that it was made from.
pub fn in_their_words(error: OpenAiError, names: Names) -> OpenAiError {
    names.iter().fold(error, |error, (theirs, ours)| error.renamed(ours, theirs))
}

fn name_of(ours: &str, names: Names) -> &str {
    names.iter().find(|(_, field)| *field == ours).map_or(ours, |(theirs, _)| *theirs)
}

/// A value as the schema wants it, where a text stands for one; else as it is, for the schema to refuse.
fn read_as(schema: &Value, value: &Value) -> Value {
    let Some(text) = value.as_str().map(str::trim) else { return value.clone() };
    let read = match schema["type"].as_str() {
        Some("integer") => text.parse::<i64>().ok().map(Value::from),
        Some("number") => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from),
        Some("boolean") => text.parse::<bool>().ok().map(Value::from),
        _ => None,
    };
    read.unwrap_or_else(|| value.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::catalog::Catalog;

    use super::*;

    const SPEECH: Names = &[("input", "text"), ("response_format", "format")];

    fn check(model: &str, fields: Value, expected: Value) {
        let catalog = Catalog::load().expect("the catalogue");
        let fields = fields.as_object().expect("fields");
        let made = input(catalog.get(model).expect("a model"), fields, SPEECH);
        assert_eq!(Value::from(made), expected, "{model}");
    }

    #[test]
    fn what_the_model_knows_is_taken_under_its_name_and_the_rest_is_passed_over() {
        check(
            "tts-1",
            json!({"model": "tts-1", "input": "hi", "voice": "nova", "response_format": "opus", "user": "u1", "text": "no"}),
            json!({"text": "hi", "voice": "nova", "format": "opus"}),
        );
        check("tts-1", json!({"input": "hi", "voice": null}), json!({"text": "hi"}));
    }

    #[test]
    fn a_text_is_read_as_what_the_schema_wants() {
        check(
            "sora-2",
            json!({"prompt": "12", "seconds": "8", "aspect_ratio": "16:9"}),
            json!({"prompt": "12", "seconds": 8, "aspect_ratio": "16:9"}),
        );
        check("sora-2", json!({"seconds": 8}), json!({"seconds": 8}));
        check("sora-2", json!({"seconds": "long"}), json!({"seconds": "long"}));
        check("tts-1", json!({"speed": "1.5"}), json!({"speed": 1.5}));
        check("tts-1", json!({"speed": "NaN"}), json!({"speed": "NaN"}));
    }

    #[test]
    fn errors_speak_of_the_request_and_not_of_the_input() {
        let catalog = Catalog::load().expect("the catalogue");
        let model = catalog.get("tts-1").expect("a model");
        let told = |input: Value| {
            let invalid = model.check(&input).expect_err("a bad input");
            in_their_words(ApiError::from(invalid).into(), SPEECH).body()["error"].clone()
        };
        let missing = told(json!({}));
        assert_eq!(
            (&missing["param"], &missing["message"]),
            (&json!("input"), &json!("tts-1 needs the field \"input\""))
        );
        let other = told(json!({"text": "hi", "format": "mp9"}));
        assert_eq!(other["param"], "response_format");
        assert!(
            other["message"].as_str().is_some_and(|text| text.starts_with("response_format ")),
            "{other}"
        );
        assert_eq!(told(json!({"text": "hi", "speed": 9}))["param"], "speed");
    }

    #[test]
    fn a_model_is_named_or_the_usual_one() {
        let found = |fields: Value, default: Option<&str>| {
            let fields = fields.as_object().expect("fields").clone();
            named(&fields, default).map(str::to_owned).map_err(|error| error.code)
        };
        assert_eq!(found(json!({"model": "tts-1"}), None), Ok("tts-1".to_owned()));
        assert_eq!(found(json!({"model": null}), Some("sora-2")), Ok("sora-2".to_owned()));
        assert_eq!(found(json!({}), None), Err("missing_field"));
        assert_eq!(found(json!({"model": 5}), Some("sora-2")), Err("invalid_type"));
    }
}
