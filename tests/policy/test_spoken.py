"""What an entry of the policy says about who answers, and how to speak with them."""

from __future__ import annotations

from typing import Any

import pytest

from clawmw.errors import PolicyError
from clawmw.policy.load import load_policy
from clawmw.policy.models import ModelEntry
from clawmw.policy.spoken import server

CHAT, RESPONSES, MESSAGES = "openai.chat", "openai.responses", "anthropic.messages"
OPENAI = (CHAT, RESPONSES)


@pytest.mark.parametrize(
    ("entry", "dialects", "base_url", "model"),
    [
        ("openai/gpt-6", OPENAI, "https://api.openai.com/v1", "gpt-6"),
        (
            "anthropic/claude-sonnet-5-5",
            (MESSAGES,),
            "https://api.anthropic.com/v1",
            "claude-sonnet-5-5",
        ),
        ("deepseek/deepseek-v4-flash", (CHAT,), "litellm://deepseek", "deepseek/deepseek-v4-flash"),
        ("bedrock/x/y", (CHAT,), "litellm://bedrock", "bedrock/x/y"),
        ({"model": "q", "base_url": "http://127.0.0.1:8000/v1"}, (CHAT,), None, "q"),
        ({"model": "c", "base_url": "https://api.anthropic.com"}, (MESSAGES,), None, "c"),
        ({"model": "c", "base_url": "https://api.anthropic.com/v1"}, (MESSAGES,), None, "c"),
        ({"model": "k", "base_url": "https://api.moonshot.ai/anthropic"}, (MESSAGES,), None, "k"),
        ({"model": "g", "base_url": "https://api.openai.com/v1"}, OPENAI, None, "g"),
        (
            {"model": "anthropic/claude-x", "base_url": "https://openrouter.ai/api/v1"},
            (CHAT,),
            None,
            "anthropic/claude-x",
        ),
        (
            {"model": "v", "base_url": "http://127.0.0.1:1/v1", "dialect": RESPONSES},
            (RESPONSES,),
            None,
            "v",
        ),
        (
            {"model": "openai/gpt-6", "dialect": CHAT},
            (CHAT,),
            "https://api.openai.com/v1",
            "gpt-6",
        ),
    ],
)
def test_who_answers(
    entry: Any, dialects: tuple[str, ...], base_url: str | None, model: str
) -> None:
    made = ModelEntry.model_validate(entry)
    at = server(made)
    assert at is not None
    assert (at.dialects, at.model) == (dialects, model)
    assert at.base_url == (base_url or made.base_url)


@pytest.mark.parametrize("model", ["gpt-6", "meta-llama/Llama-5", "a/b"])
def test_an_id_that_names_no_provider_is_the_callers_servers(model: str) -> None:
    assert server(ModelEntry(model=model)) is None


def test_a_caller_of_what_is_spoken_there_is_not_translated() -> None:
    at = server(ModelEntry(model="openai/gpt-6"))
    assert at is not None
    assert [at.dialect_for(d) for d in (CHAT, RESPONSES, MESSAGES)] == [CHAT, RESPONSES, CHAT]


def test_a_dialect_is_one_of_those_known() -> None:
    with pytest.raises(PolicyError, match=r"models\.m\.dialect"):
        load_policy("version: 1\nmodels: {m: {model: x, dialect: openai}}")
