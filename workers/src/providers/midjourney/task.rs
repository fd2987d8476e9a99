//! A task as a proxy shows it: how far it is, what it made, and which buttons its result has.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Reference, order::makes_pictures};
use crate::providers::{Artifact, Artifacts, ErrorClass, Pending, ProviderError, Step, http};

/// When to look at a picture's task; it takes 20–60 s, or minutes at the slow speed.
const LOOK_PICTURE: Duration = Duration::from_secs(5);

/// When to look at a film's task; it takes 1–5 min.
const LOOK_FILM: Duration = Duration::from_secs(10);

/// The tasks whose result is a picture with buttons.
const WITH_BUTTONS: [&str; 3] = ["image.generate", "image.blend", "image.action"];

/// When to look again at a task of this kind.
pub(super) fn look_again(task: &str) -> Duration {
    if task.starts_with("video.") { LOOK_FILM } else { LOOK_PICTURE }
}

/// A task; only what is read of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Task {
    /// Every task has one, and an error has none.
    #[serde(rename = "id")]
    _id: Value,
    #[serde(default)]
    status: Option<String>,
    /// `"45%"`, or empty.
    #[serde(default)]
    progress: Option<String>,
    /// What was asked for; of a description, the description.
    #[serde(default)]
    pub prompt: Option<String>,
    #[serde(default)]
    prompt_en: Option<String>,
    #[serde(default)]
    properties: Value,
    /// While the task runs, a preview.
    #[serde(default)]
    image_url: Option<String>,
    #[serde(default)]
    image_urls: Value,
    #[serde(default)]
    video_url: Option<String>,
    #[serde(default)]
    video_urls: Value,
    #[serde(default)]
    fail_reason: Option<String>,
    #[serde(default)]
    buttons: Option<Vec<Button>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Button {
    #[serde(default)]
    custom_id: Option<String>,
    #[serde(default)]
    emoji: Option<String>,
    #[serde(default)]
    label: Option<String>,
}

#[derive(Debug, PartialEq)]
pub(super) enum State {
    Queued,
    Working,
    /// It waits for a second step.
    Window,
    Done,
    Failed,
}

impl Task {
    /// Words we do not know mean "still at work": only the job's deadline may end it then.
    pub fn state(&self) -> State {
        match self.status.as_deref().unwrap_or_default() {
            "NOT_START" | "SUBMITTED" => State::Queued,
            "MODAL" => State::Window,
            "SUCCESS" => State::Done,
            "FAILURE" | "CANCEL" => State::Failed,
            _ => State::Working,
        }
    }

    /// What its state means for a job of the task `kind`.
    ///
    /// # Errors
    /// Verdicts.
    pub fn step(self, kind: &str, reference: &Reference) -> Result<Step, ProviderError> {
        let phase = match self.state() {
            State::Done => return self.made(kind).map(Step::Done),
            State::Failed => {
                let why = self.fail_reason.unwrap_or_default();
                let words = format!("the task failed: {}", http::quote(&why));
                return Err(ProviderError::new(class_of_failure(&why), words));
            }
            // A window that has been answered, as an answer that is late shows it.
            State::Queued | State::Window => "queued at provider",
            State::Working => "generating at provider",
        };
        Ok(Step::Pending(Pending {
            provider_ref: reference.write(),
            look_again: look_again(kind),
            progress: self.progress.as_deref().and_then(percent),
            phase: phase.to_owned(),
        }))
    }

    fn made(self, kind: &str) -> Result<Artifacts, ProviderError> {
        let broken = |why: &str| Err(ProviderError::new(ErrorClass::Broken, why));
        if kind == "image.describe" {
            let told =
                [self.properties["finalPrompt"].as_str(), self.prompt.as_deref(), self.prompt_en.as_deref()];
            return match told.into_iter().flatten().find(|text| !text.trim().is_empty()) {
                Some(text) => Ok(Artifacts { text: Some(text.to_owned()), ..Artifacts::default() }),
                None => broken("the task succeeded without a description"),
            };
        }
        let urls = if kind.starts_with("video.") {
            let all = addresses(&self.video_urls);
            if all.is_empty() { self.video_url.into_iter().collect() } else { all }
        } else {
            // One picture: where there are several addresses, they are of parts of it.
            let first = self.image_url.filter(|url| !url.is_empty());
            first.or_else(|| addresses(&self.image_urls).into_iter().next()).into_iter().collect::<Vec<_>>()
        };
        let files: Vec<_> = urls
            .into_iter()
            .filter(|url| !url.is_empty())
            .map(|url| Artifact::Remote { url, headers: Vec::new() })
            .collect();
        if files.is_empty() {
            return broken("the task succeeded without a file");
        }
        let offered = WITH_BUTTONS.contains(&kind).then(|| actions(self.buttons.unwrap_or_default()));
        let extra =
            offered.filter(|actions| !actions.is_empty()).map(|actions| json!({ "actions": actions }));
        Ok(Artifacts { files, extra, ..Artifacts::default() })
    }
}

/// The buttons that make another picture. Their ids are the vendor's and only ever sent back.
fn actions(buttons: Vec<Button>) -> Vec<Value> {
    let shown = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let offer = |button: Button| {
        let id = shown(button.custom_id).filter(|id| makes_pictures(id))?;
        let label = shown(button.label).or_else(|| shown(button.emoji)).unwrap_or_else(|| id.clone());
        Some(json!({ "id": id, "label": label }))
    };
    buttons.into_iter().filter_map(offer).collect()
}

