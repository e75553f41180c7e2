"""The official SDK's Responses API through the transport, against a provider on loopback."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import openai
import pytest
from pydantic import BaseModel

import clawmw
from clawmw.core.events import Acted, CallFinished, CallStarted, Event, StageFailed, ToolReturned
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator, Fault, Reply, ToolUse, script
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.codecs.responses import tool
from tests.conftest import rows

FLAVOUR: Any = "httpx2" if int(openai.__version__.partition(".")[0]) >= 3 else "httpx"
"""What the installed SDK is built on: httpx2 from openai 3 on."""
TOOLS: Any = [tool("search"), tool("read")]
WANTED = json.loads(rows(300))[150]
ENCRYPTED: Any = ["reasoning.encrypted_content"]


class Case:
    """A runtime, what it said, the provider behind it, and the SDK in front."""

    def __init__(self, emulator: Emulator, policy: dict[str, Any]) -> None:
        self.emulator = emulator
        self.events: list[Event] = []
        self.clients: list[Any] = []
        loaded = load_policy({"trace": "off", "version": 1, **policy})
        self.runtime = Runtime.of(loaded, observers=[self.events.append])

    def client(self, **options: Any) -> openai.OpenAI:
        identity = options.pop("identity", None)
        http = clawmw.http_client(self.runtime, flavour=FLAVOUR, identity=identity)
        self.clients.append(http)
        return openai.OpenAI(
            base_url=self.emulator.base_url, api_key="k", http_client=http, **options
        )

    def aclient(self) -> openai.AsyncOpenAI:
        http = clawmw.async_http_client(self.runtime, flavour=FLAVOUR)
        return openai.AsyncOpenAI(base_url=self.emulator.base_url, api_key="k", http_client=http)

    def answers(self, *replies: Any) -> None:
        self.emulator._world.brain = script(replies)

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]

    @property
    def rules(self) -> list[str]:
        return [e.rule for e in self.events if isinstance(e, Acted)]

    def sent(self, index: int = -1) -> dict[str, Any]:
        return self.emulator.requests[index].body  # type: ignore[no-any-return]

    def sound(self) -> None:
        """The bill equals the trace, and nothing of ours broke."""
        assert not [e for e in self.events if isinstance(e, StageFailed)]
        billed = self.emulator.usages
        told = [e.usage for e in self.finished if e.usage is not None]
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens"):
            paid = sum(getattr(u, name) or 0 for u in billed)
            assert paid == sum(getattr(u, name) or 0 for u in told), name


@pytest.fixture
def provider() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


Make = Callable[[dict[str, Any]], Case]


@pytest.fixture
def make(provider: Emulator) -> Iterator[Make]:
    made: list[Case] = []

    def case(policy: dict[str, Any]) -> Case:
        made.append(Case(provider, policy))
        return made[-1]

    yield case
    for one in made:
        for client in one.clients:
            client.close()


@pytest.fixture
def case(make: Make) -> Case:
    return make({"prompt_cache": False})


def test_create(case: Case) -> None:
    response = case.client().responses.create(
        model="gpt-5", input="hello", instructions="Be brief.", max_output_tokens=40
    )
    assert response.output_text == "hello"
    assert response.usage is not None
    [done] = case.finished
    assert done.usage is not None
    assert (done.status, done.finish_reason) == ("ok", "stop")
    assert done.usage.input_tokens == response.usage.input_tokens
    assert case.sent() == {
        "model": "gpt-5",
        "input": "hello",
        "instructions": "Be brief.",
        "max_output_tokens": 40,
    }
    case.sound()


def test_the_stream_helper_sees_the_providers_stream(case: Case) -> None:
    case.answers(Reply("hello there", reasoning="let me see"), Reply("hello there"))
    said: dict[str, Any] = {"model": "gpt-5", "input": "go", "reasoning": {"summary": "auto"}}
    with case.client().responses.stream(**said) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert "response.reasoning_summary_text.delta" in kinds
    assert final.output_text == "hello there"
    assert final.usage is not None
    assert final.usage.output_tokens_details.reasoning_tokens > 0
    case.sound()


class Answer(BaseModel):
    """A structured answer."""

    city: str
    days: int


def test_parse_gives_the_object(case: Case) -> None:
    text = '{"city": "Shanghai", "days": 3}'
    case.answers(text, text)
    client = case.client()
    parsed = client.responses.parse(model="gpt-5", input="where?", text_format=Answer)
    assert parsed.output_parsed == Answer(city="Shanghai", days=3)
    with client.responses.stream(model="gpt-5", input="where?", text_format=Answer) as stream:
        final = stream.get_final_response()
    assert final.output_parsed == Answer(city="Shanghai", days=3)
    case.sound()


def test_a_tool_round_with_reasoning_passed_back(case: Case) -> None:
    search = ToolUse("search", {"q": "tickets"})
    read = ToolUse("read", {"q": "tkt"})
    case.answers(
        Reply("I look.", (search, read), reasoning="two tools"), Reply("Cheap.", reasoning="hm")
    )
    said: list[Any] = [{"role": "user", "content": "find the cheapest"}]
    client = case.client()
    options: dict[str, Any] = {
        "model": "gpt-5",
        "tools": TOOLS,
        "include": ENCRYPTED,
        "store": False,
        "reasoning": {"effort": "low"},
    }
    first = client.responses.create(input=said, **options)
    said += first.output
    results = {"search": rows(300), "read": "ok"}
    for item in first.output:
        if item.type == "function_call":
            output = results[item.name]
            called = {"type": "function_call_output", "call_id": item.call_id}
            said.append({**called, "output": output})
    second = client.responses.create(input=said, **options)
    assert second.output_text == "Cheap."
    sent = case.sent()["input"]
    asked = json.loads(json.dumps(sent[:6]))
    assert [i.get("type", "message") for i in asked] == [
        "message",
        "reasoning",
        "message",
        "function_call",
        "function_call",
        "function_call_output",
    ]
    assert asked[1]["encrypted_content"]
    assert len(sent[5]["output"]) < len(rows(300)) / 3
    assert sent[6]["output"] == "ok"
    named = [e.name for e in case.events if isinstance(e, ToolReturned)]
    assert named == ["search", "read"]
    case.sound()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", ["", "Let me see. "])
def test_what_was_cut_is_asked_back_without_the_agent(
    case: Case, *, stream: bool, first: str
) -> None:
    """With its reasoning, as the provider wants it; then the agent goes on from what it saw."""
    bodies: list[dict[str, Any]] = []

    def brain(asked: dict[str, Any]) -> Reply:
        bodies.append(asked)
        told = [m["content"] for m in asked["messages"] if m["role"] == "tool"]
        if asked["messages"][-1]["content"] == "thanks":
            return Reply("You are welcome.", reasoning="done")
        if WANTED["id"] in " ".join(told):
            return Reply(f"It costs {WANTED['price']}.", reasoning="seen")
        [ref] = re.findall(r"clawmw_expand (r\w+): ", json.dumps(told))
        use = ToolUse("clawmw_expand", {"ref": ref, "query": WANTED["id"]})
        return Reply(first or None, (use,), reasoning="look")

    case.emulator._world.brain = brain
    call = {"type": "function_call", "call_id": "c1", "name": "search", "arguments": "{}"}
    said: list[Any] = [{"role": "user", "content": "find the cheapest ticket"}, call]
    said.append({"type": "function_call_output", "call_id": "c1", "output": rows(300)})
    client = case.client(identity=Identity(session="s"))
    options: dict[str, Any] = {"model": "gpt-5", "tools": TOOLS, "reasoning": {"effort": "low"}}

    def ask() -> Any:
        if not stream:
            return client.responses.create(input=said, **options)
        with client.responses.stream(input=said, **options) as events:
            kinds = [event.type for event in events]
            assert kinds.count("response.created") == 1
            return events.get_final_response()

    answer = ask()
    assert answer.output_text == (first if stream else "") + f"It costs {WANTED['price']}."
    assert "clawmw" not in json.dumps([item.to_dict() for item in answer.output])
    assert len(case.emulator.requests) == 2
    [done] = case.finished
    assert done.attempts == 2
    assert done.usage is not None
    assert answer.usage.input_tokens == done.usage.input_tokens
    case.sound()
    said += answer.output
    said.append({"role": "user", "content": "thanks"})
    assert ask().output_text == "You are welcome."
    assert any("clawmw_expand" in json.dumps(m.get("tool_calls")) for m in bodies[-1]["messages"])
    going_on = client.responses.create(
        model="gpt-5", input="thanks", previous_response_id=answer.id, tools=TOOLS
    )
    assert going_on.output_text == "You are welcome."
    case.sound()


def test_the_agents_own_call_beside_ours_is_numbered_first(case: Case) -> None:
    ours, theirs = ToolUse("clawmw_expand", {"ref": "rnone"}), ToolUse("read", {"q": "x"})
    call = {"type": "function_call", "call_id": "c1", "name": "search", "arguments": "{}"}
    said: list[Any] = [{"role": "user", "content": "find the cheapest ticket"}, call]
    said.append({"type": "function_call_output", "call_id": "c1", "output": rows(300)})
    for stream in (False, True):
        case.answers(Reply(tools=(ours, theirs), reasoning="both"), "done")
        client = case.client(identity=Identity(session=f"s{stream}"))
        options: dict[str, Any] = {"model": "gpt-5", "tools": TOOLS}
        if stream:
            with client.responses.stream(input=said, **options) as events:
                answer: Any = events.get_final_response()
        else:
            answer = client.responses.create(input=said, **options)
        assert [item.type for item in answer.output] == ["reasoning", "function_call"]
        own = {"type": "function_call_output", "call_id": answer.output[1].call_id}
        given: Any = [*said, *answer.output, {**own, "output": "page"}]
        assert client.responses.create(input=given, **options).output_text == "done"
        assert case.sent()["input"][-2]["call_id"] == own["call_id"]
        assert "[clawmw: answer to clawmw_expand" in json.dumps(case.sent()["input"])
    case.sound()


def test_async_and_streams(case: Case) -> None:
    async def run() -> None:
        async with case.aclient() as client:
            case.answers("one", "two")
            first = await client.responses.create(model="gpt-5", input="go")
            assert first.output_text == "one"
            async with client.responses.stream(model="gpt-5", input="go") as stream:
                kinds = [event.type async for event in stream]
                assert (await stream.get_final_response()).output_text == "two"
            assert kinds[-1] == "response.completed"

    asyncio.run(run())
    case.sound()


# --- what the provider holds -------------------------------------------------------------------


class Recorded:
    """The bytes that leave."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        module = import_module(FLAVOUR)
        seen = self.bodies

        class Transport(module.HTTPTransport):  # type: ignore[name-defined,misc]
            def handle_request(self, request: Any) -> Any:
                seen.append(request.read())
                return super().handle_request(request)

        self.transport = Transport()


