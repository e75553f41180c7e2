"""The instruments: what is measured of model calls, by name, unit, labels and buckets.

One table for every backend. `gen_ai.*` follow the OpenTelemetry GenAI conventions: the names of
`semantic-conventions-genai`, and those up to v1.41, which most readers still look for. What they
have no word for is under `clawmw.*`.

The name in Prometheus is the one that OpenTelemetry's rules make of it, so that a dashboard reads
what was scraped and what came by OTLP alike: `clawmw.cost.usd` is `clawmw_cost_usd_total`. For the
same reason our own labels are plain words, and a currency stands in the name: as a unit it would be
added once more.

No label holds the id of a chain, a session or a call: they would grow without end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BY_NAME", "INSTRUMENTS", "Instrument", "Kind"]

Kind = Literal["counter", "updown", "gauge", "histogram"]

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The conventions' boundaries for durations of a model call."""
TOKENS = tuple(float(4**power) for power in range(14))
"""Theirs for tokens: 1 to 67,108,864."""
ADDED = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 1.0)
QUEUED = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

_SUFFIXES = {"s": "_seconds"}
"""What a unit adds to a name in Prometheus; units in braces are notes and add nothing."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the table."""

    name: str
    kind: Kind
    unit: str
    """By UCUM."""
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    scraped: bool = True
    """Whether /metrics has it, too; not where another instrument there says the same."""
    old: bool = False
    """It has the name of the conventions up to v1.41, beside the present one."""

    @property
    def stem(self) -> str:
        """Its name in Prometheus, without the ending that its kind adds."""
        return self.name.replace(".", "_") + _SUFFIXES.get(self.unit, "")

    @property
    def scraped_labels(self) -> tuple[str, ...]:
        """Its labels in Prometheus."""
        return tuple(label.replace(".", "_") for label in self.labels)

    @property
    def money(self) -> bool:
        """Whether it counts USD: all else that is counted is whole."""
        return self.unit == "{USD}"

    def attributes(self, values: tuple[str, ...]) -> dict[str, str]:
        """Its labels with their values; what has none is left out."""
        return {key: text for key, text in zip(self.labels, values, strict=True) if text}


_CALL = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
)
_ENDED = (*_CALL, "error.type")
_MODAL = (*_CALL, "gen_ai.token.modality")
_SAID = "Model calls, from asking to the end of the answer, retries included."
_FIRST = "Time to the first part of a streamed answer."


def _gen_ai() -> tuple[Instrument, ...]:
    now, then = "gen_ai.client.inference", "gen_ai.client.operation"
    rows = [
        Instrument(f"{now}.duration", "histogram", "s", _SAID, _ENDED, SECONDS),
        Instrument(f"{now}.time_to_first_chunk", "histogram", "s", _FIRST, _CALL, SECONDS),
        _old(f"{then}.duration", "s", _SAID, _ENDED, SECONDS),
        _old(f"{then}.time_to_first_chunk", "s", _FIRST, _CALL, SECONDS),
        _old(
            "gen_ai.client.token.usage",
            "{token}",
            "Input and output tokens of a call, by the provider's count.",
            (*_CALL, "gen_ai.token.type"),
            TOKENS,
        ),
    ]
    for name, about in (
        ("input_tokens", "Input tokens, cached ones included, by the provider's count."),
        ("output_tokens", "Output tokens, reasoning included, by the provider's count."),
        ("cache_read.input_tokens", "Of the input tokens, those read from the provider's cache."),
        ("cache_write.input_tokens", "Of the input tokens, those written to it."),
        ("reasoning.output_tokens", "Of the output tokens, those the model thought with."),
    ):
        whole = f"{now}.usage.{name}"
        rows.append(Instrument(whole, "counter", "{token}", about, _MODAL, scraped=False))
    return tuple(rows)


def _old(
    name: str, unit: str, about: str, labels: tuple[str, ...], buckets: tuple[float, ...]
) -> Instrument:
    return Instrument(name, "histogram", unit, about, labels, buckets, scraped=False, old=True)


def _counter(name: str, unit: str, about: str, *labels: str) -> Instrument:
    return Instrument(f"clawmw.{name}", "counter", f"{{{unit}}}", about, labels)


