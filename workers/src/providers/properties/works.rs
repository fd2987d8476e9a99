//! Adapters whose vendors work on tasks and say how far they are by a word, all held to the same rules.
//!
//! Each property says from the mutated answer alone, read as plain JSON, what the adapter may make of it at most.

use proptest::{prelude::*, sample::Index};
use serde_json::Value;

use super::{
    Call, Station, Verb, are_told, config, films, is_nothing_begun, is_verdict,
    mutation::{changes, mutate},
    pictures, read, relays,
    responder::{Responder, json as wire},
};
use crate::providers::{
    Artifact, Step, Vendor, http::is_id, luma, midjourney, minimax, openai::videos, stability, suno, veo,
};

/// Words of states and failures, right ones and nearly right ones.
const WORDS: [&str; 22] = [
    "succeeded",
    "completed",
    "SUCCESS",
    "success",
    "Success",
    "COMPLETED",
    "done",
    "failed",
    "FAILURE",
    "CANCEL",
    "cancelled",
    "MODAL",
    "CALLBACK_EXCEPTION",
    "SENSITIVE_WORD_ERROR",
    "queued",
    "IN_PROGRESS",
    "content_moderated",
    "quota_not_enough",
    "8",
    "..",
    "job/8",
    "https://example.com/8.mp4",
];

/// A vendor's tasks: what it says of them, and what that means.
pub(super) struct Works {
    vendor: &'static Vendor,
    call: fn() -> Call,
    /// The answer to a submit.
    taken: fn() -> Value,
    /// Where that has the id.
    id: fn(&Value) -> &Value,
    /// Whether that says that nothing was begun.
    says_no: fn(&Value) -> bool,
    /// The answer about a task in a state.
    shown: fn(&str) -> Value,
    /// Every word for a state that is known, the first of which is the good end.
    words: &'static [&'static str],
    /// Whether an answer says that the task is done.
    is_done: fn(&Value) -> bool,
    /// Whether it says that the task has failed.
    has_failed: fn(&Value) -> bool,
}

impl Works {
    /// A station where a task is begun or looked at.
    pub(super) fn station(&self, responder: &Responder, verb: Verb) -> Station {
        let good = if verb == Verb::Submit { (self.taken)() } else { (self.shown)(self.words[0]) };
        Station::new(responder, self.vendor, verb, (self.call)(), good)
    }
}

/// Every vendor of this kind.
pub(super) static WORKS: [Works; 9] = [
    Works {
        vendor: &minimax::v2::VENDOR,
        call: films::film,
        taken: films::minimax_taken,
        id: |said| &said["task_id"],
        says_no: |said| said["base_resp"]["status_code"].as_i64().is_some_and(|code| code != 0),
        shown: films::minimax,
        words: &["succeeded", "queued", "running", "failed", "cancelled"],
        is_done: |said| said["task"]["status"] == "succeeded",
        has_failed: |said| is_one_of(&said["task"]["status"], &["failed", "cancelled"]),
    },
    Works {
        vendor: &videos::VENDOR,
        call: films::film,
        taken: || films::openai("queued"),
        id: |said| &said["id"],
        says_no: |_| false,
        shown: films::openai,
        words: &["completed", "queued", "in_progress", "failed"],
        is_done: |said| said["status"] == "completed",
        has_failed: |said| said["status"] == "failed",
    },
    Works {
        vendor: &veo::VENDOR,
        call: films::film,
        taken: films::veo_taken,
        id: |said| &said["name"],
        says_no: |_| false,
        shown: films::veo,
        words: &["done", "running"],
        is_done: |said| said["done"] == true,
        has_failed: |said| said["done"] == true && !said["error"].is_null(),
    },
    Works {
        vendor: &luma::dream::VENDOR,
        call: films::film,
        taken: || films::luma("queued"),
        id: |said| &said["id"],
        says_no: |_| false,
        shown: films::luma,
        words: &["completed", "queued", "dreaming", "failed"],
        is_done: |said| said["state"] == "completed",
        has_failed: |said| said["state"] == "failed",
    },
    Works {
        vendor: &luma::agents::VENDOR,
        call: films::film,
        taken: || films::luma_agents("queued"),
        id: |said| &said["id"],
        says_no: |_| false,
        shown: films::luma_agents,
        words: &["completed", "queued", "processing", "failed"],
        is_done: |said| said["state"] == "completed",
        has_failed: |said| said["state"] == "failed",
    },
    Works {
        vendor: &midjourney::VENDOR,
        call: relays::picture,
        taken: relays::midjourney_taken,
        id: |said| &said["result"],
        // The last is a window that nobody will answer.
        says_no: |said| matches!(said["code"].as_i64(), Some(3 | 4 | 9 | 23 | 30 | 21)),
        shown: relays::midjourney,
        words: &["SUCCESS", "NOT_START", "SUBMITTED", "IN_PROGRESS", "MODAL", "FAILURE", "CANCEL"],
        is_done: |said| said["status"] == "SUCCESS",
        has_failed: |said| is_one_of(&said["status"], &["FAILURE", "CANCEL", "MODAL"]),
    },
    Works {
        vendor: &suno::relay::VENDOR,
        call: relays::song,
        taken: relays::suno_taken,
        id: |said| &said["data"],
        says_no: |said| said["code"].as_str().is_some_and(|code| code != "success"),
        shown: relays::suno,
        words: &["SUCCESS", "NOT_START", "SUBMITTED", "QUEUED", "IN_PROGRESS", "FAILURE", "FAILED"],
        is_done: |said| is_one_of(&the_one(&said["data"])["status"], &["success"]),
        has_failed: |said| is_one_of(&the_one(&said["data"])["status"], &["failure", "failed"]),
    },
    Works {
        vendor: &suno::sunoapi::VENDOR,
        call: relays::song,
        taken: relays::sunoapi_taken,
        id: |said| &said["data"]["taskId"],
        says_no: |said| said["code"].as_i64().is_some_and(|code| code != 200),
        shown: relays::sunoapi,
        words: &[
            "SUCCESS",
            "PENDING",
            "TEXT_SUCCESS",
            "FIRST_SUCCESS",
            "CREATE_TASK_FAILED",
            "GENERATE_AUDIO_FAILED",
            "CALLBACK_EXCEPTION",
            "SENSITIVE_WORD_ERROR",
        ],
        is_done: |said| is_one_of(&said["data"]["status"], &["SUCCESS", "CALLBACK_EXCEPTION"]),
        has_failed: |said| {
            let failures = ["CREATE_TASK_FAILED", "GENERATE_AUDIO_FAILED", "SENSITIVE_WORD_ERROR"];
            is_one_of(&said["data"]["status"], &failures)
        },
    },
    // Its words do not count: a task is at work until there is a picture.
    Works {
        vendor: &stability::VENDOR,
        call: pictures::enlarged,
        taken: pictures::stability_taken,
        id: |said| &said["id"],
        says_no: |_| false,
        shown: pictures::stability,
        words: &["in-progress"],
        is_done: |_| false,
        has_failed: |_| false,
    },
];

