"""Spans that somebody made up, under clawmw's own names: no reader may end over them."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clawmw.observe.otlp.reading import decode
from clawmw.observe.otlp.replay import replayed
from clawmw.observe.otlp.rows import taken
from clawmw.observe.otlp.wire import BadOtlp, WireEvent, WireSpan
from clawmw.observe.page.render import report
from clawmw.observe.reading.chains import chains, spans
from clawmw.observe.reading.listing import Filter
from clawmw.observe.store.spanstore import SpanRow, SpanStore
from clawmw.observe.terminal.render import render_chains, render_trace

T = f"{0xABC:032x}"
VALUES: tuple[Any, ...] = (
    0,
    -1,
    2**63 - 1,
    5.5,
    1e308,
    "x",
    "",
    "a\nb",
    True,
    ("a", "b"),
    (1,),
    (),
)
EVENTS = [
    "acted",
    "epoch",
    "epoch.ended",
    "attempt",
    "stage.failed",
    "degraded",
    "identity.derived",
    "budget.near",
    "loop.capped",
    "budget.overdrawn",
    "cost.assumed",
    "cache.missed",
    "admission.waited",
    "breaker",
    "body.unread",
]
FIELDS = [
    "rule",
    "action",
    "would",
    "stage",
    "phase",
    "error",
    "closed",
    "reason",
    "tokens_before",
    "tokens_after",
    "price_usd",
    "calls",
    "saving_usd",
    "expected_calls",
    "saved_usd",
    "expected_usd",
    "number",
    "status",
    "failure",
    "seconds",
    "model",
    "store",
    "names",
    "meter",
    "used",
    "limit",
    "reserved",
    "scope",
    "day",
    "usd",
    "read",
    "predicted",
    "moved",
    "index",
    "byte",
    "tool",
    "lost_usd",
    "upstream",
    "class",
    "refused",
    "state",
    "detail.count",
    "detail.detector",
    "detail.used",
    "detail.limit",
]
ATTRIBUTES = [
    "chain.id",
    "session.id",
    "agent",
    "hop",
    "seq",
    "mode",
    "stopped",
    "stopped_by",
    "status",
    "kind",
    "exchange",
    "synthetic",
    "links",
    "joined_from",
    "joined_agents",
    "tools",
    "messages",
    "held",
    "parent.agent",
    "parent.session",
    "saved.by.dedupe",
    "saved.usd",
    "cost.usd",
    "cost.assumed_usd",
    "tool.result_tokens",
    "duration.unknown",
    "usage.basis",
    "cost.basis",
    "cache.predicted_tokens",
    "cache.predicted_raw_tokens",
    "upstream_ms",
    "overhead_ms",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SpanStore]:
    opened = SpanStore.open(tmp_path / "traces.sqlite")
    yield opened
    opened.close()


def made_up(chance: random.Random, number: int) -> WireSpan:
    said = {f"clawmw.{name}": chance.choice(VALUES) for name in chance.sample(ATTRIBUTES, 12)}
    said["gen_ai.operation.name"] = chance.choice(["chat", "chat", "execute_tool", "invoke_agent"])
    events = [
        WireEvent(
            f"clawmw.{chance.choice(EVENTS)}",
            chance.choice([0, 5, 2**63 - 1]),
            {name: chance.choice(VALUES) for name in chance.sample(FIELDS, chance.randrange(30))},
        )
        for _ in range(6)
    ]
    return WireSpan(
        T,
        f"{number:016x}",
        f"{chance.randrange(1, 5):016x}" if number > 1 else None,
        "chat",
        10**18 + number,
        10**18 + 10**9,
        attributes=said,
        events=tuple(events),
        scope=chance.choice(["clawmw", "some.library"]),
    )


@pytest.mark.parametrize("seed", range(24))
def test_whatever_is_sent_can_be_read(store: SpanStore, seed: int) -> None:
    chance = random.Random(seed)
    store.write([row for n in range(1, 5) if (row := taken(made_up(chance, n))) is not None])
    out = Console(file=io.StringIO(), width=chance.choice([20, 100]))
    found = chains(store, limit=5)
    render_chains(found, out)
    for chain in found:
        rows = spans(store, chain.trace_id)
        render_trace(chain, rows, out)
        json.dumps([asdict(row) for row in rows], allow_nan=False)
    report(store, time.time_ns(), Filter())
    assert isinstance(list(replayed(store, T)), list)


def test_an_event_of_the_right_kind_is_kept_whole() -> None:
    said = {"expected_calls": 3.5, "tokens_before": 9, "tokens_after": 3, "reason": "idle"}
    events = (
        WireEvent("clawmw.epoch", 5, {**said, "price_usd": "much"}),
        WireEvent("clawmw.epoch", 6, {**said, "tokens_after": "few"}),
    )
    span = WireSpan(
        T, f"{1:016x}", None, "chat", 5, 9, events=events, scope="clawmw",
        attributes={"gen_ai.operation.name": "chat"},
    )  # fmt: skip
    row = taken(span)
    assert row is not None
    assert row.events == ({**said, "name": "clawmw.epoch", "time_ns": 5},)


@pytest.mark.parametrize("status", ["failed", "ok", "answered"])
def test_a_chain_of_which_nothing_is_known_but_its_calls(store: SpanStore, status: str) -> None:
    """No usage, no price, no agent's span: sums are whole numbers all the same."""
    store.write([SpanRow(T, f"{1:016x}", None, "chat", "chat m", 5, 9, status, chain_id="c")])
    (chain,) = chains(store, limit=1)
    assert (chain.estimated, chain.estimated_cost, chain.unknown_cost) == (0, 0, 1)
    out = io.StringIO()
    render_trace(chain, spans(store, T), Console(file=out, width=100))
    assert "no usage reported" in out.getvalue()


def test_a_known_cost_is_not_unknown(store: SpanStore) -> None:
    store.write([SpanRow(T, f"{1:016x}", None, "chat", "chat m", 5, 9, "ok", cost_nano=7)])
    assert chains(store, limit=1)[0].unknown_cost == 0


@pytest.mark.parametrize(
    "body", [b"\x0a\x00" * 500_000, b"\x0a\xc0\x84\x3d" + b"\x12\x00" * 500_000]
)
def test_many_empty_parts_are_refused_soon(body: bytes) -> None:
    """Sixteen megabytes of them took a minute, and everybody else waited."""
    with pytest.raises(BadOtlp):
        decode(body, "protobuf")
