"""Runs of Google's real ADK under a policy, over real sockets."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import litellm
import pytest
from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.google_llm import Gemini
from google.adk.models.lite_llm import LiteLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.runners import InMemoryRunner
from google.adk.tools.agent_tool import AgentTool
from google.genai import types
from pydantic import BaseModel

import clawmw.adk
from clawmw.adapters.adk_messages import Ask
from clawmw.adapters.direct import Asked
from clawmw.core.events import CallFinished, Event, StageFailed
from clawmw.emulator import Emulator, Fault, Reply, ToolUse
from clawmw.errors import Refused
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import asked as wait_for
from tests.conftest import rows

TABLE = rows(300)
SSE = StreamingMode.SSE


def prices(city: str) -> str:
    """Prices in a city."""
    return TABLE


def brain(body: dict[str, Any]) -> Reply:
    tools = [t["function"]["name"] for t in body.get("tools", ())]
    if body["messages"][-1]["role"] == "tool":
        return Reply("It is 300.")
    if "prices" in tools:
        return Reply(tools=(ToolUse("prices", {"city": "Oslo"}),))
    if "expert" in tools:
        return Reply(tools=(ToolUse("expert", {"request": "how much?"}),))
    if "transfer_to_agent" in tools and "I am boss" in str(body["messages"][0]):
        return Reply(tools=(ToolUse("transfer_to_agent", {"agent_name": "expert"}),))
    return Reply("It is 300, one two three.")


class Case:
    """A policy in front of an emulator, and what was told of its calls."""

    def __init__(self, emulator: Emulator, **policy: Any) -> None:
        self.emulator = emulator
        self.events: list[Event] = []
        loaded = load_policy({"version": 1, "trace": "off", **policy})
        self.runtime = Runtime.of(loaded, observers=[self.events.append])
        self.model = LiteLlm(
            model="openai/gpt-5.4", api_base=emulator.base_url, api_key="any", num_retries=0
        )
        self.session: Any = None

    def agent(self, name: str = "asker", **options: Any) -> LlmAgent:
        given = {"model": self.model, "instruction": f"I am {name}.", "description": name}
        return LlmAgent(name=name, **{**given, **options})

    def runner(self, agent: LlmAgent) -> InMemoryRunner:
        plugin = clawmw.adk.Plugin(self.runtime)
        return InMemoryRunner(agent, app_name="app", plugins=[plugin])

    async def events_of(
        self, runner: InMemoryRunner, mode: StreamingMode = StreamingMode.NONE, **more: Any
    ) -> AsyncIterator[Any]:
        service, place = runner.session_service, {"app_name": "app", "user_id": "u"}
        session = await service.create_session(**place)
        said = types.Content(role="user", parts=[types.Part(text="How much?")])
        config = RunConfig(streaming_mode=mode, **more)
        run = runner.run_async(
            user_id="u", session_id=session.id, new_message=said, run_config=config
        )
        async for event in run:
            yield event
        self.session = await service.get_session(session_id=session.id, **place)

    def run(self, agent: LlmAgent, mode: StreamingMode = StreamingMode.NONE, **more: Any) -> Any:
        """The last answer's text, and all events."""

        async def main() -> list[Any]:
            return [e async for e in self.events_of(self.runner(agent), mode, **more)]

        found = asyncio.run(main())
        return text_of(found[-1]), found

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]

    @property
    def ends(self) -> list[tuple[str, str]]:
        return [(e.status, e.usage.basis if e.usage else "") for e in self.finished]

    @property
    def who(self) -> list[str]:
        return [e.identity.agent for e in self.finished]

    @property
    def chains(self) -> set[str]:
        return {e.identity.chain for e in self.finished}


def text_of(event: Any) -> str:
    return "".join(part.text or "" for part in event.content.parts)


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


