//! Embeddings: texts as vectors, in the order of the texts.

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{OpenAi, fault};
use crate::providers::{
    Artifacts, Call, ErrorClass, ProviderError,
    http::{self, IMAGE_TIMEOUT, MAX_INLINE_BYTES, Stake},
};

#[derive(Debug, Deserialize)]
struct Embeddings {
    data: Vec<Embedding>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Embedding {
    index: usize,
    embedding: Vec<f64>,
}

/// Has texts turned into vectors: `embeddings` in the output has one list of numbers for each.
pub async fn embed(openai: &OpenAi, call: &Call) -> Result<Artifacts, ProviderError> {
    let texts = texts(call)?;
    let wanted = texts.len();
    let answer = http::send(request(openai, call, texts), Stake::Submit, MAX_INLINE_BYTES).await?;
    if !answer.status.is_success() {
        return Err(fault(&answer));
    }
    read(answer.json()?, wanted)
}

/// A list even of one, so that there is one form of answer.
fn texts(call: &Call) -> Result<Vec<Value>, ProviderError> {
    match call.input.get("input") {
        Some(Value::Array(texts)) => Ok(texts.clone()),
        Some(text @ Value::String(_)) => Ok(vec![text.clone()]),
        _ => Err(ProviderError::new(ErrorClass::BadInput, "there is no text to embed")),
    }
}

fn request(openai: &OpenAi, call: &Call, texts: Vec<Value>) -> RequestBuilder {
    let mut body = json!({"model": call.upstream_model, "input": texts, "encoding_format": "float"});
    if let Some(dimensions) = call.input.get("dimensions").filter(|value| !value.is_null()) {
        body["dimensions"] = dimensions.clone();
    }
    openai.post(call, "/embeddings").timeout(IMAGE_TIMEOUT).json(&body)
}

fn read(answer: Embeddings, wanted: usize) -> Result<Artifacts, ProviderError> {
    let mut data = answer.data;
    data.sort_by_key(|embedding| embedding.index);
    let is_whole = data.len() == wanted
        && data.iter().enumerate().all(|(n, each)| each.index == n && !each.embedding.is_empty());
    if !is_whole {
        let why = format!("there are not {wanted} vectors for as many texts");
        return Err(ProviderError::new(ErrorClass::Broken, why));
    }
    let vectors: Vec<_> = data.into_iter().map(|embedding| embedding.embedding).collect();
    let extra = Some(json!({"embeddings": vectors}));
    Ok(Artifacts { usage: answer.usage, extra, ..Artifacts::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: Value, wanted: usize, expected: Result<Value, ErrorClass>) {
        let answer = serde_json::from_value(json!({"data": data})).unwrap();
        let found = read(answer, wanted).map(|made| made.extra.unwrap()["embeddings"].clone());
        assert_eq!(found.map_err(|error| error.class), expected, "{data}");
    }

    #[test]
    fn vectors_come_in_the_order_of_their_texts_and_none_is_missing() {
        let one = |index: usize, value: f64| json!({"index": index, "embedding": [value, 0.5]});
        check(json!([one(1, 0.25), one(0, 0.1)]), 2, Ok(json!([[0.1, 0.5], [0.25, 0.5]])));
        check(json!([one(0, 0.1)]), 2, Err(ErrorClass::Broken));
        check(json!([one(0, 0.1), one(0, 0.1)]), 2, Err(ErrorClass::Broken));
        check(json!([{"index": 0, "embedding": []}]), 1, Err(ErrorClass::Broken));
        check(json!([]), 1, Err(ErrorClass::Broken));
    }

    #[test]
    fn one_text_is_a_list_of_one() {
        let call = |input: Value| Call::new("text.embed", "m", input, "job_1-1");
        assert_eq!(texts(&call(json!({"input": "a"}))).unwrap(), [json!("a")]);
        assert_eq!(texts(&call(json!({"input": ["a", "b"]}))).unwrap().len(), 2);
        assert_eq!(texts(&call(json!({}))).unwrap_err().class, ErrorClass::BadInput);
    }
}
