"""The comparison for people: two tables for each set of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

__all__ = ["shown"]

Figures = Mapping[str, Any]
_SHORT = {"anthropic": "Anthr.", "openai": "OpenAI", "deepseek": "DeepS."}


def shown(sets: Mapping[str, Figures], profiles: Sequence[str]) -> None:
    """Print them."""
    console = Console(width=120)
    for name, found in sets.items():
        if found:
            console.print(_costs(name, found, profiles))
            console.print(_losses(name, found))


def _costs(name: str, found: Figures, profiles: Sequence[str]) -> Table:
    first = next(iter(found.values()))["total"]
    table = _table(f"{name}: {first['runs']:,} runs, {first['calls']:,} calls; input cost")
    table.add_column("tokens", justify="right")
    for profile in profiles:
        short = _SHORT.get(profile.partition("/")[0], profile)
        for what in ("bill", "net", "score", "mean"):
            table.add_column(f"{short}\n{what}", justify="right")
    for policy, report in found.items():
        cells = [_signed(report["total"]["tokens"]["change"])]
        for profile in profiles:
            cost = report["total"]["cost"][profile]
            cells += [_change(cost["native"], cost["clawmw"]), _change(cost["native"], cost["net"])]
            cells += [_plain(cost["score"]), _plain(report["score_mean"][profile])]
        table.add_row(policy, *cells)
    table.caption = (
        "Against the calls as recorded, native caching used as well as it can be. Net: after "
        "paying for what was hidden and needed. Score: 1 is clairvoyant, below 0 costs more than "
        "doing nothing; mean: of the sources."
    )
    return table


def _losses(name: str, found: Figures) -> Table:
    table = _table(f"{name}: what was lost, moved and spent")
    for column in (
        "literals\nneeded",
        "hidden",
        "lost",
        "record\nintegrity",
        "answers\nin context",
        "with\nrecord",
        "at hand",
        "moved\nprefixes",
        "CPU ms\np50",
        "CPU ms\np95",
        "failed\ncalls",
    ):
        table.add_column(column, justify="right")
    for policy, report in found.items():
        total = report["total"]
        literals, answers, cpu = total["literals"], total["answers"], total["cpu_us"]
        table.add_row(
            policy,
            f"{literals['needed']:,}",
            _share(literals["hidden_share"]),
            f"{literals['lost']:,}",
            _share(total["records"]["integrity"]),
            _share(answers["in_context_share"]),
            _share(answers["whole_share"]),
            _share(answers["at_hand_share"]),
            f"{total['prefix_rewrites']:,}",
            f"{(cpu['p50'] or 0) / 1000:.1f}",
            f"{(cpu['p95'] or 0) / 1000:.1f}",
            f"{sum(total['failures'].values()):,}",
        )
    table.caption = (
        "Hidden: needed literals not in the context sent; lost: nor to be asked for. Integrity: "
        "values in context that stand with their key in their record. Answers: known ones, when "
        "due."
    )
    return table


def _table(title: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.title_justify = table.caption_justify = "left"
    table.title_style, table.caption_style = "bold", "dim"
    table.add_column("policy", no_wrap=True)
    return table


def _change(before: int | None, after: int | None) -> str:
    return _signed((after - before) / before) if before and after is not None else "?"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.0%}" if abs(value) >= 10 else f"{value:+.1%}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