@pytest.mark.parametrize("mode", [StreamingMode.NONE, SSE])
def test_a_tool_round_trip_is_reduced_on_the_wire_and_not_in_the_session(
    case: Case, mode: StreamingMode
) -> None:
    agent = case.agent(tools=[prices])
    text, events = case.run(agent, mode)
    assert text == "It is 300."
    assert case.ends == [("ok", "measured")] * 2
    assert case.who == ["asker", "asker"]
    assert len(case.chains) == 1
    assert case.finished[0].identity.session == f"app/u/{case.session.id}/asker"
    assert len(str(case.emulator.requests[1].body)) < len(TABLE) * 0.6
    kept = [p.function_response for e in case.session.events for p in e.content.parts]
    assert [found.response for found in kept if found] == [{"result": TABLE}]
    assert agent.model is case.model, "the user's agent is as it was"
    told = [e.usage_metadata.prompt_token_count for e in events if e.usage_metadata]
    assert told == [e.usage.input_tokens for e in case.finished if e.usage]


def test_fragments_come_as_they_are_and_the_whole_after_them(case: Case) -> None:
    text, events = case.run(case.agent(), SSE)
    parts = [text_of(e) for e in events if e.partial]
    assert len(parts) > 1
    assert "".join(parts) == text == "It is 300, one two three."
    assert [bool(e.partial) for e in events][-1] is False


def test_an_agent_as_a_tool_and_one_transferred_to_are_of_the_same_chain(case: Case) -> None:
    expert = case.agent("expert")
    assert case.run(case.agent("boss", tools=[AgentTool(expert)]))[0] == "It is 300."
    assert case.who == ["boss", "expert", "boss"]
    assert len(case.chains) == 1
    assert len({e.identity.session for e in case.finished}) == 2
    case.events.clear()
    case.run(case.agent("boss", sub_agents=[case.agent("expert")]))
    assert case.who == ["boss", "expert"]
    assert len(case.chains) == 1


def test_one_run_after_another_and_beside_another_is_a_task_of_its_own(case: Case) -> None:
    async def main() -> None:
        async def one(name: str) -> None:
            agent = case.agent(name, tools=[prices])
            async for _ in case.events_of(case.runner(agent)):
                pass

        await asyncio.gather(*[one(name) for name in ("a", "b", "c")])
        await one("d")

    asyncio.run(main())
    assert sorted(case.who) == ["a", "a", "b", "b", "c", "c", "d", "d"]
    assert len(case.chains) == 4


def test_the_policys_expand_tool_is_answered_below_the_agent(emulator: Emulator) -> None:
    """A reply of the model that only asks for what was cut never reaches ADK."""
    case = Case(emulator, compress="balanced")

    def asks(body: dict[str, Any]) -> Reply:
        last = body["messages"][-1]
        if last["role"] != "tool":
            return Reply(tools=(ToolUse("prices", {"city": "Oslo"}),))
        if "clawmw_expand" in str(last["content"]) and "again" not in str(body["messages"][-2]):
            ref = str(last["content"]).split("clawmw_expand ")[1].split(":")[0].split("]")[0]
            return Reply(
                "A moment. ", tools=(ToolUse("clawmw_expand", {"ref": ref, "query": "again"}),)
            )
        return Reply("It is 300.")

    emulator._world.brain = asks
    for mode in (StreamingMode.NONE, SSE):
        emulator.requests.clear()
        text, events = case.run(case.agent(tools=[prices]), mode)
        assert len(emulator.requests) == 3
        calls = [p.function_call.name for e in events for p in e.content.parts if p.function_call]
        assert set(calls) == {"prices"}
        assert text.endswith("It is 300.")
    case.runtime.close()


# --- refusals, and what goes wrong ------------------------------------------------------------


@pytest.mark.parametrize("mode", [StreamingMode.NONE, SSE])
def test_a_stopped_run_ends_with_the_reason(emulator: Emulator, mode: StreamingMode) -> None:
    case = Case(emulator, budget={"chain": {"calls": 1}})
    text, events = case.run(case.agent(tools=[prices]), mode)
    assert "budget.chain.calls" in text
    assert events[-1].custom_metadata["clawmw"]["rule"] == "budget.chain.calls"
    assert len(emulator.requests) == 1
    case.runtime.close()


class Verdict(BaseModel):
    """What a program reads."""

    fine: bool


