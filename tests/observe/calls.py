"""Calls as the engine tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from clawmw.core.events import (
    Acted,
    Attempted,
    CallFinished,
    CallStarted,
    Degraded,
    EpochBegan,
    EpochEnded,
    Event,
    StageFailed,
    ToolReturned,
    Totals,
)
from clawmw.core.identity import Identity
from clawmw.core.money import Cost
from clawmw.core.types import Usage
from clawmw.observe.otel import OtelObserver

EPOCH = 1_790_000_000.0
PLANNER = Identity(agent="planner", session="s1", chain="trip-7")
_numbers = count()


@dataclass
class Says:
    """One call's story; `events()` tells it."""

    identity: Identity = PLANNER
    at: float = EPOCH
    seconds: float = 2.0
    model: str = "anthropic/claude-x"
    asked: str | None = None
    status: Any = "ok"
    usage: Usage | None = field(default_factory=lambda: Usage(12_000, 300, 9_000, 0, None))
    cost: Cost | None = field(default_factory=lambda: Cost(9_000_000, 4_500_000, 2_700_000, 0))
    baseline: Cost | None = field(default_factory=lambda: Cost(20_000_000, 4_500_000, 0, 0))
    totals: Totals = field(
        default_factory=lambda: Totals(
            20_000, 12_000, 12_000, 15_000, 9_000, {"compress.json": 7_000, "dedupe": 1_000}
        )
    )
    tools: Sequence[tuple[str, str, float | None]] = ()
    """(name, call id, since) of tool results first seen."""
    acted: Sequence[tuple[str, Any, str, bool, dict[str, Any]]] = ()
    attempts: Sequence[tuple[float, int | None, str | None]] = ((2.0, 200, None),)
    trouble: Sequence[Event] = ()
    mode: Any = "enforce"
    stream: bool = False
    error: str | None = None
    finish: str | None = "stop"
    held: bool = False

    def events(self) -> list[Event]:
        """The events of one exchange of its own, in the engine's order."""
        x, t = f"x{next(_numbers)}", self.at
        end = t + self.seconds
        return [
            CallStarted(
                x,
                t,
                self.identity,
                self.asked or self.model,
                "openai-chat",
                self.stream,
                12,
                self.mode,
                "p0l1cy",
                self.held,
            ),
            *(ToolReturned(x, t, name, call, 1_200, since) for name, call, since in self.tools),
            *(Acted(x, t, s, a, r, would, d) for s, a, r, would, d in self.acted),
            *(replace(event, exchange=x) for event in self.trouble),
            *(
                Attempted(x, t + took, i, self.model, took, status, failure)
                for i, (took, status, failure) in enumerate(self.attempts, 1)
            ),
            CallFinished(
                x,
                end,
                self.identity,
                self.status,
                self.model,
                "claude-x-1" if self.status == "ok" else None,
                self.finish if self.status == "ok" else None,
                self.usage,
                self.totals,
                self.cost,
                self.baseline,
                max(len(self.attempts), 1),
                0.003,
                (("call_9", "search"),) if self.status == "ok" else (),
                self.error,
            ),
        ]


def halted(**more: Any) -> Says:
    """A call the loop guard stopped before it was made."""
    detail = {"count": 16, "limit": 16, "kind": "same_result"}
    return Says(
        status="halted",
        usage=None,
        cost=Cost(),
        baseline=None,
        attempts=(),
        seconds=0.01,
        acted=[("loop_guard", "halt", "loop_guard.stop", False, detail)],
        error="loop_guard.stop",
        **more,
    )


def stage_failed(stage: str, error: str) -> StageFailed:
    """A stage that raised on the way down and was skipped."""
    return StageFailed("", EPOCH, stage, "before", error, closed=False)


def degraded(store: str, error: str) -> Degraded:
    """A store that could not be used."""
    return Degraded("", EPOCH, store, error)


def epoch_began(**more: Any) -> EpochBegan:
    """An epoch that costs a little and saves a lot."""
    figures: dict[str, Any] = {"price": 30_000_000, "saving": 120_000_000, **more}
    return EpochBegan("", EPOCH, "epochs", "idle", 52_000, 31_000, 8_000, calls=9.5, **figures)


def epoch_ended() -> EpochEnded:
    """What came of one."""
    return EpochEnded("", EPOCH, 12, 150_000_000, 9.5, 90_000_000)


def tell(observer: OtelObserver, *says: Says) -> None:
    """Show an observer the events of calls."""
    for story in says:
        for event in story.events():
            observer(event)


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """What was exported; no name twice."""
    found = exporter.get_finished_spans()
    names = {span.name: span for span in found}
    assert len(names) == len(found), [span.name for span in found]
    return names


def parent(span: ReadableSpan) -> int | None:
    """The id of a span's parent."""
    return span.parent.span_id if span.parent else None
