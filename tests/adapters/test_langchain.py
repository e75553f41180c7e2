"""LangChain agents and LangGraph nodes under a policy, against a provider on loopback."""

from __future__ import annotations

import asyncio
import json
import operator
from collections.abc import Iterator
from contextlib import aclosing, suppress
from typing import Annotated, Any, Self, TypedDict

import pytest

pytest.importorskip("langchain", reason="needs clawmw[langchain]")
pytest.importorskip("langchain_openai", reason="needs clawmw[langchain]")

import openai
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

import clawmw.langchain
from clawmw.core.events import Acted, CallFinished, CallStarted, Event, StageFailed
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator, Fault, Reply, ToolUse, loop, script
from clawmw.emulator.reply import text_of
from clawmw.errors import Refused
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import rows

THREAD: dict[str, Any] = {"configurable": {"thread_id": "t1"}}
EXPAND = "clawmw_expand"


@tool
def search(q: str) -> str:
    """Search tickets."""
    return rows(300)


def calls(name: str = "search", **arguments: Any) -> Reply:
    return Reply(tools=(ToolUse(name, arguments or {"q": "x"}),))


class Case:
    """A provider, a policy before it, and what was told of it."""

    def __init__(self, brain: Any, bill: str = "openai", **policy: Any) -> None:
        self.emulator = Emulator(bill=bill, brain=brain)
        self.events: list[Event] = []
        loaded = load_policy({"version": 1, "trace": "off", **policy})
        self.runtime = Runtime.of(loaded, observers=[self.events.append])

    def __enter__(self) -> Self:
        self.emulator.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.emulator.stop()
        self.runtime.close()
        assert not [e for e in self.events if isinstance(e, StageFailed)]

    def chat(self, **more: Any) -> ChatOpenAI:
        given = {"model": "gpt-5.4", "max_retries": 0, "api_key": "any", **more}
        return ChatOpenAI(base_url=self.emulator.base_url, **given)

    def agent(self, tools: Any = (search,), chat: Any = None, **more: Any) -> Any:
        options = {n: more.pop(n) for n in ("on_refusal", "identity") if n in more}
        middleware = clawmw.langchain.Middleware(self.runtime, **options)
        return create_agent(chat or self.chat(), list(tools), middleware=[middleware], **more)

    def model(self, chat: Any = None, **more: Any) -> Any:
        return clawmw.langchain.model(chat or self.chat(), self.runtime, **more)

    def sent(self, index: int = -1) -> dict[str, Any]:
        return self.emulator.requests[index].body

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]

    @property
    def callers(self) -> list[Identity]:
        return [e.identity for e in self.events if isinstance(e, CallStarted)]

    @property
    def rules(self) -> list[str]:
        return [e.rule for e in self.events if isinstance(e, Acted)]


def say(text: str = "find the cheapest ticket") -> dict[str, Any]:
    return {"messages": [("user", text)]}


# --- an agent ------------------------------------------------------------------------------------


def test_an_agent_is_sent_shorter_and_its_state_stays_as_it_was() -> None:
    with Case(script([calls(), "The first.", "Still."])) as case:
        agent = case.agent(checkpointer=InMemorySaver(), system_prompt="You are terse.")
        found = agent.invoke(say(), THREAD)
        assert found["messages"][-1].content == "The first."
        state = agent.get_state(THREAD).values["messages"]
        assert state[2].content == rows(300), "what is kept is as the tool gave it"
        sent = case.sent()["messages"]
        assert [m["role"] for m in sent] == ["system", "user", "assistant", "tool"]
        assert EXPAND in sent[3]["content"]
        assert len(sent[3]["content"]) < len(rows(300)) / 2
        assert sent[3]["tool_call_id"] == state[1].tool_calls[0]["id"]
        assert [t["function"]["name"] for t in case.sent()["tools"]] == ["search", EXPAND]
        agent.invoke(say("and now?"), THREAD)
        assert case.sent()["messages"][:4] == sent, "what was sent stays as it was sent"


