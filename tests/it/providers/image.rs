//! Pictures and picture tools: OpenAI, Stability, Recraft, remove.bg, and what this program makes by itself.

use std::io::Cursor;

use base64::{Engine, prelude::BASE64_STANDARD};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::{Value, json};
use shared::id::JobId;
use workers::providers::{Artifact, Call, Step};

use super::house::House;
use crate::support::{Account, TestApp};

/// More than any model here costs.
pub(super) const PLENTY: i64 = 200_000;

fn data_url(image: &DynamicImage) -> String {
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).expect("encode");
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png.into_inner()))
}

/// A picture so many pixels wide, and 200 high.
pub(super) fn picture(width: u32) -> String {
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
    pub(super) async fn by(&self, vendor: &str, model: &str, input: Value) -> JobId {
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
