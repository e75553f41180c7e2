"""The HTTP transport against a real provider on loopback, in both flavours."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import openai
import pytest

import clawmw
from clawmw.core.events import Acted, BodyUnread, CallFinished, Event, StageFailed
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator, Fault, Reply, ToolUse, turns
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import rows, tool, turn

TOOLS = [tool("search"), tool("read")]
QUIET = {"trace": "off", "version": 1}


class Case:
    """A runtime, what it said, and the provider behind it."""

    def __init__(self, emulator: Emulator, policy: dict[str, Any]) -> None:
        self.emulator = emulator
        self.events: list[Event] = []
        self.runtime = Runtime.of(load_policy({**QUIET, **policy}), observers=[self.events.append])
        self.url = emulator.base_url + "/chat/completions"

    def post(self, body: Any, *, flavour: str = "httpx", **options: Any) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", **options.pop("headers", {})}
        with clawmw.http_client(self.runtime, flavour=flavour, **options) as client:
            return client.post(self.url, content=content, headers=headers)

    async def apost(self, body: Any, *, flavour: str = "httpx", **options: Any) -> Any:
        headers = {"content-type": "application/json"}
        async with clawmw.async_http_client(self.runtime, flavour=flavour, **options) as client:
            return await client.post(self.url, content=json.dumps(body).encode(), headers=headers)

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]

    @property
    def rules(self) -> list[str]:
        return [e.rule for e in self.events if isinstance(e, Acted)]

    def sent(self, index: int = -1) -> dict[str, Any]:
        return self.emulator.requests[index].body


@pytest.fixture
def provider() -> Iterator[Emulator]:
    with Emulator(bill="anthropic") as emulator:
        yield emulator


def body(*messages: dict[str, Any], **extra: Any) -> dict[str, Any]:
    said = messages or ({"role": "user", "content": "hello"},)
    return {"model": "claude-sonnet-4-5", "messages": list(said), **extra}


def long_task(result: str | None = None) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "find the cheapest ticket"},
        *turn("c1", "search", {"q": "tickets"}, result or rows(300)),
    ]


def stream_text(raw: str) -> str:
    text = ""
    for line in raw.splitlines():
        if line.startswith("data: {"):
            chunk = json.loads(line[6:])
            for choice in chunk["choices"]:
                text += choice["delta"].get("content") or ""
    return text


@pytest.mark.parametrize("flavour", ["httpx", "httpx2"])
@pytest.mark.parametrize("stream", [False, True])
def test_both_flavours_reduce_and_answer(provider: Emulator, flavour: str, stream: bool) -> None:
    case = Case(provider, {})
    response = case.post(body(*long_task(), tools=TOOLS, stream=stream), flavour=flavour)
    assert response.status_code == 200
    assert isinstance(response, import_module(flavour).Response)
    said = stream_text(response.text) if stream else response.json()["choices"]
    assert said
    assert len(case.sent()["messages"][2]["content"]) < len(rows(300)) / 3
    [done] = case.finished
    assert done.status == "ok"
    assert done.usage is not None
    assert done.usage.basis == "measured"
    assert done.totals.sent < done.totals.raw / 3


@pytest.mark.parametrize("flavour", ["httpx", "httpx2"])
def test_the_async_twin_sends_the_same_bytes(provider: Emulator, flavour: str) -> None:
    ask = body(*long_task(), tools=TOOLS)
    who = Identity(session="s", chain="c")
    Case(provider, {}).post(ask, flavour=flavour, identity=who)
    response = asyncio.run(Case(provider, {}).apost(ask, flavour=flavour, identity=who))
    assert response.json()["choices"][0]["message"]["content"]
    assert provider.requests[0].body == provider.requests[1].body


def test_an_unchanged_body_is_forwarded_as_its_own_bytes(provider: Emulator) -> None:
    message = rb'{"content":"h\u00e9 \ud83d\ude00","role":"user"}'
    raw = b'{ "model" : "gpt-4o",\n "messages":[' + message + b'],"x":1.50}'
    seen: list[bytes] = []
    module = import_module("httpx")

    class Recording(module.HTTPTransport):  # type: ignore[name-defined,misc]
        def handle_request(self, request: Any) -> Any:
            seen.append(request.read())
            return super().handle_request(request)

    case = Case(provider, {"prompt_cache": False})
    case.post(raw, transport=Recording())
    assert seen == [raw]


def test_observe_sends_the_agents_bytes_and_says_what_it_would_do(provider: Emulator) -> None:
    case = Case(provider, {"mode": "observe", "loop_guard": {"nudge": 2, "refuse": 3, "stop": 4}})
    messages = [{"role": "user", "content": "go"}]
    for index in range(6):
        messages += turn(f"c{index}", "search", {"q": "same"}, rows(200))
        assert case.post(body(*messages, tools=TOOLS)).status_code == 200
        assert case.sent()["messages"] == messages
        assert case.sent()["tools"] == TOOLS
    done = case.finished[-1]
    assert done.totals.sent == done.totals.raw
    assert done.totals.would < done.totals.raw / 3
    acted = [e for e in case.events if isinstance(e, Acted)]
    assert {e.rule for e in acted} >= {"loop_guard.nudge", "loop_guard.refuse", "loop_guard.stop"}
    assert all(e.would for e in acted)


def test_switched_off_everything_passes(
    provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAWMW_OFF", "1")
    case = Case(provider, {})
    case.post(body(*long_task(), tools=TOOLS))
    assert case.sent()["messages"] == long_task()
    assert case.events == []


def test_holdout_sends_a_share_of_chains_raw(provider: Emulator) -> None:
    case = Case(provider, {"holdout": "50%"})
    raw = 0
    for index in range(24):
        who = Identity(session=f"s{index}", chain=f"c{index}")
        case.post(body(*long_task(rows(60)), tools=TOOLS), identity=who)
        raw += case.sent()["messages"] == long_task(rows(60))
    assert 4 <= raw <= 20


def test_what_was_cut_is_asked_back_without_the_agent(provider: Emulator) -> None:
    _expanding(Case(provider, {}), stream=False)


def test_what_was_cut_is_asked_back_within_one_stream(provider: Emulator) -> None:
    _expanding(Case(provider, {}), stream=True)


def _expanding(case: Case, *, stream: bool) -> None:
    """The model asks for row 150 of a cut table, sees it, and answers with its price."""
    wanted = json.loads(rows(300))[150]

    def brain(asked: dict[str, Any]) -> Reply:
        results = [_unmarked(m)["content"] for m in asked["messages"] if m["role"] == "tool"]
        if wanted["id"] in " ".join(results):
            return Reply(text=f"It costs {wanted['price']}.")
        ref = reference(results[0])
        return Reply(tools=(ToolUse("clawmw_expand", {"ref": ref, "query": wanted["id"]}),))

    provider = case.emulator
    provider._world.brain = brain  # type: ignore[misc]
    messages = long_task()
    response = case.post(body(*messages, tools=TOOLS, stream=stream))
    text = stream_text(response.text) if stream else response.json()["choices"][0]["message"]
    answer = text if stream else text["content"]
    assert answer == f"It costs {wanted['price']}."
    assert "clawmw_expand" not in response.text
    if stream:
        assert response.text.count("[DONE]") == 1
        assert response.text.count('"role"') == 1
    assert len(provider.requests) == 2
    # The agent goes on, knowing nothing of it; the exchange is put back at its place.
    messages = [
        *messages,
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "thanks"},
    ]
    case.post(body(*messages, tools=TOOLS))
    before, after = case.sent(1)["messages"], case.sent(2)["messages"]
    plain = [_unmarked(m) for m in after]
    assert plain[: len(before)] == [_unmarked(m) for m in before]
    assert [d.status for d in case.finished] == ["ok", "ok"]
    assert case.finished[0].attempts == 2


def reference(text: str) -> str:
    """The reference in a result's marker."""
    found = re.search(r"\[clawmw_expand (\w+):", text)
    assert found, text[:200]
    return found[1]


