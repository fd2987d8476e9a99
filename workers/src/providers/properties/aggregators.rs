//! Adapters of aggregators, which work on tasks of many models: Replicate and fal.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Call, Station, Verb, config, fal as fal_adapter, is_nothing_begun, is_verdict, mapped,
    mutation::{changes, mutate},
    read, replicate as replicate_adapter,
    responder::{Responder, json as wire},
};
use crate::providers::{Artifact, Step};

/// Words of states, right ones and nearly right ones.
const WORDS: [&str; 15] = [
    "starting",
    "processing",
    "succeeded",
    "success",
    "SUCCEEDED",
    "failed",
    "canceled",
    "aborted",
    "IN_QUEUE",
    "IN_PROGRESS",
    "COMPLETED",
    "completed",
    "OK",
    "https://example.com/2.png",
    "data:image/png;base64,AQEB",
];

/// Where the request of [`fal_taken`] lives.
pub(super) const FAL_TASK: &str = "fal-ai/flux/requests/r-1";

/// A call for a picture as the catalogue's route by this vendor makes it.
pub(super) fn flux(vendor: &str) -> Call {
    mapped::tests::call("flux", vendor, json!({"prompt": "a fox"}), &[])
}

/// Replicate's answer about a prediction.
pub(super) fn replicate(word: &str) -> Value {
    json!({
        "id": "7", "model": "black-forest-labs/flux-dev", "version": "hidden", "input": {"prompt": "a fox"}, "logs": "",
        "output": ["https://example.com/1.png"], "data_removed": false, "error": null, "status": word,
        "metrics": {"predict_time": 1.25, "image_count": 1}, "created_at": "2026-01-01T00:00:00Z",
        "urls": {"get": "https://api.replicate.com/v1/predictions/7"},
    })
}

/// fal's answer to a submit.
pub(super) fn fal_taken() -> Value {
    json!({
        "status": "IN_QUEUE", "request_id": "r-1", "queue_position": 0,
        "response_url": "https://queue.fal.run/fal-ai/flux/requests/r-1",
        "status_url": "https://queue.fal.run/fal-ai/flux/requests/r-1/status",
    })
}

/// fal's answer about a request.
pub(super) fn fal(word: &str) -> Value {
    json!({"status": word, "request_id": "r-1", "logs": null, "metrics": {"inference_time": 1.25}})
}

/// fal's answer with what a request made.
pub(super) fn fal_result() -> Value {
    json!({
        "images": [{"url": "https://example.com/1.png", "width": 1024, "height": 768, "content_type": "image/png"}],
        "timings": {"inference": 1.25}, "seed": 7, "has_nsfw_concepts": [false], "prompt": "a fox",
    })
}

/// Whether each file's address, or its bytes, are in the answer.
fn are_in(files: &[Artifact], text: &str) -> bool {
    files.iter().all(|file| match file {
        Artifact::Remote { url, .. } => text.contains(url.as_str()),
        Artifact::Inline(_) => text.contains("base64"),
    })
}

#[test]
fn a_submit_to_an_aggregator_is_known_by_its_id_or_stays_open() {
    let responder = Responder::new();
    let stations = [
        (
            Station::new(
                &responder,
                &replicate_adapter::VENDOR,
                Verb::Submit,
                flux("replicate"),
                replicate("starting"),
            ),
            "id",
        ),
        (
            Station::new(&responder, &fal_adapter::VENDOR, Verb::Submit, flux("fal"), fal_taken()),
            "request_id",
        ),
    ];
    proptest!(config(600), |(nth in 0..2_usize, changes in changes(&WORDS))| {
        let (station, name) = &stations[nth];
        let text = mutate(&station.good, &changes);
        let said = read(&text);
        let id = said[name].as_str().unwrap_or_default();
        match station.ask(&responder, &[wire(&text)]) {
            Ok(Step::Pending(pending)) => {
                prop_assert!(mapped::is_plain(id) && pending.provider_ref.ends_with(id), "{text}: {pending:?}");
                prop_assert!(pending.provider_ref.split('/').all(mapped::is_plain), "{text}: {pending:?}");
            }
            Ok(Step::Done(_)) => prop_assert_eq!(&said["status"], "succeeded", "{}", text),
            Err(error) => prop_assert!(!is_nothing_begun(error.class), "{text}: {error}"),
        }
    });
}

#[test]
fn a_prediction_ends_only_by_a_word_that_says_so() {
    let responder = Responder::new();
    let words = ["starting", "processing", "succeeded", "failed", "queued"];
    let station =
        Station::new(&responder, &replicate_adapter::VENDOR, Verb::Resume, flux("replicate"), json!({}));
    proptest!(config(600), |(word in proptest::sample::select(words.to_vec()), changes in changes(&WORDS))| {
        let text = mutate(&replicate(word), &changes);
        let said = read(&text);
        let status = said["status"].as_str().unwrap_or_default();
        match station.ask(&responder, &[wire(&text)]) {
            Ok(Step::Done(made)) => prop_assert!(status == "succeeded" && are_in(&made.files, &text), "{text}"),
            Ok(Step::Pending(pending)) => prop_assert_eq!(pending.provider_ref, "7", "{}", text),
            Err(error) if is_verdict(error.class) => {
                prop_assert!(["succeeded", "failed", "canceled", "aborted"].contains(&status), "{text}: {error}");
            }
            Err(_) => {}
        }
    });
}

#[test]
fn a_request_to_fal_ends_only_by_the_word_that_says_so() {
    let responder = Responder::new();
    let words = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "PAUSED"];
    let station = Station::new(&responder, &fal_adapter::VENDOR, Verb::Resume, flux("fal"), json!({}));
    proptest!(config(500), |(word in proptest::sample::select(words.to_vec()), changes in changes(&WORDS))| {
        let text = mutate(&fal(word), &changes);
        let has_ended = read(&text)["status"] == "COMPLETED";
        match station.ask_and_go_on(&responder, &text) {
            Ok(Step::Done(_)) => prop_assert!(has_ended, "{text}"),
            Ok(Step::Pending(pending)) => prop_assert_eq!(pending.provider_ref, FAL_TASK, "{}", text),
            Err(error) => prop_assert!(has_ended || !is_verdict(error.class), "{text}: {error}"),
        }
    });
}

#[test]
fn a_result_of_fal_holds_only_files_that_its_answer_names() {
    let responder = Responder::new();
    let station = Station::new(&responder, &fal_adapter::VENDOR, Verb::Resume, flux("fal"), json!({}));
    let completed = wire(&fal("COMPLETED").to_string());
    proptest!(config(500), |(changes in changes(&WORDS))| {
        let text = mutate(&fal_result(), &changes);
        match station.ask(&responder, &[completed.clone(), wire(&text)]) {
            Ok(Step::Done(made)) => prop_assert!(!made.files.is_empty() && are_in(&made.files, &text), "{text}"),
            Ok(Step::Pending(_)) => prop_assert!(false, "{text}"),
            Err(_) => {}
        }
    });
}
