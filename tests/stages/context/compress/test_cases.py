"""Golden cases: what a person (and a model) sees of each kind at each level.

`tests/cases/compress/*.yaml`: a list of cases with `name`, `level`, `input`, `expect`, and maybe
`sought`: what was asked for. An
input that is a mapping is `head`, then `each` formatted `times` times (joined by `join`), then
`tail`; in `each`, `{i}` counts from 0, `{a}` is i*37%90, `{b}` i*7919%10007, `{m}` and `{s}`
minutes and seconds, and `{odd}` is `at[i]`, or `else` where `at` does not have i.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from clawmw.stages.context.compress.base import Brief, reduce
from clawmw.stages.context.compress.relevance import stems

FOLDER = Path(__file__).parents[3] / "cases" / "compress"
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    for case in yaml.safe_load(path.read_text(encoding="utf-8"))
]


def written(source: str | dict[str, Any]) -> str:
    """The text an `input` stands for."""
    if isinstance(source, str):
        return source
    odd = source.get("at", {})
    middle = [
        source["each"].format(
            i=i,
            a=i * 37 % 90,
            b=i * 7919 % 10007,
            m=i // 60,
            s=i % 60,
            odd=odd.get(i, source.get("else", "")),
        )
        for i in range(source["times"])
    ]
    return "".join(
        [source.get("head", ""), source.get("join", "").join(middle), source.get("tail", "")]
    )


@pytest.mark.parametrize("case", CASES)
def test_case(case: dict[str, Any]) -> None:
    sought = frozenset(stems(case.get("sought", "")))
    reduced = reduce(written(case["input"]), Brief(case["level"], "r7k2m9q4xw", sought))
    assert (reduced.text if reduced else None) == case["expect"]