def _unmarked(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(block["text"] for block in content)
    return {**message, "content": content}


def test_an_expansion_beside_the_agents_own_call(provider: Emulator) -> None:
    case = Case(provider, {})

    def brain(asked: dict[str, Any]) -> Reply:
        results = [_unmarked(m)["content"] for m in asked["messages"] if m["role"] == "tool"]
        if len(results) > 1:
            return Reply(text="done")
        ref = reference(results[0])
        return Reply(
            tools=(ToolUse("clawmw_expand", {"ref": ref, "lines": "1-1"}), ToolUse("read", {}))
        )

    provider._world.brain = brain  # type: ignore[misc]
    message = case.post(body(*long_task(), tools=TOOLS)).json()["choices"][0]["message"]
    assert [c["function"]["name"] for c in message["tool_calls"]] == ["read"]
    follow = [
        *long_task(),
        message,
        {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "x"},
    ]
    case.post(body(*follow, tools=TOOLS))
    assert any(
        "clawmw_expand(" in json.dumps(m) and m["role"] == "user" for m in case.sent()["messages"]
    )


def test_an_unknown_reference_is_answered_finally(provider: Emulator) -> None:
    case = Case(provider, {})
    replies = [Reply(tools=(ToolUse("clawmw_expand", {"ref": "rnope"}),)), Reply(text="I see")]
    left = iter(replies)
    provider._world.brain = lambda asked: next(left)  # type: ignore[misc]
    assert (
        case.post(body(*long_task(), tools=TOOLS)).json()["choices"][0]["message"]["content"]
        == "I see"
    )
    assert "Asking again will not help" in json.dumps(case.sent()["messages"])


def _greedy(asked: dict[str, Any]) -> Reply:
    """A model that does nothing but ask for more lines, others each time."""
    marked = next(_unmarked(m)["content"] for m in asked["messages"] if m["role"] == "tool")
    count = len(asked["messages"])
    arguments = {"ref": reference(marked), "lines": f"{count}-{count + 1}"}
    return Reply(tools=(ToolUse("clawmw_expand", arguments),))


def test_a_model_that_only_expands_is_ended(provider: Emulator) -> None:
    case = Case(provider, {})
    provider._world.brain = _greedy  # type: ignore[misc]
    response = case.post(body(*long_task(), tools=TOOLS))
    assert "at most 4" in response.json()["choices"][0]["message"]["content"]
    assert len(provider.requests) == 6


@pytest.mark.parametrize("stream", [False, True])
def test_a_dead_reference_asked_for_again_is_ended_at_once(
    provider: Emulator, stream: bool
) -> None:
    case = Case(provider, {})
    provider._world.brain = lambda asked: Reply(  # type: ignore[misc]
        tools=(ToolUse("clawmw_expand", {"ref": "rnope"}),)
    )
    response = case.post(body(*long_task(), tools=TOOLS, stream=stream))
    said = stream_text(response.text) if stream else response.text
    assert "Still nothing under" in said
    assert len(provider.requests) == 3
    # Of the three answers only the first is carried on.
    follow = [
        *long_task(),
        {"role": "assistant", "content": "hm"},
        {"role": "user", "content": "x"},
    ]
    provider._world.brain = lambda asked: Reply(text="done")  # type: ignore[misc]
    case.post(body(*follow, tools=TOOLS))
    sent = json.dumps(case.sent()["messages"])
    assert sent.count("Asking again will not help") == 1
    assert "Still nothing" not in sent


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_is_a_message_that_names_the_rule(provider: Emulator, stream: bool) -> None:
    case = Case(provider, {"budget": {"chain": {"calls": 1}}, "refusal": "message"})
    who = Identity(session="s", chain="c")
    assert case.post(body(stream=stream), identity=who).status_code == 200
    stopped = case.post(body(stream=stream), identity=who)
    assert stopped.status_code == 200
    assert stopped.headers["x-clawmw-stopped"] == "budget.chain.calls"
    assert stopped.headers["x-should-retry"] == "false"
    text = stream_text(stopped.text) if stream else stopped.text
    assert "1 calls per chain" in text
    assert len(provider.requests) == 1
    assert case.finished[-1].status == "halted"


def test_a_stop_can_be_an_error_that_no_sdk_retries(provider: Emulator) -> None:
    openai = pytest.importorskip("openai")
    case = Case(provider, {"budget": {"chain": {"calls": 0}}, "refusal": "error"})
    client = openai.OpenAI(
        base_url=provider.base_url, api_key="k", http_client=clawmw.http_client(case.runtime)
    )
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    assert caught.value.status_code == 402
    assert len(case.finished) == 1


def test_a_provider_failure_reaches_the_agent_as_it_was(provider: Emulator) -> None:
    case = Case(provider, {"retry": False})
    provider.fail_next(Fault(status=503))
    response = case.post(body())
    assert response.status_code == 503
    assert "error" in response.json()
    assert case.finished[0].status == "failed"


def test_a_refused_connection_raises_what_the_client_raises() -> None:
    httpx = import_module("httpx")
    runtime = Runtime.of(load_policy(QUIET))
    with clawmw.http_client(runtime) as client, pytest.raises(httpx.ConnectError):
        client.post("http://127.0.0.1:9/v1/chat/completions", json=body())


@pytest.mark.parametrize("fault", [Fault(reset_after=2), Fault(truncate_after=2)])
def test_a_broken_stream_is_accounted_once(provider: Emulator, fault: Fault) -> None:
    case = Case(provider, {"budget": {"chain": {"calls": 5, "input_tokens": "1M"}}})
    provider.fail_next(fault)
    try:
        case.post(body(stream=True))
    except import_module("httpx").TransportError:
        assert fault.reset_after is not None
    [done] = case.finished
    assert done.status == "cancelled"
    assert done.usage is not None
    assert done.usage.basis == "estimated"


def test_a_reader_who_leaves_ends_the_exchange(provider: Emulator) -> None:
    case = Case(provider, {"budget": {"chain": {"calls": 5}}})
    provider.fail_next(Fault(chunk_delay=0.05))
    with (
        clawmw.http_client(case.runtime) as client,
        client.stream(
            "POST", case.url, json=body({"role": "user", "content": "word " * 50}, stream=True)
        ) as response,
    ):
        next(response.iter_bytes())
    [done] = case.finished
    assert done.status == "cancelled"


def test_an_sdk_that_leaves_at_done_has_its_answer(provider: Emulator) -> None:
    case = Case(provider, {})
    ask: Any = {**body(stream=True), "stream_options": {"include_usage": True}}
    sdk: Any = {"base_url": provider.base_url, "api_key": "k", "max_retries": 0}

    async def go() -> None:
        http = clawmw.async_http_client(case.runtime)
        async with openai.AsyncOpenAI(**sdk, http_client=http) as client:
            assert [chunk async for chunk in await client.chat.completions.create(**ask)]

    with openai.OpenAI(**sdk, http_client=clawmw.http_client(case.runtime)) as client:
        assert list(client.chat.completions.create(**ask))
    asyncio.run(go())
    ended = [(done.status, done.usage and done.usage.basis) for done in case.finished]
    assert ended == [("ok", "measured")] * 2


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"model":"x"}', b"\xff\xfe", b"{}" * 3])
def test_a_body_that_is_no_request_is_the_providers_to_refuse(
    provider: Emulator, raw: bytes
) -> None:
    case = Case(provider, {})
    assert case.post(raw).status_code == 400
    assert [e.status for e in case.events if isinstance(e, CallFinished)] == ["failed"]
    assert any(isinstance(e, BodyUnread) for e in case.events)


