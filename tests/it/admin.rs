//! `kiln admin` as operators type it: the real binary on the database of a running API, which sees at once what was done.

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    account::KeyRole,
    id::{AccountId, KeyId, UserId},
};
use sqlx::postgres::PgListener;
use std::time::Duration;
use tokio::process::Command;

use crate::support::{Account, TestApp, binary, eventually, execute, scalar};

/// What the command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// The one JSON value of a command that went well.
    fn json(&self) -> Value {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

async fn say(app: &TestApp, words: &[&str]) -> Said {
    let mut command = Command::new(binary("kiln"));
    command.env_clear().env("KILN_DATABASE_URL", &app.database.url);
    command
        .env("KILN_SECRET", "a secret that is only for the tests of Kiln")
        .env("KILN_PUBLIC_URL", &app.base);
    let said = command.arg("admin").args(words).output().await.expect("run kiln");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Said { code: said.status.code().expect("a code"), out: text(said.stdout), err: text(said.stderr) }
}

/// The same words twice: once for people, who get a table with these words, and once for programs.
async fn ask(app: &TestApp, words: &[&str], shown: &[&str]) -> Value {
    let table = say(app, words).await;
    assert_eq!(table.code, 0, "{table:?}");
    for word in shown {
        assert!(table.out.contains(word), "{words:?} shows no {word:?}: {}", table.out);
    }
    tell(app, words).await
}

/// What a command answers to a program.
async fn tell(app: &TestApp, words: &[&str]) -> Value {
    say(app, &[words, &["--json"]].concat()).await.json()
}

/// A command that is refused in one line, with these words.
async fn refused(app: &TestApp, words: &[&str], why: &[&str]) {
    let said = say(app, words).await;
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{words:?}: {said:?}");
    assert_eq!(said.err.trim_end().lines().count(), 1, "{words:?}: {said:?}");
    assert!(why.iter().all(|word| said.err.contains(word)), "{words:?} says no {why:?}: {}", said.err);
}

/// A command that cannot be read, and whose refusal says what would be right.
async fn misread(app: &TestApp, words: &[&str], why: &str) {
    let said = say(app, words).await;
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{words:?}: {said:?}");
    assert!(said.err.contains(why), "{words:?} says no {why:?}: {}", said.err);
}

/// What the command line has written into the audit log, oldest first.
async fn written(app: &TestApp) -> Vec<String> {
    let all = "select coalesce(array_agg(action order by id), '{}') from audit_log where actor_kind = 'command_line'";
    scalar(&app.db, all).await
}

/// Someone with an account's key.
fn with_key(app: &TestApp, opened: &Value) -> Account {
    let text =
        |name: &str| opened[name].as_str().unwrap_or_else(|| panic!("no {name} in {opened}")).to_owned();
    Account {
        id: text("id").parse().expect("an account"),
        key: text("api_key"),
        base: app.base.clone(),
        http: app.http.clone(),
    }
}

#[tokio::test]
async fn an_account_is_opened_with_its_first_tokens_and_its_first_key_or_not_at_all() {
    let app = TestApp::new().await;
    let opened = tell(&app, &["accounts", "open", "Example Ltd", "--tokens", "1000"]).await;
    let example = with_key(&app, &opened);
    assert_eq!(example.tokens().await, (1000, 0));
    assert_eq!(example.get("/v1/admin/accounts").await.status, 403, "a key of a customer");
    let secret = format!("whsec_{}", BASE64_STANDARD.encode(app.webhook_key(example.id)));
    assert_eq!(opened["webhook_secret"], secret);

    let ours =
        with_key(&app, &tell(&app, &["accounts", "open", "Operators", "--operator", "--tier", "free"]).await);
    assert_eq!(ours.get("/v1/admin/accounts").await.status, 200, "a key of an operator");
    let shown = say(&app, &["accounts", "open", "bare"]).await;
    let lines: Vec<_> = shown.out.lines().filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), ["account", "api key", "webhook secret"]);

    let list = ask(&app, &["accounts", "list"], &["Example Ltd", "Operators", "bare"]).await;
    assert_eq!(list["data"].as_array().map(Vec::len), Some(3));
    let found = tell(&app, &["accounts", "list", "--query", "EXAMPLE"]).await;
    assert_eq!(found["data"][0]["id"], json!(example.id));
    let (page, all) = (tell(&app, &["accounts", "list", "--limit", "2"]).await, &list["data"]);
    assert_eq!((&page["has_more"], &page["data"][1]), (&json!(true), &all[1]));
    let last = page["data"][1]["id"].as_str().expect("an id");
    let rest = tell(&app, &["accounts", "list", "--after", last]).await;
    assert_eq!((&rest["has_more"], &rest["data"]), (&json!(false), &json!([all[2]])));

    refused(&app, &["accounts", "open", "x", "--tier", "gold"], &["\"gold\"", "free, basic, premium"]).await;
    misread(&app, &["accounts", "open", "x", "--tokens", "-5"], "-5 is not in 0..").await;
    misread(&app, &["accounts", "open", " "], "1 to 100 characters").await;
    assert_eq!(scalar::<i64>(&app.db, "select count(*) from accounts").await, 3, "nothing of those refused");
    assert_eq!(written(&app).await, ["account.opened"; 3]);
    let key: i64 = scalar(&app.db, "select count(*) from audit_log where after::text like '%kiln_%'").await;
    assert_eq!(key, 0, "the audit log holds no secret");
    app.finish().await;
}

