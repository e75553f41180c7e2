"""What programs print about code: tests, traces, builds, logs of commits, diffs, trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.long_runs.source import File, Style
from benchmarks.long_runs.words import Words

__all__ = [
    "Commit",
    "Report",
    "build",
    "commits",
    "diff",
    "log",
    "suite",
    "tests",
    "trace",
    "tree",
]

Place = tuple[str, int]


@dataclass(slots=True)
class Report:
    """A report of tests, and what is to be found in it."""

    text: str = ""
    failed: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def suite(words: Words, paths: Sequence[str]) -> list[tuple[str, str]]:
    """The tests of a repository, file by file."""
    files = words.some([p.replace("src/", "tests/") for p in paths], 14)
    count = words.size(8, 70, 900)
    names = [f"test_{words.snake(words.dice.randint(2, 4))}" for _ in range(count)]
    return [(files[n * len(files) // count], name) for n, name in enumerate(names)]


def tests(
    words: Words,
    language: str,
    chosen: Sequence[tuple[str, str]],
    paths: Sequence[str],
    *,
    verbose: bool,
) -> Report:
    """A report in the form of the language's usual runner; what fails changes run by run."""
    report, dice = Report(), words.dice
    lines: list[str] = []
    bodies: list[str] = []
    for number, (path, name) in enumerate(chosen):
        bad = dice.random() < (0.5 if len(chosen) == 1 else 0.02)
        (report.failed if bad else report.passed).append(f"{path}::{name}")
        lines.append(_verdict(language, path, name, bad, 100 * (number + 1) // len(chosen)))
        if bad:
            text, places, names = trace(words, language, paths)
            bodies.append(f"_____ {name} _____\n{text}\n{words.of(_BECAUSE)} {words.amount()}")
            report.places += places
            report.names += names
    total = (
        f"{len(report.failed)} failed, {len(report.passed)} passed in {dice.uniform(1, 90):.2f}s"
    )
    if not verbose:
        files = dict.fromkeys(path for path, _ in chosen)
        lines = [f"{path} {'.' * sum(p == path for p, _ in chosen)}" for path in files]
        report.passed = []
    report.text = "\n".join([f"collected {len(chosen)} items", *lines, *bodies, f"=== {total} ==="])
    return report


def _verdict(language: str, path: str, name: str, bad: bool, share: int) -> str:
    if language == "python":
        return f"{path}::{name} {'FAILED' if bad else 'PASSED'} [{share:>3}%]"
    if language == "typescript":
        return f"  {'✕' if bad else '✓'} {name.replace('_', ' ')} ({share} ms) {path}::{name}"
    if language == "rust":
        return f"test {path}::{name} ... {'FAILED' if bad else 'ok'}"
    if language == "go":
        return f"--- {'FAIL' if bad else 'PASS'}: {path}::{name} (0.{share:02d}s)"
    return f"[{'ERROR' if bad else 'INFO'}] {path}::{name} Time elapsed: 0.{share:03d} s"


def trace(words: Words, language: str, paths: Sequence[str]) -> tuple[str, list[Place], list[str]]:
    """A stack trace in the form of the language."""
    dice = words.dice
    places: list[Place] = []
    names: list[str] = []
    lines: list[str] = []
    for _ in range(dice.randint(3, 18)):
        path, line, name = words.of(paths), dice.randint(5, 900), words.snake(dice.randint(2, 3))
        places.append((path, line))
        names.append(name)
        statement = f"{words.noun()} = {words.snake()}({words.noun()})"
        lines.append(
            {
                "python": f'  File "/app/{path}", line {line}, in {name}\n    {statement}',
                "typescript": f"    at async {name} (/app/{path}:{line}:{dice.randrange(2, 40)})",
                "rust": f"  {len(lines):>2}: {name}\n             at ./{path}:{line}:9",
                "go": f"main.{name}(0x{words.hexes(8)})\n\t/app/{path}:{line} +0x{words.hexes(3)}",
                "java": f"\tat org.{words.noun()}.{name}({path}:{line})",
            }[language]
        )
    error = f"{words.camel()}Error: {words.noun()} {words.ident()} is not {words.noun()}"
    if language == "python":
        return "\n".join(["Traceback (most recent call last):", *lines, error]), places, names
    return "\n".join([error, *lines]), places, names


def build(words: Words, paths: Sequence[str]) -> tuple[str, list[Place], list[str]]:
    """What a build prints: packages, progress, warnings, maybe an error at the end."""
    dice, out, places, packages = words.dice, [], [], []
    for _ in range(words.size(8, 50, 800)):
        package = f"{words.made_up()}-{words.noun()}"
        draw = dice.random()
        if draw < 0.6:
            version = f"{dice.randrange(9)}.{dice.randrange(30)}.{dice.randrange(20)}"
            packages.append(package)
            out.append(f"{words.of(['Downloading', 'Compiling', 'Fetched'])} {package} v{version}")
        elif draw < 0.9:
            out.append(f"[{dice.randrange(100):>3}%] {words.verb()} {words.of(paths)}.o")
        else:
            place = (words.of(paths), dice.randint(3, 800))
            places.append(place)
            text = f"unused {words.noun()} `{words.snake(3)}`"
            out.append(f"warning: {text}\n  --> {place[0]}:{place[1]}:5")
    if dice.random() < 0.4:
        place = (words.of(paths), dice.randint(3, 800))
        places.append(place)
        out.append(f"{place[0]}:{place[1]}:7: error: no {words.noun()} `{words.snake(3)}` here")
    return "\n".join(out), places, packages


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit as the log tells it."""

    digest: str
    subject: str
    author: str
    date: str
    body: str


def commits(words: Words) -> list[Commit]:
    """A repository's commits, newest first."""
    out = []
    for number in range(words.size(8, 25, 200)):
        subject = f"{words.verb().title()} {words.noun()} {words.noun()}"
        author = f"{words.of(['dev', 'ops', 'qa'])} <{words.made_up()}@{words.noun()}.example>"
        out.append(
            Commit(
                words.hexes(40),
                f"{subject} (#{words.dice.randrange(9000)})",
                author,
                words.moment(-number * 7e4),
                words.sentence(),
            )
        )
    return out


def log(history: Sequence[Commit], *, short: bool) -> str:
    """The log of them; short: a line each."""
    if short:
        return "\n".join(f"{c.digest} {c.subject}" for c in history)
    return "\n".join(
        f"commit {c.digest}\nAuthor: {c.author}\nDate:   {c.date}\n\n    {c.subject}\n\n"
        f"    {c.body}\n"
        for c in history
    )


def diff(words: Words, style: Style, files: Sequence[File]) -> tuple[str, list[Place]]:
    """A unified diff over some files."""
    out: list[str] = []
    places: list[Place] = []
    for file in files:
        out += [
            f"diff --git a/{file.path} b/{file.path}",
            f"--- a/{file.path}",
            f"+++ b/{file.path}",
        ]
        for _ in range(words.dice.randint(1, 6)):
            at = words.dice.randrange(max(1, len(file.lines) - 8))
            around = file.lines[at : at + 7]
            places.append((file.path, at + 1))
            out.append(f"@@ -{at + 1},7 +{at + 1},8 @@ {words.snake()}")
            out += [f" {line}" for line in around[:3]]
            out += [f"-{line}" for line in around[3:4]]
            out += [f"+    {style.statement(words)}" for _ in range(2)]
            out += [f" {line}" for line in around[4:]]
    return "\n".join(out), places


def tree(paths: Sequence[str]) -> str:
    """As `tree` draws it, whole paths at the leaves' folders."""
    out, folder = ["."], ""
    for path in paths:
        parent, _, name = path.rpartition("/")
        if parent != folder:
            folder = parent
            out.append(f"├── {parent}")
        out.append(f"│   ├── {name}")
    return "\n".join([*out, "", f"{len(paths)} files"])


_BECAUSE = ["E  assert 0 ==", "expected:", "left != right:", "AssertionError: got"]
