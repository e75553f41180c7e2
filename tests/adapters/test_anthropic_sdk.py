"""Anthropic's own SDK through the transport, against the emulator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, Self

import pytest

import clawmw
from clawmw.core.events import Acted, CallFinished, Event, StageFailed
from clawmw.core.identity import Identity
from clawmw.core.money import cost
from clawmw.core.types import Usage
from clawmw.emulator import Brain, Emulator, Fault, Reply, ToolUse, script, turns
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import log, rows

anthropic = pytest.importorskip("anthropic")
httpx2 = pytest.importorskip("httpx2")

QUIET: dict[str, Any] = {"version": 1, "trace": "off"}
TOOL = {
    "name": "search",
    "description": "Searches.",
    "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}},
}
OTHER = {**TOOL, "name": "read"}
SYSTEM = " ".join(f"Rule {i}: of {i * 7} tickets, sell {i}." for i in range(260))
ASK: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 2000,
    "messages": [{"role": "user", "content": "hello"}],
}


def results(*contents: Any) -> list[dict[str, Any]]:
    """A question, the model's calls, and what they gave."""
    ids = [f"toolu_{n}" for n in range(len(contents))]
    calls = [{"type": "tool_use", "id": i, "name": "search", "input": {"q": i}} for i in ids]
    given = [
        {"type": "tool_result", "tool_use_id": i, "content": c}
        for i, c in zip(ids, contents, strict=True)
    ]
    return [
        {"role": "user", "content": "find the cheapest ticket"},
        {"role": "assistant", "content": [{"type": "text", "text": "Searching."}, *calls]},
        {"role": "user", "content": given},
    ]


class Case:
    """A runtime, what it said, the provider behind it, and the SDK in front."""

    def __init__(self, brain: Brain | None = None, **policy: Any) -> None:
        self.emulator = Emulator(bill="anthropic", brain=brain)
        self.events: list[Event] = []
        self.runtime = Runtime.of(load_policy({**QUIET, **policy}), observers=[self.events.append])
        self.identity: Identity | None = Identity(session="s", chain="c")

    def __enter__(self) -> Self:
        self.emulator.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.emulator.stop()
        failed = [event for event in self.events if isinstance(event, StageFailed)]
        assert not failed

    def client(self, **options: Any) -> Any:
        http = clawmw.http_client(self.runtime, flavour="httpx2", identity=self.identity)
        options = {"max_retries": 0, **options}
        return anthropic.Anthropic(
            base_url=self.emulator.root_url, api_key="k", http_client=http, **options
        )

    def aclient(self, **options: Any) -> Any:
        http = clawmw.async_http_client(self.runtime, flavour="httpx2", identity=self.identity)
        options = {"max_retries": 0, **options}
        return anthropic.AsyncAnthropic(
            base_url=self.emulator.root_url, api_key="k", http_client=http, **options
        )

    @property
    def finished(self) -> list[CallFinished]:
        return [event for event in self.events if isinstance(event, CallFinished)]

    @property
    def rules(self) -> list[str]:
        return [event.rule for event in self.events if isinstance(event, Acted)]

    @property
    def billed(self) -> list[Usage]:
        """What the provider told of each call."""
        return [replace(usage, basis="measured") for usage in self.emulator.usages]

    def sent(self, index: int = -1) -> Any:
        return self.emulator.requests[index].body


def said(message: Any) -> list[str]:
    return [block.text for block in message.content if block.type == "text"]


# --- answers -----------------------------------------------------------------------------------


def stream(client: Any, **ask: Any) -> Any:
    with client.messages.stream(**ask) as told:
        text = "".join(told.text_stream)
        message = told.get_final_message()
    assert text == "".join(said(message))
    return message


def create(client: Any, **ask: Any) -> Any:
    return client.messages.create(**ask)


WAYS: list[Callable[..., Any]] = [create, stream]
each_way = pytest.mark.parametrize("way", WAYS, ids=["create", "stream"])


