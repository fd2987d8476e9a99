//! Reports of usage and margin: they add up to the jobs, whether days are rolled up or not.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::{Method, StatusCode};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use shared::{account::KeyRole, usage};
use workers::Station;

use crate::support::{Account, PASSWORD, TestApp, execute, scalar};

const EMAIL: &str = "ann@example.com";
const QUANTITIES: [&str; 9] = [
    "jobs",
    "succeeded",
    "cached",
    "charged",
    "prompt_tokens",
    "completion_tokens",
    "images",
    "seconds",
    "characters",
];

/// Moves the clock to ten in the morning of the next day.
fn next_morning(app: &TestApp) -> NaiveDate {
    let day = app.now().date_naive() + Days::new(1);
    app.clock.advance_to(at(day, 10, 0));
    day
}

fn at(day: NaiveDate, hour: u32, minute: u32) -> DateTime<Utc> {
    day.and_hms_opt(hour, minute, 0).expect("a time").and_utc()
}

async fn report(of: &Account, query: &str) -> Value {
    let answer = of.get(&format!("/v1/usage?{query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert_eq!(answer.json["has_more"], false, "a report comes as a whole");
    answer.json
}

/// Jobs and charged tokens of each line, by what the line is of.
fn lines(report: &Value) -> BTreeMap<String, (i64, i64)> {
    let by = report["group_by"].as_str().expect("a grouping");
    let data = report["data"].as_array().expect("a list");
    let line = |line: &Value| {
        let of = line[by]["id"].as_str().or(line[by].as_str()).unwrap_or("none").to_owned();
        (of, (line["jobs"].as_i64().expect("jobs"), line["charged"].as_i64().expect("charged")))
    };
    data.iter().map(line).collect()
}

/// Everything that is rolled up, as text.
async fn rolled(app: &TestApp) -> String {
    scalar(
        &app.db,
        "select concat_ws(E'\\n', (select string_agg(t::text, E'\\n' order by t::text) from usage_daily t),
                                 (select string_agg(t::text, E'\\n' order by t::text) from cost_daily t),
                                 (select string_agg(day::text, E'\\n' order by day) from usage_days))",
    )
    .await
}

/// Three days of an account with two keys and a person. Gives the first and the last.
async fn three_days(app: &TestApp, keys: &[Account; 2]) -> (NaiveDate, NaiveDate) {
    let first = next_morning(app);
    keys[0].submit("gpt-4o", json!({ "prompt": "one" })).await;
    keys[0].submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    keys[0].submit("nano-banana", json!({ "prompt": "a fox" })).await;
    app.drain().await;
    next_morning(app);
    // The same twice is answered from the cache the second time.
    for _ in 0..2 {
        keys[1].submit("gpt-4o", json!({ "prompt": "again", "temperature": 0 })).await;
        app.drain().await;
    }
    keys[1].submit("tts-1-characters", json!({ "text": "hello there" })).await;
    app.drain().await;
    let last = next_morning(app);
    let ann = app.with_tokens(&app.ask_to_log_in(EMAIL, PASSWORD).await);
    ann.submit("kling", json!({ "prompt": "a film" })).await;
    app.drain().await;
    assert_eq!(app.now().date_naive(), last, "the film was made on one day");
    assert_eq!(ann.id, keys[0].id);
    (first, last)
}

/// The two keys of someone who has tokens.
async fn someone(app: &TestApp) -> [Account; 2] {
    let ann = app.register(EMAIL).await;
    app.give(ann.id, 500_000, None).await;
    [app.key(ann.id, KeyRole::Member).await, app.key(ann.id, KeyRole::Member).await]
}

#[tokio::test]
async fn every_report_adds_up_to_the_jobs_before_and_after_days_are_rolled_up() {
    let app = TestApp::new().await;
    let keys = someone(&app).await;
    let other = app.account(50_000).await;
    let (first, last) = three_days(&app, &keys).await;
    other.submit("gpt-4o", json!({ "prompt": "not ours" })).await;
    app.drain().await;
    let range = format!("from={first}&to={last}");
    let mut live = Vec::new();
    for by in ["model", "day", "key", "user"] {
        live.push(report(&keys[0], &format!("group_by={by}&{range}")).await);
    }
    let of = |by: usize| lines(&live[by]);
    let models = of(0);
    assert_eq!(models["gpt-4o"], (4, 2000), "{models:?}");
    assert_eq!(models["nano-banana"], (1, 6380));
    assert_eq!(models["tts-1-characters"], (1, 28), "11 characters at 2.5");
    let film = models["kling"].1;
    let by_day: Vec<_> = of(1).into_values().collect();
    assert_eq!(by_day, [(3, 7380), (3, 1028), (1, film)]);
    let mut by_key: Vec<_> = of(2).into_values().collect();
    by_key.sort_unstable();
    assert_eq!(by_key, [(1, film), (3, 1028), (3, 7380)], "two keys and the person");
    let people = of(3);
    assert_eq!((people.len(), people["none"]), (2, (6, 8408)));
    let totals = &live[0]["totals"];
    assert_eq!(
        [&totals["jobs"], &totals["succeeded"], &totals["cached"], &totals["images"], &totals["characters"]],
        [7, 6, 1, 1, 11]
    );
    assert!(totals["seconds"].as_f64().is_some_and(|seconds| seconds >= 5.0), "{totals}");
    assert!(totals["prompt_tokens"].as_i64().is_some_and(|tokens| tokens > 0), "{totals}");
    assert!(live.iter().all(|report| report["totals"] == *totals), "whatever it is broken down by");

    next_morning(&app);
    assert!(app.tick("roll-up-usage").await);
    let days: i64 = scalar(&app.db, "select count(*) from usage_days").await;
    assert_eq!(days, 3, "from the first job's day to yesterday");
    app.finish().await;
}

#[tokio::test]
async fn a_report_of_rolled_days_is_the_one_of_their_jobs_and_today_is_added() {
    let app = TestApp::new().await;
    let keys = someone(&app).await;
    let (first, last) = three_days(&app, &keys).await;
    let range = format!("from={first}&to={last}");
    let all = async || {
        let mut reports = Vec::new();
        for by in ["model", "day", "key", "user"] {
            reports.push(report(&keys[0], &format!("group_by={by}&{range}")).await);
        }
        reports
    };
    let live = all().await;
    let today = next_morning(&app);
    assert!(app.tick("roll-up-usage").await);
    assert_eq!(all().await, live);

    keys[1].submit("gpt-4o", json!({ "prompt": "today" })).await;
    app.drain().await;
    let days = report(&keys[0], "group_by=day").await;
    assert_eq!((&days["from"], &days["to"]), (&json!(today - Days::new(29)), &json!(today)));
    assert_eq!(lines(&days).len(), 4);
    assert_eq!(lines(&days)[&today.to_string()], (1, 1000), "live");
    assert_eq!(
        days["totals"]["charged"].as_i64(),
        live[0]["totals"]["charged"].as_i64().map(|charged| charged + 1000)
    );
    let chats = report(&keys[0], "group_by=day&model=gpt-4o").await;
    assert_eq!((&chats["totals"]["jobs"], &chats["totals"]["charged"]), (&json!(5), &json!(3000)));
    let by_key = report(&keys[0], "group_by=key").await;
    let line = by_key["data"].as_array().expect("a list").iter().find(|line| !line["key"].is_null());
    let key = &line.expect("a key")["key"];
    assert_eq!(key["name"], "test");
    assert!(
        key["prefix"].as_str().is_some_and(|prefix| keys.iter().any(|k| k.key.starts_with(prefix))),
        "{key}"
    );
    let by_user = report(&keys[0], "group_by=user").await;
    let line = by_user["data"].as_array().expect("a list").iter().find(|line| !line["user"].is_null());
    let user = &line.expect("a person")["user"];
    assert_eq!(user["id"].as_str().map(|id| id.starts_with("user_")), Some(true), "{user}");
    app.finish().await;
}

#[tokio::test]
async fn rolling_up_twice_or_from_many_schedulers_changes_nothing() {
    let app = TestApp::new().await;
    let keys = someone(&app).await;
    three_days(&app, &keys).await;
    let midnight = at(app.now().date_naive() + Days::new(1), 0, 0);
    app.clock.advance_to(midnight + TimeDelta::minutes(9));
    assert_eq!(
        usage::roll_up(&app.db, app.now()).await.expect("roll up"),
        2,
        "yesterday may still get something"
    );
    app.clock.advance_to(midnight + TimeDelta::minutes(10));
    let runs = futures::future::join_all((0..6).map(|_| usage::roll_up(&app.db, app.now()))).await;
    assert_eq!(runs.into_iter().map(|run| run.expect("roll up")).sum::<u64>(), 1, "one of them does it");
    let before = rolled(&app).await;
    assert_eq!(usage::roll_up(&app.db, app.now()).await.expect("roll up"), 0);
    assert_eq!(rolled(&app).await, before);

    execute(&app.db, "delete from usage_days").await.expect("forget which days are done");
    assert_eq!(usage::roll_up(&app.db, app.now()).await.expect("roll up"), 3);
    assert_eq!(rolled(&app).await, before, "made anew, and the same");
    app.finish().await;
}

#[tokio::test]
async fn a_year_is_read_from_roll_ups_alone() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    alice.submit("gpt-4o", json!({ "prompt": "on a day that is rolled up" })).await;
    app.drain().await;
    let today = next_morning(&app);
    let (from, yesterday) = (today - Days::new(365), today - Days::new(1));
    let fill = format!(
        "with days as (
             insert into usage_days select d, now() from generate_series('{from}'::date, '{yesterday}', '1 day') d
         )
         insert into usage_daily select d, '{}', m, 'openai', null, null, 10, 9, 1, 9000, 80, 40, 0, 1.5, 0
         from generate_series('{from}'::date, '{yesterday}', '1 day') d, unnest('{{gpt-4o,gpt-4o-mini}}'::text[]) m",
        alice.id.0
    );
    execute(&app.db, &fill).await.expect("roll-ups of days without jobs");
    alice.submit("gpt-4o", json!({ "prompt": "today" })).await;
    app.drain().await;
    let year = report(&alice, &format!("group_by=model&from={from}&to={today}")).await;
    let lines = lines(&year);
    assert_eq!(
        lines["gpt-4o"],
        (365 * 10 + 1, 365 * 9000 + 1000),
        "yesterday's job counts as it was rolled up"
    );
    assert_eq!(lines["gpt-4o-mini"], (365 * 10, 365 * 9000));
    assert_eq!(year["totals"]["seconds"], 1095.0);
    app.finish().await;
}