def raw_client(case: Case, transport: Any, policy: Any) -> openai.OpenAI:
    module = import_module(FLAVOUR)
    http = module.Client(transport=transport)
    if policy is not None:
        http = clawmw.http_client(policy, flavour=FLAVOUR, transport=transport)
    case.clients.append(http)  # closed with the others
    return openai.OpenAI(base_url=case.emulator.base_url, api_key="k", http_client=http)


def test_a_chain_of_previous_responses_is_guarded_and_goes_out_as_it_came(case: Case) -> None:
    recorded = {}
    for policy in (None, case.runtime):
        case.emulator.requests.clear()
        out, use = Recorded(), ToolUse("search", {"q": "tickets"}, "call_1")
        case.answers(Reply(tools=(use,)), "Cheap.", "Bye.")
        client = raw_client(case, out.transport, policy)
        first = client.responses.create(model="gpt-5", input="find it", tools=TOOLS)
        output: Any = {"type": "function_call_output", "call_id": "call_1", "output": rows(300)}
        second = client.responses.create(
            model="gpt-5", previous_response_id=first.id, input=[output], tools=TOOLS
        )
        third = client.responses.create(
            model="gpt-5", previous_response_id=second.id, input="bye", stream=True
        )
        assert [event.type for event in third][-1] == "response.completed"
        recorded[policy is None] = out.bodies
        case.emulator._world.requests = []
    ids = [re.sub(rb"resp_emu_\d+", b"resp", body) for body in recorded[False]]
    assert ids == [re.sub(rb"resp_emu_\d+", b"resp", body) for body in recorded[True]]
    assert len({done.identity.session for done in case.finished}) == 1
    began = [e.held for e in case.events if isinstance(e, CallStarted)]
    assert began == [False, True, True]
    assert [e.name for e in case.events if isinstance(e, ToolReturned)] == ["search"]
    assert [done.totals.sent - done.totals.raw for done in case.finished] == [0, 0, 0]


