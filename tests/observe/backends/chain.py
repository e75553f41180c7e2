"""A task of five agents in two processes: `python -m tests.observe.backends.chain ROLE URL`.

The orchestrator plans, looks up hotels itself while a worker process looks up flights, brings both
together, and has an agent that calls the same tool for ever until the loop guard stops it. Real
runtimes, a real provider (the emulator, at URL); spans go where OTEL_EXPORTER_OTLP_ENDPOINT says.
As `alone` it does without the second process.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import httpx

import clawmw
from clawmw.core.identity import Identity
from clawmw.observe.otel import OtelObserver

SECRET = "quail-lantern-7"
"""Stands in every prompt, answer, tool argument and result."""
CHAIN = "trip-42"
MODEL = "deepseek-v4-flash"
PLANNER = Identity(agent="planner", session="s-planner", chain=CHAIN)
HOTELS = replace(PLANNER, agent="hotels", session="s-hotels", hop=1)
FLIGHTS = replace(PLANNER, agent="flights", session="s-flights", hop=1)
MERGER = replace(PLANNER, agent="merger", session="s-merger", joined=(HOTELS, FLIGHTS))
LOOPER = replace(PLANNER, agent="looper", session="s-looper", hop=1)
POLICY: dict[str, Any] = {
    "version": 1,
    "loop_guard": {"nudge": 2, "refuse": 3, "stop": 4},
    "store": "memory",
    "trace": {"store": False},
}
SYSTEM = f"You plan trips. The word is {SECRET}. " * 400
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def ask(url: str, runtime: Any, identity: Identity, messages: list[Any], tools: Any = None) -> Any:
    """One call through clawmw; the message answered, or None where it was stopped."""
    body = {"model": MODEL, "messages": messages} | ({"tools": tools} if tools else {})
    with clawmw.http_client(runtime, identity=identity) as client:
        answer: httpx.Response = client.post(f"{url}/chat/completions", json=body)
    return answer.json()["choices"][0]["message"] if answer.is_success else None


def turns(url: str, runtime: Any, identity: Identity, count: int) -> None:
    messages = [{"role": "system", "content": SYSTEM}]
    for number in range(count):
        messages.append({"role": "user", "content": f"{SECRET}: question {number}"})
        messages.append(ask(url, runtime, identity, messages))


def loop(url: str, runtime: Any) -> None:
    """Ask for the same again and again, as an agent does whose model goes in circles."""
    messages: list[Any] = [{"role": "system", "content": "Loop."}, {"role": "user", "content": "?"}]
    for number in range(9):
        call = {"name": "look_up", "arguments": f'{{"what": "{SECRET}"}}'}
        asked = [{"id": f"c{number}", "type": "function", "function": call}]
        messages.append({"role": "assistant", "content": None, "tool_calls": asked})
        messages.append({"role": "tool", "tool_call_id": f"c{number}", "content": f"no {SECRET}"})
        if ask(url, runtime, LOOPER, messages, [TOOL]) is None:
            return
    raise SystemExit("nothing stopped the loop")


def main(role: str, url: str) -> None:
    runtime = clawmw.Runtime.of(clawmw.load_policy(POLICY))
    observer = next(o for o in runtime.observers if isinstance(o, OtelObserver))
    if role == "worker":
        with observer.agent(FLIGHTS, "flights"):
            turns(url, runtime, FLIGHTS, 2)
    else:
        with observer.chain(PLANNER, "book a trip"):
            with observer.agent(PLANNER, "planner"):
                turns(url, runtime, PLANNER, 2)
            command = [sys.executable, "-m", "tests.observe.backends.chain", "worker", url]
            worker = subprocess.Popen(command) if role == "orchestrator" else None
            with observer.agent(HOTELS, "hotels"):
                turns(url, runtime, HOTELS, 2)
            if worker is None:
                with observer.agent(FLIGHTS, "flights"):
                    turns(url, runtime, FLIGHTS, 2)
            elif worker.wait(60):
                raise SystemExit("the worker failed")
            with observer.agent(MERGER, "merger"):
                turns(url, runtime, MERGER, 1)
            with observer.agent(LOOPER, "looper"):
                loop(url, runtime)
    if not observer.flush(30):
        raise SystemExit("the spans did not go out in time")
    observer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
