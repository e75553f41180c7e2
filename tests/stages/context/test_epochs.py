"""Epochs: when they begin, what they send, what they forecast, and what came of them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from clawmw.codecs.openai_chat import OpenAIChat
from clawmw.core.effects import Write
from clawmw.core.epoch import Reason
from clawmw.core.events import Degraded, EpochBegan, EpochEnded
from clawmw.core.identity import Identity
from clawmw.core.money import CacheRules, Price, Profile
from clawmw.core.render import Form
from clawmw.core.stage import Context
from clawmw.core.types import Message, Request, Role
from clawmw.stages import horizon
from clawmw.stages.forecast import Scene, scene
from clawmw.stages.shorter import Shorter
from clawmw.testing import Bench, Clock, Sent
from tests.conftest import tool, turn

TOOLS = [tool("read")]
POLICY: dict[str, Any] = {
    "version": 1,
    "models": {"fake": {"model": "fake", "profile": "claude-sonnet-4-6"}},
}
OPENING = [
    {"role": "system", "content": "Sell tickets. " * 500},
    {"role": "user", "content": "Begin."},
]


def page(number: int) -> str:
    """A result that is cut at `balanced`, and more at `aggressive`."""
    return "\n".join(
        f"{number}-{i}: visitor {i * 7919 % 9973} paid {i * 31 % 89} yuan at gate {i * number % 13}"
        for i in range(120)
    )


def run(bench: Bench, calls: int, start: int = 0) -> list[Sent]:
    """So many calls of a session, the histories of which go on from `start` results."""
    counts = range(start + 1, start + calls + 1)
    return [bench.send(history(count), tools=TOOLS) for count in counts]


def history(count: int) -> list[dict[str, Any]]:
    rounds = [turn(f"c{n}", "read", {"page": n}, page(n)) for n in range(count)]
    return [*OPENING, *(message for one in rounds for message in one)]


def epochs(*sent: Sent) -> list[EpochBegan]:
    return [e for one in sent for e in one.events if isinstance(e, EpochBegan)]


def idle(bench: Bench, seconds: float) -> None:
    assert isinstance(bench.clock, Clock)
    bench.clock.now += seconds


def messages(sent: Sent) -> tuple[Message, ...]:
    """What was sent; cache marks do not count."""
    return OpenAIChat().decode(sent.bodies[0]).messages


# --- when ------------------------------------------------------------------------------------


def test_a_session_idle_past_its_lifetime_gets_its_epoch_and_a_warm_one_does_not() -> None:
    bench = Bench(POLICY)
    before = run(bench, 9)
    assert not epochs(*before)
    idle(bench, 250)
    assert not epochs(*run(bench, 1, 9))
    idle(bench, 400)
    [cold] = run(bench, 1, 10)
    [epoch] = epochs(cold)
    assert (epoch.reason, epoch.price, epoch.rewritten) == ("idle", 0, 0)
    assert epoch.after < 0.9 * epoch.before
    assert epoch.saving
    assert epoch.after == cold.result.finished.totals.sent
    assert cold.result.finished.totals.sent_cached == 0
    # From then on the new form is the prefix.
    after = run(bench, 3, 11)
    assert not epochs(*after)
    for one, other in pairwise([cold, *after]):
        assert messages(other)[: len(messages(one))] == messages(one)
        assert other.result.finished.totals.sent_cached == one.result.finished.totals.sent


def test_the_newest_rounds_stay_as_they_were() -> None:
    bench = Bench({**POLICY, "epochs": {"keep": 3}})
    before = messages(run(bench, 9)[-1])
    idle(bench, 400)
    after = messages(run(bench, 1, 9)[0])
    changed = [i for i, (one, other) in enumerate(zip(before, after, strict=False)) if one != other]
    assert changed
    # 20 messages before this call's round; the newest three rounds are this one and two more.
    assert max(changed) < len(after) - 6
    assert all(before[i].role is Role.TOOL for i in changed)


def test_another_model_or_other_tools_begin_one_too() -> None:
    for change in ({"tools": [tool("write"), *TOOLS]}, {"model": "other"}):
        bench = Bench({**POLICY, "epochs": {"gain": "5%"}})
        run(bench, 12)
        # The old cache may be come back to: only what pays for that as well is done.
        body = {"tools": TOOLS, **change}
        tools = body.pop("tools")
        sent = bench.send(history(13), tools=tools)
        reasons = [epoch.reason for epoch in epochs(sent)]
        assert reasons in ([], ["tools"])


def test_tools_in_another_order_are_no_other_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are sent sorted: the cache still holds what was sent before."""
    reasons = []

    def judged(request: Request, ctx: Context, reason: Reason, calls: float) -> Scene:
        reasons.append(reason)
        return scene(request, ctx, reason, calls)

    monkeypatch.setattr("clawmw.stages.context.epochs.scene", judged)
    bench = Bench({**POLICY, "epochs": {"gain": "5%"}})
    tools = [tool("write"), tool("read"), tool("ask")]
    for count in range(1, 13):
        bench.send(history(count), tools=tools)
    bench.send(history(13), tools=tools[::-1])
    assert set(reasons) == {"pays"}
    assert len(reasons) < 13  # not at every call: only when the results have grown
    bench.send(history(14), tools=tools[:2])
    assert reasons[-1] == "tools"


