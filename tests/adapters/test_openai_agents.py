"""Runs of the real OpenAI Agents SDK under a policy, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import clawmw
from clawmw.core.events import CallFinished, Event, StageFailed
from clawmw.core.money import Cost
from clawmw.emulator import Emulator, Fault, Reply, ToolUse
from clawmw.errors import ClawmwError, Refused
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import asked, rows

agents = pytest.importorskip("agents")
openai = pytest.importorskip("openai")

from pydantic import BaseModel  # noqa: E402

from clawmw.adapters import openai_agents  # noqa: E402

TABLE = rows(300)


@pytest.fixture(autouse=True, scope="module")
def _no_traces_leave() -> None:
    agents.set_trace_processors([])


@agents.function_tool
def prices(city: str) -> str:
    """Prices in a city."""
    return TABLE


class Verdict(BaseModel):
    """What a program reads."""

    fine: bool


def brain(body: dict[str, Any]) -> Reply:
    """Asks for what the conversation lacks: prices, or the colleague that is offered."""
    said = [m for m in body["messages"] if m["role"] != "system"]
    tools = [t["function"]["name"] for t in body.get("tools", ())]
    if said[-1]["role"] == "tool" and not any(n.startswith("transfer") for n in tools):
        return Reply("It is 300.")
    for name in tools:
        if name == "prices":
            return Reply(tools=(ToolUse(name, {"city": "Oslo"}),))
        if name.startswith("transfer"):
            return Reply(tools=(ToolUse(name, {}),))
        if name == "ask_expert":
            return Reply(tools=(ToolUse(name, {"input": "what is it?"}),))
    return Reply("It is 300, one two three four five.")


class Case:
    """A provider under a policy, in front of an emulator, and what was told of its calls."""

    def __init__(self, emulator: Emulator, policy: dict[str, Any], *, responses: bool) -> None:
        self.emulator = emulator
        self.events: list[Event] = []
        loaded = load_policy({"version": 1, "trace": "off", **policy})
        self.runtime = Runtime.of(loaded, observers=[self.events.append])
        if responses and "openai.responses" not in self.runtime.codecs:
            pytest.skip("the Responses dialect is not there")
        self._loop = asyncio.Runner()
        self.client = openai.AsyncOpenAI(base_url=emulator.base_url, api_key="any")
        self.provider = openai_agents.Provider(
            self.runtime, openai_client=self.client, openai_use_responses=responses
        )

    def do(self, work: Any) -> Any:
        """All in one event loop: that of the client's connections."""
        return self._loop.run(work)

    def close(self) -> None:
        self.do(self.client.close())
        self._loop.close()
        self.runtime.close()

    def config(self, **more: Any) -> Any:
        return agents.RunConfig(model_provider=self.provider, **more)

    def run(self, agent: Any, text: str = "how much?", **more: Any) -> Any:
        config = more.pop("config", None) or self.config()

        async def main() -> Any:
            return await agents.Runner.run(agent, text, run_config=config, **more)

        return self.do(main())

    def stream(self, agent: Any, text: str = "how much?", **more: Any) -> tuple[Any, str]:
        """The result of a streamed run, and the text as it came."""

        async def main() -> tuple[Any, str]:
            result = agents.Runner.run_streamed(agent, text, run_config=self.config(), **more)
            parts = [
                e.data.delta
                async for e in result.stream_events()
                if getattr(getattr(e, "data", None), "type", "") == "response.output_text.delta"
            ]
            return result, "".join(parts)

        return self.do(main())

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]

    @property
    def who(self) -> list[str]:
        return [e.identity.agent for e in self.finished]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(brain=brain, bill="openai") as found:
        yield found


@pytest.fixture(params=["chat", "responses"])
def case(request: Any, emulator: Emulator) -> Iterator[Case]:
    found = Case(emulator, {"compress": "lossless"}, responses=request.param == "responses")
    yield found
    assert not [e for e in found.events if isinstance(e, StageFailed)]
    found.close()


@pytest.fixture(params=["chat", "responses"])
def poor(request: Any, emulator: Emulator) -> Iterator[Case]:
    """Two calls a chain, no more."""
    policy = {"budget": {"chain": {"calls": 2}}}
    found = Case(emulator, policy, responses=request.param == "responses")
    yield found
    found.close()


ASKER = agents.Agent(name="asker", model="gpt-5.4", tools=[prices])
PLAIN = agents.Agent(name="plain", model="gpt-5.4")


def test_a_tool_round_trip_is_reduced_on_the_wire_and_not_in_memory(case: Case) -> None:
    memory = agents.SQLiteSession("talk-1")
    result = case.run(ASKER, session=memory)
    assert result.final_output == "It is 300."
    assert [e.status for e in case.finished] == ["ok", "ok"]
    assert case.who == ["asker", "asker"]
    measured = [e.usage.input_tokens for e in case.finished if e.usage]
    assert result.context_wrapper.usage.input_tokens == sum(measured)
    assert len(str(case.emulator.requests[1].body)) < len(TABLE) * 0.6
    items = case.do(memory.get_items())
    assert TABLE in [item.get("output") for item in items]


