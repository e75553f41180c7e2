"""What a terminal shows, letter by letter; `UPDATE_GOLDEN=1` writes the files anew."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from clawmw.core.events import CacheMissed, Totals
from clawmw.core.money import Cost
from clawmw.core.types import Usage
from clawmw.observe.otel import OtelObserver
from clawmw.observe.reading.chains import chains, find, spans
from clawmw.observe.reading.figures import duration, money, share, tokens
from clawmw.observe.store.spanstore import SpanStore
from clawmw.observe.terminal.render import render_chains, render_trace
from tests.observe.calls import (
    EPOCH,
    PLANNER,
    Says,
    epoch_began,
    epoch_ended,
    halted,
    stage_failed,
)

GOLDEN = Path(__file__).parent / "golden"
WRITER = replace(PLANNER, agent="writer", session="s2", hop=1)


@pytest.fixture
def store(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpanStore]:
    """Three chains: a long one, an observed one, a failed one."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    observer = OtelObserver(store=SpanStore.open(store_path, keep=1e9))
    raw = Totals(20_000, 20_000, 12_000, 15_000, 15_000, {"compress.json": 8_000})
    watched = replace(PLANNER, session="w", chain="watched", agent="main")
    lost = replace(PLANNER, session="l", chain="0af7651916cd43dd8448eb211c80319c", agent="main")
    t = EPOCH
    for says in (
        Says(),
        Says(
            identity=WRITER,
            at=t + 2.2,
            seconds=1.4,
            acted=[("prompt_cache", "rewrite", "prompt_cache.marks", False, {"marks": 2})],
        ),
        Says(
            identity=WRITER,
            at=t + 5,
            asked="anthropic/claude-big",
            model="deepseek/chat-y",
            tools=[("ticket_prices", "c1", t + 3.6), ("queue_times", "c2", None)],
            acted=[("route", "rewrite", "route.0", False, {"to": "light"})],
            usage=Usage(15_000, 120, 0, None, None),
            cost=Cost(2_000_000, 40_000, 0, 0),
        ),
        Says(
            identity=WRITER,
            at=t + 7.1,
            seconds=3,
            usage=None,
            cost=None,
            baseline=None,
            attempts=[(0.3, 429, "status"), (2.6, 200, None)],
            trouble=[stage_failed("dedupe", "KeyError")],
        ),
        halted(identity=WRITER, at=t + 10.5, totals=Totals(0, 0, 0, 0, 0, {})),
        Says(
            at=t + 11,
            status="answered",
            seconds=0.005,
            attempts=(),
            usage=None,
            cost=Cost(),
            baseline=None,
            totals=Totals(0, 0, 0, 0, 0, {}),
            acted=[("reuse", "answer", "reuse.kinds", False, {})],
        ),
        Says(at=t + 11.2),
        Says(
            identity=watched,
            at=t + 100,
            seconds=1,
            mode="observe",
            totals=raw,
            usage=Usage(20_000, 300, None, None, None, "estimated"),
            cost=Cost(20_000_000, 4_500_000, 0, 0),
            acted=[("loop_guard", "nudge", "loop_guard.nudge", True, {})] * 2,
        ),
        Says(
            identity=lost,
            at=t + 200,
            status="failed",
            usage=None,
            cost=Cost(),
            baseline=None,
            attempts=[(2, 503, "status")],
            error="status",
        ),
    ):
        for event in says.events():
            observer(event)
    observer.close()
    reader = SpanStore.read(store_path)
    yield reader
    reader.close()


class Ascii(io.StringIO):
    encoding = "ascii"


def listed(store: SpanStore, width: int, out: io.StringIO | None = None) -> str:
    out = out or io.StringIO()
    render_chains(chains(store), Console(file=out, width=width))
    return out.getvalue()


def shown(store: SpanStore, chain: str, width: int, out: io.StringIO | None = None) -> str:
    out = out or io.StringIO()
    (found,) = find(store, chain)
    render_trace(found, spans(store, found.trace_id), Console(file=out, width=width))
    return out.getvalue()


def golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    text = re.sub(r"(?<=explain-call )[0-9a-f]{16}", "SPAN", text)  # a random one
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [140, 100, 70])
def test_table(store: SpanStore, width: int) -> None:
    golden(f"table_{width}", listed(store, width))


@pytest.mark.parametrize(("chain", "width"), [("trip", 140), ("trip", 80), ("watched", 110)])
def test_tree(store: SpanStore, chain: str, width: int) -> None:
    golden(f"{chain}_{width}", shown(store, chain, width))


def test_a_terminal_without_unicode(store: SpanStore) -> None:
    text = listed(store, 120, Ascii()) + shown(store, "trip", 120, Ascii())
    assert text.isascii()
    assert "in->out" in text
    assert ">=" in text
    assert "`-- [halted] invoke_agent" in text


def test_no_colour_codes_in_plain_text_and_some_in_a_terminal(store: SpanStore) -> None:
    assert "\x1b" not in listed(store, 120) + shown(store, "trip", 120)
    out = io.StringIO()
    render_chains(chains(store), Console(file=out, width=120, force_terminal=True))
    assert "\x1b[31mfailed" in out.getvalue()


