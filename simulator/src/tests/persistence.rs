//! A restarted simulator knows its tasks, and gives the same bytes under its new port.

use serde_json::json;

use super::House;
use crate::Pace;

#[tokio::test]
async fn tasks_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open_with(Some(folder.path()), Pace::AfterPolls(2)).await;
    let order = json!({ "prompt": "a fox", "external_task_id": "job-1" });
    let (_, answer) = house.ask("/kling/v1/videos/text2video", order.clone()).await;
    let id = answer["data"]["task_id"].as_str().unwrap().to_owned();
    let poll = format!("/kling/v1/videos/text2video/{id}");
    assert_eq!(house.look(&poll).await.1["data"]["task_status"], "processing");
    house.close().await;

    let house = House::open_with(Some(folder.path()), Pace::AfterPolls(2)).await;
    let (_, answer) = house.look(&poll).await;
    assert_eq!(answer["data"]["task_status"], "succeed", "the first poll was remembered");
    let url = answer["data"]["task_result"]["videos"][0]["url"].as_str().unwrap();
    assert!(url.starts_with(&house.root), "{url}");
    let film = house.client.get(url).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(house.ask("/kling/v1/videos/text2video", order).await.1["code"], 1201);
    house.close().await;

    let house = House::open_with(Some(folder.path()), Pace::AfterPolls(2)).await;
    let (_, answer) = house.look(&poll).await;
    let url = answer["data"]["task_result"]["videos"][0]["url"].as_str().unwrap();
    assert_eq!(house.client.get(url).send().await.unwrap().bytes().await.unwrap(), film);
    house.close().await;
}

#[tokio::test]
async fn many_tasks_at_once_are_all_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open_with(Some(folder.path()), Pace::AfterPolls(1)).await;
    let prompts: Vec<_> = (0..40).map(|number| format!("fox {number}")).collect();
    futures::future::join_all(prompts.iter().map(|prompt| house.kling_task(prompt))).await;
    house.close().await;
    let house = House::open_with(Some(folder.path()), Pace::AfterPolls(1)).await;
    let (_, tasks) = house.look("/control/tasks").await;
    assert_eq!(tasks["data"].as_array().unwrap().len(), 40);
    house.close().await;
}

#[tokio::test]
async fn a_damaged_state_file_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tasks.json"), "[{").unwrap();
    let error = crate::task::TaskStore::open(Some(folder.path())).unwrap_err();
    assert!(format!("{error:#}").contains("tasks.json"), "{error:#}");
}
