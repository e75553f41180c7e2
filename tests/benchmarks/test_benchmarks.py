"""The benchmarks themselves, in small and without a network."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import adapters, local_llm
from benchmarks.compress import one
from benchmarks.context import __main__ as context
from benchmarks.context.counted import counted
from benchmarks.context.policies import CLAWMW, Contender, runner
from benchmarks.kinds import KINDS, text_of
from benchmarks.long_runs import generate
from benchmarks.peers import Peer, Reply, Unavailable
from clawmw.providers.load import profile_for
from clawmw.replay.records import Run
from clawmw.replay.report import Report
from clawmw.replay.tokens import Counter

PROFILE = "anthropic/claude-sonnet-5-5"


@pytest.fixture(scope="module")
def run() -> Run:
    whole = context.made_up(next(generate(5, 1)))
    return replace(whole, calls=whole.calls[:14])


def total(*records: Any) -> dict[str, Any]:
    about = {"name": "t", "digest": "", "mode": "enforce"}
    report = Report([profile_for(PROFILE)], Counter(exact=False), profile_for, about)
    for record in records:
        report.add(record)
    return report.to_json()["total"]


def test_who_sends_what_was_recorded_is_counted_as_clawmw_switched_off(run: Run) -> None:
    counter = Counter(exact=False)
    with runner(CLAWMW[0], counter, None) as replay:
        off = total(replay(run))
    same = total(counted(run, lambda m: Reply(m, 0), counter, fetchable=False))
    for key in ("calls", "tokens", "cost", "literals", "records", "answers", "prefix_rewrites"):
        assert same[key] == off[key], key
    assert same["records"]["integrity"] in (1.0, None)
    assert same["cost"][PROFILE]["score"] == 0.0


def test_what_is_cut_is_hidden_lost_or_reachable(run: Run) -> None:
    def figures(fetchable: bool) -> dict[str, Any]:
        contender = Contender("x", "cut", {"most": 300}, fetchable)
        with runner(contender, Counter(exact=False), None) as replay:
            return total(replay(run))

    gone, kept = figures(False), figures(True)
    assert gone["literals"]["lost"] == kept["literals"]["reachable"] > 0
    assert kept["literals"]["lost"] == gone["literals"]["reachable"] == 0
    assert gone["tokens"] == kept["tokens"]
    assert gone["cost"][PROFILE]["net"] > kept["cost"][PROFILE]["net"]
    assert gone["prefix_rewrites"] == 0


def test_who_edits_what_was_sent_is_seen_to(run: Run) -> None:
    def clears(messages: list[dict[str, Any]]) -> Reply:
        last = len(messages) - 3
        cleared = [
            {**m, "content": "[cleared]"} if m["role"] == "tool" and n < last else m
            for n, m in enumerate(messages)
        ]
        return Reply(cleared, 0)

    found = total(counted(run, clears, Counter(exact=False), fetchable=False))
    assert found["prefix_rewrites"] > 5
    assert found["tokens"]["change"] < -0.5


def test_a_failed_call_goes_as_it_was_and_is_told(run: Run) -> None:
    record = counted(
        run, lambda m: Reply(m, 0, "ValueError"), Counter(exact=False), fetchable=False
    )
    assert record.failures["ValueError"] == len(run.calls)


def test_the_comparison_runs_without_recorded_runs_and_peers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["context", "--quick", "--no-peers", "--runs", "1", "--traces", "/nowhere"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--json", "--only", "4000, fetchable"])
    assert context.main() == 0
    out, err = capsys.readouterr()
    assert "skipped: no recorded runs" in err
    value = json.loads(out)
    assert list(value["sets"]["made up"]) == ["raw", "head+tail 4000, fetchable"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--only", "raw"])
    assert context.main() == 0
    out, _ = capsys.readouterr()
    assert "integrity" in out
    assert "score" in out


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Look."},
    *(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "get", "arguments": "{bad"}}
            ],
        }
        if n % 2 == 0
        else {"role": "tool", "tool_call_id": "a", "content": f"{n} " * 400}
        for n in range(8)
    ),
]


@pytest.mark.slow  # importing langchain_core takes seconds
def test_a_peer_maps_messages_in_a_process_of_its_own() -> None:
    with Peer(Path(sys.executable), "trim_messages", {"max_tokens": 500}) as peer:
        reply = peer.send(MESSAGES)
        again = peer.send(MESSAGES)
    assert reply.error == ""
    assert reply.messages == again.messages
    assert reply.messages[0] == MESSAGES[0]
    assert reply.messages[-1] == MESSAGES[-1]
    assert len(reply.messages) < len(MESSAGES)
    assert reply.cpu_us > 0


def test_a_peer_that_is_not_there_says_so() -> None:
    with (
        Peer(Path(sys.executable), "no_such_peer") as peer,
        pytest.raises(Unavailable, match="no_such_peer ended early"),
    ):
        peer.send(MESSAGES)


@pytest.mark.parametrize("kind", list(KINDS))
def test_texts_are_of_the_size_wanted_and_the_same_each_time(kind: str) -> None:
    text = text_of(kind, 20_000)
    assert 0.5 * 20_000 < len(text.encode()) < 3 * 20_000
    assert text_of(kind, 20_000) == text


def test_a_new_result_is_measured() -> None:
    row = one("CSV", 10_000, "balanced", 1)
    assert row["ms"] > 0
    assert 0 < row["stays"] < 0.9


def test_the_conversation_grows_and_the_verdict_needs_both() -> None:
    calls = local_llm.conversation()
    assert len(calls) == local_llm.TURNS
    for before, after in pairwise(calls):
        assert after[: len(before)] == before
        assert len(after[-1]["content"]) > 700
    assert calls == local_llm.conversation()

    def verdict(ours: float, theirs: float) -> bool:
        shares = {"clawmw balanced": ours, "clear tool uses": theirs}
        return local_llm.verdict({k: [{}, {"reused": v}] for k, v in shares.items()})[0]

    assert verdict(0.99, 0.3)
    assert not verdict(0.9, 0.3)
    assert not verdict(0.99, 0.99)


@pytest.mark.slow
def test_adapters_are_measured_beside_the_bare_sdk() -> None:
    row = adapters.measure(["openai", "anthropic"], turns=3)
    for ways in row.values():
        assert set(ways) >= {"bare", "wrap", "install"}
        assert all(way["p50"] > 0 for way in ways.values())
        assert "ratio_p50" not in ways["bare"]
        assert ways["wrap"]["ratio_p50"] > 0


def test_what_an_adapter_adds_is_told_turn_by_turn() -> None:
    bare, other = adapters.Way(print), adapters.Way(print)
    bare.took = bare.cpu = [0.0] * adapters.WARM + [1.0, 100.0, 2.0]
    other.took = other.cpu = [0.0] * adapters.WARM + [2.0, 101.0, 3.0]
    found = adapters.figures({"bare": bare, "other": other})
    added = {"added_p50": 1.0, "added_cpu": 1.0, "ratio_p50": 1.5, "ratio_cpu": 1.5}
    assert found["other"] == {"p50": 3.0, "cpu": 3.0, "p90": 81.4, **added}
