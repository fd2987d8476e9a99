//! Replicate and fal: the models that the catalogue has by them, and the ways in which they fail.
//!
//! Both make the same model, so most cases are put to both, chosen by `routing`.

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::TimeDelta;
use image::{ImageFormat, RgbImage};
use reqwest::Method;
use serde_json::{Value, json};
use shared::{id::JobId, job::Medium};
use workers::{Station, run};

use crate::{
    flow::picture,
    support::{Account, TestApp, scalar},
};

const BOTH: [&str; 2] = ["replicate", "fal"];
/// What a picture of flux costs.
const FLUX: i64 = 7500;
const SUCCEEDED: (&str, Option<&str>) = ("succeeded", None);
const FAILED: (&str, Option<&str>) = ("failed", Some("provider_failed"));
const REFUSED: (&str, Option<&str>) = ("failed", Some("content_refused"));
const UNUSABLE: (&str, Option<&str>) = ("failed", Some("provider_result_unusable"));

impl Account {
    /// A flux job by this vendor.
    async fn flux(&self, vendor: &str, input: Value) -> JobId {
        let order = json!({ "model": "flux", "input": input, "routing": { "only": [vendor] } });
        self.post("/v1/jobs", order).await.job()
    }
}

/// A picture too long for a data URL at Replicate: noise does not compress.
fn large_picture() -> String {
    let mut state = 1_u32;
    let noise = RgbImage::from_fn(700, 700, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [a, b, c, _] = state.to_be_bytes();
        image::Rgb([a, b, c])
    });
    let mut png = std::io::Cursor::new(Vec::new());
    noise.write_to(&mut png, ImageFormat::Png).expect("encode");
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png.into_inner()))
}

