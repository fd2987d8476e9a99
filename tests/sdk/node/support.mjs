// What the checks share: where Kiln is, its own API, files to send in, and how a check ends a run.

import assert from "node:assert/strict";
import { deflateSync } from "node:zlib";

import { toFile } from "openai";

/** Where Kiln is, with its /v1, and who asks: as any program that uses OpenAI's client is told. */
export const BASE = process.env.OPENAI_BASE_URL.replace(/\/$/, "");
export const KEY = process.env.OPENAI_API_KEY;

/** What a request to Kiln's own API says, by nothing but Node; it must succeed. */
export async function done(method, path, body, key = KEY) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(BASE + path, { method, headers, body: body && JSON.stringify(body) });
  const said = await response.json();
  assert(response.ok, `${method} ${path}: ${response.status} ${JSON.stringify(said)}`);
  return said;
}

/** The error that a call of OpenAI's client must end with. */
export async function refused(kind, call, expected = {}) {
  let thrown;
  await assert.rejects(call, (error) => {
    thrown = error;
    assert(error instanceof kind, `${error}`);
    for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value, `${error}`);
    return true;
  });
  return thrown;
}

/** A PNG of one colour. */
export function picture(width = 256, height = 256, alpha = 255) {
  const row = Buffer.concat([Buffer.from([0]), Buffer.concat(Array(width).fill(Buffer.from([200, 30, 30, alpha])))]);
  const chunk = (kind, data) => {
    const body = Buffer.concat([Buffer.from(kind), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(checksum(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 6, 0, 0, 0], 8);
  const rows = deflateSync(Buffer.concat(Array(height).fill(row)));
  return Buffer.concat([PNG, chunk("IHDR", header), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))]);
}

/** How a PNG begins. */
export const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

/** The CRC of a PNG. */
function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}

/** A PNG as a file to be sent. */
export const png = (...size) => toFile(picture(...size), "fox.png", { type: "image/png" });

/** A silent WAV: one channel, 16 bits, 16 kHz. */
export function recording(seconds = 2) {
  const header = Buffer.alloc(44);
  const size = 32000 * seconds;
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + size, 4);
  header.write("WAVEfmt ", 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(16000, 24);
  header.writeUInt32LE(32000, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36);
  header.writeUInt32LE(size, 40);
  return Buffer.concat([header, Buffer.alloc(size)]);
}

/** Runs checks one after the other; the first that fails ends the run with its name. */
export async function run(who, checks) {
  const start = performance.now();
  const secs = (since) => ((performance.now() - since) / 1000).toFixed(1);
  for (const [name, check] of Object.entries(checks)) {
    const [shown, began] = [name.replaceAll("_", " "), performance.now()];
    try {
      await check();
    } catch (error) {
      console.error(`${who}: FAILED: ${shown}`);
      throw error;
    }
    console.error(`${who}: ${shown} (${secs(began)} s)`);
  }
  console.log(`${who}: ${Object.keys(checks).length} checks in ${secs(start)} s`);
  // Connections that are kept for later must not keep the process.
  process.exit(0);
}