def test_runs_of_one_memory_are_one_session_and_a_chain_each(case: Case) -> None:
    memory = agents.SQLiteSession("talk-2")
    for _ in range(2):
        case.run(PLAIN, session=memory)
    first, second = [e.identity for e in case.finished]
    assert first.session == second.session
    assert "session" not in first.derived
    assert first.chain != second.chain


def test_a_server_that_takes_no_cache_key_gets_none_of_ours(emulator: Emulator) -> None:
    case = Case(emulator, {"prompt_cache": False}, responses=False)
    case.run(PLAIN, session=agents.SQLiteSession("talk-3"))
    assert "prompt_cache_key" not in emulator.requests[0].body
    assert case.finished[0].identity.session.startswith("agents-sdk:session:")
    case.close()


def test_a_streamed_run(case: Case) -> None:
    result, text = case.stream(ASKER)
    assert result.final_output == text == "It is 300."
    assert [(e.status, e.usage.basis if e.usage else "") for e in case.finished] == [
        ("ok", "measured"),
        ("ok", "measured"),
    ]
    assert case.who == ["asker", "asker"]
    assert len({e.identity.chain for e in case.finished}) == 1


@pytest.mark.parametrize("tracing_disabled", [False, True])
def test_an_agent_as_a_tool_is_of_the_same_chain(case: Case, tracing_disabled: bool) -> None:
    expert = PLAIN.clone(name="expert")
    tool = expert.as_tool(tool_name="ask_expert", tool_description="Asks the expert.")
    boss = agents.Agent(name="boss", model="gpt-5.4", tools=[tool])
    config = case.config(tracing_disabled=tracing_disabled)
    assert case.run(boss, config=config).final_output == "It is 300."
    assert case.who == ["boss", "expert", "boss"]
    assert len({e.identity.chain for e in case.finished}) == 1
    assert case.finished[0].identity.session != case.finished[1].identity.session
    case.run(boss, config=config)
    assert len({e.identity.chain for e in case.finished}) == 2, "the next run is another task"


def test_an_agent_handed_over_to_is_of_the_same_chain(case: Case) -> None:
    boss = agents.Agent(name="boss", model="gpt-5.4", handoffs=[PLAIN.clone(name="expert")])
    assert case.run(boss).final_output.startswith("It is 300")
    assert case.who == ["boss", "expert"]
    assert len({e.identity.chain for e in case.finished}) == 1


def test_runs_at_the_same_time_are_told_apart(case: Case) -> None:
    async def main() -> None:
        config = case.config()
        one, two = PLAIN.clone(name="one"), PLAIN.clone(name="two")
        await asyncio.gather(
            *[agents.Runner.run(a, "hi", run_config=config) for a in (one, two, one, two)]
        )

    case.do(main())
    assert sorted(case.who) == ["one", "one", "two", "two"]
    assert len({e.identity.chain for e in case.finished}) == 4


def test_what_is_said_around_a_run_holds(case: Case) -> None:
    with clawmw.calling(session="ticket-17", chain="c9", kind="review"):
        case.run(PLAIN)
    who = case.finished[0].identity
    assert (who.session, who.chain, who.kind, who.agent) == ("ticket-17", "c9", "review", "plain")


def test_a_group_is_a_session_of_each_of_its_agents(case: Case) -> None:
    for agent in (PLAIN, PLAIN, PLAIN.clone(name="other")):
        case.run(agent, config=case.config(group_id="thread-5"))
    sessions = [e.identity.session for e in case.finished]
    assert sessions[0] == sessions[1] != sessions[2]


# --- refusals ---------------------------------------------------------------------------------


def test_a_stopped_run_ends_with_the_reason(poor: Case) -> None:
    def endless(body: dict[str, Any]) -> Reply:
        return Reply(tools=(ToolUse("prices", {"city": f"c{len(body['messages'])}"}),))

    poor.emulator._world.brain = endless
    result = poor.run(ASKER)
    assert "budget.chain.calls" in result.final_output
    assert len(poor.emulator.requests) == 2
    result, text = poor.stream(ASKER)
    assert "budget.chain.calls" in result.final_output == text
    assert len(poor.emulator.requests) == 4
    with pytest.raises(agents.MaxTurnsExceeded):
        poor.run(ASKER, max_turns=1)
    assert len(poor.emulator.requests) == 5


def test_a_program_gets_an_exception_instead(poor: Case) -> None:
    typed = agents.Agent(name="judge", model="gpt-5.4", output_type=Verdict)
    poor.emulator._world.brain = lambda _: Reply('{"fine": true}')
    with clawmw.calling(chain="same"):
        for _ in range(2):
            assert poor.run(typed).final_output == Verdict(fine=True)
        with pytest.raises(Refused, match=r"budget\.chain\.calls"):
            poor.run(typed)
        with pytest.raises(Refused, match=r"budget\.chain\.calls"):
            poor.stream(typed)
    assert len(poor.emulator.requests) == 2


# --- what goes wrong --------------------------------------------------------------------------


