"""The laws on long conversations: where caches go cold between calls, and in small windows."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from clawmw.core.identity import Identity
from clawmw.core.render import message_tokens
from clawmw.stages.context.window import Window, WindowConfig
from clawmw.testing import Bench, acted, check_session, rewrote
from tests.conftest import histories, log, rows, tool, turn
from tests.laws.dialects import Messages, numbered, refusing
from tests.laws.strategies import drawn
from tests.laws.test_stages import laws as all_laws

TOOLS = [tool("read"), tool("search")]
WHO = Identity(session="s1", chain="c1")
SMALL = {"fake": {"model": "fake", "profile": "ernie-4.0-turbo-8k"}}
PRICED = {"fake": {"model": "fake", "profile": "claude-sonnet-4-6"}}


def ledger(seed: int) -> str:
    """Lines that are much alike and none the same."""
    return "\n".join(
        f"{seed}-{i}: visitor {i * 7919 % 9973} paid {i * 31 % 89} yuan at gate {i * seed % 13}"
        for i in range(160)
    )


results = st.one_of(
    st.builds(ledger, st.integers(1, 9)),
    st.builds(lambda n, seed: rows(n, seed), st.integers(20, 80), st.integers(1, 5)),
    st.builds(log, st.integers(40, 160)),
    st.text(max_size=40),
)


def laws(examples: int) -> Any:
    """The same conversations on every run; shrinking such long ones would take minutes."""
    return settings(all_laws(examples), phases=[Phase.generate])


@st.composite
def long_runs(draw: st.DrawFn, results: st.SearchStrategy[str] = results) -> list[dict[str, Any]]:
    """Many rounds of tool calls, some of the same call; sometimes the user says more."""
    system = "Be brief. " * draw(st.integers(600, 700))  # long enough to be cached
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Begin."}]
    for number in range(draw(st.integers(4, 9))):
        asked = {"page": draw(st.integers(1, 3))} if draw(st.booleans()) else {"page": number}
        name, result = draw(st.sampled_from(["read", "search"])), draw(results)
        messages += turn(draw(st.sampled_from(["a", f"c{number}"])), name, asked, result)
        if draw(st.integers(0, 3)) == 0:
            messages += [
                {"role": "assistant", "content": "Done. " * draw(st.integers(1, 300))},
                {"role": "user", "content": draw(st.text(max_size=30)) + "Go on."},
            ]
    return messages


def hold(
    policy: dict[str, Any], examples: int, idle: float, runs: Any = None, **more: Any
) -> Counter[str]:
    """The laws over such conversations; how often each stage acted."""
    seen: Counter[str] = Counter()

    @given(messages=long_runs() if runs is None else runs)
    @laws(examples)
    def check(messages: list[dict[str, Any]]) -> None:
        calls = histories(numbered(messages) if "bench" in more else messages)
        options = {"model": drawn, "identity": WHO, "idle": idle, **more}
        seen.update(check_session(policy, calls, tools=TOOLS, **options))

    check()
    return seen


def test_where_caches_go_cold_between_calls() -> None:
    policy = {"version": 1, "models": PRICED, "epochs": {"keep": 1, "gain": "1%"}}
    large = long_runs(st.builds(ledger, st.integers(1, 9)))  # or nothing shorter is left
    assert hold(policy, 5, 8000.0, large)["epochs"] >= 5


def test_in_anthropics_dialect_which_refuses_what_is_not_paired() -> None:
    policy = {"version": 1, "models": PRICED, "epochs": {"keep": 1, "gain": "1%"}}
    large = long_runs(st.builds(ledger, st.integers(1, 9)))
    said: dict[str, Any] = {"model": refusing, "bench": Messages}
    assert hold(policy, 3, 8000.0, large, **said)["epochs"]
    small = {"version": 1, "models": SMALL, "compress": "lossless", "dedupe": False}
    assert hold(small, 2, 0.0, **said)["window"]


def test_in_a_small_window() -> None:
    policy = {"version": 1, "models": SMALL, "compress": "lossless", "dedupe": False}
    assert hold(policy, 5, idle=0.0)["window"] >= 5


def test_in_a_small_window_where_the_model_cannot_ask() -> None:
    policy = {"version": 1, "models": SMALL, "compress": False, "dedupe": False, "expand": False}
    assert hold(policy, 5, idle=0.0)["window"] >= 5


def paired(messages: list[dict[str, Any]]) -> bool:
    """Whether each round of calls is followed by its results, and nothing else by any."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return False
            waiting.remove(message["tool_call_id"])
        elif waiting:
            return False
        waiting += [call["id"] for call in message.get("tool_calls") or ()]
    return not waiting


def test_it_fits_or_halts_and_keeps_what_must_stay() -> None:
    seen: Counter[str] = Counter()

    @given(messages=long_runs(), huge=st.sampled_from([0, 0, 9_000]), ask=st.booleans())
    @laws(14)
    def check(messages: list[dict[str, Any]], huge: int, ask: bool) -> None:
        if huge:
            messages = [*messages, {"role": "user", "content": "word " * huge}]
        bench = Bench({"version": 1, "models": SMALL, "compress": "lossless", "expand": ask})
        room = Window(WindowConfig()).room
        for call in histories(messages):
            sent = bench.send(call, tools=TOOLS, max_tokens=4000)
            allowed = room(sent.request, bench.runtime.profile("fake"))
            assert allowed == 8192 - 4000
            if sent.result.halt is not None:
                halt = sent.result.halt
                seen[str(halt.because)] += 1
                assert f"{allowed:,}" in halt.limit
                assert halt.resume
                assert not sent.bodies
                continue
            body, seen["fits"] = sent.body["messages"], seen["fits"] + 1
            decoded = bench.runtime.codecs["openai.chat"].decode(sent.bodies[0])
            weight = sum(message_tokens(m) for m in decoded.messages)
            assert weight + sum(t.tokens for t in decoded.tools) <= allowed
            assert paired(body)
            assert body[0] == call[0]
            assert call_user(call) in body
            assert call[1] in body, "the task stays"
            seen["left out"] += len(body) < len(call)
            seen["rewritten"] += rewrote(sent)

    check()
    assert seen["fits"] > 50
    assert seen["rewritten"] > 10
    assert seen["left out"] > 5
    assert seen["window.full"] >= 3


def call_user(call: list[dict[str, Any]]) -> dict[str, Any]:
    """The last thing the user said."""
    return [message for message in call if message["role"] == "user"][-1]


def test_between_two_epochs_the_prefix_stands() -> None:
    bench = Bench({"version": 1, "models": SMALL, "compress": False, "dedupe": False})
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Begin."}]
    before: list[dict[str, Any]] = []
    moved = []
    for number in range(40):
        messages = [*messages, *turn(f"c{number}", "read", {"page": number}, rows(10, number))]
        sent = bench.send(messages, tools=TOOLS)
        body = sent.body["messages"]
        moved.append(body[: len(before)] != before)
        assert moved[-1] == rewrote(sent)
        before = body
    assert 2 <= sum(moved) <= 12
    assert not any(one and other for one, other in pairwise(moved)), "each makes room for several"
    assert acted(sent)["window"]
    assert json.dumps(before).count("clawmw_expand") >= 1
