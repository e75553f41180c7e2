"""The laws that every registered stage keeps, alone and with all the others.

Each test also counts how often the stages acted: a law over stages that never do anything
holds for nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from clawmw.stages.base import registered
from clawmw.testing import Bench, check_call, check_session
from tests.conftest import histories, tool
from tests.laws.dialects import Messages, numbered, refusing
from tests.laws.strategies import Session, drawn, sessions

TOOLS = [tool("search"), tool("read"), tool("tool_call")]
MODELS: dict[str, Any] = {"light": "fake-light", "fake": "fake"}
ON: dict[str, Any] = {
    "compress": {"level": "aggressive", "floor": 30},
    "dedupe": {"floor": 20},
    "budget": {"chain": {"calls": 8, "input_tokens": "100M"}},
    "epochs": {"keep": 1, "gain": "1%"},
    "loop_guard": {"nudge": 2, "refuse": 3, "stop": 4},
    "route": [
        {"when": "kind == 'title'", "to": "light"},
        {"when": "messages > 6", "to": "light"},
    ],
}
"""Settings that make each stage act on small conversations."""
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in registered()},
    "prompt_cache": ("prompt_cache", {"model": "fake", "profile": "claude-sonnet-4-5"}),
    "prompt_cache, keyed": ("prompt_cache", {"model": "fake", "profile": "gpt-4o"}),
    "prompt_cache, breakpoints": ("prompt_cache", {"model": "fake", "profile": "gpt-5.6"}),
    "epochs": ("epochs", {"model": "fake", "profile": "claude-sonnet-4-6"}),
    "window": ("window", {"model": "fake", "profile": "ernie-4.0-turbo-8k"}),
}
"""The stage, and what its model is."""
IDLE = 8000.0
"""Seconds that pass before each call, so that caches of any lifetime go cold."""
LEAST = 5
"""Times that a stage must have acted over a run."""
OTHERS = {"admission", "breaker", "degrade", "fallback", "reuse", "single_flight"}
"""These act on what becomes of other calls: tests/traffic and tests/stages have that."""


def laws(examples: int) -> Callable[[Any], Any]:
    """The same conversations on every run."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=quiet,
        derandomize=True,
        database=None,
    )


def only(name: str, model: dict[str, Any]) -> dict[str, Any]:
    """A policy with one stage, and what it cannot do without."""
    policy: dict[str, Any] = {"version": 1, "models": MODELS | ({"fake": model} if model else {})}
    needs = {"compress": ["expand"], "expand": ["compress"], "epochs": ["compress", "expand"]}
    for section in registered():
        used = section in (name, *needs.get(name, ()))
        policy[section] = ON.get(section, True) if used else False
    if name == "epochs":
        policy["compress"] = "balanced"  # or nothing shorter is left
    return policy


def run(
    policy: dict[str, Any], examples: int, *, tools: bool = True, messages: bool = False
) -> Counter[str]:
    """Hold sessions under the policy against the laws; how often each stage acted.

    `messages`: in Anthropic's dialect.
    """
    seen: Counter[str] = Counter()

    @given(session=sessions)
    @laws(examples)
    def check(session: Session) -> None:
        said = numbered(session.messages) if messages else session.messages
        seen.update(
            check_session(
                policy,
                histories(said),
                tools=TOOLS if tools else (),
                model=refusing if messages else drawn,
                identity=session.identity,
                bench=Messages if messages else Bench,
                **session.params,
            )
        )

    check()
    return seen


def run_idle(policy: dict[str, Any], examples: int) -> Counter[str]:
    """The same where every cache goes cold between two calls."""
    seen: Counter[str] = Counter()

    @given(session=sessions)
    @laws(examples)
    def check(session: Session) -> None:
        calls, who = histories(session.messages), session.identity
        told = check_session(
            policy, calls, tools=TOOLS, model=drawn, identity=who, idle=IDLE, **session.params
        )
        seen.update(told)

    check()
    return seen


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_stage_alone(case: str) -> None:
    name, model = CASES[case]
    acted = (run_idle if name == "epochs" else run)(only(name, model), 30)
    assert acted[name] >= LEAST or name in OTHERS, f"the laws hold for nothing: {acted}"


@pytest.mark.parametrize(("messages", "examples"), [(False, 60), (True, 25)])
def test_all_stages_together(messages: bool, examples: int) -> None:
    fake = {"model": "fake", "profile": "claude-sonnet-4-5"}
    policy = {"version": 1, "models": MODELS | {"fake": fake}, **ON}
    acted = run(policy, examples, messages=messages)
    # Epochs need cold caches, windows long conversations: tests/laws/test_epochs.py has them.
    always = set(registered()) - {"epochs", "window"} - OTHERS
    assert {name for name in always if acted[name] >= LEAST} == always


def test_without_tools_nothing_is_cut_that_cannot_be_asked_back() -> None:
    acted = run({"version": 1, **{k: ON[k] for k in ("compress", "dedupe")}}, 30, tools=False)
    assert acted["compress"] >= LEAST
    assert not acted["expand"]


@given(session=sessions)
@laws(20)
def test_observing_sends_the_agents_bytes(session: Session) -> None:
    policy = {"version": 1, "mode": "observe", "models": MODELS, **ON}
    bench = Bench(policy, drawn, identity=session.identity)
    for messages in histories(session.messages):
        sent = bench.send(messages, tools=TOOLS, **session.params)
        check_call(bench, sent)
        assert sent.bodies == (sent.wire,)


# --- another process -------------------------------------------------------------------------


def digests(told: list[dict[str, Any]]) -> list[str]:
    """What is sent in each of the sessions, by a process that knows nothing of them."""
    found = []
    for one in told:
        session = Session(**one["session"])
        bench = Bench(one["policy"], drawn, identity=session.identity)
        for messages in histories(session.messages):
            sent = bench.send(messages, tools=TOOLS, **session.params)
            found.append(hashlib.blake2b(b"\n".join(sent.bodies), digest_size=8).hexdigest())
    return found


def test_the_same_bytes_in_another_process() -> None:
    told: list[dict[str, Any]] = []

    @given(session=sessions)
    @laws(15)
    def gather(session: Session) -> None:
        policy = {"version": 1, "models": MODELS, **ON}
        told.append({"policy": policy, "session": asdict(session)})

    gather()
    here = digests(told)
    code = (
        "import json, sys; from tests.laws.test_stages import digests; "
        "print(json.dumps(digests(json.load(sys.stdin))))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert json.loads(done.stdout) == here
