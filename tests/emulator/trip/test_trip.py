"""The demo's world: the task can be solved from what is seen, and only from that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.core.types import Usage
from clawmw.emulator import Emulator, Reply
from clawmw.emulator.bill import input_tokens
from clawmw.emulator.trip import TOOLS, brain, call_tool, check
from clawmw.emulator.trip.world import saturdays, tickets, tier, trains

Message = dict[str, Any]
ROLES = ("plan", "gather", "check", "report")
TASK = "Plan a Saturday at Shanghai Disneyland."
DESK = "You plan outings for a family and never invent a fact. " * 200
EXPAND: dict[str, Any] = {
    "type": "function",
    "function": {"name": "clawmw_expand", "parameters": {"type": "object", "properties": {}}},
}
REF = "r-queue-1"


@dataclass
class Agents:
    """The four agents in a row over one shared transcript, or each with a fresh one."""

    see: Callable[[Message], Message] = lambda message: message
    tools: list[dict[str, Any]] = field(default_factory=lambda: list(TOOLS))
    answer: Callable[[str, dict[str, Any]], str] = call_tool
    ask: Callable[[dict[str, Any]], Reply] = brain
    shared: bool = True
    sizes: list[int] = field(default_factory=list)
    called: list[str] = field(default_factory=list)

    def run(self) -> str:
        """The last agent's text."""
        log, said = [user(TASK)], ""
        for role in ROLES:
            if not self.shared and said:
                log = [user(f"{TASK}\n\n{said}")]
            text = self._turns({"role": "system", "content": f"{DESK}\nAgent: {role}"}, log)
            said += f"\n\n{role}: {text}"
            if text.startswith("TASK FAILED"):
                return text
        return text

    def _turns(self, system: Message, log: list[Message]) -> str:
        for _ in range(12):
            messages = [system, *(self.see(m) for m in log)]
            body = {"model": "m", "messages": messages, "tools": self.tools}
            self.sizes.append(input_tokens(body))
            reply = self.ask(json.loads(json.dumps(body)))
            calls = [
                {
                    "id": f"call_{len(self.sizes)}_{n}",
                    "type": "function",
                    "function": {"name": u.name, "arguments": json.dumps(u.arguments)},
                }
                for n, u in enumerate(reply.tools)
            ]
            log.append({"role": "assistant", "content": reply.text})
            if not calls:
                return reply.text or ""
            log[-1]["tool_calls"] = calls
            for call, use in zip(calls, reply.tools, strict=True):
                self.called.append(use.name)
                content = self.answer(use.name, dict(use.arguments))
                log.append({"role": "tool", "tool_call_id": call["id"], "content": content})
        raise AssertionError("the agent does not come to an end")


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def without(pattern: str, note: str = "") -> Callable[[Message], Message]:
    """Tool results as a reducer leaves them that dropped what matches."""

    def see(message: Message) -> Message:
        if message["role"] != "tool" or not re.search(pattern, message["content"]):
            return message
        if message["content"].startswith("original:"):
            return message
        return {**message, "content": note + re.sub(pattern, "", message["content"])}

    return see


@pytest.mark.parametrize("shared", [True, False], ids=["shared transcript", "fresh transcripts"])
def test_with_everything_in_sight_the_plan_is_right(shared: bool) -> None:
    agents = Agents(shared=shared)
    assert check(agents.run()) == []
    assert "clawmw_expand" not in agents.called


def test_tools_answer_at_the_length_of_real_ones() -> None:
    agents = Agents()
    agents.run()
    assert 8 <= len(agents.sizes) <= 12
    assert agents.sizes[-1] - agents.sizes[0] > 20_000
    assert 25_000 <= len(call_tool("park_queue_page", {}).encode()) <= 36_000


def test_in_one_conversation_the_agent_is_the_one_named_last() -> None:
    task = user(f"Agent: plan\n{TASK}")
    messages = [{"role": "system", "content": DESK}, task]
    assert (brain({"messages": messages}).text or "").startswith("Outline")
    messages += [
        {"role": "assistant", "content": "Outline. Next agent: report"},
        user("Agent: gather\nFetch the sources.\n\nGo on."),
    ]
    assert [use.name for use in brain({"messages": messages}).tools] == [
        "park_queue_page",
        "weather_forecast",
    ]


