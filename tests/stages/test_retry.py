"""Retry, breaker and fallback: through the engine, and through real sockets and SDKs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

import clawmw
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.core.events import Attempted, BreakerTurned, CallFinished, Event
from clawmw.core.types import Failure, Json, Outcome
from clawmw.emulator import Emulator, Fault
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.stages.failures import retry_after, trouble
from clawmw.testing import Bench, answer, failing

QUICK = {"base": "1ms", "longest": "2ms"}
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
ASK = [{"role": "user", "content": "hello"}]
MODELS = {"light": "deepseek/deepseek-v4-flash", "local": {"model": "qwen3"}}


def bench(outcomes: list[Outcome], **policy: Any) -> Bench:
    rest = iter(outcomes)
    return Bench({"version": 1, "retry": QUICK, **policy}, lambda _body: next(rest))


def test_what_failed_for_now_is_tried_again() -> None:
    sent = bench([failing(503), Failure("connect", "x"), answer("ok")]).send(ASK)
    assert len(sent.bodies) == 3
    assert sent.result.finished.status == "ok"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_a_callers_mistake_is_not_retried_and_moves_no_breaker(status: int) -> None:
    """R8: one attempt each, and the breaker stays closed."""
    case = bench([failing(status)] * 30)
    for _ in range(25):
        assert len(case.send(ASK).bodies) == 1
    assert not [e for e in case.events if isinstance(e, BreakerTurned)]


def test_a_quota_that_is_used_up_is_not_retried() -> None:
    used_up = Failure("status", "HTTP 429", 429, b'{"error":{"code":"insufficient_quota"}}')
    assert len(bench([used_up, answer("never")]).send(ASK).bodies) == 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("1e9", 1e9),
        ("soon", None),
        ("", None),
        ("Fri, 27 Nov 2026 00:00:10 GMT", 10.0),
        ("Fri, 27 Nov 2020 00:00:10 GMT", 0.0),
    ],
)
def test_retry_after_in_every_form(said: str, seconds: float | None) -> None:
    """R3: bounded, and what makes no sense is as if not said."""
    now = 1795737600.0  # Fri, 27 Nov 2026 00:00:00 GMT
    assert retry_after([("Retry-After", said)], now) == seconds
    assert retry_after([("retry-after-ms", "1500"), ("retry-after", said)], now) == 1.5


def test_a_retry_after_beyond_patience_is_passed_on_at_once() -> None:
    long = Failure("status", "HTTP 429", 429, b"{}", (("retry-after", "1e9"),))
    sent = bench([long, answer("never")]).send(ASK)
    assert len(sent.bodies) == 1
    outcome = sent.result.outcome
    assert isinstance(outcome, Failure)
    assert ("x-should-retry", "false") in outcome.headers


def test_the_retry_budget_ends_retrying() -> None:
    case = bench([failing(500)] * 100, breaker=False)
    attempts = [len(case.send(ASK).bodies) for _ in range(10)]
    assert attempts[0] == 3
    assert attempts[-1] == 1
    assert sum(attempts) == 10 + 100 // 14


def test_no_retry_when_it_is_switched_off() -> None:
    assert len(bench([failing(503)] * 3, retry=False).send(ASK).bodies) == 1


# --- the breaker ------------------------------------------------------------------------------


def test_an_open_breaker_asks_nothing_of_the_upstream_and_closes_again() -> None:
    outcomes: list[Outcome] = [failing(500)] * 5
    case = bench([*outcomes, answer("back"), answer("on")], retry=False)
    for _ in range(5):
        case.send(ASK)
    refused = case.send(ASK)
    assert refused.bodies == ()
    halt = refused.result.halt
    assert halt is not None
    assert (halt.kind, str(halt.because)) == ("busy", "breaker.open")
    assert 0 < (halt.retry_after or 0) <= 4
    case.clock.now += 5  # type: ignore[attr-defined]
    assert case.send(ASK).result.halt is None
    turned = [e.state for e in case.events if isinstance(e, BreakerTurned)]
    assert turned == ["open", "closed"]


# --- fallback ----------------------------------------------------------------------------------


def test_another_model_answers_after_the_retries() -> None:
    case = bench(
        [failing(503)] * 3 + [answer("from light")],
        models=MODELS,
        fallback={"gpt-4o": ["light", "local"]},
    )
    sent = case.send(ASK, model="gpt-4o")
    assert [b["model"] for b in map(_json, sent.bodies)] == ["gpt-4o"] * 3 + [MODELS["light"]]
    assert sent.result.labels == {"x-clawmw-fallback": "light"}
    assert sent.result.finished.model == MODELS["light"]


def test_every_model_of_the_chain_is_asked_and_then_the_last_failure_is_told() -> None:
    case = bench(
        [failing(503)] * 9, models=MODELS, fallback={"gpt-4o": ["light", "local"]}, retry=False
    )
    sent = case.send(ASK, model="gpt-4o")
    assert [_json(b)["model"] for b in sent.bodies] == ["gpt-4o", MODELS["light"], "qwen3"]
    assert isinstance(sent.result.outcome, Failure)


def test_no_other_family_between_a_tool_call_and_its_result() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    between = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "result"},
    ]
    policy = {"models": MODELS, "fallback": {"gpt-4o": ["light"]}, "retry": False}
    assert len(bench([failing(503)] * 2, **policy).send(between, model="gpt-4o").bodies) == 1


def test_the_model_that_took_over_reads_the_result_of_the_tool_it_asked_for() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    between = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "result"},
    ]
    policy = {"models": MODELS, "fallback": {"gpt-4o": ["light"]}, "retry": False}
    case = bench([failing(503), answer("light asks"), answer("light reads")], **policy)
    case.send(ASK, model="gpt-4o")
    after = case.send(between, model="gpt-4o")
    assert [_json(b)["model"] for b in after.bodies] == [MODELS["light"]]


def test_an_open_breaker_goes_straight_to_the_other_model() -> None:
    case = bench(
        [failing(500)] * 5 + [answer("light")] * 5,
        models=MODELS,
        retry=False,
        fallback={"gpt-4o": ["light"]},
    )
    for _ in range(6):
        case.send(ASK, model="gpt-4o")
    last = case.send(ASK, model="gpt-4o")
    assert [_json(b)["model"] for b in last.bodies] == [MODELS["light"]]


def _json(body: bytes) -> Json:
    import json

    return json.loads(body)


# --- on the wire -------------------------------------------------------------------------------


@pytest.fixture
def upstream() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def runtime(events: list[Event], **policy: Any) -> Runtime:
    given = {"version": 1, "trace": "off", "retry": QUICK, **policy}
    return Runtime.of(load_policy(given), observers=[events.append])


@pytest.mark.parametrize("through", ["transport", "gateway"])
@pytest.mark.parametrize("status", [503, 429])
def test_an_sdk_above_does_not_multiply_the_attempts(
    upstream: Emulator, through: str, status: int
) -> None:
    """R2: the SDK's own retries on, the policy's three attempts in all."""
    events: list[Event] = []
    ours = runtime(events)
    upstream.fail_next(*[Fault(status=status, retry_after=0.001)] * 20)
    with pytest.raises(openai.APIStatusError):
        _ask(ours, upstream, through)
    assert len(upstream.requests) == 3
    assert len([e for e in events if isinstance(e, Attempted)]) == 3
    ours.close()


@pytest.mark.parametrize("through", ["transport", "gateway"])
def test_a_refusal_is_one_request(upstream: Emulator, through: str) -> None:
    """R1: a budget's refusal through the real SDK, its own retries on."""
    events: list[Event] = []
    ours = runtime(events, budget={"chain": {"calls": 0}})
    with pytest.raises(openai.APIStatusError) as caught:
        _ask(ours, upstream, through)
    assert caught.value.status_code == 402
    assert len([e for e in events if isinstance(e, CallFinished)]) == 1
    assert upstream.requests == []
    ours.close()


