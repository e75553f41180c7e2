"""Crews of the real CrewAI under a policy, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from crewai import Agent, Crew, Process, Task
from crewai.tools import tool
from pydantic import BaseModel

import clawmw.crewai
from clawmw.core.events import CallFinished, Event, StageFailed
from clawmw.emulator import Emulator, Fault, Reply, ToolUse
from clawmw.errors import ClawmwError, Refused
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import asked, rows

TABLE = rows(300)


@tool
def prices(city: str) -> str:
    """Prices in a city."""
    return TABLE


def brain(body: dict[str, Any]) -> Reply:
    tools = [t["function"]["name"] for t in body.get("tools", ())]
    if body["messages"][-1]["role"] == "tool":
        return Reply("It is 300.")
    if "prices" in tools:
        return Reply(tools=(ToolUse("prices", {"city": "Oslo"}),))
    if "ask_question_to_coworker" in tools:
        asked = {"question": "how much?", "context": "none", "coworker": "expert"}
        return Reply(tools=(ToolUse("ask_question_to_coworker", asked),))
    return Reply("It is 300, one two three.")


class Case:
    """A policy in front of an emulator, and what was told of its calls."""

    def __init__(self, emulator: Emulator, **policy: Any) -> None:
        self.emulator = emulator
        self.events: list[Event] = []
        loaded = load_policy({"version": 1, "trace": "off", **policy})
        self.runtime = Runtime.of(loaded, observers=[self.events.append])

    def llm(self, **options: Any) -> Any:
        place = {"base_url": self.emulator.base_url, "api_key": "any"}
        return clawmw.crewai.llm("openai/gpt-5.4", self.runtime, **place, **options)

    def agent(self, role: str = "asker", **options: Any) -> Agent:
        llm = options.pop("llm", None) or self.llm()
        return Agent(role=role, goal="to know", backstory="curious", llm=llm, **options)

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]

    @property
    def who(self) -> list[str]:
        return [e.identity.agent for e in self.finished]

    @property
    def chains(self) -> set[str]:
        return {e.identity.chain for e in self.finished}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(brain=brain, bill="openai") as found:
        yield found


@pytest.fixture
def case(emulator: Emulator) -> Iterator[Case]:
    found = Case(emulator, compress="lossless")
    yield found
    assert not [e for e in found.events if isinstance(e, StageFailed)]
    found.runtime.close()


def crew(agent: Agent, count: int = 1, **more: Any) -> Crew:
    tasks = [
        Task(description=f"How much is {n}?", expected_output="a number", agent=agent, **more)
        for n in range(count)
    ]
    return Crew(agents=[agent], tasks=tasks)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_round_trip(case: Case, stream: bool) -> None:
    agent = case.agent(llm=case.llm(stream=stream), tools=[prices])
    assert str(crew(agent).kickoff()) == "It is 300."
    assert [(e.status, e.usage.basis if e.usage else "") for e in case.finished] == [
        ("ok", "measured"),
        ("ok", "measured"),
    ]
    assert case.who == ["asker", "asker"]
    assert len(case.chains) == 1
    assert len(str(case.emulator.requests[1].body)) < len(TABLE) * 0.6
    assert not case.finished[0].identity.derived
    crew(agent).kickoff()
    assert len(case.chains) == 2, "the next kickoff is another task"


def test_an_async_kickoff(case: Case) -> None:
    agent = case.agent(tools=[prices])
    assert str(asyncio.run(crew(agent).akickoff())) == "It is 300."
    assert [e.status for e in case.finished] == ["ok", "ok"]
    assert len(case.chains) == 1


def test_copies_of_a_crew_are_under_the_policy_too(case: Case) -> None:
    task = {"description": "How much is {n}?", "expected_output": "a number"}
    agent = case.agent()
    found = Crew(agents=[agent], tasks=[Task(agent=agent, **task)])
    found.kickoff_for_each([{"n": "one"}, {"n": "two"}])
    assert [e.status for e in case.finished] == ["ok", "ok"]
    assert len(case.chains) == 2


def test_a_colleague_who_is_asked_is_of_the_same_chain(case: Case) -> None:
    boss, expert = case.agent("boss", allow_delegation=True), case.agent("expert")
    task = Task(description="How much?", expected_output="a number", agent=boss)
    found = Crew(agents=[boss, expert], tasks=[task], process=Process.sequential).kickoff()
    assert str(found) == "It is 300."
    assert case.who == ["boss", "expert", "boss"]
    assert len(case.chains) == 1
    assert len({e.identity.session for e in case.finished}) == 2


def test_a_stopped_crew_ends_with_the_reason_and_is_not_run_again(emulator: Emulator) -> None:
    case = Case(emulator, budget={"chain": {"calls": 2}})
    with pytest.raises(Refused, match=r"budget\.chain\.calls"):
        crew(case.agent(), 4).kickoff()
    assert len(emulator.requests) == 2
    assert [e.status for e in case.finished].count("halted") == 1
    case.runtime.close()


class Verdict(BaseModel):
    """What a program reads."""

    fine: bool


def test_structured_output_is_never_a_message_of_ours(emulator: Emulator) -> None:
    case = Case(emulator, budget={"chain": {"calls": 0}})
    with pytest.raises(Refused, match=r"budget\.chain"):
        case.llm().call("Is it fine?", response_model=Verdict)
    assert not emulator.requests
    case.runtime.close()


def test_a_message_where_the_policy_says_so(emulator: Emulator) -> None:
    case = Case(emulator, budget={"chain": {"calls": 0}}, refusal="message")
    assert "budget.chain.calls" in str(case.llm().call("How much?"))
    assert "budget.chain.calls" in str(case.llm(stream=True).call("How much?"))
    case.runtime.close()


def test_an_upstreams_error_is_crewais_own_and_tried_once_by_us(emulator: Emulator) -> None:
    case = Case(emulator, retry={"attempts": 2, "base": "10ms"})
    emulator.fail_next(*[Fault(status=503)] * 9)
    with pytest.raises(openai.InternalServerError):
        case.llm().call("How much?")
    assert len(emulator.requests) == 2
    assert [e.status for e in case.finished] == ["failed"]
    case.runtime.close()


def test_what_crewai_tries_again_is_paid_once(emulator: Emulator) -> None:
    case = Case(emulator, retry=False)
    emulator.fail_next(Fault(status=503, retry_after=0.01))
    assert case.llm().call("How much?")
    assert [e.status for e in case.finished] == ["failed", "ok"]
    assert not (cost := case.finished[0].cost) or not cost.total
    assert case.finished[1].cost
    case.runtime.close()


def test_a_cancelled_call_settles(case: Case) -> None:
    async def main() -> None:
        case.emulator.fail_next(Fault(delay=30))
        task = asyncio.ensure_future(case.llm().acall("How much?"))
        await asyncio.to_thread(asked, case.emulator)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [e.status for e in case.finished] == ["cancelled"]


def test_a_policy_below_sees_that_each_call_was_decided_about(case: Case) -> None:
    with clawmw.install(case.runtime):
        assert str(crew(case.agent(tools=[prices])).kickoff()) == "It is 300."
    assert [e.status for e in case.finished] == ["ok", "ok"]


def test_what_is_said_around_a_call_holds(case: Case) -> None:
    with clawmw.calling(session="ticket-17", agent="me"):
        case.llm().call("How much?")
    who = case.finished[0].identity
    assert (who.session, who.agent) == ("ticket-17", "me")


def test_a_key_may_come_later(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    llm = clawmw.crewai.llm("gpt-5.4", case.runtime, base_url=case.emulator.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    assert llm.call("How much?")
    assert [e.status for e in case.finished] == ["ok"]


def test_what_the_policy_cannot_see_is_refused_at_once(case: Case) -> None:
    with pytest.raises(ClawmwError, match="OpenAI-compatible"):
        clawmw.crewai.llm("gpt-5.4", case.runtime, is_litellm=True)
