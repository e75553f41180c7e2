"""The policies that are compared, and how each is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.context.counted import counted
from benchmarks.peers import Peer, Reply
from clawmw.policy.load import load_policy
from clawmw.replay.records import Run
from clawmw.replay.simulate import Replayer, RunRecord
from clawmw.replay.tokens import Counter

__all__ = ["CLAWMW", "EVERYBODY", "Contender", "runner"]

GUARDS_OFF = {"loop_guard": "off", "trace": "off"}
"""So that every policy is measured over the same calls."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One policy."""

    name: str
    kind: str
    """`clawmw`, `cut`, or a peer of `benchmarks.peer_worker`."""
    options: dict[str, Any] = field(default_factory=dict)
    fetchable: bool = False
    slow: bool = False
    """Left out with --quick."""


CLAWMW = [
    Contender("raw", "clawmw", {"compress": "off", "dedupe": "off"}),
    Contender("clawmw lossless", "clawmw", {"compress": "lossless"}),
    Contender("clawmw balanced", "clawmw", {"compress": "balanced"}),
    Contender("clawmw aggressive", "clawmw", {"compress": "aggressive"}),
]
EVERYBODY = [
    *CLAWMW,
    Contender("headroom default", "headroom", {}, fetchable=True),
    Contender("headroom agent", "headroom", {"mode": "agent"}, fetchable=True, slow=True),
    Contender("clear tool uses, 100k", "clear_tool_uses", {}, slow=True),
    Contender("clear tool uses, 4k", "clear_tool_uses", {"trigger": 4000}),
    Contender("trim_messages, 32k", "trim_messages", {"max_tokens": 32_000}, slow=True),
    Contender("trim_messages, 8k", "trim_messages", {"max_tokens": 8000}),
    Contender("head+tail 500", "cut", {"most": 500}, slow=True),
    Contender("head+tail 500, fetchable", "cut", {"most": 500}, fetchable=True),
    Contender("head+tail 4000", "cut", {"most": 4000}, slow=True),
    Contender("head+tail 4000, fetchable", "cut", {"most": 4000}, fetchable=True),
]


@contextmanager
def runner(
    contender: Contender, counter: Counter, peers: Path | None
) -> Iterator[Callable[[Run], RunRecord]]:
    """Replays runs under a contender; its process, if it has one, ends with the block.

    `peers`: the Python of the peers' environment.
    """
    if contender.kind == "clawmw":
        policy = load_policy({"version": 1, **GUARDS_OFF, **contender.options})
        yield Replayer(policy, counter).run
    elif contender.kind == "cut":
        most = int(contender.options["most"])
        yield lambda run: counted(
            run, lambda m: _cut(m, most), counter, fetchable=contender.fetchable
        )
    else:
        assert peers is not None
        with Peer(peers, contender.kind, contender.options) as peer:
            yield lambda run: counted(run, peer.send, counter, fetchable=contender.fetchable)


def _cut(messages: list[dict[str, Any]], most: int) -> Reply:
    """Head and tail of every tool result."""
    started = time.thread_time()
    sent = [
        {**m, "content": _ends(m["content"], most)}
        if m.get("role") == "tool" and isinstance(m.get("content"), str)
        else m
        for m in messages
    ]
    return Reply(sent, round((time.thread_time() - started) * 1e6))


def _ends(text: str, most: int) -> str:
    if len(text) <= most + 60:
        return text
    half = most // 2
    return f"{text[:half]}\n[... {len(text) - most} characters left out ...]\n{text[-half:]}"