#[tokio::test]
async fn terms_status_and_plans_of_an_account_are_set() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let (id, nobody) = (&alice.id.to_string(), &AccountId::new().to_string());
    let words = [
        "accounts",
        "set",
        id,
        "--tier",
        "basic",
        "--per-hour",
        "7",
        "--price-group",
        "package",
        "--credit",
        "9",
    ];
    let set = ask(&app, &words, &["basic", "package"]).await;
    let terms = |json: &Value| {
        ["tier", "requests_per_hour", "price_group", "credit_limit_tokens"].map(|name| json[name].clone())
    };
    assert_eq!(terms(&set), [json!("basic"), json!(7), json!("package"), json!(9)]);
    let set = tell(&app, &["accounts", "set", id, "--per-hour", "none"]).await;
    assert_eq!(
        terms(&set),
        [json!("basic"), Value::Null, json!("package"), json!(9)],
        "what is not named stays"
    );

    ask(&app, &["accounts", "suspend", id], &["suspended"]).await;
    assert_eq!(alice.get("/v1/billing/balance").await.status, 401);
    ask(&app, &["accounts", "activate", id], &["active"]).await;
    assert_eq!(alice.get("/v1/billing/balance").await.status, 200);

    let begun = tell(&app, &["accounts", "plan", id, "month-large", "--reference", "invoice-1"]).await;
    assert_eq!(begun["subscriptions"][0]["plan"], "month-large");
    let plan = begun["available_tokens"].as_i64().expect("tokens");
    assert_eq!(alice.tokens().await, (plan, 0));
    let again = ["accounts", "plan", id, "month-large", "--reference", "invoice-1"];
    refused(&app, &again, &["\"invoice-1\" was used before"]).await;
    let shown = ask(&app, &["accounts", "show", id], &["month-large", "available"]).await;
    assert_eq!(shown, begun);

    refused(&app, &["accounts", "plan", id, "moon", "--reference", "x"], &["\"moon\"", "month, "]).await;
    refused(&app, &["accounts", "set", id, "--tier", "gold"], &["\"gold\"", "free, basic"]).await;
    refused(&app, &["accounts", "set", id, "--price-group", "gold"], &["\"gold\"", "standard, package"])
        .await;
    refused(&app, &["accounts", "show", nobody], &[nobody, "accounts list"]).await;
    refused(&app, &["accounts", "suspend", nobody], &[nobody]).await;
    misread(&app, &["accounts", "show", "acc_1"], "acc_ followed by 32 hexadecimal digits").await;
    misread(&app, &["accounts", "set", id], "--tier").await;
    misread(&app, &["accounts", "set", id, "--per-hour", "0"], "or none").await;
    let log = written(&app).await;
    assert_eq!(log.iter().filter(|action| *action == "account.terms_set").count(), 7, "{log:?}");
    assert_eq!(log.last().map(String::as_str), Some("plan.begun"), "what was refused is not written down");
    app.finish().await;
}

