"""Where cache marks go: golden cases, and what holds for all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.core.breakpoints import Given, kept, merged, ordered, worth
from clawmw.core.breakpoints import Place as At
from clawmw.core.canon import MARKS
from clawmw.core.events import Acted
from clawmw.core.money import CacheRules
from clawmw.providers.load import profile_for
from clawmw.testing import Bench, Clock, Sent
from tests.conftest import tool

FOLDER = Path(__file__).parents[2] / "cases" / "prompt_cache"
FILES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
CASES = [
    pytest.param(
        {**{k: v for k, v in file.items() if k != "cases"}, **case}, id=f"{name}: {case['name']}"
    )
    for name, file in FILES.items()
    for case in file["cases"]
]
CLAUDE = "claude-sonnet-4-6"
RULES = profile_for(CLAUDE).cache


def mark(ttl: str, key: str) -> Any:
    if key == "prompt_cache_breakpoint":
        return {"mode": "explicit"}
    return {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}


def request(asked: list[str], key: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Messages and tools as `role~text!ttl` describes them."""
    messages: list[dict[str, Any]] = []
    tools = [tool("read"), tool("write")]
    for item in asked:
        head, marked, ttl = item.partition("!")
        role, _, name = head.partition("~")
        if role == "tools":
            tools[-1] = {**tools[-1], **({key: mark(ttl, key)} if marked else {})}
            continue
        place = len(messages)
        text = f"{name or f'{role} {place}'}. " * 40
        message: dict[str, Any] = {"role": role, "content": text}
        if role == "call":
            function = {"name": "read", "arguments": f'{{"n":{place}}}'}
            call = {"id": f"c{place}", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        elif role == "tool":
            message["tool_call_id"] = "c"
        if marked:
            message["content"] = [{"type": "text", "text": text, key: mark(ttl, key)}]
        messages.append(message)
    return messages, tools


def shape(body: dict[str, Any], asked: list[str]) -> list[str]:
    """A body's marks in the words of what was asked; the tools only where they were told."""
    told = asked if asked[0].startswith("tools") else ["tools", *asked]
    found = []
    for name, value in zip(told, [body["tools"], *body["messages"]], strict=True):
        seen = marks_in(value)
        assert len(seen) <= 1
        found.append(name.partition("!")[0] + (f"!{seen[0].get('ttl', '')}" if seen else ""))
    return found if told is asked or "!" in found[0] else found[1:]


def marks_in(value: Any) -> list[Any]:
    if isinstance(value, dict):
        own = [v for k, v in value.items() if k in MARKS]
        return own + [m for k, v in value.items() if k not in MARKS for m in marks_in(v)]
    return [m for v in value for m in marks_in(v)] if isinstance(value, list) else []


def played(case: dict[str, Any]) -> Sent:
    """The case's calls, made one after the other; the last of them."""
    profile = case.get("profile", CLAUDE)
    key = profile_for(profile).cache.hint or "cache_control"
    policy = {"version": 1, "compress": False, "dedupe": False, "loop_guard": False}
    config = {k: case[k] for k in ("marks", "ttl") if k in case}
    clock = Clock(step=0.0)
    bench = Bench(
        {**policy, "prompt_cache": config, "models": {"m": {"model": "fake", "profile": profile}}},
        clock=clock,
    )
    shapes = [*case.get("earlier", ()), case["asked"]]
    gaps = [0, *case.get("gaps", [5] * len(shapes))]
    top = {"cache_control": {"type": "ephemeral"}} if case.get("top") else {}
    for gap, one in zip(gaps, shapes, strict=False):
        clock.now += gap
        messages, tools = request(one, key)
        sent = bench.send(messages, tools=tools, **top)
    return sent


@pytest.mark.parametrize("case", CASES)
def test_golden(case: dict[str, Any]) -> None:
    sent = played(case)
    want = [name.replace("!5m", "!") for name in case["sent"]]
    got = [name.replace("!5m", "!") for name in shape(sent.body, case["asked"])]
    assert got == want
    if case.get("as_it_was"):
        assert sent.bodies[0] == sent.wire
    if case["marks"] != "keep":
        assert len(marks_in(sent.body)) <= 4


# --- what holds for all --------------------------------------------------------------------------

lives = st.sampled_from([None, "5m", "1h"])
theirs = st.lists(st.tuples(st.integers(-1, 9), lives), max_size=6)


@given(theirs, st.lists(st.integers(-1, 9), unique=True, max_size=4), lives)
@settings(max_examples=300, derandomize=True, database=None)
def test_merging_is_never_too_much_and_never_out_of_order(
    marks: list[tuple[int, str | None]], ours: list[int], wish: str | None
) -> None:
    client = [Given(m, ttl) for m, ttl in sorted(marks, key=lambda pair: pair[0])]
    stay = kept(client, RULES.max_marks)
    assert len(stay) <= RULES.max_marks
    assert set(stay) <= set(client)
    joined = merged([At(place) for place in ours], stay, RULES.ttl(wish), RULES)
    assert len(stay) + len(joined) <= RULES.max_marks
    together = [*stay, *(Given(p.message, ttl.name if ttl else None) for p, ttl in joined)]
    together.sort(key=lambda given: given.message)
    if ordered(stay, RULES):
        assert ordered(together, RULES)
    else:
        assert not joined


@given(st.lists(st.integers(0, 8000), max_size=16), st.integers(0, 200_000), st.integers(0, 5000))
@settings(max_examples=200, derandomize=True, database=None)
def test_the_lifetime_chosen_is_the_cheapest(gaps: list[int], old: int, fresh: int) -> None:
    chosen = worth(profile_for(CLAUDE), gaps, old + fresh, fresh)
    assert chosen is not None

    def bill(seconds: int, write: float) -> float:
        return sum(
            0.1 * old + write * fresh if gap < 0.95 * seconds else write * (old + fresh)
            for gap in gaps
        )

    least = min(bill(300, 1.25), bill(3600, 2.0))
    assert bill(chosen.seconds, chosen.write) == pytest.approx(least)
    assert worth(profile_for(CLAUDE), (), old, fresh) == RULES.ttls[0]
    assert worth(profile_for("gpt-5.4"), gaps, old, fresh) is None


def test_a_system_prompt_in_blocks_is_marked_before_what_differs_by_session() -> None:
    case = Bench(
        {"version": 1, "models": {"m": {"model": "fake", "profile": CLAUDE}}},
    )
    blocks = [
        {"type": "text", "text": "Rules. " * 50},
        {"type": "text", "text": "More rules. " * 50},
        {"type": "text", "text": "Current date: 2026-11-22\nRuntime: sessionId=ab12"},
    ]
    system = {"role": "system", "content": blocks}
    sent = case.send([system, {"role": "user", "content": "hi"}], tools=[tool("a")]).body
    found = [bool(marks_in(block)) for block in sent["messages"][0]["content"]]
    assert found == [False, True, False]
    assert [b["text"] for b in sent["messages"][0]["content"]] == [b["text"] for b in blocks]
    assert sent["messages"][0]["role"] == "system"


def test_a_mark_in_a_message_of_its_text_is_no_mark() -> None:
    case = Bench({"version": 1, "models": {"m": {"model": "fake", "profile": CLAUDE}}})
    text = 'put {"cache_control": {"type": "ephemeral"}} there'
    sent = case.send([{"role": "user", "content": text}]).body["messages"]
    assert len(marks_in(sent)) == 1
    schema = tool("configure")
    schema["function"]["parameters"]["properties"] = {"cache_control": {"type": "object"}}
    body = case.send([{"role": "user", "content": "x"}], tools=[schema]).body
    assert body["tools"][-1]["function"] == schema["function"]
    assert "cache_control" in body["messages"][-1]["content"][0]


# --- tools ----------------------------------------------------------------------------------


def names(sent: Sent) -> list[str]:
    return [t["function"]["name"] for t in sent.body["tools"]]


def test_tools_are_sorted_from_the_first_call_on_and_stay_so() -> None:
    case = Bench({"version": 1})
    ask = {"role": "user", "content": "x"}
    assert names(case.send([ask], tools=[tool("b"), tool("a")])) == ["a", "b"]
    later = [ask, {"role": "assistant", "content": "y"}, ask]
    assert names(case.send(later, tools=[tool("b"), tool("a")])) == ["a", "b"]
    assert names(case.restart().send(later, tools=[tool("a"), tool("b")])) == ["a", "b"]
    # another roster moves the prefix anyway
    assert names(case.send(later, tools=[tool("c"), tool("a")])) == ["a", "c"]


def test_tools_that_were_sent_unsorted_are_left_so() -> None:
    watching = Bench({"version": 1, "prompt_cache": {"mode": "observe"}})
    ask = {"role": "user", "content": "x"}
    sent = watching.send([ask], tools=[tool("b"), tool("a")])
    assert names(sent) == ["b", "a"]
    assert any(
        e.rule == "prompt_cache.tools" and e.would for e in sent.events if isinstance(e, Acted)
    )
    acting = Bench({"version": 1}, clock=watching.clock)
    acting.runtime.stores = watching.runtime.stores
    later = [ask, {"role": "assistant", "content": "y"}, ask]
    assert names(acting.send(later, tools=[tool("b"), tool("a")])) == ["b", "a"]
    off = Bench({"version": 1, "prompt_cache": {"tools": "keep"}})
    assert names(off.send([ask], tools=[tool("b"), tool("a")])) == ["b", "a"]


# --- keys -----------------------------------------------------------------------------------


def test_a_key_is_one_for_a_prefix_family_and_tenant() -> None:
    def key(text: str, tenant: str = "default", **params: Any) -> Any:
        policy = {
            "version": 1,
            "tenant": tenant,
            "models": {"m": {"model": "fake", "profile": "gpt-5.4"}},
        }
        messages = [{"role": "system", "content": text}, {"role": "user", "content": "x"}]
        return Bench(policy).send(messages, tools=[tool("a")], **params).body["prompt_cache_key"]

    head = "Always be brief and name your sources. " * 200
    today = key(head + "Current date: 2026-11-22. sessionId=one")
    assert today == key(head + "Current date: 2026-11-23. sessionId=two")
    assert today != key(head, tenant="other")
    assert today != key(head.upper())
    assert today == key(head + "Another end.")  # they share what comes before it
    assert key("Today is 2026-11-22.") != key("Today is 2026-11-23.")  # too short to be shared
    assert key(head, prompt_cache_key="mine") == "mine"


def test_rules_without_a_number_of_marks_take_all() -> None:
    rules = CacheRules("marks", hint="cache_control")
    assert len(merged([At(i) for i in range(6)], (), None, rules)) == 6
    assert json.dumps([ttl for _, ttl in merged([At(1)], (), None, rules)]) == "[null]"
