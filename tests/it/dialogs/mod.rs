//! Dialogs through the front door: what goes before a question, what is kept of it and when, whose it is, and where it ends.

mod door;
mod talk;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::id::JobId;

use crate::support::{Account, Answer};

/// Begins a dialog; its id.
async fn begin(who: &Account, fields: Value) -> String {
    let begun = who.post("/v1/dialogs", fields).await;
    assert_eq!(begun.status, StatusCode::CREATED, "{}", begun.json);
    begun.json["id"].as_str().expect("an id").to_owned()
}

async fn ask(who: &Account, dialog: &str, input: Value) -> Answer {
    who.post("/v1/jobs", json!({ "dialog": dialog, "input": input })).await
}

/// Says something in a dialog and expects to be heard.
async fn say(who: &Account, dialog: &str, words: &str) -> JobId {
    let answer = ask(who, dialog, json!({ "prompt": words })).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.json);
    answer.job()
}

async fn change(who: &Account, dialog: &str, fields: Value) -> Value {
    let changed = who.send(Method::PATCH, &format!("/v1/dialogs/{dialog}"), &[], Some(&fields)).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.json);
    changed.json
}

async fn delete(who: &Account, path: String) -> StatusCode {
    who.send(Method::DELETE, &path, &[], None).await.status
}

/// What the newest hundred messages say, the first of them first, as the next job is given them.
async fn said(who: &Account, dialog: &str) -> Vec<Value> {
    let page = who.get(&format!("/v1/dialogs/{dialog}/messages?limit=100")).await.json;
    let newest_first = page["data"].as_array().unwrap_or_else(|| panic!("{page}")).iter();
    let mut said: Vec<_> = newest_first
        .map(|message| json!({ "role": message["role"], "content": message["content"] }))
        .collect();
    said.reverse();
    said
}

/// What users said in a dialog, and whether an answer follows each.
async fn questions(who: &Account, dialog: &str) -> Vec<String> {
    let said = said(who, dialog).await;
    let (pairs, rest) = said.as_chunks::<2>();
    assert!(rest.is_empty(), "{said:?}");
    pairs
        .iter()
        .map(|[question, answer]| {
            assert_eq!(
                (&question["role"], &answer["role"]),
                (&json!("user"), &json!("assistant")),
                "{said:?}"
            );
            question["content"].as_str().expect("a text").to_owned()
        })
        .collect()
}

fn user(words: &str) -> Value {
    json!({ "role": "user", "content": words })
}
