//! What is quoted is held, what is used is charged, and nobody's price changes under their job.

use reqwest::{Method, StatusCode};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use shared::{
    account::KeyRole,
    catalog::{self, Catalog},
    id::JobId,
    price::{self, Prices},
    wake::Wake,
};

use crate::support::{Account, Answer, TestApp, eventually, scalar};

async fn operator(app: &TestApp) -> Account {
    let operators = app.account(0).await;
    app.key(operators.id, KeyRole::Operator).await
}

async fn quote(account: &Account, model: &str, input: Value) -> Answer {
    account.post("/v1/jobs/quote", json!({ "model": model, "input": input })).await
}

async fn set_price(operator: &Account, model: &str, body: Value) -> Answer {
    operator.send(Method::PUT, &format!("/v1/admin/prices/{model}"), &[], Some(&body)).await
}

/// What was counted of a job, by meter.
async fn metered(app: &TestApp, job: JobId) -> Value {
    scalar(&app.db, &format!("select metered from jobs where id = '{}'", job.0)).await
}

/// What the attempts of a job cost, in their order.
async fn costs(app: &TestApp, job: JobId) -> Vec<String> {
    let sql = format!(
        "select coalesce(array_agg(coalesce(trim_scale(cost_usd)::text, 'none') order by attempt), '{{}}')
         from attempts where job_id = '{}'",
        job.0
    );
    scalar(&app.db, &sql).await
}

fn exact(value: &Value) -> Decimal {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.parse().unwrap_or_else(|_| panic!("{value} is no number"))
}

fn rounded(tokens: Decimal) -> i64 {
    tokens
        .round_dp_with_strategy(0, rust_decimal::RoundingStrategy::MidpointAwayFromZero)
        .try_into()
        .expect("a charge")
}

#[tokio::test]
async fn a_quote_is_what_is_held() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    for (model, input, max) in [
        ("gpt-4o", json!({ "prompt": "hello" }), 1000),
        // 5 bytes and 32 around them at 0.42, and 100 at 1.7.
        ("gpt-4o-tokens", json!({ "prompt": "hello", "max_tokens": 100 }), 186),
        ("gpt-4o-tokens", json!({ "prompt": "hello" }), 27_868),
        ("kling-seconds", json!({ "prompt": "a fox runs" }), 38_000),
        ("kling-seconds", json!({ "prompt": "a fox runs", "seconds": 10 }), 72_000),
        ("hailuo-seconds", json!({ "prompt": "a fox runs" }), 40_200),
        ("hailuo-seconds", json!({ "prompt": "a fox runs", "resolution": "1080P" }), 70_200),
        ("hailuo-seconds", json!({ "prompt": "a fox runs", "seconds": 10 }), 80_000),
        ("tts-1-characters", json!({ "text": "Привет" }), 15),
    ] {
        let before = alice.tokens().await;
        let quoted = quote(&alice, model, input.clone()).await;
        assert_eq!(quoted.status, StatusCode::OK, "{}", quoted.json);
        assert_eq!(quoted.json["max"], max, "{model} {input}");
        let expected = quoted.json["expected"].as_i64().expect("a number");
        assert!((1..=max).contains(&expected), "{model} {input}: {expected}");
        assert_eq!(alice.tokens().await, before, "a quote holds nothing");
        let job = alice.submit(model, input).await;
        assert_eq!(alice.job(job).await["price"]["held"], max, "{model}");
        assert_eq!(alice.tokens().await.1 - before.1, max, "{model}");
    }
    let whole = quote(&alice, "gpt-4o", json!({ "prompt": "hello" })).await.json;
    assert_eq!(
        whole,
        json!({ "object": "quote", "model": "gpt-4o", "unit": "tokens", "max": 1000, "expected": 1000,
                "eta_seconds": null, "price_version": 1 })
    );
    let shown = alice.get("/v1/models/gpt-4o").await.json;
    assert_eq!(
        shown["price"],
        json!({ "unit": "tokens", "version": 1, "per_request": 1000,
                "rules": [{ "per": "request", "tokens": "1000" }] })
    );
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_quote_is_refused_for_what_a_job_is_refused_for() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let input = json!({ "prompt": "hello", "max_tokens": 100 });
    for (body, error) in [
        (json!({ "model": "none", "input": {} }), (404, "model_not_found", "model")),
        (json!({ "model": "gpt-4o", "input": { "prompt": 5 } }), (400, "invalid_input", "input.prompt")),
        (
            json!({ "model": "gpt-4o-tokens", "input": input, "max_price": 185 }),
            (400, "price_above_max", "max_price"),
        ),
        (
            json!({ "model": "gpt-4o", "input": input, "routing": { "only": ["nobody"] } }),
            (400, "no_route", "routing"),
        ),
        (json!({ "model": "gpt-4o", "input": input, "colour": 1 }), (400, "unknown_field", "colour")),
    ] {
        assert_eq!(alice.post("/v1/jobs/quote", body.clone()).await.error(), error, "{body}");
        assert_eq!(alice.post("/v1/jobs", body.clone()).await.error(), error, "{body}");
    }
    let body = json!({ "model": "gpt-4o-tokens", "input": input, "max_price": 186 });
    assert_eq!(alice.post("/v1/jobs/quote", body.clone()).await.status, StatusCode::OK);
    assert_eq!(alice.post("/v1/jobs", body).await.error().1, "insufficient_tokens");
    app.finish().await;
}

