//! Adapters whose vendors work on tasks: Kling and MiniMax.
//!
//! Each property says from the mutated answer alone, read as plain JSON, what the adapter may make of it at most.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Station, Verb, call, config, is_nothing_begun, is_verdict, kling as adapter, minimax as other_adapter,
    mutation::{changes, mutate},
    read,
    responder::{Responder, json as wire},
};
use crate::providers::{ErrorClass, ProviderError, Step};

/// Words of states, right ones and nearly right ones.
const WORDS: [&str; 17] = [
    "succeed",
    "Success",
    "success",
    "SUCCEED",
    "succeeded",
    "done",
    "completed",
    "failed",
    "Fail",
    "Failed",
    "submitted",
    "processing",
    "Processing",
    "Queueing",
    "Preparing",
    "cancelled",
    "7",
];

/// Kling's answer about a task.
pub(super) fn kling(word: &str) -> Value {
    json!({"code": 0, "message": "SUCCEED", "request_id": "r1", "data": {
        "task_id": "7", "task_status": word, "task_status_msg": "", "task_info": {"external_task_id": "job_1-1"},
        "created_at": 1_722_769_557_708_u64, "updated_at": 1_722_769_557_708_u64, "final_unit_deduction": "1",
        "task_result": {"videos": [{"id": "7-0", "url": "https://example.com/7.mp4", "duration": "5"}]},
    }})
}

/// MiniMax's answer about a task.
pub(super) fn minimax(word: &str) -> Value {
    json!({
        "task_id": "7", "status": word, "file_id": "205258526306433", "video_width": 1366, "video_height": 768,
        "base_resp": {"status_code": 0, "status_msg": "success"},
    })
}

/// MiniMax's answer on where a file is.
pub(super) fn retrieved() -> Value {
    json!({
        "file": {
            "file_id": 205_258_526_306_433_u64, "bytes": 0, "created_at": 1_700_469_398_u64, "filename": "output_aigc.mp4",
            "purpose": "video_generation", "download_url": "https://example.com/7.mp4",
            "backup_download_url": "https://example.org/7.mp4",
        },
        "base_resp": {"status_code": 0, "status_msg": "success"},
    })
}

fn film() -> super::Call {
    call("video.generate", json!({"prompt": "a fox"}))
}

fn provider_ref(made: &Result<Step, ProviderError>) -> Option<&str> {
    match made {
        Ok(Step::Pending(pending)) => Some(&pending.provider_ref),
        _ => None,
    }
}

fn class(made: &Result<Step, ProviderError>) -> Option<ErrorClass> {
    made.as_ref().err().map(|error| error.class)
}

#[test]
fn a_submit_to_kling_is_sent_again_only_where_its_answer_says_so() {
    let responder = Responder::new();
    let station = Station::new(&responder, &adapter::VENDOR, Verb::Submit, film(), kling("submitted"));
    proptest!(config(600), |(changes in changes(&WORDS))| {
        let text = mutate(&station.good, &changes);
        let (made, said) = (station.ask(&responder, &[wire(&text)]), read(&text));
        let (task, id) = (&said["data"], said["data"]["task_id"].as_str().unwrap_or_default());
        if class(&made).is_some_and(is_nothing_begun) {
            let is_error = said["code"].as_i64().is_some_and(|code| code != 0);
            let names_task = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            prop_assert!(is_error && !names_task, "{text}: {made:?}");
        }
        if let Some(provider_ref) = provider_ref(&made) {
            prop_assert_eq!(provider_ref, format!("text2video/{id}"), "{}", text);
            prop_assert!(!id.is_empty() && !id.contains(['/', '?', '#']), "{text}");
        }
        if let Ok(Step::Done(_)) = made {
            prop_assert_eq!(&task["task_status"], "succeed", "{}", text);
        }
    });
}

#[test]
fn a_task_at_kling_ends_only_by_a_word_that_says_so() {
    let responder = Responder::new();
    let words = ["submitted", "processing", "succeed", "failed"];
    let stations = [Verb::Resume, Verb::Lookup]
        .map(|verb| Station::new(&responder, &adapter::VENDOR, verb, film(), json!({})));
    proptest!(config(800), |(nth in 0..2_usize, word in proptest::sample::select(words.to_vec()), changes in changes(&WORDS))| {
        let (station, text) = (&stations[nth], mutate(&kling(word), &changes));
        let (made, said) = (station.ask(&responder, &[wire(&text)]), read(&text));
        let (task, code) = (&said["data"], said["code"].as_i64());
        let is_ours = station.verb == Verb::Lookup || task["task_id"] == "7";
        match &made {
            Ok(Step::Done(_)) => prop_assert!(is_ours && code == Some(0) && task["task_status"] == "succeed", "{text}"),
            Ok(Step::Pending(_)) if station.verb == Verb::Lookup => {}
            Ok(Step::Pending(pending)) => prop_assert_eq!(&pending.provider_ref, "text2video/7", "{}", text),
            Err(error) if is_verdict(error.class) => {
                let has_ended = is_ours && (task["task_status"] == "succeed" || task["task_status"] == "failed");
                prop_assert!(has_ended || matches!(code, Some(1300 | 1301)), "{text}: {error}");
            }
            // How this place tells of a lookup that found nothing.
            Err(error) if station.verb == Verb::Lookup && error.class == ErrorClass::Quota => {
                prop_assert!(matches!(code, Some(1203 | 1100..=1102)), "{text}: {error}");
            }
            Err(_) => {}
        }
    });
}

