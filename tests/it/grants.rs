//! Tokens with a time to spend them in, plans, credit: what pays for a job, and what becomes of the rest.

use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::account::KeyRole;

use crate::support::{Account, TestApp, scalar};

/// What an account was given that expires, oldest first, as (tokens, remaining).
async fn lots(account: &Account) -> Vec<(i64, i64)> {
    let grants = account.get("/v1/billing/grants").await.json;
    let data = grants["data"].as_array().expect("a list").clone();
    let number = |grant: &Value, field: &str| grant[field].as_i64().expect("a number");
    data.iter()
        .rev()
        .filter(|grant| !grant["expires_at"].is_null())
        .map(|grant| (number(grant, "tokens"), number(grant, "remaining")))
        .collect()
}

/// What the account's balance says it owes.
async fn owed(account: &Account) -> i64 {
    account.get("/v1/billing/balance").await.json["credit"]["owed"].as_i64().expect("owed")
}

async fn operator(app: &TestApp) -> Account {
    let operators = app.account(0).await;
    app.key(operators.id, KeyRole::Operator).await
}

#[tokio::test]
async fn tokens_that_expire_first_are_spent_first_and_come_back_last() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    app.give(alice.id, 700, Some(app.now() + TimeDelta::days(30))).await;
    app.give(alice.id, 600, Some(app.now() + TimeDelta::days(7))).await;
    assert_eq!(alice.tokens().await, (2300, 0));

    let refused = alice.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    assert_eq!(lots(&alice).await, [(700, 300), (600, 0)], "600 of a week, 400 of a month");
    app.drain().await;
    assert_eq!(alice.job(refused).await["status"], "failed");
    assert_eq!(lots(&alice).await, [(700, 700), (600, 600)], "each went back where it was from");

    alice.submit("gpt-4o", json!({ "prompt": "hello" })).await;
    app.drain().await;
    assert_eq!(lots(&alice).await, [(700, 300), (600, 0)]);
    alice.submit("gpt-4o", json!({ "prompt": "hello again" })).await;
    app.drain().await;
    assert_eq!(lots(&alice).await, [(700, 0), (600, 0)]);
    assert_eq!(alice.tokens().await, (300, 0), "the rest never expires");
    app.finish().await;
}

#[tokio::test]
async fn a_job_held_before_its_grant_expired_is_honoured() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    app.give(alice.id, 2500, Some(app.now() + TimeDelta::hours(1))).await;
    let kept = alice.submit("gpt-4o", json!({ "prompt": "hello" })).await;
    let refused = alice.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    for job in [kept, refused] {
        set_deadline_aside(&app, job).await;
    }

    app.clock.advance(TimeDelta::minutes(61));
    assert!(app.tick("expire-grants").await);
    assert_eq!(alice.tokens().await, (0, 2000), "what was not held has gone");
    app.drain().await;
    assert_eq!(alice.job(kept).await["price"]["charged"], 1000);
    assert_eq!(alice.job(refused).await["status"], "failed");
    assert_eq!(alice.tokens().await, (1000, 0), "what comes back comes back");
    let late = alice.post("/v1/jobs", json!({ "model": "gpt-4o", "input": { "prompt": "late" } })).await;
    assert_eq!(late.error().1, "insufficient_tokens", "but cannot be spent, for its time is over");
    assert_eq!(alice.tokens().await, (0, 0), "and is gone with that");
    let kinds = alice.get("/v1/billing/transactions?kind=expire").await.json;
    let amounts: Vec<_> = kinds["data"].as_array().expect("a list").iter().map(|e| &e["amount"]).collect();
    assert_eq!(amounts, [1000, 500]);
    app.finish().await;
}

/// Keeps a job's deadline out of the way of a test that moves the clock.
async fn set_deadline_aside(app: &TestApp, job: shared::id::JobId) {
    let sql = format!(
        "with q as (update queue set deadline = deadline + interval '1 day' where job_id = '{0}') \
         update jobs set deadline = deadline + interval '1 day' where id = '{0}' returning 1",
        job.0
    );
    let _: i32 = scalar(&app.db, &sql).await;
}