def test_a_loop_in_a_chain_of_previous_responses_is_refused(make: Make) -> None:
    case = make({"loop_guard": {"nudge": 2, "refuse": 4, "stop": 8}})
    client = case.client(max_retries=0)
    replies = [Reply(tools=(ToolUse("search", {"q": "same"}),)) for _ in range(9)]
    case.answers(*replies)
    response = client.responses.create(model="gpt-5", input="go", tools=TOOLS)

    def again(after: Any) -> Any:
        output: Any = {"type": "function_call_output", "call_id": after.output[-1].call_id}
        given = [{**output, "output": "nothing found"}]
        return client.responses.create(
            model="gpt-5", previous_response_id=after.id, input=given, tools=TOOLS
        )

    for _ in range(3):
        response = again(response)
    with pytest.raises(openai.APIStatusError) as refused:
        again(response)
    assert refused.value.status_code == 402
    assert "loop_guard.refuse" in case.rules
    assert [len(r.body["input"]) for r in case.emulator.requests[1:]] == [1] * 3


def test_different_calls_with_the_same_result_are_no_loop(make: Make) -> None:
    case = make({"loop_guard": {"nudge": 2, "refuse": 3, "stop": 4}})
    case.answers(*[Reply(tools=(ToolUse("write", {"n": n}),)) for n in range(6)], "done")
    for known in (True, False):
        client = case.client(max_retries=0)
        response = client.responses.create(model="gpt-5", input=f"go {known}", tools=TOOLS)
        for _ in range(3):
            if not known:  # another process
                case.runtime.sessions._answers.clear()
            call: Any = response.output[-1]
            output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "ok"}
            response = client.responses.create(
                model="gpt-5", previous_response_id=response.id, input=[output], tools=TOOLS
            )
        case.answers(*[Reply(tools=(ToolUse("write", {"n": n}),)) for n in range(6)], "done")
    assert "loop_guard.refuse" not in case.rules


