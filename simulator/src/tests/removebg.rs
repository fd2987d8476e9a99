//! Cutting out as a remove.bg client meets it.

use reqwest::multipart::Form;

use super::{House, part, told};

const PATH: &str = "/removebg/v1.0/removebg";

fn form(width: u32, size: &'static str) -> Form {
    Form::new().part("image_file", part(width, 600)).text("size", size).text("format", "png")
}

#[tokio::test]
async fn a_subject_is_cut_out_and_its_price_told() {
    let house = House::open().await;
    for (size, width, credits) in [("full", 800, "1"), ("preview", 400, "0.25")] {
        let answer = house.fill_in(PATH, form(800, size)).await;
        assert_eq!(answer.headers()["x-credits-charged"], credits);
        assert_eq!(answer.headers()["x-width"], width.to_string());
        let picture = image::load_from_memory(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(picture.width(), width, "{size}");
    }
    let asked = house.post(PATH).header("accept", "application/json").multipart(form(800, "full"));
    let (_, answer) = told(asked.send().await.unwrap()).await;
    assert!(answer["data"]["result_b64"].is_string() && answer["data"]["foreground_width"] == 800);
    assert_eq!(house.accepted("800x600").await, 3);
}

#[tokio::test]
async fn a_form_is_read_strictly_and_refused_in_the_vendors_words() {
    let house = House::open().await;
    for form in [Form::new().text("size", "full"), form(800, "huge"), form(800, "full").text("colour", "red")]
    {
        assert_eq!(house.fill_in(PATH, form).await.status(), 400);
    }
    for (fault, value, status, code) in [
        ("rate_limit", "5", 429, "rate_limit_exceeded"),
        ("quota", "", 402, "insufficient_credits"),
        ("auth", "", 403, "auth_failed"),
        ("bad_input", "foreground", 400, "unknown_foreground"),
    ] {
        let order = serde_json::json!({ "fault": fault, "value": value, "times": 1 });
        house.ask("/control/faults", order).await;
        let (got, answer) = told(house.fill_in(PATH, form(800, "full")).await).await;
        assert_eq!((got, answer["errors"][0]["code"].as_str()), (status, Some(code)), "{fault}");
    }
    assert_eq!(house.accepted("").await, 0);
    let account = format!("{}/removebg/v1.0/account", house.root);
    let (_, answer) = told(house.client.get(&account).header("x-api-key", "key").send().await.unwrap()).await;
    assert_eq!(answer["data"]["attributes"]["credits"]["total"], 200);
    assert_eq!(house.client.get(&account).header("x-api-key", "wrong").send().await.unwrap().status(), 403);
}