def test_a_warm_session_gets_one_when_its_agent_makes_many_calls() -> None:
    bench = Bench(POLICY)
    scope = bench.identity.scope("agent")
    bench.runtime.stores.slots.commit([Write((scope, "epochs"), [200] * 16, 0)], 0.0)
    found = epochs(*run(bench, 16))
    assert found
    assert {epoch.reason for epoch in found} == {"pays"}
    for epoch in found:
        assert epoch.price
        assert epoch.saving
        assert epoch.saving > epoch.price > 0
        assert epoch.rewritten > 0
        assert epoch.calls > 100
    off = Bench({**POLICY, "epochs": {"warm": False}})
    off.runtime.stores.slots.commit([Write((scope, "epochs"), [200] * 16, 0)], 0.0)
    assert not epochs(*run(off, 16))


def test_without_a_price_or_a_rewritable_result_nothing_begins() -> None:
    unpriced = Bench({"version": 1})
    run(unpriced, 9)
    idle(unpriced, 4000)
    assert not epochs(*run(unpriced, 1, 9))
    lossless = Bench({**POLICY, "compress": "lossless"})
    run(lossless, 9)
    idle(lossless, 4000)
    assert not epochs(*run(lossless, 1, 9))


def test_observing_only_says_it() -> None:
    bench = Bench({**POLICY, "epochs": {"mode": "observe"}})
    before = run(bench, 9)[-1]
    idle(bench, 400)
    [sent] = run(bench, 1, 9)
    assert [epoch.would for epoch in epochs(sent)] == [True]
    assert messages(sent)[: len(messages(before))] == messages(before)


# --- what ------------------------------------------------------------------------------------


def test_a_superseded_result_becomes_a_marker_that_can_be_asked_for() -> None:
    bench = Bench({**POLICY, "dedupe": False, "epochs": {"keep": 1}})
    rounds = [turn(f"c{n}", "read", {"path": "a.txt"}, page(n)) for n in range(6)]
    talk = [*OPENING]
    for one in rounds:
        talk += one
        bench.send(talk, tools=TOOLS)
    idle(bench, 400)
    talk += turn("last", "read", {"path": "a.txt"}, page(7))
    sent = bench.send(talk, tools=TOOLS)
    assert epochs(sent)
    told = [m.text for m in messages(sent) if m.role is Role.TOOL]
    assert all("superseded by a later `read`" in text for text in told[:-1])
    ref = told[0].split()[1].rstrip(":")
    scope = bench.identity.scope("session")
    assert bench.runtime.stores.blobs.get(scope, ref, bench.clock()) == page(0).encode()


