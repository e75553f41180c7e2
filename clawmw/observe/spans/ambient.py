"""What the application itself traces in this process: its current span, its instrumentation.

Nothing of OpenTelemetry is loaded here: an application that has not loaded it has no span.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from clawmw.core.context import TRACEPARENT, TraceContext
from clawmw.core.identity import HEADERS, Identity

__all__ = ["CALLER", "current", "quiet", "said"]

CALLER = "clawmw.identity"
"""The key of an OpenTelemetry context under which a span of ours says for whom it was opened."""

_HTTP = ("suppress_http_instrumentation",)
_ALL = (*_HTTP, "suppress_instrumentation", "suppress_language_model_instrumentation")
"""Keys by which instrumentation is told to be still: OpenTelemetry's, OpenInference's (the same)
and Traceloop's."""


def current() -> TraceContext | None:
    """The application's current span; None where it has none."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    at = api.get_current_span().get_span_context()
    if not at.is_valid:
        return None
    ids = f"{at.trace_id:032x}", f"{at.span_id:016x}"
    return TraceContext(*ids, at.trace_flags.sampled, at.trace_state.to_header())


def caller() -> Identity | None:
    """For whom the current span of ours was opened: a flow, one of its agents or tools."""
    api = sys.modules.get("opentelemetry.context")
    found = api.get_value(CALLER) if api is not None else None
    return found if isinstance(found, Identity) else None


def said(headers: Mapping[str, str], assumed: Mapping[str, str]) -> Mapping[str, str]:
    """A call's headers, with what this process knows where they say nothing: the flow that is
    running, the span that is current, then what is `assumed` of every call."""
    here = {} if TRACEPARENT in headers else _here()
    return {**assumed, **here, **headers} if assumed or here else headers


def _here() -> dict[str, str]:
    at, who = current(), caller()
    found = at.headers() if at is not None else {}
    if who is not None and who.chain:
        found[HEADERS["chain"]] = who.chain
    return found


@contextmanager
def quiet(*, http_only: bool = False) -> Iterator[None]:
    """While a provider is called: instrumentation below makes no second span of the call, and
    sends no trace context or baggage along. `http_only` where no model's SDK lies below."""
    api: Any = sys.modules.get("opentelemetry.context")
    if api is None:
        yield
        return
    context = api.get_current()
    for name in _HTTP if http_only else _ALL:
        context = api.set_value(name, True, context)
        own = getattr(api, f"_{name.upper()}_KEY", None)  # where it is made anew in each process
        if own is not None:
            context = api.set_value(own, True, context)
    if not http_only:
        context = _within_a_call(api, context)
    token = api.attach(context)
    try:
        yield
    finally:
        api.detach(token)


def _within_a_call(api: Any, context: Any) -> Any:
    """OpenTelemetry's own instrumentation asks no such key: it looks for a model call around it."""
    util = sys.modules.get("opentelemetry.util.genai._inference_invocation")
    key = getattr(util, "CLIENT_INFERENCE_CONTEXT_KEY", None)
    made = getattr(util, "InferenceData", None)
    return api.set_value(key, made(), context) if key and made else context