def test_a_budget_counts_what_the_provider_holds(make: Make) -> None:
    case = make({"budget": {"chain": {"input_tokens": 30_000}}})
    client = case.client(max_retries=0, identity=Identity(session="s", chain="c"))
    case.answers(*["ok"] * 9)
    response = client.responses.create(model="gpt-5", input=rows(300))
    refused: Any = None
    while refused is None and len(case.finished) < 9:
        try:
            response = client.responses.create(
                model="gpt-5", input="and?", previous_response_id=response.id
            )
        except openai.APIStatusError as error:
            refused = error
    assert refused.status_code == 402
    spent = sum(usage.input_tokens or 0 for usage in case.emulator.usages)
    assert spent <= 30_000  # the last one was refused before it was made
    assert len(case.emulator.usages) == 2


def test_the_background_and_what_is_resumed_pass(case: Case) -> None:
    case.answers("later")
    client = case.client()
    queued = client.responses.create(model="gpt-5", input="go", background=True, tools=TOOLS)
    assert queued.status == "queued"
    assert client.responses.retrieve(queued.id).output_text == "later"
    resumed = client.responses.retrieve(queued.id, stream=True, starting_after=3)
    assert [event.sequence_number for event in resumed][:1] == [4]
    assert len(case.finished) == 1
    assert case.sent()["tools"] == TOOLS
    counted = client.responses.input_tokens.count(model="gpt-5", input="go")
    assert counted.input_tokens > 0
    assert len(case.finished) == 1