#[tokio::test]
async fn a_company_goes_on_within_its_credit_and_pays_it_back_first() {
    let app = TestApp::new().await;
    let admin = operator(&app).await;
    let acme = app.account(1500).await;
    let path = format!("/v1/admin/accounts/{}", acme.id);
    let set = admin.send(Method::PATCH, &path, &[], Some(&json!({ "credit_limit_tokens": 2000 }))).await;
    assert_eq!(
        (set.status, &set.json["credit_limit_tokens"]),
        (StatusCode::OK, &json!(2000)),
        "{}",
        set.json
    );

    let charged = acme.submit("gpt-4o", json!({ "prompt": "1" })).await;
    let refused = acme.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    acme.submit("gpt-4o", json!({ "prompt": "3" })).await;
    assert_eq!((acme.tokens().await, owed(&acme).await), ((0, 3000), 1500));
    let over = acme.post("/v1/jobs", json!({ "model": "gpt-4o", "input": { "prompt": "4" } })).await;
    assert_eq!(over.error().1, "insufficient_tokens");
    assert!(over.json["error"]["message"].as_str().expect("words").contains("500"), "{}", over.json);

    app.drain().await;
    assert_eq!(acme.job(charged).await["status"], "succeeded");
    assert_eq!(acme.job(refused).await["status"], "failed");
    assert_eq!((acme.tokens().await, owed(&acme).await), ((500, 0), 1000), "what it had drawn is paid back");
    let body = json!({ "account": acme.id, "amount": 2000, "reason": "invoice 7 paid" });
    let paid = admin.post("/v1/billing/balance", body).await;
    assert_eq!((&paid.json["available"], &paid.json["credit"]["owed"]), (&json!(1500), &json!(0)));

    let lowered = admin.send(Method::PATCH, &path, &[], Some(&json!({ "credit_limit_tokens": -1 }))).await;
    assert_eq!(lowered.error(), (400, "invalid_limit", "credit_limit_tokens"));
    app.finish().await;
}

#[tokio::test]
async fn a_plan_brings_tokens_and_tier_and_takes_both_with_it() {
    let app = TestApp::new().await;
    let admin = operator(&app).await;
    let alice = app.account_of_tier("free", 0).await;
    let path = format!("/v1/admin/accounts/{}/subscriptions", alice.id);
    let body = json!({ "plan": "week", "reference": "order 1" });
    let begun = admin.post(&path, body.clone()).await;
    assert_eq!(
        (begun.status, &begun.json["status"]),
        (StatusCode::CREATED, &json!("active")),
        "{}",
        begun.json
    );
    assert_eq!(admin.post(&path, body).await.error().1, "reference_used", "a plan begins once");
    assert_eq!(alice.tokens().await, (150_000, 0));
    let shown = admin.get(&format!("/v1/admin/accounts/{}", alice.id)).await.json;
    assert_eq!((&shown["tier"], &shown["base_tier"]), (&json!("basic"), &json!("free")));

    app.clock.advance(TimeDelta::days(7) + TimeDelta::minutes(1));
    app.tick("end-subscriptions").await;
    app.tick("expire-grants").await;
    let shown = admin.get(&format!("/v1/admin/accounts/{}", alice.id)).await.json;
    assert_eq!((&shown["tier"], &shown["subscribed_until"]), (&json!("free"), &Value::Null));
    assert_eq!(alice.tokens().await, (0, 0));
    assert_eq!(alice.get("/v1/billing/subscriptions").await.json["data"][0]["status"], "ended");

    let body = json!({ "plan": "tokens-150k", "reference": "order 2" });
    assert_eq!(admin.post(&path, body).await.status, StatusCode::CREATED);
    app.clock.advance(TimeDelta::days(400));
    app.tick("expire-grants").await;
    assert_eq!(alice.tokens().await, (150_000, 0), "these stay");
    let unknown = admin.post(&path, json!({ "plan": "gold", "reference": "order 3" })).await;
    assert_eq!(unknown.error(), (400, "plan_not_found", "plan"));
    app.finish().await;
}

#[tokio::test]
async fn plans_are_listed_newest_first_page_by_page() {
    let app = TestApp::new().await;
    let admin = operator(&app).await;
    let (alice, bob) = (app.account(0).await, app.account(0).await);
    let mut begun = Vec::new();
    for (account, reference) in [(&alice, "a1"), (&bob, "b1"), (&alice, "a2"), (&alice, "a3")] {
        let path = format!("/v1/admin/accounts/{}/subscriptions", account.id);
        let plan = admin.post(&path, json!({ "plan": "week", "reference": reference })).await;
        assert_eq!(plan.status, StatusCode::CREATED, "{}", plan.json);
        begun.push(plan.json["id"].clone());
    }
    let list = "/v1/billing/subscriptions";
    let page = alice.get(&format!("{list}?limit=2")).await.json;
    let ids = |page: &Value| -> Vec<Value> {
        page["data"].as_array().expect("a list").iter().map(|plan| plan["id"].clone()).collect()
    };
    assert_eq!(ids(&page), [begun[3].clone(), begun[2].clone()]);
    assert_eq!((&page["has_more"], &page["last_id"]), (&json!(true), &begun[2]));
    let last = begun[2].as_str().expect("an id");
    let rest = alice.get(&format!("{list}?limit=2&after={last}")).await.json;
    assert_eq!((ids(&rest), &rest["has_more"]), (vec![begun[0].clone()], &json!(false)), "and none of Bob's");
    for (query, expected) in [
        ("limit=101", (400, "invalid_query", "limit")),
        ("after=grant_1", (400, "invalid_query", "after")),
        ("before=x", (400, "unknown_query", "before")),
    ] {
        assert_eq!(alice.get(&format!("{list}?{query}")).await.error(), expected, "{query}");
    }
    app.finish().await;
}