def test_it_is_the_same_with_a_state_on_disk_and_awaiting(tmp_path: Any) -> None:
    with (
        Case(script([calls(), "The first."])) as case,
        SqliteSaver.from_conn_string(str(tmp_path / "state.db")) as saver,
    ):
        agent = case.agent(checkpointer=saver)
        agent.invoke(say(), THREAD)
        assert agent.get_state(THREAD).values["messages"][2].content == rows(300)
        assert len(case.sent()["messages"][2]["content"]) < len(rows(300)) / 2
    with Case(script([calls(), "The first."])) as case:
        agent = case.agent(checkpointer=InMemorySaver())
        found = asyncio.run(agent.ainvoke(say(), THREAD))
        assert found["messages"][2].content == rows(300)
        assert len(case.sent()["messages"][2]["content"]) < len(rows(300)) / 2


def test_what_nothing_changed_is_handed_on_as_the_very_object() -> None:
    seen: list[list[Any]] = []

    class Chat(ChatOpenAI):
        def _generate(self, messages: Any, *rest: Any, **more: Any) -> Any:
            seen.append(list(messages))
            return super()._generate(messages, *rest, **more)

    with Case(script(["Fine."])) as case:
        chat = Chat(base_url=case.emulator.base_url, api_key="any", model="gpt-5.4")
        said = [
            SystemMessage("Be brief.", id="s"),
            HumanMessage([{"type": "text", "text": "What is this?"}], id="h"),
            AIMessage("", tool_calls=[{"name": "search", "args": {"q": "x"}, "id": "c1"}], id="a"),
            ToolMessage(rows(300), tool_call_id="c1", id="t", artifact={"rows": 300}),
        ]
        answer = case.model(chat).bind_tools([search]).invoke(said)
        assert answer.content == "Fine."
        assert all(one is other for one, other in zip(seen[0][:3], said[:3], strict=True))
        changed = seen[0][3]
        assert (changed.id, changed.tool_call_id, changed.artifact) == ("t", "c1", {"rows": 300})
        assert len(changed.content) < len(rows(300)) / 2
        assert said[3].content == rows(300)


def test_usage_and_what_the_provider_says_reach_the_caller() -> None:
    long = "All about trains. " * 600
    with Case(script(["One.", "Two."])) as case:
        model = case.model()
        first = model.invoke([("system", long), ("user", "hi")])
        second = model.invoke([("system", long), ("user", "hi")])
        assert second.usage_metadata["input_token_details"]["cache_read"] > 1000
        assert second.usage_metadata["total_tokens"] > 1000
        assert second.response_metadata["model_name"] == "gpt-5.4"
        assert second.response_metadata["finish_reason"] == "stop"
        assert first.id != second.id
        read = [f.usage.cache_read_tokens for f in case.finished if f.usage]
        assert read[1] == second.usage_metadata["input_token_details"]["cache_read"]


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream"])
def test_the_model_asks_for_what_was_cut_and_the_agent_does_not_see_it(how: str) -> None:
    def brain(body: dict[str, Any]) -> Reply:
        results = [m["content"] for m in body["messages"] if m["role"] == "tool"]
        if not results:
            return calls()
        if len(results) == 1:
            ref = results[0].partition(f"[{EXPAND} ")[2].partition(":")[0]
            return calls(EXPAND, ref=ref, query="tkt_100007")
        return Reply(text="found" if "tkt_100007" in results[1] else results[1])

    with Case(brain) as case:
        agent = case.agent(chat=case.chat(stream_usage=True))
        if how == "ainvoke":
            said = asyncio.run(agent.ainvoke(say()))["messages"]
        elif how == "invoke":
            said = agent.invoke(say())["messages"]
        else:
            tokens = list(agent.stream(say(), stream_mode=["messages", "values"]))
            said = tokens[-1][1]["messages"]
            told = [one[0] for mode, one in tokens if mode == "messages"]
            assert EXPAND not in json.dumps([getattr(c, "tool_call_chunks", []) for c in told])
        assert [m.type for m in said] == ["human", "ai", "tool", "ai"]
        assert said[-1].content == "found"
        assert len(case.emulator.requests) == 3
        last, before = case.emulator.usages[-1], case.emulator.usages[-2]
        assert said[-1].usage_metadata["input_tokens"] == last.input_tokens + before.input_tokens


