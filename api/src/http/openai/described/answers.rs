//! Answers in OpenAI's form.

use serde_json::{Value, json};

use super::{object, or_null};

described! {
    /// An answer to a chat, whole.
    ChatCompletion = object(
        &["id", "object", "created", "model", "choices", "usage", "system_fingerprint"],
        json!({
            "id": { "type": "string", "pattern": "^chatcmpl-[0-9a-f]{32}$", "description": "That of the job, in OpenAI's form." },
            "object": { "type": "string", "pattern": r"^chat\.completion$" },
            "created": moment(),
            "model": { "type": "string" },
            "choices": { "type": "array", "minItems": 1, "items": object(
                &["index", "message", "logprobs", "finish_reason"],
                json!({
                    "index": count(),
                    "message": object(&["role", "content", "refusal", "annotations"], json!({
                        "role": { "type": "string", "pattern": "^assistant$" },
                        "content": { "type": ["string", "null"], "description": "Null where only tools are called." },
                        "refusal": { "type": ["string", "null"] },
                        "annotations": list(json!({ "type": "object" })),
                        "tool_calls": list(json!({ "type": "object", "properties": {
                            "id": { "type": "string" },
                            "type": { "type": "string" },
                            "function": { "type": "object", "properties": {
                                "name": { "type": "string" },
                                "arguments": { "type": "string", "description": "JSON." },
                            } },
                        } })),
                        "reasoning_content": { "type": "string", "description": "What the model thought before, where it tells." },
                    })),
                    "logprobs": { "type": ["object", "null"] },
                    "finish_reason": { "type": "string", "description": "stop, length, tool_calls, or another word of the vendor's." },
                }),
            ) },
            "usage": or_null(object(&["prompt_tokens", "completion_tokens", "total_tokens"], json!({
                "prompt_tokens": count(),
                "completion_tokens": count(),
                "total_tokens": count(),
                "prompt_tokens_details": { "type": "object" },
                "completion_tokens_details": { "type": "object" },
            }))),
            "system_fingerprint": { "type": "null" },
            "citations": { "type": ["array", "null"], "description": "Where a model that searches has looked." },
            "search_results": { "type": ["array", "null"] },
        }),
    );
    /// The vectors.
    Embeddings = object(&["object", "data", "model", "usage"], json!({
        "object": { "type": "string", "pattern": "^list$" },
        "data": list(object(&["object", "index", "embedding"], json!({
            "object": { "type": "string", "pattern": "^embedding$" },
            "index": count(),
            "embedding": {
                "anyOf": [list(json!({ "type": "number" })), { "type": "string", "contentEncoding": "base64" }],
                "description": "Numbers, or with encoding_format base64 their bytes: 32-bit floats, the lowest byte first.",
            },
        }))),
        "model": { "type": "string" },
        "usage": object(&["prompt_tokens", "total_tokens"], json!({ "prompt_tokens": count(), "total_tokens": count() })),
    }));
    /// What was judged.
    Moderation = object(&["id", "model", "results"], json!({
        "id": { "type": "string", "pattern": "^modr-[0-9a-f]{32}$", "description": "That of the job, in OpenAI's form." },
        "model": { "type": "string" },
        "results": {
            "type": "array", "description": "One for each text, in order.",
            "items": object(&["flagged", "categories", "category_scores", "category_applied_input_types"], json!({
                "flagged": { "type": "boolean" },
                "categories": { "type": "object" },
                "category_scores": { "type": "object" },
                "category_applied_input_types": { "type": "object" },
            })),
        },
    }));
    /// Pictures that were made.
    Images = object(&["created", "data"], json!({
        "created": moment(),
        "data": { "type": "array", "minItems": 1, "items": { "type": "object", "properties": {
            "b64_json": { "type": "string", "contentEncoding": "base64" },
            "url": { "type": "string", "description": "Works for a while, without credentials." },
            "revised_prompt": { "type": ["string", "null"] },
        } } },
        "size": { "type": "string", "pattern": "^[0-9]+x[0-9]+$" },
        "output_format": { "type": "string", "description": "Such as png." },
        "background": { "type": "string", "description": "As it was asked for." },
        "quality": { "type": "string" },
        "usage": { "type": "object", "description": "What GPT-image has counted." },
    }));
    /// A file, as it is.
    FileContent = json!({ "type": "string", "format": "binary" });
    /// What was said in a recording.
    Transcript = object(&["text"], json!({
        "text": { "type": "string" },
        "usage": { "type": "object" },
        "task": { "type": ["string", "null"], "description": "This and what follows only with response_format verbose_json." },
        "language": { "type": ["string", "null"] },
        "duration": { "type": ["number", "string", "null"], "description": "Seconds." },
        "segments": or_null(list(json!({ "type": "object" }))),
        "words": or_null(list(json!({ "type": "object" }))),
    }));
    /// A film.
    Video = video();
    /// A page of films.
    VideoList = object(&["object", "data", "has_more", "first_id", "last_id"], json!({
        "object": { "type": "string", "pattern": "^list$" },
        "data": list(video()),
        "has_more": { "type": "boolean" },
        "first_id": { "type": ["string", "null"] },
        "last_id": { "type": ["string", "null"], "description": "To be sent as `after` for the next page." },
    }));
    /// A film that is gone.
    VideoDeleted = object(&["id", "object", "deleted"], json!({
        "id": video_id(),
        "object": { "type": "string", "pattern": r"^video\.deleted$" },
        "deleted": { "type": "boolean" },
    }));
}

fn video() -> Value {
    object(
        &[
            "id",
            "object",
            "model",
            "status",
            "progress",
            "created_at",
            "completed_at",
            "expires_at",
            "size",
            "seconds",
            "prompt",
            "remixed_from_video_id",
            "error",
        ],
        json!({
            "id": video_id(),
            "object": { "type": "string", "pattern": "^video$" },
            "model": { "type": "string" },
            "status": { "type": "string", "pattern": "^(queued|in_progress|completed|failed)$" },
            "progress": { "type": "integer", "minimum": 0, "maximum": 100 },
            "created_at": moment(),
            "completed_at": or_null(moment()),
            "expires_at": or_null(moment()),
            "size": { "type": ["string", "null"], "description": "Such as 1280x720; null while nobody can say." },
            "seconds": { "type": ["string", "null"] },
            "prompt": { "type": ["string", "null"] },
            "remixed_from_video_id": or_null(video_id()),
            "error": or_null(object(&["code", "message"], json!({
                "code": { "type": "string", "description": "What a job's `error.code` says." },
                "message": { "type": ["string", "null"] },
            }))),
        }),
    )
}

fn video_id() -> Value {
    json!({ "type": "string", "pattern": "^video_[0-9a-f]{32}$" })
}

fn moment() -> Value {
    json!({ "type": "integer", "description": "Seconds since 1970." })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}
