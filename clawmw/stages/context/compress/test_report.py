"""Test and build output: what went well is counted, what failed stays with its context.

pytest, unittest, jest, vitest, mocha, go test, cargo, TAP, JUnit, Maven, Gradle, RSpec, dotnet,
PHPUnit; make, CMake, compilers, tsc, webpack, npm, pip, apt, docker build. Lines are told by
form: routine (a test that passed, a file compiled), failure, summary, and other. Every form of
failure and every summary stays at every level; failures that read alike but for names and
numbers are shown in full for the first ones, and counted past a dozen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.frames import Places, frames, place, ranked
from clawmw.stages.context.compress.lines import (
    Picker,
    hits,
    names,
    render,
    sample,
    words_of,
)
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    count,
    failures,
    keys_room,
    marker,
    room,
)
from clawmw.stages.context.compress.relevance import takes_addresses
from clawmw.stages.context.compress.squeeze import plain

__all__ = ["TestReportReducer"]

CONTEXT = 14
"""Lines after a failure that belong to it, up to the next routine line or headline."""

REACH = 120
"""Lines after a failure that are looked at, frames included."""

ALIKE = 3
"""Failures of one form that are shown with their context."""

SHARE = 4
"""Names of what passed and places of frames have so many times less room than names elsewhere."""

WARNINGS = 8
"""Forms of warnings of which the first is shown."""

WARNED = 40
"""Warnings of one stretch of which it is said where they are."""

NEAR = 2
"""Frames of a trace shown under its failure; of the others only where they are."""

NAMED = 12
"""Failures of one form that are shown at all; of the rest, where they are."""

_ROUTINE = re.compile(
    r"\s*(?:\S{1,200}\.\w{1,4} [.sx]+\s*(?:\[ *\d+%\])?$|[.sx]{5,}\s*(?:\[ *\d+%\])?$"
    r"|[✓✔√]\s|ok \d+\b|test .{1,200} \.\.\. (?:ok|ignored)|--- (?:PASS|SKIP)|=== (?:RUN|PAUSE"
    r"|CONT|NAME)"
    r"|ok\s+\S+/\S+\s|\?\s+\S+\s+\[no test files\]|PASS\b|Passed\s+\S|\.{1,3} ?ok$"
    r"|\[INFO\]|make(?:\[\d+\])?: (?:Entering|Leaving|Nothing)|(?:/\S+/)?(?:gcc|g\+\+|cc|clang"
    r"|clang\+\+|c\+\+|ld|ar|rustc|javac)\s+-"
    r"|(?:CC|CXX|LD|AR|AS|GEN|HOSTCC|OBJCOPY|LINK|\[CC\])(?:\(T\))?\s{1,8}(?:\[M\] *)?\S+"
    r"|\[ *\d+(?:%|/\d+)\]"
    r"|Compiling \S+ v|Checking \S+ v|Download(?:ing|ed) |Fresh \S+ v|Requirement already"
    r"|Collecting "
    r"|Using cached|Installing |Resolving |> Task :|asset \S+ \d|modules by|(?:Get|Hit|Ign):\d+ "
    r"|Setting up |Unpacking |Selecting previously|Preparing to unpack|Processing triggers|#\d+ "
    r"|Step \d+/\d+|---> |Removing intermediate|-- (?:Looking|Check|Found|Performing|Detecting)"
    r"|\+ \S+@\d|added \d+ packages|npm (?:http|timing|info)|\d+ passing"
    r"|\s*at .{1,200}\(node:internal)"
)
_PASSED_WORDS = ("PASSED", "XFAIL", "SKIPPED", " ok")
_PASSED = re.compile(r"\s*\S.{0,200}(?:::|\s)(?:PASSED|XFAIL|SKIPPED|ok)\b(?:\s*\[ *\d+%\])?\s*$")
_SUMMARY = re.compile(
    r"=+ .{0,120}\b(?:passed|failed|error|no tests ran)\b.{0,120}=+$|(?:FAILED|ERROR"
    r"|XPASS) \S+(?:::| - )"
    r"|Ran \d+ tests? in|(?:FAILED|OK) \(|OK$|Tests?(?: Suites| Files)?:?\s+.{0,80}\d+ (?:passed"
    r"|failed|total)"
    r"|Tests run: \d+|Snapshots:|Time:\s|test result: |\d+ (?:passing|failing|pending)\b"
    r"|\d+ examples?, \d+ failures?|# (?:tests|pass|fail|skip)\b|1\.\.\d+$|(?:Passed|Failed)!\s"
    r"|BUILD (?:SUCCESS|FAIL)|BUILD SUCCESSFUL|(?:FAIL|ok)\s+[\w.-]+/\S+\s+(?:\d|\[|\(cached)"
    r"|FAIL$|exit (?:status|code)"
    r"|Found \d+ errors?|\d+ errors? (?:and|generated)|\d+ warnings?(?: and| generated"
    r"|\b.{0,20}emitted)"
    r"|make(?:\[\d+\])?: \*\*\*|webpack .{0,60}compiled|Finished |error: (?:could not compile"
    r"|aborting|test failed)"
    r"|Successfully |TOTAL\s+\d|Coverage|Total time|collected \d+ items|running \d+ tests?"
    r"|Reactor Summary"
    r"|Command exited|Exit code|.{0,10}\bvulnerabilit"
)
_RED = re.compile(
    r"\s*(?:[✕✗✘×]\s|●\s|not ok \d|--- FAIL|_{3,} .{1,200} _{3,}$|(?:FAIL|ERROR|FAILED): "
    r"|\d+\) \S|E\s{2,}|\[ERROR\]|ERROR in |>\s{2,}|panicked at|error(?:\[E\d+\])?: "
    r"|---- .{1,160} stdout ----|npm ERR!|FAIL +\S|Error:)"
)
_RED_WORDS = ("rror", "FAILED", "ERROR", "undefined reference", "panicked")
_RED_INSIDE = re.compile(
    r"\s*\S.{0,200}(?:::|\s)(?:FAILED|ERROR)\b|thread '.{1,80}' panicked"
    r"|.{1,260}?(?:: (?:fatal )?error\b|\(\d+,\d+\): error|error TS\d+|: undefined reference"
    r"|: FAILED)"
)
_WARNING = re.compile(
    r"\s*(?:warning\b|\[WARN|.{1,260}?: warning\b|WARN\b|npm warn|.{0,200}Warning: )", re.IGNORECASE
)
_POINTER = re.compile(r"\s*(?:-->|at |in file )\s*\S")
_RULE = re.compile(r"[=\-_*~]{3,}(?:\s.{0,160}\s[=\-_*~]{3,})?$")
_FORM = re.compile(
    r"\d+|'[^']{0,80}'|\"[^\"]{0,80}\"|‘[^’]{0,80}’|`[^`]{0,80}`|(?:[\w.-]*/)+[\w.-]+|0x[0-9a-f]+"
)
_TEST = re.compile(
    r"\s*(?:test |--- (?:PASS|SKIP): |ok \d+ (?:- )?|Passed |[✓✔√] |\[INFO\] )?"
    r"(\S.{1,200}?)(?: \.\.\. ok| PASSED| XFAIL| SKIPPED| ok\b| \(\d| Time elapsed|$)"
)
_PACKAGE = re.compile(
    r"(?:Compiling|Checking|Fresh|Download(?:ing|ed)|Collecting|Fetched|Setting up|Unpacking"
    r"|Installing|Using cached|\+|Requirement already satisfied:)\s+([\w@./+:-]{2,80})"
    r"(?: \(?v?(\d[\w+:~-]{0,20}\.[\w.+:~-]{1,30}))?"
)
_SURE = re.compile(
    r"=+ (?:test session starts|FAILURES|short test summary)|Ran \d+ tests? in|Test(?: Suites"
    r"|s):\s+\d|test result: "
    r"|=== RUN|--- (?:FAIL|PASS)|TAP version|not ok \d|1\.\.\d+$|Tests run: \d+|BUILD (?:SUCCESS"
    r"|FAIL)"
    r"|\d+ examples?, \d+ failures?|make(?:\[\d+\])?: |.{1,200}\berror TS\d+"
    r"|webpack .{0,60}compiled|\S+: (?:fatal )?error: "
    r"|\S+:\d+:\d+: warning: |=+ .{0,120}\b(?:passed|failed)\b.{0,80}=+$|\d+ passing|npm ERR!"
    r"|FAIL\s+\S+\s+\d|Test Files\s"
    r"|(?:FAIL|PASS) \S+\.\w+|error\[E\d+\]|Compiling \S+ v\d|Requirement already satisfied"
    r"|Collecting \S+$"
    r"|ok\s+\S+/\S+\s+(?:\d|\(cached)|(?:Passed|Failed)!\s+- |Step \d+/\d+ :|Setting up \S+ \("
)


@dataclass(slots=True)
class _Lines:
    routine: set[int]
    red: list[int]
    summary: list[int]
    warnings: list[int]
    pointers: set[int]
    """Lines that say where a warning is, below it."""
    frames: dict[int, int]


class TestReportReducer:
    """What a test runner, a compiler or an installer prints."""

    __test__ = False

    name = "test_report"
    version = 1

    def matches(self, text: str) -> bool:
        lines = sample(text)
        if len(lines) < 6:
            return False
        sure = sum(1 for line in lines if _SURE.match(line.lstrip()[:300]))
        if sure == 0:
            return False
        told = sum(1 for line in lines if _is_routine(line[:300]) or _is_red(line[:300]))
        return sure >= 2 or told >= 0.3 * len(lines)

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        text = plain(text)
        whole = Reduced(text, "test_report", True)
        tokens = estimate(text)
        if brief.level not in LOSSY_FLOOR or tokens < LOSSY_FLOOR[brief.level]:
            return whole
        lines = text.split("\n")
        told = _told(lines)
        size = room(tokens, brief.level)
        picker = Picker(lines, size)
        scores = hits(lines, brief.sought)
        _pick(picker, lines, told, scores, size)
        if len(picker.kept) > 0.85 * len(lines):
            return whole

        taken = takes_addresses(brief.names)
        names_room = keys_room(tokens, brief.level)
        places_room = keys_room(tokens, brief.level, taken=taken) // SHARE
        gap = _Gap(lines, told, picker.kept, scores, (places_room, names_room // SHARE))
        said = (
            f"test or build output, {count(len(lines) - len(picker.kept), 'line')} of "
            f"{len(lines):,} left out; failures and summary are shown"
        )
        return Reduced(
            f"{marker(brief.ref, said)}\n{render(lines, picker.kept, gap)}", "test_report", False
        )


class _Gap:
    """What stands for hidden lines: how many of what, and their names where there is room."""

    def __init__(
        self,
        lines: Sequence[str],
        told: _Lines,
        kept: set[int],
        scores: Sequence[float],
        room: tuple[int, int],
    ) -> None:
        for_places, for_names = room
        self._lines = lines
        self._told = told
        self._warned = set(told.warnings)
        self._shown = words_of("\n".join(lines[i] for i in sorted(kept)))
        self._scores = scores
        self._places = Places(lines, told.frames, for_places)
        keys = {i: _key(lines[i]) for i in sorted(told.routine - kept)}
        self._keys = {i: key for i, key in keys.items() if key}
        cost = sum(len(key.rpartition("::")[2]) for key in self._keys.values()) * 0.3
        cost += 2 * len(self._keys)
        self._share = min(1.0, for_names / (cost or 1))

    def __call__(self, start: int, end: int) -> str:
        told, lines = self._told, self._lines
        routine = sum(1 for i in range(start, end) if i in told.routine)
        red = [lines[i] for i in told.red if start <= i < end]
        warned = [i for i in range(start, end) if i in self._warned]
        of_them = sum(1 for i in range(start, end) if i in told.frames or i in told.pointers)
        rest = sum(1 for i in range(start, end) if lines[i])
        rest -= routine + len(red) + len(warned) + of_them
        said = []
        if red:
            where = ", ".join(names(red, self._shown, 12))
            said.append(count(len(red), "more failure") + (f": {where}" if where else ""))
        if warned:
            found = [place(lines[i]) or place(lines[min(i + 1, len(lines) - 1)]) for i in warned]
            where = ", ".join(list(dict.fromkeys(filter(None, found)))[:WARNED])
            said.append(count(len(warned), "warning") + (f": {where}" if where else ""))
        if frames_ := self._places.said(start, end):
            said.append(frames_)
        said += [count(rest, "other line" if said or routine else "line")] if rest > 0 else []
        if routine:
            keyed = [i for i in range(start, end) if i in self._keys]
            most = math.ceil(self._share * len(keyed))
            best = sorted(sorted(keyed, key=lambda i: (-self._scores[i], i))[:most])
            named = ": " * bool(best) + _by_file([self._keys[i] for i in best])
            named += f" and {len(keyed) - most:,} more" if most < len(keyed) else ""
            said.append(count(routine, "routine line") + named)
        return f"… {'; '.join(said) or count(end - start, 'line')} …"


def _key(line: str) -> str:
    """What a routine line is about: a test's name, a package with its version."""
    line = line[:300]
    found = _PACKAGE.match(line.lstrip())
    if found:
        return f"{found[1]} {found[2]}" if found[2] else found[1]
    if _is_passed(line):
        test = _TEST.match(line)
        return test[1] if test else ""
    return ""


