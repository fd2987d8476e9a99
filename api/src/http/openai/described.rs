//! What requests and answers in OpenAI's form look like, for the document of the API: as much as we read or write ourselves.
//!
//! What stands here is kept: a request that is otherwise is refused, by us or by the model's own schema, which may say less than
//! stands here and never more. Other fields may be there, which OpenAI's own reference describes. Deliberately absent: fields
//! that we pass over.

use serde_json::{Map, Value, json};

macro_rules! described {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name;

            impl utoipa::PartialSchema for $name {
                fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                    serde_json::from_value($schema).expect("a schema")
                }
            }

            impl utoipa::ToSchema for $name {
                fn name() -> std::borrow::Cow<'static, str> {
                    std::borrow::Cow::Borrowed(stringify!($name))
                }
            }
        )*

        /// All of them: what they are called, what is written of them, and what the document has.
        #[cfg(test)]
        pub fn all() -> Vec<(&'static str, serde_json::Value, serde_json::Value)> {
            let told = |schema| serde_json::to_value::<utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>>(schema);
            vec![$((
                stringify!($name),
                $schema,
                told(<$name as utoipa::PartialSchema>::schema()).expect("JSON"),
            )),*]
        }
    };
}

mod answers;
mod requests;

pub use answers::{
    ChatCompletion, Embeddings, FileContent, Images, Moderation, Transcript, Video, VideoDeleted, VideoList,
};
pub use requests::{
    ChatRequest, EmbeddingRequest, ImageEditForm, ImageRequest, ModerationRequest, SpeechRequest,
    TranscriptionForm, VideoForm, VideoRemixRequest, VideoRequest,
};

/// An object that may have other fields.
fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

/// Several properties in one object.
fn both(mut properties: Value, more: Value) -> Value {
    if let (Value::Object(properties), Value::Object(more)) = (&mut properties, more) {
        properties.extend(more);
    }
    properties
}

/// The same value, or null.
fn or_null(mut schema: Value) -> Value {
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    if let Some(forms) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        forms.push(json!({ "type": "null" }));
    }
    if let Some(kind) = schema.get_mut("type") {
        *kind = json!([kind.clone(), "null"]);
    }
    schema
}

/// Properties of a body of JSON: whatever need not be there may be null, which says as much.
fn null_says_nothing(required: &[&str], properties: &Value) -> Value {
    let mut told = Map::new();
    for (name, schema) in properties.as_object().into_iter().flatten() {
        let is_needed = required.contains(&name.as_str());
        told.insert(name.clone(), if is_needed { schema.clone() } else { or_null(schema.clone()) });
    }
    told.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_here_is_in_the_document() {
        for (name, written, told) in answers::all().into_iter().chain(requests::all()) {
            assert_eq!(told, written, "{name}");
        }
    }

    #[test]
    fn what_need_not_be_there_may_be_null() {
        let properties = json!({
            "a": { "type": "string" }, "b": { "type": "string", "enum": ["x"] }, "c": { "anyOf": [{ "type": "string" }] },
        });
        let expected = json!({
            "a": { "type": "string" }, "b": { "type": ["string", "null"], "enum": ["x", null] },
            "c": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
        });
        assert_eq!(null_says_nothing(&["a"], &properties), expected);
    }
}
