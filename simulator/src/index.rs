//! The front page: what this server is and how to steer it, for a person with curl.

use std::fmt::Write as _;

use axum::extract::State;

use crate::{Sim, fault::FAULTS};

const INTRODUCTION: &str = "\
Simulated AI vendors: their real wire protocols, real decodable content, faults on demand. No model runs here.

VENDORS
  OpenAI   POST /openai/v1/chat/completions            (stream: true for SSE)
           POST /openai/v1/audio/speech                (mp3, wav, pcm)
           POST /openai/v1/audio/transcriptions        (multipart)
  Gemini   POST /gemini/v1beta/models/MODEL:generateContent
  Kling    POST /kling/v1/videos/text2video | image2video
           GET  /kling/v1/videos/KIND/TASK_ID_OR_EXTERNAL_TASK_ID
  MiniMax  POST /minimax/v1/video_generation
           GET  /minimax/v1/query/video_generation?task_id=ID
           GET  /minimax/v1/files/retrieve?file_id=ID
  Files    GET  /files/VENDOR/TASK_ID.mp4              (use the URL you were given)

KEYS
  Any bearer token or x-goog-api-key, except 'wrong', which is refused.
  Kling wants a JWT (HS256) with iss 'simulator', signed with 'simulated', and exp and nbf.

CONTROL
  POST   /control/faults    {\"provider\"?, \"op\"?: submit|poll|file|download, \"contains\"?, \"fault\", \"value\"?, \"times\"?}
  GET    /control/faults    DELETE /control/faults
  GET    /control/submits?provider=&contains=     what was asked for, and how much of it would be billed
  GET    /control/requests?provider=&contains=    how many requests of each op
  GET    /control/tasks
  POST   /control/pace      {\"after_polls\": n} or {\"after_seconds\": s}
  POST   /control/reset     GET /health

FAULTS, in a prompt as [[sim:NAME]] or [[sim:NAME=VALUE]], or ordered at /control/faults
";

/// Tells what this is.
pub(crate) async fn page(State(sim): State<Sim>) -> String {
    let mut page = INTRODUCTION.to_owned();
    for (_, name, line) in FAULTS {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "  {name:<16}{line}");
    }
    let _ = writeln!(page, "\nPACE  {:?}", sim.pace());
    page
}
