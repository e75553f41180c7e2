"""`benchmarks.loops`: the labels hold together, and lead to the runs that were read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loops.runs import KINDS, Label, digest, folder_of, labels, requests, runs
from clawmw.core.types import ToolCall
from clawmw.errors import SourceError
from clawmw.replay.records import Run
from clawmw.replay.sources import Sources


def test_labels_are_well_formed() -> None:
    found = labels()
    assert len({label.id for label in found}) == len(found) == 60
    assert len({label.digest for label in found}) == 60
    for label in found:
        assert label.kind in KINDS, label.id
        assert label.loop == (label.kind != "none") == (label.start is not None), label.id
        assert label.start is None or 0 < label.start < label.steps, label.id


def test_halves_and_ways_of_picking_are_balanced() -> None:
    found = labels()
    cells = Counter((label.half, label.picked) for label in found)
    assert cells == dict.fromkeys(
        [(half, picked) for half in ("tune", "test") for picked in ("random", "screened")], 15
    )
    scored = Counter((label.half, label.loop) for label in found if not label.unsure)
    assert min(scored.values()) >= 8, scored
    assert sum(label.unsure for label in found) <= 6


def _write(folder: Path, messages: Sequence[dict[str, Any]]) -> Label:
    file = folder / "made.jsonl"
    file.write_text(json.dumps({"id": "r1", "messages": list(messages)}) + "\n")
    (run,) = [found for found in Sources([file], model="m") if isinstance(found, Run)]
    return replace(labels()[0], id="made/r1", digest=digest(run), steps=len(run.calls))


def _conversation() -> list[dict[str, Any]]:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    return [
        {"role": "user", "content": "where is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "nowhere"},
        {"role": "assistant", "content": "nowhere"},
    ]


def test_a_run_comes_as_its_requests_in_order(tmp_path: Path) -> None:
    label = _write(tmp_path, _conversation())
    ((same, run),) = runs(tmp_path, [label])
    first, second = requests(run)
    assert same is label
    assert [len(request.messages) for request in (first, second)] == [1, 3]
    (part,) = second.messages[1].parts
    assert isinstance(part, ToolCall)
    assert part.name == "look"


def test_a_run_that_changed_is_refused(tmp_path: Path) -> None:
    label = _write(tmp_path, _conversation())
    changed = _conversation()
    changed[2]["content"] = "here"
    _write(tmp_path, changed)
    with pytest.raises(SourceError, match=r"^made/r1: not the run that was labelled"):
        list(runs(tmp_path, [label]))


def test_a_folder_without_runs_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^no recorded runs .* CLAWMW_TRACES_DATA$"):
        list(runs(tmp_path))


@pytest.mark.external
@pytest.mark.skipif(
    not folder_of().is_dir(), reason=f"no recorded runs in {folder_of()} (CLAWMW_TRACES_DATA)"
)
def test_every_labelled_run_is_at_hand_and_as_long_as_said() -> None:
    found = {label.id: sum(1 for _ in requests(run)) for label, run in runs()}
    assert found == {label.id: label.steps for label in labels()}
