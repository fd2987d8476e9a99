"""Every OpenAI-compatible path, through the official Python client and nothing else.

OPENAI_BASE_URL (with its /v1) and OPENAI_API_KEY say where, as for any program that uses the client; KILN_LIMITED_KEY is a key
of an account of the free tier with 100 tokens. Each check is a function; the first one that fails ends the run with its name.
"""

import openai

import media
import refusals
import repeats
import texts
from support import run

if __name__ == "__main__":
    checks = [check for part in (texts, media, refusals, repeats) for check in part.CHECKS]
    run(f"openai {openai.__version__} for Python", checks)
