//! Where a job is made: what the catalogue says of its model's routes, what its account prefers, what its request wishes.

use std::{collections::BTreeSet, sync::Arc};

use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    catalog::{self, Catalog},
    id::JobId,
};

use crate::support::{Account, Answer, Settings, TestApp, execute, scalar};

/// What a picture of flux costs; fal makes it, and Replicate where fal does not.
const FLUX: i64 = 7500;
/// Where preferences are.
const PREFERENCES: &str = "/v1/account/preferences";

/// An application whose catalogue has one text in it replaced.
async fn app_with(edits: &[(&str, String)]) -> TestApp {
    let files = catalog::FILES.map(|(name, text)| {
        let edit = |text: String, (from, to): &(&str, String)| text.replace(*from, to);
        (name, edits.iter().fold(text.to_owned(), edit))
    });
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let catalog = Catalog::read(&files).expect("the edited catalogue");
    TestApp::with(Settings { catalog: Arc::new(catalog), ..Settings::default() }).await
}

/// An application with these lines more in the two routes of flux.
async fn app_with_flux(fal: &str, replicate: &str) -> TestApp {
    let route =
        |upstream_model: &'static str, lines: &str| (upstream_model, format!("{upstream_model}\n{lines}\n"));
    app_with(&[
        route("upstream_model = \"fal-ai/flux/dev\"\n", fal),
        route("upstream_model = \"black-forest-labs/flux-dev\"\n", replicate),
    ])
    .await
}

fn flux(prompt: &str, routing: &Value) -> Value {
    json!({ "model": "flux", "input": { "prompt": prompt }, "routing": routing })
}

/// The providers of a job's routes, in the order in which they are tried.
async fn routes(app: &TestApp, job: JobId) -> String {
    let sql = format!(
        "select concat_ws(' ', provider, (select string_agg(f ->> 'provider', ' ' order by n)
                                          from jsonb_array_elements(fallbacks) with ordinality as x (f, n)))
         from jobs where id = '{}'",
        job.0
    );
    scalar(&app.db, &sql).await
}

/// The providers of a job that is ordered so, which is not made.
async fn routed(app: &TestApp, alice: &Account, order: Value) -> String {
    let answer = alice.post("/v1/jobs", order).await;
    assert_eq!(answer.status, 202, "{}", answer.json);
    let found = routes(app, answer.job()).await;
    assert_eq!(alice.cancel(answer.job()).await.status, 200);
    found
}

/// The providers of a job's attempts, in order.
async fn tried(app: &TestApp, job: JobId) -> String {
    let sql = format!(
        "select coalesce(string_agg(provider, ' ' order by attempt), '') from attempts where job_id = '{}'",
        job.0
    );
    scalar(&app.db, &sql).await
}

/// Someone of alice's account who may change it.
async fn owner(app: &TestApp, alice: &Account) -> Account {
    app.scoped_key(alice.id, &["account:read", "account:write", "audit:read"]).await
}

impl Account {
    async fn prefer(&self, preferences: Value) -> Answer {
        self.send(Method::PUT, PREFERENCES, &[], Some(&preferences)).await
    }
}

#[tokio::test]
async fn routes_of_one_priority_share_the_work_and_stand_in_for_each_other() {
    let app = app_with_flux("priority = 1\nweight = 2", "priority = 1").await;
    let alice = app.account(FLUX).await;
    let mut seen = BTreeSet::new();
    for n in 0..60 {
        seen.insert(routed(&app, &alice, flux(&format!("share {n}"), &json!({}))).await);
    }
    assert_eq!(seen, BTreeSet::from(["fal replicate".to_owned(), "replicate fal".to_owned()]));
    app.finish().await;
}

