"""Starting and ending spans with given ids, for several readers at once.

Where the application has a tracer provider of its own, a span is exported by it, under its
sampler, and by nothing else. The local store keeps every chain whatever that sampler says, so its
spans are made apart, as plain values: a fifth of the time a recording span takes. The store's
processor is never added to the application's provider: there it would see the spans of the whole
application, which may hold content, and none of the unsampled ones.

Where it has none, and a collector is named, the same plain values go there (`ways.Remote`). No
provider is installed for that: the application may still set its own, which is used from then on.
"""

from __future__ import annotations

import atexit
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from clawmw.observe.sending.counts import Count
from clawmw.observe.sending.ways import Export, Local, Remote, counted
from clawmw.observe.spans.attributes import Attributes, Mark
from clawmw.observe.spans.compat import GROUPS, duplicate
from clawmw.observe.store.exporter import SCOPE
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["Plan", "Started", "Tracers", "inside"]

_AT_EXIT = 2.0
"""Seconds a process that ends waits for what is not written or sent yet."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_FAILED, _UNSET = Status(StatusCode.ERROR), Status(StatusCode.UNSET)
_NO_RESOURCE = Resource({})
_SCOPE = InstrumentationScope(SCOPE)


@dataclass(slots=True)
class Plan:
    """A span to be started. Not frozen: a frozen one takes three times as long to make."""

    name: str
    kind: SpanKind
    attributes: Attributes
    parent: Context
    start: int
    """Nanoseconds since the epoch."""
    span_id: int | None = None
    """None: a random one."""
    trace_id: int | None = None
    """Only for a span without a parent."""
    links: Sequence[Link] = ()
    content: Attributes | None = None
    """What was said, where it was asked for: for exports, never for the local store."""


@dataclass(slots=True)
class Started:
    """A running span."""

    plan: Plan
    exported: trace.Span | None
    context: SpanContext
    above: SpanContext | None = None
    """Its parent."""
    agent: tuple[str, str] | None = None
    """(agent, session) of an agent's span; None on a root."""

    @property
    def current(self) -> trace.Span:
        """The span to make current: it carries the exported trace's sampling decision."""
        return self.exported or trace.NonRecordingSpan(self.context)

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""
        self.plan.attributes.update(attributes)
        if self.exported is not None:
            self.exported.set_attributes(attributes)


class _Ids(IdGenerator):
    """Gives the ids asked for by this thread's `Tracers.start`, else those of `inner`."""

    def __init__(self, inner: IdGenerator) -> None:
        self._inner = inner
        self._wanted = threading.local()

    def want(self, trace_id: int | None, span_id: int | None) -> None:
        """Set, or with None clear, the ids of this thread's next span."""
        self._wanted.trace, self._wanted.span = trace_id, span_id

    def generate_span_id(self) -> int:
        return getattr(self._wanted, "span", None) or self._inner.generate_span_id()

    def generate_trace_id(self) -> int:
        return getattr(self._wanted, "trace", None) or self._inner.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        if getattr(self._wanted, "trace", None):
            return False
        return bool(getattr(self._inner, "is_trace_id_random", lambda: False)())


