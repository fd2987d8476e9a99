// How OpenAI's client hears that something is wrong, what it does about an answer that is lost, and what one that it leaves
// costs.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import net from "node:net";

import OpenAI from "openai";

import { BASE, done, refused } from "./support.mjs";

const client = new OpenAI();
// An account of the free tier with hardly any tokens; it is asked once, so that a limit is seen and not waited for.
const limited = new OpenAI({ apiKey: process.env.KILN_LIMITED_KEY, maxRetries: 0 });

const model = "gpt-4o-mini";
const messages = [{ role: "user", content: "hello" }];

/** A door to Kiln that loses its first answer: the request gets through, and once Kiln answers the caller is cut off. */
async function lossyDoor() {
  const at = new URL(BASE);
  let losses = 1;
  const server = net.createServer((caller) => {
    const kiln = net.connect(Number(at.port), at.hostname);
    for (const socket of [caller, kiln]) socket.on("error", () => {});
    caller.pipe(kiln);
    if (losses-- > 0) kiln.once("data", () => caller.destroy());
    else kiln.pipe(caller);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}${at.pathname}`, close: () => server.close() };
}

/** The jobs of the account in whose input this word is. */
async function jobsAbout(word) {
  const { data: jobs } = await done("GET", "/jobs?limit=100");
  return jobs.filter((job) => JSON.stringify(job.input).includes(word)).map((job) => job.id);
}

export const refusals = {
  async a_wrong_key_is_not_let_in() {
    const stranger = new OpenAI({ apiKey: "kiln_wrong" });
    const error = await refused(OpenAI.AuthenticationError, () => stranger.models.list());
    assert(error.status === 401 && error.type && error.code && error.requestID, `${error}`);
  },

  async what_a_key_may_not_do_is_forbidden() {
    const made = await done("POST", "/api-keys", { name: "reads only", scopes: ["jobs:read"] });
    const reader = new OpenAI({ apiKey: made.secret });
    assert((await reader.models.list()).data.length > 0);
    await refused(OpenAI.PermissionDeniedError, () => reader.chat.completions.create({ model, messages }));
    await done("DELETE", `/api-keys/${made.id}`);
  },

  async what_is_not_there_is_not_found() {
    await refused(OpenAI.NotFoundError, () => client.models.retrieve("gpt-0"), { code: "model_not_found" });
    const call = () => client.chat.completions.create({ model: "gpt-0", messages });
    await refused(OpenAI.NotFoundError, call, { code: "model_not_found", param: "model" });
    await refused(OpenAI.NotFoundError, () => client.videos.retrieve(`video_${"0".repeat(32)}`));
  },

  async a_chat_that_is_wrong_is_refused_naming_the_field() {
    for (const [param, more] of [
      ["messages", { messages: [] }],
      ["temperature", { temperature: 9 }],
      ["max_completion_tokens", { max_completion_tokens: 0 }],
      ["logit_bias", { logit_bias: { 50256: -100 } }],
    ]) {
      const call = () => client.chat.completions.create({ model, messages, ...more });
      await refused(OpenAI.BadRequestError, call, { param, type: "invalid_request_error" });
    }
  },

  async what_a_vendor_refuses_is_a_bad_request() {
    const no = [{ role: "user", content: "no [[sim:refuse]]" }];
    for (const stream of [false, true]) {
      const call = () => client.chat.completions.create({ model, messages: no, stream });
      await refused(OpenAI.BadRequestError, call, { code: "content_policy_violation" });
    }
  },

  async what_fails_after_the_first_words_is_thrown_behind_them() {
    // The vendor refuses in the middle of its answer, which is not tried again.
    const half = [{ role: "user", content: "half of it [[sim:drip=50]] [[sim:stream=error:refuse]]" }];
    const asked = { model, messages: half, stream: true };
    const { data: stream, response } = await client.chat.completions.create(asked).withResponse();
    let text = "";
    const hear = async () => {
      for await (const chunk of stream) {
        assert(!chunk.choices[0].finish_reason);
        text += chunk.choices[0].delta.content ?? "";
      }
    };
    const error = await refused(OpenAI.APIError, hear, { code: "content_policy_violation", status: undefined });
    assert(text && error.type, `${error} behind "${text}"`);
    const job = await done("GET", `/jobs/${response.headers.get("x-kiln-job")}`);
    assert(job.status === "failed" && !job.price.charged, JSON.stringify(job));
  },

  async an_account_is_told_what_it_lacks() {
    const call = () => limited.chat.completions.create({ model, messages });
    await refused(OpenAI.APIError, call, { status: 402, code: "insufficient_quota" });
    const askTooOften = async () => {
      // The free tier has five requests an hour; no two are the same, as what is answered from the cache is free.
      for (let n = 0; n < 6; n += 1) {
        await limited.embeddings.create({ model: "text-embedding-3-small", input: randomUUID() });
      }
    };
    const error = await refused(OpenAI.RateLimitError, askTooOften, { status: 429, code: "rate_limit_exceeded" });
    assert(Number(error.headers.get("retry-after")) > 0);
  },

  async an_answer_that_was_lost_is_that_of_the_first_job() {
    const [word, door] = [randomUUID(), await lossyDoor()];
    const patient = new OpenAI({ baseURL: door.url });
    const asked = { model, messages: [{ role: "user", content: word }] };
    const { data: made, response } = await patient.chat.completions.create(asked).withResponse();
    assert.equal(response.headers.get("idempotent-replayed"), "true");
    assert(made.choices[0].message.content.includes(word));
    assert.deepEqual(await jobsAbout(word), [response.headers.get("x-kiln-job")]);
    door.close();
  },

  async who_leaves_a_stream_after_the_first_words_pays_once() {
    const word = randomUUID();
    const slowly = [{ role: "user", content: `${word} [[sim:drip=50]]` }];
    const asked = { model, messages: slowly, stream: true };
    const { data: stream, response } = await client.chat.completions.create(asked).withResponse();
    // Leaving the loop closes the connection.
    for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
    const job = await done("GET", `/jobs/${response.headers.get("x-kiln-job")}?wait=60`);
    assert(job.status === "succeeded" && job.output.text.includes(word), JSON.stringify(job));
    assert.deepEqual([await jobsAbout(word), job.attempts], [[job.id], 1]);
    const { data: charges } = await done("GET", `/billing/transactions?kind=charge&job=${job.id}`);
    assert.deepEqual(charges.map((charge) => charge.amount), [job.price.charged]);
  },
};
