// Every OpenAI-compatible path, through the official client for Node and nothing else.
//
// OPENAI_BASE_URL (with its /v1) and OPENAI_API_KEY say where, as for any program that uses the client; KILN_LIMITED_KEY is a
// key of an account of the free tier with 100 tokens. Each check is a function; the first one that fails ends the run with its
// name.

import { VERSION } from "openai/version";

import { media } from "./media.mjs";
import { refusals } from "./refusals.mjs";
import { run } from "./support.mjs";
import { texts } from "./texts.mjs";

await run(`openai ${VERSION} for Node`, { ...texts, ...media, ...refusals });