def test_a_program_gets_an_exception_instead(emulator: Emulator) -> None:
    case = Case(emulator, budget={"chain": {"calls": 0}})
    with pytest.raises(Refused, match=r"budget\.chain\.calls"):
        case.run(case.agent(output_schema=Verdict))
    assert not emulator.requests
    case.runtime.close()


def test_a_cancelled_run_and_a_stream_that_is_left_settle(case: Case) -> None:
    async def cancelled() -> None:
        case.emulator.fail_next(Fault(delay=30))
        runner = case.runner(case.agent())

        async def main() -> None:
            async for _ in case.events_of(runner):
                pass

        task = asyncio.ensure_future(main())
        await asyncio.to_thread(wait_for, case.emulator)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def left() -> None:
        case.emulator.fail_next(Fault(chunk_delay=0.2))
        events = case.events_of(case.runner(case.agent()), SSE)
        async for event in events:
            if event.partial:
                break
        await events.aclose()  # type: ignore[attr-defined]

    asyncio.run(cancelled())
    assert [e.status for e in case.finished] == ["cancelled"]
    asyncio.run(left())
    assert [e.status for e in case.finished] == ["cancelled", "cancelled"]


def test_an_upstreams_error_is_tried_again_by_the_policy_and_then_adks_own(
    emulator: Emulator,
) -> None:
    case = Case(emulator, retry={"attempts": 2, "base": "10ms"})
    emulator.fail_next(Fault(status=503), Fault())
    assert case.run(case.agent())[0] == "It is 300, one two three."
    emulator.fail_next(*[Fault(status=503)] * 9)
    with pytest.raises(litellm.exceptions.ServiceUnavailableError):
        case.run(case.agent())
    assert [e.status for e in case.finished] == ["ok", "failed"]
    case.runtime.close()


def test_what_litellm_tries_again_below_is_one_call_paid_once(emulator: Emulator) -> None:
    case = Case(emulator, retry=False)
    case.model._additional_args["num_retries"] = 2
    emulator.fail_next(Fault(status=503))
    assert case.run(case.agent())[0]
    assert len(emulator.requests) == 2
    assert case.ends == [("ok", "measured")]
    assert case.finished[0].cost
    case.runtime.close()


def test_adks_own_limit_of_calls_still_holds(case: Case) -> None:
    case.emulator._world.brain = lambda b: Reply(
        tools=(ToolUse("prices", {"city": str(len(b["messages"]))}),)
    )
    with pytest.raises(Exception, match="Max number of llm calls"):
        case.run(case.agent(tools=[prices]), max_llm_calls=3)
    assert case.ends == [("ok", "measured")] * 3


# --- other ways and other models --------------------------------------------------------------


def test_a_model_of_an_agents_own_without_the_plugin(case: Case) -> None:
    agent = case.agent(model=clawmw.adk.model(case.model, case.runtime))
    assert isinstance(agent.model, LiteLlm)
    agent = agent.clone({"name": "copied", "model": copy.deepcopy(agent.model)})

    async def main() -> None:
        with clawmw.calling(agent="me", chain="c7"):
            async for _ in case.events_of(InMemoryRunner(agent, app_name="app")):
                pass

    asyncio.run(main())
    assert [(e.identity.agent, e.identity.chain) for e in case.finished] == [("me", "c7")]


def test_another_model_of_the_policys_is_asked_where_it_is(emulator: Emulator) -> None:
    light = {"model": "small", "base_url": emulator.base_url}
    case = Case(emulator, models={"light": light}, route=[{"when": "true", "to": "light"}])
    assert case.run(case.agent())[0] == "It is 300, one two three."
    assert emulator.requests[0].body["model"] == "small"
    case.runtime.close()


@pytest.mark.parametrize("mode", [StreamingMode.NONE, SSE])
def test_a_policy_below_sees_that_each_call_was_decided_about(
    case: Case, mode: StreamingMode
) -> None:
    with clawmw.install(case.runtime):
        assert case.run(case.agent(tools=[prices]), mode)[0] == "It is 300."
    assert case.ends == [("ok", "measured")] * 2
    assert case.who == ["asker", "asker"]


