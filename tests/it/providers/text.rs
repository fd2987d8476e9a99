//! Text vendors: chats told while they are written, embeddings and moderation.
//!
//! Most cases are rows: a model, a fault at its simulator, how the job ends and how often the vendor would have been paid.
//! What a listener hears is asked of the adapters themselves, without a job.

use rust_decimal::Decimal;
use secrecy::SecretString;
use serde_json::{Value, json};
use workers::{Station, providers::ErrorClass};

use super::{Case, SUCCEEDED, case, check_all, house::House};
use crate::support::{TestApp, scalar};

/// Every model of a chat, its vendor, and its price in tokens.
const CHATS: [(&str, &str, i64); 14] = [
    ("gpt-4o", "openai", 1000),
    ("gpt-4o-mini", "openai", 250),
    ("gpt-4", "openai", 1500),
    ("gpt-4-turbo", "openai", 1500),
    ("gpt-3.5-turbo", "openai", 300),
    ("deepseek", "deepseek", 800),
    ("deepseek-flash", "deepseek", 220),
    ("claude-sonnet", "anthropic", 1200),
    ("claude-opus", "anthropic", 4200),
    ("claude-haiku", "anthropic", 850),
    ("gemini-pro", "gemini", 900),
    ("gemini-flash", "gemini", 380),
    ("perplexity-sonar", "perplexity", 1000),
    ("llama-70b", "openrouter", 100),
];

/// One model of each vendor.
const EACH: [&str; 6] =
    ["gpt-4o", "llama-70b", "deepseek", "claude-sonnet", "gemini-pro", "perplexity-sonar"];

const UNAVAILABLE: (&str, Option<&str>) = ("failed", Some("provider_unavailable"));
const REFUSED: (&str, Option<&str>) = ("failed", Some("content_refused"));
const REJECTED: (&str, Option<&str>) = ("failed", Some("provider_rejected_input"));
const UNUSABLE: (&str, Option<&str>) = ("failed", Some("provider_result_unusable"));

/// The same fault for one model of each vendor.
fn each(fault: &Value, ends: (&'static str, Option<&'static str>), paid: u64) -> Vec<Case> {
    EACH.iter().map(|model| case(model, fault.clone(), ends, paid)).collect()
}

fn once(fault: &str) -> Value {
    json!({ "fault": fault, "times": 1 })
}

fn stream(value: &str) -> Value {
    json!({ "fault": "stream", "value": value, "times": 1 })
}

