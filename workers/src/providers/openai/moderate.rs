//! Moderation: which categories of harm a text falls into, and how surely. OpenAI bills nothing for it.
//!
//! The vendor's own `flagged` drifts between its versions, so the scores are told beside it. Deliberately absent: pictures,
//! which the task's input does not have.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{OpenAi, fault};
use crate::providers::{
    Artifacts, Call, ErrorClass, ProviderError,
    http::{self, ASK_TIMEOUT, MAX_JSON_BYTES, Stake},
};

#[derive(Debug, Deserialize)]
struct Moderation {
    results: Vec<Judgement>,
}

/// What is said of one text.
#[derive(Debug, Deserialize)]
struct Judgement {
    flagged: bool,
    categories: Value,
    category_scores: Value,
    /// For each category, whether texts or pictures were looked at. Older models do not say.
    #[serde(default)]
    category_applied_input_types: Option<Value>,
}

impl Judgement {
    fn into_json(self) -> Value {
        let mut told = json!({
            "flagged": self.flagged, "categories": self.categories, "category_scores": self.category_scores,
        });
        if let Some(types) = self.category_applied_input_types {
            told["category_applied_input_types"] = types;
        }
        told
    }
}

/// Has texts judged: `results` in the output has one judgement for each, and `flagged` says whether any is.
pub async fn moderate(openai: &OpenAi, call: &Call) -> Result<Artifacts, ProviderError> {
    let texts = match call.input.get("input") {
        Some(Value::Array(texts)) => texts.clone(),
        Some(text @ Value::String(_)) => vec![text.clone()],
        _ => return Err(ProviderError::new(ErrorClass::BadInput, "there is no text to judge")),
    };
    let body = json!({"model": call.upstream_model, "input": texts});
    let request = openai.post(call, "/moderations").timeout(ASK_TIMEOUT).json(&body);
    let answer = http::send(request, Stake::Submit, MAX_JSON_BYTES).await?;
    if !answer.status.is_success() {
        return Err(fault(&answer));
    }
    read(answer.json()?, texts.len())
}

fn read(answer: Moderation, wanted: usize) -> Result<Artifacts, ProviderError> {
    if answer.results.len() != wanted {
        let why = format!("{} judgements of {wanted} texts", answer.results.len());
        return Err(ProviderError::new(ErrorClass::Broken, why));
    }
    let flagged = answer.results.iter().any(|judgement| judgement.flagged);
    let results: Vec<_> = answer.results.into_iter().map(Judgement::into_json).collect();
    let extra = Some(json!({"flagged": flagged, "results": results}));
    Ok(Artifacts { extra, ..Artifacts::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_its_judgement() {
        let judgement = |flagged: bool| json!({"flagged": flagged, "categories": {"hate": flagged}, "category_scores": {"hate": 0.5}});
        let answer = |results: Value| serde_json::from_value(json!({"results": results})).unwrap();
        let made = read(answer(json!([judgement(false), judgement(true)])), 2).unwrap().extra.unwrap();
        assert_eq!(made["flagged"], true);
        assert_eq!(
            made["results"][1],
            json!({"flagged": true, "categories": {"hate": true}, "category_scores": {"hate": 0.5}})
        );
        assert_eq!(read(answer(json!([])), 1).unwrap_err().class, ErrorClass::Broken);
        let mut typed = judgement(true);
        typed["category_applied_input_types"] = json!({"hate": ["text"]});
        assert_eq!(read(answer(json!([typed])), 1).unwrap().extra.unwrap()["results"][0], typed);
    }
}
