//! The ways in which pictures and picture tools fail, and workers that die over them.
//!
//! Tools without a prompt are told apart by the size of their picture, which the simulator puts into its ledger.

use chrono::TimeDelta;
use serde_json::{Value, json};
use workers::Station;

use super::image::{PLENTY, picture};
use crate::support::TestApp;

const SUCCEEDED: (&str, Option<&str>) = super::SUCCEEDED;
const REFUSED: (&str, Option<&str>) = ("failed", Some("content_refused"));
const REJECTED: (&str, Option<&str>) = ("failed", Some("provider_rejected_input"));
const UNAVAILABLE: (&str, Option<&str>) = ("failed", Some("provider_unavailable"));
const UNUSABLE: (&str, Option<&str>) = ("failed", Some("provider_result_unusable"));
const UNKNOWN: (&str, Option<&str>) = ("failed", Some("outcome_unknown"));

/// A fault at a vendor, how its job must end, and how many submits are paid.
type Case = (Subject, Value, (&'static str, Option<&'static str>), u64);

/// One kind of answer of a vendor.
#[derive(Debug, Clone, Copy)]
struct Subject {
    vendor: &'static str,
    model: &'static str,
    price: i64,
}

const GPT: Subject = Subject { vendor: "openai", model: "gpt-image-1", price: 16_000 };
const STABLE: Subject = Subject { vendor: "stability", model: "stable-diffusion", price: 5000 };
const CREATIVE: Subject = Subject { vendor: "stability", model: "upscale-creative", price: 180_000 };
const RECRAFT: Subject = Subject { vendor: "recraft", model: "recraft", price: 7000 };
const CRISP: Subject = Subject { vendor: "recraft", model: "upscale", price: 3000 };
const REMOVEBG: Subject = Subject { vendor: "removebg", model: "remove-background", price: 2000 };
const GPT_EDIT: Subject = Subject { vendor: "openai", model: "gpt-image-1-edit", price: 16_000 };
const BANANA_EDIT: Subject = Subject { vendor: "gemini", model: "nano-banana-edit", price: 6380 };
const ALL: [Subject; 8] = [GPT, STABLE, CREATIVE, RECRAFT, CRISP, REMOVEBG, GPT_EDIT, BANANA_EDIT];

/// What it is asked, and by what the vendor's ledger knows it: the prompt, or the size of the picture.
fn question(subject: Subject, n: u32) -> (Value, String) {
    let prompt = format!("case number {n}.");
    match subject.model {
        "upscale" | "remove-background" => (json!({ "image": picture(240 + n) }), format!("{}x200", 240 + n)),
        "upscale-creative" | "gpt-image-1-edit" | "nano-banana-edit" => {
            (json!({ "prompt": prompt, "image": picture(240) }), prompt)
        }
        _ => (json!({ "prompt": prompt }), prompt),
    }
}