#[tokio::test]
async fn days_that_are_none_are_refused_with_a_word_on_why() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    for (query, param) in [
        ("from=2026-13-01", "from"),
        ("to=yesterday", "to"),
        ("from=2026-02-02&to=2026-02-01", "from"),
        ("from=2025-01-01&to=2026-02-05", "from"),
        ("from=-99999-01-01&to=2026-01-01", "from"),
        ("from=0001-01-01&to=0001-01-02", "from"),
        ("group_by=colour", "group_by"),
        ("format=xml", "format"),
        ("page=2", "page"),
    ] {
        let answer = alice.get(&format!("/v1/usage?{query}")).await;
        assert_eq!((answer.error().0, answer.error().2), (400, param), "{query}: {}", answer.json);
    }
    assert_eq!(alice.get("/v1/usage?from=2025-01-01&to=2026-02-04").await.status, StatusCode::OK, "400 days");
    let few = app.scoped_key(alice.id, &["jobs:read"]).await;
    assert_eq!(few.get("/v1/usage").await.status, StatusCode::FORBIDDEN);
    assert_eq!(alice.get("/v1/admin/reports/margin").await.status, StatusCode::FORBIDDEN);
    app.finish().await;
}

#[tokio::test]
async fn reports_are_tables_as_well_and_hold_no_formulas() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    alice.submit("gpt-4o", json!({ "prompt": "one" })).await;
    app.drain().await;
    execute(&app.db, "update api_keys set name = '=1+1,\"x\"'").await.expect("a name that computes");
    let answer = alice.get("/v1/usage?group_by=key&format=csv").await;
    assert_eq!(answer.headers["content-type"], "text/csv; charset=utf-8; header=present");
    let text = answer.json.as_str().expect("CSV").to_owned();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headings: Vec<_> = reader.headers().expect("headings").iter().map(str::to_owned).collect();
    assert_eq!(headings, [&["key", "key_name", "key_prefix"], &QUANTITIES[..]].concat());
    let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
    assert_eq!((rows.len(), &rows[0][1], &rows[0][6]), (1, "'=1+1,\"x\"", "1000"), "{text}");
    let accept = [("Accept", "text/csv")];
    let by_day = alice.send(Method::GET, "/v1/usage", &accept, None).await;
    assert!(by_day.json.as_str().is_some_and(|text| text.starts_with("day,jobs,")), "{by_day:?}");
    app.finish().await;
}

