// Every OpenAI-compatible path, through the official client for Node and nothing else.
//
// OPENAI_BASE_URL (with its /v1) and OPENAI_API_KEY say where, as for any program that uses the client. Each check is a
// function; the first one that fails ends the run with its name.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { deflateSync } from "node:zlib";

import OpenAI, { toFile } from "openai";

const client = new OpenAI();

/** A PNG of one colour. */
function picture(width = 256, height = 256, alpha = 255) {
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
  const magic = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const rows = deflateSync(Buffer.concat(Array(height).fill(row)));
  return Buffer.concat([magic, chunk("IHDR", header), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))]);
}

/** The CRC of a PNG. */
function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}

/** A silent WAV: one channel, 16 bits, 16 kHz. */
function recording(seconds = 2) {
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

/** The error that a call must end with. */
async function refused(kind, call, expected = {}) {
  await assert.rejects(call, (error) => {
    assert(error instanceof kind, `${error}`);
    for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value, `${error}`);
    return true;
  });
}

const png = (...size) => toFile(picture(...size), "fox.png", { type: "image/png" });

const checks = {
  async models_are_listed_and_found() {
    const names = (await client.models.list()).data.map((model) => model.id);
    for (const name of ["gpt-4o-mini", "gpt-image-1", "dall-e-3", "tts-1", "whisper-1", "sora-2"]) {
      assert(names.includes(name), name);
    }
    const model = await client.models.retrieve("gpt-4o-mini");
    assert(model.id === "gpt-4o-mini" && model.object === "model" && model.created > 0);
    await refused(OpenAI.NotFoundError, () => client.models.retrieve("gpt-0"), { code: "model_not_found" });
  },

  async a_wrong_key_is_not_let_in() {
    const stranger = new OpenAI({ apiKey: "kiln_wrong" });
    await refused(OpenAI.AuthenticationError, () => stranger.models.list());
  },

  async a_chat_is_answered() {
    const messages = [{ role: "user", content: "why is the sky blue" }];
    const made = await client.chat.completions.create({ model: "gpt-4o-mini", messages });
    assert(made.choices[0].message.content.includes("why is the sky blue"));
    assert(made.choices[0].finish_reason === "stop" && made.usage.total_tokens > 0);
    await refused(OpenAI.NotFoundError, () => client.chat.completions.create({ model: "gpt-0", messages }), {
      code: "model_not_found",
      param: "model",
    });
    await refused(OpenAI.BadRequestError, () => client.chat.completions.create({ model: "gpt-4o-mini", messages: [] }));
  },

  async a_chat_is_streamed() {
    const stream = await client.chat.completions.create({
      model: "gpt-4o-mini",
      messages: [{ role: "user", content: "tell me of kilns" }],
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    const [ends, usages] = [[], []];
    for await (const chunk of stream) {
      for (const choice of chunk.choices) {
        text += choice.delta.content ?? "";
        if (choice.finish_reason) ends.push(choice.finish_reason);
      }
      if (chunk.usage) usages.push(chunk.usage);
    }
    assert(text.includes("tell me of kilns"));
    assert.deepEqual(ends, ["stop"]);
    assert(usages.length === 1 && usages[0].total_tokens > 0);
  },

  async texts_become_vectors() {
    const [model, input] = ["text-embedding-3-small", ["a fox", "a hen"]];
    const packed = await client.embeddings.create({ model, input });
    const plain = await client.embeddings.create({ model, input, encoding_format: "float" });
    assert.equal(packed.data.length, 2);
    packed.data.forEach((each, n) => {
      const other = plain.data[n].embedding;
      assert(each.embedding.length === 1536 && other.length === 1536);
      assert(each.embedding.every((value, at) => Math.abs(value - other[at]) < 1e-6));
    });
    await refused(OpenAI.BadRequestError, () => client.embeddings.create({ model, input: [1, 2] }), { param: "input" });
  },

  async texts_are_judged() {
    const made = await client.moderations.create({ input: ["a fox", "[[violence]]"] });
    assert.deepEqual(made.results.map((result) => result.flagged), [false, true]);
    assert(made.results[1].categories.violence && made.results[1].category_applied_input_types.violence);
  },

  async pictures_are_drawn_and_changed() {
    const made = await client.images.generate({ model: "gpt-image-1", prompt: "a fox", n: 2, quality: "low" });
    assert(made.data.length === 2 && made.data.every((image) => image.b64_json && !image.url));
    assert(made.usage.total_tokens > 0);
    const found = await client.images.generate({ model: "dall-e-3", prompt: "a hen", size: "1024x1792" });
    assert(found.data[0].url.startsWith("http"));
    const edited = await client.images.edit({
      model: "gpt-image-1",
      image: await png(),
      mask: await png(256, 256, 0),
      prompt: "redder",
    });
    assert(edited.data[0].b64_json);
    const listed = await client.images.edit({ model: "gpt-image-1", image: [await png()], prompt: "bluer" });
    assert(listed.data[0].b64_json);
    await refused(OpenAI.BadRequestError, () => client.images.generate({ model: "dall-e-3", prompt: "x", n: 2 }), {
      param: "n",
    });
  },

  async a_text_is_read_aloud() {
    const spoken = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "Good morning" });
    assert.equal(spoken.headers.get("content-type"), "audio/mpeg");
    assert((await spoken.arrayBuffer()).byteLength > 500);
  },

  async a_recording_is_written_down() {
    const transcribe = async (more) =>
      client.audio.transcriptions.create({ model: "whisper-1", file: await toFile(recording(), "talk.wav"), ...more });
    const plain = await transcribe({ language: "en" });
    assert(plain.text.includes("transcript") && plain.usage.seconds === 2);
    const timestamp_granularities = ["word", "segment"];
    const verbose = await transcribe({ response_format: "verbose_json", timestamp_granularities });
    assert(verbose.segments[0].end === 2 && verbose.words[0].end === 2);
    assert((await transcribe({ response_format: "srt" })).includes("00:00:02,000"));
    assert((await transcribe({ response_format: "vtt" })).startsWith("WEBVTT"));
    assert((await transcribe({ response_format: "text" })).includes("transcript"));
  },

  async a_film_is_made_and_deleted() {
    const begun = await client.videos.create({
      model: "sora-2",
      prompt: "a fox runs",
      seconds: "4",
      size: "1280x720",
      input_reference: await png(1280, 720),
    });
    assert(begun.id.startsWith("video_") && ["queued", "in_progress"].includes(begun.status));
    let made = begun;
    while (["queued", "in_progress"].includes(made.status)) {
      const { data, response } = await client.videos.retrieve(begun.id).withResponse();
      made = data;
      const pause = Number(response.headers.get("openai-poll-after-ms") ?? 0);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    assert(made.status === "completed" && made.progress === 100);
    const film = await client.videos.downloadContent(made.id);
    const bytes = Buffer.from(await film.arrayBuffer());
    assert.equal(bytes.toString("latin1", 4, 8), "ftyp");
    await refused(OpenAI.NotFoundError, () => client.videos.downloadContent(made.id, { variant: "thumbnail" }));
    await refused(OpenAI.BadRequestError, () => client.videos.remix(made.id, { prompt: "at night" }));
    const listed = [];
    for await (const video of client.videos.list({ limit: 2 })) {
      listed.push(video.id);
      if (listed.length === 5) break;
    }
    assert(listed.includes(made.id));
    const gone = await client.videos.delete(made.id);
    assert(gone.deleted && gone.object === "video.deleted");
    await refused(OpenAI.NotFoundError, () => client.videos.retrieve(made.id));
  },

  async a_repeat_under_one_key_is_the_first() {
    const options = { headers: { "Idempotency-Key": randomUUID() } };
    const first = await client.videos.create({ model: "sora-2", prompt: "once" }, options);
    const again = await client.videos.create({ model: "sora-2", prompt: "once" }, options);
    assert.equal(first.id, again.id);
    await client.videos.delete(first.id);
  },
};

for (const [name, check] of Object.entries(checks)) {
  console.error(`node ${process.versions.node}: ${name.replaceAll("_", " ")}`);
  await check();
}
