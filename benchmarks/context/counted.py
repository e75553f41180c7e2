"""Counts what somebody else's policy sends, as `clawmw replay` counts what clawmw sends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.peers import Reply
from clawmw.core.types import Message, Request, ToolResult
from clawmw.providers.load import profile_for
from clawmw.replay import records
from clawmw.replay.answers import results, sought
from clawmw.replay.bill import Prefixes, Sized
from clawmw.replay.integrity import Judge, paired
from clawmw.replay.provenance import Need, Placed, needs, occurs, placed
from clawmw.replay.records import CODEC, Run, dump
from clawmw.replay.simulate import CallRecord, RunRecord, rewrites
from clawmw.replay.tokens import Counter

__all__ = ["Send", "counted"]

Send = Callable[[list[dict[str, Any]]], Reply]


def counted(run: Run, send: Send, counter: Counter, *, fetchable: bool) -> RunRecord:
    """One run as `send` would have sent it.

    `fetchable`: whatever the policy hid of a tool result counts as reachable.
    """
    record = RunRecord(run)
    one = _Counted(record, counter, fetchable)
    for call in run.calls:
        one.call(call, send)
    return record


class _Counted:
    def __init__(self, record: RunRecord, counter: Counter, fetchable: bool) -> None:
        self.record, self.counter, self.fetchable = record, counter, fetchable
        self.raw_cache, self.sent_cache, self.judge = Prefixes(), Prefixes(), Judge()
        self.previous: tuple[Sized, Sized] | None = None
        self.decoded: Request | None = None
        self.recorded: Request | None = None

    def call(self, call: records.Call, send: Send) -> None:
        """One recorded call; adds to the record."""
        request = self._read(call.body(), self.recorded)
        self.recorded = request
        reply = send(json.loads(b"[" + b",".join(call.messages) + b"]"))
        if reply.error:
            self.record.failures[reply.error] += 1
        wires = b",".join(dump(message) for message in reply.messages)
        sent = self.decoded = self._read(call.head + wires + call.tail, self.decoded)
        raw, sized = Sized.of(request, self.counter), Sized.of(sent, self.counter)
        done = CallRecord(call.step, request.messages, raw, self.raw_cache.hit(raw))
        done.sent = ((sized, self.sent_cache.hit(sized)),)
        done.rewrites = rewrites(self.previous, raw, [sized], _least)
        done.cpu_us = reply.cpu_us
        self.previous = (raw, sized)
        if call.answer:
            answer = CODEC.message(call.answer)
            done.output = self.counter.message(answer)
            done.needed = tuple(self._placed(needs(request, answer), request, sent))
        for original, text in paired(request.messages, sent.messages):
            self.record.integrity += self.judge.judge(original, text)
        if self.record.run.answers and call.step == self.record.run.answer_due:
            raw_results = results(request.messages)
            held = raw_results if self.fetchable else []
            self.record.answer = sought(
                self.record.run.answers, raw_results, results(sent.messages), held
            )
        if call.counted:
            self.record.calls.append(done)

    def _read(self, body: bytes, earlier: Request | None) -> Request:
        return CODEC.decode(body, (earlier,) if earlier is not None else ())

    def _placed(self, found: list[Need], request: Request, sent: Request) -> list[Placed]:
        there = placed(found, sent.messages, {})
        if not self.fetchable:
            return there
        return [
            Placed(one.need, "reachable", _origin(one.need, request.messages))
            if one.where == "lost"
            else one
            for one in there
        ]


def _origin(need: Need, messages: tuple[Message, ...]) -> str:
    """The result it would be fetched from, by its place."""
    for index in need.origins:
        for part in messages[index].parts:
            if isinstance(part, ToolResult) and occurs(need.literal, part.text):
                return str(index)
    return str(need.origins[0])


def _least(model: str) -> int:
    return profile_for(model).cache.min_tokens
