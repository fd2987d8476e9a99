"""Everything that /openapi.json describes, asked for by schemathesis: good requests, bad ones, and chains of them.

How it asks stands in schemathesis.toml. Nothing is left out; what takes away from whoever asks comes last and is asked for by
somebody else, so that the first run is let in to its end. Whoever asks is the owner of an account and a super admin, by a
login: there is no path that they may not use.

OPENAI_BASE_URL says where; KILN_DATA is the folder of the `kiln dev` that is there, with its mails and the key of its operator.
"""

import email
import email.policy
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import uuid
from urllib.parse import parse_qs, urlsplit

from support import BASE, ask, done

DATA = pathlib.Path(os.environ["KILN_DATA"])
CONFIG = pathlib.Path(__file__).parent.parent / "schemathesis.toml"
PASSWORD = f"a kiln for {uuid.uuid4().hex}"

# What ends a login, an account or somebody's rights, or takes an account its tokens: whoever asks may be hit.
ENDINGS = (
    "POST /v1/auth/logout",
    "POST /v1/auth/password/change",
    "DELETE /v1/me/sessions/",
    "POST /v1/account/erasure",
    "PATCH /v1/account/users/",
    "DELETE /v1/account/users/",
    "POST /v1/billing/balance",
    "PATCH /v1/admin/",
    "PUT /v1/admin/",
    "POST /v1/admin/",
    "DELETE /v1/admin/",
)
# Where those find whom to hit.
NAMES = ("GET /v1/me/sessions", "GET /v1/account/users", "GET /v1/admin/accounts", "GET /v1/admin/prices")

# Longest time of a run. A run ends by itself after as many requests as it was told; this is for one that hangs.
SECONDS_MAX = {"all but endings": 480, "endings": 120}


def mailed_token(address):
    """The token of the link in the mail to an address."""
    for _ in range(300):
        for path in DATA.joinpath("mails").glob("*.eml"):
            mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            if mail["to"] == address:
                link = next(line for line in mail.get_content().splitlines() if line.startswith("http"))
                return parse_qs(urlsplit(link).query)["token"][0]
        time.sleep(0.1)
    raise AssertionError(f"no mail to {address}")


def newcomer():
    """Somebody who registered, may do anything and lacks nothing: the token of their login."""
    address = f"{uuid.uuid4().hex}@example.com"
    operator = json.loads(DATA.joinpath("dev.json").read_text())["admin_key"]
    person = {"name": "Example Ltd", "email": address, "password": PASSWORD, "consent": {"version": "1"}}
    done("POST", "/auth/register", person, key=None)
    user = done("POST", "/auth/verify", {"token": mailed_token(address), "password": PASSWORD}, key=None)["id"]
    done("PUT", f"/admin/users/{user}/operator-role", {"role": "super_admin"}, key=operator)
    login = done("POST", "/auth/login", {"email": address, "password": PASSWORD}, key=None)
    account = login["account"]
    done("PATCH", f"/admin/accounts/{account}", {"base_tier": "unlimited"}, key=operator)
    gift = {"account": account, "amount": 1_000_000_000, "reason": "to be spent on everything"}
    done("POST", "/billing/balance", gift, key=operator)
    return login["access_token"]


def pattern(starts):
    return "^(" + "|".join(map(re.escape, starts)) + ")"


def run(title, token, *filters):
    """Runs schemathesis over some of the operations; it says itself what it found. Whether that was nothing."""
    began = time.monotonic()
    program = pathlib.Path(sys.executable).parent / "schemathesis"
    address = BASE.removesuffix("/v1") + "/openapi.json"
    command = [program, "--config-file", CONFIG, "--no-color", "run", address, *filters]
    with tempfile.TemporaryDirectory() as folder:
        try:
            # What it keeps for later goes with the folder.
            ended = subprocess.run(
                command, cwd=folder, env={**os.environ, "KILN_FUZZ_TOKEN": token}, timeout=SECONDS_MAX[title]
            )
        except subprocess.TimeoutExpired:
            sys.exit(f"/openapi.json, {title}: not over after {SECONDS_MAX[title]} s")
    found = "as described" if ended.returncode == 0 else "FAILED"
    print(f"/openapi.json, {title}: {found}, in {time.monotonic() - began:.0f} s", flush=True)
    return ended.returncode == 0


if __name__ == "__main__":
    # Both log in before the first run: it uses up the logins that one address has in an hour.
    first, second = newcomer(), newcomer()
    good = run("all but endings", first, "--exclude-name-regex", pattern(ENDINGS))
    status, said = ask("GET", "/me", key=first)
    assert status == 200, f"the first run ended its own login, so that the rest of it asked for nothing: {said}"
    good &= run("endings", second, "--include-name-regex", pattern(ENDINGS + NAMES))
    sys.exit(0 if good else 1)