def test_the_tool_to_ask_with_is_offered_where_it_was_not() -> None:
    bench = Bench({**POLICY, "epochs": {"keep": 1}})
    small = [turn(f"s{n}", "read", {"page": -n}, f"nothing on page {n}") for n in range(60)]
    talk: list[dict[str, Any]] = [{"role": "user", "content": "Begin."}]
    for one in small:
        talk = [*talk, *one]
    assert len(bench.send(talk, tools=TOOLS).body["tools"]) == 1
    for number in range(6):
        talk = [*talk, *turn(f"c{number}", "read", {"page": number}, page(number))]
        sent = bench.send(talk, tools=TOOLS)
    assert "clawmw_expand" not in json.dumps(sent.body)
    idle(bench, 400)
    cold = bench.send(talk, tools=TOOLS)
    assert epochs(cold)
    assert cold.body["tools"][-1]["function"]["name"] == "clawmw_expand"
    assert "clawmw_expand" in json.dumps(cold.body["messages"])
    again = bench.restart().send(talk, tools=TOOLS)
    assert again.body == cold.body


# --- recorded --------------------------------------------------------------------------------


def rewritten() -> tuple[Bench, Sent, Sent]:
    """A session, its last call before an epoch, and the one it began with."""
    bench = Bench(POLICY)
    before = run(bench, 10)[-1]
    idle(bench, 400)
    [cold] = run(bench, 1, 10)
    assert epochs(cold)
    return bench, before, cold


def test_any_process_sends_the_same_bytes_after_it() -> None:
    bench, _, cold = rewritten()
    fresh = bench.restart()
    assert [*map(messages, run(fresh, 2, 11))] == [*map(messages, run(bench, 2, 11))]
    assert messages(bench.restart().send(history(11), tools=TOOLS)) == messages(cold)


def test_a_history_that_diverged_before_it_does_not_have_it() -> None:
    bench, before, cold = rewritten()
    talk = [*history(9), {"role": "user", "content": "No, stop."}]
    for process in (bench, bench.restart()):
        sent = messages(process.send(talk, tools=TOOLS))
        assert sent[:-1] == messages(before)[: len(sent) - 1]
    # The history that had it still does.
    assert messages(run(bench, 1, 11)[0])[: len(messages(cold))] == messages(cold)


def test_a_transient_last_message_does_not_take_it_along() -> None:
    bench = Bench(POLICY)
    before: tuple[Message, ...] = ()
    for number in range(1, 14):
        if number == 10:
            idle(bench, 400)
        tail = {"role": "user", "content": f"<it is {number} o'clock>"}
        sent = bench.send([*history(number), tail], tools=TOOLS)
        assert bool(epochs(sent)) == (number == 10)
        if number > 10:
            assert messages(sent)[: len(before)] == before
        before = messages(sent)[:-1]


@pytest.mark.parametrize("slot", ["journal", "epoch"])
def test_what_is_lost_is_as_if_it_had_never_been(slot: str) -> None:
    bench, before, cold = rewritten()
    scope, slots = bench.identity.scope("session"), bench.runtime.stores.slots
    name = slot
    if slot == "epoch":
        assert cold.result.history.epoch
        name = f"epoch/{cold.result.history.epoch.id}"
    [kept] = slots.load([(scope, name)])
    assert slots.commit([Write((scope, name), [] if slot == "journal" else 7, kept.version)], 0.0)
    fresh = bench.restart()
    [sent] = run(fresh, 1, 11)
    assert messages(sent)[: len(messages(before))] == messages(before)
    lost = [e for e in sent.events if isinstance(e, Degraded)]
    assert [e.error for e in lost] == (["epoch_lost"] if slot == "epoch" else [])
    if slot == "journal":  # the process that remembers it follows the journal, too
        assert messages(bench.send(history(12), tools=TOOLS)) == messages(sent)


# --- sums ------------------------------------------------------------------------------------

PROFILE = Profile(
    "p",
    "p",
    Price(100, 500, 10, 125, "2026-11-01", "test"),
    CacheRules("automatic", bills_writes=True),
    "cached_in_input",
    "2026-11-01",
    (),
)
UPTO = [0, 1000, 3000, 4000, 5000]
"""Four messages; the cache holds three."""


def shorter(place: int, before: int, after: int, *, hides: bool = False) -> Shorter:
    return Shorter(place, Form(), before, after, hides)


