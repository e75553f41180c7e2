"""An agent's afternoon against a provider on loopback: every kind of thing that can happen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clawmw
from clawmw.core.events import CallFinished, Event
from clawmw.emulator import Emulator, Fault, Reply, ToolUse
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import rows, tool, turn

HOSTILE = "<script>alert('x')</script> \x1b[31mred\x1b[0m \u202eevil"
POLICY = """\
version: 1
models:
  light: {{model: deepseek/deepseek-v4-flash, base_url: "{url}"}}
compress: balanced
route:
  - {{when: "kind == 'title'", to: light}}
loop_guard: {{nudge: 3, refuse: 5, stop: 16}}
budget:
  chain: {{calls: 40, usd: 2.00}}
  agent: {{day: {{usd: 5}}}}
retry: {{attempts: 3, base: 20ms}}
redact: {{env: [SCENE_KEY]}}
trace: {{store: traces.sqlite, content: {content}}}
"""
TOOLS = [tool("search"), tool("read")]


class Scene:
    """Where it all is: policy, store, and the exchange of each named call."""

    def __init__(self, folder: Path, content: str, emulator: Emulator) -> None:
        self.policy = folder / "clawmw.yaml"
        self.store = folder / "traces.sqlite"
        self.policy.write_text(POLICY.format(url=emulator.base_url, content=content))
        self.emulator = emulator
        self.finished: list[str] = []
        self.calls: dict[str, str] = {}
        self.runtime = Runtime.of(load_policy(self.policy))
        self.runtime.observers = (*self.runtime.observers, self._note)

    def _note(self, event: Event) -> None:
        if isinstance(event, CallFinished):
            self.finished.append(event.exchange)

    def call(self, name: str, messages: list[dict[str, Any]], **more: Any) -> Any:
        """One call, by which it can be asked for later."""
        headers = {
            "content-type": "application/json",
            "x-clawmw-agent": "scout",
            "x-clawmw-session": more.pop("session", "lisbon"),
            "x-clawmw-chain": more.pop("chain", "trip-to-lisbon"),
            **more.pop("headers", {}),
        }
        body = {"model": "anthropic/claude-sonnet-5-5", "messages": messages, "tools": TOOLS}
        with clawmw.http_client(self.runtime, timeout=10) as client:
            answer = client.post(
                f"{self.emulator.base_url}/chat/completions",
                content=json.dumps({**body, **more}).encode(),
                headers=headers,
            )
            answer.read()
        self.calls[name] = self.finished[-1]
        return answer

    def close(self) -> None:
        """Write everything down."""
        for observer in self.runtime.observers:
            close = getattr(observer, "close", None)
            if close is not None:
                close()
        self.runtime.close()


def brain(body: dict[str, Any]) -> Reply:
    """Asks for one more page, or answers."""
    text = json.dumps(body["messages"][-1])
    if "page 2" in text or "title" in text:
        return Reply(text="TAP, 89 euros. The key is scene-secret-0815.")
    return Reply(tools=(ToolUse("search", {"q": "page"}),))


def told(pages: int) -> list[dict[str, Any]]:
    """What the agent sends after so many pages."""
    said: list[dict[str, Any]] = [
        {"role": "system", "content": f"You look for flights. {HOSTILE}"},
        {"role": "user", "content": "Find me the cheapest flight to Lisbon."},
    ]
    for number in range(pages):
        said += turn(f"c{number}", "search", {"q": f"page {number}"}, rows(60, seed=number))
    return said


def looping(times: int) -> list[dict[str, Any]]:
    """The same call with the same result, again and again."""
    said: list[dict[str, Any]] = [{"role": "user", "content": "Is the gate open?"}]
    for number in range(times):
        said += turn(f"g{number}", "search", {"q": "gate"}, "closed")
    return said


@contextmanager
def scene(folder: Path, content: str = "off") -> Iterator[Scene]:
    """The whole afternoon, written down."""
    with Emulator(bill="anthropic", brain=brain) as emulator:
        made = Scene(folder, content, emulator)
        made.call("first", told(0))
        made.call("pages", told(2), max_tokens=500)
        made.call("third", told(3), max_tokens=500)
        emulator.fail_next(Fault(status=503))
        made.call("retried", told(4))
        title = [{"role": "user", "content": "Give this a title: flights to Lisbon"}]
        made.call("title", title, session="title", headers={"x-clawmw-kind": "title"}, tools=[])
        for times in range(1, 7):
            made.call("loop", looping(times), session="gate", chain="gate")
        made.close()
        yield made