# --- what goes wrong ---------------------------------------------------------------------------

STOPPED = {"budget": {"chain": {"calls": 1}}}


@pytest.mark.parametrize("stream", [False, True])
def test_a_stopped_call_is_a_message_where_people_read_it(make: Make, *, stream: bool) -> None:
    case = make({**STOPPED, "refusal": "message"})
    client = case.client(identity=Identity(session="s", chain="c"))
    first = client.responses.create(model="gpt-5", input="go")
    if stream:
        with client.responses.stream(model="gpt-5", input="again") as events:
            answer: Any = events.get_final_response()
    else:
        answer = client.responses.create(model="gpt-5", input="again")
    assert "clawmw stopped this call" in answer.output_text
    assert answer.status == "completed"
    assert answer.usage is None or answer.usage.input_tokens == 0
    assert len(case.emulator.requests) == 1
    held = client.responses.create(model="gpt-5", input="x", previous_response_id=first.id)
    assert held.id == first.id  # from which the caller can go on when the limit is raised


@pytest.mark.parametrize("stream", [False, True])
def test_a_stopped_call_is_an_error_for_programs(make: Make, *, stream: bool) -> None:
    case = make(STOPPED)
    client = case.client(identity=Identity(session="s", chain="c"))
    client.responses.create(model="gpt-5", input="go")
    with pytest.raises(openai.APIStatusError) as refused:
        client.responses.create(model="gpt-5", input="again", stream=stream)
    assert refused.value.status_code == 402
    assert refused.value.body["type"] == "clawmw_refused"  # type: ignore[index]
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(case.emulator.requests) == 1  # and the SDK asked once
    case.sound()


def test_a_structured_answer_is_never_a_message_of_ours(make: Make) -> None:
    case = make(STOPPED)
    client = case.client(identity=Identity(session="s", chain="c", client="codex"))
    client.responses.create(model="gpt-5", input="go")
    assert "stopped" in client.responses.create(model="gpt-5", input="again").output_text
    with pytest.raises(openai.APIStatusError):
        client.responses.parse(model="gpt-5", input="again", text_format=Answer)


@pytest.mark.parametrize("status", [400, 401, 429, 503])
def test_an_upstreams_error_is_the_callers(case: Case, status: int) -> None:
    client = case.client(max_retries=0)
    case.emulator.fail_next(*[Fault(status=status)] * 4)
    with pytest.raises(openai.APIStatusError) as failed:
        client.responses.create(model="gpt-5", input="go")
    assert failed.value.status_code == status
    case.emulator._world.faults._waiting.clear()
    lost: Any = {"type": "function_call_output", "call_id": "lost", "output": "x"}
    with pytest.raises(openai.BadRequestError, match="No tool call found"):
        client.responses.create(model="gpt-5", input=[lost])
    assert case.finished[-1].status == "failed"


def test_a_stream_that_begins_with_an_error_is_made_again(make: Make) -> None:
    case = make({"retry": {"attempts": 2}})
    case.emulator.fail_next(Fault(error=True))
    with case.client(max_retries=0).responses.stream(model="gpt-5", input="go") as stream:
        assert stream.get_final_response().output_text == "go"
    [done] = case.finished
    assert done.attempts == 2