@pytest.mark.parametrize(
    ("pattern", "missing"),
    [
        (r"TK-[A-Z2-7]{10}", "the adult ticket"),
        (r"SP-7DM-\d{4}-[A-Z2-7]{6}", "slot id"),
        (r"¥(475|356)\.00", "the adult ticket"),
        (r"20:30</td>", "the opening hours"),
        (r'"dep": "1[89]:\d\d"', "a train home"),
        (r"kids_menu", "a place for lunch"),
    ],
)
def test_what_cannot_be_seen_and_not_be_asked_for_fails_the_task(
    pattern: str, missing: str
) -> None:
    said = Agents(see=without(pattern)).run()
    assert said.startswith("TASK FAILED")
    assert missing in said
    assert check(said) == [said]


def test_what_was_cut_is_asked_back_by_its_reference() -> None:
    note = f"[clawmw_expand {REF}: ids left out]\n"
    asked: list[dict[str, Any]] = []

    def answer(name: str, arguments: dict[str, Any]) -> str:
        if name != "clawmw_expand":
            return call_tool(name, arguments)
        asked.append(arguments)
        page = call_tool("park_queue_page", {})
        return "original:\n" + "\n".join(x for x in page.split("\n") if "SP-7DM" in x)

    see = without(r"SP-7DM-\d{4}-[A-Z2-7]{6}", note)
    agents = Agents(see=see, tools=[*TOOLS, EXPAND], answer=answer)
    assert check(agents.run()) == []
    assert [a["ref"] for a in asked] == [REF]
    assert "SP-7DM" in asked[0]["query"]


def test_a_reference_that_brings_nothing_back_fails_the_task_and_does_not_loop() -> None:
    note = f"[clawmw_expand {REF}: 3 rows left out]\n"

    def answer(name: str, arguments: dict[str, Any]) -> str:
        return "gone" if name == "clawmw_expand" else call_tool(name, arguments)

    see = without(r"SP-7DM-\d{4}-[A-Z2-7]{6}", note)
    agents = Agents(see=see, tools=[*TOOLS, EXPAND], answer=answer)
    assert "did not bring it back" in agents.run()
    assert agents.called.count("clawmw_expand") == 2


def test_records_are_read_from_tables_and_text_as_well() -> None:
    def table(message: Message) -> Message:
        content = message["content"]
        if message["role"] != "tool" or not content.startswith("{"):
            return message
        lists = [v for v in json.loads(content).values() if isinstance(v, list)]
        rows = max(lists, key=len, default=[])
        if not rows:
            return message
        lines = [" | ".join(rows[0]), *(" | ".join(map(str, r.values())) for r in rows)]
        return {**message, "content": "\n".join(lines)}

    def plain(message: Message) -> Message:
        message = table(message)
        content = message["content"] or ""
        return {**message, "content": re.sub(r"\s*</?(td|tr|b)[^>]*>", " ", content)}

    assert check(Agents(see=plain).run()) == []


def test_over_the_wire_the_trip_is_billed_with_native_caching() -> None:
    with (
        Emulator(brain="trip", bill="openai") as emu,
        openai.OpenAI(base_url=emu.base_url, api_key="k", max_retries=0) as client,
    ):

        def ask(body: dict[str, Any]) -> Reply:
            client.chat.completions.create(**body)
            reply = emu.requests[-1].reply
            assert reply is not None
            return reply

        agents = Agents(ask=ask)
        assert check(agents.run()) == []
        usages = list(emu.usages)
    assert [u.input_tokens for u in usages] == agents.sizes
    assert _cached(usages) > 0.4


def _cached(usages: list[Usage]) -> float:
    read = sum(u.cache_read_tokens or 0 for u in usages)
    return read / sum(u.input_tokens or 0 for u in usages)


def test_the_brain_knows_only_agents_of_this_task() -> None:
    body = {"messages": [{"role": "system", "content": "You are helpful."}, user("hi")]}
    assert (brain(body).text or "").startswith("TASK FAILED: nothing I was told names an agent")


