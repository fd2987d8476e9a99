//! Adapters whose vendors put pictures into their answer, as base64 or bare: OpenAI, Recraft, Stability and remove.bg.

use proptest::{collection::vec, prelude::*};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::{
    Call, Form, Station, Verb, are_told, call, config, is_json, is_nothing_begun,
    mutation::{changes, mutate},
    photograph, read,
    responder::{Responder, http, json as wire},
};
use crate::providers::{
    Artifact, ErrorClass, Step, openai as openai_adapter, recraft as recraft_adapter, removebg,
    stability as stability_adapter,
};

/// Addresses, and what is nearly base64.
const WORDS: [&str; 7] = [
    "https://example.com/2.png",
    "iVBORw0KGgo=",
    "iVBORw0KGgo",
    "iVBORw0KGgp=",
    "iVBORw0KGgo=\n",
    "data:image/png;base64,iVBORw0KGgo=",
    "_-8=",
];

/// OpenAI's answer with a picture.
pub(super) fn openai() -> Value {
    json!({
        "created": 1_700_000_000, "data": [{"b64_json": "iVBORw0KGgo=", "url": null, "revised_prompt": "a red fox"}],
        "usage": {"input_tokens": 9, "output_tokens": 1056, "total_tokens": 1065},
    })
}

/// Recraft's answer with a picture.
pub(super) fn recraft() -> Value {
    json!({
        "created": 1_700_000_000, "credits": 40,
        "data": [{"image_id": "1", "b64_json": "iVBORw0KGgo=", "url": null}], "image": null,
    })
}

/// A call for a larger picture, which becomes a task at Stability.
pub(super) fn enlarged() -> Call {
    let input = json!({"image": "file_1", "prompt": "a fox"});
    Call { upstream_model: "creative".to_owned(), ..call("image.upscale", input) }
        .with_files(vec![photograph()])
}

/// Stability's answer to a submit that became a task.
pub(super) fn stability_taken() -> Value {
    json!({"id": "7"})
}

/// Stability's answer about a task that has no picture yet.
pub(super) fn stability(word: &str) -> Value {
    json!({"id": "7", "status": word})
}

#[test]
fn a_picture_is_what_its_answer_holds() {
    let responder = Responder::new();
    let drawn = || call("image.generate", json!({"prompt": "a fox"}));
    let stations = [
        Station::new(&responder, &openai_adapter::VENDOR, Verb::Submit, drawn(), openai()),
        Station::new(&responder, &recraft_adapter::VENDOR, Verb::Submit, drawn(), recraft()),
    ];
    proptest!(config(600), |(nth in 0..2_usize, changes in changes(&WORDS))| {
        let text = mutate(&stations[nth].good, &changes);
        match stations[nth].ask(&responder, &[wire(&text)]) {
            Ok(Step::Done(made)) => {
                prop_assert!(are_told(&made.files, &read(&text)), "{text}: {made:?}");
                prop_assert!(made.cost_usd.is_none_or(|cost| cost >= Decimal::ZERO), "{text}: {made:?}");
            }
            Ok(Step::Pending(_)) => prop_assert!(false, "{text}"),
            Err(error) => prop_assert!(!is_nothing_begun(error.class), "{text}: {error}"),
        }
    });
}

#[test]
fn a_bare_picture_is_one_that_says_so_and_was_not_blurred() {
    let responder = Responder::new();
    let cut_out = call("image.remove_background", json!({"image": "file_1"})).with_files(vec![photograph()]);
    let drawn = call("image.generate", json!({"prompt": "a fox"}));
    let new = |vendor, call| {
        Station::new(&responder, vendor, Verb::Submit, call, Value::Null).answered_by(Form::Picture)
    };
    let stations = [new(&removebg::VENDOR, cut_out), new(&stability_adapter::VENDOR, drawn)];
    let said = ["image/png", "image/webp", "application/octet-stream", "text/html", "application/json", ""];
    let ends = ["", "SUCCESS", "CONTENT_FILTERED", "PAUSED", "success"];
    proptest!(config(400), |(
        nth in 0..2_usize,
        kind in 0..said.len(),
        end in 0..ends.len(),
        bytes in vec(any::<u8>(), 0..100),
    )| {
        let is_picture = kind < 2;
        prop_assume!(is_picture || !is_json(&bytes));
        // One header more, behind the type.
        let head = match ends[end] {
            "" => said[kind].to_owned(),
            end => format!("{}\r\nfinish-reason: {end}", said[kind]),
        };
        // remove.bg has no such header.
        let is_success = nth == 0 || end < 2;
        match stations[nth].ask(&responder, &[http(200, &head, &bytes)]) {
            Ok(Step::Done(made)) => {
                let [Artifact::Inline(found)] = &made.files[..] else { panic!("one file, in the answer") };
                prop_assert!(is_picture && is_success && *found == bytes && !bytes.is_empty(), "{head}");
            }
            Ok(Step::Pending(_)) => prop_assert!(false, "{head}"),
            Err(error) if !is_picture => prop_assert_eq!(error.class, ErrorClass::Ambiguous, "{}", head),
            Err(error) if ends[end] == "CONTENT_FILTERED" && nth == 1 => {
                prop_assert_eq!(error.class, ErrorClass::Refused);
            }
            Err(error) => {
                prop_assert!(error.class == ErrorClass::Broken && (bytes.is_empty() || !is_success), "{head}: {error}");
            }
        }
    });
}
