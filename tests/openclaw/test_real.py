"""A real OpenClaw behind a real gateway: what reaches the model, and what its user sees.

`pytest -m external tests/openclaw`. The first run gets OpenClaw and its Node from the npm registry
(650 MB) into a cache folder, or where `CLAWMW_OPENCLAW` says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clawmw.emulator import Emulator
from clawmw.emulator.brains import text_of
from tests.openclaw.real import OpenClaw, brain, installed

pytestmark = [pytest.mark.external, pytest.mark.timeout(900)]

CALLS = 12
POLICY = f"""\
version: 1
budget: {{chain: {{calls: {CALLS}}}}}
loop_guard: false       # the limit is what is tried here
models: {{fake: {{model: fake-1, profile: gpt-5.6}}}}
store: {{disk: store}}
"""
SKILL = Path(__file__).parents[2] / "skills" / "clawmw-costs"
CLAWMW = [sys.executable, "-m", "clawmw.cli.main"]


@pytest.fixture(scope="module", autouse=True)
def _there() -> None:
    missing = installed()
    if missing:
        pytest.skip(f"no OpenClaw: {missing}")


class Lab:
    """An OpenClaw, the gateway it was led to, and the model behind that."""

    def __init__(self, claw: OpenClaw, emulator: Emulator, env: dict[str, str]) -> None:
        self.claw, self.emulator, self.env = claw, emulator, env

    def clawmw(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLAWMW, *args], env=self.env, capture_output=True, text=True, check=False, timeout=90
        )

    def chains(self) -> list[dict[str, Any]]:
        """What was traced, newest first."""
        found: list[dict[str, Any]] = json.loads(self.clawmw("traces", "--json").stdout)
        return found

    def spans(self, trace: str) -> list[dict[str, Any]]:
        shown = json.loads(self.clawmw("traces", "show", trace, "--json").stdout)
        return [span for span in shown["spans"] if span["op"] == "chat"]


@contextmanager
def lab(home: Path, **more: Any) -> Iterator[Lab]:
    policy = home / "policy.yaml"
    policy.write_text(POLICY)
    with Emulator(bill="openai", brain=brain) as emulator:
        claw = OpenClaw(home / "claw", emulator.port, **more)
        claw.env["PATH"] = f"{claw.env['PATH']}:{Path(sys.executable).parent}"
        claw.env["XDG_STATE_HOME"] = str(home / "xdg")
        shutil.copytree(SKILL, claw.home / "workspace" / "skills" / SKILL.name)
        env = {**os.environ, **claw.env}
        serve = [*CLAWMW, "serve", "--policy", str(policy), "--port", "0"]
        with subprocess.Popen(
            [*serve, "--upstream", emulator.base_url], env=env, stdout=subprocess.PIPE, text=True
        ) as gateway:
            assert gateway.stdout is not None
            url = re.search(r"http://[\d.:]+", gateway.stdout.readline())
            assert url is not None
            made = Lab(claw, emulator, env)
            done = made.clawmw("openclaw", "setup", "--url", url[0], "--policy", str(policy))
            assert done.returncode == 0, done.stderr
            try:
                yield made
            finally:
                gateway.send_signal(signal.SIGTERM)
                gateway.wait(20)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """For turns in processes of their own."""
    with lab(tmp_path_factory.mktemp("local")) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(local: Lab) -> None:
    local.emulator.requests.clear()


def session(name: str, model: str = "fake/fake-1") -> tuple[str, ...]:
    return "--local", "--session-id", name, "--model", model


def test_its_config_is_right_after_setup(local: Lab) -> None:
    done = local.clawmw("openclaw", "check")
    assert done.returncode == 0, done.stdout
    assert local.claw.run("config", "validate").returncode == 0
    assert local.claw.config.read_text().startswith("// made for a test\n")


def test_a_tool_round_trip(local: Lab) -> None:
    ask = 'please read note.txt [[tool:read {"path":"note.txt"}]]'
    turn = local.claw.turn(ask, *session("s1"))
    assert (turn.code, turn.text) == (0, "Done after 1 results."), turn.stderr[-2000:]
    first, second = local.emulator.requests
    assert "hello file content 42" in json.dumps(second.body["messages"])
    # Hints that a provider's cache goes by; the message that is sent last and never kept has none.
    for request in (first, second):
        assert request.body["prompt_cache_key"] == "s1:0" or "clawmw" in str(request.body)
    marked = [m for m in second.body["messages"] if "prompt_cache_breakpoint" in json.dumps(m)]
    assert marked
    assert marked[-1] is not second.body["messages"][-1]
    [chain] = local.chains()[:1]
    assert (chain["calls"], chain["agents"], chain["status"]) == (2, 1, "ok")
    spans = local.spans(chain["trace_id"])
    assert {(span["agent"], span["session_id"]) for span in spans} == {("main", "s1")}
    assert sum(span["cache_read_tokens"] or 0 for span in spans) > 9000


def test_an_agent_asks_what_it_may_still_do(local: Lab) -> None:
    """It is told of the skill, and the skill's command works in its shell."""
    ask = '[[tool:exec {"command":"clawmw budget show --json"}]]'
    turn = local.claw.turn(ask, *session("s3"))
    assert turn.code == 0, turn.stderr[-2000:]
    first, second = local.emulator.requests
    assert "clawmw-costs" in json.dumps(first.body["messages"])
    [result] = [text_of(m["content"]) for m in second.body["messages"] if m["role"] == "tool"]
    assert "chain:" in result


