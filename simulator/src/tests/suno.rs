//! Songs as a client of a relay of new-api's kind meets them.

use serde_json::{Value, json};

use super::House;

const SUBMIT: &str = "/suno/suno/submit/music";

impl House {
    /// A task at the relay and the path to poll it at.
    async fn song(&self, prompt: &str) -> String {
        let order =
            json!({ "gpt_description_prompt": prompt, "mv": "chirp-v3-0", "make_instrumental": false });
        let (_, answer) = self.ask(SUBMIT, order).await;
        assert_eq!(answer["code"], "success", "{answer}");
        format!("/suno/suno/fetch/{}", answer["data"].as_str().unwrap())
    }
}

async fn word(house: &House, poll: &str) -> String {
    let (_, answer) = house.look(poll).await;
    answer["data"]["status"].as_str().unwrap_or("not found").to_owned()
}

#[tokio::test]
async fn a_task_ends_in_two_songs() {
    let house = House::open().await;
    let poll = house.song("a fox").await;
    let (_, answer) = house.look(&poll).await;
    assert_eq!(answer["data"]["status"], "SUCCESS");
    let clips = answer["data"]["data"].as_array().unwrap();
    assert_eq!(clips.len(), 2);
    let mut files = Vec::new();
    for clip in clips {
        let file = house.client.get(clip["audio_url"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(file.headers()["content-type"], "audio/mpeg");
        files.push(file.bytes().await.unwrap());
    }
    assert_ne!(files[0], files[1]);
}

#[tokio::test]
async fn an_order_is_read_strictly_and_a_no_has_a_word() {
    let house = House::open().await;
    for body in [
        json!({}),
        json!({ "prompt": "la la", "gpt_description_prompt": "a fox" }),
        json!({ "prompt": "la la", "mv": "V5" }),
        json!({ "prompt": "la la", "style": "folk" }),
    ] {
        let (status, answer) = house.ask(SUBMIT, body).await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_request")), "{answer}");
    }
    for (fault, status, code) in [
        ("rate_limit", 429, "rate_limit"),
        ("quota", 403, "quota_not_enough"),
        ("auth", 401, "invalid_token"),
        ("bad_input", 400, "invalid_request"),
        ("refuse=submit", 400, "invalid_request"),
        ("fail", 200, "upstream_error"),
        ("fail=503", 503, "upstream_error"),
    ] {
        let (got, answer) = house.ask(SUBMIT, json!({ "prompt": format!("a fox [[sim:{fault}]]") })).await;
        assert_eq!((got, &answer["code"]), (status, &json!(code)), "{fault}");
    }
    assert_eq!(house.accepted("fox").await, 0);
}

#[tokio::test]
async fn a_task_can_look_odd_and_end_badly() {
    let house = House::open().await;
    for (fault, seen) in [
        ("missing=1", ["not found", "SUCCESS"]),
        ("unknown_status=1", ["RETICULATING", "SUCCESS"]),
        ("backwards", ["IN_PROGRESS", "QUEUED"]),
        ("refuse", ["FAILURE", "FAILURE"]),
        ("task_fail", ["FAILURE", "FAILURE"]),
    ] {
        let poll = house.song(&format!("a fox [[sim:{fault}]]")).await;
        for expected in seen {
            assert_eq!(word(&house, &poll).await, expected, "{fault}");
        }
    }
    let poll = house.song("a fox [[sim:no_result]]").await;
    assert_eq!(house.look(&poll).await.1["data"]["data"][0]["audio_url"], Value::from(""));
}
