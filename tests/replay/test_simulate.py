"""Runs replayed: what is sent, what is kept, what a guard's stop does to the figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clawmw.core.types import Request
from clawmw.policy.load import load_policy
from clawmw.providers.load import profile_for
from clawmw.replay.records import Run
from clawmw.replay.report import Report
from clawmw.replay.simulate import CallRecord, Replayer, RunRecord
from clawmw.replay.sources import Sources
from clawmw.replay.tokens import Counter
from clawmw.stages.context.compress.protocol import Brief, Reduced, marker
from clawmw.stages.context.dedupe.stage import Dedupe
from tests.conftest import rows, tool, turn
from tests.replay import samples
from tests.replay.test_sources import captured

COUNTER = Counter()
PROFILE = "openai/gpt-5.6"
Sent = list[tuple[dict[str, Any], dict[str, Any] | None]]


def policy(**sections: Any) -> Mapping[str, Any]:
    return {"version": 1, **sections}


def replayed(
    tmp_path: Path, *lines: object, **sections: Any
) -> tuple[list[RunRecord], Sent, Report]:
    """The lines replayed under a policy: records, (raw, sent) bodies, report."""
    path = samples.written(tmp_path / "runs.jsonl", lines)
    loaded = load_policy(policy(**sections))
    replayer = Replayer(loaded, COUNTER)
    about = {"name": "test", "digest": "", "mode": loaded.mode}
    report = Report([profile_for(PROFILE)], COUNTER, profile_for, about)
    bodies: Sent = []

    def keep(_: CallRecord, raw: bytes, sent: bytes | None) -> None:
        bodies.append((json.loads(raw), json.loads(sent) if sent else None))

    records = []
    for found in Sources([path], model=PROFILE):
        assert isinstance(found, Run), found
        records.append(replayer.run(found, keep))
        report.add(records[-1])
    return records, bodies, report


def test_every_sample_runs_rewrites_nothing_and_loses_nothing(tmp_path: Path) -> None:
    _, bodies, report = replayed(tmp_path, *samples.every(), compress="aggressive")
    total = report.to_json()["total"]
    assert total["runs"] == 9
    assert total["calls"] == len(bodies) > 20
    assert total["prefix_rewrites"] == 0
    assert total["failures"] == {}
    literals = total["literals"]
    assert literals["lost"] == 0
    assert literals["needed"] == literals["in_context"] + literals["reachable"] >= 3
    assert total["tokens"]["after"] < total["tokens"]["before"]
    cost = total["cost"][PROFILE]
    assert cost["bound"] < cost["net"] < cost["native"] < cost["uncached"]
    assert cost["clawmw"] <= cost["net"]
    assert 0 < cost["score"] < 1


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    one = replayed(tmp_path, *samples.every())[1]
    two = replayed(tmp_path, *samples.every())[1]
    assert one == two


def test_what_no_stage_changes_is_sent_as_it_was(tmp_path: Path) -> None:
    off = dict.fromkeys(("compress", "dedupe", "expand", "prompt_cache", "loop_guard"), False)
    records, bodies, report = replayed(tmp_path, samples.booking(), **off)
    assert all(raw == sent for raw, sent in bodies)
    total = report.to_json()["total"]
    assert total["tokens"]["change"] == 0
    assert total["cost"][PROFILE]["clawmw_adds"] == 0
    assert [call.raw for call in records[0].calls] == [call.sent[0][0] for call in records[0].calls]


def test_the_tool_that_expands_is_in_the_figures(tmp_path: Path) -> None:
    records, bodies, _ = replayed(tmp_path, samples.booking())
    call = records[0].calls[0]
    assert bodies[0][1] is not None
    assert bodies[0][1]["tools"][-1]["function"]["name"] == "clawmw_expand"
    assert call.sent[0][0].total > call.raw.total


def test_the_second_call_hits_what_the_first_put_into_the_cache(tmp_path: Path) -> None:
    records, _, report = replayed(tmp_path, samples.booking())
    hits = [call.raw_hit for call in records[0].calls]
    assert hits == [0, 3, 5, 7]  # the tools count as one block
    assert [hit for call in records[0].calls for _, hit in call.sent] == hits
    cost = report.to_json()["total"]["cost"][PROFILE]
    assert cost["hit_share_before"] > 0.4
    assert cost["native_saves"] == cost["uncached"] - cost["native"]


@pytest.fixture
def beheaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compression that keeps the beginning of a result and a reference to the rest."""

    def head(text: str, brief: Brief, **_: object) -> Reduced | None:
        return (
            Reduced(marker(brief.ref, "the rest") + text[:200], "log", False)
            if len(text) > 900
            else None
        )

    monkeypatch.setattr("clawmw.stages.context.compress.stage.reduce", head)


