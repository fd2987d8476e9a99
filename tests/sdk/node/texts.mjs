// Models, chats, embeddings and moderation.

import assert from "node:assert/strict";

import OpenAI from "openai";

import { done, picture, refused } from "./support.mjs";

const client = new OpenAI();

const model = "gpt-4o-mini";
const user = (content) => [{ role: "user", content }];
const tools = [
  {
    type: "function",
    function: {
      name: "look_up",
      description: "Looks something up.",
      strict: true,
      parameters: {
        type: "object",
        properties: { question: { type: "string" } },
        required: ["question"],
        additionalProperties: false,
      },
    },
  },
];
const shape = {
  type: "json_schema",
  json_schema: {
    name: "answer",
    strict: true,
    schema: {
      type: "object",
      properties: { answer: { type: "string" } },
      required: ["answer"],
      additionalProperties: false,
    },
  },
};

export const texts = {
  async models_are_listed_and_found() {
    const names = [];
    for await (const found of client.models.list()) names.push(found.id);
    for (const name of [model, "gpt-image-1", "dall-e-3", "tts-1", "whisper-1", "sora-2"]) {
      assert(names.includes(name), name);
    }
    const found = await client.models.retrieve(model);
    assert(found.id === model && found.object === "model" && found.created > 0 && found.owned_by);
  },

  async a_chat_is_answered() {
    const asked = { model, messages: user("why is the sky blue"), max_tokens: 200, metadata: { order: "7" } };
    const { data: made, response } = await client.chat.completions.create(asked).withResponse();
    assert(made.object === "chat.completion" && made.model === model);
    assert(made.choices[0].message.content.includes("why is the sky blue"));
    assert(made.choices[0].finish_reason === "stop" && made.usage.total_tokens > 0);
    const job = response.headers.get("x-kiln-job");
    assert.equal(made.id, job.replace("job_", "chatcmpl-"));
    assert.equal(made._request_id, response.headers.get("x-request-id"));
    assert.deepEqual((await done("GET", `/jobs/${job}`)).metadata, { order: "7" });
  },

  async a_tool_is_called_and_its_answer_is_read() {
    const question = "what is the weather";
    const asked = { model, messages: user(question), tools, tool_choice: "required" };
    const made = await client.chat.completions.create(asked);
    const { message, finish_reason } = made.choices[0];
    assert(finish_reason === "tool_calls" && message.content === null);
    const [call] = message.tool_calls;
    assert(call.id && call.type === "function" && call.function.name === "look_up");
    assert.deepEqual(JSON.parse(call.function.arguments), { question });
    const told = [...user(question), message, { role: "tool", tool_call_id: call.id, content: "rain" }];
    const after = await client.chat.completions.create({ model, messages: told, tools });
    assert(after.choices[0].finish_reason === "stop" && after.choices[0].message.content);
  },

  async an_answer_has_the_shape_that_was_asked_for() {
    const asked = { model, messages: user("as JSON please"), response_format: { type: "json_object" } };
    const made = await client.chat.completions.create(asked);
    assert(JSON.parse(made.choices[0].message.content).answer.includes("as JSON please"));
    const wish = { model, messages: user("in this shape"), response_format: shape };
    const parsed = await client.chat.completions.parse(wish);
    assert(parsed.choices[0].message.parsed.answer.includes("in this shape"));
  },

  async several_answers_come_with_their_likelihoods() {
    const wish = { model: "gpt-4o-tokens", messages: user("two ways"), n: 2, logprobs: true, max_completion_tokens: 300 };
    const made = await client.chat.completions.create(wish);
    const answers = made.choices.map((choice) => choice.message.content);
    assert(answers.length === 2 && answers[0] !== answers[1]);
    for (const { message, logprobs } of made.choices) {
      assert.equal(logprobs.content.map((word) => word.token).join(""), message.content);
    }
    const told = ["", ""];
    for await (const chunk of await client.chat.completions.create({ ...wish, stream: true })) {
      for (const choice of chunk.choices) told[choice.index] += choice.delta.content ?? "";
    }
    assert.deepEqual(told, answers);
  },

  async a_picture_is_asked_about() {
    const url = `data:image/png;base64,${picture().toString("base64")}`;
    const parts = [
      { type: "text", text: "what is in this picture" },
      { type: "image_url", image_url: { url, detail: "low" } },
    ];
    const made = await client.chat.completions.create({ model: "gpt-4o", messages: user(parts) });
    assert(made.choices[0].message.content.includes("what is in this picture"));
  },

  async a_chat_is_streamed() {
    const stream = await client.chat.completions.create({
      model,
      messages: user("tell me of kilns"),
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

  async a_stream_is_put_together_by_the_client() {
    let text = "";
    const stream = client.chat.completions.stream({ model, messages: user("in pieces") });
    stream.on("content", (piece) => (text += piece));
    assert.equal(await stream.finalContent(), text);
    assert(text.includes("in pieces"));
    const asked = { model, messages: user("look"), tools, tool_choice: "required" };
    const made = await client.chat.completions.stream(asked).finalChatCompletion();
    const [call] = made.choices[0].message.tool_calls;
    assert(call.id && call.function.name === "look_up");
    assert.deepEqual(JSON.parse(call.function.arguments), { question: "look" });
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
};
