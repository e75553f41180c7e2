"""A text of each content kind, as long as wanted, for measuring; the same each time."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable

from benchmarks.long_runs import reports
from benchmarks.long_runs.coding import Coding
from benchmarks.long_runs.operations import Operations
from benchmarks.long_runs.records import Records, aligned, separated
from benchmarks.long_runs.source import STYLES, File
from benchmarks.long_runs.web import Web
from benchmarks.long_runs.words import Words

__all__ = ["KINDS", "text_of"]


def text_of(kind: str, size: int) -> str:
    """A text of the kind, of about `size` bytes, and whole in its form where that is cheap."""
    words = Words(random.Random(f"{kind}/{size}"))
    return KINDS[kind](words, size)


def _grown(size: int, part: Callable[[], str], joint: str = "\n") -> str:
    """Parts, until there is enough."""
    out: list[str] = []
    length = 0
    while length < size:
        out.append(part())
        length += len(out[-1].encode()) + 1
    return joint.join(out)


def _rows(words: Words, size: int) -> tuple[Records, list[list[str]]]:
    made = Records(words)
    heads, few = made.flat(20)
    each = max(1, sum(len(cell) + 1 for row in few for cell in row) // 20)
    return made, [heads, *made.flat(size // each)[1]]


def _json(words: Words, size: int) -> str:
    made = Records(words)
    each = len(json.dumps([made.one() for _ in range(20)])) // 20
    return json.dumps({"data": [made.one() for _ in range(size // each)], "more": True})


def _json_lines(words: Words, size: int) -> str:
    made = Records(words)
    return _grown(size, lambda: json.dumps(made.one()))


def _deep(words: Words, size: int) -> str:
    def node(depth: int) -> object:
        if depth == 0:
            return words.of([words.ident(), words.amount(), words.dice.random(), None, True])
        return {words.noun(): node(depth - 1) for _ in range(4)}

    return "[" + _grown(size, lambda: json.dumps(node(4), indent=2), ",\n") + "]"


def _log(words: Words, size: int) -> str:
    world = Operations(words)
    return _grown(size, lambda: world.tools["read_log"]({"service": words.noun()}).text)[:size]


def _html(words: Words, size: int) -> str:
    web = Web(words)
    web.as_html = True
    body = _grown(size, lambda: "<p>" + words.paragraph() + "</p>" + web._table()[0])
    return web._dressed(body)


def _source(style: int) -> Callable[[Words, int], str]:
    return lambda words, size: "\n".join(
        File.made(words, STYLES[style], "a/b", max(1, size // 3)).lines
    )


def _tool(tool: str, arguments: dict[str, object]) -> Callable[[Words, int], str]:
    """What a coding agent's tool gives back, several times over."""

    def made(words: Words, size: int) -> str:
        world = Coding(words)
        for path in world.paths[:6]:
            world.tools["read_file"]({"path": path})
        return _grown(size, lambda: world.tools[tool](arguments).text)[:size]

    return made


def _report(words: Words, size: int) -> str:
    world = Coding(words)

    def part() -> str:
        chosen = reports.suite(words, world.paths)
        return reports.tests(words, "python", chosen, world.paths, verbose=True).text

    return _grown(size, part)[:size]


def _trace(words: Words, size: int) -> str:
    return _grown(size, lambda: reports.trace(words, "java", ["a/B.java", "c/D.java"])[0])


def _prose(language: str) -> Callable[[Words, int], str]:
    return lambda words, size: _grown(size, lambda: words.paragraph(language), "\n\n")


def _minified(words: Words, size: int) -> str:
    def part() -> str:
        name, value = words.made_up()[:2], words.dice.randrange(999)
        return f"function {name}(a,b){{return a.{words.noun()}(b)||{value}}}"

    return _grown(size, part, ";")


KINDS: dict[str, Callable[[Words, int], str]] = {
    "JSON records": _json,
    "JSON nested": _deep,
    "JSON lines": _json_lines,
    "CSV": lambda w, s: separated(_rows(w, s)[1]),
    "table, aligned": lambda w, s: aligned(_rows(w, s)[1]),
    "table, Markdown": lambda w, s: "\n".join(
        "| " + " | ".join(row) + " |" for row in _rows(w, s)[1]
    ),
    "log": _log,
    "HTML": _html,
    "Python": _source(0),
    "TypeScript": _source(1),
    "diff": _tool("git", {"command": "diff"}),
    "search hits": _tool("search", {"pattern": "handle"}),
    "listing": _tool("list_files", {"path": "."}),
    "test report": _report,
    "stack traces": _trace,
    "build output": _tool("shell", {"command": "make build"}),
    "prose, English": _prose("en"),
    "prose, Chinese": _prose("zh"),
    "base64": lambda w, s: base64.b64encode(w.dice.randbytes(s * 3 // 4)).decode(),
    "minified": _minified,
    "one line": lambda w, s: _grown(s, w.noun, " "),
}
