"""Everything the demo found, for people (`render`) and as JSON.

`Result.to_json()` gives, and keeps (a field may be added, none changes its meaning):

- `schema`: 1; `ok`: every run made a right plan; `seconds`; `policy`: `file`, `digest`
- `providers`, one each: `profile`, `family`, `prices_as_of`;
  - `runs`: `run` (`off`, `prompt_cache`, `dedupe`, `all`), `trouble` (null: the plan is right),
    `calls` (the agents'), `requests` (the provider's), `input_tokens`, `cached_tokens`,
    `written_tokens`, `output_tokens`, `cost`, `cost_uncached`, `cached_share`, `seconds`
  - `native_saves`: what the provider's caching saves without clawmw; `clawmw_saves`: `off` less
    `all`; `clawmw_saves_share`
  - `mechanisms`: `mechanism`, `tokens`, `cost` (saved; negative: it cost), `basis`
  - `asked`: what the model asked back: `tool`, `query`, `tokens`
  - `chain`: its name in the traces
- `in_clawmw_ms`: `calls`, `median`, `max`: wall time in clawmw of one call of an agent
- `plan`: the last run's report
- `trace`: `store`, `chain` and `spans` of the last run, as `clawmw traces show --json` has them

Money is integer nano-USD, tokens are the provider's count unless the basis says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from clawmw.core.money import Profile
from clawmw.demo.played import Played
from clawmw.demo.savings import Asked, Saving, asked, savings
from clawmw.observe.reading.chains import Chain, find, spans
from clawmw.observe.store.spanstore import SpanRow, SpanStore

__all__ = ["Provider", "Result", "Trace", "read_trace"]


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider's runs, by rung."""

    profile: Profile
    chain: str
    runs: Mapping[str, Played]

    @property
    def off(self) -> Played:
        """Without clawmw."""
        return self.runs["off"]

    @property
    def on(self) -> Played:
        """With the whole policy."""
        return self.runs["all"]

    @property
    def saved(self) -> int:
        """Nano-USD by which the run with clawmw is cheaper."""
        return self.off.bill.nano - self.on.bill.nano

    @property
    def savings(self) -> list[Saving]:
        """What each mechanism saved."""
        return savings(self.runs)

    @property
    def asked(self) -> list[Asked]:
        """What the model asked back."""
        return asked(self.on)

    def to_json(self) -> dict[str, Any]:
        """See the module."""
        price, off = self.profile.price, self.off.bill
        return {
            "profile": self.profile.name,
            "family": self.profile.family,
            "prices_as_of": price.as_of if price else None,
            "runs": [_run_json(played) for played in self.runs.values()],
            "native_saves": off.uncached_nano - off.nano,
            "clawmw_saves": self.saved,
            "clawmw_saves_share": _share(self.saved, off.nano),
            "mechanisms": [
                {"mechanism": s.mechanism, "tokens": s.tokens, "cost": s.nano, "basis": s.basis}
                for s in self.savings
            ],
            "asked": [asdict(wish) for wish in self.asked],
            "chain": self.chain,
        }


@dataclass(frozen=True, slots=True)
class Trace:
    """A chain as the span store has it."""

    chain: Chain
    spans: Sequence[SpanRow]


@dataclass(frozen=True, slots=True)
class Result:
    """See the module."""

    providers: Sequence[Provider]
    policy: Path
    digest: str
    store: Path
    trace: Trace | None
    seconds: float

    @property
    def played(self) -> list[Played]:
        """Every run."""
        return [played for provider in self.providers for played in provider.runs.values()]

    @property
    def troubles(self) -> list[Played]:
        """The runs that did not end in a right plan."""
        return [played for played in self.played if played.trouble]

    @property
    def in_clawmw(self) -> list[float]:
        """Seconds in clawmw of each call of an agent, under the whole policy."""
        return [call.overhead for provider in self.providers for call in provider.on.finished]

    def to_json(self) -> dict[str, Any]:
        """See the module."""
        times = [1000 * seconds for seconds in self.in_clawmw]
        trace = self.trace
        return {
            "schema": 1,
            "ok": not self.troubles,
            "seconds": round(self.seconds, 3),
            "policy": {"file": str(self.policy), "digest": self.digest},
            "providers": [provider.to_json() for provider in self.providers],
            "in_clawmw_ms": {
                "calls": len(times),
                "median": round(median(times), 3) if times else None,
                "max": round(max(times), 3) if times else None,
            },
            "plan": self.played[-1].report,
            "trace": {
                "store": str(self.store),
                "chain": asdict(trace.chain) if trace else None,
                "spans": [asdict(row) for row in trace.spans] if trace else [],
            },
        }


def read_trace(store: Path, chain: str) -> Trace | None:
    """One chain from a span store; None if it is not there. Raises `StoreError`."""
    opened = SpanStore.read(store)
    try:
        found = find(opened, chain)
        return Trace(found[0], spans(opened, found[0].trace_id)) if found else None
    finally:
        opened.close()


def _run_json(played: Played) -> dict[str, Any]:
    bill = played.bill
    return {
        "run": played.rung.name,
        "trouble": played.trouble or None,
        "calls": played.outcome.calls,
        "requests": bill.calls,
        "input_tokens": bill.input_tokens,
        "cached_tokens": bill.cached_tokens,
        "written_tokens": bill.written_tokens,
        "output_tokens": bill.output_tokens,
        "cost": bill.nano,
        "cost_uncached": bill.uncached_nano,
        "cached_share": _share(bill.cached_tokens, bill.input_tokens),
        "seconds": round(played.seconds, 3),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