def test_the_sums_by_hand() -> None:
    scene = Scene("pays", PROFILE, 0, UPTO, 5000, 3, 10.0)
    found = scene.forecast([shorter(1, 2000, 500)])
    assert (found.before, found.after, found.rewritten) == (5000, 3500, 1500)
    # 1,500 tokens that would have been read (10) are written (125).
    assert found.price == 1500 * (125 - 10)
    # 1,500 tokens are not read, now and in ten calls.
    assert found.saving == 1500 * 10 * (1 + 10)
    assert found.now == 1500 * 10 - 1500 * 115
    assert scene.best([shorter(1, 2000, 500)]) == []
    assert replace(scene, calls=12.0).best([shorter(1, 2000, 500)])


def test_a_cold_cache_costs_nothing_to_leave() -> None:
    scene = Scene("idle", PROFILE, 0, UPTO, 5000, 0, 2.0)
    found = scene.forecast([shorter(1, 2000, 500)])
    assert found.price == 0
    assert found.saving == 1500 * 125 + 2 * 1500 * 10


def test_the_newest_messages_alone_are_rewritten_where_the_older_do_not_pay() -> None:
    scene = Scene("pays", PROFILE, 0, [0, 100, 50_100, 52_100], 52_100, 3, 20.0)
    small, large = shorter(0, 100, 60), shorter(2, 2000, 200)
    assert scene.best([small, large]) == [large]


def test_asking_back_is_paid_for() -> None:
    scene = Scene("idle", PROFILE, 0, UPTO, 5000, 0, 9.0)
    sure, hidden = (scene.forecast([shorter(1, 2000, 500, hides=h)]) for h in (False, True))
    assert sure.saving
    assert hidden.saving
    # One in fifty: a call over 3,500 cached tokens, a slice of 1,500 written, then read 9 times.
    assert sure.saving - hidden.saving == round(0.02 * (35_000 + 1500 * (125 + 9 * 10)))


def test_another_cache_that_holds_the_history_is_paid_for_by_half() -> None:
    scene = Scene("model", PROFILE, 0, UPTO, 5000, 0, 2.0, (PROFILE,))
    found = scene.forecast([shorter(1, 2000, 500)])
    assert found.price == round(0.5 * 2500 * (125 - 10))


# --- what came of it -------------------------------------------------------------------------


def test_the_outcome_is_told_when_the_chain_is_over() -> None:
    bench, _, cold = rewritten()
    [epoch] = epochs(cold)
    run(bench, 3, 11)
    bench.identity = Identity(session="s1", chain="c2")
    [sent] = run(bench, 1, 14)
    [ended] = [e for e in sent.events if isinstance(e, EpochEnded)]
    assert ended.calls == 3
    assert ended.expected_calls == epoch.calls
    assert ended.expected == (epoch.saving or 0) - (epoch.price or 0)
    # Every call after it reads so many tokens less, at a tenth of 3 USD a million.
    less, profile = epoch.before - epoch.after, bench.runtime.profile("fake")
    assert profile.price
    now = less * profile.price.cache_write
    assert ended.saved == now + 3 * less * profile.price.cache_read
    assert not [e for e in run(bench, 1, 15)[0].events if isinstance(e, EpochEnded)]


# --- how many calls --------------------------------------------------------------------------


def test_calls_are_expected_as_the_agents_chains_had_them() -> None:
    assert round(horizon.expected(None, 1), 1) == 9.0
    assert round(horizon.expected(None, 40), 1) == 9.0
    slot: Any = None
    for _ in range(60):  # chains of twelve calls
        for call in range(1, 13):
            slot = horizon.counted(slot, call) or slot
    early, late = horizon.expected(slot, 2), horizon.expected(slot, 12)
    assert 9 < early < 12.5
    assert late < 4
    assert horizon.expected(slot, 200) < 10
    assert horizon.counted(slot, 5) is None


def test_old_chains_fade() -> None:
    slot: Any = None
    for _ in range(1000):
        slot = horizon.counted(slot, 1)
    assert slot[0] < 256
    for broken in (7, [1], ["x"] * 16, [-1] * 16, {}):
        assert round(horizon.expected(broken, 3), 1) == 9.0