#[tokio::test]
async fn a_metered_job_is_charged_for_what_it_used_and_the_rest_comes_back() {
    let app = TestApp::new().await;
    let alice = app.account(50_000).await;
    let job = alice.submit("gpt-4o-tokens", json!({ "prompt": "what is a kiln, in one sentence" })).await;
    let held = alice.tokens().await.1;
    app.drain().await;
    let shown = alice.job(job).await;
    let usage = &shown["output"]["usage"];
    let (read, written) = (exact(&usage["prompt_tokens"]), exact(&usage["completion_tokens"]));
    let charged = rounded(read * Decimal::new(42, 2) + written * Decimal::new(17, 1));
    assert!(charged > 10 && charged < held / 10, "{charged} of {held}");
    assert_eq!(shown["price"], json!({ "unit": "tokens", "held": held, "charged": charged }));
    assert_eq!(alice.tokens().await, (50_000 - charged, 0));
    assert_eq!(
        metered(&app, job).await,
        json!({ "request": "1", "prompt_token": read.to_string(), "completion_token": written.to_string() })
    );
    let cost = (read * Decimal::new(25, 7) + written * Decimal::new(1, 5)).normalize();
    assert_eq!(costs(&app, job).await, [cost.to_string()], "exact to the last digit");
    app.finish().await;
}

#[tokio::test]
async fn seconds_and_characters_are_counted_and_a_discount_is_rounded_once() {
    let app = TestApp::new().await;
    let alice = app.account(500_000).await;
    let package = json!({ "price_group": "package" });
    let path = format!("/v1/admin/accounts/{}", alice.id);
    let answer = operator(&app).await.send(Method::PATCH, &path, &[], Some(&package)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);

    for (model, input, per_second) in [
        ("kling-seconds", json!({ "prompt": "a fox runs", "seconds": 10 }), 7200),
        ("hailuo-seconds", json!({ "prompt": "a fox runs", "resolution": "1080P" }), 11_700),
    ] {
        let asked = Decimal::from(if model == "kling-seconds" { 10 } else { 6 });
        let job = alice.submit(model, input).await;
        let held = alice.tokens().await.1;
        assert_eq!(held, rounded(asked * Decimal::from(per_second) * Decimal::new(9, 1)));
        app.drain().await;
        let made = exact(&metered(&app, job).await["second"]);
        let charged = rounded(made.min(asked) * Decimal::from(per_second) * Decimal::new(9, 1));
        assert_eq!(alice.job(job).await["price"]["charged"], charged, "{model}: {made} s");
    }

    // 6 × 2.5 × 0.9 is 13.5, which rounds up.
    let job = alice.submit("tts-1-characters", json!({ "text": "Привет" })).await;
    app.drain().await;
    assert_eq!(alice.job(job).await["price"], json!({ "unit": "tokens", "held": 14, "charged": 14 }));
    assert_eq!(costs(&app, job).await, ["0.00009"]);
    app.finish().await;
}

