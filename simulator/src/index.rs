//! The front page: what this server is and how to steer it, for a person with curl.

use std::fmt::Write as _;

use axum::extract::State;

use crate::{Sim, fault::FAULTS, vendors::INDEX};

const INTRODUCTION: &str = "\
Simulated AI vendors: their real wire protocols, real decodable content, faults on demand. No model runs here.

VENDORS
";

const REST: &str = "\
  Files    GET  /files/VENDOR/NAME                     (use the URL you were given)

KEYS
  Any bearer token, x-goog-api-key, x-api-key (at anthropic and remove.bg), mj-api-secret or, at fal,
  `Authorization: Key …`, except 'wrong', which is refused.
  Kling wants a JWT (HS256) with iss 'simulator', signed with 'simulated', and exp and nbf.

CONTROL
  POST   /control/faults    {\"provider\"?, \"op\"?: submit|poll|file|download, \"contains\"?, \"fault\", \"value\"?, \"times\"?}
  GET    /control/faults    DELETE /control/faults
  GET    /control/submits?provider=&contains=     what was asked for, and how much of it would be billed
  GET    /control/requests?provider=&contains=    how many requests of each op
  GET    /control/tasks     GET /control/traces   which requests said by `traceparent` what they are part of
  POST   /control/pace      {\"after_polls\": n} or {\"after_seconds\": s}
  POST   /control/reset     GET /health

FAULTS, in a prompt as [[sim:NAME]] or [[sim:NAME=VALUE]], or ordered at /control/faults
";

/// Tells what this is.
pub(crate) async fn page(State(sim): State<Sim>) -> String {
    let mut page = [&[INTRODUCTION], INDEX, &[REST]].concat().concat();
    for (_, name, line) in FAULTS {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "  {name:<16}{line}");
    }
    let _ = writeln!(page, "\nPACE  {:?}", sim.pace());
    page
}
