"""Rows sent over OTLP and taken up again; spans of other libraries as rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.core.identity import Identity
from clawmw.core.money import Cost
from clawmw.observe.otel import OtelObserver
from clawmw.observe.otlp.reading import decode
from clawmw.observe.otlp.rows import sent, taken
from clawmw.observe.otlp.wire import WireEvent, WireSpan
from clawmw.observe.otlp.writing import encode
from clawmw.observe.reading.chains import chains, spans
from clawmw.observe.spans.compat import duplicate
from clawmw.observe.store.spanstore import SpanRow, SpanStore
from clawmw.providers.load import profile_for
from tests.observe.calls import EPOCH, PLANNER, Says, epoch_began, halted, stage_failed, tell

T = f"{0xABC:032x}"
WORKER = Identity(agent="worker", session="s2", chain="trip-7", hop=1)
SECRET = "the user's own words, and more of them"


def wire(span_id: int, name: str = "s", parent: int | None = None, **said: Any) -> WireSpan:
    attributes = {key.replace("__", "."): value for key, value in said.items()}
    return WireSpan(
        T,
        f"{span_id:016x}",
        f"{parent:016x}" if parent else None,
        name,
        1_000 + span_id,
        9_000,
        attributes=attributes,
        scope="some.library",
        service="my-app",
    )


def again(rows: list[SpanRow]) -> list[SpanRow]:
    """The rows as they are once sent and taken up elsewhere."""
    batch = decode(
        encode([sent(row, row.parent_id) for row in rows], {"service.name": "x"}), "protobuf"
    )
    assert not batch.rejected
    found = [taken(span, profile_for) for span in batch.spans]
    return [row for row in found if row is not None]


def test_what_was_stored_here_is_stored_there(
    local: tuple[OtelObserver, SpanStore], tmp_path: Path
) -> None:
    observer, store = local
    with observer.chain(PLANNER, "plan a trip", flow="trip"), observer.agent(PLANNER, "planner"):
        tell(observer, Says(tools=[("search", "c1", EPOCH - 3)], cost=Cost(1, 2, 3, 4)))
    tell(
        observer,
        Says(identity=WORKER, status="failed", attempts=((1.0, 503, None), (1.0, None, "Timeout"))),
        halted(identity=WORKER),
        Says(identity=WORKER, trouble=[stage_failed("dedupe", "ValueError"), epoch_began()]),
    )
    observer.flush(5)
    chain = chains(store)[0]
    before = spans(store, chain.trace_id)
    there = SpanStore.open(tmp_path / "there.sqlite")
    there.write(again(before))
    assert spans(there, chain.trace_id) == before
    assert chains(there) == [chain]
    assert any(row.synthetic for row in before)
    there.close()


@given(st.integers(0, 8_000_000 * 10**9))
def test_money_is_the_same_to_the_nano_usd(nano: int) -> None:
    row = SpanRow(T, f"{1:016x}", None, "chat", "chat m", 1, 2, "ok", cost_nano=nano)
    assert again([row])[0].cost_nano == nano


OPENCLAW = {
    "gen_ai.operation.name": "text_completion",
    "gen_ai.system": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.output_tokens": 80,
    "gen_ai.usage.cache_read.input_tokens": 1000,
    "gen_ai.usage.cache_creation.input_tokens": 100,
    "openclaw.model_call.request_bytes": 5000,
}
OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "claude-sonnet-4-5",
    "llm.token_count.prompt": 1200,
    "llm.token_count.completion": 80,
    "llm.token_count.prompt_details.cache_read": 1000,
    "llm.token_count.prompt_details.cache_write": 100,
}
TRACELOOP = {
    "llm.request.type": "chat",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.usage.prompt_tokens": 1200,
    "gen_ai.usage.completion_tokens": 80,
    "gen_ai.usage.cache_read_input_tokens": 1000,
    "gen_ai.usage.cache_creation_input_tokens": 100,
}
VERCEL = {
    "ai.operationId": "ai.generateText.doGenerate",
    "ai.model.id": "claude-sonnet-4-5",
    "ai.usage.inputTokens": 1200,
    "ai.usage.outputTokens": 80,
    "ai.usage.cachedInputTokens": 1000,
    "gen_ai.usage.cache_write.input_tokens": 100,
}


@pytest.mark.parametrize("said", [OPENCLAW, OPENINFERENCE, TRACELOOP, VERCEL])
def test_a_model_call_in_each_dialect(said: dict[str, Any]) -> None:
    row = taken(replace(wire(1), attributes=said), profile_for)
    assert row is not None
    assert (row.op, row.source, row.agent) == ("chat", "some.library", "my-app")
    assert row.model == "claude-sonnet-4-5"
    assert (row.input_tokens, row.output_tokens) == (1200, 80)
    assert (row.cache_read_tokens, row.cache_write_tokens) == (1000, 100)
    # 100 fresh, 1000 read, 100 written, 80 out, at 3, 0.30, 3.75 and 15 USD a million.
    assert row.cost_nano == 300_000 + 300_000 + 375_000 + 1_200_000
    assert (row.usage_basis, row.cost_basis) == ("measured", "estimated")
    assert again([row]) == [row]


@pytest.mark.parametrize(
    ("name", "said", "op"),
    [
        ("openclaw.run", {}, "invoke_agent"),
        ("openclaw.tool.execution", {"gen_ai.tool.name": "exec"}, "execute_tool"),
        ("openclaw.model.usage", OPENCLAW, "span"),
        ("POST /ask", {"http.request.method": "POST"}, "span"),
        ("crew", {"traceloop.span.kind": "workflow"}, "invoke_workflow"),
        ("plan", {"openinference.span.kind": "AGENT"}, "invoke_agent"),
        ("embed", {"gen_ai.operation.name": "embeddings"}, "embeddings"),
        ("anything", {"gen_ai.operation.name": "of the future"}, "span"),
    ],
)
def test_what_a_span_is(name: str, said: dict[str, Any], op: str) -> None:
    row = taken(replace(wire(1, name), attributes=said), profile_for)
    assert row is not None
    assert row.op == op
    assert (row.cost_nano, again([row])) == (None, [row])


def test_unknown_is_not_zero_and_a_price_is_never_guessed() -> None:
    row = taken(wire(1, gen_ai__operation__name="chat", gen_ai__request__model="nobody-knows-7"))
    assert row is not None
    assert (row.input_tokens, row.cost_nano, row.usage_basis) == (None, None, None)
    apart = taken(replace(wire(1), attributes={**OPENCLAW, "gen_ai.usage.input_tokens": 100}))
    assert apart is not None
    assert apart.input_tokens == 1200, "what Anthropic counts apart is part of the input"


CONTENT = [
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.prompt.0.content",
    "gen_ai.completion.0.content",
    "llm.input_messages.0.message.content",
    "llm.invocation_parameters",
    "input.value",
    "output.value",
    "retrieval.documents.0.document.content",
    "tool.parameters",
    "traceloop.entity.input",
    "traceloop.entity.output",
    "ai.prompt.messages",
    "ai.response.text",
    "ai.toolCall.args",
    "openclaw.content.input_messages",
    "openclaw.error",
    "openclaw.reason",
    "all_messages_events",
    "db.statement",
    "url.full",
    "user.id",
    "my.own.attribute",
    "error.type",
    "gen_ai.agent.description",
]


@pytest.mark.parametrize("scope", ["some.library", "clawmw"])
def test_content_is_never_kept(scope: str, tmp_path: Path) -> None:
    said = dict.fromkeys(CONTENT, SECRET) | {"gen_ai.operation.name": "chat"}
    if scope == "clawmw":
        del said["my.own.attribute"], said["error.type"], said["openclaw.reason"], said["url.full"]
    lists = {f"{name}.list": [SECRET] for name in CONTENT if scope != "clawmw"}
    span = replace(
        wire(1),
        scope=scope,
        attributes={**said, **lists, "embedding.embeddings.0.embedding.vector": [0.5] * 900},
        events=(
            WireEvent("exception", 5, {"exception.message": SECRET, "exception.type": "KeyError"}),
            WireEvent("gen_ai.content.prompt", 6, {"gen_ai.prompt": SECRET, "count": 3}),
        ),
    )
    row = taken(span)
    assert row is not None
    store = SpanStore.open(tmp_path / "t.sqlite")
    store.write([row])
    (kept,) = store.query("SELECT attributes, events FROM details")
    assert "words" not in kept["attributes"] + kept["events"]
    assert len(kept["attributes"]) < 200
    first, second = json.loads(kept["events"])
    assert (first["exception.type"], second["count"]) == ("KeyError", 3)
    store.close()


def test_attributes_are_bounded() -> None:
    many = {f"count.{i}": i for i in range(5_000)}
    row = taken(replace(wire(1, "n" * 9_000), attributes=many, scope="l" * 9_000))
    assert row is not None
    assert (len(row.attributes), len(row.name)) == (64, 128)
    assert row.source == "unknown"
    ours = taken(
        replace(
            wire(1, "chat m" * 900),
            scope="clawmw",
            attributes={**many, "gen_ai.operation.name": "chat", "clawmw.agent": "a" * 9_000},
        )
    )
    assert ours is None or len(ours.attributes) <= 256


def test_a_span_that_says_it_is_ours_may_say_anything() -> None:
    said: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "clawmw.cost.usd": "much",
        "clawmw.cost.baseline_usd": 1e300,
        "clawmw.stopped": "yes",
        "clawmw.status": "<script>",
        "gen_ai.usage.input_tokens": "many",
        "gen_ai.request.model": 7,
        "clawmw.overhead_ms": True,
    }
    row = taken(replace(wire(1), scope="clawmw", attributes=said))
    assert row is not None
    assert (row.cost_nano, row.baseline_nano, row.stopped, row.status) == (None, None, None, "ok")
    assert (row.input_tokens, row.model, row.overhead_us) == (None, None, None)


def test_a_foreign_span_that_clawmw_told_its_part_is_ours() -> None:
    """As `clawmw.observe.spans.foreign` writes onto the span of the SDK's own instrumentation."""
    told = {
        "clawmw.exchange": "x1",
        "clawmw.status": "ok",
        "clawmw.cost.usd": 123_456_789 / 1e9,
        "clawmw.cost.basis": "measured",
        "clawmw.agent": "planner",
        "clawmw.would.compress": True,
    }
    for said in (OPENINFERENCE, OPENCLAW):
        content = {"llm.input_messages.0.message.content": SECRET}
        row = taken(replace(wire(1), attributes={**said, **told, **content}), profile_for)
        assert row is not None
        assert (row.source, row.op, row.agent, row.exchange) == (None, "chat", "planner", "x1")
        assert (row.cost_nano, row.cost_basis) == (123_456_789, "measured")
        assert (row.input_tokens, row.cache_read_tokens) == (1200, 1000)
        assert row.model == "claude-sonnet-4-5"
        assert SECRET not in str(row)


def test_stand_ins_are_left_out() -> None:
    said = {"gen_ai.operation.name": "invoke_workflow", "clawmw.synthetic": True}
    assert taken(replace(wire(1), scope="clawmw", attributes=said)) is None


def test_other_readers_find_their_names() -> None:
    row = SpanRow(
        T, f"{1:016x}", None, "chat", "chat m", 1, 2, "ok", cost_nano=5, cache_write_tokens=3
    )
    row = replace(row, attributes={"gen_ai.conversation.id": "s1"})
    said = sent(row).attributes
    assert said["gen_ai.usage.cache_creation.input_tokens"] == 3
    assert said["session.id"] == "s1"
    assert said["openinference.span.kind"] == "LLM"
    live = {"gen_ai.operation.name": "chat", "clawmw.cost.usd": 5 / 1e9}
    assert duplicate(live)["operation.cost"] == said["operation.cost"]


def test_what_the_wire_cannot_hold_is_told_otherwise() -> None:
    from clawmw.observe.otlp.writing import _any, _pairs

    assert _any(2**70).string_value == str(2**70)
    assert _any("a\ud800").string_value == "a?"
    assert _pairs({"none": None}) == []
