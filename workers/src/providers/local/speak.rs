//! Speech by espeak-ng, where it is installed: a plain voice in many languages.
//!
//! The program runs as a child process with the text on its standard input, so that no text is ever taken for an option, and
//! writes a WAV into a file of its own. It is ended when it takes too long or when the job is given up. Deliberately absent:
//! markup in the text, which would be spoken as it stands, and any other format.

use std::{path::Path, process::Stdio, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

use super::bad;
use crate::providers::{Call, ErrorClass, ProviderError, http::quote};

/// The program's name.
pub const PROGRAM: &str = "espeak-ng";

/// The voice where the caller names none.
const VOICE: &str = "en";

/// How the program is told the encoding of what it reads, whatever the locale of this process.
const UTF_8: &str = "1";

/// Words a minute at the ordinary pace, the program's own default.
const WORDS_PER_MINUTE: f64 = 175.0;

/// The slowest and the fastest that the program speaks, by its manual page.
const PACE: (f64, f64) = (80.0, 450.0);

/// Longest time for one text. The longest takes a second or two.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Has the text spoken.
///
/// # Errors
/// [`ErrorClass::Unavailable`] when the program is not installed here or takes too long, [`ErrorClass::Failed`] when it does not want
/// to or finds nothing to say.
pub async fn speak(program: &Path, call: &Call) -> Result<Bytes, ProviderError> {
    let text = call.text("text").ok_or_else(|| bad("speech needs a text"))?;
    let format = call.text("format").unwrap_or("wav");
    if format != "wav" {
        return Err(bad(&format!("{PROGRAM} makes wav, not {format}")));
    }
    let voice = voice(call)?;
    let away =
        |error: std::io::Error| ProviderError::new(ErrorClass::Unavailable, format!("{PROGRAM}: {error}"));
    let sound = tempfile::Builder::new().suffix(".wav").tempfile().map_err(away)?;
    let child = Command::new(program)
        .args(["--stdin", "-b", UTF_8, "-v", voice, "-s", &pace(call)])
        .arg("-w")
        .arg(sound.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            ProviderError::new(ErrorClass::Unavailable, format!("{PROGRAM} is not installed on this worker"))
        }
        _ => away(error),
    })?;
    let mut input = child.stdin.take();
    let spoken = async {
        if let Some(input) = &mut input {
            // A program that stops reading says why by its exit code.
            drop(input.write_all(text.as_bytes()).await);
        }
        drop(input);
        child.wait_with_output().await
    };
    let ended = tokio::time::timeout(TIMEOUT, spoken)
        .await
        .map_err(|_| {
            ProviderError::new(ErrorClass::Unavailable, format!("{PROGRAM} took more than {TIMEOUT:?}"))
        })?
        .map_err(away)?;
    if !ended.status.success() {
        let words = quote(&String::from_utf8_lossy(&ended.stderr));
        return Err(ProviderError::new(
            ErrorClass::Failed,
            format!("{PROGRAM} ended with {}: {words}", ended.status),
        ));
    }
    let sound = tokio::fs::read(sound.path()).await.map_err(away)?;
    if sound.is_empty() {
        return Err(ProviderError::new(ErrorClass::Failed, format!("{PROGRAM} found nothing to say")));
    }
    Ok(sound.into())
}

/// The voice, which is the code of a language, such as `en` or `pt-br`; anything else could name a file.
fn voice(call: &Call) -> Result<&str, ProviderError> {
    let voice = call.text("voice").unwrap_or(VOICE);
    let is_code = voice.starts_with(|letter: char| letter.is_ascii_lowercase())
        && voice.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if is_code { Ok(voice) } else { Err(bad("the voice is no code of a language")) }
}

/// Words a minute, whole.
fn pace(call: &Call) -> String {
    let speed = call.input.get("speed").and_then(Value::as_f64).unwrap_or(1.0);
    format!("{:.0}", (WORDS_PER_MINUTE * speed).clamp(PACE.0, PACE.1))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn call(input: Value) -> Call {
        Call::new("audio.speech", "espeak", input, "job_1-1")
    }

    /// A program in a folder of its own that does what `script` says.
    fn program(script: &str) -> (TempDir, std::path::PathBuf) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("speaker");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    #[tokio::test]
    async fn the_text_goes_in_and_the_sound_comes_out() {
        // The last argument is the file; what was said and how is written into it.
        let (_dir, path) =
            program("for last; do :; done; { echo \"$1 $2 $3 $4 $5 $6 $7\"; cat; } > \"$last\"");
        let said = speak(&path, &call(json!({ "text": "--help; $(rm)", "voice": "ru", "speed": 2 }))).await;
        assert_eq!(said.unwrap(), "--stdin -b 1 -v ru -s 350\n--help; $(rm)");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_or_fails_is_told_apart() {
        let speech = call(json!({ "text": "hello" }));
        let error = speak(Path::new("/nowhere/espeak-ng"), &speech).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Unavailable);
        assert!(error.message.contains("not installed"), "{error}");
        let (_dir, path) = program("echo no such voice >&2; exit 1");
        let error = speak(&path, &speech).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Failed);
        assert!(error.message.contains("no such voice"), "{error}");
    }

    #[tokio::test]
    async fn only_codes_of_languages_and_wav_are_taken() {
        for input in [
            json!({ "text": "x", "voice": "../etc/passwd" }),
            json!({ "text": "x", "voice": "-w" }),
            json!({ "text": "x", "voice": "" }),
            json!({ "text": "x", "format": "mp3" }),
            json!({}),
        ] {
            let error = speak(Path::new("/nowhere/espeak-ng"), &call(input.clone())).await.unwrap_err();
            assert_eq!(error.class, ErrorClass::BadInput, "{input}");
        }
    }

    #[test]
    fn the_pace_stays_within_what_the_program_speaks() {
        let check = |speed: f64, expected: &str| assert_eq!(pace(&call(json!({ "speed": speed }))), expected);
        check(1.0, "175");
        check(0.25, "80");
        check(4.0, "450");
        assert_eq!(pace(&call(json!({}))), "175");
    }
}