#[tokio::test]
async fn every_text_model_answers_for_its_price() {
    let app = TestApp::new().await;
    for (model, vendor, price) in CHATS {
        let alice = app.account(10_000).await;
        let prompt = format!("почему {model}?");
        let input = json!({ "prompt": prompt, "system": "be brief", "temperature": 0.5, "max_tokens": 500 });
        let input = if model == "perplexity-sonar" { json!({ "prompt": prompt }) } else { input };
        let id = alice.submit(model, input).await;
        app.drain().await;
        let job = alice.job(id).await;
        assert_eq!(job["status"], "succeeded", "{model}: {job}");
        let output = &job["output"];
        assert!(output["text"].as_str().is_some_and(|text| text.contains(&prompt)), "{model}: {output}");
        assert_eq!(output["finish_reason"], "stop", "{model}: {output}");
        for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert!(output["usage"][count].as_i64().is_some_and(|count| count > 0), "{model}: {output}");
        }
        assert_eq!(alice.tokens().await, (10_000 - price, 0), "{model}");
        let submits = app.simulator.submits(&prompt).await;
        assert_eq!(
            (submits["accepted"].as_u64(), &submits["data"][0]["provider"]),
            (Some(1), &json!(vendor)),
            "{submits}"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn a_text_vendor_that_says_no_is_understood() {
    let mut cases = Vec::new();
    cases.extend(each(&json!({ "fault": "rate_limit", "value": "5", "times": 1 }), SUCCEEDED, 1));
    cases.extend(each(&json!({ "fault": "fail", "op": "submit", "times": 1 }), SUCCEEDED, 1));
    cases.extend(each(&once("html"), SUCCEEDED, 1));
    cases.extend(each(&once("drop_before"), SUCCEEDED, 1));
    for fault in ["auth", "quota"] {
        cases.extend(each(&once(fault), SUCCEEDED, 1));
        cases.extend(each(&json!({ "fault": fault }), UNAVAILABLE, 0));
    }
    cases.extend(each(&json!({ "fault": "bad_input" }), REJECTED, 0));
    // Anthropic's refusal is a message, and is paid.
    let refusals = each(&json!({ "fault": "refuse" }), REFUSED, 0).into_iter();
    cases.extend(refusals.map(|case| Case { paid: u64::from(case.model == "claude-sonnet"), ..case }));
    cases.push(case(
        "llama-70b",
        json!({ "fault": "quota", "value": "in_flight", "times": 1 }),
        SUCCEEDED,
        1,
    ));
    cases.push(case("llama-70b", json!({ "fault": "bad_input", "value": "model" }), UNAVAILABLE, 0));
    cases.push(case("claude-sonnet", json!({ "fault": "fail", "value": "529", "times": 1 }), SUCCEEDED, 1));
    cases.push(case("claude-sonnet", json!({ "fault": "bad_input", "value": "model" }), UNAVAILABLE, 0));
    check_all(cases).await;
}

#[tokio::test]
async fn a_stream_that_breaks_is_a_lost_answer_and_one_that_is_odd_is_read() {
    let mut cases = Vec::new();
    for lost in [once("drop"), once("malformed"), once("truncated"), stream("cut"), stream("end")] {
        cases.extend(each(&lost, SUCCEEDED, 2));
    }
    for odd in ["split", "no_usage"] {
        cases.extend(each(&stream(odd), SUCCEEDED, 1));
    }
    // A whole answer in place of a stream is read, but for Anthropic's, which never comes so.
    let whole = each(&stream("whole"), SUCCEEDED, 1).into_iter();
    cases.extend(whole.map(|case| Case { paid: 1 + u64::from(case.model == "claude-sonnet"), ..case }));
    cases.push(case("gpt-4o", json!({ "fault": "drip", "value": "3", "times": 1 }), SUCCEEDED, 1));
    check_all(cases).await;
}

#[tokio::test]
async fn an_error_in_a_stream_is_judged_by_what_it_says() {
    let mut cases = Vec::new();
    for passing in ["error", "failed", "error:rate_limit", "error:auth", "failed:quota"] {
        cases.extend(each(&stream(passing), SUCCEEDED, 2));
    }
    cases.extend(each(&json!({ "fault": "stream", "value": "error" }), UNAVAILABLE, 5));
    let refusals = each(&json!({ "fault": "stream", "value": "error:refuse" }), REFUSED, 1).into_iter();
    // Anthropic says so at the door alone, as a request that is wrong.
    cases.extend(refusals.filter(|case| case.model != "claude-sonnet"));
    cases.extend(each(&json!({ "fault": "stream", "value": "refuse" }), REFUSED, 1));
    cases.extend(each(&once("no_result"), SUCCEEDED, 2));
    cases.extend(each(&json!({ "fault": "no_result" }), UNUSABLE, 5));
    cases.push(case("gemini-pro", json!({ "fault": "no_result", "value": "SAFETY" }), REFUSED, 1));
    check_all(cases).await;
}

#[tokio::test]
async fn tools_pictures_and_limits_reach_every_vendor_that_has_them() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let tools = json!([{ "type": "function", "function": { "name": "look", "parameters": { "type": "object", "properties": {} } } }]);
    for model in ["gpt-4o", "llama-70b", "deepseek", "claude-sonnet"] {
        let input = json!({ "prompt": "look it up", "tools": tools, "tool_choice": "required" });
        let id = alice.submit(model, input).await;
        app.drain().await;
        let output = alice.job(id).await["output"].clone();
        assert_eq!(output["finish_reason"], "tool_calls", "{model}: {output}");
        let call = &output["tool_calls"][0];
        assert_eq!(
            (&call["type"], &call["function"]["name"]),
            (&json!("function"), &json!("look")),
            "{model}"
        );
        let arguments = call["function"]["arguments"].as_str().expect("arguments");
        let arguments: Value = serde_json::from_str(arguments).expect("whole arguments");
        assert_eq!(arguments, json!({ "question": "look it up" }), "{model}");

        let messages = json!([
            { "role": "user", "content": "look it up" },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": call["id"], "content": "found" },
        ]);
        let id = alice.submit(model, json!({ "messages": messages, "tools": tools })).await;
        app.drain().await;
        assert_eq!(alice.job(id).await["status"], "succeeded", "{model} hears of what the tool found");
    }
    for model in ["gpt-4o", "llama-70b", "claude-sonnet", "gemini-flash"] {
        let picture = json!({ "type": "image_url", "image_url": { "url": crate::flow::picture() } });
        let content = json!([{ "type": "text", "text": "what is it" }, picture]);
        let id = alice.submit(model, json!({ "messages": [{ "role": "user", "content": content }] })).await;
        app.drain().await;
        let job = alice.job(id).await;
        assert!(
            job["output"]["text"].as_str().is_some_and(|text| text.contains("what is it")),
            "{model}: {job}"
        );
    }
    for model in EACH {
        let id = alice.submit(model, json!({ "prompt": "a long story", "max_tokens": 5 })).await;
        app.drain().await;
        let output = alice.job(id).await["output"].clone();
        assert_eq!(output["finish_reason"], "length", "{model}: {output}");
    }
    let id = alice.submit("gpt-4o", json!({ "prompt": "how likely", "logprobs": true })).await;
    app.drain().await;
    let output = alice.job(id).await["output"].clone();
    let told = output["logprobs"]["content"].as_array().expect("likelihoods").iter();
    let told: String = told.filter_map(|token| token["token"].as_str()).collect();
    assert_eq!(output["text"], told);
    app.finish().await;
}

#[tokio::test]
async fn what_a_vendor_bills_by_its_own_word_is_the_cost() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    for (model, pointer) in [("llama-70b", "/cost"), ("perplexity-sonar", "/cost/total_cost")] {
        let id = alice.submit(model, json!({ "prompt": "how dear" })).await;
        app.drain().await;
        let output = alice.job(id).await["output"].clone();
        let told = output["usage"].pointer(pointer).expect("a cost").to_string();
        let told = told.parse().or_else(|_| Decimal::from_scientific(&told)).expect("an amount");
        let sql = format!("select cost_usd::text from attempts where job_id = '{}'", id.0);
        let kept: String = scalar(&app.db, &sql).await;
        assert_eq!(kept.parse::<Decimal>().expect("an amount"), told, "{model}");
    }
    let sources = alice.submit("perplexity-sonar", json!({ "prompt": "where from" })).await;
    let thoughts = alice.submit("deepseek", json!({ "prompt": "what do you think" })).await;
    app.drain().await;
    let output = alice.job(sources).await["output"].clone();
    assert_eq!(output["citations"], json!(["https://example.com/simulated"]));
    assert_eq!(output["search_results"][0]["title"], "A simulated source");
    assert!(alice.job(thoughts).await["output"]["reasoning"].is_string());
    app.finish().await;
}