def _by_file(keys: Sequence[str]) -> str:
    """`tests/a.py::test_x, test_y`: the file of a test only where it changes."""
    said = []
    last = ""
    for key in keys:
        file, mark, name = key.rpartition("::")
        said.append(name if mark and file == last else key)
        last = file
    return ", ".join(said)


def _is_passed(line: str) -> bool:
    """Whether a routine line names a test that passed."""
    return "::" in line or line.lstrip()[:9].startswith(
        ("✓", "✔", "√", "test ", "--- PASS", "ok ", "Passed ")
    )


def _is_red(line: str) -> bool:
    if _RED.match(line):
        return True
    # The costly form only where it can be.
    return any(word in line for word in _RED_WORDS) and bool(_RED_INSIDE.match(line))


def _is_routine(line: str) -> bool:
    if _ROUTINE.match(line):
        return True
    return any(word in line for word in _PASSED_WORDS) and bool(_PASSED.match(line))


def _told(lines: Sequence[str]) -> _Lines:
    told = _Lines(set(), [], [], [], set(), frames(lines))
    for index, line in enumerate(lines):
        head = line[:300]
        bare = head.lstrip()
        if not bare:
            continue
        if _SUMMARY.match(bare):
            told.summary.append(index)
        elif _is_red(head):
            told.red.append(index)
        elif "arn" in head.casefold() and _WARNING.match(head):
            told.warnings.append(index)
        elif _is_routine(head):
            told.routine.add(index)
    told.pointers = {
        i + 1 for i in told.warnings if i + 1 < len(lines) and _POINTER.match(lines[i + 1][:40])
    }
    # What no form here knows but says that something failed.
    known = {*told.red, *told.summary, *told.warnings}
    told.red = sorted({*told.red, *(failures(lines) - known - told.routine)})
    return told