@pytest.mark.usefixtures("beheaded")
def test_what_is_hidden_can_be_asked_for_and_is_paid_for(tmp_path: Path) -> None:
    records, _, report = replayed(tmp_path, samples.hidden())
    (found,) = [n for call in records[0].calls for n in call.needed]
    assert (found.need.literal, found.where) == ("Ride 397", "reachable")
    assert "Ride 397" in records[0].blobs[found.ref].decode()
    cost = report.to_json()["total"]["cost"][PROFILE]
    assert cost["net"] > cost["clawmw"]


@pytest.mark.usefixtures("beheaded")
def test_what_is_cut_for_good_is_lost_and_costs_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = replayed(tmp_path, samples.hidden())[2].to_json()["total"]
    monkeypatch.setattr("clawmw.stores.memory.MemoryBlobs.get", lambda *_: None)
    lost = replayed(tmp_path, samples.hidden())[2].to_json()["total"]
    gone = {"needed": 1, "in_context": 0, "hidden_share": 1.0}
    assert kept["literals"] == {**gone, "reachable": 1, "lost": 0}
    assert lost["literals"] == {**gone, "reachable": 0, "lost": 1}
    assert lost["cost"][PROFILE]["net"] > kept["cost"][PROFILE]["net"]


def test_repeats_are_cut_and_say_by_what(tmp_path: Path) -> None:
    _, bodies, report = replayed(tmp_path, samples.repeats(), compress=False)
    assert report.to_json()["total"]["mechanisms"]["dedupe"] > 0
    assert bodies[-1][1] is not None
    results = [m["content"] for m in bodies[-1][1]["messages"] if m["role"] == "tool"]
    assert len(results[0]) > 10 * len(results[1])


def test_a_refused_call_is_counted_as_recorded(tmp_path: Path) -> None:
    run = samples.loop(10)
    run["messages"].insert(0, samples.SYSTEM)
    (record,), bodies, report = replayed(tmp_path, run)
    assert record.refused > 0
    assert record.stopped == 0
    assert record.decisions["loop_guard.refuse"] == record.refused
    assert len(record.calls) == len(bodies) == 11
    assert report.to_json()["total"]["refused_calls"] == record.refused
    assert report.to_json()["total"]["prefix_rewrites"] == 0
    # The tool offered at the start is still there where the guard was set aside.
    assert {len(sent["tools"]) for _, sent in bodies if sent} == {2}


def test_once_the_chain_is_stopped_nothing_more_is_counted(tmp_path: Path) -> None:
    (record,), bodies, report = replayed(tmp_path, samples.loop(30))
    assert record.stopped > 0
    assert len(record.calls) + record.stopped == 31
    assert len(bodies) == len(record.calls)
    total = report.to_json()["total"]
    assert total["stopped"]["calls"] == record.stopped
    assert total["stopped"]["tokens"] > record.stopped * 50
    assert total["tokens"]["before"] == sum(call.raw.total for call in record.calls)


def test_a_budget_ends_a_chain_and_begins_anew_with_the_next_run(tmp_path: Path) -> None:
    runs = [samples.booking(), {**samples.booking(), "id": "again"}]
    records, _, _ = replayed(tmp_path, *runs, budget={"chain": {"calls": 3}})
    assert [(len(r.calls), r.stopped) for r in records] == [(3, 1), (3, 1)]


