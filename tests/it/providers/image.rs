//! Pictures and picture tools: OpenAI, Stability, Recraft, remove.bg, and what this program makes by itself.
//!
//! Tools without a prompt are told apart by the size of their picture, which the simulator puts into its ledger.

use std::io::Cursor;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::TimeDelta;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::{Value, json};
use shared::id::JobId;
use workers::{
    Station,
    providers::{Artifact, Call, Step},
};

use super::house::House;
use crate::support::{Account, TestApp};

const SUCCEEDED: (&str, Option<&str>) = super::SUCCEEDED;
const REFUSED: (&str, Option<&str>) = ("failed", Some("content_refused"));
const REJECTED: (&str, Option<&str>) = ("failed", Some("provider_rejected_input"));
const UNAVAILABLE: (&str, Option<&str>) = ("failed", Some("provider_unavailable"));
const UNUSABLE: (&str, Option<&str>) = ("failed", Some("provider_result_unusable"));
const UNKNOWN: (&str, Option<&str>) = ("failed", Some("outcome_unknown"));
/// More than any model here costs.
const PLENTY: i64 = 200_000;

fn data_url(image: &DynamicImage) -> String {
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).expect("encode");
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png.into_inner()))
}

/// A picture so many pixels wide, and 200 high.
fn picture(width: u32) -> String {
    data_url(&RgbImage::from_pixel(width, 200, Rgb([200, 30, 30])).into())
}

/// A picture of that size whose left half is transparent.
fn mask(width: u32) -> String {
    let half =
        RgbaImage::from_fn(width, 200, |x, _| Rgba([255, 255, 255, if x < width / 2 { 0 } else { 255 }]));
    data_url(&half.into())
}

impl Account {
    /// A job by this vendor, where the model has several.
    async fn by(&self, vendor: &str, model: &str, input: Value) -> JobId {
        let routing = if vendor.is_empty() { json!({}) } else { json!({ "only": [vendor] }) };
        self.post("/v1/jobs", json!({ "model": model, "input": input, "routing": routing })).await.job()
    }
}

/// A model by a vendor, what it is given, its price, and of its files: how many, what kind and how large.
struct Happy {
    vendor: &'static str,
    model: &'static str,
    input: Value,
    price: i64,
    files: usize,
    mime_type: &'static str,
    size: (i64, i64),
}