#[tokio::test]
async fn every_model_by_an_aggregator_makes_what_it_says() {
    let app = TestApp::new().await;
    let swap = |image: String| json!({ "image": image, "source": picture(), "consent": true });
    for (model, input, price, mime_type, width, upstream) in [
        ("face-swap-replicate", swap(picture()), 1000, "image/png", 320, "codeplugtech/face-swap"),
        ("face-swap-replicate", swap(large_picture()), 1000, "image/png", 512, "codeplugtech/face-swap"),
        ("face-swap-fal", swap(picture()), 9000, "image/png", 320, "fal-ai/face-swap"),
        ("upscale-replicate", json!({ "image": picture() }), 3000, "image/png", 1280, "real-esrgan"),
        (
            "upscale-replicate",
            json!({ "image": picture(), "factor": 2 }),
            3000,
            "image/png",
            640,
            "real-esrgan",
        ),
        (
            "remove-background-replicate",
            json!({ "image": picture() }),
            2000,
            "image/png",
            320,
            "lucataco/remove-bg",
        ),
        ("remove-background-fal", json!({ "image": picture() }), 2000, "image/png", 320, "fal-ai/birefnet"),
        (
            "vectorize-fal",
            json!({ "image": picture() }),
            4000,
            "image/svg+xml",
            320,
            "fal-ai/recraft/vectorize",
        ),
    ] {
        let alice = app.account(10_000).await;
        let paid = app.simulator.paid(upstream).await;
        let id = alice.submit(model, input).await;
        app.drain().await;
        let job = alice.job(id).await;
        assert_eq!(job["status"], "succeeded", "{model}: {job}");
        let file = &job["output"]["files"][0];
        assert_eq!(
            (file["mime_type"].as_str(), file["width"].as_i64()),
            (Some(mime_type), Some(width)),
            "{model}"
        );
        assert!(file["size_bytes"].as_i64().is_some_and(|size| size > 100), "{model}: {file}");
        assert_eq!(job["price"]["charged"], price, "{model}");
        assert_eq!(alice.tokens().await, (10_000 - price, 0), "{model}");
        assert_eq!(app.simulator.paid(upstream).await - paid, 1, "{model}: paid submits");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_tool_falls_back_to_its_next_vendor_and_its_price_covers_the_aggregators() {
    let app = TestApp::new().await;
    let swap = json!({ "image": picture(), "source": picture(), "consent": true });
    let image = json!({ "image": picture() });
    for (model, input, tried, mime_type, width) in [
        ("face-swap", &swap, "midjourney fal", "image/png", 320),
        ("face-swap", &swap, "midjourney fal replicate", "image/png", 320),
        ("upscale", &image, "stability recraft replicate", "image/png", 1280),
        ("remove-background", &image, "recraft fal", "image/png", 320),
        ("remove-background", &image, "recraft fal replicate", "image/png", 320),
        ("remove-background", &image, "recraft fal replicate stability removebg", "image/png", 320),
        ("recraft-vectorize", &image, "recraft fal", "image/svg+xml", 320),
    ] {
        app.providers_forgive();
        let alice = app.account(10_000).await;
        let vendors: Vec<_> = tried.split(' ').collect();
        for vendor in &vendors[..vendors.len() - 1] {
            app.simulator.order(json!({ "fault": "quota", "provider": vendor, "times": 1 })).await;
        }
        let id = alice.submit(model, input.clone()).await;
        app.drain().await;
        let job = alice.job(id).await;
        assert_eq!(job["status"], "succeeded", "{tried}: {job}");
        let file = &job["output"]["files"][0];
        assert_eq!((&file["mime_type"], &file["width"]), (&json!(mime_type), &json!(width)), "{tried}");
        let attempts = format!(
            "select string_agg(provider, ' ' order by attempt) from attempts where job_id = '{}'",
            id.0
        );
        assert_eq!(scalar::<String>(&app.db, &attempts).await, tried);
        let Some((_, maker)) = tried.rsplit_once(' ').filter(|(_, maker)| BOTH.contains(maker)) else {
            continue;
        };
        let charged: i64 = job["price"]["charged"].as_i64().expect("a price");
        let micro_usd: i64 = scalar(
            &app.db,
            &format!("select (sum(cost_usd) * 1000000)::bigint from attempts where job_id = '{}'", id.0),
        )
        .await;
        // A token is sold for 6.63 millionths of a dollar.
        assert!(micro_usd * 100 <= charged * 663, "{model} by {maker}: {micro_usd} for {charged} tokens");
    }
    app.finish().await;
}

#[tokio::test]
async fn flux_is_made_by_either_and_charged_by_the_picture() {
    let app = TestApp::new().await;
    for (vendor, size) in [("replicate", (1344, 768)), ("fal", (1024, 576))] {
        let alice = app.account(50_000).await;
        let prompt = format!("three foxes by {vendor}");
        let id =
            alice.flux(vendor, json!({ "prompt": prompt, "n": 3, "aspect_ratio": "16:9", "seed": 7 })).await;
        app.drain().await;
        let job = alice.job(id).await;
        let files = job["output"]["files"].as_array().cloned().unwrap_or_default();
        let sizes: Vec<_> =
            files.iter().map(|file| (file["width"].as_i64(), file["height"].as_i64())).collect();
        assert_eq!(sizes, vec![(Some(size.0), Some(size.1)); 3], "{vendor}: {job}");
        assert_eq!(job["price"], json!({ "unit": "tokens", "held": 3 * FLUX, "charged": 3 * FLUX }));
        assert!(job["output"]["usage"].is_object(), "{vendor}: {job}");
        assert_eq!(app.simulator.paid(&prompt).await, 1, "{vendor}");
    }
    app.finish().await;
}

/// A fault at one of the two, how its job must end, and how many submits are paid.
type Case = (&'static str, Value, (&'static str, Option<&'static str>), u64);

async fn check_all(cases: Vec<Case>) {
    let app = TestApp::new().await;
    for (n, (vendor, mut fault, ends, paid)) in cases.into_iter().enumerate() {
        app.providers_forgive();
        let alice = app.account(10_000).await;
        let prompt = format!("case number {n}.");
        fault["contains"] = json!(prompt);
        app.simulator.order(fault.clone()).await;
        let id = alice.flux(vendor, json!({ "prompt": prompt })).await;
        app.drain().await;
        let job = alice.job(id).await;
        let ended = (job["status"].as_str(), job["error"]["code"].as_str());
        assert_eq!(ended, (Some(ends.0), ends.1), "{vendor} {fault}: {job}");
        assert_eq!(app.simulator.paid(&prompt).await, paid, "{vendor} {fault}: paid submits");
        let left = if ends == SUCCEEDED { 10_000 - FLUX } else { 10_000 };
        assert_eq!(alice.tokens().await, (left, 0), "{vendor} {fault}");
        let shown = job["error"]["message"].as_str().unwrap_or_default().to_lowercase();
        for theirs in ["case number", "reticulating", "nsfw", "runner", "replicate", "fal-ai", "sim"] {
            assert!(!shown.contains(theirs), "a vendor's words stay inside: {shown}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_submit_at_an_aggregator_fails_in_every_way() {
    let mut cases = Vec::new();
    for vendor in BOTH {
        let unavailable = ("failed", Some("provider_unavailable"));
        let rejected = ("failed", Some("provider_rejected_input"));
        cases.extend([
            (vendor, json!({ "fault": "rate_limit", "value": "5", "times": 1 }), SUCCEEDED, 1),
            (vendor, json!({ "fault": "quota", "times": 1 }), SUCCEEDED, 1),
            (vendor, json!({ "fault": "auth", "times": 1 }), SUCCEEDED, 1),
            (vendor, json!({ "fault": "fail", "op": "submit", "times": 1 }), SUCCEEDED, 1),
            (vendor, json!({ "fault": "slow", "value": "1", "times": 1 }), SUCCEEDED, 1),
            (vendor, json!({ "fault": "quota" }), unavailable, 0),
            (vendor, json!({ "fault": "auth" }), unavailable, 0),
            (vendor, json!({ "fault": "bad_input" }), rejected, 0),
            (vendor, json!({ "fault": "refuse", "value": "submit" }), REFUSED, 0),
            // Cheap, and cannot be asked: again, perhaps twice.
            (vendor, json!({ "fault": "drop", "times": 1 }), SUCCEEDED, 2),
            (vendor, json!({ "fault": "malformed", "op": "submit", "times": 1 }), SUCCEEDED, 2),
            (vendor, json!({ "fault": "drop_before", "times": 1 }), SUCCEEDED, 1),
            (vendor, json!({ "fault": "html", "times": 1 }), SUCCEEDED, 1),
        ]);
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_poll_of_an_aggregator_that_fails_leaves_the_task_alone() {
    let mut cases = Vec::new();
    for vendor in BOTH {
        for fault in [
            json!({ "fault": "fail", "op": "poll", "value": "503", "times": 3 }),
            json!({ "fault": "rate_limit", "op": "poll", "times": 2 }),
            json!({ "fault": "malformed", "op": "poll", "times": 2 }),
            json!({ "fault": "html", "op": "poll", "times": 2 }),
            json!({ "fault": "drop", "op": "poll", "times": 2 }),
            json!({ "fault": "unknown_status", "value": "3" }),
            json!({ "fault": "missing", "value": "2" }),
            json!({ "fault": "backwards" }),
            json!({ "fault": "truncated", "op": "download", "times": 1 }),
            json!({ "fault": "fail", "op": "download", "times": 2 }),
            json!({ "fault": "expired", "times": 1 }),
        ] {
            cases.push((vendor, fault, SUCCEEDED, 1));
        }
    }
    for fault in ["fail", "rate_limit", "malformed", "html", "drop"] {
        cases.push(("fal", json!({ "fault": fault, "op": "file", "times": 2 }), SUCCEEDED, 1));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_verdict_of_an_aggregator_ends_the_job_and_a_bad_result_is_made_anew() {
    let mut cases = vec![
        ("replicate", json!({ "fault": "task_fail", "value": "no face found" }), FAILED, 1),
        ("replicate", json!({ "fault": "task_fail", "value": "canceled" }), FAILED, 1),
        // Never begun there: made anew.
        ("replicate", json!({ "fault": "task_fail", "value": "aborted", "times": 1 }), SUCCEEDED, 2),
        // Completed with an error, told with the state.
        ("fal", json!({ "fault": "task_fail" }), FAILED, 1),
        ("fal", json!({ "fault": "task_fail", "value": "content_policy_violation" }), REFUSED, 1),
    ];
    for vendor in BOTH {
        // At fal, completed with an error that only the result tells.
        cases.push((vendor, json!({ "fault": "refuse" }), REFUSED, 1));
        for fault in ["empty", "corrupt", "wrong_type", "no_result"] {
            cases.push((vendor, json!({ "fault": fault, "times": 1 }), SUCCEEDED, 2));
        }
        cases.push((vendor, json!({ "fault": "no_result" }), UNUSABLE, 5));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_task_of_an_aggregator_that_never_ends_expires() {
    let app = TestApp::new().await;
    for vendor in BOTH {
        for fault in ["never_finish", "unknown_status", "purged"] {
            let alice = app.account(10_000).await;
            let began = app.now();
            let id = alice.flux(vendor, json!({ "prompt": format!("[[sim:{fault}]]") })).await;
            app.drain().await;
            let job = alice.job(id).await;
            assert_eq!(job["status"], "expired", "{vendor} {fault}: {job}");
            assert!(app.now() - began >= TimeDelta::minutes(10), "only the deadline ends it");
            assert_eq!(alice.tokens().await, (10_000, 0));
            let shown = job.to_string().to_lowercase();
            assert!(!shown.contains("reticulating"), "a vendor's odd word is not shown: {job}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn an_aggregators_task_ends_well_wherever_its_worker_dies() {
    let mut app = TestApp::new().await;
    for vendor in BOTH {
        for station in [
            Station::Intended,
            Station::Answered,
            Station::Parked,
            Station::Stored,
            Station::Saved,
            Station::Closing,
        ] {
            let alice = app.account(10_000).await;
            let prompt = format!("crash of {vendor} at {station:?}");
            let id = alice.flux(vendor, json!({ "prompt": prompt })).await;
            assert!(app.drain_crashing_at(station).await, "{vendor} {station:?} is on the way");
            assert_eq!(alice.job(id).await["status"], "succeeded", "{vendor} {station:?}");
            assert_eq!(alice.tokens().await, (10_000 - FLUX, 0), "{vendor} {station:?}");
            // Only with the answer in hand and unsaved is it made again.
            let limit = if station == Station::Answered { 2 } else { 1 };
            assert!(app.simulator.paid(&prompt).await <= limit, "{vendor} {station:?}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_canceled_job_is_stopped_at_the_aggregator() {
    let app = TestApp::new().await;
    let stopped = ["canceled", "client_cancelled"];
    for (vendor, word) in BOTH.into_iter().zip(stopped) {
        let alice = app.account(10_000).await;
        let id =
            alice.flux(vendor, json!({ "prompt": format!("stop [[sim:never_finish]] at {vendor}") })).await;
        app.run_due().await;
        assert_eq!(alice.cancel(id).await.status.as_u16(), 202, "{vendor}");
        for claimed in app.claim(Medium::Image).await {
            run::run_job(&app.worker, &claimed).await;
        }
        assert_eq!(alice.job(id).await["status"], "canceled", "{vendor}");
        assert_eq!(alice.tokens().await, (10_000, 0), "{vendor}");
        let tasks =
            app.http.request(Method::GET, format!("{}/control/tasks", app.simulator.url)).send().await;
        let tasks: Value = tasks.expect("ask").json().await.expect("JSON");
        let task = tasks["data"].as_array().and_then(|tasks| tasks.last().cloned()).expect("a task");
        assert_eq!((&task["provider"], &task["failure"]), (&json!(vendor), &json!(word)));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_proved_without_paying_where_that_can_be_asked() {
    let app = TestApp::new().await;
    let check = async |vendor: &str, key: &str| {
        let desk = app.worker.providers.get(vendor).expect("a vendor");
        desk.check(&key.to_owned().into()).await.map_err(|error| format!("{:?}", error.class))
    };
    assert_eq!(check("replicate", "good").await.map(|found| found.is_some()), Ok(true));
    assert_eq!(check("replicate", "wrong").await.map(|_| ()), Err("Auth".to_owned()));
    assert_eq!(check("fal", "good").await.map(|found| found.is_some()), Ok(false));
    app.finish().await;
}
