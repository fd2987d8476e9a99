//! Veo, relays of OpenAI's videos, MiniMax H3, Luma by both of its interfaces, and Kling's effects and pictures.

use serde_json::{Value, json};
use workers::{
    Station,
    providers::{Call, ErrorClass},
};

use super::{SUCCEEDED, case, check_all, house::House};
use crate::support::{Account, TestApp};

/// Models whose vendor cannot be asked about a lost submit and whose work is dear.
const NEVER_TWICE: [&str; 5] = ["veo-3.1", "sora-2", "hailuo-h3", "luma", "luma-ray-3"];

/// Runs one job to its end and gives it.
async fn run(app: &TestApp, alice: &Account, model: &str, input: Value) -> Value {
    let id = alice.submit(model, input).await;
    app.drain().await;
    alice.job(id).await
}

/// The shape and length of the one film of a job, and what it was charged.
fn film(job: &Value) -> (bool, i64, i64) {
    let file = &job["output"]["files"][0];
    assert_eq!(
        (job["status"].as_str(), file["mime_type"].as_str()),
        (Some("succeeded"), Some("video/mp4")),
        "{job}"
    );
    assert_eq!(job["output"]["files"].as_array().map(Vec::len), Some(1), "{job}");
    let side = |name: &str| file[name].as_i64().expect("a side");
    let seconds = file["duration_seconds"].as_f64().expect("a length");
    #[expect(clippy::cast_possible_truncation, reason = "a few seconds")]
    let seconds = seconds.round() as i64;
    (side("width") > side("height"), seconds, job["price"]["charged"].as_i64().expect("a charge"))
}

#[tokio::test]
async fn every_video_model_makes_what_was_asked_for() {
    let app = TestApp::new().await;
    let alice = app.account(5_000_000).await;
    let picture = crate::flow::picture();
    // Pictures for Luma must be at an address; what Kiln itself has made is at one.
    let made = run(&app, &alice, "kling-image", json!({ "prompt": "a picture to begin with" })).await;
    let address = made["output"]["files"][0]["url"].clone();
    let wanted = [
        ("veo-3.1", json!({}), (true, 8, 45_000)),
        (
            "veo-3.1",
            json!({ "seconds": 4, "aspect_ratio": "9:16", "negative_prompt": "rain" }),
            (false, 4, 45_000),
        ),
        (
            "veo-3.1-fast",
            json!({ "seconds": 8, "resolution": "1080p", "image": picture, "end_image": picture }),
            (true, 8, 25_000),
        ),
        ("sora-2", json!({}), (false, 4, 50_000)),
        ("sora-2", json!({ "seconds": 12, "aspect_ratio": "16:9", "image": picture }), (true, 12, 50_000)),
        ("hailuo", json!({}), (true, 6, 40_000)),
        // The picture is square, and so is the film that begins with it.
        ("hailuo", json!({ "image": picture }), (false, 6, 40_000)),
        ("hailuo-h3", json!({}), (true, 5, 120_000)),
        (
            "hailuo-h3",
            json!({ "seconds": 4, "resolution": "2K", "aspect_ratio": "9:16" }),
            (false, 4, 156_000),
        ),
        ("hailuo-h3", json!({ "image": picture, "end_image": picture }), (true, 5, 120_000)),
        ("luma", json!({}), (true, 5, 42_000)),
        (
            "luma",
            json!({ "seconds": 9, "aspect_ratio": "9:16", "image": address, "end_image": address }),
            (false, 9, 42_000),
        ),
        ("luma-ray-3", json!({ "seconds": 10, "resolution": "1080p" }), (true, 10, 42_000)),
        ("luma-ray-3", json!({ "aspect_ratio": "9:16", "image": address }), (false, 5, 42_000)),
    ];
    for (n, (model, mut input, expected)) in wanted.into_iter().enumerate() {
        let prompt = format!("film number {n}, by {model}");
        input["prompt"] = json!(prompt);
        let job = run(&app, &alice, model, input).await;
        assert_eq!(film(&job), expected, "{model}: {job}");
        assert_eq!(app.simulator.paid(&prompt).await, 1, "{model}");
    }
    for (effect, second) in [("squish", None), ("fuzzyfuzzy", None), ("hug", Some(&picture))] {
        let mut input = json!({ "effect": effect, "image": picture });
        if let Some(second) = second {
            input["end_image"] = json!(second);
        }
        let job = run(&app, &alice, "kling-effects", input).await;
        let (_, seconds, charged) = film(&job);
        assert_eq!((seconds, charged), (5, 38_000), "{effect}");
        assert_eq!(app.simulator.paid(effect).await, 1, "{effect}");
    }
    app.finish().await;
}