_CALLS = (
    _counter("calls", "call", "Model calls that ended.", "dialect", "model", "status"),
    Instrument("clawmw.in_flight", "updown", "{call}", "Model calls under way."),
    Instrument(
        "clawmw.added",
        "histogram",
        "s",
        "Time spent in clawmw itself, waits left out.",
        (),
        ADDED,
    ),
    _counter("attempts", "request", "Requests to models, by how they ended.", "model", "result"),
    _counter("retries", "request", "Requests after the first of a call.", "model"),
    _counter(
        "fallbacks",
        "call",
        "Calls that another model took over, because the one asked for could not.",
        "asked",
        "model",
    ),
    _counter("routed", "call", "Calls sent to another model by rule.", "asked", "model"),
    _counter("agent.calls", "call", "Model calls that ended, by agent.", "agent", "status"),
    _counter("unread_bodies", "body", "Bodies that passed unread, but guarded.", "dialect"),
)

_MONEY = (
    _counter("tokens", "token", "Tokens by the provider's count, else estimated.", "model", "kind"),
    _counter("cost.usd", "USD", "What calls cost, by the price table.", "model"),
    _counter(
        "cost.assumed.usd",
        "USD",
        "What was charged to budgets for answers that broke without saying what they used.",
    ),
    _counter(
        "cost.baseline.usd",
        "USD",
        "What the same calls would have cost without clawmw, native caching included (estimated).",
        "model",
    ),
    _counter(
        "cost.uncached.usd",
        "USD",
        "What the same tokens cost at a provider that caches nothing.",
        "model",
    ),
    _counter(
        "saved.usd",
        "USD",
        "What calls would have cost more without clawmw, native caching included (estimated).",
        "model",
    ),
    _counter(
        "overspent.usd",
        "USD",
        "What calls cost more with clawmw than without (estimated); saved less this is the net.",
        "model",
    ),
    _counter("saved.tokens", "token", "Tokens not sent (estimated)."),
    _counter(
        "saved.by_mechanism.tokens",
        "token",
        "Tokens not sent, by what left them out (estimated).",
        "mechanism",
    ),
    _counter(
        "saved.by_mechanism.usd",
        "USD",
        "What was saved, by what saved it (estimated); together it is what was saved.",
        "mechanism",
    ),
    _counter("agent.cost.usd", "USD", "What calls cost, by agent.", "agent"),
    _counter("agent.saved.usd", "USD", "What was saved (estimated), by agent.", "agent"),
)

_CACHE = (
    _counter(
        "cache.misses",
        "call",
        "Calls whose prefix was expected in the provider's cache and was not; by what moved.",
        "part",
    ),
    _counter("cache.lost.usd", "USD", "What those would have saved as hits (estimated).", "part"),
    _counter("epochs", "epoch", "Times that sent history was rewritten, by reason.", "reason"),
)

_GUARDS = (
    _counter("refusals", "call", "Calls that a rule stopped.", "rule"),
    _counter("loop.stops", "call", "Calls stopped as part of a loop.", "rule", "detector"),
    _counter(
        "decisions",
        "decision",
        "What rules did, or in observe mode would have done.",
        "rule",
        "action",
        "would",
    ),
    Instrument(
        "clawmw.queue.wait",
        "histogram",
        "s",
        "Waits for a slot, of calls that waited noticeably (50 ms).",
        (),
        QUEUED,
    ),
    Instrument(
        "clawmw.breaker.open",
        "gauge",
        "{breaker}",
        "1 where an upstream's circuit breaker is open (in any process).",
        ("upstream",),
    ),
    _counter("breaker.turns", "turn", "Times that a circuit breaker changed.", "upstream", "state"),
    _counter(
        "budget.near", "limit", "Limits of a budget that were nearly reached.", "scope", "meter"
    ),
    _counter(
        "budget.overdrawn", "call", "Calls that used more than was reserved for them.", "meter"
    ),
)

_TROUBLE = (
    _counter("store.degraded", "failure", "Times that a store could not be used.", "store"),
    _counter("stage.failures", "failure", "Times that a stage raised.", "stage", "closed"),
    _counter("spans.lost", "span", "Spans lost on the way.", "destination", "reason"),
)

INSTRUMENTS: tuple[Instrument, ...] = (
    *_gen_ai(),
    *_CALLS,
    *_MONEY,
    *_CACHE,
    *_GUARDS,
    *_TROUBLE,
)
"""All of them."""

BY_NAME = {row.name: row for row in INSTRUMENTS}
