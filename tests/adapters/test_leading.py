"""Where an attempt goes, with which headers: by what its caller and the policy say."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

import clawmw

HELLO = [{"role": "user", "content": "hi"}]
OPENAI = "https://api.openai.com/v1/chat/completions"
AGGREGATOR = "https://openrouter.ai/api/v1/chat/completions"
CHAT: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": "hi"}}]}
MESSAGE: dict[str, Any] = {"id": "m", "content": [{"type": "text", "text": "hi"}]}


def sent(entry: Any, url: str = OPENAI, **headers: str) -> httpx.Request:
    """What leaves for a call to `url` that a rule sends to `entry`."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=MESSAGE if request.url.path.endswith("/messages") else CHAT)

    policy = {
        "version": 1,
        "trace": "off",
        "models": {"to": entry},
        "route": [{"when": "true", "to": "to"}],
    }
    with clawmw.http_client(policy, transport=httpx.MockTransport(answer)) as client:
        given = {"authorization": "Bearer sk-caller", "openai-organization": "org", **headers}
        response = client.post(url, json={"model": "own", "messages": HELLO}, headers=given)
    assert response.json()["choices"][0]["message"]["content"] == "hi"
    [request] = seen
    return request


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KEY", "sk-own")


def model(request: httpx.Request) -> str:
    return str(json.loads(request.content)["model"])


def test_anothers_model_goes_to_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-a")
    request = sent("anthropic/claude-sonnet-5-5")
    assert str(request.url) == "https://api.anthropic.com/v1/messages"
    assert request.headers["x-api-key"] == "sk-a"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert model(request) == "claude-sonnet-5-5"
    assert "sk-caller" not in str(request.headers)
    assert "openai-organization" not in request.headers


def test_a_model_of_the_callers_own_provider_stays_there() -> None:
    request = sent("openai/gpt-6")
    assert str(request.url) == OPENAI
    assert request.headers["authorization"] == "Bearer sk-caller"
    assert model(request) == "gpt-6"


@pytest.mark.parametrize("entry", ["anthropic/claude-sonnet-5-5", "deepseek/x", "openai/gpt-6"])
def test_an_aggregator_is_asked_for_the_id_as_it_is(entry: str) -> None:
    request = sent(entry, AGGREGATOR)
    assert str(request.url) == AGGREGATOR
    assert request.headers["authorization"] == "Bearer sk-caller"
    assert model(request) == entry


def test_a_key_of_its_own_leads_away_from_an_aggregator() -> None:
    request = sent({"model": "openai/gpt-6", "api_key_env": "KEY"}, AGGREGATOR)
    assert str(request.url) == OPENAI
    assert request.headers["authorization"] == "Bearer sk-own"
    assert model(request) == "gpt-6"


@pytest.mark.parametrize("base_url", ["https://h.test/anthropic", "https://h.test/anthropic/v1"])
def test_anthropics_base_urls_are_meant_with_and_without_their_version(base_url: str) -> None:
    request = sent({"model": "k", "base_url": base_url, "api_key_env": "KEY"})
    assert str(request.url) == "https://h.test/anthropic/v1/messages"
    assert request.headers["x-api-key"] == "sk-own"


def test_the_same_dialect_elsewhere_passes_as_it_is() -> None:
    request = sent({"model": "q", "base_url": "http://127.0.0.1:8000/v1"}, **{"x-key": "secret"})
    assert str(request.url) == "http://127.0.0.1:8000/v1/chat/completions"
    assert "authorization" not in request.headers
    assert "x-key" not in request.headers


def test_what_only_litellm_reaches_never_meets_the_transport() -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    from clawmw.adapters import litellm_upstream
    from clawmw.adapters.leading import onward

    inner = httpx.MockTransport(never)
    assert onward(inner, httpx, "https://h.test/v1") is inner
    assert onward(inner, httpx, "litellm://deepseek/x") is litellm_upstream.upstream(httpx)
