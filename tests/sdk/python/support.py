"""What the checks share: where Kiln is, its own API, files to send in, and how a check ends a run."""

import io
import json
import os
import struct
import sys
import time
import urllib.error
import urllib.request
import wave
import zlib

# Where Kiln is, with its /v1, and who asks: as any program that uses OpenAI's client is told.
BASE = os.environ["OPENAI_BASE_URL"].rstrip("/")
KEY = os.environ["OPENAI_API_KEY"]

# Kiln is on this machine, whatever the environment says of proxies.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(method, path, body=None, key=KEY):
    """A request to Kiln's own API, by nothing but Python: the status and what it says."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    if body is not None:
        headers["content-type"] = "application/json"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data, headers, method=method)
    try:
        with _direct.open(request, timeout=120) as response:
            status, text = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return status, json.loads(text) if text else None


def done(method, path, body=None, key=KEY):
    """What a request says that must succeed."""
    status, said = ask(method, path, body, key)
    assert 200 <= status < 300, (method, path, status, said)
    return said


def fetch(url):
    """The content of a signed address."""
    with _direct.open(url, timeout=120) as response:
        return response.read()


def refused(kind, call, code=None, param=None):
    """The error that a call of OpenAI's client must end with."""
    try:
        call()
    except kind as error:
        assert code is None or error.code == code, error
        assert param is None or error.param == param, error
        return error
    raise AssertionError(f"no {kind.__name__}")


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


def run(who, checks):
    """Runs checks one after the other; the first that fails ends the run with its name."""
    start = time.monotonic()
    for check in checks:
        name, began = check.__name__.replace("_", " "), time.monotonic()
        try:
            check()
        except BaseException:
            print(f"{who}: FAILED: {name}", file=sys.stderr)
            raise
        print(f"{who}: {name} ({time.monotonic() - began:.1f} s)", file=sys.stderr)
    print(f"{who}: {len(checks)} checks in {time.monotonic() - start:.1f} s")
