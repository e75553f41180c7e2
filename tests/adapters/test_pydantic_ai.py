"""Agents of pydantic-ai under a policy, against a provider on loopback."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Self

import pytest

pytest.importorskip("pydantic_ai", reason="needs clawmw[pydantic-ai]")

import openai
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import ModelHTTPError, UsageLimitExceeded
from pydantic_ai.messages import (
    ModelRequest,
    PartStartEvent,
    TextPart,
    ToolReturnPart,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import clawmw.pydantic_ai
from clawmw.core.events import CallFinished, CallStarted, Event, StageFailed
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator, Fault, Reply, ToolUse, script
from clawmw.emulator.reply import text_of
from clawmw.errors import Refused
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import rows

EXPAND = "clawmw_expand"
LONG = "All about trains, and when they leave. " * 10


class Verdict(BaseModel):
    """What is thought of it."""

    good: bool


class Case:
    """A provider, a policy before it, and what was told of it."""

    def __init__(self, brain: Any, bill: str = "openai", **policy: Any) -> None:
        self.emulator = Emulator(bill=bill, brain=brain)
        self.events: list[Event] = []
        loaded = load_policy({"version": 1, "trace": "off", **policy})
        self.runtime = Runtime.of(loaded, observers=[self.events.append])

    def __enter__(self) -> Self:
        self.emulator.start()
        self.loop = asyncio.Runner()
        self.clients: list[Any] = []
        self.capabilities: list[Any] = []
        return self

    def __exit__(self, *error: object) -> None:
        others = [m.client for c in self.capabilities for _, m in c._others.values()]
        for client in (*self.clients, *others):
            self.loop.run(client.close())
        self.loop.close()
        self.emulator.stop()
        self.runtime.close()
        assert not [e for e in self.events if isinstance(e, StageFailed)]

    def model(self, max_retries: int = 0) -> Any:
        given: dict[str, Any] = {"base_url": self.emulator.base_url, "api_key": "any"}
        given["max_retries"] = max_retries
        self.clients.append(openai.AsyncOpenAI(**given))
        return OpenAIChatModel("gpt-5.4", provider=OpenAIProvider(openai_client=self.clients[-1]))

    def run(self, agent: Agent[Any, Any], said: str, **more: Any) -> Any:
        """One run, in an event loop that is closed in the end; `run_sync` leaves its own open."""
        return self.loop.run(agent.run(said, **more))

    def agent(self, identity: Identity | None = None, **more: Any) -> Agent[Any, Any]:
        ours = clawmw.pydantic_ai.Capability(self.runtime, identity)
        self.capabilities.append(ours)
        agent: Agent[Any, Any] = Agent(self.model(), capabilities=[ours], **more)

        @agent.tool_plain
        def search(q: str) -> str:
            """Search tickets."""
            return rows(300)

        return agent

    def sent(self, index: int = -1) -> dict[str, Any]:
        return self.emulator.requests[index].body

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]

    @property
    def callers(self) -> list[Identity]:
        return [e.identity for e in self.events if isinstance(e, CallStarted)]


def calls(name: str = "search", **arguments: Any) -> Reply:
    return Reply(tools=(ToolUse(name, arguments or {"q": "x"}),))


def asking(body: dict[str, Any]) -> Reply:
    """A model that asks for what was cut."""
    results = [text_of(m["content"]) for m in body["messages"] if m["role"] == "tool"]
    if not results:
        return calls()
    if len(results) == 1:
        ref = results[0].partition(f"[{EXPAND} ")[2].partition(":")[0]
        return calls(EXPAND, ref=ref, query="tkt_100007")
    return Reply(text="found" if "tkt_100007" in results[1] else results[1])


def returned(messages: Any) -> str:
    parts = [p for m in messages if isinstance(m, ModelRequest) for p in m.parts]
    return str(next(p.content for p in parts if isinstance(p, ToolReturnPart)))


def test_an_agent_is_sent_shorter_and_its_history_stays_as_it_was() -> None:
    with Case(script([calls(), "The first.", "Still."])) as case:
        agent = case.agent(instructions="Be brief.")
        result = case.run(agent, "find the cheapest ticket")
        assert result.output == "The first."
        assert returned(result.all_messages()) == rows(300)
        sent = case.sent()["messages"]
        assert [m["role"] for m in sent] == ["system", "user", "assistant", "tool"]
        assert len(sent[3]["content"]) < len(rows(300)) / 2
        assert [t["function"]["name"] for t in case.sent()["tools"]] == ["search", EXPAND]
        usage = result.usage
        assert usage.input_tokens == sum(u.input_tokens or 0 for u in case.emulator.usages)
        case.run(agent, "and now?", message_history=result.all_messages())
        assert case.sent()["messages"][:4] == sent, "what was sent stays as it was sent"
        assert len({c.session for c in case.callers}) == 1
        assert len({c.chain for c in case.callers}) == 2


def test_the_model_asks_for_what_was_cut_and_the_agent_does_not_see_it() -> None:
    with Case(asking) as case:
        result = case.run(case.agent(), "find tkt_100007")
        assert result.output == "found"
        assert EXPAND not in str(result.all_messages())
        assert len(case.emulator.requests) == 3


def test_it_asks_in_a_stream_too() -> None:
    async def main(agent: Agent[Any, Any]) -> list[Any]:
        told: list[Any] = []
        async with agent.iter("find tkt_100007") as run:
            async for node in run:
                if Agent.is_model_request_node(node):
                    async with node.stream(run.ctx) as stream:
                        told += [event async for event in stream]
        assert run.result is not None
        assert run.result.output == "found"
        assert returned(run.result.all_messages()) == rows(300)
        return told

    with Case(asking) as case:
        told = case.loop.run(main(case.agent()))
        assert EXPAND not in str(told)
        assert [e.index for e in told if isinstance(e, PartStartEvent)] == [0, 0]
        last, before = case.emulator.usages[-1], case.emulator.usages[-2]
        used = case.finished[-1].usage
        assert used is not None
        assert used.input_tokens == (last.input_tokens or 0) + (before.input_tokens or 0)


@pytest.mark.parametrize("streams", [False, True])
def test_claude_gets_its_own_thoughts_back(streams: bool) -> None:
    anthropic = pytest.importorskip("anthropic", reason="needs clawmw[anthropic]")
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    async def streamed(agent: Agent[Any, Any]) -> Any:
        async with agent.run_stream("find tkt_100007") as result:
            await result.get_output()
        return result

    with Case(asking, bill="anthropic") as case:
        url = case.emulator.base_url.removesuffix("/v1")
        client = anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0)
        case.clients.append(client)
        thinks = {"type": "adaptive"}
        agent = case.agent(
            instructions="Be brief. " * 500, model_settings={"anthropic_thinking": thinks}
        )
        agent.model = AnthropicModel(
            "claude-sonnet-5-5", provider=AnthropicProvider(anthropic_client=client)
        )
        said = "find tkt_100007"
        result = case.loop.run(streamed(agent)) if streams else case.run(agent, said)
        last = result.all_messages()[-1]
        assert [p.part_kind for p in last.parts] == ["thinking", "text"]
        assert last.parts[1].content == "found"
        kinds = [[b["type"] for b in m["content"]] for m in case.sent()["messages"][1:]]
        assert kinds == [["thinking", "tool_use"], ["tool_result"]] * 2
        assert last.usage.input_tokens == sum(u.input_tokens or 0 for u in case.emulator.usages[1:])
        assert "cache_control" in str(case.sent()["system"])
        case.run(agent, "and now?", message_history=result.all_messages())


def test_tokens_come_as_they_are_made() -> None:
    async def main(agent: Agent[Any, Any]) -> None:
        async with agent.run_stream("hi") as result:
            deltas = [text async for text in result.stream_text(delta=True, debounce_by=None)]
            assert "".join(deltas) == LONG
            assert len(deltas) > 2
            usage = result.usage
            assert usage.input_tokens == case.emulator.usages[0].input_tokens
        assert result.all_messages()[-1].finish_reason == "stop"  # type: ignore[union-attr]
        assert result.all_messages()[-1].model_name == "gpt-5.4"  # type: ignore[union-attr]

    with Case(script([LONG])) as case:
        case.loop.run(main(case.agent()))
        assert [f.status for f in case.finished] == ["ok"]


def test_a_form_for_the_answer_is_kept() -> None:
    with Case(script([calls("final_result", good=True)])) as case:
        agent = case.agent(output_type=Verdict)
        assert case.run(agent, "good?").output == Verdict(good=True)


@pytest.mark.parametrize("rule", ["budget", "loop_guard"])
@pytest.mark.parametrize("streams", [False, True])
def test_an_endless_loop_ends_with_a_text(rule: str, streams: bool) -> None:
    policy: dict[str, Any] = {"budget": {"chain": {"calls": 3}}}
    if rule == "loop_guard":
        policy = {rule: {"nudge": 2, "slow": 2, "delay": 0, "refuse": 3, "stop": 4}}

    async def streamed(agent: Agent[Any, Any]) -> Any:
        async with agent.run_stream("go") as result:
            await result.get_output()
        return result

    with Case(lambda _: calls(), **policy) as case:
        agent = case.agent()
        result = case.loop.run(streamed(agent)) if streams else case.run(agent, "go")
        last = result.all_messages()[-1]
        assert last.parts[0].content.startswith("clawmw stopped this call")
        told = last.provider_details["clawmw"]
        assert told["rule"].startswith(rule)
        assert {"scope", "limit", "used", "resume"} <= told.keys()
        assert len(case.emulator.requests) <= 4


def test_a_stopped_call_raises_where_the_answer_is_no_text() -> None:
    with Case(script(["no"] * 9), budget={"chain": {"calls": 1}}) as case:
        agent = case.agent(output_type=Verdict)
        with pytest.raises(UsageLimitExceeded) as caught:
            case.run(agent, "good?")
        assert isinstance(caught.value, Refused)
        assert "budget.chain" in str(caught.value)


def test_an_agent_that_a_tool_runs_works_for_its_chain() -> None:
    with Case(script([calls("ask"), "It is.", "Done."])) as case:
        inner = case.agent(name="expert")
        outer = case.agent(name="planner")

        @outer.tool_plain
        async def ask(q: str) -> str:
            """Ask the expert."""
            return str((await inner.run(q)).output)

        assert case.run(outer, "plan").output == "Done."
        first, expert, last = case.callers
        assert [c.agent for c in case.callers] == ["planner", "expert", "planner"]
        assert first.chain == expert.chain == last.chain
        assert expert.session != first.session == expert.parent_session
        assert expert.hop == 1


def test_an_upstream_error_is_tried_again_and_then_the_callers_own() -> None:
    with Case(script(["ok"] * 9), retry={"attempts": 2, "base": 0.01}, breaker=False) as case:
        case.emulator.fail_next(Fault(status=503))
        assert case.run(case.agent(), "hi").output == "ok"
        case.emulator.fail_next(Fault(status=503), Fault(status=503))
        with pytest.raises(ModelHTTPError):
            case.run(case.agent(), "hi")

        async def streamed() -> str:
            async with case.agent().run_stream("hi") as result:
                return str(await result.get_output())

        case.emulator.fail_next(Fault(status=503))
        assert case.loop.run(streamed()) == "ok"
        assert [f.status for f in case.finished] == ["ok", "failed", "ok"]
        assert len(case.emulator.requests) == 6


def test_the_sdk_below_does_not_multiply_attempts() -> None:
    with Case(script(["ok"] * 9), retry={"attempts": 2, "base": 0.01}, breaker=False) as case:
        case.emulator.fail_next(*[Fault(status=503)] * 6)
        agent = case.agent()
        agent.model = case.model(max_retries=2)
        with pytest.raises(ModelHTTPError):
            case.run(agent, "hi")
        assert len(case.emulator.requests) == 2


def test_secrets_are_sent_in_no_form(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-live-0123456789abcdef"
    monkeypatch.setenv("SHOP_KEY", secret)
    with Case(script([calls(q=secret), "ok"]), redact={"env": ["SHOP_KEY"]}) as case:
        agent = case.agent(instructions=f"The key is {secret}.", system_prompt=f"Use {secret}.")
        result = case.run(agent, f"Find {secret}.")
        for request in case.emulator.requests:
            assert secret not in str(request.body)
        assert [m["role"] for m in case.sent()["messages"]][-3:] == ["user", "assistant", "tool"]
        assert secret in str(result.all_messages())


def test_who_leaves_settles() -> None:
    async def main() -> None:
        async with case.agent().run_stream("hi") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                break
        task = asyncio.create_task(case.agent().run("hi"))
        await asyncio.sleep(0.2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with Case(script([LONG] * 3)) as case:
        case.emulator.fail_next(Fault(chunk_delay=0.05), Fault(delay=5.0))
        case.loop.run(main())
        assert [f.status for f in case.finished] == ["cancelled"] * 2


def test_light_work_goes_to_the_light_model_at_its_own_place() -> None:
    with Emulator(bill="openai", brain=script(["light"] * 3)) as elsewhere:
        light = {"model": "tiny", "base_url": elsewhere.base_url}
        route = [{"when": "kind == 'title'", "to": "light"}]
        with Case(script(["main"]), models={"light": light}, route=route) as case:
            agent = case.agent(Identity(kind="title"))
            assert case.run(agent, "hi").output == "light"
            assert elsewhere.requests[0].body["model"] == "tiny"
            assert not case.emulator.requests


def test_an_earlier_answer_is_given_again_whole_or_as_a_stream() -> None:
    async def streamed(agent: Agent[Any, Any]) -> str:
        async with agent.run_stream("anything new?") as result:
            return str(await result.get_output())

    with Case(script(["All is well."]), reuse={"kinds": ["heartbeat"], "ttl": "10m"}) as case:
        agent = case.agent(Identity(session="s", chain="c", kind="heartbeat"), name="watch")
        said = case.run(agent, "anything new?").output
        assert said == case.run(agent, "anything new?").output == "All is well."
        assert case.loop.run(streamed(agent)) == said
        assert len(case.emulator.requests) == 1


def test_a_model_can_be_wrapped_alone() -> None:
    with Case(script(["ok"] * 2), budget={"session": {"calls": 1}}) as case:
        who = Identity(session="s", chain="c")
        model = clawmw.pydantic_ai.model(case.model(), case.runtime, identity=who)
        said = [ModelRequest.user_text_prompt("hi")]
        assert case.loop.run(model_request(model, said)).parts[0] == TextPart("ok")
        second = case.loop.run(model_request(model, said)).parts[0]
        assert isinstance(second, TextPart)
        assert second.content.startswith("clawmw stopped")


def test_a_call_that_every_client_is_guarded_for_too_is_decided_about_once() -> None:
    async def streamed(agent: Agent[Any, Any]) -> str:
        async with agent.run_stream("find tkt_100007, please") as result:
            return str(await result.get_output())

    with Case(asking) as case:
        with clawmw.install(case.runtime):
            assert case.run(case.agent(), "find tkt_100007").output == "found"
            assert case.loop.run(streamed(case.agent())) == "found"
        assert len(case.emulator.requests) == 6
        assert len(case.finished) == 4, "an expansion is part of its call"


def test_switched_off_everything_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAWMW_OFF", "1")

    async def main(agent: Agent[Any, Any]) -> None:
        async with agent.run_stream("hi") as result:
            texts = [text async for text in result.stream_text(delta=True, debounce_by=None)]
            assert "".join(texts) == "one two"

    with Case(script([calls(), "one two", "one two"])) as case:
        result = case.run(case.agent(), "hi")
        assert result.output == "one two"
        assert case.sent()["messages"][2]["content"] == rows(300)
        case.loop.run(main(case.agent()))
        assert not case.finished


def test_a_run_joins_the_trace_it_is_made_in_and_counts_once() -> None:
    """With pydantic-ai's own spans around: one span a call, in the application's trace."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from pydantic_ai.capabilities import Instrumentation
    from pydantic_ai.models.instrumented import InstrumentationSettings
    from pydantic_ai.models.test import TestModel

    from clawmw.observe.otel import OtelObserver
    from clawmw.policy.load import load_policy
    from clawmw.runtime import Runtime

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    policy = load_policy({"version": 1, "trace": "off"})
    runtime = Runtime.of(policy, observers=[OtelObserver(provider)])
    theirs = Instrumentation(settings=InstrumentationSettings(tracer_provider=provider))
    ours = clawmw.pydantic_ai.Capability(runtime)
    for capabilities in ([ours], [theirs, ours], [ours, theirs]):
        agent = Agent(TestModel(), name="a", capabilities=capabilities)
        with provider.get_tracer("app").start_as_current_span("request") as request:
            asyncio.run(agent.run("hello"))  # `run_sync` leaves its loop open
        trace = request.get_span_context().trace_id
        told = [s for s in exporter.get_finished_spans() if "clawmw.saved.tokens" in s.attributes]
        exporter.clear()
        assert [s.context.trace_id for s in told] == [trace]
        assert told[0].attributes["clawmw.chain.id"] == f"{trace:032x}"
    provider.shutdown()
