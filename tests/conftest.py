"""What every test has: conversations to send, and no home but a temporary one."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Ctrl-C works as in a terminal: a shell has those it runs in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is read from or written to the home of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in [name for name in os.environ if name.startswith(("CLAWMW_", "OTEL_"))]:
        monkeypatch.delenv(name)
    return


def asked(emulator: Any) -> None:
    """Wait until the emulator has been asked something."""
    end = time.monotonic() + 10
    while not emulator.requests and time.monotonic() < end:
        time.sleep(0.005)


def rows(count: int, seed: int = 1) -> str:
    """A tool result as APIs give it: a long JSON list."""
    dice = random.Random(seed)
    return json.dumps(
        [
            {
                "id": f"tkt_{seed}{i:05d}",
                "name": f"Ticket for date {i % 28 + 1}",
                "price": round(dice.uniform(199, 799), 2),
                "status": "open" if dice.random() < 0.97 else "blocked",
                "note": None,
            }
            for i in range(count)
        ]
    )


def log(count: int) -> str:
    """A service's log with one error in it."""
    lines = [
        f"2026-11-01T10:{i % 60:02d}:00Z INFO worker-{i % 4} handled job {i}" for i in range(count)
    ]
    lines[count // 2] = "2026-11-01T10:30:00Z ERROR worker-2 job 17 failed: disk quota exceeded"
    return "\n".join(lines)


def tool(name: str) -> dict[str, Any]:
    """A tool definition."""
    parameters = {"type": "object", "properties": {"q": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def turn(call_id: str, name: str, arguments: dict[str, Any], result: str) -> list[dict[str, Any]]:
    """A tool call and its result."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call_id, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call_id, "content": result},
    ]


def histories(messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What an agent sends call by call: everything before each of the model's messages."""
    cuts = [i for i, m in enumerate(messages) if m["role"] == "assistant" and i]
    return [messages[:i] for i in cuts] + [messages]