def _pick(
    picker: Picker, lines: Sequence[str], told: _Lines, scores: Sequence[float], size: int
) -> None:
    forms: dict[str, int] = {}
    full: list[int] = []
    # The last summaries are those of the whole run.
    for index in reversed(told.summary):
        picker.take([index], anyway=picker.left > -0.5 * size)
    picker.left = max(picker.left, size / 2)
    alike: list[int] = []
    for index in told.red:
        form = _FORM.sub("#", lines[index][:200])
        forms[form] = forms.get(form, 0) + 1
        if forms[form] <= ALIKE:
            full.append(index)
            picker.take([index], anyway=picker.left > -2 * size)
        elif forms[form] <= NAMED:
            alike.append(index)
    for index in alike:
        picker.take([index], anyway=picker.left > -size)
    picker.left = max(picker.left, size)
    for index in full:
        picker.take(_context(lines, index, told), anyway=picker.left > 0.6 * size)
    seen: set[str] = set()
    for index in told.warnings:
        # Of a warning's form its end tells most: `[-Wunused-variable]`.
        form = _FORM.sub("#", lines[index][:200].partition("arning")[2])
        if form not in seen and len(seen) < WARNINGS:
            seen.add(form)
            picker.take([index, index + 1] if index + 1 in told.pointers else [index])
    total = len(lines)
    picker.take([i for i in range(max(0, total - 3), total) if i not in told.routine])
    picker.take([i for i in range(min(2, total)) if i not in told.routine])
    # What passed is named in the notes.
    sought = [i for i in range(total) if scores[i] > 1.5 and i not in told.routine]
    for index in sorted(sought, key=lambda i: (-scores[i], i))[:20]:
        if not picker.take([index]):
            break


def _context(lines: Sequence[str], index: int, told: _Lines) -> list[int]:
    """The lines that belong to a failure: a few before it, more after it."""
    stop = {*told.summary, *told.routine}
    after: list[int] = []
    framed: dict[int, int] = {}
    for at in range(index + 1, min(index + 1 + REACH, len(lines))):
        if at in stop or _RULE.match(lines[at][:200]) or len(after) == CONTEXT:
            break
        if at in told.frames:
            framed[at] = told.frames[at]
        else:
            after.append(at)
    if framed:
        after = sorted([*after, *(i for frame in ranked(lines, framed)[:NEAR] for i in frame)])
    before = []
    for at in range(index - 1, max(index - 4, -1), -1):
        if at in stop or not lines[at].strip() or _RULE.match(lines[at][:200]):
            break
        if at not in told.frames:
            before.append(at)
    return [*reversed(before), index, *after]
