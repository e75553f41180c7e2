"""What a replay found, added up per source and in total, and as JSON.

`Report.to_json()` gives, and keeps (a field may be added, none changes its meaning):

- `schema`: 1
- `policy`: `name`, `digest`, `mode`
- `tokens`: `basis` (`exact` or `estimated`), `tokenizer`
- `profiles`: for each `name`, `family`, `prices_as_of` (null: price unknown)
- `total` and each of `sources` (which also has `source`):
  - `runs`, `calls`; `open_ends`: runs whose record ends before an answer
  - `refused_calls`: stopped by a guard, counted as recorded; `stopped`: `calls` and their
    `tokens` that the end of a chain kept from being sent, counted nowhere else
  - `tokens`: `before`, `after`, `change` (share of before; negative is less), `output`
  - `prefix_rewrites`: calls that moved a prefix the agent had kept and its provider could
    have cached; `priced_rewrites`: those that an epoch had priced, not in the former
  - `literals`: `needed`, `in_context`, `reachable`, `lost`; `hidden_share`: of needed, what was
    not in the context sent
  - `records`: `values` of JSON, CSV and table results that stayed in context (a sample of each
    result); `intact`: with their key and in their record; `listed`: with their key, alone;
    `integrity`: intact of values
  - `answers`: where labels name an answer (`gold_answer`, `answers`) and the recorded results
    hold it when it is due: `due`, `in_context`, `whole` (in context, with the sentence or
    record around it), `reachable` (hidden, can be asked for), `lost`; shares of due:
    `in_context_share`, `whole_share`, `at_hand_share` (in context or reachable)
  - `cpu_us`: of clawmw per call, `p50`, `p95`, `max`, `total`
  - `cost`: by profile name, nano-USD of the input side, simulated: `uncached`, `native`
    (native caching alone), `clawmw` (caching and the policy), `net` (and paying for what was
    hidden), `bound` (clairvoyant), `native_saves`, `clawmw_adds` (= native - clawmw),
    `net_adds` (= native - net), `hit_share_before`, `hit_share_after`, `score`
  - `decisions`: calls by the policy rule that decided in them; `failures`;
    `mechanisms`: tokens not sent by what cut them (estimated)
  - `usage_check`: `calls`, `reported`, `counted` input tokens where the record has the
    provider's usage
- `score_mean`: by profile name, the mean over the sources that have a score
- `skipped`: `reason`, `calls`; `notes`, `problems`: `where`, `message`

Money, tokens and counts are integers; shares and scores are numbers rounded to 4 digits;
null is unknown.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clawmw.core.money import Profile
from clawmw.replay.bill import SLICE, Item, Money, Net, bare, price
from clawmw.replay.integrity import Integrity
from clawmw.replay.provenance import Placed
from clawmw.replay.records import Note, Problem, Skipped
from clawmw.replay.simulate import CallRecord, RunRecord
from clawmw.replay.tokens import Counter

__all__ = ["Group", "Report"]


@dataclass(slots=True)
class Group:
    """The sums of some runs."""

    runs: int = 0
    calls: int = 0
    open_ends: int = 0
    refused: int = 0
    stopped: int = 0
    stopped_tokens: int = 0
    before: int = 0
    after: int = 0
    output: int = 0
    rewrites: int = 0
    priced: int = 0
    literals: Tally[str] = field(default_factory=Tally)
    integrity: Integrity = field(default_factory=Integrity)
    answers: Tally[str] = field(default_factory=Tally)
    cpu: list[int] = field(default_factory=list)
    money: dict[str, Money] = field(default_factory=dict)
    decisions: Tally[str] = field(default_factory=Tally)
    failures: Tally[str] = field(default_factory=Tally)
    mechanisms: Tally[str] = field(default_factory=Tally)
    reported_calls: int = 0
    reported: int = 0
    counted: int = 0

    def add(self, record: RunRecord, money: Mapping[str, Money]) -> None:
        """Take one run in."""
        self.runs += 1
        self.calls += len(record.calls)
        self.open_ends += record.run.open_end
        self.refused += record.refused
        self.stopped += record.stopped
        self.stopped_tokens += record.stopped_tokens
        for call in record.calls:
            self.before += call.raw.total
            self.after += sum(sized.total for sized, _ in call.sent)
            self.output += call.output
            self.rewrites += call.rewrites
            self.priced += call.priced
            self.literals.update(needed.where for needed in call.needed)
            self.cpu.append(call.cpu_us)
            if call.reported is not None:
                self.reported_calls += 1
                self.reported += call.reported
                self.counted += call.raw.total
        self.integrity += record.integrity
        self.answers.update([record.answer] if record.answer else ())
        self.decisions.update(record.decisions)
        self.failures.update(record.failures)
        self.mechanisms.update(record.mechanisms)
        for name, bill in money.items():
            self.money[name] = self.money.get(name, Money()) + bill

    @property
    def needed(self) -> int:
        """Literals that calls needed from tool results."""
        return sum(self.literals.values())

    @property
    def hidden(self) -> int:
        """Those that the context sent did not hold."""
        return self.literals["reachable"] + self.literals["lost"]

    def percentile(self, share: float) -> int | None:
        """CPU microseconds that `share` of the calls stay within; None without calls."""
        if not self.cpu:
            return None
        ordered = sorted(self.cpu)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def to_json(self) -> dict[str, Any]:
        """See the module."""
        return {
            "runs": self.runs,
            "calls": self.calls,
            "open_ends": self.open_ends,
            "refused_calls": self.refused,
            "stopped": {"calls": self.stopped, "tokens": self.stopped_tokens},
            "tokens": {
                "before": self.before,
                "after": self.after,
                "change": share(self.after - self.before, self.before),
                "output": self.output,
            },
            "prefix_rewrites": self.rewrites,
            "priced_rewrites": self.priced,
            "literals": {
                "needed": self.needed,
                "in_context": self.literals["context"],
                "reachable": self.literals["reachable"],
                "lost": self.literals["lost"],
                "hidden_share": share(self.hidden, self.needed),
            },
            "records": {
                "values": self.integrity.values,
                "intact": self.integrity.intact,
                "listed": self.integrity.listed,
                "integrity": share(self.integrity.intact, self.integrity.values),
            },
            "answers": _answers_json(self.answers),
            "cpu_us": {
                "p50": self.percentile(0.5),
                "p95": self.percentile(0.95),
                "max": self.percentile(1.0),
                "total": sum(self.cpu),
            },
            "cost": {name: _money_json(money) for name, money in self.money.items()},
            "decisions": dict(sorted(self.decisions.items())),
            "failures": dict(sorted(self.failures.items())),
            "mechanisms": dict(self.mechanisms.most_common()),
            "usage_check": {
                "calls": self.reported_calls,
                "reported": self.reported,
                "counted": self.counted,
            },
        }


class Report:
    """The sums of a replay as it goes on."""

    def __init__(
        self,
        profiles: Sequence[Profile],
        counter: Counter,
        routed: Callable[[str], Profile],
        policy: Mapping[str, str],
    ) -> None:
        self.profiles = profiles
        self.policy = policy
        self.counter = counter
        self.total = Group()
        self.sources: dict[str, Group] = {}
        self.skipped: list[Skipped] = []
        self.notes: list[Note] = []
        self.problems: list[Problem] = []
        self._routed = routed

    def add(self, record: RunRecord) -> None:
        """Take one run in."""
        money = self._bills(record)
        self.total.add(record, money)
        self.sources.setdefault(record.run.source, Group()).add(record, money)

    def score_mean(self, profile: str) -> float | None:
        """The mean of the sources' scores: one source with huge results must not hide the rest."""
        scores = [g.money[profile].score for g in self.sources.values() if profile in g.money]
        known = [s for s in scores if s is not None]
        return sum(known) / len(known) if known else None

    def reasons(self) -> Tally[str]:
        """Calls that were skipped, by reason."""
        return Tally(skipped.reason for skipped in self.skipped)

    def _bills(self, record: RunRecord) -> dict[str, Money]:
        raw, sent, bound = [], [], []
        net = Net()
        kept = _will_be_needed(record)
        for call in record.calls:
            raw.append(Item(call.raw.prefix(call.raw_hit), call.raw.total))
            for index, (sized, hit) in enumerate(call.sent):
                model = sized.model if sized.model != call.raw.model else ""
                sent.append(Item(sized.prefix(hit), sized.total, model))
                last = index == len(call.sent) - 1
                net.call(sized, hit, model, self._fetched(call) if last else ())
            tokens = [call.raw.tokens[0], *bare(call.messages, kept, self.counter)]
            bound.append(Item(sum(tokens[: call.raw_hit]), sum(tokens)))
        before = sum(item.input for item in raw)
        after = sum(item.input for item in sent)
        found = {}
        for profile in self.profiles:
            native, cached_before = price(raw, profile, self._routed, cached=True)
            clawmw, cached_after = price(sent, profile, self._routed, cached=True)
            found[profile.name] = Money(
                price(raw, profile, self._routed, cached=False)[0],
                native,
                clawmw,
                price(net.items, profile, self._routed, cached=True)[0],
                price(bound, profile, self._routed, cached=True)[0],
                cached_before,
                cached_after,
                before,
                after,
            )
        return found

    def _fetched(self, call: CallRecord) -> list[int]:
        """Tokens that come back before the call can be answered, one entry an original."""
        originals: dict[object, int] = {}
        for needed in call.needed:
            if needed.where == "context":
                continue
            whole = self._original(call, needed)
            if needed.where == "reachable":
                originals[needed.ref] = min(SLICE, whole)
            else:
                originals[needed.need.origins[0]] = whole
        return list(originals.values())

    def _original(self, call: CallRecord, needed: Placed) -> int:
        return self.counter.message(call.messages[needed.need.origins[0]])

    def to_json(self) -> dict[str, Any]:
        """See the module."""
        return {
            "schema": 1,
            "policy": dict(self.policy),
            "tokens": {"basis": self.counter.basis, "tokenizer": self.counter.tokenizer},
            "profiles": [
                {
                    "name": p.name,
                    "family": p.family,
                    "prices_as_of": p.price.as_of if p.price else None,
                }
                for p in self.profiles
            ],
            "total": self.total.to_json(),
            "score_mean": {p.name: _rounded(self.score_mean(p.name)) for p in self.profiles},
            "sources": [{"source": n, **g.to_json()} for n, g in self.sources.items()],
            "skipped": [{"reason": r, "calls": count} for r, count in self.reasons().items()],
            "notes": [{"where": n.where, "message": n.message} for n in self.notes],
            "problems": [{"where": p.where, "message": p.message} for p in self.problems],
        }