#[tokio::test]
async fn a_job_keeps_the_price_it_was_accepted_under() {
    let app = TestApp::new().await;
    let (alice, operator) = (app.account(100_000).await, operator(&app).await);
    let old = alice.submit("gpt-4o", json!({ "prompt": "old" })).await;
    let metered_old = alice.submit("gpt-4o-tokens", json!({ "prompt": "old", "max_tokens": 100 })).await;
    let held = alice.job(metered_old).await["price"]["held"].clone();

    let answer = set_price(&operator, "gpt-4o", json!({ "tokens": 2000, "reason": "costs rose" })).await;
    assert_eq!((answer.status, &answer.json["version"]), (StatusCode::OK, &json!(2)), "{}", answer.json);
    let rules = json!([{ "per": "request", "tokens": "0.4" }]);
    let answer = set_price(&operator, "gpt-4o-tokens", json!({ "rules": rules, "reason": "a gift" })).await;
    assert_eq!(answer.json["rules"], rules, "{}", answer.json);

    assert_eq!(quote(&alice, "gpt-4o", json!({ "prompt": "new" })).await.json["max"], 2000, "no restart");
    assert_eq!(alice.get("/v1/models/gpt-4o").await.json["price"]["version"], 2);
    let new = alice.submit("gpt-4o", json!({ "prompt": "new" })).await;
    let free = alice.submit("gpt-4o-tokens", json!({ "prompt": "new" })).await;
    app.drain().await;
    for (job, held, version) in
        [(old, json!(1000), 1), (new, json!(2000), 2), (metered_old, held, 1), (free, json!(0), 2)]
    {
        let shown = alice.job(job).await;
        assert_eq!(
            (&shown["price"]["held"], shown["status"].as_str()),
            (&held, Some("succeeded")),
            "{shown}"
        );
        let kept: i32 =
            scalar(&app.db, &format!("select price_version from jobs where id = '{}'", job.0)).await;
        assert_eq!(kept, version);
    }
    assert_eq!(alice.job(old).await["price"]["charged"], 1000);
    assert_eq!(alice.job(new).await["price"]["charged"], 2000);
    assert!(alice.job(metered_old).await["price"]["charged"].as_i64().is_some_and(|tokens| tokens > 10));

    let history = operator.get("/v1/admin/prices/gpt-4o").await.json;
    let told: Vec<_> = history["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|version| {
            json!([version["version"], version["source"], version["reason"], version["rules"][0]["tokens"]])
        })
        .collect();
    assert_eq!(told, [json!([2, "operator", "costs rose", "2000"]), json!([1, "catalog", null, "1000"])]);
    let audited: i64 = scalar(
        &app.db,
        "select count(*) from audit_log where action = 'price.set' and actor_kind = 'operator' and after ->> 'version' = '2'",
    )
    .await;
    assert_eq!(audited, 2);
    let current = operator.get("/v1/admin/prices").await.json;
    assert_eq!(current["data"].as_array().map(Vec::len), Some(catalog().models().len()));
    app.finish().await;
}

#[tokio::test]
async fn only_operators_set_prices_and_only_ones_that_make_sense() {
    let app = TestApp::new().await;
    let (alice, operator) = (app.account(0).await, operator(&app).await);
    let body = json!({ "tokens": 1, "reason": "for me" });
    assert_eq!(set_price(&alice, "gpt-4o", body.clone()).await.error().0, 403);
    assert_eq!(alice.get("/v1/admin/prices").await.error().0, 403);
    assert_eq!(set_price(&operator, "none", body).await.error(), (404, "model_not_found", "model"));
    assert_eq!(operator.get("/v1/admin/prices/none").await.error().0, 404);

    for (model, price, says) in [
        ("gpt-4o", json!({}), "either rules or tokens"),
        ("gpt-4o", json!({ "tokens": 1, "rules": [] }), "either rules or tokens"),
        ("gpt-4o", json!({ "rules": [] }), "1 to 100 rules"),
        ("gpt-4o", json!({ "rules": [{ "per": "request", "tokens": "-1" }] }), "rule 1 (per request)"),
        ("gpt-4o", json!({ "rules": [{ "per": "request", "tokens": 0.5 }] }), "in quotes"),
        ("gpt-4o", json!({ "rules": [{ "per": "prompt_token", "tokens": 1 }] }), "say `most`"),
        ("gpt-4o", json!({ "rules": [{ "per": "smell", "tokens": 1 }] }), "unknown variant"),
        ("gpt-4o", json!({ "tokens": -1 }), "u64"),
        (
            "hailuo-seconds",
            json!({ "rules": [{ "per": "second", "tokens": 1, "when": { "colour": "red" } }] }),
            "no field \"colour\"",
        ),
        (
            "hailuo-seconds",
            json!({ "rules": [{ "per": "second", "tokens": 1, "when": { "resolution": "4K" } }] }),
            "never \"4K\"",
        ),
        (
            "hailuo-seconds",
            json!({ "rules": [{ "per": "second", "tokens": 1, "when": { "resolution": "768P" } }] }),
            "add one without `when`",
        ),
        (
            "hailuo-seconds",
            json!({ "rules": [{ "per": "second", "tokens": 1 }, { "per": "second", "tokens": 2 }] }),
            "rule 1 (per second): it and rule 2",
        ),
    ] {
        let mut body = price.clone();
        body["reason"] = json!("a try");
        let answer = set_price(&operator, model, body).await;
        let message = answer.json["error"]["message"].as_str().unwrap_or_default();
        assert!(
            answer.status == StatusCode::BAD_REQUEST && message.contains(says),
            "{price}: {}",
            answer.json
        );
    }
    let answer = set_price(&operator, "gpt-4o", json!({ "tokens": 1, "reason": " " })).await;
    assert_eq!(answer.error(), (400, "invalid_text", "reason"));
    let versions: i64 = scalar(&app.db, "select max(version)::bigint from prices").await;
    assert_eq!(versions, 1, "nothing was written");
    app.finish().await;
}

