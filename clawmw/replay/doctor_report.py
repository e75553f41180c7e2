"""What the cache doctor found, for people and as JSON.

`to_json()` gives, and keeps (a field may be added, none changes its meaning):

- `schema`: 1; `profile`: `name`, `as_of`, `style`, `min_tokens`, `assumed`, `disputed`
- `total`: `runs`, `calls`, `tokens` (`input`, `read`, `write`, `lost`), `broken`: calls that did
  not read what the call before had cached, by part (`unmarked`: nothing moved)
- `runs`: `source`, `id`, `where`, `findings`, and `calls`: `number`, `input`, `read`, `write`,
  `lost`, `tail` (the call before ended in a message that was replaced), `moved` (null, or `part`,
  `index`, `byte`, `tool`), `against` (the run compared with, "" for its own), `findings`
- a finding: `rule`, `place`, `advice`
- `skipped`: `reason`, `calls`; `notes`, `problems`: `where`, `message`

Tokens are estimates; nothing of the prompts' content is told.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from clawmw.core.money import Profile
from clawmw.replay.doctor import CallNote, Finding, RunNote
from clawmw.replay.records import Note, Problem, Skipped

__all__ = ["Checkup"]

_MOST = 40
"""Calls and places told one by one."""
_PLACES = 3
"""Places told of one finding."""


@dataclass(slots=True)
class Checkup:
    """All runs that were looked at."""

    profile: Profile
    runs: list[RunNote] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def calls(self) -> Iterator[CallNote]:
        """Every call."""
        return (call for run in self.runs for call in run.calls)

    def broken(self) -> Tally[str]:
        """Calls that lost what was cached, by what moved."""
        return Tally(_part(call) for call in self.calls() if call.lost)

    def reasons(self) -> Tally[str]:
        """Calls that could not be looked at, by why."""
        return Tally(skipped.reason for skipped in self.skipped)

    def findings(self) -> dict[tuple[str, str], list[str]]:
        """The places of each finding (rule, advice), most consequential first."""
        found: dict[tuple[str, str], list[str]] = {}
        for run in self.runs:
            for call in run.calls:
                _take(found, call.findings, f"{run.id}, call {call.number}")
        for run in self.runs:
            _take(found, run.findings, run.id)
        return found

    def to_json(self) -> dict[str, Any]:
        """See the module."""
        profile, calls = self.profile, list(self.calls())
        facts = {
            "name": profile.name,
            "as_of": profile.as_of,
            "style": profile.cache.style,
            "min_tokens": profile.cache.min_tokens,
            "assumed": list(profile.cache.assumed),
            "disputed": list(profile.cache.disputed),
        }
        return {
            "schema": 1,
            "profile": facts,
            "total": {
                "runs": len(self.runs),
                "calls": len(calls),
                "tokens": {
                    name: sum(getattr(call, name) for call in calls)
                    for name in ("input", "read", "write", "lost")
                },
                "broken": dict(self.broken()),
            },
            "runs": [asdict(run) for run in self.runs],
            "skipped": [{"reason": r, "calls": n} for r, n in self.reasons().items()],
            "notes": [asdict(note) for note in self.notes],
            "problems": [asdict(problem) for problem in self.problems],
        }

    def rendered(self) -> RenderableType:
        """Everything a reader needs: the sums, the calls that lost their cache, what to do."""
        parts: list[RenderableType] = [*self._header(), Text()]
        table = self._table()
        if table.row_count:
            parts += [table, Text()]
        parts += self._advice()
        said = [f"{note.where}: {note.message}" for note in self.notes]
        said += [f"{count} calls skipped: {why}" for why, count in self.reasons().items()]
        said += [f"{self.profile.name}: sources disagree, {d}" for d in self.profile.cache.disputed]
        if self.profile.cache.assumed:
            names = ", ".join(self.profile.cache.assumed)
            said.append(f"{self.profile.name}: no source was found for {names}; assumed")
        if said:
            parts += [Text(), *(Text(f"note: {line}", style="dim") for line in said)]
        return Lines(*parts)

    def _header(self) -> Iterator[Text]:
        total = self.to_json()["total"]
        tokens = total["tokens"]
        yield Text(
            f"Looked at {total['calls']:,} calls in {total['runs']:,} runs, as {self.profile.name}",
            style="bold",
        )
        read = tokens["read"] / tokens["input"] if tokens["input"] else 0.0
        yield Text(
            f"input {tokens['input']:,} tokens: read from cache {tokens['read']:,} ({read:.0%}), "
            f"written {tokens['write']:,}, lost to what moved {tokens['lost']:,}"
        )
        broken = ", ".join(f"{part} {n:,}" for part, n in self.broken().most_common())
        yield Text(f"calls that lost their cache: {broken or 'none'}")
        yield Text(
            f"predicted by provider facts of {self.profile.as_of}, tokens estimated, nothing "
            "expires; the provider's own usage wins",
            style="dim",
        )

    def _table(self) -> Table:
        told = [(run, call) for run in self.runs for call in run.calls]
        bad = [(run, call) for run, call in told if call.lost]
        shown = told if len(told) <= _MOST else bad
        title = "Calls" if shown is told else "Calls that lost their cache"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.title_style = "bold"
        table.add_column("run", overflow="fold")
        for name in ("call", "input", "read", "write", "lost"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("what moved", overflow="fold")
        for run, call in shown[:_MOST]:
            numbers = (call.number, call.input, call.read, call.write, call.lost)
            table.add_row(
                run.id, *(f"{n:,}" for n in numbers), _moved(call), style="red" if call.lost else ""
            )
        if len(shown) > _MOST:
            table.caption = f"and {len(shown) - _MOST:,} more; --json lists them all"
        return table

    def _advice(self) -> Iterator[RenderableType]:
        found = self.findings()
        if not found:
            return
        yield Text("What to do", style="bold")
        for (rule, advice), places in found.items():
            more = f" and {len(places) - _PLACES:,} more" if len(places) > _PLACES else ""
            yield Text(f"- {rule}: {advice}")
            yield Text(f"  {'; '.join(places[:_PLACES])}{more}", style="dim")


def _take(found: dict[tuple[str, str], list[str]], findings: list[Finding], where: str) -> None:
    for one in findings:
        found.setdefault((one.rule, one.advice), []).append(f"{where}: {one.place}")


def _part(call: CallNote) -> str:
    if call.moved is not None:
        return call.moved.part
    return "tail" if call.tail and not call.unmarked else "unmarked"


def _moved(call: CallNote) -> str:
    if call.moved is not None:
        return f"{call.moved}" + (f" (since {call.against})" if call.against else "")
    if call.lost and (call.unmarked or not call.tail):
        return f"nothing{f' (since {call.against})' if call.against else ''}; it is not marked"
    return "the last message, replaced" if call.tail else ""
