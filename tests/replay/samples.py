"""Recorded runs made up for the tests: what agents really do, in small."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.conftest import log, rows, tool, turn

Message = dict[str, Any]

SYSTEM = {"role": "system", "content": "You plan trips. Use the tools. " * 160}
"""Long enough for every provider in the tests to cache it."""


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def says(text: str) -> Message:
    return {"role": "assistant", "content": text}


def page(count: int) -> str:
    """An HTML page with more dressing than content."""
    items = "".join(
        f'<li class="ride card-{i}"><a href="/ride/{i}?utm=x">Ride {i}</a>'
        f'<span style="color:#{i:06x}">{i * 7 % 90} min</span></li>'
        for i in range(count)
    )
    return (
        "<!doctype html><html><head><style>.ride{display:flex}</style><script>var a=1;</script>"
        f"</head><body><nav><a href='/'>Home</a></nav><ul>{items}</ul></body></html>"
    )


def booking() -> dict[str, Any]:
    """A table of tickets; an id of it is booked two calls later."""
    return {
        "id": "booking",
        "source": "trips",
        "tools": [tool("tickets"), tool("weather"), tool("book")],
        "messages": [
            SYSTEM,
            user("Book a ticket for day 5."),
            *turn("c1", "tickets", {"q": "all"}, rows(60)),
            *turn("c2", "weather", {"q": "Shanghai"}, '{"sky": "clear", "wind": 3}'),
            *turn("c3", "book", {"ticket": "tkt_100004"}, '{"ok": true}'),
            says("Booked."),
        ],
    }


def logs() -> dict[str, Any]:
    """A long log, and the id of the job that failed in it."""
    return {
        "id": "logs",
        "source": "ops",
        "messages": [
            user("Why did it fail?"),
            *turn("a", "read_log", {"path": "/var/log/app.log"}, log(900)),
            *turn("b", "job", {"worker": "worker-2"}, "quota 0"),
            says("The disk is full."),
        ],
    }


def hidden() -> dict[str, Any]:
    """A page whose last entries are needed, after a long way down."""
    return {
        "id": "hidden",
        "source": "web",
        "messages": [
            user("Which ride?"),
            *turn("a", "open_page", {"url": "http://park.example/rides"}, page(400)),
            *turn("b", "ride", {"name": "Ride 397"}, "open"),
            says("Ride 397 is open."),
        ],
    }


def repeats() -> dict[str, Any]:
    """The same read three times."""
    text = log(60)
    return {
        "id": "repeats",
        "source": "ops",
        "tools": [tool("read")],
        "messages": [
            user("Look."),
            *turn("r1", "read", {"q": "a"}, text),
            *turn("r2", "read", {"q": "a"}, text),
            *turn("r3", "read", {"q": "a"}, text),
            says("Seen."),
        ],
    }


def doubled_ids() -> dict[str, Any]:
    """Every call under one id, as some clients send them."""
    turns = [t for i in range(4) for t in turn("call_x", "get", {"n": i}, rows(6, seed=i))]
    return {"id": "doubled", "source": "odd", "messages": [user("Go."), *turns, says("Done.")]}


def missing_ids() -> dict[str, Any]:
    """No ids at all, arguments as an object."""
    call = {"type": "function", "function": {"name": "get", "arguments": {"n": 1, "deep": {}}}}
    return {
        "id": "missing",
        "source": "odd",
        "messages": [
            user("Go."),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": [{"type": "text", "text": rows(5)}]},
            says("Done."),
        ],
    }


def chat() -> dict[str, Any]:
    """Several agents, no tools; the first message is a greeting nobody asked for."""
    return {
        "id": 7,
        "source": "chat",
        "messages": [
            says("Hello."),
            says("Hello, I am the other one."),
            user("Begin."),
            {"role": "assistant", "content": "Step one.", "name": "planner"},
            {"role": "assistant", "content": "Step two.", "name": "worker"},
        ],
    }


def loop(times: int = 20) -> dict[str, Any]:
    """The same call with the same result, again and again."""
    turns = [t for i in range(times) for t in turn(f"l{i}", "poll", {"q": "x"}, "not ready")]
    return {
        "id": "loop",
        "source": "loops",
        "tools": [tool("poll")],
        "messages": [user("Wait for it."), *turns, says("Gave up.")],
    }


def open_end() -> dict[str, Any]:
    """The record ends in a tool result."""
    return {
        "id": "open",
        "source": "trips",
        "messages": [user("Tickets?"), *turn("c", "tickets", {"q": "all"}, rows(80))],
    }


def every() -> list[dict[str, Any]]:
    return [
        booking(),
        logs(),
        hidden(),
        repeats(),
        doubled_ids(),
        missing_ids(),
        chat(),
        loop(),
        open_end(),
    ]


def written(path: Path, runs: Iterable[object]) -> Path:
    """The runs as a JSON lines file."""
    path.write_text("".join(json.dumps(run) + "\n" for run in runs), "utf-8")
    return path
