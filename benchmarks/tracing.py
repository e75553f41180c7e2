"""What traces cost a call: `python -m benchmarks.tracing`.

A typical call of an agent (three tool results it had not seen, two stages that acted, one
request) is told to each observer as the runtime tells it. Shown is the CPU time of the caller's
thread, which is what a call waits for, and that of the whole process, whose other threads write and
send while the model works: microseconds a call, the least and the median of many rounds, in turns,
so that all see the same machine. The collector is a process of its own that takes everything.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from clawmw.core.events import (
    Acted,
    Attempted,
    CallFinished,
    CallStarted,
    Event,
    ToolReturned,
    Totals,
)
from clawmw.core.identity import Identity
from clawmw.core.money import Cost
from clawmw.core.types import Usage
from clawmw.observe.otel import OtelObserver
from clawmw.observe.otlp.settings import Settings
from clawmw.observe.sending.tail import Sample
from clawmw.observe.sending.ways import Export
from clawmw.observe.store.spanstore import SpanStore

RESULTS = Path(__file__).parent / "results" / "tracing.json"
CALLS = 100
"""A round; few enough to fit every queue."""
COLLECTOR = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Takes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
server = HTTPServer(("127.0.0.1", 0), Takes)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def call(number: int, now: float) -> list[Event]:
    """The events of one call, of a chain of fifty."""
    x = f"{int(now * 1000):x}-{number}"
    who = Identity(agent="planner", session="s1", chain=f"trip-{number // 50}")
    saved = {"compress.json": 7_000, "dedupe": 1_000}
    detail: dict[str, Any] = {"kind": "json", "before": 9_000, "after": 2_000}
    return [
        CallStarted(x, now, who, "anthropic/m", "openai-chat", True, 40, "enforce", "a1b2c3d4"),
        *(
            ToolReturned(x, now, name, f"c{number}{name}", 1_200, now - 1)
            for name in ("search", "read_file", "calculator")
        ),
        Acted(x, now, "compress", "rewrite", "compress.json", False, detail),
        Acted(x, now, "prompt_cache", "rewrite", "prompt_cache.marks", False, {"marks": 3}),
        Attempted(x, now + 2, 1, "anthropic/m", 2.0, 200),
        CallFinished(
            x,
            now + 2,
            who,
            "ok",
            "anthropic/m",
            "m-1",
            "tool_calls",
            Usage(12_000, 300, 9_000, 0, None),
            Totals(20_000, 12_000, 12_000, 15_000, 9_000, saved),
            Cost(9_000_000, 4_500_000, 2_700_000, 0),
            Cost(20_000_000, 4_500_000, 0, 0),
            1,
            0.003,
            (("call_9", "search"),),
        ),
    ]


@contextmanager
def collector() -> Iterator[str]:
    """A process that takes whatever is sent to it."""
    process = subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1/traces"
    finally:
        process.kill()
        process.communicate()


def nobody(event: Event) -> None:
    """Sees nothing."""


def one_round(observer: Callable[[Event], None]) -> tuple[float, float]:
    """CPU microseconds a call: of this thread, and of the whole process until all is written."""
    now = time.time()
    told = [call(number, now) for number in range(CALLS)]
    thread, process = time.thread_time(), time.process_time()
    for events in told:
        for event in events:
            observer(event)
    mine = time.thread_time() - thread
    if isinstance(observer, OtelObserver):
        observer.flush(10)
    return mine * 1e6 / CALLS, (time.process_time() - process) * 1e6 / CALLS


def measured(rounds: int) -> dict[str, Any]:
    """Every case, in turns."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(collector())
        settings = Settings(url)
        few = Sample(0.0, 10**18, 1e9)
        cases: dict[str, Callable[[Event], None]] = {
            "no observer": nobody,
            "store": OtelObserver(store=SpanStore.open(folder / "a.sqlite"), otlp=False),
            "store + OTLP": OtelObserver(
                store=SpanStore.open(folder / "b.sqlite"), otlp=Export(settings)
            ),
            "store + OTLP, sampled": OtelObserver(
                store=SpanStore.open(folder / "c.sqlite"), otlp=Export(settings, few)
            ),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, observer in cases.items():
                found[name].append(one_round(observer))
        for observer in cases.values():
            if isinstance(observer, OtelObserver):
                observer.close()
                for count in observer.counts():
                    assert not count.lost, count
    return {name: summed(times[1:]) for name, times in found.items()}


def summed(times: list[tuple[float, float]]) -> dict[str, float]:
    """The least and the median of both; the first round, which imports, is left out."""
    mine, whole = zip(*times, strict=True)
    return {
        "caller_us": round(min(mine), 1),
        "caller_median_us": round(statistics.median(mine), 1),
        "process_us": round(min(whole), 1),
        "process_median_us": round(statistics.median(whole), 1),
    }


def main() -> None:
    """Print a table and write the numbers down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    found = measured(given.rounds)
    base = found["store"]
    print(f"{'CPU, microseconds a call':26}{'caller':>16}{'process':>16}{'to the store alone':>20}")
    for name, times in found.items():
        caller = f"{times['caller_us']:.0f} ({times['caller_median_us']:.0f})"
        process = f"{times['process_us']:.0f} ({times['process_median_us']:.0f})"
        ratio = f"{times['caller_us'] / base['caller_us']:.2f}"
        print(f"{name:26}{caller:>16}{process:>16}{ratio:>20}")
    print("the least of all rounds, and the median; a call is four spans")
    given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
