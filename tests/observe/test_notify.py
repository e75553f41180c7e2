"""Who is told: a command and a webhook, seldom, without content, and never in the way."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clawmw.cli.main import cli
from clawmw.core.events import BreakerTurned
from clawmw.core.identity import Identity
from clawmw.errors import ClawmwError, PolicyError
from clawmw.observe import notify
from clawmw.observe.notify import Notifier, send
from clawmw.policy import build
from clawmw.policy.load import load_policy
from clawmw.testing import Bench

ASK = [{"role": "user", "content": "the secret plan"}]
WRITES = "import sys, pathlib; pathlib.Path('told').open('a').write(sys.stdin.read() + chr(10))"


def told(folder: Path) -> list[dict[str, Any]]:
    path = folder / "told"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def notifier(folder: Path, **options: Any) -> Notifier:
    return Notifier(f'{sys.executable} -c "{WRITES}"', None, folder, 600.0, **options)


def stop_twice(case: Bench) -> None:
    for _ in range(3):
        case.send(ASK)


def test_a_stopped_chain_is_told_once_and_without_content(tmp_path: Path) -> None:
    told_by = notifier(tmp_path)
    for chain in ("one", "two"):
        case = Bench({"version": 1, "budget": {"chain": {"calls": 1}}})
        case.runtime.observers = (told_by,)
        case.identity = Identity(session="s", chain=chain, agent="planner")
        stop_twice(case)
    assert told_by.flush(10)
    news = told(tmp_path)
    assert [n["chain"] for n in news] == ["one", "two"]
    assert {n["event"] for n in news} == {"stopped"}
    assert news[0]["rule"] == "budget.chain.calls"
    assert news[0]["limit"]
    assert news[0]["agent"] == "planner"
    assert "secret" not in (tmp_path / "told").read_text()
    assert (told_by.told, told_by.held_back) == (2, 2)


def test_what_is_only_observed_is_not_told(tmp_path: Path) -> None:
    told_by = notifier(tmp_path)
    case = Bench({"version": 1, "mode": "observe", "budget": {"chain": {"calls": 1}}})
    case.runtime.observers = (told_by,)
    stop_twice(case)
    assert told_by.flush(1)
    assert told(tmp_path) == []


def test_an_open_breaker_is_told_and_no_more_than_sixty_an_hour(tmp_path: Path) -> None:
    now = [0.0]
    told_by = notifier(tmp_path, clock=lambda: now[0])
    told_by.command = f'{sys.executable} -c ""'
    for number in range(100):
        told_by(BreakerTurned("x", 1.0, f"model {number}", "open"))
    told_by(BreakerTurned("x", 1.0, "model 0", "closed"))
    assert told_by.held_back == 40
    now[0] = 3700.0
    told_by(BreakerTurned("x", 1.0, "model 0", "open"))
    assert told_by.held_back == 40


def test_a_budget_near_its_limit_is_told(tmp_path: Path) -> None:
    told_by = notifier(tmp_path)
    case = Bench({"version": 1, "budget": {"chain": {"calls": 5}}})
    case.runtime.observers = (told_by,)
    for _ in range(5):
        case.send(ASK)
    assert told_by.flush(10)
    (news,) = told(tmp_path)
    assert (news["event"], news["scope"], news["meter"]) == ("budget_near", "chain", "calls")
    assert news["limit"] == 5
    assert news["used"] >= 4


def test_a_command_that_hangs_ends_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_SECONDS", 0.5)
    script = tmp_path / "hangs.sh"
    script.write_text("#!/bin/sh\nsleep 60 &\necho $! > child\nwait\n")
    script.chmod(0o700)
    with pytest.raises(ClawmwError, match=r"longer than 0\.5 s"):
        send({"event": "test"}, command="./hangs.sh", webhook=None, folder=tmp_path)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 3
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()  # Z: dead, not yet reaped
    except OSError:
        return False


def test_a_command_that_fails_is_counted_and_delays_nothing(tmp_path: Path) -> None:
    told_by = Notifier(f'{sys.executable} -c "raise SystemExit(3)"', None, tmp_path, 1.0)
    began = time.monotonic()
    told_by(BreakerTurned("x", 1.0, "m", "open"))
    assert time.monotonic() - began < 0.2
    assert told_by.flush(10)
    assert (told_by.told, told_by.failed) == (0, 1)


@pytest.fixture
def hook() -> Iterator[tuple[str, list[bytes], list[int]]]:
    got: list[bytes] = []
    status = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status[0])
            self.send_header("location", "http://127.0.0.1:1/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got, status
    server.shutdown()
    server.server_close()


def test_a_webhook_gets_a_post_and_a_redirect_is_not_followed(
    hook: tuple[str, list[bytes], list[int]], tmp_path: Path
) -> None:
    url, got, status = hook
    send({"event": "test"}, command=None, webhook=url, folder=tmp_path)
    assert json.loads(got[0]) == {"event": "test"}
    status[0] = 307
    with pytest.raises(ClawmwError, match="HTTP 307"):
        send({"event": "test"}, command=None, webhook=url, folder=tmp_path)


def test_the_policy_names_who_is_told(tmp_path: Path) -> None:
    policy = load_policy({"version": 1, "trace": "off", "notify": {"command": "./page-me.sh"}})
    (observer,) = build.observers(policy)
    assert isinstance(observer, Notifier)
    assert build.observers(load_policy({"version": 1, "trace": "off"})) == ()
    for broken in ("", "say 'hello"):
        with pytest.raises(PolicyError, match=r"notify\.command"):
            load_policy({"version": 1, "notify": {"command": broken}})
    with pytest.raises(PolicyError, match="https"):
        load_policy({"version": 1, "notify": {"webhook": "http://example.com/x"}})


def test_the_command_line_sends_a_test(tmp_path: Path) -> None:
    script = tmp_path / "page-me.sh"
    script.write_text("#!/bin/sh\ncat > got\n")
    script.chmod(0o700)
    path = tmp_path / "clawmw.yaml"
    path.write_text("version: 1\nnotify: {command: ./page-me.sh}\n")
    done = CliRunner().invoke(cli, ["notify", "--policy", str(path)])
    assert (done.exit_code, done.output) == (0, "sent\n")
    assert json.loads((tmp_path / "got").read_text())["event"] == "test"
    path.write_text("version: 1\n")
    assert CliRunner().invoke(cli, ["notify", "--policy", str(path)]).exit_code != 0