/// Addresses in a list of strings or of objects with a `url`.
fn addresses(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().or_else(|| item["url"].as_str())).map(str::to_owned).collect()
}

fn percent(progress: &str) -> Option<u8> {
    progress.trim().strip_suffix('%')?.trim().parse::<u8>().ok().map(|percent| percent.min(100))
}

/// A task that Midjourney's moderation stopped tells it only by its words.
fn class_of_failure(why: &str) -> ErrorClass {
    let why = why.to_ascii_lowercase();
    let is_refused = ["banned", "moderat", "policy", "sensitive"].iter().any(|word| why.contains(word));
    if is_refused { ErrorClass::Refused } else { ErrorClass::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(kind: &str, task: &Value) -> Result<Step, ProviderError> {
        let reference = Reference { id: "42".into(), is_answered: false };
        serde_json::from_value::<Task>(task.clone()).unwrap().step(kind, &reference)
    }

    /// The state of a task in one word: phase and progress, the number of its files, or the class of its failure.
    fn check(task: &Value, expected: &str) {
        let found = match look("image.generate", task) {
            Ok(Step::Pending(pending)) => format!("{} {:?}", pending.phase, pending.progress),
            Ok(Step::Done(made)) => format!("{} files", made.files.len()),
            Err(error) => format!("{:?}", error.class),
        };
        assert_eq!(found, expected, "{task}");
    }

    #[test]
    fn status_words_become_steps_and_unknown_ones_never_a_success() {
        let task =
            |status: &str| json!({ "id": "42", "status": status, "progress": "45%", "imageUrl": null });
        check(&task("NOT_START"), "queued at provider Some(45)");
        check(&task("SUBMITTED"), "queued at provider Some(45)");
        check(&task("MODAL"), "queued at provider Some(45)");
        check(&task("IN_PROGRESS"), "generating at provider Some(45)");
        check(&task("RETICULATING"), "generating at provider Some(45)");
        check(&task("success"), "generating at provider Some(45)");
        check(&task("SUCCESS"), "Broken");
        check(&task("FAILURE"), "Failed");
        check(&task("CANCEL"), "Failed");
        check(&json!({ "id": "42" }), "generating at provider None");
        let preview =
            json!({ "id": "42", "status": "IN_PROGRESS", "progress": "", "imageUrl": "https://x/p" });
        check(&preview, "generating at provider None");
        check(&json!({ "id": "42", "status": "SUCCESS", "imageUrl": "https://x/1" }), "1 files");
        check(&json!({ "id": "42", "status": "FAILURE", "failReason": "Banned prompt detected" }), "Refused");
    }

    #[test]
    fn an_error_is_no_task() {
        assert!(serde_json::from_value::<Task>(json!({ "code": 9, "description": "failure" })).is_err());
        assert!(serde_json::from_value::<Task>(Value::Null).is_err());
    }

    #[test]
    fn progress_is_read_in_percent() {
        for (text, expected) in
            [("45%", Some(45)), ("100%", Some(100)), ("", None), ("soon", None), ("-3%", None)]
        {
            assert_eq!(percent(text), expected, "{text}");
        }
    }

    fn made(kind: &str, more: Value) -> Artifacts {
        let mut task = json!({ "id": "42", "status": "SUCCESS", "progress": "100%" });
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        match look(kind, &task) {
            Ok(Step::Done(made)) => made,
            other => panic!("not done: {other:?}"),
        }
    }

    #[test]
    fn buttons_that_make_pictures_are_offered() {
        let button =
            |id: &str, emoji: &str, label: &str| json!({ "customId": id, "emoji": emoji, "label": label });
        let picture = json!({ "imageUrl": "https://x/1", "buttons": [
            button("MJ::JOB::upsample::1::a", "", "U1"),
            button("MJ::JOB::reroll::0::a::SOLO", "🔄", ""),
            button("MJ::JOB::animate_high::1::a::SOLO", "🎞", "Animate"),
            button("MJ::BOOKMARK::a", "❤️", ""),
            button("", "", "nothing"),
        ]});
        let expected = json!({ "actions": [
            { "id": "MJ::JOB::upsample::1::a", "label": "U1" },
            { "id": "MJ::JOB::reroll::0::a::SOLO", "label": "🔄" },
        ]});
        assert_eq!(made("image.generate", picture.clone()).extra, Some(expected));
        assert_eq!(made("image.face_swap", picture).extra, None);
        assert_eq!(made("image.action", json!({ "imageUrl": "https://x/1", "buttons": null })).extra, None);
    }

    #[test]
    fn films_are_all_kept_and_a_description_is_text() {
        let listed =
            json!({ "videoUrl": "https://x/0", "videoUrls": [{ "url": "https://x/0" }, "https://x/1"] });
        assert_eq!(made("video.generate", listed).files.len(), 2);
        let single = json!({ "videoUrl": "https://x/0", "videoUrls": null, "imageUrl": "https://x/p" });
        assert_eq!(made("video.extend", single).files.len(), 1);
        let told =
            json!({ "prompt": "1️⃣ a fox", "imageUrl": "https://x/p", "properties": { "finalPrompt": "" } });
        let described = made("image.describe", told);
        assert_eq!((described.text.as_deref(), described.files.len()), (Some("1️⃣ a fox"), 0));
    }
}
