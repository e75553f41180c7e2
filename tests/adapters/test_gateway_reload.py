"""A policy file that changes under a running gateway."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clawmw.adapters import gateway_reload
from clawmw.adapters.gateway_reload import PolicyFile
from clawmw.core.events import CallStarted
from clawmw.emulator import Emulator
from clawmw.policy.load import load_policy
from tests.adapters.test_gateway import TOOLS, Case, body, gateway, until, upstream
from tests.conftest import rows, turn

BASE = "version: 1\ntrace: off\nretry: false\n"


class Watched:
    """A gateway under a policy file."""

    def __init__(self, case: Case, path: Path) -> None:
        self.case, self.path = case, path
        self.said: list[str] = []
        policy = load_policy(path)
        read = partial(load_policy, path)
        made = case.served.gateway
        self.file = PolicyFile(made, str(path), policy, read, self.said.append)
        made.views.extra = lambda: {"policy": self.file.health()}
        loop = case.served.server.loop
        assert loop is not None
        self._task = asyncio.run_coroutine_threadsafe(self.file.watch(), loop)

    def write(self, text: str) -> str:
        """Change the file; what was said of it."""
        before = len(self.said)
        self.path.write_text(BASE + text)
        until(lambda: len(self.said) > before)
        return self.said[-1]

    def health(self) -> Any:
        return self.case.http.get(self.case.url.removesuffix("/v1") + "/healthz").json()

    def close(self) -> None:
        self._task.cancel()


@pytest.fixture
def provider() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_reload, "EVERY", 0.01)


@pytest.fixture
def watched(provider: Emulator, tmp_path: Path) -> Iterator[Watched]:
    path = tmp_path / "policy.yaml"
    path.write_text(BASE)
    with gateway(provider.base_url) as case:
        made = Watched(case, path)
        yield made
        made.close()


def test_a_changed_file_holds_and_a_sent_prefix_stays(watched: Watched, provider: Emulator) -> None:
    case = watched.case
    history = [
        {"role": "system", "content": "You look things up. " * 300},
        {"role": "user", "content": "hello there"},
        *turn("c1", "search", {"q": "x"}, rows(300)),
    ]
    case.post(body(*history, tools=TOOLS), x_clawmw_session="s")
    said = watched.write("compress: off\ndedupe: off\n")
    assert "read again, policy " in said
    more = [*history, *turn("c2", "search", {"q": "y"}, rows(310))]
    case.post(body(*more, tools=TOOLS), x_clawmw_session="s")
    first, second = (request.body["messages"] for request in provider.requests)
    assert second[: len(first)] == first
    assert len(first[3]["content"]) < len(rows(300)) / 3
    assert second[-1]["content"] == rows(310)  # the new policy holds for what is new
    started = [e.policy for e in case.events if isinstance(e, CallStarted)]
    assert len(set(started)) == 2
    assert watched.health()["policy"] == {"digest": started[1]}


def test_a_broken_file_keeps_the_policy_and_says_so(watched: Watched, provider: Emulator) -> None:
    watched.write("budget: {tenant: {day: {calls: 1}}}\n")
    assert watched.case.post(body()).status_code == 200
    said = watched.write("budgte: {}\nbudgets: {}\n")
    assert said.startswith(f"{watched.path}:4: budgte: unknown section")
    assert said.endswith("(and 1 more); the policy before it stays in force")
    assert "\n" not in said
    health = watched.health()
    assert health["status"] == "degraded"
    assert "budgte: unknown section" in health["policy"]["error"]
    assert watched.case.post(body()).status_code == 402
    watched.path.unlink()
    until(lambda: "there is no such file" in watched.said[-1])
    watched.write("")
    assert watched.health()["policy"] == {"digest": watched.health()["policy"]["digest"]}
    assert watched.case.post(body()).status_code == 200


def test_models_and_paths_change_and_what_was_opened_does_not(
    watched: Watched, provider: Emulator
) -> None:
    case = watched.case
    watched.write(f"models: {{local: {{model: qwen3, base_url: '{provider.base_url}'}}}}\n")
    case.post({**body(), "model": "local"})
    assert provider.requests[-1].body["model"] == "qwen3"
    said = watched.write("store: {disk: elsewhere}\ngateway: {paths: [files]}\n")
    assert said.endswith("store: in force from the next start")
    assert not (watched.path.parent / "elsewhere").exists()
    assert case.served.gateway.paths == ("files",)


def test_a_call_under_way_ends_under_the_policy_it_began_with(tmp_path: Path) -> None:
    """Its second attempt, after the change, still goes where its own policy says."""
    path = tmp_path / "policy.yaml"
    waits, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def first(handler: Any, sent: bytes) -> None:
        seen.append("first")
        waits.set()
        assert go_on.wait(10)
        handler.send_response(503)
        handler.end_headers()

    def second(handler: Any, sent: bytes) -> None:
        seen.append("second")

    with upstream(first) as one, upstream(second) as other:
        text = (
            f"models:\n  main: {{model: a, base_url: '{one}'}}\n"
            f"  spare: {{model: b, base_url: '{other}'}}\nfallback: {{main: [spare]}}\n"
        )
        path.write_text(BASE + text)
        policy = {k: v for k, v in load_policy(path).model_dump().items() if k == "models"}
        with gateway(None, {**policy, "fallback": {"main": ["spare"]}}) as case:
            watched = Watched(case, path)
            ask = {**body(), "model": "main"}
            answers: list[int] = []
            asking = threading.Thread(target=lambda: answers.append(case.post(ask).status_code))
            asking.start()
            assert waits.wait(10)
            watched.write(f"models: {{main: {{model: a, base_url: '{one}'}}}}\n")
            go_on.set()
            asking.join(10)
            watched.close()
    assert answers == [200]
    assert seen == ["first", "second"]