fn catalog() -> Catalog {
    Catalog::load().expect("the catalogue")
}

/// The catalogue with one text in it replaced.
fn edited(from: &str, to: &str) -> Catalog {
    let files = catalog::FILES.map(|(name, text)| (name, text.replacen(from, to, 1)));
    assert!(files.iter().zip(catalog::FILES).any(|((_, new), (_, old))| new != old), "{from} is in no file");
    Catalog::read(&files.each_ref().map(|(name, text)| (*name, text.as_str()))).expect("the edited catalogue")
}

#[tokio::test]
async fn a_deployment_undoes_no_change_of_an_operator_but_a_changed_file_wins() {
    let app = TestApp::new().await;
    let (alice, operator) = (app.account(0).await, operator(&app).await);
    let price = |model: &'static str| {
        let alice = alice.clone();
        async move { alice.get(&format!("/v1/models/{model}")).await.json["price"]["per_request"].clone() }
    };
    set_price(&operator, "gpt-4o", json!({ "tokens": 1500, "reason": "by hand" })).await;
    set_price(&operator, "nano-banana", json!({ "tokens": 7000, "reason": "by hand" })).await;
    let _: i32 = scalar(&app.db, "update plans set price_rub = 700 where plan = 'month' returning 1").await;

    let now = app.now();
    assert_eq!(
        price::publish(&app.db, &catalog(), now).await.expect("publish"),
        0,
        "nothing changed in the files"
    );
    let line = "name = \"GPT-4o\"\ntask = \"text.chat\"\nprice_tokens = 1";
    let changed = edited(&format!("{line}000"), &format!("{line}200"));
    // Several processes deploy at once.
    let deployed = futures::future::join_all((0..4).map(|_| price::publish(&app.db, &changed, now))).await;
    let counts: Vec<_> = deployed.into_iter().map(|count| count.expect("publish")).collect();
    assert_eq!(counts.iter().sum::<usize>(), 1, "{counts:?}");
    app.worker.wakes.send(Wake::Prices);
    eventually("the new price is known", async || price("gpt-4o").await == 1200).await;
    assert_eq!(price("nano-banana").await, 7000, "untouched by that file's change");
    let month: String = scalar(&app.db, "select price_rub::text from plans where plan = 'month'").await;
    assert_eq!(month, "700");
    let versions: i64 = scalar(&app.db, "select count(*) from prices where model = 'gpt-4o'").await;
    assert_eq!(versions, 3);

    let changed = edited("price_rub = \"597\"", "price_rub = \"650\"");
    // Back to the old price of GPT-4o, and a new one of the plan.
    assert_eq!(price::publish(&app.db, &changed, now).await.expect("publish"), 2);
    let month: String = scalar(&app.db, "select price_rub::text from plans where plan = 'month'").await;
    assert_eq!(month, "650");
    app.finish().await;
}

#[tokio::test]
async fn plans_tiers_and_groups_are_published_and_a_plan_left_out_is_sold_no_more() {
    let app = TestApp::new().await;
    let plans: i64 = scalar(&app.db, "select count(*) from plans where on_sale").await;
    assert_eq!(plans, 10);
    let tiers: String =
        scalar(&app.db, "select string_agg(tier || ' ' || coalesce(requests_per_hour::text, '-'), ', ' order by rank) from tiers").await;
    assert_eq!(tiers, "free 5, basic 100, premium 500, unlimited -");
    let groups: String = scalar(
        &app.db,
        "select string_agg(price_group || ' ' || percent, ', ' order by percent) from price_groups",
    )
    .await;
    assert_eq!(groups, "package 90, standard 100");
    let renamed = edited("id = \"week\"", "id = \"seven-days\"");
    assert_eq!(price::publish(&app.db, &renamed, app.now()).await.expect("publish"), 2);
    let sold: String = scalar(
        &app.db,
        "select string_agg(plan || ' ' || on_sale, ', ' order by plan) from plans where plan in ('week', 'seven-days')",
    )
    .await;
    assert_eq!(sold, "seven-days true, week false");
    app.finish().await;
}

