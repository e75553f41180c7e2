"""The cache doctor: what it says of a call, held against what was done to it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clawmw.emulator.bill import PrefixCache
from clawmw.providers.load import profile_for
from clawmw.replay.doctor import Bill, Doctor, RunNote
from clawmw.replay.records import Run
from clawmw.replay.sources import Sources
from tests.conftest import tool
from tests.replay import samples

SYSTEM = "".join(f"Rule {i}: of {i * 7} tickets, sell {i}. " for i in range(400))
TOOLS = [tool("read"), tool("write")]
CLAUDE, OPENAI, OLD_OPENAI = "claude-sonnet-4-6", "openai/gpt-5.6", "gpt-5.4"
EPHEMERAL = {"type": "ephemeral"}


def provider(name: str) -> Bill:
    cache, profile = PrefixCache(), profile_for(name)
    return lambda body: cache.bill(body, profile, tenant="", now=0.0, output=0)


def said(text: str, role: str = "user", mark: Any = None) -> dict[str, Any]:
    if mark is None:
        return {"role": role, "content": text}
    return {"role": role, "content": [{"type": "text", "text": text, "cache_control": mark}]}


def looked(folder: Path, name: str, *sessions: list[Any]) -> list[RunNote]:
    """Each session is its requests: (messages, tools)."""
    rows = []
    for number, session in enumerate(sessions):
        for messages, tools in session:
            body = {"model": "m", "messages": messages, "tools": tools}
            headers = {"x-clawmw-session": f"s{number}"}
            rows.append({"path": "/v1/chat/completions", "headers": headers, "body": body})
    path = samples.written(folder / "log.jsonl", rows)
    doctor = Doctor(profile_for(name), partial(provider, name))
    return [doctor.run(found) for found in Sources([path], model="m") if isinstance(found, Run)]


HEAD = [said(SYSTEM, "system"), said("one")]
NEXT = [*HEAD, said("yes", "assistant"), said("two")]


def rules(note: RunNote) -> set[str]:
    return {f.rule for f in note.findings} | {f.rule for call in note.calls for f in call.findings}


def test_what_goes_on_is_read_and_nothing_is_wrong(tmp_path: Path) -> None:
    (note,) = looked(tmp_path, OLD_OPENAI, [(HEAD, TOOLS), (NEXT, TOOLS)])
    first, second = note.calls
    assert (first.read, first.lost) == (0, 0)
    assert second.read > 3000
    assert (second.moved, second.lost, second.tail) == (None, 0, False)
    assert not rules(note)


@pytest.mark.parametrize(
    ("messages", "tools", "part", "index", "byte", "name"),
    [
        (NEXT, [TOOLS[0], tool("zip")], "tools", 1, None, "zip"),
        (NEXT, [TOOLS[0]], "tools", 1, None, ""),
        (
            [said(SYSTEM[:900] + "!" + SYSTEM[900:], "system"), *NEXT[1:]],
            TOOLS,
            "system",
            0,
            900,
            "",
        ),
        ([HEAD[0], said("ohne"), *NEXT[2:]], TOOLS, "message", 1, 1, ""),
        ([HEAD[0], *NEXT[2:], said("on")], TOOLS, "message", 1, 0, ""),
    ],
)
def test_the_part_that_moved_is_named(
    tmp_path: Path,
    messages: list[Any],
    tools: list[Any],
    part: str,
    index: int,
    byte: int | None,
    name: str,
) -> None:
    more = [*messages, said("yes", "assistant"), said("three")]
    (note,) = looked(tmp_path, OPENAI, [(NEXT, TOOLS), (more, tools)])
    call = note.calls[1]
    assert call.moved is not None
    assert (call.moved.part, call.moved.index, call.moved.byte) == (part, index, byte)
    assert call.moved.tool == name
    assert call.read == 0
    assert call.lost > 3000
    assert rules(note) == {f"{part}_moved"}


def test_a_tool_that_changed_is_named_with_its_byte(tmp_path: Path) -> None:
    changed = json.loads(json.dumps(TOOLS[1]))
    changed["function"]["parameters"]["properties"]["z"] = {"type": "string"}
    (note,) = looked(tmp_path, OPENAI, [(HEAD, TOOLS), (NEXT, [TOOLS[0], changed])])
    moved = note.calls[1].moved
    assert moved is not None
    assert (moved.tool, moved.index) == ("write", 1)
    assert moved.byte


def test_a_date_that_moved_is_told_as_one(tmp_path: Path) -> None:
    days = [
        [said(f"{SYSTEM}Current date: 2026-11-{day}. Be brief.", "system"), *NEXT[1:]]
        for day in (22, 23)
    ]
    (note,) = looked(tmp_path, OPENAI, [(days[0], TOOLS), (days[1], TOOLS)])
    assert rules(note) == {"head_date", "volatile_date"}
    place = next(f.place for f in note.findings if f.rule == "head_date")
    assert place == f"system 0, byte {len(SYSTEM.encode()) + 14:,}"


TAIL = [said("jobs: 1"), said("jobs: 2"), said("jobs: 3")]


@pytest.mark.parametrize(
    ("name", "lost", "expected"),
    [
        (OLD_OPENAI, False, set()),
        (OPENAI, True, {"transient_tail"}),
        (CLAUDE, True, {"no_marks"}),
    ],
)
def test_a_tail_that_is_replaced(tmp_path: Path, name: str, lost: bool, expected: set[str]) -> None:
    calls = [([*HEAD, TAIL[0]], TOOLS), ([*NEXT, TAIL[1]], TOOLS)]
    (note,) = looked(tmp_path, name, calls)
    assert note.calls[1].tail
    assert note.calls[1].moved is None
    assert bool(note.calls[1].lost) is lost
    assert rules(note) == expected


def test_marks_that_do_no_good(tmp_path: Path) -> None:
    def marked(*marks: Any) -> list[Any]:
        return [
            said(m["content"], m["role"], k) for m, k in zip([*NEXT, TAIL[0]], marks, strict=True)
        ]

    good = [(marked(EPHEMERAL, None, None, EPHEMERAL, None), TOOLS)]
    (note,) = looked(tmp_path, CLAUDE, good)
    assert not rules(note)
    hour = {**EPHEMERAL, "ttl": "1h"}
    (note,) = looked(tmp_path, CLAUDE, [(marked(EPHEMERAL, hour, None, None, None), TOOLS)])
    assert rules(note) == {"ttl_order"}
    (note,) = looked(tmp_path, CLAUDE, [(marked(*[EPHEMERAL] * 5), TOOLS)])
    assert rules(note) == {"too_many_marks"}
    short = [said("brief", "system", EPHEMERAL), said(SYSTEM), said("x", mark=EPHEMERAL)]
    (note,) = looked(tmp_path, CLAUDE, [(short, TOOLS)])
    assert rules(note) == {"mark_too_early"}
    unmarked = [said(SYSTEM, "system", EPHEMERAL), said(SYSTEM), said("x")]
    (note,) = looked(tmp_path, CLAUDE, [(unmarked, TOOLS)])
    assert rules(note) == {"end_unmarked"}
    tails = [
        ([said(SYSTEM, "system", EPHEMERAL), said("a"), said("t1", mark=EPHEMERAL)], TOOLS),
        ([said(SYSTEM, "system", EPHEMERAL), said("a"), said("t2", mark=EPHEMERAL)], TOOLS),
    ]
    (note,) = looked(tmp_path, CLAUDE, tails)
    assert "mark_on_tail" in rules(note)
    assert note.calls[1].read > 3000  # the head's mark


def test_sessions_of_one_agent_are_compared(tmp_path: Path) -> None:
    other = [HEAD[0], said("something else")]
    notes = looked(tmp_path, OPENAI, [(HEAD, TOOLS)], [(other, TOOLS)])
    assert rules(notes[1]) == {"head_unmarked"}
    notes = looked(tmp_path, OLD_OPENAI, [(HEAD, TOOLS)], [(other, TOOLS)])
    assert not rules(notes[1])
    assert notes[1].calls[0].read > 3000
    notes = looked(tmp_path, OLD_OPENAI, [(HEAD, TOOLS)], [(other, [tool("zip")])])
    call = notes[1].calls[0]
    assert call.against == notes[0].id
    assert rules(notes[1]) == {"tools_moved"}
    stranger = [said("You are another agent altogether. " + SYSTEM, "system"), said("hi")]
    notes = looked(tmp_path, OLD_OPENAI, [(HEAD, TOOLS)], [(stranger, TOOLS)])
    assert not rules(notes[1])
    assert notes[1].calls[0].against == ""


def test_nothing_of_the_content_is_told(tmp_path: Path) -> None:
    secret = "sk-canary-0123456789"
    calls = [([said(f"{SYSTEM} {secret} 2026-11-22", "system"), said(secret)], TOOLS)] * 2
    changed = [([said(f"{secret}{SYSTEM}", "system"), said(secret)], TOOLS)]
    (note,) = looked(tmp_path, OPENAI, [*calls, *changed])
    assert secret not in repr(note)
    assert note.calls[-1].moved is not None