def test_switched_off_everything_passes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAWMW_OFF", "1")
    assert case.run(case.agent(tools=[prices]), SSE)[0] == "It is 300."
    assert not case.finished
    assert TABLE in case.emulator.requests[1].body["messages"][-1]["content"].encode().decode(
        "unicode_escape"
    )


SIGNATURE = "c2lnbmVk"


class GeminiHandler(BaseHTTPRequestHandler):
    """As little of Gemini's API as a tool round trip needs."""

    bodies: list[Any]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.bodies.append(body)
        parts: list[Any] = [{"text": "Let me think.", "thought": True}]
        if "functionResponse" in str(body["contents"][-1]):
            parts.append({"text": "It is 300."})
        else:
            call = {"name": "prices", "args": {"city": "Oslo"}}
            parts.append({"functionCall": call, "thoughtSignature": SIGNATURE})
        found = {
            "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
            "usageMetadata": {
                "promptTokenCount": 100,
                "candidatesTokenCount": 10,
                "thoughtsTokenCount": 7,
                "cachedContentTokenCount": 40,
                "totalTokenCount": 117,
            },
            "modelVersion": "gemini-3.5-flash",
        }
        data = json.dumps(found).encode()
        kind = "application/json"
        if "alt=sse" in self.path:
            data, kind = b"data: " + data + b"\r\n\r\n", "text/event-stream"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize("mode", [StreamingMode.NONE, SSE])