# --- who calls -----------------------------------------------------------------------------------


def test_a_thread_is_a_session_and_an_agent_used_as_a_tool_works_for_its_chain() -> None:
    brain = script([calls("ask", q="is it?"), "It is.", "Done.", "Again."])
    with Case(brain) as case:
        inner = case.agent(tools=(), name="expert")

        @tool
        def ask(q: str) -> str:
            """Ask the expert."""
            return str(inner.invoke(say(q))["messages"][-1].content)

        outer = case.agent(tools=(ask,), name="planner", checkpointer=InMemorySaver())
        outer.invoke(say("plan"), THREAD)
        outer.invoke(say("more"), THREAD)
        first, expert, second, later = case.callers
        assert [c.agent for c in case.callers] == ["planner", "expert", "planner", "planner"]
        assert first.session == second.session == later.session == "t1"
        assert (expert.session, expert.parent_session, expert.hop) == ("t1/tools/expert", "t1", 1)
        assert first.chain == expert.chain == second.chain
        assert later.chain != first.chain, "the next turn of a human is another task"


def test_what_the_user_says_of_the_caller_holds() -> None:
    with Case(script(["Hi.", "Hi."])) as case:
        agent = case.agent(identity=Identity(agent="mine", session="s"), name="theirs")
        agent.invoke(say())
        with clawmw.calling(session="ticket-17"):
            agent.invoke(say())
        assert [(c.agent, c.session) for c in case.callers] == [
            ("mine", "s"),
            ("mine", "ticket-17"),
        ]


def test_a_run_that_was_interrupted_goes_on_in_its_chain() -> None:
    @tool
    def approve(q: str) -> str:
        """Ask a human."""
        return str(interrupt(q))

    with Case(script([calls("approve"), "Approved."])) as case:
        agent = case.agent(tools=(approve,), checkpointer=InMemorySaver())
        agent.invoke(say(), THREAD)
        agent.invoke(Command(resume="yes"), THREAD)
        assert case.sent()["messages"][-1]["content"] == "yes"
        assert case.callers[0].chain == case.callers[1].chain


class Fan(TypedDict):
    """What nodes write."""

    done: Annotated[list[str], operator.add]


def test_the_branches_of_a_fan_out_are_one_chain_with_one_budget() -> None:
    with Case(script(["ok"] * 9), budget={"chain": {"calls": 2}}) as case:
        model = case.model()

        def worker(state: dict[str, Any]) -> Any:
            return {"done": [model.invoke(f"item {state['item']}").content]}

        graph = StateGraph(Fan)
        graph.add_node("worker", worker)
        graph.add_conditional_edges(
            START, lambda _: [Send("worker", {"item": i}) for i in range(4)], ["worker"]
        )
        graph.add_edge("worker", END)
        found = graph.compile(checkpointer=InMemorySaver()).invoke({"done": []}, THREAD)
        assert len({c.chain for c in case.callers}) == 1
        assert {c.agent for c in case.callers} == {"worker"}
        assert found["done"].count("ok") == 2
        assert len(case.emulator.requests) == 2


# --- it stops ------------------------------------------------------------------------------------

LIMITS = {
    "budget.chain.calls": {"budget": {"chain": {"calls": 3}}},
    "loop_guard": {"loop_guard": {"nudge": 2, "slow": 2, "delay": 0, "refuse": 3, "stop": 4}},
}


