"""What a command's calls came to: one screen for people, one JSON object for programs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from clawmw.core.context import BAGGAGE, TraceContext, baggage, carried, foreign
from clawmw.core.events import Acted, CallStarted, Event
from clawmw.core.identity import Identity, clean
from clawmw.observe.spans.ids import root_span_id, trace_id
from clawmw.policy import build
from clawmw.runtime import switched_off

if TYPE_CHECKING:
    from clawmw.observe.reading.chains import Chain
    from clawmw.observe.store.spanstore import SpanStore
    from clawmw.policy.models import Policy

__all__ = ["Seen"]

_NONE = (
    "clawmw: no model call came through: clawmw reaches programs that read OPENAI_BASE_URL or "
    "ANTHROPIC_BASE_URL, and that set no base URL themselves"
)
_OFF = "clawmw: CLAWMW_OFF is set: calls passed through, and nothing was counted"
_MOST = 5
_NOBODY = Identity()


class Seen:
    """What is seen of a command's calls. `folder` is the run's own, gone with it; `around`, what
    the run itself is part of."""

    def __init__(
        self, chain: str, policy: Policy, folder: Path, around: Identity = _NOBODY
    ) -> None:
        self.chain = clean(chain) or ""
        self._around = around
        self.folder = folder
        self.kept = build.trace_store(policy)
        self.stops: Counter[str] = Counter()
        self._trace = trace_id(Identity(tenant=policy.tenant, chain=self.chain))
        self._traces = {f"{self._trace:032x}": None}

    @property
    def traces(self) -> Path:
        """The file of traces: the policy's; else the run's own, which nobody keeps."""
        return self.kept or self.folder / "traces.sqlite"

    @property
    def sent(self) -> dict[str, str]:
        """`TRACEPARENT` (W3C Trace Context), under which the command's own spans join ours, or
        that of the span the run is in; `BAGGAGE`, which says the chain to whom has no clawmw."""
        trace, at = f"{self._trace:032x}", self._around.context
        if at is None or at.trace != trace:
            at = TraceContext(trace, f"{root_span_id(self._trace):016x}", sampled=True)
        around = os.environ.get("BAGGAGE", "")
        ours = carried({**baggage(around), "chain": self.chain})
        entries = ",".join(filter(None, (foreign(around), ours)))
        said = at.headers() | ({BAGGAGE: entries} if entries else {})
        return {name.upper(): value for name, value in said.items()}

    def event(self, event: Event) -> None:
        """Note an event. A command may name chains of its own, which are then children."""
        if isinstance(event, CallStarted):
            self._traces[f"{trace_id(event.identity):032x}"] = None
        elif isinstance(event, Acted) and event.action == "halt" and not event.would:
            self.stops[event.rule] += 1

    def summary(self) -> str:
        """One screen for people."""
        from clawmw.observe.reading.chains import spans
        from clawmw.observe.reading.figures import ASCII, UNICODE
        from clawmw.observe.reading.summary import cost, counted, totals, used

        glyphs = UNICODE if os.environ.get("TERM") != "dumb" else ASCII
        lines: list[str] = []
        with self._opened() as store:
            for chain in self._chains(store)[:_MOST]:
                if not lines:
                    lines += totals(chain, spans(store, chain.trace_id), glyphs)
                    continue
                calls = counted(chain.calls, "call")
                sums = f"{calls}, {used(chain, glyphs)}, {cost(chain, glyphs)}"
                lines.append(f"child     {clean(chain.chain_id)}: {sums}")
        if not lines:
            return _OFF if switched_off() else _NONE
        if self.stops:
            stops = [f"{rule} ({count})" for rule, count in self.stops.most_common(_MOST)]
            lines.append(f"stopped   {f' {glyphs.dot} '.join(stops)}")
        if self.kept is not None:
            lines.append(f"look      clawmw traces show {next(iter(self._traces))}")
        return "clawmw: " + "\n        ".join(lines)

    def write(self, path: Path, code: int) -> None:
        """The same for programs: times in ns, money in nano-USD, null where unknown."""
        with self._opened() as store:
            chains = [asdict(chain) for chain in self._chains(store)]
        found = {
            "chain": self.chain,
            "trace_id": next(iter(self._traces)),
            "exit_code": code,
            "stopped_by": dict(self.stops),
            "chains": chains,
        }
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(found, file, indent=2)

    @contextmanager
    def _opened(self) -> Iterator[SpanStore]:
        from clawmw.observe.store.spanstore import SpanStore

        store = SpanStore.read(self.traces)
        try:
            yield store
        finally:
            store.close()

    def _chains(self, store: SpanStore) -> list[Chain]:
        """The run's chains, its own first."""
        from clawmw.observe.reading.chains import find

        return [chain for trace in self._traces for chain in find(store, trace)[:1]]
