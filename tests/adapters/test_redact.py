"""`redact:` end to end: no secret reaches a model, a file or an observer."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from clawmw.adapters.direct import Asked, Direct
from clawmw.adapters.http import http_client, make_transport
from clawmw.core.events import Acted, Event
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator
from clawmw.errors import PolicyError
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

SECRET = "sk-verysecret-1234567890"
TABLE = [{"id": n, "name": f"row {n}", "key": SECRET} for n in range(200)]
MESSAGES = [
    {"role": "system", "content": f"The key is {SECRET}."},
    {"role": "user", "content": "go"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "env", "arguments": json.dumps({"key": SECRET})},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": json.dumps(TABLE)},
]
BODY = {
    "model": "m",
    "messages": MESSAGES,
    "tools": [
        {"type": "function", "function": {"name": "env", "description": f"not {SECRET}"}},
        {"type": "function", "function": {"name": "clawmw_no", "description": "plain"}},
    ],
    "metadata": {"note": base64.b64encode(f"x{SECRET}".encode()).decode()},
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", SECRET)


def runtime(folder: Path, seen: list[Event]) -> Runtime:
    policy = {
        "version": 1,
        "redact": {"env": ["SOME_KEY"]},
        "store": {"disk": str(folder / "store")},
        "trace": {"store": str(folder / "traces.db")},
        "compress": "aggressive",
        "reuse": {"kinds": ["k"]},
    }
    made = Runtime.of(load_policy(policy))
    made.observers = (*made.observers, seen.append)
    return made


def forms() -> list[bytes]:
    plain = SECRET.encode()
    core = [base64.b64encode(b"\0" * n + plain)[4:24] for n in range(3)]
    return [plain, plain.hex().encode(), SECRET.encode("utf-16-le"), *core]


def test_no_model_no_file_and_no_observer_gets_it(tmp_path: Path) -> None:
    seen: list[Event] = []
    made = runtime(tmp_path, seen)
    with Emulator() as emulator, http_client(made) as client:
        url = f"{emulator.base_url}/chat/completions"
        headers = {"x-clawmw-session": f"s-{SECRET}", "x-clawmw-kind": "k"}
        for stream in (False, True):
            client.post(url, json={**BODY, "stream": stream}, headers=headers)
        sent = json.dumps([r.body for r in emulator.requests])
    made.close()
    assert emulator.requests
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(map(len, kept)) > 10_000, "there was something to look through"
    for form in forms():
        assert form not in sent.encode()
        assert form not in repr(seen).encode()
        assert not any(form in data for data in kept)
    acted = [e for e in seen if isinstance(e, Acted) and e.stage == "redact"]
    assert acted
    assert acted[0].detail["SOME_KEY"] >= 4


def test_what_cannot_be_read_is_redacted_all_the_same(tmp_path: Path) -> None:
    got: list[bytes] = []

    def upstream(request: httpx.Request) -> httpx.Response:
        got.append(request.read())
        return httpx.Response(200, json={})

    made = runtime(tmp_path, [])
    inner = httpx.MockTransport(upstream)
    with httpx.Client(transport=make_transport(made, inner=inner)) as client:
        chat, plain = "http://m/v1/chat/completions", {"content-type": "text/plain"}
        client.post(chat, json={"odd": SECRET})
        client.post("http://m/v1/embeddings", json={"input": SECRET})
        client.post("http://m/upload", content=SECRET, headers=plain)
    assert [b"SOME_KEY" in body for body in got] == [True, True, False]
    assert [SECRET.encode() in body for body in got] == [False, False, True]
    made.close()


def test_a_bug_of_ours_lets_a_call_through_but_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = runtime(tmp_path, [])

    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(made, "perform", broken)
    with Emulator() as emulator, http_client(made) as client:
        client.post(f"{emulator.base_url}/chat/completions", json=BODY)
        assert SECRET not in json.dumps(emulator.requests[0].body)
    made.close()


def test_a_hook_of_a_framework_gets_the_clean_message_not_its_own(tmp_path: Path) -> None:
    made, asked = runtime(tmp_path, []), []

    def send(call: Asked) -> dict[str, Any]:
        asked.append(call)
        return {"model": "m", "choices": [{"message": {"role": "assistant", "content": "ok"}}]}

    Direct(made, Identity(session="s")).call(BODY, send)
    assert [place for place, _ in asked[0].messages] == [None, 1, None, None]
    assert SECRET not in json.dumps(asked[0].body)
    made.close()


def test_a_secret_too_short_or_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load_policy({"version": 1, "trace": "off", "redact": {"env": ["SOME_KEY"]}})
    monkeypatch.setenv("SOME_KEY", "short")
    with pytest.raises(PolicyError, match="SOME_KEY holds fewer than 8"):
        Runtime.of(policy)
    monkeypatch.delenv("SOME_KEY")
    with pytest.warns(RuntimeWarning, match="SOME_KEY is not set"):
        Runtime.of(policy).close()