@pytest.mark.parametrize("rule", LIMITS)
@pytest.mark.parametrize("how", ["invoke", "ainvoke", "astream"])
def test_an_endless_loop_ends_with_a_message(rule: str, how: str) -> None:
    async def streamed(agent: Any) -> Any:
        chunks = [c async for c in agent.astream(say(), THREAD, stream_mode="messages")]
        assert chunks[-1][0].text.startswith("clawmw stopped this call") or chunks[-2]
        return (await agent.aget_state(THREAD)).values

    with Case(loop(), **LIMITS[rule]) as case:
        agent = case.agent(checkpointer=InMemorySaver())
        if how == "invoke":
            found = agent.invoke(say(), THREAD)
        else:
            run = agent.ainvoke(say(), THREAD) if how == "ainvoke" else streamed(agent)
            found = asyncio.run(run)
        last = found["messages"][-1]
        assert last.content.startswith("clawmw stopped this call")
        assert not last.tool_calls
        assert last.response_metadata["clawmw"]["rule"].startswith(rule.partition(".")[0])
        assert {"scope", "limit", "used", "resume"} <= last.response_metadata["clawmw"].keys()
        assert len(case.emulator.requests) <= 4


def test_a_stopped_call_raises_where_that_is_wanted_or_the_answer_is_parsed() -> None:
    class Verdict(BaseModel):
        good: bool

    with Case(loop(), budget={"chain": {"calls": 1}}) as case:
        agent = case.agent(on_refusal="raise")
        with pytest.raises(Refused, match=r"budget\.chain"):
            agent.invoke(say())
        judge = case.model(identity=Identity(session="j", chain="j"))
        judge.invoke("hi")
        with pytest.raises(Refused):
            judge.with_structured_output(Verdict).invoke("good?")
        with pytest.raises(Refused):
            judge.with_structured_output(Verdict, method="function_calling").invoke("good?")
        assert judge.invoke("good?").content.startswith("clawmw stopped")
        with pytest.raises(Refused):
            list(
                case.model(identity=Identity(session="j", chain="j"), on_refusal="raise").stream(
                    "x"
                )
            )


def test_an_agent_with_a_form_for_its_answer_gets_it_or_raises() -> None:
    class Verdict(BaseModel):
        """What is thought of it."""

        good: bool

    with Case(script(['{"good": true}'] * 3), budget={"session": {"calls": 1}}) as case:
        agent = case.agent(tools=(), response_format=Verdict, checkpointer=InMemorySaver())
        assert agent.invoke(say(), THREAD)["structured_response"] == Verdict(good=True)
        with pytest.raises(Refused):
            agent.invoke(say(), THREAD)


# --- streams -------------------------------------------------------------------------------------


def test_tokens_come_as_they_are_made_and_add_up() -> None:
    text = "one two three four five six seven"
    with Case(script([text] * 5)) as case:
        model = case.model(case.chat(stream_usage=True))
        bare = list(case.chat(stream_usage=True).stream("hi"))
        ours = list(model.stream("hi"))
        assert [c.content for c in ours] == [c.content for c in bare]
        whole, plain = ours[0], bare[0]
        for chunk, other in zip(ours[1:], bare[1:], strict=True):
            whole, plain = whole + chunk, plain + other
        assert whole.content == text
        assert whole.usage_metadata == plain.usage_metadata
        assert case.finished[0].usage is not None
        list(case.model().stream("hi"))
        assert case.finished[1].usage is not None, "the policy asks for what the caller does not"

        async def tokens() -> list[str]:
            agent = case.agent(tools=())
            stream = agent.astream(say(), stream_mode="messages")
            return [c.content async for c, _ in stream]

        assert "".join(asyncio.run(tokens())) == text
        assert len(asyncio.run(tokens())) > 3
        assert len(case.emulator.requests) == 5


def test_a_failure_before_the_first_token_is_tried_again_and_none_after_it() -> None:
    with Case(script(["one two three four"] * 4), retry={"base": 0.01}) as case:
        case.emulator.fail_next(Fault(status=503))
        assert "".join(c.content for c in case.model().stream("hi")) == "one two three four"
        assert len(case.emulator.requests) == 2
        case.emulator.fail_next(Fault(reset_after=3))
        told: list[str] = []

        def read() -> None:
            for chunk in case.model().stream("hi"):
                told.append(chunk.content)  # noqa: PERF401 - what came before it broke counts

        with pytest.raises(Exception, match=r"(?i)peer|reset|connection|read"):
            read()
        assert "".join(told)
        assert len(case.emulator.requests) == 3, "nothing is made again after the first token"