def _ask(ours: Runtime, upstream: Emulator, through: str) -> None:
    if through == "transport":
        http = clawmw.http_client(ours)
        with openai.OpenAI(base_url=upstream.base_url, api_key="k", http_client=http) as client:
            client.chat.completions.create(**BODY)  # type: ignore[call-overload]
        return
    with (
        Served(Gateway(ours, Places({}, upstream.base_url))) as served,
        openai.OpenAI(base_url=served.base_url, api_key="k") as client,
    ):
        client.chat.completions.create(**BODY)  # type: ignore[call-overload]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["reset", "html", "empty"])
def test_an_answer_that_is_none_is_tried_again(
    upstream: Emulator, fault: str, stream: bool
) -> None:
    """R6: nothing usable came and nothing was forwarded."""
    events: list[Event] = []
    ours = runtime(events)
    bad = {"reset": Fault(reset_after=0), "html": Fault(html=True), "empty": Fault(empty=True)}
    upstream.fail_next(bad[fault])
    with clawmw.http_client(ours, base_url=upstream.base_url) as client:
        done = client.post("/chat/completions", json={**BODY, "stream": stream})
    assert done.status_code == 200
    assert "hello" in done.text
    assert len(upstream.requests) == 2
    ours.close()


def test_a_stream_that_broke_after_its_first_byte_is_never_replayed(upstream: Emulator) -> None:
    events: list[Event] = []
    ours = runtime(events)
    upstream.fail_next(Fault(reset_after=2))
    with (
        clawmw.http_client(ours, base_url=upstream.base_url) as client,
        pytest.raises(Exception, match=r"."),
    ):
        client.post("/chat/completions", json={**BODY, "stream": True})
    assert len(upstream.requests) == 1
    ours.close()


def test_trouble_is_told_apart() -> None:
    assert trouble(answer("x")) == "none"
    assert trouble(failing(529)) == "throttled"
    assert trouble(failing(504)) == "transient"
    assert trouble(failing(418)) == "final"
    assert trouble(Failure("cancelled", "")) == "none"
