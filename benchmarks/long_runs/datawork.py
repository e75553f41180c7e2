"""A data agent: SQL rows in five forms, CSV, JSON lines, summaries of columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from benchmarks.long_runs.play import Arguments, Lead, Output
from benchmarks.long_runs.records import Records, aligned, separated
from benchmarks.long_runs.words import Words

__all__ = ["DataWork"]

Rows = Sequence[Sequence[str]]


class DataWork:
    """Two or three tables, their files, and what a session prints of them."""

    def __init__(self, words: Words) -> None:
        self.words = words
        dice = words.dice
        self.tables = [Records(words) for _ in range(dice.randint(2, 4))]
        self.form = words.of([_psql, _markdown, _json, _tuples, _csv])
        self.columns = {
            t.name: [f"{words.noun()}_{words.noun()}" for _ in range(dice.randint(4, 40))]
            for t in self.tables
        }
        self.kept: dict[str, Output] = {}
        self.system = "You answer questions about data with SQL and small scripts. " + " ".join(
            words.sentence() for _ in range(dice.randint(4, 40))
        )
        self.task = f"Something is off with our {self.tables[0].name}; the totals do not match."
        self.tools: dict[str, Callable[[Arguments], Output]] = {
            "sql": self._sql,
            "read_csv": self._file,
            "read_jsonl": self._lines,
            "summary": self._summary,
        }

    def explore(self) -> tuple[str, Arguments]:
        """A query without a key, a file, a summary."""
        words, table = self.words, self.words.of(self.tables)
        draw = words.dice.random()
        if draw < 0.5:
            most = words.size(4, 40, 800)
            return "sql", {"query": f"SELECT * FROM {table.name} LIMIT {most}"}
        if draw < 0.6:
            return "sql", {"query": f"DESCRIBE {table.name}"}
        if draw < 0.75:
            return "read_csv", {"path": f"{table.name}.csv"}
        if draw < 0.88:
            return "read_jsonl", {"path": f"{words.noun()}.jsonl"}
        return "summary", {"table": table.name}

    def _sql(self, arguments: Arguments) -> Output:
        """Rows; the same query gives the same rows."""
        query = str(arguments["query"])
        if query not in self.kept:
            self.kept[query] = self._answer(query)
        return self.kept[query]

    def _answer(self, query: str) -> Output:
        words = self.words
        table = next((t for t in self.tables if f" {t.name}" in query), self.tables[0])
        if query.startswith("DESCRIBE"):
            columns = self.columns[table.name]
            rows = [
                [c, words.of(["text", "bigint", "numeric(12,2)", "date"]), "YES"] for c in columns
            ]
            leads = [Lead("sql", {"query": _total(c, table.name)}) for c in columns]
            return Output(self.form([["column", "type", "null"], *rows]), leads)
        if query.startswith("SELECT sum"):
            return Output(self.form([["sum"], [words.amount()]]))
        most = int(query.rpartition(" ")[2]) if " LIMIT " in query else words.dice.randint(1, 3)
        heads, rows = table.flat(max(1, most // 2))
        leads, facts = table.chances(heads, rows, "sql")
        for row in rows[: len(rows) // 4]:
            ident = next((cell for cell in row[4:] if len(cell) > 7 and not cell.isalpha()), row[0])
            query = f"SELECT * FROM {table.name}_log WHERE ref = '{ident}'"
            leads.append(Lead("sql", {"query": query}))
        return Output(self.form([heads, *rows]), leads, facts)

    def _file(self, arguments: Arguments) -> Output:
        """A CSV file, whole; it stays what it was."""
        path = str(arguments["path"])
        if path not in self.kept:
            table = next((t for t in self.tables if path.startswith(t.name)), self.tables[0])
            heads, rows = table.flat(self.words.size(8, 40, 700))
            leads, facts = table.chances(heads, rows, "sql")
            text = separated([heads, *rows], self.words.of(",;\t"))
            self.kept[path] = Output(text, leads, facts)
        return self.kept[path]

    def _lines(self, arguments: Arguments) -> Output:
        """JSON lines: events of some kinds, each kind with fields of its own."""
        words, dice, table = self.words, self.words.dice, self.tables[0]
        kinds = [[words.noun() for _ in range(dice.randint(2, 6))] for _ in range(3)]
        lines, leads = [], []
        for number in range(words.size(10, 60, 900)):
            ident = words.ident()
            value = {"event": words.uuid(), "at": words.moment(number * 31.7), table.key: ident}
            value |= {name: words.of([words.amount(), words.noun()]) for name in words.of(kinds)}
            lines.append(json.dumps(value))
            query = f"SELECT * FROM {table.name} WHERE {table.key} = '{ident}'"
            leads.append(Lead("sql", {"query": query}))
        return Output("\n".join(lines), leads)

    def _summary(self, arguments: Arguments) -> Output:
        """Counts and quantiles of each column, as a data frame prints them."""
        name = str(arguments["table"])
        heads = ["", "count", "mean", "std", "min", "50%", "max"]
        rows = [[c, *(self.words.amount() for _ in heads[1:])] for c in self.columns[name]]
        leads = [Lead("sql", {"query": _total(c, name)}) for c in self.columns[name]]
        return Output(aligned([heads, *rows]), leads)


def _total(column: str, table: str) -> str:
    return f"SELECT sum({column}) FROM {table}"


def _psql(rows: Rows) -> str:
    lines = aligned(rows).split("\n")
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], f"({len(rows) - 1} rows)"])


def _markdown(rows: Rows) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _json(rows: Rows) -> str:
    return json.dumps([dict(zip(rows[0], row, strict=True)) for row in rows[1:]])


def _tuples(rows: Rows) -> str:
    return "[" + ", ".join(str(tuple(row)) for row in rows[1:]) + "]"


def _csv(rows: Rows) -> str:
    return separated(rows)
