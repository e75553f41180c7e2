"""The demo's flow, killed in the middle: it goes on, and the provider sees nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clawmw.cli.main import main
from clawmw.emulator import Emulator, Reply
from clawmw.emulator.trip import brain, check


class Brain:
    """The trip's brain; it never answers request number `hang_at`.

    The ids of its tool calls depend on the request alone, so that two runs can be compared.
    """

    def __init__(self) -> None:
        self.hang_at = 0
        self.count = 0
        self.released = threading.Event()

    def __call__(self, body: dict[str, Any]) -> Reply:
        self.count += 1
        if self.count == self.hang_at:
            self.released.wait(60)
        reply, place = brain(body), len(body["messages"])
        tools = (replace(use, id=f"call-{place}-{i}") for i, use in enumerate(reply.tools))
        return replace(reply, tools=tuple(tools))


@pytest.fixture
def provider() -> Iterator[tuple[Emulator, Brain]]:
    mind = Brain()
    with Emulator(brain=mind, bill="openai") as emulator:
        yield emulator, mind
        mind.released.set()


def policy_in(folder: Path) -> Path:
    """The demo's policy with its state on disk: what was asked back must outlive the process.

    The model is one that takes no cache marks: those are hints, placed by what is warm.
    """
    folder.mkdir()
    policy, desk = (
        (files("clawmw.demo") / name).read_text("utf-8") for name in ("trip.yaml", "desk.md")
    )
    for old, new in (
        ("store: memory", "store: {disk: state}"),
        ("main: anthropic/claude-sonnet-5-5", "main: openai/gpt-5.6"),
    ):
        assert policy.count(old) == 1
        policy = policy.replace(old, new)
    (folder / "desk.md").write_text(desk, "utf-8")
    (folder / "trip.yaml").write_text(policy, "utf-8")
    return folder / "trip.yaml"


def arguments(policy: Path, url: str, *words: str) -> list[str]:
    checkpoints = policy.with_name("flows.sqlite")
    files_ = ["--policy", str(policy), "--checkpoints", str(checkpoints)]
    return ["flow", *words, *files_, "--upstream", url, "--json"]


def finish(args: list[str]) -> dict[str, Any]:
    with CliRunner().isolation() as (out, err, _):
        code = main(args)
        assert code == 0, err.getvalue().decode()
        return dict(json.loads(out.getvalue()))


def bodies(emulator: Emulator) -> list[str]:
    return [json.dumps(r.body, ensure_ascii=False) for r in emulator.requests]


def answered(emulator: Emulator) -> list[int]:
    """The requests, from 1, in which a model is told what it asked back for."""
    return [
        number
        for number, request in enumerate(emulator.requests, 1)
        if "clawmw_expand"
        in json.dumps([m.get("tool_calls") for m in request.body["messages"][-4:]])
    ]


@pytest.mark.parametrize("which", [pytest.param(0, marks=pytest.mark.slow), -1])
def test_a_killed_run_resumes_with_the_same_requests(
    tmp_path: Path, provider: tuple[Emulator, Brain], which: int
) -> None:
    emulator, mind = provider
    run = ("run", "trip", "--thread", "t")
    whole = finish(arguments(policy_in(tmp_path / "whole"), emulator.base_url, *run))
    reference = bodies(emulator)
    assert check(whole["output"]) == []
    at = answered(emulator)[which]

    emulator.requests.clear()
    mind.count, mind.hang_at = 0, at
    policy = policy_in(tmp_path / "killed")
    command = [sys.executable, "-m", "clawmw.cli.main"]
    log = tmp_path / "stderr"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [*command, *arguments(policy, emulator.base_url, *run)],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as process,
    ):
        while mind.count < at:
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        process.kill()
    mind.hang_at = 0

    resumed = finish(arguments(policy, emulator.base_url, "resume", "t"))
    assert check(resumed["output"]) == []
    assert resumed["output"] == whole["output"]
    assert resumed["calls"] == whole["calls"]
    sent = bodies(emulator)
    assert sent[:at] == reference[:at]
    assert sent[at:] == reference[at - 1 :], "the interrupted request once more, then the rest"
