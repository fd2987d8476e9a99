//! OpenAI transcription: a real multipart form with a real sound file in it.
//!
//! The file is judged by its first bytes, as the vendor does; what is "heard" tells its name and size. A WAV's
//! length is read, that of other formats is guessed from the bytes.

use std::io::Cursor;

use axum::{
    extract::{FromRequest as _, Multipart, Request, State},
    http::StatusCode,
    response::Response,
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    Sim, Simulator, answer,
    fault::Kind,
    fields::Complaint,
    ledger::{Op, Provider, Visit},
    vendors::openai::{complain, error, identified, refuse_key, voice},
    wire,
};

/// The vendor's limit for a file.
const FILE_BYTES_MAX: usize = 25 * 1024 * 1024;
/// Bytes of a compressed sound that last a second, at 128 kbit/s.
const GUESSED_BYTES_PER_SECOND: usize = 16_000;
/// The first bytes of the formats the vendor takes, with where they stand.
const MAGIC: &[(usize, &[u8])] = &[
    (8, b"WAVE"),
    (0, b"ID3"),
    (0, b"\xFF\xFB"),
    (0, b"\xFF\xF3"),
    (0, b"\xFF\xF2"),
    (0, b"\xFF\xFA"),
    (0, b"fLaC"),
    (0, b"OggS"),
    (4, b"ftyp"),
    (0, b"\x1A\x45\xDF\xA3"),
    (0, b"\xFF\xF1"),
];
const KNOWN: &[&str] = &[
    "model",
    "language",
    "prompt",
    "response_format",
    "temperature",
    "include[]",
    "stream",
    "chunking_strategy",
    "known_speaker_names[]",
    "known_speaker_references[]",
];
const FORMATS: &[&str] = &["json", "text", "srt", "verbose_json", "vtt"];

/// A transcription form, as it is filled in.
#[derive(Default)]
struct Form {
    file: Option<(String, Bytes)>,
    model: String,
    language: Option<String>,
    prompt: String,
    format: Option<String>,
    granularities: Vec<String>,
}

/// A transcription request, understood.
struct Recording {
    name: String,
    bytes: usize,
    seconds: usize,
    language: Option<String>,
    prompt: String,
    format: String,
    /// Whether each word has its times.
    by_word: bool,
}

