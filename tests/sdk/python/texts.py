"""Models, chats, embeddings and moderation."""

import asyncio
import base64
import json

import openai
import pydantic
from openai import AsyncOpenAI, OpenAI

from support import done, picture, refused

client = OpenAI()

MODEL = "gpt-4o-mini"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Looks something up.",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"question": {"type": "string"}},
                "required": ["question"],
                "additionalProperties": False,
            },
        },
    }
]


class Answer(pydantic.BaseModel):
    """The shape that some answers are asked for in."""

    answer: str


def user(content):
    """A conversation of one message."""
    return [{"role": "user", "content": content}]


def models_are_listed_and_found():
    names = [model.id for model in client.models.list()]
    for name in (MODEL, "gpt-image-1", "dall-e-3", "tts-1", "whisper-1", "text-embedding-3-small", "sora-2"):
        assert name in names, name
    model = client.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model") and model.created > 0 and model.owned_by


def a_chat_is_answered():
    made = client.chat.completions.create(
        model=MODEL, messages=user("why is the sky blue"), max_tokens=200, temperature=0.5, user="u1", seed=7
    )
    assert made.object == "chat.completion" and made.model == MODEL, made
    choice = made.choices[0]
    assert choice.message.role == "assistant" and "why is the sky blue" in choice.message.content, made
    assert choice.finish_reason == "stop" and made.usage.total_tokens > 0, made


def an_answer_names_its_job_and_its_request():
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=user("who are you"), metadata={"order": "7"}
    )
    job, made = raw.headers["x-kiln-job"], raw.parse()
    assert made.id == job.replace("job_", "chatcmpl-")
    assert made._request_id and made._request_id == raw.headers["x-request-id"]
    told = done("GET", f"/jobs/{job}")
    assert told["metadata"] == {"order": "7"} and told["status"] == "succeeded", told
    assert told["output"]["text"] == made.choices[0].message.content


def an_answer_ends_where_it_must():
    for limit in ({"max_tokens": 5}, {"max_completion_tokens": 5}):
        made = client.chat.completions.create(model=MODEL, messages=user("tell me all of it"), **limit)
        assert made.choices[0].finish_reason == "length" and made.usage.completion_tokens == 5, made


