"""What looks like a secret, and what only resembles one."""

from __future__ import annotations

import pytest

from clawmw.policy.secrets import looks_secret, secrets_in


@pytest.mark.parametrize(
    "text",
    [
        "sk-" + "a1b2c3d4e5f6",
        "sk-ant-api03-" + "x" * 20,
        "AIza" + "B" * 35,
        "gsk_" + "a" * 30,
        "hf_" + "a" * 34,
        "xoxb-" + "1" * 12,
        "eyJ" + "a" * 12 + ".eyJ" + "b" * 12 + ".sig",
        "Authorization: Bearer " + "a1" * 10,
        "postgres://app:hunter2@db/x",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_secrets(text: str) -> None:
    assert looks_secret(text)
    assert looks_secret(f"use {text} here")


@pytest.mark.parametrize(
    "text",
    [
        "OPENAI_API_KEY",
        "anthropic/claude-sonnet-5-5",
        "hf-internal-testing/tiny-random-llama-3",
        "task-based-planning-of-trips-2026",
        "http://127.0.0.1:8000/v1",
        "https://host/path:with@signs",
        "Use bearer authentication-tokens",
        "sk-learn",
    ],
)
def test_not_secrets(text: str) -> None:
    assert not looks_secret(text)


def test_where_they_lie() -> None:
    secret = "sk-" + "a1" * 8
    data = {"a": {"b": [1, secret]}, "c": {secret: 1}, "d": "fine"}
    assert list(secrets_in(data)) == [("a", "b", 1), ("c",)]
