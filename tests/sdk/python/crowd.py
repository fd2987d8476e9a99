"""500 requests at once, all of them answered: callers who wait for one film, and chats, half of them streamed.

OPENAI_BASE_URL and OPENAI_API_KEY say where and who; KILN_SIMULATOR_URL is the stand-in for the vendors, which is told to be
slow, so that nothing is answered before everything is asked. Nobody asks twice: whatever is no answer ends the run.
"""

import asyncio
import json
import os
import re
import statistics
import sys
import time
import urllib.request
import uuid
from urllib.parse import urlsplit

import openai
from openai import AsyncOpenAI

from support import BASE, KEY, done

CROWD = 500
# So long the film takes to be ordered, while the callers come.
ORDER_SECS = 5
# Jobs of text that run at once; with so many slow ones no answer comes before these seconds are over.
TEXT_SLOTS = 64
SLOW_SECS = 10
# Longest wait for the last answer.
PATIENCE_SECS = 120


def figures(title, seconds):
    print(f"{title}: {len(seconds)} answered, median {statistics.median(seconds):.1f} s, last {max(seconds):.1f} s")


async def watch(job, path, accept, sent):
    """Asks over a connection of its own and tells when the request is out; gives the answer and how long it took."""
    at, began = urlsplit(BASE), time.monotonic()
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    head = [f"GET {at.path}/jobs/{job}{path} HTTP/1.1", f"host: {at.netloc}", f"authorization: Bearer {KEY}"]
    writer.write("\r\n".join([*head, f"accept: {accept}", "connection: close", "", ""]).encode())
    await writer.drain()
    sent()
    answer = (await reader.read()).decode()
    writer.close()
    return answer, time.monotonic() - began


async def a_film_is_waited_for():
    """As many long polls and streams of events as callers, held until one job ends."""
    wish = {"model": "sora-2", "input": {"prompt": f"a crowd waits {uuid.uuid4().hex} [[sim:slow={ORDER_SECS}]]"}}
    job = done("POST", "/jobs", wish)["id"]
    out, all_out = [], asyncio.Event()

    def sent():
        out.append(job)
        if len(out) == CROWD:
            all_out.set()

    kinds = [("?wait=60", "application/json"), ("/events", "text/event-stream")]
    watching = [asyncio.create_task(watch(job, *kinds[n % 2], sent)) for n in range(CROWD)]
    await asyncio.wait_for(all_out.wait(), ORDER_SECS)
    # Whoever is still to be answered is held now.
    held = CROWD - sum(task.done() for task in watching)
    assert held == CROWD, f"{held} are held"
    answers = await asyncio.wait_for(asyncio.gather(*watching), PATIENCE_SECS)
    for n, (answer, _) in enumerate(answers):
        assert answer.startswith("HTTP/1.1 200 "), answer[:200]
        # Of events the last one shows the job at its end.
        end = answer.rsplit("data:", 1)[-1] if n % 2 else answer
        assert re.search(r'"status": ?"succeeded"', end), answer[-500:]
    figures(f"{held} held for one film, half of them by events", [seconds for _, seconds in answers])


def make_slow():
    """The first jobs fill all slots and take their time."""
    order = {"fault": "slow", "value": str(SLOW_SECS), "contains": "of a crowd", "times": TEXT_SLOTS}
    request = urllib.request.Request(
        os.environ["KILN_SIMULATOR_URL"] + "/control/faults",
        json.dumps(order).encode(),
        {"content-type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


async def everybody_chats():
    """As many chats as callers, asked for before the first is answered."""
    make_slow()
    waiting, most = 0, 0

    async def leave(_):
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)

    async def come(_):
        nonlocal waiting
        waiting -= 1

    http = openai.DefaultAsyncHttpx2Client(event_hooks={"request": [leave], "response": [come]})
    # Building so many requests keeps this program busy for seconds, in which no connection gets its turn.
    patient = openai.Timeout(PATIENCE_SECS, connect=60)
    async with AsyncOpenAI(http_client=http, max_retries=0, timeout=patient) as client:

        async def chat(n):
            began, question = time.monotonic(), f"number {n} of a crowd {uuid.uuid4().hex}"
            asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}]}
            if n % 2:
                stream = await client.chat.completions.create(**asked, stream=True)
                text, ends = "", []
                async for chunk in stream:
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        ends += [choice.finish_reason] if choice.finish_reason else []
                assert ends == ["stop"], ends
            else:
                text = (await client.chat.completions.create(**asked)).choices[0].message.content
            assert question in text, text
            return time.monotonic() - began

        seconds = await asyncio.wait_for(asyncio.gather(*map(chat, range(CROWD))), PATIENCE_SECS)
    figures(f"{CROWD} chats, {most} waiting at once, half of them streamed", seconds)
    assert most == CROWD, f"only {most} waited at once"


async def main():
    await a_film_is_waited_for()
    await everybody_chats()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except BaseException:
        print(f"a crowd of {CROWD}: FAILED", file=sys.stderr)
        raise