@each_way
def test_results_are_reduced_and_the_bill_is_the_traces(way: Callable[..., Any]) -> None:
    with Case(script(["Cheap ones: \u4e0a\u6d77."])) as case, case.client() as client:
        messages = results(rows(300), [{"type": "text", "text": log(300)}])
        message = way(client, **{**ASK, "messages": messages, "system": SYSTEM, "tools": [TOOL]})
        assert said(message) == ["Cheap ones: \u4e0a\u6d77."]
        one, two = case.sent()["messages"][2]["content"]
        assert len(one["content"]) < len(rows(300)) / 2
        assert len(two["content"][0]["text"]) < len(log(300)) / 2
        assert [tool["name"] for tool in case.sent()["tools"]] == ["search", "clawmw_expand"]
        [done], [billed] = case.finished, case.billed
        assert done.usage == billed
        assert done.usage.cache_write_tokens
        assert done.cost == cost(billed, case.runtime.profile(ASK["model"]))
        assert message.usage.cache_creation_input_tokens == billed.cache_write_tokens
        assert done.totals.sent < done.totals.raw / 2


def test_what_a_conversation_reads_from_the_cache_is_what_the_trace_says() -> None:
    def brain(body: dict[str, Any]) -> Reply:
        count = sum(m["role"] == "assistant" for m in body["messages"])
        uses = tuple(ToolUse("search", {"q": f"{count}.{n}"}) for n in range(1 + count % 2))
        return Reply("Next.", uses) if count < 6 else Reply("Done.")

    with Case(brain) as case, case.client() as client:
        messages: list[Any] = [{"role": "user", "content": "go"}]
        for turn in range(7):
            ask = {**ASK, "messages": messages, "system": SYSTEM, "tools": [TOOL, OTHER]}
            message = (stream if turn % 2 else create)(client, **ask)
            given = [
                {"type": "tool_result", "tool_use_id": b.id, "content": rows(80, turn + n + 1)}
                for n, b in enumerate(message.content)
                if b.type == "tool_use"
            ]
            messages.append({"role": "assistant", "content": message.content})
            messages.append({"role": "user", "content": given or "thanks"})
        usages = case.billed
        assert [done.usage for done in case.finished] == usages
        for before, now in pairwise(usages):
            known = (before.cache_read_tokens or 0) + (before.cache_write_tokens or 0)
            assert now.cache_read_tokens == known, "what was sent is read, all of it"
        marks = [
            json.dumps(request.body).count("cache_control") for request in case.emulator.requests
        ]
        assert all(1 <= count <= 4 for count in marks)
        assert said(message) == ["Done."]


def test_the_agents_own_marks_stay() -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    system = [{"type": "text", "text": SYSTEM, **mark}]
    with Case(script(["ok", "ok", "ok"])) as case, case.client() as client:
        ask = {**ASK, "system": system, "tools": [OTHER, {**TOOL, **mark}]}
        create(client, **ask)
        assert case.sent()["system"] == system
        assert [t.get("cache_control") for t in case.sent()["tools"][:2]] == [
            None,
            mark["cache_control"],
        ]
        create(client, **{**ASK, "cache_control": {"type": "ephemeral"}, "system": SYSTEM})
        assert case.sent()["cache_control"] == {"type": "ephemeral"}
        assert case.sent()["system"] == SYSTEM
    with Case(script(["ok"]), prompt_cache={"marks": "own"}) as case, case.client() as client:
        create(client, **ask)
        assert "ttl" not in json.dumps(case.sent())
        assert json.dumps(case.sent()).count("cache_control") <= 4


def test_thinking_comes_through_and_goes_back_signed() -> None:
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    replies = [Reply("Hm.", (ToolUse("search", {"q": "x"}),), reasoning="Let me see."), "Done."]
    with Case(turns(replies)) as case, case.client() as client:
        ask = {**ASK, **thinking, "tools": [TOOL]}
        message = stream(client, **ask)
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
        given = {"type": "tool_result", "tool_use_id": message.content[2].id, "content": rows(200)}
        messages = [
            *ASK["messages"],
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [given]},
        ]
        again = create(client, **{**ask, "messages": messages})
        assert [block.type for block in again.content] == ["thinking", "text"]
        assert case.finished[-1].usage == case.billed[-1]
        assert case.finished[-1].usage.reasoning_tokens


