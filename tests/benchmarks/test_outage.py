"""The outage benchmark, in small."""

from __future__ import annotations

from benchmarks import outage


def test_an_outage_is_not_met_with_a_storm_and_is_soon_over() -> None:
    """R4: through the engine, the stages and traffic, in virtual time."""
    found = outage.figures(outage.clawmw(), rate=40, outage=12)
    assert all(outage.targets(found).values()), found
