"""Pictures, speech, recordings, films and files."""

import uuid

import openai
from openai import OpenAI

from support import fetch, picture, recording, refused

client = OpenAI()

PNG = b"\x89PNG\r\n\x1a\n"


def pictures_are_drawn():
    made = client.images.generate(model="gpt-image-1", prompt="a fox", n=2, size="1024x1024", quality="low")
    assert len(made.data) == 2 and all(image.b64_json and not image.url for image in made.data)
    assert made.usage.total_tokens > 0 and made.size == "1024x1024" and made.quality == "low", made.usage
    found = client.images.generate(model="dall-e-3", prompt="a hen", size="1792x1024", style="vivid", user="u1")
    assert not found.data[0].b64_json and fetch(found.data[0].url).startswith(PNG)
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
        quality="low",
    )
    assert made.data[0].b64_json and made.created > 0
    listed = client.images.edit(
        model="gpt-image-1", image=[("fox.png", picture(), "image/png")], prompt="bluer", quality="low"
    )
    assert listed.data[0].b64_json
    named = client.images.edit(
        model="gpt-image-1", image=("fox.png", picture()), prompt="pale", quality="low", response_format="url"
    )
    assert not named.data[0].b64_json and fetch(named.data[0].url).startswith(PNG)
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
    refused(openai.BadRequestError, lambda: transcribe(response_format="aff"), param="response_format")


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
    try:
        thumbnail = client.videos.download_content(made.id, variant="thumbnail")
        assert thumbnail.response.headers["content-type"] == "image/jpeg"
        assert thumbnail.content[:3] == b"\xff\xd8\xff"
    except openai.NotFoundError as error:
        # There is one where ffmpeg is.
        assert error.code == "variant_not_found", error
    refused(openai.NotFoundError, lambda: client.videos.download_content(made.id, variant="spritesheet"))
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


def a_film_is_taken_further():
    made = client.videos.create_and_poll(model="midjourney-video", prompt="a boat on a lake")
    assert made.status == "completed", made
    more = client.videos.remix(made.id, prompt="the boat sinks")
    assert more.remixed_from_video_id == made.id and more.prompt == "the boat sinks", more
    assert client.videos.poll(more.id).status == "completed"


def a_film_that_fails_says_why():
    made = client.videos.create_and_poll(model="sora-2", prompt="no [[sim:refuse]]", poll_interval_ms=500)
    assert made.status == "failed" and made.error.code == "content_refused" and made.error.message, made


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


def files_are_sent_in_and_fetched():
    sent = client.files.create(file=("fox.png", picture(), "image/png"), purpose="vision")
    assert (sent.object, sent.filename, sent.bytes, sent.purpose) == ("file", "fox.png", len(picture()), "vision")
    assert client.files.retrieve(sent.id).id == sent.id
    assert sent.id in [file.id for file in client.files.list()]
    assert client.files.content(sent.id).content == picture()
    # The client takes an object in this place for a file that it cannot read, unless it comes so.
    frame = {"input_reference": {"file_id": sent.id}}
    named = client.videos.create(model="sora-2", prompt="it moves", extra_body=frame)
    client.videos.delete(named.id)
    assert client.files.delete(sent.id).deleted
    refused(openai.NotFoundError, lambda: client.files.retrieve(sent.id))


CHECKS = [
    pictures_are_drawn,
    a_picture_is_changed,
    a_text_is_read_aloud,
    a_recording_is_written_down,
    a_film_is_made_and_deleted,
    a_film_begins_with_a_picture,
    a_film_is_taken_further,
    a_film_that_fails_says_why,
    films_are_listed_page_by_page,
    a_repeat_under_one_key_is_the_first,
    files_are_sent_in_and_fetched,
]
