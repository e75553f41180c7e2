"""A policy at work whose calls are written down, and the store to read them from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from clawmw.core.events import Event
from clawmw.observe.base import Ended
from clawmw.observe.otel import OtelObserver
from clawmw.observe.store.outlinestore import Inside, inside
from clawmw.observe.store.recorder import Content
from clawmw.observe.store.spanstore import SpanStore
from clawmw.testing import Bench
from tests.conftest import rows, tool, turn

TOOLS = [tool("search"), tool("read")]


class Kept:
    """A bench with a trace store; `content`: what is said is kept, too."""

    def __init__(self, path: Path, policy: dict[str, Any], content: Content | None = None) -> None:
        self.path, self.content = path, content
        self.bench = Bench({"version": 1, **policy})
        self.watch(self.bench)

    def watch(self, bench: Bench) -> None:
        """Have the calls of a bench written down from now on."""
        self.bench = bench
        self.observer = OtelObserver(store=SpanStore.open(self.path), content=self.content)
        self.calls: list[Ended] = []
        bench.runtime.observers = (bench.events.append, self, self.observer)

    def __call__(self, event: Event) -> None:
        """Events are not what it is about."""

    def ended(self, call: Ended) -> None:
        """Keep what the recorder is handed."""
        self.calls.append(call)

    def restart(self) -> None:
        """Go on in a process that remembers nothing."""
        self.observer.close()
        self.watch(self.bench.restart())

    def inside(self, exchange: str = "x1") -> Inside:
        """What is known of a call's messages."""
        assert self.observer.flush()
        with_store = SpanStore.read(self.path)
        found = inside(with_store, exchange, time.time_ns())
        with_store.close()
        assert found is not None
        return found

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the store."""
        assert self.observer.flush()
        store = SpanStore.read(self.path)
        found = [tuple(row) for row in store.query(sql)]
        store.close()
        return found


def conversation(turns: int, *, size: int = 60) -> list[dict[str, Any]]:
    """A system prompt, a task, and some rounds with a tool."""
    said: list[dict[str, Any]] = [
        {"role": "system", "content": "You look for flights."},
        {"role": "user", "content": "Find me the cheapest flight to Lisbon."},
    ]
    for number in range(turns):
        said += turn(f"c{number}", "search", {"q": f"page {number}"}, rows(size, seed=number))
    return said