#[tokio::test]
async fn texts_are_embedded_and_judged_and_paid_by_what_was_read() {
    let app = TestApp::new().await;
    for (model, dimensions, per_token) in
        [("text-embedding-3-small", 1536, "0.006"), ("text-embedding-3-large", 3072, "0.04")]
    {
        let alice = app.account(1000).await;
        let texts = json!(["a fox ".repeat(200), "a hen"]);
        let id = alice.submit(model, json!({ "input": texts })).await;
        let short = alice.submit(model, json!({ "input": "a fox", "dimensions": 8 })).await;
        app.drain().await;
        let job = alice.job(id).await;
        let vectors = job["output"]["embeddings"].as_array().expect("vectors");
        assert!(
            vectors.iter().all(|vector| vector.as_array().is_some_and(|vector| vector.len() == dimensions))
        );
        assert!(vectors.len() == 2 && vectors[0] != vectors[1]);
        let read = job["output"]["usage"]["prompt_tokens"].as_i64().expect("a count");
        let price = Decimal::ONE + Decimal::from(read) * per_token.parse::<Decimal>().expect("a price");
        let price = price.round_dp_with_strategy(0, rust_decimal::RoundingStrategy::MidpointAwayFromZero);
        assert_eq!(job["price"]["charged"].to_string(), price.to_string(), "{model}: {read} tokens");
        let job = alice.job(short).await;
        assert_eq!(job["output"]["embeddings"][0].as_array().map(Vec::len), Some(8), "{job}");
    }
    let alice = app.account(0).await;
    let input = json!({ "input": ["I like foxes", "I will [[violence]] them"] });
    let id = alice.submit("omni-moderation-latest", input).await;
    app.drain().await;
    let output = alice.job(id).await["output"].clone();
    assert_eq!((&output["flagged"], &output["results"][0]["flagged"]), (&json!(true), &json!(false)));
    assert_eq!(output["results"][1]["categories"]["violence"], true);
    assert!(output["results"][1]["category_scores"]["violence"].as_f64().is_some_and(|score| score > 0.9));
    app.finish().await;
}

