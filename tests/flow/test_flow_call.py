"""The request of a flow's model call, over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from clawmw.core.identity import Identity
from clawmw.errors import FlowError, PolicyError
from clawmw.flow.call import http_caller
from clawmw.flow.turns import Caller, ModelCall
from clawmw.stages.base import ModelRef
from tests.flow.flow_bench import Provider

CALL = ModelCall(
    body={"model": "main", "messages": [{"role": "user", "content": "é \U0001f600"}], "top_p": 1},
    model="main",
    identity=Identity(agent="a", session="t/s", chain="t", kind="flow"),
    step="s",
)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10) as client:
        yield client


@pytest.fixture
def call(client: httpx.Client, provider: Provider) -> Caller:
    models = {"main": ModelRef("main", "m-1", provider.url + "/"), "bare": ModelRef("bare", "b")}
    return http_caller(client, models, {"main": "k-1"})


def test_it_sends_the_same_bytes_and_says_who_calls(call: Caller, provider: Provider) -> None:
    call(CALL)
    reply = call(CALL)
    assert reply.stopped is None
    assert provider.bodies[0] == provider.bodies[1]
    assert provider.bodies[0].decode() == (
        '{"model":"m-1","messages":[{"role":"user","content":"é \U0001f600"}],"top_p":1}'
    )
    headers = provider.headers[0]
    assert headers["authorization"] == "Bearer k-1"
    assert {
        name: headers[f"x-clawmw-{name}"] for name in ("agent", "session", "chain", "kind")
    } == {
        "agent": "a",
        "session": "t/s",
        "chain": "t",
        "kind": "flow",
    }


def test_a_lone_surrogate_is_sent_escaped(call: Caller, provider: Provider) -> None:
    body = {"model": "main", "messages": [{"role": "user", "content": "\ud83d"}]}
    call(ModelCall(body, "main", CALL.identity, "s"))
    assert rb'"\ud83d"' in provider.bodies[0]


@pytest.mark.parametrize("status", [200, 402])
def test_a_stop_is_a_value(call: Caller, provider: Provider, status: int) -> None:
    provider.status = status
    provider.brain = lambda _body: "the chain has used 1.00 USD"
    provider.reply_headers = {"x-clawmw-stopped": "budget.chain.usd"}
    reply = call(CALL)
    assert (reply.stopped, reply.reason) == ("budget.chain.usd", "the chain has used 1.00 USD")


def test_failures_are_one_line(call: Caller, provider: Provider, client: httpx.Client) -> None:
    provider.status = 500
    with pytest.raises(FlowError) as e:
        call(CALL)
    assert str(e.value).startswith(f"step 's', model 'main' at {provider.url}/chat/completions: ")
    assert "HTTP 500" in str(e.value)
    dead = http_caller(client, {"main": ModelRef("main", "m", "http://127.0.0.1:9/v1")})
    with pytest.raises(FlowError, match="ConnectError"):
        dead(CALL)
    with pytest.raises(PolicyError, match=r"models\.bare: a flow needs its `base_url`"):
        call(ModelCall(CALL.body, "bare", CALL.identity, "s"))


def test_the_body_is_json_again(call: Caller, provider: Provider) -> None:
    call(CALL)
    assert json.loads(provider.bodies[0])["messages"] == CALL.body["messages"]