def test_a_tool_runner_goes_its_rounds() -> None:
    @anthropic.beta_tool
    def search(q: str) -> str:
        """Searches.

        Args:
            q: What for.
        """
        return rows(200)

    replies = [Reply("", (ToolUse("search", {"q": "a"}), ToolUse("search", {"q": "b"}))), "Cheap."]
    with Case(turns(replies)) as case, case.client() as client:
        # Its provider holds the history of a thread: the call goes out as it came, and is counted.
        runner = client.beta.messages.tool_runner(tools=[search], **ASK)
        assert said(runner.until_done()) == ["Cheap."]
        assert [request.body["thread"]["type"] for request in case.emulator.requests] == [
            "create",
            "continue",
        ]
        assert "cache_control" not in json.dumps(case.sent())
        assert [b["content"] for b in case.sent()["messages"][-1]["content"]] == [rows(200)] * 2
        assert case.finished[1].identity.session == case.finished[0].identity.session
        assert [done.usage for done in case.finished] == case.billed
        # One that sends it all is reduced.
        runner = client.beta.messages.tool_runner(tools=[search], thread=False, **ASK)
        assert said(runner.until_done()) == ["Cheap."]
        sent = [block["content"] for block in case.sent()["messages"][2]["content"]]
        assert max(map(len, map(json.dumps, sent))) < len(rows(200)) / 2
        assert [done.usage for done in case.finished] == case.billed


def test_structured_output_is_parsed() -> None:
    from pydantic import BaseModel

    class Trip(BaseModel):
        city: str
        days: int

    with Case(lambda body: Reply('{"city": "Xi\u2019an", "days": 3}')) as case:
        with case.client() as client:
            parsed = client.messages.parse(output_format=Trip, **ASK)
            assert parsed.parsed_output == Trip(city="Xi\u2019an", days=3)
            with client.messages.stream(output_format=Trip, **ASK) as told:
                assert told.get_final_message().parsed_output.days == 3
        assert case.sent()["output_config"]["format"]["type"] == "json_schema"


def test_async_is_the_same() -> None:
    async def run(case: Case) -> None:
        async with case.aclient() as client:
            ask = {**ASK, "messages": results(rows(300)), "tools": [TOOL]}
            assert said(await client.messages.create(**ask)) == ["one"]
            async with client.messages.stream(**ask) as told:
                assert "".join([text async for text in told.text_stream]) == "two"
                message = await told.get_final_message()
            assert message.usage.output_tokens
            assert (
                await client.messages.count_tokens(model="m", messages=ASK["messages"])
            ).input_tokens

    with Case(script(["one", "two"])) as case:
        asyncio.run(run(case))
        assert case.sent(0)["messages"] == case.sent(1)["messages"]
        *calls, count = case.finished
        assert [done.usage for done in calls] == case.billed
        assert (count.status, count.usage) == ("ok", Usage(0, 0))  # guarded, and free


def test_other_calls_pass_untouched() -> None:
    with Case() as case, case.client() as client:
        counted = client.messages.count_tokens(
            model="claude-sonnet-5-5", messages=ASK["messages"], system=SYSTEM
        )
        assert counted.input_tokens > 2000
        case.events.clear()
        with pytest.raises(anthropic.NotFoundError):
            client.messages.batches.create(requests=[])
        assert not case.events


# --- expansions --------------------------------------------------------------------------------


def asking(*others: ToolUse) -> Brain:
    """Asks for what was cut as soon as it can, then answers with what it was told."""

    def brain(body: dict[str, Any]) -> Reply:
        text = json.dumps(body["messages"])
        if "clawmw_expand" not in text or '"name": "clawmw_expand"' in text or "answer to" in text:
            last = body["messages"][-1]
            return Reply(f"After {len(body['messages'])}: {str(last['content'])[:20]}")
        ref = text.split("clawmw_expand ", 1)[1].split(":", 1)[0]
        ask = ToolUse("clawmw_expand", {"ref": ref, "lines": "1-2"})
        return Reply("Let me look.", (ask, *others), reasoning="I must ask.")

    return brain