#[tokio::test]
async fn everything_is_free_for_a_day_with_the_unlimited_plan() {
    let app = TestApp::new().await;
    let admin = operator(&app).await;
    let alice = app.account_of_tier("free", 0).await;
    let path = format!("/v1/admin/accounts/{}/subscriptions", alice.id);
    let begun = admin.post(&path, json!({ "plan": "unlimited-day", "reference": "order 1" })).await;
    assert_eq!(begun.status, StatusCode::CREATED, "{}", begun.json);
    for n in 0..7 {
        alice.submit("nano-banana", json!({ "prompt": format!("fox {n}") })).await;
    }
    assert_eq!(alice.tokens().await, (0, 0), "nothing is held");
    app.drain().await;
    let free: i64 =
        scalar(&app.db, "select count(*) from jobs where covered_by = 'unlimited' and status = 'succeeded'")
            .await;
    assert_eq!(free, 7);
    app.clock.advance(TimeDelta::days(1) + TimeDelta::minutes(1));
    let after = alice.post("/v1/jobs", json!({ "model": "gpt-4o", "input": { "prompt": "late" } })).await;
    assert_eq!(after.error().1, "insufficient_tokens", "even before the scheduler has ended the plan");
    app.finish().await;
}

#[tokio::test]
async fn subscribers_without_tokens_keep_the_small_model_within_fair_use() {
    let app = TestApp::new().await;
    let admin = operator(&app).await;
    let alice = app.account(0).await;
    let path = format!("/v1/admin/accounts/{}/subscriptions", alice.id);
    assert_eq!(
        admin.post(&path, json!({ "plan": "week", "reference": "o" })).await.status,
        StatusCode::CREATED
    );
    let ask = async |n: i32, model: &str| {
        alice.post("/v1/jobs", json!({ "model": model, "input": { "prompt": format!("{n}") } })).await
    };
    assert_eq!(
        ask(0, "gpt-4o-mini").await.json["price"]["held"],
        250,
        "tokens are spent while there are some"
    );
    app.drain().await;
    let all = json!({ "account": alice.id, "amount": -149_750, "reason": "empty it" });
    assert_eq!(admin.post("/v1/billing/balance", all).await.status, StatusCode::OK);

    for n in 1..=60 {
        let answer = ask(n, "gpt-4o-mini").await;
        assert_eq!((answer.status, &answer.json["price"]["held"]), (StatusCode::ACCEPTED, &json!(0)), "{n}");
    }
    assert_eq!(
        ask(61, "gpt-4o-mini").await.error().1,
        "insufficient_tokens",
        "an hour's fair use is used up"
    );
    assert_eq!(ask(62, "gpt-4o").await.error().1, "insufficient_tokens", "the large model never is free");
    app.clock.advance(TimeDelta::minutes(1));
    assert_eq!(ask(63, "gpt-4o-mini").await.status, StatusCode::ACCEPTED, "one a minute comes back");
    app.drain().await;
    assert_eq!(alice.tokens().await, (0, 0));
    app.clock.advance(TimeDelta::days(7));
    assert_eq!(ask(64, "gpt-4o-mini").await.error().1, "insufficient_tokens", "no subscriber any more");
    app.finish().await;
}

#[tokio::test]
async fn a_package_is_a_tenth_cheaper() {
    let app = TestApp::new().await;
    let admin = operator(&app).await;
    let acme = app.account(10_000).await;
    let path = format!("/v1/admin/accounts/{}", acme.id);
    let set = admin.send(Method::PATCH, &path, &[], Some(&json!({ "price_group": "package" }))).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.json);
    let id = acme.submit("nano-banana", json!({ "prompt": "fox" })).await;
    app.drain().await;
    assert_eq!(acme.job(id).await["price"]["charged"], 5742);
    let unknown = admin.send(Method::PATCH, &path, &[], Some(&json!({ "price_group": "gold" }))).await;
    assert_eq!(unknown.error(), (400, "price_group_not_found", "price_group"));
    app.finish().await;
}

