"""Content on exported spans and events, where OpenTelemetry's standard variable asks for it.

`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` is NO_CONTENT (the default), SPAN_ONLY,
EVENT_ONLY or SPAN_AND_EVENT; of the older values `true` means the last, `false` the first. What was
sent and what came back then goes out as the GenAI conventions have it, without configured secrets,
each text cut before it becomes JSON. The local store is never given any of it.

Events need a logger provider of the application's own; without one, EVENT_ONLY gives nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from opentelemetry import _logs as otel_logs
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from clawmw.core.redact import Redactor
from clawmw.core.types import Json, Response, Role
from clawmw.observe.base import Ended
from clawmw.observe.spans.attributes import Attributes
from clawmw.observe.spans.content import Writer, dumped
from clawmw.observe.spans.tracing import Plan, Tracers

__all__ = ["VARIABLE", "Capture"]

T = TypeVar("T")

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_LIMITS = ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")
_EVENT = "gen_ai.client.inference.operation.details"
_MODES: Mapping[str, tuple[bool, bool]] = {
    "": (False, False),
    "NO_CONTENT": (False, False),
    "FALSE": (False, False),
    "SPAN_ONLY": (True, False),
    "EVENT_ONLY": (False, True),
    "SPAN_AND_EVENT": (True, True),
    "TRUE": (True, True),
}
"""Whether spans carry it, and whether events do."""
_SHORTER = (64_000, 4_000, 500, 64)
"""Bytes of one message: at most the first; the others where room is short."""
_MOST = 1_000_000
"""Characters of one attribute: of more messages, the newest."""
_CALLS = 256
"""Calls whose content may wait for their last event, which comes right after it."""

_log = logging.getLogger(__name__)


class Capture:
    """Holds a call's content until its span is written. Safe to use from several threads."""

    def __init__(self, *, spans: bool, events: bool, most: int = _MOST) -> None:
        self.spans, self.events = spans, events
        self._wanted = spans or events
        self._most = most
        self._lock = threading.Lock()
        self._calls: OrderedDict[str, Ended] = OrderedDict()

    @classmethod
    def asked(cls, environment: Mapping[str, str] = os.environ) -> Capture:
        """What the environment asks for. A value that is no mode is said, and means none."""
        value = environment.get(VARIABLE, "").strip()
        mode = _MODES.get(value.upper())
        if mode is None:
            _log.warning("%s is %r, which is no mode: no content is captured", VARIABLE, value[:40])
            mode = (False, False)
        return cls(spans=mode[0], events=mode[1], most=_most(environment))

    def take(self, call: Ended, tracers: Tracers) -> None:
        """Hold a call that is over, where its content is wanted and somebody exports it."""
        if not (self._wanted and tracers.exports):
            return
        with self._lock:
            self._calls[call.exchange] = call
            if len(self._calls) > _CALLS:
                self._calls.popitem(last=False)

    def record(
        self, tracers: Tracers, plan: Plan, exchange: str, end: int, how: Mapping[str, Any]
    ) -> None:
        """A call's whole span, with what was said in it; the call is let go of."""
        if not self._wanted:
            tracers.record(plan, end, **how)
            return
        with self._lock:
            call = self._calls.pop(exchange, None)
        content = self._attributes(call) if call is not None else {}
        if self.spans and content:
            plan = replace(plan, content=content)
        started = tracers.start(plan)
        tracers.end(started, end, **how)
        if self.events and content:
            self._emit(content, plan.attributes, started.context, end)

    def _emit(self, content: Attributes, facts: Attributes, span: SpanContext, when: int) -> None:
        """Give the application's logger provider the content as an event, in the span's context."""
        provider = otel_logs.get_logger_provider()
        if isinstance(provider, otel_logs.NoOpLoggerProvider):
            return
        told = {key: value for key, value in facts.items() if key.startswith("gen_ai.")}
        record = otel_logs.LogRecord(
            timestamp=when,
            context=trace.set_span_in_context(trace.NonRecordingSpan(span), Context()),
            event_name=_EVENT,
            attributes={**told, **content},
        )
        provider.get_logger("clawmw").emit(record)

    def _attributes(self, call: Ended) -> Attributes:
        """What was sent and what came back; nothing was sent where a call was stopped before."""
        result = call.result
        found: Attributes = {}

        def add(name: str, items: Sequence[T], write: Callable[[Writer, T], list[Json]]) -> None:
            text = _fitting(items, write, call.redactor, self._most)
            if text:
                found[name] = text

        if result.finished.attempts:
            sent = result.request
            system = [m for m in sent.messages if m.role is Role.SYSTEM]
            others = [m for m in sent.messages if m.role is not Role.SYSTEM]
            add("gen_ai.system_instructions", system, Writer.instructions)
            add("gen_ai.input.messages", others, lambda writer, m: [writer.message(m)])
            add("gen_ai.tool.definitions", sent.tools, lambda writer, t: [writer.definition(t)])
        if isinstance(result.outcome, Response):
            add("gen_ai.output.messages", [result.outcome], Writer.output)
        return found


def _most(environment: Mapping[str, str]) -> int:
    """The length that the SDK would cut a value at, in the middle of its JSON."""
    for name in _LIMITS:
        with suppress(ValueError):
            return min(max(int(environment.get(name, "")), 0), _MOST)
    return _MOST


def _fitting(
    items: Sequence[T],
    write: Callable[[Writer, T], list[Json]],
    redactor: Redactor,
    most: int,
) -> str:
    """A JSON list of at most `most` characters, filled from the newest item back.

    What does not fit is written with shorter texts, as is all that is older; once not even that
    fits, what is left is not looked at: the caller waits for this.
    """
    writers = [Writer(redactor, longest) for longest in _SHORTER]
    texts: list[str] = []
    room = most - 2
    for item in reversed(items):
        text = dumped(write(writers[0], item))[1:-1]
        while len(text) > room and len(writers) > 1:
            del writers[0]
            text = dumped(write(writers[0], item))[1:-1]
        if len(text) > room:
            break
        if text:
            texts.append(text)
            room -= len(text) + 1
    return f"[{','.join(reversed(texts))}]" if texts else ""
