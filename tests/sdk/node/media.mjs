// Pictures, speech, recordings, films and files.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import OpenAI, { toFile } from "openai";

import { PNG, picture, png, recording, refused } from "./support.mjs";

const client = new OpenAI();

/** A film once it is over; the client for Node has no helper for that. */
async function over(id) {
  for (;;) {
    const { data: film, response } = await client.videos.retrieve(id).withResponse();
    if (!["queued", "in_progress"].includes(film.status)) return film;
    const pause = Number(response.headers.get("openai-poll-after-ms"));
    assert(pause > 0);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** The bytes of an answer. */
const bytes = async (response) => Buffer.from(await response.arrayBuffer());

export const media = {
  async pictures_are_drawn_and_changed() {
    const made = await client.images.generate({ model: "gpt-image-1", prompt: "a fox", n: 2, quality: "low" });
    assert(made.data.length === 2 && made.data.every((image) => image.b64_json && !image.url));
    assert(made.usage.total_tokens > 0);
    const found = await client.images.generate({ model: "dall-e-3", prompt: "a hen", size: "1024x1792" });
    assert((await bytes(await fetch(found.data[0].url))).subarray(0, 8).equals(PNG));
    const edited = await client.images.edit({
      model: "gpt-image-1",
      image: await png(),
      mask: await png(256, 256, 0),
      prompt: "redder",
      quality: "low",
    });
    assert(edited.data[0].b64_json);
    const image = [await png()];
    const listed = await client.images.edit({ model: "gpt-image-1", image, prompt: "bluer", quality: "low" });
    assert(listed.data[0].b64_json);
    await refused(OpenAI.BadRequestError, () => client.images.generate({ model: "dall-e-3", prompt: "x", n: 2 }), {
      param: "n",
    });
  },

  async a_text_is_read_aloud() {
    const spoken = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "Good morning" });
    assert.equal(spoken.headers.get("content-type"), "audio/mpeg");
    let [length, pieces] = [0, 0];
    for await (const piece of spoken.body) [length, pieces] = [length + piece.length, pieces + 1];
    assert(length > 500 && pieces > 0 && length === Number(spoken.headers.get("content-length")));
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
    const made = await over(begun.id);
    assert(made.status === "completed" && made.progress === 100 && made.size === "1280x720" && made.seconds === "4");
    const film = await bytes(await client.videos.downloadContent(made.id));
    assert.equal(film.toString("latin1", 4, 8), "ftyp");
    const thumbnail = await client.videos.downloadContent(made.id, { variant: "thumbnail" }).catch((error) => {
      assert(error instanceof OpenAI.NotFoundError && error.code === "variant_not_found", error);
    });
    // There is one where ffmpeg is.
    if (thumbnail) assert.equal((await bytes(thumbnail)).toString("hex", 0, 3), "ffd8ff");
    await refused(OpenAI.NotFoundError, () => client.videos.downloadContent(made.id, { variant: "spritesheet" }));
    await refused(OpenAI.BadRequestError, () => client.videos.remix(made.id, { prompt: "at night" }));
    const gone = await client.videos.delete(made.id);
    assert(gone.deleted && gone.object === "video.deleted");
    await refused(OpenAI.NotFoundError, () => client.videos.retrieve(made.id));
  },

  async a_film_is_taken_further() {
    const begun = await client.videos.create({ model: "midjourney-video", prompt: "a boat on a lake" });
    assert.equal((await over(begun.id)).status, "completed");
    const more = await client.videos.remix(begun.id, { prompt: "the boat sinks" });
    assert.equal(more.remixed_from_video_id, begun.id);
    assert.equal((await over(more.id)).status, "completed");
  },

  async films_are_listed_page_by_page() {
    const made = [];
    for (const n of [0, 1, 2]) made.push((await client.videos.create({ model: "sora-2", prompt: `film ${n}` })).id);
    const listed = [];
    for await (const film of client.videos.list({ limit: 2 })) listed.push(film.id);
    assert(made.every((id) => listed.includes(id)) && new Set(listed).size === listed.length);
    for (const id of made) await client.videos.delete(id);
  },

  async a_repeat_under_one_key_is_the_first() {
    const options = { headers: { "Idempotency-Key": randomUUID() } };
    const first = await client.videos.create({ model: "sora-2", prompt: "once" }, options);
    const again = await client.videos.create({ model: "sora-2", prompt: "once" }, options);
    assert.equal(first.id, again.id);
    const call = () => client.videos.create({ model: "sora-2", prompt: "another" }, options);
    await refused(OpenAI.UnprocessableEntityError, call, { code: "idempotency_key_reused" });
    await client.videos.delete(first.id);
  },

  async files_are_sent_in_and_fetched() {
    const sent = await client.files.create({ file: await png(), purpose: "vision" });
    assert(sent.object === "file" && sent.filename === "fox.png" && sent.bytes === picture().length);
    assert.equal((await client.files.retrieve(sent.id)).id, sent.id);
    const listed = [];
    for await (const file of client.files.list()) listed.push(file.id);
    assert(listed.includes(sent.id));
    assert((await bytes(await client.files.content(sent.id))).equals(picture()));
    assert((await client.files.delete(sent.id)).deleted);
    await refused(OpenAI.NotFoundError, () => client.files.retrieve(sent.id));
  },
};