def test_gemini_and_what_only_it_says(case: Case, mode: StreamingMode) -> None:
    handler = type("Handler", (GeminiHandler,), {"bodies": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    gemini = Gemini(
        model="gemini-3.5-flash",
        base_url=f"http://127.0.0.1:{server.server_port}",
        client_kwargs={"api_key": "any"},
    )
    text, _ = case.run(case.agent(model=gemini, tools=[prices]), mode)
    server.shutdown()
    server.server_close()
    assert text.endswith("It is 300.")
    first, second = handler.bodies
    assert first["systemInstruction"]
    called = next(p for p in second["contents"][1]["parts"] if "functionCall" in p)
    assert called["thoughtSignature"] == SIGNATURE
    answer = second["contents"][2]["parts"][0]["functionResponse"]
    assert answer["name"] == "prices"
    assert len(answer["response"]["result"]) < len(TABLE) * 0.6
    usage = case.finished[0].usage
    assert usage is not None
    assert (usage.input_tokens, usage.cache_read_tokens) == (100, 40)
    assert (usage.output_tokens, usage.reasoning_tokens) == (17, 7)


def test_a_bug_of_ours_lets_the_call_through(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(emulator)

    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Ask, "_messages", broken)
    for mode in (StreamingMode.NONE, SSE):
        assert case.run(case.agent(tools=[prices]), mode)[0] == "It is 300."
    assert [e.stage for e in case.events if isinstance(e, StageFailed)] == ["adk"] * 4
    case.runtime.close()


def test_a_secret_stays_in_the_session(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret-1234")
    case = Case(emulator, redact={"env": ["MY_KEY"]})

    def keys(city: str) -> str:
        """Keys of a city."""
        return "the key is sk-very-secret-1234"

    emulator._world.brain = lambda body: (
        Reply("done")
        if body["messages"][-1]["role"] == "tool"
        else Reply(tools=(ToolUse("keys", {"city": "Oslo"}),))
    )
    case.run(case.agent(tools=[keys]))
    assert "very-secret" not in str([r.body for r in emulator.requests])
    assert "very-secret" in str(case.session.events)
    case.runtime.close()


# --- one request, as the policy sees it -------------------------------------------------------


def picture(data: bytes) -> Any:
    return types.Part(inline_data=types.Blob(data=data, mime_type="image/png"))


def a_request() -> Any:
    """All that a request may hold: a picture, thoughts, two calls at once without ids."""
    calls = [
        types.FunctionCall(name="prices", args={"city": "Oslo"}),
        types.FunctionCall(name="prices", args={"city": "Bergen"}),
    ]
    answers = [types.FunctionResponse(name="prices", response={"result": f"r{n}"}) for n in (1, 2)]
    contents = [
        types.Content(role="user", parts=[types.Part(text="Look:"), picture(b"one")]),
        types.Content(
            role="model",
            parts=[
                types.Part(text="hm", thought=True),
                *[types.Part(function_call=c, thought_signature=b"s") for c in calls],
            ],
        ),
        types.Content(role="user", parts=[types.Part(function_response=a) for a in answers]),
    ]
    declared = types.FunctionDeclaration(name="prices", description="Prices.")
    search = types.Tool(google_search=types.GoogleSearch())
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        tools=[types.Tool(function_declarations=[declared]), search],
        max_output_tokens=100,
    )
    return LlmRequest(model="m", contents=contents, config=config)


def asked(ask: Ask, changed: dict[int, Any], **more: Any) -> Asked:
    """What the policy wants: each message as it is, but those that are changed."""
    messages = [(n, m) if n not in changed else (None, changed[n]) for n, m in enumerated(ask)]
    body = {**ask.body, "messages": [m for _, m in messages], **more}
    return Asked(body, tuple(messages))


def enumerated(ask: Ask) -> list[tuple[int, Any]]:
    return list(enumerate(ask.body["messages"]))


def test_what_is_left_alone_is_the_very_request() -> None:
    request = a_request()
    ask = Ask(request, "m")
    assert [m["role"] for m in ask.body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
    ]
    ids = [call["id"] for call in ask.body["messages"][2]["tool_calls"]]
    assert ids == [m["tool_call_id"] for m in ask.body["messages"][3:]]
    assert ask.to(asked(ask, {})) is request


def test_one_changed_answer_stays_in_its_turn_and_the_rest_is_as_it_was() -> None:
    request = a_request()
    ask = Ask(request, "m")
    shorter = {**ask.body["messages"][4], "content": "r"}
    sent = ask.to(asked(ask, {4: shorter}))
    assert sent.config is request.config
    assert [a is b for a, b in zip(sent.contents, request.contents, strict=True)] == [
        True,
        True,
        False,
    ]
    first, second = sent.contents[2].parts
    assert first is request.contents[2].parts[0]
    assert second.function_response.response == {"result": "r"}
    assert request.contents[2].parts[1].function_response.response == {"result": "r2"}


def test_what_chat_completions_cannot_say_comes_back_as_it_was() -> None:
    request = a_request()
    ask = Ask(request, "m")
    user, model = ask.body["messages"][1:3]
    told = {**user, "content": [{"type": "text", "text": "See:"}, *user["content"][1:]]}
    sent = ask.to(asked(ask, {1: told, 2: dict(model)}))
    assert [p.text for p in sent.contents[0].parts] == ["See:", None]
    assert sent.contents[0].parts[1] is request.contents[0].parts[1]
    assert sent.contents[1].parts == request.contents[1].parts


def test_other_data_is_another_request() -> None:
    one, other = a_request(), a_request()
    other.contents[0].parts[1] = picture(b"two")
    assert Ask(one, "m").body != Ask(other, "m").body
    assert Ask(one, "m").body == Ask(a_request(), "m").body


def test_tools_limits_and_instructions_may_change_alone() -> None:
    request = a_request()
    ask = Ask(request, "m")
    extra = {"type": "function", "function": {"name": "more", "parameters": {"type": "object"}}}
    system = {"role": "system", "content": "Be briefer."}
    tools = [*ask.body["tools"], extra]
    sent = ask.to(asked(ask, {0: system}, tools=tools, max_tokens=50))
    assert all(a is b for a, b in zip(sent.contents, request.contents, strict=True))
    assert sent.config.system_instruction == "Be briefer."
    assert sent.config.max_output_tokens == 50
    own, added = sent.config.tools[0].function_declarations
    assert own is request.config.tools[0].function_declarations[0]
    assert (added.name, added.parameters_json_schema) == ("more", {"type": "object"})
    assert sent.config.tools[1].google_search is not None
    assert request.config.system_instruction == "Be brief."
