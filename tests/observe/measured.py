"""Calls in which everything happens, and what each backend says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families

from clawmw.core.events import (
    Assumed,
    Attempted,
    BodyUnread,
    BreakerTurned,
    BudgetNeared,
    CacheMissed,
    Event,
    Overdrawn,
    Totals,
    Waited,
)
from clawmw.core.identity import Identity
from clawmw.core.money import Cost
from clawmw.core.types import Usage
from clawmw.observe.metrics.otel_metrics import OtelMetrics
from clawmw.observe.metrics.prometheus import Metrics
from tests.observe.calls import EPOCH, Says, degraded, epoch_began, halted, stage_failed

Series = tuple[str, tuple[tuple[str, str], ...]]
Values = dict[Series, float]
"""By name in Prometheus and labels: a sum, or how many values a histogram holds."""


amounts = st.one_of(st.none(), st.integers(0, 10**7))
costs = st.builds(Cost, *[st.integers(0, 10**9)] * 4)
usages = st.builds(Usage, amounts, amounts, amounts, amounts, amounts)
estimates = usages.map(lambda usage: replace(usage, basis="estimated"))
totals = st.builds(
    Totals,
    *[st.integers(0, 10**6)] * 5,
    st.dictionaries(st.sampled_from(["compress.json", "dedupe", "window"]), st.integers(-9, 10**5)),
)
stories = st.builds(
    Says,
    identity=st.sampled_from(["planner", "coder", ""]).map(lambda a: Identity(agent=a)),
    model=st.sampled_from(["gpt-4o", "anthropic/claude-x", ""]),
    asked=st.sampled_from([None, "gpt-4o"]),
    status=st.sampled_from(["ok", "failed", "halted", "answered", "cancelled"]),
    usage=st.one_of(st.none(), usages, estimates),
    cost=st.one_of(st.none(), costs),
    baseline=st.one_of(st.none(), costs),
    totals=totals,
    stream=st.booleans(),
    attempts=st.lists(
        st.sampled_from([(0.5, 200, None), (0.1, 503, "status"), (1.0, None, "timeout")]),
        max_size=3,
    ),
)
"""Calls of all sorts."""


def everything() -> list[Event]:
    """Events that between them reach every instrument."""
    about = "", EPOCH
    trouble: list[Event] = [
        Waited(*about, "gpt-4o", "chain", 3.0),
        BreakerTurned(*about, "gpt-4o", "open"),
        BudgetNeared(*about, "agent", "planner", "2026-11-26", "usd", 100, 81),
        Overdrawn(*about, "usd", 5, 7),
        Assumed(*about, 5_000_000),
        CacheMissed(*about, "gpt-4o", 9_000, 0, "tools", lost=7_000_000),
        BodyUnread(*about, "openai.chat", "signed"),
        stage_failed("compress", "ValueError"),
        degraded("slots", "OSError"),
        epoch_began(),
    ]
    failing = ((0.5, 503, "status"), (2.0, 200, None))
    found = {"detector": "same_result", "count": 16}
    fell_back = [("fallback", "rewrite", "fallback.light", False, {})]
    calls = [
        Says(trouble=trouble, attempts=failing, usage=Usage(12_000, 300, 9_000, 10, 20)),
        Says(stream=True, asked="gpt-4o", acted=[("route", "rewrite", "route.light", True, {})]),
        Says(asked="gpt-4o", acted=fell_back),
        Says(totals=replace(Says().totals, by_mechanism={}), baseline=None),
        Says(baseline=replace(Says().cost, input=0)),  # it cost more than without us
        Says(status="failed", usage=None, attempts=((0.1, 429, "status"),), error="status"),
        replace(halted(), acted=[("loop_guard", "halt", "loop_guard.stop", False, found)]),
    ]
    events = [event for call in calls for event in call.events()]
    return [finished(e) if not isinstance(e, Attempted) else replace(e, first=0.4) for e in events]


def finished(event: Event) -> Event:
    """A call's end with what `Says` leaves out."""
    if type(event).__name__ == "CallFinished":
        return replace(event, uncached=9_000_000)
    return event


class Both:
    """The two backends, shown the same events."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.otel = OtelMetrics(self.provider)
        self.prometheus = Metrics()
        self.otel.watch(lambda: {("otlp", "queue"): 3})
        self.prometheus.watch(lambda: {("otlp", "queue"): 3})

    def tell(self, events: Iterable[Event]) -> None:
        """Show them events."""
        for event in events:
            self.otel(event)
            self.prometheus(event)

    def metrics(self) -> list[Any]:
        """What OpenTelemetry has, as the SDK gives it."""
        data = self.reader.get_metrics_data()
        scopes = data.resource_metrics[0].scope_metrics if data is not None else ()
        return [metric for scope in scopes for metric in scope.metrics]

    def by_otel(self) -> Values:
        """What OpenTelemetry has, by the names of Prometheus."""
        found: Values = {}
        for metric in self.metrics():
            for point in metric.data.data_points:
                value = getattr(point, "value", None)
                name = scraped_name(metric)
                found[name, labels(point.attributes)] = point.count if value is None else value
        return found

    def by_prometheus(self) -> Values:
        """What a scraper reads."""
        return scraped(self.prometheus.text().decode())


def scraped(text: str) -> Values:
    """The samples of a page; of a histogram, how many values it holds."""
    found: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if family.type != "histogram":
                if sample.name.endswith("_created"):
                    continue
                found[sample.name, labels(sample.labels)] = sample.value
            elif sample.name.endswith("_count"):
                found[family.name, labels(sample.labels)] = sample.value
    return found


def labels(given: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Labels in the form that both share: what has no value is left out."""
    return tuple(sorted((k.replace(".", "_"), str(v)) for k, v in given.items() if v != ""))


def scraped_name(metric: Any) -> str:
    """A metric's name by OpenTelemetry's rules for Prometheus."""
    name = metric.name.replace(".", "_") + {"s": "_seconds"}.get(metric.unit, "")
    return name + "_total" if getattr(metric.data, "is_monotonic", False) else name