#[tokio::test]
async fn tokens_are_given_and_taken_once_for_each_reference() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let (id, nobody) = (&alice.id.to_string(), &AccountId::new().to_string());
    let give =
        ["grants", "give", id, "50", "--days", "3", "--reason", "goodwill", "--reference", "ticket-17"];
    let given = tell(&app, &give).await;
    assert_eq!((&given["available"], &given["expiring"]), (&json!(50), &json!(50)));
    refused(&app, &give, &["\"ticket-17\" was used before"]).await;
    let until = ["grants", "give", id, "30", "--until", "2100-01-31T12:00:00Z", "--reason", "far off"];
    tell(&app, &until).await;
    tell(&app, &["grants", "give", id, "20", "--reason", "for good"]).await;
    let taken = tell(&app, &["grants", "take", id, "10", "--reason", "a slip"]).await;
    assert_eq!((&taken["available"], &taken["expiring"]), (&json!(90), &json!(70)));
    assert_eq!(alice.tokens().await, (90, 0));
    let list = ask(&app, &["grants", "list", id], &["goodwill", "far off", "2100-01-31 12:00"]).await;
    let data = list["data"].as_array().expect("a list");
    let left: Vec<_> = data.iter().map(|grant| grant["remaining"].clone()).collect();
    assert_eq!(left, [Value::Null, json!(30), json!(40)], "{list}");
    ask(&app, &["audit", "books"], &["agree"]).await;

    refused(&app, &["grants", "take", id, "91", "--reason", "x"], &["fewer tokens", id]).await;
    refused(&app, &["grants", "give", nobody, "1", "--reason", "x"], &[nobody]).await;
    refused(&app, &["grants", "list", nobody], &[nobody]).await;
    let past = ["grants", "give", id, "1", "--reason", "x", "--until", "2020-01-01T00:00:00Z"];
    refused(&app, &past, &["a time to come"]).await;
    misread(&app, &["grants", "give", id, "1"], "--reason").await;
    misread(&app, &["grants", "give", id, "0", "--reason", "x"], "0 is not in").await;
    misread(&app, &["grants", "give", id, "1", "--reason", "x", "--until", "noon"], "2026-01-31T12:00:00Z")
        .await;
    let moved = ["tokens.credited", "tokens.credited", "tokens.credited", "tokens.debited"];
    assert_eq!(written(&app).await, moved);
    assert_eq!(alice.tokens().await, (90, 0));
    app.finish().await;
}

#[tokio::test]
async fn keys_of_any_account_are_listed_issued_and_revoked() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let (id, nobody) = (&alice.id.to_string(), &AccountId::new().to_string());
    let issued = tell(&app, &["keys", "issue", id, "second"]).await;
    let second = Account { key: issued["api_key"].as_str().expect("a key").to_owned(), ..alice.clone() };
    assert_eq!(second.get("/v1/billing/balance").await.status, 200);
    assert_eq!(second.get("/v1/admin/accounts").await.status, 403);
    let operators = tell(&app, &["keys", "issue", id, "ours", "--operator"]).await;
    let ours = Account { key: operators["api_key"].as_str().expect("a key").to_owned(), ..alice.clone() };
    assert_eq!(ours.get("/v1/admin/accounts").await.status, 200);
    let secret = say(&app, &["keys", "issue", id, "third"]).await.out;
    assert!(secret.contains("api key: kiln_"), "{secret}");

    let list = ask(&app, &["keys", "list", id], &["second", "ours", "yes"]).await;
    assert_eq!(list["data"].as_array().map(Vec::len), Some(4), "{list}");
    for key in [&second.key, &ours.key] {
        assert!(!list.to_string().contains(key.as_str()), "no secret is shown again");
    }
    let key = issued["id"].as_str().expect("an id");
    let ended = tell(&app, &["keys", "revoke", key]).await;
    assert_ne!(ended["revoked_at"], Value::Null);
    assert_eq!(second.get("/v1/billing/balance").await.status, 401, "from the next request on");
    ask(&app, &["keys", "revoke", key], &["is revoked since"]).await;
    let count = async |words: &[&str]| tell(&app, words).await["data"].as_array().map(Vec::len);
    assert_eq!(count(&["keys", "list", id]).await, Some(3));
    assert_eq!(count(&["keys", "list", id, "--revoked"]).await, Some(4));

    refused(&app, &["keys", "issue", nobody, "x"], &[nobody]).await;
    refused(&app, &["keys", "list", nobody], &[nobody]).await;
    refused(&app, &["keys", "revoke", &KeyId::new().to_string()], &["no key key_", "keys list"]).await;
    misread(&app, &["keys", "revoke", "kiln_secret"], "key_ followed by").await;
    let created = "api_key.created";
    assert_eq!(written(&app).await, [created, created, created, "api_key.revoked"], "revoked once");
    app.finish().await;
}