def test_tools_answer_the_same_every_time_and_in_words_when_asked_wrongly() -> None:
    names = [t["function"]["name"] for t in TOOLS]
    for name in names:
        assert call_tool(name, {}) == call_tool(name, {})
    for name, arguments in (
        ("no_such_tool", {}),
        ("ticket_search", {"date_from": "soon"}),
        ("hold_tickets", {"date": "2026-12-12", "items": [{"sku": "TK-X", "quantity": 1}]}),
        ("hold_tickets", {"date": "2026-12-12", "items": "all"}),
        ("reserve_table", {"date": "2026-12-12", "restaurant_id": "RS-X"}),
        ("calculator", {"expression": "__import__('os')"}),
        ("calculator", {"expression": "1/0"}),
        ("calculator", {"expression": "9**9**9"}),
    ):
        assert "error" in json.loads(call_tool(name, arguments))


def test_tickets_of_another_day_and_sold_out_windows_are_not_held() -> None:
    saturday = next(d for d in saturdays() if tier(d) == "off_peak")
    other = next(t for t in tickets() if t.day != saturday)
    items = [{"sku": other.sku, "quantity": 1}]
    said = call_tool("hold_tickets", {"date": str(saturday), "items": items, "slot_id": "SP-X"})
    assert f"{other.sku} is for {other.day}" in json.loads(said)["error"]


numbers = st.integers(0, 10_000)


@given(a=numbers, b=numbers, c=numbers)
def test_the_calculator_is_exact(a: int, b: int, c: int) -> None:
    said = call_tool("calculator", {"expression": f"{a}*{b}+{c}-({a}+{b})"})
    assert said.endswith(f" = {a * b + c - (a + b)}")


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    found = re.search(r"```json\n(.*?)\n```", Agents().run(), re.DOTALL)
    assert found
    value: dict[str, Any] = json.loads(found[1])
    return value


def told(plan: dict[str, Any]) -> list[str]:
    return check(f"The plan\n```json\n{json.dumps(plan)}\n```")


def test_the_check_finds_each_broken_constraint(plan: dict[str, Any]) -> None:
    assert told(plan) == []
    adult = plan["tickets"][0]
    late = next(t for t in trains() if t.arrives >= "20:00")
    late_train = {"trip": late.trip, "departs": late.departs, "arrives": late.arrives}
    peak = next(t for t in tickets() if t.tier == "peak" and t.audience == "child")
    for change, says in (
        ({"date": "2026-12-05"}, "not off-peak"),
        ({"date": "2026-12-13"}, "no Saturday"),
        ({"tickets": [adult]}, "tickets are for"),
        ({"tickets": [{**adult, "quantity": 3}]}, "tickets are for"),
        ({"tickets": [adult, {"sku": peak.sku, "quantity": 1, "yuan": peak.yuan}]}, "ticket for"),
        ({"tickets": [{**adult, "sku": "TK-NOSUCHONE2"}]}, "there is no ticket"),
        ({"slot": {"id": "SP-7DM-1212-NOSUCH", "start": "10:30"}}, "no reservation window"),
        ({"train": late_train}, "back before 20:00"),
        ({"lunch": plan["dinner"]}, "no place for lunch"),
        ({"costs": {**plan["costs"], "total": 1999}}, "the plan costs"),
        ({"hold_id": "HOLD-ABCDEFGHI"}, "does not hold these tickets"),
        ({"reservation_id": "TBL-ABCDEFG"}, "is no table"),
        ({"rain": "0%"}, "chance of rain"),
        ({"hours": ["09:00", "20:30"]}, "the park is open"),
    ):
        assert any(says in line for line in told({**plan, **change})), (change, says)


def test_a_report_without_a_whole_plan_is_wrong(plan: dict[str, Any]) -> None:
    assert check("A lovely day!") == ["the report holds no plan"]
    for gone in plan:
        rest = {k: v for k, v in plan.items() if k != gone}
        assert told(rest) or gone == "tier", gone


SECRETS = re.compile(r"TK-[A-Z2-7]{10}|SP-7DM-\d|L11W-[A-Z2-7]{5}|RS-[A-Z2-7]{6}|2026-12-12")
"""What the agents must find out."""


@pytest.mark.parametrize("name", ["trip.yaml", "desk.md"])
def test_nothing_the_agents_must_find_out_stands_in_their_prompts(name: str) -> None:
    assert not SECRETS.search((files("clawmw.demo") / name).read_text("utf-8"))
    assert not SECRETS.search(json.dumps(TOOLS))
