"""An upstream that says nothing, or only that it is still there."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

import clawmw
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

BODY = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
CHUNK = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":'


@pytest.mark.parametrize("how", ["nothing", "comments", "stall"])
def test_silence_ends_in_time(how: str) -> None:
    """R7: no first byte, comments alone, and a stall in the middle."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if how != "nothing":
            writer.write(HEAD)
        if how == "stall":
            writer.write(CHUNK + b'{"role":"assistant","content":"hi"}}]}\n\n')
        try:
            while True:
                if how == "comments":
                    writer.write(b": still here\n\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            writer.close()

    async def ask() -> float:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        given: dict[str, Any] = {"version": 1, "trace": "off", "retry": False}
        given["timeout"] = {"first_byte": "300ms", "idle": "300ms"}
        runtime = Runtime.of(load_policy(given))
        url = f"http://127.0.0.1:{port}/v1"
        began = time.monotonic()
        async with clawmw.async_http_client(runtime, base_url=url, timeout=20) as client:
            try:
                answer = await client.post("/chat/completions", json=BODY)
                assert answer.status_code >= 500 or "upstream_error" in answer.text
            except httpx.HTTPError:
                pass
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.1)
        assert set(runtime.traffic.census().values()) == {0}
        runtime.close()
        return time.monotonic() - began

    assert asyncio.run(ask()) < 5