#[tokio::test]
async fn a_price_that_is_set_is_taken_up_by_those_who_run() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let mut hints = PgListener::connect_with(&app.db).await.expect("listen");
    hints.listen("kiln").await.expect("listen");
    let set = tell(&app, &["prices", "set", "kling", "--tokens", "5", "--reason", "a sale"]).await;
    assert_eq!((&set["version"], &set["source"]), (&json!(2), &json!("operator")));
    let told = async { while hints.recv().await.expect("a hint").payload() != "prices" {} };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("running processes are told");
    drop(hints);
    eventually("the API charges it", async || {
        let body = json!({ "model": "kling", "input": { "prompt": "a fox" } });
        alice.post("/v1/jobs/quote", body).await.json["max"] == 5
    })
    .await;

    let rules = app.mail_dir.path().join("rules.json");
    let file = rules.to_str().expect("a path");
    let write = |text: &str| std::fs::write(&rules, text).expect("write");
    write(
        r#"[{ "per": "second", "tokens": "0.5" }, { "per": "second", "tokens": 1, "when": { "seconds": 10 } }]"#,
    );
    let words = ["prices", "set", "kling-seconds", "--rules", file, "--reason", "by the second"];
    ask(&app, &words, &["0.5", "seconds=10", "by the second"]).await;
    let history = ask(&app, &["prices", "show", "kling"], &["a sale", "38000"]).await;
    let versions = history["data"].as_array().expect("a list");
    assert_eq!(versions.iter().map(|one| one["version"].clone()).collect::<Vec<_>>(), [json!(2), json!(1)]);
    let list = ask(&app, &["prices", "list"], &["gpt-4o", "kling"]).await;
    assert!(list["data"].as_array().is_some_and(|data| data.len() > 10), "{list}");

    let with_rules = ["prices", "set", "kling", "--reason", "x", "--rules", file];
    write("{}");
    refused(&app, &with_rules, &[file, "no JSON list of rules"]).await;
    write(r#"[{ "per": "second", "tokens": 1, "when": { "moon": 1 } }]"#);
    refused(&app, &with_rules, &["rule 1", "\"moon\""]).await;
    refused(&app, &["prices", "set", "kling", "--reason", "x", "--rules", "/nowhere"], &["/nowhere"]).await;
    refused(
        &app,
        &["prices", "set", "sora-9", "--tokens", "1", "--reason", "x"],
        &["\"sora-9\"", "prices list"],
    )
    .await;
    refused(&app, &["prices", "show", "sora-9"], &["\"sora-9\""]).await;
    misread(&app, &["prices", "set", "kling", "--reason", "x"], "--tokens").await;
    misread(&app, &["prices", "set", "kling", "--tokens", "1"], "--reason").await;
    assert_eq!(written(&app).await, ["price.set"; 3]);
    app.finish().await;
}

