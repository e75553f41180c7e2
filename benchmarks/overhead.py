"""What clawmw costs a call: `python -m benchmarks.overhead`.

An agent's history of 1k to 500k tokens, sent once, grows by one tool result; the second
call is measured. CPU time of this thread, in milliseconds, the median of many runs; each
part beside the three things no middleware can avoid: one parse, one hash pass and one
write of the body. The model call itself is a function that returns at once.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clawmw.codecs.openai_chat import DIALECT
from clawmw.core.drive import advance
from clawmw.core.effects import Call, Called
from clawmw.core.identity import Identity
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.testing import answer

RESULTS = Path(__file__).parent / "results" / "overhead.json"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"tool_{i}",
            "description": "Does a thing. " * 20,
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
        },
    }
    for i in range(12)
]


def history(tokens: int) -> list[dict[str, Any]]:
    """An agent's history of about that many tokens: calls, and results of 400 to 4,000."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are an agent. Follow the rules. " * 60},
        {"role": "user", "content": "Find out why the nightly build fails and fix it."},
    ]
    size, index = 600, 0
    while size < tokens:
        lines = 30 + (index * 37) % 150
        result = "\n".join(
            f"{index}:{n} def f_{n}_{index}(value): return {n * index}" for n in range(lines)
        )
        messages += call(index, result)
        size += len(result) // 3
        index += 1
    return messages


def call(index: int, result: str) -> list[dict[str, Any]]:
    """One tool call and its result."""
    function = {"name": "tool_1", "arguments": json.dumps({"q": f"file {index}"})}
    return [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": f"call_{index}", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": f"call_{index}", "content": result},
    ]


def median(times: list[float]) -> float:
    """Milliseconds."""
    return statistics.median(times) * 1e3


def timed(work: Callable[[], Any], runs: int) -> float:
    """Median CPU milliseconds of `work`."""
    times = []
    for _ in range(runs):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return median(times)


def measure(tokens: int, runs: int, policy: dict[str, Any]) -> dict[str, float]:
    """Each part of the second call over a history of `tokens`."""
    loaded = load_policy({"version": 1, "trace": "off", **policy})
    messages = history(tokens)
    body = wire(messages)
    floor = {
        "parse": timed(lambda: json.loads(body), runs),
        "hash": timed(lambda: hashlib.blake2b(body).digest(), runs),
        "write": timed(lambda: b"".join([body[:10], body[10:]]), runs),
    }
    parts: dict[str, list[float]] = {"decode": [], "decide": [], "encode": [], "settle": []}
    for run in range(runs):
        runtime = Runtime.of(loaded)
        who = Identity(session=f"s{run}", chain=f"c{run}")
        one(runtime, body, who, None)
        grown = wire([*messages, *call(10**6 + run, "the build passes now " * 40)])
        one(runtime, grown, who, parts)
    row = {name: median(times) for name, times in parts.items()}
    total = sum(row.values())
    row |= {f"floor_{name}": value for name, value in floor.items()}
    row["total"] = total
    row["beyond"] = total - sum(floor.values())
    row["bytes"] = len(body)
    row["messages"] = len(messages)
    return row


def wire(messages: list[dict[str, Any]]) -> bytes:
    """The body as the OpenAI SDK writes it."""
    body = {"messages": messages, "model": "gpt-4o", "tools": TOOLS, "max_tokens": 1000}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def one(runtime: Runtime, body: bytes, who: Identity, parts: dict[str, list[float]] | None) -> None:
    """One call; its parts are added to `parts`."""
    gc.collect()
    gc.disable()
    marks = [time.thread_time()]
    request = runtime.decode(DIALECT, body)
    marks.append(time.thread_time())
    live = runtime.begin(request, {}, who)
    step = advance(live.run, live.perform, None)
    marks.append(time.thread_time())
    assert isinstance(step, Call)
    live.codec.encode(step.request)
    marks.append(time.thread_time())
    done = advance(live.run, live.perform, Called(answer(), 0.0, 0.0))
    assert not isinstance(done, Call)
    live.ended(done)
    marks.append(time.thread_time())
    gc.enable()
    if parts is not None:
        for name, start, end in zip(parts, marks, marks[1:], strict=False):
            parts[name].append(end - start)


def main() -> None:
    """Print the table; with `--save` write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--sizes", default="1000,10000,100000,200000,500000")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    names = [
        "decode",
        "decide",
        "encode",
        "settle",
        "total",
        "floor_parse",
        "floor_hash",
        "floor_write",
        "beyond",
    ]
    print(f"{'tokens':>8} {'messages':>8} " + " ".join(f"{n:>11}" for n in names) + "   (CPU ms)")
    policy = {"budget": {"chain": {"calls": 1000, "usd": 100}}}
    table = {}
    for size in (int(s) for s in options.sizes.split(",")):
        row = measure(size, options.runs, policy)
        table[size] = {k: round(v, 4) for k, v in row.items()}
        shown = " ".join(f"{row[n]:>11.3f}" for n in names)
        print(f"{size:>8} {int(row['messages']):>8} {shown}")
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"unit": "CPU ms, median", "rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