def test_a_runaway_loop_ends_within_its_limit_and_says_so(local: Lab) -> None:
    """Left to itself it made 61 calls, and only the model's end stopped it."""
    turn = local.claw.turn('[[loop:read {"path":"note.txt"}]]', *session("s2"))
    assert turn.code == 0, turn.stderr[-2000:]
    assert f"the policy allows {CALLS} calls per chain (budget.chain.calls)" in turn.text
    assert len(local.emulator.requests) == CALLS
    [chain] = local.chains()[:1]
    assert chain["stops"] == 1


def test_a_tool_round_trip_in_anthropics_dialect(local: Lab) -> None:
    ask = 'please read note.txt [[tool:read {"path":"note.txt"}]]'
    turn = local.claw.turn(ask, *session("a1", "fakeanth/claude-fake"))
    assert (turn.code, turn.text) == (0, "Done after 1 results."), turn.stderr[-2000:]
    _, second = local.emulator.requests
    assert second.path == "/v1/messages"
    assert "hello file content 42" in json.dumps(second.body["messages"])
    # Its own marks go through; the message that is sent last and never kept has none.
    assert "cache_control" in json.dumps(second.body["system"])
    assert "cache_control" not in json.dumps(second.body["messages"][-1])
    [chain] = local.chains()[:1]
    assert {span["session_id"] for span in local.spans(chain["trace_id"])} == {"a1"}


def test_a_tool_round_trip_in_the_responses_dialect(local: Lab) -> None:
    ask = 'please read note.txt [[tool:read {"path":"note.txt"}]]'
    turn = local.claw.turn(ask, *session("r1", "fakeresp/fake-resp"))
    assert (turn.code, turn.text) == (0, "Done after 1 results."), turn.stderr[-2000:]
    _, second = local.emulator.requests
    assert second.path == "/v1/responses"
    assert "hello file content 42" in json.dumps(second.body["input"])
    [chain] = local.chains()[:1]
    assert (chain["calls"], chain["status"]) == (2, "ok")
    assert {span["session_id"] for span in local.spans(chain["trace_id"])} == {"r1"}


def test_a_sub_agent_is_of_its_parents_chain(tmp_path_factory: pytest.TempPathFactory) -> None:
    """As users run it: OpenClaw's own gateway, the child and the announcement in between."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = {"mode": "token", "token": "t" * 40}
    home = tmp_path_factory.mktemp("gateway")
    place = {"mode": "local", "port": port, "bind": "loopback", "auth": token}
    with lab(home, gateway=place) as made:
        claw = made.claw
        with (
            (home / "log").open("wb") as log,
            subprocess.Popen(
                ["openclaw", "gateway", "run"],
                env=claw.env,
                cwd=claw.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as daemon,
        ):
            try:
                _until_it_listens(port, home / "log")
                args = (
                    '{"id":"sessions_spawn","args":{"task":"child task: say hello","mode":"run"}}'
                )
                turn = claw.turn(f"[[tool:tool_call {args}]]", "--session-key", "agent:main:x")
                assert turn.code == 0, turn.stderr[-2000:]
                spans = _until_announced(made)
            finally:
                os.killpg(daemon.pid, signal.SIGKILL)  # it drains for up to five minutes
    kinds = [span["kind"] for span in spans]
    assert kinds.count("subagent") >= 1
    assert kinds.count(None) >= 2
    assert "announce" in kinds
    assert len({span["session_id"] for span in spans}) == 2
    assert len({span["trace_id"] for span in spans}) == 1


def _until_it_listens(port: int, log: Path) -> None:
    deadline = time.monotonic() + 180
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.5)


def _until_announced(made: Lab) -> list[dict[str, Any]]:
    """The calls of the chain once the parent was told of its child's end."""
    deadline = time.monotonic() + 180
    while True:
        for chain in made.chains():
            spans = made.spans(chain["trace_id"])
            if any(s["kind"] == "announce" for s in spans):
                return spans
        assert time.monotonic() < deadline, made.chains()
        time.sleep(2)