def test_an_upstream_error_reaches_the_caller_as_its_own() -> None:
    with Case(script(["ok"] * 9), retry={"attempts": 2, "base": 0.01}) as case:
        case.emulator.fail_next(Fault(status=503), Fault(status=503))
        with pytest.raises(openai.InternalServerError):
            case.agent(tools=()).invoke(say())
        case.emulator.fail_next(Fault(status=503))
        found = asyncio.run(case.agent(tools=()).ainvoke(say()))
        assert found["messages"][-1].content == "ok"
        assert [f.status for f in case.finished] == ["failed", "ok"]


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke"])
def test_the_sdk_below_does_not_multiply_attempts(how: str) -> None:
    with Case(script(["ok"] * 9), retry={"attempts": 2, "base": 0.01}, breaker=False) as case:
        case.emulator.fail_next(*[Fault(status=503)] * 6)
        model = case.model(case.chat(max_retries=2))
        ways = {
            "invoke": lambda: model.invoke("hi"),
            "stream": lambda: list(model.stream("hi")),
            "ainvoke": lambda: asyncio.run(model.ainvoke("hi")),
        }
        with pytest.raises(openai.InternalServerError):
            ways[how]()
        assert len(case.emulator.requests) == 2


def test_secrets_are_sent_in_no_form(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-live-0123456789abcdef"
    monkeypatch.setenv("SHOP_KEY", secret)
    with Case(script(["ok"] * 2), redact={"env": ["SHOP_KEY"]}) as case:
        call = {"name": "search", "args": {"q": secret}, "id": "c1"}
        said = [
            SystemMessage(f"The key is {secret}."),
            HumanMessage([{"type": "text", "text": f"Use {secret}!"}]),
            AIMessage("", tool_calls=[call]),
            ToolMessage(f"{secret} is wrong", tool_call_id="c1"),
        ]
        case.model().bind_tools([search]).invoke(said)
        assert list(case.model().bind_tools([search]).stream(said))
        for request in case.emulator.requests:
            assert secret not in json.dumps(request.body)
            assert [m["role"] for m in request.body["messages"]][:4] == [
                "system", "user", "assistant", "tool"
            ]  # fmt: skip
        assert secret in str(said)


def test_who_leaves_settles() -> None:
    slow = Fault(chunk_delay=0.05)
    with Case(script(["one two three four five six"] * 3)) as case:
        case.emulator.fail_next(slow, slow, Fault(delay=5.0))
        stream = case.model().stream("hi")
        assert next(stream) is not None
        next(stream)
        stream.close()

        async def main() -> None:
            async with aclosing(case.model().astream("hi")) as chunks:
                await anext(chunks)
                await anext(chunks)
            task = asyncio.create_task(case.agent(tools=()).ainvoke(say()))
            await asyncio.sleep(0.2)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert [f.status for f in case.finished] == ["cancelled"] * 3


# --- other models --------------------------------------------------------------------------------


def test_light_work_goes_to_the_light_model_at_its_own_place() -> None:
    with Emulator(bill="openai", brain=script(["light"] * 3)) as elsewhere:
        light = {"model": "tiny", "base_url": elsewhere.base_url}
        route = [{"when": "kind == 'title'", "to": "light"}]
        with Case(script(["main"]), models={"light": light}, route=route) as case:
            agent = case.agent(identity=Identity(kind="title"))
            assert agent.invoke(say())["messages"][-1].content == "light"
            model = case.model(identity=Identity(kind="title")).bind_tools([search])
            assert "".join(c.content for c in model.stream("hi")) == "light"
            assert not case.emulator.requests
            names = [t["function"]["name"] for t in elsewhere.requests[0].body["tools"]]
            assert "search" in names
            assert elsewhere.requests[0].body["model"] == "tiny"


def test_another_model_takes_over_when_the_first_is_down() -> None:
    policy = {
        "models": {"main": "gpt-5.4", "spare": "gpt-5.4-mini"},
        "fallback": {"main": ["spare"]},
        "retry": {"attempts": 1},
    }
    with Case(script(["spare"] * 2), **policy) as case:
        case.emulator.fail_next(Fault(status=503))
        answer = case.model().invoke("hi")
        assert answer.content == "spare"
        assert case.sent()["model"] == "gpt-5.4-mini"


def test_an_earlier_answer_is_given_again_whole_or_as_a_stream() -> None:
    with Case(script(["All is well."]), reuse={"kinds": ["heartbeat"], "ttl": "10m"}) as case:
        model = case.model(identity=Identity(session="s", chain="c", kind="heartbeat"))
        first = model.invoke("anything new?")
        assert model.invoke("anything new?").content == first.content == "All is well."
        assert "".join(c.text for c in model.stream("anything new?")) == first.content
        assert len(case.emulator.requests) == 1
        assert [f.status for f in case.finished] == ["ok", "answered", "answered"]


def test_a_transport_below_lets_the_call_through() -> None:
    with Case(script(["ok"] * 2)) as case:
        with clawmw.http_client(case.runtime) as client:
            assert case.model(case.chat(http_client=client)).invoke("hi").content == "ok"
        assert len(case.finished) == 1


# --- Claude --------------------------------------------------------------------------------------


def asking(body: dict[str, Any]) -> Reply:
    """A model that asks for what was cut, and says so."""
    results = [text_of(m["content"]) for m in body["messages"] if m["role"] == "tool"]
    if not results:
        return calls()
    if len(results) == 1:
        ref = results[0].partition(f"[{EXPAND} ")[2].partition(":")[0]
        use = ToolUse(EXPAND, {"ref": ref, "query": "tkt_100007"})
        return Reply(text="I need more. ", tools=(use,))
    return Reply(text="found" if "tkt_100007" in results[1] else results[1])


def claude(case: Case) -> Any:
    anthropic = pytest.importorskip("langchain_anthropic", reason="needs clawmw[langchain]")
    return anthropic.ChatAnthropic(
        base_url=case.emulator.base_url.removesuffix("/v1"),
        api_key="any",
        model="claude-sonnet-5-5",
        max_tokens=4000,
        thinking={"type": "adaptive"},
    )


@pytest.mark.parametrize("streams", [False, True])
def test_claude_gets_marks_and_its_own_thoughts_back(streams: bool) -> None:
    with Case(asking, bill="anthropic") as case:
        agent = case.agent(chat=claude(case), system_prompt="Be brief. " * 500)
        if streams:
            said = list(agent.stream(say(), stream_mode=["messages", "values"]))[-1][1]["messages"]
        else:
            said = agent.invoke(say())["messages"]
        assert said[-1].text.removeprefix("I need more. ") == "found"
        thoughts = [b for b in said[-1].content if b["type"] == "thinking"]
        assert len(thoughts) == 1, "the thoughts of one answer, or their signature is void"
        assert "cache_control" not in str(said)
        assert EXPAND not in str(said)
        last = case.sent()
        kinds = [[b["type"] for b in m["content"]] for m in last["messages"][1:]]
        answer = ["thinking", "tool_use"], ["tool_result"]
        assert kinds == [*answer, ["thinking", "text", "tool_use"], ["tool_result"]]
        assert "cache_control" in str(last["system"])
        assert [t["name"] for t in last["tools"]] == ["search", EXPAND]
        billed = case.emulator.usages
        told = said[-1].usage_metadata
        assert told["input_tokens"] == sum(u.input_tokens for u in billed[1:])
        read = told["input_token_details"]["cache_read"]
        assert read == sum(u.cache_read_tokens for u in billed[1:]) > 0
        agent.invoke({"messages": [*said, ("user", "and now?")]})  # signatures are checked


def test_a_model_of_another_provider_takes_over_from_claude() -> None:
    with Emulator(bill="openai", brain=script(["spare"] * 2)) as elsewhere:
        policy = {
            "models": {"spare": {"model": "gpt-5.4", "base_url": elsewhere.base_url}},
            "fallback": {"claude-sonnet-5-5": ["spare"]},
            "retry": {"attempts": 1},
        }
        with Case(script([calls()]), bill="anthropic", **policy) as case:
            model = case.model(claude(case)).bind_tools([search])
            first = model.invoke("go")
            assert [b["type"] for b in first.content] == ["thinking", "tool_use"]
            result = ToolMessage(rows(300), tool_call_id=first.tool_calls[0]["id"])
            said = [HumanMessage("go"), first, result, AIMessage("ok"), HumanMessage("and now?")]
            case.emulator.fail_next(Fault(status=503), Fault(status=503))
            answer = model.invoke(said)
            assert answer.content == "spare"
            assert answer.response_metadata["clawmw"] == {"x-clawmw-fallback": "spare"}
            assert "".join(c.text for c in model.stream(said)) == "spare"
            sent = elsewhere.requests[0].body
            assert [m["role"] for m in sent["messages"]][:3] == ["user", "assistant", "tool"]
            assert sent["tools"][0]["function"]["name"] == "search"


@pytest.mark.parametrize("streams", [False, True])
def test_items_of_responses_come_back_as_they_were(streams: bool) -> None:
    with Case(asking) as case:
        agent = case.agent(chat=case.chat(use_responses_api=True, reasoning={"effort": "low"}))
        if streams:
            said = list(agent.stream(say(), stream_mode=["messages", "values"]))[-1][1]["messages"]
        else:
            said = agent.invoke(say())["messages"]
        assert said[-1].text.removeprefix("I need more. ") == "found"
        kinds = [i.get("type") for i in case.sent()["input"]]
        assert kinds.count("reasoning") == 2
        assert kinds[-2:] == ["function_call", "function_call_output"]
        last = agent.invoke({"messages": [*said, ("user", "and now?")]})  # ids are checked
        assert last["messages"][-1].text == "found"


# --- the wrapped model ---------------------------------------------------------------------------


def test_it_stays_a_model_of_its_class_and_traces_one_run() -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    class Seen(BaseCallbackHandler):
        starts = 0
        tokens = 0

        def on_chat_model_start(self, *rest: Any, **more: Any) -> None:
            self.starts += 1

        def on_llm_new_token(self, *rest: Any, **more: Any) -> None:
            self.tokens += 1

    with Case(script(["ok then"] * 3)) as case:
        model = case.model()
        assert isinstance(model, ChatOpenAI)
        assert type(model).__name__ == "ChatOpenAI"
        seen = Seen()
        model.invoke("hi", {"callbacks": [seen]})
        assert (seen.starts, seen.tokens) == (1, 0)
        list(model.stream("hi", {"callbacks": [seen]}))
        assert seen.starts == 2
        assert seen.tokens > 1
        bound = clawmw.langchain.model(case.chat().bind(temperature=0), case.runtime)
        bound.invoke("hi")
        assert case.sent()["temperature"] == 0
        assert len(case.finished) == 3
        assert case.model(model)._clawmw_inner is model._clawmw_inner, "guarded once"
    with pytest.raises(TypeError, match="no chat model"):
        clawmw.langchain.model(object(), {"version": 1})


class Spy(AgentMiddleware[Any, Any, Any]):
    """Another middleware before ours."""

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(system_message=SystemMessage("Be kind.")))


def test_events_are_those_of_the_bare_model() -> None:
    text = "one two three four five six seven"

    async def events(model: Any) -> list[str]:
        found = [e["event"] async for e in model.astream_events("hi", version="v2")]
        return [name for name in found if "model" in name]

    with Case(script([text] * 4)) as case:
        assert asyncio.run(events(case.model())) == asyncio.run(events(case.chat()))
        assert len(case.finished) == 1
        assert str(case.model().stream_events("hi", version="v3").text) == text
        assert len(case.finished) == 2


def test_it_works_behind_other_middleware() -> None:
    with Case(script(["ok"])) as case:
        ours = clawmw.langchain.Middleware(case.runtime)
        agent = create_agent(case.chat(), [search], middleware=[Spy(), ours])
        agent.invoke(say())
        assert case.sent()["messages"][0]["content"] == "Be kind."


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OPENAI_API_KEY", "LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.delenv(name, raising=False)
    return
