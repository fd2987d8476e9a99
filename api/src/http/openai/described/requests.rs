//! Requests in OpenAI's form.

use serde_json::{Value, json};

use super::{both, null_says_nothing, object};
use crate::http::{METADATA_KEY_LEN, METADATA_PAIRS, METADATA_VALUE_LEN};

described! {
    /// A chat that is asked for.
    ChatRequest = body(&["model", "messages"], json!({
        "model": { "type": "string", "description": "Public name of a model of the task text.chat." },
        "messages": { "type": "array", "minItems": 1, "maxItems": 1000, "items": object(&["role"], json!({
            "role": { "type": "string", "enum": ["system", "developer", "user", "assistant", "tool"] },
            "content": { "anyOf": [
                { "type": "string", "maxLength": 50_000 },
                { "type": "array", "items": { "type": "object" }, "description": "Parts: texts, and pictures where the model reads them." },
                { "type": "null" },
            ] },
        })) },
        "stream": { "type": "boolean", "default": false, "description": "Whether the answer is told word by word." },
        "stream_options": { "type": "object", "properties": {
            "include_usage": { "type": ["boolean", "null"], "description": "Whether a stream ends with what was counted." },
        } },
        "temperature": { "type": "number", "minimum": 0, "maximum": 2 },
        "top_p": { "type": "number", "minimum": 0, "maximum": 1 },
        "max_completion_tokens": { "type": "integer", "minimum": 1, "description": "Most tokens that the answer may have." },
        "max_tokens": { "type": "integer", "minimum": 1, "description": "The older name of max_completion_tokens, which counts where both are there." },
        "n": { "type": "integer", "minimum": 1, "maximum": 8, "description": "How many answers; many models give one." },
        "stop": { "anyOf": [
            { "type": "string" },
            { "type": "array", "maxItems": 4, "items": { "type": "string" } },
        ] },
        "frequency_penalty": { "type": "number", "minimum": -2, "maximum": 2 },
        "presence_penalty": { "type": "number", "minimum": -2, "maximum": 2 },
        "seed": { "type": "integer", "description": "Followed as far as the vendor can." },
        "response_format": { "type": "object", "description": "With a `type`: text, json_object or json_schema." },
        "tools": { "type": "array", "maxItems": 128, "items": { "type": "object" }, "description": "Functions that the model may ask for." },
        "tool_choice": {
            "anyOf": [{ "type": "string" }, { "type": "object" }],
            "description": "none, auto, required, or one function.",
        },
        "parallel_tool_calls": { "type": "boolean" },
        "logprobs": { "type": "boolean" },
        "top_logprobs": { "type": "integer", "minimum": 0, "maximum": 20 },
        "reasoning_effort": { "type": "string", "description": "none, minimal, low, medium, high, xhigh or max; the model knows which." },
        "metadata": {
            "type": "object", "maxProperties": METADATA_PAIRS,
            "propertyNames": { "type": "string", "minLength": 1, "maxLength": METADATA_KEY_LEN },
            "additionalProperties": { "type": "string", "maxLength": METADATA_VALUE_LEN },
            "description": "Pairs of your own, by which `GET /v1/jobs` finds it.",
        },
        "dialog": {
            "type": "string", "pattern": "^dlg_[0-9a-fA-F]{32}$",
            "description": "A field of ours: the dialog that it goes on in.",
        },
    }));
    /// Texts that are to become vectors.
    EmbeddingRequest = body(&["model", "input"], json!({
        "model": { "type": "string", "description": "Public name of a model of the task text.embed." },
        "input": texts(50_000, 256),
        "encoding_format": { "type": "string", "enum": ["float", "base64"], "default": "float" },
        "dimensions": { "type": "integer", "minimum": 1, "maximum": 16_384, "description": "Length of each vector; the model's own, unless said otherwise." },
    }));
    /// Texts that are to be judged.
    ModerationRequest = body(&["input"], json!({
        "model": { "type": "string", "default": "omni-moderation-latest" },
        "input": texts(100_000, 32),
    }));
    /// Pictures to be drawn.
    ImageRequest = body(&["prompt"], picture());
    /// A picture to be changed.
    ImageEditForm = object(&["prompt", "image"], both(picture(), json!({
        "image": sent("The picture, one alone."),
        "mask": sent("Where to change it: a PNG as large as the picture, transparent there."),
    })));
    /// A text to be read aloud.
    SpeechRequest = body(&["model", "input"], json!({
        "model": { "type": "string", "description": "Public name of a model of the task audio.speech." },
        "input": { "type": "string", "minLength": 1, "maxLength": 4096 },
        "voice": {
            "anyOf": [{ "type": "string" }, object(&["id"], json!({ "id": { "type": "string" } }))],
            "description": "Who reads: alloy, ash, coral, echo, fable, nova, onyx, sage or shimmer.",
        },
        "response_format": { "type": "string", "enum": ["mp3", "wav", "flac", "aac", "opus", "pcm"], "default": "mp3" },
        "speed": { "type": "number", "minimum": 0.25, "maximum": 4 },
        "stream_format": { "type": "string", "enum": ["audio"], "description": "The recording is sent whole." },
    }));
    /// A recording to be written down.
    TranscriptionForm = object(&["model", "file"], json!({
        "file": sent("The recording: at most 25 MB."),
        "model": { "type": "string", "examples": ["whisper-1"], "description": "Public name of a model of the task audio.transcribe." },
        "language": { "type": "string", "pattern": "^[a-z]{2}$", "description": "ISO 639-1, if known." },
        "prompt": { "type": "string", "minLength": 1, "maxLength": 5000, "description": "Words that occur in it, or how it begins." },
        "response_format": { "type": "string", "enum": ["json", "text", "srt", "vtt", "verbose_json"], "default": "json" },
        "temperature": { "type": "number", "minimum": 0, "maximum": 1 },
        "timestamp_granularities[]": {
            "type": "array", "minItems": 1, "maxItems": 2, "items": { "type": "string", "enum": ["word", "segment"] },
            "description": "What gets times of its own; only with response_format verbose_json.",
        },
        "chunking_strategy": { "type": "string", "enum": ["auto"] },
        "stream": { "type": "boolean", "enum": [false] },
    }));
    /// A film to be made.
    VideoRequest = body(&["prompt"], both(film(), json!({
        "seconds": { "anyOf": [
            { "type": "string", "pattern": "^[0-9]+$" },
            { "type": "integer", "minimum": 1, "maximum": 60 },
        ], "description": "How long; the model knows which lengths there are." },
        "input_reference": { "anyOf": [
            { "type": "string" },
            object(&["image_url"], json!({ "image_url": { "type": "string" } })),
            object(&["file_id"], json!({ "file_id": { "type": "string" } })),
        ], "description": "The first frame: a file id, an https URL or a data URL." },
    })));
    /// A film to be made, with its first frame.
    VideoForm = object(&["prompt"], both(film(), json!({
        "seconds": { "type": "string", "pattern": "^[0-9]+$", "description": "How long; the model knows which lengths there are." },
        "input_reference": sent("The first frame."),
    })));
    /// How a film goes on.
    VideoRemixRequest = body(&[], json!({
        "prompt": { "type": "string", "minLength": 1, "maxLength": 50_000 },
    }));
}

