"""A client that is killed at one of clawmw's own writes: run by `test_kill`.

Arguments: folder, base URL of the model, the number of the write to die at (0: none), and whether
before or after it is made. Goes on after the last call whose answer it has.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clawmw
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.stores.disk_files import Database

CALLS = 5
POLICY: dict[str, Any] = {
    "version": 1,
    "trace": "off",
    "expand": False,
    "budget": {"chain": {"calls": 100, "usd": 100}},
}
ROWS = [{"id": n, "name": f"row {n}", "state": "open", "note": None} for n in range(40)]


def history(number: int) -> list[dict[str, Any]]:
    """What the agent sends as its call of that number."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Look at all pages."}]
    for page in range(number):
        function = {"name": "page", "arguments": json.dumps({"n": page})}
        call = {"id": f"c{page}", "type": "function", "function": function}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{page}", "content": json.dumps([page, *ROWS])},
        ]
    return messages


def dying(at: int, *, before: bool) -> None:
    """Kill this process at its write number `at`."""
    count, write = [0], Database.write

    @contextmanager
    def counted(self: Database, *, durable: bool) -> Iterator[Any]:
        count[0] += 1
        number = count[0]
        if number == at and before:
            os.kill(os.getpid(), signal.SIGKILL)
        with write(self, durable=durable) as connection:
            yield connection
        if number == at:
            os.kill(os.getpid(), signal.SIGKILL)

    Database.write = counted  # type: ignore[method-assign, assignment]


def main() -> None:
    """Make the calls that have no answer yet."""
    folder, url, at, when = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    runtime = Runtime.of(load_policy({**POLICY, "store": {"disk": str(folder / "store")}}))
    if at:
        dying(at, before=when == "before")
    who = clawmw.Identity(session="s", chain="c")
    with clawmw.http_client(runtime, identity=who, base_url=url) as client:
        for number in range(len(list(folder.glob("done-*"))), CALLS):
            body = {"model": "gpt-4o", "messages": history(number), "max_tokens": 50}
            answer = client.post("/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            (folder / f"done-{number}").write_text("")
    runtime.close()


if __name__ == "__main__":
    main()
