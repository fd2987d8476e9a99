// Webhooks as they arrive, judged by the reference library of Standard Webhooks, by OpenAI's client and by Node's own Ed25519.
//
// OPENAI_BASE_URL and OPENAI_API_KEY say where and who, KILN_WEBHOOK_SECRET is the account's secret.

import assert from "node:assert/strict";
import { createPublicKey, randomBytes, randomUUID, verify as verifySignature } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";

import OpenAI from "openai";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

import { done, run } from "./support.mjs";

const client = new OpenAI();
const SECRET = process.env.KILN_WEBHOOK_SECRET;
/** Longest wait for a webhook. */
const PATIENCE_MS = 30_000;

/** What came to each address, and who waits for it. */
const [arrived, waiting] = [new Map(), new Map()];

const server = createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const told = { headers: request.headers, body: Buffer.concat(pieces).toString() };
  response.writeHead(204).end();
  const next = waiting.get(request.url)?.shift();
  if (next) next(told);
  else arrived.get(request.url).push(told);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

/** A new address for webhooks. */
function open() {
  const path = `/${randomUUID()}`;
  arrived.set(path, []);
  waiting.set(path, []);
  return { path, url: `http://127.0.0.1:${server.address().port}${path}` };
}

/** The next webhook of an address. */
function take({ path }) {
  const told = arrived.get(path).shift();
  if (told) return told;
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("no webhook came")), PATIENCE_MS);
    waiting.get(path).push((told) => {
      clearTimeout(late);
      resolve(told);
    });
  });
}

/** A job that succeeds. */
async function submit(more = {}) {
  const job = await done("POST", "/jobs", { model: "gpt-4o-mini", input: { prompt: `hello ${randomUUID()}` }, ...more });
  return job.id;
}

const verify = (told, secret) => new Webhook(secret).verify(told.body, told.headers);
const signatures = (told, version) =>
  told.headers["webhook-signature"].split(" ").filter((part) => part.startsWith(`${version},`));
const withHeader = (told, name, value) => ({ ...told, headers: { ...told.headers, [name]: value } });

/** Neither the reference library nor OpenAI's client may let this through. */
async function refuses(told, secret, why) {
  assert.throws(
    () => verify(told, secret),
    (error) => error instanceof WebhookVerificationError && why.test(error.message),
  );
  const kind = OpenAI.InvalidWebhookSignatureError;
  await assert.rejects(
    () => client.webhooks.verifySignature(told.body, told.headers, secret),
    (error) => error instanceof kind,
  );
}

/** Whether the signature that needs no secret is good. */
async function isByKeyPair(told) {
  const said = await done("GET", "/webhook-endpoints/public-key", undefined, null);
  const x = Buffer.from(said.public_key.replace("whpk_", ""), "base64").toString("base64url");
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  const [signature] = signatures(told, "v1a");
  const signed = `${told.headers["webhook-id"]}.${told.headers["webhook-timestamp"]}.${told.body}`;
  return verifySignature(null, Buffer.from(signed), key, Buffer.from(signature.slice(4), "base64"));
}

const checks = {
  async a_jobs_own_webhook_is_signed_with_the_accounts_secret() {
    const address = open();
    const job = await submit({ webhook: { url: address.url } });
    const told = await take(address);
    const said = verify(told, SECRET);
    assert.deepEqual([said.type, said.data.id, said.data.status], ["job.succeeded", job, "succeeded"]);
    assert.equal((await client.webhooks.unwrap(told.body, told.headers, SECRET)).type, "job.succeeded");
    assert(await isByKeyPair(told));
  },

  async what_was_changed_on_the_way_is_refused() {
    const address = open();
    await submit({ webhook: { url: address.url } });
    const told = await take(address);
    const sent = Number(told.headers["webhook-timestamp"]);
    const other = `whsec_${randomBytes(32).toString("base64")}`;
    const none = /No matching signature/;
    await refuses(told, other, none);
    await refuses({ ...told, body: `${told.body} ` }, SECRET, none);
    await refuses(withHeader(told, "webhook-id", `${told.headers["webhook-id"]}0`), SECRET, none);
    await refuses(withHeader(told, "webhook-timestamp", `${sent - 1}`), SECRET, none);
    await refuses(withHeader(told, "webhook-timestamp", `${sent - 3600}`), SECRET, /too old/);
    await refuses(withHeader(told, "webhook-timestamp", `${sent + 3600}`), SECRET, /too new/);
    assert(!(await isByKeyPair({ ...told, body: `${told.body} ` })));
    assert(!(await isByKeyPair(withHeader(told, "webhook-timestamp", `${sent - 1}`))));
  },

  async an_endpoint_has_a_secret_of_its_own_and_two_while_it_is_changed() {
    const address = open();
    const made = await done("POST", "/webhook-endpoints", { url: address.url, events: ["job.succeeded"] });
    const job = await submit();
    const first = await take(address);
    assert.equal(verify(first, made.secret).data.id, job);
    assert.deepEqual([signatures(first, "v1").length, signatures(first, "v1a").length], [1, 1]);
    await refuses(first, SECRET, /No matching signature/);
    const { secret } = await done("POST", `/webhook-endpoints/${made.id}/rotate`, {});
    await submit();
    const both = await take(address);
    assert.deepEqual([signatures(both, "v1").length, signatures(both, "v1a").length], [2, 1]);
    assert.deepEqual(verify(both, made.secret), verify(both, secret));
    assert(await isByKeyPair(both));
    await done("DELETE", `/webhook-endpoints/${made.id}`);
  },
};

const { version } = createRequire(import.meta.url)("standardwebhooks/package.json");
await run(`standardwebhooks ${version} for Node`, checks);