def test_a_stage_with_a_bug_costs_nothing(provider: Emulator) -> None:
    case = Case(provider, {})
    for stage in case.runtime.pipeline.stages:
        if stage.traits.name in ("compress", "prompt_cache"):
            stage.config = None  # type: ignore[attr-defined]
    assert case.post(body(*long_task(), tools=TOOLS)).status_code == 200
    assert case.sent()["messages"] == long_task()
    assert {e.stage for e in case.events if isinstance(e, StageFailed)} == {
        "compress",
        "prompt_cache",
    }


# --- a policy that changes while a session goes on -------------------------------------------


def test_a_reload_moves_no_prefix(provider: Emulator) -> None:
    case = Case(provider, {"compress": "balanced", "prompt_cache": False})
    who = Identity(session="s", chain="c")
    messages = long_task()
    levels = ["aggressive", "off", "lossless", "balanced"]
    before: list[dict[str, Any]] = []
    for index, level in enumerate(levels):
        case.post(body(*messages, tools=TOOLS), identity=who)
        sent = case.sent()["messages"]
        assert sent[: len(before)] == before
        before = sent
        case.runtime.reload(load_policy({**QUIET, "compress": level, "prompt_cache": False}))
        messages = [*messages, *turn(f"n{index}", "search", {"q": str(index)}, rows(200, index))]
    # The first result was sent reduced, and stays so under every later policy.
    assert len(case.sent()["messages"][2]["content"]) < len(rows(300)) / 3


