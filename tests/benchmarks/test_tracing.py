"""The benchmark of traces, in small."""

from __future__ import annotations

from benchmarks.tracing import measured


def test_each_case_is_measured_and_nothing_is_lost() -> None:
    found = measured(2)
    assert list(found) == ["no observer", "store", "store + OTLP", "store + OTLP, sampled"]
    assert found["no observer"]["caller_us"] < found["store"]["caller_us"]
    assert all(times["process_us"] >= times["caller_us"] for times in found.values())
