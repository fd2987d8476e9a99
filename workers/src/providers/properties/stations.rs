//! Every adapter and everything it can be asked.

use serde_json::json;

use super::{
    Form, Responder, Station, Verb, aggregators, call, inline, photograph, pictures, recording, relays,
    streams, tasks, texts, works,
};
use crate::providers::{
    Vendor, fal, gemini, kling, midjourney, minimax, openai, recraft, removebg, replicate, stability,
};

/// Every adapter and everything it can be asked; of what comes as bare bytes, the pictures.
pub(super) fn stations(responder: &Responder) -> Vec<Station> {
    let mut stations = plain(responder);
    stations.extend(in_the_answer(responder));
    stations.extend(texts::told(responder).into_iter().map(|told| told.station));
    stations.extend(texts::judged(responder));
    stations.extend(streams::tapes(responder).into_iter().map(|tape| tape.station));
    for verb in [Verb::Submit, Verb::Resume] {
        stations.extend(works::WORKS.iter().map(|works| works.station(responder, verb)));
    }
    let lookup =
        Station::new(responder, &midjourney::VENDOR, Verb::Lookup, relays::picture(), relays::listed());
    stations.push(lookup);
    stations
}

/// Those whose own rules are in `tasks`, `aggregators` and `inline`.
fn plain(responder: &Responder) -> Vec<Station> {
    let film = || call("video.generate", json!({"prompt": "a fox"}));
    let transcript = call("audio.transcribe", json!({"audio": "file_1"})).with_files(vec![recording()]);
    let chat = call("text.chat", json!({"prompt": "hi"}));
    let picture = call("image.generate", json!({"prompt": "a fox"}));
    let new = |vendor: &Vendor, verb, call, good| Station::new(responder, vendor, verb, call, good);
    vec![
        new(&kling::VENDOR, Verb::Submit, film(), tasks::kling("submitted")),
        new(&kling::VENDOR, Verb::Resume, film(), tasks::kling("succeed")),
        new(&kling::VENDOR, Verb::Lookup, film(), tasks::kling("succeed")),
        new(&minimax::v1::VENDOR, Verb::Submit, film(), tasks::minimax("Queueing")),
        new(&minimax::v1::VENDOR, Verb::Resume, film(), tasks::minimax("Success")),
        new(
            &replicate::VENDOR,
            Verb::Submit,
            aggregators::flux("replicate"),
            aggregators::replicate("starting"),
        ),
        new(
            &replicate::VENDOR,
            Verb::Resume,
            aggregators::flux("replicate"),
            aggregators::replicate("succeeded"),
        ),
        new(&fal::VENDOR, Verb::Submit, aggregators::flux("fal"), aggregators::fal_taken()),
        new(&fal::VENDOR, Verb::Resume, aggregators::flux("fal"), aggregators::fal("COMPLETED")),
        new(&gemini::VENDOR, Verb::Submit, picture, inline::picture()),
        new(&openai::VENDOR, Verb::Submit, chat, inline::completion()),
        new(&openai::VENDOR, Verb::Submit, transcript, inline::transcript()),
    ]
}

/// Pictures in an answer: as base64, or bare.
fn in_the_answer(responder: &Responder) -> Vec<Station> {
    let picture = || call("image.generate", json!({"prompt": "a fox"}));
    let cut_out = call("image.remove_background", json!({"image": "file_1"})).with_files(vec![photograph()]);
    let new = |vendor: &Vendor, call, good| Station::new(responder, vendor, Verb::Submit, call, good);
    vec![
        new(&openai::VENDOR, picture(), pictures::openai()),
        new(&recraft::VENDOR, picture(), pictures::recraft()),
        new(&stability::VENDOR, picture(), json!(null)).answered_by(Form::Picture),
        new(&removebg::VENDOR, cut_out, json!(null)).answered_by(Form::Picture),
    ]
}
