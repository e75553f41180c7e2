"""Texts that look like a secret: keys, tokens, passwords in URLs.

A policy is shared and committed, so a secret in it is refused, and never repeated in the
message. The prefixes are those the providers publish for their keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from clawmw.policy.problems import Path

__all__ = ["looks_secret", "secrets_in"]

_SHAPES = re.compile(
    r"""
      \bsk-(?=\S*\d)[A-Za-z0-9_-]{12,}              # OpenAI, Anthropic, DeepSeek, OpenRouter ...
    | \b[sr]k_live_[A-Za-z0-9]{12,}                 # Stripe
    | \b(?:gsk|hf|fw)_[A-Za-z0-9]{20,}              # Groq, Hugging Face, Fireworks
    | \b(?:xai|nvapi|tvly|pplx)-(?=\S*\d)[\w-]{20,}
    | \bAIza[A-Za-z0-9_-]{30,}                      # Google
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                 # AWS
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_\w{20,} | \bglpat-[\w-]{16,}
    | \bxox[abeoprs]-[A-Za-z0-9-]{10,}              # Slack
    | \beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.              # JSON Web Token
    | -----BEGIN[A-Z ]*PRIVATE\ KEY
    | \b[Bb]earer\s+(?=\S*\d)[\w.~+/-]{16,}
    | ://[^\s/:@]*:[^\s/@]+@                        # a password in a URL
    """,
    re.VERBOSE | re.ASCII,
)


def looks_secret(text: str) -> bool:
    """Whether some part of `text` has the shape of a secret."""
    return _SHAPES.search(text) is not None


def secrets_in(data: Any, path: Path = ()) -> Iterator[Path]:
    """Where secrets lie. Of a key that is one, the mapping around it."""
    if isinstance(data, str):
        if looks_secret(data):
            yield path
    elif isinstance(data, Mapping):
        for key, value in data.items():
            if isinstance(key, str) and looks_secret(key):
                yield path
            else:
                yield from secrets_in(value, (*path, str(key)))
    elif isinstance(data, (list, tuple)):
        for at, item in enumerate(data):
            yield from secrets_in(item, (*path, at))
