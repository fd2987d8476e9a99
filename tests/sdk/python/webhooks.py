"""Webhooks as they arrive, judged by the library of Standard Webhooks, by OpenAI's client and by another Ed25519 than ours.

OPENAI_BASE_URL and OPENAI_API_KEY say where and who, KILN_WEBHOOK_SECRET is the account's secret.
"""

import base64
import http.server
import importlib.metadata
import os
import queue
import threading
import time
import uuid
from dataclasses import dataclass, replace

import openai
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from openai import OpenAI
from standardwebhooks import Webhook, WebhookVerificationError

from support import done, run

# What the account's own secret is: jobs that name a webhook themselves are signed with it.
SECRET = os.environ["KILN_WEBHOOK_SECRET"]
# Longest wait for a webhook; the first repeat comes after five seconds.
PATIENCE_SECS = 30

client = OpenAI()


@dataclass(frozen=True)
class Told:
    """A webhook as it arrived."""

    path: str
    headers: dict
    body: bytes

    def with_header(self, name, value):
        return replace(self, headers={**self.headers, name: value})

    def signatures(self, version):
        parts = [part.split(",", 1) for part in self.headers["webhook-signature"].split(" ")]
        return [signature for found, signature in parts if found == version]


class Receiver:
    """Takes webhooks in, each path apart, and answers as it is told, else with 204."""

    def __init__(self):
        self.arrived, self.answers = {}, {}
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                planned = receiver.answers.get(self.path)
                self.send_response(planned.pop(0) if planned else 204)
                self.end_headers()
                receiver.arrived[self.path].put(Told(self.path, headers, body))

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def open(self, *answers):
        """A new address, whose first webhooks are answered so."""
        path = f"/{uuid.uuid4().hex}"
        self.arrived[path], self.answers[path] = queue.Queue(), list(answers)
        return path, f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def take(self, path):
        """The next webhook of an address."""
        return self.arrived[path].get(timeout=PATIENCE_SECS)

    def is_empty(self, path):
        return self.arrived[path].empty()


receiver = Receiver()


def submit(**more):
    """A job that succeeds."""
    wish = {"model": "gpt-4o-mini", "input": {"prompt": f"hello {uuid.uuid4().hex}"}, **more}
    return done("POST", "/jobs", wish)["id"]


def endpoint(url, **more):
    return done("POST", "/webhook-endpoints", {"url": url, "events": ["job.succeeded"], **more})


def verify(told, secret):
    """What a webhook says that the reference library lets through."""
    return Webhook(secret).verify(told.body, told.headers)


def refuses(told, secret, why=""):
    """The reference library, and OpenAI's client beside it, must not let this through."""
    try:
        verify(told, secret)
    except WebhookVerificationError as error:
        assert why in str(error), error
    else:
        raise AssertionError(f"let through: {told.headers}")
    try:
        client.webhooks.verify_signature(told.body, told.headers, secret=secret)
    except openai.InvalidWebhookSignatureError:
        return
    raise AssertionError(f"let through by OpenAI's client: {told.headers}")


def public_key():
    """The key of the deployment, which anyone may see."""
    said = done("GET", "/webhook-endpoints/public-key", key=None)
    assert said["algorithm"] == "ed25519" and said["public_key"].startswith("whpk_"), said
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(said["public_key"].removeprefix("whpk_")))


def verify_by_key_pair(told, key):
    """Checks the signature that needs no secret."""
    (signature,) = told.signatures("v1a")
    signed = f"{told.headers['webhook-id']}.{told.headers['webhook-timestamp']}.".encode() + told.body
    key.verify(base64.b64decode(signature, validate=True), signed)


def a_jobs_own_webhook_is_signed_with_the_accounts_secret():
    path, url = receiver.open()
    job = submit(webhook={"url": url, "events": ["job.succeeded"]}, metadata={"order": "7"})
    told = receiver.take(path)
    said = verify(told, SECRET)
    assert (said["type"], said["data"]["id"], said["data"]["status"]) == ("job.succeeded", job, "succeeded"), said
    assert said["data"]["metadata"] == {"order": "7"} and said["timestamp"], said
    assert told.headers["content-type"].startswith("application/json"), told.headers
    assert (len(told.signatures("v1")), len(told.signatures("v1a"))) == (1, 1), told.headers
    assert client.webhooks.unwrap(told.body, told.headers, secret=SECRET).type == "job.succeeded"