#[tokio::test]
async fn a_person_becomes_an_operator_and_stops_being_one() {
    let app = TestApp::new().await;
    let ann = app.register("ann@example.com").await;
    let id = ann.user().await;
    assert_eq!(ann.get("/v1/admin/accounts").await.status, 403);
    assert_eq!(tell(&app, &["operators", "list"]).await["data"], json!([]));
    let set =
        ask(&app, &["operators", "set", "Ann@Example.com", "analyst"], &["analyst", "ann@example.com"]).await;
    assert_eq!((&set["id"], &set["operator_role"]), (&json!(id), &json!("analyst")));
    assert_eq!(ann.get("/v1/admin/accounts").await.status, 200, "from the next request on");
    let list = ask(&app, &["operators", "list"], &["analyst"]).await;
    assert_eq!(list["data"][0]["email"], "ann@example.com");
    tell(&app, &["operators", "set", &id, "none"]).await;
    assert_eq!(ann.get("/v1/admin/accounts").await.status, 403);

    app.ask_to_register("bob@example.com").await;
    refused(&app, &["operators", "set", "bob@example.com", "finance"], &["has not verified"]).await;
    refused(&app, &["operators", "set", "eve@example.com", "finance"], &["nobody has registered"]).await;
    refused(&app, &["operators", "set", &UserId::new().to_string(), "finance"], &["no person user_"]).await;
    misread(
        &app,
        &["operators", "set", "ann@example.com", "boss"],
        "super_admin, moderator, analyst, finance",
    )
    .await;
    misread(&app, &["operators", "set", "ann", "finance"], "name@example.com").await;
    let action = "user.operator_role_set";
    assert_eq!(written(&app).await, [action, action], "what changes nothing is no change");
    let told: i64 = scalar(&app.db, "select count(*) from audit_log where after::text like '%@%'").await;
    assert_eq!(told, 0, "without anybody's address");
    app.finish().await;
}

#[tokio::test]
async fn a_super_admin_says_who_is_an_operator() {
    let app = TestApp::new().await;
    let ann = app.register("ann@example.com").await;
    let path = format!("/v1/admin/users/{}/operator-role", ann.user().await);
    let ours = app.key(app.account(0).await.id, KeyRole::Operator).await;
    let put =
        async |who: &Account, path: &str, body: Value| who.send(Method::PUT, path, &[], Some(&body)).await;
    assert_eq!(put(&ann, &path, json!({ "role": "super_admin" })).await.status, 403);
    let set = put(&ours, &path, json!({ "role": "moderator" })).await;
    assert_eq!((set.status.as_u16(), &set.json["operator_role"]), (200, &json!("moderator")));
    assert_eq!(ann.get("/v1/admin/accounts").await.status, 200);
    assert_eq!(
        put(&ann, &path, json!({ "role": "super_admin" })).await.status,
        403,
        "a moderator raises nobody"
    );
    assert_eq!(put(&ours, &path, json!({})).await.error().0, 400, "an empty body takes nothing away");
    assert_eq!(put(&ours, &path, json!({ "role": "boss" })).await.error().0, 400);
    let nobody = format!("/v1/admin/users/{}/operator-role", UserId::new());
    assert_eq!(put(&ours, &nobody, json!({ "role": null })).await.error(), (404, "user_not_found", "id"));
    assert_eq!(put(&ours, &path, json!({ "role": null })).await.status, 200);
    assert_eq!(ann.get("/v1/admin/accounts").await.status, 403);
    let log = ours.get("/v1/admin/audit-log?action=user.operator_role_set").await.json;
    let changes: Vec<_> =
        log["data"].as_array().expect("a list").iter().map(|one| one["after"].clone()).collect();
    assert_eq!(changes, [json!({ "operator_role": null }), json!({ "operator_role": "moderator" })]);
    app.finish().await;
}