/// A body of JSON.
fn body(required: &[&str], properties: Value) -> Value {
    let properties = null_says_nothing(required, &properties);
    if required.is_empty() {
        return json!({ "type": "object", "properties": properties });
    }
    object(required, properties)
}

/// A text or a list of them.
fn texts(longest: usize, most: usize) -> Value {
    let text = json!({ "type": "string", "minLength": 1, "maxLength": longest });
    json!({ "anyOf": [text, { "type": "array", "minItems": 1, "maxItems": most, "items": text }] })
}

/// What is said of a picture.
fn picture() -> Value {
    json!({
        "model": { "type": "string", "default": "gpt-image-1", "description": "Public name of a model that draws; the one that edits may be meant by it." },
        "prompt": { "type": "string", "minLength": 1, "maxLength": 50_000, "examples": ["a fox in the snow"] },
        "n": { "type": "integer", "minimum": 1, "maximum": 10, "description": "How many; some models make one at a time." },
        "size": { "type": "string", "pattern": "^(auto|[0-9]{2,5}x[0-9]{2,5})$", "description": "Such as 1024x1024; the model knows which there are." },
        "quality": { "type": "string", "maxLength": 20, "description": "auto, or a word of the model's." },
        "response_format": { "type": "string", "enum": ["b64_json", "url"], "description": "GPT-image's pictures come inside the answer and others as addresses, unless said otherwise." },
        "background": { "type": "string", "enum": ["auto", "opaque", "transparent"], "description": "transparent where the model can, and not with jpeg." },
        "output_format": { "type": "string", "enum": ["png", "jpeg", "webp"], "description": "png, unless said otherwise and where the model can." },
        "output_compression": { "type": "integer", "minimum": 0, "maximum": 100, "description": "Quality of a JPEG or WebP in percent." },
        "stream": { "type": "boolean", "enum": [false] },
    })
}