def what_was_changed_on_the_way_is_refused():
    path, url = receiver.open()
    submit(webhook={"url": url})
    told = receiver.take(path)
    verify(told, SECRET)
    sent = int(told.headers["webhook-timestamp"])
    assert abs(time.time() - sent) < 60, told.headers
    refuses(told, "whsec_" + base64.b64encode(os.urandom(32)).decode(), "No matching signature")
    refuses(replace(told, body=told.body + b" "), SECRET, "No matching signature")
    refuses(replace(told, body=told.body.replace(b"succeeded", b"failed")), SECRET, "No matching signature")
    refuses(told.with_header("webhook-id", told.headers["webhook-id"] + "0"), SECRET, "No matching signature")
    refuses(told.with_header("webhook-timestamp", str(sent - 1)), SECRET, "No matching signature")
    refuses(told.with_header("webhook-timestamp", str(sent - 3600)), SECRET, "too old")
    refuses(told.with_header("webhook-timestamp", str(sent + 3600)), SECRET, "too new")
    # The signature by the key pair is none that a secret makes.
    refuses(told.with_header("webhook-signature", "v1a," + told.signatures("v1a")[0]), SECRET, "No matching")


def the_public_key_alone_tells_who_sent_it():
    path, url = receiver.open()
    submit(webhook={"url": url})
    told, key = receiver.take(path), public_key()
    verify_by_key_pair(told, key)
    sent = int(told.headers["webhook-timestamp"])
    for other in (
        replace(told, body=told.body + b" "),
        told.with_header("webhook-id", told.headers["webhook-id"] + "0"),
        told.with_header("webhook-timestamp", str(sent + 1)),
    ):
        try:
            verify_by_key_pair(other, key)
        except InvalidSignature:
            continue
        raise AssertionError("a changed webhook was let through")
    try:
        verify_by_key_pair(told, Ed25519PrivateKey.generate().public_key())
    except InvalidSignature:
        return
    raise AssertionError("another key let it through")


def an_endpoint_has_a_secret_of_its_own():
    path, url = receiver.open()
    own, job_url = receiver.open()
    made = endpoint(url)
    assert made["secret"].startswith("whsec_") and "secret" not in done("GET", f"/webhook-endpoints/{made['id']}")
    job = submit(webhook={"url": job_url})
    told, beside = receiver.take(path), receiver.take(own)
    said = verify(told, made["secret"])
    assert (said["type"], said["data"]["id"]) == ("job.succeeded", job), said
    refuses(told, SECRET, "No matching signature")
    verify(beside, SECRET)
    refuses(beside, made["secret"], "No matching signature")
    assert told.headers["webhook-id"] != beside.headers["webhook-id"]
    verify_by_key_pair(told, public_key())
    done("DELETE", f"/webhook-endpoints/{made['id']}")
    submit(webhook={"url": job_url})
    receiver.take(own)
    assert receiver.is_empty(path), "an endpoint that was deleted is told nothing"


def both_secrets_sign_while_one_takes_the_others_place():
    path, url = receiver.open()
    made = endpoint(url)
    first = made["secret"]
    rotate = lambda: done("POST", f"/webhook-endpoints/{made['id']}/rotate", {})["secret"]
    second = rotate()
    assert first != second
    submit()
    told = receiver.take(path)
    assert (len(told.signatures("v1")), len(told.signatures("v1a"))) == (2, 1), told.headers
    assert verify(told, first) == verify(told, second)
    verify_by_key_pair(told, public_key())
    third = rotate()
    submit()
    told = receiver.take(path)
    assert verify(told, second) == verify(told, third)
    refuses(told, first, "No matching signature")
    done("DELETE", f"/webhook-endpoints/{made['id']}")


def a_repeat_has_the_same_id_and_a_time_of_its_own():
    path, url = receiver.open(500)
    made = endpoint(url)
    submit()
    first, again = receiver.take(path), receiver.take(path)
    for told in (first, again):
        verify(told, made["secret"])
        verify_by_key_pair(told, public_key())
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert int(first.headers["webhook-timestamp"]) < int(again.headers["webhook-timestamp"])
    done("DELETE", f"/webhook-endpoints/{made['id']}")


def what_is_sent_by_hand_is_signed_as_well():
    path, url = receiver.open()
    made = endpoint(url)
    done("POST", f"/webhook-endpoints/{made['id']}/test")
    said = verify(receiver.take(path), made["secret"])
    assert said["type"] == "webhook.test" and said["data"]["endpoint"] == made["id"], said
    submit()
    first = receiver.take(path)
    delivery = f"/webhook-deliveries/{first.headers['webhook-id']}"
    # Sent again is what was sent: our answer to it may be on its way yet.
    while done("GET", delivery)["status"] == "pending":
        time.sleep(0.1)
    done("POST", f"{delivery}/replay")
    again = receiver.take(path)
    assert verify(again, made["secret"])["type"] == "job.succeeded"
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    done("DELETE", f"/webhook-endpoints/{made['id']}")


CHECKS = [
    a_jobs_own_webhook_is_signed_with_the_accounts_secret,
    what_was_changed_on_the_way_is_refused,
    the_public_key_alone_tells_who_sent_it,
    an_endpoint_has_a_secret_of_its_own,
    both_secrets_sign_while_one_takes_the_others_place,
    a_repeat_has_the_same_id_and_a_time_of_its_own,
    what_is_sent_by_hand_is_signed_as_well,
]

if __name__ == "__main__":
    run(f"standardwebhooks {importlib.metadata.version('standardwebhooks')} for Python", CHECKS)