#[tokio::test]
async fn the_audit_log_and_the_books_are_looked_at() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let id = &alice.id.to_string();
    for reason in ["first", "second", "third"] {
        tell(&app, &["grants", "give", id, "5", "--reason", reason]).await;
    }
    tell(&app, &["accounts", "suspend", id]).await;
    let log = ask(&app, &["audit", "list"], &["command_line", "tokens.credited", "\"suspended\""]).await;
    let data = log["data"].as_array().expect("a list");
    assert_eq!(data.len(), 4);
    for entry in data {
        assert_eq!(entry["actor"], json!({ "kind": "command_line", "id": null }));
        assert_eq!((&entry["account"], &entry["ip"]), (&json!(id), &Value::Null));
    }
    assert_eq!(data[0]["before"]["status"], "active");
    assert_eq!(data[1]["after"]["reason"], "third");
    let count = async |words: &[&str]| {
        tell(&app, &[&["audit", "list"], words].concat()).await["data"].as_array().map(Vec::len)
    };
    assert_eq!(count(&["--account", id]).await, Some(4));
    assert_eq!(count(&["--account", &AccountId::new().to_string()]).await, Some(0));
    assert_eq!(count(&["--action", "tokens.credited"]).await, Some(3));
    assert_eq!(count(&["--target", id, "--limit", "2"]).await, Some(2));
    assert_eq!(count(&["--after", data[1]["id"].as_str().expect("an id")]).await, Some(2));

    let books = tell(&app, &["audit", "books"]).await;
    assert_eq!((&books["right"], &books["drifted"]), (&json!(true), &json!([])));
    execute(&app.db, "update accounts set available_tokens = available_tokens + 1").await.expect("a hand");
    let said = say(&app, &["audit", "books"]).await;
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{said:?}");
    assert!(said.out.contains(id.as_str()) && said.out.contains("RUNBOOK"), "{}", said.out);
    let said = say(&app, &["audit", "books", "--json"]).await;
    let drift = serde_json::from_str::<Value>(&said.out).expect("JSON")["drifted"][0].clone();
    assert_eq!((said.code, &drift["available"], &drift["available_by_ledger"]), (1, &json!(16), &json!(15)));
    execute(&app.db, "update accounts set available_tokens = available_tokens - 1").await.expect("put right");
    app.finish().await;
}

#[tokio::test]
async fn usage_and_margin_are_reported() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    alice.submit("gpt-4o", json!({ "prompt": "hello" })).await;
    app.drain().await;
    let (id, nobody) = (&alice.id.to_string(), &AccountId::new().to_string());
    let usage = ask(&app, &["usage", id, "--group-by", "model"], &["gpt-4o", "all"]).await;
    assert_eq!((&usage["data"][0]["model"], &usage["totals"]["jobs"]), (&json!("gpt-4o"), &json!(1)));
    assert_eq!(usage["totals"]["charged"], 1000);
    let none =
        tell(&app, &["usage", id, "--model", "kling", "--from", "2026-01-01", "--to", "2026-01-31"]).await;
    assert_eq!((&none["from"], &none["data"]), (&json!("2026-01-01"), &json!([])));
    let by_key = ask(&app, &["usage", id, "--group-by", "key"], &["test"]).await;
    assert!(by_key["data"][0]["key"]["id"].as_str().is_some_and(|id| id.starts_with("key_")), "{by_key}");
    for by in ["model", "provider", "account", "day"] {
        let margin = ask(&app, &["margin", "--group-by", by], &["revenue USD"]).await;
        assert_eq!(margin["totals"]["revenue_tokens"], 1000, "{margin}");
        assert_eq!(margin["data"].as_array().map(Vec::len), Some(1), "{margin}");
    }
    refused(&app, &["usage", nobody], &[nobody]).await;
    refused(&app, &["usage", id, "--from", "2026-02-01", "--to", "2026-01-01"], &["from is not after to"])
        .await;
    refused(&app, &["margin", "--from", "2020-01-01"], &["at most 400 days"]).await;
    misread(&app, &["margin", "--from", "2026-02-30"], "a day such as 2026-01-31").await;
    misread(&app, &["margin", "--group-by", "moon"], "model, provider, account, day").await;
    assert_eq!(written(&app).await, Vec::<String>::new(), "whoever reads changes nothing");
    app.finish().await;
}

#[tokio::test]
async fn without_a_database_of_this_version_a_command_says_what_to_do() {
    let app = TestApp::new().await;
    let run = async |url: Option<&str>| {
        let mut command = Command::new(binary("kiln"));
        command.env_clear().args(["admin", "accounts", "list"]);
        if let Some(url) = url {
            command.env("KILN_DATABASE_URL", url);
        }
        let said = command.output().await.expect("run kiln");
        assert_eq!((said.status.code(), said.stdout.is_empty()), (Some(1), true));
        String::from_utf8(said.stderr).expect("text")
    };
    assert!(run(None).await.contains("KILN_DATABASE_URL is not set"));
    // A database of the server that is never migrated.
    let (server, _) = app.database.url.rsplit_once('/').expect("a database URL");
    assert!(run(Some(&format!("{server}/template1"))).await.contains("run `kiln migrate`"));
    app.finish().await;
}