fn happy(
    (vendor, model): (&'static str, &'static str),
    input: Value,
    price: i64,
    (files, mime_type, size): (usize, &'static str, (i64, i64)),
) -> Happy {
    Happy { vendor, model, input, price, files, mime_type, size }
}

const PNG: &str = "image/png";

async fn check_happy(cases: Vec<Happy>) {
    let app = TestApp::new().await;
    for Happy { vendor, model, input, price, files, mime_type, size } in cases {
        let alice = app.account(PLENTY).await;
        let paid = app.simulator.paid("").await;
        let id = alice.by(vendor, model, input).await;
        app.drain().await;
        let job = alice.job(id).await;
        assert_eq!(job["status"], "succeeded", "{vendor} {model}: {job}");
        let made = job["output"]["files"].as_array().cloned().unwrap_or_default();
        let found: Vec<_> = made
            .iter()
            .map(|file| (file["mime_type"].as_str(), file["width"].as_i64(), file["height"].as_i64()))
            .collect();
        assert_eq!(found, vec![(Some(mime_type), Some(size.0), Some(size.1)); files], "{vendor} {model}");
        assert!(made.iter().all(|file| file["size_bytes"].as_i64() > Some(100)), "{vendor} {model}: {job}");
        assert_eq!(job["price"]["charged"], price, "{vendor} {model}");
        assert_eq!(alice.tokens().await, (PLENTY - price, 0), "{vendor} {model}");
        let billed = u64::from(vendor != "local");
        assert_eq!(app.simulator.paid("").await - paid, billed, "{vendor} {model}: paid submits");
    }
    app.finish().await;
}

#[tokio::test]
async fn every_model_that_draws_from_words_makes_what_it_says() {
    let fox = || json!({ "prompt": "a fox" });
    let edited = json!({
        "prompt": "a red fox", "image": picture(320), "mask": mask(320), "size": "1536x1024", "quality": "high",
    });
    check_happy(vec![
        happy(("openai", "gpt-image-1"), fox(), 16_000, (1, PNG, (1024, 1024))),
        happy(
            ("openai", "gpt-image-1"),
            json!({ "prompt": "a fox", "n": 2, "quality": "low", "size": "1024x1536" }),
            3600,
            (2, PNG, (1024, 1536)),
        ),
        happy(("openai", "gpt-image-1-edit"), edited, 64_000, (1, PNG, (1536, 1024))),
        happy(("openai", "dall-e-3"), json!({ "prompt": "a fox", "size": "1792x1024" }), 8000, (1, PNG, (1792, 1024))),
        happy(("openai", "dall-e-3"), json!({ "prompt": "a fox", "quality": "hd" }), 64_000, (1, PNG, (1024, 1024))),
        happy(
            ("stability", "stable-diffusion"),
            json!({ "prompt": "a fox", "aspect_ratio": "16:9", "style": "anime", "seed": 7, "negative_prompt": "hens" }),
            5000,
            (1, PNG, (1344, 768)),
        ),
        happy(("stability", "stable-diffusion-ultra"), fox(), 24_000, (1, PNG, (1024, 1024))),
        happy(
            ("stability", "stable-diffusion-3.5"),
            json!({ "prompt": "a fox", "aspect_ratio": "2:3" }),
            20_000,
            (1, PNG, (832, 1248)),
        ),
        happy(
            ("recraft", "recraft"),
            json!({ "prompt": "a fox", "n": 2, "style": "digital_illustration", "size": "1024x1280", "seed": 7 }),
            14_000,
            (2, PNG, (1024, 1280)),
        ),
    ])
    .await;
}

#[tokio::test]
async fn every_tool_makes_what_it_says_by_each_of_its_vendors() {
    let of = |width: u32| json!({ "image": picture(width) });
    let beach = |width: u32| json!({ "image": picture(width), "prompt": "a beach" });
    let lit = json!({ "image": picture(308), "background": picture(320), "light_from": "above", "seed": 3 });
    check_happy(vec![
        happy(("stability", "upscale"), of(300), 3000, (1, PNG, (1200, 800))),
        happy(("recraft", "upscale"), of(302), 3000, (1, PNG, (604, 400))),
        happy(
            ("stability", "upscale-conservative"),
            json!({ "image": picture(304), "prompt": "a fox", "creativity": 0.3, "seed": 7 }),
            120_000,
            (1, PNG, (608, 400)),
        ),
        happy(
            ("stability", "upscale-creative"),
            json!({ "image": picture(306), "prompt": "a fox" }),
            180_000,
            (1, PNG, (1224, 800)),
        ),
        happy(("recraft", "recraft-upscale-creative"), of(306), 75_000, (1, PNG, (612, 400))),
        happy(
            ("local", "upscale-local"),
            json!({ "image": picture(301), "factor": 3 }),
            300,
            (1, PNG, (903, 600)),
        ),
        happy(("removebg", "remove-background"), of(310), 2000, (1, PNG, (310, 200))),
        happy(("recraft", "remove-background"), of(312), 2000, (1, PNG, (312, 200))),
        happy(("stability", "remove-background"), of(314), 2000, (1, PNG, (314, 200))),
        happy(("stability", "replace-background"), beach(316), 3500, (1, PNG, (316, 200))),
        happy(("recraft", "replace-background"), beach(318), 3500, (1, PNG, (318, 200))),
        happy(("stability", "relight"), lit, 24_000, (1, PNG, (308, 200))),
        happy(
            ("stability", "erase"),
            json!({ "image": picture(320), "mask": picture(320) }),
            15_000,
            (1, PNG, (320, 200)),
        ),
        happy(("recraft", "recraft-vectorize"), of(322), 4000, (1, "image/svg+xml", (322, 200))),
    ])
    .await;
}

#[tokio::test]
async fn what_a_vendor_says_it_bills_is_what_is_booked() {
    let app = TestApp::new().await;
    let alice = app.account(PLENTY).await;
    let id = alice.by("recraft", "recraft", json!({ "prompt": "two foxes", "n": 2 })).await;
    let chat = alice.by("openai", "gpt-image-1", json!({ "prompt": "a counted fox" })).await;
    app.drain().await;
    assert_eq!(alice.job(id).await["output"]["usage"], json!({ "credits": 80 }));
    assert!(alice.job(chat).await["output"]["usage"]["output_tokens"].is_u64());
    let cost: String = crate::support::scalar(
        &app.db,
        &format!("select trim_scale(cost_usd)::text from attempts where job_id = '{}'", id.0),
    )
    .await;
    assert_eq!(cost, "0.08");
    app.finish().await;
}

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
const ALL: [Subject; 6] = [GPT, STABLE, CREATIVE, RECRAFT, CRISP, REMOVEBG];

/// What it is asked, and by what the vendor's ledger knows it: the prompt, or the size of the picture.
fn question(subject: Subject, n: u32) -> (Value, String) {
    let prompt = format!("case number {n}.");
    match subject.model {
        "upscale" | "remove-background" => (json!({ "image": picture(240 + n) }), format!("{}x200", 240 + n)),
        "upscale-creative" => (json!({ "prompt": prompt, "image": picture(240) }), prompt),
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
    cases.push((GPT, json!({ "fault": "bad_input", "value": "model" }), UNAVAILABLE, 0));
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
    for subject in [GPT, RECRAFT, CRISP, REMOVEBG] {
        cases.push((subject, json!({ "fault": "no_result" }), UNUSABLE, 5));
    }
    // A good picture that nobody ordered, of another size or shape.
    for subject in [GPT, CREATIVE, CRISP, REMOVEBG] {
        cases.push((subject, json!({ "fault": "odd", "times": 1 }), SUCCEEDED, 2));
    }
    cases.push((REMOVEBG, json!({ "fault": "odd" }), UNUSABLE, 5));
    // Half an answer is a lost one.
    for subject in [GPT, STABLE, RECRAFT, REMOVEBG] {
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
    }
    app.finish().await;
}

#[tokio::test]
async fn a_picture_ends_well_wherever_its_worker_dies() {
    let mut app = TestApp::new().await;
    for (n, subject) in (0..).zip([GPT, CREATIVE, CRISP]) {
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

#[tokio::test]
async fn the_older_family_of_openai_is_spoken_to_as_well() {
    // No route leads to it, for the vendor has shut it; servers that speak OpenAI's protocol may have it.
    let house = House::open().await;
    let openai = house.adapter("openai");
    let draw = async |input: Value| {
        let call =
            Call { key: "simulated".into(), ..Call::new("image.generate", "dall-e-3", input, "job_1-1") };
        openai.submit(&call).await
    };
    let input = json!({ "prompt": "an older fox", "size": "1792x1024", "quality": "high", "style": "vivid" });
    let Ok(Step::Done(made)) = draw(input).await else { panic!("drawn at once") };
    assert!(matches!(&made.files[..], [Artifact::Inline(_)]), "base64 was asked for");
    assert!(made.extra.is_some_and(|extra| extra["revised_prompt"].is_string()));
    let refused = draw(json!({ "prompt": "[[sim:refuse]]" })).await.map(|_| ()).map_err(|error| error.class);
    assert_eq!(refused, Err(workers::providers::ErrorClass::Refused));
    house.process.finish().await;
}

#[tokio::test]
async fn a_key_is_proved_and_its_credit_told_without_paying() {
    let house = House::open().await;
    for (vendor, amount) in [("stability", "123.4"), ("recraft", "4200"), ("removebg", "200")] {
        let adapter = house.adapter(vendor);
        let check = async |key: &str| {
            let found =
                adapter.check(&key.to_owned().into()).await.map_err(|error| format!("{:?}", error.class))?;
            Ok::<_, String>(found.and_then(|found| found.credit).map(|credit| credit.amount.to_string()))
        };
        assert_eq!(check("good").await, Ok(Some(amount.to_owned())), "{vendor}");
        assert_eq!(check("wrong").await, Err("Auth".to_owned()), "{vendor}");
    }
    assert_eq!(house.simulator.paid("").await, 0);
    house.process.finish().await;
}

#[tokio::test]
async fn what_is_made_here_has_limits() {
    let app = TestApp::new().await;
    let alice = app.account(PLENTY).await;
    // 2000 × 1600 pixels, of which three times as wide and high are more than are made.
    let large = data_url(&DynamicImage::new_luma8(2000, 1600));
    let id = alice.submit("upscale-local", json!({ "image": large, "factor": 3 })).await;
    let speech = alice.submit("espeak", json!({ "text": "Hello from here.", "voice": "en" })).await;
    app.drain().await;
    assert_eq!(alice.job(id).await["error"]["code"], "provider_rejected_input");
    let speech = alice.job(speech).await;
    // Where the program is installed it speaks; where not, the job fails as by a vendor that is away.
    if speech["status"] == "succeeded" {
        let file = &speech["output"]["files"][0];
        assert_eq!(file["mime_type"], "audio/wav", "{speech}");
        assert!(file["duration_seconds"].as_f64() > Some(0.3), "{speech}");
        assert_eq!(alice.tokens().await, (PLENTY - 200, 0));
    } else {
        assert_eq!(speech["error"]["code"], "provider_unavailable", "{speech}");
        assert_eq!(alice.tokens().await, (PLENTY, 0));
    }
    app.finish().await;
}
