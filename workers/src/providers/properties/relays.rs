//! What relays answer, where there is no official API: Midjourney's proxies, and Suno's two kinds. What holds of Midjourney's list
//! of all tasks, by which a lost submit is found.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Call, Station, Verb, call, config,
    mutation::{changes, mutate},
    read,
    responder::{Responder, json as wire},
    works::shown,
};
use crate::providers::{ErrorClass, Step, http::is_id, midjourney as adapter};

/// Names of attempts, right ones and nearly right ones.
const WORDS: [&str; 6] = ["job_1-1", "job_1-2", "JOB_1-1", " job_1-1", "8", "SUCCESS"];

/// A picture by Midjourney.
pub(super) fn picture() -> Call {
    call("image.generate", json!({"prompt": "a fox"}))
}

/// A song by Suno.
pub(super) fn song() -> Call {
    call("audio.music", json!({"prompt": "a fox"}))
}

/// A proxy's answer to a submit.
pub(super) fn midjourney_taken() -> Value {
    json!({"code": 1, "description": "Submit success", "result": "7", "properties": {"discordInstanceId": "1"}})
}

/// A proxy's answer about a task.
pub(super) fn midjourney(word: &str) -> Value {
    json!({
        "id": "7", "action": "IMAGINE", "status": word, "progress": "45%", "prompt": "a fox", "promptEn": "a fox",
        "state": "job_1-1", "imageUrl": "https://example.com/7.png", "imageUrls": [{"url": "https://example.com/8.png"}],
        "failReason": null, "properties": {"finalPrompt": "a fox"},
        "buttons": [{"customId": "MJ::JOB::upsample::1::a", "emoji": "", "label": "U1"}],
    })
}

/// A proxy's list of all tasks, the second of which is ours.
pub(super) fn listed() -> Value {
    json!([
        {"id": "6", "status": "SUCCESS", "state": "job_0-1"},
        {"id": "7", "status": "IN_PROGRESS", "state": "job_1-1"},
        {"id": "8", "status": "SUCCESS", "state": null},
    ])
}

/// The answer of a relay of new-api's kind to a submit.
pub(super) fn suno_taken() -> Value {
    json!({"code": "success", "message": "", "data": "7"})
}

/// Its answer about a task.
pub(super) fn suno(word: &str) -> Value {
    json!({"code": "success", "message": "", "data": {
        "task_id": "7", "action": "MUSIC", "status": word, "fail_reason": "", "progress": "45%", "data": [{
            "id": "a", "title": "Fox", "text": "", "audio_url": "https://example.com/7.mp3",
            "image_url": "https://example.com/7.png", "metadata": {"tags": "folk", "prompt": "la la", "error_type": null},
        }],
    }})
}

/// The answer of sunoapi.org to a submit.
pub(super) fn sunoapi_taken() -> Value {
    json!({"code": 200, "msg": "success", "data": {"taskId": "7"}})
}

/// Its answer about a task.
pub(super) fn sunoapi(word: &str) -> Value {
    json!({"code": 200, "msg": "success", "data": {
        "taskId": "7", "status": word, "errorCode": null, "errorMessage": null, "response": {"taskId": "7", "sunoData": [{
            "id": "a", "audioUrl": "https://example.com/7.mp3", "streamAudioUrl": "https://example.com/7",
            "imageUrl": "https://example.com/7.png", "prompt": "la la", "title": "Fox", "tags": "folk",
        }]},
    }})
}

#[test]
fn a_submit_to_midjourney_was_never_seen_only_if_a_whole_list_is_without_it() {
    let responder = Responder::new();
    let station = Station::new(&responder, &adapter::VENDOR, Verb::Lookup, picture(), listed());
    proptest!(config(500), |(changes in changes(&WORDS))| {
        let text = mutate(&station.good, &changes);
        let said = read(&text);
        let tasks = said.as_array().cloned().unwrap_or_default();
        let ours: Vec<_> = tasks.iter().filter(|task| task["state"] == "job_1-1").collect();
        match station.ask(&responder, &[wire(&text)]) {
            Ok(Step::Pending(pending)) => {
                let id = pending.provider_ref;
                prop_assert!(is_id(&id) && ours.iter().any(|task| shown(&task["id"]) == id), "{text}: {id}");
            }
            Ok(Step::Done(_)) => prop_assert!(false, "{text}"),
            // How this place tells of a lookup that found nothing.
            Err(error) if error.class == ErrorClass::Quota => prop_assert!(said.is_array() && ours.is_empty(), "{text}"),
            Err(error) => prop_assert_eq!(error.class, ErrorClass::Unavailable, "{}", text),
        }
    });
}
