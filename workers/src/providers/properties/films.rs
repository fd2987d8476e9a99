//! What vendors of films answer about their tasks: MiniMax by its second version, OpenAI's films, Veo, and Luma twice.

use serde_json::{Value, json};

use super::{Call, call};

/// Where the operation of [`veo`] lives.
pub(super) const VEO_TASK: &str = "models/veo/operations/7";

/// A film from words alone, which all of them make.
pub(super) fn film() -> Call {
    call("video.generate", json!({"prompt": "a fox"}))
}

/// MiniMax's answer to a submit, in its second version.
pub(super) fn minimax_taken() -> Value {
    json!({"task_id": "7", "base_resp": {"status_code": 0, "status_msg": "success"}})
}

/// MiniMax's answer about a task, in its second version.
pub(super) fn minimax(word: &str) -> Value {
    json!({"task": {
        "id": "7", "model": "MiniMax-H3", "status": word, "error": null, "content": {"url": "https://example.com/7.mp4"},
        "usage": {"output_seconds": 5},
    }})
}

/// OpenAI's answer about a film.
pub(super) fn openai(word: &str) -> Value {
    json!({
        "id": "7", "object": "video", "model": "sora-2", "status": word, "progress": 40, "seconds": "8",
        "size": "1280x720", "error": null,
    })
}

/// Google's answer to a submit.
pub(super) fn veo_taken() -> Value {
    json!({"name": VEO_TASK})
}

/// Google's answer about an operation, which has no words for its state.
pub(super) fn veo(word: &str) -> Value {
    json!({"name": VEO_TASK, "done": word == "done", "error": null, "response": {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1beta.PredictLongRunningResponse",
        "generateVideoResponse": {
            "generatedSamples": [{"video": {"uri": "https://example.com/7.mp4"}}], "raiMediaFilteredCount": 0,
        },
    }})
}

/// Luma's answer about a generation.
pub(super) fn luma(word: &str) -> Value {
    json!({
        "id": "7", "generation_type": "video", "state": word, "failure_reason": null, "model": "ray-2",
        "created_at": "2026-01-01T00:00:00Z", "assets": {"video": "https://example.com/7.mp4", "image": null},
    })
}

/// The same by Luma's interface for agents.
pub(super) fn luma_agents(word: &str) -> Value {
    json!({
        "id": "7", "type": "video", "state": word, "failure_code": null, "failure_reason": null,
        "output": [{"type": "video", "url": "https://example.com/7.mp4"}],
    })
}