fn is_one_of(said: &Value, words: &[&str]) -> bool {
    said.as_str().is_some_and(|said| words.iter().any(|word| word.eq_ignore_ascii_case(said)))
}

/// The task that was asked for, also in a list.
fn the_one(data: &Value) -> &Value {
    match data {
        Value::Array(tasks) => tasks.iter().find(|task| task["task_id"] == "7").unwrap_or(&Value::Null),
        task => task,
    }
}

/// An id as it is kept: a string, or a number in its digits.
pub(super) fn shown(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

/// Whether the files are those of the answer, or, where the vendor names none, that of the task.
fn are_its(files: &[Artifact], said: &Value) -> bool {
    match files {
        [Artifact::Remote { url, .. }] if url.ends_with("/videos/7/content") => true,
        files => are_told(files, said),
    }
}

#[test]
fn a_submit_is_known_by_its_id_or_stays_open() {
    let responder = Responder::new();
    let stations: Vec<_> = WORKS.iter().map(|works| works.station(&responder, Verb::Submit)).collect();
    proptest!(config(1000), |(nth in 0..WORKS.len(), changes in changes(&WORDS))| {
        let (works, station) = (&WORKS[nth], &stations[nth]);
        let text = mutate(&station.good, &changes);
        let said = read(&text);
        match station.ask(&responder, &[wire(&text)]) {
            Ok(Step::Pending(pending)) => {
                let id = shown((works.id)(&said));
                prop_assert!(pending.provider_ref == id && id.split('/').all(is_id), "{text}: {pending:?}");
            }
            Ok(Step::Done(made)) => {
                prop_assert!((works.is_done)(&said), "{text}");
                let is_its = |file: &Artifact| match file {
                    Artifact::Remote { url, .. } => url.ends_with("/content") || are_told(&made.files, &said),
                    Artifact::Inline(_) => false,
                };
                prop_assert!(made.files.iter().all(is_its), "{text}: {made:?}");
            }
            Err(error) if is_nothing_begun(error.class) => prop_assert!((works.says_no)(&said), "{text}: {error}"),
            Err(_) => {}
        }
    });
}

#[test]
fn a_task_ends_only_by_a_word_that_says_so() {
    let responder = Responder::new();
    let stations: Vec<_> = WORKS.iter().map(|works| works.station(&responder, Verb::Resume)).collect();
    proptest!(config(1200), |(nth in 0..WORKS.len(), word in any::<Index>(), changes in changes(&WORDS))| {
        let (works, station) = (&WORKS[nth], &stations[nth]);
        let text = mutate(&(works.shown)(word.get::<&str>(works.words)), &changes);
        let said = read(&text);
        match station.ask(&responder, &[wire(&text)]) {
            Ok(Step::Done(made)) => {
                prop_assert!((works.is_done)(&said) && are_its(&made.files, &said), "{text}: {made:?}");
            }
            Ok(Step::Pending(pending)) => prop_assert_eq!(pending.provider_ref, station.task, "{}", text),
            Err(error) if is_verdict(error.class) => {
                prop_assert!((works.is_done)(&said) || (works.has_failed)(&said), "{text}: {error}");
            }
            Err(_) => {}
        }
    });
}

#[test]
fn a_word_that_nobody_knows_means_still_at_work() {
    let responder = Responder::new();
    let stations: Vec<_> = WORKS.iter().map(|works| works.station(&responder, Verb::Resume)).collect();
    let word = prop_oneof![proptest::sample::select(&WORDS[..]).prop_map(str::to_owned), any::<String>()];
    proptest!(config(500), |(nth in 0..WORKS.len(), word in word)| {
        let (works, station) = (&WORKS[nth], &stations[nth]);
        let is_known = works.words.iter().any(|known| known.eq_ignore_ascii_case(&word));
        prop_assume!(!is_known);
        match station.ask(&responder, &[wire(&(works.shown)(&word).to_string())]) {
            Ok(Step::Pending(pending)) => prop_assert_eq!(pending.provider_ref, station.task, "{}", word),
            other => prop_assert!(false, "{}, {word}: {other:?}", works.vendor.name),
        }
    });
}
