"""Every OpenAI-compatible path, through the official Python client and nothing else.

OPENAI_BASE_URL (with its /v1) and OPENAI_API_KEY say where, as for any program that uses the client. Each check is a function;
the first one that fails ends the run with its name.
"""

import asyncio
import io
import struct
import sys
import uuid
import wave
import zlib

import openai
from openai import AsyncOpenAI, OpenAI

client = OpenAI()


def picture(width=256, height=256, transparent=False):
    """A PNG of one colour."""
    rows = (b"\0" + bytes((200, 30, 30, 0 if transparent else 255)) * width) * height

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def recording(seconds=2):
    """A silent WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(b"\0\0" * 16000 * seconds)
    return file.getvalue()


def refused(kind, call, code=None, param=None):
    """The error that a call must end with."""
    try:
        call()
    except kind as error:
        assert code is None or error.code == code, error
        assert param is None or error.param == param, error
        return error
    raise AssertionError(f"no {kind.__name__}")


def models_are_listed_and_found():
    models = client.models.list()
    names = [model.id for model in models]
    for name in ("gpt-4o-mini", "gpt-image-1", "dall-e-3", "tts-1", "whisper-1", "text-embedding-3-small", "sora-2"):
        assert name in names, name
    model = client.models.retrieve("gpt-4o-mini")
    assert (model.id, model.object) == ("gpt-4o-mini", "model") and model.created > 0 and model.owned_by
    refused(openai.NotFoundError, lambda: client.models.retrieve("gpt-0"), code="model_not_found")


def a_wrong_key_is_not_let_in():
    stranger = client.with_options(api_key="kiln_wrong")
    refused(openai.AuthenticationError, lambda: stranger.models.list())


def a_chat_is_answered():
    made = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "why is the sky blue"}], max_tokens=200, user="u1"
    )
    assert made.object == "chat.completion" and made.model == "gpt-4o-mini", made
    choice = made.choices[0]
    assert choice.message.role == "assistant" and "why is the sky blue" in choice.message.content, made
    assert choice.finish_reason == "stop" and made.usage.total_tokens > 0, made


def a_chat_is_streamed():
    stream = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "tell me of kilns"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    text, ends, usages = "", [], []
    for chunk in stream:
        assert chunk.object == "chat.completion.chunk", chunk
        for choice in chunk.choices:
            text += choice.delta.content or ""
            ends += [choice.finish_reason] if choice.finish_reason else []
        usages += [chunk.usage] if chunk.usage else []
    assert "tell me of kilns" in text and ends == ["stop"], (text, ends)
    assert len(usages) == 1 and usages[0].total_tokens > 0, usages


def a_chat_is_streamed_to_an_async_program():
    async def run():
        async with AsyncOpenAI() as client:
            stream = await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "tell me more"}], stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    assert "tell me more" in asyncio.run(run())


def a_chat_that_is_wrong_is_refused():
    ask = [{"role": "user", "content": "hi"}]
    call = lambda: client.chat.completions.create(model="gpt-0", messages=ask)
    refused(openai.NotFoundError, call, code="model_not_found", param="model")
    refused(openai.BadRequestError, lambda: client.chat.completions.create(model="gpt-4o-mini", messages=[]))


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


def pictures_are_drawn():
    made = client.images.generate(model="gpt-image-1", prompt="a fox", n=2, size="1024x1024", quality="low")
    assert len(made.data) == 2 and all(image.b64_json and not image.url for image in made.data)
    assert made.usage.total_tokens > 0 and made.size == "1024x1024" and made.quality == "low", made.usage
    found = client.images.generate(model="dall-e-3", prompt="a hen", size="1792x1024", style="vivid", user="u1")
    assert found.data[0].url.startswith("http") and not found.data[0].b64_json
    inline = client.images.generate(model="dall-e-3", prompt="a cow", response_format="b64_json")
    assert inline.data[0].b64_json and not inline.data[0].url
    refused(openai.BadRequestError, lambda: client.images.generate(model="dall-e-3", prompt="x", n=2), param="n")
    call = lambda: client.images.generate(model="gpt-image-1", prompt="x", size="7x7")
    refused(openai.BadRequestError, call, param="size")


def a_picture_is_changed():
    made = client.images.edit(
        model="gpt-image-1",
        image=("fox.png", picture(), "image/png"),
        mask=("mask.png", picture(transparent=True), "image/png"),
        prompt="redder",
        size="1024x1024",
    )
    assert made.data[0].b64_json and made.created > 0
    listed = client.images.edit(model="gpt-image-1", image=[("fox.png", picture(), "image/png")], prompt="bluer")
    assert listed.data[0].b64_json
    two = [("a.png", picture(), "image/png"), ("b.png", picture(), "image/png")]
    call = lambda: client.images.edit(model="gpt-image-1", image=two, prompt="x")
    refused(openai.BadRequestError, call, param="image")


def a_text_is_read_aloud():
    spoken = client.audio.speech.create(model="tts-1", voice="alloy", input="Good morning")
    assert spoken.response.headers["content-type"] == "audio/mpeg" and len(spoken.content) > 500
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="nova", input="Good morning again", response_format="wav"
    ) as response:
        assert response.headers["content-type"].startswith("audio/")
        sound = b"".join(response.iter_bytes())
    assert sound[:4] == b"RIFF" and int(response.headers["content-length"]) == len(sound)
    call = lambda: client.audio.speech.create(model="tts-1", voice="nobody", input="x")
    refused(openai.BadRequestError, call, param="voice")


def a_recording_is_written_down():
    def transcribe(**more):
        return client.audio.transcriptions.create(model="whisper-1", file=("talk.wav", recording()), **more)

    plain = transcribe(language="en", prompt="kilns", temperature=0.2)
    assert "transcript" in plain.text and plain.usage.type == "duration" and plain.usage.seconds == 2, plain
    verbose = transcribe(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert verbose.duration == 2 and verbose.language and verbose.segments[0].end == 2, verbose
    assert verbose.words[0].word and verbose.words[0].end == 2, verbose
    assert "transcript" in transcribe(response_format="text")
    assert "00:00:02,000" in transcribe(response_format="srt")
    assert transcribe(response_format="vtt").startswith("WEBVTT")
    call = lambda: client.audio.transcriptions.create(model="whisper-1", file=("talk.wav", recording()), response_format="aff")
    refused(openai.BadRequestError, call, param="response_format")


def a_film_is_made_and_deleted():
    begun = client.videos.create(model="sora-2", prompt="a fox runs", seconds="4", size="1280x720")
    assert begun.id.startswith("video_") and begun.status in ("queued", "in_progress"), begun
    assert (begun.object, begun.seconds, begun.size, begun.progress) == ("video", "4", "1280x720", 0), begun
    refused(openai.BadRequestError, lambda: client.videos.download_content(begun.id), code="video_not_ready")
    made = client.videos.poll(begun.id)
    assert made.status == "completed" and made.progress == 100 and made.completed_at and made.expires_at, made
    assert made.prompt == "a fox runs" and made.error is None, made
    film = client.videos.download_content(made.id)
    assert film.response.headers["content-type"] == "video/mp4" and film.content[4:8] == b"ftyp"
    refused(openai.NotFoundError, lambda: client.videos.download_content(made.id, variant="thumbnail"))
    refused(openai.BadRequestError, lambda: client.videos.remix(made.id, prompt="at night"))
    assert made.id in [video.id for video in client.videos.list(limit=5).data]
    gone = client.videos.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "video.deleted")
    refused(openai.NotFoundError, lambda: client.videos.retrieve(made.id))
    assert made.id not in [video.id for video in client.videos.list(limit=5).data]


def a_film_begins_with_a_picture():
    frame = ("frame.png", picture(1280, 720), "image/png")
    made = client.videos.create_and_poll(
        model="sora-2", prompt="it moves", seconds="4", size="1280x720", input_reference=frame
    )
    assert made.status == "completed", made
    other = client.videos.create(model="sora-2", prompt="never mind", input_reference=frame)
    assert client.videos.delete(other.id).deleted


def films_are_listed_page_by_page():
    made = {client.videos.create(model="sora-2", prompt=f"film {n}").id for n in range(3)}
    listed = []
    for video in client.videos.list(limit=2):
        listed.append(video.id)
        if made <= set(listed):
            break
    assert made <= set(listed) and len(listed) == len(set(listed)), (made, listed)
    for video in made:
        client.videos.delete(video)


def a_repeat_under_one_key_is_the_first():
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first = client.videos.create(model="sora-2", prompt="once", extra_headers=key)
    again = client.videos.create(model="sora-2", prompt="once", extra_headers=key)
    assert first.id == again.id
    call = lambda: client.videos.create(model="sora-2", prompt="another", extra_headers=key)
    refused(openai.UnprocessableEntityError, call, code="idempotency_key_reused")
    client.videos.delete(first.id)


CHECKS = [
    models_are_listed_and_found,
    a_wrong_key_is_not_let_in,
    a_chat_is_answered,
    a_chat_is_streamed,
    a_chat_is_streamed_to_an_async_program,
    a_chat_that_is_wrong_is_refused,
    texts_become_vectors,
    texts_are_judged,
    pictures_are_drawn,
    a_picture_is_changed,
    a_text_is_read_aloud,
    a_recording_is_written_down,
    a_film_is_made_and_deleted,
    a_film_begins_with_a_picture,
    films_are_listed_page_by_page,
    a_repeat_under_one_key_is_the_first,
]

if __name__ == "__main__":
    for check in CHECKS:
        print(f"python {openai.__version__}: {check.__name__.replace('_', ' ')}", file=sys.stderr)
        check()
