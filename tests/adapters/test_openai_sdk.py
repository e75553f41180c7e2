"""The OpenAI SDK as agents use it: chat completions in process, over both flavours, and served."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import httpx
import httpx2
import openai
import pytest
from pydantic import BaseModel

import clawmw
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.core.events import CallFinished, Event
from clawmw.emulator import Emulator, Fault, Reply, ToolUse
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import rows, tool

WAYS = ["httpx", "httpx2", "served"]
Body = dict[str, Any]
HELLO: Body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
QUICK = {"base": "1ms", "longest": "2ms"}


class Case:
    """A policy between the SDK and a provider, one way or the other."""

    def __init__(self, way: str, upstream: str, stack: ExitStack, **policy: Any) -> None:
        self.way, self.upstream, self.stack = way, upstream, stack
        self.events: list[Event] = []
        given = {"version": 1, "trace": "off", "retry": QUICK, **policy}
        self.runtime = Runtime.of(load_policy(given), observers=[self.events.append])
        stack.callback(self.runtime.close)
        self.url = upstream
        if way == "served":
            served = Served(Gateway(self.runtime, Places({}, upstream)))
            self.url = stack.enter_context(served).base_url

    def sdk(self, **options: Any) -> openai.OpenAI:
        if self.way != "served":
            options["http_client"] = clawmw.http_client(self.runtime, flavour=self.way)  # type: ignore[arg-type]
        client = openai.OpenAI(base_url=self.url, api_key="k", **options)
        return self.stack.enter_context(client)

    def asdk(self, **options: Any) -> openai.AsyncOpenAI:
        if self.way != "served":
            http = clawmw.async_http_client(self.runtime, flavour=self.way)  # type: ignore[arg-type]
            options["http_client"] = http
        return openai.AsyncOpenAI(base_url=self.url, api_key="k", **options)

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]

    def settled(self, count: int) -> list[str]:
        """How so many calls ended, waiting a little for the gateway to be told."""
        waited = threading.Event()
        for _ in range(400):
            if len(self.finished) >= count:
                break
            waited.wait(0.005)
        return [done.status for done in self.finished]


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator(bill="openai") as emulator:
        yield emulator


@pytest.fixture
def provider(server: Emulator) -> Iterator[Emulator]:
    brain = server._world.brain
    server.requests.clear()
    yield server
    server._world.brain = brain
    server._world.faults._waiting.clear()


@pytest.fixture(params=WAYS)
def make(provider: Emulator, request: pytest.FixtureRequest) -> Iterator[Callable[..., Case]]:
    with ExitStack() as stack:
        yield lambda upstream=provider.base_url, **policy: Case(
            request.param, upstream, stack, **policy
        )


@pytest.fixture
def case(make: Callable[..., Case]) -> Case:
    return make()


def test_the_streaming_helper_sees_every_event(case: Case, provider: Emulator) -> None:
    provider._world.brain = lambda _asked: Reply(text="It is", tools=(ToolUse("f", {"q": "x"}),))
    with case.sdk().chat.completions.stream(**HELLO, tools=[tool("f")]) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_completion().choices[0]
    assert {"content.delta", "content.done", "tool_calls.function.arguments.done"} <= set(kinds)
    assert answer.message.content == "It is"
    [call] = answer.message.tool_calls or []
    assert (call.function.name, json.loads(call.function.arguments)) == ("f", {"q": "x"})
    assert answer.finish_reason == "tool_calls"
    assert case.settled(1) == ["ok"]


def test_structured_output_is_parsed(case: Case, provider: Emulator) -> None:
    class Ticket(BaseModel):
        price: int

    provider._world.brain = lambda _asked: Reply(text='{"price": 7}')
    answer = case.sdk().chat.completions.parse(**HELLO, response_format=Ticket)
    assert answer.choices[0].message.parsed == Ticket(price=7)
    assert provider.requests[0].body["response_format"]["json_schema"]["name"] == "Ticket"


def test_structured_output_is_never_a_message_of_ours(make: Callable[..., Case]) -> None:
    class Ticket(BaseModel):
        price: int

    case = make(budget={"chain": {"calls": 0}})
    headers = {"user-agent": "OpenClaw/1"}  # a chat agent, which else gets a message
    with pytest.raises(openai.APIStatusError) as stopped:
        case.sdk().chat.completions.parse(**HELLO, response_format=Ticket, extra_headers=headers)
    assert stopped.value.status_code == 402


def test_an_agents_loop_with_tools(case: Case, provider: Emulator) -> None:
    """Model, tool, model, tool, answer; the long results are sent short, the history stays."""

    def brain(asked: Body) -> Reply:
        done = sum(m["role"] == "tool" for m in asked["messages"])
        if done == 3:
            return Reply(text="the cheapest is 7")
        return Reply(tools=(ToolUse("search", {"page": done}),))

    provider._world.brain = brain
    client, messages = case.sdk(), list(HELLO["messages"])
    while True:
        answer = client.chat.completions.create(
            model="gpt-4o",
            messages=messages,
            tools=[tool("search")],  # type: ignore[list-item]
        )
        said = answer.choices[0].message
        messages.append(said)
        if not said.tool_calls:
            break
        for call in said.tool_calls:
            page = json.loads(call.function.arguments)["page"]  # type: ignore[union-attr]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": rows(200, page)})
    assert said.content == "the cheapest is 7"
    bodies = [r.body["messages"] for r in provider.requests]
    assert len(bodies) == 4
    for before, after in pairwise(bodies):
        assert after[: len(before)] == before
    assert len(json.dumps(bodies[-1])) < len(rows(200))
    assert case.settled(4) == ["ok"] * 4


def test_async_calls_and_streams(case: Case) -> None:
    async def go() -> tuple[str | None, str]:
        async with case.asdk() as client:
            answer, stream = await asyncio.gather(
                client.chat.completions.create(**HELLO),
                client.chat.completions.create(**HELLO, stream=True),
            )
            text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
            async with client.chat.completions.stream(**HELLO) as helper:
                final = await helper.get_final_completion()
            assert final.choices[0].message.content == "hello"
            return answer.choices[0].message.content, text

    assert asyncio.run(go()) == ("hello", "hello")
    assert case.settled(3) == ["ok"] * 3


def test_raw_and_streaming_responses(case: Case) -> None:
    client = case.sdk()
    raw = client.chat.completions.with_raw_response.create(**HELLO)
    assert raw.status_code == 200
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().choices[0].message.content == "hello"
    with client.chat.completions.with_streaming_response.create(**HELLO) as response:
        assert json.loads(b"".join(response.iter_bytes()))["object"] == "chat.completion"
    with client.chat.completions.with_streaming_response.create(**HELLO, stream=True) as response:
        assert list(response.iter_lines())[-2:] == ["data: [DONE]", ""]
    assert case.settled(3) == ["ok"] * 3


def test_several_choices(case: Case) -> None:
    client = case.sdk()
    answer = client.chat.completions.create(**HELLO, n=2)
    assert [c.index for c in answer.choices] == [0, 1]
    chunks = client.chat.completions.create(**HELLO, n=2, stream=True)
    texts = ["", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == ["hello", "hello"]


def test_a_timeout_of_one_call(make: Callable[..., Case], provider: Emulator) -> None:
    """The policy tries again what took too long; the SDK above does not multiply it."""
    case = make(retry={"attempts": 2, **QUICK})
    if case.way == "served":
        case.events.clear()
    provider.fail_next(*[Fault(delay=0.6)] * 4)
    client = case.sdk(max_retries=0 if case.way == "served" else 2)
    with pytest.raises(openai.APIError) as late:
        client.chat.completions.create(**HELLO, timeout=0.2)
    if case.way == "served":  # the caller hangs up on its gateway
        assert isinstance(late.value, openai.APITimeoutError)
        assert case.settled(1) == ["cancelled"]
    else:
        assert isinstance(late.value, openai.APIStatusError)
        assert late.value.status_code == 504
        assert "did not answer in time" in late.value.message
        assert len(provider.requests) == 2


def test_a_reader_who_leaves_cancels_the_call(case: Case, provider: Emulator) -> None:
    provider.fail_next(Fault(chunk_delay=0.05))
    asked = {**HELLO, "messages": [{"role": "user", "content": "word " * 60}]}
    with case.sdk().chat.completions.create(**asked, stream=True) as stream:
        next(iter(stream))
    assert case.settled(1) == ["cancelled"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_cancelled_task_settles_its_call(case: Case, provider: Emulator, stream: bool) -> None:
    provider.fail_next(Fault(delay=0 if stream else 5, chunk_delay=1))

    async def go() -> None:
        async with case.asdk() as client:

            async def read() -> None:
                answer: Any = await client.chat.completions.create(**HELLO, stream=stream)
                async for _ in answer:
                    pass

            task = asyncio.create_task(read())
            while not provider.requests:  # noqa: ASYNC110 - a thread says so
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(go())
    assert case.settled(1) == ["cancelled"]
    assert set(case.runtime.traffic.census().values()) == {0}


# --- what the policy does not look at --------------------------------------------------------

ODD: Body = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "system_fingerprint": "fp_1",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hi", "refusal": None, "annotations": []},
            "logprobs": {
                "content": [
                    {"token": "hi", "logprob": -0.31, "bytes": [104, 105], "top_logprobs": []}
                ],
                "refusal": None,
            },
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}


@pytest.fixture
def other() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """A server that has more than chat: files, models, embeddings; and answers with logprobs."""
    seen: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            seen.append((self.command, self.path, body))
            if self.path.endswith("/content"):
                self.reply(b"\x00\x01binary", "application/octet-stream")
            elif self.path.endswith("/files"):
                self.file("file-1")
            elif "/files/" in self.path:
                self.file(self.path.rpartition("/")[2])
            else:
                self.reply(json.dumps(ODD).encode(), "application/json")

        def file(self, name: str) -> None:
            about = {
                "id": name,
                "object": "file",
                "bytes": 3,
                "created_at": 1,
                "status": "processed",
            }
            told = {**about, "filename": "a.jsonl", "purpose": "batch"}
            self.reply(json.dumps(told).encode(), "application/json")

        def reply(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - the library's names

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/v1", seen
        running.shutdown()
        thread.join()


def test_logprobs_and_what_else_is_in_an_answer_stay(
    make: Callable[..., Case], other: tuple[str, list[Any]]
) -> None:
    case = make(other[0], prompt_cache=False)
    answer = case.sdk().chat.completions.with_raw_response.create(
        **HELLO, logprobs=True, top_logprobs=2
    )
    assert json.loads(answer.text) == ODD
    sent = json.loads(other[1][0][2])
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 2)
    assert case.settled(1) == ["ok"]


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_other_endpoints_pass(other: tuple[str, list[Any]], module: Any) -> None:
    url, seen = other
    runtime = Runtime.of(load_policy({"version": 1, "trace": "off"}))
    with (
        module.Client(timeout=20) as http,
        openai.OpenAI(base_url=url, api_key="k", http_client=http) as plain,
    ):
        client = clawmw.wrap(plain, runtime)
        made = client.files.create(file=("a.jsonl", b"{}\n"), purpose="batch")
        assert client.files.retrieve(made.id).id == "file-1"
        assert client.files.content(made.id).content == b"\x00\x01binary"
    assert [(method, path) for method, path, _ in seen] == [
        ("POST", "/v1/files"),
        ("GET", "/v1/files/file-1"),
        ("GET", "/v1/files/file-1/content"),
    ]
    assert b'filename="a.jsonl"' in seen[0][2]
    assert b"{}\n" in seen[0][2]
    runtime.close()
