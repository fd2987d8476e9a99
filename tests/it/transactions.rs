//! The list of movements, narrowed down, and as a table of any length.

use chrono::{SecondsFormat, TimeDelta};
use reqwest::{Method, StatusCode};
use serde_json::json;
use shared::{
    billing::{self, Gift, Source, Tokens},
    id::EntryId,
};

use crate::support::{Account, TestApp, scalar};

/// More than two pages of what is read at once, and the last one not whole.
const MANY: i64 = 2500;

async fn kinds(account: &Account, query: &str) -> Vec<String> {
    let answer = account.get(&format!("/v1/billing/transactions?{query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    let data = answer.json["data"].as_array().expect("a list").clone();
    data.iter().map(|entry| entry["kind"].as_str().expect("a kind").to_owned()).collect()
}

#[tokio::test]
async fn movements_are_narrowed_by_job_kind_and_time() {
    let app = TestApp::new().await;
    let alice = app.account(5000).await;
    let given_at = app.now();
    app.clock.advance(TimeDelta::hours(1));
    let done = alice.submit("gpt-4o", json!({ "prompt": "done" })).await;
    let refused = alice.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    app.drain().await;
    assert_eq!(kinds(&alice, &format!("job={done}")).await, ["charge", "hold"]);
    assert_eq!(kinds(&alice, &format!("job={refused}")).await, ["release", "hold"]);
    assert_eq!(kinds(&alice, &format!("job={refused}&kind=hold")).await, ["hold"]);
    assert!(kinds(&alice, &format!("job={refused}&kind=grant")).await.is_empty());
    let bob = app.account(0).await;
    assert!(kinds(&bob, &format!("job={done}")).await.is_empty(), "another's job is not there");

    let stamp = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let later = stamp(given_at + TimeDelta::minutes(1));
    assert_eq!(kinds(&alice, &format!("created_before={later}")).await, ["grant"]);
    assert_eq!(kinds(&alice, &format!("created_after={later}")).await.len(), 4);
    assert_eq!(kinds(&alice, &format!("created_after={later}&job={done}&limit=1")).await, ["charge"]);
    for (query, param) in [
        ("job=job_1", "job"),
        ("created_after=yesterday", "created_after"),
        ("kind=gift", "kind"),
        ("format=csv&limit=10", "limit"),
        ("format=pdf", "format"),
    ] {
        let answer = alice.get(&format!("/v1/billing/transactions?{query}")).await;
        assert_eq!((answer.error().0, answer.error().2), (400, param), "{query}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_table_has_every_movement_in_order() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let bob = app.account(700).await;
    for n in 0..MANY {
        let reason = match n {
            7 => "=HYPERLINK(\"https://example.com\",\"a, b\")".into(),
            8 => "gift;=1+1".into(),
            _ => format!("gift {n}"),
        };
        let gift = Gift {
            account: alice.id,
            tokens: Tokens::new(n + 1).expect("not negative"),
            expires_at: None,
            source: Source::Operator,
            reference: &EntryId::new().to_string(),
            reason: Some(&reason),
        };
        billing::give(&app.db, &gift, app.now()).await.expect("give");
    }
    let answer = alice.get("/v1/billing/transactions?format=csv").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/csv; charset=utf-8; header=present");
    let name = format!("attachment; filename=\"transactions-{}.csv\"", app.now().date_naive());
    assert_eq!(answer.headers["content-disposition"], name.as_str());
    assert!(!answer.headers.contains_key("content-length"), "it is sent as it is read");
    let text = answer.json.as_str().expect("CSV");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(
        reader.headers().expect("headings"),
        vec!["id", "created_at", "kind", "amount", "from", "to", "job", "reason"]
    );
    let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
    let ids: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    let newest_first: Vec<String> = scalar(
        &app.db,
        &format!(
            "select array_agg('txn_' || replace(id::text, '-', '') order by id desc) from ledger where account_id = '{}'",
            alice.id.0
        ),
    )
    .await;
    assert_eq!(ids.len(), 2500);
    assert!(ids == newest_first, "complete, in order and only one's own");
    let sum: i64 = rows.iter().map(|row| row[3].parse::<i64>().expect("a number")).sum();
    assert_eq!(sum, MANY * (MANY + 1) / 2);
    assert_eq!(&rows[2499 - 7][7], "'=HYPERLINK(\"https://example.com\",\"a, b\")", "no formula");
    assert_eq!(&rows[2499 - 8][7], "gift;'=1+1", "nor where semicolons begin a cell");
    assert_eq!(&rows[0][7], "gift 2499");

    let accept = [("Accept", "text/csv")];
    let path = format!("/v1/billing/transactions?kind=grant&after={}", ids[2399]);
    let rest = alice.send(Method::GET, &path, &accept, None).await;
    assert_eq!(rest.json.as_str().expect("CSV").lines().count(), 101, "what is older, and the headings");
    let path = "/v1/billing/transactions?kind=debit&format=csv";
    assert_eq!(
        bob.get(path).await.json,
        "id,created_at,kind,amount,from,to,job,reason\n",
        "nothing but headings"
    );
    app.finish().await;
}
