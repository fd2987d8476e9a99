//! OpenAI text to speech: a file as long as the text would take to read.
//!
//! Formats are MP3, WAV and PCM; the others the vendor has are refused as unsupported, since nothing here can
//! encode them. There is no streaming form and, as with the vendor, no usage.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::Value;

use crate::{
    Sim, Simulator, answer,
    content::audio,
    fault::Kind,
    fields::{Complaint, Fields, read_json},
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    seed::Seed,
    vendors::openai::{complain, identified, refuse_key, voice},
    wire,
};

/// How long one character takes to say: about fifteen a second.
const MILLIS_PER_CHAR: u32 = 66;
/// No utterance is shorter.
const MILLIS_MIN: u32 = 400;
/// The vendor's limit for `input` and for `instructions`.
const CHARS_MAX: usize = 4096;

const VOICES: &[&str] = &[
    "alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer", "verse", "marin",
    "cedar",
];
const KNOWN: &[&str] =
    &["model", "input", "voice", "instructions", "response_format", "speed", "stream_format"];

/// A speech request, understood.
struct Speech {
    input: String,
    format: String,
    millis: u32,
}

/// Speaks a text.
pub(crate) async fn speak(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let speech = match read_json(&headers, &body).and_then(|body| Speech::read(&body)) {
        Ok(speech) => speech,
        Err(complaint) => return complain(&complaint),
    };
    let client_ref = headers.get("x-client-request-id").and_then(|value| value.to_str().ok());
    let visit = Visit::new(Provider::Openai, Op::Submit, "audio.speech", &speech.input, client_ref);
    sim.attend(&visit, voice, sim.speech(&visit, &speech)).await
}

impl Simulator {
    async fn speech(&self, visit: &Visit, speech: &Speech) -> Response {
        let id = format!("req_{}", self.tasks.next_id());
        let seed = Seed::of(&speech.input, &id);
        let (media_type, bytes) = match speech.sound(&seed, self.timed(visit, speech.millis)) {
            Ok(sound) => sound,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "cannot make a sound");
                return voice(&Trouble::Broken(None));
            }
        };
        self.accept(visit, Some(&id));
        let bytes = if self.strike(visit, Kind::NoResult).is_some() { Vec::new() } else { bytes };
        let artefact = self.spoil(visit, &seed, bytes);
        let response = identified(answer::bytes(StatusCode::OK, media_type, artefact.bytes), &id);
        if artefact.cut { wire::cut_short(response).await } else { response }
    }
}

impl Speech {
    fn read(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(KNOWN)?;
        let model = fields.text("model", 256)?;
        let input = fields.text("input", CHARS_MAX)?.to_owned();
        match fields.get("voice") {
            Some(Value::Object(custom)) if custom.get("id").is_some_and(Value::is_string) => {}
            Some(_) => {
                fields.choice("voice", VOICES)?;
            }
            None => return Err(Complaint::of("voice", "you must provide a 'voice' parameter")),
        }
        if fields.optional_text("instructions", CHARS_MAX)?.is_some() && model.starts_with("tts-1") {
            return Err(Complaint::of(
                "instructions",
                format!("'instructions' is not supported by '{model}'"),
            ));
        }
        fields.choice("stream_format", &["audio"])?;
        let speed = fields.number("speed", 0.25..=4.0)?.unwrap_or(1.0);
        let chars = u32::try_from(input.chars().count()).unwrap_or(u32::MAX);
        let natural = std::time::Duration::from_millis(u64::from(chars.saturating_mul(MILLIS_PER_CHAR)));
        let spoken = u32::try_from(natural.div_f64(speed).as_millis()).unwrap_or(u32::MAX);
        Ok(Self {
            input,
            format: fields.choice("response_format", &["mp3", "wav", "pcm"])?.unwrap_or("mp3").to_owned(),
            millis: spoken.max(MILLIS_MIN),
        })
    }

    fn sound(&self, seed: &Seed, millis: u32) -> anyhow::Result<(&'static str, Vec<u8>)> {
        Ok(match self.format.as_str() {
            "wav" => ("audio/wav", audio::wav(seed, millis)?),
            "pcm" => ("audio/pcm", audio::pcm(seed, millis)),
            _ => ("audio/mpeg", audio::mp3(seed, millis)),
        })
    }
}
