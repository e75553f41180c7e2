"""What events measure: the same whoever reads it, bounded, and never made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.core.events import BreakerTurned, CallFinished, Event, Waited
from clawmw.core.identity import Identity
from clawmw.core.types import Usage
from clawmw.observe.metrics.instruments import INSTRUMENTS
from tests.observe.calls import EPOCH, Says, halted

pytest.importorskip("prometheus_client", reason="metrics need prometheus-client")
from tests.observe.measured import Both, everything, stories

DURATION = "gen_ai_client_inference_duration_seconds"
GOLDEN = Path(__file__).parent / "golden" / "metrics.txt"


def test_every_instrument_is_reached_and_none_has_another_name() -> None:
    both = Both()
    both.tell(everything())
    otel, scraped = both.by_otel(), both.by_prometheus()
    lines = []
    for metric in sorted(both.metrics(), key=lambda m: m.name):
        keys = {key for point in metric.data.data_points for key in point.attributes}
        kind = type(metric.data).__name__.lower()
        if kind == "sum" and not metric.data.is_monotonic:
            kind = "up-down sum"
        lines.append(f"{metric.name} ({kind}, {metric.unit}) {', '.join(sorted(keys))}".rstrip())
    names: dict[str, set[str]] = {}
    for name, labels in scraped:
        names.setdefault(name, set()).update(key for key, _ in labels)
    lines += [f"{name} {', '.join(sorted(keys))}".rstrip() for name, keys in sorted(names.items())]
    assert "\n".join(lines) + "\n" == GOLDEN.read_text()
    assert {metric.name for metric in both.metrics()} == {row.name for row in INSTRUMENTS}
    assert len({name for name, _ in otel}) == len(INSTRUMENTS)


def test_buckets_are_those_of_the_conventions() -> None:
    both = Both()
    both.tell(everything())
    bounds = {
        metric.name: metric.data.data_points[0].explicit_bounds
        for metric in both.metrics()
        if type(metric.data).__name__ == "Histogram"
    }
    seconds = tuple(0.01 * 2**n for n in range(14))
    assert bounds["gen_ai.client.inference.duration"] == pytest.approx(seconds)
    assert bounds["gen_ai.client.operation.duration"] == pytest.approx(seconds)
    assert bounds["gen_ai.client.token.usage"] == tuple(4**n for n in range(14))
    assert bounds["clawmw.queue.wait"][0] == 0.05


@given(st.lists(stories, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_both_backends_say_the_same(calls: list[Says]) -> None:
    both = Both()
    both.tell(event for call in calls for event in call.events())
    otel, scraped = both.by_otel(), both.by_prometheus()
    missing = tuple(row.stem for row in INSTRUMENTS if not row.scraped)
    both_have = {series for series in otel if not series[0].startswith(missing)}
    assert {series: otel[series] for series in both_have} == pytest.approx(
        {series: scraped.get(series) for series in both_have}
    )
    rest = {series: value for series, value in scraped.items() if series not in both_have}
    rest.pop(("clawmw_cache_hit_ratio", ()))
    assert set(rest.values()) <= {0}, "what Prometheus shows before anything happened"


@given(st.lists(stories, max_size=6))
@settings(max_examples=40, deadline=None)
def test_what_mechanisms_saved_is_what_was_saved(calls: list[Says]) -> None:
    both = Both()
    both.tell(event for call in calls for event in call.events())
    found = both.by_otel()

    def of(name: str) -> float:
        return sum(value for (series, _), value in found.items() if series == name)

    saved, overspent = of("clawmw_saved_usd_total"), of("clawmw_overspent_usd_total")
    assert of("clawmw_saved_by_mechanism_usd_total") == pytest.approx(saved, abs=1e-7)
    assert of("clawmw_agent_saved_usd_total") == pytest.approx(saved)
    known = [(c.cost, c.baseline) for c in calls if c.cost is not None and c.baseline is not None]
    net = sum(baseline.total - cost.total for cost, baseline in known) / 1e9
    assert saved - overspent == pytest.approx(net)


def test_labels_are_bounded_whoever_asks() -> None:
    both = Both()
    for number in range(100):
        says = Says(model=f"model-{number}", identity=Identity(agent=f"agent-{number}"))
        both.tell(says.events())
    for found in (both.by_otel(), both.by_prometheus()):
        models = [labels for name, labels in found if name == "clawmw_cost_usd_total"]
        assert len(models) == 65
        assert (("model", "other"),) in models
        agents = [labels for name, labels in found if name == "clawmw_agent_cost_usd_total"]
        assert len(agents) == 65
        assert len([name for name, _ in found if name == DURATION]) == 65


def test_no_label_holds_an_id() -> None:
    both = Both()
    both.tell(everything())
    pages = (both.by_otel(), both.by_prometheus())
    said = {value for page in pages for _, labels in page for _, value in labels}
    assert not said & {"trip-7", "s1"}
    assert not [value for value in said if value.startswith("x")]


def test_a_name_that_no_page_can_hold_breaks_none() -> None:
    both = Both()
    both.tell(Says(model='gpt\ud800"\n', identity=Identity(agent="\udfff")).events())
    both.tell(Says(model="m" * 1_000_000).events())
    assert ("clawmw_agent_calls_total", (("agent", "?"), ("status", "ok"))) in both.by_prometheus()
    assert len(both.prometheus.text()) < 50_000
    assert both.by_otel()


def test_unknown_is_not_zero_and_an_estimate_is_not_the_providers_count() -> None:
    both = Both()
    guess = Usage(900, 30, 0, None, None, basis="estimated")
    both.tell(Says(usage=guess, cost=None, baseline=None).events())
    names = {name for name, _ in both.by_otel()}
    assert not any(name.startswith("gen_ai_client_inference_usage") for name in names)
    assert "clawmw_cost_usd_total" not in names
    assert "clawmw_saved_usd_total" not in names
    both.tell(Says(usage=Usage(900, 30, 0, None, None)).events())
    names = {name for name, _ in both.by_otel()}
    assert "gen_ai_client_inference_usage_cache_read_input_tokens_total" in names, "0 is known"
    assert "gen_ai_client_inference_usage_cache_write_input_tokens_total" not in names


def test_a_refused_call_is_no_inference_and_a_failed_one_says_why() -> None:
    both = Both()
    both.tell(halted().events())
    assert not [name for name, _ in both.by_otel() if name.startswith("gen_ai")]
    failed = Says(status="failed", usage=None, attempts=((0.1, 429, "status"),), error="status")
    both.tell(failed.events())
    series = [labels for name, labels in both.by_otel() if name == DURATION]
    assert ("error_type", "429") in series[0]


def test_waits_are_not_time_in_clawmw_and_in_flight_comes_back_to_zero() -> None:
    both = Both()
    events = Says(trouble=[Waited("", EPOCH, "gpt-4o", "chain", 3.0)]).events()
    both.tell(replace(e, overhead=3.002) if isinstance(e, CallFinished) else e for e in events)
    page = both.prometheus.text().decode()
    assert 'clawmw_added_seconds_bucket{le="0.004"} 1.0' in page
    assert both.by_otel()["clawmw_in_flight", ()] == 0
    lost: list[Event] = [events[-1], BreakerTurned("y", EPOCH, "m", "closed")]
    both.tell(lost)  # an end without a beginning
    assert both.by_otel()["clawmw_in_flight", ()] == 0


def test_calls_that_never_end_are_forgotten() -> None:
    both = Both()
    started = Says().events()[0]
    both.tell(replace(started, exchange=f"x{number}") for number in range(4_100))
    assert both.by_prometheus()["clawmw_in_flight", ()] == 4_096
    assert both.by_otel()["clawmw_in_flight", ()] == 4_096


def test_lost_spans_are_told_once_and_from_zero_on() -> None:
    both = Both()
    lost = {("store", "refused"): 0}
    both.prometheus.watch(lambda: lost)
    both.otel.watch(lambda: lost)
    series = ("clawmw_spans_lost_total", (("destination", "store"), ("reason", "refused")))
    both.tell(Says().events())
    assert both.by_prometheus()[series] == both.by_otel()[series] == 0
    lost["store", "refused"] = 5
    assert [both.by_prometheus()[series] for _ in range(2)] == [5, 5]
    assert [both.by_otel()[series] for _ in range(2)] == [5, 5]
