"""A provider that flows can be run against: in process, or as a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from clawmw.flow.langgraph import FlowRunner, Outcome
from clawmw.flow.models import Flow
from clawmw.flow.plan import Plan, make_plan
from clawmw.flow.tools import Tool
from clawmw.flow.turns import ModelCall, ModelReply

Answer = str | Mapping[str, Any]
"""A text, or a whole assistant message."""
Brain = Callable[[dict[str, Any]], Answer]

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 60},
}


def asks(name: str, arguments: Mapping[str, Any] | str = "{}", call_id: str = "c1") -> Answer:
    """An assistant message that asks for one tool."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": name, "arguments": text}
    call = {"id": call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def completion(answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer} if isinstance(answer, str) else dict(answer)
    return {"choices": [{"index": 0, "message": message}], "usage": USAGE}


def last(body: Mapping[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def tool(name: str, run: Callable[[dict[str, Any]], Any]) -> Tool:
    schema = {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    return Tool(name, schema, run)


class Bench:
    """Runs flows with a brain in process; `calls` is what was sent."""

    def __init__(self, checkpoints: Path) -> None:
        self.checkpoints = checkpoints
        self.brain: Brain = last
        self.tools: dict[str, tuple[Tool, ...]] = {}
        self.calls: list[ModelCall] = []
        self.stopped: str | None = None

    def plan(self, raw: Mapping[str, Any], name: str = "f") -> Plan:
        full = {"agents": {"a": {"model": "main"}}, **raw}
        flow = Flow.model_validate(full)
        return make_plan(name, flow, models=("main", "light"), tools=self.tools)

    def runner(self, plan: Plan | Mapping[str, Any], **more: Any) -> FlowRunner:
        ready = plan if isinstance(plan, Plan) else self.plan(plan)
        return FlowRunner(ready, call=self.call, checkpoints=self.checkpoints, **more)

    def run(self, plan: Plan | Mapping[str, Any], thread: str = "t", **inputs: Any) -> Outcome:
        return self.runner(plan).run(inputs, thread)

    def call(self, call: ModelCall) -> ModelReply:
        self.calls.append(call)
        if self.stopped is not None:
            return ModelReply({}, self.stopped, "the budget is used up")
        return ModelReply(completion(self.brain(call.body)))

    def sent(self, index: int = -1) -> list[str]:
        """The texts of one request's messages."""
        return [str(m["content"]) for m in self.calls[index].body["messages"]]


class Provider:
    """A chat-completions server on loopback that keeps the raw bytes it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.brain: Brain = last
        self.hang_at: int | None = None
        """The request (from 1) that is never answered."""
        self.reply_headers: dict[str, str] = {}
        self.status = 200
        self.arrived = threading.Condition()
        self.release = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def wait_for(self, count: int, seconds: float) -> bool:
        """Whether that many requests have arrived, waiting for a while."""
        with self.arrived:
            return self.arrived.wait_for(lambda: len(self.bodies) >= count, seconds)

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with provider.arrived:
                    provider.bodies.append(body)
                    provider.headers.append({k.lower(): v for k, v in self.headers.items()})
                    number = len(provider.bodies)
                    provider.arrived.notify_all()
                if number == provider.hang_at:
                    provider.release.wait(30)
                    self.close_connection = True
                    return
                answer = json.dumps(completion(provider.brain(json.loads(body)))).encode()
                self.send_response(provider.status)
                for name, value in provider.reply_headers.items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
