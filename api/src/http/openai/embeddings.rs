//! `POST /v1/embeddings`: texts as vectors, as numbers or as the bytes of numbers.
//!
//! OpenAI's own clients ask for bytes unless they are told otherwise. Deliberately absent: texts as numbers of tokens, which
//! only OpenAI's models could read.

use axum::{extract::State, response::Response};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::{
    described::{EmbeddingRequest, Embeddings},
    error::OpenAiError,
    failures::CallFailures,
    fit,
    form::{Form, Wish},
    run, unreadable,
};
use crate::{ApiError, Ctx, access::Caller, http::openapi::CallHeaders};

/// Where it is asked for.
const PATH: &str = "/v1/embeddings";
/// What this path makes, in the catalogue's word.
const TASK: &str = "text.embed";

/// Turns texts into vectors.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    params(CallHeaders),
    request_body(description = "As OpenAI has it; what is not known is ignored.", content = EmbeddingRequest),
    responses(
        (status = 200, description = "As OpenAI has it", body = Embeddings),
        CallFailures,
    )
)]
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, OpenAiError> {
    let encoding = Encoding::of(&form.fields);
    let wish = read(&ctx, &form);
    let ordered = form.order(&ctx, &caller, &headers, PATH, wish, &[]).await?;
    let encoding = encoding?;
    run::answer(&ctx, &ordered, move |_, job| async move {
        let output = job.output.as_ref().unwrap_or(&Value::Null);
        answer(&job.model, output, encoding).ok_or_else(|| unreadable(&job))
    })
    .await
}

fn read<'a>(ctx: &'a Ctx, form: &Form) -> Result<Wish<'a>, OpenAiError> {
    let model = run::model(ctx, fit::named(&form.fields, None)?, &[TASK])?;
    Encoding::of(&form.fields)?;
    check(&form.fields)?;
    Ok((model, fit::input(model, &form.fields, &[])))
}

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// As a list of numbers.
    Float,
    /// As the base64 of 32-bit floats, the lowest byte first.
    Base64,
}

impl Encoding {
    /// What a request asks for.
    ///
    /// # Errors
    /// 400 when there is no such encoding.
    fn of(fields: &Map<String, Value>) -> Result<Self, ApiError> {
        match fields.get("encoding_format").filter(|value| !value.is_null()) {
            None => Ok(Self::Float),
            Some(word) if word == "float" => Ok(Self::Float),
            Some(word) if word == "base64" => Ok(Self::Base64),
            Some(_) => {
                let message = "encoding_format is one of float, base64";
                Err(ApiError::bad_request("invalid_value", "encoding_format", message))
            }
        }
    }

    fn write(self, vector: &Value) -> Option<Value> {
        match self {
            Self::Float => Some(vector.clone()),
            Self::Base64 => {
                let numbers: Option<Vec<f64>> = vector.as_array()?.iter().map(Value::as_f64).collect();
                Some(BASE64_STANDARD.encode(bytes(&numbers?)).into())
            }
        }
    }
}

/// The vector as OpenAI's clients read it.
#[expect(clippy::cast_possible_truncation, reason = "the form has 32 bits for each number")]
fn bytes(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect()
}

/// Whether the texts are texts.
///
/// # Errors
/// 400 for lists of tokens.
fn check(fields: &Map<String, Value>) -> Result<(), ApiError> {
    let items = fields.get("input").and_then(Value::as_array);
    if items.into_iter().flatten().any(|item| item.is_number() || item.is_array()) {
        let message = "lists of tokens are not read here; send the text itself, or a list of texts";
        return Err(ApiError::bad_request("unsupported_value", "input", message));
    }
    Ok(())
}

/// The answer to a job that ended well; `None` when its output holds no vectors.
fn answer(model: &str, output: &Value, encoding: Encoding) -> Option<Value> {
    let vectors = output["embeddings"].as_array()?.iter().enumerate();
    let data: Option<Vec<_>> = vectors
        .map(|(index, vector)| {
            Some(json!({ "object": "embedding", "index": index, "embedding": encoding.write(vector)? }))
        })
        .collect();
    let count = |name: &str| output["usage"][name].as_u64();
    let prompt = count("prompt_tokens").unwrap_or_default();
    let usage = json!({ "prompt_tokens": prompt, "total_tokens": count("total_tokens").unwrap_or(prompt) });
    Some(json!({ "object": "list", "data": data?, "model": model, "usage": usage }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_numbers_or_the_bytes_of_numbers() {
        let output = json!({"embeddings": [[0.5, -1.0], [0.0, 2.0]], "usage": {"prompt_tokens": 3, "total_tokens": 3}});
        let floats = answer("m", &output, Encoding::Float).expect("an answer");
        assert_eq!(floats["data"][1], json!({"object": "embedding", "index": 1, "embedding": [0.0, 2.0]}));
        assert_eq!(floats["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
        let packed = answer("m", &output, Encoding::Base64).expect("an answer");
        // 0.5 is 0x3f000000, -1.0 is 0xbf800000.
        let expected = BASE64_STANDARD.encode([0, 0, 0, 0x3f, 0, 0, 0x80, 0xbf]);
        assert_eq!(packed["data"][0]["embedding"], json!(expected));
        assert_eq!(answer("m", &json!({"text": "no"}), Encoding::Float), None);
        assert_eq!(answer("m", &json!({"embeddings": [["a"]]}), Encoding::Base64), None);
    }

    #[test]
    fn tokens_and_odd_encodings_are_refused() {
        let fields = |value: Value| value.as_object().expect("fields").clone();
        for input in [json!([1, 2]), json!([[1, 2], [3]]), json!(["a", 1])] {
            assert!(check(&fields(json!({"input": input}))).is_err());
        }
        for input in [json!("a"), json!(["a", "b"]), json!(null)] {
            assert!(check(&fields(json!({"input": input}))).is_ok());
        }
        assert_eq!(Encoding::of(&fields(json!({"encoding_format": null}))).expect("none"), Encoding::Float);
        assert_eq!(
            Encoding::of(&fields(json!({"encoding_format": "base64"}))).expect("one"),
            Encoding::Base64
        );
        assert!(Encoding::of(&fields(json!({"encoding_format": "hex"}))).is_err());
    }
}
