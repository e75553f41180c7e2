"""A provider that takes next to no time: `python -m benchmarks.gateway.provider PORT`.

Bare asyncio, one answer for all: what is measured is what stands before it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from contextlib import suppress

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_USAGE = {"prompt_tokens": 15_000, "completion_tokens": 40, "total_tokens": 15_040}
_HEAD = {"id": "c1", "created": 0, "model": "gpt-4o"}


def _answer(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    body = {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    return json.dumps(body).encode()


def _event(delta: dict[str, str], reason: str | None = None, usage: object = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    kind = {"object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps({**_HEAD, **kind, "usage": usage}).encode() + b"\n\n"


def _whole(kind: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


_SAID = "the build fails since a worker did its job twice and nobody had asked it to"
_WORDS = re.findall(r"\w+", _SAID)
ANSWER = _whole(b"application/json", _answer(_SAID))
_EVENTS = [_event({"content": word + " "}) for word in _WORDS]
_LAST = _event({}, "stop", _USAGE) + b"data: [DONE]\n\n"
BEGINNING = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n" % len(data) + data + b"\r\n"


FIRST = BEGINNING + _chunk(_event({"role": "assistant", "content": ""}) + _EVENTS[0])
REST = [_chunk(event) for event in _EVENTS[1:]] + [_chunk(_LAST) + b"0\r\n\r\n"]


class Provider(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.pieces: list[bytes] = []
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        """Some of a request is there."""
        self.pieces.append(data)
        self.missing -= len(data)
        if self.missing > 0:
            return
        whole = b"".join(self.pieces)
        end = whole.find(b"\r\n\r\n")
        self.pieces = [whole]
        if end < 0:
            return
        found = _LENGTH.search(whole, 0, end + 2)
        self.missing = end + 4 + (int(found[1]) if found else 0) - len(whole)
        if self.missing <= 0:
            self.pieces = []
            self.answer(bool(_STREAM.search(whole, end)))

    def answer(self, stream: bool) -> None:
        """Answer."""
        if not stream:
            self.transport.write(ANSWER)
            return
        self.transport.write(FIRST)
        asyncio.get_running_loop().call_soon(self.transport.writelines, REST)


async def serve(port: int) -> None:
    """Until it is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve."""
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
