"""One chain over agents in processes of their own: HTTP, environment, MCP; one trace of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import clawmw
from clawmw.core.context import TraceContext
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator
from clawmw.observe.otel import OtelObserver
from clawmw.observe.reading.chains import chains, spans
from clawmw.observe.spans.ids import agent_span_id, trace_id
from clawmw.observe.store.spanstore import SpanStore
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BOSS = Identity(agent="boss", session="s0", chain="trip-7")
ASK = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACEPARENT", "TRACESTATE", "BAGGAGE", "CLAWMW_CHAIN"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_sent_arrives() -> None:
    with clawmw.calling(BOSS):
        sent = clawmw.trace_headers()
    number = trace_id(BOSS)
    span = agent_span_id(number, "boss", "s0")
    assert sent == {
        "traceparent": f"00-{number:032x}-{span:016x}-01",
        "baggage": "clawmw.chain.id=trip-7,clawmw.chain.hop=0,clawmw.agent=boss,"
        "clawmw.session.id=s0,gen_ai.conversation.id=s0",
    }
    there = clawmw.received({"Traceparent": sent["traceparent"], "BAGGAGE": sent["baggage"]})
    assert (there.chain, there.hop, there.conversation) == ("trip-7", 1, "s0")
    assert (there.parent_agent, there.parent_session) == ("boss", "s0")
    with clawmw.calling(there, agent="worker", session="w1"):
        onward = clawmw.received(clawmw.trace_headers())
    assert (onward.chain, onward.hop) == ("trip-7", 2)
    assert (onward.parent_agent, onward.parent_session) == ("worker", "w1")
    assert onward.conversation == "s0"


def test_the_current_span_is_sent_where_there_is_one() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    with tracer.start_as_current_span("request") as span:
        at = span.get_span_context()
        sent = clawmw.trace_headers()
        with clawmw.calling(BOSS):
            named = clawmw.trace_headers()
    parent = f"00-{at.trace_id:032x}-{at.span_id:016x}-01"
    assert sent["traceparent"] == named["traceparent"] == parent
    assert clawmw.received(sent).chain == f"{at.trace_id:032x}"
    assert clawmw.received(named).chain == "trip-7"


def test_a_flow_is_the_caller_of_what_its_tools_call(tmp_path: Path) -> None:
    observer = OtelObserver(store=SpanStore.open(tmp_path / "t.sqlite"))
    with observer.chain(BOSS, "trip"), observer.agent(BOSS, "boss"), observer.tool(BOSS, "t", "1"):
        there = clawmw.received(clawmw.trace_headers())
        at = trace.get_current_span().get_span_context()
    observer.close()
    assert (there.chain, there.parent_agent, there.hop) == ("trip-7", "boss", 1)
    assert there.context is not None
    assert there.context.span == f"{at.span_id:016x}"


def test_nothing_is_made_up() -> None:
    assert clawmw.trace_headers() == {}
    assert clawmw.trace_environment() == {}
    assert clawmw.trace_meta({"progressToken": 1}) == {"progressToken": 1}
    assert clawmw.received({}) == clawmw.received(None) == Identity()
    assert clawmw.received({"traceparent": 7, "baggage": None, "x": "y"}) == Identity()
    with clawmw.calling(chain="a b", agent="ok"):  # no id that anybody would take
        assert clawmw.trace_headers()["baggage"] == "clawmw.chain.hop=0,clawmw.agent=ok"


def test_the_environment_goes_on_with_the_applications_own(monkeypatch: Any) -> None:
    monkeypatch.setenv("BAGGAGE", "userId=alice,clawmw.agent=older,clawmw.chain.hop=4")
    monkeypatch.setenv("TRACEPARENT", f"00-{TRACE}-{SPAN}-01")
    with clawmw.calling(agent="boss"):
        sent = clawmw.trace_environment()
    assert sent["BAGGAGE"] == (
        f"userId=alice,clawmw.chain.id={TRACE},clawmw.chain.hop=5,clawmw.agent=boss"
    )
    assert "alice" not in str(clawmw.trace_headers())


def test_hashed_ids_are_digests_on_the_way_and_one_trace(monkeypatch: Any) -> None:
    monkeypatch.setattr("clawmw.adapters.propagation.of_process", lambda: ("default", True))
    secret = Identity(agent="boss", session="alice@example.org", chain="alice-trip")
    with clawmw.calling(secret):
        sent = clawmw.trace_headers()
    assert "alice" not in str(sent)
    there = clawmw.received(sent)
    assert trace_id(there) == trace_id(secret)
    assert there.parent_session is not None
    assert there.parent_session.startswith("sha256-")
    assert there.context is not None
    assert (
        there.context.span == f"{agent_span_id(trace_id(there), 'boss', there.parent_session):016x}"
    )


# --- processes -----------------------------------------------------------------------

WORKER = """
import os, sys
import clawmw
who = clawmw.calling(agent="worker", session="w1")
with who, clawmw.http_client(sys.argv[1]) as client:
    ask = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hello"}]}
    client.post(sys.argv[2] + "/chat/completions", json=ask).raise_for_status()
