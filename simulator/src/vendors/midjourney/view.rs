//! How the proxy shows a task.

use serde_json::{Value, json};

use super::buttons;
use crate::{
    files,
    progress::Sight,
    task::{Ending, Makes, Task},
};

/// How a task failed that the client stopped.
pub(super) const CANCELED: &str = "CANCEL";

/// A task with this status and progress, without a result.
pub(super) fn of(task: &Task, status: &str, progress: &str) -> Value {
    json!({
        "id": task.id, "action": task.call, "status": status, "prompt": task.prompt, "promptEn": task.prompt,
        "description": format!("/imagine {}", task.prompt), "state": task.client_ref, "submitTime": task.created_ms,
        "startTime": task.created_ms, "finishTime": null, "progress": progress, "imageUrl": null, "imageUrls": null,
        "videoUrl": null, "videoUrls": null, "failReason": null, "buttons": [], "seed": null,
        "properties": { "finalPrompt": null, "finalZhPrompt": null },
    })
}

/// A task as a poll saw it; `None` when it saw none.
pub(super) fn seen(task: &Task, sight: &Sight, root: &str) -> Option<Value> {
    Some(match sight {
        Sight::Missing => return None,
        Sight::Waiting if task.polls <= 1 => of(task, "NOT_START", "0%"),
        Sight::Waiting => of(task, "SUBMITTED", "0%"),
        Sight::Working => {
            let mut shown = of(task, "IN_PROGRESS", "46%");
            // A preview, which is gone when the picture is there.
            shown["imageUrl"] = json!(files::url(root, task, task.issued));
            shown
        }
        Sight::Unknown => of(task, "RETICULATING", "46%"),
        Sight::Hollow => {
            let mut shown = of(task, "SUCCESS", "100%");
            if task.call == "DESCRIBE" {
                shown["prompt"] = json!("");
                shown["promptEn"] = json!("");
            }
            shown
        }
        Sight::Failed(_) | Sight::Refused | Sight::Succeeded { .. } => of_ended(task, root),
    })
}

/// A task as its ending has it; at work where it has none.
pub(super) fn of_ended(task: &Task, root: &str) -> Value {
    let mut shown = match task.ending {
        None if task.is_on_hold => return of(task, "MODAL", ""),
        None => return of(task, "SUBMITTED", "0%"),
        Some(Ending::Failed) if task.failure.as_deref() == Some(CANCELED) => return of(task, CANCELED, ""),
        Some(Ending::Failed | Ending::Refused) => of(task, "FAILURE", ""),
        Some(Ending::Succeeded) => of(task, "SUCCESS", "100%"),
    };
    shown["finishTime"] = json!(task.updated_ms);
    let url = files::url(root, task, task.issued);
    match task.ending {
        Some(Ending::Refused) => shown["failReason"] = json!("Banned prompt detected"),
        Some(Ending::Failed) => {
            shown["failReason"] = json!(task.failure.as_deref().unwrap_or("Internal error"));
        }
        _ if task.call == "DESCRIBE" => {
            let text = format!("1️⃣ a picture of {} --ar 1:1", task.seed(0).name());
            shown["prompt"] = json!(text);
            shown["promptEn"] = json!(text);
            shown["properties"]["finalPrompt"] = json!(text);
            shown["imageUrl"] = json!(url);
        }
        _ if task.makes == Makes::Mp4 => {
            shown["videoUrl"] = json!(url);
            shown["videoUrls"] = json!([{ "url": url, "thumbnail": null }]);
        }
        _ => {
            shown["imageUrl"] = json!(url);
            shown["buttons"] = buttons::shown(task);
        }
    }
    shown
}
