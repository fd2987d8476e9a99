//! Suno's songs, by way of relays: there is no official API, and two kinds of relay speak differently.
//!
//! Either makes two songs at once; each becomes a file, and what is said of it stands in `tracks` in the same order. After a
//! lost answer both are asked again ("maybe twice"): neither can be searched by a name of ours, and a second request costs five
//! to ten cents, less than a customer who gets nothing for minutes of waiting. Deliberately absent: lyrics alone, going on with
//! a song, covers as files of their own, and cancelling, which neither offers.

pub mod relay;
pub mod sunoapi;

use std::time::Duration;

use serde_json::{Value, json};

use super::{Artifact, Artifacts, Call, ErrorClass, Pending, ProviderError, Step};

/// When to look at a task that has just begun; songs take 2–3 min.
const LOOK_QUEUED: Duration = Duration::from_secs(15);

/// When to look at a task that is being worked on.
const LOOK_WORKING: Duration = Duration::from_secs(20);

/// Handing over a few lines of text.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// What was asked for, as both kinds of relay understand it.
#[derive(Debug, PartialEq)]
struct Wish<'a> {
    /// What the song is about.
    about: Option<&'a str>,
    lyrics: Option<&'a str>,
    title: Option<&'a str>,
    style: Option<&'a str>,
    is_instrumental: bool,
}

impl<'a> Wish<'a> {
    fn of(call: &'a Call) -> Result<Self, ProviderError> {
        let bad = |why: &str| ProviderError::new(ErrorClass::BadInput, why);
        if call.task != "audio.music" {
            return Err(bad(&format!("suno is not wired for {}", call.task)));
        }
        let wish = Self {
            about: call.text("prompt"),
            lyrics: call.text("lyrics"),
            title: call.text("title"),
            style: call.text("style"),
            is_instrumental: call.input.get("instrumental") == Some(&Value::Bool(true)),
        };
        if wish.about.is_none() && wish.lyrics.is_none() {
            return Err(bad("a song needs a prompt or lyrics"));
        }
        Ok(wish)
    }

    /// Style and subject in one: beside lyrics there is no other place for the subject.
    fn style_and_subject(&self) -> Option<String> {
        let parts: Vec<_> = [self.style, self.about].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// One of the songs of a finished task.
#[derive(Debug, Default)]
struct Track {
    audio_url: Option<String>,
    title: Option<String>,
    lyrics: Option<String>,
    style: Option<String>,
    cover_url: Option<String>,
}

impl Track {
    fn is_there(&self) -> bool {
        self.audio_url.as_deref().is_some_and(|url| !url.is_empty())
    }
}

fn pending(provider_ref: &str, is_queued: bool, progress: Option<u8>) -> Step {
    let (look_again, phase) = match is_queued {
        true => (LOOK_QUEUED, "queued at provider"),
        false => (LOOK_WORKING, "generating at provider"),
    };
    let (provider_ref, phase) = (provider_ref.to_owned(), phase.to_owned());
    Step::Pending(Pending { provider_ref, look_again, progress, phase })
}

/// What a finished task brought.
fn made(tracks: Vec<Track>) -> Result<Artifacts, ProviderError> {
    let there: Vec<_> = tracks.into_iter().filter(Track::is_there).collect();
    if there.is_empty() {
        return Err(ProviderError::new(ErrorClass::Broken, "the task succeeded without a song"));
    }
    let said: Vec<_> = there.iter().map(said_of).collect();
    let files = there.into_iter().filter_map(|track| track.audio_url);
    Ok(Artifacts {
        files: files.map(|url| Artifact::Remote { url, headers: Vec::new() }).collect(),
        extra: Some(json!({ "tracks": said })),
        ..Artifacts::default()
    })
}

fn said_of(track: &Track) -> Value {
    let mut said = json!({});
    for (field, text) in [
        ("title", &track.title),
        ("lyrics", &track.lyrics),
        ("style", &track.style),
        ("cover_url", &track.cover_url),
    ] {
        if let Some(text) = text.as_deref().filter(|text| !text.trim().is_empty()) {
            said[field] = json!(text);
        }
    }
    said
}

/// A task that was stopped for its content tells it, at the relays, only by its words.
fn class_of_failure(why: &str) -> ErrorClass {
    let why = why.to_ascii_lowercase();
    let is_refused = ["moderat", "sensitive", "policy", "copyright"].iter().any(|word| why.contains(word));
    if is_refused { ErrorClass::Refused } else { ErrorClass::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_songs_that_are_there_count_and_are_told_of() {
        let track = |url: &str, title: &str| Track {
            audio_url: Some(url.into()),
            title: Some(title.into()),
            lyrics: Some(" ".into()),
            ..Track::default()
        };
        let artifacts = made(vec![track("https://x/1.mp3", "one"), track("", "two")]).unwrap();
        assert_eq!(artifacts.files.len(), 1);
        assert_eq!(artifacts.extra, Some(json!({ "tracks": [{ "title": "one" }] })));
        assert_eq!(made(vec![track("", "two")]).unwrap_err().class, ErrorClass::Broken);
        assert_eq!(made(Vec::new()).unwrap_err().class, ErrorClass::Broken);
    }

    #[test]
    fn a_refusal_is_known_by_its_words() {
        assert_eq!(class_of_failure("Song description flagged for moderation"), ErrorClass::Refused);
        assert_eq!(class_of_failure("internal error"), ErrorClass::Failed);
    }

    #[test]
    fn a_wish_needs_a_subject_or_lyrics() {
        let call = |input| Call::new("audio.music", "x", input, "job_1-1");
        assert_eq!(Wish::of(&call(json!({ "title": "x" }))).unwrap_err().class, ErrorClass::BadInput);
        assert!(Wish::of(&call(json!({ "lyrics": "la" }))).is_ok());
        let speech = Call::new("audio.speech", "x", json!({ "prompt": "x" }), "job_1-1");
        assert_eq!(Wish::of(&speech).unwrap_err().class, ErrorClass::BadInput);
    }
}