#[tokio::test]
async fn an_embedding_or_a_judgement_that_fails_is_never_charged() {
    let app = TestApp::new().await;
    let none: Option<&str> = None;
    for (fault, paid, ends) in [
        (once("drop"), 2, ("succeeded", none)),
        (once("malformed"), 2, ("succeeded", none)),
        (once("truncated"), 2, ("succeeded", none)),
        (once("html"), 1, ("succeeded", none)),
        (once("drop_before"), 1, ("succeeded", none)),
        (once("rate_limit"), 1, ("succeeded", none)),
        (once("auth"), 1, ("succeeded", none)),
        (json!({ "fault": "fail", "value": "503", "times": 1 }), 1, ("succeeded", none)),
        (json!({ "fault": "no_result" }), 5, UNUSABLE),
        (json!({ "fault": "quota" }), 0, UNAVAILABLE),
        (json!({ "fault": "bad_input" }), 0, REJECTED),
    ] {
        for model in ["text-embedding-3-small", "omni-moderation-latest"] {
            let alice = app.account(100).await;
            let text = format!("{model} and {fault}");
            let mut order = fault.clone();
            order["contains"] = json!(text);
            app.simulator.order(order).await;
            let id = alice.submit(model, json!({ "input": text })).await;
            app.drain().await;
            let job = alice.job(id).await;
            assert_eq!(
                (job["status"].as_str(), job["error"]["code"].as_str()),
                (Some(ends.0), ends.1),
                "{job}"
            );
            assert_eq!(app.simulator.paid(&text).await, paid, "{text}");
            let charged = job["price"]["charged"].as_i64().unwrap_or(0);
            assert_eq!(alice.tokens().await, (100 - charged, 0), "{job}");
            assert!(ends.0 == "succeeded" || charged == 0, "{job}");
            app.providers_forgive();
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_text_is_charged_once_wherever_its_worker_dies() {
    let mut app = TestApp::new().await;
    for model in [
        "llama-70b",
        "deepseek",
        "claude-sonnet",
        "gemini-pro",
        "perplexity-sonar",
        "text-embedding-3-small",
        "whisper-1",
        "tts-1",
    ] {
        for (station, most) in [(Station::Intended, 1), (Station::Answered, 2), (Station::Closing, 2)] {
            let alice = app.account(10_000).await;
            let words = format!("{model} dies at {station:?}");
            let id = alice.submit(model, super::input(model, &words)).await;
            assert!(app.drain_crashing_at(station).await, "{station:?} is on the way");
            let job = alice.job(id).await;
            assert_eq!(job["status"], "succeeded", "{words}: {job}");
            let paid = app.simulator.paid(&words).await;
            assert!((1..=most).contains(&paid), "{words}: {paid} paid submits");
            let charged = job["price"]["charged"].as_i64().expect("a charge");
            assert_eq!(alice.tokens().await, (10_000 - charged, 0), "{words}");
        }
    }
    app.finish().await;
}

/// The chat models as their vendors call them, the older protocol of Perplexity among them.
const UPSTREAM: [(&str, &str); 7] = [
    ("openai", "gpt-4o"),
    ("openrouter", "openai/gpt-4o"),
    ("deepseek", "deepseek-flash"),
    ("anthropic", "claude-sonnet-5"),
    ("gemini", "gemini-2.5-flash"),
    ("perplexity", "perplexity/sonar"),
    ("perplexity", "sonar"),
];

#[tokio::test]
async fn a_text_is_heard_in_the_words_it_is_made_of() {
    let house = House::open().await;
    for (vendor, model) in UPSTREAM {
        let (made, told) = house.hear(vendor, model, json!({ "prompt": "жар-птица" })).await;
        let pieces: Vec<_> = told.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert!(pieces.len() > 5, "{vendor} {model}: {told:?}");
        assert_eq!(made.expect("an answer").text, Some(pieces.concat()), "{vendor} {model}");

        let broken = json!({ "prompt": "half [[sim:stream=end]]" });
        let (made, told) = house.hear(vendor, model, broken).await;
        assert_eq!(made.expect_err("half").class, ErrorClass::Ambiguous, "{vendor} {model}");
        assert!(told.iter().any(|choice| choice["delta"]["content"].is_string()), "{vendor} {model}");
    }
    house.process.finish().await;
}

#[tokio::test]
async fn several_answers_are_the_same_whole_and_streamed() {
    let house = House::open().await;
    let input = |mark: &str| json!({ "prompt": format!("two ways{mark}"), "n": 2, "logprobs": true });
    let (streamed, _) = house.hear("openai", "gpt-4o", input("")).await;
    let streamed = streamed.expect("an answer");
    let extra = streamed.extra.expect("more than a text");
    assert_eq!(extra["choices"].as_array().map(Vec::len), Some(2));
    house.simulator.order(json!({ "fault": "stream", "value": "whole", "times": 1 })).await;
    let (whole, told) = house.hear("openai", "gpt-4o", input("")).await;
    let whole = whole.expect("an answer");
    assert!(told.is_empty());
    assert_eq!((streamed.text, Some(extra), streamed.usage), (whole.text, whole.extra, whole.usage));
    // A stream that ends when one answer is whole and the other is not is no answer.
    let (cut, _) = house.hear("openai", "gpt-4o", input(" [[sim:stream=cut]]")).await;
    assert_eq!(cut.expect_err("half").class, ErrorClass::Ambiguous);
    house.process.finish().await;
}

#[tokio::test]
async fn the_older_protocol_of_perplexity_tells_its_sources_and_its_bill() {
    let house = House::open().await;
    let (made, _) = house.hear("perplexity", "sonar", json!({ "prompt": "where from" })).await;
    let made = made.expect("an answer");
    assert_eq!(made.extra.expect("sources")["citations"], json!(["https://example.com/simulated"]));
    assert!(made.cost_usd.is_some_and(|cost| cost > Decimal::ZERO));
    let (gone, _) =
        house.hear("perplexity", "sonar", json!({ "prompt": "gone [[sim:bad_input=model]]" })).await;
    assert_eq!(gone.expect_err("retired").class, ErrorClass::Auth);
    house.process.finish().await;
}

#[tokio::test]
async fn a_key_is_proved_for_free() {
    let house = House::open().await;
    for (vendor, key, credit) in [
        ("openai", "good", None),
        ("gemini", "good", None),
        ("anthropic", "good", None),
        ("deepseek", "good", Some("42.50 USD")),
        ("openrouter", "good", Some("74.75 USD")),
        ("openrouter", "limited", Some("12.5 USD")),
    ] {
        let adapter = house.adapter(vendor);
        let checkup = adapter.check(&SecretString::from(key)).await.expect(vendor).expect("a question");
        let found = checkup.credit.map(|credit| format!("{} {}", credit.amount, credit.unit));
        assert_eq!(found.as_deref(), credit, "{vendor}");
        let error = adapter.check(&SecretString::from("wrong")).await.expect_err(vendor);
        assert_eq!(error.class, ErrorClass::Auth, "{vendor}: {error}");
    }
    let asked = house.adapter("perplexity").check(&SecretString::from("good")).await;
    assert_eq!(asked.expect("nothing was asked"), None);
    assert_eq!(house.simulator.paid("").await, 0);
    house.process.finish().await;
}
