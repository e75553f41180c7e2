"""Records as APIs, databases and exports show them: one business object of the run, drawn."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from benchmarks.long_runs.play import Arguments, Fact, Lead, Output
from benchmarks.long_runs.words import PLACES, Words

__all__ = ["Records", "aligned", "separated"]

_STATES = ["open", "paid", "shipped", "returned", "queued", "done", "void"]


class Records:
    """Records of one kind: an id, a person, and fields drawn for the run."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.singular = words.noun()
        self.name = f"{self.singular}s"
        camel = words.dice.random() < 0.5
        names = words.dice.sample(words.nouns, 8)
        made = [
            f"{a}{b.title()}" if camel else f"{a}_{b}"
            for a, b in zip(names, names[4:], strict=False)
        ]
        self.fields = [(n, words.of(["amount", "count", "date", "ident", "word"])) for n in made]
        self.fields += [(names[5], "amount"), (names[6], "ident")]
        self.key = words.of(["id", f"{self.singular}_id", "uid", "ref"])
        self.owner = words.of(["customer", "owner", "name", "contact"])
        self.sum = f"{names[5]}_total"
        self.depth = words.dice.randint(0, 2)
        self.indent = words.of([None, 1, 2])
        self.known: dict[str, dict[str, Any]] = {}
        self.pages: dict[str, list[dict[str, Any]]] = {}

    def _value(self, kind: str) -> Any:
        words = self.words
        if kind == "amount":
            return float(words.amount())
        if kind == "count":
            return words.dice.randrange(5000)
        if kind == "date":
            return words.date()
        return words.ident() if kind == "ident" else words.noun()

    def one(self) -> dict[str, Any]:
        """A new record."""
        words, dice = self.words, self.words.dice
        state = "failed" if dice.random() < 0.05 else words.of(_STATES)
        record: dict[str, Any] = {self.key: words.ident(self.singular), self.owner: words.person()}
        record |= {"status": state, self.sum: float(words.amount())}
        record |= {name: self._value(kind) for name, kind in self.fields if dice.random() < 0.95}
        if self.depth:
            record["address"] = {
                "city": words.of(PLACES),
                "street": f"{words.of(words.nouns).title()} Street {dice.randrange(1, 400)}",
                "geo": {
                    "lat": round(dice.uniform(-60, 60), 5),
                    "lon": round(dice.uniform(0, 180), 5),
                },
            }
        if self.depth > 1:
            record["lines"] = [
                {"sku": words.ident(), "qty": dice.randrange(1, 40), "price": float(words.amount())}
                for _ in range(dice.randrange(1, 5))
            ]
        if dice.random() < 0.1:
            record["note"] = words.paragraph(most=2)
        self.known[str(record[self.key])] = record
        return record

    def page(self, arguments: Arguments) -> Output:
        """A page of the API, or one record by its path; asked again, some records changed."""
        path, dice = str(arguments["path"]), self.words.dice
        if path.count("/") > 1:
            return self._single(path)
        key = json.dumps(arguments, sort_keys=True)
        rows = self.pages.get(key)
        if rows is None:
            most = int(arguments.get("limit", 30))
            rows = self.pages[key] = [self.one() for _ in range(max(2, most * 2 // 5))]
        else:
            for row in dice.sample(rows, max(1, len(rows) // 12)):
                row["status"] = self.words.of(_STATES)
        cursor = self.words.hexes(20)
        value = {"data": rows, "has_more": True, "next_cursor": cursor, "count": len(rows)}
        leads, facts = self._chances(rows)
        leads.append(Lead("api_get", {"path": path, "cursor": cursor}, max(1.0, len(rows) / 8)))
        return Output(json.dumps(value, ensure_ascii=False, indent=self.indent), leads, facts)

    def _single(self, path: str) -> Output:
        """One record at length, with its history."""
        words, dice = self.words, self.words.dice
        ident = path.rpartition("/")[2]
        record = self.known.get(ident) or self.one() | {self.key: ident}
        history = [
            {
                "at": words.moment(n * 977),
                "by": words.person(),
                "change": words.snake(),
                "ref": words.ident(),
            }
            for n in range(dice.randrange(1, 40))
        ]
        value = record | {"history": history, "etag": words.hexes(10)}
        leads = [
            Lead("api_get", {"path": f"/{words.noun()}/{event['ref']}"}, 0.3) for event in history
        ]
        leads += self._chances([record])[0]
        return Output(json.dumps(value, ensure_ascii=False, indent=self.indent), leads)

    def _chances(self, rows: Sequence[dict[str, Any]]) -> tuple[list[Lead], list[Fact]]:
        leads, facts = [], []
        for row in rows:
            ident, who = str(row[self.key]), str(row[self.owner])
            weight = 10.0 if row["status"] == "failed" else 1.0
            ask = f"Please look at the {self.singular} of {who} now."
            leads.append(Lead("api_get", {"path": f"/{self.name}/{ident}"}, weight))
            leads.append(Lead("api_get", {"path": f"/{self.name}/{ident}"}, 1.0, ask))
            facts.append(
                Fact(
                    f"What was the {self.sum} of {who}'s {self.singular}?",
                    json.dumps(row[self.sum]),
                )
            )
        return leads, facts

    def flat(self, count: int) -> tuple[list[str], list[list[str]]]:
        """Header and rows without nesting, every value a text."""
        heads = [self.key, self.owner, "status", self.sum, *(name for name, _ in self.fields)]
        rows = [self.one() for _ in range(count)]
        return heads, [[str(row.get(head, "")) for head in heads] for row in rows]

    def chances(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], tool: str = "api_get"
    ) -> tuple[list[Lead], list[Fact]]:
        """What flat rows lead to: each by its id, each when a user names the person."""
        leads, facts = [], []
        for row in rows:
            weight = 10.0 if row[2] == "failed" else 1.0
            arguments = {"path": f"/{self.name}/{row[0]}"}
            if tool != "api_get":
                arguments = {"query": f"SELECT * FROM {self.name} WHERE {self.key} = '{row[0]}'"}
            ask = f"And what about {row[1]}? Please check that {self.singular}."
            leads += [Lead(tool, arguments, weight), Lead(tool, arguments, 1.0, ask)]
            facts.append(Fact(f"What {heads[3]} did the list show for {row[1]}?", row[3]))
        return leads, facts


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded with spaces, as commands print them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def separated(rows: Sequence[Sequence[str]], delimiter: str = ",") -> str:
    """CSV, quoted where it must be."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue()