def test_another_release_of_a_reducer_moves_no_prefix(
    provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(provider, {"prompt_cache": False})
    who = Identity(session="s", chain="c")
    case.post(body(*long_task(), tools=TOOLS), identity=who)
    assert len(case.sent(0)["messages"][2]["content"]) < len(rows(300)) / 3
    stage = import_module("clawmw.stages.context.compress.stage")
    monkeypatch.setattr(stage, "reduce", lambda *a, **k: None)
    case.runtime.remembered._histories.clear()  # as a restarted process would be
    later = [*long_task(), {"role": "assistant", "content": "."}, {"role": "user", "content": "?"}]
    case.post(body(*later, tools=TOOLS), identity=who)
    assert case.sent(1)["messages"][:3] == case.sent(0)["messages"]


# --- one owner a call ------------------------------------------------------------------------


def test_nested_layers_count_a_call_once(provider: Emulator) -> None:
    outer, inner = Case(provider, {}), Case(provider, {})
    httpx = import_module("httpx")
    from clawmw.adapters.http import make_transport

    nested = make_transport(inner.runtime, inner=httpx.HTTPTransport())
    outer.post(body(*long_task(), tools=TOOLS), transport=nested)
    assert (len(outer.finished), len(inner.finished)) == (1, 0)
    inner.post(body())  # a call of its own
    assert len(inner.finished) == 1


def test_a_judge_called_meanwhile_is_an_exchange_of_its_own(provider: Emulator) -> None:
    case = Case(provider, {})
    httpx = import_module("httpx")

    class Judging(httpx.HTTPTransport):  # type: ignore[name-defined,misc]
        """Asks another model about each request before it sends it, as a proxy might."""

        def handle_request(self, request: Any) -> Any:
            worker = threading.Thread(
                target=case.post, args=(body({"role": "user", "content": "is this safe?"}),)
            )
            worker.start()
            worker.join()
            return super().handle_request(request)

    case.post(body(*long_task(), tools=TOOLS), transport=Judging())
    assert len(case.finished) == 2
    assert len(provider.requests) == 2


def test_thread_pools_and_tasks_count_each_call_once(provider: Emulator) -> None:
    case = Case(provider, {})
    with ThreadPoolExecutor(8) as pool:
        for index in range(16):
            pool.submit(case.post, body({"role": "user", "content": f"t{index}"}))

    async def many() -> None:
        async with clawmw.async_http_client(case.runtime) as client:
            calls = [
                client.post(case.url, json=body({"role": "user", "content": f"a{i}"}))
                for i in range(16)
            ]
            await asyncio.gather(*calls)

    asyncio.run(many())
    assert len(case.finished) == len(provider.requests) == 32
    assert len({e.exchange for e in case.finished}) == 32


def test_a_child_process_owns_its_calls(provider: Emulator) -> None:
    script = (
        "import clawmw, sys, json\n"
        "from clawmw.runtime import Runtime\n"
        "from clawmw.policy.load import load_policy\n"
        "seen = []\n"
        "rt = Runtime.of(load_policy({'version': 1, 'trace': 'off'}), observers=[seen.append])\n"
        "c = clawmw.http_client(rt)\n"
        "c.post(sys.argv[1], json=json.loads(sys.argv[2]))\n"
        "print(sum(type(e).__name__ == 'CallFinished' for e in seen))\n"
    )
    case = Case(provider, {})
    case.post(body())
    done = subprocess.run(
        [sys.executable, "-c", script, case.url, json.dumps(body())],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "1"
    assert len(case.finished) == 1
    assert len(provider.requests) == 2


def test_our_headers_never_reach_the_provider(provider: Emulator) -> None:
    case = Case(provider, {})
    case.post(body(), headers={"x-clawmw-agent": "a", "x-clawmw-chain": "c", "x-mine": "1"})
    received = provider.requests[0].headers
    assert received["x-mine"] == "1"
    assert not [name for name in received if name.startswith("x-clawmw")]
    assert case.finished[0].identity.agent == "a"


def test_four_turns_through_the_real_sdk_with_history(provider: Emulator) -> None:
    openai = pytest.importorskip("openai")
    case = Case(provider, {})
    client = openai.OpenAI(
        base_url=provider.base_url, api_key="k", http_client=clawmw.http_client(case.runtime)
    )
    provider._world.brain = turns(["one", "two", "three", "four"])  # type: ignore[misc]
    messages: list[dict[str, Any]] = []
    for index in range(4):
        messages.append({"role": "user", "content": f"question {index}"})
        with_stream = index % 2 == 1
        if with_stream:
            stream = client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        else:
            text = (
                client.chat.completions.create(model="gpt-4o", messages=messages)
                .choices[0]
                .message.content
            )
        messages.append({"role": "assistant", "content": text})
    assert [m["content"] for m in messages[1::2]] == ["one", "two", "three", "four"]
    assert len(case.finished) == 4


def _broken(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("a bug of ours")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", ["clawmw.core.descent.chain", "clawmw.core.engine.ascend"])
def test_a_bug_in_the_engine_itself_costs_nothing(
    provider: Emulator, monkeypatch: pytest.MonkeyPatch, place: str, stream: bool
) -> None:
    case = Case(provider, {})
    module, _, name = place.rpartition(".")
    monkeypatch.setattr(import_module(module), name, _broken)
    response = case.post(body({"role": "user", "content": "hi"}, stream=stream))
    assert response.status_code == 200
    said = stream_text(response.text) if stream else response.text
    assert "hi" in said
    aresponse = asyncio.run(case.apost(body({"role": "user", "content": "hi"}, stream=stream)))
    assert aresponse.status_code == 200
    assert [e.error for e in case.events if isinstance(e, StageFailed)] == ["RuntimeError"] * 2


def test_a_stream_stopped_while_the_model_asks_back_says_so(provider: Emulator) -> None:
    case = Case(provider, {"budget": {"chain": {"calls": 1}}})
    provider._world.brain = lambda asked: Reply(  # type: ignore[misc]
        tools=(ToolUse("clawmw_expand", {"ref": "rnope"}),)
    )
    who = Identity(session="s", chain="c")
    response = case.post(body(*long_task(), tools=TOOLS, stream=True), identity=who)
    assert "the policy allows 1 calls per chain" in stream_text(response.text)
    assert response.text.count("[DONE]") == 1


def test_a_model_that_only_expands_is_ended_in_a_stream_too(provider: Emulator) -> None:
    case = Case(provider, {})
    provider._world.brain = _greedy  # type: ignore[misc]
    response = case.post(body(*long_task(), tools=TOOLS, stream=True))
    assert "at most 4" in stream_text(response.text)
    assert response.text.count("[DONE]") == 1
    assert len(provider.requests) == 6


def test_withheld_calls_leave_no_gap_for_the_real_sdk(provider: Emulator) -> None:
    openai = pytest.importorskip("openai")
    case = Case(provider, {})
    provider._world.brain = lambda asked: Reply(  # type: ignore[misc]
        tools=(ToolUse("clawmw_expand", {"ref": "rnope"}), ToolUse("read", {"q": "x"}))
    )
    client = openai.OpenAI(
        base_url=provider.base_url, api_key="k", http_client=clawmw.http_client(case.runtime)
    )
    with client.chat.completions.stream(
        model="claude-sonnet-4-5", messages=long_task(), tools=TOOLS
    ) as stream:
        answer = stream.get_final_completion().choices[0].message
    assert [c.function.name for c in answer.tool_calls or []] == ["read"]


def test_client_options_reach_the_transport(provider: Emulator) -> None:
    case = Case(provider, {"budget": {"chain": {"calls": 0}}})
    stopped = case.post(body(), verify=False, trust_env=False)
    assert stopped.headers["x-clawmw-stopped"] == "budget.chain.calls"
    with pytest.raises(TypeError, match="around the policy"):
        clawmw.http_client(case.runtime, mounts={})
