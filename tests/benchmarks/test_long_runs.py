"""The made-up runs: the same each time, valid, long, and in need of what they showed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.long_runs import HOLD_OUT, KINDS, generate
from clawmw.replay.provenance import needs
from clawmw.replay.records import CODEC, Run
from clawmw.replay.sources import Sources, run_of

SEED, COUNT = 1, 8


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return list(generate(SEED, COUNT))


def results(row: dict[str, Any]) -> list[str]:
    return [m["content"] for m in row["messages"] if m["role"] == "tool"]


def test_another_process_makes_the_same_runs(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "runs.jsonl"
    command = [sys.executable, "-m", "benchmarks.long_runs", "--seed", str(SEED), "--runs", "4"]
    subprocess.run(
        [*command, "--out", str(out)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
        cwd=Path(__file__).parents[2],
    )
    assert [json.loads(line) for line in out.read_text("utf-8").splitlines()] == rows[:4]
    assert all(isinstance(found, Run) for found in Sources([out], model="m"))


def test_seeds_differ_in_their_words(rows: list[dict[str, Any]]) -> None:
    other = next(generate(HOLD_OUT, 1))
    one, two = (
        {w for r in results(row) for w in r.split() if len(w) > 8} for row in (rows[0], other)
    )
    assert len(one & two) < 0.05 * min(len(one), len(two))


def test_runs_are_long_and_paired(rows: list[dict[str, Any]]) -> None:
    assert {row["source"] for row in rows} == set(KINDS)
    for row in rows:
        assert 15 <= len(results(row)) <= 62
        asked = [c["id"] for m in row["messages"] for c in m.get("tool_calls") or ()]
        answered = [m["tool_call_id"] for m in row["messages"] if m["role"] == "tool"]
        assert asked == answered
    sizes = sorted(len(text) for row in rows for text in results(row))
    assert sizes[len(sizes) // 10] < 1000
    assert sizes[-1] > 60_000


def test_calls_need_what_results_far_back_alone_have_shown(rows: list[dict[str, Any]]) -> None:
    back = []
    for row in rows:
        run = run_of(row, Path("x"), "x", 0, "m")
        for call in run.calls:
            assert call.answer is not None
            request = CODEC.decode(call.body())
            back += [
                sum(1 for m in request.messages[max(n.origins) :] if m.tool_calls)
                for n in needs(request, CODEC.message(call.answer))
            ]
    assert len(back) > 60
    assert max(back) >= 10
    assert sum(distance > 2 for distance in back) > len(back) // 4


def test_results_repeat_and_nearly_repeat(rows: list[dict[str, Any]]) -> None:
    again = near = 0
    for row in rows:
        seen: set[str] = set()
        lines: set[str] = set()
        for text in results(row):
            again += text in seen
            own = {line for line in text.splitlines() if len(line) > 20}
            near += text not in seen and len(own) > 5 and len(own & lines) > 0.7 * len(own)
            seen.add(text)
            lines |= own
    assert again > 3
    assert near > 3


def test_answers_stand_in_a_result(rows: list[dict[str, Any]]) -> None:
    labelled = [row for row in rows if "answers" in row["labels"]]
    assert labelled
    for row in labelled:
        assert any(row["labels"]["answers"][0] in text for text in results(row))
        run = run_of(row, Path("x"), "x", 0, "m")
        assert run.answer_due == len(row["messages"]) - 1
