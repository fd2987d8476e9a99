"""A client that loses its answer asks again by itself, and finds the job that it began. One that leaves pays for it."""

import contextlib
import socket
import threading
import uuid
from urllib.parse import urlsplit

import openai
from openai import OpenAI

from support import BASE, done, recording, refused

MODEL = "gpt-4o-mini"


class LossyDoor:
    """A door to Kiln that loses answers: the request gets through, and once Kiln answers the caller is cut off."""

    def __init__(self, losses=1):
        self.losses = losses
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}{urlsplit(BASE).path}"

    def __enter__(self):
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.close()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self.server.accept()
                loses, self.losses = self.losses > 0, self.losses - 1
                threading.Thread(target=self.pass_on, args=(caller, loses), daemon=True).start()

    @staticmethod
    def pass_on(caller, loses):
        at = urlsplit(BASE)

        def copy(source, sink):
            with contextlib.suppress(OSError):
                while data := source.recv(1 << 16):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)

        with contextlib.suppress(OSError), caller, socket.create_connection((at.hostname, at.port)) as kiln:
            threading.Thread(target=copy, args=(caller, kiln), daemon=True).start()
            if not loses:
                return copy(kiln, caller)
            # The head of the answer is here: the work is done.
            kiln.recv(1 << 16)
            caller.shutdown(socket.SHUT_RDWR)


def jobs_about(word):
    """The jobs of the account in whose input this word is."""
    listed = done("GET", "/jobs?limit=100")["data"]
    return [job for job in listed if word in str(job["input"])]


def an_answer_that_was_lost_is_that_of_the_first_job():
    word = uuid.uuid4().hex
    with LossyDoor() as door:
        raw = OpenAI(base_url=door.url).chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": word}]
        )
    assert raw.retries_taken == 1 and raw.headers["idempotent-replayed"] == "true", raw.headers
    assert word in raw.parse().choices[0].message.content
    jobs = jobs_about(word)
    assert [job["id"] for job in jobs] == [raw.headers["x-kiln-job"]] and jobs[0]["attempts"] == 1, jobs


def a_form_that_is_sent_again_is_known_again():
    word = uuid.uuid4().hex
    with LossyDoor(losses=2) as door:
        raw = OpenAI(base_url=door.url).audio.transcriptions.with_raw_response.create(
            model="whisper-1", file=("talk.wav", recording()), prompt=word
        )
    assert raw.retries_taken == 2 and raw.headers["idempotent-replayed"] == "true", raw.headers
    assert [job["id"] for job in jobs_about(word)] == [raw.headers["x-kiln-job"]]


def who_does_not_ask_again_hears_that_the_line_went():
    with LossyDoor() as door:
        once = OpenAI(base_url=door.url, max_retries=0)
        call = lambda: once.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "lost"}])
        refused(openai.APIConnectionError, call)


def who_leaves_a_stream_after_the_first_words_pays_once():
    word = uuid.uuid4().hex
    slowly = [{"role": "user", "content": f"{word} [[sim:drip=50]]"}]
    with OpenAI().chat.completions.create(model=MODEL, messages=slowly, stream=True) as stream:
        assert any(chunk.choices[0].delta.content for chunk in stream)
    job = done("GET", f"/jobs/{stream.response.headers['x-kiln-job']}?wait=60")
    assert job["status"] == "succeeded" and word in job["output"]["text"], job
    assert [each["id"] for each in jobs_about(word)] == [job["id"]] and job["attempts"] == 1, job
    charges = done("GET", f"/billing/transactions?kind=charge&job={job['id']}")["data"]
    assert [charge["amount"] for charge in charges] == [job["price"]["charged"]], charges


CHECKS = [
    an_answer_that_was_lost_is_that_of_the_first_job,
    a_form_that_is_sent_again_is_known_again,
    who_does_not_ask_again_hears_that_the_line_went,
    who_leaves_a_stream_after_the_first_words_pays_once,
]