@pytest.mark.parametrize("fault", [Fault(truncate_after=5), Fault(reset_after=5)])
def test_a_stream_that_breaks_is_not_taken_for_whole(case: Case, fault: Fault) -> None:
    case.emulator.fail_next(fault)
    with (
        pytest.raises(
            Exception, match=r"response.completed|closed|peer|[Rr]ead|reset|[Cc]onnection"
        ),
        case.client(max_retries=0).responses.stream(model="gpt-5", input="go") as stream,
    ):
        stream.get_final_response()
    [done] = case.finished
    assert done.status == "cancelled"


def asking_back(case: Case) -> Any:
    """A stream that has said something when the model asks for what was cut."""

    def brain(asked: dict[str, Any]) -> Reply:
        told = json.dumps([m["content"] for m in asked["messages"] if m["role"] == "tool"])
        [ref] = re.findall(r"clawmw_expand (r\w+): ", told)[:1]
        return Reply("Let me see. ", (ToolUse("clawmw_expand", {"ref": ref}),))

    case.emulator._world.brain = brain
    call = {"type": "function_call", "call_id": "c1", "name": "search", "arguments": "{}"}
    said: Any = [{"role": "user", "content": "find the cheapest ticket"}, call]
    said.append({"type": "function_call_output", "call_id": "c1", "output": rows(300)})
    client = case.client(max_retries=0, identity=Identity(session="s", chain="c"))
    return client.responses.stream(model="gpt-5", input=said, tools=TOOLS)


def test_an_error_in_mid_answer_is_raised_by_the_sdk(make: Make) -> None:
    case = make({"prompt_cache": False, "retry": False})
    case.emulator.fail_next(Fault(), Fault(status=400))
    seen: list[str] = []

    def read() -> None:
        with asking_back(case) as stream:
            seen.extend(event.type for event in stream)

    with pytest.raises(openai.APIError):
        read()
    assert seen[0] == "response.created"
    assert "response.output_text.delta" in seen
    assert "response.completed" not in seen
    [done] = case.finished
    assert (done.status, done.attempts) == ("failed", 2)


def test_a_stop_in_mid_answer_ends_it_in_words(make: Make) -> None:
    case = make({"prompt_cache": False, "budget": {"chain": {"calls": 1}}})
    with asking_back(case) as stream:
        answer = stream.get_final_response()
    assert answer.output_text.startswith("Let me see. ")
    assert "clawmw stopped this call" in answer.output_text
    assert len(case.emulator.requests) == 1


@pytest.mark.parametrize("fault", [Fault(pieces=7), Fault(crlf=True), Fault(comments=3)])
def test_a_stream_may_come_as_it_likes(case: Case, fault: Fault) -> None:
    case.emulator.fail_next(fault)
    with case.client().responses.stream(model="gpt-5", input="hé \U0001f600") as stream:
        assert stream.get_final_response().output_text == "hé \U0001f600"
    case.sound()


def test_silence_ends_in_time(make: Make) -> None:
    case = make({"timeout": {"first_byte": "300ms"}, "retry": False})
    case.emulator.fail_next(Fault(delay=3))
    with pytest.raises(openai.APITimeoutError):
        case.client(max_retries=0).responses.create(model="gpt-5", input="go")
    [done] = case.finished
    assert done.error == "timeout"


def test_a_reader_that_leaves_ends_the_call(case: Case) -> None:
    case.answers("word " * 400)
    stream = case.client().responses.create(model="gpt-5", input="go", stream=True)
    for event in stream:
        if event.type == "response.output_text.delta":
            break
    stream.close()
    [done] = case.finished
    assert done.status == "cancelled"
    assert done.usage is not None
    assert done.usage.basis == "estimated"


def test_a_cancelled_call_is_settled(case: Case) -> None:
    case.emulator.fail_next(Fault(delay=5))

    async def run() -> None:
        async with case.aclient() as client:
            task = asyncio.create_task(client.responses.create(model="gpt-5", input="go"))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    [done] = case.finished
    assert done.status == "cancelled"