#[tokio::test]
async fn a_process_without_prices_says_what_to_run() {
    let app = TestApp::new().await;
    let _: i64 = scalar(
        &app.db,
        "with gone as (delete from prices where model = 'kling' returning 1) select count(*) from gone",
    )
    .await;
    let error = Prices::load(&app.db, &catalog()).await.expect_err("no price of kling");
    assert!(error.to_string().contains("kling") && error.to_string().contains("`kiln migrate`"), "{error}");
    app.finish().await;
}

#[tokio::test]
async fn usage_that_cannot_be_is_charged_as_the_ordinary_and_told_to_operators() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    for usage in ["-5", "0", "1.5", "9000000", "\"many\"", "null"] {
        let prompt = format!("[[sim:usage={usage}]]");
        let input = json!({ "prompt": prompt, "max_tokens": 1000 });
        let expected = quote(&alice, "gpt-4o-tokens", input.clone()).await.json["expected"].clone();
        let job = alice.submit("gpt-4o-tokens", input).await;
        app.drain().await;
        let shown = alice.job(job).await;
        assert_eq!(shown["status"], "succeeded", "{usage}: {shown}");
        assert_eq!(shown["price"]["charged"], expected, "{usage}: {shown}");
        let counted = metered(&app, job).await;
        assert_eq!(counted["estimated"], json!(["prompt_token", "completion_token"]), "{usage}: {counted}");
        assert_eq!(counted["completion_token"], "400", "{usage}");
    }
    let told: i64 = scalar(&app.db, "select count(*) from mails where kind = 'usage_rejected'").await;
    assert_eq!(told, 1, "once a day, however many jobs");

    // Where usage decides nothing, an odd one is only noted.
    let job = alice.submit("gpt-4o", json!({ "prompt": "[[sim:usage=-5]]" })).await;
    app.drain().await;
    assert_eq!(alice.job(job).await["price"]["charged"], 1000);
    assert_eq!(metered(&app, job).await, json!({ "request": "1" }));
    app.finish().await;
}

#[tokio::test]
async fn every_attempt_that_ended_has_its_cost() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    for (fault, expected) in [
        // Done and billed, and the answer was lost: the list price, twice.
        ("drop", &["0.006", "0.006"][..]),
        // Never taken.
        ("rate_limit", &["0", "0.006"]),
        // Claimed as a success, and of no use.
        ("malformed", &["0.006", "0.006"]),
    ] {
        app.simulator.order(json!({ "fault": fault, "contains": fault, "times": 1 })).await;
        let job =
            alice.submit_to("openai", "gpt-4o", json!({ "prompt": format!("a case of {fault}") })).await;
        app.drain().await;
        assert_eq!(alice.job(job).await["status"], "succeeded", "{fault}");
        assert_eq!(costs(&app, job).await, expected, "{fault}");
    }
    let refused = alice.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    app.drain().await;
    assert_eq!(costs(&app, refused).await, ["0"], "nobody bills a refusal");
    // A lost answer on every try: each may have been billed.
    let lost = alice.submit_to("openai", "gpt-4o", json!({ "prompt": "[[sim:drop]]" })).await;
    app.drain().await;
    assert_eq!(alice.job(lost).await["status"], "failed");
    assert!(costs(&app, lost).await.iter().all(|cost| cost == "0.006"), "{:?}", costs(&app, lost).await);
    app.finish().await;
}

#[tokio::test]
async fn a_repeat_finds_its_job_though_the_price_has_risen_above_what_it_may_cost() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "once" }, "max_price": 1000 });
    let keyed = [("Idempotency-Key", "k")];
    let first = alice.send(Method::POST, "/v1/jobs", &keyed, Some(&body)).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.json);
    let set = set_price(&operator(&app).await, "gpt-4o", json!({ "tokens": 2000, "reason": "dearer" })).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.json);
    let again = alice.send(Method::POST, "/v1/jobs", &keyed, Some(&body)).await;
    assert_eq!((again.status, again.job()), (StatusCode::ACCEPTED, first.job()), "{}", again.json);
    let new = alice.post("/v1/jobs", body).await;
    assert_eq!(new.error(), (400, "price_above_max", "max_price"));
    app.drain().await;
    assert_eq!(alice.tokens().await, (9000, 0));
    app.finish().await;
}