@each_way
@pytest.mark.parametrize("thinking", [False, True])
def test_what_was_cut_is_asked_for_behind_the_scenes(
    way: Callable[..., Any], thinking: bool
) -> None:
    settings = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if thinking else {}
    messages = results(rows(300), "short")
    if thinking:
        signed = {"type": "thinking", "thinking": "Hm.", "signature": "Eq"}
        messages[1]["content"].insert(0, signed)
    with Case(asking()) as case, case.client() as client:
        message = way(client, **{**ASK, **settings, "messages": messages, "tools": [TOOL]})
        assert len(case.emulator.requests) == 2
        kinds = [block.type for block in message.content]
        each = ["thinking", "text"] if thinking else ["text"]
        assert kinds == (each * 2 if way is stream else each)
        assert said(message)[-1].startswith("After")
        assert message.stop_reason == "end_turn"
        one, two = case.billed
        assert message.usage.output_tokens == (one.output_tokens or 0) + (two.output_tokens or 0)
        read = (one.cache_read_tokens or 0) + (two.cache_read_tokens or 0)
        assert message.usage.cache_read_input_tokens == read
        [done] = case.finished
        assert done.usage.input_tokens == (one.input_tokens or 0) + (two.input_tokens or 0)
        assert "expand.answer" in case.rules
        asked, given = case.sent()["messages"][-2:]
        assert [b["type"] for b in asked["content"]][-1] == "tool_use"
        assert [b["type"] for b in given["content"]] == ["tool_result"]


@each_way
def test_the_agents_own_call_goes_to_the_agent(way: Callable[..., Any]) -> None:
    with Case(asking(ToolUse("search", {"q": "more"}))) as case, case.client() as client:
        messages = results(rows(300))
        ask = {**ASK, "tools": [TOOL]}
        message = way(client, **{**ask, "messages": messages})
        assert [b.name for b in message.content if b.type == "tool_use"] == ["search"]
        assert message.stop_reason == "tool_use"
        call = next(b for b in message.content if b.type == "tool_use")
        given = {"type": "tool_result", "tool_use_id": call.id, "content": "nothing more"}
        messages += [
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [given]},
        ]
        way(client, **{**ask, "messages": messages})
        sent = case.sent()["messages"]
        assert [m["role"] for m in sent] == ["user", "assistant", "user", "assistant", "user"]
        assert "answer to clawmw_expand" in json.dumps(sent)


# --- what goes wrong ---------------------------------------------------------------------------

STOPPED = {"budget": {"chain": {"calls": 1}}}


@each_way
@pytest.mark.parametrize("chatting", [False, True])
def test_a_stopped_call(way: Callable[..., Any], chatting: bool) -> None:
    headers = {"x-claude-code-session-id": "abc"} if chatting else {}
    with Case(**STOPPED) as case, case.client(default_headers=headers, max_retries=3) as client:
        way(client, **ASK)
        if chatting:
            message = way(client, **ASK)
            assert "budget" in said(message)[0]
            assert message.stop_reason == "end_turn"
            assert message.usage.output_tokens == 0
        else:
            with pytest.raises(anthropic.APIStatusError) as caught:
                way(client, **ASK)
            assert caught.value.status_code == 402
            assert caught.value.type == "clawmw_refused"
            assert caught.value.response.headers["x-clawmw-stopped"].startswith("budget")
            assert caught.value.body["error"]["resume"]
        assert len(case.emulator.requests) == 1