async fn check_all(cases: Vec<Case>) {
    let app = TestApp::new().await;
    for (n, (subject, mut fault, ends, paid)) in (0..).zip(cases) {
        app.providers_forgive();
        let alice = app.account(PLENTY).await;
        let (input, known_as) = question(subject, n);
        fault["contains"] = json!(known_as);
        fault["provider"] = json!(subject.vendor);
        app.simulator.order(fault.clone()).await;
        let id = alice.by(subject.vendor, subject.model, input).await;
        app.drain().await;
        let job = alice.job(id).await;
        let ended = (job["status"].as_str(), job["error"]["code"].as_str());
        assert_eq!(ended, (Some(ends.0), ends.1), "{subject:?} {fault}: {job}");
        assert_eq!(app.simulator.paid(&known_as).await, paid, "{subject:?} {fault}: paid submits");
        let left = if ends == SUCCEEDED { PLENTY - subject.price } else { PLENTY };
        assert_eq!(alice.tokens().await, (left, 0), "{subject:?} {fault}");
        let shown = job["error"]["message"].as_str().unwrap_or_default().to_lowercase();
        for theirs in
            ["case number", "reticulating", "filter", "moderation", "foreground", "sim", subject.vendor]
        {
            assert!(!shown.contains(theirs), "a vendor's words stay inside: {shown}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_fault_that_passes_is_survived() {
    let mut cases = Vec::new();
    for subject in ALL {
        for fault in [
            json!({ "fault": "rate_limit", "value": "5", "times": 1 }),
            json!({ "fault": "quota", "times": 1 }),
            json!({ "fault": "auth", "times": 1 }),
            json!({ "fault": "fail", "op": "submit", "times": 1 }),
        ] {
            cases.push((subject, fault, SUCCEEDED, 1));
        }
        // Nobody knows that it never arrived, and what is dear is not sent twice.
        for fault in ["html", "drop_before"] {
            let (ends, paid) = if subject.model == CREATIVE.model { (UNKNOWN, 0) } else { (SUCCEEDED, 1) };
            cases.push((subject, json!({ "fault": fault, "times": 1 }), ends, paid));
        }
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_fault_that_stays_fails_the_job() {
    let mut cases = Vec::new();
    for subject in ALL {
        for fault in ["auth", "quota", "rate_limit"] {
            cases.push((subject, json!({ "fault": fault }), UNAVAILABLE, 0));
        }
        cases.push((subject, json!({ "fault": "bad_input" }), REJECTED, 0));
    }
    cases.push((REMOVEBG, json!({ "fault": "bad_input", "value": "foreground" }), REJECTED, 0));
    for subject in [GPT, GPT_EDIT, BANANA_EDIT] {
        cases.push((subject, json!({ "fault": "bad_input", "value": "model" }), UNAVAILABLE, 0));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again() {
    let mut cases = Vec::new();
    for subject in ALL {
        let (ends, paid) = if subject.model == CREATIVE.model { (UNKNOWN, 1) } else { (SUCCEEDED, 2) };
        cases.push((subject, json!({ "fault": "drop", "times": 1 }), ends, paid));
        cases.push((subject, json!({ "fault": "malformed", "op": "submit", "times": 1 }), ends, paid));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_content_that_was_refused_fails_the_job_at_once() {
    check_all(vec![
        (GPT, json!({ "fault": "refuse" }), REFUSED, 0),
        (GPT_EDIT, json!({ "fault": "refuse" }), REFUSED, 0),
        (BANANA_EDIT, json!({ "fault": "refuse" }), REFUSED, 0),
        // Made and withheld, which is billed.
        (BANANA_EDIT, json!({ "fault": "no_result", "value": "IMAGE_SAFETY" }), REFUSED, 1),
        (STABLE, json!({ "fault": "refuse" }), REFUSED, 0),
        (CREATIVE, json!({ "fault": "refuse", "op": "submit" }), REFUSED, 0),
        // A blurred picture under a 200.
        (STABLE, json!({ "fault": "no_result" }), REFUSED, 1),
        (CREATIVE, json!({ "fault": "no_result" }), REFUSED, 1),
        (CREATIVE, json!({ "fault": "refuse", "op": "poll" }), REFUSED, 1),
        // How Recraft refuses is not known; it says no to the input.
        (RECRAFT, json!({ "fault": "refuse" }), REJECTED, 0),
    ])
    .await;
}

#[tokio::test]
async fn a_result_that_cannot_be_used_is_never_charged() {
    let mut cases = vec![(STABLE, json!({ "fault": "no_result", "value": "SOMETHING_NEW" }), UNUSABLE, 5)];
    for subject in ALL {
        for fault in ["empty", "corrupt", "wrong_type"] {
            cases.push((subject, json!({ "fault": fault, "times": 1 }), SUCCEEDED, 2));
        }
        // What is dear is made again once.
        let most = if subject.model == CREATIVE.model { 2 } else { 5 };
        cases.push((subject, json!({ "fault": "corrupt" }), UNUSABLE, most));
    }
    for subject in [GPT, RECRAFT, CRISP, REMOVEBG, GPT_EDIT, BANANA_EDIT] {
        cases.push((subject, json!({ "fault": "no_result" }), UNUSABLE, 5));
    }
    // A good picture that nobody ordered, of another size or shape.
    for subject in [GPT, CREATIVE, CRISP, REMOVEBG, GPT_EDIT] {
        cases.push((subject, json!({ "fault": "odd", "times": 1 }), SUCCEEDED, 2));
    }
    cases.push((REMOVEBG, json!({ "fault": "odd" }), UNUSABLE, 5));
    // Half an answer is a lost one.
    for subject in [GPT, STABLE, RECRAFT, REMOVEBG, GPT_EDIT, BANANA_EDIT] {
        cases.push((subject, json!({ "fault": "truncated", "times": 1 }), SUCCEEDED, 2));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_download_that_fails_after_an_answer_costs_another() {
    // There is no task to ask for the address again.
    let mut cases = Vec::new();
    for fault in ["expired", "truncated", "fail"] {
        cases.push((CRISP, json!({ "fault": fault, "op": "download", "times": 1 }), SUCCEEDED, 2));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_look_that_fails_leaves_the_task_alone() {
    let mut cases = Vec::new();
    for fault in [
        json!({ "fault": "fail", "op": "poll", "value": "503", "times": 3 }),
        json!({ "fault": "rate_limit", "op": "poll", "times": 2 }),
        json!({ "fault": "html", "op": "poll", "times": 2 }),
        json!({ "fault": "drop", "op": "poll", "times": 2 }),
        json!({ "fault": "unknown_status", "value": "3" }),
        json!({ "fault": "missing", "value": "2" }),
        json!({ "fault": "backwards" }),
        // The picture comes with the look, so a cut one is looked for again.
        json!({ "fault": "truncated", "times": 1 }),
    ] {
        cases.push((CREATIVE, fault, SUCCEEDED, 1));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_task_that_never_ends_expires() {
    let app = TestApp::new().await;
    for fault in ["never_finish", "unknown_status", "purged", "task_fail"] {
        let alice = app.account(PLENTY).await;
        let began = app.now();
        let input = json!({ "prompt": format!("[[sim:{fault}]]"), "image": picture(240) });
        let id = alice.submit("upscale-creative", input).await;
        app.drain().await;
        let job = alice.job(id).await;
        assert_eq!(job["status"], "expired", "{fault}: {job}");
        assert!(app.now() - began >= TimeDelta::minutes(15), "only the deadline ends it");
        assert_eq!(alice.tokens().await, (PLENTY, 0));
        let shown = job.to_string().to_lowercase();
        assert!(!shown.contains("reticulating"), "a vendor's odd word is not shown: {job}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_picture_ends_well_wherever_its_worker_dies() {
    let mut app = TestApp::new().await;
    for (n, subject) in (0..).zip([GPT, CREATIVE, CRISP, REMOVEBG, GPT_EDIT, BANANA_EDIT]) {
        for (m, station) in (0..).zip([
            Station::Intended,
            Station::Answered,
            Station::Parked,
            Station::Stored,
            Station::Saved,
            Station::Closing,
        ]) {
            let lasts = subject.model == "upscale-creative";
            if station == Station::Parked && !lasts {
                continue;
            }
            let alice = app.account(PLENTY).await;
            let (input, known_as) = question(subject, n * 10 + m);
            let id = alice.by(subject.vendor, subject.model, input).await;
            assert!(app.drain_crashing_at(station).await, "{subject:?} {station:?} is on the way");
            // A dear one that may have been sent is not sent again.
            let is_lost = lasts && [Station::Intended, Station::Answered].contains(&station);
            let (ends, price) = if is_lost { ("failed", 0) } else { ("succeeded", subject.price) };
            assert_eq!(alice.job(id).await["status"], ends, "{subject:?} {station:?}");
            assert_eq!(alice.tokens().await, (PLENTY - price, 0), "{subject:?} {station:?}");
            // Made again only where it died with the answer in hand and unsaved; of a task, with its id.
            let unsaved = [Station::Answered, Station::Stored];
            let limit =
                if unsaved.contains(&station) && (!lasts || station == Station::Answered) { 2 } else { 1 };
            assert!(app.simulator.paid(&known_as).await <= limit, "{subject:?} {station:?}");
        }
    }
    app.finish().await;
}
