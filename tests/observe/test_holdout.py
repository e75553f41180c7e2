"""Raw chains beside governed ones: measured, and no more claimed than is known."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from clawmw.observe.page.holdout import holdout
from clawmw.observe.page.render import overview_page, report
from clawmw.observe.reading.listing import Filter
from clawmw.observe.store.spanstore import SpanRow, SpanStore

NOW = 1_790_000_000 * 10**9


def filled(path: Path, raw: int, governed: int, factor: float, spread: float = 0.4) -> SpanStore:
    """Chains whose governed ones cost `factor` of the raw ones."""
    store, dice, rows = SpanStore.open(path, keep=1e9), random.Random(1), []
    for number in range(raw + governed):
        left = number % ((raw + governed) // raw) == 0 and number // ((raw + governed) // raw) < raw
        cost = round(10**8 * dice.lognormvariate(0, spread) * (1 if left else factor))
        rows.append(
            SpanRow(
                f"{number:032x}",
                "1" * 16,
                None,
                "chat",
                "chat m",
                NOW + number * 10**9,
                NOW + number * 10**9 + 10**8,
                "failed" if dice.random() < 0.1 else "ok",
                chain_id=f"c{number}",
                mode="holdout" if left else "enforce",
                input_tokens=1000,
                output_tokens=10,
                cost_nano=cost,
                baseline_nano=cost,
            )
        )
    store.write(rows)
    return store


def test_without_raw_chains_nothing_is_compared(tmp_path: Path) -> None:
    store = SpanStore.open(tmp_path / "t.sqlite")
    assert holdout(store) is None
    assert "without clawmw</h2>" not in report(store, NOW)


def test_few_chains_are_called_too_few(tmp_path: Path) -> None:
    store = filled(tmp_path / "t.sqlite", 5, 100, 0.5)
    found = holdout(store)
    assert found is not None
    assert (found.raw, found.governed, found.enough) == (5, 100, False)
    page = overview_page(store, NOW)
    assert "Too few chains to tell: 5 left raw" in page
    assert "95% confidence" not in page


def test_a_difference_is_said_with_its_interval(tmp_path: Path) -> None:
    store = filled(tmp_path / "t.sqlite", 40, 400, 0.6)
    found = holdout(store)
    assert found is not None
    spent = found.measures[0]
    assert spent.verdict == "less"
    assert spent.change is not None
    assert spent.change.low < -0.4 < spent.change.high
    by_name = {one.name: one for one in found.measures}
    assert by_name["input tokens, typical"].verdict == "even"
    assert by_name["ended badly"].verdict == "even"
    page = report(store, NOW)
    assert "A typical governed chain costs" in page
    assert "% less than a raw one; with 95% confidence between" in page


def test_chance_is_not_called_a_saving(tmp_path: Path) -> None:
    page = report(filled(tmp_path / "t.sqlite", 30, 300, 1.0), NOW)
    assert "No difference in cost that chance could not have made" in page


@pytest.mark.parametrize("since", [NOW, NOW + 10**12])
def test_only_chains_of_the_time_asked_for_count(tmp_path: Path, since: int) -> None:
    store = filled(tmp_path / "t.sqlite", 40, 400, 0.6)
    found = holdout(store, since)
    if since == NOW:
        assert found is not None
        assert found.enough
    else:
        assert found is None
    assert overview_page(store, NOW, Filter(since_ns=since))