/// What is said of a film.
fn film() -> Value {
    json!({
        "model": { "type": "string", "default": "sora-2", "description": "Public name of a model of the task video.generate." },
        "prompt": { "type": "string", "minLength": 1, "maxLength": 50_000, "examples": ["the fox runs"] },
        "size": { "type": "string", "pattern": "^(auto|[0-9]+x[0-9]+)$", "description": "Such as 1280x720; 720x1280, unless said otherwise and where the model can." },
    })
}

/// A file that a form brings along.
fn sent(what: &str) -> Value {
    json!({ "type": "string", "format": "binary", "description": what })
}

#[cfg(test)]
mod tests {
    use shared::catalog::{Catalog, Model};

    use super::*;

    /// What is written of a field, and what a model's schema says of it, must be the same in these words.
    fn check(written: &Value, field: &str, model: &Model, ours: &str, words: &[&str]) {
        let (written, kept) = (&written["properties"][field], &model.schema["properties"][ours]);
        for word in words {
            let one = |schema: &Value| match &schema[*word] {
                // What may be null here is left out there.
                Value::Array(words) => words.iter().filter(|word| !word.is_null()).cloned().collect(),
                other => other.clone(),
            };
            assert_eq!(one(written), one(kept), "{field} of {}, {word}", model.id);
        }
    }

    fn written(name: &str) -> Value {
        all().into_iter().find(|(known, ..)| *known == name).map(|(_, written, _)| written).expect("a name")
    }

    #[test]
    fn limits_are_those_of_the_models_own_schemas() {
        let catalog = Catalog::load().expect("the catalogue");
        let model = |id: &str| catalog.get(id).unwrap_or_else(|| panic!("no {id}"));
        let (chat, gpt) = (written("ChatRequest"), model("gpt-4o-tokens"));
        for field in ["temperature", "top_p", "n", "frequency_penalty", "presence_penalty", "top_logprobs"] {
            check(&chat, field, gpt, field, &["minimum", "maximum"]);
        }
        check(&chat, "messages", gpt, "messages", &["minItems", "maxItems"]);
        check(&chat, "tools", gpt, "tools", &["maxItems"]);
        let (told, kept) =
            (&chat["properties"]["messages"]["items"], &gpt.schema["properties"]["messages"]["items"]);
        assert_eq!(told["properties"]["role"]["enum"], kept["properties"]["role"]["enum"]);

        let (picture, drawn) = (written("ImageRequest"), model("gpt-image-1"));
        for field in ["background", "output_format"] {
            check(&picture, field, drawn, field, &["enum"]);
        }
        check(&picture, "output_compression", drawn, "output_compression", &["minimum", "maximum"]);
        let speech = written("SpeechRequest");
        check(&speech, "input", model("tts-1"), "text", &["minLength", "maxLength"]);
        check(&speech, "response_format", model("tts-1"), "format", &["enum", "default"]);
        check(&speech, "speed", model("tts-1"), "speed", &["minimum", "maximum"]);
        let (transcript, whisper) = (written("TranscriptionForm"), model("whisper-1"));
        check(&transcript, "language", whisper, "language", &["pattern"]);
        check(&transcript, "prompt", whisper, "prompt", &["minLength", "maxLength"]);
        check(&transcript, "response_format", whisper, "format", &["enum", "default"]);
        check(&transcript, "temperature", whisper, "temperature", &["minimum", "maximum"]);
        let (embedding, embedder) = (written("EmbeddingRequest"), model("text-embedding-3-small"));
        check(&embedding, "input", embedder, "input", &["anyOf"]);
        check(&written("ModerationRequest"), "input", model("omni-moderation-latest"), "input", &["anyOf"]);
    }
}