@pytest.mark.parametrize("parsed", ["output", "tool"])
def test_a_program_that_parses_gets_an_error(parsed: str) -> None:
    headers = {"x-claude-code-session-id": "abc"}
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    more: dict[str, Any] = (
        {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
        if parsed == "output"
        else {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "search"}}
    )
    with Case(**STOPPED) as case, case.client(default_headers=headers) as client:
        create(client, **ASK)
        with pytest.raises(anthropic.APIStatusError):
            create(client, **ASK, **more)


ERRORS = {
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
    500: "InternalServerError",
    529: "OverloadedError",
}


@each_way
@pytest.mark.parametrize("status", ERRORS)
def test_an_upstreams_error_is_its_own(way: Callable[..., Any], status: int) -> None:
    with Case(retry=False) as case, case.client() as client:
        case.emulator.fail_next(Fault(status=status))
        with pytest.raises(getattr(anthropic, ERRORS[status], anthropic.APIStatusError)) as caught:
            way(client, **ASK)
        assert caught.value.status_code == status
        assert caught.value.body["type"] == "error"
        assert caught.value.request_id


@each_way
@pytest.mark.parametrize("fault", [Fault(status=529), Fault(error=True), Fault(reset_after=0)])
def test_a_failed_call_is_made_again_once(way: Callable[..., Any], fault: Fault) -> None:
    with Case(lambda body: Reply("ok"), retry={"base": "1ms"}) as case, case.client() as client:
        case.emulator.fail_next(fault)
        assert said(way(client, **ASK)) == ["ok"]
        assert len(case.emulator.requests) == 2


def test_an_upstream_that_is_not_there() -> None:
    with Case(retry=False) as case:
        client = case.client()
        case.emulator.stop()
        with client, pytest.raises(anthropic.APIConnectionError):
            create(client, **ASK)


def test_a_stream_that_breaks_is_no_whole_answer() -> None:
    with Case(script(["a long answer " * 40] * 2)) as case, case.client() as client:
        case.emulator.fail_next(Fault(truncate_after=6))
        with client.messages.stream(**ASK) as told:
            text = "".join(told.text_stream)
            assert text
            assert told.current_message_snapshot.stop_reason is None
        [done] = case.finished
        assert done.status == "cancelled"
        assert done.usage is not None
        assert done.usage.output_tokens, "what came was paid for"


ODD = [
    Fault(pieces=7),
    Fault(crlf=True),
    Fault(comments=3),
    Fault(big=70_000),
    Fault(mislabel=True),
    Fault(no_usage=True),
]


@pytest.mark.parametrize("fault", ODD)
def test_a_stream_may_come_as_it_likes(fault: Fault) -> None:
    with Case(asking()) as case, case.client() as client:
        case.emulator.fail_next(fault, fault)
        events = client.messages.create(
            **{**ASK, "messages": results(rows(300)), "tools": [TOOL]}, stream=True
        )
        text = "".join(e.delta.text for e in events if e.type == "content_block_delta")
        assert "After" in text
        assert len(case.emulator.requests) == 2
        [done] = case.finished
        assert done.status == "ok"
        assert done.usage is not None
        assert (done.usage.basis == "estimated") is fault.no_usage


@pytest.mark.parametrize("mine", [False, True])
def test_who_waits_too_long_is_told(mine: bool) -> None:
    policy = {"timeout": {"first_byte": "50ms"}} if mine else {}
    with Case(retry=False, **policy) as case:
        with case.client(timeout=10 if mine else 0.1) as client:
            case.emulator.fail_next(Fault(delay=1.0))
            with pytest.raises(anthropic.APITimeoutError):
                create(client, **ASK)
        assert case.finished[-1].status == "failed"


def test_a_reader_that_leaves_is_settled_at_once() -> None:
    with Case(script(["word " * 400])) as case, case.client() as client:
        case.emulator.fail_next(Fault(chunk_delay=0.02))
        with client.messages.stream(**ASK) as told:
            for _ in told.text_stream:
                break
        [done] = case.finished
        assert done.status == "cancelled"