#[tokio::test]
async fn kling_makes_as_many_pictures_as_were_asked_for() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let input =
        json!({ "prompt": "a fox in snow", "n": 3, "aspect_ratio": "9:16", "negative_prompt": "rain" });
    let job = run(&app, &alice, "kling-image", input).await;
    let files = job["output"]["files"].as_array().expect("files");
    assert_eq!((job["status"].as_str(), files.len()), (Some("succeeded"), 3), "{job}");
    for file in files {
        assert_eq!(file["mime_type"], "image/png");
        assert!(file["height"].as_i64() > file["width"].as_i64(), "{file}");
    }
    assert_eq!(job["price"]["charged"], 12_000);
    assert_eq!(alice.tokens().await, (88_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn what_a_model_cannot_do_is_said_at_the_door() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    for (model, input, param) in [
        ("luma", json!({ "prompt": "x", "image": crate::flow::picture() }), "input.image"),
        ("kling-effects", json!({ "effect": "hug" }), "input.image"),
        (
            "kling-effects",
            json!({ "effect": "squish", "prompt": "x", "image": crate::flow::picture() }),
            "input.prompt",
        ),
        ("kling-effects", json!({ "effect": "explode", "image": crate::flow::picture() }), "input.effect"),
        ("sora-2", json!({ "prompt": "x", "seconds": 5 }), "input.seconds"),
        ("veo-3.1", json!({ "prompt": "x", "resolution": "4k" }), "input.resolution"),
    ] {
        let answer = alice.post("/v1/jobs", json!({ "model": model, "input": input })).await;
        assert_eq!((answer.error().0, answer.error().2), (400, param), "{model}: {}", answer.json);
    }
    // The number of pictures that an effect takes is known to the vendor alone.
    let job =
        run(&app, &alice, "kling-effects", json!({ "effect": "kiss", "image": crate::flow::picture() }))
            .await;
    assert_eq!(job["error"]["code"], "provider_rejected_input", "{job}");
    // So is that 1080p takes eight seconds.
    let job =
        run(&app, &alice, "veo-3.1", json!({ "prompt": "x", "seconds": 4, "resolution": "1080p" })).await;
    assert_eq!(job["error"]["code"], "provider_rejected_input", "{job}");
    assert_eq!(alice.tokens().await, (1_000_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn faults_of_a_submit_end_as_they_must() {
    let mut cases = Vec::new();
    for model in NEVER_TWICE.into_iter().chain(["kling-image"]) {
        for fault in [
            json!({ "fault": "rate_limit", "value": "5", "times": 1 }),
            json!({ "fault": "quota", "times": 1 }),
            json!({ "fault": "auth", "times": 1 }),
            json!({ "fault": "fail", "op": "submit", "value": "503", "times": 1 }),
        ] {
            cases.push(case(model, fault, SUCCEEDED, 1));
        }
        for fault in ["auth", "quota"] {
            cases.push(case(model, json!({ "fault": fault }), ("failed", Some("provider_unavailable")), 0));
        }
        let rejected = ("failed", Some("provider_rejected_input"));
        cases.push(case(model, json!({ "fault": "bad_input" }), rejected, 0));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_lost_answer_is_never_followed_by_a_second_bill() {
    let lost = ("failed", Some("outcome_unknown"));
    let mut cases = Vec::new();
    for model in NEVER_TWICE {
        cases.push(case(model, json!({ "fault": "drop", "times": 1 }), lost, 1));
        cases.push(case(model, json!({ "fault": "malformed", "op": "submit", "times": 1 }), lost, 1));
        cases.push(case(model, json!({ "fault": "drop_before", "times": 1 }), lost, 0));
        cases.push(case(model, json!({ "fault": "html", "times": 1 }), lost, 0));
    }
    // Google says that its own side ran out of time; the operation may exist.
    cases.push(case(
        "veo-3.1",
        json!({ "fault": "fail", "op": "submit", "value": "504", "times": 1 }),
        lost,
        0,
    ));
    // Kling is asked by our reference, for pictures as for videos.
    for fault in ["drop", "malformed", "drop_before", "html"] {
        cases.push(case("kling-image", json!({ "fault": fault, "op": "submit", "times": 1 }), SUCCEEDED, 1));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_verdict_ends_the_job_at_once() {
    let (failed, refused) = (("failed", Some("provider_failed")), ("failed", Some("content_refused")));
    let mut cases = Vec::new();
    for model in NEVER_TWICE.into_iter().chain(["kling-image"]) {
        cases.push(case(model, json!({ "fault": "task_fail" }), failed, 1));
        cases.push(case(model, json!({ "fault": "refuse", "op": "poll" }), refused, 1));
    }
    for model in ["sora-2", "hailuo-h3", "luma", "luma-ray-3"] {
        cases.push(case(model, json!({ "fault": "refuse", "op": "submit" }), refused, 0));
    }
    // Made, but lost at Luma: once more.
    let lost = json!({ "fault": "task_fail", "value": "output_not_found", "times": 1 });
    cases.push(case("luma-ray-3", lost, SUCCEEDED, 2));
    check_all(cases).await;
}

#[tokio::test]
async fn a_poll_or_download_that_fails_leaves_the_task_alone() {
    let mut cases = Vec::new();
    for model in NEVER_TWICE.into_iter().chain(["kling-image"]) {
        for fault in [
            json!({ "fault": "fail", "op": "poll", "value": "503", "times": 2 }),
            json!({ "fault": "rate_limit", "op": "poll", "times": 1 }),
            json!({ "fault": "malformed", "op": "poll", "times": 1 }),
            json!({ "fault": "html", "op": "poll", "times": 1 }),
            json!({ "fault": "drop", "op": "poll", "times": 1 }),
            json!({ "fault": "unknown_status", "value": "3" }),
            json!({ "fault": "missing", "op": "poll", "value": "2" }),
            json!({ "fault": "backwards" }),
            json!({ "fault": "truncated", "op": "download", "times": 1 }),
            json!({ "fault": "expired", "times": 1 }),
        ] {
            cases.push(case(model, fault, SUCCEEDED, 1));
        }
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_result_that_cannot_be_used_is_never_charged() {
    let unusable = ("failed", Some("provider_result_unusable"));
    let mut cases = Vec::new();
    for model in NEVER_TWICE.into_iter().chain(["kling-image"]) {
        for fault in ["empty", "corrupt", "wrong_type"] {
            cases.push(case(model, json!({ "fault": fault, "times": 1 }), SUCCEEDED, 2));
        }
        if model != "kling-image" {
            cases.push(case(model, json!({ "fault": "odd", "times": 1 }), SUCCEEDED, 2));
        }
        // The answers of OpenAI's shape hold no address that could be missing.
        if model != "sora-2" {
            // What is dear is made again once.
            let most = if model == "kling-image" { 5 } else { 2 };
            cases.push(case(model, json!({ "fault": "no_result" }), unusable, most));
        }
    }
    cases.push(case("sora-2", json!({ "fault": "corrupt" }), unusable, 2));
    check_all(cases).await;
}

#[tokio::test]
async fn a_task_that_never_ends_expires_and_is_not_charged() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    for model in NEVER_TWICE.into_iter().chain(["kling-image"]) {
        for fault in ["never_finish", "unknown_status", "purged"] {
            let input = json!({ "prompt": format!("[[sim:{fault}]] for {model}") });
            let order = json!({ "model": model, "input": input, "deadline_seconds": 90 });
            let id = alice.post("/v1/jobs", order).await.job();
            app.drain().await;
            let job = alice.job(id).await;
            assert_eq!(job["status"], "expired", "{model} {fault}: {job}");
            assert!(!job.to_string().to_lowercase().contains("reticulating"), "{model}: {job}");
        }
    }
    assert_eq!(alice.tokens().await, (1_000_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn an_effect_is_found_again_after_a_lost_answer_and_judged_like_a_video() {
    let app = TestApp::new().await;
    let alice = app.account(500_000).await;
    for (effect, fault, ends, paid) in [
        ("squish", json!({ "fault": "drop" }), SUCCEEDED, 1),
        ("expansion", json!({ "fault": "task_fail" }), ("failed", Some("provider_failed")), 1),
        ("fuzzyfuzzy", json!({ "fault": "refuse", "op": "poll" }), ("failed", Some("content_refused")), 1),
    ] {
        let mut order = fault;
        order["contains"] = json!(effect);
        order["times"] = json!(1);
        app.simulator.order(order).await;
        let input = json!({ "effect": effect, "image": crate::flow::picture() });
        let job = run(&app, &alice, "kling-effects", input).await;
        assert_eq!(
            (job["status"].as_str(), job["error"]["code"].as_str()),
            (Some(ends.0), ends.1),
            "{effect}: {job}"
        );
        assert_eq!((app.simulator.paid(effect).await, job["attempts"].as_i64()), (paid, Some(1)), "{effect}");
    }
    assert_eq!(alice.tokens().await, (500_000 - 38_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_no_of_kling_under_a_200_is_judged_by_its_code() {
    let house = House::open().await;
    let kling = house.adapter("kling");
    for (code, class) in [
        (1002, ErrorClass::Auth),
        (1102, ErrorClass::Quota),
        (1201, ErrorClass::BadInput),
        (1203, ErrorClass::Auth),
        (1301, ErrorClass::Refused),
        (1303, ErrorClass::RateLimited),
        (5000, ErrorClass::Unavailable),
        (5002, ErrorClass::Ambiguous),
        // Nobody knows it, but Kling has said no.
        (9999, ErrorClass::Unavailable),
    ] {
        let input = json!({ "prompt": format!("[[sim:code={code}]]") });
        let call = Call {
            key: "simulator:simulated".into(),
            ..Call::new("video.generate", "kling-v2-5-turbo", input, "job_1-1")
        };
        let error = kling.submit(&call).await.expect_err("a no");
        assert_eq!(error.class, class, "{code}: {error}");
    }
    assert_eq!(house.simulator.paid("").await, 0);
    house.process.finish().await;

    let code = |code: u32| json!({ "fault": "code", "value": code, "times": 1 });
    let look = |code: u32| json!({ "fault": "code", "op": "poll", "value": code, "times": 2 });
    check_all(vec![
        case("kling", code(1201), ("failed", Some("provider_rejected_input")), 0),
        case("kling", code(1301), ("failed", Some("content_refused")), 0),
        case("kling", code(1303), SUCCEEDED, 1),
        case("kling", code(5000), SUCCEEDED, 1),
        case("kling", code(5002), SUCCEEDED, 1),
        case("kling", code(9999), SUCCEEDED, 1),
        case("kling", json!({ "fault": "code", "value": 1002 }), ("failed", Some("provider_unavailable")), 0),
        case("kling", json!({ "fault": "code", "value": 1102 }), ("failed", Some("provider_unavailable")), 0),
        // No verdict on a task that is under way.
        case("kling", look(1002), SUCCEEDED, 1),
        case("kling", look(1203), SUCCEEDED, 1),
        case("kling", look(5002), SUCCEEDED, 1),
    ])
    .await;
}

#[tokio::test]
async fn a_worker_that_dies_never_pays_twice() {
    let mut app = TestApp::new().await;
    let stations = [Station::Intended, Station::Answered, Station::Parked, Station::Saved];
    for model in NEVER_TWICE.into_iter().chain(["kling-image", "kling-effects"]) {
        for station in stations {
            let alice = app.account(500_000).await;
            let before = app.simulator.paid("").await;
            let input = if model == "kling-effects" {
                json!({ "effect": "squish", "image": crate::flow::picture() })
            } else {
                json!({ "prompt": format!("{model} crashed at {station:?}") })
            };
            let id = alice.submit(model, input).await;
            assert!(app.drain_crashing_at(station).await, "{station:?} is on the way of {model}");
            let job = alice.job(id).await;
            let may_be_lost =
                NEVER_TWICE.contains(&model) && [Station::Intended, Station::Answered].contains(&station);
            let status = if may_be_lost { "failed" } else { "succeeded" };
            assert_eq!(job["status"], status, "{model} at {station:?}: {job}");
            assert!(app.simulator.paid("").await - before <= 1, "{model} at {station:?}");
            let held = job["price"]["held"].as_i64().expect("a price");
            let left = if status == "succeeded" { 500_000 - held } else { 500_000 };
            assert_eq!(alice.tokens().await, (left, 0), "{model} at {station:?}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_cancel_reaches_the_vendors_that_can_stop() {
    let app = TestApp::new().await;
    let alice = app.account(500_000).await;
    for (model, end) in [("luma", Some("deleted")), ("hailuo-h3", Some("cancelled")), ("veo-3.1", None)] {
        let prompt = format!("stop {model}");
        let id = alice.submit(model, json!({ "prompt": prompt })).await;
        assert_eq!(app.run_due().await, 1, "{model} is handed over");
        alice.cancel(id).await;
        app.drain().await;
        assert_eq!(alice.job(id).await["status"], "canceled", "{model}");
        let tasks = app.simulator.tasks(&prompt).await;
        assert_eq!((tasks.len(), tasks[0]["failure"].as_str()), (1, end), "{model}: {tasks:?}");
    }
    assert_eq!(alice.tokens().await, (500_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_proved_for_free() {
    let app = TestApp::new().await;
    for name in ["veo", "openai_videos", "luma", "kling"] {
        let desk = app.worker.providers.get(name).expect("a desk");
        let key = app.worker.keychain.of_task(name, None).expect("a key");
        let checkup = desk.check(&key.secret).await.expect(name).expect("a question");
        let credit = checkup.credit.map(|credit| format!("{} {}", credit.amount.normalize(), credit.unit));
        assert_eq!(credit.as_deref(), (name == "luma").then_some("123.45 USD"), "{name}");
        let wrong = if name == "kling" { "simulator:wrong" } else { "wrong" };
        let error = desk.check(&wrong.into()).await.expect_err(name);
        assert_eq!(error.class, ErrorClass::Auth, "{name}: {error}");
    }
    assert_eq!(app.simulator.paid("").await, 0);
    app.finish().await;
}