"""


@pytest.fixture
def provider() -> Iterator[Emulator]:
    with Emulator(bill="anthropic") as emulator:
        yield emulator


def test_a_child_process_is_part_of_the_chain(provider: Emulator, tmp_path: Path) -> None:
    """The parent opens its agent and calls once, its child calls once: one chain, one tree."""
    policy = tmp_path / "clawmw.yaml"
    policy.write_text("version: 1\ntrace: {store: t.sqlite}\n")
    runtime = Runtime.of(load_policy(policy))
    observer: Any = runtime.observers[0]
    who = Identity(agent="boss", session="s0", chain="trip-7")
    with observer.chain(who, "trip"), observer.agent(who, "boss"), clawmw.calling(who):
        with clawmw.http_client(runtime) as client:
            client.post(f"{provider.base_url}/chat/completions", json=ASK)
        env = {**os.environ, **clawmw.trace_environment()}
        command = [sys.executable, "-c", WORKER, str(policy), provider.base_url]
        subprocess.run(command, env=env, check=True, timeout=60)
    observer.close()
    runtime.close()
    for received in provider.requests:
        assert not {"traceparent", "baggage"} & set(received.headers)
    store = SpanStore.read(tmp_path / "t.sqlite")
    [chain] = chains(store)
    assert (chain.chain_id, chain.calls, chain.agents) == ("trip-7", 2, 2)
    rows = spans(store, chain.trace_id)
    store.close()
    names = {row.span_id: row.name for row in rows}
    found = {(row.name, row.agent, names.get(row.parent_id or "")) for row in rows}
    assert found == {
        ("invoke_workflow trip", "boss", None),
        ("invoke_agent boss", "boss", "invoke_workflow trip"),
        ("chat claude-sonnet-4-5", "boss", "invoke_agent boss"),
        ("invoke_agent worker", "worker", "invoke_agent boss"),
        ("chat claude-sonnet-4-5", "worker", "invoke_agent worker"),
    }
    [theirs] = [row for row in rows if row.agent == "worker" and row.op == "chat"]
    assert theirs.hop == 1
    assert theirs.attributes["clawmw.parent.agent"] == "boss"
    assert theirs.attributes["gen_ai.conversation.id"] == "s0"


def test_results_that_come_together(provider: Emulator, tmp_path: Path) -> None:
    policy = load_policy({"version": 1, "trace": {"store": str(tmp_path / "t.sqlite")}})
    runtime = Runtime.of(policy)
    observer: Any = runtime.observers[0]
    url = f"{provider.base_url}/chat/completions"
    with clawmw.http_client(runtime) as client, clawmw.calling(chain="trip-7"):
        branches = []
        for agent in ("north", "south"):
            with clawmw.calling(agent=agent, session=agent) as branch:
                client.post(url, json=ASK)
                branches.append(branch)
        with clawmw.calling(agent="merger", session="m", joined=branches):
            client.post(url, json=ASK)
    observer.close()
    runtime.close()
    store = SpanStore.read(tmp_path / "t.sqlite")
    [chain] = chains(store)
    rows = spans(store, chain.trace_id)
    store.close()
    agents = {row.agent: row.span_id for row in rows if row.op == "invoke_agent"}
    [merging] = [row for row in rows if row.agent == "merger" and row.op == "chat"]
    assert merging.attributes["clawmw.joined_from"] == [agents["north"], agents["south"]]


def test_joined_takes_what_came_from_elsewhere_too() -> None:
    elsewhere = clawmw.received({"traceparent": f"00-{TRACE}-{SPAN}-01"})
    with clawmw.calling(agent="merger", joined=[elsewhere, elsewhere.context]) as who:
        assert who.joined == (elsewhere, TraceContext(TRACE, SPAN, True))