#[tokio::test]
async fn a_suspended_account_can_do_nothing_until_it_is_brought_back() {
    let app = TestApp::new().await;
    let admin = operator(&app).await;
    let alice = app.account(1000).await;
    let path = format!("/v1/admin/accounts/{}/status", alice.id);
    let set = async |status: &str| {
        let body = json!({ "status": status });
        admin.send(Method::PUT, &path, &[], Some(&body)).await.status
    };
    assert_eq!(set("suspended").await, StatusCode::OK);
    assert_eq!(alice.get("/v1/jobs").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(set("active").await, StatusCode::OK);
    alice.submit("gpt-4o", json!({ "prompt": "hello" })).await;
    app.drain().await;
    let log = admin.get(&format!("/v1/admin/audit-log?account={}", alice.id)).await.json;
    let first = &log["data"][0];
    assert_eq!(
        (&first["before"]["status"], &first["after"]["status"]),
        (&json!("suspended"), &json!("active"))
    );
    app.finish().await;
}

#[tokio::test]
async fn what_was_drawn_on_credit_and_comes_back_makes_no_expiring_token_last() {
    let app = TestApp::new().await;
    let admin = operator(&app).await;
    let acme = app.account(0).await;
    let path = format!("/v1/admin/accounts/{}", acme.id);
    admin.send(Method::PATCH, &path, &[], Some(&json!({ "credit_limit_tokens": 1000 }))).await;
    app.give(acme.id, 600, Some(app.now() + TimeDelta::hours(1))).await;
    acme.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    assert_eq!((acme.tokens().await, owed(&acme).await), ((0, 1000), 400));
    app.drain().await;
    assert_eq!((acme.tokens().await, owed(&acme).await), ((600, 0), 0));
    assert_eq!(lots(&acme).await, [(600, 600)]);
    app.clock.advance(TimeDelta::hours(2));
    app.tick("expire-grants").await;
    assert_eq!(acme.tokens().await, (0, 0));
    app.finish().await;
}

/// Constraints are checked on the way, so a statement that mixes an old row with a new one fails where none should.
#[tokio::test]
async fn jobs_of_one_account_end_at_the_same_moment_as_it_is_given_tokens() {
    let app = TestApp::new().await;
    let admin = operator(&app).await;
    let alice = app.account(0).await;
    let path = format!("/v1/admin/accounts/{}", alice.id);
    admin.send(Method::PATCH, &path, &[], Some(&json!({ "credit_limit_tokens": 5000 }))).await;
    app.give(alice.id, 30_000, Some(app.now() + TimeDelta::days(1))).await;
    app.give(alice.id, 5000, Some(app.now() + TimeDelta::days(2))).await;
    for n in 0..40 {
        let prompt = if n % 3 == 0 { "[[sim:refuse]]".to_owned() } else { format!("{n}") };
        alice.submit("gpt-4o", json!({ "prompt": prompt })).await;
    }
    assert_eq!((alice.tokens().await, owed(&alice).await), ((0, 40_000), 5000));
    let claimed = app.claim(shared::job::Medium::Text).await;
    assert_eq!(claimed.len(), 40);
    let ending = futures::future::join_all(claimed.iter().map(|job| workers::run::run_job(&app.worker, job)));
    let giving = futures::future::join_all(
        (1..=20).map(|n| app.give(alice.id, 100, (n % 2 == 0).then(|| app.now() + TimeDelta::hours(n)))),
    );
    let (ended, _) = tokio::join!(ending, giving);
    let closed = ended.iter().filter(|ended| **ended == workers::run::Ended::Closed).count();
    assert_eq!(closed, 40, "no close is refused");
    let (available, held) = alice.tokens().await;
    assert_eq!((available - owed(&alice).await, held), (35_000 + 2000 - 26_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_second_day_without_limit_follows_the_first() {
    let app = TestApp::new().await;
    let admin = operator(&app).await;
    let alice = app.account(0).await;
    let path = format!("/v1/admin/accounts/{}/subscriptions", alice.id);
    for order in ["order 1", "order 2"] {
        let begun = admin.post(&path, json!({ "plan": "unlimited-day", "reference": order })).await;
        assert_eq!(begun.status, StatusCode::CREATED, "{}", begun.json);
    }
    app.clock.advance(TimeDelta::hours(47));
    app.tick("end-subscriptions").await;
    alice.submit("gpt-4o", json!({ "prompt": "still free" })).await;
    let later =
        json!({ "model": "gpt-4o", "input": { "prompt": "x" }, "start_at": app.now() + TimeDelta::hours(2) });
    let refused = alice.post("/v1/jobs", later).await;
    assert_eq!(
        refused.error().1,
        "insufficient_tokens",
        "a job that starts after the plan is not covered by it"
    );
    app.drain().await;
    app.finish().await;
}