def a_tool_is_called_and_its_answer_is_read():
    question = "what is the weather"
    made = client.chat.completions.create(
        model=MODEL, messages=user(question), tools=TOOLS, tool_choice="required", parallel_tool_calls=False
    )
    choice = made.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None, made
    call = choice.message.tool_calls[0]
    assert call.id and call.type == "function" and call.function.name == "look_up", call
    assert json.loads(call.function.arguments) == {"question": question}, call
    told = [*user(question), choice.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    after = client.chat.completions.create(model=MODEL, messages=told, tools=TOOLS)
    assert after.choices[0].finish_reason == "stop" and after.choices[0].message.content, after


def an_answer_has_the_shape_that_was_asked_for():
    made = client.chat.completions.create(
        model=MODEL, messages=user("as JSON please"), response_format={"type": "json_object"}
    )
    assert "as JSON please" in json.loads(made.choices[0].message.content)["answer"], made
    parsed = client.chat.completions.parse(model=MODEL, messages=user("in this shape"), response_format=Answer)
    assert "in this shape" in parsed.choices[0].message.parsed.answer, parsed


def several_answers_come_with_their_likelihoods():
    wish = {"model": "gpt-4o-tokens", "n": 2, "logprobs": True, "top_logprobs": 1, "max_completion_tokens": 300}
    made = client.chat.completions.create(messages=user("two ways"), **wish)
    assert [choice.index for choice in made.choices] == [0, 1], made
    texts = [choice.message.content for choice in made.choices]
    assert texts[0] != texts[1]
    for choice in made.choices:
        assert "".join(word.token for word in choice.logprobs.content) == choice.message.content, choice
        assert all(word.logprob <= 0 for word in choice.logprobs.content), choice
    told, words = ["", ""], ["", ""]
    for chunk in client.chat.completions.create(messages=user("two ways"), stream=True, **wish):
        for choice in chunk.choices:
            told[choice.index] += choice.delta.content or ""
            if choice.logprobs:
                words[choice.index] += "".join(word.token for word in choice.logprobs.content)
    assert told == words == texts, (told, words, texts)


def a_picture_is_asked_about():
    url = "data:image/png;base64," + base64.b64encode(picture()).decode()
    parts = [
        {"type": "text", "text": "what is in this picture"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    made = client.chat.completions.create(model="gpt-4o", messages=user(parts))
    assert "what is in this picture" in made.choices[0].message.content, made


def a_chat_is_streamed():
    stream = client.chat.completions.create(
        model=MODEL, messages=user("tell me of kilns"), stream=True, stream_options={"include_usage": True}
    )
    text, roles, ends, usages = "", [], [], []
    for chunk in stream:
        assert chunk.object == "chat.completion.chunk", chunk
        for choice in chunk.choices:
            text += choice.delta.content or ""
            roles += [choice.delta.role] if choice.delta.role else []
            ends += [choice.finish_reason] if choice.finish_reason else []
        usages += [chunk.usage] if chunk.usage else []
    assert "tell me of kilns" in text and (roles, ends) == (["assistant"], ["stop"]), (text, roles, ends)
    assert len(usages) == 1 and usages[0].total_tokens > 0, usages


def a_stream_is_put_together_by_the_client():
    with client.chat.completions.stream(model=MODEL, messages=user("in pieces"), response_format=Answer) as stream:
        kinds = {event.type for event in stream}
        made = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
    assert "in pieces" in made.choices[0].message.parsed.answer, made
    with client.chat.completions.stream(
        model=MODEL, messages=user("look"), tools=TOOLS, tool_choice="required"
    ) as stream:
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert call.id and call.function.name == "look_up", call
    assert call.function.parsed_arguments == {"question": "look"}, call


def a_chat_is_streamed_to_an_async_program():
    async def tell():
        async with AsyncOpenAI() as client:
            stream = await client.chat.completions.create(model=MODEL, messages=user("tell me more"), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    assert "tell me more" in asyncio.run(tell())


def texts_become_vectors():
    packed = client.embeddings.create(model="text-embedding-3-small", input=["a fox", "a hen"])
    plain = client.embeddings.create(
        model="text-embedding-3-small", input=["a fox", "a hen"], encoding_format="float"
    )
    assert [len(each.embedding) for each in packed.data] == [1536, 1536]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.index == other.index
        assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding, strict=True)) < 1e-6
    assert packed.usage.prompt_tokens > 0 and packed.usage.total_tokens > 0
    short = client.embeddings.create(model="text-embedding-3-small", input="a fox", dimensions=8)
    assert len(short.data) == 1 and len(short.data[0].embedding) == 8
    call = lambda: client.embeddings.create(model="text-embedding-3-small", input=[1, 2, 3])
    refused(openai.BadRequestError, call, param="input")


def texts_are_judged():
    fine = client.moderations.create(input="a fox in the snow")
    assert not fine.results[0].flagged and fine.id.startswith("modr-"), fine
    two = client.moderations.create(model="omni-moderation-latest", input=["a fox", "[[violence]]"])
    assert [result.flagged for result in two.results] == [False, True], two
    assert two.results[1].categories.violence and two.results[1].category_scores.violence > 0.9
    assert two.results[1].category_applied_input_types.violence
    parts = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    refused(openai.BadRequestError, lambda: client.moderations.create(input=parts), param="input")


CHECKS = [
    models_are_listed_and_found,
    a_chat_is_answered,
    an_answer_names_its_job_and_its_request,
    an_answer_ends_where_it_must,
    a_tool_is_called_and_its_answer_is_read,
    an_answer_has_the_shape_that_was_asked_for,
    several_answers_come_with_their_likelihoods,
    a_picture_is_asked_about,
    a_chat_is_streamed,
    a_stream_is_put_together_by_the_client,
    a_chat_is_streamed_to_an_async_program,
    texts_become_vectors,
    texts_are_judged,
]
