//! What requests and answers in OpenAI's form look like, for the document of the API: as much as we read or write ourselves. Fields
//! beside these may be there, which OpenAI's own reference describes.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

macro_rules! described {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    serde_json::from_value($schema).expect("a schema")
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed(stringify!($name))
                }
            }
        )*

        /// All of them as they are written here, and as the document has them.
        #[cfg(test)]
        fn all() -> Vec<(&'static str, Value, RefOr<Schema>)> {
            vec![$((stringify!($name), $schema, $name::schema())),*]
        }
    };
}

described! {
    /// A chat that is asked for.
    ChatRequest = object(&["model", "messages"], json!({
        "model": { "type": "string", "description": "Public name of a model of the task text.chat." },
        "messages": { "type": "array", "minItems": 1, "items": { "type": "object", "required": ["role"], "properties": {
            "role": { "type": "string" },
        } } },
        "stream": { "type": ["boolean", "null"], "description": "Whether the answer is told word by word." },
        "metadata": { "type": ["object", "null"], "additionalProperties": { "type": "string" } },
        "dialog": {
            "type": ["string", "null"], "pattern": "^dlg_[0-9a-fA-F]{32}$",
            "description": "A field of ours: the dialog that it goes on in.",
        },
    }));
    /// An answer, whole.
    ChatCompletion = object(
        &["id", "object", "created", "model", "choices", "usage", "system_fingerprint"],
        json!({
            "id": { "type": "string", "pattern": "^chatcmpl-[0-9a-f]{32}$" },
            "object": { "type": "string", "pattern": r"^chat\.completion$" },
            "created": { "type": "integer" },
            "model": { "type": "string" },
            "choices": { "type": "array", "minItems": 1, "items": object(
                &["index", "message", "finish_reason"],
                json!({
                    "index": { "type": "integer", "minimum": 0 },
                    "message": object(&["role", "content", "refusal", "annotations"], json!({
                        "role": { "type": "string", "pattern": "^assistant$" },
                        "content": { "type": ["string", "null"] },
                        "refusal": { "type": ["string", "null"] },
                        "tool_calls": { "type": "array", "items": { "type": "object" } },
                        "reasoning_content": { "type": "string" },
                    })),
                    "finish_reason": { "type": "string" },
                }),
            ) },
            "usage": {
                "type": ["object", "null"], "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
                "properties": {
                    "prompt_tokens": { "type": "integer", "minimum": 0 },
                    "completion_tokens": { "type": "integer", "minimum": 0 },
                    "total_tokens": { "type": "integer", "minimum": 0 },
                },
            },
        }),
    );
    /// Texts that are to become vectors.
    EmbeddingRequest = object(&["model", "input"], json!({
        "model": { "type": "string", "description": "Public name of a model of the task text.embed." },
        "encoding_format": { "type": ["string", "null"], "pattern": "^(float|base64)$" },
    }));
    /// The vectors.
    Embeddings = object(&["object", "data", "model", "usage"], json!({
        "object": { "type": "string", "pattern": "^list$" },
        "data": { "type": "array", "items": object(&["object", "index", "embedding"], json!({
            "object": { "type": "string", "pattern": "^embedding$" },
            "index": { "type": "integer", "minimum": 0 },
        })) },
        "model": { "type": "string" },
        "usage": object(&["prompt_tokens", "total_tokens"], json!({
            "prompt_tokens": { "type": "integer", "minimum": 0 },
            "total_tokens": { "type": "integer", "minimum": 0 },
        })),
    }));
    /// What was judged.
    Moderation = object(&["id", "model", "results"], json!({
        "id": { "type": "string", "pattern": "^modr-[0-9a-f]{32}$" },
        "model": { "type": "string" },
        "results": { "type": "array", "items": object(&["flagged", "category_applied_input_types"], json!({
            "flagged": { "type": "boolean" },
            "categories": { "type": "object" },
            "category_scores": { "type": "object" },
            "category_applied_input_types": { "type": "object" },
        })) },
    }));
    /// Pictures that were made.
    Images = object(&["created", "data"], json!({
        "created": { "type": "integer" },
        "data": { "type": "array", "minItems": 1, "items": { "type": "object", "properties": {
            "b64_json": { "type": "string" },
            "url": { "type": "string" },
        } } },
    }));
    /// A film.
    Video = object(
        &[
            "id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "size", "seconds",
            "prompt", "remixed_from_video_id", "error",
        ],
        video(),
    );
    /// A page of films.
    VideoList = object(&["object", "data", "has_more", "first_id", "last_id"], json!({
        "object": { "type": "string", "pattern": "^list$" },
        "data": { "type": "array", "items": object(&["id", "object", "model", "status"], video()) },
        "has_more": { "type": "boolean" },
        "first_id": { "type": ["string", "null"] },
        "last_id": { "type": ["string", "null"] },
    }));
    /// A film that is gone.
    VideoDeleted = object(&["id", "object", "deleted"], json!({
        "id": { "type": "string", "pattern": "^video_[0-9a-f]{32}$" },
        "object": { "type": "string", "pattern": r"^video\.deleted$" },
        "deleted": { "type": "boolean" },
    }));
}

/// An object that may have other fields.
fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn video() -> Value {
    json!({
        "id": { "type": "string", "pattern": "^video_[0-9a-f]{32}$" },
        "object": { "type": "string", "pattern": "^video$" },
        "model": { "type": "string" },
        "status": { "type": "string", "pattern": "^(queued|in_progress|completed|failed)$" },
        "progress": { "type": "integer", "minimum": 0, "maximum": 100 },
        "created_at": { "type": "integer" },
        "completed_at": { "type": ["integer", "null"] },
        "expires_at": { "type": ["integer", "null"] },
        "size": { "type": ["string", "null"] },
        "seconds": { "type": ["string", "null"] },
        "prompt": { "type": ["string", "null"] },
        "remixed_from_video_id": { "type": ["string", "null"] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_here_is_in_the_document() {
        for (name, written, schema) in all() {
            assert_eq!(serde_json::to_value(schema).expect("JSON"), written, "{name}");
        }
    }
}