class Tracers:
    """Where spans go: the application's provider or else a collector, the local store, nowhere.

    `otlp` None: no collector; False: not to the application's provider either.
    """

    def __init__(
        self,
        given: trace.TracerProvider | None,
        store: SpanStore | None,
        compat: Sequence[str],
        otlp: Export | Literal[False] | None = None,
    ) -> None:
        unknown = sorted(set(compat) - set(GROUPS))
        if unknown:
            raise ValueError(f"no such compat group: {unknown[0]}; there are {', '.join(GROUPS)}")
        self._given = given
        self._exports = otlp is not False
        self._compat = tuple(compat)
        self._provider: trace.TracerProvider | None = None
        self._tracer: trace.Tracer | None = None
        self._remote = Remote(otlp, self._compat) if otlp else None
        self._local: Local | None = None
        if store is not None:
            self._local = Local(store)
            if self._remote is not None:
                self._local.others = (self._remote.counts,)
        if self._local is not None or self._remote is not None:
            atexit.register(self.close)

    @property
    def exporting(self) -> trace.Tracer | None:
        """The tracer of the provider given, else of the global one once that is set."""
        provider = self._given or trace.get_tracer_provider()
        if provider is not self._provider:
            nothing = isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider)
            nothing = nothing or not self._exports
            self._tracer = None if nothing else _with_ids(provider)
            self._provider = provider
        return self._tracer

    def look(self) -> None:
        """See whether the application has set its provider; once a call, not once a span."""
        _ = self.exporting

    @property
    def exports(self) -> bool:
        """Whether spans leave this process."""
        return self._remote is not None or self.exporting is not None

    @property
    def active(self) -> bool:
        """Whether anybody reads the spans."""
        return self._local is not None or self._remote is not None or self.exporting is not None

    @property
    def stored(self) -> bool:
        """Whether a local store keeps the spans."""
        return self._local is not None

    @property
    def counts(self) -> tuple[Count, ...]:
        """What became of the spans, by destination; not of those the application exports."""
        return counted(self._local, self._remote)

    def flags(self, root: Plan) -> TraceFlags:
        """The exporter's sampling decision for a whole chain, as its remote parents carry it.

        Asked as for a root span, so that a parent-based sampler with a ratio keeps or
        drops a chain in every process alike.
        """
        sampler = getattr(self.exporting or self._remote, "sampler", None)
        if sampler is None:
            return _SAMPLED
        result = sampler.should_sample(
            Context(), root.trace_id, root.name, root.kind, root.attributes, root.links
        )
        return TraceFlags(int(result.decision.is_sampled()))

    def start(self, plan: Plan) -> Started:
        """Start a span for every reader."""
        if self._tracer is None:
            return self._planned(plan)
        exported = self._start(self._tracer, plan)
        return Started(plan, exported, exported.get_span_context(), _above(plan))

    def _planned(self, plan: Plan) -> Started:
        above = _above(plan)
        context = SpanContext(
            above.trace_id if above is not None else plan.trace_id or 0,
            plan.span_id or random.getrandbits(64) or 1,
            False,
            above.trace_flags if above is not None else self.flags(plan),
        )
        return Started(plan, None, context, above)

    def export(
        self, plan: Plan, end: int, *, error: bool = False, marks: Sequence[Mark] = ()
    ) -> None:
        """A whole span that the local store does not need."""
        if self._tracer is not None:
            _end(self._start(self._tracer, plan), end, error, marks)
        elif self._remote is not None:
            started = self._planned(plan)
            sampled = started.context.trace_flags.sampled
            self._remote.put(_value(started, end, error, marks), sampled=sampled)

    def keep(
        self, plan: Plan, end: int, *, error: bool = False, marks: Sequence[Mark] = ()
    ) -> None:
        """A whole span that only the local store needs."""
        if self._local is not None:
            self._local.put(_value(self._planned(plan), end, error, marks))

    def end(
        self, started: Started, end: int, *, error: bool = False, marks: Sequence[Mark] = ()
    ) -> None:
        """End a span at `end` nanoseconds since the epoch; it reaches its readers later.

        The status has no description: it could only be a message.
        """
        if started.exported is not None:
            _end(started.exported, end, error, marks)
        remote = self._remote if started.exported is None else None
        if self._local is None and remote is None:
            return
        value = _value(started, end, error, marks)
        if self._local is not None:
            self._local.put(value)
        if remote is not None:
            if started.plan.content:
                more = {**started.plan.attributes, **started.plan.content}
                told = replace(started, plan=replace(started.plan, attributes=more))
                value = _value(told, end, error, marks)
            remote.put(value, sampled=started.context.trace_flags.sampled)

    def record(
        self, plan: Plan, end: int, *, error: bool = False, marks: Sequence[Mark] = ()
    ) -> None:
        """A whole span, from its start to its end."""
        self.end(self.start(plan), end, error=error, marks=marks)

    def flush(self, seconds: float = _AT_EXIT) -> bool:
        """Write and send what waits. The application's provider may take longer than that."""
        end = time.monotonic() + seconds
        done = self._local is None or self._local.flush(seconds)
        if self._remote is not None:
            done = self._remote.flush(max(end - time.monotonic(), 0.0)) and done
        flush = getattr(self._provider, "force_flush", None)
        if flush is not None:
            flush()
        return done

    def close(self) -> None:
        """Write and send what waits, in two seconds at most, and let go of the store.

        The application's provider stays.
        """
        atexit.unregister(self.close)
        end = time.monotonic() + _AT_EXIT
        if self._local is not None:
            self._local.flush(_AT_EXIT / 2)
        if self._remote is not None:
            self._remote.close(max(end - time.monotonic(), 0.0))
        if self._local is not None:
            self._local.close(max(end - time.monotonic(), 0.1))

    def _start(self, tracer: trace.Tracer, plan: Plan) -> trace.Span:
        ids = tracer.id_generator if isinstance(tracer, SdkTracer) else None
        wanted = ids if isinstance(ids, _Ids) else None
        if wanted is not None:
            wanted.want(plan.trace_id, plan.span_id)
        try:
            return tracer.start_span(
                plan.name,
                context=plan.parent,
                kind=plan.kind,
                attributes={
                    **duplicate(dict(plan.attributes), self._compat),
                    **(plan.content or {}),
                },
                links=plan.links,
                start_time=plan.start,
            )
        finally:
            if wanted is not None:
                wanted.want(None, None)


def _above(plan: Plan) -> SpanContext | None:
    found = trace.get_current_span(plan.parent).get_span_context()
    return found if found.is_valid else None


def _end(span: trace.Span, end: int, error: bool, marks: Sequence[Mark]) -> None:
    for name, when, attributes in marks:
        span.add_event(name, attributes, when)
    if error:
        span.set_status(_FAILED)
    span.end(end)


def _value(started: Started, end: int, error: bool, marks: Sequence[Mark]) -> ReadableSpan:
    """A span as a plain value, without the names only exports need."""
    plan = started.plan
    return ReadableSpan(
        plan.name,
        started.context,
        started.above,
        _NO_RESOURCE,
        plan.attributes,
        [Event(name, attributes, when) for name, when, attributes in marks],
        plan.links,
        plan.kind,
        status=_FAILED if error else _UNSET,
        start_time=plan.start,
        end_time=end,
        instrumentation_scope=_SCOPE,
    )


def inside(trace_id: int, span_id: int, flags: TraceFlags) -> Context:
    """A context whose current span is one that lives elsewhere."""
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(context), Context())


def _with_ids(provider: trace.TracerProvider) -> trace.Tracer:
    """Our tracer of a provider, able to give ids; a foreign one gives its own."""
    tracer = provider.get_tracer(SCOPE)
    if isinstance(tracer, SdkTracer) and not isinstance(tracer.id_generator, _Ids):
        tracer.id_generator = _Ids(tracer.id_generator)
    return tracer
