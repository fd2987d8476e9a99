"""How OpenAI's client hears that something is wrong: by the kind of error, its code, and the field."""

import os
import uuid

import openai
from openai import OpenAI

from support import done, refused

client = OpenAI()
# An account of the free tier with hardly any tokens; it is asked once, so that a limit is seen and not waited for.
limited = OpenAI(api_key=os.environ["KILN_LIMITED_KEY"], max_retries=0)

MODEL = "gpt-4o-mini"
HELLO = [{"role": "user", "content": "hello"}]


def a_wrong_key_is_not_let_in():
    for key in ("kiln_wrong", "sk-of-somebody-else"):
        stranger = client.with_options(api_key=key)
        error = refused(openai.AuthenticationError, lambda: stranger.models.list())
        assert error.status_code == 401 and error.type and error.code and error.request_id, error


def what_a_key_may_not_do_is_forbidden():
    made = done("POST", "/api-keys", {"name": "reads only", "scopes": ["jobs:read"]})
    reader = client.with_options(api_key=made["secret"])
    assert reader.models.list().data
    refused(openai.PermissionDeniedError, lambda: reader.chat.completions.create(model=MODEL, messages=HELLO))
    done("DELETE", f"/api-keys/{made['id']}")
    refused(openai.AuthenticationError, lambda: reader.models.list())


def what_is_not_there_is_not_found():
    refused(openai.NotFoundError, lambda: client.models.retrieve("gpt-0"), code="model_not_found")
    call = lambda: client.chat.completions.create(model="gpt-0", messages=HELLO)
    refused(openai.NotFoundError, call, code="model_not_found", param="model")
    # A model for something else is none of this path.
    call = lambda: client.embeddings.create(model=MODEL, input="x")
    refused(openai.NotFoundError, call, code="model_not_found", param="model")
    video = "video_" + "0" * 32
    refused(openai.NotFoundError, lambda: client.videos.retrieve(video), code="video_not_found")
    refused(openai.NotFoundError, lambda: client.videos.delete(video), code="video_not_found")


def a_chat_that_is_wrong_is_refused_naming_the_field():
    for param, more in (
        ("messages", {"messages": []}),
        ("temperature", {"temperature": 9}),
        ("max_completion_tokens", {"max_completion_tokens": 0}),
        ("logit_bias", {"logit_bias": {"50256": -100}}),
        ("n", {"n": 2}),
    ):
        wish = {"model": MODEL, "messages": HELLO, **more}
        error = refused(openai.BadRequestError, lambda: client.chat.completions.create(**wish), param=param)
        assert error.status_code == 400 and error.type == "invalid_request_error" and error.message, error


def what_a_vendor_refuses_is_a_bad_request():
    no = [{"role": "user", "content": "no [[sim:refuse]]"}]
    for more in ({}, {"stream": True}):
        call = lambda: client.chat.completions.create(model=MODEL, messages=no, **more)
        refused(openai.BadRequestError, call, code="content_policy_violation")


def what_fails_after_the_first_words_is_raised_behind_them():
    # The vendor refuses in the middle of its answer, which is not tried again.
    half = [{"role": "user", "content": "half of it [[sim:drip=50]] [[sim:stream=error:refuse]]"}]
    stream = client.chat.completions.create(model=MODEL, messages=half, stream=True)
    words = []

    def hear():
        for chunk in stream:
            assert not chunk.choices[0].finish_reason, chunk
            words.append(chunk.choices[0].delta.content or "")

    error = refused(openai.APIError, hear, code="content_policy_violation")
    assert not isinstance(error, openai.APIStatusError) and error.message and error.type, error
    assert "".join(words), "the error is all that was told"
    job = done("GET", f"/jobs/{stream.response.headers['x-kiln-job']}")
    assert job["status"] == "failed" and not job["price"]["charged"], job


def an_account_without_tokens_is_told_so():
    call = lambda: limited.chat.completions.create(model=MODEL, messages=HELLO)
    error = refused(openai.APIStatusError, call, code="insufficient_quota")
    assert error.status_code == 402, error


def an_account_that_asks_too_often_is_told_when_to_come_again():
    # No two are the same: what is answered from the cache is free.
    def embed():
        return limited.embeddings.with_raw_response.create(model="text-embedding-3-small", input=uuid.uuid4().hex)

    assert embed().headers["x-ratelimit-limit-requests"] == "5"

    def ask_too_often():
        # The free tier has five requests an hour.
        for _ in range(5):
            embed()

    error = refused(openai.RateLimitError, ask_too_often, code="rate_limit_exceeded")
    assert error.status_code == 429 and int(error.response.headers["retry-after"]) > 0, error
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0", error.response.headers


CHECKS = [
    a_wrong_key_is_not_let_in,
    what_a_key_may_not_do_is_forbidden,
    what_is_not_there_is_not_found,
    a_chat_that_is_wrong_is_refused_naming_the_field,
    what_a_vendor_refuses_is_a_bad_request,
    what_fails_after_the_first_words_is_raised_behind_them,
    an_account_without_tokens_is_told_so,
    an_account_that_asks_too_often_is_told_when_to_come_again,
]
