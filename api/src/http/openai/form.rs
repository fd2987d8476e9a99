//! Requests as OpenAI's clients send them: JSON, or a form with files in it.
//!
//! Fields are kept as they come, so that one nobody knows does no harm. A form names lists by `name[]` and what is in an
//! object by `name[key]`; both become what they stand for. Its files go into storage while they arrive, as uploads of the
//! account like any other; those of a request that comes to nothing are thrown away at once. A hash of it all tells a repeat
//! from a misuse of an Idempotency-Key, however the form was cut into parts.

use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use http::HeaderMap;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    error::OpenAiError,
    fit::{self, Names},
    run::{self, Ordered},
    sent::{self, Sent},
};
use crate::{
    ApiError, Ctx, access,
    form::Form as Arriving,
    http::order::NewJob,
    request::{Body, BodyLimit, JOB_BODY_LIMIT_BYTES, content_type},
};
use shared::{account::Caller, catalog::Model, id::JobId};

/// What a form says to be.
const FORM: &str = "multipart/form-data";

/// What was sent.
#[derive(Debug)]
pub struct Form {
    /// Everything but files.
    pub fields: Map<String, Value>,
    /// Files, in their order.
    sent: Vec<Sent>,
    /// SHA-256 of all that was said, whatever the order and the spacing.
    hash: Vec<u8>,
}

/// What a request comes to: a model, and its input.
pub type Wish<'a> = (&'a Model, Map<String, Value>);

impl Form {
    /// What was said, by fields and files.
    pub fn new(fields: Map<String, Value>, sent: Vec<Sent>) -> Self {
        let contents: Vec<_> = sent.iter().map(|file| json!([file.field, file.digest])).collect();
        let hash = Sha256::digest(json!([fields, contents]).to_string()).to_vec();
        Self { fields, sent, hash }
    }

    /// The same about a job that the path names: the same words about another one are another request.
    #[must_use]
    pub fn about(self, job: JobId) -> Self {
        let hash = Sha256::new().chain_update(&self.hash).chain_update(job.0.as_bytes()).finalize().to_vec();
        Self { hash, ..self }
    }

    /// The id of the one file of a field, as an input names it.
    ///
    /// # Errors
    /// 400 when there are several.
    pub fn file(&self, field: &str) -> Result<Option<Value>, OpenAiError> {
        let mut files = self.sent.iter().filter(|file| file.field == field);
        match (files.next(), files.next()) {
            (None, _) => Ok(None),
            (Some(file), None) => Ok(Some(json!(file.id))),
            (Some(_), Some(_)) => {
                let message = format!("there is more than one file in {field}, and only one is taken here");
                Err(OpenAiError::bad_request("unsupported_value", field, message))
            }
        }
    }

    /// Hands in what the request to `path` comes to. Files that no new job needs are thrown away, all of them where it comes to
    /// nothing.
    ///
    /// # Errors
    /// That of `wish`, or as [`run::order`], in the words of the request.
    pub async fn order(
        self,
        ctx: &Ctx,
        caller: &Caller,
        headers: &HeaderMap,
        path: &'static str,
        wish: Result<Wish<'_>, OpenAiError>,
        names: Names,
    ) -> Result<Ordered, OpenAiError> {
        let (model, input) = match wish {
            Ok(wish) => wish,
            Err(refusal) => {
                sent::throw_away(ctx, &self.sent).await;
                return Err(refusal);
            }
        };
        let is_needed = |file: &Sent| input.values().any(|value| *value == json!(file.id));
        let (needed, rest): (Vec<_>, Vec<_>) = self.sent.into_iter().partition(is_needed);
        let new = NewJob::of(&model.id, input.into());
        let ordered = run::order(ctx, caller, headers, path, new, self.hash).await;
        if ordered.as_ref().map_or(true, Ordered::is_repeat) {
            sent::throw_away(ctx, &needed).await;
        }
        sent::throw_away(ctx, &rest).await;
        ordered.map_err(|refusal| fit::in_their_words(refusal, names))
    }
}

impl FromRequest<Ctx> for Form {
    type Rejection = OpenAiError;

    async fn from_request(mut request: Request, ctx: &Ctx) -> Result<Self, OpenAiError> {
        if content_type(request.headers()) == FORM {
            let caller = request.extensions().get::<access::Caller>().cloned();
            let access::Caller(caller) = caller.ok_or_else(ApiError::internal)?;
            let form = Arriving::open(request, &ctx.process, ctx.waits).await?;
            return Ok(sent::receive(ctx, caller.account, form).await?);
        }
        // JSON is read into memory as a whole, so the room for files is not for it.
        DefaultBodyLimit::max(JOB_BODY_LIMIT_BYTES).apply(&mut request);
        request.extensions_mut().insert(BodyLimit(JOB_BODY_LIMIT_BYTES));
        let body = <Body<Map<String, Value>> as FromRequest<Ctx>>::from_request(request, ctx).await?;
        Ok(Self { fields: body.value, sent: Vec::new(), hash: body.hash })
    }
}