#[test]
fn a_state_that_nobody_knows_means_still_at_work() {
    let responder = Responder::new();
    let known = ["succeed", "failed", "Success", "Fail"];
    let word = prop_oneof![proptest::sample::select(&WORDS[..]).prop_map(str::to_owned), any::<String>()];
    let new = |vendor| Station::new(&responder, vendor, Verb::Resume, film(), json!({}));
    let (kling_station, minimax_station) = (new(&adapter::VENDOR), new(&other_adapter::v1::VENDOR));
    proptest!(config(300), |(word in word.prop_filter("unknown", move |word| !known.contains(&word.as_str())))| {
        let made = kling_station.ask(&responder, &[wire(&kling(&word).to_string())]);
        prop_assert_eq!(provider_ref(&made), Some("text2video/7"), "{}", word);
        let made = minimax_station.ask(&responder, &[wire(&minimax(&word).to_string())]);
        prop_assert_eq!(provider_ref(&made), Some("7"), "{}", word);
    });
}

#[test]
fn a_submit_to_minimax_is_sent_again_only_where_its_answer_says_so() {
    let responder = Responder::new();
    let good = json!({"task_id": "7", "base_resp": {"status_code": 0, "status_msg": "success"}});
    let station = Station::new(&responder, &other_adapter::v1::VENDOR, Verb::Submit, film(), good);
    proptest!(config(600), |(changes in changes(&WORDS))| {
        let text = mutate(&station.good, &changes);
        let (made, said) = (station.ask(&responder, &[wire(&text)]), read(&text));
        let id = match &said["task_id"] {
            Value::String(text) if text.bytes().all(|byte| byte.is_ascii_alphanumeric()) => text.clone(),
            Value::Number(number) if number.is_u64() => number.to_string(),
            _ => String::new(),
        };
        if class(&made).is_some_and(is_nothing_begun) {
            let is_error = said["base_resp"]["status_code"].as_i64().is_some_and(|code| code != 0);
            prop_assert!(is_error && id.is_empty(), "{text}: {made:?}");
        }
        if let Some(provider_ref) = provider_ref(&made) {
            let is_told = provider_ref == id || said["task_id"] == provider_ref;
            prop_assert!(is_told && !provider_ref.contains(|c: char| c.is_control() || c.is_whitespace()), "{text}");
        }
        prop_assert!(!matches!(made, Ok(Step::Done(_))), "{text}");
    });
}

#[test]
fn a_task_at_minimax_ends_only_by_a_word_that_says_so() {
    let responder = Responder::new();
    let words = ["Queueing", "Processing", "Success", "Fail"];
    let station = Station::new(&responder, &other_adapter::v1::VENDOR, Verb::Resume, film(), json!({}));
    proptest!(config(600), |(word in proptest::sample::select(words.to_vec()), changes in changes(&WORDS))| {
        let text = mutate(&minimax(word), &changes);
        let (made, said) = (station.ask_and_go_on(&responder, &text), read(&text));
        match &made {
            Ok(Step::Done(_)) => prop_assert_eq!(&said["status"], "Success", "{}", text),
            Ok(Step::Pending(pending)) => prop_assert_eq!(&pending.provider_ref, "7", "{}", text),
            Err(error) if is_verdict(error.class) => {
                let has_ended = said["status"] == "Success" || said["status"] == "Fail";
                let code = said["base_resp"]["status_code"].as_i64();
                prop_assert!(has_ended || matches!(code, Some(1026 | 1027)), "{text}: {error}");
            }
            Err(_) => {}
        }
    });
}

#[test]
fn a_film_of_minimax_is_where_its_answer_says_or_nowhere() {
    let responder = Responder::new();
    let station = Station::new(&responder, &other_adapter::v1::VENDOR, Verb::Resume, film(), json!({}));
    let finished = wire(&minimax("Success").to_string());
    proptest!(config(400), |(changes in changes(&WORDS))| {
        let text = mutate(&retrieved(), &changes);
        let (made, said) = (station.ask(&responder, &[finished.clone(), wire(&text)]), read(&text));
        let has_address = ["download_url", "backup_download_url"]
            .iter()
            .any(|name| said["file"][name].as_str().is_some_and(|url| !url.is_empty()));
        match &made {
            Ok(Step::Done(_)) => prop_assert!(has_address, "{text}"),
            Ok(Step::Pending(_)) => prop_assert!(false, "{text}"),
            Err(error) if error.class == ErrorClass::Broken => prop_assert!(!has_address, "{text}: {error}"),
            Err(_) => {}
        }
    });
}