def test_a_budget_is_settled_by_what_was_counted(tmp_path: Path) -> None:
    def sent(record: RunRecord) -> list[int]:
        return [sized.total for call in record.calls for sized, _ in call.sent]

    whole = sent(replayed(tmp_path, samples.booking())[0][0])
    limit = {"chain": {"input_tokens": sum(whole) - whole[-1] // 2}}
    (record,), _, _ = replayed(tmp_path, samples.booking(), budget=limit)
    assert sent(record) == whole[:-1]
    assert record.stopped == 1


def test_a_routed_call_is_billed_at_the_other_models_price(tmp_path: Path) -> None:
    light = "deepseek/deepseek-v4-flash"
    plain = replayed(tmp_path, samples.chat())[2].to_json()["total"]["cost"][PROFILE]
    _, bodies, report = replayed(
        tmp_path,
        samples.chat(),
        models={"light": light},
        route=[{"when": "true", "to": "light"}],
    )
    cost = report.to_json()["total"]["cost"][PROFILE]
    assert {sent["model"] for _, sent in bodies if sent} == {light}
    assert cost["native"] == plain["native"]
    assert cost["clawmw"] < plain["clawmw"] / 5


def test_observing_sends_what_was_recorded(tmp_path: Path) -> None:
    _, bodies, report = replayed(tmp_path, samples.booking(), mode="observe")
    assert all(raw == sent for raw, sent in bodies)
    assert any(rule.endswith("(observed)") for rule in report.to_json()["total"]["decisions"])


def test_nothing_of_the_users_is_touched(tmp_path: Path) -> None:
    disk = tmp_path / "real"
    replayed(tmp_path, samples.booking(), store={"disk": str(disk)}, trace={"keep": "1d"})
    assert not disk.exists()
    assert not (tmp_path / "state").exists()


def test_a_stage_that_raises_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> dict[int, Any]:
        raise RuntimeError("secret")

    monkeypatch.setattr(Dedupe, "fold", broken)
    _, _, report = replayed(tmp_path, samples.booking())
    assert report.to_json()["total"]["failures"]["dedupe: RuntimeError"] > 0
    assert "secret" not in json.dumps(report.to_json())


def test_a_moved_prefix_is_seen_in_the_bodies_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that edits what it sent before must not look as if it had not."""
    from clawmw.codecs.openai_chat import OpenAIChat

    encode = OpenAIChat.encode

    def edited(self: OpenAIChat, request: Request) -> bytes:
        wire = encode(self, request)
        return wire.replace(b"You plan trips", b"You plan trips %d" % len(request.messages), 1)

    monkeypatch.setattr(OpenAIChat, "encode", edited)
    (record,), _, report = replayed(tmp_path, samples.booking())
    assert [call.rewrites for call in record.calls] == [0, 1, 1, 1]
    assert report.to_json()["total"]["prefix_rewrites"] == 3
    assert [hit for call in record.calls for _, hit in call.sent] == [0, 1, 1, 1]


def test_a_prefix_too_short_to_be_cached_may_move(tmp_path: Path) -> None:
    _, bodies, report = replayed(tmp_path, samples.logs(), compress="aggressive")
    tools = [len(sent["tools"]) for _, sent in bodies if sent]
    assert tools[0] < tools[1] == tools[2]  # the tool came with the first cut
    assert report.to_json()["total"]["prefix_rewrites"] == 0


def test_a_transient_last_message_is_no_rewrite_of_ours(tmp_path: Path) -> None:
    tail = samples.user("<transient>")
    history = [samples.SYSTEM, samples.user("Go.")]
    lines = [captured([*history, tail])]
    for index in range(3):
        history += turn(f"c{index}", "get", {"q": str(index)}, rows(60, seed=index))
        lines.append(captured([*history, tail]))
    (record,), _, report = replayed(tmp_path, *lines)
    assert [call.raw_hit for call in record.calls] == [0, 3, 5, 7]
    total = report.to_json()["total"]
    assert total["prefix_rewrites"] == 0
    assert total["tokens"]["after"] < total["tokens"]["before"]


def test_a_record_made_under_clawmw_is_not_answered_again(tmp_path: Path) -> None:
    function = {"name": "clawmw_expand", "arguments": '{"ref": "rx"}'}
    asks = {"id": "e", "type": "function", "function": function}
    run = {
        "id": "own",
        "tools": [tool("get")],
        "messages": [samples.user("Go."), {"role": "assistant", "tool_calls": [asks]}],
    }
    (record,), _, _ = replayed(tmp_path, run)
    assert len(record.calls[0].sent) == 1


def test_sources_are_added_up_apart(tmp_path: Path) -> None:
    _, _, report = replayed(tmp_path, *samples.every())
    value = report.to_json()
    assert [s["source"] for s in value["sources"]] == [
        "trips",
        "ops",
        "web",
        "odd",
        "chat",
        "loops",
    ]
    for key in ("runs", "calls", "prefix_rewrites", "open_ends"):
        assert value["total"][key] == sum(s[key] for s in value["sources"])
    scores = [s["cost"][PROFILE]["score"] for s in value["sources"]]
    known = [s for s in scores if s is not None]
    assert value["score_mean"][PROFILE] == pytest.approx(sum(known) / len(known), abs=1e-3)
