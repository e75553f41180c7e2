"""A folder that keeps what the demo used and made, to be played with afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from clawmw.demo.played import Played
from clawmw.errors import ClawmwError

__all__ = ["POLICY", "RUN", "TRACES", "keep", "make_folder"]

POLICY, RUN, TRACES = "trip.yaml", "run.jsonl", "traces.sqlite"
_FILES = (POLICY, "desk.md")
"""The policy, and what it refers to."""


def make_folder(folder: Path) -> None:
    """A new folder for its owner only. Raises `ClawmwError` for one that holds anything."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        filled = any(folder.iterdir())
    except OSError as e:
        raise ClawmwError(f"{folder}: {e.strerror or e}; name another folder") from None
    if filled:
        raise ClawmwError(f"{folder}: this folder is not empty; name a new one")


def keep(folder: Path, played: Played) -> None:
    """Put the policy there, and a run as `clawmw replay` reads it."""
    for name in _FILES:
        _write(folder / name, (files("clawmw.demo") / name).read_text("utf-8"))
    _write(folder / RUN, json.dumps(_recorded(played), ensure_ascii=False) + "\n")


def _recorded(played: Played) -> dict[str, object]:
    """The last request has the whole conversation but the last answer."""
    body = played.received[-1].body if played.received else {"messages": []}
    messages: Sequence[object] = [
        *body["messages"],
        {"role": "assistant", "content": played.report},
    ]
    tools = body.get("tools", [])
    return {"id": "trip", "source": "clawmw-demo", "messages": messages, "tools": tools}


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