/// Puts a text of a form where its name says.
pub fn fill_in(fields: &mut Map<String, Value>, name: &str, text: String) {
    let text = Value::String(text);
    match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((list, "")) => {
            if let Value::Array(items) = fields.entry(list).or_insert_with(|| json!([])) {
                items.push(text);
            }
        }
        Some((object, key)) => {
            if let Value::Object(inner) = fields.entry(object).or_insert_with(|| json!({})) {
                inner.insert(key.to_owned(), text);
            }
        }
        None => drop(fields.insert(name.to_owned(), text)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, test_runner::Config};
    use shared::id::FileId;

    use super::*;

    fn file(field: &str, digest: u8) -> Sent {
        Sent { field: field.into(), id: FileId::new(), storage_key: "uploads/x".into(), digest: vec![digest] }
    }

    #[test]
    fn lists_and_objects_of_a_form_become_what_they_stand_for() {
        let mut fields = Map::new();
        for (name, text) in [
            ("model", "whisper-1"),
            ("timestamp_granularities[]", "word"),
            ("timestamp_granularities[]", "segment"),
            ("input_reference[image_url]", "https://example.com/a.png"),
            // What contradicts itself is not taken twice.
            ("model[]", "other"),
            ("odd]", "x"),
        ] {
            fill_in(&mut fields, name, text.to_owned());
        }
        let expected = json!({
            "model": "whisper-1", "timestamp_granularities": ["word", "segment"],
            "input_reference": {"image_url": "https://example.com/a.png"}, "odd]": "x",
        });
        assert_eq!(Value::from(fields), expected);
    }

    /// Every text in what was filled in.
    fn texts(value: &Value) -> Vec<&str> {
        match value {
            Value::String(text) => vec![text],
            Value::Array(items) => items.iter().flat_map(texts).collect(),
            Value::Object(fields) => fields.values().flat_map(texts).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn no_name_of_a_field_breaks_a_form_and_nothing_in_it_is_made_up() {
        let name = prop_oneof![any::<String>(), "[ab]{0,2}(\\[[ab]{0,2}\\]?){0,2}\\]?", "[a\\[\\]]{0,6}"];
        let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
        proptest!(config, |(names in vec(name, 1..8))| {
            let mut fields = Map::new();
            for (number, name) in names.iter().enumerate() {
                fill_in(&mut fields, name, number.to_string());
            }
            let filled = Value::from(fields);
            let mut found = texts(&filled);
            let count = found.len();
            found.sort_unstable();
            found.dedup();
            prop_assert!(found.len() == count && count <= names.len(), "{filled}");
            let is_sent = |text: &&str| text.parse::<usize>().is_ok_and(|number| number < names.len());
            prop_assert!(found.iter().all(is_sent), "{filled}");
            // A plain name means itself, and the last word on it counts.
            let (last, name) = (names.len() - 1, &names[names.len() - 1]);
            if !name.ends_with(']') {
                prop_assert_eq!(&filled[name], &json!(last.to_string()));
            }
        });
    }

    #[test]
    fn the_hash_tells_what_was_said_and_not_how() {
        let hash = |pairs: &[(&str, &str)], files: Vec<Sent>| {
            let fields = pairs.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
            Form::new(fields, files).hash
        };
        let first = hash(&[("a", "1"), ("b", "2")], vec![file("file", 1)]);
        assert_eq!(first, hash(&[("b", "2"), ("a", "1")], vec![file("file", 1)]));
        assert_ne!(first, hash(&[("a", "1"), ("b", "2")], vec![file("file", 2)]));
        assert_ne!(first, hash(&[("a", "1"), ("b", "3")], vec![file("file", 1)]));
        let (one, other) = (JobId::new(), JobId::new());
        let about = |job| Form::new(Map::new(), Vec::new()).about(job).hash;
        assert!(about(one) == about(one) && about(one) != about(other));
    }

    #[test]
    fn a_field_has_one_file_or_none() {
        let files = vec![file("image", 1), file("image", 2), file("mask", 3)];
        let mask = json!(files[2].id);
        let form = Form::new(Map::new(), files);
        assert!(form.file("image").is_err());
        assert_eq!(form.file("mask").expect("one"), Some(mask));
        assert_eq!(form.file("file").expect("none"), None);
    }
}