def test_an_epoch_is_a_line_with_both_sums(store_path: Path) -> None:
    observer = OtelObserver(store=SpanStore.open(store_path, keep=1e9))
    for event in Says(trouble=[epoch_ended(), epoch_began()]).events():
        observer(event)
    observer.close()
    store = SpanStore.read(store_path)
    text = shown(store, "trip", 240)
    store.close()
    assert "epoch (idle): context ~52.0k to ~31.0k" in text.replace("52,000", "52.0k").replace(
        "31,000", "31.0k"
    )
    assert "rewriting costs ~$0.0300, saves ~$0.1200 over this call and ~9.5 expected" in text
    assert "12 calls followed (~9.5 expected), saved ~$0.1500 (~$0.0900 expected)" in text


def test_names_cannot_steer_the_terminal(store_path: Path) -> None:
    observer = OtelObserver(store=SpanStore.open(store_path, keep=1e9))
    evil = "\x1b[2Jm\r\n\u202e[red]x[/red]"
    says = Says(
        model=evil,
        identity=replace(PLANNER, agent=evil),
        tools=[(evil, "c", None)],
        acted=[("route", "rewrite", "route.0", False, {"to": evil})],
    )
    for event in says.events():
        observer(event)
    observer.close()
    store = SpanStore.read(store_path)
    text = shown(store, "trip", 160)
    assert "\x1b" not in text
    assert "\r" not in text
    assert "\u202e" not in text
    assert "chat ?[2Jm???[red]x[/red]" in text
    store.close()


def test_a_missed_cache_is_told_with_what_moved(store_path: Path) -> None:
    observer = OtelObserver(store=SpanStore.open(store_path, keep=1e9))
    missed = [
        CacheMissed("x", EPOCH, "m", 14_000, 0, "tools", 3, None, "exec\x1b[2J"),
        CacheMissed("x", EPOCH, "m", 14_000, 1_200, "system", 0, 3_712),
        CacheMissed("x", EPOCH, "m", 14_000, 0, "provider"),
    ]
    for event in [e for one in missed for e in Says(trouble=[one]).events()]:
        observer(event)
    observer.close()
    store = SpanStore.read(store_path)
    text = shown(store, "trip", 160)
    assert "cache missed: read 0 of ~14,000; tools 3 (exec?[2J) moved" in text
    assert "cache missed: read 1,200 of ~14,000; system 0 moved at byte 3,712" in text
    assert "nothing moved, the provider no longer had it" in text
    ((count,),) = store.query("SELECT count(*) FROM spans WHERE moved = 'tools'")
    assert count == 1
    store.close()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(width=st.integers(40, 220))
def test_nothing_is_wider_than_the_terminal(store: SpanStore, width: int) -> None:
    tree, _, _ = shown(store, "trip", width).partition("\n\n")
    for line in [*tree.splitlines()[1:], *listed(store, width).splitlines()]:
        assert cell_len(line) <= max(width, 56), line


def test_wide_characters_keep_the_columns(store_path: Path) -> None:
    observer = OtelObserver(store=SpanStore.open(store_path, keep=1e9))
    for event in Says(identity=replace(PLANNER, agent="规划员", chain="上海一日游")).events():
        observer(event)
    observer.close()
    store = SpanStore.read(store_path)
    lines = shown(store, "上海", 120).splitlines()[1:5]
    assert len({cell_len(line) for line in lines if "█" in line}) == 1
    head, body = listed(store, 120).splitlines()
    assert cell_len(head.partition("AGENTS")[0]) == cell_len(body[: body.index(" 1 ") + 2]) - 6
    store.close()


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (None, "-"),
        (0, "$0"),
        (1, "$0.0000000010"),
        (12_345, "$0.000012"),
        (9_990_000, "$0.0100"),
        (16_200_000, "$0.0162"),
        (999_000_000, "$0.9990"),
        (1_234_567_890_000, "$1,234.57"),
        (-5_000_000, "-$0.0050"),
    ],
)
def test_money(nano: int | None, text: str) -> None:
    assert money(nano) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "-"),
        (0, "0ms"),
        (5_000_000, "5ms"),
        (999_400_000, "999ms"),
        (999_600_000, "1.0s"),
        (59_940_000_000, "59.9s"),
        (59_960_000_000, "1m00s"),
        (61_400_000_000, "1m01s"),
        (3_599_400_000_000, "59m59s"),
        (3_599_900_000_000, "1h00m"),
        (3_600_000_000_000, "1h00m"),
        (90_000_000_000_000, "25h00m"),
    ],
)
def test_duration(ns: int | None, text: str) -> None:
    assert duration(ns) == text


@pytest.mark.parametrize(
    ("count", "short", "text"),
    [
        (None, True, "-"),
        (0, True, "0"),
        (9_999, True, "9,999"),
        (12_345, True, "12.3k"),
        (310_211, True, "310k"),
        (1_500_000, True, "1.5M"),
        (12_345, False, "12,345"),
    ],
)
def test_tokens(count: int | None, short: bool, text: str) -> None:
    assert tokens(count, short=short) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(None, 5, "-"), (0, 5, "0%"), (1, 3, "33%"), (0, 0, "-"), (1, None, "-")],
)
def test_share(part: Any, whole: Any, text: str) -> None:
    assert share(part, whole) == text