def test_a_cancelled_task_is_settled_at_once() -> None:
    async def run(case: Case) -> None:
        async with case.aclient() as client:
            task = asyncio.create_task(client.messages.create(**ASK))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with Case() as case:
        case.emulator.fail_next(Fault(delay=5.0))
        asyncio.run(run(case))
        assert [done.status for done in case.finished] == ["cancelled"]


# --- guards ------------------------------------------------------------------------------------


def test_a_budget_shortens_an_answer_in_this_dialects_words() -> None:
    with (
        Case(budget={"chain": {"output_tokens": 1500}, "min_output": 100}) as case,
        case.client() as client,
    ):
        stream(client, **ASK)
        assert case.sent()["max_tokens"] <= 1500
        assert "stream_options" not in case.sent()
        assert case.finished[-1].usage == case.billed[-1]


def test_a_loop_is_told_of_in_the_users_turn() -> None:
    with Case(loop_guard={"nudge": 2, "refuse": 6, "stop": 9}) as case, case.client() as client:
        messages: list[Any] = [{"role": "user", "content": "go"}]
        for turn in range(3):
            call = {"type": "tool_use", "id": f"t{turn}", "name": "search", "input": {"q": "x"}}
            given = {"type": "tool_result", "tool_use_id": f"t{turn}", "content": "nothing"}
            messages += [
                {"role": "assistant", "content": [call]},
                {"role": "user", "content": [given]},
            ]
            create(client, **{**ASK, "messages": messages, "tools": [TOOL]})
        last = case.sent(1)["messages"][-1]
        texts = [json.dumps(case.sent(n)["messages"][4]["content"][1]["text"]) for n in (1, 2)]
        assert texts[0] == texts[1], "what was said is said again, at its place"
        assert [block["type"] for block in last["content"]] == ["tool_result", "text"]
        assert "clawmw" in last["content"][1]["text"]
        assert "loop_guard.nudge" in case.rules


@pytest.mark.parametrize("fault", [Fault(status=529), Fault(reset_after=0)])
def test_what_fails_behind_a_begun_stream_is_told_in_it(fault: Fault) -> None:
    with Case(asking(), retry=False) as case, case.client() as client:
        case.emulator.fail_next(Fault(), fault)
        ask = {**ASK, "messages": results(rows(300)), "tools": [TOOL]}
        broken = (anthropic.APIStatusError, httpx2.ReadError)
        with client.messages.stream(**ask) as told, pytest.raises(broken) as caught:
            list(told.text_stream)
        if fault.status:
            assert caught.value.body["error"]["type"] == "overloaded_error"


@each_way
def test_a_stop_behind_a_begun_answer_ends_it_in_words(way: Callable[..., Any]) -> None:
    with Case(asking(), budget={"call": {"calls": 1}}) as case, case.client() as client:
        ask = {**ASK, "messages": results(rows(300)), "tools": [TOOL]}
        if way is create:
            with pytest.raises(anthropic.APIStatusError) as caught:
                way(client, **ask)
            assert caught.value.status_code == 402
            return
        message = way(client, **ask)
        assert said(message)[0] == "Let me look."
        assert "clawmw stopped this call" in said(message)[1]
        assert message.stop_reason == "end_turn"
        assert len(case.emulator.requests) == 1


def test_a_limit_leaves_room_for_thinking() -> None:
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1200}}
    policy = {"budget": {"chain": {"output_tokens": 1100}, "min_output": 100}}
    with Case(**policy) as case, case.client() as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            create(client, **{**ASK, **thinking})
        assert caught.value.status_code == 402, "and not what the provider would have refused"
        assert not case.emulator.requests


def test_marked_tools_stay_where_they_are() -> None:
    tools = [TOOL, {**OTHER, "cache_control": {"type": "ephemeral"}}]
    with Case() as case, case.client() as client:
        create(client, **ASK, tools=tools)
        assert case.sent()["tools"][:2] == tools
        case.identity = Identity(session="other", chain="c")
        with case.client() as other:
            create(other, **ASK, tools=[TOOL, OTHER])
        assert [tool["name"] for tool in case.sent()["tools"]][:2] == ["read", "search"]