#[tokio::test]
async fn the_margin_adds_up_exactly_with_failed_attempts() {
    let app = TestApp::new().await;
    let operators = app.account(0).await;
    let operator = app.key(operators.id, KeyRole::Operator).await;
    let (alice, bob) = (app.account(100_000).await, app.account(100_000).await);
    let day = next_morning(&app);
    alice.submit("gpt-4o", json!({ "prompt": "one" })).await;
    alice.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    bob.submit("nano-banana", json!({ "prompt": "a fox" })).await;
    // Given up under way: the vendor may bill it, so its list price is a cost without a revenue.
    let film = bob.submit("kling", json!({ "prompt": "a film" })).await;
    app.run_due().await;
    bob.cancel(film).await;
    app.drain().await;
    let list_price: String =
        scalar(&app.db, "select trim_scale(cost_usd)::text from jobs where model = 'kling'").await;
    let list_price: Decimal = list_price.parse().expect("a price");

    let margin = async |by: &str| {
        let answer =
            operator.get(&format!("/v1/admin/reports/margin?group_by={by}&from={day}&to={day}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        answer.json
    };
    let mut live = Vec::new();
    for by in ["model", "provider", "account", "day"] {
        live.push(margin(by).await);
    }
    let model = |name: &str| {
        let data = live[0]["data"].as_array().expect("a list");
        data.iter().find(|line| line["model"] == name).expect("a model").clone()
    };
    assert_eq!(
        model("gpt-4o"),
        json!({ "model": "gpt-4o", "revenue_tokens": 1000, "revenue_usd": "0.00663", "cost_usd": "0.006",
                "margin_usd": "0.00063", "margin_percent": "9.5", "attempts": 2, "failed_attempts": 1 })
    );
    assert_eq!(
        model("nano-banana"),
        json!({ "model": "nano-banana", "revenue_tokens": 6380, "revenue_usd": "0.0422994", "cost_usd": "0.039",
                "margin_usd": "0.0032994", "margin_percent": "7.8", "attempts": 1, "failed_attempts": 0 })
    );
    let film = model("kling");
    assert_eq!((&film["revenue_tokens"], &film["margin_percent"]), (&json!(0), &Value::Null));
    assert_eq!(film["cost_usd"], json!(list_price));
    assert_eq!(film["margin_usd"], json!(-list_price));
    let cost = "0.045".parse::<Decimal>().expect("a number") + list_price;
    let revenue: Decimal = "0.0489294".parse().expect("a number");
    for report in &live {
        let totals = &report["totals"];
        assert_eq!(totals["revenue_tokens"], 7380, "{report}");
        assert_eq!(totals["revenue_usd"], json!(revenue), "{report}");
        assert_eq!(totals["cost_usd"], json!(cost.normalize()), "{report}");
        assert_eq!(totals["margin_usd"], json!((revenue - cost).normalize()), "{report}");
        assert_eq!((&totals["attempts"], &totals["failed_attempts"]), (&json!(4), &json!(2)), "{report}");
    }
    let accounts = live[2]["data"].as_array().expect("a list");
    assert_eq!(
        accounts[0]["account"],
        json!({ "id": bob.id, "name": "test" }),
        "who earned most comes first"
    );

    next_morning(&app);
    assert!(app.tick("roll-up-usage").await);
    for (at, by) in ["model", "provider", "account", "day"].into_iter().enumerate() {
        assert_eq!(margin(by).await, live[at], "rolled up as live");
    }
    let table = operator.get(&format!("/v1/admin/reports/margin?group_by=model&from={day}&format=csv")).await;
    let text = table.json.as_str().expect("CSV");
    assert!(text.contains("\ngpt-4o,1000,0.00663,0.006,0.00063,9.5,2,1\n"), "{text}");
    assert!(text.contains(&format!("\nkling,0,0,{list_price},-{list_price},,1,1\n")), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn the_counter_of_costs_says_what_the_books_say_however_attempts_end() {
    let mut app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    // The vendor bills what is damaged and what is lost on its way, and those are made again.
    for fault in ["corrupt", "drop"] {
        app.simulator
            .order(json!({ "provider": "gemini", "contains": fault, "fault": fault, "times": 1 }))
            .await;
        alice.submit("nano-banana", json!({ "prompt": format!("once {fault}") })).await;
    }
    // It bills no refusal, and whether it bills what was canceled under way, only its invoice tells.
    alice.submit("nano-banana", json!({ "prompt": "[[sim:refuse]]" })).await;
    let film = alice.submit("kling", json!({ "prompt": "a film" })).await;
    app.run_due().await;
    alice.cancel(film).await;
    app.drain().await;
    // What becomes of a submit whose worker died is not known; it is made again.
    alice.submit("nano-banana", json!({ "prompt": "a worker dies" })).await;
    assert!(app.drain_crashing_at(Station::Answered).await, "the worker dies");
    drop(guard);
    let shown = shown.render();
    let counters = shown.lines().filter(|line| line.starts_with("kiln_provider_cost_micro_usd_total{"));
    let counted: i64 = counters
        .map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<i64>().ok()).expect("a count"))
        .sum();
    let attempts: i64 = scalar(&app.db, "select count(*) from attempts where cost_usd > 0").await;
    let books: i64 = scalar(
        &app.db,
        "select sum(round(cost_usd * 1000000))::bigint from attempts where outcome is not null",
    )
    .await;
    assert_eq!(attempts, 7, "two of each that was made again, and the film");
    assert_eq!(counted, books, "{shown}");
    app.finish().await;
}