def test_a_cancelled_run_settles(case: Case) -> None:
    async def main() -> None:
        case.emulator.fail_next(Fault(delay=30))
        run = agents.Runner.run(PLAIN, "hi", run_config=case.config())
        task = asyncio.ensure_future(run)
        await asyncio.to_thread(asked, case.emulator)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    case.do(main())
    assert [e.status for e in case.finished] == ["cancelled"]


def test_a_stream_that_is_left_settles(case: Case) -> None:
    async def main() -> None:
        case.emulator.fail_next(Fault(chunk_delay=0.2))
        result = agents.Runner.run_streamed(PLAIN, "hi", run_config=case.config())
        async for event in result.stream_events():
            if getattr(getattr(event, "data", None), "type", "") == "response.output_text.delta":
                result.cancel()

    case.do(main())
    assert [e.status for e in case.finished] == ["cancelled"]


def test_an_upstreams_error_is_the_sdks_own_and_not_tried_again_above(emulator: Emulator) -> None:
    case = Case(emulator, {"retry": {"attempts": 2, "base": "10ms"}}, responses=False)
    emulator.fail_next(*[Fault(status=503)] * 9)
    with pytest.raises(openai.InternalServerError):
        case.run(PLAIN)
    assert len(emulator.requests) == 2
    assert [e.status for e in case.finished] == ["failed"]
    case.close()


def test_what_the_sdk_tries_again_is_paid_once(emulator: Emulator) -> None:
    """Both of the SDK's retries: its HTTP client's, and its runner's."""
    case = Case(emulator, {"retry": False}, responses=False)
    again = agents.ModelRetrySettings(
        max_retries=3,
        backoff={"initial_delay": 0.01},
        policy=agents.retry_policies.http_status([503]),
    )
    keen = PLAIN.clone(model_settings=agents.ModelSettings(retry=again))
    for agent in (PLAIN, keen):
        case.events.clear()
        seen = len(emulator.requests)
        emulator.fail_next(Fault(status=503, retry_after=0.01))
        result = case.run(agent)
        assert len(emulator.requests) - seen == 2
        assert [e.status for e in case.finished] == ["failed", "ok"]
        assert len({e.identity.chain for e in case.finished}) == 1
        failed, paid = case.finished
        assert paid.usage is not None
        assert paid.usage.input_tokens == result.context_wrapper.usage.input_tokens
        assert failed.cost == Cost()
        assert paid.cost
    case.close()


# --- ways to have it --------------------------------------------------------------------------


def test_a_model_of_ones_own_agent(case: Case) -> None:
    given = {"openai_client": case.client, "openai_use_responses": False}
    model = openai_agents.model("gpt-5.4", case.runtime, **given)
    assert isinstance(model, agents.OpenAIChatCompletionsModel)
    result = case.do(agents.Runner.run(agents.Agent(name="own", model=model), "hi"))
    assert result.final_output
    assert case.who == ["own"]


def test_the_sdks_default_client_may_be_a_wrapped_one(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agents.models import _openai_shared as shared

    for name in ("_default_openai_client", "_use_responses_by_default"):
        monkeypatch.setattr(shared, name, getattr(shared, name))
    agents.set_default_openai_client(clawmw.wrap(case.client, case.runtime), use_for_tracing=False)
    agents.set_default_openai_api("chat_completions")
    assert case.do(agents.Runner.run(ASKER, "hi")).final_output == "It is 300."
    assert [e.status for e in case.finished] == ["ok", "ok"]


def test_a_policy_below_sees_that_each_call_was_decided_about(case: Case) -> None:
    with clawmw.install(case.runtime):
        assert case.run(ASKER).final_output == "It is 300."
    assert case.who == ["asker", "asker"]


def test_with_install_alone_agents_are_told_apart_by_what_they_say(case: Case) -> None:
    with clawmw.install(case.runtime):
        bare = agents.MultiProvider(openai_client=case.client, openai_use_responses=False)
        config = agents.RunConfig(model_provider=bare)
        assert case.run(ASKER, config=config).final_output == "It is 300."
    assert [e.status for e in case.finished] == ["ok", "ok"]
    assert len({e.identity.chain for e in case.finished}) == 1


def test_what_the_policy_cannot_see_is_refused_at_once(case: Case) -> None:
    with pytest.raises(ClawmwError, match="HTTP"):
        openai_agents.Provider(case.runtime, openai_use_responses_websocket=True)

    class Own(agents.Model):  # type: ignore[misc]
        get_response = stream_response = None

    class Owners(agents.ModelProvider):  # type: ignore[misc]
        def get_model(self, model_name: str | None) -> Any:
            return Own()

    known = agents.MultiProviderMap() if hasattr(agents, "MultiProviderMap") else None
    if known is None:
        from agents.models.multi_provider import MultiProviderMap

        known = MultiProviderMap()
    known.add_provider("own", Owners())
    provider = openai_agents.Provider(case.runtime, provider_map=known)
    with pytest.raises(ClawmwError, match="Own brings no OpenAI client"):
        provider.get_model("own/x")