#[tokio::test]
async fn the_lowest_priority_comes_first_unless_the_request_wishes_another_order() {
    let app = app_with_flux("priority = 8", "priority = 7").await;
    let alice = app.account(FLUX).await;
    for (routing, expected) in [
        (json!({}), "replicate fal"),
        (json!({ "order": ["fal"] }), "fal replicate"),
        (json!({ "allow_fallbacks": false }), "replicate"),
        (json!({ "ignore": ["replicate"] }), "fal"),
    ] {
        assert_eq!(routed(&app, &alice, flux("a fox", &routing)).await, expected, "{routing}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_route_is_used_only_for_inputs_that_fulfil_its_condition() {
    let app = app_with_flux("when = { aspect_ratio = [\"1:1\", \"4:3\"] }", "").await;
    let alice = app.account(FLUX).await;
    let order = |ratio: &str, routing: &Value| {
        let mut order = flux("a fox", routing);
        order["input"]["aspect_ratio"] = json!(ratio);
        order
    };
    assert_eq!(
        routed(&app, &alice, flux("a fox", &json!({}))).await,
        "fal replicate",
        "by default it is 1:1"
    );
    assert_eq!(routed(&app, &alice, order("4:3", &json!({}))).await, "fal replicate");
    assert_eq!(routed(&app, &alice, order("16:9", &json!({ "order": ["fal"] }))).await, "replicate");
    for path in ["/v1/jobs", "/v1/jobs/quote"] {
        let refused = alice.post(path, order("16:9", &json!({ "only": ["fal"] }))).await;
        assert_eq!(refused.error(), (400, "no_route", "routing"), "{path}");
        let message = refused.json["error"]["message"].as_str().expect("words");
        assert!(message.ends_with("taken by replicate"), "{message}");
    }
    assert_eq!(alice.tokens().await, (FLUX, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_refused_content_goes_on_where_its_route_says_so_and_is_charged_once() {
    let app = app_with_flux("after_refusal = true", "").await;
    for (n, (fault, paid)) in [
        (json!({ "fault": "refuse", "value": "submit" }), 1),
        // The first took the work before it looked.
        (json!({ "fault": "refuse" }), 2),
    ]
    .into_iter()
    .enumerate()
    {
        let alice = app.account(10_000).await;
        let prompt = format!("refused number {n}.");
        let mut order = fault.clone();
        order["contains"] = json!(prompt);
        order["provider"] = json!("fal");
        app.simulator.order(order).await;
        let id = alice.post("/v1/jobs", flux(&prompt, &json!({}))).await.job();
        assert_eq!(alice.tokens().await, (10_000 - FLUX, FLUX), "one hold");
        app.drain().await;
        assert_eq!(alice.job(id).await["status"], "succeeded", "{fault}");
        assert_eq!(tried(&app, id).await, "fal replicate", "{fault}");
        assert_eq!(app.simulator.paid(&prompt).await, paid, "{fault}: paid submits");
        assert_eq!(alice.tokens().await, (10_000 - FLUX, 0), "{fault}: charged once");
    }
    app.finish().await;
}

#[tokio::test]
async fn whoever_refused_a_content_is_not_asked_again() {
    let refusal = |provider: &str| json!({ "provider": provider, "fault": "refuse", "value": "submit" });
    for (fal, replicate, faults, code, expected) in [
        // Where the route says nothing, a refusal is the end.
        ("", "after_refusal = true", vec![refusal("fal")], "content_refused", "fal"),
        (
            "after_refusal = true",
            "after_refusal = true",
            vec![refusal("fal"), refusal("replicate")],
            "content_refused",
            "fal replicate",
        ),
        (
            "after_refusal = true",
            "",
            vec![refusal("fal"), json!({ "provider": "replicate", "fault": "quota" })],
            "provider_unavailable",
            "fal replicate",
        ),
    ] {
        let app = app_with_flux(fal, replicate).await;
        let alice = app.account(10_000).await;
        for fault in faults {
            app.simulator.order(fault).await;
        }
        let id = alice.post("/v1/jobs", flux("a fox", &json!({}))).await.job();
        app.drain().await;
        let job = alice.job(id).await;
        assert_eq!(job["error"]["code"], code, "{job}");
        let tried = tried(&app, id).await;
        // How often the last one is asked depends on when our key there rests.
        let asked = tried.strip_prefix(expected).unwrap_or("another order");
        assert!(asked.split(' ').all(|name| name.is_empty() || expected.ends_with(name)), "{tried}");
        assert_eq!(alice.tokens().await, (10_000, 0), "{code}");
        app.finish().await;
    }
}

#[tokio::test]
async fn a_follow_up_is_made_where_the_job_before_it_was() {
    let route = "[[model.route]]\nprovider = \"midjourney\"\nupstream_model = \"action\"\n";
    let another = "[[model.route]]\nprovider = \"fal\"\nupstream_model = \"action\"\ncost_usd = \"0.01\"\n";
    let app = app_with(&[(route, format!("{another}{route}"))]).await;
    let alice = app.account(100_000).await;
    let grid = alice.submit("midjourney", json!({ "prompt": "a fox" })).await;
    app.drain().await;
    let grid = alice.job(grid).await;
    let actions = grid["output"]["actions"].as_array().expect("actions");
    let button = actions.iter().find(|action| action["label"] == "U1").expect("a button");
    let press = |routing: Value| {
        let input = json!({ "job": grid["id"], "action": button["id"] });
        json!({ "model": "midjourney-action", "input": input, "routing": routing })
    };
    for routing in [json!({}), json!({ "sort": "price", "allow_fallbacks": false })] {
        assert_eq!(routed(&app, &alice, press(routing.clone())).await, "midjourney", "{routing}");
    }
    let elsewhere = alice.post("/v1/jobs", press(json!({ "only": ["fal"] }))).await;
    assert_eq!(elsewhere.error(), (400, "invalid_parent", "input.job"));
    app.finish().await;
}

#[tokio::test]
async fn what_a_request_does_not_say_its_model_says_and_then_the_account() {
    let app = TestApp::new().await;
    let alice = app.account(FLUX).await;
    let owner = owner(&app, &alice).await;
    let preferences = json!({
        "default": { "order": ["replicate"] },
        "models": { "flux": { "allow_fallbacks": false }, "kling": {} },
    });
    let set = owner.prefer(preferences).await;
    let kept = json!({
        "object": "preferences", "default": { "order": ["replicate"] }, "models": { "flux": { "allow_fallbacks": false } },
    });
    assert_eq!((set.status.as_u16(), &set.json), (200, &kept), "what says nothing is not kept");
    assert_eq!(alice.get(PREFERENCES).await.json, kept, "everyone of the account sees them");
    for (routing, expected) in [
        (json!({}), "replicate"),
        (json!({ "allow_fallbacks": true }), "replicate fal"),
        (json!({ "order": ["fal"] }), "fal"),
        (json!({ "order": [], "only": [], "ignore": [], "allow_fallbacks": true }), "replicate fal"),
        (json!({ "only": ["fal"] }), "fal"),
    ] {
        assert_eq!(routed(&app, &alice, flux("a fox", &routing)).await, expected, "{routing}");
    }
    let text = json!({ "model": "gpt-4o", "input": { "prompt": "hello" } });
    assert_eq!(routed(&app, &alice, text).await, "openai openrouter", "another model has no wish of its own");
    let bob = app.account(FLUX).await;
    assert_eq!(
        routed(&app, &bob, flux("a fox", &json!({}))).await,
        "fal replicate",
        "another account neither"
    );

    owner.prefer(json!({ "models": { "flux": { "ignore": ["fal"] } } })).await;
    assert_eq!(routed(&app, &alice, flux("a fox", &json!({}))).await, "replicate", "all of it is replaced");
    let refused = alice.post("/v1/jobs", flux("a fox", &json!({ "only": ["fal"] }))).await;
    assert_eq!(refused.error(), (400, "no_route", "routing"), "each field counts for itself");
    owner.prefer(json!({})).await;
    assert_eq!(routed(&app, &alice, flux("a fox", &json!({}))).await, "fal replicate");
    let cleared: bool = scalar(&app.db, "select bool_and(routing is null) from accounts").await;
    assert!(cleared, "nothing is kept as nothing");
    app.finish().await;
}

#[tokio::test]
async fn preferences_count_for_people_as_for_keys() {
    let app = TestApp::new().await;
    let ann = app.register("ann@example.com").await;
    app.give(ann.id, FLUX, None).await;
    assert_eq!(ann.prefer(json!({ "default": { "order": ["replicate"] } })).await.status, 200);
    assert_eq!(routed(&app, &ann, flux("a fox", &json!({}))).await, "replicate fal");
    let eve = app.join(&ann, "eve@example.com", "viewer").await;
    assert_eq!(eve.get(PREFERENCES).await.json["default"]["order"], json!(["replicate"]));
    assert_eq!(eve.prefer(json!({})).await.error(), (403, "forbidden", "none"));
    app.finish().await;
}

#[tokio::test]
async fn a_change_of_preferences_is_written_down_and_what_changes_nothing_is_none() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let owner = owner(&app, &alice).await;
    for preferences in [
        json!({ "default": { "sort": "price" } }),
        json!({ "default": { "sort": "price" }, "models": { "flux": {} } }),
        json!({}),
        json!({ "default": { "only": [] } }),
    ] {
        assert_eq!(owner.prefer(preferences).await.status, 200);
    }
    let log = owner.get("/v1/account/audit-log?action=account.preferences_set").await.json;
    let entries = log["data"].as_array().expect("a list");
    let kept = json!({ "default": { "sort": "price" }, "models": {} });
    let changes: Vec<_> = entries.iter().map(|entry| (&entry["before"], &entry["after"])).collect();
    assert_eq!(changes, [(&kept, &Value::Null), (&Value::Null, &kept)], "newest first");
    assert_eq!(entries[0]["target"], json!(alice.id));
    app.finish().await;
}

#[tokio::test]
async fn a_preference_for_what_there_is_not_is_refused_by_name() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let owner = owner(&app, &alice).await;
    let many: Value = (0..201).map(|n| (format!("model-{n}"), json!({}))).collect();
    for (preferences, expected) in [
        (json!({ "default": { "only": ["acme"] } }), (400, "provider_not_found", "default.only")),
        (json!({ "default": { "ignore": ["fal", "acme"] } }), (400, "provider_not_found", "default.ignore")),
        (
            json!({ "models": { "flux": { "order": ["acme"] } } }),
            (400, "provider_not_found", "models.flux.order"),
        ),
        (json!({ "models": { "flux-9": {} } }), (400, "model_not_found", "models.flux-9")),
        (json!({ "models": many }), (400, "invalid_list", "models")),
        (json!({ "models": { "flux": { "sort": "beauty" } } }), (400, "invalid_type", "models.flux.sort")),
        (json!({ "default": { "only": "fal" } }), (400, "invalid_type", "default.only")),
        (json!({ "default": { "prefer": ["fal"] } }), (400, "unknown_field", "default.prefer")),
        (json!({ "model": {} }), (400, "unknown_field", "model")),
    ] {
        let answer = owner.prefer(preferences.clone()).await;
        assert_eq!(answer.error(), expected, "{preferences} → {}", answer.json);
    }
    assert_eq!(alice.prefer(json!({})).await.error(), (403, "forbidden", "none"), "a developer's key");
    let nothing = json!({ "object": "preferences", "default": {}, "models": {} });
    assert_eq!(alice.get(PREFERENCES).await.json, nothing);
    app.finish().await;
}

#[tokio::test]
async fn an_account_that_rules_providers_out_is_not_answered_from_the_cache() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let owner = owner(&app, &alice).await;
    let ask = async || {
        let id = alice.submit("gpt-4o", json!({ "prompt": "cold", "temperature": 0 })).await;
        let status = alice.job(id).await["status"].clone();
        app.drain().await;
        status
    };
    assert_eq!(ask().await, "queued", "the first time");
    assert_eq!(ask().await, "succeeded", "from the cache");
    owner.prefer(json!({ "models": { "gpt-4o": { "ignore": ["openrouter"] } } })).await;
    assert_eq!(ask().await, "queued", "whoever made the first may be ruled out");
    owner.prefer(json!({ "default": { "only": ["openai"] } })).await;
    assert_eq!(ask().await, "queued");
    owner.prefer(json!({ "default": { "order": ["openai"], "sort": "price" } })).await;
    assert_eq!(ask().await, "succeeded", "an order rules nobody out");
    app.finish().await;
}

#[tokio::test]
async fn preferences_that_cannot_be_read_stop_orders_and_nothing_else() {
    let app = TestApp::new().await;
    let alice = app.account(FLUX).await;
    let owner = owner(&app, &alice).await;
    execute(&app.db, r#"update accounts set routing = '{"default": {"avoid": ["fal"]}}'"#)
        .await
        .expect("set");
    assert_eq!(alice.get("/v1/models").await.status, 200);
    let refused = alice.post("/v1/jobs", flux("a fox", &json!({}))).await;
    assert_eq!(refused.error(), (500, "internal_error", "none"), "nobody knows whom it rules out");
    assert_eq!(alice.get(PREFERENCES).await.status, 500);
    assert_eq!(owner.prefer(json!({ "default": { "ignore": ["fal"] } })).await.status, 200);
    assert_eq!(routed(&app, &alice, flux("a fox", &json!({}))).await, "replicate");
    app.finish().await;
}
