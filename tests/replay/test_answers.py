"""Where a run's known answer is when it is due."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clawmw.policy.load import load_policy
from clawmw.providers.load import profile_for
from clawmw.replay.answers import sought
from clawmw.replay.records import Run
from clawmw.replay.report import Report
from clawmw.replay.simulate import Replayer
from clawmw.replay.sources import Sources
from clawmw.replay.tokens import Counter
from tests.conftest import turn
from tests.replay import samples

PROSE = (
    "The harbour was built in 1820. Eydie Gormé sang Blame It on the Bossa Nova in 1963, "
    "which reached number seven. Later the mill was closed."
)
MAP = json.dumps({f"key-{n}": f"value-{n}-x" for n in range(60)})


@pytest.mark.parametrize(
    ("sent", "originals", "expected"),
    [
        ([PROSE], [], "whole"),
        (["… Eydie Gormé sang Blame It on the Bossa Nova in 1963, which reached …"], [], "whole"),
        (["names: Eydie Gormé, Bo Lee"], [], "bare"),
        (["cut [ref r1]"], [PROSE], "reachable"),
        (["cut"], ["another"], "lost"),
        ([], [], "lost"),
    ],
)
def test_an_answer_in_prose_needs_its_sentence(
    sent: list[str], originals: list[str], expected: str
) -> None:
    assert sought(["Nobody", "Eydie Gormé"], [PROSE], sent, originals) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("{key-7:value-7-x,key-9:value-9-x}", "whole"),
        ('"key-7": "value-7-x"', "whole"),
        ("values: value-6-x value-7-x", "bare"),
    ],
)
def test_an_answer_in_a_record_needs_its_key(sent: str, expected: str) -> None:
    assert sought(["value-7-x"], [MAP], [sent], []) == expected


def test_what_the_record_does_not_hold_is_not_judged() -> None:
    assert sought(["Ella Fitzgerald"], [PROSE], [PROSE], []) is None
    assert sought(["no", "it"], [PROSE + " no it"], [PROSE], []) is None
    assert sought([], [PROSE], [PROSE], []) is None


def run(labels: dict[str, Any], *, closed: bool) -> dict[str, Any]:
    """A question about one row of a map; `closed` if the record has the answer."""
    flat = json.dumps({f"key-{n}": f"value-{n}-x" for n in range(900)})
    messages = [samples.user("What is key-500?"), *turn("a", "dump", {"q": "all"}, flat)]
    if closed:
        messages.append(samples.says("It is value-500-x."))
    return {"id": "q", "labels": labels, "messages": messages}


def replayed(path: Path, *runs: dict[str, Any], open_ends: bool = False, level: str = "off") -> Any:
    policy = load_policy({"version": 1, "trace": "off", "compress": level})
    profiles = [profile_for("anthropic/claude-sonnet-5-5")]
    about = {"name": "t", "digest": "", "mode": "enforce"}
    report = Report(profiles, Counter(exact=False), profile_for, about)
    replayer = Replayer(policy, report.counter)
    file = samples.written(path / "runs.jsonl", runs)
    for found in Sources([file], model="m", open_ends=open_ends):
        assert isinstance(found, Run)
        report.add(replayer.run(found))
    return report.to_json()["total"]


LABELS = {"answers": ["value-500-x"]}


@pytest.mark.parametrize("labels", [LABELS, {"gold_answer": "value-500-x"}])
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("open_ends", [True, False])
def test_an_answer_is_judged_when_due(
    tmp_path: Path, labels: dict[str, Any], closed: bool, open_ends: bool
) -> None:
    total = replayed(tmp_path, run(labels, closed=closed), open_ends=open_ends)
    assert total["answers"] == {
        "due": 1,
        "in_context": 1,
        "whole": 1,
        "reachable": 0,
        "lost": 0,
        "in_context_share": 1.0,
        "whole_share": 1.0,
        "at_hand_share": 1.0,
    }


def test_the_call_made_for_the_answer_is_in_no_other_figure(tmp_path: Path) -> None:
    with_label = replayed(tmp_path, run(LABELS, closed=False))
    without = replayed(tmp_path, run({}, closed=False))
    assert with_label["answers"]["due"] == 1
    assert without["answers"]["due"] == 0
    for key in ("calls", "tokens", "cost", "literals", "prefix_rewrites"):
        assert with_label[key] == without[key]


def test_records_are_judged_in_what_was_sent(tmp_path: Path) -> None:
    total = replayed(tmp_path, samples.booking(), level="balanced")
    assert total["records"]["values"] > 20
    assert total["records"]["integrity"] <= 1.0
    raw = replayed(tmp_path, samples.booking())
    assert raw["records"]["intact"] == raw["records"]["values"] > 50
    assert raw["literals"]["hidden_share"] == 0.0
