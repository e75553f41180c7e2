"""Reads the compact notation back, written from its description alone, so that tests can show
that nothing was lost. Objects become lists of pairs and numbers `Number`, as in `as_pairs`."""

from __future__ import annotations

import json
import re
from typing import Any


class Number(str):
    """A number as its source text, so that 1.0 and 1.00 differ."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and str(self) == str(other)

    __hash__ = str.__hash__


class Pairs(list[tuple[str, Any]]):
    """An object; never equal to an array."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pairs) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def as_pairs(text: str) -> Any:
    """JSON text with order, duplicates and number sources kept."""
    return json.loads(
        text, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=Number
    )


NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?\Z|NaN\Z|-?Infinity\Z")
ROWS = re.compile(r"(\d+) (keyed rows|rows): ")
MATRIX = re.compile(r"(\d+) rows of (\d+):\n")
JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def decode(text: str) -> Any:
    """The value `text` stands for."""
    reader = _Reader(text)
    value = reader.value()
    assert reader.at == len(text), f"left over: {text[reader.at :][:80]!r}"
    return value


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, expected: str) -> None:
        found = self.text[self.at : self.at + len(expected)]
        assert found == expected, f"{expected!r} expected at {self.at}, found {found!r}"
        self.at += len(expected)

    def here(self, expected: str) -> bool:
        if self.text.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def value(self) -> Any:
        if self.text.startswith(("[", "{"), self.at):
            return self.container()
        if self.here('"""'):
            end = self.text.index('"""', self.at)
            found, self.at = self.text[self.at : end], end + 3
            return found
        return self.scalar()

    def scalar(self) -> Any:
        if self.text.startswith('"', self.at):
            return self.quoted()
        found = re.compile(r"[^,\]}\n]*").match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        word = found.group()
        assert word, f"nothing at {self.at}"
        if NUMBER.match(word):
            return Number(word)
        return {"true": True, "false": False, "null": None}.get(word, word)

    def quoted(self) -> str:
        found = JSON_STRING.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        string = json.loads(found.group())
        assert isinstance(string, str)
        return string

    def key(self) -> str:
        if self.text.startswith('"', self.at):
            return self.quoted()
        found = re.compile(r"[^:,{}\[\]\n]+").match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        return found.group()

    def container(self) -> Any:
        opening = self.text[self.at]
        closing = "]" if opening == "[" else "}"
        self.at += 1
        if table := ROWS.match(self.text, self.at):
            self.at = table.end()
            return self.table(int(table.group(1)), "keyed" in table.group(2), closing)
        if matrix := MATRIX.match(self.text, self.at):
            self.at = matrix.end()
            return self.matrix(int(matrix.group(1)), int(matrix.group(2)))
        items: list[Any] = []
        pairs = Pairs()
        while not self.here(closing):
            if items or pairs:
                self.take(",")
            if opening == "{":
                key = self.key()
                self.take(":")
                pairs.append((key, self.value()))
            else:
                items.append(self.value())
        return pairs if opening == "{" else items

    def matrix(self, total: int, width: int) -> list[Any]:
        rows = []
        for n in range(total):
            if n:
                self.take("\n")
            row = []
            for m in range(width):
                if m:
                    self.take(",")
                row.append(self.value())
            rows.append(row)
        self.take("]")
        return rows

    def table(self, total: int, keyed: bool, closing: str) -> Any:
        if self.here("[]"):
            schema: Any = self.schema_list()
            self.take("\n")
        else:
            schema = self.columns("\n")
        rows: list[Any] = []
        pairs = Pairs()
        for n in range(total):
            if n:
                self.take("\n")
            key = ""
            if keyed:
                key = self.key()
                self.take(":")
            ends = ("\n",) if n + 1 < total else (closing,)
            row = self.record(schema, ends) if isinstance(schema, dict) else self.under(schema)
            rows.append(row)
            pairs.append((key, row))
        self.take(closing)
        return pairs if keyed else rows

    def schema_list(self) -> list[Any]:
        if self.here("[]"):
            return [self.schema_list()]
        self.take("{")
        columns = self.columns("}")
        return [columns]

    def columns(self, end: str) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        while True:
            key = self.key()
            if self.here("[]"):
                columns[key] = self.schema_list()
            elif self.here("{"):
                columns[key] = self.columns("}")
            else:
                columns[key] = None
            if self.here(end):
                return columns
            self.take(",")

    def under(self, schema: Any) -> Any:
        if schema is None or self.here_null():
            return None if schema is not None else self.value()
        if isinstance(schema, list):
            self.take("[")
            items: list[Any] = []
            while not self.here("]"):
                if items:
                    self.take(",")
                items.append(self.under(schema[0]))
            return items
        self.take("{")
        record = self.record(schema, ("}",))
        self.take("}")
        return record

    def here_null(self) -> bool:
        found = re.compile(r"null(?=[,\]}\n])").match(self.text, self.at)
        if found:
            self.at = found.end()
        return found is not None

    def record(self, schema: dict[str, Any], ends: tuple[str, ...]) -> Pairs:
        record = Pairs()
        for n, (key, column) in enumerate(schema.items()):
            if n:
                self.take(",")
            if not self.text.startswith((",", *ends), self.at):
                record.append((key, self.under(column)))
        return record
