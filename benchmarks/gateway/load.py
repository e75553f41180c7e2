"""Callers, in a process of their own: a job as JSON on standard input, what came of it on output.

Bare asyncio: a call costs it a tenth of what a gateway takes, so that it is never what is measured.
Agents' sessions take turns, each call goes on from its session's last by one tool result.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

GROWTH = 215
"""Bytes by which a session's body grows a call."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to ask of whom."""

    url: str
    """Of the chat completions."""
    size: int
    """Bytes of a body, about."""
    stream: bool
    seconds: float
    rate: float | None
    """Calls a second, whenever the answers come; None: as many as `connections` carry."""
    connections: int = 16
    calls: int | None = None
    """Ends after so many, whatever `seconds` says."""
    key: str = "sk-bench"
    seed: int = 7


def bodies(job: Job, number: int, calls: int) -> Iterator[bytes]:
    """The bodies of one agent's session."""
    dice = random.Random(job.seed * 1000 + number)
    head = {"role": "system", "content": "Follow the rules. " * min(60, job.size // 60)}
    task = {"role": "user", "content": f"Find out why build {job.seed}-{number} fails. Fix it."}
    messages = [json.dumps(head), json.dumps(task)]
    count = 0
    while sum(map(len, messages)) < job.size - calls * GROWTH / 2:
        lines = [f"{dice.random():.6f} worker did job {dice.randrange(9999)}" for _ in range(40)]
        messages += _turn(count, "\n".join(lines)[: job.size // 2])
        count += 1
    tail = '], "stream": true}' if job.stream else "]}"
    for _ in range(calls):
        yield f'{{"model": "gpt-4o", "messages": [{", ".join(messages)}{tail}'.encode()
        messages += _turn(count, f"exit code {count}")
        count += 1


def _turn(number: int, result: str) -> list[str]:
    function = {"name": "run", "arguments": json.dumps({"n": number})}
    call = {"id": f"c{number}", "type": "function", "function": function}
    return [
        json.dumps({"role": "assistant", "content": None, "tool_calls": [call]}),
        json.dumps({"role": "tool", "tool_call_id": f"c{number}", "content": result}),
    ]


class Connection(asyncio.Protocol):
    """One connection that is kept open, one call at a time."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def ask(self, head: bytes, body: bytes) -> tuple[float, float]:
        """When the first byte of the answer's body was here, and the last."""
        self.done = asyncio.get_running_loop().create_future()
        self.data, self.first, self.length = b"", 0.0, -1
        self.transport.write(head % len(body) + body)
        await self.done
        return self.first, time.perf_counter()

    def data_received(self, data: bytes) -> None:
        """Some of the answer is here."""
        if self.length == -1:
            self.data += data
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return
            self._begin(self.data[:end].lower())
            data, self.data = self.data[end + 4 :], b""
        if data and not self.first:
            self.first = time.perf_counter()
        if self.length == -2:
            self.data = (self.data + data)[-5:]
            over = self.data == b"0\r\n\r\n"  # no event ends like this
        else:
            self.length -= len(data)
            over = self.length <= 0
        if over and self.done is not None and not self.done.done():
            self.done.set_result(None)

    def _begin(self, head: bytes) -> None:
        if not head.startswith(b"http/1.1 200"):
            raise SystemExit(f"not 200: {head[:300]!r}")
        found = head.partition(b"content-length:")[2].split(b"\r\n")[0]
        self.length = int(found) if found else -2

    def connection_lost(self, exc: Exception | None) -> None:
        """It was closed."""
        if self.done is not None and not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("closed"))


class Load:
    """One job at work."""

    def __init__(self, job: Job) -> None:
        self.job = job
        place = urlsplit(job.url)
        self.place = place.hostname or "", place.port or 80
        self.head = (
            f"POST {place.path} HTTP/1.1\r\nhost: {place.netloc}\r\n"
            f"content-type: application/json\r\nauthorization: Bearer {job.key}\r\n"
            "content-length: %d\r\n\r\n"
        ).encode()
        self.idle: list[Connection] = []
        self.taken: list[tuple[float, float]] = []
        self.made = 0
        self.failed = 0

    async def connection(self) -> Connection:
        """One that is free, or a new one."""
        while self.idle:
            found = self.idle.pop()
            if not found.transport.is_closing():
                return found
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, *self.place))[1]

    async def call(self, body: bytes, due: float | None = None) -> None:
        """Make a call; what it took counts from when it was due."""
        began = time.perf_counter() if due is None else due
        try:
            connection = await self.connection()
            first, last = await connection.ask(self.head, body)
        except OSError:
            self.failed += 1
            return
        self.made += 1
        self.idle.append(connection)
        self.taken.append((first - began, last - began))

    async def run(self) -> dict[str, Any]:
        """The job, from its first call to its last."""
        job = self.job
        expected = int((job.rate or 2000) * job.seconds) if job.calls is None else job.calls
        each = max(4, min(80, job.size // 5 // GROWTH))
        count = 25 if job.rate else job.connections
        feeds = [self.feed(n, each) for n in range(count)]
        for feed in feeds:  # a process sees a long history for the first time once in its life
            for _ in range(2):
                await self.call(next(feed))
        self.taken.clear()
        began = time.perf_counter()
        if job.rate is None:
            await asyncio.gather(*(self.keep_on(feed, began, expected) for feed in feeds))
        else:
            await self.in_time(feeds, began, expected)
        seconds = time.perf_counter() - began
        for connection in self.idle:
            connection.transport.close()
        await asyncio.sleep(0)
        return self.result(seconds)

    def feed(self, number: int, each: int) -> Iterator[bytes]:
        """Bodies without end: one session after the other, each begun before it is counted."""
        while True:
            yield from bodies(self.job, number, each)
            number += 1000

    async def keep_on(self, feed: Iterator[bytes], began: float, most: int) -> None:
        """Call after call."""
        job = self.job
        while len(self.taken) < most and (
            job.calls is not None or time.perf_counter() - began < job.seconds
        ):
            await self.call(next(feed))

    async def in_time(self, feeds: list[Iterator[bytes]], began: float, count: int) -> None:
        """A call whenever one is due, however long the others take."""
        assert self.job.rate is not None
        going: set[asyncio.Task[None]] = set()
        for number in range(count):
            due = began + number / self.job.rate
            body = next(feeds[number % len(feeds)])
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if len(going) > 500:  # it does not keep up, and never will
                self.failed += 1
                continue
            task = asyncio.create_task(self.call(body, due))
            going.add(task)
            task.add_done_callback(going.discard)
        await asyncio.gather(*going)

    def result(self, seconds: float) -> dict[str, Any]:
        """Milliseconds and calls a second."""
        if len(self.taken) < 2:
            nothing = {"per_second": 0.0, "made": self.made}
            return {"calls": len(self.taken), "failed": self.failed, **nothing}
        whole = statistics.quantiles([done for _, done in self.taken], n=100)
        first = statistics.median([begun for begun, _ in self.taken])
        return {
            "calls": len(self.taken),
            "failed": self.failed,
            "made": self.made,
            "per_second": len(self.taken) / seconds,
            "p50": whole[49] * 1e3,
            "p99": whole[98] * 1e3,
            "first_p50": first * 1e3,
        }


def job_line(job: Job) -> str:
    """A job as this program reads it."""
    return json.dumps(asdict(job))


def main() -> None:
    """One job."""
    print(json.dumps(asyncio.run(Load(Job(**json.load(sys.stdin))).run())))


if __name__ == "__main__":
    main()