def _will_be_needed(record: RunRecord) -> dict[bytes, list[str]]:
    """By tool message (as JSON), the literals a later call takes from it, where it first was."""
    kept: dict[bytes, list[str]] = {}
    for call in record.calls:
        for needed in call.needed:
            origin = call.messages[needed.need.origins[0]]
            literals = kept.setdefault(origin.wire or b"", [])
            if needed.need.literal not in literals:
                literals.append(needed.need.literal)
    return kept


def _answers_json(answers: Tally[str]) -> dict[str, Any]:
    due = sum(answers.values())
    in_context = answers["whole"] + answers["bare"]
    return {
        "due": due,
        "in_context": in_context,
        "whole": answers["whole"],
        "reachable": answers["reachable"],
        "lost": answers["lost"],
        "in_context_share": share(in_context, due),
        "whole_share": share(answers["whole"], due),
        "at_hand_share": share(due - answers["lost"], due),
    }


def _money_json(money: Money) -> dict[str, Any]:
    return {
        "uncached": money.uncached,
        "native": money.native,
        "clawmw": money.clawmw,
        "net": money.net,
        "bound": money.bound,
        "native_saves": _less(money.uncached, money.native),
        "clawmw_adds": _less(money.native, money.clawmw),
        "net_adds": _less(money.native, money.net),
        "hit_share_before": share(money.cached_before, money.tokens_before),
        "hit_share_after": share(money.cached_after, money.tokens_after),
        "score": _rounded(money.score),
    }


def _less(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one - other


def share(part: int | None, whole: int | None) -> float | None:
    """`part` of `whole`, to 4 digits; None of nothing or of what is unknown."""
    return round(part / whole, 4) if whole and part is not None else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