/// Writes down what a recording says.
pub(crate) async fn transcribe(State(sim): State<Sim>, request: Request) -> Response {
    if let Some(refusal) = refuse_key(request.headers()) {
        return refusal;
    }
    let client_ref = request.headers().get("x-client-request-id").and_then(|value| value.to_str().ok());
    let client_ref = client_ref.map(str::to_owned);
    let recording = match Form::receive(request).await.and_then(Form::into_recording) {
        Ok(recording) => recording,
        Err(complaint) => return complain(&complaint),
    };
    if recording.bytes > FILE_BYTES_MAX {
        let text = "Maximum content size limit (26214400) exceeded";
        return error(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", None, Some("file"), text);
    }
    // The file's name counts as part of the prompt, so that a fault can be asked for where there is no prompt.
    let prompt = format!("{} {}", recording.prompt, recording.name).trim().to_owned();
    let visit =
        Visit::new(Provider::Openai, Op::Submit, "audio.transcriptions", &prompt, client_ref.as_deref());
    sim.attend(&visit, voice, sim.transcription(&visit, &recording)).await
}

impl Simulator {
    async fn transcription(&self, visit: &Visit, recording: &Recording) -> Response {
        let id = format!("req_{}", self.tasks.next_id());
        self.accept(visit, Some(&id));
        let silent =
            self.strike(visit, Kind::Empty).is_some() || self.strike(visit, Kind::NoResult).is_some();
        let response = identified(recording.written_down(silent), &id);
        if self.strike(visit, Kind::Truncated).is_some() { wire::cut_short(response).await } else { response }
    }
}

impl Form {
    async fn receive(request: Request) -> Result<Self, Complaint> {
        let unreadable =
            |error: String| Complaint::general(format!("could not parse the multipart form: {error}"));
        let mut parts =
            Multipart::from_request(request, &()).await.map_err(|error| unreadable(error.body_text()))?;
        let mut form = Self::default();
        while let Some(part) = parts.next_field().await.map_err(|error| unreadable(error.body_text()))? {
            let name = part.name().unwrap_or_default().to_owned();
            if name == "file" {
                let file_name = part.file_name().map(str::to_owned);
                let bytes = part.bytes().await.map_err(|error| unreadable(error.body_text()))?;
                let Some(file_name) = file_name else {
                    return Err(Complaint::of(
                        "file",
                        "expected 'file' to be a file, but it has no file name",
                    ));
                };
                form.file = Some((file_name, bytes));
                continue;
            }
            let text = part.text().await.map_err(|error| unreadable(error.body_text()))?;
            form.fill_in(&name, text)?;
        }
        Ok(form)
    }

    fn fill_in(&mut self, name: &str, text: String) -> Result<(), Complaint> {
        match name {
            "model" => self.model = text,
            "language" => self.language = Some(text),
            "prompt" => self.prompt = text,
            "response_format" => self.format = Some(text),
            "temperature" if !text.parse::<f64>().is_ok_and(|value| (0.0..=1.0).contains(&value)) => {
                return Err(Complaint::of(name, "'temperature' must be a number from 0 to 1"));
            }
            "timestamp_granularities[]" if ["word", "segment"].contains(&text.as_str()) => {
                self.granularities.push(text);
            }
            "timestamp_granularities[]" => {
                return Err(Complaint::of(name, "'timestamp_granularities' must be 'word' or 'segment'"));
            }
            "stream" if text == "true" => {
                return Err(Complaint::of(name, "streaming is not supported here"));
            }
            _ if KNOWN.contains(&name) => {}
            _ => return Err(Complaint::of(name, format!("unrecognized request argument supplied: {name}"))),
        }
        Ok(())
    }

    fn into_recording(self) -> Result<Recording, Complaint> {
        if self.model.is_empty() {
            return Err(Complaint::of("model", "you must provide a model parameter"));
        }
        let Some((name, bytes)) = self.file else {
            return Err(Complaint::of("file", "you must provide a 'file' parameter"));
        };
        let is_sound =
            MAGIC.iter().any(|(at, magic)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
        if !is_sound {
            let text = "Invalid file format. Supported formats: ['flac', 'm4a', 'mp3', 'mp4', 'mpeg', 'mpga', \
                'oga', 'ogg', 'wav', 'webm']";
            return Err(Complaint::of("file", text));
        }
        let format = self.format.unwrap_or_else(|| "json".to_owned());
        let fits =
            FORMATS.contains(&format.as_str()) && (format == "json" || !self.model.starts_with("gpt-4o"));
        if !fits {
            let text = format!("response_format '{format}' is not compatible with model '{}'", self.model);
            return Err(Complaint::of("response_format", text));
        }
        if !self.granularities.is_empty() && format != "verbose_json" {
            let text = "'timestamp_granularities' needs response_format 'verbose_json'";
            return Err(Complaint::of("timestamp_granularities", text));
        }
        Ok(Recording {
            seconds: seconds_of(&bytes),
            name,
            bytes: bytes.len(),
            language: self.language,
            prompt: self.prompt,
            format,
            by_word: self.granularities.iter().any(|granularity| granularity == "word"),
        })
    }
}

impl Recording {
    fn written_down(&self, silent: bool) -> Response {
        let spoken =
            format!("This is a simulated transcript of {}, a file of {} bytes.", self.name, self.bytes);
        let text = if silent { String::new() } else { spoken };
        let usage = json!({ "type": "duration", "seconds": self.seconds });
        let plain = |body: String| answer::bytes(StatusCode::OK, "text/plain; charset=utf-8", body);
        let (start, end) = ("00:00:00".to_owned(), clock_face(self.seconds));
        match self.format.as_str() {
            "text" => plain(format!("{text}\n")),
            "srt" => plain(format!("1\n{start},000 --> {end},000\n{text}\n\n")),
            "vtt" => plain(format!("WEBVTT\n\n{start}.000 --> {end}.000\n{text}\n\n")),
            "verbose_json" => answer::json(StatusCode::OK, &self.verbose(&text, &usage)),
            _ => answer::json(StatusCode::OK, &json!({ "text": text, "usage": usage })),
        }
    }

    fn verbose(&self, text: &str, usage: &Value) -> Value {
        let mut answer = json!({
            "task": "transcribe", "language": self.language.as_deref().unwrap_or("english"),
            "duration": self.seconds, "text": text,
            "segments": [{
                "id": 0, "seek": 0, "start": 0.0, "end": self.seconds, "text": text, "tokens": [50364, 50464],
                "temperature": 0.0, "avg_logprob": -0.2, "compression_ratio": 1.1, "no_speech_prob": 0.01,
            }],
            "usage": usage,
        });
        if self.by_word {
            answer["words"] = text.split_whitespace().map(|word| self.timed(word)).collect();
        }
        answer
    }

    /// A word with its times. All are said at once: nobody is there to hear them.
    fn timed(&self, word: &str) -> Value {
        json!({ "word": word, "start": 0.0, "end": self.seconds })
    }
}

fn clock_face(seconds: usize) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Whole seconds, rounded up as the vendor bills them.
fn seconds_of(bytes: &[u8]) -> usize {
    let measured = hound::WavReader::new(Cursor::new(bytes)).ok().and_then(|sound| {
        let seconds = sound.duration().div_ceil(sound.spec().sample_rate.max(1));
        usize::try_from(seconds).ok()
    });
    measured.unwrap_or_else(|| bytes.len().div_ceil(GUESSED_BYTES_PER_SECOND)).max(1)
}
