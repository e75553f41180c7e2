"""Events of model calls -> OpenTelemetry spans: one trace a chain.

The tree, and who writes which span of it
-----------------------------------------
::

    invoke_workflow {chain}        id derived from the trace id
    └── invoke_agent {agent}       id derived from trace, agent and session
        ├── chat {model}           one a call, retries included
        └── execute_tool {name}    from the tool result's first appearance

The trace id is derived from the chain, the ids of its root and agents from the trace id
(`clawmw.observe.spans.ids`). A call's span names its parent without having seen it, so threads
and processes that pass no context still write one tree. Where a caller does pass one (the
application's current span; `traceparent` of a span it samples), the call is that span's child,
and nothing stands in for a root that somebody else has (`clawmw.observe.spans.places`). A call
that another library has a span for adds to that one (`clawmw.observe.spans.foreign`). Three cases
remain:

1. A flow opens root, agents and tools (`chain`, `agent`, `tool`): those spans are real,
   carry the derived ids, and are current, so that whatever the application's own
   instrumentation makes nests in between; a call then goes under the current span.
2. Calls come over the wire only: nobody says when the chain ends, so nobody can write
   its root. The local store's reader infers root and agents from the calls beneath
   (`clawmw.observe.reading.chains`), always with the right extent. Viewers at the end of an export
   cannot, and a trace without a root is invisible in most; so with the first call of a
   chain, and of an agent in it, a stand-in with the derived id is exported, as long as
   that call and marked `clawmw.synthetic`. The store is not given stand-ins.
3. Both at once, in two processes (a flow whose calls pass through the gateway): the
   gateway's stand-in and the flow's span have the same id, and an exported trace shows
   the one the viewer keeps. The tree is the same with either.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link

from clawmw.core.events import CallFinished, CallStarted, Event
from clawmw.core.identity import Identity
from clawmw.observe.base import Ended
from clawmw.observe.sending.counts import Count
from clawmw.observe.sending.ways import Export
from clawmw.observe.spans.attributes import Attributes
from clawmw.observe.spans.capture import Capture
from clawmw.observe.spans.compat import GROUPS
from clawmw.observe.spans.foreign import at_foreign, inference, note, tell
from clawmw.observe.spans.ids import agent_span_id
from clawmw.observe.spans.marks import marks
from clawmw.observe.spans.places import ChainState, adopted, caller_links
from clawmw.observe.spans.plans import Plans, extent
from clawmw.observe.spans.tracing import Plan, Tracers, inside
from clawmw.observe.spans.trees import Trees
from clawmw.observe.spans.under_way import Open, UnderWay
from clawmw.observe.store.recorder import Content, Recorder
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["OtelObserver"]


class OtelObserver(Trees):
    """Turns events into spans; give it to the runtime as an observer.

    Spans go to `tracer_provider`, or else to the application's global provider where one
    is set, and with `store` also to the local span store, whatever the provider samples.
    Where the application has no provider, they go to the collector of `otlp`, if one is named;
    with False for it they are exported by nobody, whatever the application has.
    With `hash_ids`, chain and session ids leave this process as SHA-256 digests only.
    `compat` names the groups of readers that get names of their own (`compat.GROUPS`); with
    `content` the store keeps what is said, too.
    Thread-safe, and never raises. Calling it costs well under 0.1 ms; where content is exported,
    too (`clawmw.observe.spans.capture`), 10 to 60 ms more a megabyte of it, one a value at most.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        *,
        store: SpanStore | None = None,
        otlp: Export | Literal[False] | None = None,
        hash_ids: bool = False,
        compat: Sequence[str] = GROUPS,
        content: Content | None = None,
    ) -> None:
        super().__init__(Tracers(tracer_provider, store, compat, otlp), Plans(hash_ids))
        self._recorder = Recorder(store, content) if store is not None else None
        self._capture = Capture.asked()
        self._calls = UnderWay()

    def __call__(self, event: Event) -> None:
        """Take an event in; the call's spans are made when it is finished."""
        try:
            if self._tracers.active:
                self._take(event)
        except Exception as error:  # noqa: BLE001 an observer never stops a call
            self._trouble(error)

    def ended(self, call: Ended) -> None:
        """Take in a call with its content, before its last event."""
        try:
            if self._recorder is not None:
                self._recorder.ended(call)
            self._capture.take(call, self._tracers)
        except Exception as error:  # noqa: BLE001 as above
            self._trouble(error)

    @property
    def stored(self) -> bool:
        """Whether a local store keeps the spans."""
        return self._tracers.stored

    def counts(self) -> tuple[Count, ...]:
        """Spans handed over, delivered and lost; not those the application itself exports."""
        return self._tracers.counts

    def flush(self, seconds: float = 2.0) -> bool:
        """Hand on what waits; False when that was not done within `seconds`."""
        done = threading.Event()

        def work() -> None:
            try:
                written = self._recorder is None or self._recorder.flush(seconds)
                if self._tracers.flush(seconds) and written:
                    done.set()
            except Exception as error:  # noqa: BLE001 as above
                self._trouble(error)

        threading.Thread(target=work, name="clawmw-flush", daemon=True).start()
        return done.wait(seconds)

    def close(self) -> None:
        """Hand on what waits, and close the store; also done when the process ends."""
        if self._recorder is not None:
            self._recorder.close()
        self._tracers.close()

    # --- events ----------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if isinstance(event, CallFinished):
            self._finished(self._calls.over(event.exchange), event)
            return
        entry = self._calls.of(event.exchange)
        entry.call.add(event)
        if isinstance(event, CallStarted):
            current = trace.get_current_span()
            under = current.get_span_context()
            entry.under = under if under.is_valid else None
            entry.foreign = inference(current)

    def _finished(self, entry: Open, event: CallFinished) -> None:
        call, identity = entry.call, event.identity
        when = extent(call.started.time if call.started else None, event.time)
        chain = self._chain(identity)
        with self._lock:
            chain.calls += 1
            sequence = chain.calls
        parent, links = self._parent(chain, identity, entry, when)
        plan = self._plans.chat(call, event, parent, sequence)
        with self._lock:
            joined, values = chain.joins(identity)
        plan.attributes.update(values)
        write = self._tracers.record
        if entry.foreign is not None:
            same = at_foreign(plan, entry.foreign, chain.trace)
            plan, write = same or plan, write if same else self._tracers.keep
        for tool in call.tools:
            if not self._timed(chain, tool.call_id):
                told = self._plans.returned(identity, tool, parent)
                write(told, extent(None, tool.time)[1])
        plan.links = (*links, *joined)
        self._write(entry, plan, event, when[1])
        self._mirror(chain, identity, plan.attributes)

    def _write(self, entry: Open, plan: Plan, event: CallFinished, end: int) -> None:
        """One call's span, or what is known of it onto the one it has."""
        failed = event.status in ("failed", "halted")
        how: Any = {"error": failed, "marks": tuple(marks(entry.call))}
        if entry.foreign is None:
            self._capture.record(self._tracers, plan, event.exchange, end, how)
            return
        self._tracers.keep(plan, end, **how)
        if not tell(entry.foreign, plan.attributes, how["marks"]):
            self._tracers.export(note(plan, entry.foreign), end, **how)

    def _timed(self, chain: ChainState, call_id: str) -> bool:
        """Whether a flow made this tool call's span itself; asked once a call."""
        if not chain.tools:
            return False
        with self._lock:
            timed = chain.tools.get(call_id, 0)
            if timed:
                chain.tools[call_id] = timed - 1
        return timed > 0

    def _mirror(self, chain: ChainState, identity: Identity, values: Attributes) -> None:
        """Say on the open agent and root that a guard stopped a call beneath them."""
        said: Attributes = {
            name: True for name in ("clawmw.stopped", "clawmw.loop.capped") if values.get(name)
        }
        if said:
            key = (identity.agent, identity.session)
            with self._lock:
                running = [s for s in chain.running if s.agent in (None, key)]
            for started in running:
                started.set(said)

    # --- the tree --------------------------------------------------------------------

    def _parent(
        self, chain: ChainState, identity: Identity, entry: Open, when: tuple[int, int]
    ) -> tuple[Context, Sequence[Link]]:
        """Where a call's span goes, and the span in another trace that it was made in."""
        at = adopted(chain, identity, entry.under)
        if at is not None:
            with self._lock:
                chain.adopt(at)
            return at, ()
        links = caller_links(chain, identity, entry.under)
        key = (identity.agent, identity.session)
        parent = inside(chain.trace, agent_span_id(chain.trace, *key), chain.flags)
        with self._lock:
            known = chain.agents.get(key)
            if known is None and entry.foreign is None:
                self._know(chain, key, parent)
                rooted, chain.rooted = chain.rooted, True
        if known is not None or entry.foreign is not None:
            return known or parent, links
        if not rooted:
            self._stand_in(chain, identity, None, when)
        self._stand_in(chain, identity, key, when)
        return parent, links

    def _stand_in(
        self,
        chain: ChainState,
        identity: Identity,
        key: tuple[str, str] | None,
        when: tuple[int, int],
    ) -> None:
        """Export a root, or an agent's span, that nobody else will write; see the module."""
        if key is None:
            plan = self._plans.root(identity, None, None, when[0])
        else:
            above = chain.above or inside(chain.trace, chain.root, chain.flags)
            plan = self._plans.agent(identity, identity.agent, above, when[0])
            plan = replace(plan, span_id=agent_span_id(chain.trace, *key))
        plan.attributes["clawmw.synthetic"] = True
        self._tracers.export(plan, when[1])
