"""What the gateway adds to a call: `python -m benchmarks.gateway`.

An agent's session of 60 KB bodies, each going on from the last by one tool result, sent to
an emulated provider directly and through gateways (`clawmw serve`, one process each), call
by call in turns, so that whatever else the machine does falls on all alike. Milliseconds
as the client sees them; what is added is the difference to going there directly.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

RESULTS = Path(__file__).parent / "results" / "gateway.json"
SIZE = 60_000
POLICY = "version: 1\nbudget: {chain: {calls: 100000}}\n"
POLICIES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "switched off": (f"{POLICY}trace: off\n", {"CLAWMW_OFF": "1"}),
    "in memory": (f"{POLICY}trace: off\n", {}),
    "disk and trace": (f"{POLICY}store: {{disk: store}}\ntrace: {{store: traces.sqlite}}\n", {}),
}


def sessions(count: int) -> Iterator[list[bytes]]:
    """The bodies of agents' sessions, call by call, from 54 to 66 KB."""
    dice = random.Random(7)
    for number in range(count):
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "Follow the rules. " * 60},
            {"role": "user", "content": f"Find out why build {number} fails and fix it."},
        ]
        while len(json.dumps(messages)) < SIZE * 0.9:
            lines = [
                f"{dice.random():.6f} worker did job {dice.randrange(9999)}" for _ in range(40)
            ]
            messages += _turn(len(messages), "\n".join(lines))
        bodies: list[bytes] = []
        while not bodies or len(bodies[-1]) < SIZE * 1.1:
            bodies.append(json.dumps({"model": "gpt-4o", "messages": messages}).encode())
            messages += _turn(len(messages), f"exit code {len(bodies)}")
        yield bodies


def _turn(number: int, result: str) -> list[dict[str, Any]]:
    function = {"name": "run", "arguments": json.dumps({"n": number})}
    call = {"id": f"c{number}", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": result},
    ]


@contextmanager
def command(*args: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A clawmw command that serves, as a process; its base URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "clawmw.cli.main", *args, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
            yield found.removesuffix("/v1")
        finally:
            process.terminate()


class Client:
    """One connection that is kept open."""

    def __init__(self, name: str, address: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {name}"}

    def ask(self, body: bytes) -> tuple[float, float]:
        """Seconds to the first byte of the answer's body, and to its last."""
        began = time.perf_counter()
        self._connection.request("POST", "/v1/chat/completions", body, self._headers)
        response = self._connection.getresponse()
        first = response.read(1)
        begun = time.perf_counter() - began
        rest = response.read()
        done = time.perf_counter() - began
        if response.status != 200:
            raise SystemExit(f"HTTP {response.status}: {(first + rest)[:200]!r}")
        return begun, done

    def close(self) -> None:
        self._connection.close()


def measure(clients: Mapping[str, Client], asked: list[list[bytes]]) -> dict[str, Any]:
    """Each client's p50 and p99 to the last byte, and p50 to the first, in milliseconds.

    The first calls of a session, in which a process sees 54 KB for the first time, are
    not counted: no agent begins with that much.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
    names = list(clients)
    for bodies in asked:
        for number, body in enumerate(bodies):
            for step in range(len(names)):
                name = names[(number + step) % len(names)]
                took = clients[name].ask(body)
                if number >= 2:
                    times[name].append(took)
    found = {}
    for name, taken in times.items():
        whole = statistics.quantiles([done for _, done in taken], n=100)
        first = statistics.median([begun for begun, _ in taken])
        found[name] = {"p50": whole[49] * 1e3, "p99": whole[98] * 1e3, "first_p50": first * 1e3}
    return found


def streamed(body: bytes) -> bytes:
    """The same call, its answer asked for as a stream."""
    return body[:-1] + b', "stream": true}'


def run(count: int) -> dict[str, Any]:
    """Both kinds of answer over each policy, in `count` sessions beside direct calls."""
    asked = list(sessions(count))
    kinds = {"whole": asked, "stream": [[streamed(body) for body in bodies] for bodies in asked]}
    rows: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = stack.enter_context(command("emulate"))
        for name, (policy, env) in POLICIES.items():
            path = folder / f"{name.replace(' ', '-')}.yaml"
            path.write_text(policy)
            args = ("serve", "--policy", str(path), "--upstream", f"{provider}/v1")
            home = {"XDG_STATE_HOME": str(folder / "state")}
            with command(*args, env={**env, **home}) as address:
                clients = {"direct": Client("direct", provider), "gateway": Client(name, address)}
                for kind, bodies in kinds.items():
                    rows.setdefault(kind, {})[name] = summary(measure(clients, bodies))
                for client in clients.values():
                    client.close()
    return rows


def summary(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """What a gateway adds, and how many times as long a call takes."""
    direct, gateway = found["direct"], found["gateway"]
    row = {f"direct_{key}": value for key, value in direct.items()}
    row |= {f"gateway_{key}": value for key, value in gateway.items()}
    row |= {f"added_{key}": gateway[key] - direct[key] for key in direct}
    row["ratio_p50"] = gateway["p50"] / direct["p50"]
    return {key: round(value, 2) for key, value in row.items()}


def show(rows: dict[str, Any]) -> None:
    """The table."""
    print(f"{SIZE // 1000} KB bodies, one worker, milliseconds (added: minus direct)\n")
    columns = ("direct_p50", "gateway_p50", "added_p50", "added_p99", "added_first_p50")
    print(f"{'':24}" + "".join(f"{name.replace('_', ' '):>16}" for name in columns))
    for kind, policies in rows.items():
        for name, row in policies.items():
            print(f"{kind + ', ' + name:24}" + "".join(f"{row[c]:16.2f}" for c in columns))


def main() -> None:
    """Measure, show; with `--save` write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=6, help="of some 50 calls each")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    rows = run(options.sessions)
    show(rows)
    packages = ("clawmw", "aiohttp", "h11", "httpx", "starlette", "uvicorn")
    result = {
        "unit": "ms, as the client sees it",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "python": ".".join(map(str, sys.version_info[:3])),
            **{name: version(name) for name in packages},
        },
        "body_bytes": SIZE,
        "sessions": options.sessions,
        "rows": rows,
    }
    if options.save:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
